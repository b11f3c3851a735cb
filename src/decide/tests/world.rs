//! A model of one Canary's cluster: effects change it at once, as our own writes are seen at once; pods come and go by events.

use std::collections::{BTreeMap, BTreeSet};

use super::fixtures;
use crate::decide::{
    effect::{Annotation, Copied, Effect, Traffic},
    facts::{
        Analysis, Crash, Moment, NextRun, Reading, Request, Sample, Seen, Slot, Verb, Workload,
    },
    plan::{Gates, HookKind, Plan, Strategy},
    state::{Queue, State},
};

/// One Deployment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Copy {
    pub(super) template: u8,
    pub(super) desired: u32,
    /// Ready pods of the template.
    pub(super) pods: u32,
    /// Ready pods of a template before it.
    pub(super) old: u32,
    pub(super) crash: bool,
    pub(super) late: bool,
}

impl Copy {
    fn new(template: u8, desired: u32) -> Self {
        Self {
            template,
            desired,
            pods: 0,
            old: 0,
            crash: false,
            late: false,
        }
    }

    pub(super) fn endpoints(&self) -> u32 {
        self.pods + self.old
    }

    fn roll(&mut self, template: u8) {
        if self.template == template {
            return;
        }
        self.template = template;
        self.old = self.endpoints();
        self.pods = 0;
        self.crash = false;
    }

    fn heal(&mut self) {
        self.pods = self.desired;
        self.old = 0;
        self.crash = false;
        self.late = false;
    }

    fn seen(&self) -> Workload {
        Workload {
            revision: format!("v{}", self.template),
            desired: self.desired,
            updated: self.desired,
            replicas: self.desired + self.old,
            available: self.endpoints(),
            observed: true,
            deadline_exceeded: self.late,
            endpoints: self.endpoints(),
            crash: self.crash.then(|| Crash {
                container: "srv".to_owned(),
                restarts: 3,
                reason: "Error".to_owned(),
            }),
        }
    }
}

/// What an analysis will find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Health {
    Good,
    Bad,
    Silent,
}

/// Something that happens to the world.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Seconds(i64),
    CanaryReady,
    CanaryShort,
    CanaryDies,
    CanaryCrashes,
    CanaryLate,
    PrimaryReady,
    PrimaryShort,
    PrimaryDies,
    PrimaryCrashes,
    PrimaryLate,
    PrimaryDeleted,
    Edit(u8),
    EditBack,
    Analysis(Health),
    /// The observed share of the requests is the written one, or far from it.
    Parted(bool),
    Wish {
        verb: Verb,
        skip: bool,
        stale: bool,
    },
    /// The gates rollout, traffic and promotion.
    Gates(bool, bool, bool),
    Suspend(bool),
    SkipAnalysis(bool),
    Threshold(u32),
    Steps(u8),
    RouteByHand(u8),
    RouteDeleted,
    ApexByHand,
    Unpaused,
    Paused,
    PinDeleted,
    /// Hooks of this kind say yes, or no.
    Hook(HookKind, bool),
    /// The route is not carried out, or is again.
    Pending(bool),
    /// Other runs have to end first, or none.
    Queue(Option<bool>),
    SkipAnnotation,
    ResetAnnotation,
    /// Back to a kept revision, analysed or not.
    BackTo {
        template: u8,
        skip: bool,
    },
    /// Some users, or copies, by hand.
    MatchByHand,
    MirrorByHand(u8),
}

/// The cluster and what is recorded in it.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct World {
    pub(super) now: Moment,
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) target: Copy,
    pub(super) primary: Option<Copy>,
    pub(super) pins: BTreeMap<String, u8>,
    pub(super) services: bool,
    pub(super) apex: bool,
    pub(super) route: Option<Traffic>,
    pub(super) paused: bool,
    pub(super) primary_scaler: bool,
    pub(super) synced: bool,
    pub(super) request: Option<Request>,
    pub(super) health: Health,
    pub(super) parted: bool,
    /// Kinds of hooks that say no; of rollback hooks, that say yes.
    pub(super) refusing: Vec<HookKind>,
    pub(super) pending: bool,
    pub(super) slot: Slot,
    pub(super) skip_annotation: bool,
    pub(super) reset_annotation: bool,
    wishes: u32,
    /// Since when nothing but the primary gets traffic: kept apart from the machine's own record.
    pub(super) quiet_since: Option<Moment>,
    /// Templates that a passed analysis or a recorded skip has allowed on the primary.
    pub(super) allowed: BTreeSet<u8>,
    /// The finding of the last analysis, with the run that it was made for.
    pub(super) found: Option<(String, Health)>,
}

impl World {
    /// A target with two ready pods of template 1, and nothing of ours.
    pub(super) fn new(plan: Plan) -> Self {
        let mut target = Copy::new(1, 2);
        target.pods = 2;
        Self {
            now: fixtures::at(0),
            plan,
            state: State::new(fixtures::at(0)),
            target,
            primary: None,
            pins: BTreeMap::new(),
            services: false,
            apex: false,
            route: None,
            paused: false,
            primary_scaler: false,
            synced: true,
            request: None,
            health: Health::Good,
            parted: false,
            refusing: Vec::new(),
            pending: false,
            slot: Slot::Unlimited,
            skip_annotation: false,
            reset_annotation: false,
            wishes: 0,
            quiet_since: None,
            allowed: BTreeSet::new(),
            found: None,
        }
    }

    pub(super) fn primary_endpoints(&self) -> u32 {
        self.primary.as_ref().map_or(0, Copy::endpoints)
    }

    /// Where the stored route sends requests.
    pub(super) fn traffic(&self) -> Traffic {
        self.route.unwrap_or(Traffic::PRIMARY)
    }

    /// Whether a hook of this kind says yes.
    pub(super) fn says_yes(&self, kind: HookKind) -> bool {
        self.refusing.contains(&kind) == (kind == HookKind::Rollback)
    }

    pub(super) fn seen(&self) -> Seen {
        let run = self.state.run.as_ref();
        let primary = self.primary.as_ref().map(|p| p.template);
        let pin = |name: Option<&String>| name.and_then(|n| self.pins.get(n)).copied();
        let has = |name: Option<&String>| pin(name).is_some() && pin(name) == primary;
        let n = run.map_or(0, |r| r.n + 1);
        Seen {
            now: self.now,
            led_since: Moment::default(),
            next_run: Some(NextRun {
                id: format!("run-{n}"),
                n,
                template: format!("pin-{}", self.target.template),
            }),
            target: Some(self.target.seen()),
            primary: self.primary.as_ref().map(Copy::seen),
            target_equals_primary: primary == Some(self.target.template),
            services_ready: self.services,
            apex_on_primary: self.apex,
            route_ready: self.route.is_some(),
            traffic: self.route,
            route_pending: self.pending.then(|| "not accepted".to_owned()),
            route_writer: None,
            finalizer: false,
            given_back: false,
            slot: self.slot.clone(),
            scaler_paused: Some(self.paused),
            primary_scaler_ready: self.primary_scaler,
            primary_scaler_synced: self.synced,
            pinned: pin(run.map(|r| &r.template)).is_some(),
            promoted_pinned: pin(self.state.promoted_pin().as_ref()).is_some(),
            primary_has_run: has(run.map(|r| &r.template)),
            primary_has_previous: has(run.and_then(|r| r.previous.as_ref())),
            request: self.request.clone(),
            requested_kept: self.requested().is_some(),
            skip_annotation: self.skip_annotation.then(|| "kubectl".to_owned()),
            reset_annotation: self.reset_annotation.then(|| "kubectl".to_owned()),
            target_writer: Some("kubectl".to_owned()),
        }
    }

    pub(super) fn apply(&mut self, effect: Effect) {
        let run = self.state.run.clone();
        match effect {
            Effect::Pin => {
                let run = run.unwrap();
                assert_eq!(
                    run.revision,
                    format!("v{}", self.target.template),
                    "pins another template"
                );
                self.pins.insert(run.template, self.target.template);
            }
            Effect::Services => self.services = true,
            Effect::CreatePrimary => {
                let promoted = self
                    .state
                    .promoted_pin()
                    .and_then(|p| self.pins.get(&p).copied());
                let template = promoted.unwrap_or(self.target.template);
                self.primary.get_or_insert_with(|| Copy::new(template, 2));
            }
            Effect::CreatePrimaryScaler => self.primary_scaler = true,
            Effect::Apex => {
                self.apex = true;
                self.quiet_since = Some(self.now);
            }
            Effect::Route => {
                self.route.get_or_insert(Traffic::PRIMARY);
            }
            Effect::Traffic(weights) => self.set_route(Some(weights)),
            Effect::PauseScaler => self.paused = true,
            Effect::ResumeScaler => self.paused = false,
            Effect::ScaleUp(wanted) => self.target.desired = wanted.unwrap_or(2),
            Effect::ScaleToZero => {
                self.target.desired = 0;
                self.target.heal();
            }
            Effect::Primary(copied) => {
                let name = run.and_then(|r| match copied {
                    Copied::Promoted => Some(r.template),
                    Copied::Previous => r.previous,
                });
                let template = name.and_then(|n| self.pins.get(&n).copied());
                if let (Some(template), Some(primary)) = (template, &mut self.primary) {
                    primary.roll(template);
                }
            }
            Effect::Finalizer(_) | Effect::GiveBack => panic!("nothing is deleted here"),
            Effect::SyncPrimaryScaler => self.synced = true,
            Effect::Target => {
                if let Some(template) = self.requested() {
                    self.target.roll(template);
                }
            }
            Effect::TakeOff(Annotation::SkipAnalysis) => self.skip_annotation = false,
            Effect::TakeOff(Annotation::Reset) => self.reset_annotation = false,
        }
    }

    /// The kept template that the request asks for.
    fn requested(&self) -> Option<u8> {
        let to = self.request.as_ref()?.to.as_ref()?;
        let mut kept = self.pins.values();
        kept.find(|t| format!("v{t}") == *to).copied()
    }

    fn set_route(&mut self, route: Option<Traffic>) {
        let quiet = |r: Option<Traffic>| r.is_none_or(|w| w == Traffic::PRIMARY);
        if quiet(route) && !quiet(self.route) {
            self.quiet_since = Some(self.now);
        }
        if !quiet(route) {
            self.quiet_since = None;
        }
        self.route = route;
    }

    /// What the provider says now.
    pub(super) fn analysis(&mut self) -> Analysis {
        let run = self.state.run.as_ref().map(|r| r.id.clone());
        self.found = run.map(|id| (id, self.health));
        Analysis {
            at: self.now,
            samples: vec![Sample {
                query: "rate".to_owned(),
                value: match self.health {
                    Health::Good => Reading::Value(99.9),
                    Health::Bad => Reading::Value(80.0),
                    Health::Silent => Reading::NoData,
                },
            }],
            share: self.parted.then_some(90.0),
            requests: self.parted.then_some(1_200.0),
            cause: String::new(),
        }
    }

    pub(super) fn happen(&mut self, event: &Event) {
        match event {
            Event::Seconds(s) => self.now = self.now.plus(s * 1000),
            Event::CanaryReady => self.target.heal(),
            Event::CanaryShort => {
                self.target.pods = self.target.desired.min(1);
                self.target.old = 0;
            }
            Event::CanaryDies => (self.target.pods, self.target.old) = (0, 0),
            Event::CanaryCrashes => self.target.crash = self.target.desired > 0,
            Event::CanaryLate => self.target.late = self.target.pods < self.target.desired,
            Event::PrimaryReady => self.on_primary(Copy::heal),
            Event::PrimaryShort => self.on_primary(|p| (p.pods, p.old) = (1, 0)),
            Event::PrimaryDies => self.on_primary(|p| (p.pods, p.old) = (0, 0)),
            Event::PrimaryCrashes => self.on_primary(|p| p.crash = true),
            Event::PrimaryLate => self.on_primary(|p| p.late = p.pods < p.desired || p.old > 0),
            Event::PrimaryDeleted => self.primary = None,
            Event::Edit(template) => self.target.roll(*template),
            Event::EditBack => {
                if let Some(primary) = &self.primary {
                    self.target.roll(primary.template);
                }
            }
            Event::Analysis(health) => self.health = *health,
            Event::Parted(parted) => self.parted = *parted,
            Event::Wish { verb, skip, stale } => self.wish(*verb, *skip, *stale),
            Event::Gates(rollout, traffic, promotion) => {
                self.plan.gates = Gates {
                    rollout: *rollout,
                    traffic: *traffic,
                    promotion: *promotion,
                };
            }
            Event::Suspend(on) => self.plan.suspend = *on,
            Event::SkipAnalysis(on) => self.plan.skip_analysis = *on,
            Event::Threshold(threshold) => self.plan.threshold = *threshold,
            Event::Steps(last) if self.plan.strategy == Strategy::Canary => {
                self.plan.steps = fixtures::weights(&[5, *last]);
            }
            Event::Steps(_) => {}
            Event::RouteByHand(weight) => self.set_route(Some(Traffic::to_canary(*weight))),
            Event::RouteDeleted => self.set_route(None),
            Event::ApexByHand => self.apex = false,
            Event::Unpaused => self.paused = false,
            Event::Paused => self.paused = true,
            Event::PinDeleted => self.lose_pin(),
            Event::Hook(kind, yes) => {
                self.refusing.retain(|k| k != kind);
                if *yes == (*kind == HookKind::Rollback) {
                    self.refusing.push(*kind);
                }
            }
            Event::Pending(pending) => self.pending = *pending,
            Event::Queue(queued) => {
                self.slot = match queued {
                    None => Slot::Unlimited,
                    Some(false) => Slot::Held,
                    Some(true) => Slot::Queued(Queue {
                        place: 1,
                        running: 1,
                        limit: "1 in the cluster".to_owned(),
                    }),
                }
            }
            Event::SkipAnnotation => self.skip_annotation = true,
            Event::ResetAnnotation => self.reset_annotation = true,
            Event::BackTo { template, skip } => {
                self.wish(Verb::Rollback, *skip, false);
                if let Some(request) = &mut self.request {
                    request.to = Some(format!("v{template}"));
                }
            }
            Event::MatchByHand => self.set_route(Some(Traffic::MATCHED)),
            Event::MirrorByHand(share) => self.set_route(Some(Traffic::mirrored(*share))),
        }
    }

    fn on_primary(&mut self, change: impl FnOnce(&mut Copy)) {
        if let Some(primary) = &mut self.primary {
            change(primary);
        }
    }

    /// Only what the live target can give again may be lost, while somebody is there to take it.
    fn lose_pin(&mut self) {
        if let Some(run) = &self.state.run
            && self.pins.get(&run.template) == Some(&self.target.template)
            && !self.plan.suspend
        {
            self.pins.remove(&run.template);
        }
    }

    fn wish(&mut self, verb: Verb, skip: bool, stale: bool) {
        self.wishes += 1;
        let run = self.state.run.as_ref().map(|r| r.id.clone());
        self.request = Some(Request {
            id: format!("wish-{}", self.wishes),
            verb,
            run: if stale {
                Some("run-999".to_owned())
            } else {
                run
            },
            skip,
            to: None,
            reason: None,
            by: Some("kim".to_owned()),
            at: None,
        });
    }
}
