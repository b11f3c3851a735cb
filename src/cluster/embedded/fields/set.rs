//! Sets of fields, as `FieldsV1` writes them: `{"f:spec": {"f:replicas": {}}}`.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value};

use super::shape::Shape;

/// One step of a path into an object. In the order of Kubernetes: fields, then items by their keys, then values of sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cluster::embedded) enum Step {
    /// A field of an object: `f:NAME`.
    Field(String),
    /// The item of a list with these keys, sorted by name: `k:{"name":"c"}`.
    Key(Vec<(String, Plain)>),
    /// This value of a set: `v:"x"`.
    Item(Plain),
}

/// A plain value with an order. Numbers are equal by value: `1` and `1.0`.
#[derive(Debug, Clone)]
pub(in crate::cluster::embedded) struct Plain(Value);

/// A set of paths. Having a path says nothing about the paths above and below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cluster::embedded) struct FieldSet {
    members: BTreeSet<Step>,
    /// None of them is empty.
    children: BTreeMap<Step, FieldSet>,
}

impl Step {
    pub(in crate::cluster::embedded) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// The step to an item with these values of its keys; none without any.
    pub(in crate::cluster::embedded) fn key(mut keys: Vec<(String, Value)>) -> Option<Self> {
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        let keys: Vec<_> = keys.into_iter().map(|(k, v)| (k, Plain(v))).collect();
        (!keys.is_empty()).then_some(Self::Key(keys))
    }

    /// The step to a value of a set; none for what no set can hold.
    pub(in crate::cluster::embedded) fn item(value: &Value) -> Option<Self> {
        let plain = value.is_string() || value.is_number() || value.is_boolean();
        plain.then(|| Self::Item(Plain(value.clone())))
    }

    /// Reads `f:x`, `k:{...}` and `v:...`; none for a kind of step that a later version may know.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Self::key(keys.into_iter().collect())
            }
            "v" => Self::item(&serde_json::from_str(rest).ok()?),
            _ => None,
        }
    }

    /// The key of this step in `FieldsV1`.
    fn name(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let keys: Vec<String> = keys
                    .iter()
                    .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), value.0))
                    .collect();
                format!("k:{{{}}}", keys.join(","))
            }
            Self::Item(value) => format!("v:{}", value.0),
        }
    }
}

/// As conflicts name it: `.spec`, `[name="c"]`, `[="x"]`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", v.0)).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Item(value) => write!(f, "[={}]", value.0),
        }
    }
}

impl Plain {
    fn rank(&self) -> u8 {
        match self.0 {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) | Value::Object(_) | Value::Null => 3,
        }
    }
}

impl Ord for Plain {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => (a.as_f64().unwrap_or_default()).total_cmp(&b.as_f64().unwrap_or_default()),
            },
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (a, b) => self
                .rank()
                .cmp(&other.rank())
                .then_with(|| a.to_string().cmp(&b.to_string())),
        }
    }
}

impl PartialOrd for Plain {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Plain {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Plain {}

impl FieldSet {
    /// The set of these paths of field names, `metadata.labels` for example.
    pub(in crate::cluster::embedded) fn of(paths: &[&str]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let steps: Vec<Step> = path.split('.').map(Step::field).collect();
            set.insert(&steps);
        }
        set
    }

    /// Reads `FieldsV1`. Steps of a kind that is not known are dropped.
    pub(in crate::cluster::embedded) fn parse(fields: &Value) -> Self {
        let mut set = Self::default();
        for (key, below) in fields.as_object().into_iter().flatten() {
            let Some(step) = Step::parse(key) else {
                continue;
            };
            let children = Self::parse(below);
            if children.is_empty() || below.get(".").is_some() {
                set.members.insert(step.clone());
            }
            set.adopt(step, children);
        }
        set
    }

    /// The `FieldsV1` of the set.
    pub(in crate::cluster::embedded) fn fields(&self) -> Value {
        let mut out = Map::new();
        for step in &self.members {
            out.insert(step.name(), Value::Object(Map::new()));
        }
        for (step, children) in &self.children {
            let mut below = children.fields();
            if self.members.contains(step) {
                below["."] = Value::Object(Map::new());
            }
            out.insert(step.name(), below);
        }
        Value::Object(out)
    }

    /// Adds a path; the empty one is of the whole object, which nobody owns.
    pub(in crate::cluster::embedded) fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(in crate::cluster::embedded) fn has(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|set| set.has(rest)),
        }
    }

    /// Is this child of the top a member?
    pub(in crate::cluster::embedded) fn has_step(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    /// What is below the step.
    pub(in crate::cluster::embedded) fn below(&self, step: &Step) -> Option<&Self> {
        self.children.get(step)
    }

    pub(in crate::cluster::embedded) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    pub(in crate::cluster::embedded) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.extend(other);
        out
    }

    pub(in crate::cluster::embedded) fn extend(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (step, children) in &other.children {
            match self.children.get_mut(step) {
                Some(own) => own.extend(children),
                None => {
                    self.children.insert(step.clone(), children.clone());
                }
            }
        }
    }

    pub(in crate::cluster::embedded) fn intersection(&self, other: &Self) -> Self {
        let mut out = Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            ..Self::default()
        };
        for (step, children) in &self.children {
            if let Some(theirs) = other.children.get(step) {
                out.adopt(step.clone(), children.intersection(theirs));
            }
        }
        out
    }

    /// Without the paths of `other`. What is below such a path stays.
    pub(in crate::cluster::embedded) fn difference(&self, other: &Self) -> Self {
        let mut out = Self {
            members: self.members.difference(&other.members).cloned().collect(),
            ..Self::default()
        };
        for (step, children) in &self.children {
            let left = match other.children.get(step) {
                Some(theirs) => children.difference(theirs),
                None => children.clone(),
            };
            out.adopt(step.clone(), left);
        }
        out
    }

    /// Without the paths of `other` and all that is below them.
    pub(in crate::cluster::embedded) fn without(&self, other: &Self) -> Self {
        let mut out = Self {
            members: self.members.difference(&other.members).cloned().collect(),
            ..Self::default()
        };
        for (step, children) in &self.children {
            if other.members.contains(step) {
                continue;
            }
            let left = match other.children.get(step) {
                Some(theirs) => children.without(theirs),
                None => children.clone(),
            };
            out.adopt(step.clone(), left);
        }
        out
    }

    /// With the fields that the shape names as members too, where something below them is one.
    pub(in crate::cluster::embedded) fn with_named(&self, shape: &Shape) -> Self {
        let mut out = Self {
            members: self.members.clone(),
            ..Self::default()
        };
        for (step, children) in &self.children {
            if shape.names(step) {
                out.members.insert(step.clone());
            }
            out.adopt(step.clone(), children.with_named(&shape.child(step)));
        }
        out
    }

    /// All paths, those of a level before those below it.
    pub(in crate::cluster::embedded) fn paths(&self) -> Vec<Vec<Step>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        for step in &self.members {
            let mut path = prefix.clone();
            path.push(step.clone());
            out.push(path);
        }
        for (step, children) in &self.children {
            prefix.push(step.clone());
            children.collect(prefix, out);
            prefix.pop();
        }
    }

    fn adopt(&mut self, step: Step, children: Self) {
        if !children.is_empty() {
            self.children.insert(step, children);
        }
    }
}

/// A path as conflicts name it.
pub(in crate::cluster::embedded) fn text(path: &[Step]) -> String {
    path.iter().map(Step::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(fields: &Value) -> FieldSet {
        FieldSet::parse(fields)
    }

    #[test]
    fn a_set_reads_as_it_was_written() {
        for fields in [
            json!({}),
            json!({"f:spec": {"f:replicas": {}}}),
            json!({"f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}}, "f:finalizers": {".": {}, "v:\"x/y\"": {}}}}),
            json!({"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}}),
        ] {
            assert_eq!(set(&fields).fields(), fields);
        }
        // A key in another order is the same; a step of a later version is dropped.
        assert_eq!(
            set(&json!({"f:a": {"k:{\"b\":1,\"a\":\"x\"}": {}, "q:new": {}}})).fields(),
            json!({"f:a": {"k:{\"a\":\"x\",\"b\":1}": {}}})
        );
    }

    #[test]
    fn sets_are_joined_cut_and_subtracted_by_path() {
        let a = set(&json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}}));
        let b = set(&json!({"f:a": {"f:x": {}, "f:z": {}}, "f:c": {}}));
        for (result, expected) in [
            (
                a.union(&b),
                json!({"f:a": {".": {}, "f:x": {}, "f:y": {}, "f:z": {}}, "f:b": {}, "f:c": {}}),
            ),
            (a.intersection(&b), json!({"f:a": {"f:x": {}}})),
            (
                a.difference(&b),
                json!({"f:a": {".": {}, "f:y": {}}, "f:b": {}}),
            ),
            (b.difference(&a), json!({"f:a": {"f:z": {}}, "f:c": {}})),
            (a.difference(&a), json!({})),
            // The path alone, or all below it too.
            (
                a.difference(&FieldSet::of(&["a"])),
                json!({"f:a": {"f:x": {}, "f:y": {}}, "f:b": {}}),
            ),
            (a.without(&FieldSet::of(&["a"])), json!({"f:b": {}})),
            (
                a.without(&FieldSet::of(&["a.x"])),
                json!({"f:a": {".": {}, "f:y": {}}, "f:b": {}}),
            ),
        ] {
            assert_eq!(result.fields(), expected);
        }
        assert!(a.difference(&a).is_empty());
    }

    #[test]
    fn paths_are_told_as_kubernetes_tells_them() {
        let fields = json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}, "f:replicas": {}},
            "f:metadata": {"f:finalizers": {"v:\"x/y\"": {}}},
            "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {}}});
        let paths: Vec<String> = set(&fields).paths().iter().map(|p| text(p)).collect();
        assert_eq!(
            paths,
            [
                r#".metadata.finalizers[="x/y"]"#,
                r#".ports[port=80,protocol="TCP"]"#,
                ".spec.replicas",
                r#".spec.containers[name="c"].image"#,
            ]
        );
    }
}
