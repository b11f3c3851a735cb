//! What is given back when a Canary with `revertOnDeletion` goes: the apex, and the routes of others. Its target's replicas and autoscaler are
//! brought back by the effects of a run.

use serde_json::{Value, json};

use super::{routes, services};
use crate::{
    api::{
        names,
        objects::{Object, ObjectExt, Objects, Write},
    },
    decide::plan::Plan,
};

/// Whether the finalizer holds the Canary.
#[must_use]
pub fn is_held(canary: &Value) -> bool {
    finalizers(canary).contains(&names::FINALIZER)
}

fn finalizers(canary: &Value) -> Vec<&str> {
    let all = canary.array_at("/metadata/finalizers").iter();
    all.filter_map(Value::as_str).collect()
}

/// Puts the finalizer on the Canary, or takes it off; those of others stay.
#[must_use]
pub fn finalizer(canary: &Object, on: bool) -> Vec<Write> {
    // What is about to go takes no new one.
    if is_held(canary) == on || (on && canary.is_being_deleted()) {
        return Vec::new();
    }
    let mut all = finalizers(canary);
    if on {
        all.push(names::FINALIZER);
    } else {
        all.retain(|name| *name != names::FINALIZER);
    }
    vec![Write::Merge {
        from: canary.clone(),
        patch: json!({"metadata": {"finalizers": all}}),
    }]
}

/// The apex first: what the routes said before may well lead there.
#[must_use]
pub fn writes(plan: &Plan, objects: &Objects) -> Vec<Write> {
    let mut all = services::give_back(plan, objects);
    all.extend(routes::give_back(plan, objects));
    all
}
