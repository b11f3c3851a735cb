//! What has to be asked of webhooks and people, and what the answers mean.
//!
//! Hooks of one kind are called one after another until one says no, each at most once for the moment at which it fell due: a call that is
//! repeated after a crash carries the same key.

use super::{
    Act, Turn,
    effect::{About, Tell},
    facts::{HookAnswer, HookCall, Question, Request, Verb},
    plan::{Hook, HookKind, Outcome, Strategy},
    request::said_by,
    state::{Phase, Stage, WaitFor, Waiting},
    strategy::{self, Position},
};

/// Whether a run may go on.
pub(super) enum Gate<'a> {
    /// It may; a person's request has opened it, if there was one to open.
    Open(Option<&'a Request>),
    /// Somebody has to be asked first.
    Ask(Question),
    /// It may not.
    Closed {
        /// The webhook that says no, with its words; otherwise a person has to approve.
        hook: Option<(&'a str, &'a str)>,
    },
}

/// What the hooks of one kind say.
pub(super) enum Hooks<'a> {
    /// All of them yes, or there are none.
    Ok,
    /// One has to be asked first.
    Ask(Question),
    /// This one no, with its words. Those after it were not asked.
    Refused(&'a Hook, &'a str),
}

impl<'a> Turn<'a> {
    /// Calls the hooks of a kind until one says no.
    pub(super) fn hooks(&self, kind: HookKind, phase: Phase) -> Hooks<'a> {
        for (place, hook) in self.plan.hooks(kind) {
            let call = self.call(place, hook, phase);
            match self.answers.hook(&call) {
                None => return Hooks::Ask(Question::Hook(call)),
                Some(HookAnswer::Ok) => {}
                Some(HookAnswer::Refused(why)) => return Hooks::Refused(hook, why),
            }
        }
        Hooks::Ok
    }

    /// Whether a rollback hook says yes. Flagger: 2xx asks for a rollback, anything else is none.
    pub(super) fn rollback_hooks(&self) -> Result<Option<&'a str>, Question> {
        for (place, hook) in self.plan.hooks(HookKind::Rollback) {
            let call = self.call(place, hook, self.state.phase);
            match self.answers.hook(&call) {
                None => return Err(Question::Hook(call)),
                Some(HookAnswer::Ok) => return Ok(Some(&hook.name)),
                Some(HookAnswer::Refused(_)) => {}
            }
        }
        Ok(None)
    }

    /// The post-rollout hooks of this end: the one to call next, and what those that failed said. Flagger: the ones after a failed one are skipped.
    pub(super) fn post_rollout(&self, outcome: Outcome) -> Result<Vec<Tell>, Question> {
        let phase = match outcome {
            Outcome::Succeeded => Phase::Succeeded,
            Outcome::Failed | Outcome::RolledBack => Phase::Failed,
        };
        let mut told = Vec::new();
        for (place, hook) in self.plan.hooks(HookKind::PostRollout) {
            if !hook.when.is_empty() && !hook.when.contains(&outcome) {
                continue;
            }
            let call = self.call(place, hook, phase);
            match self.answers.hook(&call) {
                None => return Err(Question::Hook(call)),
                Some(HookAnswer::Ok) => told.push(Tell::normal(format!(
                    "Post-rollout check {} passed",
                    hook.name
                ))),
                Some(HookAnswer::Refused(why)) => {
                    told.push(Tell::warning(format!(
                        "Post-rollout hook {} failed {why}",
                        hook.name
                    )));
                    break;
                }
            }
        }
        Ok(told)
    }

    fn call(&self, hook: usize, of: &Hook, phase: Phase) -> HookCall {
        let run = self.state.run.as_ref();
        let begun = run.map_or(self.seen.now, |r| r.started_at);
        let due = self.state.next_check_at;
        let due = due.or(run.map(|r| r.stage_at)).unwrap_or(self.seen.now);
        let id = run.map_or("", |r| r.id.as_str());
        HookCall {
            hook,
            phase,
            key: format!(
                "{id}/{}/{}/{}",
                of.kind.name(),
                of.name,
                due.since(begun) / 1000
            ),
        }
    }

    /// Whether what is held back may go on: the webhooks first, then a person, so that an approval is not spent on a run that a webhook holds.
    pub(super) fn gate(&self, what: WaitFor) -> Gate<'a> {
        let (kind, phase) = match what {
            WaitFor::Rollout => (HookKind::ConfirmRollout, self.state.phase),
            WaitFor::Traffic => (HookKind::ConfirmTrafficIncrease, Phase::Progressing),
            WaitFor::Promotion => (HookKind::ConfirmPromotion, Phase::Progressing),
            WaitFor::Queue => return Gate::Open(None),
        };
        // Flagger: only weights are confirmed by hooks.
        let asked = what != WaitFor::Traffic || self.plan.strategy == Strategy::Canary;
        if asked {
            match self.hooks(kind, phase) {
                Hooks::Ok => {}
                Hooks::Ask(question) => return Gate::Ask(question),
                Hooks::Refused(hook, why) => {
                    return Gate::Closed {
                        hook: Some((&hook.name, why)),
                    };
                }
            }
        }
        let built_in = match what {
            WaitFor::Rollout => self.plan.gates.rollout,
            WaitFor::Traffic => self.plan.gates.traffic,
            WaitFor::Promotion => self.plan.gates.promotion,
            WaitFor::Queue => false,
        };
        match (built_in, self.approval(what)) {
            (true, None) => Gate::Closed { hook: None },
            (_, request) => Gate::Open(request),
        }
    }

    /// The request that opens the gate which waits for a person.
    pub(super) fn approval(&self, what: WaitFor) -> Option<&'a Request> {
        let waiting = self.state.run.as_ref()?.waiting.as_ref()?;
        let of = self.seen.request.as_ref()?;
        let fits = of.verb == Verb::Promote
            && !of.skip
            && self.state.handled_request.as_ref() != Some(&of.id)
            && waiting.what == what
            && waiting.hook.is_none();
        fits.then_some(of)
    }

    /// The gate that stands before the next position; before the promotion, if there is none. In blue/green it stands before the switch, which is what
    /// users notice, and not again after it.
    pub(super) fn gate_before(&self, next: Option<Position>) -> Option<WaitFor> {
        let now = self.state.traffic;
        let Some(next) = next else {
            let asked_before = strategy::switches(self.plan);
            return (!asked_before).then_some(WaitFor::Promotion);
        };
        let more = next.traffic.serves() && next.traffic.raises(now);
        let switch = self.plan.strategy == Strategy::BlueGreen;
        more.then_some(if switch {
            WaitFor::Promotion
        } else {
            WaitFor::Traffic
        })
    }

    /// The run waits at a gate: what it has holds for another interval, and the first time that is said.
    pub(super) fn closed(&self, what: WaitFor, hook: Option<(&str, &str)>) -> Act {
        let mut act = self.hold();
        if what == WaitFor::Promotion {
            act.enter(Stage::Gated, Phase::WaitingPromotion);
        }
        if what == WaitFor::Rollout {
            act.next.phase = Phase::Waiting;
        }
        let name = hook.map(|(name, _)| name.to_owned());
        let known = self.state.run.as_ref().and_then(|r| r.waiting.clone());
        let known = known.filter(|w| w.what == what);
        let news = known.as_ref().is_none_or(|w| w.hook != name);
        let since = known.map_or(self.seen.now, |w| w.since);
        let said = match what {
            WaitFor::Rollout => "waiting for approval",
            WaitFor::Traffic => "waiting for traffic increase approval",
            WaitFor::Promotion => "waiting for promotion approval",
            WaitFor::Queue => "waiting for other runs to end",
        };
        let by = name.as_ref().map_or(String::new(), |n| format!(" {n}"));
        if let Some(run) = &mut act.next.run {
            run.waiting = Some(Waiting {
                what,
                hook: name,
                queue: None,
                since,
            });
        }
        if let (Some(request), Some(_)) = (self.approval(what), hook) {
            // The webhook was asked again because of it, and has changed its mind.
            act = act.handles(request).tell(Tell::warning(format!(
                "The approval of {} by {} is spent, a webhook says no now",
                self.who(),
                said_by(request)
            )));
        }
        if news {
            let text = format!("Halt {} advancement {said}{by}", self.who());
            return act.tell(Tell::warning(text).about(About::Failed));
        }
        act
    }
}

impl Act {
    /// Nothing is waited for any more that somebody has to open.
    pub(super) fn opened(&mut self) {
        if let Some(run) = &mut self.next.run {
            run.waiting = None;
        }
    }
}
