//! A run that failed: traffic first, then what is left of the canary.

use super::{
    Act, Step, Turn, Wait,
    effect::{About, Copied, Effect, Tell, Traffic},
    plan::Outcome,
    state::{Phase, Stage},
};

impl Turn<'_> {
    /// Ends a run before its copy: traffic to the primary, the canary goes when the route has settled.
    pub(super) fn revert(&self, reason: &str) -> Act {
        let mut act = self.rest().again();
        let want = self.safe(Traffic::PRIMARY);
        // While the primary cannot serve, traffic stays where it is: the canary gets no more than it has.
        if want == Traffic::PRIMARY {
            act.effects.extend(self.route(want));
            act.next.traffic = Traffic::PRIMARY;
            act.next.iteration = 0;
        }
        act.next.stage = Stage::Reverting;
        act.next.next_check_at = None;
        act.opened();
        act.because(reason);
        act
    }

    /// All traffic is on the primary (or goes there as soon as the primary can serve); then the canary goes.
    pub(super) fn reverting(&self) -> Step {
        let want = self.safe(Traffic::PRIMARY);
        let before_copy = matches!(
            self.state.phase,
            Phase::Waiting | Phase::Progressing | Phase::WaitingPromotion
        );
        if want != Traffic::PRIMARY && before_copy {
            // The canary failed its analysis or had none: it gets no more than it has, and it keeps that until the primary can serve.
            let mut act = self.rest();
            act.effects = self.foundation();
            if self.canary_has_traffic() {
                act.effects.extend(self.keep_canary());
            }
            return Step::Act(act);
        }
        if let Some(act) = self.settle(want, Vec::new()) {
            return Step::Act(act);
        }
        if !self.state.phase.running() {
            // Traffic has come back from the canary after the end; what the end was stays.
            let mut act = self.retire();
            act.next.stage = Stage::Idle;
            return Step::Act(act);
        }
        let outcome = self.state.run.as_ref().and_then(|r| r.outcome);
        let told = match self.retired(outcome.unwrap_or(Outcome::Failed)) {
            Ok(told) => told,
            Err(step) => return *step,
        };
        let mut act = self.retire();
        act.enter(Stage::Idle, Phase::Failed);
        act.next.last_applied = self.state.run.as_ref().map(|r| r.revision.clone());
        act.tell.extend(told);
        let run = self.state.run.as_ref();
        let said = match run.filter(|run| run.rehearsal) {
            Some(run) => Tell::normal(format!(
                "The rehearsal of {} is over, {}; scaling down",
                self.who(),
                run.reason.as_deref().unwrap_or("for no recorded reason")
            )),
            None => Tell::warning(format!("Canary failed! Scaling down {}", self.who())),
        };
        Step::Act(act.tell(said.about(About::RolledBack)))
    }

    /// A dry run promotes nothing: it says what would be, and its canary goes.
    pub(super) fn rehearsed(&self) -> Act {
        let why = if self.skip().is_some() {
            "its analysis is skipped"
        } else {
            "its analysis has passed"
        };
        let told = format!(
            "{} would be promoted now, {why}; no route was written, and nothing is promoted",
            self.who()
        );
        self.revert("it would have been promoted")
            .by_hand()
            .tell(Tell::normal(told).about(About::AnalysisComplete))
    }

    /// A run that had no traffic in a dry run is no run that may get some: it ends where somebody rolls out in earnest.
    pub(super) fn rehearsal_over(&self) -> Option<Act> {
        let begun = self.state.run.as_ref().is_some_and(|run| run.rehearsal);
        let going_on = self.before_copy();
        (begun && going_on && !self.plan.rehearsal).then(|| {
            let told = format!(
                "Ending the rehearsal of {}: runs are no longer rehearsed here",
                self.who()
            );
            self.revert("it was begun in a dry run, and runs are no longer rehearsed")
                .by_hand()
                .tell(Tell::warning(told).about(About::RolledBack))
        })
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
    pub(super) fn restoring(&self) -> Step {
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
            return Step::Act(self.past_stale(act));
        }
        // Without a known template before it, a primary that was never given the run's has nothing to get back.
        if (known || !self.seen.primary_has_run) && self.primary_ready() {
            act.next.stage = Stage::Reverting;
            return Step::Act(act.again());
        }
        if let Some(why) = self.primary_hopeless() {
            return self.stranded(&why);
        }
        if !known && self.seen.primary_has_run {
            return self.stranded("no previous template is known");
        }
        Step::Act(self.past_stale(act))
    }

    /// The primary does not become ready with its previous template either. Traffic is where it can be served, and stays there.
    fn stranded(&self, why: &str) -> Step {
        let outcome = self.state.run.as_ref().and_then(|r| r.outcome);
        let told = match self.post_rollout(outcome.unwrap_or(Outcome::Failed)) {
            Ok(told) => told,
            Err(question) => return Step::Ask(question),
        };
        let mut act = self.rest().again();
        act.enter(Stage::Idle, Phase::Failed);
        act.next.last_applied = self.state.run.as_ref().map(|r| r.revision.clone());
        act.because(&format!(
            "the primary is not ready with its previous template either: {why}"
        ));
        act.tell.extend(told);
        let said = format!(
            "Rollback of {} failed, primary not ready with its previous template: {why}; the canary keeps {}% of the traffic",
            self.target_name(),
            self.state.weight()
        );
        Step::Act(act.tell(Tell::warning(said).about(About::RolledBack)))
    }
}

impl Act {
    /// Records why the run ends.
    pub(super) fn because(&mut self, reason: &str) {
        if let Some(run) = &mut self.next.run {
            run.reason = Some(reason.to_owned());
            run.outcome.get_or_insert(Outcome::Failed);
        }
    }

    /// Somebody ends the run, not its analysis.
    pub(super) fn by_hand(mut self) -> Self {
        if let Some(run) = &mut self.next.run {
            run.outcome = Some(Outcome::RolledBack);
        }
        self
    }
}
