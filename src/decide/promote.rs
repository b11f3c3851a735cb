//! A run from the copy on: the primary gets the pinned template, then the traffic, then the canary goes.

use super::{
    Act, Turn, Wait,
    effect::{Copied, Effect, Tell, Weights},
    state::{Phase, Stage},
    strategy::canary,
};

impl Turn<'_> {
    /// The primary has been given the run's template and must become ready.
    pub(super) fn copying(&self) -> Act {
        if let Some(act) = self.promotion_failed() {
            return act;
        }
        let mut act = self.hold_traffic();
        if !self.seen.primary_has_run {
            act.effects.push(Effect::Primary(Copied::Promoted));
        }
        if !self.seen.primary_scaler_synced {
            act.effects.push(Effect::SyncPrimaryScaler);
        }
        if !act.effects.is_empty() || !self.primary_ready() {
            return act;
        }
        if self.plan.step_weight_promotion.is_some() && self.state.weight > 0 {
            let mut act = act.again();
            act.enter(Stage::Shifting, Phase::Promoting);
            act.next.next_check_at = Some(self.seen.now);
            return act;
        }
        self.all_to_primary()
    }

    /// Traffic returns by `stepWeightPromotion` at each interval. Flagger: no analysis between these steps.
    pub(super) fn shifting(&self) -> Act {
        if let Some(act) = self.promotion_failed() {
            return act;
        }
        let due = self.state.next_check_at.unwrap_or(self.seen.now);
        let act = self.hold_traffic();
        if !act.effects.is_empty() || !self.primary_ready() {
            return act;
        }
        if self.seen.now < due {
            return act.until(due);
        }
        let weight = canary::back(self.plan, self.state.weight);
        if weight == 0 {
            return self.all_to_primary();
        }
        let due = self.seen.now.plus(self.plan.interval);
        let mut act = act.until(due);
        act.effects.extend(self.route(Weights::to_canary(weight)));
        act.next.weight = weight;
        act.next.next_check_at = Some(due);
        act.tell(Tell::normal(format!(
            "Advance {} primary weight {}",
            self.who(),
            100 - weight
        )))
    }

    fn all_to_primary(&self) -> Act {
        let mut act = self.rest().again();
        act.effects.extend(self.route(Weights::PRIMARY));
        act.enter(Stage::Settling, Phase::Finalising);
        act.next.weight = 0;
        act.next.next_check_at = None;
        if let Some(run) = &mut act.next.run {
            run.route_written_at = None;
        }
        act.tell(Tell::normal("Routing all traffic to primary"))
    }

    /// All traffic is on the promoted primary; the canary goes when the route has settled.
    pub(super) fn settling(&self) -> Act {
        if let Some(act) = self.promotion_failed() {
            return act;
        }
        if let Some(act) = self.settle(self.safe(Weights::PRIMARY)) {
            return act;
        }
        if !self.primary_ready() {
            return self.rest();
        }
        let mut act = self.retire();
        act.enter(Stage::Idle, Phase::Succeeded);
        let revision = self.state.run.as_ref().map(|r| r.revision.clone());
        act.next.last_applied.clone_from(&revision);
        act.next.last_promoted = revision;
        let skipped = self.state.run.as_ref().is_some_and(|r| r.skip.is_some());
        let said = if skipped {
            format!(
                "Promotion completed! Canary analysis was skipped for {}",
                self.target_name()
            )
        } else {
            format!("Promotion completed! Scaling down {}", self.target_name())
        };
        act.tell(Tell::normal(said))
    }

    /// Keeps the recorded weight, unless a copy has lost its last endpoint.
    fn hold_traffic(&self) -> Act {
        let mut act = self.rest();
        let want = self.safe(Weights::to_canary(self.state.weight));
        act.effects = self.foundation();
        act.effects.extend(self.route(want));
        act.next.weight = want.canary();
        act
    }

    fn promotion_failed(&self) -> Option<Act> {
        let primary = self.seen.primary.as_ref()?;
        if !self.seen.primary_has_run {
            return None;
        }
        let why = primary.hopeless()?;
        let said = format!(
            "Promotion of {} failed, primary not ready: {why}",
            self.target_name()
        );
        Some(
            self.restore(&format!("promotion failed, primary not ready: {why}"))
                .tell(Tell::warning(said)),
        )
    }

    /// Makes the route say `want` and waits until it has settled: `None` when it has. A run whose canary never had traffic has nothing
    /// to settle.
    pub(super) fn settle(&self, want: Weights) -> Option<Act> {
        let mut act = self.rest().again();
        act.effects = self.foundation();
        act.effects.extend(self.route(want));
        act.next.weight = want.canary();
        let moved = !act.effects.is_empty() || act.next.weight != self.state.weight;
        let written = self.state.run.as_ref().and_then(|r| r.route_written_at);
        let untouched = self.state.evidence.steps.is_empty() && self.state.evidence.merged == 0;
        let mut record = |at| {
            if let Some(run) = &mut act.next.run {
                run.route_written_at = at;
            }
        };
        if moved {
            record(None);
            return Some(act);
        }
        if want != Weights::PRIMARY {
            act.wait = Wait::Change;
            return Some(act);
        }
        if untouched {
            return None;
        }
        let Some(written) = written else {
            record(Some(self.seen.now));
            return Some(act);
        };
        let due = written.plus(self.plan.settle);
        (self.seen.now < due).then(|| self.rest().until(due))
    }

    /// Pauses the target's autoscaler and scales the target to zero.
    pub(super) fn retire(&self) -> Act {
        let mut act = self.rest().again();
        if self.seen.scaler_paused == Some(false) {
            act.effects.push(Effect::PauseScaler);
        }
        if self.target().is_some_and(|t| t.desired > 0) {
            act.effects.push(Effect::ScaleToZero);
        }
        act.next.weight = 0;
        act.next.next_check_at = None;
        act
    }
}
