//! What is rendered, installed in a genuine control plane.

use std::{io::Write as _, process::Stdio, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{NAMESPACE, label, path, render};
use crate::{
    control_plane::{ControlPlane, Feature},
    tools,
};

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

/// Waits until the Deployments of a namespace have all their pods, so that each has been admitted; their names without what is random.
async fn pods(control_plane: &Arc<ControlPlane>, namespace: &str, wanted: usize) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(control_plane.client(), namespace);
    let mut there = Vec::new();
    for _ in 0..600 {
        let listed = pods.list(&ListParams::default()).await.unwrap().items;
        there = listed.iter().map(kube::ResourceExt::name_any).collect();
        if there.len() >= wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A ReplicaSet says why a pod was refused.
    let events: Api<Event> = Api::namespaced(control_plane.client(), namespace);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let told: Vec<String> = events.into_iter().filter_map(|e| e.message).collect();
    assert_eq!(there.len(), wanted, "{there:?}; {told:#?}");
    let mut owners: Vec<String> = there
        .iter()
        .map(|name| name.rsplitn(3, '-').last().unwrap().to_owned())
        .collect();
    owners.sort();
    owners
}

/// From now on the namespace takes only pods of the strictest profile.
async fn restrict(control_plane: &Arc<ControlPlane>, namespace: &str) {
    let all: Api<Namespace> = Api::all(control_plane.client());
    let labels = json!({"metadata": {"labels": {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    }}});
    let patch = Patch::Merge(labels);
    all.patch(namespace, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn control_plane() -> Option<Arc<ControlPlane>> {
    tools::need("helm")?;
    let control_plane = ControlPlane::shared().await?;
    // PodSecurity is part of every API server from 1.25 on.
    if control_plane.lacks(Feature::Controllers).is_some() || control_plane.version() < (1, 25) {
        return None;
    }
    control_plane.install_crds().await;
    Some(control_plane)
}

/// Every variant is taken by a genuine API server as it is, without a word of warning, and its pods are admitted where only `restricted`
/// ones are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_variant_can_be_installed() {
    let Some(control_plane) = control_plane().await else {
        return;
    };
    for (values, wanted) in [
        ("all-in-one.yaml", &["canary-mcp"; 2][..]),
        ("insecure.yaml", &["canary-mcp"; 2]),
        ("read-only.yaml", &["canary-mcp"; 2]),
        ("dry-run.yaml", &["canary-mcp"; 2]),
        ("namespaced-one.yaml", &["canary-mcp"; 2]),
        ("rights.yaml", &[]),
        (
            "split.yaml",
            &[
                "canary-mcp",
                "canary-mcp",
                "canary-mcp-engine",
                "canary-mcp-engine",
            ],
        ),
        // Nobody scales here, and a Deployment without a number has one pod.
        (
            "split-hpa.yaml",
            &["canary-mcp", "canary-mcp-engine", "canary-mcp-engine"],
        ),
        (
            "split-keda.yaml",
            &["canary-mcp", "canary-mcp-engine", "canary-mcp-engine"],
        ),
        (
            "everything.yaml",
            &[
                "canary-mcp-canaries",
                "canary-mcp-canaries",
                "canary-mcp-canaries",
                "canary-mcp-canaries-engine",
                "canary-mcp-canaries-engine",
                "canary-mcp-canaries-engine",
            ],
        ),
    ] {
        let namespace = control_plane.namespace("install").await;
        let name = namespace.name();
        restrict(&control_plane, name).await;
        let here = [
            format!("leaseNamespace={name}"),
            format!("clusters.argocd.namespace={name}"),
        ];
        let mut set: Vec<&str> = here.iter().map(String::as_str).collect();
        let scoped = format!("rbac.namespaces={{{name}}}");
        if values.starts_with("namespaced") {
            set.push(&scoped);
        }
        let objects = release(values, name, &set).expect("helm has been found");
        let said = apply(&control_plane, &objects);
        assert!(!said.contains("Warning"), "{values}: {said}");
        assert_eq!(
            pods(&control_plane, name, wanted.len()).await,
            wanted,
            "{values}"
        );
        namespace.finish().await;
    }
}

/// `kubectl apply -k`, one after the other, into a cluster that has nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_manifests_can_be_applied() {
    let Some(control_plane) = ControlPlane::own().await else {
        return;
    };
    if control_plane.lacks(Feature::Controllers).is_some() || control_plane.version() < (1, 25) {
        return;
    }
    let namespaces: Api<Namespace> = Api::all(control_plane.client());
    let team = json!({"metadata": {"name": "ai-platform"}});
    let team = serde_json::from_value(team).unwrap();
    namespaces
        .create(&PostParams::default(), &team)
        .await
        .unwrap();
    let split = [
        "canary-mcp",
        "canary-mcp",
        "canary-mcp-engine",
        "canary-mcp-engine",
    ];
    for (folder, wanted) in [
        ("rights", &[][..]),
        ("overlays/read-only", &["canary-mcp"; 2]),
        ("overlays/namespaced", &["canary-mcp"; 2]),
        ("overlays/all-in-one", &["canary-mcp"; 2]),
        ("overlays/split", &split),
    ] {
        let mut kubectl = control_plane.kubectl();
        let at = path("kustomize").join(folder);
        let ran = kubectl
            .args(["apply", "--server-side", "--force-conflicts", "--kustomize"])
            .arg(at)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{folder}: {said}");
        let there = pods(&control_plane, NAMESPACE, wanted.len()).await;
        assert_eq!(there, wanted, "{folder}");
        // The next one begins anew.
        let mut kubectl = control_plane.kubectl();
        kubectl.args(["--namespace", NAMESPACE, "delete", "deployments", "--all"]);
        kubectl.args(["--cascade=foreground", "--wait"]);
        assert!(kubectl.output().unwrap().status.success(), "{folder}");
    }
}
