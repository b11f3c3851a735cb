//! Core and `events.k8s.io` events are one object under two sets of names; the storage form is `events.k8s.io/v1`.

use serde_json::Value;

/// (core name, events.k8s.io name).
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The core form of a stored event.
pub(super) fn to_core(event: &Value) -> Value {
    renamed(event, "v1", |name| {
        NAMES
            .iter()
            .find(|(_, new)| *new == name)
            .map(|(core, _)| *core)
    })
}

/// The storage form of a core event.
pub(super) fn from_core(event: &Value) -> Value {
    renamed(event, "events.k8s.io/v1", |name| {
        NAMES
            .iter()
            .find(|(core, _)| *core == name)
            .map(|(_, new)| *new)
    })
}

fn renamed(
    event: &Value,
    api_version: &str,
    rename: impl Fn(&str) -> Option<&'static str>,
) -> Value {
    let Some(fields) = event.as_object() else {
        return event.clone();
    };
    fields
        .iter()
        .map(|(name, value)| {
            if name == "apiVersion" && value.is_string() {
                return (name.clone(), Value::from(api_version));
            }
            (rename(name).unwrap_or(name).to_owned(), value.clone())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1", "namespace": "n"},
            "involvedObject": {"kind": "Pod", "name": "a"}, "reason": "Started", "message": "hello", "type": "Normal",
            "source": {"component": "kubelet"}, "firstTimestamp": "t1", "lastTimestamp": "t2", "count": 3,
            "reportingComponent": "kubelet", "reportingInstance": "n1",
        });
        let stored = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a.1", "namespace": "n"},
            "regarding": {"kind": "Pod", "name": "a"}, "reason": "Started", "note": "hello", "type": "Normal",
            "deprecatedSource": {"component": "kubelet"}, "deprecatedFirstTimestamp": "t1",
            "deprecatedLastTimestamp": "t2", "deprecatedCount": 3,
            "reportingController": "kubelet", "reportingInstance": "n1",
        });
        assert_eq!(from_core(&core), stored);
        assert_eq!(to_core(&stored), core);
    }
}
