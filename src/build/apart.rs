//! Why the observed share of the requests and the written weight part: [`causes`] looks at what lies around a Canary.

use serde_json::Value;

use crate::{
    api::objects::{Object, ObjectExt, Objects},
    decide::plan::Plan,
};

/// Istio's name for all sidecars, where a `VirtualService` names none.
const MESH: &str = "mesh";
/// Istio's switch on a pod, as a label or (older) an annotation.
const INJECT: &str = "sidecar.istio.io/inject";

/// Every likely cause, the likeliest first, each with what to do. `services` are those of the Canary's namespace, `routes` all
/// `VirtualServices` of the cluster.
#[must_use]
pub fn causes(
    plan: &Plan,
    objects: &Objects,
    services: &[Object],
    routes: &[Object],
) -> Vec<String> {
    let mut all: Vec<String> = routes.iter().filter_map(|r| rival(plan, r)).collect();
    all.extend(outside_mesh(plan));
    all.extend(services.iter().filter_map(|s| bypass(plan, objects, s)));
    all.extend(no_sidecar(plan, objects));
    all
}

/// Another `VirtualService` for the same host: of two a mesh follows one, the older.
fn rival(plan: &Plan, route: &Object) -> Option<String> {
    let service = &plan.service;
    let ours = route.namespace() == plan.namespace && route.name() == service.name;
    if ours || service.delegation {
        return None;
    }
    let texts = |pointer: &str| -> Vec<&str> {
        let list = route.array_at(pointer).iter();
        list.filter_map(Value::as_str).collect()
    };
    let mut gateways = texts("/spec/gateways");
    if gateways.is_empty() {
        gateways.push(MESH);
    }
    let shared = gateways
        .iter()
        .any(|g| service.gateways.iter().any(|own| own == g));
    let host = texts("/spec/hosts")
        .into_iter()
        .find(|host| same_host(plan, host, route.namespace()))?;
    shared.then(|| {
        format!(
            "VirtualService {}/{} is for host {host} too, and a mesh follows only one of them: delete it, or take the host out of it",
            route.namespace(),
            route.name()
        )
    })
}

/// `host`, written in an object of namespace `home`, means the Canary's Service, or is one of its other hosts.
fn same_host(plan: &Plan, host: &str, home: &str) -> bool {
    let service = &plan.service;
    let short = home == plan.namespace && host == service.name;
    let full = host
        .strip_prefix(service.name.as_str())
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_prefix(plan.namespace.as_str()))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(".svc"));
    let given = service
        .hosts
        .iter()
        .any(|own| own == host && *own != service.name);
    short || full || given
}

fn outside_mesh(plan: &Plan) -> Option<String> {
    let gateways = &plan.service.gateways;
    let outside = !gateways.is_empty() && gateways.iter().all(|g| g != MESH);
    outside.then(|| {
        format!(
            "spec.service.gateways names {} and not mesh: requests from inside the mesh are not split; add mesh",
            gateways.join(", ")
        )
    })
}

/// Another Service on the canary's pods: what calls it reaches the canary whatever the weight is.
fn bypass(plan: &Plan, objects: &Objects, service: &Object) -> Option<String> {
    let apex = &plan.service.name;
    let own = [
        apex.clone(),
        format!("{apex}-primary"),
        format!("{apex}-canary"),
    ];
    let selector = service.pointer("/spec/selector")?.as_object()?;
    if own.iter().any(|name| name == service.name()) || selector.is_empty() {
        return None;
    }
    let selects = |copy: &Option<Object>| {
        let labels = copy
            .as_ref()
            .and_then(|c| c.pointer("/spec/template/metadata/labels"));
        labels.is_some_and(|labels| selector.iter().all(|(key, value)| labels[key] == *value))
    };
    let which = match (selects(&objects.target), selects(&objects.primary)) {
        (true, true) => "the pods of both copies",
        (true, false) => "the canary's pods",
        (false, true) => "the primary's pods",
        (false, false) => return None,
    };
    Some(format!(
        "Service {}/{} selects {which} too, and what calls it is not split: let its clients call {apex}, or delete it",
        service.namespace(),
        service.name()
    ))
}

/// Pods that opt out of the sidecar, or that lack one where others have it.
fn no_sidecar(plan: &Plan, objects: &Objects) -> Option<String> {
    let copies = [&objects.target, &objects.primary].into_iter().flatten();
    let opted_out = copies.into_iter().find(|copy| {
        ["labels", "annotations"]
            .iter()
            .any(|map| copy["spec"]["template"]["metadata"][*map][INJECT] == "false")
    });
    if let Some(copy) = opted_out {
        return Some(format!(
            "the pods of Deployment {}/{} opt out of the sidecar ({INJECT}: \"false\"): take that out",
            plan.namespace,
            copy.name()
        ));
    }
    let (with, without): (Vec<&Object>, Vec<&Object>) =
        objects.pods.iter().partition(|pod| has_sidecar(pod));
    let bare = without.first().filter(|_| !with.is_empty())?;
    Some(format!(
        "pod {}/{} has no sidecar (istio-proxy) while others have one: delete it, so that it is made anew with one",
        bare.namespace(),
        bare.name()
    ))
}

fn has_sidecar(pod: &Value) -> bool {
    let containers = pod.array_at("/spec/containers").iter();
    containers
        .chain(pod.array_at("/spec/initContainers"))
        .any(|c| c["name"] == "istio-proxy")
}
