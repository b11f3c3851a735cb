//! Built-in kinds by their types: wrong types are refused, fields that the version does not know are dropped.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Secret, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    events::v1::Event,
    networking::v1::Ingress,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::kinds::Served;

/// Drops the fields that the kind does not have, and names them.
///
/// # Errors
/// A field with a value of the wrong type.
pub(super) fn prune(served: &Served, object: &mut Value) -> Result<Vec<String>, String> {
    let known = match (served.group.as_str(), served.kind.as_str()) {
        ("apps", "Deployment") => known::<Deployment>(object),
        ("apps", "ReplicaSet") => known::<ReplicaSet>(object),
        ("apps", "StatefulSet") => known::<StatefulSet>(object),
        ("apps", "DaemonSet") => known::<DaemonSet>(object),
        ("apps", "ControllerRevision") => known::<ControllerRevision>(object),
        ("", "Pod") => known::<Pod>(object),
        ("", "Service") => known::<Service>(object),
        ("", "ConfigMap") => known::<ConfigMap>(object),
        ("", "Secret") => known::<Secret>(object),
        ("", "ServiceAccount") => known::<ServiceAccount>(object),
        ("", "Namespace") => known::<Namespace>(object),
        ("", "Node") => known::<Node>(object),
        ("", "Endpoints") => known::<Endpoints>(object),
        ("events.k8s.io", "Event") => known::<Event>(object),
        ("discovery.k8s.io", "EndpointSlice") => known::<EndpointSlice>(object),
        ("autoscaling", "HorizontalPodAutoscaler") => known::<HorizontalPodAutoscaler>(object),
        ("coordination.k8s.io", "Lease") => known::<Lease>(object),
        ("networking.k8s.io", "Ingress") => known::<Ingress>(object),
        ("rbac.authorization.k8s.io", "Role") => known::<Role>(object),
        ("rbac.authorization.k8s.io", "RoleBinding") => known::<RoleBinding>(object),
        ("rbac.authorization.k8s.io", "ClusterRole") => known::<ClusterRole>(object),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => known::<ClusterRoleBinding>(object),
        // A definition is kept whole: its schema has more extensions than any one version's type.
        _ => return Ok(Vec::new()),
    }?;
    let mut unknown = Vec::new();
    retain(object, &known, "", &mut unknown);
    if matches!(served.kind.as_str(), "ConfigMap" | "Secret") {
        without_empty_maps(object);
    }
    Ok(unknown)
}

/// As Go's omitempty does: maps without entries are not there.
fn without_empty_maps(object: &mut Value) {
    for key in ["data", "binaryData", "stringData"] {
        if object
            .get(key)
            .and_then(Value::as_object)
            .is_some_and(serde_json::Map::is_empty)
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove(key);
        }
    }
}

/// The object as its type writes it: only the fields that the type has.
fn known<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

fn retain(value: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (value, known) {
        (Value::Object(fields), Value::Object(known)) => fields.retain(|name, child| {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            match known.get(name) {
                Some(known) => {
                    retain(child, known, &path, unknown);
                    true
                }
                // A null says nothing.
                None if child.is_null() => false,
                None => {
                    unknown.push(path);
                    false
                }
            }
        }),
        (Value::Array(items), Value::Array(known)) => {
            for (at, (item, known)) in items.iter_mut().zip(known).enumerate() {
                retain(item, known, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::Catalog;

    #[test]
    fn unknown_fields_go_and_wrong_types_are_refused() {
        let served = Catalog::builtin()
            .find("apps", "v1", "deployments")
            .unwrap();
        let given = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "creationTimestamp": null},
            "spec": {"replica": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [
                {"name": "c", "image": "x", "typo": {}, "resources": {"limits": {"cpu": 1}}, "ports": [{"containerPort": 80}]}]}}}});
        let mut object = given.clone();
        let unknown = prune(&served, &mut object).unwrap();
        assert_eq!(
            unknown,
            ["spec.replica", "spec.template.spec.containers[0].typo"]
        );
        assert_eq!(object["spec"].get("replica"), None);
        assert_eq!(object["metadata"], json!({"name": "a"}));
        let mut wrong = given;
        wrong["spec"]["replicas"] = json!("two");
        assert!(prune(&served, &mut wrong).unwrap_err().contains("two"));
    }
}
