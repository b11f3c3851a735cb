//! The routes of a Canary: one renderer and reader for each router, and here the choice between them.

mod affinity;
mod gateway_api;
mod istio;
mod kubernetes;
mod lists;

use serde_json::{Value, json};

use crate::{
    api::{
        names,
        objects::{Kind, Object, ObjectExt, Objects, Write},
        parse::Refusal,
        route,
    },
    build::{Stamp, metadata},
    decide::{
        effect::Traffic,
        plan::{Plan, Router},
        state::Cookies,
    },
};

/// Creates the routes with all requests to the primary, takes over what is there, or puts ours right. Where a route that splits already sends
/// requests is kept.
#[must_use]
pub fn ensure(plan: &Plan, objects: &Objects, cookies: &Cookies, stamp: &Stamp) -> Vec<Write> {
    match plan.router {
        Router::Istio => istio::ensure(plan, objects, cookies, stamp),
        Router::GatewayApi => gateway_api::ensure(plan, objects, cookies, stamp),
        // The Service is the route, and that is made beside the others.
        Router::Kubernetes => Vec::new(),
    }
}

/// Sends requests as `traffic` says. Nothing where it is so already, or where there is no route of ours.
#[must_use]
pub fn set(plan: &Plan, objects: &Objects, cookies: &Cookies, traffic: Traffic) -> Vec<Write> {
    match plan.router {
        Router::Istio => istio::set(plan, objects, cookies, traffic),
        Router::GatewayApi => gateway_api::set(plan, objects, cookies, traffic),
        Router::Kubernetes => kubernetes::set(plan, objects, traffic),
    }
}

/// Where the stored route sends requests; `None` without a route between the two copies.
#[must_use]
pub fn read(plan: &Plan, objects: &Objects) -> Option<Traffic> {
    match plan.router {
        Router::Istio => istio::read(plan, objects),
        Router::GatewayApi => gateway_api::read(plan, objects),
        Router::Kubernetes => kubernetes::read(plan, objects),
    }
}

/// Whether the routes are there as the plan wants them, whatever traffic they carry.
#[must_use]
pub fn ready(plan: &Plan, objects: &Objects, cookies: &Cookies) -> bool {
    let nobody = Stamp {
        epoch: String::new(),
    };
    ensure(plan, objects, cookies, &nobody).is_empty() && read(plan, objects).is_some()
}

/// Why the stored route is not carried out yet, where the router says so.
#[must_use]
pub fn pending(plan: &Plan, objects: &Objects) -> Option<String> {
    match plan.router {
        // Istio says nothing of it, and a Service has nobody to ask.
        Router::Istio | Router::Kubernetes => None,
        Router::GatewayApi => route::pending(objects.http_route.as_ref()?),
    }
}

/// The object that carries the traffic.
fn carrier<'a>(plan: &Plan, objects: &'a Objects) -> Option<&'a Object> {
    match plan.router {
        Router::Istio => objects.virtual_service.as_ref(),
        Router::GatewayApi => objects.http_route.as_ref(),
        Router::Kubernetes => objects.apex.as_ref(),
    }
}

/// Kind of that object.
#[must_use]
pub fn kind(plan: &Plan) -> &'static str {
    match plan.router {
        Router::Istio => "VirtualService",
        Router::GatewayApi => "HTTPRoute",
        Router::Kubernetes => "Service",
    }
}

/// The field manager that wrote the route last, unless that was us or cannot be told: the times of managedFields are whole seconds.
#[must_use]
pub fn writer(plan: &Plan, objects: &Objects) -> Option<String> {
    let entries = carrier(plan, objects)?.array_at("/metadata/managedFields");
    let spec = entries
        .iter()
        .filter(|e| e.str_at("/subresource").is_none());
    let spec: Vec<_> = spec
        .filter(|e| e.pointer("/fieldsV1/f:spec").is_some())
        .collect();
    let newest = spec.iter().filter_map(|e| e.str_at("/time")).max()?;
    let mut last = spec.iter().filter(|e| e.str_at("/time") == Some(newest));
    let (one, other) = (last.next()?.str_at("/manager")?, last.next());
    (other.is_none() && one != names::MANAGER).then(|| one.to_owned())
}

/// What of this plan its router cannot carry out on these objects.
#[must_use]
pub fn check(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    match plan.router {
        Router::Istio => istio::check(plan, objects),
        Router::GatewayApi => gateway_api::check(plan, objects),
        Router::Kubernetes => kubernetes::check(objects),
    }
}

fn patch(from: &Object, ops: Vec<Value>) -> Option<Write> {
    (!ops.is_empty()).then(|| Write::Patch {
        from: from.clone(),
        ops,
    })
}

/// A route object of ours: metadata of `service.apex`, Flux kept away.
fn object(
    plan: &Plan,
    objects: &Objects,
    stamp: &Stamp,
    kind: &Kind,
    name: &str,
    spec: &Value,
) -> Write {
    let custom = &objects.canary["spec"]["service"]["apex"];
    let map = |key: &str| custom[key].as_object().cloned().unwrap_or_default();
    let mut annotations = map("annotations");
    for (key, value) in [names::FLUX_RECONCILE, names::FLUX_DRIFT] {
        annotations.insert(key.to_owned(), json!(value));
    }
    Write::Create(json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": metadata(plan, objects, stamp, name, map("labels"), annotations),
        "spec": spec,
    }))
}
