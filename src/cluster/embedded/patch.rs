//! The patch formats: JSON Patch, merge patch, and for built-in kinds strategic merge patch.

use serde_json::Value;

use super::{
    kinds::Served,
    status::{Cause, Details, Status},
    strategic,
};

/// The formats that are taken, by their media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Merge,
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Format {
    /// The format of a PATCH with this `Content-Type`.
    pub(super) fn of(served: &Served, content_type: &str) -> Result<Self, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if served.custom.is_none() => {
                Ok(Self::Strategic)
            }
            "application/strategic-merge-patch+json" => Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
            "application/apply-patch+yaml" if !served.is_core_event() => Ok(Self::Apply),
            _ if served.custom.is_some() => Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
            _ => Err(Status::unsupported_media_type("415: Unsupported Media Type").about_nothing()),
        }
    }

    /// The patched document.
    pub(super) fn apply(
        self,
        served: &Served,
        body: &Value,
        current: &Value,
    ) -> Result<Value, Status> {
        match self {
            Self::Json => json_patch(body, current),
            Self::Merge => {
                if !body.is_object() {
                    return Err(Status::bad_request("a merge patch must be a JSON object"));
                }
                let mut patched = current.clone();
                json_patch::merge(&mut patched, body);
                Ok(patched)
            }
            Self::Strategic => strategic::apply(&served.kind, current, body),
            Self::Apply => Err(Status::method_not_allowed()),
        }
    }
}

fn json_patch(body: &Value, current: &Value) -> Result<Value, Status> {
    if !body.is_array() {
        return Err(Status::bad_request("a JSON patch must be a list"));
    }
    let operations: Vec<json_patch::PatchOperation> = serde_json::from_value(body.clone())
        .map_err(|error| {
            refused(
                String::new(),
                format!("the JSON patch cannot be read: {error}"),
            )
        })?;
    let mut patched = current.clone();
    for operation in operations {
        if is_test_of_nothing(&operation, &patched) {
            continue;
        }
        let operation = add_for_replace(operation, &patched);
        let path = operation.path().to_string();
        json_patch::patch(&mut patched, std::slice::from_ref(&operation))
            .map_err(|error| rejected(&path, &error.kind.to_string(), &operation))?;
    }
    Ok(patched)
}

/// `test` of null passes where the key is absent: kube's finalizer helper begins with one.
fn is_test_of_nothing(operation: &json_patch::PatchOperation, document: &Value) -> bool {
    let json_patch::PatchOperation::Test(test) = operation else {
        return false;
    };
    let Some((parent, _)) = test.path.split_back() else {
        return false;
    };
    test.value.is_null()
        && document.pointer(test.path.as_str()).is_none()
        && document
            .pointer(parent.as_str())
            .is_some_and(Value::is_object)
}

/// `replace` of a key that an object does not have adds it: the library of the API server is so lenient.
fn add_for_replace(
    operation: json_patch::PatchOperation,
    document: &Value,
) -> json_patch::PatchOperation {
    let json_patch::PatchOperation::Replace(replace) = operation else {
        return operation;
    };
    let missing = document.pointer(replace.path.as_str()).is_none();
    let parent = replace.path.split_back().map(|(parent, _)| parent);
    let in_object = parent.is_some_and(|parent| {
        document
            .pointer(parent.as_str())
            .is_some_and(Value::is_object)
    });
    if missing && in_object {
        json_patch::PatchOperation::Add(json_patch::AddOperation {
            path: replace.path,
            value: replace.value,
        })
    } else {
        json_patch::PatchOperation::Replace(replace)
    }
}

fn rejected(path: &str, why: &str, operation: &json_patch::PatchOperation) -> Status {
    let what = match operation {
        json_patch::PatchOperation::Test(_) => format!("testing value {path} failed: {why}"),
        json_patch::PatchOperation::Add(_) => {
            format!("add operation does not apply: {path}: {why}")
        }
        json_patch::PatchOperation::Remove(_) => {
            format!("remove operation does not apply: {path}: {why}")
        }
        json_patch::PatchOperation::Replace(_) => {
            format!("replace operation does not apply: {path}: {why}")
        }
        json_patch::PatchOperation::Move(_) => {
            format!("move operation does not apply: {path}: {why}")
        }
        json_patch::PatchOperation::Copy(_) => {
            format!("copy operation does not apply: {path}: {why}")
        }
    };
    refused(path.to_owned(), what)
}

fn refused(field: String, why: String) -> Status {
    Status {
        code: 422,
        reason: "Invalid",
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(Box::new(Details {
            causes: vec![Cause {
                reason: "UnexpectedServerResponse",
                message: why,
                field,
            }],
            ..Details::default()
        })),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::Catalog;

    fn served() -> Served {
        (*Catalog::builtin().find("", "v1", "configmaps").unwrap()).clone()
    }

    #[test]
    fn a_test_of_null_passes_only_where_the_key_alone_is_missing() {
        let object = json!({"metadata": {"name": "a", "labels": {"x": "y"}}});
        for (path, passes) in [
            ("/metadata/finalizers", true),
            ("/metadata/labels/z", true),
            ("/metadata/labels/x", false),
            ("/metadata/annotations/z", false),
            ("/metadata/name/z", false),
        ] {
            let patch = json!([{"op": "test", "path": path, "value": null}]);
            assert_eq!(json_patch(&patch, &object).is_ok(), passes, "{path}");
        }
    }

    #[test]
    fn json_patches_apply_in_order_or_not_at_all() {
        let object = json!({"data": {"a": "1"}});
        let patch = json!([
            {"op": "test", "path": "/data/a", "value": "1"},
            {"op": "add", "path": "/data/b~1c", "value": "2"},
            {"op": "remove", "path": "/data/a"},
        ]);
        assert_eq!(
            json_patch(&patch, &object).unwrap(),
            json!({"data": {"b/c": "2"}})
        );
        let lenient = json!([{"op": "replace", "path": "/data/z", "value": "1"}]);
        assert_eq!(
            json_patch(&lenient, &object).unwrap(),
            json!({"data": {"a": "1", "z": "1"}})
        );
        let failing = json!([{"op": "test", "path": "/data/a", "value": "2"}]);
        let status = json_patch(&failing, &object).unwrap_err();
        assert_eq!((status.code, status.reason), (422, "Invalid"));
        assert_eq!(
            status.message,
            "the server rejected our request due to an error in our request"
        );
        for patch in [
            json!([{"op": "remove", "path": "/data/z"}]),
            json!([{"op": "replace", "path": "/none/z", "value": 1}]),
            json!([{"op": "add", "path": "/none/z", "value": 1}]),
        ] {
            assert_eq!(
                json_patch(&patch, &object).unwrap_err().code,
                422,
                "{patch}"
            );
        }
        assert_eq!(
            json_patch(&json!({"op": "x"}), &object).unwrap_err().code,
            400
        );
    }

    #[test]
    fn merge_patches_take_keys_off_by_null() {
        let object = json!({"metadata": {"annotations": {"a": "1", "b": "2"}}});
        let patch = json!({"metadata": {"annotations": {"a": null, "c": "3"}}});
        assert_eq!(
            Format::Merge.apply(&served(), &patch, &object).unwrap(),
            json!({"metadata": {"annotations": {"b": "2", "c": "3"}}})
        );
    }

    #[test]
    fn formats_go_by_the_media_type() {
        assert_eq!(Format::of(&served(), "text/plain").unwrap_err().code, 415);
        assert_eq!(
            Format::of(&served(), "application/apply-patch+cbor")
                .unwrap_err()
                .code,
            415
        );
        assert_eq!(
            Format::of(&served(), "application/apply-patch+yaml"),
            Ok(Format::Apply)
        );
        assert_eq!(
            Format::of(&served(), "application/merge-patch+json; charset=utf-8"),
            Ok(Format::Merge)
        );
    }
}
