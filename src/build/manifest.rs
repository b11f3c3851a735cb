//! A Canary for a Deployment that has none, ready to apply.

use serde_json::Value;

use super::services::PROXIES;
use crate::api::objects::{ObjectExt, Objects};

/// A complete Canary manifest (YAML) for a Deployment: its port as its Service or its container has it, its autoscaler and the gateways of
/// its `VirtualService` where `objects` has them.
#[must_use]
pub fn manifest_for(deployment: &Value, objects: &Objects) -> String {
    let (namespace, name) = (deployment.namespace(), deployment.name());
    let scaler = objects.scaler.as_ref().map_or(String::new(), |scaler| {
        format!(
            "  autoscalerRef:
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    name: {}
",
            scaler.name()
        )
    });
    let ports = ports(deployment, objects);
    let route = objects.virtual_service.as_ref();
    let lists = ["gateways", "hosts"].map(|key| {
        list(
            key,
            route.map_or(&[], |route| route.array_at(&format!("/spec/{key}"))),
        )
    });
    format!(
        "apiVersion: flagger.app/v1beta1
kind: Canary
metadata:
  name: {name}
  namespace: {namespace}
spec:
  provider: istio
  targetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {name}
{scaler}  service:
{ports}{}  analysis:
    interval: 1m
    threshold: 3
    maxWeight: 30
    stepWeight: 5
    metrics:
      - name: request-success-rate
        interval: 1m
        thresholdRange:
          min: 99
      - name: request-duration
        interval: 1m
        thresholdRange:
          max: 500
",
        lists.concat()
    )
}

fn ports(deployment: &Value, objects: &Objects) -> String {
    let service = objects
        .apex
        .as_ref()
        .and_then(|apex| apex.array_at("/spec/ports").first());
    let container = deployment
        .array_at("/spec/template/spec/containers")
        .iter()
        .filter(|container| !PROXIES.iter().any(|proxy| container["name"] == *proxy))
        .find_map(|container| container.array_at("/ports").first());
    if let Some(port) = service {
        let number = &port["port"];
        let target = port.get("targetPort").unwrap_or(number);
        let target = target
            .as_str()
            .map_or_else(|| target.to_string(), str::to_owned);
        format!("    port: {number}\n    targetPort: {target}\n")
    } else if let Some(port) = container {
        let number = &port["containerPort"];
        format!("    port: {number}\n    targetPort: {number}\n")
    } else {
        "    port: 80 # no port is declared: put in the one that the container listens on\n"
            .to_owned()
    }
}

/// A list of strings as YAML, each in JSON's quotes.
fn list(key: &str, items: &[Value]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let mut lines = vec![format!("    {key}:\n")];
    lines.extend(items.iter().map(|item| format!("      - {item}\n")));
    lines.concat()
}
