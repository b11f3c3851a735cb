//! One Canary of a led cluster: the trampoline around [`decide::step`].

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Shared, act,
    ask::{self, Answer},
    ctx::Ctx,
    dry::Dry,
    event_hooks::EventHooks,
    rights,
    slots::{Queue, Recorded, Slots},
    tell::{Said, Teller, driven_by, not_ours},
    world::{self, CloseUp, Near, VERIFY, World},
};
use crate::{
    api::{
        objects::{Object, ObjectExt, Objects},
        parse::{self, Refusal},
        status, view,
    },
    build::{self, give_back, seen::Times},
    cluster::{Clock, Error, ErrorKind, lease::Held},
    decide::{
        self, Act, Step, Wait,
        effect::Tell,
        facts::{Answers, Moment, Question, Seen},
        plan::Plan,
        rules,
        state::{Phase, Stage, State},
        still::still,
    },
    telemetry::Target,
};

/// Consecutive steps without rest after which a tick gives way; the machine needs far fewer.
const MOST_STEPS: usize = 64;
/// Wait after a refused write, doubled up to [`LONGEST_RETRY`]; a change of the world wakes sooner.
const RETRY: Duration = Duration::from_millis(500);
/// Longest wait after refused writes.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The task of one Canary. It sleeps while nothing changes.
pub(super) struct Rollout {
    pub(super) ctx: Ctx,
    pub(super) teller: Teller,
    pub(super) said: Said,
    pub(super) event_hooks: EventHooks,
    /// The last spec that could be carried out: a run goes on by it when the spec is broken meanwhile.
    pub(super) plan: Option<Plan>,
    /// Why the spec cannot be carried out as it stands.
    pub(super) refusals: Vec<Refusal>,
    /// The rights that we lack for the next run, in a sentence.
    pub(super) missing_rights: Option<String>,
    /// What the metrics show of this Canary.
    pub(super) shown: Option<Target>,
    /// The pods and `ReplicaSets` of the last tick.
    fingerprint: u64,
    /// When to look up what only our own writes have shown.
    doubt_at: Option<Instant>,
    /// Since when this process leads.
    led_since: Moment,
    /// Its place among the runs of the cluster, at the last tick.
    pub(super) queue: Queue,
    pub(super) dry: Dry,
}

impl Rollout {
    pub(super) fn new(
        shared: Arc<Shared>,
        world: &World,
        held: Held,
        (teller, slots): (Teller, Arc<Slots>),
        (namespace, name, uid): (String, String, &str),
    ) -> Self {
        let led_since = world.cluster().clock().now();
        let enrolled = world.enroll(&namespace, &name, uid);
        let dry = Dry::new(shared.settings.dry_run);
        let queue = Queue::new(slots, (namespace.clone(), name.clone()));
        let ctx = Ctx {
            shared,
            near: Near::new(enrolled, namespace.clone(), name.clone()),
            close: None,
            held,
            namespace,
            name,
        };
        Self {
            ctx,
            teller,
            said: Said::default(),
            event_hooks: EventHooks::default(),
            plan: None,
            refusals: Vec::new(),
            missing_rights: None,
            shown: None,
            fingerprint: 0,
            doubt_at: None,
            led_since,
            queue,
            dry,
        }
    }

    pub(super) fn times(&self, now: Moment) -> Times {
        Times {
            now,
            led_since: self.led_since,
        }
    }

    /// Drives the Canary until it is gone or the Lease is lost.
    pub(super) async fn run(mut self) {
        let mut retry = RETRY;
        loop {
            let began = Instant::now();
            // In a box for the length of a tick: a Canary that rests is a small task.
            let done = Box::pin(self.tick()).await;
            if let Some(target) = &self.shown {
                self.ctx.shared.metrics.tick(target, began.elapsed());
            }
            match done {
                Ok(Some(wait)) => {
                    retry = RETRY;
                    self.sleep(wait).await;
                }
                Ok(None) => return,
                Err(error) => {
                    self.log(&error);
                    if error.kind() == ErrorKind::Forbidden {
                        self.ctx.shared.rights.forget().await;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(retry) => {}
                        () = self.ctx.near.enrolled().changed() => {}
                    }
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Sleeps until it is time, or an object of this Canary has changed.
    async fn sleep(&mut self, wait: Wait) {
        let timer = until(self.ctx.cluster().clock().clone(), wait);
        let granted = rights::again(self.missing_rights.is_some());
        tokio::pin!(timer, granted);
        while !self.changed() {
            let near = &self.ctx.near;
            // When to look up what only our own writes have shown. A busy watch must not put it off.
            let doubt_at = self.doubt_at.unwrap_or_else(|| Instant::now() + VERIFY);
            self.doubt_at = near.in_doubt().then_some(doubt_at);
            tokio::select! {
                () = &mut timer => return,
                () = &mut granted => return,
                () = near.enrolled().changed() => {}
                () = tokio::time::sleep_until(doubt_at), if self.doubt_at.is_some() => {
                    self.doubt_at = None;
                    near.doubt();
                }
            }
        }
    }

    pub(super) fn log(&self, error: &Error) {
        let (cluster, namespace, name) = (
            self.ctx.cluster().name(),
            &self.ctx.namespace,
            &self.ctx.name,
        );
        let error_text = error.report();
        if error.kind() == ErrorKind::Conflict {
            // Somebody else wrote first, an autoscaler most often; the next tick decides on what they wrote.
            tracing::debug!(
                cluster,
                canary.namespace = namespace,
                canary.name = name,
                error = error_text,
                "a tick is repeated"
            );
        } else {
            tracing::warn!(
                cluster,
                canary.namespace = namespace,
                canary.name = name,
                error = error_text,
                "a tick was not finished and will be repeated"
            );
        }
    }

    /// Something of this Canary is no longer what the last tick saw.
    fn changed(&self) -> bool {
        self.ctx.near.is_stale() || self.fingerprint != self.pods() || self.queue.has_moved()
    }

    fn pods(&self) -> u64 {
        self.ctx.close.as_ref().map_or(0, CloseUp::fingerprint)
    }

    /// Steps until the machine rests. `None`: the Canary is gone.
    async fn tick(&mut self) -> Result<Option<Wait>, Error> {
        let mut answers = Answers::default();
        for _ in 0..MOST_STEPS {
            // What comes in from here on wakes again.
            self.fingerprint = self.pods();
            match self.ctx.near.refresh().await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    self.unread(&error).await?;
                    return Err(error);
                }
            }
            self.ctx.near.decides();
            let Some(objects) = self.ctx.snapshot() else {
                return Ok(None);
            };
            let now = self.ctx.cluster().clock().now();
            let recorded = status::state(&objects.canary, now);
            let deleted = objects.canary.is_being_deleted();
            let held = deleted && give_back::is_held(&objects.canary);
            if deleted != held || !self.may_drive(&objects.canary, &recorded) {
                self.stands(Recorded::None);
                return Ok(Some(self.let_go()));
            }
            let state = self.dry.state(recorded);
            if self.close_up(&state, &objects).await {
                continue;
            }
            if held {
                match self.gives_back(&state, &objects, now).await? {
                    Some(wait) => return Ok(Some(wait)),
                    None => continue,
                }
            }
            let Some(plan) = self.accepted(&state, &objects).await? else {
                self.stands(Recorded::None);
                return Ok(Some(self.let_go()));
            };
            let plan = self.rehearsed(plan, &objects);
            self.stands(Recorded::of(&plan, &state));
            let seen = self.look(&plan, &state, &objects, now);
            self.warn(&objects, &state, &seen);
            let act = match decide::step(&plan, &state, &seen, &answers) {
                Step::Ask(question) => {
                    match self
                        .ask(question, (&plan, &state, &objects), &answers)
                        .await
                    {
                        Some(Answer::Analysis(analysis)) => answers.analysis = Some(analysis),
                        Some(Answer::Hook(call, answer)) => answers.hooks.push((call, answer)),
                        // Something came up while we asked: decide again, without the answer.
                        None => answers = answers.keep_only_paid(),
                    }
                    continue;
                }
                Step::Act(act) => act,
            };
            let broken = rules::broken(&plan, &state, &seen, &act);
            if !broken.is_empty() {
                return Ok(Some(self.freeze(&objects, &broken)));
            }
            let wait = self.dry.sooner(act.wait);
            let rests = wait == Wait::Change && still(&plan, &state, &seen);
            let recorded = {
                // Whoever takes the Lease over finds the effects and their record, or neither.
                let _writing = self.ctx.held.writing().await;
                self.carry_out(&plan, &state, &objects, act).await?
            };
            match wait {
                _ if !recorded => {}
                Wait::Again => {}
                // A run is looked at once an interval whatever happens, so that its age is never stale.
                Wait::Change if state.phase.running() => {
                    return Ok(Some(Wait::Until(now.plus(plan.interval))));
                }
                Wait::Until(at) if state.phase.running() => {
                    return Ok(Some(Wait::Until(at.min(now.plus(plan.interval)))));
                }
                Wait::Change if rests => return Ok(Some(self.let_go())),
                Wait::Until(_) | Wait::Change => return Ok(Some(wait)),
            }
            answers = Answers::default();
        }
        Ok(Some(Wait::Until(
            self.ctx.cluster().clock().now().plus(1000),
        )))
    }

    /// One step of the end of a Canary that gives its target back; `None` when the next one follows at once.
    async fn gives_back(
        &mut self,
        state: &State,
        objects: &Objects,
        now: Moment,
    ) -> Result<Option<Wait>, Error> {
        let canary = &objects.canary;
        let parsed = parse::plan(canary, &self.ctx.shared.settings.parse);
        let Some(plan) = parsed.ok().or_else(|| self.plan.clone()) else {
            let how = format!(
                "{}.{} is held by its finalizer, and what it took over cannot be told from its spec: mend the spec, or set revertOnDeletion to false",
                self.ctx.name, self.ctx.namespace
            );
            self.tell_once(canary, how);
            return Ok(Some(Wait::Change));
        };
        let seen = build::seen::seen(&plan, state, objects, self.times(now));
        let act = decide::deletion::step(&plan, state, &seen);
        let serves = seen
            .target
            .as_ref()
            .is_none_or(|t| t.ready(plan.canary_ready));
        if !serves && state.phase == Phase::Terminating {
            let how = format!(
                "{}.{} is held until Deployment {} can serve; revertOnDeletion: false lets it go at once, and its primary with it",
                self.ctx.name, self.ctx.namespace, plan.target
            );
            self.tell_once(canary, how);
        }
        let wait = act.wait;
        {
            let _writing = self.ctx.held.writing().await;
            self.carry_out(&plan, state, objects, act).await?;
        }
        Ok(Some(wait).filter(|wait| *wait != Wait::Again))
    }

    /// What holds a rollout up without a step of its own: a primary that cannot serve, a wish that cannot be read.
    fn warn(&mut self, objects: &Objects, state: &State, seen: &Seen) {
        if let Some(Err(why)) = parse::request(&objects.canary) {
            self.tell_once(&objects.canary, why);
        }
        if let Some((what, how)) = view::lost_primary(objects, state) {
            self.tell_once(&objects.canary, format!("Waiting for {what}: {how}"));
        }
        let dead = seen.primary.as_ref().is_some_and(|p| p.endpoints == 0);
        if dead && state.phase.running() {
            let message = format!(
                "{}.{} has no ready endpoint: nothing is promoted and no traffic is moved to it until it has one",
                objects.primary.as_ref().map_or("", |p| p.name()),
                self.ctx.namespace
            );
            self.tell_once(&objects.canary, message);
        }
    }

    /// Asks, unless the world changes meanwhile in a way that makes the machine want something else.
    async fn ask(
        &self,
        question: Question,
        (plan, state, objects): (&Plan, &State, &Objects),
        answers: &Answers,
    ) -> Option<Answer> {
        let answer = ask::answer(&self.ctx, question.clone(), (plan, state, objects));
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return Some(answer),
                () = self.ctx.near.enrolled().changed() => {}
            }
            // What cannot be read now is read before anything is decided on the answer.
            if !self.ctx.near.refresh().await.unwrap_or(true) {
                return None;
            }
            let now = self.ctx.snapshot()?;
            if !self.is_same(plan, state, &objects.canary, &now.canary) {
                return None;
            }
            let seen = self.seen(plan, state, &now, self.ctx.cluster().clock().now());
            if decide::step(plan, state, &seen, answers) != Step::Ask(question.clone()) {
                return None;
            }
        }
    }

    /// Effects, then one status write if anything is to be recorded, then the tells. False when it could not be recorded, because it
    /// was decided on a status that is no longer there.
    async fn carry_out(
        &mut self,
        plan: &Plan,
        state: &State,
        objects: &Objects,
        act: Act,
    ) -> Result<bool, Error> {
        let Act {
            effects,
            next,
            tell,
            wait: _,
        } = act;
        let effects = self.dry.carry_out(effects, &next);
        let observes = self.dry.observes();
        if !observes && (!effects.is_empty() || state.stage != Stage::Idle) {
            act::stamp_all(&self.ctx, objects).await?;
        }
        if !effects.is_empty() {
            act::apply_all(&self.ctx, plan, state, &effects).await?;
        }
        if !observes && next != *state && !self.record(plan, objects, &next).await? {
            return Ok(false);
        }
        self.stands(Recorded::of(plan, &next));
        self.show(&next, plan);
        self.count(state, &next);
        for tell in tell {
            self.tell(&objects.canary, tell);
        }
        Ok(true)
    }

    /// A decision that breaks a rule is not carried out: the rollout stays as it is until something changes.
    fn freeze(&mut self, objects: &Objects, broken: &[&str]) -> Wait {
        let message = format!(
            "Rollout frozen, the next step would break a rule: {}",
            broken.join("; ")
        );
        self.tell_once(&objects.canary, message);
        Wait::Change
    }

    /// Another controller that writes this Canary's status stops us, unless we are told to take over.
    fn may_drive(&mut self, canary: &Object, recorded: &State) -> bool {
        let other = driven_by(canary).map(|other| format!("Not driven: {}", not_ours(other)));
        let left = self.dry.leaves_alone(recorded).map(str::to_owned);
        let why = other.or(left);
        let may = why.is_none();
        if let Some(why) = why {
            self.tell_once(canary, why);
        }
        may
    }

    /// Watches the pods of both copies while there is something to do, and stops afterwards. True when that began just now.
    async fn close_up(&mut self, state: &State, objects: &Objects) -> bool {
        if state.stage == Stage::Idle && !state.traffic.serves() {
            self.close();
            return false;
        }
        let labels = world::labels(&self.ctx.shared.settings.parse.labels, objects);
        // Workloads that are both gone for a moment tell nothing new.
        let open = self.ctx.close.as_ref();
        if open.is_some_and(|close| labels.is_none() || close.is_by(labels.as_deref())) {
            return false;
        }
        let near = self.ctx.near.enrolled();
        let close = CloseUp::open(near.world(), &self.ctx.namespace, labels, &near.wake()).await;
        self.ctx.close = Some(close);
        true
    }

    fn close(&mut self) {
        self.ctx.close = None;
        self.fingerprint = self.pods();
    }

    /// Nothing can be decided before something that a mark shows has changed, so nothing is held until then. The last spec that could be
    /// carried out is of use to a run only.
    fn let_go(&mut self) -> Wait {
        self.close();
        self.plan = None;
        self.ctx.near.let_go();
        Wait::Change
    }

    /// Something could not be read. If that is because we may not, the Canary says so before anybody asks for a run.
    async fn unread(&mut self, error: &Error) -> Result<(), Error> {
        let Some(objects) = self.ctx.snapshot() else {
            return Ok(());
        };
        let refused = matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::Rejected);
        let canary = &objects.canary;
        if !refused || canary.is_being_deleted() || driven_by(canary).is_some() {
            return Ok(());
        }
        let state = status::state(canary, self.ctx.cluster().clock().now());
        let Ok(plan) = parse::plan(canary, &self.ctx.shared.settings.parse) else {
            return Ok(());
        };
        if self.dry.observes() {
            return Ok(());
        }
        self.ctx.shared.rights.forget().await;
        self.lacks_rights(&plan, &state, &objects).await?;
        if self.missing_rights.is_some() {
            self.refusals = Vec::new();
            self.refuse(&objects).await?;
        }
        Ok(())
    }

    /// The plan, if the spec can be carried out; otherwise condition `Accepted=False` and one event for each generation.
    async fn accepted(&mut self, state: &State, objects: &Objects) -> Result<Option<Plan>, Error> {
        let parsed = parse::plan(&objects.canary, &self.ctx.shared.settings.parse);
        self.refusals = match &parsed {
            Ok(plan) => {
                let mut refusals = build::check::check(plan, objects);
                let (shared, cluster) = (&self.ctx.shared, self.ctx.cluster());
                refusals.extend(ask::unaskable(plan, objects, &shared.settings, cluster));
                refusals
            }
            Err(refusals) => refusals.clone(),
        };
        let held_up = match (&parsed, self.refusals.is_empty()) {
            (Ok(plan), true) => self.lacks_rights(plan, state, objects).await?,
            _ => false,
        };
        self.refuse(objects).await?;
        if held_up {
            return Ok(None);
        }
        if let (Ok(plan), true) = (&parsed, self.refusals.is_empty()) {
            if let Some(matched) =
                build::scaler::matched_unnamed(plan, objects).filter(|m| self.said.is_new(m))
            {
                self.tell(&objects.canary, Tell::normal(matched));
            }
            for acting in build::preflight::acting_rollbacks(plan) {
                self.tell_once(&objects.canary, acting);
            }
            self.plan = Some(plan.clone());
            return Ok(Some(plan.clone()));
        }
        // A run that has begun goes on, by the last spec that could be carried out or as far as this one can be read; and so does the
        // way back of traffic that was left on the canary.
        let unfinished =
            state.phase.running() || state.stage == Stage::Reverting || state.traffic.serves();
        let known = self.plan.clone().or(parsed.ok()).filter(|_| unfinished);
        // A person's brake works however the rest of the spec is.
        let suspend = objects.canary["spec"]["suspend"] == true;
        Ok(known.map(|plan| Plan { suspend, ..plan }))
    }
}

async fn until(clock: Clock, wait: Wait) {
    match wait {
        Wait::Again => {}
        Wait::Until(at) => clock.sleep_until(at).await,
        Wait::Change => std::future::pending().await,
    }
}
