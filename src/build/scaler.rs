//! The KEDA `ScaledObject`s of both copies: the primary's is a whole copy, the target's is paused and resumed.

use serde_json::{Map, Value, json};

use super::{Stamp, copied, metadata};
use crate::{
    api::{
        names,
        objects::{ObjectExt, Objects, SCALED_OBJECT, Write},
    },
    decide::plan::{Plan, Scaler},
};

/// Creates the primary's autoscaler, if there is none.
///
/// The whole object is copied raw. What is of the primary itself is rewritten: its target, its replicas
/// (`primaryScalerReplicas`), its queries (see [`queries`]), its HPA's name. A pause is never copied.
#[must_use]
pub fn create_primary(plan: &Plan, objects: &Objects, stamp: &Stamp) -> Vec<Write> {
    let (Some(scaler), Some(source), None) =
        (&plan.scaler, &objects.scaler, &objects.primary_scaler)
    else {
        return Vec::new();
    };
    let from = &source["metadata"];
    vec![Write::Create(json!({
        "apiVersion": SCALED_OBJECT.api_version(),
        "kind": SCALED_OBJECT.kind,
        "metadata": metadata(
            plan, objects, stamp, &format!("{}-primary", scaler.name),
            copied(&from["labels"]), copied(&from["annotations"]),
        ),
        "spec": primary_spec(plan, scaler, source),
    }))]
}

/// Makes the primary's autoscaler follow the target's.
#[must_use]
pub fn sync_primary(plan: &Plan, objects: &Objects) -> Vec<Write> {
    let (Some(scaler), Some(source), Some(primary)) =
        (&plan.scaler, &objects.scaler, &objects.primary_scaler)
    else {
        return Vec::new();
    };
    let wanted = primary_spec(plan, scaler, source);
    if primary["spec"] == wanted {
        return Vec::new();
    }
    vec![Write::Patch {
        from: primary.clone(),
        ops: vec![json!({"op": "replace", "path": "/spec", "value": wanted})],
    }]
}

/// Pauses the target's autoscaler at zero.
#[must_use]
pub fn pause(plan: &Plan, objects: &Objects) -> Vec<Write> {
    annotate(plan, objects, Some("0"))
}

/// Lets the target's autoscaler work again.
#[must_use]
pub fn resume(plan: &Plan, objects: &Objects) -> Vec<Write> {
    annotate(plan, objects, None)
}

/// Whether the target's autoscaler is paused at zero; `None` when the plan has none or it is not there.
#[must_use]
pub fn paused(plan: &Plan, objects: &Objects) -> Option<bool> {
    plan.scaler.as_ref()?;
    let scaler = objects.scaler.as_ref()?;
    Some(scaler.annotation(names::PAUSED_REPLICAS) == Some("0"))
}

/// What each trigger of the source is queried with on the primary's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queries {
    /// By trigger: the new query, or `None` where the trigger stays as it is.
    Each(Vec<Option<String>>),
    /// Keys of `primaryScalerQueries` that name no trigger.
    Unmatched(Vec<String>),
}

/// Matches `primaryScalerQueries` with the triggers by name.
///
/// A single key and a single trigger without a name belong together, which Flagger leaves undone without a word. Without any key,
/// Flagger's rule: the target's name becomes the primary's in each query. Where Flagger replaces once, anywhere, whole words are replaced
/// here, all of them, so that a metric's own name stays.
#[must_use]
pub fn queries(plan: &Plan, scaler: &Scaler, source: &Value) -> Queries {
    let triggers = source.array_at("/spec/triggers");
    let keys = &scaler.primary_queries;
    if keys.is_empty() {
        return Queries::Each(
            triggers
                .iter()
                .map(|trigger| {
                    let query = trigger.str_at("/metadata/query")?;
                    let renamed = rename(query, &plan.target);
                    (renamed != query).then_some(renamed)
                })
                .collect(),
        );
    }
    if let ([(_, query)], [trigger]) = (keys.as_slice(), triggers)
        && trigger.str_at("/name").unwrap_or_default().is_empty()
    {
        return Queries::Each(vec![Some(query.clone())]);
    }
    let named = |trigger: &Value, key: &str| trigger.str_at("/name") == Some(key);
    let unmatched: Vec<String> = keys
        .iter()
        .filter(|(key, _)| !triggers.iter().any(|trigger| named(trigger, key)))
        .map(|(key, _)| key.clone())
        .collect();
    if !unmatched.is_empty() {
        return Queries::Unmatched(unmatched);
    }
    Queries::Each(
        triggers
            .iter()
            .map(|trigger| {
                keys.iter()
                    .find(|(key, _)| named(trigger, key))
                    .map(|(_, query)| query.clone())
            })
            .collect(),
    )
}

/// A sentence for people where a key of `primaryScalerQueries` was matched with a trigger that has no name.
#[must_use]
pub fn matched_unnamed(plan: &Plan, objects: &Objects) -> Option<String> {
    let (scaler, source) = (plan.scaler.as_ref()?, objects.scaler.as_ref()?);
    let [trigger] = source.array_at("/spec/triggers") else {
        return None;
    };
    let [(key, _)] = scaler.primary_queries.as_slice() else {
        return None;
    };
    trigger
        .str_at("/name")
        .unwrap_or_default()
        .is_empty()
        .then(|| {
            format!(
                "primaryScalerQueries.{key} is used for the only trigger of ScaledObject {}.{}, which has no name; give it the name {key}",
                scaler.name, plan.namespace
            )
        })
}

fn annotate(plan: &Plan, objects: &Objects, wanted: Option<&str>) -> Vec<Write> {
    let (Some(_), Some(scaler)) = (&plan.scaler, &objects.scaler) else {
        return Vec::new();
    };
    if scaler.annotation(names::PAUSED_REPLICAS) == wanted {
        return Vec::new();
    }
    vec![Write::Merge {
        from: scaler.clone(),
        patch: json!({"metadata": {"annotations": {names::PAUSED_REPLICAS: wanted}}}),
    }]
}

fn primary_spec(plan: &Plan, scaler: &Scaler, source: &Value) -> Value {
    let mut spec = source["spec"].clone();
    spec["scaleTargetRef"]["name"] = json!(plan.primary());
    for (key, value) in [
        ("minReplicaCount", scaler.primary_min),
        ("maxReplicaCount", scaler.primary_max),
    ] {
        if let Some(value) = value {
            spec[key] = json!(value);
        }
    }
    if let Some(name) = spec.pointer_mut("/advanced/horizontalPodAutoscalerConfig/name")
        && let Some(text) = name.as_str().filter(|text| !text.is_empty())
    {
        *name = json!(format!("{text}-primary"));
    }
    if let Queries::Each(queries) = queries(plan, scaler, source)
        && let Some(triggers) = spec["triggers"].as_array_mut()
    {
        for (trigger, query) in triggers.iter_mut().zip(queries) {
            if let Some(query) = query {
                set_query(trigger, query);
            }
        }
    }
    spec
}

fn set_query(trigger: &mut Value, query: String) {
    if !trigger["metadata"].is_object() {
        trigger["metadata"] = Value::Object(Map::new());
    }
    trigger["metadata"]["query"] = Value::String(query);
}

/// `query` with the target's name, or `<target>-canary`, turned to the primary's wherever it stands as a word.
fn rename(query: &str, target: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::with_capacity(query.len() + 8);
    let mut rest = query;
    while let Some(i) = rest.find(target) {
        let (before, found) = rest.split_at(i);
        out.push_str(before);
        let after = &found[target.len()..];
        let ends = |after: &str| !after.starts_with(word);
        let begins = !out.ends_with(|c: char| word(c) || c == '-');
        let role = after
            .strip_prefix("-canary")
            .or_else(|| after.strip_prefix("-primary"))
            .filter(|more| ends(more));
        if begins && ends(after) {
            out.push_str(target);
            out.push_str("-primary");
            rest = role.unwrap_or(after);
        } else {
            out.push_str(target);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::rename;

    #[test]
    fn the_targets_name_is_turned_where_it_is_a_word() {
        for (query, renamed) in [
            (
                r#"sum(rate(r{workload="web"}[1m]))"#,
                r#"sum(rate(r{workload="web-primary"}[1m]))"#,
            ),
            (
                r#"r{workload="web-canary"}"#,
                r#"r{workload="web-primary"}"#,
            ),
            (
                r#"r{workload="web-primary"}"#,
                r#"r{workload="web-primary"}"#,
            ),
            (
                r#"r{pod=~"web-.*",w="web"}"#,
                r#"r{pod=~"web-primary-.*",w="web-primary"}"#,
            ),
            (
                r#"web_requests{ns="my-web"}"#,
                r#"web_requests{ns="my-web"}"#,
            ),
            (r#"r{w="webs"}"#, r#"r{w="webs"}"#),
            (r#"r{w="web-canary-x"}"#, r#"r{w="web-primary-x"}"#),
            ("", ""),
        ] {
            assert_eq!(rename(query, "web"), renamed);
        }
    }
}
