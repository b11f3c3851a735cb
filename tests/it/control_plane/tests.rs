//! The control plane is one: it serves, its controllers work, and it ends.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};

use super::{ControlPlane, Feature};

/// Polls until there are as many objects as wanted.
async fn until_count<K>(api: &Api<K>, wanted: usize)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut found = 0;
    for _ in 0..1200 {
        found = api.list(&ListParams::default()).await.unwrap().items.len();
        if found == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{found} objects and not {wanted} at {}", api.resource_url());
}

fn deployment() -> Deployment {
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]},
            },
        },
    });
    serde_json::from_value(deployment).unwrap()
}

#[tokio::test]
async fn a_deployment_gets_pods_and_its_deletion_takes_them_along() {
    let Some(control_plane) = ControlPlane::shared().await else {
        return;
    };
    if control_plane.lacks(Feature::Controllers).is_some() {
        return;
    }
    let namespace = control_plane.namespace("smoke").await;
    let client = control_plane.client();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace.name());
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace.name());
    let pods: Api<Pod> = Api::namespaced(client, namespace.name());

    deployments
        .create(&PostParams::default(), &deployment())
        .await
        .unwrap();
    until_count(&sets, 1).await;
    until_count(&pods, 2).await;
    let found = pods.list(&ListParams::default()).await.unwrap();
    let phases: Vec<_> = found
        .iter()
        .map(|p| p.status.clone().unwrap().phase.unwrap())
        .collect();
    assert_eq!(phases, ["Pending", "Pending"]);

    deployments
        .delete("web", &DeleteParams::background())
        .await
        .unwrap();
    until_count(&sets, 0).await;
    until_count(&pods, 0).await;
    namespace.finish().await;
}

#[tokio::test]
async fn the_custom_resources_are_served() {
    let Some(control_plane) = ControlPlane::shared().await else {
        return;
    };
    if !control_plane.supported() {
        return;
    }
    control_plane.install_crds().await;
    let client = control_plane.client();
    for group in [
        "flagger.app/v1beta1",
        "keda.sh/v1alpha1",
        "networking.istio.io/v1",
    ] {
        let request = http::Request::get(format!("/apis/{group}"))
            .body(Vec::new())
            .unwrap();
        let found: Value = client.request(request).await.unwrap();
        assert_eq!(found["kind"], "APIResourceList", "{group}");
    }
}

#[tokio::test]
async fn kubectl_finds_it_and_says_the_version() {
    let Some(control_plane) = ControlPlane::shared().await else {
        return;
    };
    let ran = control_plane
        .kubectl()
        .args(["version", "--output=json"])
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let (major, minor) = control_plane.version();
    assert_eq!(said["serverVersion"]["major"], major.to_string());
    assert_eq!(said["serverVersion"]["minor"], minor.to_string());
}

#[tokio::test]
async fn nothing_of_it_is_left_when_it_ends() {
    let Some(control_plane) = ControlPlane::own().await else {
        return;
    };
    let folder = control_plane.kubeconfig().parent().unwrap().to_owned();
    let client = control_plane.client();
    assert!(folder.join("etcd").is_dir());
    drop(control_plane);
    assert!(!folder.exists());
    assert!(client.apiserver_version().await.is_err());
}
