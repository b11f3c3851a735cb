//! A run before the copy, under analysis: analysing and gated. The primary is not touched.

use super::{
    Act, Step, Turn,
    effect::{About, Effect, Tell, Traffic},
    facts::{Analysis, Moment, Question},
    gates::{Gate, Hooks},
    plan::{HookKind, Strategy, ThresholdMode},
    share,
    state::{Apart, Phase, Skip, SkipSource, Stage, StepResult, Verdict},
    strategy::{self, Position},
    verdict,
};

impl Turn<'_> {
    /// The canary has traffic. At each interval the checks decide: next weight, hold, promotion or rollback.
    pub(super) fn analysing(&self) -> Step {
        if let Some(act) = self.ends_early() {
            return Step::Act(act);
        }
        let due = self.state.next_check_at.unwrap_or(self.seen.now);
        let ready = self.canary_ready() && self.primary_ready();
        let recorded = self.state.traffic;
        // A leader may have moved the traffic because of this very check, back to the primary or on to the next step, and died before
        // it could record that. So the check goes before a repair, which would give traffic to a canary that has failed, or move it to
        // and fro.
        let most = strategy::most(self.plan, self.state);
        let stored = self.seen.traffic.unwrap_or(Traffic::PRIMARY);
        let planned = stored == most || !stored.raises(recorded);
        let check_first = ready && self.seen.now >= due && planned;
        let mut act = self.rest();
        act.effects = self.upkeep();
        if !check_first {
            act.effects.extend(self.route(recorded));
        }
        if !act.effects.is_empty() {
            return Step::Act(act);
        }
        let gate_gone = self.state.stage == Stage::Gated && !self.gated();
        // Flagger: `skipAnalysis` that is set during a run promotes at the next tick.
        if ready && self.skip().is_some() {
            return Step::Act(self.copy());
        }
        if gate_gone && self.may_go_on() {
            return self.go_on();
        }
        if self.seen.now < due {
            return Step::Act(act.until(due));
        }
        if !ready || self.seen.route_pending.is_some() {
            // The step holds; readiness, the router, a crash or the progress deadline wakes us.
            return Step::Act(self.or_deadline(act, due));
        }
        self.analysed()
    }

    /// Something may hold the promotion.
    fn gated(&self) -> bool {
        let hooks = self.plan.hooks(HookKind::ConfirmPromotion).next().is_some();
        self.plan.gates.promotion || hooks
    }

    /// Hooks and checks of one interval, and what they mean. Flagger stops at a hook that says no; here every check is evaluated and told.
    fn analysed(&self) -> Step {
        match self.rollback_hooks() {
            Err(question) => return Step::Ask(question),
            Ok(Some(_)) => return Step::Act(self.rolled_back_by_hook()),
            Ok(None) => {}
        }
        let refused = match self.hooks(HookKind::Rollout, Phase::Progressing) {
            Hooks::Ok => None,
            Hooks::Ask(question) => return Step::Ask(question),
            Hooks::Refused(hook, why) => Some(format!(
                "Halt {} advancement external check {} failed {why}",
                self.who(),
                hook.name
            )),
        };
        match &self.answers.analysis {
            None => Step::Ask(Question::Analysis),
            Some(analysis) => self.judged(analysis, refused),
        }
    }

    /// `act`, unless the canary has not been ready, or its route not carried out, for the progress deadline. The Deployment's own deadline watches
    /// only its rollout; a canary that came up and is short of replicas since, or whose Deployment has no deadline, would hold the run for ever.
    pub(super) fn or_deadline(&self, act: Act, waited_from: Moment) -> Act {
        let pending = self.seen.route_pending.as_ref();
        let pending = pending.filter(|_| self.state.stage != Stage::Starting);
        if self.canary_ready() && pending.is_none() {
            return act;
        }
        // While nobody led, the canary may have been ready for all anybody knows.
        let waited_from = waited_from.max(self.seen.led_since);
        let deadline = waited_from.plus(self.plan.progress_deadline);
        if self.seen.now < deadline {
            return act.until(deadline);
        }
        let seconds = self.plan.progress_deadline / 1000;
        match pending {
            Some(why) if self.canary_ready() => {
                let reason = format!("the route was not carried out for {seconds} s: {why}");
                let told = format!("Rolling back {} {reason}", self.who());
                self.revert(&reason)
                    .tell(Tell::warning(told).about(About::RolledBack))
            }
            _ => self.canary_not_ready(&format!("not ready for {seconds} s")),
        }
    }

    fn canary_not_ready(&self, why: &str) -> Act {
        let told = Tell::warning(format!(
            "canary deployment {} not ready: {why}",
            self.target_name()
        ));
        self.revert(&format!("canary not ready: {why}")).tell(told)
    }

    /// Why this run is promoted without analysis, if it is.
    pub(super) fn skip(&self) -> Option<Skip> {
        let recorded = self.state.run.as_ref().and_then(|r| r.skip.clone());
        recorded.or(self.plan.skip_analysis.then_some(Skip {
            source: SkipSource::Spec,
            by: None,
        }))
    }

    /// What one analysis means; `refused` is what a rollout hook that said no is told as.
    fn judged(&self, analysis: &Analysis, refused: Option<String>) -> Step {
        let checks = verdict::judge(self.plan, analysis);
        let overall = match (verdict::overall(&checks), &refused) {
            (_, Some(_)) => Verdict::Fail,
            (overall, None) => overall,
        };
        let halts = checks.iter().filter_map(|c| verdict::halt(self.plan, c));
        let halts = refused.into_iter().chain(halts);
        let halts: Vec<Tell> = halts
            .map(|text| Tell::warning(text).about(About::Failed))
            .collect();
        let apart = self.apart(analysis);
        let holds =
            self.state.stage == Stage::Analysing && apart.as_ref().is_some_and(Apart::holds);
        let step = match (overall, &apart) {
            // Without its share of the requests a canary has no data either, and that is not its fault.
            (Verdict::Pass | Verdict::NoData, Some(apart)) if holds => {
                Step::Act(self.held(apart, analysis))
            }
            (Verdict::Pass, _) => self.passed(),
            (Verdict::Fail | Verdict::NoData, _) => Step::Act(self.failed()),
        };
        let mut act = match step {
            Step::Act(act) => act,
            Step::Ask(question) => return Step::Ask(question),
        };
        act.tell.splice(0..0, halts);
        if overall == Verdict::Pass && self.plan.threshold_mode == ThresholdMode::Consecutive {
            act.next.failed_checks = 0;
        }
        let evidence = &mut act.next.evidence;
        // The analysis belongs to the step that it was made at, not to the one that follows.
        let at = self.state.evidence.steps.len().checked_sub(1);
        if let Some(step) = at.and_then(|i| evidence.steps.get_mut(i)) {
            step.verdict = Some(overall);
            step.checks = verdict::step_checks(&checks);
        }
        evidence.checks = checks;
        evidence.share = analysis.share;
        evidence.share_at = Some(analysis.at);
        evidence.apart = apart;
        Step::Act(act)
    }

    /// Whether share and weight part, and for how many intervals by now. Without a share nothing is known, and nothing is held.
    fn apart(&self, analysis: &Analysis) -> Option<Apart> {
        let (share, requests) = (analysis.share?, analysis.requests?);
        if !share::told(self.plan, self.state) {
            return None;
        }
        let before = share::before(&self.state.evidence);
        share::apart(self.state.weight(), before, share, requests).then(|| {
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
            self.state.weight()
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

    fn passed(&self) -> Step {
        if self.raises(self.state.traffic) {
            // What was analysed had less traffic than the weight says, so the weight holds. That is recorded before the route is put right:
            // a successor that found the route right would take this pass for one of the weight, and go on.
            let mut act = self.rest().again();
            act.next.next_check_at = Some(self.seen.now.plus(self.plan.interval));
            return Step::Act(act);
        }
        self.go_on()
    }

    /// The step has passed: what stands before the next one is asked, then the run goes on.
    fn go_on(&self) -> Step {
        let next = strategy::next(self.plan, self.state);
        let go = || next.map_or_else(|| self.copy(), |next| self.advance(next));
        let Some(what) = self.gate_before(next) else {
            return Step::Act(go());
        };
        match self.gate(what) {
            Gate::Ask(question) => Step::Ask(question),
            Gate::Closed { hook } => Step::Act(self.closed(what, hook)),
            Gate::Open(None) => Step::Act(go()),
            Gate::Open(Some(request)) => {
                let mut act = go().tell_first(self.approved(what, request));
                act.next.handled_request = Some(request.id.clone());
                Step::Act(act)
            }
        }
    }

    pub(super) fn failed(&self) -> Act {
        let failed = self.state.failed_checks.saturating_add(1);
        let mut act = if failed >= self.plan.threshold {
            self.threshold_reached(failed)
        } else {
            self.hold()
        };
        act.next.failed_checks = failed;
        act
    }

    /// What it has for another interval.
    pub(super) fn hold(&self) -> Act {
        let due = self.seen.now.plus(self.plan.interval);
        let mut act = self.rest().until(due);
        act.next.next_check_at = Some(due);
        act.effects.extend(self.route(self.state.traffic));
        act
    }

    fn threshold_reached(&self, failed: u32) -> Act {
        self.revert(&format!("failed checks threshold reached {failed}"))
            .tell(Tell::warning(format!(
                "Rolling back {} failed checks threshold reached {failed}",
                self.who()
            )))
    }

    /// On to the next position: more traffic, or another interval of the same.
    pub(super) fn advance(&self, next: Position) -> Act {
        let now = self.seen.now;
        let due = if self.state.stage == Stage::Starting {
            now.plus(self.plan.interval.max(self.plan.delay))
        } else {
            now.plus(self.plan.interval)
        };
        let mut act = self.rest().until(due);
        act.effects.extend(self.route(next.traffic));
        act.enter(Stage::Analysing, Phase::Progressing);
        act.opened();
        act.next.traffic = next.traffic;
        act.next.iteration = next.iteration;
        act.unsettle();
        act.next.next_check_at = Some(due);
        act.next.evidence.steps.push(StepResult {
            traffic: next.traffic,
            at: now,
            verdict: None,
            checks: Vec::new(),
        });
        if self.scale_up(&act.next).is_some() {
            // Once it is on record that the step has begun: the canary grows for the one after it.
            act = act.again();
        }
        let told = self.advanced(&act.next);
        act.tell(Tell::normal(told).about(About::Step))
    }

    /// Flagger's sentence for what an advance begins.
    fn advanced(&self, next: &super::state::State) -> String {
        let who = self.who();
        let iteration = strategy::number(self.plan, next);
        let total = strategy::total(self.plan);
        match (self.plan.strategy, next.traffic) {
            (Strategy::BlueGreen, Traffic::CANARY) if next.iteration == 1 => {
                if self.state.traffic.mirror() > 0 {
                    "Stop traffic mirroring and route all traffic to canary".to_owned()
                } else {
                    "Routing all traffic to canary".to_owned()
                }
            }
            (Strategy::Canary, traffic) if next.iteration <= 1 && traffic.mirror() == 0 => {
                format!("Advance {who} canary weight {}", traffic.canary())
            }
            (Strategy::Canary, traffic) if traffic.mirror() > 0 => {
                format!(
                    "Advance {who} canary weight 0, mirroring {}%",
                    traffic.mirror()
                )
            }
            (Strategy::Canary | Strategy::AbTesting | Strategy::BlueGreen, _) => {
                format!("Advance {who} canary iteration {iteration}/{total}")
            }
        }
    }

    /// The decision to copy, recorded before the primary is touched.
    pub(super) fn copy(&self) -> Act {
        if self.plan.rehearsal {
            return self.rehearsed();
        }
        let mut act = self.rest().tell(self.copy_event()).again();
        act.enter(Stage::Copying, Phase::Promoting);
        act.next.next_check_at = None;
        act.opened();
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
        .about(About::AnalysisComplete)
    }

    /// The last analysis passed, and both copies can serve.
    pub(super) fn may_go_on(&self) -> bool {
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
        if self.state.traffic.serves() && target.endpoints == 0 {
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
            let told = told.about(About::RolledBack);
            return self
                .revert(&format!("reverted by {by}"))
                .by_hand()
                .tell(told);
        }
        let Some(mut act) = self.begin() else {
            return self.rest();
        };
        // The new revision is not analysed: nothing moves to it, whatever the primary can serve.
        act.effects.extend(self.route(Traffic::PRIMARY));
        act.tell(
            Tell::normal(format!(
                "New revision detected! Restarting analysis for {}",
                self.target_name()
            ))
            .about(About::Revision),
        )
    }

    /// What a run needs besides traffic.
    pub(super) fn upkeep(&self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.pin().into_iter().collect();
        effects.extend(self.foundation());
        effects.extend(self.keep_canary());
        effects
    }
}
