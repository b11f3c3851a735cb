//! The rollout machine: pure. No Kubernetes, no clock, no async, no logging.
//!
//! [`step`] takes what is recorded ([`State`]) and what the watches show ([`Seen`]) and says what to do and what to record. It is called
//! until it rests. The next weight follows from recorded state, so a crash between effects and record repeats the same effects and
//! nothing else. What must be known to repeat an effect (the run, its pin, the decision to copy) is recorded *before* the effect.
//!
//! | stage | phase shown | file |
//! |---|---|---|
//! | bootstrap, idle | Initializing; Initialized, Succeeded, Failed | `idle.rs` |
//! | starting, analysing, gated | Progressing, `WaitingPromotion` | `run.rs` |
//! | copying, shifting, settling | Promoting, Finalising | `promote.rs` |
//! | reverting, restoring | the phase in which it failed | `revert.rs` |

pub mod effect;
pub mod facts;
pub mod forecast;
mod idle;
pub mod plan;
mod promote;
mod revert;
pub mod rules;
mod run;
pub mod share;
pub mod state;
pub mod still;
pub mod strategy;
pub mod verdict;

#[cfg(test)]
mod tests;

use effect::{Effect, Tell, Weights};
use facts::{Answers, Moment, Question, Request, Seen, Verb, Workload};
use plan::Plan;
use state::{Phase, Run, Skip, SkipSource, Stage, State};

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart once a tick"
)]
pub enum Step {
    /// Something has to be asked for first; step again with the answer.
    Ask(Question),
    /// Do this, record this.
    Act(Act),
}

/// Effects in order, then one status write if `next` differs from the state, then the tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// What to change, in this order.
    pub effects: Vec<Effect>,
    /// What to record once every effect is done.
    pub next: State,
    /// What people are told.
    pub tell: Vec<Tell>,
    /// When to step again.
    pub wait: Wait,
}

/// When to step again; a change of the world always wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// At once: the act only recorded what the next one does.
    Again,
    /// At this moment.
    Until(Moment),
    /// Only on a change.
    Change,
}

/// The next step of one Canary. `answers` live for one tick.
#[must_use]
pub fn step(plan: &Plan, state: &State, seen: &Seen, answers: &Answers) -> Step {
    let turn = Turn {
        plan,
        state,
        seen,
        answers,
    };
    if plan.suspend {
        return Step::Act(turn.suspended());
    }
    let first = turn.unsettled().or_else(|| turn.request());
    let step = first.map_or_else(|| turn.stage(), Step::Act);
    match step {
        Step::Act(mut act) => {
            turn.stamp(&mut act.next);
            // What follows a repair follows at once. After a template the pods have to come up first.
            let repair = act.effects.iter().all(|e| !matches!(e, Effect::Primary(_)));
            if repair && !act.effects.is_empty() && act.next == *state {
                act.wait = Wait::Again;
            }
            Step::Act(act)
        }
        Step::Ask(question) => Step::Ask(question),
    }
}

/// Everything that one decision reads.
struct Turn<'a> {
    plan: &'a Plan,
    state: &'a State,
    seen: &'a Seen,
    answers: &'a Answers,
}

impl Turn<'_> {
    fn stage(&self) -> Step {
        if self.state.run.is_none()
            && (self.state.stage.copied() || self.state.stage == Stage::Reverting)
        {
            // Nothing says what was copied, so nothing can be repeated or undone; a person has to look at it.
            return Step::Act(self.rest());
        }
        match self.state.stage {
            Stage::Bootstrap => Step::Act(self.bootstrap()),
            Stage::Idle => Step::Act(self.idle()),
            Stage::Starting => Step::Act(self.starting()),
            Stage::Analysing | Stage::Gated => self.analysing(),
            Stage::Copying => Step::Act(self.copying()),
            Stage::Shifting => Step::Act(self.shifting()),
            Stage::Settling => Step::Act(self.settling()),
            Stage::Reverting => Step::Act(self.reverting()),
            Stage::Restoring => Step::Act(self.restoring()),
        }
    }

    /// The canary has traffic, by the stored route or by an apex that selects it, so what was settled no longer is. Recorded before anything else: a crash after the
    /// route write that follows must not leave an old settlement behind, on which the canary could be scaled down too early.
    fn unsettled(&self) -> Option<Act> {
        let moved =
            self.seen.weights.is_some_and(|w| w != Weights::PRIMARY) || !self.seen.apex_on_primary;
        let run = self.state.run.as_ref()?;
        (moved && run.route_written_at.is_some()).then(|| {
            let mut act = self.rest().again();
            act.unsettle();
            act
        })
    }

    /// Nothing is changed, and nobody keeps the route from moving to and fro: what was settled has to settle again.
    fn suspended(&self) -> Act {
        let mut act = self.rest();
        act.unsettle();
        if act.next == *self.state {
            act
        } else {
            act.again()
        }
    }

    /// A wish that can be acted on now. One that has to wait (a gate while the last analysis failed) stays unhandled.
    fn request(&self) -> Option<Act> {
        let request = self.seen.request.as_ref()?;
        if self.state.handled_request.as_ref() == Some(&request.id) {
            return None;
        }
        let run = self.state.run.as_ref().map(|r| r.id.as_str());
        let mut act = if request.run.is_some() && request.run.as_deref() != run {
            self.rest().tell(Tell::warning(format!(
                "Request {} is for another run and was not acted on",
                request.id
            )))
        } else {
            match request.verb {
                Verb::Rollback => self.rollback_request(request),
                Verb::Promote if request.skip => self.promote_now(request)?,
                Verb::Promote => self.open_gate(request)?,
                Verb::Reset => self.rest().tell(Tell::warning(
                    "Request reset is not carried out by this version",
                )),
            }
        };
        act.next.handled_request = Some(request.id.clone());
        act.wait = Wait::Again;
        Some(act)
    }

    fn rollback_request(&self, request: &Request) -> Act {
        let reason = format!("rollback requested by {}", said_by(request));
        let told = Tell::warning(format!("Rolling back {} {reason}", self.who()));
        match self.state.stage {
            Stage::Starting | Stage::Analysing | Stage::Gated => self.revert(&reason).tell(told),
            Stage::Copying | Stage::Shifting | Stage::Settling => self.restore(&reason).tell(told),
            Stage::Reverting | Stage::Restoring => self.rest().tell(Tell::warning(format!(
                "Rollback of {} is under way already",
                self.who()
            ))),
            Stage::Bootstrap | Stage::Idle => self.rest().tell(Tell::warning(format!(
                "Nothing to roll back for {}",
                self.who()
            ))),
        }
    }

    fn promote_now(&self, request: &Request) -> Option<Act> {
        let mut act = match self.state.stage {
            Stage::Starting => self.rest(),
            Stage::Analysing | Stage::Gated => {
                // The canary's copy must be able to serve before it becomes the primary.
                if self.ends_early().is_some()
                    || !self.canary_ready()
                    || !self.primary_has_endpoints()
                {
                    return None;
                }
                self.copy()
            }
            Stage::Bootstrap
            | Stage::Idle
            | Stage::Copying
            | Stage::Shifting
            | Stage::Settling
            | Stage::Reverting
            | Stage::Restoring => {
                return Some(self.rest().tell(Tell::warning(format!(
                    "Nothing to promote for {}",
                    self.who()
                ))));
            }
        };
        if let Some(run) = &mut act.next.run {
            run.skip = Some(Skip {
                source: SkipSource::Person,
                by: request.by.clone(),
            });
        }
        Some(act.tell_first(Tell::warning(format!(
            "Analysis of {} skipped by {}",
            self.who(),
            said_by(request)
        ))))
    }

    fn open_gate(&self, request: &Request) -> Option<Act> {
        if self.state.stage != Stage::Gated {
            return Some(self.rest().tell(Tell::warning(format!(
                "No gate of {} waits for approval",
                self.who()
            ))));
        }
        if !self.may_promote() {
            return None;
        }
        Some(self.copy().tell_first(self.approved(request)))
    }

    /// Nothing to do and nothing to record.
    fn rest(&self) -> Act {
        Act {
            effects: Vec::new(),
            next: self.state.clone(),
            tell: Vec::new(),
            wait: Wait::Change,
        }
    }

    /// The times that follow from what changed.
    fn stamp(&self, next: &mut State) {
        let now = self.seen.now;
        if next.phase != self.state.phase || next.weight != self.state.weight {
            next.since = now;
        }
        let same_run = next.run.as_ref().map(|r| &r.id) == self.state.run.as_ref().map(|r| &r.id);
        if (next.stage != self.state.stage || !same_run)
            && let Some(run) = &mut next.run
        {
            run.stage_at = now;
        }
    }

    /// Starts a run of the target's revision, or starts anew with it.
    fn begin(&self) -> Option<Act> {
        let (target, next) = (self.target()?, self.seen.next_run.as_ref()?);
        let mut act = self.rest();
        act.next.run = Some(Run {
            id: next.id.clone(),
            n: next.n,
            revision: target.revision.clone(),
            template: next.template.clone(),
            previous: self.state.promoted_pin(),
            started_at: self.seen.now,
            stage_at: self.seen.now,
            // As long as nothing moves the route, it is as settled as it was.
            route_written_at: self.state.run.as_ref().and_then(|r| r.route_written_at),
            skip: self.plan.skip_analysis.then_some(Skip {
                source: SkipSource::Spec,
                by: None,
            }),
            reason: None,
        });
        act.enter(Stage::Starting, Phase::Progressing);
        act.next.weight = 0;
        act.next.failed_checks = 0;
        act.next.next_check_at = None;
        act.next.last_applied = Some(target.revision.clone());
        act.next.evidence = state::Evidence::default();
        act.wait = Wait::Again;
        Some(act)
    }

    /// What every stage after bootstrap keeps true, whatever a person or another tool changed.
    fn foundation(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.seen.services_ready {
            effects.push(Effect::Services);
        }
        if self.seen.primary.is_none() && self.may_create_primary() {
            effects.push(Effect::CreatePrimary);
        }
        if !self.seen.primary_scaler_ready {
            effects.push(Effect::CreatePrimaryScaler);
        }
        // The apex moves to the primary only when the primary can serve.
        if !self.seen.apex_on_primary && self.primary_has_endpoints() {
            effects.push(Effect::Apex);
        }
        if !self.seen.route_ready {
            effects.push(Effect::Route);
        }
        effects
    }

    /// A lost primary is made again from what is promoted, never from an edit that nobody analysed. Where nothing has that any more, a
    /// person has to say what it was.
    fn may_create_primary(&self) -> bool {
        let promoted = self.state.last_promoted.as_deref();
        self.state.stage == Stage::Bootstrap
            || self.seen.promoted_pinned
            || (promoted.is_some() && self.target().map(|t| t.revision.as_str()) == promoted)
    }

    /// The pin, while the target still has the template that it is to keep.
    fn pin(&self) -> Option<Effect> {
        let revision = self.state.run.as_ref().map(|r| r.revision.as_str())?;
        (!self.seen.pinned && self.target()?.revision == revision).then_some(Effect::Pin)
    }

    /// What keeps a canary up that has traffic or is about to have it, whatever its autoscaler's triggers say.
    fn keep_canary(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.seen.scaler_paused == Some(true) {
            effects.push(Effect::ResumeScaler);
        }
        if self.target().is_some_and(|t| t.desired == 0) {
            effects.push(Effect::ScaleUp);
        }
        effects
    }

    /// The effect that makes the stored route say `want`, if it does not. A copy without a ready endpoint gets no more than it has while
    /// the other copy has one: then the route stays as it is.
    fn route(&self, want: Weights) -> Option<Effect> {
        let now = self.seen.weights.unwrap_or(Weights::PRIMARY);
        let (primary, canary) = (self.primary_has_endpoints(), self.canary_has_endpoints());
        let to_dead_canary = want.canary() > now.canary() && primary && !canary;
        let to_dead_primary = want.primary() > now.primary() && canary && !primary;
        (self.seen.weights != Some(want) && !to_dead_canary && !to_dead_primary)
            .then_some(Effect::Weights(want))
    }

    /// `want` gives the canary more than the stored route does.
    fn raises(&self, want: Weights) -> bool {
        want.canary() > self.seen.weights.unwrap_or(Weights::PRIMARY).canary()
    }

    /// `want`, unless its copy has no endpoint while the other has one.
    fn safe(&self, want: Weights) -> Weights {
        match (self.primary_has_endpoints(), self.canary_has_endpoints()) {
            (true, false) => Weights::PRIMARY,
            (false, true) => Weights::CANARY,
            (true, true) | (false, false) => want,
        }
    }

    fn target(&self) -> Option<&Workload> {
        self.seen.target.as_ref()
    }

    fn primary_has_endpoints(&self) -> bool {
        self.seen.primary.as_ref().is_some_and(|p| p.endpoints > 0)
    }

    fn primary_ready(&self) -> bool {
        self.seen
            .primary
            .as_ref()
            .is_some_and(|p| p.ready(self.plan.primary_ready))
    }

    fn canary_ready(&self) -> bool {
        self.target()
            .is_some_and(|t| t.ready(self.plan.canary_ready))
    }

    fn canary_has_endpoints(&self) -> bool {
        self.target().is_some_and(|t| t.endpoints > 0)
    }

    /// The canary has traffic, by the record or by the stored route.
    fn canary_has_traffic(&self) -> bool {
        self.state.weight > 0 || self.seen.weights.is_some_and(|w| w.canary() > 0)
    }

    fn who(&self) -> String {
        format!("{}.{}", self.plan.name, self.plan.namespace)
    }

    fn target_name(&self) -> String {
        format!("{}.{}", self.plan.target, self.plan.namespace)
    }
}

impl Act {
    fn tell(mut self, tell: Tell) -> Self {
        self.tell.push(tell);
        self
    }

    fn tell_first(mut self, tell: Tell) -> Self {
        self.tell.insert(0, tell);
        self
    }

    /// Forgets since when the route has given everything to the primary.
    fn unsettle(&mut self) {
        if let Some(run) = &mut self.next.run {
            run.route_written_at = None;
        }
    }

    fn until(mut self, moment: Moment) -> Self {
        self.wait = Wait::Until(moment);
        self
    }

    fn again(mut self) -> Self {
        self.wait = Wait::Again;
        self
    }

    fn enter(&mut self, stage: Stage, phase: Phase) {
        self.next.stage = stage;
        self.next.phase = phase;
    }
}

fn said_by(request: &Request) -> String {
    let by = request.by.as_deref().unwrap_or("unknown");
    match &request.reason {
        Some(reason) => format!("{by}: {reason}"),
        None => by.to_owned(),
    }
}
