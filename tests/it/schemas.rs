//! The tools as clients see them: the committed files, and what some clients trip over.

use std::{collections::BTreeMap, fs, path::Path};

use canary_mcp::mcp::schemas;
use serde_json::Value;

/// `UPDATE_SCHEMA=1 cargo test schemas` rewrites the files.
#[test]
fn the_committed_schemas_are_those_of_the_tools() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tool-schemas");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        schemas::write(&directory).unwrap();
    }
    let committed: BTreeMap<String, String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                fs::read_to_string(entry.path()).unwrap(),
            )
        })
        .collect();
    let made: BTreeMap<String, String> = schemas::files().into_iter().collect();
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        committed.keys().collect::<Vec<_>>()
    );
    for (name, text) in &made {
        assert_eq!(
            text, &committed[name],
            "{name} has drifted: UPDATE_SCHEMA=1 cargo test --test it schemas rewrites it"
        );
    }
}

/// Calls `visit` with every object in `value`.
fn walk(value: &Value, visit: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|inner| walk(inner, visit));
        }
        Value::Array(list) => list.iter().for_each(|inner| walk(inner, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn no_number_has_a_format_and_no_type_is_a_list() {
    for tool in schemas::tools() {
        let schemas = [
            Some(tool.input_schema.as_ref().clone()),
            tool.output_schema.as_deref().cloned(),
        ];
        for schema in schemas.into_iter().flatten() {
            walk(&Value::Object(schema), &mut |object| {
                let name = &tool.name;
                assert!(
                    !object.get("format").is_some_and(Value::is_string),
                    "{name}: {object:?}"
                );
                assert!(
                    !object.get("type").is_some_and(Value::is_array),
                    "{name}: {object:?}"
                );
                assert_ne!(
                    object.get("type"),
                    Some(&Value::from("null")),
                    "{name}: {object:?}"
                );
            });
        }
    }
}

#[test]
fn every_tool_says_what_it_does() {
    let hints: Vec<_> = schemas::tools()
        .into_iter()
        .map(|tool| {
            assert!(
                tool.title.is_some() && tool.description.is_some(),
                "{}",
                tool.name
            );
            assert!(
                tool.output_schema
                    .is_some_and(|schema| schema["type"] == "object"),
                "{}",
                tool.name
            );
            assert_eq!(
                tool.input_schema["additionalProperties"],
                Value::Bool(false),
                "{}",
                tool.name
            );
            let hints = tool.annotations.unwrap();
            (
                tool.name.to_string(),
                hints.read_only_hint,
                hints.destructive_hint,
                hints.idempotent_hint,
                hints.open_world_hint,
            )
        })
        .collect();
    let no = Some(false);
    let yes = Some(true);
    assert_eq!(
        hints,
        [
            ("get_status".to_owned(), yes, no, yes, no),
            ("list_clusters".to_owned(), yes, no, yes, no),
            ("promote".to_owned(), no, yes, no, no),
            ("rollback".to_owned(), no, yes, yes, no),
            ("start_canary".to_owned(), no, yes, yes, no),
        ]
    );
}

#[test]
fn the_arguments_are_those_of_the_manual() {
    let arguments: BTreeMap<String, (Vec<String>, Vec<String>)> = schemas::tools()
        .into_iter()
        .map(|tool| {
            let properties = tool.input_schema["properties"].as_object().unwrap();
            let required = tool
                .input_schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect::<Vec<_>>();
            let optional = properties
                .keys()
                .filter(|name| !required.contains(name))
                .cloned()
                .collect();
            (tool.name.to_string(), (required, optional))
        })
        .collect();
    let expected = [
        (
            "get_status",
            &[][..],
            &[
                "cluster",
                "name",
                "namespace",
                "selector",
                "since",
                "wait_seconds",
            ][..],
        ),
        ("list_clusters", &[], &["selector"]),
        (
            "promote",
            &["cluster", "namespace", "name"],
            &["reason", "skip_analysis"],
        ),
        (
            "rollback",
            &["cluster", "namespace", "name"],
            &["reason", "skip_analysis", "to_revision"],
        ),
        (
            "start_canary",
            &["cluster", "namespace", "name"],
            &[
                "container",
                "dry_run",
                "expect_revision",
                "image",
                "retry",
                "wait_seconds",
            ],
        ),
    ];
    for (tool, required, optional) in expected {
        let (has_required, has_optional) = &arguments[tool];
        assert_eq!(has_required, required, "{tool}");
        assert_eq!(has_optional, optional, "{tool}");
    }
}
