//! [`RolloutView`]: what `get_status` shows of one rollout, computed by one pure function from the cluster's objects, on the replica
//! that leads and on any other alike.

mod compute;
mod kept;
mod lost;
#[cfg(test)]
mod tests;
mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    compute::{check_view, row, view},
    kept::{Kept, kept},
    lost::lost_primary,
    words::{between, line, next, summary},
};

use crate::decide::state::{Phase, Verdict};

/// One rollout in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutView {
    /// Cluster name, as `list_clusters` gives it.
    pub cluster: String,
    /// Namespace of the Canary.
    pub namespace: String,
    /// Name of the Canary.
    pub name: String,
    /// canary, ab-testing or blue-green.
    pub strategy: String,
    /// Flagger's phase.
    pub phase: Phase,
    /// What the rollout waits for, if for anything but the next check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// The canary's weight.
    pub weight: WeightView,
    /// Step n of m; 0 before the first.
    pub step: StepOf,
    /// Run id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Revisions of both copies.
    pub revision: Pair,
    /// Images of both copies.
    pub image: Pair,
    /// Failed analyses so far; they add up, a pass does not reset them.
    #[schemars(with = "i64")]
    pub failed_checks: u32,
    /// Failed analyses that end the run.
    #[schemars(with = "i64")]
    pub threshold: u32,
    /// The last result of each check.
    pub checks: Vec<CheckView>,
    /// The weights of this run so far.
    pub steps: Vec<StepView>,
    /// Older steps that were dropped from the record.
    #[schemars(with = "i64")]
    #[serde(default, skip_serializing_if = "is_zero")]
    pub steps_merged: u32,
    /// Workloads and autoscalers.
    pub copies: Copies,
    /// Between runs: earlier revisions that rollback can go back to, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptView>,
    /// Recent events, oldest first.
    pub events: Vec<EventView>,
    /// Seconds since the run began (of the cluster's clock); of a finished run, how long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_seconds: Option<i64>,
    /// When the run ends if every check passes, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<String>,
    /// When the next analysis is due, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check_at: Option<String>,
    /// Why the run ended or the Canary is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Holder of the cluster's Lease; absent when nobody leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_by: Option<String>,
    /// Give it back as `since` to wait for the next change of phase or weight.
    pub cursor: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingFor {
    /// In a person's words.
    pub what: String,
    /// Since when, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// How to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// `promote` opens it.
    #[serde(skip)]
    pub opens: bool,
}

/// The weight that was written beside the share that was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightView {
    /// Percent to the canary, as written to the route.
    #[schemars(with = "i64")]
    pub written: u8,
    /// Percent of the requests that are copied to it.
    #[schemars(with = "Option<i64>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<u8>,
    /// The users that the match names go to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<bool>,
    /// Percent of the requests that reached the canary over the last interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<f64>,
    /// When that was read, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<String>,
}

/// Step n of m.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepOf {
    /// The current step, from 1; 0 before the first.
    pub n: i64,
    /// How many steps there are.
    pub of: i64,
}

/// A value of the live version and of the canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pair {
    /// On the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
    /// On the canary (the target).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
}

/// The last result of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckView {
    /// Name of the metric.
    pub name: String,
    /// Its value; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Least value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// pass, fail or noData; absent before the first analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The query as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Why there is no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One weight of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// Percent to the canary.
    #[schemars(with = "i64")]
    pub weight: u8,
    /// Percent of the requests that were copied to it.
    #[schemars(with = "Option<i64>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<u8>,
    /// The users that the match names went to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<bool>,
    /// When it was written, RFC 3339.
    pub at: String,
    /// The last verdict at this weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Each check at this weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<StepCheckView>,
}

/// One check of a past step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepCheckView {
    /// Name of the metric.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its verdict.
    pub verdict: Verdict,
}

/// A revision whose template is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptView {
    /// The revision.
    pub revision: String,
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Both copies of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copies {
    /// The live version.
    pub primary: CopyView,
    /// The canary (the target).
    pub canary: CopyView,
}

/// One copy of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CopyView {
    /// Replicas wanted.
    pub replicas: i64,
    /// Replicas ready.
    pub ready: i64,
    /// Its autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaler: Option<ScalerView>,
}

/// One autoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScalerView {
    /// `ScaledObject`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Least replicas.
    pub min: i64,
    /// Most replicas.
    pub max: i64,
    /// Paused, so that it does not scale.
    pub paused: bool,
}

/// One event of the Canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// When, RFC 3339.
    pub at: String,
    /// A warning, not just news.
    pub warning: bool,
    /// The sentence.
    pub message: String,
}

/// One row of the table of rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutRow {
    /// Cluster name.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the Canary.
    pub name: String,
    /// Flagger's phase.
    pub phase: Phase,
    /// Percent to the canary.
    #[schemars(with = "i64")]
    pub weight: u8,
    /// Failed analyses so far.
    #[schemars(with = "i64")]
    pub failed_checks: u32,
    /// Image of the live version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Image that is rolled out, if another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_image: Option<String>,
    /// When phase or weight changed last, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What [`ClusterRow::prometheus`] says where it does.
pub const ANSWERS: &str = "answers";

/// One row of `list_clusters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterRow {
    /// Cluster name: what the other tools take as `cluster`.
    pub name: String,
    /// Labels that `selector` matches.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The API server answers.
    pub reachable: bool,
    /// Why it does not answer, or what keeps it read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Holder of the cluster's Lease; absent when nobody leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_by: Option<String>,
    /// Kubernetes version; absent in a long list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is installed, with "too old for ..." where it is; not in a long list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Vec<String>>,
    /// Prometheus answers from here; else why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<String>,
    /// Canaries by phase; absent when they could not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries: Option<std::collections::BTreeMap<String, i64>>,
    /// Why the Canaries could not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_counted: Option<String>,
}
