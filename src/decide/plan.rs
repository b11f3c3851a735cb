//! [`Plan`]: the only form that a Canary's spec has past the edge.
//!
//! `api::parse` makes it, once, with field paths in its errors. Durations are milliseconds of the
//! cluster's clock; weights are percent.

use super::facts::Bounds;

/// What one Canary asks for, checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Namespace of the Canary and of everything that it names without a namespace.
    pub namespace: String,
    /// Name of the Canary.
    pub name: String,
    /// Name of the target Deployment (`spec.targetRef.name`).
    pub target: String,
    /// The Services and the route (`spec.service`).
    pub service: Service,
    /// The target's autoscaler (`spec.autoscalerRef`).
    pub scaler: Option<Scaler>,
    /// Time between two analyses. Flagger: unparsable or empty means 60 s, below 10 s means 10 s.
    pub interval: i64,
    /// Failed checks that end a run, cumulative (Flagger: a pass never resets them); at least 1.
    pub threshold: u32,
    /// The canary's weights in order, each in 1..=100 and greater than the one before; never empty.
    pub steps: Vec<u8>,
    /// Percent that returns to the primary at each interval after promotion; `None` is all at once.
    pub step_weight_promotion: Option<u8>,
    /// Wait between an observed route write and the scale-down that relies on it.
    pub settle: i64,
    /// How long a workload may stay not ready before the run fails.
    pub progress_deadline: i64,
    /// Percent of the primary's replicas that must be available (Flagger: default 100).
    pub primary_ready: u8,
    /// Percent of the canary's replicas that must be available (Flagger: default 100).
    pub canary_ready: u8,
    /// Promote new revisions without analysis (`spec.skipAnalysis`).
    pub skip_analysis: bool,
    /// Do nothing at all (`spec.suspend`).
    pub suspend: bool,
    /// A person must open the gate before promotion (annotation `canary-mcp.dev/gate: promotion`).
    pub gate_promotion: bool,
    /// The checks of one analysis, in the order of the spec.
    pub checks: Vec<Check>,
    /// Prometheus of this Canary alone (`spec.metricsServer`).
    pub metrics_server: Option<String>,
    /// Which labels of the target count, by the installation's settings.
    pub labels: Labels,
}

/// Labels that the installation's settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Labels that tell a target's pods, in the order in which its selector is searched for them (`--selector-labels`).
    pub selectors: Vec<String>,
    /// Beginnings of the labels that a primary takes over from its target, `*` for all (`--include-label-prefix`).
    pub prefixes: Vec<String>,
}

/// `spec.service`: names, ports and hosts. What is copied raw (match, retries, headers, trafficPolicy, ...)
/// stays in the Canary object, where the builders read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Name of the apex Service (`spec.service.name`, else the target's name).
    pub name: String,
    /// Port of the three Services.
    pub port: u16,
    /// Name of that port (Flagger: `http`).
    pub port_name: String,
    /// Container port, a number or a name (Flagger: the port).
    pub target_port: PortRef,
    /// `appProtocol` of the port.
    pub app_protocol: Option<String>,
    /// Expose every other container port too.
    pub port_discovery: bool,
    /// Hosts of the `VirtualService`, the apex name added unless `*` is among them.
    pub hosts: Vec<String>,
    /// Gateways of the `VirtualService`; `mesh` when none is given.
    pub gateways: Vec<String>,
    /// The `VirtualService` is a delegate: neither hosts nor gateways.
    pub delegation: bool,
}

/// A Service's `targetPort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    /// A port number.
    Number(u16),
    /// The name of a container port.
    Name(String),
}

/// `spec.autoscalerRef`: a KEDA `ScaledObject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaler {
    /// Name of the `ScaledObject`.
    pub name: String,
    /// Trigger name to query, for the primary's copy (`primaryScalerQueries`).
    pub primary_queries: Vec<(String, String)>,
    /// `primaryScalerReplicas.minReplicas`.
    pub primary_min: Option<u32>,
    /// `primaryScalerReplicas.maxReplicas`.
    pub primary_max: Option<u32>,
}

/// One metric of `spec.analysis.metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// `name`.
    pub name: String,
    /// Inclusive bounds (`thresholdRange`, or the deprecated `threshold` by Flagger's rule).
    pub bounds: Bounds,
    /// Where the value comes from.
    pub source: Source,
    /// `interval` as written, for `{{ interval }}`; `1m` by default.
    pub interval: String,
    /// `templateVariables`, for `{{ variables.x }}`.
    pub variables: Vec<(String, String)>,
}

/// Where a check's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `request-success-rate`: percent of requests to the canary without a 5xx.
    SuccessRate,
    /// `request-duration`: 99th percentile in milliseconds of requests to the canary.
    Duration,
    /// One of the further metrics that are known by name alone.
    Named(Named),
    /// An inline `PromQL` query (deprecated in Flagger).
    Query(String),
    /// A `MetricTemplate`.
    Template {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Metrics that a name alone stands for, beside Flagger's two. All are of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// `error-rate`: percent of requests with a 5xx.
    ErrorRate,
    /// `request-duration-p50`: median in milliseconds.
    DurationP50,
    /// `request-duration-p90`: 90th percentile in milliseconds.
    DurationP90,
    /// `request-duration-p95`: 95th percentile in milliseconds.
    DurationP95,
    /// `request-duration-p99`: 99th percentile in milliseconds.
    DurationP99,
    /// `cpu-usage`: percent of the CPU that its pods request.
    CpuUsage,
    /// `memory-usage`: mebibytes of working set, the mean of its pods.
    MemoryUsage,
}

impl Named {
    /// Every one with its name.
    pub const ALL: [(&'static str, Self); 7] = [
        ("error-rate", Self::ErrorRate),
        ("request-duration-p50", Self::DurationP50),
        ("request-duration-p90", Self::DurationP90),
        ("request-duration-p95", Self::DurationP95),
        ("request-duration-p99", Self::DurationP99),
        ("cpu-usage", Self::CpuUsage),
        ("memory-usage", Self::MemoryUsage),
    ];

    /// The metric of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, metric)| *metric)
    }
}

impl Plan {
    /// Name of the primary workload.
    #[must_use]
    pub fn primary(&self) -> String {
        format!("{}-primary", self.target)
    }

    /// The weight at which a run promotes.
    #[must_use]
    pub fn last_step(&self) -> u8 {
        self.steps.last().copied().unwrap_or(100)
    }
}
