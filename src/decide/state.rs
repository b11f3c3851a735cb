//! [`State`]: what is recorded of a Canary, and all that a crash leaves behind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    effect::Traffic,
    facts::{Bounds, Moment},
    plan::Outcome,
};

/// Flagger's phases, as `status.phase` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The primary is being made.
    Initializing,
    /// Ready for a first revision.
    Initialized,
    /// Waits for approval before scale-up.
    Waiting,
    /// A revision is analysed.
    Progressing,
    /// Waits for approval before promotion.
    WaitingPromotion,
    /// The primary gets the new template, then the traffic.
    Promoting,
    /// All traffic is on the primary; the canary is about to go.
    Finalising,
    /// The last revision was promoted.
    Succeeded,
    /// The last revision was rolled back.
    Failed,
    /// The Canary is being deleted.
    Terminating,
    /// Never written, as in Flagger.
    Terminated,
}

impl Phase {
    /// Every phase, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::Initializing,
        Self::Initialized,
        Self::Waiting,
        Self::Progressing,
        Self::WaitingPromotion,
        Self::Promoting,
        Self::Finalising,
        Self::Succeeded,
        Self::Failed,
        Self::Terminating,
        Self::Terminated,
    ];

    /// A run is going on.
    #[must_use]
    pub fn running(self) -> bool {
        match self {
            Self::Waiting
            | Self::Progressing
            | Self::WaitingPromotion
            | Self::Promoting
            | Self::Finalising => true,
            Self::Initializing
            | Self::Initialized
            | Self::Succeeded
            | Self::Failed
            | Self::Terminating
            | Self::Terminated => false,
        }
    }

    /// The phase's name, as status and metrics write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "Initializing",
            Self::Initialized => "Initialized",
            Self::Waiting => "Waiting",
            Self::Progressing => "Progressing",
            Self::WaitingPromotion => "WaitingPromotion",
            Self::Promoting => "Promoting",
            Self::Finalising => "Finalising",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }
}

/// Where inside its phase a Canary is: finer than Flagger's phases, recorded in `status.run.stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Services, primary, its autoscaler; then the apex, the routes and the wait before the target goes to zero.
    Bootstrap,
    /// No run. Traffic is on the primary, the target at zero, its autoscaler paused.
    Idle,
    /// The run is pinned and nothing is scaled up: a gate is closed, a confirm-rollout hook says no, or other runs have to end first.
    Waiting,
    /// The run is pinned; the canary is scaled up and must become ready.
    Starting,
    /// The canary has traffic and is analysed at each interval.
    Analysing,
    /// The analysis has passed; a person must open the gate. The analysis goes on.
    Gated,
    /// The primary has been given the run's template and must become ready.
    Copying,
    /// Traffic returns to the primary, all at once or by `stepWeightPromotion`.
    Shifting,
    /// All traffic is on the promoted primary; the canary goes when the route has settled.
    Settling,
    /// The run has failed; all traffic is on the primary; the canary goes when the route has settled.
    Reverting,
    /// The run has failed after the copy; the primary has been given its previous template and must become ready.
    Restoring,
}

impl Stage {
    /// Every stage, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::Bootstrap,
        Self::Idle,
        Self::Waiting,
        Self::Starting,
        Self::Analysing,
        Self::Gated,
        Self::Copying,
        Self::Shifting,
        Self::Settling,
        Self::Reverting,
        Self::Restoring,
    ];

    /// The stages that may follow, itself included: the legal transitions.
    #[must_use]
    pub fn may_become(self) -> &'static [Self] {
        match self {
            Self::Bootstrap => &[Self::Bootstrap, Self::Idle],
            Self::Idle => &[Self::Idle, Self::Waiting, Self::Starting, Self::Reverting],
            Self::Waiting => &[Self::Waiting, Self::Starting, Self::Reverting],
            // Back to the gate with another revision, which nobody has approved.
            Self::Starting => &[
                Self::Waiting,
                Self::Starting,
                Self::Analysing,
                Self::Copying,
                Self::Reverting,
            ],
            Self::Analysing => &[
                Self::Waiting,
                Self::Analysing,
                Self::Starting,
                Self::Gated,
                Self::Copying,
                Self::Reverting,
            ],
            // Back to the analysis when the plan has got more steps meanwhile.
            Self::Gated => &[
                Self::Waiting,
                Self::Gated,
                Self::Starting,
                Self::Analysing,
                Self::Copying,
                Self::Reverting,
            ],
            Self::Copying => &[
                Self::Copying,
                Self::Shifting,
                Self::Settling,
                Self::Restoring,
            ],
            Self::Shifting => &[Self::Shifting, Self::Settling, Self::Restoring],
            Self::Settling => &[Self::Settling, Self::Idle, Self::Restoring],
            Self::Reverting => &[Self::Reverting, Self::Idle],
            Self::Restoring => &[Self::Restoring, Self::Reverting, Self::Idle],
        }
    }

    /// The primary may have the run's template: from the copy on.
    #[must_use]
    pub fn copied(self) -> bool {
        match self {
            Self::Copying | Self::Shifting | Self::Settling | Self::Restoring => true,
            Self::Bootstrap
            | Self::Idle
            | Self::Waiting
            | Self::Starting
            | Self::Analysing
            | Self::Gated
            | Self::Reverting => false,
        }
    }
}

/// Everything recorded of a Canary. It is read from `status` and written back as a whole, at most once a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// `status.phase`; `Initializing` when there is none yet.
    pub phase: Phase,
    /// `status.run.stage`; without one, what the phase implies.
    pub stage: Stage,
    /// Where requests go, as it was recorded last (`status.canaryWeight`, `status.run.matched`, `status.run.mirror`).
    pub traffic: Traffic,
    /// Which interval of the current step has begun, from 1; 0 before the first (`status.run.iteration`).
    pub iteration: u32,
    /// Failed analyses of this run (`status.failedChecks`), as [`ThresholdMode`](super::plan::ThresholdMode) counts them.
    pub failed_checks: u32,
    /// Revision that was last seen and acted on (`status.lastAppliedSpec`).
    pub last_applied: Option<String>,
    /// Revision on the primary (`status.lastPromotedSpec`).
    pub last_promoted: Option<String>,
    /// The run that is going on, or the last one.
    pub run: Option<Run>,
    /// When the next analysis is due (`status.nextCheckAt`).
    pub next_check_at: Option<Moment>,
    /// The cookies of session affinity.
    pub cookies: Cookies,
    /// id of the request that was last acted on or found stale (`status.handledRequest`).
    pub handled_request: Option<String>,
    /// What the analysis found so far in this run (`status.canaryAnalysis`).
    pub evidence: Evidence,
    /// When the phase or the weight changed last.
    pub since: Moment,
}

/// The cookies of session affinity, each `name=VALUE`. The canary's is made when a run begins, so that it is on record before a route names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cookies {
    /// Keeps a user on this run's canary (`status.sessionAffinityCookie`).
    pub canary: Option<String>,
    /// Keeps a user on the primary; its value never changes (`status.primarySessionAffinityCookie`).
    pub primary: Option<String>,
    /// The canary's cookie of the run before, which is taken back (`status.previousSessionAffinityCookie`).
    pub previous: Option<String>,
}

impl Cookies {
    /// The canary's cookie belongs to a run that is over.
    pub fn retire(&mut self) {
        if let Some(cookie) = self.canary.take() {
            self.previous = Some(cookie);
        }
    }
}

/// What a run waits for that somebody has to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// What is held back.
    pub what: WaitFor,
    /// Name of the webhook that says no; `None` where a person has to approve, or other runs have to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Where it stands among the runs that wait for others to end, when that was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Since when.
    #[serde(skip)]
    pub since: Moment,
}

/// What holds up a run that waits for others to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Its place among those that wait, from 1.
    pub place: u32,
    /// Runs that go on.
    pub running: u32,
    /// How many may, and where: `2 in the cluster`.
    pub limit: String,
}

/// What is held back until somebody approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitFor {
    /// The scale-up of the canary, for approval.
    Rollout,
    /// More users for the canary, for approval.
    Traffic,
    /// The promotion, for approval; in blue/green the switch.
    Promotion,
    /// The scale-up of the canary, for the end of other runs.
    Queue,
}

/// One run of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Deterministic: UUID of (Canary uid, revision, n).
    pub id: String,
    /// Counts the runs of this Canary; 0 is what was live at bootstrap.
    pub n: u32,
    /// The pinned revision.
    pub revision: String,
    /// Name of the `ControllerRevision` that keeps its template.
    pub template: String,
    /// Name of the `ControllerRevision` of what the primary had before; `None` for run 0.
    pub previous: Option<String>,
    /// When the run began.
    pub started_at: Moment,
    /// When the current stage began; while starting, when the canary was last scaled up, from which the progress deadline counts.
    pub stage_at: Moment,
    /// When the last route write was observed, for `settle`.
    pub route_written_at: Option<Moment>,
    /// Why there is no analysis, if there is none.
    pub skip: Option<Skip>,
    /// Why the run failed or ended, in a person's words.
    pub reason: Option<String>,
    /// How it ends without promotion, once that is decided.
    pub outcome: Option<Outcome>,
    /// What it waits for that somebody has to open.
    pub waiting: Option<Waiting>,
    /// It was begun by the annotation `flagger.app/reset`, which has not been taken off yet.
    pub reset: bool,
    /// It was begun in a dry run: its canary had no traffic, and it must not be promoted ([`Plan::rehearsal`](super::plan::Plan)).
    pub rehearsal: bool,
}

/// Why a run has no analysis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Where the skip comes from.
    pub source: SkipSource,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Skip {
    /// A person has asked for it in mid-run, which opens the gate before the canary too.
    #[must_use]
    pub fn by_person(&self) -> bool {
        self.source == SkipSource::Person
    }
}

/// Where a skip comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SkipSource {
    /// What was live at bootstrap.
    Initial,
    /// What was live when the Canary was taken over.
    Adopted,
    /// `spec.skipAnalysis`.
    Spec,
    /// An annotation.
    Annotation,
    /// A person's `promote` with `skip_analysis`.
    Person,
}

/// What the analysis of a run found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// The last result of each check, in full.
    pub checks: Vec<CheckResult>,
    /// The past steps, oldest first; the last one is the current weight's.
    pub steps: Vec<StepResult>,
    /// How many older steps were merged away when the record grew too large.
    pub merged: u32,
    /// The canary's share of the requests at the last analysis, percent.
    pub share: Option<f64>,
    /// When that share was read.
    pub share_at: Option<Moment>,
    /// Since when that share and the weight part, if they do.
    pub apart: Option<Apart>,
}

/// The observed share of the requests and the written weight part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// Intervals in a row.
    pub intervals: u32,
    /// When it was first seen.
    pub since: Moment,
    /// Likely causes, each with what to do; empty when none was found.
    pub cause: String,
}

/// One check, evaluated once.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResult {
    /// Name of the check.
    pub name: String,
    /// The value, if there was one.
    pub value: Option<f64>,
    /// Its bounds.
    pub bounds: Bounds,
    /// What the value means.
    pub verdict: Verdict,
    /// The query as it was sent.
    pub query: String,
    /// When it was evaluated.
    pub at: Moment,
    /// Why there is no value.
    pub error: Option<String>,
}

/// What one analysis means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Within bounds.
    Pass,
    /// Out of bounds.
    Fail,
    /// No value. Flagger: counts as failed.
    NoData,
}

/// One interval of a step, and the last analysis in it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Where requests went.
    pub traffic: Traffic,
    /// When it began.
    pub at: Moment,
    /// The verdict of the last analysis in it; `None` before the first.
    pub verdict: Option<Verdict>,
    /// Each check's value and verdict at that analysis; empty once trimmed.
    pub checks: Vec<StepCheck>,
}

/// One check in a [`StepResult`].
#[derive(Debug, Clone, PartialEq)]
pub struct StepCheck {
    /// Name of the check.
    pub name: String,
    /// Its value.
    pub value: Option<f64>,
    /// Its verdict.
    pub verdict: Verdict,
}

impl State {
    /// The state of a Canary that nobody has driven yet.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            phase: Phase::Initializing,
            stage: Stage::Bootstrap,
            traffic: Traffic::PRIMARY,
            iteration: 0,
            failed_checks: 0,
            last_applied: None,
            last_promoted: None,
            run: None,
            next_check_at: None,
            cookies: Cookies::default(),
            handled_request: None,
            evidence: Evidence::default(),
            since: now,
        }
    }

    /// The canary's percent in the weighted rule, as it was recorded last.
    #[must_use]
    pub fn weight(&self) -> u8 {
        self.traffic.canary()
    }

    /// Name of the `ControllerRevision` of what the primary was promoted to.
    #[must_use]
    pub fn promoted_pin(&self) -> Option<String> {
        let run = self.run.as_ref()?;
        match self.phase {
            Phase::Initialized | Phase::Succeeded => Some(run.template.clone()),
            Phase::Initializing
            | Phase::Waiting
            | Phase::Progressing
            | Phase::WaitingPromotion
            | Phase::Promoting
            | Phase::Finalising
            | Phase::Failed
            | Phase::Terminating
            | Phase::Terminated => run.previous.clone(),
        }
    }
}
