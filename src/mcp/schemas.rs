//! The tools as `tools/list` shows them, and the files of `tool-schemas/`, which are made from them.

use std::{fs, io, path::Path, sync::Arc};

use rmcp::{
    handler::server::router::tool::ToolRouter,
    model::{JsonObject, Tool},
};
use serde_json::Value;

use super::McpServer;

/// The names of the tools, in the order of `tools/list`.
pub const NAMES: [&str; 5] = [
    "get_status",
    "list_clusters",
    "promote",
    "rollback",
    "start_canary",
];

/// The tools as clients see them, sorted by name. Needs no cluster.
#[must_use]
pub fn tools() -> Vec<Tool> {
    router().list_all()
}

/// One file for each tool: its name, and its definition as indented JSON.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    tools()
        .into_iter()
        .map(|tool| {
            (
                format!("{}.json", tool.name),
                format!("{:#}\n", serde_json::json!(tool)),
            )
        })
        .collect()
}

/// Writes the files into `directory`, which is made if need be.
///
/// # Errors
/// The directory or a file cannot be written; the error names it.
pub fn write(directory: &Path) -> io::Result<()> {
    let named = |error: io::Error, path: &Path| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    };
    fs::create_dir_all(directory).map_err(|error| named(error, directory))?;
    for (name, text) in files() {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| named(error, &path))?;
    }
    Ok(())
}

/// All definitions as one JSON array, for `canary-mcp schemas` without `--out`.
#[must_use]
pub fn print() -> String {
    format!("{:#}", serde_json::json!(tools()))
}

/// Fields of results whose names do not say it all. Every client pays for every word of every schema in each conversation.
const EXPLAINED: [&str; 21] = [
    "cursor",
    "elapsed_seconds",
    "error",
    "estimated_end",
    "failed_checks",
    "how",
    "installed",
    "led_by",
    "next",
    "next_check_at",
    "observed",
    "outcome",
    "prometheus",
    "reason",
    "rollout",
    "rows",
    "run",
    "since",
    "step",
    "summary",
    "written",
];

/// The routes of all tools, with schemas that every known client takes. A rollout's fields are explained where it is shown in full.
pub(in crate::mcp) fn router() -> ToolRouter<McpServer> {
    let mut router = McpServer::get_status_router()
        + McpServer::list_clusters_router()
        + McpServer::promote_router()
        + McpServer::rollback_router()
        + McpServer::start_canary_router();
    for route in router.map.values_mut() {
        let explained: &[&str] = match route.attr.name.as_ref() {
            "get_status" | "list_clusters" => &EXPLAINED,
            _ => &["outcome", "plan"],
        };
        route.attr.input_schema = plain(&route.attr.input_schema, None);
        route.attr.output_schema = route
            .attr
            .output_schema
            .as_ref()
            .map(|schema| plain(schema, Some(explained)));
    }
    router
}

/// The same schema without what some clients warn of, refuse or pay for: formats of numbers, `null` beside a type (an absent value is
/// absent here, never null), one schema for each constant of an enumeration, and the dialect, which is MCP's default.
///
/// With `explained`, only fields of these names keep their description.
fn plain(schema: &Arc<JsonObject>, explained: Option<&[&str]>) -> Arc<JsonObject> {
    let mut value = Value::Object(schema.as_ref().clone());
    simplify(&mut value);
    if let Some(explained) = explained {
        shorten(&mut value, explained);
    }
    match value {
        Value::Object(mut object) => {
            object.remove("$schema");
            Arc::new(object)
        }
        // `simplify` turns an object into an object.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Arc::clone(schema)
        }
    }
}

fn simplify(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    drop_null_type(object);
    drop_null_branch(object);
    merge_constants(object);
    let number = matches!(
        object.get("type").and_then(Value::as_str),
        Some("integer" | "number")
    );
    if number {
        object.remove("format");
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    for key in ["properties", "$defs"] {
        if let Some(Value::Object(named)) = object.get_mut(key) {
            named.values_mut().for_each(simplify);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            simplify(inner);
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(branches)) = object.get_mut(key) {
            branches.iter_mut().for_each(simplify);
        }
    }
}

/// Drops the descriptions of all types and of the fields that are not `explained`.
fn shorten(schema: &mut Value, explained: &[&str]) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("description");
    if let Some(Value::Object(types)) = object.get_mut("$defs") {
        for kind in types.values_mut() {
            shorten(kind, explained);
        }
    }
    if let Some(Value::Object(fields)) = object.get_mut("properties") {
        for (name, field) in fields {
            if let (false, Some(field)) =
                (explained.contains(&name.as_str()), field.as_object_mut())
            {
                field.remove("description");
            }
        }
    }
}

/// `type: [X, null]` is `type: X`.
fn drop_null_type(object: &mut JsonObject) {
    let Some(Value::Array(types)) = object.get("type") else {
        return;
    };
    let mut types: Vec<Value> = types
        .iter()
        .filter(|name| *name != "null")
        .cloned()
        .collect();
    if types.len() == 1 {
        object.insert("type".to_owned(), types.remove(0));
    }
}

/// `anyOf: [X, null]` is X.
fn drop_null_branch(object: &mut JsonObject) {
    let Some(Value::Array(branches)) = object.get("anyOf") else {
        return;
    };
    let kept: Vec<&Value> = branches
        .iter()
        .filter(|branch| branch.get("type").is_none_or(|name| name != "null"))
        .collect();
    if let [Value::Object(only)] = kept[..] {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

/// `oneOf` of string constants is an `enum`.
fn merge_constants(object: &mut JsonObject) {
    let Some(Value::Array(branches)) = object.get("oneOf") else {
        return;
    };
    let constants: Option<Vec<Value>> = branches
        .iter()
        .map(|branch| match branch.get("const") {
            Some(constant @ Value::String(_)) => Some(vec![constant.clone()]),
            Some(_) => None,
            None => branch.get("enum").and_then(Value::as_array).cloned(),
        })
        .collect::<Option<Vec<_>>>()
        .map(|lists| lists.concat());
    if let Some(constants) = constants {
        object.remove("oneOf");
        object.insert("type".to_owned(), Value::from("string"));
        object.insert("enum".to_owned(), Value::Array(constants));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_made_plain() {
        let mut schema = json!({
            "type": "object",
            "properties": {
                "format": {"type": ["integer", "null"], "format": "uint32", "default": null},
                "type": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}], "description": "kept"},
                "phase": {"oneOf": [{"type": "string", "const": "A", "description": "x"}, {"type": "string", "enum": ["B", "C"]}]},
                "text": {"type": "string", "format": "uri"},
                "list": {"type": "array", "items": {"type": "number", "format": "double"}}
            }
        });
        simplify(&mut schema);
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "format": {"type": "integer"},
                    "type": {"$ref": "#/$defs/T", "description": "kept"},
                    "phase": {"type": "string", "enum": ["A", "B", "C"]},
                    "text": {"type": "string", "format": "uri"},
                    "list": {"type": "array", "items": {"type": "number"}}
                }
            })
        );
    }

    #[test]
    fn only_what_is_explained_keeps_its_description() {
        let mut schema = json!({
            "description": "x",
            "properties": {"cursor": {"description": "kept"}, "name": {"description": "x"}},
            "$defs": {"T": {"description": "x", "properties": {"how": {"description": "kept"}}}}
        });
        shorten(&mut schema, &["cursor", "how"]);
        assert_eq!(
            schema,
            json!({
                "properties": {"cursor": {"description": "kept"}, "name": {}},
                "$defs": {"T": {"properties": {"how": {"description": "kept"}}}}
            })
        );
    }

    #[test]
    fn the_names_are_those_of_the_routes() {
        assert_eq!(
            tools()
                .iter()
                .map(|tool| tool.name.as_ref())
                .collect::<Vec<_>>(),
            NAMES
        );
    }
}
