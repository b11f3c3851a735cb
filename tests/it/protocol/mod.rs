//! The embedded API server against a genuine one: the same requests to both, the answers compared field by field.
//!
//! A scenario is a name and its requests, as data. What is not compared, and what the embedded server does not imitate on purpose, are the lists of
//! [`compare`]; anything else that differs is a bug of the embedded server.

mod apply;
mod compare;
mod custom;
mod definitions;
mod deletion;
mod discovery;
mod errors;
mod forms;
mod frame;
mod lists;
mod patches;
mod subresources;
mod watches;
mod writes;

use crate::control_plane::Feature;
use frame::{Scenario, Step, call, check, delete, get, more, patch, post, put};
use serde_json::{Value, json};

/// The collections of the scenario's namespace. `ConfigMap`: no controller writes it, no generation, no status. Lease: the same, and a namespace begins
/// without one, so that lists and watches see the scenario's own alone. Deployments are paused, so that their controller makes no pods.
const MAPS: &str = "/api/v1/namespaces/{ns}/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/{ns}/deployments";
const WIDGETS: &str = "/apis/protocol.canary-mcp.dev/v1/namespaces/{ns}/widgets";

/// `COLLECTION/NAME`.
fn at(collection: &str, name: &str) -> String {
    format!("{collection}/{name}")
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn lease(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "labels": labels},
        "spec": {"holderIdentity": "h"}})
}

fn widget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "paused": true, "replicas": 0, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "containers": [{"name": "c", "image": "registry.example/x:1"}]}}}})
}
