//! What a plan wants of the cluster, as objects and patches: pure and infallible.
//!
//! Each function gives the writes that bring one thing about; none when it is so already. [`check::check`] has found beforehand what a
//! builder could not carry out; should the world have changed since, a builder that lacks something gives no write.

pub mod apart;
pub mod check;
pub mod git;
pub mod give_back;
pub mod manifest;
pub mod pin;
pub mod preflight;
pub mod preview;
pub mod rivals;
pub mod routes;
pub mod scaler;
pub mod seen;
pub mod services;
pub mod template;
pub mod workload;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::{
    api::{
        names,
        objects::{CANARY, ObjectExt, Objects},
    },
    decide::plan::{Labels, Plan},
};

/// What every object that we create carries of who creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// `leaseTransitions` of the Lease that is held.
    pub epoch: String,
}

/// Whether the Canary owns this object as its controller.
#[must_use]
pub fn owned(object: &Value, canary: &Value) -> bool {
    controller(object).is_some_and(|owner| owner.str_at("/uid") == Some(canary.uid()))
}

/// The owner that controls an object: a reference with its `kind`, `name` and `uid`.
fn controller(object: &Value) -> Option<&Value> {
    let mut owners = object.array_at("/metadata/ownerReferences").iter();
    owners.find(|owner| owner["controller"] == true)
}

/// A selector label and its value: the first of [`Labels::selectors`] in the target's selector. Flagger's rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The label's key.
    pub key: String,
    /// Its value on the target's pods.
    pub value: String,
}

impl Selector {
    /// The selector label of a Deployment; `None` when its selector has none of them.
    #[must_use]
    pub fn of(labels: &Labels, target: &Value) -> Option<Self> {
        let selected = &target["spec"]["selector"]["matchLabels"];
        labels.selectors.iter().find_map(|key| {
            Some(Self {
                key: key.clone(),
                value: selected[key.as_str()].as_str()?.to_owned(),
            })
        })
    }

    /// The selector label of the target, or what the primary's gives away when the target is gone.
    #[must_use]
    pub fn of_copies(labels: &Labels, objects: &Objects) -> Option<Self> {
        if let Some(target) = &objects.target {
            return Self::of(labels, target);
        }
        let Self { key, value } = Self::of(labels, objects.primary.as_ref()?)?;
        let value = value.strip_suffix("-primary")?.to_owned();
        Some(Self { key, value })
    }

    /// The label's value on the primary's pods.
    #[must_use]
    pub fn primary(&self) -> String {
        format!("{}-primary", self.value)
    }
}

/// Metadata of an object that we create: owned by the Canary, with our labels and the fence.
fn metadata(
    plan: &Plan,
    objects: &Objects,
    stamp: &Stamp,
    name: &str,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
) -> Value {
    let mut labels = labels;
    labels.insert(names::MANAGED_BY.0.to_owned(), json!(names::MANAGED_BY.1));
    let mut annotations = annotations;
    annotations.insert(names::EPOCH.to_owned(), json!(stamp.epoch));
    json!({
        "name": name,
        "namespace": plan.namespace,
        "labels": labels,
        "annotations": annotations,
        "ownerReferences": [{
            "apiVersion": CANARY.api_version(),
            "kind": CANARY.kind,
            "name": objects.canary.name(),
            "uid": objects.canary.uid(),
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    })
}

/// Keys that say who manages *that* object, and so are wrong on a copy of it.
fn not_copied(key: &str) -> bool {
    key.contains(names::TOOLKIT)
        || key.starts_with(names::PAUSED_PREFIX)
        || key.starts_with("canary-mcp.dev/")
        || key.starts_with("argocd.argoproj.io/")
        || [
            "kubectl.kubernetes.io/last-applied-configuration",
            "deployment.kubernetes.io/revision",
            "scaledobject.keda.sh/name",
        ]
        .contains(&key)
}

/// The entries of a map that a copy takes over.
fn copied(map: &Value) -> Map<String, Value> {
    map.as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !not_copied(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// JSON Patch operations that bring `wanted` into the map at `/metadata/<map>`; other keys stay.
fn set_entries(from: &Value, map: &str, wanted: &Map<String, Value>) -> Vec<Value> {
    let there = &from["metadata"][map];
    if !there.is_object() {
        if wanted.is_empty() {
            return Vec::new();
        }
        return vec![json!({"op": "add", "path": format!("/metadata/{map}"), "value": wanted})];
    }
    wanted
        .iter()
        .filter(|(key, value)| there[key.as_str()] != **value)
        .map(|(key, value)| {
            json!({"op": "add", "path": format!("/metadata/{map}/{}", escaped(key)), "value": value})
        })
        .collect()
}

/// A key as a segment of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
