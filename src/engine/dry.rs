//! [`Dry`]: what a rollout decides on and leaves out in a dry run of the engine (`--dry-run`).
//!
//! Observing, the machine drives a pretended world beside the real one: its state is kept here and nowhere else, and a new process begins
//! anew. In `routes` only the route is pretended; that is as the record says it, so that it survives a process.

use super::{preview, rollout::Rollout, tell::driven_by};
use crate::{
    api::{
        dry_run::DryRun,
        objects::{Object, ObjectExt, Objects},
        parse, status,
    },
    build,
    decide::{
        Wait,
        effect::{Effect, Tell, Traffic},
        facts::{Moment, Seen},
        plan::{Gates, Plan},
        pretend::{Ideal, Pretended},
        state::State,
    },
};

/// What is pretended of one rollout.
pub(super) enum Dry {
    /// Nothing: all that is decided is carried out.
    Off,
    /// Everything, from the first look on.
    Observe(Option<Box<Observed>>),
    /// Where the route sends requests, from the first decision about it on.
    Routes(Option<Traffic>),
}

/// A state that nobody recorded, and its world.
pub(super) struct Observed {
    state: State,
    world: Pretended,
}

impl Dry {
    pub(super) fn new(mode: Option<DryRun>) -> Self {
        match mode {
            None => Self::Off,
            Some(DryRun::Observe) => Self::Observe(None),
            Some(DryRun::Routes) => Self::Routes(None),
        }
    }

    /// Nothing at all is written.
    pub(super) fn observes(&self) -> bool {
        matches!(self, Self::Observe(_))
    }

    /// What is decided on: the record, or what was pretended since.
    pub(super) fn state(&self, recorded: State) -> State {
        match self {
            Self::Observe(Some(observed)) => observed.state.clone(),
            Self::Observe(None) | Self::Off | Self::Routes(_) => recorded,
        }
    }

    /// Why this rollout is left alone, if it is: a run with traffic of its own cannot be led without writing its route.
    pub(super) fn leaves_alone(&self, recorded: &State) -> Option<&'static str> {
        let rehearsed = recorded.run.as_ref().is_some_and(|run| run.rehearsal);
        let in_earnest = recorded.phase.running() || recorded.traffic.serves();
        let left = match self {
            Self::Off => false,
            Self::Routes(_) => in_earnest && !rehearsed,
            Self::Observe(observed) => observed.is_none() && in_earnest,
        };
        left.then_some(
            "Not driven: a run goes on that was begun in earnest, and this engine is in dry-run; start it without --dry-run to go on with it",
        )
    }

    /// The plan as it is carried out here.
    pub(super) fn plan(&self, plan: Plan) -> Plan {
        match self {
            Self::Off => plan,
            Self::Routes(_) => Plan {
                rehearsal: true,
                ..plan
            },
            // A webhook may change what it is called about, and nobody can open a gate where nothing may be written.
            Self::Observe(_) => Plan {
                hooks: Vec::new(),
                gates: Gates::default(),
                ..plan
            },
        }
    }

    /// What the observing leaves out of a plan, if anything.
    pub(super) fn left_out(&self, plan: &Plan) -> Option<String> {
        if !self.observes() {
            return None;
        }
        let hooks: Vec<&str> = plan.hooks.iter().map(|hook| hook.name.as_str()).collect();
        let gates = (plan.gates != Gates::default()).then_some("its gates are taken as open");
        let hooks = (!hooks.is_empty()).then(|| {
            let hooks = hooks.join(", ");
            format!("its webhooks are not called and taken as passed: {hooks}")
        });
        let parts: Vec<String> = hooks.into_iter().chain(gates.map(str::to_owned)).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Takes what is seen now into the pretended world.
    pub(super) fn look(&mut self, live: &Seen, state: &State, ideal: Ideal) {
        let Self::Observe(observed) = self else {
            return;
        };
        let observed = observed.get_or_insert_with(|| {
            let world = Pretended::new(live.clone(), ideal);
            let state = state.clone();
            Box::new(Observed { state, world })
        });
        observed.world.refresh(live);
    }

    /// What the machine sees.
    pub(super) fn seen(&self, live: Seen, state: &State) -> Seen {
        match self {
            Self::Off | Self::Observe(None) => live,
            Self::Observe(Some(observed)) => {
                let mut world = observed.world.clone();
                world.refresh(&live);
                world.seen
            }
            Self::Routes(pretended) => Seen {
                traffic: Some(pretended.unwrap_or(state.traffic)),
                route_ready: true,
                route_pending: None,
                route_writer: None,
                ..live
            },
        }
    }

    /// Pretends to carry out what is not carried out. What is left is to be carried out in earnest.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>, next: &State) -> Vec<Effect> {
        match self {
            Self::Off => effects,
            Self::Observe(None) => Vec::new(),
            Self::Observe(Some(observed)) => {
                for effect in effects {
                    let run = observed.state.run.as_ref();
                    observed.world.apply(run, effect);
                }
                let run = |state: &State| state.run.as_ref().map(|run| run.id.clone());
                if run(&observed.state) != run(next) {
                    observed.world.begins();
                }
                observed.state = next.clone();
                Vec::new()
            }
            Self::Routes(pretended) => {
                for effect in &effects {
                    if let Effect::Traffic(traffic) = effect {
                        *pretended = Some(*traffic);
                    }
                }
                let route = |e: &Effect| matches!(e, Effect::Traffic(_) | Effect::Route);
                effects.into_iter().filter(|e| !route(e)).collect()
            }
        }
    }

    /// Pods of the pretended world come up by themselves.
    pub(super) fn sooner(&self, wait: Wait) -> Wait {
        let next = match self {
            Self::Observe(Some(observed)) => observed.world.next(),
            Self::Observe(None) | Self::Off | Self::Routes(_) => None,
        };
        match (wait, next) {
            (Wait::Until(at), Some(next)) => Wait::Until(Moment::min(at, next)),
            (Wait::Change, Some(next)) => Wait::Until(next),
            (wait, _) => wait,
        }
    }

    /// What people are told, as it is meant.
    pub(super) fn told(&self, tell: Tell) -> Tell {
        match self {
            Self::Off => tell,
            Self::Observe(_) | Self::Routes(_) => Tell {
                message: format!("dry-run: {}", tell.message),
                ..tell
            },
        }
    }
}

impl Rollout {
    /// The plan as this engine carries it out; what it leaves out of it is said.
    pub(super) fn rehearsed(&mut self, plan: Plan, objects: &Objects) -> Plan {
        if let Some(left_out) = self.dry.left_out(&plan) {
            let who = format!("{}.{}", plan.name, plan.namespace);
            self.tell_once(&objects.canary, format!("Of {who} {left_out}"));
        }
        self.dry.plan(plan)
    }

    /// What the machine sees, and what a dry run goes on from.
    pub(super) fn look(
        &mut self,
        plan: &Plan,
        state: &State,
        objects: &Objects,
        now: Moment,
    ) -> Seen {
        if self.dry.observes() {
            let live = self.live(plan, state, objects, now);
            self.dry.look(&live, state, preview::ideal(plan, objects));
        }
        self.seen(plan, state, objects, now)
    }

    /// What the machine sees.
    pub(super) fn seen(&self, plan: &Plan, state: &State, objects: &Objects, now: Moment) -> Seen {
        let live = self.live(plan, state, objects, now);
        self.dry.seen(live, state)
    }

    /// What is there, and the run's place among the others.
    fn live(&self, plan: &Plan, state: &State, objects: &Objects, now: Moment) -> Seen {
        Seen {
            slot: self.queue.slot(),
            ..build::seen::seen(plan, state, objects, self.times(now))
        }
    }

    /// The Canary asks for the same and is where it was: a label, or the field managers of an apply, end no call.
    pub(super) fn is_same(&self, plan: &Plan, state: &State, then: &Object, now: &Object) -> bool {
        if now.resource_version() == then.resource_version() {
            return true;
        }
        let at = self.ctx.cluster().clock().now();
        let settings = &self.ctx.shared.settings.parse;
        !now.is_being_deleted()
            && driven_by(now).is_none()
            && self.dry.state(status::state(now, at)) == *state
            && parse::plan(now, settings).is_ok_and(|p| self.dry.plan(p) == *plan)
    }
}
