//! A run before its canary gets requests: waiting and starting.

use super::{
    Act, Step, Turn,
    effect::{About, Effect, Tell, Traffic},
    facts::Slot,
    gates::{Gate, Hooks},
    plan::HookKind,
    state::{Phase, Queue, Stage, WaitFor, Waiting},
    strategy,
};

/// From the record of a run to its canary's scale-up takes less, unless nobody leads in between. Milliseconds.
const PINNING_MS: i64 = 1_000;

impl Turn<'_> {
    /// The run is pinned and nothing is scaled up before hooks and people have approved and there is room among the other runs.
    pub(super) fn waiting(&self) -> Step {
        if let Some(act) = self.ends_early() {
            return Step::Act(act);
        }
        let mut act = self.rest();
        act.effects.extend(self.pin());
        act.effects.extend(self.foundation());
        act.effects.extend(self.route(Traffic::PRIMARY));
        if !act.effects.is_empty() {
            return Step::Act(act);
        }
        let waiting = self.state.run.as_ref().and_then(|r| r.waiting.as_ref());
        if waiting.is_some_and(|w| w.what == WaitFor::Queue) {
            return Step::Act(self.queued());
        }
        let skipped_gate = self.skip().is_some_and(|s| s.by_person());
        let due = self.state.next_check_at.unwrap_or(self.seen.now);
        let approved = self.approval(WaitFor::Rollout).is_some();
        if self.seen.now < due && !approved && !skipped_gate {
            return Step::Act(act.until(due));
        }
        match self.rollback_hooks() {
            Err(question) => return Step::Ask(question),
            Ok(Some(_)) => return Step::Act(self.rolled_back_by_hook()),
            Ok(None) => {}
        }
        if skipped_gate {
            return Step::Act(self.begin_now());
        }
        match self.gate(WaitFor::Rollout) {
            Gate::Ask(question) => Step::Ask(question),
            Gate::Closed { hook } => Step::Act(self.closed(WaitFor::Rollout, hook)),
            Gate::Open(None) => Step::Act(self.begin_now()),
            Gate::Open(Some(request)) => {
                let act = self.begin_now();
                let told = self.approved(WaitFor::Rollout, request);
                Step::Act(act.tell_first(told).handles(request))
            }
        }
    }

    /// Goes on to the scale-up, by way of the queue where there is one.
    fn begin_now(&self) -> Act {
        let mut act = self.rest().again();
        if self.seen.slot != Slot::Unlimited {
            act.next.next_check_at = None;
            if let Some(run) = &mut act.next.run {
                run.waiting = Some(Waiting {
                    what: WaitFor::Queue,
                    hook: None,
                    queue: None,
                    since: self.seen.now,
                });
            }
            return act;
        }
        self.scaling_up(act)
    }

    /// Other runs have to end first. Its place among those that wait is recorded as it is found whenever the run is looked at, once an interval.
    fn queued(&self) -> Act {
        let Slot::Queued(queue) = &self.seen.slot else {
            return self.scaling_up(self.rest().again());
        };
        let mut act = self.rest();
        if let Some(waiting) = act.next.run.as_mut().and_then(|run| run.waiting.as_mut()) {
            waiting.queue = Some(queue.clone());
        }
        if self.state.phase == Phase::Waiting {
            return act;
        }
        act.next.phase = Phase::Waiting;
        let Queue {
            place,
            running,
            limit,
        } = queue;
        act.again().tell(Tell::warning(format!(
            "Halt {} advancement waiting for other runs to end: {running} go on of at most {limit}, place {place} in the queue",
            self.who()
        )))
    }

    fn scaling_up(&self, mut act: Act) -> Act {
        act.enter(Stage::Starting, Phase::Progressing);
        act.next.next_check_at = None;
        act.opened();
        act.tell(
            Tell::normal(format!(
                "New revision detected! Scaling up {}",
                self.target_name()
            ))
            .about(About::Revision),
        )
    }

    /// The run is pinned; the canary comes up and gets its first requests when it is ready.
    pub(super) fn starting(&self) -> Step {
        if let Some(act) = self.ends_early() {
            return Step::Act(act);
        }
        let mut act = self.rest();
        act.effects = self.upkeep();
        let ready = self.canary_ready() && self.primary_ready();
        let up = |e: &Effect| matches!(e, Effect::ScaleUp(_));
        if act.effects.iter().any(up) {
            // The time to come up counts from here: nobody may have led since the run was pinned. What the pin's own writes took is no
            // time worth another write.
            act.effects.extend(self.route(Traffic::PRIMARY));
            if let Some(run) = &mut act.next.run
                && self.seen.now.since(run.stage_at) >= PINNING_MS
            {
                run.stage_at = self.seen.now;
            }
            return Step::Act(act.again());
        }
        if !act.effects.is_empty() || !ready {
            act.effects.extend(self.route(Traffic::PRIMARY));
            let began = self
                .state
                .run
                .as_ref()
                .map_or(self.seen.now, |r| r.stage_at);
            let began = began.max(self.state.next_check_at.unwrap_or(began));
            return Step::Act(self.or_deadline(act, began));
        }
        if self.skip().is_some() {
            return Step::Act(self.copy());
        }
        self.first_requests()
    }

    /// The canary is ready: hooks and gates, then its first requests.
    fn first_requests(&self) -> Step {
        let Some(first) = strategy::first(self.plan) else {
            return Step::Act(self.rest());
        };
        let due = self.state.next_check_at.unwrap_or(self.seen.now);
        let gate = self.gate_before(Some(first));
        let approved = gate.is_some_and(|what| self.approval(what).is_some());
        if self.seen.now < due && !approved {
            let mut act = self.rest().until(due);
            act.effects.extend(self.route(Traffic::PRIMARY));
            return Step::Act(act);
        }
        match self.rollback_hooks() {
            Err(question) => return Step::Ask(question),
            Ok(Some(_)) => return Step::Act(self.rolled_back_by_hook()),
            Ok(None) => {}
        }
        // Once they have passed they are not called again only because a gate is closed.
        let passed = self.state.run.as_ref().is_some_and(|r| r.waiting.is_some());
        if !passed {
            match self.hooks(HookKind::PreRollout, Phase::Progressing) {
                Hooks::Ok => {}
                Hooks::Ask(question) => return Step::Ask(question),
                Hooks::Refused(hook, why) => {
                    let told = format!(
                        "Halt {} advancement pre-rollout check {} failed {why}",
                        self.who(),
                        hook.name
                    );
                    let told = Tell::warning(told).about(About::Failed);
                    return Step::Act(self.failed().tell_first(told));
                }
            }
        }
        let begin = || {
            self.advance(first).tell_first(Tell::normal(format!(
                "Starting canary analysis for {}",
                self.target_name()
            )))
        };
        let Some(what) = gate else {
            return Step::Act(begin());
        };
        match self.gate(what) {
            Gate::Ask(question) => Step::Ask(question),
            Gate::Closed { hook } => Step::Act(self.closed(what, hook)),
            Gate::Open(None) => Step::Act(begin()),
            Gate::Open(Some(request)) => {
                let act = begin().tell_first(self.approved(what, request));
                Step::Act(act.handles(request))
            }
        }
    }

    pub(super) fn rolled_back_by_hook(&self) -> Act {
        let told = format!("Rolling back {} manual webhook invoked", self.who());
        self.revert("a rollback webhook asked for it")
            .by_hand()
            .tell(Tell::warning(told).about(About::RolledBack))
    }
}
