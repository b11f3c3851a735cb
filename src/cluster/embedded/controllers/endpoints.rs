//! Services: `EndpointSlices` and Endpoints of the pods that they select.

use serde_json::{Value, json};

use super::{
    Again, ENDPOINT_SLICE, ENDPOINTS, MANAGER, is_deleted, owner_reference, pods::is_ready, suffix,
};
use crate::{
    api::objects::{Kind, Object, ObjectExt, POD, SERVICE},
    cluster::embedded::{status::Status, store::Store},
};

/// Label of an `EndpointSlice`: the Service it belongs to.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service's `selector` takes `pod`; an empty or absent one takes none.
pub(in crate::cluster::embedded) fn selects(selector: &Value, pod: &Value) -> bool {
    let Some(selector) = selector.as_object().filter(|s| !s.is_empty()) else {
        return false;
    };
    selector
        .iter()
        .all(|(key, value)| pod.label(key).is_some_and(|l| Some(l) == value.as_str()))
}

/// The pods behind a Service, ready or not, those on their way out left out.
pub(in crate::cluster::embedded) fn backing(store: &Store, service: &Value) -> Vec<Object> {
    let mut pods = store.list(&POD, Some(service.namespace()));
    pods.retain(|pod| !is_deleted(pod) && selects(&service["spec"]["selector"], pod));
    pods
}

pub(super) fn reconcile(store: &Store, ns: &str, name: &str) -> Again {
    let Some(service) = store.get(&SERVICE, ns, name) else {
        return Ok(None);
    };
    let has_selector = service["spec"]["selector"]
        .as_object()
        .is_some_and(|s| !s.is_empty());
    if is_deleted(&service) || !has_selector {
        return Ok(None);
    }
    let mut pods = backing(store, &service);
    pods.retain(|pod| pod.str_at("/status/podIP").is_some());
    write_slice(store, &service, &pods)?;
    write_endpoints(store, &service, &pods)?;
    Ok(None)
}

fn labels(service: &Value, own: &[(&str, &str)]) -> Value {
    let mut labels = service["metadata"]["labels"].clone();
    if !labels.is_object() {
        labels = json!({});
    }
    for (key, value) in own {
        labels[*key] = json!(value);
    }
    labels
}

fn target_ref(pod: &Value) -> Value {
    json!({"kind": "Pod", "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()})
}

/// The Service's ports as the pods have them.
fn ports(service: &Value, pods: &[Object]) -> Vec<Value> {
    let ports = service.array_at("/spec/ports").iter();
    ports
        .filter_map(|port| {
            let number = target_port(port, pods)?;
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            let mut out = json!({"port": number, "protocol": protocol});
            for key in ["name", "appProtocol"] {
                if let Some(value) = port[key].as_str() {
                    out[key] = json!(value);
                }
            }
            Some(out)
        })
        .collect()
}

/// The number that `targetPort` means; a name is looked up in the pods, and unknown without one that has it.
pub(in crate::cluster::embedded) fn target_port(port: &Value, pods: &[Object]) -> Option<i64> {
    let Some(name) = port["targetPort"].as_str() else {
        return port["targetPort"]
            .as_i64()
            .or_else(|| port["port"].as_i64());
    };
    let containers = pods.iter().flat_map(|pod| pod.array_at("/spec/containers"));
    let mut named = containers.flat_map(|c| c.array_at("/ports"));
    named.find(|p| p["name"] == json!(name))?["containerPort"].as_i64()
}

fn write_slice(store: &Store, service: &Value, pods: &[Object]) -> Result<(), Status> {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|pod| {
            let ready = is_ready(pod);
            json!({
                "addresses": [pod.str_at("/status/podIP")],
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "nodeName": pod.str_at("/spec/nodeName"),
                "targetRef": target_ref(pod),
            })
        })
        .collect();
    let own = [
        (SERVICE_NAME, service.name()),
        (
            "endpointslice.kubernetes.io/managed-by",
            "endpointslice-controller.k8s.io",
        ),
    ];
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", service.name(), suffix(service.uid(), 5)),
            "namespace": service.namespace(),
            "labels": labels(service, &own),
            "ownerReferences": [owner_reference(&SERVICE, service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports(service, pods),
    });
    put(store, &ENDPOINT_SLICE, slice, &["endpoints", "ports"])
}

fn write_endpoints(store: &Store, service: &Value, pods: &[Object]) -> Result<(), Status> {
    let addresses = |ready: bool| -> Vec<Value> {
        let pods = pods.iter().filter(|pod| is_ready(pod) == ready);
        pods.map(|pod| {
            json!({
                "ip": pod.str_at("/status/podIP"),
                "nodeName": pod.str_at("/spec/nodeName"),
                "targetRef": target_ref(pod),
            })
        })
        .collect()
    };
    let mut subset = json!({"ports": ports(service, pods)});
    for (key, list) in [
        ("addresses", addresses(true)),
        ("notReadyAddresses", addresses(false)),
    ] {
        if !list.is_empty() {
            subset[key] = json!(list);
        }
    }
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": service.name(),
            "namespace": service.namespace(),
            "labels": labels(service, &[]),
            "ownerReferences": [owner_reference(&SERVICE, service)],
        },
        "subsets": if pods.is_empty() { json!([]) } else { json!([subset]) },
    });
    put(store, &ENDPOINTS, endpoints, &["subsets"])
}

/// Creates the object, or brings `fields` and the labels of the one that is there up to date.
fn put(store: &Store, kind: &Kind, object: Value, fields: &[&str]) -> Result<(), Status> {
    let (ns, name) = (object.namespace().to_owned(), object.name().to_owned());
    if store.get(kind, &ns, &name).is_none() {
        return store.create(kind, object, MANAGER).map(drop);
    }
    let write = |current: &mut Value| {
        current["metadata"]["labels"] = object["metadata"]["labels"].clone();
        for field in fields {
            current[*field] = object[*field].clone();
        }
    };
    store.modify(kind, &ns, &name, MANAGER, write).map(drop)
}
