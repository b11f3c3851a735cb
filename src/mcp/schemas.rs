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

/// The routes of all tools, with schemas that every known client takes.
pub(in crate::mcp) fn router() -> ToolRouter<McpServer> {
    let mut router = McpServer::get_status_router()
        + McpServer::list_clusters_router()
        + McpServer::promote_router()
        + McpServer::rollback_router()
        + McpServer::start_canary_router();
    for route in router.map.values_mut() {
        route.attr.input_schema = plain(&route.attr.input_schema);
        route.attr.output_schema = route.attr.output_schema.as_ref().map(plain);
    }
    router
}

/// The same schema without what some clients warn of, refuse or pay for: formats of numbers, `null` beside a type (an absent value is
/// absent here, never null), one schema for each constant of an enumeration, and the dialect, which is MCP's default.
fn plain(schema: &Arc<JsonObject>) -> Arc<JsonObject> {
    let mut value = Value::Object(schema.as_ref().clone());
    simplify(&mut value);
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
