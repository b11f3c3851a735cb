//! The embedded fleet: clusters in memory, with workloads, traffic and metrics, ready to roll out on.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    controllers::Controllers,
    counts::Tally,
    gateway::{Acceptance, GATEWAY, GATEWAY_CLASS},
    load_tester::LoadTester,
    mesh::Mesh,
    metrics::Metrics,
    proxy,
    server::ApiServer,
    status::Status,
    store::Store,
    traffic::{Counts, Source, Traffic},
};
use crate::{
    api::objects::{
        CANARY, DEPLOYMENT, Kind, METRIC_TEMPLATE, NAMESPACE, NODE, ObjectExt, SCALED_OBJECT,
        SERVICE,
    },
    cluster::clock::Clock,
    decide::facts::Moment,
};

/// What the manifests are applied as: the fleet looks as if a person had run `kubectl apply`.
const MANAGER: &str = "kubectl-client-side-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const KEDA_CRDS: &str = include_str!("crds/keda.yaml");
const BASE: &str = include_str!("base.yaml");
/// The manifests that a person applies to a real cluster, in the order in which they are applied.
const EXAMPLES: [(&str, &str); 5] = [
    (
        "namespaces.yaml",
        include_str!("../../../examples/namespaces.yaml"),
    ),
    (
        "mcp-server.yaml",
        include_str!("../../../examples/mcp-server.yaml"),
    ),
    (
        "scaled-object.yaml",
        include_str!("../../../examples/scaled-object.yaml"),
    ),
    (
        "metric-template.yaml",
        include_str!("../../../examples/metric-template.yaml"),
    ),
    ("canary.yaml", include_str!("../../../examples/canary.yaml")),
];

/// `apiextensions.k8s.io/v1` `CustomResourceDefinition`.
const CRD: Kind = Kind {
    group: "apiextensions.k8s.io",
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Virtual seconds for each real one, 1 to 600.
    pub speed: f64,
    /// What the clusters' clocks show at the start.
    pub epoch: Moment,
    /// The `flagger.app` `CustomResourceDefinitions`. Without any, the manifests of these kinds are left out.
    pub crds: Vec<Value>,
    /// The clusters, by name with their labels.
    pub clusters: Vec<(String, BTreeMap<String, String>)>,
    /// What routes the requests.
    pub mesh: Mesh,
    /// The requests in each cluster.
    pub traffic: Vec<Source>,
    /// Where uids and made-up names come from: fleets of one seed that get the same requests become the same.
    pub seed: Uuid,
}

impl FleetOptions {
    /// The fleet of the first run: `prod-kr`, `prod-jp` and `staging`, 20 requests a second to `ai-platform/mcp-server`.
    #[must_use]
    pub fn new(epoch: Moment, speed: f64, crds: Vec<Value>) -> Self {
        let cluster = |name: &str, env: &str, region: &str| {
            let labels = [("env", env), ("region", region), ("team", "platform")];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            (name.to_owned(), BTreeMap::from(labels))
        };
        Self {
            speed,
            epoch,
            crds,
            clusters: vec![
                cluster("prod-kr", "production", "kr"),
                cluster("prod-jp", "production", "jp"),
                cluster("staging", "staging", "kr"),
            ],
            mesh: Mesh::default(),
            traffic: vec![Source::new("ai-platform", "mcp-server", 20)],
            seed: Uuid::new_v4(),
        }
    }
}

/// Why a fleet could not be started.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A manifest inside the binary is no YAML.
    #[error("the manifest {file} of the embedded clusters does not parse")]
    Manifest {
        /// The file.
        file: String,
        /// The parser's message.
        source: Box<serde_saphyr::Error>,
    },
    /// A manifest has a kind that the fleet does not know.
    #[error("the manifest {file} of the embedded clusters has the unknown kind {kind}")]
    Kind {
        /// The file.
        file: String,
        /// `kind` as written.
        kind: String,
    },
    /// The API server of an embedded cluster refused a manifest.
    #[error("the embedded cluster {cluster} refused {kind} {name} of {file}")]
    Refused {
        /// The cluster.
        cluster: String,
        /// The file.
        file: String,
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// The API server's answer.
        source: Box<Status>,
    },
}

/// One cluster of the fleet.
#[derive(Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its API server.
    pub server: ApiServer,
    /// Its clock.
    pub clock: Clock,
    tally: Tally,
    metrics: Arc<Metrics>,
    load_tester: LoadTester,
    acceptance: Acceptance,
}

impl Member {
    /// How its controller accepts routes of Gateway API.
    #[must_use]
    pub fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// What answers at `flagger-loadtester.test`.
    #[must_use]
    pub fn load_tester(&self) -> &LoadTester {
        &self.load_tester
    }

    /// The requests so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.read()
    }

    /// What its Prometheus knows.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("labels", &self.labels)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// A running fleet; dropping it ends its controllers and traffic.
#[derive(Debug)]
pub struct Fleet {
    epoch: Moment,
    members: Vec<Member>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Makes the clusters, applies the manifests, and starts what lives in them. Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// When a manifest does not parse or is refused; names the file and the cluster.
    pub fn start(options: FleetOptions) -> Result<Self, FleetError> {
        let FleetOptions {
            speed,
            epoch,
            crds,
            clusters,
            mesh,
            traffic,
            seed,
        } = options;
        let manifests = manifests(!crds.is_empty(), mesh)?;
        let mut fleet = Self {
            epoch,
            members: Vec::new(),
            tasks: JoinSet::new(),
        };
        for (name, labels) in clusters {
            let clock = Clock::fast(epoch, speed);
            let store = Store::seeded(clock.clone(), Uuid::new_v5(&seed, name.as_bytes()));
            for crd in &crds {
                apply(&store, &name, "flagger.app", &CRD, crd.clone())?;
            }
            for (file, kind, manifest) in &manifests {
                apply(&store, &name, file, kind, manifest.clone())?;
            }
            let metrics = Arc::new(Metrics::of(epoch, mesh));
            let tally = Tally::default();
            let server = ApiServer::new(&name, store.clone());
            let load_tester = LoadTester::new(store.clone());
            server.on_service_proxy(proxy::service_proxy(
                Arc::clone(&metrics),
                load_tester.clone(),
                clock.clone(),
            ));
            let tasks = &mut fleet.tasks;
            let acceptance = Acceptance::default();
            let controllers =
                Controllers::new(store.clone(), Arc::clone(&metrics), acceptance.clone());
            tasks.spawn(watched(name.clone(), "controllers", controllers.run()));
            let requests =
                Traffic::new(store, Arc::clone(&metrics), tally.clone(), traffic.clone())
                    .with(load_tester.clone());
            tasks.spawn(watched(name.clone(), "traffic", requests.run()));
            fleet.members.push(Member {
                name,
                labels,
                server,
                clock,
                tally,
                metrics,
                load_tester,
                acceptance,
            });
        }
        Ok(fleet)
    }

    /// The clusters, in the order of the options.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The cluster of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The requests to a cluster so far; nothing for an unknown name.
    #[must_use]
    pub fn counters(&self, cluster: &str) -> Counts {
        self.member(cluster).map(Member::counts).unwrap_or_default()
    }

    /// What the clocks showed at the start.
    #[must_use]
    pub fn epoch(&self) -> Moment {
        self.epoch
    }
}

/// All manifests in the order in which they are applied, each with its file and kind.
fn manifests(with_canaries: bool, mesh: Mesh) -> Result<Vec<(String, Kind, Value)>, FleetError> {
    let mut files = mesh.manifests();
    files.extend([("crds/keda.yaml", KEDA_CRDS), ("base.yaml", BASE)]);
    files.extend(EXAMPLES);
    let mut out = Vec::new();
    for (file, text) in files {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|source| FleetError::Manifest {
                file: file.to_owned(),
                source: Box::new(source),
            })?;
        for mut document in documents {
            let kind = kind_of(&document).ok_or_else(|| FleetError::Kind {
                file: file.to_owned(),
                kind: document["kind"].to_string(),
            })?;
            if kind == CANARY {
                mesh.adapt(&mut document);
            }
            if with_canaries || kind.group != CANARY.group {
                out.push((file.to_owned(), kind, document));
            }
        }
    }
    Ok(out)
}

fn kind_of(object: &Value) -> Option<Kind> {
    let kinds = [
        CRD,
        NODE,
        NAMESPACE,
        SERVICE,
        DEPLOYMENT,
        SCALED_OBJECT,
        METRIC_TEMPLATE,
        CANARY,
        GATEWAY_CLASS,
        GATEWAY,
    ];
    kinds.into_iter().find(|kind| {
        object.str_at("/kind") == Some(kind.kind)
            && object.str_at("/apiVersion") == Some(&kind.api_version())
    })
}

/// Creates the object as `kubectl apply` does: with what was applied kept in an annotation.
fn apply(
    store: &Store,
    cluster: &str,
    file: &str,
    kind: &Kind,
    mut object: Value,
) -> Result<(), FleetError> {
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    let name = object.name().to_owned();
    let applied = format!("{object}\n");
    object["metadata"]["annotations"][LAST_APPLIED] = json!(applied);
    store
        .create(kind, object, MANAGER)
        .map(drop)
        .map_err(|refusal| FleetError::Refused {
            cluster: cluster.to_owned(),
            file: file.to_owned(),
            kind: kind.kind,
            name,
            source: Box::new(refusal),
        })
}

/// Says so when a task of a cluster panics: the cluster stands still from then on.
async fn watched(cluster: String, part: &'static str, task: impl Future<Output = ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        tracing::error!(
            cluster,
            part,
            "a part of this embedded cluster has panicked and stands still; start it anew"
        );
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
pub(super) mod tests;
