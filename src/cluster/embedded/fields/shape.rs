//! The shapes of values: which parts of an object have owners of their own.
//!
//! Built-in kinds have those of `types.txt`; custom resources have those of their schemas
//! (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy>).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use serde_json::{Value, json};

use super::set::Step;

/// What a value is made of.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cluster::embedded) enum Shape {
    Scalar(Scalar),
    List {
        of: Arc<Shape>,
        items: Items,
    },
    Map(Fields),
    /// Whatever the value is: a scalar, a list with one owner, or a map of such.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster::embedded) enum Scalar {
    Text,
    Number,
    Flag,
    Any,
}

/// How the items of a list are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster::embedded) enum Items {
    /// Not at all: the list has one owner.
    Atomic,
    /// By their value.
    Set,
    /// By these fields.
    Keyed(Vec<String>),
}

/// The parts of an object.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::cluster::embedded) struct Fields {
    pub(in crate::cluster::embedded) named: BTreeMap<String, Field>,
    /// The shape of the others; none where there are no others.
    pub(in crate::cluster::embedded) rest: Option<Arc<Shape>>,
    /// The object has one owner.
    pub(in crate::cluster::embedded) atomic: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::cluster::embedded) struct Field {
    pub(in crate::cluster::embedded) shape: Arc<Shape>,
    /// What Go's struct holds where the field is not given; none where it then is not there.
    pub(in crate::cluster::embedded) zero: Option<Value>,
    /// What the absent field stands for where it is a list's key.
    pub(in crate::cluster::embedded) key: Option<Value>,
}

static ANY: LazyLock<Arc<Shape>> = LazyLock::new(|| Arc::new(Shape::Any));
static BUILTIN: LazyLock<HashMap<String, Arc<Shape>>> =
    LazyLock::new(|| builtin(include_str!("types.txt")));

impl Shape {
    /// The shape of a built-in kind; [`Shape::Any`] for one that the table does not have.
    pub(in crate::cluster::embedded) fn of_kind(
        group: &str,
        version: &str,
        kind: &str,
    ) -> Arc<Self> {
        let group = match group.split('.').next() {
            None | Some("") => "core",
            Some(first) => first,
        };
        let name = format!("{group}.{version}.{kind}");
        Arc::clone(BUILTIN.get(&name).unwrap_or(&ANY))
    }

    /// The shape of the objects of a custom resource with this `openAPIV3Schema`.
    pub(in crate::cluster::embedded) fn of_schema(schema: &Value) -> Arc<Self> {
        let shape = from_schema(schema, false);
        let Self::Map(mut fields) = shape else {
            return Arc::clone(&ANY);
        };
        add_type_and_metadata(&mut fields);
        Arc::new(Self::Map(fields))
    }

    /// The shape of what the step leads to.
    pub(in crate::cluster::embedded) fn child(&self, step: &Step) -> Arc<Self> {
        match (self, step) {
            (Self::Map(fields), Step::Field(name)) => fields.shape(name),
            (Self::List { of, .. }, Step::Key(_) | Step::Item(_)) => Arc::clone(of),
            _ => Arc::clone(&ANY),
        }
    }

    /// Is the step one to a field that the type declares?
    pub(in crate::cluster::embedded) fn names(&self, step: &Step) -> bool {
        match (self, step) {
            (Self::Map(fields), Step::Field(name)) => fields.named.contains_key(name),
            _ => false,
        }
    }

    /// The step to an item of this list; none where it has no identity.
    pub(in crate::cluster::embedded) fn step(&self, item: &Value) -> Option<Step> {
        let Self::List { of, items } = self else {
            return None;
        };
        match items {
            Items::Atomic => None,
            Items::Set => Step::item(item),
            Items::Keyed(keys) => {
                let object = item.as_object()?;
                let default = |key: &String| match &**of {
                    Self::Map(fields) => fields.named.get(key)?.key.clone(),
                    Self::Scalar(_) | Self::List { .. } | Self::Any => None,
                };
                let found = keys.iter().filter_map(|key| {
                    let value = object.get(key).cloned().or_else(|| default(key))?;
                    Some((key.clone(), value))
                });
                Step::key(found.collect())
            }
        }
    }
}

impl Fields {
    /// The shape of the field; [`Shape::Any`] for one that the type does not have.
    pub(in crate::cluster::embedded) fn shape(&self, name: &str) -> Arc<Shape> {
        let named = self.named.get(name).map(|field| &field.shape);
        Arc::clone(named.or(self.rest.as_ref()).unwrap_or(&ANY))
    }
}

// === The table of the built-in kinds ===

fn builtin(table: &str) -> HashMap<String, Arc<Shape>> {
    let lines: HashMap<&str, &str> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(head, fields)| (head.trim_end_matches(" atomic"), (head, fields)))
        .map(|(name, (head, fields))| (name, if head == name { fields } else { ATOMIC }))
        .collect();
    let mut done = HashMap::new();
    for name in lines.keys() {
        named(name, &lines, &mut done);
    }
    done
}

/// Stands for the fields of a type with one owner: nothing looks at them.
const ATOMIC: &str = "atomic";

fn named(
    name: &str,
    lines: &HashMap<&str, &str>,
    done: &mut HashMap<String, Arc<Shape>>,
) -> Arc<Shape> {
    if let Some(shape) = done.get(name) {
        return Arc::clone(shape);
    }
    let Some(line) = lines.get(name) else {
        return Arc::clone(&ANY);
    };
    let mut fields = Fields::default();
    if *line == ATOMIC {
        fields.atomic = true;
        fields.rest = Some(Arc::clone(&ANY));
    }
    let group = name.rsplit_once('.').map_or("", |(group, _)| group);
    for (field, shape) in line.split_whitespace().filter_map(|f| f.split_once('=')) {
        let (shape, zero, key) = match shape.split_once('=') {
            Some((shape, key)) => (shape, false, Some(json!(key))),
            None => (shape.trim_end_matches('!'), shape.ends_with('!'), None),
        };
        let shape = parse(shape, group, lines, done);
        let zero = zero.then(|| zero_of(&shape));
        let key = key.or_else(|| zero.clone());
        fields
            .named
            .insert(field.to_owned(), Field { shape, zero, key });
    }
    let shape = Arc::new(Shape::Map(fields));
    done.insert(name.to_owned(), Arc::clone(&shape));
    shape
}

fn zero_of(shape: &Shape) -> Value {
    match shape {
        Shape::Scalar(Scalar::Text) => json!(""),
        Shape::Scalar(Scalar::Number) => json!(0),
        Shape::Scalar(Scalar::Flag) => json!(false),
        Shape::List { .. } => json!([]),
        Shape::Map(_) => json!({}),
        Shape::Scalar(Scalar::Any) | Shape::Any => Value::Null,
    }
}

/// One SHAPE of the table.
fn parse(
    text: &str,
    group: &str,
    lines: &HashMap<&str, &str>,
    done: &mut HashMap<String, Arc<Shape>>,
) -> Arc<Shape> {
    let mut inner = |text: &str| parse(text, group, lines, done);
    if let Some(text) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let (of, items) = match (text.split_once(':'), text.strip_suffix('*')) {
            (Some((of, keys)), _) => {
                let keys = keys.split(',').map(str::to_owned).collect();
                (of, Items::Keyed(keys))
            }
            (None, Some(of)) => (of, Items::Set),
            (None, None) => (text, Items::Atomic),
        };
        let of = inner(of);
        return Arc::new(Shape::List { of, items });
    }
    for (open, close, atomic) in [('{', '}', false), ('<', '>', true)] {
        if let Some(text) = text.strip_prefix(open).and_then(|t| t.strip_suffix(close)) {
            return Arc::new(Shape::Map(Fields {
                rest: Some(inner(text)),
                atomic,
                ..Fields::default()
            }));
        }
    }
    match text {
        "s" => Arc::new(Shape::Scalar(Scalar::Text)),
        "n" => Arc::new(Shape::Scalar(Scalar::Number)),
        "b" => Arc::new(Shape::Scalar(Scalar::Flag)),
        "u" => Arc::new(Shape::Scalar(Scalar::Any)),
        "?" => Arc::clone(&ANY),
        local if local.starts_with('.') => named(&format!("{group}{local}"), lines, done),
        full => named(full, lines, done),
    }
}

// === Schemas of custom resources ===

fn add_type_and_metadata(fields: &mut Fields) {
    let text = Arc::new(Shape::Scalar(Scalar::Text));
    let metadata = Shape::of_kind("meta", "v1", "ObjectMeta");
    for (name, shape) in [
        ("apiVersion", &text),
        ("kind", &text),
        ("metadata", &metadata),
    ] {
        let field = Field {
            shape: Arc::clone(shape),
            zero: None,
            key: None,
        };
        fields.named.insert(name.to_owned(), field);
    }
}

/// `open`: something above it keeps fields that the schema does not know.
fn from_schema(schema: &Value, open: bool) -> Shape {
    let open = open || schema["x-kubernetes-preserve-unknown-fields"] == true;
    match schema["type"].as_str().unwrap_or_default() {
        "object" => Shape::Map(object_of(schema, open)),
        "array" => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let items = match (schema["x-kubernetes-list-type"].as_str(), keys) {
                (Some("set"), _) => Items::Set,
                (Some("map"), Some(keys)) => Items::Keyed(
                    keys.iter()
                        .filter_map(|k| k.as_str().map(str::to_owned))
                        .collect(),
                ),
                _ => Items::Atomic,
            };
            let of = Arc::new(from_schema(&schema["items"], open));
            Shape::List { of, items }
        }
        "integer" | "number" => Shape::Scalar(Scalar::Number),
        "boolean" => Shape::Scalar(Scalar::Flag),
        "string" if schema["format"] == "date-time" => Shape::Scalar(Scalar::Any),
        "string" => Shape::Scalar(Scalar::Text),
        _ => Shape::Any,
    }
}

fn object_of(schema: &Value, open: bool) -> Fields {
    let properties = schema["properties"].as_object();
    let additional = &schema["additionalProperties"];
    let rest = match additional {
        Value::Object(_) => Some(Arc::new(from_schema(additional, open))),
        Value::Bool(true) => Some(Arc::clone(&ANY)),
        Value::Null if open || properties.is_none_or(serde_json::Map::is_empty) => {
            Some(Arc::clone(&ANY))
        }
        Value::Null
        | Value::Bool(false)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => None,
    };
    let mut fields = Fields {
        rest,
        atomic: schema["x-kubernetes-map-type"] == "atomic",
        ..Fields::default()
    };
    for (name, property) in properties.into_iter().flatten() {
        let field = Field {
            shape: Arc::new(from_schema(property, open)),
            zero: None,
            key: property.get("default").cloned(),
        };
        fields.named.insert(name.clone(), field);
    }
    if schema["x-kubernetes-embedded-resource"] == true {
        add_type_and_metadata(&mut fields);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(shape: &Arc<Shape>, path: &str) -> Arc<Shape> {
        path.split('.').fold(Arc::clone(shape), |shape, name| {
            let items = Step::item(&json!(""));
            let step = match name {
                "*" => items.unwrap(),
                name => Step::field(name),
            };
            shape.child(&step)
        })
    }

    #[test]
    fn built_in_kinds_have_the_keys_of_server_side_apply() {
        let deployment = Shape::of_kind("apps", "v1", "Deployment");
        let container = at(&deployment, "spec.template.spec.containers.*");
        let service = Shape::of_kind("", "v1", "Service");
        for (list, item, step) in [
            (
                at(&container, "ports"),
                json!({"containerPort": 80}),
                Some(r#"[containerPort=80,protocol="TCP"]"#),
            ),
            (
                at(&container, "ports"),
                json!({"containerPort": 53, "protocol": "UDP"}),
                Some(r#"[containerPort=53,protocol="UDP"]"#),
            ),
            (
                at(&container, "env"),
                json!({"name": "A", "value": "1"}),
                Some(r#"[name="A"]"#),
            ),
            (
                at(&container, "volumeMounts"),
                json!({"mountPath": "/a", "name": "v"}),
                Some(r#"[mountPath="/a"]"#),
            ),
            (at(&container, "args"), json!("a"), None),
            (
                at(&deployment, "spec.template.spec.tolerations"),
                json!({"key": "a"}),
                None,
            ),
            (
                at(&deployment, "spec.template.spec.topologySpreadConstraints"),
                json!({"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}),
                Some(r#"[topologyKey="zone",whenUnsatisfiable="DoNotSchedule"]"#),
            ),
            (
                at(&service, "spec.ports"),
                json!({"port": 80}),
                Some(r#"[port=80,protocol="TCP"]"#),
            ),
            (
                at(&service, "metadata.finalizers"),
                json!("x/y"),
                Some(r#"[="x/y"]"#),
            ),
            (
                at(&service, "metadata.ownerReferences"),
                json!({"uid": "u", "name": "n"}),
                Some(r#"[uid="u"]"#),
            ),
            (
                at(&deployment, "status.conditions"),
                json!({"type": "Available"}),
                Some(r#"[type="Available"]"#),
            ),
        ] {
            let found = list.step(&item).map(|step| step.to_string());
            assert_eq!(found.as_deref(), step, "{item}");
        }
        for (shape, atomic) in [
            (at(&deployment, "spec.selector"), true),
            (at(&deployment, "spec.template.spec.nodeSelector"), true),
            (at(&deployment, "spec.template.metadata.labels"), false),
            (at(&service, "spec.selector"), true),
            (at(&container, "resources.limits"), false),
        ] {
            let Shape::Map(fields) = &*shape else {
                panic!("{shape:?}");
            };
            assert_eq!(fields.atomic, atomic, "{fields:?}");
        }
    }

    #[test]
    fn every_type_of_the_table_resolves() {
        let table = include_str!("types.txt");
        for (name, shape) in builtin(table) {
            let Shape::Map(fields) = &*shape else {
                panic!("{name}");
            };
            for (field, of) in &fields.named {
                let text = format!("{name}.{field}");
                // The one that may be anything.
                let any = text == "apiextensions.v1.CustomResourceConversion.webhook";
                assert_eq!(*of.shape == Shape::Any, any, "{text}");
            }
        }
    }

    #[test]
    fn custom_resources_have_the_list_types_of_their_schema() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "plain": {"type": "array", "items": {"type": "string"}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id", "kind"],
                "items": {"type": "object", "properties": {"id": {"type": "string"}, "kind": {"type": "string", "default": "x"}}}},
            "one": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "port": {"x-kubernetes-int-or-string": true},
        }}}});
        let shape = Shape::of_schema(&schema);
        let step = |path: &str, item: Value| at(&shape, path).step(&item).map(|s| s.to_string());
        assert_eq!(step("spec.plain", json!("a")), None);
        assert_eq!(step("spec.tags", json!("a")).unwrap(), r#"[="a"]"#);
        assert_eq!(
            step("spec.parts", json!({"id": "a"})).unwrap(),
            r#"[id="a",kind="x"]"#
        );
        assert_eq!(
            step("metadata.finalizers", json!("f")).unwrap(),
            r#"[="f"]"#
        );
        assert!(matches!(&*at(&shape, "spec.one"), Shape::Map(f) if f.atomic));
        assert_eq!(*at(&shape, "spec.free.anything"), Shape::Any);
        assert_eq!(*at(&shape, "spec.port"), Shape::Any);
    }
}
