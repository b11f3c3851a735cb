//! A run from the copy on: the primary gets the pinned template, then the traffic, then the canary goes.

use super::{
    Act, Step, Turn, Wait,
    effect::{About, Copied, Effect, Tell, Traffic},
    facts::Moment,
    plan::{Outcome, Router},
    state::{Phase, Stage},
    strategy,
};

/// How long after a template write a deadline condition may be the one of the template before, which the Deployment's controller has not
/// replaced yet; milliseconds.
const STALE_CONDITION: i64 = 10_000;

impl Turn<'_> {
    /// The primary has been given the run's template and must become ready.
    pub(super) fn copying(&self) -> Act {
        if let Some(act) = self.promotion_failed() {
            return act;
        }
        if !self.seen.primary_has_run && !self.seen.pinned && self.pin().is_none() {
            let told = Tell::warning(format!(
                "Promotion of {} failed, its pinned template is gone",
                self.target_name()
            ));
            return self.restore("the pinned template is gone").tell(told);
        }
        let mut act = self.hold_traffic();
        act.effects.extend(self.copied());
        if !act.effects.is_empty() || act.next != *self.state || !self.primary_ready() {
            return self.past_stale(act);
        }
        if self.plan.step_weight_promotion.is_some()
            && self.state.weight() > 0
            && self.plan.router != Router::Kubernetes
        {
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
        let mut act = self.hold_traffic();
        act.effects.extend(self.copied());
        if !act.effects.is_empty() || act.next != *self.state || !self.primary_ready() {
            return self.past_stale(act);
        }
        if self.seen.now < due {
            return act.until(due);
        }
        let weight = strategy::back(self.plan, self.state.weight());
        if weight == 0 {
            return self.all_to_primary();
        }
        let due = self.seen.now.plus(self.plan.interval);
        let mut act = act.until(due);
        act.effects.extend(self.route(Traffic::to_canary(weight)));
        act.next.traffic = Traffic::to_canary(weight);
        act.next.next_check_at = Some(due);
        act.tell(Tell::normal(format!(
            "Advance {} primary weight {}",
            self.who(),
            100 - weight
        )))
    }

    fn all_to_primary(&self) -> Act {
        let mut act = self.rest().again();
        act.effects.extend(self.route(Traffic::PRIMARY));
        act.enter(Stage::Settling, Phase::Finalising);
        act.next.traffic = Traffic::PRIMARY;
        act.next.iteration = 0;
        act.next.next_check_at = None;
        act.next.cookies.retire();
        act.tell(Tell::normal("Routing all traffic to primary").about(About::Step))
    }

    /// All traffic is on the promoted primary; the canary goes when the route has settled, and the hooks are told before that is on record.
    pub(super) fn settling(&self) -> Step {
        if let Some(act) = self.promotion_failed() {
            return Step::Act(act);
        }
        if let Some(act) = self.settle(self.safe(Traffic::PRIMARY), self.copied()) {
            return Step::Act(act);
        }
        if !self.primary_ready() {
            return Step::Act(self.past_stale(self.rest()));
        }
        let told = match self.retired(Outcome::Succeeded) {
            Ok(told) => told,
            Err(step) => return *step,
        };
        let mut act = self.retire();
        act.enter(Stage::Idle, Phase::Succeeded);
        let revision = self.state.run.as_ref().map(|r| r.revision.clone());
        act.next.last_applied.clone_from(&revision);
        act.next.last_promoted = revision;
        act.tell.extend(told);
        let skipped = self.state.run.as_ref().is_some_and(|r| r.skip.is_some());
        let said = if skipped {
            format!(
                "Promotion completed! Canary analysis was skipped for {}",
                self.target_name()
            )
        } else {
            format!("Promotion completed! Scaling down {}", self.target_name())
        };
        Step::Act(act.tell(Tell::normal(said).about(About::Promoted)))
    }

    /// The post-rollout hooks of a run that ends. With such hooks the canary goes first, so that a slow one holds nothing up; and the end is
    /// recorded last, so that a hook is called again, by the same key, rather than not at all.
    pub(super) fn retired(&self, outcome: Outcome) -> Result<Vec<Tell>, Box<Step>> {
        match self.post_rollout(outcome) {
            Ok(told) => Ok(told),
            Err(question) => {
                let mut act = self.retire();
                if act.effects.is_empty() {
                    return Err(Box::new(Step::Ask(question)));
                }
                act.next = self.state.clone();
                Err(Box::new(Step::Act(act)))
            }
        }
    }

    /// What the primary has from the copy on, whoever changed it since.
    fn copied(&self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.pin().into_iter().collect();
        // Without the pin nobody can say what the primary has.
        if self.seen.pinned && !self.seen.primary_has_run {
            effects.push(Effect::Primary(Copied::Promoted));
        }
        if !self.seen.primary_scaler_synced {
            effects.push(Effect::SyncPrimaryScaler);
        }
        effects
    }

    /// Keeps the recorded weight, unless a copy has lost its last endpoint, or the target has been edited: what nobody analysed gets no
    /// traffic that the primary can serve. A route that gives the canary less than that stays as it is while the primary can serve: it
    /// may be the one way of traffic from here on, written by a leader that died before it could record it.
    pub(super) fn hold_traffic(&self) -> Act {
        let pinned = self.state.run.as_ref().map(|r| r.revision.as_str());
        let edited = self.target().map(|t| t.revision.as_str()) != pinned;
        let kept = if edited {
            Traffic::PRIMARY
        } else {
            self.state.traffic
        };
        let want = self.safe(kept);
        let mut act = self.rest();
        act.effects = self.foundation();
        act.effects.extend(self.keep_canary());
        if !(self.primary_has_endpoints() && self.raises(want)) {
            act.effects.extend(self.route(want));
        }
        act.next.traffic = want;
        if act.next != *self.state {
            act = act.again();
        }
        act
    }

    fn promotion_failed(&self) -> Option<Act> {
        if !self.seen.primary_has_run {
            return None;
        }
        let why = self.primary_hopeless()?;
        let said = format!(
            "Promotion of {} failed, primary not ready: {why}",
            self.target_name()
        );
        Some(
            self.restore(&format!("promotion failed, primary not ready: {why}"))
                .tell(Tell::warning(said)),
        )
    }

    /// Why the primary will not become ready with the template that this stage gave it.
    pub(super) fn primary_hopeless(&self) -> Option<String> {
        let primary = self.seen.primary.as_ref()?;
        let fresh = self.seen.now >= self.stale_until();
        primary
            .hopeless()
            .filter(|_| fresh || primary.crash.is_some())
    }

    fn stale_until(&self) -> Moment {
        let began = self.state.run.as_ref().map(|r| r.stage_at);
        began.unwrap_or_default().plus(STALE_CONDITION)
    }

    /// `act`, woken when a deadline condition can no longer be the one of the template before.
    pub(super) fn past_stale(&self, act: Act) -> Act {
        let exceeded = self
            .seen
            .primary
            .as_ref()
            .is_some_and(|p| p.deadline_exceeded);
        if exceeded && act.wait == Wait::Change && self.seen.now < self.stale_until() {
            return act.until(self.stale_until());
        }
        act
    }

    /// Makes the route say `want` and waits until it has settled: `None` when everything has been with the primary for long enough.
    pub(super) fn settle(&self, want: Traffic, upkeep: Vec<Effect>) -> Option<Act> {
        let mut act = self.rest();
        act.effects = self.foundation();
        act.effects.extend(upkeep);
        if want != Traffic::PRIMARY {
            act.effects.extend(self.keep_canary());
        }
        act.effects.extend(self.route(want));
        act.next.traffic = want;
        if act.next != *self.state {
            return Some(act.again());
        }
        if !act.effects.is_empty() || want != Traffic::PRIMARY {
            return Some(act);
        }
        self.settle_time()
    }

    /// The wait until the route has given everything to the primary for `settle`; `None` when it has.
    pub(super) fn settle_time(&self) -> Option<Act> {
        let mut act = self.rest();
        if !self.seen.apex_on_primary || self.seen.route_pending.is_some() {
            return Some(act);
        }
        let run = act.next.run.as_mut()?;
        let Some(written) = run.route_written_at else {
            run.route_written_at = Some(self.seen.now);
            return Some(act.again());
        };
        let due = written.plus(self.plan.settle);
        (self.seen.now < due).then(|| act.until(due))
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
        act.next.traffic = Traffic::PRIMARY;
        act.next.iteration = 0;
        act.next.next_check_at = None;
        act.next.cookies.retire();
        act
    }
}
