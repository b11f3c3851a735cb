//! One task for each Canary of a led cluster, and what the tools call.

mod act;
mod ask;
mod back;
pub mod control;
pub mod coordinate;
mod ctx;
mod definition;
mod event_hooks;
mod gates;
mod home;
mod hooks;
mod lead;
mod leading;
mod objects;
mod preview;
mod reach;
mod rights;
mod rollout;
mod rows;
mod start;
mod status;
mod table;
mod tell;
mod turns;
mod verify;
mod wish;
mod world;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use home::Home;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use leading::Leading;

use crate::{
    api::parse,
    cluster::{Cluster, Members, Overrides, Registry, Sharing, registry::Entry},
    outbound::http::Transport,
    telemetry::Metrics,
};

/// Wait before a cluster is taken up anew after a mistake of ours.
const AGAIN: Duration = Duration::from_secs(5);

/// What the installation says, the same for every cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names this process in Leases: unique to it.
    pub identity: String,
    /// Namespace of the Leases.
    pub lease_namespace: String,
    /// The cluster in which the replicas see each other (`--home`); without it the one around this process, if any.
    pub home: Option<String>,
    /// Clusters to lead at most while the other replicas cannot be seen (`--lead-at-most`).
    pub lead_at_most: usize,
    /// Prometheus of every cluster whose Canaries name none (`--metrics-server`).
    pub metrics_server: String,
    /// What is told the events of Canaries without event hooks of their own (`--event-webhook`).
    pub event_webhook: Option<String>,
    /// Globs of hosts that manifests may name (`--allow-hosts`).
    pub allow_hosts: Vec<String>,
    /// The only namespaces that are led and shown (`--namespace`); empty is all of them.
    pub namespaces: Vec<String>,
    /// What a Canary's own fields go before.
    pub parse: parse::Settings,
}

/// The flags' defaults, for a process of this name.
impl Default for Settings {
    fn default() -> Self {
        Self {
            identity: crate::api::names::MANAGER.to_owned(),
            lease_namespace: "canary-mcp-system".to_owned(),
            home: None,
            lead_at_most: 200,
            metrics_server: "http://prometheus.istio-system:9090".to_owned(),
            event_webhook: None,
            allow_hosts: Vec::new(),
            namespaces: Vec::new(),
            parse: parse::Settings::default(),
        }
    }
}

impl Settings {
    /// The settings as they are on one cluster.
    #[must_use]
    pub fn on(&self, cluster: &Cluster) -> Self {
        let Overrides {
            mesh_provider,
            metrics_server,
            selector_labels,
            include_label_prefix,
            namespaces,
        } = cluster.overrides().clone();
        let mut own = self.clone();
        own.metrics_server = metrics_server.unwrap_or(own.metrics_server);
        own.namespaces = namespaces.unwrap_or(own.namespaces);
        own.parse.mesh_provider = mesh_provider.unwrap_or(own.parse.mesh_provider);
        let labels = &mut own.parse.labels;
        labels.selectors = selector_labels.unwrap_or(std::mem::take(&mut labels.selectors));
        labels.prefixes = include_label_prefix.unwrap_or(std::mem::take(&mut labels.prefixes));
        own
    }

    /// Whether this namespace is led and shown.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|one| one == namespace)
    }

    /// What to list, to see all that is led and shown: the namespaces, or `None` for the cluster as a whole. Who may list only some
    /// namespaces is not allowed the whole.
    #[must_use]
    pub fn lists(&self) -> Vec<Option<&str>> {
        if self.namespaces.is_empty() {
            return vec![None];
        }
        self.namespaces
            .iter()
            .map(|one| Some(one.as_str()))
            .collect()
    }
}

/// What every rollout of a cluster shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    /// Calls to what is outside of the clusters.
    pub(crate) direct: Transport,
    /// What the Leases of this process have in common.
    pub(crate) sharing: Sharing,
    /// Where the tools of this process see what is in the way.
    pub(crate) leading: Leading,
    /// What we may do in the cluster.
    rights: Arc<rights::Known>,
}

/// The tasks that drive rollouts, one for each cluster that may be led, for as long as the registry has it.
pub struct Engine {
    stop: CancellationToken,
    task: JoinHandle<()>,
    leading: Leading,
}

/// The task of one cluster.
struct Led {
    cluster: Cluster,
    stop: CancellationToken,
}

/// Leads until stopped; a panic is said, and the cluster taken up anew (its Lease has been given back or runs out).
async fn keep_leading(shared: Arc<Shared>, cluster: Cluster, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let term = lead::lead(shared.clone(), cluster.clone(), stop.clone());
        if AssertUnwindSafe(term).catch_unwind().await.is_err() {
            tracing::error!(
                cluster = cluster.name(),
                "leading has panicked and begins anew"
            );
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
    shared.metrics.leading(cluster.name(), None);
    shared.leading.tell(cluster.name(), None);
}

/// Keeps a task for every cluster of the registry that may be led, until stopped; then hands all of them over.
async fn lead_all(registry: Registry, shared: Shared, mut home: Home, stop: CancellationToken) {
    // Not of `stop`: the others must know that we leave before the first Lease is free.
    let ends = CancellationToken::new();
    let mut members = home.members();
    let mut changes = registry.subscribe();
    let mut led: BTreeMap<String, Led> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let entries = changes.borrow_and_update().clone();
        home.follow(&entries);
        shared.metrics.members(match &*members.borrow_and_update() {
            Members::Live(live) => live.len(),
            Members::NoHome | Members::Joining | Members::Unknown(_) => 0,
        });
        let wanted = wanted(&entries);
        led.retain(|name, led| {
            let keep = wanted.get(name).is_some_and(|c| c.is(&led.cluster));
            if !keep {
                tracing::info!(
                    cluster = name,
                    "no longer led from here: its rollouts stay as they are"
                );
                led.stop.cancel();
            }
            keep
        });
        for (name, cluster) in wanted {
            led.entry(name).or_insert_with(|| {
                let own = Shared {
                    settings: shared.settings.on(&cluster),
                    rights: Arc::default(),
                    ..shared.clone()
                };
                let stop = ends.child_token();
                tasks.spawn(keep_leading(Arc::new(own), cluster.clone(), stop.clone()));
                Led { cluster, stop }
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            news = changes.changed() => if news.is_err() { break },
            Ok(()) = members.changed() => {}
            Some(_) = tasks.join_next() => {}
        }
    }
    home.leave().await;
    ends.cancel();
    while tasks.join_next().await.is_some() {}
}

/// The clusters that may be led, by name.
fn wanted(entries: &[Entry]) -> BTreeMap<String, Cluster> {
    let usable = entries.iter().filter_map(|e| e.cluster.as_ref().ok());
    usable
        .filter(|cluster| cluster.may_lead())
        .map(|cluster| (cluster.name().to_owned(), cluster.clone()))
        .collect()
}

impl Engine {
    /// Begins to lead every cluster that may be led, and follows the registry.
    #[must_use]
    pub fn start(
        registry: &Registry,
        settings: Settings,
        metrics: Metrics,
        direct: Transport,
    ) -> Self {
        let home = Home::new(&settings);
        let leading = Leading::default();
        let shared = Shared {
            sharing: Sharing::new(&settings.identity, home.members(), settings.lead_at_most),
            leading: leading.clone(),
            settings,
            metrics,
            direct,
            rights: Arc::default(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(lead_all(registry.clone(), shared, home, stop.clone()));
        Self {
            stop,
            task,
            leading,
        }
    }

    /// What the engine makes of each cluster, for [`control::Control::with`].
    #[must_use]
    pub fn leading(&self) -> Leading {
        self.leading.clone()
    }

    /// Says whether the engine still runs, for as long as it is asked: it ends only when it is stopped, or by a mistake of ours.
    pub fn alive(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let (task, stop) = (self.task.abort_handle(), self.stop.clone());
        move || stop.is_cancelled() || !task.is_finished()
    }

    /// Stops driving and hands over, within three seconds: tells the other replicas, then gives all Leases back at once. Rollouts stay where
    /// they are; whoever leads next goes on.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the engine's task has failed");
        }
    }
}

impl Drop for Engine {
    /// Without `stop` it ends here and now, and hands nothing over.
    fn drop(&mut self) {
        self.task.abort();
    }
}
