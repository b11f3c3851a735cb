//! Logs and metrics of the process: the tracing subscriber, and the [`Metrics`] that `/metrics` shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tracing_subscriber::EnvFilter;

use crate::decide::state::Phase;

/// What is logged without `RUST_LOG`. rmcp writes three lines for each request at info.
const DEFAULT_FILTER: &str = "info,rmcp=warn,hyper=warn,kube=warn,kube_client=off";

/// `Content-Type` of what [`Metrics::encode`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Starts logging to stderr: for people on a terminal, JSON lines otherwise. `RUST_LOG` sets the level.
///
/// # Errors
/// A `RUST_LOG` that cannot be read, or a subscriber that is there already.
pub fn start_logs() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| format!("RUST_LOG: {text:?} cannot be read ({error}), try info"))?,
        Ok(_) | Err(_) => EnvFilter::new(DEFAULT_FILTER),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    }
}

/// One Canary's target, as the labels of Flagger's metrics name it. Flagger drives one cluster; we drive many, so every series of a
/// rollout also says which.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct Target {
    /// Name of the target (`spec.targetRef.name`), as in Flagger.
    pub name: String,
    /// Namespace of the Canary.
    pub namespace: String,
    /// The cluster.
    pub cluster: String,
}

/// How a run ended, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Promoted; otherwise rolled back.
    pub success: bool,
    /// Promoted without analysis.
    pub skipped: bool,
}

/// What became of an event that a webhook was to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventHook {
    /// It was taken.
    Sent,
    /// It was not taken, by the last attempt either.
    Failed,
    /// It was never sent: too many waited before it.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventHookLabels {
    outcome: &'static str,
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InfoLabels {
    version: String,
    mesh_provider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TakenLabels {
    cluster: String,
    lease: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabels {
    namespace: String,
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkloadLabels {
    workload: String,
    namespace: String,
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    name: String,
    namespace: String,
    metric: String,
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    name: String,
    namespace: String,
    cluster: String,
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    name: String,
    namespace: String,
    deployment_strategy: &'static str,
    analysis_status: &'static str,
    cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    tool: &'static str,
    status: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    tool: &'static str,
    version: String,
}

type FloatGauge = Gauge<f64, AtomicU64>;
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of the process: Flagger's names for what Flagger measures, and our own. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    version: String,
    leading: Family<ClusterLabels, Gauge>,
    members: Gauge,
    handovers: Family<TakenLabels, Counter>,
    canaries: Family<NamespaceLabels, Gauge>,
    status: Family<Target, Gauge>,
    weight: Family<WorkloadLabels, Gauge>,
    analysis: Family<CheckLabels, FloatGauge>,
    duration: Histograms<Target>,
    successes: Family<EndLabels, Counter>,
    failures: Family<EndLabels, Counter>,
    run_age: Family<Target, Gauge>,
    phase: Family<PhaseLabels, Gauge>,
    failed_checks: Family<Target, Gauge>,
    observed: Family<Target, FloatGauge>,
    apart: Family<Target, Gauge>,
    event_hooks: Family<EventHookLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histograms<DurationLabels>,
    /// The checks of each Canary, so that `forget` finds their series.
    checks: Mutex<BTreeMap<Target, BTreeSet<String>>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("version", &self.inner.version)
            .finish_non_exhaustive()
    }
}

/// Prometheus's default buckets, which Flagger uses: seconds of one tick.
fn tick_buckets() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

/// Seconds of one tool call, dense around the 2 s that the latency check of an MCP server compares with; the rest are calls that wait.
fn request_buckets() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 5.0, 10.0, 60.0, 600.0,
        3600.0,
    ])
}

impl Metrics {
    /// Metrics of one process. `version` is the build's version (of a pod under a rollout, its `pod-template-hash`, so that a canary of
    /// this server can be analysed), `mesh_provider` the `--mesh-provider`.
    #[must_use]
    pub fn new(version: &str, mesh_provider: &str) -> Self {
        let info = Family::<InfoLabels, Gauge>::default();
        info.get_or_create(&InfoLabels {
            version: version.to_owned(),
            mesh_provider: mesh_provider.to_owned(),
        })
        .set(1);
        let mut inner = Inner {
            registry: Registry::default(),
            version: version.to_owned(),
            leading: Family::default(),
            members: Gauge::default(),
            handovers: Family::default(),
            canaries: Family::default(),
            status: Family::default(),
            weight: Family::default(),
            analysis: Family::default(),
            duration: Family::new_with_constructor(tick_buckets),
            successes: Family::default(),
            failures: Family::default(),
            run_age: Family::default(),
            phase: Family::default(),
            failed_checks: Family::default(),
            observed: Family::default(),
            apart: Family::default(),
            event_hooks: Family::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(request_buckets),
            checks: Mutex::default(),
        };
        inner
            .registry
            .register("flagger_info", "Version and mesh provider", info);
        inner.register();
        Self {
            inner: Arc::new(inner),
        }
    }

    /// `canary_mcp_leading`: whether this process leads a cluster that it may lead; `None` removes it, for it may no longer.
    pub fn leading(&self, cluster: &str, leads: Option<bool>) {
        let labels = ClusterLabels {
            cluster: cluster.to_owned(),
        };
        match leads {
            Some(leads) => {
                let gauge = self.inner.leading.get_or_create(&labels);
                gauge.set(i64::from(leads));
            }
            None => {
                self.inner.leading.remove(&labels);
            }
        }
    }

    /// `canary_mcp_members`: replicas of the engine that live, this one among them; 0 without a home cluster to see them in.
    pub fn members(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.inner.members.set(count);
    }

    /// `canary_mcp_handovers_total`: this process has come to lead a cluster, whose Lease was `new`, `free`, `asked` or `expired`.
    pub fn handover(&self, cluster: &str, lease: &'static str) {
        self.inner
            .handovers
            .get_or_create(&TakenLabels {
                cluster: cluster.to_owned(),
                lease,
            })
            .inc();
    }

    /// `flagger_canary_total`: Canaries of one namespace.
    pub fn canaries(&self, cluster: &str, namespace: &str, count: i64) {
        self.inner
            .canaries
            .get_or_create(&NamespaceLabels {
                namespace: namespace.to_owned(),
                cluster: cluster.to_owned(),
            })
            .set(count);
    }

    /// `flagger_canary_status`: 0 Progressing, 2 Failed, 1 anything else, as in Flagger.
    pub fn status(&self, target: &Target, phase: Phase) {
        let value = match phase {
            Phase::Progressing => 0,
            Phase::Failed => 2,
            Phase::Initializing
            | Phase::Initialized
            | Phase::Waiting
            | Phase::WaitingPromotion
            | Phase::Promoting
            | Phase::Finalising
            | Phase::Succeeded
            | Phase::Terminating
            | Phase::Terminated => 1,
        };
        self.inner.status.get_or_create(target).set(value);
    }

    /// `canary_mcp_phase`: 1 for the phase that the Canary is in, which `flagger_canary_status` tells only roughly (a run that waits for a
    /// person is 1 there, as one that has succeeded), and `canary_mcp_failed_checks`: the failed analyses of its last run.
    pub fn progress(&self, target: &Target, phase: Phase, failed_checks: u32) {
        for other in Phase::ALL {
            let labels = in_phase(target, other);
            if other == phase {
                self.inner.phase.get_or_create(&labels).set(1);
            } else {
                self.inner.phase.remove(&labels);
            }
        }
        self.inner
            .failed_checks
            .get_or_create(target)
            .set(failed_checks.into());
    }

    /// `canary_mcp_observed_weight`: percent of the requests that the canary had in the last analysis, and `canary_mcp_weight_apart`: for how
    /// many analyses in a row that has not been the written weight. `None` removes the first, for nothing was observed.
    pub fn observed(&self, target: &Target, percent: Option<f64>, apart: u32) {
        match percent {
            Some(percent) => {
                self.inner.observed.get_or_create(target).set(percent);
            }
            None => {
                self.inner.observed.remove(target);
            }
        }
        self.inner.apart.get_or_create(target).set(apart.into());
    }

    /// `flagger_canary_weight` of both workloads, `NAME-primary` and `NAME`; `canary` is percent to the canary.
    pub fn canary_weight(&self, target: &Target, canary: u8) {
        let canary = i64::from(canary.min(100));
        for (workload, weight) in workloads(target).into_iter().zip([100 - canary, canary]) {
            self.inner.weight.get_or_create(&workload).set(weight);
        }
    }

    /// `flagger_canary_metric_analysis`: the last value of one check.
    pub fn analysis(&self, target: &Target, metric: &str, value: f64) {
        self.inner
            .analysis
            .get_or_create(&check(target, metric))
            .set(value);
        self.inner
            .checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(target.clone())
            .or_default()
            .insert(metric.to_owned());
    }

    /// `flagger_canary_duration_seconds`: how long one tick took (of a run: see [`Metrics::run_age`]).
    pub fn tick(&self, target: &Target, took: Duration) {
        self.inner
            .duration
            .get_or_create(target)
            .observe(took.as_secs_f64());
    }

    /// `flagger_canary_successes_total` or `flagger_canary_failures_total`.
    pub fn finished(&self, target: &Target, end: Finished) {
        let Finished { success, skipped } = end;
        let family = if success {
            &self.inner.successes
        } else {
            &self.inner.failures
        };
        family
            .get_or_create(&EndLabels {
                name: target.name.clone(),
                namespace: target.namespace.clone(),
                deployment_strategy: "canary",
                analysis_status: if skipped { "skipped" } else { "completed" },
                cluster: target.cluster.clone(),
            })
            .inc();
    }

    /// `canary_mcp_event_hooks_total`: one event and one webhook that was to be told of it.
    pub fn event_hook(&self, cluster: &str, outcome: EventHook) {
        let outcome = match outcome {
            EventHook::Sent => "sent",
            EventHook::Failed => "failed",
            EventHook::Dropped => "dropped",
        };
        let cluster = cluster.to_owned();
        let labels = EventHookLabels { outcome, cluster };
        self.inner.event_hooks.get_or_create(&labels).inc();
    }

    /// `canary_mcp_run_age_seconds`: seconds of the cluster's clock since the run began; `None` removes it, for there is no run.
    pub fn run_age(&self, target: &Target, seconds: Option<i64>) {
        match seconds {
            Some(seconds) => {
                self.inner.run_age.get_or_create(target).set(seconds);
            }
            None => {
                self.inner.run_age.remove(target);
            }
        }
    }

    /// Drops what is measured of a Canary that is gone or no longer led from here. The counters stay: what they counted has happened.
    pub fn forget(&self, target: &Target) {
        self.inner.status.remove(target);
        self.inner.duration.remove(target);
        self.inner.run_age.remove(target);
        self.inner.failed_checks.remove(target);
        self.inner.observed.remove(target);
        self.inner.apart.remove(target);
        for phase in Phase::ALL {
            self.inner.phase.remove(&in_phase(target, phase));
        }
        for workload in workloads(target) {
            self.inner.weight.remove(&workload);
        }
        let checks = self
            .inner
            .checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(target);
        for metric in checks.into_iter().flatten() {
            self.inner.analysis.remove(&check(target, &metric));
        }
    }

    /// `mcp_requests_total` and `mcp_request_duration_seconds`: one tool call. A result with `isError` is not `ok`.
    pub fn request(&self, tool: &'static str, ok: bool, elapsed: Duration) {
        let version = self.inner.version.clone();
        self.inner
            .requests
            .get_or_create(&RequestLabels {
                tool,
                status: if ok { "success" } else { "error" },
                version: version.clone(),
            })
            .inc();
        self.inner
            .request_duration
            .get_or_create(&DurationLabels { tool, version })
            .observe(elapsed.as_secs_f64());
    }

    /// The exposition, as [`CONTENT_TYPE`] says.
    ///
    /// # Errors
    /// Writing into a string does not fail; an encoder of a metric may.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.inner.registry)?;
        Ok(text)
    }
}

impl Inner {
    /// Registers every family. The registry itself appends `_total` to counters and a full stop to help texts.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "canary_mcp_leading",
            "Whether this process leads a cluster that it may lead",
            self.leading.clone(),
        );
        registry.register(
            "canary_mcp_members",
            "Replicas of the engine that live, as far as this process sees; 0 without a home cluster",
            self.members.clone(),
        );
        registry.register(
            "canary_mcp_handovers",
            "Times that this process came to lead a cluster, whose Lease was new, free, asked (for) or expired",
            self.handovers.clone(),
        );
        registry.register(
            "flagger_canary_total",
            "Canaries of a namespace",
            self.canaries.clone(),
        );
        registry.register(
            "flagger_canary_status",
            "Last status of a canary: 0 running, 1 successful, 2 failed",
            self.status.clone(),
        );
        registry.register(
            "flagger_canary_weight",
            "Percent of the traffic that a workload is given",
            self.weight.clone(),
        );
        registry.register(
            "flagger_canary_metric_analysis",
            "Last value of a check",
            self.analysis.clone(),
        );
        registry.register(
            "flagger_canary_duration_seconds",
            "Seconds spent on one tick of a canary",
            self.duration.clone(),
        );
        registry.register(
            "flagger_canary_successes",
            "Runs that were promoted",
            self.successes.clone(),
        );
        registry.register(
            "flagger_canary_failures",
            "Runs that were rolled back",
            self.failures.clone(),
        );
        registry.register(
            "canary_mcp_run_age_seconds",
            "Seconds since the run that is going on began",
            self.run_age.clone(),
        );
        registry.register(
            "canary_mcp_phase",
            "1 for the phase that a canary is in",
            self.phase.clone(),
        );
        registry.register(
            "canary_mcp_failed_checks",
            "Failed analyses of a canary's last run",
            self.failed_checks.clone(),
        );
        registry.register(
            "canary_mcp_observed_weight",
            "Percent of the requests that a canary had in its last analysis",
            self.observed.clone(),
        );
        registry.register(
            "canary_mcp_weight_apart",
            "Analyses in a row in which the observed weight was not the written one",
            self.apart.clone(),
        );
        registry.register(
            "canary_mcp_event_hooks",
            "Events for webhooks: sent, failed (the webhook did not take it), dropped (too many waited)",
            self.event_hooks.clone(),
        );
        registry.register(
            "mcp_requests",
            "Tool calls; isError counts as error",
            self.requests.clone(),
        );
        registry.register(
            "mcp_request_duration_seconds",
            "Seconds of a tool call, waiting included",
            self.request_duration.clone(),
        );
    }
}

fn workloads(target: &Target) -> [WorkloadLabels; 2] {
    [format!("{}-primary", target.name), target.name.clone()].map(|workload| WorkloadLabels {
        workload,
        namespace: target.namespace.clone(),
        cluster: target.cluster.clone(),
    })
}

fn in_phase(target: &Target, phase: Phase) -> PhaseLabels {
    PhaseLabels {
        name: target.name.clone(),
        namespace: target.namespace.clone(),
        cluster: target.cluster.clone(),
        phase: phase.name(),
    }
}

fn check(target: &Target, metric: &str) -> CheckLabels {
    CheckLabels {
        name: target.name.clone(),
        namespace: target.namespace.clone(),
        metric: metric.to_owned(),
        cluster: target.cluster.clone(),
    }
}

#[cfg(test)]
mod tests;
