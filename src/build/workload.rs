//! The two copies of the workload: the primary's Deployment, and both copies' scale.

use serde_json::{Map, Value, json};

use super::{Selector, Stamp, copied, metadata, set_entries, template};
use crate::{
    api::{
        names,
        objects::{DEPLOYMENT, ObjectExt, Objects, Write},
    },
    decide::plan::{Labels, Plan},
};

/// Fields of a Deployment's spec that a copy has of its own. All others follow the target's.
const OWN: [&str; 4] = ["replicas", "selector", "template", "paused"];

/// Creates the primary from the live target, if there is none: its whole spec, the template as [`template::primary`] makes it, the target's
/// replicas (at least 1).
#[must_use]
pub fn create_primary(plan: &Plan, objects: &Objects, stamp: &Stamp, run_id: &str) -> Vec<Write> {
    let (None, Some(target)) = (&objects.primary, &objects.target) else {
        return Vec::new();
    };
    let Some(selector) = Selector::of(&plan.labels, target) else {
        return Vec::new();
    };
    let mut spec = followed(target);
    let label = Map::from_iter([(selector.key.clone(), json!(selector.primary()))]);
    let mut labels = included(&plan.labels, target);
    labels.extend(label.clone());
    spec.insert(
        "replicas".to_owned(),
        json!(target.int_at("/spec/replicas").unwrap_or(1).max(1)),
    );
    spec.insert("selector".to_owned(), json!({"matchLabels": label}));
    spec.insert(
        "template".to_owned(),
        template::primary(&target["spec"]["template"], &selector, run_id),
    );
    vec![Write::Create(json!({
        "apiVersion": DEPLOYMENT.api_version(),
        "kind": DEPLOYMENT.kind,
        "metadata": metadata(
            plan, objects, stamp, &plan.primary(), labels, copied(&target["metadata"]["annotations"]),
        ),
        "spec": spec,
    }))]
}

/// Writes a pinned template (the target's, as it was pinned) to the primary, as a whole, and what else of the spec follows the target.
/// Replicas are never written; annotations stay (Flagger wipes them at the first promotion), and so do labels, but for those that the
/// primary is to take over from its target.
#[must_use]
pub fn copy_template(
    labels: &Labels,
    objects: &Objects,
    pinned: &Value,
    run_id: &str,
) -> Vec<Write> {
    let (Some(primary), Some(selector)) = (&objects.primary, Selector::of_copies(labels, objects))
    else {
        return Vec::new();
    };
    let mut ops = Vec::new();
    if !primary_has(labels, primary, pinned) {
        ops.push(json!({
            "op": "replace",
            "path": "/spec/template",
            "value": template::primary(pinned, &selector, run_id),
        }));
    }
    if let Some(target) = &objects.target {
        ops.extend(follow(primary, target));
        let mut included = included(labels, target);
        for own in [selector.key.as_str(), names::MANAGED_BY.0] {
            included.remove(own);
        }
        ops.extend(set_entries(primary, "labels", &included));
    }
    if ops.is_empty() {
        return Vec::new();
    }
    vec![Write::Patch {
        from: primary.clone(),
        ops,
    }]
}

/// Whether the primary's template is the one that we would write for the target's, on the paths that we write.
#[must_use]
pub fn same_template(labels: &Labels, target_template: &Value, primary_template: &Value) -> bool {
    let Some(selector) = selector_of_pair(labels, target_template, primary_template) else {
        return false;
    };
    let wanted = template::primary(target_template, &selector, "");
    template::same(&wanted, primary_template)
}

/// Whether the primary carries a pinned template (the target's, as it was pinned).
#[must_use]
pub fn primary_has(labels: &Labels, primary: &Value, pinned: &Value) -> bool {
    same_template(labels, pinned, &primary["spec"]["template"])
}

/// Writes a kept template to the target, which makes it a new revision.
#[must_use]
pub fn retarget(objects: &Objects, template: &Value) -> Vec<Write> {
    let target = objects.target.iter();
    let other = target.filter(|target| target["spec"]["template"] != *template);
    other
        .map(|target| Write::Patch {
            from: target.clone(),
            ops: vec![json!({"op": "replace", "path": "/spec/template", "value": template})],
        })
        .collect()
}

/// Scales the target up, to `wanted` replicas or by Flagger's rule from zero: the scaler's minimum, without a scaler the primary's replicas, at
/// least 1.
#[must_use]
pub fn scale_up(plan: &Plan, objects: &Objects, wanted: Option<u32>) -> Vec<Write> {
    let Some(target) = &objects.target else {
        return Vec::new();
    };
    let enough = wanted.map_or(1, i64::from);
    if replicas(target) >= enough {
        return Vec::new();
    }
    let wanted = if let Some(wanted) = wanted {
        i64::from(wanted)
    } else if plan.scaler.is_some() {
        objects
            .scaler
            .as_ref()
            .and_then(|scaler| scaler.int_at("/spec/minReplicaCount"))
            .unwrap_or(1)
    } else {
        objects
            .primary
            .as_ref()
            .map_or(1, |primary| replicas(primary))
    };
    vec![Write::Scale {
        from: target.clone(),
        replicas: u32::try_from(wanted.max(1)).unwrap_or(1),
    }]
}

/// Scales the target to zero.
#[must_use]
pub fn scale_to_zero(objects: &Objects) -> Vec<Write> {
    objects
        .target
        .iter()
        .filter(|target| replicas(target) != 0)
        .map(|target| Write::Scale {
            from: target.clone(),
            replicas: 0,
        })
        .collect()
}

/// `spec.replicas`; Kubernetes: 1 when it is absent.
fn replicas(deployment: &Value) -> i64 {
    deployment.int_at("/spec/replicas").unwrap_or(1)
}

/// The selector label, from the two templates alone: the one that differs by our suffix.
fn selector_of_pair(labels: &Labels, target: &Value, primary: &Value) -> Option<Selector> {
    labels.selectors.iter().find_map(|key| {
        let value = target["metadata"]["labels"][key.as_str()].as_str()?;
        let selector = Selector {
            key: key.clone(),
            value: value.to_owned(),
        };
        (primary["metadata"]["labels"][key.as_str()] == selector.primary()).then_some(selector)
    })
}

/// The target's labels that its primary takes over. Flagger's rule: those that begin with a prefix, all of them with `*`.
fn included(labels: &Labels, target: &Value) -> Map<String, Value> {
    let wanted = |key: &String| {
        let mut prefixes = labels.prefixes.iter();
        prefixes.any(|prefix| prefix == "*" || key.starts_with(prefix.as_str()))
    };
    copied(&target["metadata"]["labels"])
        .into_iter()
        .filter(|(key, _)| wanted(key))
        .collect()
}

/// What of the target's spec a primary follows.
fn followed(target: &Value) -> Map<String, Value> {
    target["spec"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !OWN.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// JSON Patch operations that make the primary follow the target in everything but what is its own.
fn follow(primary: &Value, target: &Value) -> Vec<Value> {
    let (wanted, there) = (followed(target), followed(primary));
    let changed = wanted
        .iter()
        .filter(|(key, value)| there.get(*key) != Some(*value))
        .map(|(key, value)| json!({"op": "add", "path": format!("/spec/{key}"), "value": value}));
    let gone = there
        .keys()
        .filter(|key| !wanted.contains_key(*key))
        .map(|key| json!({"op": "remove", "path": format!("/spec/{key}")}));
    changed.chain(gone).collect()
}
