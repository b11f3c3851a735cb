//! Istio: `VirtualService` `S` with the app's rules, `DestinationRule`s `S-primary` and `S-canary`.
//!
//! One of ours is written as Flagger writes it. One that others made is taken over: its spec is saved once in an annotation, only the
//! destinations of its rule to the app change, and our rules for cookies and matches stand before that one for as long as they are needed.

mod check;
mod destination_rule;
mod rules;
mod stored;

use serde_json::{Map, Value, json};

pub(in crate::build) use self::check::check;
use self::{rules::Want, stored::Stored};
use super::{
    lists::{self, Shape},
    object, patch,
};
use crate::{
    api::{
        names,
        objects::{ObjectExt, Objects, VIRTUAL_SERVICE, Write},
    },
    build::{Stamp, set_entries},
    decide::{effect::Traffic, plan::Plan, state::Cookies},
};

const SHAPE: Shape = Shape {
    destinations: "route",
    weightless: 0,
    alone_takes_all: true,
};

/// Creates the routes with all traffic on the primary, takes over what is there, or puts ours right. Where a route that splits already sends
/// requests is kept, as far as the plan has rules for it.
#[must_use]
pub(in crate::build) fn ensure(
    plan: &Plan,
    objects: &Objects,
    cookies: &Cookies,
    stamp: &Stamp,
) -> Vec<Write> {
    let mut writes = destination_rule::ensure(plan, objects, stamp);
    let want = Want {
        plan,
        objects,
        cookies,
        traffic: plan.possible(read(plan, objects).unwrap_or(Traffic::PRIMARY)),
    };
    writes.extend(match Stored::of(plan, objects) {
        // Somebody's that is named and not there is theirs to make.
        None if other_name(objects).is_some() => None,
        None => Some(create(&want, stamp)),
        Some((stored, _)) if stored.mine => repair(&want, &stored),
        Some((stored, unsplit)) => unsplit
            .is_none()
            .then(|| take_over(&want, &stored))
            .flatten(),
    });
    writes
}

/// Sends requests as `traffic` says. Nothing where it is so already, or where there is no route of ours.
#[must_use]
pub(in crate::build) fn set(
    plan: &Plan,
    objects: &Objects,
    cookies: &Cookies,
    traffic: Traffic,
) -> Vec<Write> {
    let want = Want {
        plan,
        objects,
        cookies,
        traffic: plan.possible(traffic),
    };
    let Some((stored, _)) = Stored::of(plan, objects) else {
        return Vec::new();
    };
    // Where somebody took the app's rule out, what is left of ours can only be taken out too.
    if !stored.splits() && traffic.serves() {
        return Vec::new();
    }
    let ops = rule_ops(&want, &stored);
    patch(stored.object, ops).into_iter().collect()
}

/// Where the stored route sends requests; `None` without a route between the two copies. Weights that do not sum to 100 are relative,
/// as in Istio; a canary's share of less than a percent counts as one.
#[must_use]
pub(in crate::build) fn read(plan: &Plan, objects: &Objects) -> Option<Traffic> {
    Stored::of(plan, objects)?.0.traffic()
}

/// The `VirtualService` of others that the Canary names (`service.virtualService.name`).
fn other_name(objects: &Objects) -> Option<&str> {
    objects.canary.str_at("/spec/service/virtualService/name")
}

fn rule_ops(want: &Want<'_>, stored: &Stored<'_>) -> Vec<Value> {
    let protocol = stored.protocol;
    let path = format!("/spec/{protocol}");
    let wanted = rules::wanted(want, stored);
    lists::ops(&path, &stored.object["spec"][protocol], &wanted, SHAPE)
}

fn create(want: &Want<'_>, stamp: &Stamp) -> Write {
    let service = &want.plan.service;
    let protocol = stored::protocol(want.plan);
    let frame = rules::Frame::of_ours(want.plan, want.objects, protocol);
    let mut spec = json!({protocol: want.rules(&frame, protocol)});
    if !service.delegation {
        spec["hosts"] = json!(service.hosts);
        spec["gateways"] = json!(service.gateways);
    }
    object(
        want.plan,
        want.objects,
        stamp,
        &VIRTUAL_SERVICE,
        &service.name,
        &spec,
    )
}

/// Puts ours right on the paths that we write.
fn repair(want: &Want<'_>, stored: &Stored<'_>) -> Option<Write> {
    let (service, there) = (&want.plan.service, stored.object);
    let mut ops = rule_ops(want, stored);
    let other = if stored.protocol == "tcp" {
        "http"
    } else {
        "tcp"
    };
    if !there["spec"][other].is_null() {
        ops.push(json!({"op": "remove", "path": format!("/spec/{other}")}));
    }
    for (key, wanted) in [("hosts", &service.hosts), ("gateways", &service.gateways)] {
        let stored = there["spec"].get(key);
        if service.delegation {
            ops.extend(stored.map(|_| json!({"op": "remove", "path": format!("/spec/{key}")})));
        } else if stored != Some(&json!(wanted)) {
            ops.push(json!({"op": "add", "path": format!("/spec/{key}"), "value": wanted}));
        }
    }
    patch(there, ops)
}

/// Saves what was there, once, and changes only what is the app's.
fn take_over(want: &Want<'_>, stored: &Stored<'_>) -> Option<Write> {
    let there = stored.object;
    let mut ops = save(there);
    ops.extend(rule_ops(want, stored));
    patch(there, ops)
}

fn save(there: &Value) -> Vec<Value> {
    if there.annotation(names::ORIGINAL).is_some() {
        return Vec::new();
    }
    let original = Map::from_iter([(names::ORIGINAL.to_owned(), json!(there["spec"].to_string()))]);
    set_entries(there, "annotations", &original)
}
