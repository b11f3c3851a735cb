//! Light validation of the built-in kinds: what a wrong manifest trips over on a real cluster.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{crd, kinds::Served, metadata, status::Cause};
use crate::api::objects::ObjectExt;

/// The mistakes of an object; `old` is what it was, at an update.
pub(super) fn mistakes(served: &Served, old: Option<&Value>, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    metadata::check(served, object, &mut causes);
    if served.custom.is_some() {
        return causes;
    }
    match served.kind.as_str() {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            check_workload(served, old, object, &mut causes);
        }
        "Pod" => match old {
            None => check_pod(&object["spec"], "spec", &mut causes),
            Some(old) => check_pod_update(old, object, &mut causes),
        },
        "Service" => check_service(old, object, &mut causes),
        "ConfigMap" | "Secret" => check_immutable_data(old, object, &mut causes),
        "ControllerRevision" => check_revision(old, object, &mut causes),
        "HorizontalPodAutoscaler" => check_autoscaler(object, &mut causes),
        "Lease" => check_lease(object, &mut causes),
        "Event" => check_event(old, object, &mut causes),
        "CustomResourceDefinition" => causes.extend(crd::validate(object)),
        _ => {}
    }
    causes
}

fn check_workload(served: &Served, old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let selector = &object["spec"]["selector"];
    if !selector.is_object() {
        causes.push(Cause::required("spec.selector", ""));
    } else if selector == &json!({}) {
        let why = format!(
            "empty selector is invalid for {}",
            served.kind.to_lowercase()
        );
        causes.push(Cause::invalid("spec.selector", selector, &why));
    }
    if object.int_at("/spec/replicas").is_some_and(|n| n < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid(
            "spec.replicas",
            &object["spec"]["replicas"],
            why,
        ));
    }
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    let matches = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    if !matches {
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", labels, why));
    }
    let strategy = &object["spec"]["strategy"];
    if served.kind == "Deployment"
        && strategy["type"] == "Recreate"
        && strategy["rollingUpdate"].is_object()
    {
        causes.push(Cause {
            reason: "FieldValueForbidden",
            message: "Forbidden: may not be specified when strategy `type` is 'Recreate'"
                .to_owned(),
            field: "spec.strategy.rollingUpdate".to_owned(),
        });
    }
    let spec = &object["spec"]["template"]["spec"];
    check_pod(spec, "spec.template.spec", causes);
    if spec.str_at("/restartPolicy").is_some_and(|p| p != "Always") {
        let allowed = [json!("Always")];
        let field = "spec.template.spec.restartPolicy";
        causes.push(Cause::unsupported(field, &spec["restartPolicy"], &allowed));
    }
    if let Some(old) = old
        && old["spec"]["selector"] != *selector
    {
        causes.push(Cause::invalid(
            "spec.selector",
            selector,
            "field is immutable",
        ));
    }
}

fn check_pod(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let containers = spec.array_at("/containers");
    if containers.is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        for (at, container) in spec.array_at(&format!("/{list}")).iter().enumerate() {
            let path = format!("{path}.{list}[{at}]");
            let name = container["name"].as_str().unwrap_or_default();
            if name.is_empty() {
                causes.push(Cause::required(format!("{path}.name"), ""));
            } else if !metadata::is_label(name) {
                causes.push(Cause::invalid(
                    format!("{path}.name"),
                    &json!(name),
                    metadata::DNS_LABEL,
                ));
            } else if !names.insert(name) {
                causes.push(duplicate(format!("{path}.name"), &json!(name)));
            }
            if container["image"]
                .as_str()
                .is_none_or(|i| i.trim().is_empty())
            {
                causes.push(Cause::required(format!("{path}.image"), ""));
            }
            for (at, port) in container.array_at("/ports").iter().enumerate() {
                let field = format!("{path}.ports[{at}].containerPort");
                check_port(&port["containerPort"], field, causes);
            }
        }
    }
    let volumes: BTreeSet<&str> = spec
        .array_at("/volumes")
        .iter()
        .filter_map(|v| v["name"].as_str())
        .collect();
    for (c, container) in containers.iter().enumerate() {
        for (m, mount) in container.array_at("/volumeMounts").iter().enumerate() {
            let name = mount["name"].as_str().unwrap_or_default();
            if !volumes.contains(name) {
                causes.push(Cause {
                    reason: "FieldValueNotFound",
                    message: format!("Not found: {name:?}"),
                    field: format!("{path}.containers[{c}].volumeMounts[{m}].name"),
                });
            }
        }
    }
}

fn duplicate(field: String, value: &Value) -> Cause {
    Cause {
        reason: "FieldValueDuplicate",
        message: format!("Duplicate value: {value}"),
        field,
    }
}

fn check_port(port: &Value, field: String, causes: &mut Vec<Cause>) {
    match port.as_i64() {
        None => causes.push(Cause::required(field, "")),
        Some(1..=65535) => {}
        Some(_) => {
            causes.push(Cause::invalid(
                field,
                port,
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
}

/// Of a pod only the images, the deadline and added tolerations may change.
fn check_pod_update(old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for key in [
            "tolerations",
            "activeDeadlineSeconds",
            "nodeName",
            "terminationGracePeriodSeconds",
        ] {
            if let Some(fields) = spec.as_object_mut() {
                fields.remove(key);
            }
        }
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
            if spec[list].is_null()
                && let Some(fields) = spec.as_object_mut()
            {
                fields.remove(list);
            }
        }
        spec
    };
    let bound = old["spec"]["nodeName"].is_string()
        && old["spec"]["nodeName"] != object["spec"]["nodeName"];
    if fixed(old) != fixed(object) || bound {
        causes.push(Cause {
            reason: "FieldValueForbidden",
            message: "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)".to_owned(),
            field: "spec".to_owned(),
        });
    }
}

fn check_service(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let ports = spec.array_at("/ports");
    let external = spec["type"] == "ExternalName";
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].map(Value::from);
    if !kinds.contains(&spec["type"]) {
        causes.push(Cause::unsupported("spec.type", &spec["type"], &kinds));
    }
    if ports.is_empty() && !external && spec["clusterIP"] != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    if external && spec.str_at("/externalName").is_none_or(str::is_empty) {
        causes.push(Cause::required("spec.externalName", ""));
    }
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{at}]");
        check_port(&port["port"], format!("{path}.port"), causes);
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !name.is_empty() && !names.insert(name) {
            causes.push(duplicate(format!("{path}.name"), &json!(name)));
        }
        if !numbers.insert((port["port"].to_string(), port["protocol"].to_string())) {
            let value = json!({"port": port["port"], "protocol": port["protocol"]});
            causes.push(duplicate(path, &value));
        }
    }
    let was = old.and_then(|o| o.str_at("/spec/clusterIP"));
    let is = spec.str_at("/clusterIP");
    if was.is_some() && was != is && !external {
        let value = json!(is.unwrap_or_default());
        causes.push(Cause::invalid(
            "spec.clusterIP",
            &value,
            "field is immutable",
        ));
    }
}

fn check_immutable_data(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else {
        return;
    };
    for key in ["data", "binaryData", "immutable"] {
        if old.get(key) != object.get(key) {
            causes.push(Cause {
                reason: "FieldValueForbidden",
                message: "Forbidden: field is immutable when `immutable` is set".to_owned(),
                field: key.to_owned(),
            });
        }
    }
}

fn check_revision(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    if object["data"].is_null() {
        causes.push(Cause::required("data", "data is mandatory"));
    }
    if let Some(old) = old
        && old["data"] != object["data"]
    {
        causes.push(Cause::invalid(
            "data",
            &object["data"],
            "field is immutable",
        ));
    }
}

fn check_autoscaler(object: &Value, causes: &mut Vec<Cause>) {
    let (least, most) = (
        object.int_at("/spec/minReplicas"),
        object.int_at("/spec/maxReplicas"),
    );
    match most {
        Some(most) if most >= 1 && least.is_none_or(|least| least <= most) => {}
        Some(most) => causes.push(Cause::invalid(
            "spec.maxReplicas",
            &json!(most),
            "must be greater than or equal to `minReplicas`",
        )),
        None => causes.push(Cause::required("spec.maxReplicas", "")),
    }
    for key in ["kind", "name"] {
        if object["spec"]["scaleTargetRef"][key]
            .as_str()
            .is_none_or(str::is_empty)
        {
            causes.push(Cause::required(format!("spec.scaleTargetRef.{key}"), ""));
        }
    }
}

fn check_lease(object: &Value, causes: &mut Vec<Cause>) {
    for (key, least, why) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        let value = &object["spec"][key];
        if value.as_i64().is_some_and(|n| n < least) {
            causes.push(Cause::invalid(format!("spec.{key}"), value, why));
        }
    }
}

/// Events of the newer API are checked strictly; those of the core API, which have a source, hardly at all.
fn check_event(old: Option<&Value>, object: &Value, causes: &mut Vec<Cause>) {
    let regarding = object.str_at("/regarding/namespace").unwrap_or_default();
    let own = object.namespace();
    if regarding != own && !(regarding.is_empty() && own == "default") {
        let why = "does not match event.namespace";
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &json!(regarding),
            why,
        ));
    }
    let legacy =
        object["deprecatedSource"].is_object() || object["deprecatedFirstTimestamp"].is_string();
    if legacy || old.is_some() {
        return;
    }
    for key in [
        "eventTime",
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        if object[key].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(key, ""));
        }
    }
    if !matches!(object["type"].as_str(), Some("Normal" | "Warning")) {
        let value = if object["type"].is_null() {
            json!("")
        } else {
            object["type"].clone()
        };
        causes.push(Cause::invalid(
            "type",
            &value,
            "has invalid value: must be Normal or Warning",
        ));
    }
    for (key, most) in [
        ("note", 1024),
        ("action", 128),
        ("reason", 128),
        ("reportingInstance", 128),
    ] {
        if object[key].as_str().is_some_and(|text| text.len() > most) {
            let why = format!("can have at most {most} characters");
            causes.push(Cause::invalid(key, &object[key], &why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::embedded::kinds::Catalog;

    fn check(group: &str, plural: &str, old: Option<&Value>, object: &Value, expected: &[&str]) {
        let version = if group == "autoscaling" { "v2" } else { "v1" };
        let served = Catalog::builtin().find(group, version, plural).unwrap();
        let fields: Vec<String> = mistakes(&served, old, object)
            .into_iter()
            .map(|c| format!("{} {}", c.field, c.reason.trim_start_matches("FieldValue")))
            .collect();
        assert_eq!(fields, expected, "{object}");
    }

    fn deployment() -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}})
    }

    #[test]
    fn workloads() {
        let good = deployment();
        check("apps", "deployments", None, &good, &[]);
        check(
            "apps",
            "deployments",
            None,
            &json!({"metadata": {"name": "A"}, "spec": {"template": {"spec": {"containers": [{"name": "C"}]}}}}),
            &[
                "metadata.name Invalid",
                "spec.selector Required",
                "spec.template.spec.containers[0].name Invalid",
                "spec.template.spec.containers[0].image Required",
            ],
        );
        let mut other = deployment();
        other["spec"]["selector"]["matchLabels"]["app"] = json!("b");
        check(
            "apps",
            "deployments",
            Some(&good),
            &other,
            &[
                "spec.template.metadata.labels Invalid",
                "spec.selector Invalid",
            ],
        );
    }

    #[test]
    fn services() {
        let one = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
        check(
            "",
            "services",
            None,
            &one(json!({"type": "ClusterIP"})),
            &["spec.ports Required"],
        );
        check(
            "",
            "services",
            None,
            &one(
                json!({"type": "ClusterIP", "ports": [{"port": 80}, {"port": 99999, "name": "x"}]}),
            ),
            &["spec.ports[0].name Required", "spec.ports[1].port Invalid"],
        );
        let old =
            one(json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{"port": 80}]}));
        let new =
            one(json!({"type": "ClusterIP", "clusterIP": "10.96.0.2", "ports": [{"port": 80}]}));
        check(
            "",
            "services",
            Some(&old),
            &new,
            &["spec.clusterIP Invalid"],
        );
    }

    #[test]
    fn events_of_the_newer_api_are_complete() {
        let legacy = json!({"metadata": {"name": "a.1", "namespace": "n"}, "regarding": {"namespace": "n"},
            "deprecatedSource": {"component": "x"}});
        check("events.k8s.io", "events", None, &legacy, &[]);
        let short = json!({"metadata": {"name": "a.1", "namespace": "n"}, "regarding": {"namespace": "m"},
            "reason": "R", "type": "Odd"});
        check(
            "events.k8s.io",
            "events",
            None,
            &short,
            &[
                "involvedObject.namespace Invalid",
                "eventTime Required",
                "reportingController Required",
                "reportingInstance Required",
                "action Required",
                "type Invalid",
            ],
        );
    }
}
