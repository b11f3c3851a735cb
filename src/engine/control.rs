//! What tools call: list, view, request, follow. The same with the engine off.

use std::{sync::Arc, time::Duration};

use futures::future::FutureExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Leading, Settings, objects, rows, table, turns::Turns};
use crate::{
    api::{
        objects::{CANARY, EVENT, Object, ObjectExt, Objects},
        preview::Preview,
        view::{self, ClusterRow, RolloutRow, RolloutView},
    },
    cluster::{
        Cluster, Error,
        registry::{Entry, Registry, near},
        watch::Scope,
    },
    outbound::http::Transport,
};

/// Name of the Lease.
pub(super) use crate::cluster::lease::NAME as LEASE;
/// Names of Canaries that an error lists.
const MOST_NAMES: usize = 20;
/// How often the pods are looked at that a followed rollout waits for.
const LOOK_AT_PODS: Duration = Duration::from_secs(3);

/// Names one Canary of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Cluster name.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the Canary.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.cluster, self.namespace, self.name)
    }
}

/// How a tool's wish ended. Every write is verified before it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Written, read back and acted on.
    Applied,
    /// It was so already; nothing was written.
    Already,
    /// A dry run: it would be done, and nothing was written.
    Planned,
    /// Not done, and nothing was written; the reason says why.
    Refused,
    /// Written or perhaps written, but not seen to be acted on; the reason says what to look at.
    Unconfirmed,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq)]
pub struct Acted {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in one sentence, with the field or object and what to do next.
    pub reason: String,
    /// The rollout as it is now, where it could be read.
    pub view: Option<Arc<RolloutView>>,
}

/// Why a read gave nothing. The text names the operation, the object and the cluster, the cause and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such cluster, namespace or Canary, or an ambiguous name.
    #[error("{0}")]
    NotFound(String),
    /// An argument that cannot be; the text begins with the field's name.
    #[error("{0}")]
    Invalid(String),
    /// The cluster did not answer.
    #[error("{0}")]
    Unreachable(String),
}

/// What `start_canary` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The Canary (or the Deployment without one).
    pub key: Key,
    /// The new image; with `retry` the target's own when absent.
    pub image: Option<String>,
    /// The container to give it to; the only one when absent.
    pub container: Option<String>,
    /// The image that has failed is tried once more.
    pub retry: bool,
    /// Refuse when the target's live revision does not begin with this (at least 8 hex digits).
    pub expect_revision: Option<String>,
    /// Who asks, for events.
    pub by: Option<String>,
}

/// What a dry run of a start found.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What a start would become: planned where it would be done, else what it would answer.
    pub acted: Acted,
    /// What it would do, where a run would follow.
    pub preview: Option<Preview>,
}

/// A rollout as it changes. Dropping it stops the watch and nothing else.
pub struct Follow {
    pub(crate) receiver: tokio::sync::watch::Receiver<Option<Arc<RolloutView>>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Follow {
    /// The next state of the rollout: at once the first time, then whenever the Canary has changed, and now and then while it waits for
    /// pods. `None` when the Canary is gone or the watch has ended for good.
    pub async fn next(&mut self) -> Option<Arc<RolloutView>> {
        loop {
            if self.receiver.changed().await.is_err() {
                return None;
            }
            if let Some(view) = self.receiver.borrow_and_update().clone() {
                return Some(view);
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which rollouts a table shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only clusters whose labels this Kubernetes label selector matches.
    pub selector: Option<String>,
    /// Only this cluster.
    pub cluster: Option<String>,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this name.
    pub name: Option<String>,
}

/// The verbs of a request that tools put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The Canary.
    pub key: Key,
    /// Promote or roll back.
    pub verb: crate::decide::facts::Verb,
    /// With promote: without waiting for the analysis. With `to`: without an analysis of it.
    pub skip: bool,
    /// With rollback, between runs: the kept revision to go back to, or its first digits.
    pub to: Option<String>,
    /// Why, for the event.
    pub reason: Option<String>,
    /// Who asks.
    pub by: Option<String>,
    /// How long to wait until it was acted on.
    pub patience: Duration,
}

/// Rows of a table and what could not be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The rollouts that are shown; where there are more, first those that go on.
    pub rows: Vec<RolloutRow>,
    /// How many match.
    pub count: usize,
    /// How many of these go on.
    pub running: usize,
    /// Clusters that could not be read, with the reason.
    pub unreachable: Vec<String>,
}

/// Reads and wishes over all clusters that the registry knows. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    pub(super) shared: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) registry: Registry,
    pub(super) settings: Settings,
    pub(super) direct: Transport,
    pub(super) turns: Turns,
    /// What the engine of this process makes of the clusters, where there is one.
    pub(super) leading: Leading,
}

impl Control {
    /// The same with the engine on and off.
    #[must_use]
    pub fn new(registry: Registry, settings: Settings, direct: Transport) -> Self {
        Self {
            shared: Arc::new(Inner {
                registry,
                settings,
                direct,
                turns: Turns::new(),
                leading: Leading::default(),
            }),
        }
    }

    /// The same beside an engine in this process, whose obstacles its answers name.
    #[must_use]
    pub fn with(self, leading: Leading) -> Self {
        let Inner {
            registry,
            settings,
            direct,
            turns: _,
            leading: _,
        } = &*self.shared;
        Self {
            shared: Arc::new(Inner {
                registry: registry.clone(),
                settings: settings.clone(),
                direct: direct.clone(),
                turns: Turns::new(),
                leading,
            }),
        }
    }

    /// Every cluster that `selector` (Kubernetes label-selector syntax) matches, the unreachable ones too, with the reason.
    ///
    /// # Errors
    /// `Invalid` when the selector cannot be parsed.
    pub async fn clusters(&self, selector: Option<&str>) -> Result<Vec<ClusterRow>, ControlError> {
        Ok(rows::rows(&self.shared, &self.selected(selector)?).await)
    }

    fn selected(&self, selector: Option<&str>) -> Result<Vec<Entry>, ControlError> {
        let registry = &self.shared.registry;
        match selector {
            Some(selector) => registry.select(selector).map_err(ControlError::Invalid),
            None => Ok(registry.all().to_vec()),
        }
    }

    /// One rollout in full, read now.
    ///
    /// # Errors
    /// `NotFound` names the clusters or Canaries that there are; `Unreachable` gives the cause.
    pub async fn view(&self, key: &Key) -> Result<Arc<RolloutView>, ControlError> {
        let cluster = self.cluster(&key.cluster)?;
        self.read(&cluster, key)
            .await
            .map(|objects| self.show(&cluster, &objects))
    }

    /// A table of all rollouts that match.
    ///
    /// # Errors
    /// `NotFound` when the filter names a cluster that there is not, `Invalid` when its selector cannot be parsed.
    pub async fn table(&self, filter: &Filter) -> Result<Table, ControlError> {
        if let Some(name) = &filter.cluster {
            self.cluster(name)?;
        }
        let wanted = |entry: &&Entry| {
            filter
                .cluster
                .as_ref()
                .is_none_or(|name| *name == entry.name)
        };
        let entries = self.selected(filter.selector.as_deref())?;
        let entries: Vec<&Entry> = entries.iter().filter(wanted).collect();
        Ok(table::table(&self.shared, &entries, filter).await)
    }

    /// Watches one rollout for the length of a call.
    ///
    /// # Errors
    /// As [`Control::view`].
    pub async fn follow(&self, key: &Key) -> Result<Follow, ControlError> {
        let cluster = self.cluster(&key.cluster)?;
        let first = self.read(&cluster, key).await?;
        let (sender, receiver) = tokio::sync::watch::channel(None);
        let (control, key) = (self.clone(), key.clone());
        let task = tokio::spawn(async move {
            let watched = cluster.watch(&CANARY, scope(&key));
            let mut changes = watched.subscribe();
            watched.ready().await;
            let mut last = control.show(&cluster, &first);
            let mut known = Some(first.canary.resource_version().to_owned());
            loop {
                changes.mark_unchanged();
                let Some(canary) = watched.get(&key.namespace, &key.name) else {
                    return;
                };
                let pods = objects::waits_for_pods(&canary);
                if known.take().as_deref() != Some(canary.resource_version())
                    && let Ok(objects) = control.around(&cluster, canary).await
                {
                    last = control.show(&cluster, &objects);
                }
                if sender.send(Some(last.clone())).is_err() {
                    return;
                }
                // Pods are not watched for the length of a call, only looked at now and then.
                let look = async {
                    if pods {
                        tokio::time::sleep(LOOK_AT_PODS).await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    alive = changes.changed() => if alive.is_err() { return },
                    () = look => {}
                }
            }
        });
        Ok(Follow { receiver, task })
    }

    pub(super) fn cluster(&self, name: &str) -> Result<Cluster, ControlError> {
        let known = self
            .shared
            .registry
            .all()
            .iter()
            .any(|entry| entry.name == name);
        self.shared.registry.get(name).map_err(|why| {
            let why = format!("cluster: {why}");
            if known {
                ControlError::Unreachable(why)
            } else {
                ControlError::NotFound(why)
            }
        })
    }

    /// The Canary with what is shown of it, its events and who leads.
    pub(super) async fn read(&self, cluster: &Cluster, key: &Key) -> Result<Objects, ControlError> {
        let settings = self.shared.settings.on(cluster);
        if !settings.covers(&key.namespace) {
            return Err(ControlError::NotFound(format!(
                "namespace: {:?} is not led and shown on cluster {}; --namespace allows {}",
                key.namespace,
                key.cluster,
                settings.namespaces.join(", ")
            )));
        }
        let canary = objects::canary(cluster, &key.namespace, &key.name).await;
        match canary.map_err(|e| unreachable(&e))? {
            Some(canary) => self.around(cluster, canary).await,
            None => Err(self.no_canary(cluster, key).await),
        }
    }

    async fn around(&self, cluster: &Cluster, canary: Object) -> Result<Objects, ControlError> {
        let namespace = canary.namespace().to_owned();
        let fields = format!("regarding.kind=Canary,regarding.name={}", canary.name());
        let (objects, events, lease) = futures::join!(
            objects::read_shown(cluster, canary).boxed(),
            cluster.list(&EVENT, Some(&namespace), None, Some(&fields)),
            cluster.lease_view(&self.shared.settings.lease_namespace, LEASE),
        );
        let mut objects = objects.map_err(|e| unreachable(&e))?;
        // Events and the Lease only add to the picture; without the right to read them the rest is still true.
        objects.events = events.unwrap_or_default();
        objects.led_by = lease
            .ok()
            .flatten()
            .filter(|l| l.fresh)
            .and_then(|l| l.holder);
        Ok(objects)
    }

    pub(super) fn show(&self, cluster: &Cluster, objects: &Objects) -> Arc<RolloutView> {
        Arc::new(view::view(
            objects,
            cluster.clock().now(),
            &self.shared.settings.on(cluster).parse,
        ))
    }

    async fn no_canary(&self, cluster: &Cluster, key: &Key) -> ControlError {
        let settings = self.shared.settings.on(cluster);
        let there: Vec<String> = match objects::canaries(cluster, &settings, None).await {
            Ok(canaries) => canaries
                .iter()
                .map(|c| format!("{}/{}", c.namespace(), c.name()))
                .collect(),
            Err(error) => return unreachable(&error),
        };
        let there = match there.len() {
            0 => "none".to_owned(),
            1..=MOST_NAMES => there.join(", "),
            many => {
                let names: Vec<&str> = there.iter().map(String::as_str).collect();
                let wanted = format!("{}/{}", key.namespace, key.name);
                match &near(&wanted, &names)[..] {
                    [] => format!("{many}, call get_status with cluster to see them"),
                    near => format!("{many}, the nearest: {}", near.join(", ")),
                }
            }
        };
        ControlError::NotFound(format!(
            "name: cluster {} has no Canary {}/{}; its Canaries: {there}",
            key.cluster, key.namespace, key.name
        ))
    }
}

/// Only this Canary.
pub(super) fn scope(key: &Key) -> Scope {
    Scope {
        namespace: Some(key.namespace.clone()),
        fields: Some(format!("metadata.name={}", key.name)),
        ..Scope::default()
    }
}

pub(super) fn unreachable(error: &Error) -> ControlError {
    ControlError::Unreachable(error.report())
}
