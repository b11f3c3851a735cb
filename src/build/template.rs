//! The primary's pod template, made from the target's.

use serde_json::{Map, Value, json};

use super::{Selector, copied};
use crate::api::names;

/// The primary's template for a target's template: pods relabelled, Flux's keys dropped, the run's id added, affinities that name the
/// target's pods turned to the primary's. All else is copied as it is.
///
/// Flagger turns an affinity where its value is the *Deployment's name*; the primary's label is made from the label's value, so that is
/// what is turned here. Where both are the same, as they mostly are, so is the outcome.
#[must_use]
pub fn primary(template: &Value, selector: &Selector, run_id: &str) -> Value {
    let mut primary = template.clone();
    if !primary.is_object() {
        return primary;
    }
    let metadata = &mut primary["metadata"];
    let mut labels = copied(&metadata["labels"]);
    labels.insert(selector.key.clone(), json!(selector.primary()));
    let mut annotations = copied(&metadata["annotations"]);
    annotations.insert(names::FLAGGER_ID.to_owned(), json!(run_id));
    metadata["labels"] = Value::Object(labels);
    metadata["annotations"] = Value::Object(annotations);
    let spec = &mut primary["spec"];
    turn_affinity(spec, selector);
    for spread in list(spec, "/topologySpreadConstraints") {
        if let Some(selected) = spread.get_mut("labelSelector") {
            turn(selected, selector);
        }
    }
    primary
}

/// Whether two templates are the same but for the run's id, which no comparison looks at, and for what says nothing (null, `{}` and an
/// empty list in `metadata`).
#[must_use]
pub fn same(one: &Value, other: &Value) -> bool {
    bare(one) == bare(other)
}

fn bare(template: &Value) -> Value {
    let mut bare = template.clone();
    let Some(fields) = bare.as_object_mut() else {
        return bare;
    };
    let metadata: Map<String, Value> = fields
        .get("metadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let mut value = value.clone();
            if let Some(map) = value.as_object_mut() {
                map.remove(names::FLAGGER_ID);
                if map.is_empty() {
                    return None;
                }
            }
            (!value.is_null()).then(|| (key.clone(), value))
        })
        .collect();
    fields.insert("metadata".to_owned(), Value::Object(metadata));
    bare
}

fn turn_affinity(spec: &mut Value, selector: &Selector) {
    let anti = "/affinity/podAntiAffinity";
    let required = format!("{anti}/requiredDuringSchedulingIgnoredDuringExecution");
    for term in list(spec, &required) {
        if let Some(selected) = term.get_mut("labelSelector") {
            turn(selected, selector);
        }
    }
    let preferred = format!("{anti}/preferredDuringSchedulingIgnoredDuringExecution");
    for term in list(spec, &preferred) {
        if let Some(selected) = term.pointer_mut("/podAffinityTerm/labelSelector") {
            turn(selected, selector);
        }
    }
}

/// Turns a label selector from the target's pods to the primary's.
fn turn(selected: &mut Value, selector: &Selector) {
    if let Some(value) = selected
        .get_mut("matchLabels")
        .and_then(|labels| labels.get_mut(&selector.key))
        && *value == selector.value
    {
        *value = json!(selector.primary());
    }
    for expression in list(selected, "/matchExpressions") {
        if expression["key"] != selector.key {
            continue;
        }
        for value in list(expression, "/values") {
            if *value == selector.value {
                *value = json!(selector.primary());
            }
        }
    }
}

/// The list at a pointer, to change; nothing when there is none, and nothing is made.
fn list<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
