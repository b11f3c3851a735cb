//! The rollout machine: pure. No Kubernetes, no clock, no async, no logging.
//!
//! [`step`] takes what is recorded ([`State`]) and what the watches show ([`Seen`]) and says what to do and what to record. It is called
//! until it rests. The next weight follows from recorded state, so a crash between effects and record repeats the same effects and
//! nothing else. What must be known to repeat an effect (the run, its pin, the decision to copy) is recorded *before* the effect.
//!
//! | stage | phase shown | file |
//! |---|---|---|
//! | bootstrap, idle | Initializing; Initialized, Succeeded, Failed | `idle.rs` |
//! | waiting, starting | Progressing, Waiting | `start.rs` |
//! | analysing, gated | Progressing, `WaitingPromotion` | `run.rs` |
//! | copying, shifting, settling | Promoting, Finalising | `promote.rs` |
//! | reverting, restoring | the phase in which it failed | `revert.rs` |
//!
//! A Canary that is being deleted and gives its target back is stepped by [`deletion::step`] instead.
//!
//! Webhooks and gates are in `gates.rs`, what people ask for in `request.rs`.

pub mod deletion;
pub mod effect;
pub mod facts;
pub mod forecast;
mod gates;
mod idle;
pub mod plan;
pub mod pretend;
mod promote;
mod request;
mod revert;
pub mod rules;
mod run;
pub mod share;
mod start;
pub mod state;
pub mod still;
pub mod strategy;
pub mod verdict;

#[cfg(test)]
mod tests;

use effect::{Effect, Tell, Traffic};
use facts::{Answers, Moment, Question, Seen, Slot, Workload};
use plan::{CanaryReplicas, HookKind, Plan};
use state::{Cookies, Phase, Run, Skip, SkipSource, Stage, State};

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
    let first = turn
        .finalizer()
        .or_else(|| turn.unsettled())
        .or_else(|| turn.annotations())
        .or_else(|| turn.rehearsal_over());
    let step = first.map(Step::Act).or_else(|| turn.request());
    match step.unwrap_or_else(|| turn.stage()) {
        Step::Act(mut act) => {
            turn.stamp(&mut act.next);
            // What follows a repair follows at once. After a template the pods have to come up first.
            let repair = act.effects.iter().all(|e| !matches!(e, Effect::Primary(_)));
            if repair && !act.effects.is_empty() && act.next == *state {
                act.wait = Wait::Again;
                act.tell.extend(turn.drift(&act.effects));
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
            Stage::Waiting => self.waiting(),
            Stage::Starting => self.starting(),
            Stage::Analysing | Stage::Gated => self.analysing(),
            Stage::Copying => Step::Act(self.copying()),
            Stage::Shifting => Step::Act(self.shifting()),
            Stage::Settling => self.settling(),
            Stage::Reverting => self.reverting(),
            Stage::Restoring => self.restoring(),
        }
    }

    /// The canary has traffic, by the stored route or by an apex that selects it, so what was settled no longer is. Recorded before anything else: a crash after the
    /// route write that follows must not leave an old settlement behind, on which the canary could be scaled down too early.
    fn unsettled(&self) -> Option<Act> {
        let moved =
            self.seen.traffic.is_some_and(|w| w != Traffic::PRIMARY) || !self.seen.apex_on_primary;
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
        if next.phase != self.state.phase || next.traffic != self.state.traffic {
            next.since = now;
        }
        let same_run = next.run.as_ref().map(|r| &r.id) == self.state.run.as_ref().map(|r| &r.id);
        if (next.stage != self.state.stage || !same_run)
            && let Some(run) = &mut next.run
        {
            run.stage_at = now;
        }
    }

    /// Somebody has changed the route of a run, and it is put back.
    fn drift(&self, effects: &[Effect]) -> Option<Tell> {
        let writer = self.seen.route_writer.as_deref()?;
        let route = |e: &Effect| matches!(e, Effect::Route | Effect::Traffic(_));
        let begun = self.state.stage != Stage::Bootstrap && self.state.run.is_some();
        (begun && effects.iter().any(route)).then(|| {
            Tell::warning(format!(
                "The route of {} was changed by {writer} and is put back",
                self.who()
            ))
        })
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
            outcome: None,
            waiting: None,
            reset: false,
            rehearsal: self.plan.rehearsal,
        });
        let stage = if self.waits_first() {
            Stage::Waiting
        } else {
            Stage::Starting
        };
        act.enter(stage, Phase::Progressing);
        act.next.traffic = Traffic::PRIMARY;
        act.next.iteration = 0;
        act.next.failed_checks = 0;
        act.next.next_check_at = None;
        act.next.cookies = self.cookies_of(&next.id);
        act.next.last_applied = Some(target.revision.clone());
        act.next.evidence = state::Evidence::default();
        act.wait = Wait::Again;
        Some(act)
    }

    /// Something may hold the run before its canary is scaled up. Flagger: a restart does not ask its hooks again; a person has approved one
    /// revision and not the next.
    fn waits_first(&self) -> bool {
        let idle = self.state.stage == Stage::Idle || self.state.stage == Stage::Waiting;
        let hooks = idle && self.plan.hooks(HookKind::ConfirmRollout).next().is_some();
        let queue = idle && self.seen.slot != Slot::Unlimited;
        self.plan.gates.rollout || hooks || queue
    }

    /// The cookies of a run: a value that no run before had, made from its id so that it can be made again.
    fn cookies_of(&self, run: &str) -> Cookies {
        let old = &self.state.cookies;
        let previous = old.canary.clone().or_else(|| old.previous.clone());
        let Some(affinity) = &self.plan.affinity else {
            return Cookies {
                canary: None,
                primary: None,
                previous,
            };
        };
        let make = |name: &str, seed: &str| format!("{name}={}", letters(seed));
        let kept = |name: &String| {
            let old = old.primary.clone().filter(|c| is_named(c, name));
            old.unwrap_or_else(|| make(name, &format!("primary {run}")))
        };
        Cookies {
            canary: Some(make(&affinity.cookie, run)),
            primary: affinity.primary_cookie.as_ref().map(kept),
            previous,
        }
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
        effects.extend(self.scale_up(self.state));
        effects
    }

    /// The scale-up that the canary needs in `state`, if it needs one.
    fn scale_up(&self, state: &State) -> Option<Effect> {
        let desired = self.target()?.desired;
        let wanted = self.wanted_replicas(state);
        (desired < wanted.unwrap_or(1)).then_some(Effect::ScaleUp(wanted))
    }

    /// How many replicas the plan gives the canary; `None` leaves it to Flagger's rule. It has those of the next step before that begins.
    fn wanted_replicas(&self, state: &State) -> Option<u32> {
        let traffic = match state.stage {
            Stage::Starting => strategy::first(self.plan).map_or(Traffic::PRIMARY, |p| p.traffic),
            Stage::Analysing | Stage::Gated => strategy::most(self.plan, state),
            Stage::Bootstrap
            | Stage::Idle
            | Stage::Waiting
            | Stage::Copying
            | Stage::Shifting
            | Stage::Settling
            | Stage::Reverting
            | Stage::Restoring => state.traffic,
        };
        let primary = self.seen.primary.as_ref().map_or(1, |p| p.desired);
        let share = |percent: u8| (primary * u32::from(percent)).div_ceil(100);
        // Whoever gets users by a match, or copies, may get all of them.
        let part = if traffic.matches() {
            100
        } else {
            traffic.canary().max(traffic.mirror())
        };
        self.plan.canary_replicas.map(|wanted| match wanted {
            CanaryReplicas::Min => 1,
            CanaryReplicas::Primary => primary.max(1),
            CanaryReplicas::Weight => share(part).max(1),
        })
    }

    /// The effect that makes the stored route say `want`, if it does not. A copy without a ready endpoint gets no more than it has while
    /// the other copy has one: then the route stays as it is.
    fn route(&self, want: Traffic) -> Option<Effect> {
        let want = self.plan.possible(want);
        let now = self.seen.traffic.unwrap_or(Traffic::PRIMARY);
        let (primary, canary) = (self.primary_has_endpoints(), self.canary_has_endpoints());
        let to_dead_canary = want.raises(now) && primary && !canary;
        let to_dead_primary = want.primary() > now.primary() && canary && !primary;
        (self.seen.traffic != Some(want) && !to_dead_canary && !to_dead_primary)
            .then_some(Effect::Traffic(want))
    }

    /// `want` gives the canary more than the stored route does.
    fn raises(&self, want: Traffic) -> bool {
        let want = self.plan.possible(want);
        want.raises(self.seen.traffic.unwrap_or(Traffic::PRIMARY))
    }

    /// `want`, unless its copy has no endpoint while the other has one.
    fn safe(&self, want: Traffic) -> Traffic {
        match (self.primary_has_endpoints(), self.canary_has_endpoints()) {
            (true, false) => Traffic::PRIMARY,
            (false, true) => Traffic::CANARY,
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
        self.state.traffic.serves() || self.seen.traffic.is_some_and(Traffic::serves)
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

/// Ten lower-case letters that follow from a text, as Flagger's cookies have: an FNV-1a hash in base 26.
fn letters(seed: &str) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let mut letters = String::with_capacity(10);
    for _ in 0..10 {
        letters.push(char::from(b'a' + u8::try_from(hash % 26).unwrap_or(0)));
        hash /= 26;
    }
    letters
}

/// The cookie `name=VALUE` has this name.
fn is_named(cookie: &str, name: &str) -> bool {
    cookie.split_once('=').is_some_and(|(of, _)| of == name)
}
