//! A run before the copy: starting, analysing, gated. The primary is not touched.

use super::{
    Act, Step, Turn,
    effect::{Effect, Tell, Weights},
    facts::{Analysis, Moment, Question, Request, Verb},
    said_by, share,
    state::{Apart, Phase, Skip, SkipSource, Stage, StepResult, Verdict},
    strategy::canary,
    verdict,
};

/// From the record of a run to its canary's scale-up takes less, unless nobody leads in between. Milliseconds.
const PINNING_MS: i64 = 1_000;

impl Turn<'_> {
    /// The run is pinned; the canary comes up and gets its first weight when it is ready.
    pub(super) fn starting(&self) -> Act {
        if let Some(act) = self.ends_early() {
            return act;
        }
        let mut act = self.rest();
        act.effects = self.upkeep();
        let ready = self.canary_ready() && self.primary_ready();
        if act.effects.contains(&Effect::ScaleUp) {
            // The time to come up counts from here: nobody may have led since the run was pinned. What the pin's own writes took is no
            // time worth another write.
            act.effects.extend(self.route(Weights::PRIMARY));
            if let Some(run) = &mut act.next.run
                && self.seen.now.since(run.stage_at) >= PINNING_MS
            {
                run.stage_at = self.seen.now;
            }
            return act.again();
        }
        if !act.effects.is_empty() || !ready {
            act.effects.extend(self.route(Weights::PRIMARY));
            let began = self
                .state
                .run
                .as_ref()
                .map_or(self.seen.now, |r| r.stage_at);
            return self.or_deadline(act, began);
        }
        if self.skip().is_some() {
            return self.copy();
        }
        let Some(first) = canary::next(self.plan, 0) else {
            return act;
        };
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
        let due = self.state.next_check_at.unwrap_or(self.seen.now);
        let ready = self.canary_ready() && self.primary_ready();
        let recorded = Weights::to_canary(self.state.weight);
        // A leader may have moved the traffic because of this very check, back to the primary or on to the next weight, and died before
        // it could record that. So the check goes before a repair, which would give traffic to a canary that has failed, or move it to
        // and fro.
        let most = canary::next(self.plan, self.state.weight).unwrap_or(self.state.weight);
        let planned = self.seen.weights.unwrap_or(Weights::PRIMARY).canary() <= most;
        let check_first = ready && self.seen.now >= due && planned;
        let mut act = self.rest();
        act.effects = self.upkeep();
        if !check_first {
            act.effects.extend(self.route(recorded));
        }
        if !act.effects.is_empty() {
            return Step::Act(act);
        }
        let gate_gone = self.state.stage == Stage::Gated && !self.plan.gate_promotion;
        // Flagger: `skipAnalysis` that is set during a run promotes at the next tick.
        if (gate_gone && self.may_promote()) || (ready && self.skip().is_some()) {
            return Step::Act(self.copy());
        }
        if self.seen.now < due {
            return Step::Act(act.until(due));
        }
        if !ready {
            // The weight holds; readiness, a crash or the progress deadline wakes us.
            return Step::Act(self.or_deadline(act, due));
        }
        match &self.answers.analysis {
            None => Step::Ask(Question::Analysis),
            Some(analysis) => Step::Act(self.judged(analysis)),
        }
    }

    /// `act`, unless the canary has not been ready for the progress deadline. The Deployment's own deadline watches only its rollout; a
    /// canary that came up and is short of replicas since, or whose Deployment has no deadline, would hold the run for ever.
    fn or_deadline(&self, act: Act, waited_from: Moment) -> Act {
        if self.canary_ready() {
            return act;
        }
        // While nobody led, the canary may have been ready for all anybody knows.
        let waited_from = waited_from.max(self.seen.led_since);
        let deadline = waited_from.plus(self.plan.progress_deadline);
        if self.seen.now < deadline {
            return act.until(deadline);
        }
        let why = format!("not ready for {} s", self.plan.progress_deadline / 1000);
        self.canary_not_ready(&why)
    }

    fn canary_not_ready(&self, why: &str) -> Act {
        let told = Tell::warning(format!(
            "canary deployment {} not ready: {why}",
            self.target_name()
        ));
        self.revert(&format!("canary not ready: {why}")).tell(told)
    }

    /// Why this run is promoted without analysis, if it is.
    fn skip(&self) -> Option<Skip> {
        let recorded = self.state.run.as_ref().and_then(|r| r.skip.clone());
        recorded.or(self.plan.skip_analysis.then_some(Skip {
            source: SkipSource::Spec,
            by: None,
        }))
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
        let apart = self.apart(analysis);
        let holds =
            self.state.stage == Stage::Analysing && apart.as_ref().is_some_and(Apart::holds);
        let mut act = match (overall, &apart) {
            // Without its share of the requests a canary has no data either, and that is not its fault.
            (Verdict::Pass | Verdict::NoData, Some(apart)) if holds => self.held(apart, analysis),
            (Verdict::Pass, _) => self.passed(),
            (Verdict::Fail | Verdict::NoData, _) => self.failed(),
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
        evidence.apart = apart;
        act
    }

    /// Whether share and weight part, and for how many intervals by now. Without a share nothing is known, and nothing is held.
    fn apart(&self, analysis: &Analysis) -> Option<Apart> {
        let (share, requests) = (analysis.share?, analysis.requests?);
        let before = share::before(&self.state.evidence);
        share::apart(self.state.weight, before, share, requests).then(|| {
            let known = self.state.evidence.apart.as_ref();
            Apart {
                intervals: known.map_or(0, |a| a.intervals).saturating_add(1),
                since: known.map_or(analysis.at, |a| a.since),
                cause: analysis.cause.clone(),
            }
        })
    }

    /// The step holds: what was analysed is not what the weight says. No failed check; it ends when the share agrees, or a person decides,
    /// or at the progress deadline, so that a run that nobody watches does not hold for ever.
    fn held(&self, apart: &Apart, analysis: &Analysis) -> Act {
        let deadline = apart.since.plus(self.plan.progress_deadline);
        let why = format!(
            "observed share {:.1}% of the requests, written weight {}%",
            analysis.share.unwrap_or_default(),
            self.state.weight
        );
        let cause = if apart.cause.is_empty() {
            "no cause was found; clients without a sidecar are not split".to_owned()
        } else {
            apart.cause.clone()
        };
        if self.seen.now >= deadline {
            let reason = format!(
                "{why} for {} s: {cause}",
                self.plan.progress_deadline / 1000
            );
            let told = Tell::warning(format!("Rolling back {} {reason}", self.who()));
            return self.revert(&reason).tell(told);
        }
        let mut act = self.hold();
        let known = self.state.evidence.apart.as_ref();
        if known.is_none_or(|a| !a.holds() || a.cause != apart.cause) {
            act = act.tell(Tell::warning(format!(
                "Halt {} advancement {why}: {cause}",
                self.who()
            )));
        }
        act
    }

    fn passed(&self) -> Act {
        if self.raises(Weights::to_canary(self.state.weight)) {
            // What was analysed had less traffic than the weight says, so the weight holds. That is recorded before the route is put right:
            // a successor that found the route right would take this pass for one of the weight, and go on.
            let mut act = self.rest().again();
            act.next.next_check_at = Some(self.seen.now.plus(self.plan.interval));
            return act;
        }
        if let Some(next) = canary::next(self.plan, self.state.weight) {
            return self.advance(next);
        }
        if !self.plan.gate_promotion {
            return self.copy();
        }
        let waits = self.seen.request.as_ref().filter(|r| {
            r.verb == Verb::Promote
                && self.state.stage == Stage::Gated
                && self.state.handled_request.as_ref() != Some(&r.id)
        });
        if let Some(request) = waits {
            let mut act = self.copy().tell_first(self.approved(request));
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
            self.threshold_reached(failed)
        } else {
            self.hold()
        };
        act.next.failed_checks = failed;
        act
    }

    /// The recorded weight for another interval.
    fn hold(&self) -> Act {
        let due = self.seen.now.plus(self.plan.interval);
        let mut act = self.rest().until(due);
        act.next.next_check_at = Some(due);
        act.effects
            .extend(self.route(Weights::to_canary(self.state.weight)));
        act
    }

    fn threshold_reached(&self, failed: u32) -> Act {
        self.revert(&format!("failed checks threshold reached {failed}"))
            .tell(Tell::warning(format!(
                "Rolling back {} failed checks threshold reached {failed}",
                self.who()
            )))
    }

    /// Moves traffic to the next weight.
    fn advance(&self, weight: u8) -> Act {
        let due = self.seen.now.plus(self.plan.interval);
        let mut act = self.rest().until(due);
        act.effects.extend(self.route(Weights::to_canary(weight)));
        act.enter(Stage::Analysing, Phase::Progressing);
        act.next.weight = weight;
        act.unsettle();
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
        let skip = self.skip();
        if let Some(run) = &mut act.next.run {
            run.skip = skip;
        }
        act
    }

    fn copy_event(&self) -> Tell {
        Tell::normal(format!(
            "Copying {} template spec to {}.{}",
            self.target_name(),
            self.plan.primary(),
            self.plan.namespace
        ))
    }

    pub(super) fn approved(&self, request: &Request) -> Tell {
        Tell::normal(format!(
            "Promotion of {} approved by {}",
            self.who(),
            said_by(request)
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
        passed && self.ends_early().is_none() && self.canary_ready() && self.primary_has_endpoints()
    }

    /// What ends or restarts a run before its copy, whatever its analysis says.
    pub(super) fn ends_early(&self) -> Option<Act> {
        let Some(run) = &self.state.run else {
            return Some(self.begin().unwrap_or_else(|| self.rest()));
        };
        let Some(target) = self.target() else {
            return Some(self.revert("the target is gone"));
        };
        if target.revision != run.revision {
            return Some(self.changed());
        }
        if let Some(why) = target.hopeless() {
            return Some(self.canary_not_ready(&why));
        }
        // By the record: traffic that somebody else gave it is taken back, and ends nothing.
        if self.state.weight > 0 && target.endpoints == 0 {
            let told = Tell::warning(format!(
                "Rolling back {} the canary has traffic and no ready endpoint",
                self.who()
            ));
            let act = self.revert("the canary has traffic and no ready endpoint");
            return Some(act.tell(told));
        }
        // A threshold that was lowered meanwhile counts too.
        if self.state.failed_checks >= self.plan.threshold {
            return Some(self.threshold_reached(self.state.failed_checks));
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
        let Some(mut act) = self.begin() else {
            return self.rest();
        };
        // The new revision is not analysed: nothing moves to it, whatever the primary can serve.
        act.effects.extend(self.route(Weights::PRIMARY));
        act.tell(Tell::normal(format!(
            "New revision detected! Restarting analysis for {}",
            self.target_name()
        )))
    }

    /// What a run needs besides traffic.
    fn upkeep(&self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.pin().into_iter().collect();
        effects.extend(self.foundation());
        effects.extend(self.keep_canary());
        effects
    }
}
