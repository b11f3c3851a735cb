//! State -> status: once, last; then what is measured and told of it.

use super::{
    event_hooks::{Receivers, Sender},
    hooks::Facts,
    rollout::Rollout,
    tell,
};
use crate::{
    api::{
        objects::{Object, Objects},
        parse, status,
    },
    cluster::Error,
    decide::{
        effect::Tell,
        facts::Moment,
        plan::Plan,
        state::{Phase, State},
        strategy,
    },
    telemetry::{Finished, Target},
};

impl Rollout {
    /// The one status write of a tick. False when the status is no longer the one that was decided on: somebody else has written it
    /// meanwhile, and what they say is not overwritten but decided on.
    pub(super) async fn record(
        &self,
        plan: &Plan,
        decided_on: &Objects,
        next: &State,
    ) -> Result<bool, Error> {
        let Some(objects) = self.ctx.snapshot() else {
            return Ok(false);
        };
        if objects.canary["status"] != decided_on.canary["status"] {
            return Ok(false);
        }
        let now = self.ctx.cluster().clock().now();
        let extra = status::Extra {
            iterations: strategy::iterations(plan, next),
            ..self.extra(&objects, now)
        };
        let status = status::status(next, &extra);
        self.put(&objects, status).await?;
        Ok(true)
    }

    /// Writes condition `Accepted` when it is not what is told already.
    pub(super) async fn refuse(&mut self, objects: &Objects) -> Result<(), Error> {
        let canary = &objects.canary;
        let told = match (self.refusals.is_empty(), &self.missing_rights) {
            (true, None) => !status::refusal_stands(canary),
            (true, Some(missing)) => status::missing_rights_told(canary, missing),
            (false, _) => status::refusal_told(canary),
        };
        if told {
            return Ok(());
        }
        if self.dry.observes() {
            if !self.refusals.is_empty() {
                let said: Vec<String> = self.refusals.iter().map(ToString::to_string).collect();
                self.tell_once(&objects.canary, format!("Refused: {}", said.join("; ")));
            }
            return Ok(());
        }
        let now = self.ctx.cluster().clock().now();
        let status = status::refused(&self.extra(objects, now));
        if let Err(error) = self.put(objects, status).await {
            if let Some(missing) = self.missing_rights.clone() {
                // The right to say so in the status may be one of them.
                self.tell_once(&objects.canary, format!("No run begins, {missing}"));
            }
            return Err(error);
        }
        if !self.refusals.is_empty() {
            let said: Vec<String> = self.refusals.iter().map(ToString::to_string).collect();
            self.tell(
                &objects.canary,
                Tell::warning(format!("Refused: {}", said.join("; "))),
            );
        } else if let Some(missing) = self.missing_rights.clone() {
            let message = format!("No run begins, {missing}");
            self.tell(&objects.canary, Tell::warning(message));
        }
        Ok(())
    }

    async fn put(&self, objects: &Objects, status: serde_json::Value) -> Result<(), Error> {
        let mut canary = objects.canary.as_ref().clone();
        canary["status"] = status;
        let written = self
            .ctx
            .cluster()
            .put_status(&canary, self.ctx.held())
            .await?;
        self.ctx.take(&written);
        Ok(())
    }

    fn extra<'a>(&'a self, objects: &'a Objects, now: Moment) -> status::Extra<'a> {
        status::Extra {
            canary: &objects.canary,
            now,
            kind: "Deployment",
            iterations: 0,
            refusals: &self.refusals,
            missing_rights: self.missing_rights.as_deref(),
        }
    }

    /// Shows what is recorded, which a process that has just taken over shows too.
    pub(super) fn show(&mut self, state: &State, plan: &Plan) {
        let target = Target {
            name: plan.target.clone(),
            namespace: plan.namespace.clone(),
            cluster: self.ctx.cluster().name().to_owned(),
        };
        let metrics = &self.ctx.shared.metrics;
        metrics.status(&target, state.phase);
        metrics.progress(&target, state.phase, state.failed_checks);
        metrics.canary_weight(&target, state.weight());
        let evidence = &state.evidence;
        let observed = evidence.share.filter(|_| state.phase.running());
        let apart = evidence.apart.as_ref().filter(|_| state.phase.running());
        metrics.observed(&target, observed, apart.map_or(0, |a| a.intervals));
        for check in &state.evidence.checks {
            if let Some(value) = check.value {
                metrics.analysis(&target, &check.name, value);
            }
        }
        let began = state
            .run
            .as_ref()
            .filter(|_| state.phase.running())
            .map(|r| r.started_at);
        let now = self.ctx.cluster().clock().now();
        metrics.run_age(&target, began.map(|at| now.since(at) / 1000));
        if self.shown.as_ref() != Some(&target) {
            self.forget();
            self.shown = Some(target);
        }
    }

    /// Counts a run that has ended.
    pub(super) fn count(&self, state: &State, next: &State) {
        let ended =
            state.phase != next.phase && matches!(next.phase, Phase::Succeeded | Phase::Failed);
        if let (Some(target), true) = (&self.shown, ended) {
            let end = Finished {
                success: next.phase == Phase::Succeeded,
                skipped: next.run.as_ref().is_some_and(|r| r.skip.is_some()),
            };
            self.ctx.shared.metrics.finished(target, end);
        }
    }

    pub(super) fn forget(&mut self) {
        if let Some(target) = self.shown.take() {
            self.ctx.shared.metrics.forget(&target);
        }
    }

    pub(super) fn tell(&mut self, canary: &Object, tell: Tell) {
        let tell = self.dry.told(tell);
        if self.dry.observes() {
            tell::log(self.ctx.cluster().name(), canary, &tell);
        } else {
            self.tell_hooks(canary, &tell);
            self.teller.send(self.ctx.cluster().name(), canary, tell);
        }
    }

    /// What webhooks are told is of the moment: the status as it has been recorded last.
    fn tell_hooks(&mut self, canary: &Object, tell: &Tell) {
        let settings = &self.ctx.shared.settings;
        let parsed = match &self.plan {
            Some(_) => None,
            None => parse::plan(canary, &settings.parse).ok(),
        };
        let plan = self.plan.as_ref().or(parsed.as_ref());
        let receivers = Receivers::of(plan, settings, tell);
        let (false, Some(objects)) = (receivers.is_empty(), self.ctx.snapshot()) else {
            return;
        };
        let cluster = self.ctx.cluster().clone();
        let state = status::state(&objects.canary, cluster.clock().now());
        let facts = match plan {
            Some(plan) => Facts::of(plan, &state, &objects, state.phase),
            None => Facts::unplanned(canary, &state),
        };
        let sender = Sender {
            shared: self.ctx.shared.clone(),
            cluster,
            held: self.ctx.held.clone(),
            namespace: self.ctx.namespace.clone(),
            name: self.ctx.name.clone(),
        };
        let queue = &mut self.event_hooks;
        queue.send(&sender, receivers, facts, tell.clone());
    }

    /// Says something that is so for a while, once.
    pub(super) fn tell_once(&mut self, canary: &Object, message: String) {
        if self.said.is_new(&message) {
            self.tell(canary, Tell::warning(message));
        }
    }
}

/// The Canary is gone, or this process no longer leads: what it showed is not true for ever.
impl Drop for Rollout {
    fn drop(&mut self) {
        self.forget();
    }
}
