//! Before the first run, and between runs.

use super::{
    Act, Turn,
    effect::{Effect, Tell, Weights},
    state::{Phase, Run, Skip, SkipSource, Stage},
};

impl Turn<'_> {
    /// Makes the primary from what is live, moves the apex to it, and scales the target to zero when the route has settled.
    pub(super) fn bootstrap(&self) -> Act {
        let Some(target) = self.target() else {
            return self.rest();
        };
        let stale = self
            .state
            .run
            .as_ref()
            .is_none_or(|r| r.revision != target.revision);
        if stale && (self.seen.primary.is_none() || self.state.run.is_none()) {
            return self.pin_initial(&target.revision);
        }
        let mut act = self.rest();
        if self.state.run.is_some() && !self.seen.pinned {
            act.effects.push(Effect::Pin);
        }
        act.effects.extend(
            self.foundation()
                .into_iter()
                .filter(|e| *e != Effect::Route),
        );
        if !act.effects.is_empty() || !self.primary_ready() {
            return act;
        }
        if !self.seen.route_ready || self.seen.weights != Some(Weights::PRIMARY) {
            if !self.seen.route_ready {
                act.effects.push(Effect::Route);
            }
            act.effects.extend(self.route(Weights::PRIMARY));
            return act;
        }
        let Some(written) = self.state.run.as_ref().and_then(|r| r.route_written_at) else {
            return self.mark_route(act);
        };
        let due = written.plus(self.plan.settle);
        if self.seen.now < due {
            return act.until(due);
        }
        self.initialized()
    }

    fn initialized(&self) -> Act {
        let mut act = self.retire();
        act.enter(Stage::Idle, Phase::Initialized);
        // What is promoted is what the primary runs: the target, unless it was edited meanwhile.
        let revision = match (self.target(), &self.state.run) {
            (Some(target), _) if self.seen.target_equals_primary => Some(target.revision.clone()),
            (_, run) => run.as_ref().map(|r| r.revision.clone()),
        };
        act.next.last_applied.clone_from(&revision);
        act.next.last_promoted = revision;
        act.tell(Tell::normal(format!("Initialization done! {}", self.who())))
    }

    /// What is live at bootstrap is pinned as run 0.
    fn pin_initial(&self, revision: &str) -> Act {
        let Some(next) = &self.seen.next_run else {
            return self.rest();
        };
        let mut act = self.rest().again();
        act.next.run = Some(Run {
            id: next.id.clone(),
            n: next.n,
            revision: revision.to_owned(),
            template: next.template.clone(),
            previous: None,
            started_at: self.seen.now,
            stage_at: self.seen.now,
            route_written_at: None,
            skip: Some(Skip {
                source: SkipSource::Initial,
                by: None,
            }),
            reason: None,
        });
        act.tell(Tell::normal(
            "New Deployment detected, starting initialization.",
        ))
    }

    fn mark_route(&self, act: Act) -> Act {
        let mut act = act.again();
        if let Some(run) = &mut act.next.run {
            run.route_written_at = Some(self.seen.now);
        }
        act
    }

    /// Looks for a new revision and keeps the idle shape.
    pub(super) fn idle(&self) -> Act {
        if self.state.weight > 0 {
            return self.on_canary();
        }
        let Some(target) = self.target() else {
            return self.rest();
        };
        let live = Some(target.revision.as_str());
        let mut act = self.rest();
        if live == self.state.last_promoted.as_deref() || self.seen.target_equals_primary {
            // Flagger: a target that is put back to what is promoted triggers nothing, and the failed revision may be tried again.
            let revision = Some(target.revision.clone());
            if self.state.last_applied != revision || self.state.last_promoted != revision {
                act.next.last_applied.clone_from(&revision);
                act.next.last_promoted = revision;
                return act.again();
            }
        } else if live != self.state.last_applied.as_deref() && self.seen.primary.is_some() {
            return self.begin().tell(Tell::normal(format!(
                "New revision detected! Scaling up {}",
                self.target_name()
            )));
        }
        self.keep_idle(act)
    }

    /// Whatever changed the idle shape is undone, traffic first.
    fn keep_idle(&self, mut act: Act) -> Act {
        act.effects = self.foundation();
        act.effects.extend(self.route(self.safe(Weights::PRIMARY)));
        if self.seen.weights.is_some_and(|w| w != Weights::PRIMARY) {
            if let Some(run) = &mut act.next.run {
                run.route_written_at = None;
            }
            return act;
        }
        if self.seen.scaler_paused == Some(false) {
            act.effects.push(Effect::PauseScaler);
        }
        if self.target().is_none_or(|t| t.desired == 0) || !self.primary_has_endpoints() {
            return act;
        }
        // The target serves nothing here, but only a settled route says so for sure.
        match self.state.run.as_ref().and_then(|r| r.route_written_at) {
            None if self.state.run.is_some() => self.mark_route(act),
            Some(at) if self.seen.now < at.plus(self.plan.settle) => {
                act.until(at.plus(self.plan.settle))
            }
            None | Some(_) => {
                act.effects.push(Effect::ScaleToZero);
                act
            }
        }
    }

    /// A rollback failed and left traffic on the canary: it returns when the primary can serve again. No run starts until then.
    fn on_canary(&self) -> Act {
        let mut act = self.rest();
        if self.primary_ready() {
            act.next.stage = Stage::Reverting;
            return act.again();
        }
        act.effects = self.foundation();
        act.effects
            .extend(self.route(self.safe(Weights::to_canary(self.state.weight))));
        act
    }
}
