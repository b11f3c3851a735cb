//! Defaults of the built-in kinds: what kubectl and clients see in an object that they wrote shorter.

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use super::{crd, kinds::Served};
use crate::api::objects::ObjectExt;

/// Fills in what the API server fills in. The same for a create and an update.
pub(super) fn fill(served: &Served, object: &mut Value) {
    if served.custom.is_some() {
        return;
    }
    match served.kind.as_str() {
        "Pod" => {
            pod_spec(&mut object["spec"]);
            for list in ["containers", "initContainers"] {
                items(&mut object["spec"], list).for_each(requests_from_limits);
            }
        }
        "Deployment" => {
            let spec = &mut object["spec"];
            set(spec, "replicas", json!(1));
            set(spec, "revisionHistoryLimit", json!(10));
            set(spec, "progressDeadlineSeconds", json!(600));
            rolling(
                spec,
                "strategy",
                &json!({"maxSurge": "25%", "maxUnavailable": "25%"}),
            );
            template(spec);
        }
        "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            other_workload(&served.kind, &mut object["spec"]);
        }
        "Service" => service(&mut object["spec"]),
        "Secret" => secret(object),
        "Namespace" => {
            let name = json!(object.name());
            set(&mut object["spec"], "finalizers", json!(["kubernetes"]));
            set(
                &mut object["metadata"]["labels"],
                "kubernetes.io/metadata.name",
                name,
            );
        }
        "HorizontalPodAutoscaler" => set(&mut object["spec"], "minReplicas", json!(1)),
        "EndpointSlice" => {
            for port in items(object, "ports") {
                set(port, "name", json!(""));
                set(port, "protocol", json!("TCP"));
            }
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            set(
                &mut object["roleRef"],
                "apiGroup",
                json!("rbac.authorization.k8s.io"),
            );
        }
        "CustomResourceDefinition" => crd::fill_defaults(object),
        _ => {}
    }
}

fn other_workload(kind: &str, spec: &mut Value) {
    match kind {
        "StatefulSet" => {
            set(spec, "replicas", json!(1));
            set(spec, "revisionHistoryLimit", json!(10));
            set(spec, "podManagementPolicy", json!("OrderedReady"));
            rolling(spec, "updateStrategy", &json!({"partition": 0}));
        }
        "DaemonSet" => {
            set(spec, "revisionHistoryLimit", json!(10));
            let parameters = json!({"maxSurge": 0, "maxUnavailable": 1});
            rolling(spec, "updateStrategy", &parameters);
        }
        _ => set(spec, "replicas", json!(1)),
    }
    template(spec);
}

/// The status that a new object begins with; none where there is no status.
pub(super) fn initial_status(served: &Served) -> Option<Value> {
    if served.custom.is_some() {
        return None;
    }
    match served.kind.as_str() {
        "Pod" => Some(json!({"phase": "Pending", "qosClass": "BestEffort"})),
        "Namespace" => Some(json!({"phase": "Active"})),
        "Service" | "Ingress" => Some(json!({"loadBalancer": {}})),
        "Deployment" | "Node" => Some(json!({})),
        "ReplicaSet" => Some(json!({"replicas": 0})),
        "StatefulSet" => Some(json!({"replicas": 0, "availableReplicas": 0})),
        "DaemonSet" => Some(json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        })),
        "HorizontalPodAutoscaler" => Some(json!({"desiredReplicas": 0, "currentMetrics": null})),
        _ => None,
    }
}

/// Sets a field that is absent or null.
fn set(object: &mut Value, key: &str, value: Value) {
    if object.is_null() {
        *object = json!({});
    }
    if let Some(fields) = object.as_object_mut()
        && fields.get(key).is_none_or(Value::is_null)
    {
        fields.insert(key.to_owned(), value);
    }
}

fn items<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter(|item| item.is_object())
}

fn rolling(spec: &mut Value, field: &str, parameters: &Value) {
    set(spec, field, json!({}));
    let strategy = &mut spec[field];
    set(strategy, "type", json!("RollingUpdate"));
    if strategy["type"] != "RollingUpdate" {
        return;
    }
    for (key, value) in parameters.as_object().into_iter().flatten() {
        set(&mut strategy["rollingUpdate"], key, value.clone());
    }
}

fn template(spec: &mut Value) {
    if spec["template"].is_object() {
        pod_spec(&mut spec["template"]["spec"]);
    }
}

fn pod_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", json!("default-scheduler"));
    if let Some(account) = spec.str_at("/serviceAccountName").map(str::to_owned) {
        set(spec, "serviceAccount", json!(account));
    }
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            fill_container(container);
        }
    }
    for volume in items(spec, "volumes") {
        if volume.as_object().is_some_and(|v| v.len() == 1) {
            set(volume, "emptyDir", json!({}));
        }
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            if volume[source].is_object() {
                set(&mut volume[source], "defaultMode", json!(420));
            }
        }
    }
}

fn fill_container(container: &mut Value) {
    let policy = pull_policy(container.str_at("/image").unwrap_or_default());
    set(container, "imagePullPolicy", json!(policy));
    set(container, "resources", json!({}));
    set(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    set(container, "terminationMessagePolicy", json!("File"));
    for port in items(container, "ports") {
        set(port, "protocol", json!("TCP"));
    }
    for variable in items(container, "env") {
        if variable["valueFrom"]["fieldRef"].is_object() {
            set(
                &mut variable["valueFrom"]["fieldRef"],
                "apiVersion",
                json!("v1"),
            );
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if !container[probe].is_object() {
            continue;
        }
        let probe = &mut container[probe];
        for (key, value) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            set(probe, key, json!(value));
        }
        if probe["grpc"].is_object() {
            set(&mut probe["grpc"], "service", json!(""));
        }
        if probe["httpGet"].is_object() {
            set(&mut probe["httpGet"], "path", json!("/"));
            set(&mut probe["httpGet"], "scheme", json!("HTTP"));
        }
    }
}

/// Requests follow the limits where they are not given: of a pod, not of a template.
fn requests_from_limits(container: &mut Value) {
    let limits: Map<String, Value> = container["resources"]["limits"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    for (resource, limit) in limits {
        set(&mut container["resources"]["requests"], &resource, limit);
    }
}

/// `Always` for `latest`, spelled out or not; an image by digest never changes.
fn pull_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or_default();
    if image.contains('@') {
        return "IfNotPresent";
    }
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn service(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set(spec, "type", json!("ClusterIP"));
    set(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        // Three hours.
        let timeout = &mut spec["sessionAffinityConfig"]["clientIP"];
        set(timeout, "timeoutSeconds", json!(10_800));
    }
    if spec["type"] != "ExternalName" {
        set(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    if matches!(spec["type"].as_str(), Some("LoadBalancer" | "NodePort")) {
        set(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    for port in items(spec, "ports") {
        set(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        if number.is_number() {
            set(port, "targetPort", number);
        }
    }
}

/// `stringData` is how a person writes what is kept in `data`, in base64.
fn secret(object: &mut Value) {
    set(object, "type", json!("Opaque"));
    let Some(plain) = object
        .as_object_mut()
        .and_then(|fields| fields.remove("stringData"))
    else {
        return;
    };
    for (key, text) in plain.as_object().into_iter().flatten() {
        let bytes = ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
        if !object["data"].is_object() {
            object["data"] = json!({});
        }
        object["data"][key] = json!(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::embedded::kinds::Catalog;

    fn filled(group: &str, plural: &str, mut object: Value) -> Value {
        let served = Catalog::builtin().find(group, "v1", plural).unwrap();
        fill(&served, &mut object);
        object
    }

    #[test]
    fn a_deployment_gets_the_defaults_of_apps_v1() {
        let given = json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {
            "containers": [{"name": "c", "image": "registry.example/x:1", "ports": [{"containerPort": 80}]}]}}}});
        assert_eq!(
            filled("apps", "deployments", given),
            json!({"metadata": {"name": "a"}, "spec": {
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"spec": {
                    "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                    "securityContext": {}, "schedulerName": "default-scheduler",
                    "containers": [{"name": "c", "image": "registry.example/x:1", "imagePullPolicy": "IfNotPresent",
                        "resources": {}, "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}}})
        );
    }

    #[test]
    fn what_is_given_stays() {
        let given = json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}});
        let filled = filled("apps", "deployments", given);
        assert_eq!(filled["spec"]["replicas"], 0);
        assert_eq!(filled["spec"]["strategy"], json!({"type": "Recreate"}));
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1.2", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn services_and_secrets() {
        let service = filled("", "services", json!({"spec": {"ports": [{"port": 80}]}}));
        assert_eq!(
            service,
            json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}})
        );
        let secret = filled("", "secrets", json!({"stringData": {"a": "hello"}}));
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGVsbG8="}}));
    }
}
