//! A run before the copy: starting, analysing, gated. The primary is not touched.

use super::{
    Act, Step, Turn,
    effect::{Effect, Tell, Weights},
    facts::{Analysis, Question},
    state::{Phase, Stage, StepResult, Verdict},
    strategy::canary,
    verdict,
};

impl Turn<'_> {
    /// The run is pinned; the canary comes up and gets its first weight when it is ready.
    pub(super) fn starting(&self) -> Act {
        if let Some(act) = self.ends_early() {
            return act;
        }
        let mut act = self.rest();
        act.effects = self.upkeep();
        let ready = self
            .target()
            .is_some_and(|t| t.ready(self.plan.canary_ready))
            && self.primary_ready();
        if !act.effects.is_empty() || !ready {
            act.effects.extend(self.route(Weights::PRIMARY));
            return act;
        }
        if self.state.run.as_ref().is_some_and(|r| r.skip.is_some()) {
            return self.copy();
        }
        let first = self.plan.steps[0];
        self.advance(first).tell_first(Tell::normal(format!(
            "Starting canary analysis for {}",
            self.target_name()
        )))
    }

    /// The canary has traffic. At each interval the checks decide: next weight, hold, promotion or rollback.
    pub(super) fn analysing(&self) -> Step {
        if let Some(act) = self.ends_early() {
            return Step::Act(act);
        }
        let mut act = self.rest();
        let gate_gone = self.state.stage == Stage::Gated && !self.plan.gate_promotion;
        if gate_gone && self.may_promote() {
            return Step::Act(self.copy());
        }
        let due = self.state.next_check_at.unwrap_or(self.seen.now);
        if self.seen.now < due {
            act.effects = self.upkeep();
            act.effects
                .extend(self.route(Weights::to_canary(self.state.weight)));
            return Step::Act(act.until(due));
        }
        let ready = self
            .target()
            .is_some_and(|t| t.ready(self.plan.canary_ready))
            && self.primary_ready();
        if !ready {
            // The weight holds; readiness, a crash or the progress deadline wakes us.
            act.effects = self.upkeep();
            act.effects.extend(self.route(self.safe_hold()));
            return Step::Act(act);
        }
        match &self.answers.analysis {
            None => Step::Ask(Question::Analysis),
            Some(analysis) => Step::Act(self.judged(analysis)),
        }
    }

    /// What one analysis means.
    fn judged(&self, analysis: &Analysis) -> Act {
        let checks = verdict::judge(self.plan, analysis);
        let overall = verdict::overall(&checks);
        let halts: Vec<Tell> = checks
            .iter()
            .filter_map(|c| verdict::halt(self.plan, c))
            .map(Tell::warning)
            .collect();
        let mut act = match overall {
            Verdict::Pass => self.passed(),
            Verdict::Fail | Verdict::NoData => self.failed(),
        };
        act.tell.splice(0..0, halts);
        let evidence = &mut act.next.evidence;
        // The analysis belongs to the weight that it was made at, not to the one that follows.
        let at = self.state.evidence.steps.len().checked_sub(1);
        if let Some(step) = at.and_then(|i| evidence.steps.get_mut(i)) {
            step.verdict = Some(overall);
            step.checks = verdict::step_checks(&checks);
        }
        evidence.checks = checks;
        evidence.share = analysis.share;
        evidence.share_at = Some(analysis.at);
        act
    }

    fn passed(&self) -> Act {
        if let Some(next) = canary::next(self.plan, self.state.weight) {
            return self.advance(next);
        }
        if !self.plan.gate_promotion {
            return self.copy();
        }
        let waits = self.seen.request.as_ref().filter(|r| {
            r.verb == super::facts::Verb::Promote
                && self.state.stage == Stage::Gated
                && self.state.handled_request.as_ref() != Some(&r.id)
        });
        if let Some(request) = waits {
            let mut act = self.copy();
            act.next.handled_request = Some(request.id.clone());
            return act;
        }
        let mut act = self.rest();
        let due = self.seen.now.plus(self.plan.interval);
        if self.state.stage != Stage::Gated {
            act.enter(Stage::Gated, Phase::WaitingPromotion);
            act = act.tell(Tell::warning(format!(
                "Halt {} advancement waiting for promotion approval",
                self.who()
            )));
        }
        act.next.next_check_at = Some(due);
        act.effects
            .extend(self.route(Weights::to_canary(self.state.weight)));
        act.until(due)
    }

    fn failed(&self) -> Act {
        let failed = self.state.failed_checks.saturating_add(1);
        let mut act = if failed >= self.plan.threshold {
            self.revert(&format!("failed checks threshold reached {failed}"))
                .tell(Tell::warning(format!(
                    "Rolling back {} failed checks threshold reached {failed}",
                    self.who()
                )))
        } else {
            let due = self.seen.now.plus(self.plan.interval);
            let mut act = self.rest().until(due);
            act.next.next_check_at = Some(due);
            act.effects
                .extend(self.route(Weights::to_canary(self.state.weight)));
            act
        };
        act.next.failed_checks = failed;
        act
    }

    /// Moves traffic to the next weight.
    fn advance(&self, weight: u8) -> Act {
        let due = self.seen.now.plus(self.plan.interval);
        let mut act = self.rest().until(due);
        act.effects.extend(self.route(Weights::to_canary(weight)));
        act.enter(Stage::Analysing, Phase::Progressing);
        act.next.weight = weight;
        act.next.next_check_at = Some(due);
        act.next.evidence.steps.push(StepResult {
            weight,
            at: self.seen.now,
            verdict: None,
            checks: Vec::new(),
        });
        act.tell(Tell::normal(format!(
            "Advance {} canary weight {weight}",
            self.who()
        )))
    }

    /// The decision to copy, recorded before the primary is touched.
    pub(super) fn copy(&self) -> Act {
        let mut act = self.rest().tell(self.copy_event()).again();
        act.enter(Stage::Copying, Phase::Promoting);
        act.next.next_check_at = None;
        act
    }

    pub(super) fn copy_event(&self) -> Tell {
        Tell::normal(format!(
            "Copying {} template spec to {}.{}",
            self.target_name(),
            self.plan.primary(),
            self.plan.namespace
        ))
    }

    /// The last analysis passed, and both copies can serve.
    pub(super) fn may_promote(&self) -> bool {
        let passed = self
            .state
            .evidence
            .steps
            .last()
            .is_some_and(|s| s.verdict == Some(Verdict::Pass));
        passed
            && self
                .target()
                .is_some_and(|t| t.ready(self.plan.canary_ready))
            && self.primary_has_endpoints()
    }

    /// What ends or restarts a run before its copy, whatever its analysis says.
    fn ends_early(&self) -> Option<Act> {
        let Some(run) = &self.state.run else {
            return Some(self.begin());
        };
        let Some(target) = self.target() else {
            return Some(self.revert("the target is gone"));
        };
        if target.revision != run.revision {
            return Some(self.changed());
        }
        if let Some(why) = target.hopeless() {
            let told = Tell::warning(format!(
                "canary deployment {} not ready: {why}",
                self.target_name()
            ));
            return Some(self.revert(&format!("canary not ready: {why}")).tell(told));
        }
        if self.canary_has_traffic() && target.endpoints == 0 {
            return Some(self.revert("the canary has traffic and no ready endpoint"));
        }
        let why = self
            .seen
            .primary
            .as_ref()
            .and_then(super::facts::Workload::hopeless)?;
        let told = Tell::warning(format!(
            "{}.{} not ready: {why}",
            self.plan.primary(),
            self.plan.namespace
        ));
        Some(self.revert(&format!("primary not ready: {why}")).tell(told))
    }

    /// The target's template is no longer the pinned one: back to what is promoted ends the run, anything else restarts it.
    fn changed(&self) -> Act {
        let live = self.target().map(|t| t.revision.as_str());
        if live == self.state.last_promoted.as_deref() || self.seen.target_equals_primary {
            let by = self.seen.target_writer.as_deref().unwrap_or("unknown");
            let told = Tell::warning(format!("Rolling back {} reverted by {by}", self.who()));
            return self.revert(&format!("reverted by {by}")).tell(told);
        }
        let mut act = self.begin();
        act.effects.extend(self.route(self.safe(Weights::PRIMARY)));
        act.tell(Tell::normal(format!(
            "New revision detected! Restarting analysis for {}",
            self.target_name()
        )))
    }

    /// The weight to hold while a copy is not ready.
    fn safe_hold(&self) -> Weights {
        Weights::to_canary(self.state.weight)
    }

    /// What a run needs besides traffic.
    fn upkeep(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.seen.pinned {
            effects.push(Effect::Pin);
        }
        effects.extend(self.foundation());
        if self.seen.scaler_paused == Some(true) {
            effects.push(Effect::ResumeScaler);
        }
        if self.target().is_some_and(|t| t.desired == 0) {
            effects.push(Effect::ScaleUp);
        }
        effects
    }
}

impl Act {
    fn tell_first(mut self, tell: Tell) -> Self {
        self.tell.insert(0, tell);
        self
    }
}
