//! The README's list of every field, held against the definitions.

use std::collections::BTreeSet;

use serde_json::Value;

const README: &str = include_str!("../../../README.md");
const DEFINITIONS: [(&str, &str); 3] = [
    ("Canary", include_str!("../../../src/api/crds/canary.yaml")),
    (
        "MetricTemplate",
        include_str!("../../../src/api/crds/metric_template.yaml"),
    ),
    (
        "AlertProvider",
        include_str!("../../../src/api/crds/alert_provider.yaml"),
    ),
];
const VERDICTS: [&str; 4] = ["same", "fixed", "wider", "not yet"];

/// The fields below `at` that have none below themselves, as the README writes them.
fn fields(schema: &Value, at: &str, all: &mut BTreeSet<String>) {
    let (within, at) = if schema["type"] == "array" && schema["items"]["properties"].is_object() {
        (&schema["items"], format!("{at}[]"))
    } else {
        (schema, at.to_owned())
    };
    match within["properties"].as_object() {
        Some(properties) => properties
            .iter()
            .for_each(|(name, below)| fields(below, &format!("{at}.{name}"), all)),
        None => {
            all.insert(at);
        }
    }
}

/// The fields that a definition has in its spec and status.
fn defined(definition: &str) -> BTreeSet<String> {
    let definition: Value = serde_saphyr::from_str(definition).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut all = BTreeSet::new();
    for part in ["spec", "status"] {
        fields(&schema[part], part, &mut all);
    }
    all
}

/// `a.{b, c}` is `a.b` and `a.c`.
fn spread(cell: &str) -> Vec<String> {
    match cell.split_once('{') {
        Some((before, rest)) => {
            let names = rest.strip_suffix('}').unwrap().split(", ");
            names.map(|name| format!("{before}{name}")).collect()
        }
        None => vec![cell.to_owned()],
    }
}

/// The fields that the README names of a kind, in the tables under its name.
fn listed(kind: &str) -> Vec<String> {
    let (_, list) = README.split_once("### Every field").unwrap();
    let (_, of_kind) = list.split_once(&format!("\n**{kind}**\n")).unwrap();
    let of_kind = of_kind.split("\n**").next().unwrap();
    let mut all = Vec::new();
    for row in of_kind.lines().take_while(|line| !line.starts_with('#')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", cell, verdict, _, ""] = cells.as_slice() else {
            continue;
        };
        let Some(cell) = cell.strip_prefix('`').and_then(|c| c.strip_suffix('`')) else {
            continue;
        };
        // A table's head.
        if !cell.contains('.') || verdict.is_empty() {
            continue;
        }
        assert!(VERDICTS.contains(verdict), "{row}");
        all.extend(spread(cell));
    }
    all
}

#[test]
fn the_readme_says_of_every_field_what_is_done_with_it() {
    for (kind, definition) in DEFINITIONS {
        let defined = defined(definition);
        let listed = listed(kind);
        let once: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(
            once.len(),
            listed.len(),
            "{kind}: a field stands twice: {listed:?}"
        );
        let missing: Vec<_> = defined.difference(&once).collect();
        assert_eq!(missing, Vec::<&String>::new(), "{kind}: not in the README");
        let unknown: Vec<_> = once.difference(&defined).collect();
        assert_eq!(unknown, Vec::<&String>::new(), "{kind}: in the README only");
    }
}

#[test]
fn what_the_readme_calls_a_field_is_spread() {
    assert_eq!(spread("spec.a[].{b, c}"), ["spec.a[].b", "spec.a[].c"]);
    assert_eq!(spread("spec.a"), ["spec.a"]);
}
