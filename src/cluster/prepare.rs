//! What each write looks like on the wire, with the tests that make it safe, and what shows afterwards that it came about.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{
    error::Cause,
    proof::{Proof, leaves, touched},
    wire::{self, Call},
};
use crate::api::{
    names::{EPOCH, MANAGER},
    objects::{
        ALERT_PROVIDER, CANARY, CONTROLLER_REVISION, DEPLOYMENT, DESTINATION_RULE, EVENT,
        HTTP_ROUTE, Kind, LEASE, METRIC_TEMPLATE, NAMESPACE, Object, ObjectExt, POD, REPLICA_SET,
        Ref, SCALED_OBJECT, SERVICE, VIRTUAL_SERVICE, Write,
    },
};

/// A write may take this long, in real time. Sent at most 10 s after a renewal, it has arrived or failed before the Lease's 15 s are over.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Pointer of the epoch annotation (RFC 6901).
const EPOCH_POINTER: &str = "/metadata/annotations/canary-mcp.dev~1epoch";
pub(super) const JSON: &str = "application/json";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

/// One write as it goes on the wire, and how a re-read shows that it came about.
pub(super) struct Prepared {
    pub(super) operation: &'static str,
    pub(super) of: Ref,
    pub(super) call: Call,
    pub(super) proof: Proof,
}

/// The kinds that we write.
const KINDS: [Kind; 15] = [
    CANARY,
    METRIC_TEMPLATE,
    ALERT_PROVIDER,
    DEPLOYMENT,
    REPLICA_SET,
    CONTROLLER_REVISION,
    POD,
    SERVICE,
    NAMESPACE,
    EVENT,
    LEASE,
    SCALED_OBJECT,
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    HTTP_ROUTE,
];

/// A write that cannot even be sent.
pub(super) struct Refused {
    pub(super) of: Ref,
    pub(super) cause: Box<Cause>,
}

impl Refused {
    fn new(of: Ref, cause: Cause) -> Self {
        Self {
            of,
            cause: Box::new(cause),
        }
    }
}

/// Prepares a write; `epoch` is the fence's.
pub(super) fn write(write: &Write, epoch: Option<&str>) -> Result<Prepared, Refused> {
    match write {
        Write::Create(object) => {
            let of = ref_of(object)?;
            let path = with_manager(&wire::collection(&of.kind, Some(&of.namespace)));
            Ok(Prepared {
                operation: "create",
                call: Call::write(Method::POST, path, JSON, object, WRITE_WITHIN),
                proof: Proof::Contains(object.clone()),
                of,
            })
        }
        Write::Patch { from, ops } => patch(from, ops, epoch),
        Write::Merge { from, patch } => merge(from, patch),
        Write::Scale { from, replicas } => scale(from, *replicas),
        Write::Delete { from } => {
            let (of, item) = place(from)?;
            let options = json!({
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": from.uid()},
                "propagationPolicy": "Background",
            });
            Ok(Prepared {
                operation: "delete",
                call: Call::write(Method::DELETE, item, JSON, &options, WRITE_WITHIN),
                proof: Proof::Gone(from.uid().to_owned()),
                of,
            })
        }
    }
}

fn patch(from: &Object, ops: &[Value], epoch: Option<&str>) -> Result<Prepared, Refused> {
    let (of, item) = place(from)?;
    let mut all = vec![test("/metadata/uid", &json!(from.uid()))];
    match from.generation() {
        Some(generation) => all.push(test("/metadata/generation", &json!(generation))),
        None => all.push(test(
            "/metadata/resourceVersion",
            &json!(from.resource_version()),
        )),
    }
    if let (Some(stamped), Some(epoch)) = (from.annotation(EPOCH), epoch) {
        all.push(test(EPOCH_POINTER, &json!(stamped)));
        if stamped != epoch {
            all.push(json!({"op": "replace", "path": EPOCH_POINTER, "value": epoch}));
        }
    }
    all.extend(ops.iter().cloned());
    let mut expected = Value::clone(from);
    // Whether the tests hold is the API server's to say: it passes a test of null on what is not there, and json-patch does not.
    let changing = ops
        .iter()
        .filter(|op| op["op"] != "test")
        .cloned()
        .collect();
    let applied = serde_json::from_value::<json_patch::Patch>(Value::Array(changing))
        .map_err(|error| format!("{ops:?} is no JSON Patch: {error}"))
        .and_then(|patch| {
            json_patch::patch(&mut expected, &patch)
                .map_err(|error| format!("the patch does not fit the object: {error}"))
        });
    if let Err(error) = applied {
        return Err(Refused::new(of, Cause::Own(error)));
    }
    let pointers = touched(from, ops);
    Ok(Prepared {
        operation: "patch",
        call: Call::write(
            Method::PATCH,
            with_manager(&item),
            JSON_PATCH,
            &Value::Array(all),
            WRITE_WITHIN,
        ),
        proof: Proof::Places {
            uid: from.uid().to_owned(),
            expected,
            pointers,
        },
        of,
    })
}

fn merge(from: &Object, patch: &Value) -> Result<Prepared, Refused> {
    let (of, item) = place(from)?;
    let mut sent = patch.clone();
    let own = json!({"metadata": {"resourceVersion": from.resource_version()}});
    json_patch::merge(&mut sent, &own);
    let mut expected = Value::clone(from);
    json_patch::merge(&mut expected, patch);
    let mut pointers = Vec::new();
    leaves(patch, "", &mut pointers);
    Ok(Prepared {
        operation: "patch",
        call: Call::write(
            Method::PATCH,
            with_manager(&item),
            MERGE_PATCH,
            &sent,
            WRITE_WITHIN,
        ),
        proof: Proof::Places {
            uid: from.uid().to_owned(),
            expected,
            pointers,
        },
        of,
    })
}

fn scale(from: &Object, replicas: u32) -> Result<Prepared, Refused> {
    let (of, item) = place(from)?;
    let scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": from.name(),
            "namespace": from.namespace(),
            "resourceVersion": from.resource_version(),
            "uid": from.uid(),
        },
        "spec": {"replicas": replicas},
    });
    Ok(Prepared {
        operation: "update",
        call: Call::write(
            Method::PUT,
            with_manager(&format!("{item}/scale")),
            JSON,
            &scale,
            WRITE_WITHIN,
        ),
        proof: Proof::Places {
            uid: from.uid().to_owned(),
            expected: json!({"spec": {"replicas": replicas}}),
            pointers: vec!["/spec/replicas".to_owned()],
        },
        of,
    })
}

/// Prepares a PUT of the status subresource of `object`.
pub(super) fn status(object: &Value) -> Result<Prepared, Refused> {
    let (of, item) = place(object)?;
    // Whose its fields are is for the API server to keep, and a cache does not have all of it: what is not sent is left as it is.
    let mut sent = object.clone();
    if let Some(metadata) = sent["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    let path = with_manager(&format!("{item}/status"));
    Ok(Prepared {
        operation: "update",
        call: Call::write(Method::PUT, path, JSON, &sent, WRITE_WITHIN),
        proof: Proof::Places {
            uid: object.uid().to_owned(),
            expected: object.clone(),
            pointers: vec!["/status".to_owned()],
        },
        of,
    })
}

/// Prepares a patch that only sets the epoch annotation.
pub(super) fn stamp(object: &Value, epoch: &str) -> Result<Prepared, Refused> {
    let (of, item) = place(object)?;
    let annotations = &object["metadata"]["annotations"];
    let set = if annotations.is_object() {
        json!({"op": "add", "path": EPOCH_POINTER, "value": epoch})
    } else {
        json!({"op": "add", "path": "/metadata/annotations", "value": {EPOCH: epoch}})
    };
    let ops = json!([
        test("/metadata/uid", &json!(object.uid())),
        test(
            "/metadata/resourceVersion",
            &json!(object.resource_version())
        ),
        set,
    ]);
    Ok(Prepared {
        operation: "patch",
        call: Call::write(
            Method::PATCH,
            with_manager(&item),
            JSON_PATCH,
            &ops,
            WRITE_WITHIN,
        ),
        proof: Proof::Places {
            uid: object.uid().to_owned(),
            expected: json!({"metadata": {"annotations": {EPOCH: epoch}}}),
            pointers: vec![EPOCH_POINTER.to_owned()],
        },
        of,
    })
}

fn place(object: &Value) -> Result<(Ref, String), Refused> {
    let of = ref_of(object)?;
    match wire::item(&of) {
        Ok(path) => Ok((of, path)),
        Err(cause) => Err(Refused::new(of, cause)),
    }
}

/// Names an object by what is in it; its kind must be one of ours.
fn ref_of(object: &Value) -> Result<Ref, Refused> {
    let api_version = object.str_at("/apiVersion").unwrap_or_default();
    let name = object.str_at("/kind").unwrap_or_default();
    let of = |kind| Ref {
        kind,
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = KINDS
        .into_iter()
        .find(|kind| kind.group == group && kind.kind == name);
    kind.map(of).ok_or_else(|| {
        let unknown = Kind {
            group: "",
            version: "",
            kind: "object",
            plural: "",
        };
        let cause = Cause::Own(format!("{api_version} {name} is no kind that we write"));
        Refused::new(of(unknown), cause)
    })
}

/// `path` with our field manager.
pub(super) fn with_manager(path: &str) -> String {
    wire::with_query(path, &[("fieldManager", Some(MANAGER))])
}

fn test(path: &str, value: &Value) -> Value {
    json!({"op": "test", "path": path, "value": value})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn canary(epoch: Option<&str>) -> Object {
        let mut object = json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "m", "namespace": "a", "uid": "u", "generation": 4, "resourceVersion": "9", "annotations": {"k": "v"}},
            "spec": {"list": [1, 2]},
        });
        if let Some(epoch) = epoch {
            object["metadata"]["annotations"][EPOCH] = json!(epoch);
        }
        Arc::new(object)
    }

    fn sent(prepared: Result<Prepared, Refused>) -> (String, Value) {
        let Ok(prepared) = prepared else {
            panic!("it can be sent");
        };
        let Call {
            method, path, body, ..
        } = prepared.call;
        (
            format!("{method} {path}"),
            serde_json::from_slice(&body).unwrap(),
        )
    }

    #[test]
    fn a_patch_carries_its_tests() {
        let request =
            "PATCH /apis/flagger.app/v1beta1/namespaces/a/canaries/m?fieldManager=canary-mcp";
        let op = json!({"op": "add", "path": "/spec/x", "value": 1});
        let epoch_at = "/metadata/annotations/canary-mcp.dev~1epoch";
        let uid = json!({"op": "test", "path": "/metadata/uid", "value": "u"});
        let generation = json!({"op": "test", "path": "/metadata/generation", "value": 4});
        let table = [
            (None, Some("7"), json!([uid, generation, op])),
            (Some("7"), None, json!([uid, generation, op])),
            (
                Some("7"),
                Some("7"),
                json!([uid, generation, {"op": "test", "path": epoch_at, "value": "7"}, op]),
            ),
            (
                Some("6"),
                Some("7"),
                json!([uid, generation, {"op": "test", "path": epoch_at, "value": "6"},
                    {"op": "replace", "path": epoch_at, "value": "7"}, op]),
            ),
        ];
        for (stamped, epoch, expected) in table {
            let patch = Write::Patch {
                from: canary(stamped),
                ops: vec![op.clone()],
            };
            assert_eq!(
                sent(write(&patch, epoch)),
                (request.to_owned(), expected),
                "{stamped:?} {epoch:?}"
            );
        }
    }

    #[test]
    fn the_others_carry_version_or_uid() {
        let from = canary(None);
        let item = "/apis/flagger.app/v1beta1/namespaces/a/canaries/m";
        let patch = json!({"metadata": {"annotations": {"k": null}}});
        assert_eq!(
            sent(write(
                &Write::Merge {
                    from: Arc::clone(&from),
                    patch
                },
                None
            )),
            (
                format!("PATCH {item}?fieldManager=canary-mcp"),
                json!({"metadata": {"annotations": {"k": null}, "resourceVersion": "9"}})
            )
        );
        assert_eq!(
            sent(write(
                &Write::Scale {
                    from: Arc::clone(&from),
                    replicas: 3
                },
                None
            )),
            (
                format!("PUT {item}/scale?fieldManager=canary-mcp"),
                json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
                    "metadata": {"name": "m", "namespace": "a", "uid": "u", "resourceVersion": "9"}, "spec": {"replicas": 3}})
            )
        );
        assert_eq!(
            sent(write(&Write::Delete { from }, None)),
            (
                format!("DELETE {item}"),
                json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "u"}, "propagationPolicy": "Background"})
            )
        );
    }

    #[test]
    fn what_cannot_be_sent_is_told_at_home() {
        let lost = Write::Patch {
            from: canary(None),
            ops: vec![json!({"op": "remove", "path": "/spec/nothing"})],
        };
        let foreign =
            Write::Create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}));
        for (odd, expected) in [
            (lost, "the patch does not fit the object: "),
            (foreign, "v1 Secret is no kind that we write"),
        ] {
            let Err(refused) = write(&odd, None) else {
                panic!("it cannot be sent");
            };
            assert!(
                refused.cause.to_string().starts_with(expected),
                "{}",
                refused.cause
            );
        }
    }
}
