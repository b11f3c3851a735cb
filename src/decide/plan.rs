//! [`Plan`]: the only form that a Canary's spec has past the edge.
//!
//! `api::parse` makes it, once, with field paths in its errors. Durations are milliseconds of the
//! cluster's clock; weights are percent.

use serde::{Deserialize, Serialize};

use super::{
    effect::{About, Traffic},
    facts::Bounds,
};

/// What one Canary asks for, checked and complete.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent wishes, each read by name"
)]
pub struct Plan {
    /// Namespace of the Canary and of everything that it names without a namespace.
    pub namespace: String,
    /// Name of the Canary.
    pub name: String,
    /// Name of the target Deployment (`spec.targetRef.name`).
    pub target: String,
    /// Who routes (`spec.provider`).
    pub router: Router,
    /// The Services and the route (`spec.service`).
    pub service: Service,
    /// The target's autoscaler (`spec.autoscalerRef`).
    pub scaler: Option<Scaler>,
    /// Time between two analyses. Flagger: unparsable or empty means 60 s, below 10 s means 10 s.
    pub interval: i64,
    /// From the first traffic to the first analysis, where that is longer than an interval (`analysis.delay`).
    pub delay: i64,
    /// Failed checks that end a run; at least 1.
    pub threshold: u32,
    /// How failed checks are counted.
    pub threshold_mode: ThresholdMode,
    /// What kind of run it is.
    pub strategy: Strategy,
    /// What a run does, in order, each giving the canary more than the one before ([`Traffic::rank`]); never empty.
    pub steps: Vec<PlanStep>,
    /// Users stay on the version that they were given.
    pub affinity: Option<Affinity>,
    /// How many replicas the canary has; `None` is Flagger's rule: its autoscaler's minimum, else the primary's replicas.
    pub canary_replicas: Option<CanaryReplicas>,
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
    /// Nothing is promoted: a run says at its end what would be (`--dry-run=routes`).
    pub rehearsal: bool,
    /// Gates that a person must open (annotation `canary-mcp.dev/gate`).
    pub gates: Gates,
    /// The webhooks, in the order of the spec.
    pub hooks: Vec<Hook>,
    /// What was taken over is given back when the Canary is deleted (`spec.revertOnDeletion`).
    pub revert_on_deletion: bool,
    /// The checks of one analysis, in the order of the spec.
    pub checks: Vec<Check>,
    /// Prometheus of this Canary alone (`spec.metricsServer`).
    pub metrics_server: Option<String>,
    /// Which labels of the target count, by the installation's settings.
    pub labels: Labels,
}

/// Who routes the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// A `VirtualService` and `DestinationRule`s.
    Istio,
    /// An `HTTPRoute` of the Gateway API, of Gateways or, for a mesh, of the Service itself (GAMMA: Linkerd).
    GatewayApi,
    /// No mesh: the apex Service selects the pods of one copy or of the other.
    Kubernetes,
}

impl Router {
    /// Its name, as `spec.provider` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::GatewayApi => "gatewayapi:v1",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// What kind of run a plan makes. Flagger derives it: a match and iterations are A/B testing, iterations alone blue/green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Growing weights.
    Canary,
    /// Some users by header or cookie, for a number of analyses.
    AbTesting,
    /// A number of analyses without users, then all of them at once.
    BlueGreen,
}

impl Strategy {
    /// Its name, as Flagger's metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::AbTesting => "ab-testing",
            Self::BlueGreen => "blue-green",
        }
    }
}

/// One step of a run: where requests go, and for how many passed analyses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanStep {
    /// Where requests go.
    pub traffic: Traffic,
    /// Analyses that must pass before the next step; at least 1.
    pub intervals: u32,
}

/// How failed checks are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdMode {
    /// They add up. Flagger: a pass never resets them.
    Cumulative,
    /// A pass sets them back to zero (`thresholdMode: consecutive`).
    Consecutive,
}

/// How many replicas the canary has during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryReplicas {
    /// One.
    Min,
    /// As many as the primary.
    Primary,
    /// The primary's replicas times the next weight, rounded up.
    Weight,
}

/// `analysis.sessionAffinity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity {
    /// Name of the cookie that keeps a user on the canary.
    pub cookie: String,
    /// Name of the cookie that keeps a user on the primary, for an interval.
    pub primary_cookie: Option<String>,
    /// Seconds for which the canary's cookie lives (Flagger: a day).
    pub max_age: u32,
    /// Seconds for which the primary's cookie lives (Flagger: an interval).
    pub primary_max_age: u32,
    /// The further attributes of both in Flagger's order: `Domain=x`, `HttpOnly`, `Partitioned`, `Path=/`, `SameSite=Lax`, `Secure`.
    pub attributes: Vec<String>,
}

/// The gates that a person opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gates {
    /// Before the canary is scaled up.
    pub rollout: bool,
    /// Before each step that gives users to the canary.
    pub traffic: bool,
    /// Before the promotion; in blue/green before the switch.
    pub promotion: bool,
}

/// One webhook of `analysis.webhooks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `name`.
    pub name: String,
    /// `type`.
    pub kind: HookKind,
    /// `url`, as written.
    pub url: String,
    /// How long one attempt may take, milliseconds of real time (Flagger: 10 s).
    pub timeout: i64,
    /// Further attempts after one that failed by the network, a 429 or a 5xx (Flagger: 0).
    pub retries: u32,
    /// Any TLS certificate will do (`disableTLS`).
    pub disable_tls: bool,
    /// Nobody is alerted that it waits for approval.
    pub mute_alert: bool,
    /// `metadata`, as written.
    pub metadata: Vec<(String, String)>,
    /// With post-rollout: only after these ends of a run; empty is every one.
    pub when: Vec<Outcome>,
    /// With event: only of these; empty is every one.
    pub events: Vec<About>,
    /// What is sent instead of the payload.
    pub request: Option<HookRequest>,
}

/// What a hook sends instead of the payload (`request`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRequest {
    /// Its method; POST by default.
    pub method: String,
    /// A Secret of the Canary's namespace whose entries are sent as headers.
    pub headers_from: Option<String>,
    /// The body, a query template.
    pub body: Option<String>,
}

/// When a hook is called and what its answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// Before the canary is scaled up; a "no" waits.
    ConfirmRollout,
    /// When the canary is up, before it gets requests; a "no" is a failed check.
    PreRollout,
    /// At each analysis; a "no" is a failed check.
    Rollout,
    /// Before each weight; a "no" waits.
    ConfirmTrafficIncrease,
    /// Before the promotion; a "no" waits.
    ConfirmPromotion,
    /// After the end; its answer changes nothing.
    PostRollout,
    /// At each analysis; a "yes" ends the run.
    Rollback,
    /// With everything that people are told.
    Event,
}

impl HookKind {
    /// Every one with its name in manifests; an empty type is `rollout` too.
    pub const ALL: [(&'static str, Self); 8] = [
        ("confirm-rollout", Self::ConfirmRollout),
        ("pre-rollout", Self::PreRollout),
        ("rollout", Self::Rollout),
        ("confirm-traffic-increase", Self::ConfirmTrafficIncrease),
        ("confirm-promotion", Self::ConfirmPromotion),
        ("post-rollout", Self::PostRollout),
        ("rollback", Self::Rollback),
        ("event", Self::Event),
    ];

    /// Its name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("rollout", |(name, _)| name)
    }
}

/// How a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Promoted.
    Succeeded,
    /// Ended by the engine: failed checks, a copy that is not ready, a deadline.
    Failed,
    /// Ended by somebody: a request, a rollback hook, the target put back.
    RolledBack,
}

impl Outcome {
    /// Every one with its name in manifests.
    pub const ALL: [(&'static str, Self); 3] = [
        ("succeeded", Self::Succeeded),
        ("failed", Self::Failed),
        ("rolledBack", Self::RolledBack),
    ];
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

    /// The canary's weight from which a run promotes.
    #[must_use]
    pub fn last_weight(&self) -> u8 {
        self.steps.last().map_or(0, |step| step.traffic.canary())
    }

    /// The canary's weight at each step.
    #[must_use]
    pub fn weights(&self) -> Vec<u8> {
        self.steps.iter().map(|s| s.traffic.canary()).collect()
    }

    /// As much of `traffic` as the router has rules for: a record may be of a plan that has been edited since.
    #[must_use]
    pub fn possible(&self, traffic: Traffic) -> Traffic {
        let tcp = self.service.app_protocol.as_deref();
        let tcp = tcp.is_some_and(|p| p.eq_ignore_ascii_case("tcp"));
        match self.router {
            Router::Kubernetes if traffic.canary() == 100 => Traffic::CANARY,
            Router::Kubernetes => Traffic::PRIMARY,
            Router::Istio if tcp => Traffic::to_canary(traffic.canary()),
            Router::Istio | Router::GatewayApi => {
                let matched = traffic.matches() && self.strategy == Strategy::AbTesting;
                Traffic::stored(traffic.canary(), matched, traffic.mirror())
            }
        }
    }

    /// The hooks of a kind, in order, each with its place among all.
    pub fn hooks(&self, kind: HookKind) -> impl Iterator<Item = (usize, &Hook)> {
        let all = self.hooks.iter().enumerate();
        all.filter(move |(_, hook)| hook.kind == kind)
    }
}
