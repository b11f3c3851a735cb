//! The forms in which a watch keeps objects: whole, packed, or only a [`Mark`] of their metadata.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use serde_json::{Value, json};

use super::cache::number;
use crate::api::{
    names,
    objects::{Object, ObjectExt},
};

/// How one object is kept in a cache.
pub trait Form: Clone + PartialEq + Send + Sync + 'static {
    /// Only the metadata is asked for.
    const METADATA_ONLY: bool;
    /// Objects in one page of a list. As many are read whole before any is kept.
    const PAGE: u32;

    /// The object in this form.
    fn of(object: Value) -> Self;

    /// Its resourceVersion as a number; 0 when it is none.
    fn version(&self) -> u64;
}

/// Whole, and parsed: for what is looked at again and again.
impl Form for Object {
    const METADATA_ONLY: bool = false;
    /// As client-go.
    const PAGE: u32 = 500;

    fn of(object: Value) -> Self {
        Arc::new(without_fields(object))
    }

    fn version(&self) -> u64 {
        number(self)
    }
}

/// Whole, as JSON text: a tenth of what the parsed object takes, for what there is a lot of and what is seldom looked at.
#[derive(Clone, PartialEq)]
pub struct Packed(Arc<Text>);

#[derive(PartialEq)]
struct Text {
    version: u64,
    uid: Box<str>,
    json: Box<str>,
}

impl Packed {
    /// The object, parsed anew.
    #[must_use]
    pub fn object(&self) -> Object {
        // It was written from a `Value`, so it is one.
        Arc::new(serde_json::from_str(&self.0.json).unwrap_or_default())
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.0.uid
    }
}

impl Form for Packed {
    const METADATA_ONLY: bool = false;
    /// A page is parsed at once, and what is parsed takes ten times what is kept.
    const PAGE: u32 = 50;

    fn of(object: Value) -> Self {
        let object = without_fields(object);
        Self(Arc::new(Text {
            version: number(&object),
            uid: object.uid().into(),
            json: object.to_string().into(),
        }))
    }

    fn version(&self) -> u64 {
        self.0.version
    }
}

/// What is kept of an object of which only the metadata is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The resourceVersion as a number: grows with every change, also of the status.
    pub version: u64,
    /// Changes with whatever may matter to somebody who does not look at the status.
    pub mark: u64,
    /// uid of the first owner.
    pub owner: Option<Box<str>>,
}

impl Form for Mark {
    const METADATA_ONLY: bool = true;
    const PAGE: u32 = 500;

    fn of(object: Value) -> Self {
        Self::of_object(&object)
    }

    fn version(&self) -> u64 {
        self.version
    }
}

impl Mark {
    /// The mark of an object, of which only the metadata is read: what identifies it, its labels, annotations and owners, whether it is
    /// about to go, and its generation, which grows with its spec. A kind that has none (Service) changes with every resourceVersion.
    #[must_use]
    pub fn of_object(object: &Value) -> Self {
        let metadata = &object["metadata"];
        let mut hasher = DefaultHasher::new();
        let spec = match object.generation() {
            Some(generation) => generation.to_string(),
            None => format!("v{}", object.resource_version()),
        };
        (object.uid(), object.is_being_deleted(), spec).hash(&mut hasher);
        for part in ["labels", "annotations", "ownerReferences"] {
            // Of a map that is not there and of an empty one the API server says the same.
            let part = &metadata[part];
            let empty = part.as_object().is_some_and(serde_json::Map::is_empty);
            if !part.is_null() && !empty {
                part.to_string().hash(&mut hasher);
            }
            0u8.hash(&mut hasher);
        }
        let owner = object.str_at("/metadata/ownerReferences/0/uid");
        Self {
            version: number(object),
            mark: hasher.finish(),
            owner: owner.map(Into::into),
        }
    }
}

/// The annotations of which is told who has set them.
const TOLD: [&str; 2] = [names::SKIP_ANALYSIS, names::RESET];

/// Whose each field is takes more than the object itself, and nobody asks a cache: who wrote last, and when, is left, and whose the two
/// annotations are that stand for a wish.
fn without_fields(mut object: Value) -> Value {
    let entries = object.pointer_mut("/metadata/managedFields");
    for entry in entries.and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(entry) = entry.as_object_mut() else {
            continue;
        };
        let Some(fields) = entry.remove("fieldsV1") else {
            continue;
        };
        let annotations = &fields["f:metadata"]["f:annotations"];
        let told = TOLD.map(|name| format!("f:{name}"));
        let told = told
            .iter()
            .filter(|name| !annotations[name.as_str()].is_null());
        let told: serde_json::Map<String, Value> =
            told.map(|name| (name.clone(), json!({}))).collect();
        if !told.is_empty() {
            let fields = json!({"f:metadata": {"f:annotations": told}});
            entry.insert("fieldsV1".to_owned(), fields);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 2,
                "labels": {"app": "web"}, "annotations": {"note": "1"},
                "managedFields": [{"manager": "kubectl", "time": "2026-11-21T00:00:00Z", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"replicas": 1},
            "status": {"readyReplicas": 1},
        })
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Value {
        let mut object = deployment();
        change(&mut object);
        object
    }

    #[test]
    fn a_mark_changes_with_what_matters_and_not_with_the_status() {
        let mark = |object: &Value| Mark::of_object(object).mark;
        let before = mark(&deployment());
        let same = [
            changed(|d| d["metadata"]["resourceVersion"] = json!("8")),
            changed(|d| d["status"]["readyReplicas"] = json!(0)),
            changed(|d| d["metadata"]["managedFields"] = json!([])),
            changed(|d| {
                d.as_object_mut().unwrap().remove("spec");
            }),
            changed(|d| d["metadata"]["ownerReferences"] = Value::Null),
        ];
        for object in same {
            assert_eq!(mark(&object), before, "{object}");
        }
        let other = [
            changed(|d| d["metadata"]["generation"] = json!(3)),
            changed(|d| d["metadata"]["uid"] = json!("v")),
            changed(|d| d["metadata"]["labels"]["app"] = json!("x")),
            changed(|d| d["metadata"]["annotations"] = json!({})),
            changed(|d| d["metadata"]["ownerReferences"] = json!([{"uid": "o"}])),
            changed(|d| d["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z")),
        ];
        for object in other {
            assert_ne!(mark(&object), before, "{object}");
        }
    }

    #[test]
    fn a_kind_without_a_generation_changes_with_every_version() {
        let service = |version: &str| json!({"metadata": {"name": "web", "uid": "u", "resourceVersion": version}});
        let (seven, eight) = (
            Mark::of_object(&service("7")),
            Mark::of_object(&service("8")),
        );
        assert_ne!(seven.mark, eight.mark);
        assert_eq!((seven.version, eight.version), (7, 8));
    }

    #[test]
    fn what_is_packed_is_the_object_but_for_whose_its_fields_are() {
        let expected = changed(|d| {
            d["metadata"]["managedFields"] =
                json!([{"manager": "kubectl", "time": "2026-11-21T00:00:00Z"}]);
        });
        let packed = Packed::of(deployment());
        assert_eq!(*packed.object(), expected);
        assert_eq!((packed.uid(), packed.version()), ("u", 7));
        let annotated = changed(|d| {
            d["metadata"]["managedFields"] = json!([
                {"manager": "kubectl-annotate", "fieldsV1": {"f:metadata": {"f:annotations": {
                    ".": {}, "f:note": {}, "f:flagger.app/reset": {}}}}},
                {"manager": "flagger", "fieldsV1": {"f:status": {}}},
            ]);
        });
        let packed = Packed::of(annotated);
        assert_eq!(
            packed.object()["metadata"]["managedFields"],
            json!([
                {"manager": "kubectl-annotate", "fieldsV1": {"f:metadata": {"f:annotations": {"f:flagger.app/reset": {}}}}},
                {"manager": "flagger"},
            ])
        );
    }
}
