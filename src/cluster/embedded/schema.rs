//! Structural schemas of custom resources: pruning, defaulting, validation.
//!
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>. CEL rules
//! (`x-kubernetes-validations`) are not evaluated.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use regex::Regex;
use serde_json::{Map, Value};

use super::status::{Cause, type_name};

/// The fields of the metadata of every object.
const METADATA: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// Removes what the schema does not know, and names it (`spec.foo`, `spec.items[0].bar`).
pub(super) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|name, _| {
            let known = METADATA.contains(&name.as_str());
            if !known {
                unknown.push(format!("metadata.{name}"));
            }
            known
        });
    }
    prune_at(schema, object, "", true, &mut unknown);
    unknown
}

fn flag(schema: &Value, name: &str) -> bool {
    schema[name] == true
}

fn prune_at(schema: &Value, value: &mut Value, path: &str, root: bool, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let keep = flag(schema, "x-kubernetes-preserve-unknown-fields");
            let embedded = root || flag(schema, "x-kubernetes-embedded-resource");
            let additional = &schema["additionalProperties"];
            fields.retain(|name, child| {
                let path = join(path, name);
                if embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return true;
                }
                if let Some(property) = schema["properties"].get(name) {
                    prune_at(property, child, &path, false, unknown);
                    return true;
                }
                if additional.is_object() {
                    prune_at(additional, child, &path, false, unknown);
                    return true;
                }
                if keep || additional == true {
                    return true;
                }
                unknown.push(path);
                false
            });
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                let path = format!("{path}[{at}]");
                prune_at(&schema["items"], item, &path, false, unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Fills in the defaults of the schema; a null that the schema does not allow counts as absent.
pub(super) fn fill_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            for (name, property) in properties.into_iter().flatten() {
                let null = fields.get(name).is_some_and(Value::is_null);
                if null && !flag(property, "nullable") {
                    fields.remove(name);
                }
                if let Some(default) = property.get("default") {
                    fields
                        .entry(name.clone())
                        .or_insert_with(|| default.clone());
                }
                if let Some(child) = fields.get_mut(name) {
                    fill_defaults(property, child);
                }
            }
            let additional = &schema["additionalProperties"];
            if additional.is_object() {
                for (name, child) in fields.iter_mut() {
                    if schema["properties"].get(name).is_none() {
                        fill_defaults(additional, child);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                fill_defaults(&schema["items"], item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every mistake of an object against its schema, with the path of the field.
pub(super) fn validate(schema: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(schema, object, "", &mut causes);
    causes
}

fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && flag(schema, "nullable") {
        return;
    }
    if !has_type(schema, value) {
        let wanted = wanted_type(schema);
        let why = format!(
            "{path} in body must be of type {wanted}: \"{}\"",
            type_name(value)
        );
        causes.push(Cause::wrong_type(path, value, &why));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|a| !a.contains(value)) {
        causes.push(Cause::unsupported(path, value, allowed));
    }
    match value {
        Value::Object(fields) => check_object(schema, fields, path, causes),
        Value::Array(items) => check_array(schema, items, path, causes),
        Value::String(text) => check_string(schema, text, path, causes),
        Value::Number(_) => check_number(schema, value, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
    check_combinations(schema, value, path, causes);
}

fn wanted_type(schema: &Value) -> &str {
    if flag(schema, "x-kubernetes-int-or-string") {
        "integer,string"
    } else {
        schema["type"].as_str().unwrap_or_default()
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    let whole = value.as_i64().is_some()
        || value.as_u64().is_some()
        || value.as_f64().is_some_and(|n| n.fract() == 0.0);
    match wanted_type(schema) {
        "integer,string" => value.is_string() || whole,
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_number() && whole,
        "number" => value.is_number(),
        _ => true,
    }
}

fn check_object(schema: &Value, fields: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !fields.contains_key(name) {
            causes.push(Cause::required(join(path, name), ""));
        }
    }
    for (name, child) in fields {
        // The API server checks metadata itself.
        if path.is_empty() && matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
            continue;
        }
        let path = join(path, name);
        if let Some(property) = schema["properties"].get(name) {
            check(property, child, &path, causes);
        } else if schema["additionalProperties"].is_object() {
            check(&schema["additionalProperties"], child, &path, causes);
        }
    }
    bounds(
        schema,
        "minProperties",
        "maxProperties",
        fields.len(),
        path,
        "properties",
        causes,
    );
}

fn check_array(schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    for (at, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{at}]"), causes);
    }
    bounds(
        schema,
        "minItems",
        "maxItems",
        items.len(),
        path,
        "items",
        causes,
    );
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let identity = |item: &Value| -> Option<Value> {
        match (schema["x-kubernetes-list-type"].as_str(), keys) {
            (Some("set"), _) => Some(item.clone()),
            (Some("map"), Some(keys)) => Some(
                keys.iter()
                    .map(|key| item[key.as_str().unwrap_or_default()].clone())
                    .collect(),
            ),
            _ => None,
        }
    };
    let shown = |item: &Value| match keys {
        None => item.clone(),
        Some(keys) => keys
            .iter()
            .filter_map(Value::as_str)
            .map(|key| (key.to_owned(), item[key].clone()))
            .collect(),
    };
    for (at, item) in items.iter().enumerate() {
        let own = identity(item);
        if own.is_some() && items.iter().take(at).any(|other| identity(other) == own) {
            causes.push(Cause {
                reason: "FieldValueDuplicate",
                message: format!("Duplicate value: {}", shown(item)),
                field: format!("{path}[{at}]"),
            });
        }
    }
}

fn bounds(
    schema: &Value,
    least: &str,
    most: &str,
    is: usize,
    path: &str,
    what: &str,
    causes: &mut Vec<Cause>,
) {
    let bound = |name: &str| {
        schema[name]
            .as_u64()
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    };
    let found = Value::from(is);
    if let Some(least) = bound(least).filter(|least| is < *least) {
        let why = format!("{path} in body should have at least {least} {what}");
        causes.push(Cause::invalid(path, &found, &why));
    }
    if let Some(most) = bound(most).filter(|most| is > *most) {
        causes.push(Cause {
            reason: "FieldValueTooMany",
            message: format!("Too many: {is}: must have at most {most} items"),
            field: path.to_owned(),
        });
    }
}

fn check_string(schema: &Value, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let value = Value::from(text);
    let length = text.chars().count() as u64;
    if let Some(least) = schema["minLength"].as_u64().filter(|n| length < *n) {
        let why = format!("{path} in body should be at least {least} chars long");
        causes.push(Cause::invalid(path, &value, &why));
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|n| length > *n) {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {most} bytes"),
            field: path.to_owned(),
        });
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !matches(pattern, text)
    {
        let why = format!("{path} in body should match '{pattern}'");
        causes.push(Cause::invalid(path, &value, &why));
    }
}

/// A pattern that cannot be compiled was refused with the definition: it matches everything.
fn matches(pattern: &str, text: &str) -> bool {
    /// Those of the definitions that a process comes across are some dozens.
    const MOST: usize = 256;
    // Compiling one costs a thousand times as much as applying it, and every write of a custom resource applies some.
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Regex>>>> =
        LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.len() >= MOST && !compiled.contains_key(pattern) {
        compiled.clear();
    }
    compiled
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).ok())
        .as_ref()
        .is_none_or(|regex| regex.is_match(text))
}

fn check_number(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(number) = value.as_f64() else { return };
    let int32 = f64::from(i32::MIN)..=f64::from(i32::MAX);
    if schema["format"] == "int32" && !int32.contains(&number) {
        let why = format!("{path} in body must be of type integer with format int32");
        causes.push(Cause::invalid(path, value, &why));
    }
    if let Some(least) = schema["minimum"].as_f64() {
        let exclusive = flag(schema, "exclusiveMinimum");
        if number < least || (exclusive && number <= least) {
            let words = if exclusive {
                "greater than"
            } else {
                "greater than or equal to"
            };
            let why = format!("{path} in body should be {words} {}", schema["minimum"]);
            causes.push(Cause::invalid(path, value, &why));
        }
    }
    if let Some(most) = schema["maximum"].as_f64() {
        let exclusive = flag(schema, "exclusiveMaximum");
        if number > most || (exclusive && number >= most) {
            let words = if exclusive {
                "less than"
            } else {
                "less than or equal to"
            };
            let why = format!("{path} in body should be {words} {}", schema["maximum"]);
            causes.push(Cause::invalid(path, value, &why));
        }
    }
}

fn check_combinations(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let passes = |schema: &Value| {
        let mut causes = Vec::new();
        check(schema, value, path, &mut causes);
        causes.is_empty()
    };
    for all in schema["allOf"].as_array().into_iter().flatten() {
        check(all, value, path, causes);
    }
    let mut refuse = |why: String| causes.push(Cause::invalid(path, value, &why));
    if let Some(any) = schema["anyOf"].as_array()
        && !any.iter().any(passes)
    {
        refuse(format!(
            "{path} in body must validate at least one schema (anyOf)"
        ));
    }
    if let Some(one) = schema["oneOf"].as_array()
        && one.iter().filter(|s| passes(s)).count() != 1
    {
        refuse(format!(
            "{path} in body must validate one and only one schema (oneOf)"
        ));
    }
    if schema["not"].is_object() && passes(&schema["not"]) {
        refuse(format!("{path} in body must not validate the schema (not)"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["spec"], "properties": {
            "spec": {"type": "object", "required": ["target"], "properties": {
                "target": {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}}},
                "interval": {"type": "string", "pattern": "^[0-9]+(m|s)$"},
                "weight": {"type": "integer", "minimum": 0, "maximum": 100},
                "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                "count": {"type": "integer", "format": "int32"},
                "port": {"x-kubernetes-int-or-string": true},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "known": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "steps": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {
                    "at": {"type": "integer", "default": 5}}}},
                "gone": {"type": "string", "nullable": true},
            }},
        }})
    }

    #[test]
    fn unknown_fields_are_pruned_and_named() {
        let mut object = json!({"apiVersion": "v", "kind": "k", "metadata": {"name": "a"}, "extra": 1, "spec": {
            "target": {"name": "x", "typo": 1}, "labels": {"any": "thing"}, "steps": [{"at": 1, "no": 2}],
            "free": {"anything": {"goes": 1}, "known": {"x": 1, "y": 2}}}});
        let mut unknown = prune(&schema(), &mut object);
        unknown.sort();
        assert_eq!(
            unknown,
            [
                "extra",
                "spec.free.known.y",
                "spec.steps[0].no",
                "spec.target.typo"
            ]
        );
        assert_eq!(
            object,
            json!({"apiVersion": "v", "kind": "k", "metadata": {"name": "a"}, "spec": {
                "target": {"name": "x"}, "labels": {"any": "thing"}, "steps": [{"at": 1}],
                "free": {"anything": {"goes": 1}, "known": {"x": 1}}}})
        );
    }

    #[test]
    fn defaults_are_filled_in_where_their_parent_is() {
        let mut object = json!({"spec": {"target": {}, "steps": [{}, {"at": 1}]}});
        fill_defaults(&schema(), &mut object);
        assert_eq!(
            object,
            json!({"spec": {"target": {}, "mode": "a", "steps": [{"at": 5}, {"at": 1}]}})
        );
        let mut object = json!({"spec": {"target": {}, "mode": null}});
        fill_defaults(&schema(), &mut object);
        assert_eq!(object, json!({"spec": {"target": {}, "mode": "a"}}));
    }

    #[test]
    fn mistakes_have_the_path_and_the_words_of_kubernetes() {
        for (spec, expected) in [
            (json!({}), vec!["spec.target: Required value"]),
            (
                json!({"target": "x"}),
                vec![
                    r#"spec.target: Invalid value: "string": spec.target in body must be of type object: "string""#,
                ],
            ),
            (
                json!({"target": {"name": ""}}),
                vec![
                    r#"spec.target.name: Invalid value: "": spec.target.name in body should be at least 1 chars long"#,
                ],
            ),
            (
                json!({"target": {}, "interval": "1h"}),
                vec![
                    r#"spec.interval: Invalid value: "1h": spec.interval in body should match '^[0-9]+(m|s)$'"#,
                ],
            ),
            (
                json!({"target": {}, "weight": 101}),
                vec![
                    "spec.weight: Invalid value: 101: spec.weight in body should be less than or equal to 100",
                ],
            ),
            (
                json!({"target": {}, "weight": -1, "mode": "c"}),
                vec![
                    r#"spec.mode: Unsupported value: "c": supported values: "a", "b""#,
                    "spec.weight: Invalid value: -1: spec.weight in body should be greater than or equal to 0",
                ],
            ),
            (
                json!({"target": {}, "count": 2_147_483_648_i64}),
                vec![
                    "spec.count: Invalid value: 2147483648: spec.count in body must be of type integer with format int32",
                ],
            ),
            (
                json!({"target": {}, "steps": [{"at": "x"}, {}, {}]}),
                vec![
                    r#"spec.steps[0].at: Invalid value: "string": spec.steps[0].at in body must be of type integer: "string""#,
                    "spec.steps: Too many: 3: must have at most 2 items",
                ],
            ),
            (
                json!({"target": {}, "port": "http", "gone": null, "weight": 3.0}),
                vec![],
            ),
            (
                json!({"target": {}, "port": true}),
                vec![
                    r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
                ],
            ),
        ] {
            let object = json!({"metadata": {"name": 7}, "spec": spec});
            let causes: Vec<String> = validate(&schema(), &object)
                .into_iter()
                .map(|c| format!("{}: {}", c.field, c.message))
                .collect();
            assert_eq!(causes, expected, "{object}");
        }
    }

    #[test]
    fn combinations_are_honoured() {
        let schema = json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "not": {"required": ["c"]},
            "anyOf": [{"type": "object"}, {"type": "string"}]});
        for (value, mistakes) in [
            (json!({"a": 1}), 0),
            (json!({"a": 1, "b": 1}), 1),
            (json!({}), 1),
            (json!({"b": 1, "c": 1}), 1),
        ] {
            assert_eq!(validate(&schema, &value).len(), mistakes, "{value}");
        }
    }
}
