//! Gateway API: `HTTPRoute` `S`, of the Gateways that the Canary names or, for a mesh, of the Service itself (GAMMA).

mod check;
mod maps;
mod rules;
mod stored;

use serde_json::{Map, Value, json};

pub(in crate::build) use self::check::check;
use self::{rules::Want, stored::Stored};
use super::{
    lists::{self, Shape},
    object,
};
use crate::{
    api::objects::{HTTP_ROUTE, ObjectExt, Objects, Write},
    build::{Stamp, owned},
    decide::{effect::Traffic, plan::Plan, state::Cookies},
};

/// One backend alone whose weight is 0 gets nothing, so its weight counts too.
const SHAPE: Shape = Shape {
    destinations: "backendRefs",
    weightless: 1,
    alone_takes_all: false,
};

/// Creates the route with all requests to the primary, or puts ours right. Where one that splits already sends requests is kept, as far as the
/// plan has rules for it.
#[must_use]
pub(in crate::build) fn ensure(
    plan: &Plan,
    objects: &Objects,
    cookies: &Cookies,
    stamp: &Stamp,
) -> Vec<Write> {
    let want = Want {
        plan,
        objects,
        cookies,
        traffic: plan.possible(read(plan, objects).unwrap_or(Traffic::PRIMARY)),
    };
    let Some(there) = &objects.http_route else {
        let mut spec = placed(objects);
        spec.insert("rules".to_owned(), json!(want.rules()));
        let name = &plan.service.name;
        let spec = Value::Object(spec);
        return vec![object(plan, objects, stamp, &HTTP_ROUTE, name, &spec)];
    };
    // One of others is refused before a run.
    if !owned(there, &objects.canary) {
        return Vec::new();
    }
    let mut ops = rule_ops(&want, there);
    let placed = placed(objects);
    for key in ["parentRefs", "hostnames"] {
        let (stored, wanted) = (&there["spec"][key], placed.get(key));
        let path = format!("/spec/{key}");
        match wanted {
            Some(wanted) if stored != wanted => {
                ops.push(json!({"op": "add", "path": path, "value": wanted}));
            }
            None if !stored.is_null() => ops.push(json!({"op": "remove", "path": path})),
            Some(_) | None => {}
        }
    }
    super::patch(there, ops).into_iter().collect()
}

/// Sends requests as `traffic` says. Nothing where it is so already, or where there is no route of ours.
#[must_use]
pub(in crate::build) fn set(
    plan: &Plan,
    objects: &Objects,
    cookies: &Cookies,
    traffic: Traffic,
) -> Vec<Write> {
    let there = objects.http_route.as_ref();
    let Some(there) = there.filter(|there| owned(there, &objects.canary)) else {
        return Vec::new();
    };
    let want = Want {
        plan,
        objects,
        cookies,
        traffic: plan.possible(traffic),
    };
    let ops = rule_ops(&want, there);
    super::patch(there, ops).into_iter().collect()
}

/// Where the stored route sends requests; `None` without a route between the two copies.
#[must_use]
pub(in crate::build) fn read(plan: &Plan, objects: &Objects) -> Option<Traffic> {
    let there = objects.http_route.as_ref();
    let there = there.filter(|there| owned(there, &objects.canary))?;
    Stored::of(plan, objects, there).traffic()
}

fn rule_ops(want: &Want<'_>, there: &Value) -> Vec<Value> {
    lists::ops("/spec/rules", &there["spec"]["rules"], &want.rules(), SHAPE)
}

/// Whose route it is, and for which hosts. What the API server would add is said, so that what is stored is what is wanted.
fn placed(objects: &Objects) -> Map<String, Value> {
    let service = &objects.canary["spec"]["service"];
    let parents = service.array_at("/gatewayRefs").iter().map(|given| {
        let mut parent = given.clone();
        for (key, default) in [("group", "gateway.networking.k8s.io"), ("kind", "Gateway")] {
            if parent[key].is_null() {
                parent[key] = json!(default);
            }
        }
        parent
    });
    let mut spec = Map::new();
    spec.insert("parentRefs".to_owned(), parents.collect());
    let hosts = service.array_at("/hosts");
    if !hosts.is_empty() {
        spec.insert("hostnames".to_owned(), json!(hosts));
    }
    spec
}
