//! The watches of one led cluster, and the snapshot of one Canary that they give.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use super::objects::Refs;
use crate::{
    api::names,
    api::objects::{
        CANARY, CONTROLLER_REVISION, DEPLOYMENT, DESTINATION_RULE, Kind, METRIC_TEMPLATE, Object,
        ObjectExt, Objects, POD, REPLICA_SET, Ref, SCALED_OBJECT, SERVICE, VIRTUAL_SERVICE,
    },
    cluster::{
        Cluster,
        watch::{Scope, Watched},
    },
};

/// What is watched in the whole cluster while it is led.
const BROAD: [Kind; 8] = [
    CANARY,
    DEPLOYMENT,
    SERVICE,
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    SCALED_OBJECT,
    METRIC_TEMPLATE,
    CONTROLLER_REVISION,
];
/// How often a cluster that lacks a kind is asked for it, in real time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// What is watched in a Canary's namespace while it is being worked on.
const CLOSE: [Kind; 2] = [POD, REPLICA_SET];

/// Caches of a led cluster. Cheap to clone.
#[derive(Clone)]
pub(super) struct World {
    cluster: Cluster,
    broad: Arc<Caches>,
}

/// A set of watches that wake together.
pub(super) struct Caches {
    watched: Vec<(Kind, Watched)>,
    wake: watch::Receiver<u64>,
    _forward: JoinSet<()>,
}

impl Caches {
    fn open(cluster: &Cluster, kinds: &[Kind], namespace: Option<&str>) -> Self {
        let (sender, wake) = watch::channel(0);
        let mut forward = JoinSet::new();
        let watched: Vec<(Kind, Watched)> = kinds
            .iter()
            .map(|kind| {
                // Of ControllerRevisions only our pins, not every DaemonSet's history.
                let (label, value) = names::MANAGED_BY;
                let labels = (*kind == CONTROLLER_REVISION).then(|| format!("{label}={value}"));
                let scope = Scope {
                    namespace: namespace.map(str::to_owned),
                    labels,
                    fields: None,
                };
                (*kind, cluster.watch(kind, scope))
            })
            .collect();
        for (_, cache) in &watched {
            let (mut changes, sender) = (cache.subscribe(), sender.clone());
            forward.spawn(async move {
                while changes.changed().await.is_ok() {
                    sender.send_modify(|n| *n += 1);
                }
            });
        }
        Self {
            watched,
            wake,
            _forward: forward,
        }
    }

    /// Waits for the first lists. What cannot be listed is waited for as well, since nothing can be decided without it, and is told.
    async fn ready(&self) {
        for (_, cache) in &self.watched {
            if let Err(why) = cache.settled().await {
                tracing::warn!(
                    "nothing is driven until this works: {why}; allow get, list and watch of it"
                );
                cache.ready().await;
            }
        }
    }

    fn of(&self, kind: &Kind) -> Option<&Watched> {
        self.watched.iter().find(|(k, _)| k == kind).map(|(_, w)| w)
    }

    fn find(&self, of: &Ref) -> Option<Object> {
        self.of(&of.kind)?.get(&of.namespace, &of.name)
    }

    fn list(&self, kind: &Kind) -> Vec<Object> {
        self.of(kind).map(Watched::list).unwrap_or_default()
    }

    /// Wakes on any change of what these watches show.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.wake.clone()
    }
}

/// The kinds of [`BROAD`] that the cluster serves.
fn served(installed: &[(String, Vec<String>)]) -> Vec<Kind> {
    let has = |kind: &Kind| {
        matches!(kind.group, "" | "apps")
            || installed.iter().any(|(group, versions)| {
                group == kind.group && versions.iter().any(|v| v == kind.version)
            })
    };
    BROAD.into_iter().filter(has).collect()
}

impl World {
    /// Opens the watches and waits for their first lists. Kinds that are not installed are left out.
    pub(super) async fn open(cluster: &Cluster, installed: &[(String, Vec<String>)]) -> Self {
        let kinds = served(installed);
        let broad = Arc::new(Caches::open(cluster, &kinds, None));
        broad.ready().await;
        Self {
            cluster: cluster.clone(),
            broad,
        }
    }

    /// Returns when a kind is installed that was missing when the watches were opened; never when none was. Looked at once a minute, and
    /// only while something is missing.
    pub(super) async fn completed(&self) {
        if self.broad.watched.len() == BROAD.len() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let now = self.cluster.installed().await.unwrap_or_default();
            if served(&now).len() > self.broad.watched.len() {
                return;
            }
        }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.broad.subscribe()
    }

    /// Every Canary of the cluster.
    pub(super) fn canaries(&self) -> Vec<Object> {
        self.broad.list(&CANARY)
    }

    /// The watches of one namespace that a rollout needs while it is worked on.
    pub(super) async fn close_up(&self, namespace: &str) -> Caches {
        let caches = Caches::open(&self.cluster, &CLOSE, Some(namespace));
        caches.ready().await;
        caches
    }

    /// All objects of one Canary, never older than our own last write. `None` when the Canary is gone.
    pub(super) fn snapshot(
        &self,
        namespace: &str,
        name: &str,
        close: Option<&Caches>,
    ) -> Option<Objects> {
        let canary = self.broad.of(&CANARY)?.get(namespace, name)?;
        let refs = Refs::of(&canary);
        let uid = canary.uid().to_owned();
        let mut objects = refs.gather(self.cluster.name(), canary, |of| self.broad.find(of));
        objects.revisions = self
            .broad
            .list(&CONTROLLER_REVISION)
            .into_iter()
            .filter(|r| r.owned_by(&uid))
            .collect();
        if let Some(close) = close {
            let ours = |set: &Object| {
                [&objects.target, &objects.primary]
                    .into_iter()
                    .flatten()
                    .any(|copy| set.owned_by(copy.uid()))
            };
            let sets: Vec<Object> = close.list(&REPLICA_SET).into_iter().filter(ours).collect();
            let pods = close
                .list(&POD)
                .into_iter()
                .filter(|p| sets.iter().any(|s| p.owned_by(s.uid())))
                .collect();
            objects.replica_sets = sets;
            objects.pods = pods;
        }
        Some(objects)
    }

    /// The Services of a namespace, and all `VirtualServices`.
    pub(super) fn around(&self, namespace: &str) -> (Vec<Object>, Vec<Object>) {
        let mut services = self.broad.list(&SERVICE);
        services.retain(|service| service.namespace() == namespace);
        (services, self.broad.list(&VIRTUAL_SERVICE))
    }

    /// Takes the answer of our own write into the caches at once. All that we write is watched broadly.
    pub(super) fn put(&self, kind: &Kind, object: Object) {
        if let Some(cache) = self.broad.of(kind) {
            cache.put(object);
        }
    }
}
