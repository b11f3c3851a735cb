//! Names for what runs: the revision of a pod template, the id of a run, the name of the object that pins a template.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Prefix of our revisions: it tells them from the hashes of another engine, and says how they were made.
pub const PREFIX: &str = "v1-";

/// The revision of a pod template: `v1-` and the lower-case hex SHA-256 of its canonical JSON (keys sorted, no whitespace, no members that
/// are null: API servers before 1.36 tell `creationTimestamp: null` in a template, newer ones do not, and an upgrade is no new revision).
#[must_use]
pub fn revision(template: &Value) -> String {
    let mut text = String::new();
    canonical(template, &mut text);
    let mut revision = PREFIX.to_owned();
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(revision, "{byte:02x}");
    }
    revision
}

/// The id of the `n`th run of the Canary `uid`, of `revision`: a version 5 UUID, the same on every replica and after every crash.
#[must_use]
pub fn run_id(uid: &str, revision: &str, n: u32) -> String {
    let name = format!("canary-mcp.dev/run/{uid}/{revision}/{n}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}

/// Name of the `apps/v1` `ControllerRevision` that pins `revision` for the Canary `canary`: the first 10 hex digits tell it apart.
#[must_use]
pub fn pin_name(canary: &str, revision: &str) -> String {
    let hex = revision.strip_prefix(PREFIX).unwrap_or(revision);
    let short: String = hex
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(10)
        .collect::<String>()
        .to_ascii_lowercase();
    format!("{canary}-{short}")
}

/// Sorted by hand: the order of `serde_json`'s maps depends on features that another crate may turn on.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let given = map.iter().filter(|(_, value)| !value.is_null());
            let mut keys: Vec<&String> = given.map(|(key, _)| key).collect();
            keys.sort_unstable();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_is_the_sha_256_of_canonical_json() {
        // Computed with `printf '%s' '<text>' | sha256sum`.
        for (template, hash) in [
            (
                json!({}),
                "v1-44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            ),
            (
                json!({"b": 1, "a": [true, null, "x"]}),
                "v1-54a65415ad370228851a1da4b31b6fd42dc58b19a50d35cae759325f7388ce64",
            ),
            (
                json!({"a": [true, null, "x"], "b": 1}),
                "v1-54a65415ad370228851a1da4b31b6fd42dc58b19a50d35cae759325f7388ce64",
            ),
            (
                json!({"metadata": null, "b": 1, "a": [true, null, "x"]}),
                "v1-54a65415ad370228851a1da4b31b6fd42dc58b19a50d35cae759325f7388ce64",
            ),
            (
                json!({"spec": {"containers": [{"name": "é\"\n", "image": "i:1"}]}}),
                "v1-c7968f2fab68ad476725914b0c99cf6f41c1c324fdd6b15545b134a54ba61741",
            ),
        ] {
            assert_eq!(revision(&template), hash, "{template}");
        }
    }

    #[test]
    fn a_run_id_is_the_same_everywhere_and_another_for_another_run() {
        let uid = "0b7d6a3e-7d2f-4a52-9a3e-2c8e6d1f5b10";
        assert_eq!(
            run_id(uid, "v1-aa", 1),
            "95677890-7404-573f-9f0a-52394894a247"
        );
        assert_eq!(
            run_id(uid, "v1-aa", 2),
            "d89979ec-bef5-5156-9946-9c5d12e561b5"
        );
    }

    #[test]
    fn a_pin_is_named_after_the_canary_and_ten_digits() {
        assert_eq!(
            pin_name(
                "mcp-server",
                "v1-44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
            ),
            "mcp-server-44136fa355"
        );
        assert_eq!(pin_name("web", "5978589476bcd"), "web-5978589476");
    }
}
