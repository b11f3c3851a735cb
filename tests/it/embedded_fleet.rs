//! The embedded fleet on a socket, as kubectl and another process see it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use canary_mcp::{
    cluster::embedded::{
        fleet::{Fleet, FleetOptions},
        listener,
    },
    decide::facts::Moment,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// 2026-11-21T00:00:00Z
const EPOCH: Moment = Moment(1_795_219_200_000);

struct Served {
    fleet: Fleet,
    kubeconfig: String,
    base: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

async fn served() -> Served {
    let fleet = Fleet::start(FleetOptions::new(EPOCH, 60.0, Vec::new())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kubeconfig = listener::kubeconfig(&fleet, address);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = listener::serve(listener, &fleet, async {
        stopped.await.ok();
    });
    let serving = tokio::spawn(async move { serving.await.unwrap() });
    Served {
        fleet,
        kubeconfig,
        base: format!("http://{address}"),
        stop,
        serving,
    }
}

async fn client(kubeconfig: &str, context: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = KubeConfigOptions {
        context: Some(context.to_owned()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

async fn get(url: &str) -> (u16, String) {
    // The process's one crypto provider; another test may have set it first.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn every_context_of_the_kubeconfig_reaches_its_own_cluster() {
    let served = served().await;
    for context in ["prod-kr", "prod-jp", "staging"] {
        let client = client(&served.kubeconfig, context).await;
        let name = format!("only-{context}");
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        Api::all(client)
            .create(&kube::api::PostParams::default(), &namespace)
            .await
            .unwrap();
    }
    for member in served.fleet.members() {
        let namespaces: Api<Namespace> = Api::all(client(&served.kubeconfig, &member.name).await);
        let all = namespaces
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        let own: Vec<String> = all
            .into_iter()
            .filter_map(|ns| ns.metadata.name)
            .filter(|name| name.starts_with("only-"))
            .collect();
        assert_eq!(own, [format!("only-{}", member.name)]);
    }
}

#[tokio::test]
async fn a_rollout_of_a_deployment_is_seen_by_watch_and_the_listener_ends_the_watch() {
    let served = served().await;
    let client = client(&served.kubeconfig, "prod-kr").await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "ai-platform");
    let params = WatchParams::default().fields("metadata.name=mcp-server");
    let mut watch = deployments.watch(&params, "0").await.unwrap().boxed();
    let image = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "mcp-server", "image": "registry.example/mcp-server:1.1.0"}]}}}});
    deployments
        .patch(
            "mcp-server",
            &PatchParams::default(),
            &Patch::Strategic(image),
        )
        .await
        .unwrap();
    let done = async {
        while let Some(event) = watch.try_next().await.unwrap() {
            let (WatchEvent::Added(deployment) | WatchEvent::Modified(deployment)) = event else {
                continue;
            };
            let status = deployment.status.unwrap_or_default();
            let seen = status.observed_generation == deployment.metadata.generation;
            let image = deployment.spec.unwrap().template.spec.unwrap().containers[0]
                .image
                .clone();
            let new = image.as_deref() == Some("registry.example/mcp-server:1.1.0");
            if new && seen && status.updated_replicas == Some(2) && status.replicas == Some(2) {
                return;
            }
        }
        panic!("the watch ended before the rollout did");
    };
    tokio::time::timeout(Duration::from_secs(30), done)
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client, "ai-platform");
    let pods = pods.list(&kube::api::ListParams::default()).await.unwrap();
    assert!(pods.items.len() >= 2);
    served.stop.send(()).unwrap();
    let drained = async { while watch.try_next().await.is_ok_and(|event| event.is_some()) {} };
    tokio::time::timeout(Duration::from_secs(10), drained)
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), served.serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_clock_is_published() {
    let served = served().await;
    let (code, body) = get(&format!("{}/clusters/staging/clock", served.base)).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(code, 200);
    assert_eq!(body["epoch"], json!("2026-11-21T00:00:00.000000Z"));
    assert_eq!(body["speed"], json!(60.0));
    let now: jiff::Timestamp = body["now"].as_str().unwrap().parse().unwrap();
    assert!(now.as_millisecond() >= EPOCH.0);
    let (code, text) = get(&format!("{}/clusters/nowhere/version", served.base)).await;
    assert_eq!(code, 404);
    assert_eq!(
        text,
        "there is no such cluster here: ask /clusters/NAME/..., NAME one of prod-kr, prod-jp, staging\n"
    );
}

#[cfg(feature = "embedded-metrics")]
#[tokio::test]
async fn prometheus_answers_through_the_service_proxy() {
    let served = served().await;
    let proxy = "/clusters/prod-jp/api/v1/namespaces/istio-system/services/prometheus:9090/proxy";
    let (code, text) = get(&format!(
        "{}{proxy}/api/v1/query?query=vector(1)",
        served.base
    ))
    .await;
    assert_eq!(code, 200, "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["data"]["result"][0]["value"][1], json!("1"));
    let other = "/clusters/prod-jp/api/v1/namespaces/ai-platform/services/mcp-server:8080/proxy/";
    assert_eq!(get(&format!("{}{other}", served.base)).await.0, 503);
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::namespaced(client(&served.kubeconfig, "prod-jp").await, "istio-system");
    assert!(services.get("prometheus").await.is_ok());
}

#[tokio::test]
async fn the_kubeconfig_announces_the_embedded_clusters_and_is_private() {
    let served = served().await;
    let config: Value = serde_saphyr::from_str(&served.kubeconfig).unwrap();
    assert_eq!(config["current-context"], json!("prod-kr"));
    let base = &served.base;
    assert_eq!(
        config["clusters"][2],
        json!({"name": "staging", "cluster": {
            "server": format!("{base}/clusters/staging"),
            "extensions": [{"name": "canary-mcp.dev/embedded", "extension": {
                "clock": format!("{base}/clusters/staging/clock"),
                "labels": {"env": "staging", "region": "kr", "team": "platform"}}}]}})
    );
    let path: PathBuf =
        std::env::temp_dir().join(format!("canary-mcp-kubeconfig-{}", std::process::id()));
    listener::write_private(&path, &served.kubeconfig).unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(written, served.kubeconfig);
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777,
        0o600
    );
}

#[tokio::test(start_paused = true)]
async fn the_three_clusters_have_their_labels_and_their_own_traffic() {
    let fleet = Fleet::start(FleetOptions::new(EPOCH, 20.0, Vec::new())).unwrap();
    let labels: Vec<(&str, Vec<&str>)> = fleet
        .members()
        .iter()
        .map(|m| {
            (
                m.name.as_str(),
                m.labels.values().map(String::as_str).collect(),
            )
        })
        .collect();
    assert_eq!(
        labels,
        [
            ("prod-kr", vec!["production", "kr", "platform"]),
            ("prod-jp", vec!["production", "jp", "platform"]),
            ("staging", vec!["staging", "kr", "platform"]),
        ]
    );
    // Pods are ready five virtual seconds after the start; twenty requests a second from then on.
    let clock = fleet.members()[0].clock.clone();
    clock.sleep_until(EPOCH.plus(65_000)).await;
    for member in fleet.members() {
        let counts = member.counts();
        assert!((1_190..=1_205).contains(&counts.total), "{counts:?}");
        assert_eq!(counts.no_endpoint_503, 0);
        assert_eq!(
            counts.workloads,
            BTreeMap::from([("mcp-server".to_owned(), counts.total)])
        );
    }
}
