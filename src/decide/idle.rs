//! Before the first run, and between runs.

use super::{
    Act, Turn,
    effect::{About, Copied, Effect, Tell, Traffic},
    state::{Phase, Run, Skip, SkipSource, Stage},
};

impl Turn<'_> {
    /// Makes the primary from what is live, moves the apex to it, and scales the target to zero when the route has settled.
    pub(super) fn bootstrap(&self) -> Act {
        let Some(target) = self.target() else {
            return self.rest();
        };
        // Until the primary can serve, it is what is live: an edit can repair a first version that does not come up.
        let made = self.primary_has_endpoints() || self.seen.apex_on_primary;
        let pin_again = self.state.run.as_ref().is_none_or(|r| {
            r.revision != target.revision && !(made && self.seen.primary.is_some())
        });
        if pin_again {
            return self.pin_initial(&target.revision, SkipSource::Initial);
        }
        let mut act = self.rest();
        act.effects.extend(self.pin());
        act.effects.extend(
            self.foundation()
                .into_iter()
                .filter(|e| *e != Effect::Route),
        );
        if self.seen.primary.is_some() && !made && self.seen.pinned && !self.seen.primary_has_run {
            act.effects.push(Effect::Primary(Copied::Promoted));
        }
        act.effects
            .extend(self.seen.traffic.and_then(|_| self.route(Traffic::PRIMARY)));
        if !act.effects.is_empty() || !self.primary_ready() {
            return self.not_coming_up(act);
        }
        if !self.seen.route_ready {
            act.effects.push(Effect::Route);
        }
        act.effects.extend(self.route(Traffic::PRIMARY));
        if !act.effects.is_empty() {
            return act;
        }
        self.settle_time().unwrap_or_else(|| self.initialized())
    }

    /// A first version that does not come up is said once. The target serves meanwhile, and an edit of it is tried.
    fn not_coming_up(&self, mut act: Act) -> Act {
        let Some(why) = self.primary_hopeless() else {
            return self.past_stale(act);
        };
        let why = format!("primary not ready: {why}");
        let known = self.state.run.as_ref().and_then(|r| r.reason.as_ref());
        if known == Some(&why) || !act.effects.is_empty() {
            return act;
        }
        act.because(&why);
        let told = Tell::warning(format!("Initialization of {} waits, {why}", self.who()));
        act.tell(told).again()
    }

    fn initialized(&self) -> Act {
        let mut act = self.retire();
        act.enter(Stage::Idle, Phase::Initialized);
        // What is promoted is what the primary runs: the target, unless it was edited meanwhile.
        let revision = match (self.target(), &self.state.run) {
            (Some(target), _) if self.seen.target_equals_primary => Some(target.revision.clone()),
            (_, Some(run)) if self.seen.primary_has_run => Some(run.revision.clone()),
            (_, _) => None,
        };
        if revision.is_none() {
            // A primary from an earlier life runs something else: the target is new to it, and is analysed.
            act.next.run = None;
        }
        if let Some(run) = &mut act.next.run {
            run.reason = None;
            run.outcome = None;
        }
        act.next.last_applied.clone_from(&revision);
        act.next.last_promoted = revision;
        act.tell(Tell::normal(format!("Initialization done! {}", self.who())))
    }

    /// What is live at bootstrap, or when a Canary of Flagger's is taken over, is pinned as run 0.
    fn pin_initial(&self, revision: &str, source: SkipSource) -> Act {
        let Some(next) = &self.seen.next_run else {
            return self.rest();
        };
        let mut act = self.rest().again();
        act.next.run = Some(Run {
            id: next.id.clone(),
            n: next.n,
            revision: revision.to_owned(),
            template: next.template.clone(),
            // A rollback after a failed run looks here for what was promoted.
            previous: (source == SkipSource::Adopted).then(|| next.template.clone()),
            started_at: self.seen.now,
            stage_at: self.seen.now,
            route_written_at: None,
            skip: Some(Skip { source, by: None }),
            reason: None,
            outcome: None,
            waiting: None,
            reset: false,
            rehearsal: false,
        });
        if source == SkipSource::Adopted {
            return act;
        }
        act.tell(Tell::normal(
            "New Deployment detected, starting initialization.",
        ))
    }

    /// Looks for a new revision and keeps the idle shape.
    pub(super) fn idle(&self) -> Act {
        // A target at zero serves nothing much longer, whatever its last pods say.
        let serving = self.target().is_some_and(|t| t.desired > 0);
        if self.state.traffic.serves()
            || (serving && self.safe(Traffic::PRIMARY) != Traffic::PRIMARY)
        {
            return self.on_canary();
        }
        let Some(target) = self.target() else {
            return self.rest();
        };
        let live = Some(target.revision.as_str());
        let promoted =
            live == self.state.last_promoted.as_deref() || self.seen.target_equals_primary;
        if promoted && self.state.run.is_none() && self.seen.next_run.is_some() {
            return self.pin_initial(&target.revision, SkipSource::Adopted);
        }
        if promoted {
            // Flagger: a target that is put back to what is promoted triggers nothing, and the failed revision may be tried again.
            let revision = Some(target.revision.clone());
            if self.state.last_applied != revision || self.state.last_promoted != revision {
                let mut act = self.rest().again();
                act.next.last_applied.clone_from(&revision);
                act.next.last_promoted = revision;
                return act;
            }
        } else if live != self.state.last_applied.as_deref()
            && self.seen.primary.is_some()
            && let Some(act) = self.begin()
        {
            if act.next.stage == Stage::Waiting {
                return act;
            }
            let told = format!("New revision detected! Scaling up {}", self.target_name());
            return act.tell(Tell::normal(told).about(About::Revision));
        }
        self.keep_idle()
    }

    /// Whatever changed the idle shape is undone, traffic first.
    fn keep_idle(&self) -> Act {
        let mut act = self.rest();
        act.effects.extend(self.pin());
        act.effects.extend(self.foundation());
        act.effects.extend(self.route(Traffic::PRIMARY));
        if !act.effects.is_empty() || !self.primary_has_endpoints() {
            return act;
        }
        let shrink = self.retire().effects;
        if shrink.is_empty() || self.state.run.is_none() {
            return act;
        }
        // The target should serve nothing here, but only a settled route says so for sure.
        self.settle_time().unwrap_or_else(|| {
            act.effects = shrink;
            act
        })
    }

    /// After the end the canary serves, because the primary could not: traffic returns when the primary can again. No run starts until
    /// then.
    fn on_canary(&self) -> Act {
        let mut act = self.rest();
        let back = self.primary_ready() && self.state.traffic.serves();
        if back && self.state.run.is_some() {
            act.next.stage = Stage::Reverting;
            return act.again();
        }
        // Without a run (a promotion of Flagger's has failed) there is no stage to record, and traffic returns at once.
        let kept = if back {
            Traffic::PRIMARY
        } else {
            self.state.traffic
        };
        let want = self.safe(kept);
        act.effects = self.foundation();
        if want != Traffic::PRIMARY {
            act.effects.extend(self.keep_canary());
        }
        act.effects.extend(self.route(want));
        act.next.traffic = want;
        if act.next != *self.state {
            act = act.again();
        }
        act
    }
}
