//! A run that failed: traffic first, then what is left of the canary.

use super::{
    Act, Turn,
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
        if let Some(run) = &mut act.next.run {
            run.reason = Some(reason.to_owned());
            run.route_written_at = None;
        }
        act
    }

    /// All traffic is on the primary (or goes there as soon as the primary can serve); then the canary goes.
    pub(super) fn reverting(&self) -> Act {
        if self.safe(Weights::PRIMARY) != Weights::PRIMARY {
            let mut act = self.rest();
            act.effects = self.foundation();
            return act;
        }
        if let Some(act) = self.settle(Weights::PRIMARY) {
            return act;
        }
        let mut act = self.retire();
        act.enter(Stage::Idle, Phase::Failed);
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
        if let Some(run) = &mut act.next.run {
            run.reason = Some(reason.to_owned());
            run.route_written_at = None;
        }
        act
    }

    /// Traffic stays on whichever copy has ready endpoints until the primary is ready with its previous template.
    pub(super) fn restoring(&self) -> Act {
        let mut act = self.rest();
        let want = self.safe(Weights::to_canary(self.state.weight));
        act.effects = self.foundation();
        act.effects.extend(self.route(want));
        act.next.weight = want.canary();
        let known = self
            .state
            .run
            .as_ref()
            .is_some_and(|r| r.previous.is_some());
        if known && !self.seen.primary_has_previous {
            act.effects.push(Effect::Primary(Copied::Previous));
        }
        if !act.effects.is_empty() {
            return act;
        }
        if known && self.primary_ready() {
            act.next.stage = Stage::Reverting;
            return act.again();
        }
        let why = self
            .seen
            .primary
            .as_ref()
            .and_then(super::facts::Workload::hopeless);
        if !known || why.is_some() {
            return self.stranded(why.as_deref().unwrap_or("no previous template is known"));
        }
        act
    }

    /// Neither template becomes ready on the primary: the run ends with traffic on the canary, if that can serve.
    fn stranded(&self, why: &str) -> Act {
        let mut act = self.rest().again();
        let want = if self.canary_has_endpoints() {
            Weights::CANARY
        } else {
            self.safe(Weights::PRIMARY)
        };
        act.effects.extend(self.route(want));
        act.enter(Stage::Idle, Phase::Failed);
        act.next.weight = want.canary();
        act.next.last_applied = self.state.run.as_ref().map(|r| r.revision.clone());
        if let Some(run) = &mut act.next.run {
            run.reason = Some(format!(
                "the primary is not ready with its previous template either: {why}"
            ));
        }
        act.tell(Tell::warning(format!(
            "Rollback of {} failed, primary not ready with its previous template: {why}; traffic stays on the canary",
            self.target_name()
        )))
    }
}
