//! A run that failed: traffic first, then what is left of the canary.

use super::{
    Act, Turn, Wait,
    effect::{Copied, Effect, Tell, Weights},
    state::{Phase, Stage},
};

impl Turn<'_> {
    /// Ends a run before its copy: traffic to the primary, the canary goes when the route has settled.
    pub(super) fn revert(&self, reason: &str) -> Act {
        let mut act = self.rest().again();
        let want = self.safe(Weights::PRIMARY);
        // While the primary cannot serve, traffic stays where it is: the canary gets no more than it has.
        if want == Weights::PRIMARY {
            act.effects.extend(self.route(want));
            act.next.weight = 0;
        }
        act.next.stage = Stage::Reverting;
        act.next.next_check_at = None;
        act.because(reason);
        act
    }

    /// All traffic is on the primary (or goes there as soon as the primary can serve); then the canary goes.
    pub(super) fn reverting(&self) -> Act {
        let want = self.safe(Weights::PRIMARY);
        let before_copy = matches!(
            self.state.phase,
            Phase::Waiting | Phase::Progressing | Phase::WaitingPromotion
        );
        if want != Weights::PRIMARY && before_copy {
            // The canary failed its analysis or had none: it gets no more than it has, and it keeps that until the primary can serve.
            let mut act = self.rest();
            act.effects = self.foundation();
            if self.canary_has_traffic() {
                act.effects.extend(self.keep_canary());
            }
            return act;
        }
        if let Some(act) = self.settle(want, Vec::new()) {
            return act;
        }
        let mut act = self.retire();
        act.next.stage = Stage::Idle;
        if !self.state.phase.running() {
            // Traffic has come back from the canary after the end; what the end was stays.
            return act;
        }
        act.next.phase = Phase::Failed;
        act.next.last_applied = self.state.run.as_ref().map(|r| r.revision.clone());
        act.tell(Tell::warning(format!(
            "Canary failed! Scaling down {}",
            self.who()
        )))
    }

    /// Ends a run after its copy: recorded before the primary gets its previous template back.
    pub(super) fn restore(&self, reason: &str) -> Act {
        let mut act = self.rest().again();
        act.next.stage = Stage::Restoring;
        act.next.next_check_at = None;
        act.because(reason);
        act
    }

    /// Traffic stays on whichever copy has ready endpoints until the primary is ready with its previous template.
    pub(super) fn restoring(&self) -> Act {
        let mut act = self.hold_traffic();
        let known = self
            .state
            .run
            .as_ref()
            .is_some_and(|r| r.previous.is_some());
        if known && !self.seen.primary_has_previous {
            let began = self
                .state
                .run
                .as_ref()
                .map_or(self.seen.now, |r| r.stage_at);
            let deadline = began.plus(self.plan.progress_deadline);
            if self.seen.now >= deadline && act.effects.is_empty() && act.next == *self.state {
                return self
                    .stranded("its previous template could not be written, its pin may be gone");
            }
            act.effects.push(Effect::Primary(Copied::Previous));
            if act.wait == Wait::Change {
                act = act.until(deadline);
            }
        }
        if !act.effects.is_empty() || act.next != *self.state {
            return self.past_stale(act);
        }
        // Without a known template before it, a primary that was never given the run's has nothing to get back.
        if (known || !self.seen.primary_has_run) && self.primary_ready() {
            act.next.stage = Stage::Reverting;
            return act.again();
        }
        if let Some(why) = self.primary_hopeless() {
            return self.stranded(&why);
        }
        if !known && self.seen.primary_has_run {
            return self.stranded("no previous template is known");
        }
        self.past_stale(act)
    }

    /// The primary does not become ready with its previous template either. Traffic is where it can be served, and stays there.
    fn stranded(&self, why: &str) -> Act {
        let mut act = self.rest().again();
        act.enter(Stage::Idle, Phase::Failed);
        act.next.last_applied = self.state.run.as_ref().map(|r| r.revision.clone());
        act.because(&format!(
            "the primary is not ready with its previous template either: {why}"
        ));
        act.tell(Tell::warning(format!(
            "Rollback of {} failed, primary not ready with its previous template: {why}; the canary keeps {}% of the traffic",
            self.target_name(),
            self.state.weight
        )))
    }
}

impl Act {
    /// Records why the run ends.
    pub(super) fn because(&mut self, reason: &str) {
        if let Some(run) = &mut self.next.run {
            run.reason = Some(reason.to_owned());
        }
    }
}
