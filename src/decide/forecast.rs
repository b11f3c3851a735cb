//! What a run is going to do: [`forecast`] lets the machine itself drive an ideal world, so that it cannot disagree with the run.
//!
//! Ideal means: pods come up in a given time, every check passes, effects are seen at once, nobody interferes, and a person who is asked
//! approves one interval later.

use super::{
    Step, Wait,
    effect::{Copied, Effect, Traffic},
    facts::{
        Analysis, Answers, Bounds, HookAnswer, Moment, Question, Reading, Request, Sample, Seen,
        Slot, Verb,
    },
    plan::{HookKind, Plan},
    state::{Phase, Stage, State},
    step,
};

/// Turns of the machine after which the forecast is given up. The longest plan (100 steps there, 100 back) needs some 500.
const MOST_TURNS: usize = 2_000;

/// The ideal world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ideal {
    /// Milliseconds from a scale-up or a template write until all pods of that copy are ready.
    pub ready_after: i64,
    /// The canary's replicas once it is scaled up.
    pub replicas: u32,
}

/// One change of phase, traffic or interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Milestone {
    /// When it is recorded.
    pub at: Moment,
    /// The stage from then on.
    pub stage: Stage,
    /// The phase from then on.
    pub phase: Phase,
    /// Where requests go from then on.
    pub traffic: Traffic,
    /// Which interval of that step it is.
    pub iteration: u32,
}

/// The course of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// Every change of phase, traffic or interval, oldest first. Empty when there is nothing to roll out.
    pub milestones: Vec<Milestone>,
    /// Every effect in the order in which it is carried out.
    pub effects: Vec<Effect>,
    /// The run comes to its end in the ideal world; if not, it stands still after the last milestone.
    pub ends: bool,
}

/// Drives the machine from `state` on, in the world `seen`, whose target has the template that is to be rolled out.
#[must_use]
pub fn forecast(plan: &Plan, state: &State, seen: &Seen, ideal: Ideal) -> Forecast {
    let mut ahead = Ahead::new(state, seen, ideal);
    let mut answers = Answers::default();
    for _ in 0..MOST_TURNS {
        let act = match step(plan, &ahead.state, &ahead.seen, &answers) {
            Step::Ask(Question::Analysis) => {
                answers.analysis = Some(all_pass(plan, ahead.seen.now));
                continue;
            }
            Step::Ask(Question::Hook(call)) => {
                let kind = plan.hooks.get(call.hook).map(|hook| hook.kind);
                // The yes of such a hook is a rollback.
                let answer = if kind == Some(HookKind::Rollback) {
                    HookAnswer::Refused(String::new())
                } else {
                    HookAnswer::Ok
                };
                answers.hooks.push((call, answer));
                continue;
            }
            Step::Act(act) => act,
        };
        answers = Answers::default();
        for effect in &act.effects {
            ahead.apply(*effect);
        }
        let changed = !act.effects.is_empty() || act.next != ahead.state;
        ahead.record(act.next);
        if ahead.ended() {
            ahead.course.ends = true;
            break;
        }
        let on = match act.wait {
            Wait::Again => changed,
            Wait::Until(at) => changed || ahead.pass(Some(at)),
            Wait::Change => changed || ahead.pass(None),
        };
        if !on {
            break;
        }
    }
    ahead.course
}

/// Every check has a value that passes: the nearer bound itself, bounds are inclusive.
fn all_pass(plan: &Plan, at: Moment) -> Analysis {
    let value = |Bounds { min, max }: Bounds| min.or(max).unwrap_or_default();
    let sample = |bounds| Sample {
        query: String::new(),
        value: Reading::Value(value(bounds)),
    };
    Analysis {
        at,
        samples: plan.checks.iter().map(|c| sample(c.bounds)).collect(),
        share: None,
        requests: None,
        cause: String::new(),
    }
}

/// The ideal world and how far it has come.
struct Ahead {
    state: State,
    seen: Seen,
    ideal: Ideal,
    /// The revision that is rolled out.
    revision: Option<String>,
    canary_up: Option<Moment>,
    primary_up: Option<Moment>,
    course: Forecast,
}

impl Ahead {
    fn new(state: &State, seen: &Seen, ideal: Ideal) -> Self {
        let mut ahead = Self {
            state: state.clone(),
            seen: seen.clone(),
            ideal,
            revision: seen.target.as_ref().map(|t| t.revision.clone()),
            canary_up: None,
            primary_up: None,
            course: Forecast {
                milestones: Vec::new(),
                effects: Vec::new(),
                ends: false,
            },
        };
        // An earlier wish is not this run's, and whatever is not well now is well in an ideal world.
        ahead.seen.request = None;
        ahead.seen.skip_annotation = None;
        ahead.seen.reset_annotation = None;
        ahead.seen.route_pending = None;
        ahead.seen.slot = Slot::Unlimited;
        let up = seen.now.plus(ideal.ready_after);
        if let Some(target) = &mut ahead.seen.target {
            let pinned = state.run.as_ref().map(|r| r.revision.as_str());
            if target.desired > 0 && pinned != Some(target.revision.as_str()) {
                // Its pods are replaced by those of the new template.
                target.updated = 0;
            }
            target.crash = None;
            target.deadline_exceeded = false;
            ahead.canary_up = (target.desired > 0).then_some(up);
        }
        if let Some(primary) = &mut ahead.seen.primary {
            primary.crash = None;
            primary.deadline_exceeded = false;
            ahead.primary_up = Some(up);
        }
        ahead
    }

    /// Notes the new state, if anything of it is to be seen from outside.
    fn record(&mut self, next: State) {
        let run = |state: &State| state.run.as_ref().map(|r| r.id.clone());
        if run(&next) != run(&self.state) {
            // What is pinned and copied so far is of the run before.
            self.seen.pinned = false;
            self.seen.primary_has_run = self.seen.target_equals_primary;
            self.seen.primary_has_previous = true;
        }
        let shown = |state: &State| (state.phase, state.traffic, state.iteration);
        if shown(&next) != shown(&self.state) || run(&next) != run(&self.state) {
            self.course.milestones.push(Milestone {
                at: self.seen.now,
                stage: next.stage,
                phase: next.phase,
                traffic: next.traffic,
                iteration: next.iteration,
            });
        }
        self.state = next;
    }

    /// The revision's own run has come to an end.
    fn ended(&self) -> bool {
        let of = self.state.run.as_ref().map(|r| &r.revision);
        self.state.stage == Stage::Idle
            && of == self.revision.as_ref()
            && !self.course.milestones.is_empty()
    }

    /// Lets the time pass until `due` or until pods come up, whichever is first. False when nothing is to be waited for.
    fn pass(&mut self, due: Option<Moment>) -> bool {
        let next = [due, self.canary_up, self.primary_up]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next else {
            return false;
        };
        self.seen.now = self.seen.now.max(next);
        let now = self.seen.now;
        for (up, copy) in [
            (&mut self.canary_up, &mut self.seen.target),
            (&mut self.primary_up, &mut self.seen.primary),
        ] {
            if let (Some(at), Some(copy)) = (*up, copy)
                && at <= now
            {
                *up = None;
                copy.observed = true;
                copy.updated = copy.desired;
                copy.replicas = copy.desired;
                copy.available = copy.desired;
                copy.endpoints = copy.desired;
            }
        }
        let run = self.state.run.as_ref();
        let person = run
            .and_then(|run| run.waiting.as_ref())
            .is_some_and(|waiting| waiting.hook.is_none());
        if person && due.is_some_and(|due| due <= now) {
            self.seen.request = Some(Request {
                id: format!("forecast {}", now.0),
                verb: Verb::Promote,
                run: None,
                skip: false,
                to: None,
                reason: None,
                by: None,
                at: None,
            });
        }
        true
    }

    fn apply(&mut self, effect: Effect) {
        self.course.effects.push(effect);
        let seen = &mut self.seen;
        let up = seen.now.plus(self.ideal.ready_after);
        match effect {
            Effect::Pin => seen.pinned = true,
            Effect::Services => seen.services_ready = true,
            Effect::CreatePrimary => {
                seen.primary.clone_from(&seen.target);
                if let Some(primary) = &mut seen.primary {
                    primary.desired = primary.desired.max(1);
                }
                self.primary_up = Some(up);
            }
            Effect::CreatePrimaryScaler => seen.primary_scaler_ready = true,
            Effect::Apex => seen.apex_on_primary = true,
            Effect::Route => seen.route_ready = true,
            Effect::Traffic(traffic) => seen.traffic = Some(traffic),
            Effect::PauseScaler => seen.scaler_paused = Some(true),
            Effect::ResumeScaler => seen.scaler_paused = Some(false),
            Effect::ScaleUp(wanted) => {
                if let Some(target) = &mut seen.target {
                    target.desired = wanted.unwrap_or(self.ideal.replicas).max(1);
                    self.canary_up = Some(up);
                }
            }
            Effect::ScaleToZero => {
                self.canary_up = None;
                if let Some(target) = &mut seen.target {
                    target.desired = 0;
                    target.updated = 0;
                    target.replicas = 0;
                    target.available = 0;
                    target.endpoints = 0;
                }
            }
            Effect::Primary(copied) => {
                let promoted = copied == Copied::Promoted;
                seen.primary_has_run = promoted;
                seen.primary_has_previous = !promoted;
                // The target may have been edited since it was pinned.
                let pinned = self.state.run.as_ref().map(|r| r.revision.as_str());
                let live = seen.target.as_ref().map(|t| t.revision.as_str());
                seen.target_equals_primary = promoted && pinned == live;
                if let Some(primary) = &mut seen.primary {
                    primary.updated = 0;
                    self.primary_up = Some(up);
                }
            }
            Effect::SyncPrimaryScaler => seen.primary_scaler_synced = true,
            // No wish is left in an ideal world.
            Effect::Target | Effect::TakeOff(_) => {}
        }
    }
}
