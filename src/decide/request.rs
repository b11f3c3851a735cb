//! What people and tools ask for: the request on the Canary, and the two annotations that count once.

use super::{
    Act, Step, Turn, Wait,
    effect::{About, Annotation, Effect, Tell, Traffic},
    facts::{Request, Verb},
    gates::Gate,
    state::{Phase, Skip, SkipSource, Stage, State, WaitFor},
    strategy,
};

impl Turn<'_> {
    /// A wish that can be acted on now. One that has to wait (a gate while the last analysis failed) stays unhandled.
    pub(super) fn request(&self) -> Option<Step> {
        let request = self.unhandled()?;
        let run = self.state.run.as_ref().map(|r| r.id.as_str());
        let act = if request.run.is_some() && request.run.as_deref() != run {
            self.told(&format!(
                "Request {} is for another run and was not acted on",
                request.id
            ))
        } else {
            match request.verb {
                Verb::Rollback if request.to.is_some() => return self.back_to(request),
                Verb::Rollback => self.rollback_request(request),
                Verb::Promote if request.skip => self.promote_now(request)?,
                Verb::Promote => return self.open_gate(request),
                Verb::Reset => self.reset(&format!("reset by {}", said_by(request))),
            }
        };
        Some(Step::Act(act.handles(request)))
    }

    /// The request that nobody has acted on.
    pub(super) fn unhandled(&self) -> Option<&Request> {
        let handled = |r: &&Request| self.state.handled_request.as_ref() != Some(&r.id);
        self.seen.request.as_ref().filter(handled)
    }

    fn told(&self, message: &str) -> Act {
        self.rest().tell(Tell::warning(message))
    }

    fn rollback_request(&self, request: &Request) -> Act {
        let reason = format!("rollback requested by {}", said_by(request));
        let told = Tell::warning(format!("Rolling back {} {reason}", self.who()));
        let told = told.about(About::RolledBack);
        match self.state.stage {
            Stage::Waiting | Stage::Starting | Stage::Analysing | Stage::Gated => {
                self.revert(&reason).by_hand().tell(told)
            }
            Stage::Copying | Stage::Shifting | Stage::Settling => {
                self.restore(&reason).by_hand().tell(told)
            }
            Stage::Reverting | Stage::Restoring => {
                self.told(&format!("Rollback of {} is under way already", self.who()))
            }
            Stage::Bootstrap | Stage::Idle => {
                self.told(&format!("Nothing to roll back for {}", self.who()))
            }
        }
    }

    /// After a promotion, back to a revision that is kept: it is written to the target, and then rolled out as any other.
    fn back_to(&self, request: &Request) -> Option<Step> {
        let to = request.to.as_deref()?;
        let refused = |why: &str| {
            let act = self.told(&format!("{} is not rolled back to {to}: {why}", self.who()));
            Some(Step::Act(act.handles(request)))
        };
        if self.state.stage != Stage::Idle {
            return refused(
                "a run is going on, which can be rolled back without naming a revision",
            );
        }
        if self.state.traffic.serves() {
            return refused("the canary still serves since the primary cannot");
        }
        if self.state.last_promoted.as_deref() == Some(to) {
            return refused("it is the promoted revision");
        }
        if self.target().is_some_and(|t| t.revision == to) {
            let mut act = self.begin()?;
            if let (true, Some(run)) = (request.skip, &mut act.next.run) {
                run.skip = Some(Skip {
                    source: SkipSource::Person,
                    by: request.by.clone(),
                });
            }
            let told = format!(
                "Rolling {} back to {to} as {} asks",
                self.who(),
                said_by(request)
            );
            let act = act.tell(Tell::normal(told).about(About::Revision));
            return Some(Step::Act(act.handles(request)));
        }
        if !self.seen.requested_kept {
            return refused("no template of that revision is kept");
        }
        let mut act = self.rest().again();
        act.effects.push(Effect::Target);
        Some(Step::Act(act))
    }

    fn promote_now(&self, request: &Request) -> Option<Act> {
        let mut act = match self.state.stage {
            Stage::Waiting | Stage::Starting => self.rest(),
            Stage::Analysing | Stage::Gated => {
                // The canary's copy must be able to serve before it becomes the primary.
                if self.ends_early().is_some()
                    || !self.canary_ready()
                    || !self.primary_has_endpoints()
                {
                    return None;
                }
                self.copy()
            }
            Stage::Bootstrap
            | Stage::Idle
            | Stage::Copying
            | Stage::Shifting
            | Stage::Settling
            | Stage::Reverting
            | Stage::Restoring => {
                return Some(self.told(&format!("Nothing to promote for {}", self.who())));
            }
        };
        if let Some(run) = &mut act.next.run {
            run.skip = Some(Skip {
                source: SkipSource::Person,
                by: request.by.clone(),
            });
        }
        Some(act.tell_first(Tell::warning(format!(
            "Analysis of {} skipped by {}",
            self.who(),
            said_by(request)
        ))))
    }

    /// Opens the gate that waits for a person. A webhook that stands beside it is asked again.
    fn open_gate(&self, request: &Request) -> Option<Step> {
        let handled = |act: Act| Some(Step::Act(act.handles(request)));
        let run = self.state.run.as_ref();
        let Some(waiting) = run.and_then(|run| run.waiting.as_ref()) else {
            return handled(self.told(&format!("No gate of {} waits for approval", self.who())));
        };
        if let Some(hook) = &waiting.hook {
            return handled(self.told(&format!(
                "{} waits for approval by the webhook {hook}, which only that can give",
                self.who()
            )));
        }
        match waiting.what {
            WaitFor::Queue => handled(self.told(&format!(
                "{} waits for other runs to end, not for approval",
                self.who()
            ))),
            // Its stage asks the gate, and the gate takes the request.
            WaitFor::Rollout => None,
            WaitFor::Traffic | WaitFor::Promotion if self.state.stage == Stage::Starting => None,
            WaitFor::Traffic | WaitFor::Promotion => {
                if !self.may_go_on() {
                    return None;
                }
                match self.gate(waiting.what) {
                    Gate::Ask(question) => Some(Step::Ask(question)),
                    Gate::Closed { hook } => Some(Step::Act(self.closed(waiting.what, hook))),
                    Gate::Open(_) => {
                        let act = match strategy::next(self.plan, self.state) {
                            Some(next) => self.advance(next),
                            None => self.copy(),
                        };
                        handled(act.tell_first(self.approved(waiting.what, request)))
                    }
                }
            }
        }
    }

    pub(super) fn approved(&self, what: WaitFor, request: &Request) -> Tell {
        let what = match what {
            WaitFor::Rollout | WaitFor::Queue => "Rollout",
            WaitFor::Traffic => "Traffic increase",
            WaitFor::Promotion => "Promotion",
        };
        Tell::normal(format!(
            "{what} of {} approved by {}",
            self.who(),
            said_by(request)
        ))
    }

    /// The two annotations: each counts once, is recorded first and taken off then. Taken off again, if it is set once more in the same run.
    pub(super) fn annotations(&self) -> Option<Act> {
        let run = self.state.run.as_ref();
        let by_annotation = run
            .and_then(|run| run.skip.as_ref())
            .is_some_and(|skip| skip.source == SkipSource::Annotation);
        if self.seen.skip_annotation.is_some() && by_annotation {
            let mut act = self.rest().again();
            act.effects.push(Effect::TakeOff(Annotation::SkipAnalysis));
            return Some(act);
        }
        if let (Some(by), true) = (&self.seen.skip_annotation, self.before_copy()) {
            return Some(self.skip_by(by));
        }
        self.reset_annotation()
    }

    /// A run that it begins remembers it until it is taken off, so that it begins one run and not two.
    fn reset_annotation(&self) -> Option<Act> {
        let marked = self.state.run.as_ref().is_some_and(|run| run.reset);
        let mut act = match (&self.seen.reset_annotation, marked) {
            (None, false) => return None,
            (None, true) => {
                let mut act = self.rest();
                if let Some(run) = &mut act.next.run {
                    run.reset = false;
                }
                act
            }
            (Some(_), true) => {
                let mut act = self.rest();
                act.effects.push(Effect::TakeOff(Annotation::Reset));
                act
            }
            (Some(by), false) => {
                let mut act = self.reset(&format!("annotation flagger.app/reset set by {by}"));
                let id = |state: &State| state.run.as_ref().map(|run| run.id.clone());
                if id(&act.next) == id(self.state) {
                    act.effects.push(Effect::TakeOff(Annotation::Reset));
                } else if let Some(run) = &mut act.next.run {
                    run.reset = true;
                }
                act
            }
        };
        act.wait = Wait::Again;
        Some(act)
    }

    pub(super) fn before_copy(&self) -> bool {
        matches!(
            self.state.stage,
            Stage::Waiting | Stage::Starting | Stage::Analysing | Stage::Gated
        )
    }

    /// Records that the annotation skips the analysis of this run. On a run that has failed checks that promotes them, and is said.
    fn skip_by(&self, by: &str) -> Act {
        let mut act = self.rest().again();
        if let Some(run) = &mut act.next.run {
            run.skip = Some(Skip {
                source: SkipSource::Annotation,
                by: Some(by.to_owned()),
            });
        }
        let failed = match self.state.failed_checks {
            0 => String::new(),
            n => format!(", which promotes a revision with {n} failed checks"),
        };
        act.tell(Tell::warning(format!(
            "Analysis of {} skipped by the annotation flagger.app/skip-analysis set by {by}{failed}",
            self.who()
        )))
    }

    /// The revision is analysed anew: a run before its copy begins again, one that failed is tried once more.
    fn reset(&self, why: &str) -> Act {
        let nothing =
            |because: &str| self.told(&format!("{} is not reset ({why}): {because}", self.who()));
        match self.state.stage {
            Stage::Waiting | Stage::Starting | Stage::Analysing | Stage::Gated => {
                let Some(mut act) = self.begin() else {
                    return nothing("there is no target");
                };
                act.effects.extend(self.route(Traffic::PRIMARY));
                let told = format!("Restarting analysis for {}: {why}", self.target_name());
                act.tell(Tell::warning(told).about(About::Revision))
            }
            Stage::Idle if self.state.phase == Phase::Failed => self.retry(why, nothing),
            Stage::Idle | Stage::Bootstrap => nothing("no run has failed"),
            Stage::Copying | Stage::Shifting | Stage::Settling => {
                nothing("it is being promoted, which a rollback can undo")
            }
            Stage::Reverting | Stage::Restoring => nothing("it is being rolled back"),
        }
    }

    fn retry(&self, why: &str, nothing: impl Fn(&str) -> Act) -> Act {
        if self.state.traffic.serves() || !self.primary_has_endpoints() {
            return nothing("the primary cannot serve");
        }
        let live = self.target().map(|t| t.revision.as_str());
        if live == self.state.last_promoted.as_deref() || self.seen.target_equals_primary {
            return nothing("the target has what is promoted");
        }
        let Some(act) = self.begin() else {
            return nothing("there is no target");
        };
        let told = format!("Analysing {} once more: {why}", self.target_name());
        act.tell(Tell::normal(told).about(About::Revision))
    }
}

impl Act {
    /// The request has been acted on, or never will be.
    pub(super) fn handles(mut self, request: &Request) -> Self {
        self.next.handled_request = Some(request.id.clone());
        self.wait = Wait::Again;
        self
    }
}

pub(super) fn said_by(request: &Request) -> String {
    let by = request.by.as_deref().unwrap_or("unknown");
    match &request.reason {
        Some(reason) => format!("{by}: {reason}"),
        None => by.to_owned(),
    }
}
