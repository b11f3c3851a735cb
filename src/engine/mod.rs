//! One task for each Canary of a led cluster, and what the tools call.

mod act;
mod ask;
pub mod control;
mod lead;
mod objects;
mod preview;
mod rollout;
mod rows;
mod start;
mod status;
mod tell;
mod verify;
mod wish;
mod world;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{api::parse, cluster::Cluster, outbound::http::Transport, telemetry::Metrics};

/// Wait before a cluster is taken up anew after a mistake of ours.
const AGAIN: Duration = Duration::from_secs(5);

/// What the installation says, the same for every cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names this process in Leases: unique to it.
    pub identity: String,
    /// Namespace of the Leases.
    pub lease_namespace: String,
    /// Prometheus of every cluster whose Canaries name none (`--metrics-server`).
    pub metrics_server: String,
    /// Globs of hosts that manifests may name (`--allow-hosts`).
    pub allow_hosts: Vec<String>,
    /// What a Canary's own fields go before.
    pub parse: parse::Settings,
}

/// The flags' defaults, for a process of this name.
impl Default for Settings {
    fn default() -> Self {
        Self {
            identity: crate::api::names::MANAGER.to_owned(),
            lease_namespace: "canary-mcp-system".to_owned(),
            metrics_server: "http://prometheus.istio-system:9090".to_owned(),
            allow_hosts: Vec::new(),
            parse: parse::Settings::default(),
        }
    }
}

/// What every rollout of this process shares.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    /// Calls to what is outside of the clusters.
    pub(crate) direct: Transport,
}

/// The tasks that drive rollouts, one for each cluster that may be led.
pub struct Engine {
    stop: CancellationToken,
    tasks: JoinSet<()>,
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
        if !stop.is_cancelled() {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Engine {
    /// Begins to lead every cluster that may be led.
    #[must_use]
    pub fn start(
        clusters: &[Cluster],
        settings: Settings,
        metrics: Metrics,
        direct: Transport,
    ) -> Self {
        let shared = Arc::new(Shared {
            settings,
            metrics,
            direct,
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for cluster in clusters.iter().filter(|c| c.may_lead()) {
            tasks.spawn(keep_leading(shared.clone(), cluster.clone(), stop.clone()));
        }
        Self { stop, tasks }
    }

    /// Stops driving and gives the Leases back. Rollouts stay where they are; whoever leads next goes on.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
