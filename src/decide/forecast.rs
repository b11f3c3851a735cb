//! What a run is going to do: [`forecast`] lets the machine itself drive an ideal world, so that it cannot disagree with the run.
//!
//! Ideal means: pods come up in a given time, every check passes, effects are seen at once, nobody interferes, and a person who is asked
//! approves one interval later.

use super::{
    Step, Wait,
    effect::{Effect, Traffic},
    facts::{
        Analysis, Answers, Bounds, HookAnswer, Moment, Question, Reading, Request, Sample, Seen,
        Slot, Verb,
    },
    plan::{HookKind, Plan},
    pretend::{Ideal, Pretended},
    state::{Phase, Stage, State},
    step,
};

/// Turns of the machine after which the forecast is given up. The longest plan (100 steps there, 100 back) needs some 500.
const MOST_TURNS: usize = 2_000;

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
        let act = match step(plan, &ahead.state, &ahead.world.seen, &answers) {
            Step::Ask(Question::Analysis) => {
                answers.analysis = Some(all_pass(plan, ahead.world.seen.now));
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
    world: Pretended,
    /// The revision that is rolled out.
    revision: Option<String>,
    course: Forecast,
}

impl Ahead {
    fn new(state: &State, seen: &Seen, ideal: Ideal) -> Self {
        let mut world = Pretended::new(seen.clone(), ideal);
        // An earlier wish is not this run's, and whatever is not well now is well in an ideal world.
        let seen = &mut world.seen;
        seen.request = None;
        seen.skip_annotation = None;
        seen.reset_annotation = None;
        seen.route_pending = None;
        seen.slot = Slot::Unlimited;
        let revision = seen.target.as_ref().map(|t| t.revision.clone());
        let up = seen.now.plus(ideal.ready_after);
        if let Some(target) = &mut seen.target {
            let pinned = state.run.as_ref().map(|r| r.revision.as_str());
            if target.desired > 0 && pinned != Some(target.revision.as_str()) {
                // Its pods are replaced by those of the new template.
                target.updated = 0;
            }
            target.crash = None;
            target.deadline_exceeded = false;
            world.canary_up = (target.desired > 0).then_some(up);
        }
        if let Some(primary) = &mut seen.primary {
            primary.crash = None;
            primary.deadline_exceeded = false;
            world.primary_up = Some(up);
        }
        Self {
            state: state.clone(),
            world,
            revision,
            course: Forecast {
                milestones: Vec::new(),
                effects: Vec::new(),
                ends: false,
            },
        }
    }

    /// Notes the new state, if anything of it is to be seen from outside.
    fn record(&mut self, next: State) {
        let run = |state: &State| state.run.as_ref().map(|r| r.id.clone());
        if run(&next) != run(&self.state) {
            self.world.begins();
        }
        let shown = |state: &State| (state.phase, state.traffic, state.iteration);
        if shown(&next) != shown(&self.state) || run(&next) != run(&self.state) {
            self.course.milestones.push(Milestone {
                at: self.world.seen.now,
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
        let next = due.into_iter().chain(self.world.next()).min();
        let Some(next) = next else {
            return false;
        };
        self.world.pass(next);
        let seen = &mut self.world.seen;
        let run = self.state.run.as_ref();
        let person = run
            .and_then(|run| run.waiting.as_ref())
            .is_some_and(|waiting| waiting.hook.is_none());
        if person && due.is_some_and(|due| due <= seen.now) {
            seen.request = Some(Request {
                id: format!("forecast {}", seen.now.0),
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
        self.world.apply(self.state.run.as_ref(), effect);
    }
}
