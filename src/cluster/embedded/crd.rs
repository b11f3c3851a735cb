//! Custom resource definitions: what they add to what is served.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    fields::shape::Shape,
    kinds::{Custom, Scale, Served, storage_key},
    ownership,
    state::State,
    status::Cause,
    store::{ChangeKind, ResourceKey},
    write::Writer,
};
use crate::api::objects::{Object, ObjectExt};

/// Where the objects of a definition are stored.
pub(super) fn key(definition: &Value) -> ResourceKey {
    storage_key(
        definition.str_at("/spec/group").unwrap_or_default(),
        definition.str_at("/spec/names/plural").unwrap_or_default(),
    )
}

/// Defaults of a definition.
pub(super) fn fill_defaults(definition: &mut Value) {
    let Some(kind) = definition.str_at("/spec/names/kind").map(str::to_owned) else {
        return;
    };
    let names = &mut definition["spec"]["names"];
    if names["singular"].is_null() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if names["listKind"].is_null() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    if definition["spec"]["conversion"].is_null() {
        definition["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// The mistakes of a definition.
pub(super) fn validate(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for path in ["/spec/group", "/spec/names/plural", "/spec/names/kind"] {
        if definition.str_at(path).is_none_or(str::is_empty) {
            causes.push(Cause::required(
                path.trim_start_matches('/').replace('/', "."),
                "",
            ));
        }
    }
    let key = key(definition);
    let name = format!("{}.{}", key.plural, key.group);
    if causes.is_empty() && definition.name() != name {
        let why = format!("must be spec.names.plural+\".\"+spec.group: {name}");
        causes.push(Cause::invalid(
            "metadata.name",
            &json!(definition.name()),
            &why,
        ));
    }
    let scope = &definition["spec"]["scope"];
    if !matches!(scope.as_str(), Some("Namespaced" | "Cluster")) {
        let allowed = [json!("Cluster"), json!("Namespaced")];
        causes.push(Cause::unsupported("spec.scope", scope, &allowed));
    }
    let versions = definition.array_at("/spec/versions");
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid(
            "spec.versions",
            &definition["spec"]["versions"],
            why,
        ));
    }
    for (at, version) in versions.iter().enumerate() {
        let field = format!("spec.versions[{at}]");
        if version["name"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(format!("{field}.name"), ""));
        }
        let field = format!("{field}.schema.openAPIV3Schema");
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_object() {
            check_patterns(schema, &field, &mut causes);
        } else {
            causes.push(Cause::required(field, "schemas are required"));
        }
    }
    causes
}

/// Patterns have to compile: later they are only applied.
fn check_patterns(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    match schema {
        Value::Object(fields) => {
            for (name, child) in fields {
                let path = format!("{path}.{name}");
                if let (Some(pattern), "pattern") = (child.as_str(), name.as_str())
                    && let Err(error) = regex::Regex::new(pattern)
                {
                    let why = format!("must be a valid regular expression, but isn't: {error}");
                    causes.push(Cause::invalid(path, child, &why));
                } else {
                    check_patterns(child, &path, causes);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                check_patterns(item, &format!("{path}[{at}]"), causes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The definition was written: serve what it says from now on, and say so in its status, as the controller of definitions
/// does.
pub(super) fn establish(state: &mut State, served: &Served, definition: &Object, now: &str) {
    let key = key(definition);
    state.catalog.replace_custom(&key, versions_of(definition));
    let wanted = status_of(definition, now);
    if definition.get("status") == Some(&wanted) {
        return;
    }
    let mut established = (**definition).clone();
    established["status"] = wanted;
    let writer = Writer::of("kube-apiserver").on("status");
    let entries = ownership::updated(served, Some(definition), &established, None, &writer, now);
    ownership::set_entries(&mut established, entries);
    state.put(served, ChangeKind::Modified, established);
}

fn status_of(definition: &Value, now: &str) -> Value {
    let condition = |kind: &str, reason: &str, message: &str| {
        let since = definition
            .array_at("/status/conditions")
            .iter()
            .find(|c| c["type"] == kind)
            .map_or(json!(now), |c| c["lastTransitionTime"].clone());
        json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since})
    };
    let stored: Vec<&Value> = definition
        .array_at("/spec/versions")
        .iter()
        .filter(|v| v["storage"] == true)
        .map(|v| &v["name"])
        .collect();
    json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored,
    })
}

/// The rows of the served versions.
fn versions_of(definition: &Value) -> Vec<Served> {
    let names = &definition["spec"]["names"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    definition
        .array_at("/spec/versions")
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| Served {
            group: text(&definition["spec"]["group"]),
            version: text(&version["name"]),
            kind: text(&names["kind"]),
            plural: text(&names["plural"]),
            singular: text(&names["singular"]),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: definition["spec"]["scope"] == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            scale: scale_of(&version["subresources"]["scale"]),
            generation: true,
            custom: Some(Arc::new(Custom {
                schema: version["schema"]["openAPIV3Schema"].clone(),
                shape: Shape::of_schema(&version["schema"]["openAPIV3Schema"]),
                columns: version.array_at("/additionalPrinterColumns").to_vec(),
            })),
        })
        .collect()
}

fn scale_of(scale: &Value) -> Option<Scale> {
    // `.spec.replicas` is the only form of path that is allowed there.
    let pointer = |name: &str| scale[name].as_str().map(|path| path.replace('.', "/"));
    Some(Scale {
        spec_replicas: pointer("specReplicasPath")?,
        status_replicas: pointer("statusReplicasPath")?,
        selector: pointer("labelSelectorPath"),
    })
}
