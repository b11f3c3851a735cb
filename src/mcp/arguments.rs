//! Arguments against a tool's input schema, before the tool sees them: which fields there are, which are needed, and of what type. What a
//! value must be beyond its type is each tool's own to say.

use rmcp::model::JsonObject;
use serde_json::Value;

/// Everything that is wrong with the arguments, each mistake beginning with its field's name; `None` when nothing is. An argument that is
/// null counts as absent, as serde has it.
pub(in crate::mcp) fn mistakes(
    schema: &JsonObject,
    arguments: Option<&JsonObject>,
) -> Option<String> {
    let empty = JsonObject::new();
    let (arguments, fields) = (
        arguments.unwrap_or(&empty),
        schema
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&empty),
    );
    let known: Vec<&str> = fields.keys().map(String::as_str).collect();
    let mut wrong: Vec<String> = Vec::new();
    for (name, value) in arguments {
        match fields.get(name) {
            None => wrong.push(format!(
                "{name}: there is no such field; there are {}",
                known.join(", ")
            )),
            Some(field) => wrong.extend(mistyped(name, field, value)),
        }
    }
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for name in required.filter_map(Value::as_str) {
        if arguments.get(name).is_none_or(Value::is_null) {
            wrong.push(format!("{name}: is needed"));
        }
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

fn mistyped(name: &str, field: &Value, value: &Value) -> Option<String> {
    let (fits, wanted) = match field["type"].as_str()? {
        "string" => (value.is_string(), "a text"),
        "integer" => (value.is_i64() || value.is_u64(), "a whole number"),
        "boolean" => (value.is_boolean(), "true or false"),
        _ => return None,
    };
    (!fits && !value.is_null()).then(|| format!("{name}: {wanted} is needed, not {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::schemas;

    #[test]
    fn each_mistake_begins_with_its_field() {
        let tools = schemas::tools();
        let schema = |name: &str| &tools.iter().find(|t| t.name == name).unwrap().input_schema;
        let table = [
            ("get_status", json!({}), None),
            (
                "get_status",
                json!({"cluster": null, "wait_seconds": 3}),
                None,
            ),
            (
                "get_status",
                json!({"wait_seconds": 1.5}),
                Some("wait_seconds: a whole number is needed, not 1.5"),
            ),
            (
                "list_clusters",
                json!({"selector": 5}),
                Some("selector: a text is needed, not 5"),
            ),
            (
                "promote",
                json!({"cluster": "a", "namespace": "b", "name": "c", "skip_analysis": "yes"}),
                Some("skip_analysis: true or false is needed, not \"yes\""),
            ),
            (
                "rollback",
                json!({"cluster": "a", "nmae": "c"}),
                Some(
                    "nmae: there is no such field; there are cluster, name, namespace, reason, skip_analysis, to_revision; namespace: is needed; name: is needed",
                ),
            ),
        ];
        for (tool, arguments, expected) in table {
            assert_eq!(
                mistakes(schema(tool), arguments.as_object()).as_deref(),
                expected,
                "{tool} {arguments}"
            );
        }
    }
}
