//! Embedded clusters on one loopback listener, with as many Canaries as are asked for, and a Prometheus that says what it is told to.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::middleware;
use bytes::Bytes;
use canary_mcp::{
    api::{
        crd,
        objects::{CANARY, DEPLOYMENT, NAMESPACE, SCALED_OBJECT, SERVICE},
    },
    cluster::{
        clock::Clock,
        embedded::{
            faults::Fate,
            fleet::{Fleet, FleetOptions},
            server::{ProxyCall, ServiceProxy},
            store::Store,
        },
    },
};
use futures::FutureExt as _;
use http::Response;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use super::{
    recorder::{Counting, Recorder, count},
    table::until,
};

/// Canaries of one namespace.
const PER_NAMESPACE: usize = 50;
/// What is applied here looks as if a person had run `kubectl apply`.
const MANAGER: &str = "kubectl-client-side-apply";
/// Connections that may wait to be taken: an engine of hundreds of clusters opens a thousand in a moment.
const BACKLOG: u32 = 4_096;
/// For so long nothing changes in clusters whose workloads have started.
const SETTLED: Duration = Duration::from_secs(2);
/// For so long nobody asks for anything but Leases where nothing is left to do.
const QUIET: Duration = Duration::from_secs(5);
/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_secs(900);

/// The clusters and what is measured at their API servers.
pub(crate) struct Site {
    pub(crate) recorder: Recorder,
    fleet: Fleet,
    address: SocketAddr,
    dir: PathBuf,
}

impl Site {
    /// So many clusters with so many Canaries each.
    pub(crate) async fn start(clusters: usize, canaries: usize) -> Self {
        let now = Clock::real().now();
        let mut options = FleetOptions::new(now, 1.0, crd::crds());
        let labels = options.clusters[0].1.clone();
        let names = (0..clusters).map(|n| (format!("cluster-{n:03}"), labels.clone()));
        options.clusters = names.collect();
        options.traffic = Vec::new();
        let fleet = Fleet::start(options).unwrap();
        let recorder = Recorder::default();
        for member in fleet.members() {
            fill(member.server.store(), canaries);
            member.server.on_service_proxy(prometheus(&recorder));
            let writes = recorder.clone();
            member.server.faults().decide(move |info| {
                writes.write(info);
                Fate::Answered
            });
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let counting = Counting {
            listener,
            recorder: recorder.clone(),
        };
        let routes =
            canary_mcp::cluster::embedded::listener::router(&fleet, CancellationToken::new())
                .layer(middleware::from_fn_with_state(recorder.clone(), count));
        tokio::spawn(async move { axum::serve(counting, routes).await.unwrap() });
        let dir = std::env::temp_dir().join(format!(
            "canary-mcp-scale-{}-{}",
            std::process::id(),
            address.port()
        ));
        std::fs::create_dir(&dir).unwrap();
        let site = Self {
            recorder,
            fleet,
            address,
            dir,
        };
        site.settled().await;
        site
    }

    /// Waits until the workloads run, so that the engine does not have to share the processor with their start.
    async fn settled(&self) {
        let revision = || -> u64 {
            let members = self.fleet.members().iter();
            members.map(|m| m.server.store().revision()).sum()
        };
        let began = Instant::now();
        loop {
            let before = revision();
            tokio::time::sleep(SETTLED).await;
            if revision() == before {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the workloads never settle");
        }
    }

    /// A kubeconfig of all clusters; the first of them are at `elsewhere`.
    pub(crate) fn kubeconfig(&self, name: &str, elsewhere: &[SocketAddr]) -> PathBuf {
        let members = self.fleet.members();
        let servers = members.iter().enumerate().map(|(n, member)| {
            let address = elsewhere.get(n).unwrap_or(&self.address);
            json!({"name": member.name, "cluster": {
                "server": format!("http://{address}/clusters/{}", member.name),
                "extensions": [{"name": "canary-mcp.dev/labels", "extension": member.labels}],
            }})
        });
        let contexts = members
            .iter()
            .map(|m| json!({"name": m.name, "context": {"cluster": m.name, "user": "nobody"}}));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": servers.collect::<Vec<_>>(),
            "contexts": contexts.collect::<Vec<_>>(),
            "users": [{"name": "nobody", "user": {}}],
        });
        let path: &Path = &self.dir;
        let path = path.join(name);
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Canaries, all clusters together, whose status `is` so.
    pub(crate) fn canaries(&self, is: impl Fn(&Value) -> bool) -> usize {
        let members = self.fleet.members().iter();
        members
            .flat_map(|m| m.server.store().list(&CANARY, None))
            .filter(|canary| is(&canary["status"]))
            .count()
    }

    /// The status of one Canary of the first cluster.
    pub(crate) fn status(&self, n: usize) -> Value {
        let canary = self.store().get(&CANARY, &namespace(n), &name(n)).unwrap();
        canary["status"].clone()
    }

    /// Gives a target of the first cluster another image, and tells when.
    pub(crate) fn set_image(&self, n: usize, tag: &str) -> Instant {
        let image = format!("registry.example/mcp-server:{tag}");
        let changed =
            self.store()
                .modify(&DEPLOYMENT, &namespace(n), &name(n), "kubectl-set", |d| {
                    d["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
                });
        let at = Instant::now();
        assert!(changed.unwrap().is_some());
        at
    }

    /// Waits until all Canaries are initialized.
    pub(crate) async fn initialized(&self) -> Duration {
        until("all Canaries must be initialized", PATIENCE, || {
            self.canaries(|status| status["phase"] != "Initialized") == 0
        })
        .await
    }

    /// Waits until nobody asks for anything but Leases.
    pub(crate) async fn quiet(&self) {
        let began = Instant::now();
        loop {
            self.recorder.reset();
            tokio::time::sleep(QUIET).await;
            let mut requests = self.recorder.counted().requests;
            requests.retain(|request, _| !request.ends_with(" leases"));
            if requests.is_empty() {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "never quiet, at last by {requests:?}"
            );
        }
    }

    fn store(&self) -> &Store {
        self.fleet.members()[0].server.store()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What is left of a directory in the temporary one does no harm.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn namespace(n: usize) -> String {
    format!("team-{:02}", n / PER_NAMESPACE)
}

/// The Canary of that number, its target and its Service.
pub(crate) fn name(n: usize) -> String {
    format!("app-{n:04}")
}

fn fill(store: &Store, canaries: usize) {
    let create = |kind, object| store.create(kind, object, MANAGER).unwrap();
    for n in 0..canaries {
        if n % PER_NAMESPACE == 0 {
            create(&NAMESPACE, json!({"metadata": {"name": namespace(n)}}));
        }
        let (name, namespace) = (name(n), namespace(n));
        let metadata = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
        create(&DEPLOYMENT, deployment(&name, &metadata));
        create(
            &SERVICE,
            json!({
                "metadata": metadata,
                "spec": {
                    "selector": {"app": name},
                    "ports": [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}],
                },
            }),
        );
        // Every second one is scaled by KEDA.
        let scaled = n % 2 == 0;
        if scaled {
            create(&SCALED_OBJECT, scaled_object(&name, &metadata));
        }
        create(&CANARY, canary(&name, &metadata, scaled));
    }
}

fn deployment(name: &str, metadata: &Value) -> Value {
    json!({
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "server",
                    "image": "registry.example/mcp-server:1.0.0",
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "REGION", "value": "kr"}],
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 2},
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                }]},
            },
        },
    })
}

fn scaled_object(name: &str, metadata: &Value) -> Value {
    json!({
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicaCount": 1,
            "maxReplicaCount": 4,
            "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "80"}}],
        },
    })
}

fn canary(name: &str, metadata: &Value, scaled: bool) -> Value {
    let mut canary = json!({
        "metadata": metadata,
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "service": {"port": 8080, "portName": "http", "targetPort": "http"},
            "analysis": {
                "interval": "10s",
                "threshold": 1,
                "maxWeight": 50,
                "stepWeight": 1,
                "metrics": [
                    {"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}},
                    {"name": "request-duration", "interval": "1m", "thresholdRange": {"max": 500}},
                ],
            },
        },
    });
    if scaled {
        canary["spec"]["autoscalerRef"] =
            json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": name});
    }
    canary
}

/// A Prometheus without history: every version is fast and, unless the recorder was told otherwise, without errors.
fn prometheus(recorder: &Recorder) -> ServiceProxy {
    let recorder = recorder.clone();
    Arc::new(move |call: ProxyCall| {
        let query = call.request.uri().query().unwrap_or_default().as_bytes();
        let query = form_urlencoded::parse(query).find(|(key, _)| key == "query");
        let query = query.map(|(_, query)| query.into_owned());
        let value = query.as_deref().and_then(|query| value(&recorder, query));
        let result = value.map_or_else(
            || json!([]),
            |value| json!([{"metric": {}, "value": [1, value]}]),
        );
        let body = json!({"status": "success", "data": {"resultType": "vector", "result": result}});
        let response = Response::builder()
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .unwrap();
        futures::future::ready(response).boxed()
    })
}

fn value(recorder: &Recorder, query: &str) -> Option<&'static str> {
    let workload = || {
        let (_, rest) = query.split_once("destination_workload=~\"")?;
        rest.split_once('"').map(|(name, _)| name)
    };
    if query == "vector(1)" {
        Some("1")
    } else if query.contains("histogram_quantile") {
        Some("120")
    } else if query.contains("response_code") {
        workload().map(|name| recorder.success_rate(name))
    } else {
        // The canary's share: nothing is known of it.
        None
    }
}
