//! `DestinationRule`s `S-primary` and `S-canary`: the host of each copy, with the Canary's traffic policy.

use serde_json::{Value, json};

use super::{object, patch, save, stored};
use crate::{
    api::objects::{DESTINATION_RULE, Object, Objects, Write},
    build::{Stamp, owned},
    decide::plan::Plan,
};

/// Creates both, or puts them right. One that others made keeps all but its host.
pub(super) fn ensure(plan: &Plan, objects: &Objects, stamp: &Stamp) -> Vec<Write> {
    let both = [
        ("primary", stored::Host::Primary, &objects.primary_rule),
        ("canary", stored::Host::Canary, &objects.canary_rule),
    ];
    let both = both.into_iter();
    both.filter_map(|(role, host, there)| one(plan, objects, stamp, (role, host), there.as_ref()))
        .collect()
}

fn one(
    plan: &Plan,
    objects: &Objects,
    stamp: &Stamp,
    (role, leads_to): (&str, stored::Host),
    there: Option<&Object>,
) -> Option<Write> {
    let host = format!("{}-{role}", plan.service.name);
    let policy = &objects.canary["spec"]["service"]["trafficPolicy"];
    let Some(there) = there else {
        let mut spec = json!({"host": host});
        if !policy.is_null() {
            spec["trafficPolicy"] = policy.clone();
        }
        return Some(object(
            plan,
            objects,
            stamp,
            &DESTINATION_RULE,
            &host,
            &spec,
        ));
    };
    let mine = owned(there, &objects.canary);
    let mut ops: Vec<Value> = Vec::new();
    if stored::host(plan, &there["spec"]) != Some(leads_to) {
        if !mine {
            ops.extend(save(there));
        }
        ops.push(json!({"op": "add", "path": "/spec/host", "value": host}));
    }
    if mine && there["spec"]["trafficPolicy"] != *policy {
        ops.push(if policy.is_null() {
            json!({"op": "remove", "path": "/spec/trafficPolicy"})
        } else {
            json!({"op": "add", "path": "/spec/trafficPolicy", "value": policy})
        });
    }
    patch(there, ops)
}
