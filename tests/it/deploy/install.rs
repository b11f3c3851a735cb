//! What is rendered, installed in a genuine control plane.

use std::{io::Write as _, process::Stdio, sync::Arc};

use serde_json::Value;

use super::{label, path, render};
use crate::control_plane::ControlPlane;

/// Kinds whose definitions no test of ours installs.
const OF_OTHERS: [&str; 4] = [
    "HTTPRoute",
    "PrometheusRule",
    "ServiceMonitor",
    // Installed already: `install_crds`.
    "CustomResourceDefinition",
];

/// The chart with these values, as a release in this namespace. `None` without helm.
pub(crate) fn release(values: &str, namespace: &str, set: &[&str]) -> Option<Vec<Value>> {
    let values = path("chart/ci").join(values);
    let mut arguments = vec![
        "--namespace",
        namespace,
        "--values",
        values.to_str().unwrap(),
    ];
    arguments.extend(set.iter().flat_map(|value| ["--set", value]));
    let mut objects = render(&path("chart"), &arguments)?.unwrap();
    objects.retain(|object| !OF_OTHERS.contains(&object["kind"].as_str().unwrap()));
    Some(objects)
}

/// `kubectl apply`; what it says, a warning included.
pub(crate) fn apply(control_plane: &Arc<ControlPlane>, objects: &[Value]) -> String {
    for object in objects {
        // What is in no namespace of the test's own does not go with it.
        let kind = object["kind"].as_str().unwrap();
        if kind.starts_with("ClusterRole") {
            let name = object["metadata"]["name"].as_str().unwrap();
            control_plane.undo(&["delete", kind, name]);
        }
    }
    let mut kubectl = control_plane.kubectl();
    let mut child = kubectl
        .args(["apply", "--server-side", "--filename", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.join("\n---\n").as_bytes()).unwrap();
    drop(stdin);
    let ran = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let names: Vec<String> = objects.iter().map(label).collect();
    assert!(ran.status.success(), "{names:?}: {said}");
    said
}

/// The roles, bindings and accounts among these objects.
pub(crate) fn only_rights(objects: &[Value]) -> Vec<Value> {
    let ours = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    let of_rights = |o: &&Value| ours.contains(&o["kind"].as_str().unwrap());
    objects.iter().filter(of_rights).cloned().collect()
}
