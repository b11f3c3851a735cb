//! The three Services: `S` and `S-primary` select the primary's pods, `S-canary` the target's.

use serde_json::{Map, Value, json};

use super::{Selector, Stamp, metadata, owned, set_entries};
use crate::{
    api::{
        names,
        objects::{Object, ObjectExt, Objects, SERVICE, Write},
    },
    decide::{
        effect::Traffic,
        plan::{Plan, PortRef, Router},
    },
};

/// Containers whose ports are the mesh's own. Flagger.
pub(super) const PROXIES: [&str; 2] = ["istio-proxy", "envoy"];

/// Creates `S-canary` and `S-primary`, or puts their ports and selectors right. Never touches the apex.
#[must_use]
pub fn roles(plan: &Plan, objects: &Objects, stamp: &Stamp) -> Vec<Write> {
    let Some(selector) = Selector::of_copies(&plan.labels, objects) else {
        return Vec::new();
    };
    let canary = Wanted {
        name: format!("{}-canary", plan.service.name),
        role: "canary",
        key: &selector.key,
        value: selector.value.clone(),
    };
    let primary = Wanted {
        name: format!("{}-primary", plan.service.name),
        role: "primary",
        key: &selector.key,
        value: selector.primary(),
    };
    let mut writes = service(
        plan,
        objects,
        stamp,
        &canary,
        objects.canary_service.as_ref(),
    );
    let there = objects.primary_service.as_ref();
    writes.extend(service(plan, objects, stamp, &primary, there));
    writes
}

/// Creates the apex Service, or makes it select the primary; without a mesh the copy that has the `recorded` traffic, for there it is the route.
/// One that is there already is adopted: its ports and selector are put right, all else stays, and it keeps its owner.
#[must_use]
pub fn apex(plan: &Plan, objects: &Objects, recorded: Traffic, stamp: &Stamp) -> Vec<Write> {
    let Some(selector) = Selector::of_copies(&plan.labels, objects) else {
        return Vec::new();
    };
    let wanted = Wanted {
        name: plan.service.name.clone(),
        role: "apex",
        key: &selector.key,
        value: apex_value(plan, &selector, objects.apex.as_ref(), recorded),
    };
    service(plan, objects, stamp, &wanted, objects.apex.as_ref())
}

/// Whether `S-canary` and `S-primary` are there with the right ports and selectors.
#[must_use]
pub fn roles_ready(plan: &Plan, objects: &Objects) -> bool {
    let (Some(canary), Some(primary)) = (&objects.canary_service, &objects.primary_service) else {
        return false;
    };
    let Some(selector) = Selector::of_copies(&plan.labels, objects) else {
        return false;
    };
    right(plan, objects, canary, &selector.key, &selector.value)
        && right(plan, objects, primary, &selector.key, &selector.primary())
}

/// Without a mesh an apex that selects the canary stays there for as long as that is on record; it is moved by a shift of traffic alone.
fn apex_value(
    plan: &Plan,
    selector: &Selector,
    there: Option<&Object>,
    recorded: Traffic,
) -> String {
    let on_canary = |apex: &Object| selector_op(apex, &selector.key, &selector.value).is_none();
    let routes = plan.router == Router::Kubernetes && plan.possible(recorded) == Traffic::CANARY;
    if routes && there.is_some_and(on_canary) {
        selector.value.clone()
    } else {
        selector.primary()
    }
}

/// Whether the apex Service is there with the right ports and selects the primary's pods; without a mesh, those of the copy that has the
/// `recorded` traffic.
#[must_use]
pub fn apex_on_primary(plan: &Plan, objects: &Objects, recorded: Traffic) -> bool {
    let Some(selector) = Selector::of_copies(&plan.labels, objects) else {
        return false;
    };
    objects.apex.as_ref().is_some_and(|apex| {
        let value = apex_value(plan, &selector, Some(apex), recorded);
        right(plan, objects, apex, &selector.key, &value)
    })
}

/// One Service as the plan wants it.
struct Wanted<'a> {
    name: String,
    role: &'static str,
    key: &'a str,
    value: String,
}

fn right(plan: &Plan, objects: &Objects, there: &Value, key: &str, value: &str) -> bool {
    selector_op(there, key, value).is_none() && ports_op(there, &ports(plan, objects)).is_none()
}

fn service(
    plan: &Plan,
    objects: &Objects,
    stamp: &Stamp,
    wanted: &Wanted<'_>,
    there: Option<&Object>,
) -> Vec<Write> {
    let (labels, annotations) = own_metadata(objects, wanted);
    let Some(there) = there else {
        return vec![Write::Create(json!({
            "apiVersion": SERVICE.api_version(),
            "kind": SERVICE.kind,
            "metadata": metadata(plan, objects, stamp, &wanted.name, labels, annotations),
            "spec": {
                "type": "ClusterIP",
                "selector": {wanted.key: wanted.value},
                "ports": ports(plan, objects),
            },
        }))];
    };
    let mut ops: Vec<Value> = Vec::new();
    ops.extend(ports_op(there, &ports(plan, objects)));
    ops.extend(selector_op(there, wanted.key, &wanted.value));
    if owned(there, &objects.canary) {
        let unmanaged = |kind| unmanaged(objects, kind);
        ops.extend(set_entries(
            there,
            "labels",
            &without(labels, &unmanaged("labels")),
        ));
        let annotations = without(annotations, &unmanaged("annotations"));
        ops.extend(set_entries(there, "annotations", &annotations));
    }
    if ops.is_empty() {
        return Vec::new();
    }
    vec![Write::Patch {
        from: there.clone(),
        ops,
    }]
}

/// Labels and annotations of a Service of ours: `service.<role>`, the selector label with the Service's name, Flux kept away.
fn own_metadata(
    objects: &Objects,
    wanted: &Wanted<'_>,
) -> (Map<String, Value>, Map<String, Value>) {
    let custom = &objects.canary["spec"]["service"][wanted.role];
    let map = |key: &str| custom[key].as_object().cloned().unwrap_or_default();
    let mut labels = map("labels");
    labels.insert(wanted.key.to_owned(), json!(wanted.name));
    let mut annotations = map("annotations");
    for (key, value) in [names::FLUX_RECONCILE, names::FLUX_DRIFT] {
        annotations.insert(key.to_owned(), json!(value));
    }
    (labels, annotations)
}

/// `service.unmanagedMetadata`: keys that stay as others write them.
fn unmanaged(objects: &Objects, kind: &str) -> Vec<String> {
    objects
        .canary
        .array_at(&format!("/spec/service/unmanagedMetadata/{kind}"))
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn without(mut map: Map<String, Value>, keys: &[String]) -> Map<String, Value> {
    map.retain(|key, _| !keys.contains(key));
    map
}

pub(super) fn selector_op(there: &Value, key: &str, value: &str) -> Option<Value> {
    let wanted = json!({key: value});
    (there["spec"]["selector"] != wanted)
        .then(|| json!({"op": "add", "path": "/spec/selector", "value": wanted}))
}

/// The ports of all three Services. An apex that others made keeps its further ports, and so do the copies behind it: a route sends what
/// comes to any of its HTTP ports to the same port of a copy.
pub(super) fn ports(plan: &Plan, objects: &Objects) -> Vec<Value> {
    let service = &plan.service;
    let mut main = json!({
        "name": service.port_name,
        "port": service.port,
        "targetPort": port_ref(&service.target_port),
        "protocol": "TCP",
    });
    if let Some(protocol) = &service.app_protocol {
        main["appProtocol"] = json!(protocol);
    }
    let mut ports = vec![main];
    if service.port_discovery {
        for port in discovered(plan, objects) {
            add(&mut ports, port);
        }
    }
    let foreign = |apex: &&Object| !owned(apex, &objects.canary);
    for port in objects
        .apex
        .as_ref()
        .filter(foreign)
        .map_or(&[][..], |apex| apex.array_at("/spec/ports"))
    {
        if port["name"].is_string() {
            add(&mut ports, bare(port));
        }
    }
    ports
}

/// Adds a port unless its name or its number is taken.
fn add(ports: &mut Vec<Value>, port: Value) {
    let taken = |other: &Value| {
        other["name"] == port["name"]
            || (other["port"] == port["port"] && protocol(other) == protocol(&port))
    };
    if !ports.iter().any(taken) {
        ports.push(port);
    }
}

/// Every container port but the service's own, the mesh's left out. Flagger names one without a name after its container and place.
fn discovered(plan: &Plan, objects: &Objects) -> Vec<Value> {
    let mut all = Vec::new();
    let Some(target) = &objects.target else {
        return all;
    };
    for container in target.array_at("/spec/template/spec/containers") {
        let name = container.str_at("/name").unwrap_or_default();
        if PROXIES.contains(&name) {
            continue;
        }
        for (i, port) in container.array_at("/ports").iter().enumerate() {
            let number = &port["containerPort"];
            let port_name = port.str_at("/name").unwrap_or_default();
            let own = match &plan.service.target_port {
                PortRef::Number(own) => number == own,
                PortRef::Name(own) => port_name == own,
            };
            if own || *number == plan.service.port {
                continue;
            }
            let label = if port_name.is_empty() {
                format!("tcp-{name}-{i}")
            } else {
                port_name.to_owned()
            };
            all.push(json!({"name": label, "port": number, "targetPort": number, "protocol": protocol(port)}));
        }
    }
    all
}

/// Puts the ports right; node ports stay with their names, or with their numbers where a port had another name.
fn ports_op(there: &Value, wanted: &[Value]) -> Option<Value> {
    let stored = there.array_at("/spec/ports");
    let bare_stored: Vec<Value> = stored.iter().map(bare).collect();
    if bare_stored == wanted {
        return None;
    }
    let kept: Vec<Value> = wanted
        .iter()
        .map(|port| {
            let mut port = port.clone();
            let by = |key: &str| stored.iter().find(|other| other[key] == port[key]);
            let same = by("name").or_else(|| by("port"));
            if let Some(node) = same.and_then(|other| other.get("nodePort")) {
                port["nodePort"] = node.clone();
            }
            port
        })
        .collect();
    Some(json!({"op": "add", "path": "/spec/ports", "value": kept}))
}

/// A port without what the API server adds.
fn bare(port: &Value) -> Value {
    let mut bare = json!({
        "name": port["name"],
        "port": port["port"],
        "targetPort": if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] },
        "protocol": protocol(port),
    });
    if let Some(protocol) = port.get("appProtocol").filter(|p| !p.is_null()) {
        bare["appProtocol"] = protocol.clone();
    }
    bare
}

fn protocol(port: &Value) -> &str {
    port.str_at("/protocol").unwrap_or("TCP")
}

fn port_ref(port: &PortRef) -> Value {
    match port {
        PortRef::Number(number) => json!(number),
        PortRef::Name(name) => json!(name),
    }
}
