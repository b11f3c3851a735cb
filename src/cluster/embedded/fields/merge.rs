//! Merging an applied configuration into an object, and taking fields out of one.
//!
//! As sigs.k8s.io/structured-merge-diff does it (`typed/merge.go`, `typed/remove.go`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::{
    set::{FieldSet, Step},
    shape::{Items, Shape},
};

/// `live` with what `applied` says. Takes nothing away; lists take the order of `applied` where it changes them.
pub(in crate::cluster::embedded) fn merge(shape: &Shape, live: &Value, applied: &Value) -> Value {
    match (shape, live, applied) {
        (Shape::Map(fields), _, _) if fields.atomic => applied.clone(),
        (Shape::Map(_) | Shape::Any, Value::Object(a), Value::Object(b)) => {
            let mut out = a.clone();
            for (name, value) in b {
                let merged = match a.get(name) {
                    Some(old) => merge(&shape.child(&Step::field(name)), old, value),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        // A null takes a value away, but not what has parts.
        (Shape::Map(_), Value::Object(a), Value::Null) if !a.is_empty() => live.clone(),
        (Shape::List { items, .. }, Value::Array(a), Value::Null)
            if *items != Items::Atomic && !a.is_empty() =>
        {
            live.clone()
        }
        (Shape::List { items, .. }, Value::Array(a), Value::Array(b))
            if *items != Items::Atomic =>
        {
            merge_items(shape, a, b)
        }
        _ => applied.clone(),
    }
}

fn merge_items(shape: &Shape, live: &[Value], applied: &[Value]) -> Value {
    let steps = |items: &[Value]| -> Option<Vec<Step>> {
        items.iter().map(|item| shape.step(item)).collect()
    };
    let (Some(left), Some(right)) = (steps(live), steps(applied)) else {
        return Value::Array(applied.to_vec());
    };
    let mut by_step: BTreeMap<&Step, Vec<&Value>> = BTreeMap::new();
    for (step, item) in left.iter().zip(live) {
        by_step.entry(step).or_default().push(item);
    }
    let given: BTreeSet<&Step> = right.iter().collect();
    let merged = |step: &Step, item: &Value| match by_step.get(step).map(Vec::as_slice) {
        Some([old]) => merge(&shape.child(step), old, item),
        // An item that is there twice is not merged with.
        _ => item.clone(),
    };
    let mut shared: VecDeque<&Step> = right.iter().filter(|s| by_step.contains_key(s)).collect();
    let mut next = shared.pop_front();
    let mut done: BTreeSet<&Step> = BTreeSet::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some(a), Some(b)) = (left.get(l), right.get(r)) {
            if a == b {
                done.insert(a);
                out.push(merged(b, &applied[r]));
                l += 1;
                r += 1;
                next = shared.pop_front();
                continue;
            }
            if given.contains(a) && next.is_some_and(|next| next != a) {
                // Shared, and not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if let Some(a) = left.get(l) {
            if !given.contains(a) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            if done.contains(a) {
                l += 1;
            }
        }
        if let Some(b) = right.get(r) {
            done.insert(b);
            out.push(merged(b, &applied[r]));
            r += 1;
            if next == Some(b) {
                next = shared.pop_front();
            }
        }
    }
    Value::Array(out)
}

/// `value` without the fields and items of `set`; none when nothing is left.
pub(in crate::cluster::embedded) fn remove(
    shape: &Shape,
    value: &Value,
    set: &FieldSet,
) -> Option<Value> {
    match (shape, value) {
        (Shape::Map(fields), Value::Object(_)) if fields.atomic => None,
        (Shape::Map(_) | Shape::Any, Value::Object(map)) => {
            let left = |(name, child): (&String, &Value)| -> Option<(String, Value)> {
                let step = Step::field(name);
                if set.has_step(&step) {
                    return None;
                }
                let child = match set.below(&step) {
                    Some(below) => remove(&shape.child(&step), child, below)?,
                    None => child.clone(),
                };
                Some((name.clone(), child))
            };
            let left: Map<String, Value> = map.iter().filter_map(left).collect();
            (!left.is_empty()).then_some(Value::Object(left))
        }
        (Shape::List { items, .. }, Value::Array(list)) if *items != Items::Atomic => {
            let left = |item: &Value| -> Option<Value> {
                let Some(step) = shape.step(item) else {
                    return Some(item.clone());
                };
                if set.has_step(&step) {
                    return None;
                }
                match set.below(&step) {
                    Some(below) => remove(&shape.child(&step), item, below),
                    None => Some(item.clone()),
                }
            };
            let left: Vec<Value> = list.iter().filter_map(left).collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        (Shape::List { .. } | Shape::Any, Value::Array(_)) => None,
        _ => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &Value) -> Value {
        json!({"spec": spec})
    }

    #[test]
    fn an_applied_configuration_adds_and_changes() {
        let shape = Shape::of_kind("", "v1", "Pod");
        for (live, applied, expected) in [
            (
                json!({"nodeName": "n", "nodeSelector": {"a": "b"}}),
                json!({"nodeSelector": {"c": "d"}}),
                json!({"nodeName": "n", "nodeSelector": {"c": "d"}}),
            ),
            (
                json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}]}]}),
                json!({"containers": [{"name": "a", "args": ["b"], "env": [{"name": "A", "value": "2"}, {"name": "B"}]}]}),
                json!({"containers": [{"name": "a", "image": "x", "args": ["b"], "env": [{"name": "A", "value": "2"}, {"name": "B"}]}]}),
            ),
            // The order is the applied one; what is not in it keeps its place.
            (
                json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
                json!({"containers": [{"name": "c"}, {"name": "d"}, {"name": "a"}]}),
                json!({"containers": [{"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "a"}]}),
            ),
            (
                json!({"containers": [{"name": "a"}]}),
                json!({"containers": []}),
                json!({"containers": [{"name": "a"}]}),
            ),
            (
                json!({"containers": [{"name": "a"}], "nodeName": "n"}),
                json!({"containers": null, "nodeName": null}),
                json!({"containers": [{"name": "a"}], "nodeName": null}),
            ),
            (
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "b"}]}),
                json!({"tolerations": [{"key": "b"}]}),
            ),
        ] {
            let merged = merge(&shape, &pod(&live), &pod(&applied));
            assert_eq!(merged, pod(&expected), "{live} {applied}");
        }
    }

    #[test]
    fn sets_keep_what_others_put_in() {
        let shape = Shape::of_kind("", "v1", "ConfigMap");
        let with = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
        assert_eq!(
            merge(&shape, &with(json!(["a", "b"])), &with(json!(["c", "a"]))),
            with(json!(["c", "a", "b"]))
        );
    }

    #[test]
    fn fields_and_items_are_taken_out() {
        let shape = Shape::of_kind("", "v1", "Pod");
        let live = json!({"nodeName": "n", "containers": [
            {"name": "a", "image": "x", "env": [{"name": "A"}, {"name": "B"}]}, {"name": "b"}]});
        for (fields, expected) in [
            (
                json!({"f:spec": {"f:nodeName": {}, "f:containers": {"k:{\"name\":\"b\"}": {}}}}),
                json!({"spec": {"containers": [{"name": "a", "image": "x", "env": [{"name": "A"}, {"name": "B"}]}]}}),
            ),
            (
                json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:image": {}, "f:env": {"k:{\"name\":\"A\"}": {}}}}}}),
                json!({"spec": {"nodeName": "n", "containers": [{"name": "a", "env": [{"name": "B"}]}, {"name": "b"}]}}),
            ),
            (
                json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {}, "k:{\"name\":\"b\"}": {}}}}),
                json!({"spec": {"nodeName": "n"}}),
            ),
        ] {
            let left = remove(&shape, &pod(&live), &FieldSet::parse(&fields));
            assert_eq!(left, Some(expected), "{fields}");
        }
    }
}
