//! Walks over values by their shape: the set of their fields, what differs between two.
//!
//! As sigs.k8s.io/structured-merge-diff does it (`typed/tofieldset.go`, `typed/compare.go`).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Map, Value};

use super::{
    set::{FieldSet, Step},
    shape::{Fields, Items, Shape},
};

/// What differs between two values.
#[derive(Debug, Default)]
pub(in crate::cluster::embedded) struct Difference {
    /// New or with another value.
    pub(in crate::cluster::embedded) set: FieldSet,
    /// Gone.
    pub(in crate::cluster::embedded) removed: FieldSet,
}

/// The part of a shape that a value has: [`Shape::Any`] decided.
enum Facet<'a> {
    Leaf,
    Map(&'a Fields),
    /// A map of anything.
    Free,
    List,
}

fn facet<'a>(shape: &'a Shape, value: Option<&Value>) -> Facet<'a> {
    match (shape, value) {
        (Shape::Map(fields), _) if !fields.atomic => Facet::Map(fields),
        (Shape::Any, Some(Value::Object(_))) => Facet::Free,
        (Shape::List { items, .. }, _) if *items != Items::Atomic => Facet::List,
        _ => Facet::Leaf,
    }
}

// === The set of fields ===

/// Each leaf and each item that the value names.
pub(in crate::cluster::embedded) fn fields_of(shape: &Shape, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(shape, value, &mut Vec::new(), &mut set);
    set
}

fn collect(shape: &Shape, value: &Value, path: &mut Vec<Step>, set: &mut FieldSet) {
    match facet(shape, Some(value)) {
        Facet::Leaf => set.insert(path),
        Facet::Map(_) | Facet::Free => {
            for (name, child) in value.as_object().into_iter().flatten() {
                let step = Step::field(name);
                let named = shape.names(&step);
                let below = shape.child(&step);
                path.push(step);
                collect(&below, child, path, set);
                let nothing = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                if nothing || !named {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Facet::List => {
            let mut count: BTreeMap<Step, usize> = BTreeMap::new();
            let items = value.as_array().into_iter().flatten();
            let items: Vec<_> = items
                .filter_map(|item| Some((shape.step(item)?, item)))
                .collect();
            for (step, _) in &items {
                *count.entry(step.clone()).or_default() += 1;
            }
            for (step, item) in items {
                // Items that are there twice have one owner together.
                let single = count.get(&step) == Some(&1);
                let below = shape.child(&step);
                path.push(step);
                if single {
                    collect(&below, item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
    }
}

// === The difference ===

/// What differs between `old` and `new`. With `zeros`, a field that Go's struct always holds is there on both sides.
pub(in crate::cluster::embedded) fn compare(
    shape: &Shape,
    old: &Value,
    new: &Value,
    zeros: bool,
) -> Difference {
    let mut comparison = Comparison {
        zeros,
        path: Vec::new(),
        out: Difference::default(),
    };
    comparison.at(shape, Some(old), Some(new));
    comparison.out
}

struct Comparison {
    zeros: bool,
    path: Vec<Step>,
    out: Difference,
}

impl Comparison {
    fn at(&mut self, shape: &Shape, old: Option<&Value>, new: Option<&Value>) {
        if old.is_none() && new.is_none() {
            return;
        }
        let sides = (facet(shape, old), facet(shape, new));
        match sides {
            (Facet::Map(fields), Facet::Map(_)) => self.maps(shape, Some(fields), old, new),
            (Facet::Free, Facet::Free) => self.maps(shape, None, old, new),
            (Facet::Free, _) if new.is_none() => self.maps(shape, None, old, new),
            (_, Facet::Free) => {
                if old.is_some() {
                    self.out.set.insert(&self.path);
                }
                self.maps(shape, None, None, new);
            }
            (Facet::List, Facet::List) => self.lists(shape, old, new),
            _ => self.leaf(old, new),
        }
        if old.is_none() {
            self.out.set.insert(&self.path);
        } else if new.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        if let (Some(old), Some(new)) = (old, new)
            && !equal(old, new)
        {
            self.out.set.insert(&self.path);
        }
    }

    fn maps(
        &mut self,
        shape: &Shape,
        fields: Option<&Fields>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) {
        let names = |value: Option<&Value>| -> BTreeSet<String> {
            let mut names = BTreeSet::new();
            if value.is_none() {
                return names;
            }
            if let Some(fields) = fields.filter(|_| self.zeros) {
                let always = fields.named.iter().filter(|(_, f)| f.zero.is_some());
                names.extend(always.map(|(name, _)| name.clone()));
            }
            let given = value.and_then(Value::as_object).into_iter().flatten();
            let given = given.filter(|(name, child)| {
                !self.zeros || !omitted(&shape.child(&Step::field(name)), child)
            });
            names.extend(given.map(|(name, _)| name.clone()));
            names
        };
        let (before, after) = (names(old), names(new));
        if before.is_empty() && after.is_empty() {
            // An empty object is a leaf: it differs from none at all, and without `zeros` from null.
            if !self.zeros {
                self.leaf(old, new);
            }
            return;
        }
        for name in before.union(&after) {
            let step = Step::field(name);
            let below = shape.child(&step);
            let zero = fields.and_then(|f| f.named.get(name)?.zero.clone());
            let was = child(old, name, before.contains(name), zero.as_ref());
            let is = child(new, name, after.contains(name), zero.as_ref());
            self.path.push(step);
            self.at(&below, was.as_deref(), is.as_deref());
            self.path.pop();
        }
    }

    fn lists(&mut self, shape: &Shape, old: Option<&Value>, new: Option<&Value>) {
        let (Some(before), Some(after)) = (index(shape, old), index(shape, new)) else {
            // An item without identity: the list has one owner.
            self.leaf(old, new);
            return;
        };
        if before.is_empty() && after.is_empty() {
            self.leaf(old, new);
            return;
        }
        let steps: BTreeSet<&Step> = before.keys().chain(after.keys()).collect();
        for step in steps {
            let none = Vec::new();
            let (was, is) = (
                before.get(step).unwrap_or(&none),
                after.get(step).unwrap_or(&none),
            );
            let below = shape.child(step);
            self.path.push(step.clone());
            match (was.as_slice(), is.as_slice()) {
                ([] | [_], [] | [_]) => {
                    self.at(&below, was.first().copied(), is.first().copied());
                }
                ([_, _, ..], [_, _, ..]) => {
                    let same =
                        was.len() == is.len() && was.iter().zip(is).all(|(a, b)| equal(a, b));
                    if !same {
                        self.out.set.insert(&self.path);
                    }
                }
                ([_, _, ..], _) => {
                    self.at(&below, None, is.first().copied());
                    self.out.removed.insert(&self.path);
                }
                (_, _) => {
                    self.at(&below, was.first().copied(), None);
                    self.out.set.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }
}

/// What Go's `omitempty` leaves out: a null, an empty list, an empty map (but not an empty struct).
fn omitted(shape: &Shape, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => {
            let plain = |fields: &Fields| fields.named.is_empty() && !fields.atomic;
            map.is_empty() && matches!(shape, Shape::Map(fields) if plain(fields))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn child<'a>(
    of: Option<&'a Value>,
    name: &str,
    there: bool,
    zero: Option<&Value>,
) -> Option<Cow<'a, Value>> {
    if !there {
        return None;
    }
    match of?.get(name).filter(|child| !child.is_null()) {
        Some(child) => Some(Cow::Borrowed(child)),
        None => Some(Cow::Owned(zero.cloned().unwrap_or_default())),
    }
}

/// The items by their identity; none where one has no identity.
fn index<'a>(shape: &Shape, list: Option<&'a Value>) -> Option<BTreeMap<Step, Vec<&'a Value>>> {
    let mut out: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        out.entry(shape.step(item)?).or_default().push(item);
    }
    Some(out)
}

/// Equal, numbers by value.
pub(in crate::cluster::embedded) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => Step::item(a) == Step::item(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fields_of_an_object_are_its_leaves_and_items() {
        let shape = Shape::of_kind("apps", "v1", "Deployment");
        let object = json!({
            "metadata": {"name": "a", "labels": {"app": "a"}, "finalizers": ["x/y"], "annotations": {}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {
                "nodeSelector": {"a": "b"},
                "containers": [{"name": "c", "args": ["a"], "resources": {"limits": {"cpu": "1"}},
                    "ports": [{"containerPort": 80}]}]}}},
        });
        assert_eq!(
            fields_of(&shape, &object).fields(),
            json!({
                "f:metadata": {"f:name": {}, "f:labels": {"f:app": {}}, "f:annotations": {}, "f:finalizers": {"v:\"x/y\"": {}}},
                "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:spec": {
                    "f:nodeSelector": {},
                    "f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:name": {}, "f:args": {}, "f:resources": {"f:limits": {"f:cpu": {}}},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}},
            })
        );
    }

    #[test]
    fn a_new_object_differs_in_what_gos_struct_does_not_hold_anyway() {
        let shape = Shape::of_kind("apps", "v1", "Deployment");
        let object = json!({"spec": {"replicas": 2, "strategy": {"rollingUpdate": {"maxSurge": 1}, "type": "RollingUpdate"},
            "template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": [
                {"name": "c", "image": "x", "livenessProbe": {"httpGet": {"port": 80}}}]}}}});
        assert_eq!(
            compare(&shape, &json!({}), &object, true).set.fields(),
            json!({"f:spec": {"f:replicas": {}, "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
                    "f:livenessProbe": {".": {}, "f:httpGet": {".": {}, "f:port": {}}}}}}}}})
        );
    }

    #[test]
    fn what_is_empty_has_no_owner() {
        let shape = Shape::of_kind("", "v1", "Pod");
        let object = json!({"metadata": {"labels": {}, "finalizers": []}, "spec": {"securityContext": {}, "volumes": [{"name": "v", "emptyDir": {}}]}});
        assert_eq!(
            compare(&shape, &json!({}), &object, true).set.fields(),
            json!({"f:spec": {"f:securityContext": {}, "f:volumes": {".": {}, "k:{\"name\":\"v\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}}}})
        );
    }

    #[test]
    fn what_differs_is_changed_or_removed() {
        let shape = Shape::of_kind("", "v1", "Service");
        for (old, new, changed, removed) in [
            (json!({}), json!({}), json!({}), json!({})),
            (
                json!({"selector": {"a": "b"}}),
                json!({"selector": {"a": "c"}}),
                json!({"f:selector": {}}),
                json!({}),
            ),
            (
                json!({"ports": [{"port": 80, "protocol": "TCP", "name": "a"}, {"port": 90, "protocol": "TCP"}]}),
                json!({"ports": [{"port": 80, "protocol": "TCP", "name": "b"}, {"port": 91, "protocol": "TCP"}]}),
                json!({"f:ports": {
                    "k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:name": {}},
                    "k:{\"port\":91,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}}}}),
                json!({"f:ports": {"k:{\"port\":90,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}}}}),
            ),
            (
                json!({"type": "ClusterIP"}),
                json!({}),
                json!({}),
                json!({"f:type": {}}),
            ),
            // Another order is no difference, and items that are there twice are one.
            (
                json!({"ports": [{"port": 1}, {"port": 2}]}),
                json!({"ports": [{"port": 2}, {"port": 1}]}),
                json!({}),
                json!({}),
            ),
            (
                json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}),
                json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "c"}]}),
                json!({"f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {}}}),
                json!({}),
            ),
        ] {
            let of = |spec: &Value| json!({"spec": spec});
            let difference = compare(&shape, &of(&old), &of(&new), true);
            let spec = |set: &FieldSet| {
                let below = set.below(&Step::field("spec"));
                below.map_or_else(|| json!({}), FieldSet::fields)
            };
            assert_eq!(spec(&difference.set), changed, "{old} {new}");
            assert_eq!(spec(&difference.removed), removed, "{old} {new}");
        }
    }

    #[test]
    fn a_custom_resource_differs_in_what_its_json_says() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"size": {"type": "integer"}}}}});
        let shape = Shape::of_schema(&schema);
        let object = json!({"spec": {"size": 1, "free": {"list": [{"a": 1}], "deep": {"b": 1}}}});
        assert_eq!(
            compare(&shape, &json!({}), &object, false).set.fields(),
            json!({"f:spec": {".": {}, "f:size": {}, "f:free": {".": {}, "f:list": {}, "f:deep": {".": {}, "f:b": {}}}}})
        );
    }
}
