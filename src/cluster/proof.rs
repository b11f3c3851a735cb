//! When the answer to a write is lost: what the object must look like for the write to have come about.

use serde_json::Value;

use crate::api::objects::ObjectExt;

/// What the object must look like when the answer to a write was lost.
pub(super) enum Proof {
    /// The created object: everything in it is there.
    Contains(Value),
    /// These places are as they are in `expected` (absent where absent there), of an object with this uid.
    Places {
        uid: String,
        expected: Value,
        pointers: Vec<String>,
    },
    /// The object with this uid is gone or going.
    Gone(String),
}

impl Proof {
    /// The write has come about, as the object is now.
    pub(super) fn is_shown_by(&self, now: &Value) -> bool {
        match self {
            Self::Contains(made) => contains(now, made),
            Self::Places {
                uid,
                expected,
                pointers,
            } => {
                now.uid() == uid
                    && pointers
                        .iter()
                        .all(|pointer| now.pointer(pointer) == expected.pointer(pointer))
            }
            Self::Gone(uid) => {
                now.uid() != uid || now.str_at("/metadata/deletionTimestamp").is_some()
            }
        }
    }
}

/// The places that `ops` change. Inside an array positions move, so there it is the whole array.
pub(super) fn touched(from: &Value, ops: &[Value]) -> Vec<String> {
    let changing = ops
        .iter()
        .filter(|op| op["op"] != "test")
        .flat_map(|op| ["path", "from"].map(|field| op[field].as_str()))
        .flatten();
    changing
        .map(|pointer| {
            let parents = pointer
                .match_indices('/')
                .skip(1)
                .map(|(at, _)| &pointer[..at]);
            let array = parents
                .into_iter()
                .find(|parent| from.pointer(parent).is_some_and(Value::is_array));
            array.unwrap_or(pointer).to_owned()
        })
        .collect()
}

/// Pointers of everything that a merge patch sets or takes away.
pub(super) fn leaves(patch: &Value, at: &str, pointers: &mut Vec<String>) {
    match patch.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(value, &format!("{at}/{name}"), pointers);
            }
        }
        Some(_) | None => pointers.push(at.to_owned()),
    }
}

/// Everything in `made` is in `now`; the API server adds defaults.
fn contains(now: &Value, made: &Value) -> bool {
    match (now, made) {
        (Value::Object(now), Value::Object(made)) => made
            .iter()
            .all(|(name, made)| now.get(name).is_some_and(|now| contains(now, made))),
        (Value::Array(now), Value::Array(made)) => {
            now.len() == made.len() && now.iter().zip(made).all(|(now, made)| contains(now, made))
        }
        _ => now == made,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_shows_that_a_patch_came_about() {
        let ops = [
            json!({"op": "test", "path": "/metadata/annotations/absent", "value": null}),
            json!({"op": "remove", "path": "/metadata/annotations/k"}),
            json!({"op": "add", "path": "/spec/list/0", "value": 0}),
        ];
        let from = json!({
            "metadata": {"uid": "u", "annotations": {"k": "v"}},
            "spec": {"list": [1, 2]},
        });
        let proof = Proof::Places {
            uid: "u".to_owned(),
            expected: json!({"metadata": {"annotations": {}}, "spec": {"list": [0, 1, 2]}}),
            pointers: touched(&from, &ops),
        };
        let object = |uid: &str, annotations: Value, list: Value| json!({"metadata": {"uid": uid, "annotations": annotations}, "spec": {"list": list}, "status": {"new": true}});
        let table = [
            (object("u", json!({}), json!([0, 1, 2])), true),
            (object("u", json!({"other": "x"}), json!([0, 1, 2])), true),
            (object("u", json!({"k": "v"}), json!([0, 1, 2])), false),
            (object("u", json!({}), json!([1, 2])), false),
            (object("v", json!({}), json!([0, 1, 2])), false),
        ];
        for (now, shown) in table {
            assert_eq!(proof.is_shown_by(&now), shown, "{now}");
        }
    }
}
