//! Whether a value has the shape of its kind.
//!
//! As sigs.k8s.io/structured-merge-diff does it (`typed/validate.go`), in its words.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shape::{Items, Scalar, Shape};

/// The mistakes of a value, each with its path, in Kubernetes' words.
pub(in crate::cluster::embedded) fn mistakes(shape: &Shape, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    check(shape, value, "", &mut out);
    out
}

fn check(shape: &Shape, value: &Value, path: &str, out: &mut Vec<String>) {
    let mut wrong = |why: String| out.push(prefixed(path, &why));
    match (shape, value) {
        (_, Value::Null) | (Shape::Any, _) => {}
        (Shape::Scalar(scalar), _) => {
            if let Some(wanted) = unfit(*scalar, value) {
                wrong(wanted);
            }
        }
        (Shape::List { .. }, Value::Array(items)) => check_items(shape, items, path, out),
        (Shape::Map(fields), Value::Object(map)) => {
            for (name, child) in map {
                let path = format!("{path}.{name}");
                if !fields.named.contains_key(name) && fields.rest.is_none() {
                    // It ends there; Go's maps have no order, so this one is as good as another.
                    out.push(prefixed(&path, "field not declared in schema"));
                    return;
                }
                check(&fields.shape(name), child, &path, out);
            }
        }
        (Shape::List { .. }, _) => wrong(format!("expected list, got &{{{}}}", go_text(value))),
        (Shape::Map(_), _) => wrong(format!("expected map, got &{{{}}}", go_text(value))),
    }
}

fn check_items(shape: &Shape, items: &[Value], path: &str, out: &mut Vec<String>) {
    let Shape::List { of, items: kind } = shape else {
        return;
    };
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        if *kind == Items::Atomic {
            check(of, item, &format!("{path}[{at}]"), out);
            continue;
        }
        let Some(step) = shape.step(item) else {
            out.push(prefixed(
                path,
                &format!("element {at}: {}", without_identity(kind, item)),
            ));
            return;
        };
        if seen.contains(&step) {
            out.push(prefixed(path, &format!("duplicate entries for key {step}")));
        }
        check(of, item, &format!("{path}{step}"), out);
        seen.insert(step);
    }
}

fn without_identity(kind: &Items, item: &Value) -> String {
    match (kind, item) {
        (Items::Keyed(_), Value::Null) => {
            "associative list with keys may not have a null element".to_owned()
        }
        (Items::Keyed(keys), Value::Object(_)) => {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
            format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have \
                 default values for any key fields)",
                keys.join(" ")
            )
        }
        (Items::Keyed(_), _) => {
            "associative list with keys may not have non-map elements".to_owned()
        }
        (_, Value::Object(_)) => {
            "associative list without keys has an element that's a map type".to_owned()
        }
        (_, Value::Array(_)) => "not supported: associative list with lists as elements".to_owned(),
        _ => "associative list without keys has an element that's an explicit null".to_owned(),
    }
}

fn unfit(scalar: Scalar, value: &Value) -> Option<String> {
    let (fits, why) = match scalar {
        Scalar::Text => (
            value.is_string(),
            format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                go_syntax(value)
            ),
        ),
        Scalar::Number => (
            value.is_number(),
            format!("expected numeric (int or float), got {}", go_type(value)),
        ),
        Scalar::Flag => (
            value.is_boolean(),
            format!("expected boolean, got &{{{}}}", go_text(value)),
        ),
        Scalar::Any => (
            !value.is_object() && !value.is_array(),
            format!("expected any scalar, got &{{{}}}", go_text(value)),
        ),
    };
    (!fits).then_some(why)
}

/// Go's `%T`.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%v`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let entries: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", go_text(value)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Go's `%#v`.
fn go_syntax(value: &Value) -> String {
    let list = |texts: Vec<String>| texts.join(", ");
    match value {
        Value::Array(items) => format!(
            "{}{{{}}}",
            go_type(value),
            list(items.iter().map(go_syntax).collect())
        ),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{key:?}:{}", go_syntax(value));
            format!(
                "{}{{{}}}",
                go_type(value),
                list(map.iter().map(entry).collect())
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn prefixed(path: &str, why: &str) -> String {
    if path.is_empty() {
        why.to_owned()
    } else {
        format!("{path}: {why}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mistakes_are_in_the_words_of_kubernetes() {
        let shape = Shape::of_kind("", "v1", "Service");
        for (spec, expected) in [
            (json!({"ports": [{"port": 80}]}), None),
            (
                json!({"nonsense": 1}),
                Some(".spec.nonsense: field not declared in schema"),
            ),
            (
                json!({"type": 1}),
                Some(".spec.type: expected string, got &value.valueUnstructured{Value:1}"),
            ),
            (
                json!({"ports": [{"port": "80"}]}),
                Some(
                    r#".spec.ports[port="80",protocol="TCP"].port: expected numeric (int or float), got string"#,
                ),
            ),
            (
                json!({"selector": ["a", "b"]}),
                Some(".spec.selector: expected map, got &{[a b]}"),
            ),
            (
                json!({"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}),
                Some(r#".spec.ports: duplicate entries for key [port=80,protocol="TCP"]"#),
            ),
            (
                json!({"ports": ["a"]}),
                Some(
                    ".spec.ports: element 0: associative list with keys may not have non-map elements",
                ),
            ),
        ] {
            let found = mistakes(&shape, &json!({"spec": spec}));
            assert_eq!(found.first().map(String::as_str), expected, "{spec}");
        }
    }
}
