//! The routes of a Canary: one renderer and reader for each router, and here the choice between them.

mod affinity;
mod istio;
mod lists;

use crate::{
    api::{
        names,
        objects::{Object, ObjectExt, Objects, Write},
        parse::Refusal,
    },
    build::Stamp,
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
        Router::GatewayApi | Router::Kubernetes => Vec::new(),
    }
}

/// Sends requests as `traffic` says. Nothing where it is so already, or where there is no route of ours.
#[must_use]
pub fn set(plan: &Plan, objects: &Objects, cookies: &Cookies, traffic: Traffic) -> Vec<Write> {
    match plan.router {
        Router::Istio => istio::set(plan, objects, cookies, traffic),
        Router::GatewayApi | Router::Kubernetes => Vec::new(),
    }
}

/// Where the stored route sends requests; `None` without a route between the two copies.
#[must_use]
pub fn read(plan: &Plan, objects: &Objects) -> Option<Traffic> {
    match plan.router {
        Router::Istio => istio::read(plan, objects),
        Router::GatewayApi | Router::Kubernetes => None,
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
    let _ = objects;
    match plan.router {
        // A mesh says nothing of it.
        Router::Istio | Router::GatewayApi | Router::Kubernetes => None,
    }
}

/// The object that carries the traffic.
fn carrier<'a>(plan: &Plan, objects: &'a Objects) -> Option<&'a Object> {
    match plan.router {
        Router::Istio => objects.virtual_service.as_ref(),
        Router::GatewayApi => None,
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
        Router::GatewayApi | Router::Kubernetes => vec![Refusal::new(
            "spec.provider",
            format!(
                "the routing provider {} is not carried out yet",
                plan.router.name()
            ),
            "set istio, the one that is",
        )],
    }
}
