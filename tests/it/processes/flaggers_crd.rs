//! A cluster where Flagger's own definition of a Canary is installed, which prunes our fields: it is only read and says why, until the
//! command that it names has been run.

use std::{path::Path, time::Duration};

use canary_mcp::api::objects::{CANARY, DEPLOYMENT, Kind};
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams,
    },
};
use serde_json::{Value, json};

use super::child::{PATIENCE, Serve, run};
use crate::{
    control_plane::ControlPlane,
    http::fixture::{Era, Server},
};

const DEFINITION: &str = include_str!("flaggers_crd.yaml");
const WHY: &str = "read-only: the installed Canary CRD drops our status fields; run: canary-mcp crds | kubectl apply -f -";

fn api(client: &Client, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
    let of = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
    let resource = ApiResource::from_gvk_with_plural(&of, kind.plural);
    if namespace.is_empty() {
        return Api::all_with(client.clone(), &resource);
    }
    Api::namespaced_with(client.clone(), namespace, &resource)
}

const CRD: Kind = Kind {
    group: "apiextensions.k8s.io",
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};
const LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
};

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

/// Polls until it is so.
async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let limit = std::time::Instant::now() + PATIENCE;
    while !reached().await {
        assert!(std::time::Instant::now() < limit, "not reached: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]},
            },
        },
    })
}

fn canary() -> Value {
    json!({
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "web"},
        "spec": {
            "provider": "istio",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "service": {"port": 80},
            "analysis": {"interval": "10s", "threshold": 1, "stepWeight": 10, "maxWeight": 30},
        },
    })
}

async fn row(server: &Server) -> Value {
    let params = json!({"name": "list_clusters", "arguments": {}});
    let listed = server.result(Era::Modern, "tools/call", params).await;
    listed["structuredContent"]["clusters"][0].clone()
}

/// Resource versions of the Canary and its target, and the number of the engine's Leases and of Deployments.
async fn written(client: &Client, namespace: &str) -> (String, String, usize, usize) {
    let version = async |kind: &Kind| {
        let found = api(client, kind, namespace).get("web").await.unwrap();
        found.metadata.resource_version.unwrap()
    };
    let leases = api(client, &LEASE, "canary-mcp-system");
    let deployments = api(client, &DEPLOYMENT, namespace);
    let count =
        async |of: Api<DynamicObject>| of.list(&ListParams::default()).await.unwrap().items.len();
    (
        version(&CANARY).await,
        version(&DEPLOYMENT).await,
        count(leases).await,
        count(deployments).await,
    )
}

const NAMESPACE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
};

/// Installs the definition, and shows that it does prune. Nothing else is missing that a rollout needs.
async fn prepare(control_plane: &ControlPlane, namespace: &str) {
    let client = &control_plane.client();
    let definition: Value = serde_saphyr::from_str(DEFINITION).unwrap();
    let crds = api(client, &CRD, "");
    let create = PostParams::default();
    crds.create(&create, &object(definition)).await.unwrap();
    control_plane.install_crds().await;
    let leases = json!({"metadata": {"name": "canary-mcp-system"}});
    let namespaces = api(client, &NAMESPACE, "");
    namespaces.create(&create, &object(leases)).await.unwrap();
    let canaries = api(client, &CANARY, namespace);
    until("Canaries are served", async || {
        canaries.list(&ListParams::default()).await.is_ok()
    })
    .await;
    let create_canary = async |name: &str| {
        let mut canary = canary();
        canary["metadata"]["name"] = name.into();
        canaries.create(&create, &object(canary)).await.unwrap();
    };
    create_canary("web").await;
    // Another one, because a status that somebody else has written is a reason of its own to leave a Canary alone.
    create_canary("witness").await;
    let status = json!({"status": {"phase": "Initialized", "run": {"id": "x"}}});
    let patched = canaries
        .patch_status("witness", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    assert_eq!(patched.data["status"], json!({"phase": "Initialized"}));
    let delete = DeleteParams::default();
    canaries.delete("witness", &delete).await.unwrap();
    let deployments = api(client, &DEPLOYMENT, namespace);
    deployments
        .create(&create, &object(deployment()))
        .await
        .unwrap();
    until("the Deployment's controllers have seen it", async || {
        let now = deployments.get("web").await.unwrap();
        now.data["status"]["unavailableReplicas"] == 1
            && now.data["status"]["conditions"].is_array()
    })
    .await;
}

fn run_what_it_says(control_plane: &ControlPlane, folder: &Path) {
    let ours = run(&["crds"]);
    assert!(ours.status.success());
    let file = folder.join("crds.yaml");
    std::fs::write(&file, ours.stdout).unwrap();
    let applied = control_plane
        .kubectl()
        .args(["apply", "--filename"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&applied.stderr);
    assert!(applied.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_flaggers_definition_a_cluster_is_read_only_until_ours_is_applied() {
    let Some(control_plane) = ControlPlane::own().await else {
        return;
    };
    if !control_plane.supported() {
        return;
    }
    let client = control_plane.client();
    let namespace = control_plane.namespace("flagger").await;
    prepare(&control_plane, namespace.name()).await;
    let before = written(&client, namespace.name()).await;
    assert_eq!((before.2, before.3), (0, 1));

    let kubeconfig = control_plane.kubeconfig().to_str().unwrap();
    let args = ["--kubeconfig", kubeconfig, "--lead", "*"];
    let serve = Serve::start(&args).await;
    serve.process.logged(WHY).await;
    let shown = row(&serve.mcp).await;
    assert_eq!(shown["reachable"], true, "{shown}");
    assert_eq!(shown["reason"], WHY, "{shown}");
    assert_eq!(shown["led_by"], Value::Null, "{shown}");
    let start = json!({
        "cluster": "control-plane", "namespace": namespace.name(), "name": "web",
        "image": "registry.example/web:2",
    });
    let params = json!({"name": "start_canary", "arguments": start});
    let answer = serve.mcp.result(Era::Modern, "tools/call", params).await;
    assert_eq!(
        answer["structuredContent"]["outcome"], "refused",
        "{answer}"
    );
    let why = answer["structuredContent"]["reason"].as_str().unwrap();
    assert_eq!(
        why,
        "the Canary is not initialized, and nobody has ever led cluster control-plane; the installed Canary CRD drops our status fields; run: canary-mcp crds | kubectl apply -f -"
    );
    assert_eq!(written(&client, namespace.name()).await, before);

    run_what_it_says(&control_plane, control_plane.kubeconfig().parent().unwrap());
    let deployments = api(&client, &DEPLOYMENT, namespace.name());
    until("it leads and has made the primary", async || {
        deployments.get_opt("web-primary").await.unwrap().is_some()
    })
    .await;
    let shown = row(&serve.mcp).await;
    assert_eq!(shown["reason"], Value::Null, "{shown}");
    namespace.finish().await;
}
