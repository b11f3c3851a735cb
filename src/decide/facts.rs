//! What the machine may know: [`Seen`], the world as the watches show it, and what it has to ask for.

use serde::{Deserialize, Serialize};

use super::{
    effect::Traffic,
    state::{Phase, Queue},
};

/// A moment of the cluster's clock, in milliseconds since 1970.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Moment(pub i64);

impl Moment {
    /// This moment plus `ms` milliseconds.
    #[must_use]
    pub fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The world of one Canary at one moment.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each read by name"
)]
pub struct Seen {
    /// The cluster's clock.
    pub now: Moment,
    /// Since when this process leads the cluster: what was before it, nobody may have seen.
    pub led_since: Moment,
    /// The run that would begin now: its id and pin, made from the Canary's uid, the target's revision and the run's number.
    pub next_run: Option<NextRun>,
    /// The target workload: the canary's copy. `None` when there is no such Deployment.
    pub target: Option<Workload>,
    /// The primary workload. `None` before bootstrap.
    pub primary: Option<Workload>,
    /// The target's template is the primary's, on the paths that we write.
    pub target_equals_primary: bool,
    /// `S-canary` and `S-primary` exist with the right ports and selectors.
    pub services_ready: bool,
    /// The apex Service exists and selects the primary.
    pub apex_on_primary: bool,
    /// The routes exist and are ours.
    pub route_ready: bool,
    /// Where the stored route sends requests; `None` without a route of ours.
    pub traffic: Option<Traffic>,
    /// Why the stored route is not carried out yet, where the router says (Gateway API: not accepted at its generation).
    pub route_pending: Option<String>,
    /// Who wrote the route last (its field manager), if that was not us.
    pub route_writer: Option<String>,
    /// The Canary has the finalizer that holds it until its target is given back.
    pub finalizer: bool,
    /// The apex selects the target, and the routes of others say what they did before they were taken over.
    pub given_back: bool,
    /// Whether the run may go beyond the queue.
    pub slot: Slot,
    /// The target's autoscaler is paused at zero; `None` when the plan has none.
    pub scaler_paused: Option<bool>,
    /// The primary's autoscaler exists, or the plan has none.
    pub primary_scaler_ready: bool,
    /// The primary's autoscaler says what the target's says, or the plan has none.
    pub primary_scaler_synced: bool,
    /// The run's pinned template is kept in the cluster.
    pub pinned: bool,
    /// The template that was promoted last is kept in the cluster: a primary that is lost can be made from it.
    pub promoted_pinned: bool,
    /// The template on the primary is the run's.
    pub primary_has_run: bool,
    /// The template on the primary is the one before the run.
    pub primary_has_previous: bool,
    /// The wish that waits to be handled (annotation `canary-mcp.dev/request`), whatever its run.
    pub request: Option<Request>,
    /// A kept template has the revision that the request names.
    pub requested_kept: bool,
    /// Who set the annotation `flagger.app/skip-analysis`, if it is set.
    pub skip_annotation: Option<String>,
    /// Who set the annotation `flagger.app/reset`, if it is set.
    pub reset_annotation: Option<String>,
    /// Who wrote the target's template last (its field manager), for "reverted by".
    pub target_writer: Option<String>,
}

/// Whether a run may go on while others go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Slot {
    /// As many as like may run.
    #[default]
    Unlimited,
    /// It has a place among those that run.
    Held,
    /// It has to wait until others have ended.
    Queued(Queue),
}

/// The identity of a run that has not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextRun {
    /// Its id.
    pub id: String,
    /// Its number.
    pub n: u32,
    /// Name of the `ControllerRevision` that will keep its template.
    pub template: String,
}

/// One workload copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    /// Hash of its template: `v1-` and 64 hex digits.
    pub revision: String,
    /// `spec.replicas`.
    pub desired: u32,
    /// Replicas of the current template.
    pub updated: u32,
    /// All replicas, old ones that are still there included.
    pub replicas: u32,
    /// Available replicas.
    pub available: u32,
    /// The controller has seen the current generation.
    pub observed: bool,
    /// Condition Progressing has the reason `ProgressDeadlineExceeded`.
    pub deadline_exceeded: bool,
    /// Ready pods behind its Service.
    pub endpoints: u32,
    /// A container of the current template that will not come up by itself.
    pub crash: Option<Crash>,
}

impl Workload {
    /// Complete, and available to `percent` of its replicas; at least one of them behind the Service.
    /// Flagger: updated and no old replicas left, available at least `int(updated x threshold / 100)`.
    #[must_use]
    pub fn ready(&self, percent: u8) -> bool {
        self.observed
            && self.desired > 0
            && self.updated >= self.desired
            && self.replicas <= self.updated
            && self.available >= (self.updated * u32::from(percent) / 100).max(1)
            && self.endpoints > 0
    }

    /// It will not become ready by itself: its deadline has passed, or a container cannot start.
    #[must_use]
    pub fn hopeless(&self) -> Option<String> {
        if let Some(crash) = &self.crash {
            return Some(format!(
                "container {} does not start ({} restarts): {}",
                crash.container, crash.restarts, crash.reason
            ));
        }
        (self.observed && self.deadline_exceeded)
            .then(|| "its progress deadline was exceeded".to_owned())
    }
}

/// A container that cannot start: three restarts in `CrashLoopBackOff`, or two failed creations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The container.
    pub container: String,
    /// Times that it was restarted.
    pub restarts: u32,
    /// Last termination reason and message, as the kubelet gives them.
    pub reason: String,
}

/// A person's or a tool's wish: the annotation `canary-mcp.dev/request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// A UUID.
    pub id: String,
    /// What is asked for.
    pub verb: Verb,
    /// The run that it is meant for; a request for another run is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// With `promote`: without waiting for the analysis. With `rollback` and `to`: without an analysis of what is gone back to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
    /// With `rollback` between runs: the kept revision to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why, in the words of who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// What a [`Request`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Open the waiting gate, or with `skip` promote now.
    Promote,
    /// End the run on the version before it.
    Rollback,
    /// Analyse the revision anew: begin the run again, or try a failed one once more.
    Reset,
}

/// What has to be asked for, because asking costs or has side effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Evaluate every check of the plan once, and the canary's share of the requests.
    Analysis,
    /// Call a webhook.
    Hook(HookCall),
}

/// One call of a webhook. The same call, repeated after a crash, is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// Place of the hook in the plan.
    pub hook: usize,
    /// The phase that its payload tells.
    pub phase: Phase,
    /// `Idempotency-Key`: run, type, name, and the second of the run at which the call fell due.
    pub key: String,
}

/// What a webhook said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    /// Yes: a status of at most 202.
    Ok,
    /// No, with its body, or why there is no answer.
    Refused(String),
}

/// The answers of one tick.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answers {
    /// The answer to [`Question::Analysis`].
    pub analysis: Option<Analysis>,
    /// The hooks that were called, with what they said. They stay when the world wakes a tick: a call that was made is paid for.
    pub hooks: Vec<(HookCall, HookAnswer)>,
}

impl Answers {
    /// What this call was answered with, if it was made.
    #[must_use]
    pub fn hook(&self, call: &HookCall) -> Option<&HookAnswer> {
        let mut all = self.hooks.iter();
        all.find(|(made, _)| made == call).map(|(_, answer)| answer)
    }

    /// Only what must not be asked for twice.
    #[must_use]
    pub fn keep_only_paid(self) -> Self {
        Self {
            analysis: None,
            hooks: self.hooks,
        }
    }
}

/// The values of one analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// When the values were read.
    pub at: Moment,
    /// One for each check of the plan, in its order.
    pub samples: Vec<Sample>,
    /// The canary's share of the requests over the last interval, percent; `None` when unknown.
    pub share: Option<f64>,
    /// How many requests that is of; asked for only where the share is [`suspicious`](super::share::suspicious).
    pub requests: Option<f64>,
    /// Likely causes why the share is not the weight; looked for only then.
    pub cause: String,
}

/// What a metric provider said.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The query as it was sent.
    pub query: String,
    /// The value; the world's "no" is a value too.
    pub value: Reading,
}

/// The outcome of one query.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A number.
    Value(f64),
    /// No series, or NaN. Flagger: no data is a failed check.
    NoData,
    /// The provider could not be asked, with the reason.
    Error(String),
}

/// Inclusive bounds; both absent means that the check only wants a value.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// Least value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}
