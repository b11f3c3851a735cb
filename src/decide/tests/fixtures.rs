//! Plans, states and worlds as adjectives: `seen().canary_ready().weight(15)`.

use crate::decide::{
    Act, Step, Wait,
    effect::{Effect, Traffic},
    facts::{
        Analysis, Answers, Bounds, Crash, Moment, NextRun, Reading, Request, Sample, Seen, Slot,
        Verb, Workload,
    },
    plan::{
        Affinity, Check, Gates, Hook, HookKind, Labels, Plan, PlanStep, PortRef, Router, Scaler,
        Service, Source, Strategy, ThresholdMode,
    },
    state::{
        Cookies, Evidence, Phase, Run, Skip, SkipSource, Stage, State, StepResult, Verdict,
        WaitFor, Waiting,
    },
    step, strategy,
};

/// The moment from which the tests count, in seconds.
pub(super) const START: i64 = 1_000_000;

/// `seconds` after [`START`].
pub(super) fn at(seconds: i64) -> Moment {
    Moment((START + seconds) * 1000)
}

/// Steps 5, 10, 15; threshold 3; interval 60 s; settle 10 s; deadline 600 s; one check, success rate at least 99.5.
pub(super) fn plan() -> Plan {
    Plan {
        namespace: "ai".to_owned(),
        name: "mcp".to_owned(),
        target: "srv".to_owned(),
        service: Service {
            name: "srv".to_owned(),
            port: 80,
            port_name: "http".to_owned(),
            target_port: PortRef::Number(8080),
            app_protocol: None,
            port_discovery: false,
            hosts: vec!["srv".to_owned()],
            gateways: vec!["mesh".to_owned()],
            delegation: false,
        },
        scaler: Some(Scaler {
            name: "srv".to_owned(),
            primary_queries: Vec::new(),
            primary_min: None,
            primary_max: None,
        }),
        interval: 60_000,
        threshold: 3,
        router: Router::Istio,
        delay: 0,
        threshold_mode: ThresholdMode::Cumulative,
        strategy: Strategy::Canary,
        steps: weights(&[5, 10, 15]),
        affinity: None,
        canary_replicas: None,
        hooks: Vec::new(),
        revert_on_deletion: false,
        rehearsal: false,
        step_weight_promotion: None,
        settle: 10_000,
        progress_deadline: 600_000,
        primary_ready: 100,
        canary_ready: 100,
        skip_analysis: false,
        suspend: false,
        gates: Gates::default(),
        checks: vec![check(
            "request-success-rate",
            Some(99.5),
            None,
            Source::SuccessRate,
        )],
        metrics_server: None,
        labels: Labels::default(),
    }
}

/// Weighted steps of one interval each.
pub(super) fn weights(all: &[u8]) -> Vec<PlanStep> {
    strategy::canary::steps(&[], 0, all, &[], 0, 0)
}

/// A hook of this name and kind, with what Flagger takes by default.
pub(super) fn hook(name: &str, kind: HookKind) -> Hook {
    Hook {
        name: name.to_owned(),
        kind,
        url: format!("http://hooks.test/{name}"),
        timeout: 10_000,
        retries: 0,
        disable_tls: false,
        mute_alert: false,
        metadata: Vec::new(),
        when: Vec::new(),
        events: Vec::new(),
        request: None,
    }
}

/// Session affinity by both cookies.
pub(super) fn sticky() -> Affinity {
    Affinity {
        cookie: "canary".to_owned(),
        primary_cookie: Some("primary".to_owned()),
        max_age: 86_400,
        primary_max_age: 60,
        attributes: Vec::new(),
    }
}

pub(super) fn check(name: &str, min: Option<f64>, max: Option<f64>, source: Source) -> Check {
    Check {
        name: name.to_owned(),
        bounds: Bounds { min, max },
        source,
        interval: "1m".to_owned(),
        variables: Vec::new(),
    }
}

impl Plan {
    pub(super) fn gated(mut self) -> Self {
        self.gates.promotion = true;
        self
    }

    pub(super) fn skipping(mut self) -> Self {
        self.skip_analysis = true;
        self
    }

    pub(super) fn returning_by(mut self, percent: u8) -> Self {
        self.step_weight_promotion = Some(percent);
        self
    }
}

/// A copy with two ready replicas.
fn ready(revision: &str) -> Workload {
    Workload {
        revision: revision.to_owned(),
        desired: 2,
        updated: 2,
        replicas: 2,
        available: 2,
        observed: true,
        endpoints: 2,
        ..Workload::default()
    }
}

/// A copy at zero.
fn zero(revision: &str) -> Workload {
    Workload {
        revision: revision.to_owned(),
        observed: true,
        ..Workload::default()
    }
}

/// 100 s after the start: a healthy primary with v1, the target at zero with v1, everything in place.
pub(super) fn seen() -> Seen {
    Seen {
        now: at(100),
        led_since: at(0),
        next_run: Some(NextRun {
            id: "run-2".to_owned(),
            n: 2,
            template: "pin-v2".to_owned(),
        }),
        target: Some(zero("v1")),
        primary: Some(ready("p1")),
        target_equals_primary: true,
        services_ready: true,
        apex_on_primary: true,
        route_ready: true,
        traffic: Some(Traffic::PRIMARY),
        route_pending: None,
        route_writer: None,
        finalizer: false,
        given_back: false,
        slot: Slot::Unlimited,
        scaler_paused: Some(true),
        primary_scaler_ready: true,
        primary_scaler_synced: true,
        pinned: true,
        promoted_pinned: true,
        primary_has_run: true,
        primary_has_previous: false,
        request: None,
        requested_kept: false,
        skip_annotation: None,
        reset_annotation: None,
        target_writer: Some("kubectl-set".to_owned()),
    }
}

impl Seen {
    pub(super) fn at(mut self, seconds: i64) -> Self {
        self.now = at(seconds);
        self
    }

    /// The target was edited.
    pub(super) fn edited(mut self, revision: &str) -> Self {
        self.target.as_mut().unwrap().revision = revision.to_owned();
        self.target_equals_primary = false;
        self
    }

    fn running(mut self, revision: &str) -> Self {
        self = self.edited(revision);
        self.scaler_paused = Some(false);
        self.primary_has_run = false;
        self.primary_has_previous = true;
        self
    }

    /// The canary runs v2 with two ready replicas, its scaler works, the primary has the template before the run.
    pub(super) fn canary_ready(mut self) -> Self {
        self.target = Some(ready("v2"));
        self.running("v2")
    }

    /// The canary runs v2, none of its pods is ready.
    pub(super) fn canary_coming(mut self) -> Self {
        self.target = Some(Workload {
            available: 0,
            endpoints: 0,
            ..ready("v2")
        });
        self.running("v2")
    }

    /// The canary runs v2, one of two pods is ready.
    pub(super) fn canary_short(mut self) -> Self {
        self.target = Some(Workload {
            available: 1,
            endpoints: 1,
            ..ready("v2")
        });
        self.running("v2")
    }

    pub(super) fn canary_crashed(mut self) -> Self {
        self.target.as_mut().unwrap().crash = Some(crash());
        self
    }

    pub(super) fn canary_late(mut self) -> Self {
        self.target.as_mut().unwrap().deadline_exceeded = true;
        self
    }

    pub(super) fn weight(mut self, canary: u8) -> Self {
        self.traffic = Some(Traffic::to_canary(canary));
        self
    }

    pub(super) fn primary_dead(mut self) -> Self {
        let primary = self.primary.as_mut().unwrap();
        primary.available = 0;
        primary.endpoints = 0;
        self
    }

    /// One of the primary's two pods is ready.
    pub(super) fn primary_short(mut self) -> Self {
        let primary = self.primary.as_mut().unwrap();
        primary.available = 1;
        primary.endpoints = 1;
        self
    }

    pub(super) fn primary_crashed(mut self) -> Self {
        self = self.primary_short();
        self.primary.as_mut().unwrap().crash = Some(crash());
        self
    }

    pub(super) fn primary_late(mut self) -> Self {
        self = self.primary_short();
        self.primary.as_mut().unwrap().deadline_exceeded = true;
        self
    }

    pub(super) fn no_primary(mut self) -> Self {
        self.primary = None;
        self
    }

    /// The primary has the run's template.
    pub(super) fn copied(mut self) -> Self {
        self.primary_has_run = true;
        self.primary_has_previous = false;
        self
    }

    pub(super) fn unpinned(mut self) -> Self {
        self.pinned = false;
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn asks(mut self, verb: Verb, skip: bool) -> Self {
        self.request = Some(Request {
            id: "wish".to_owned(),
            verb,
            run: Some("run-2".to_owned()),
            skip,
            to: None,
            reason: Some("looks fine".to_owned()),
            by: Some("kim".to_owned()),
            at: None,
        });
        self
    }
}

fn crash() -> Crash {
    Crash {
        container: "srv".to_owned(),
        restarts: 3,
        reason: "Error (exit code 1)".to_owned(),
    }
}

fn run(n: u32, revision: &str) -> Run {
    Run {
        id: format!("run-{n}"),
        n,
        revision: revision.to_owned(),
        template: format!("pin-{revision}"),
        previous: None,
        started_at: at(0),
        stage_at: at(0),
        route_written_at: Some(at(0)),
        skip: None,
        reason: None,
        outcome: None,
        waiting: None,
        reset: false,
        rehearsal: false,
    }
}

/// Run 1 has promoted v1; nothing goes on.
pub(super) fn state() -> State {
    State {
        phase: Phase::Succeeded,
        stage: Stage::Idle,
        traffic: Traffic::PRIMARY,
        iteration: 0,
        cookies: Cookies::default(),
        failed_checks: 0,
        last_applied: Some("v1".to_owned()),
        last_promoted: Some("v1".to_owned()),
        run: Some(run(1, "v1")),
        next_check_at: None,
        handled_request: None,
        evidence: Evidence::default(),
        since: at(0),
    }
}

impl State {
    fn in_run(mut self, stage: Stage, phase: Phase, weight: u8) -> Self {
        self.stage = stage;
        self.phase = phase;
        self.traffic = Traffic::to_canary(weight);
        self.iteration = u32::from(weight > 0);
        self.last_applied = Some("v2".to_owned());
        self.run = Some(Run {
            previous: Some("pin-v1".to_owned()),
            ..run(2, "v2")
        });
        self
    }

    /// Run 2 of v2 is pinned; the canary has no traffic yet.
    pub(super) fn starting(self) -> Self {
        self.in_run(Stage::Starting, Phase::Progressing, 0)
    }

    /// The canary of run 2 has had `weight` since 40 s and no analysis at it; the next is due at 100 s.
    pub(super) fn analysing(self, weight: u8) -> Self {
        let mut state = self.in_run(Stage::Analysing, Phase::Progressing, weight);
        state.next_check_at = Some(at(100));
        state.run.as_mut().unwrap().route_written_at = None;
        state.evidence.steps = vec![StepResult {
            traffic: Traffic::to_canary(weight),
            at: at(40),
            verdict: None,
            checks: Vec::new(),
        }];
        state
    }

    /// The last analysis had this verdict.
    pub(super) fn judged(mut self, verdict: Verdict) -> Self {
        self.evidence.steps.last_mut().unwrap().verdict = Some(verdict);
        self
    }

    /// At the last step, the analysis passed, a person has to open the gate.
    pub(super) fn waiting(self) -> Self {
        let mut state = self.analysing(15).judged(Verdict::Pass);
        state.stage = Stage::Gated;
        state.phase = Phase::WaitingPromotion;
        state.run.as_mut().unwrap().waiting = Some(Waiting {
            what: WaitFor::Promotion,
            hook: None,
            queue: None,
            since: at(40),
        });
        state
    }

    fn after_copy(self, stage: Stage, phase: Phase, weight: u8) -> Self {
        let mut judged = self.analysing(weight).judged(Verdict::Pass);
        judged.stage = stage;
        judged.phase = phase;
        judged.next_check_at = None;
        judged
    }

    pub(super) fn copying(self, weight: u8) -> Self {
        self.after_copy(Stage::Copying, Phase::Promoting, weight)
    }

    /// The next share goes back at 100 s.
    pub(super) fn shifting(self, weight: u8) -> Self {
        let mut state = self.after_copy(Stage::Shifting, Phase::Promoting, weight);
        state.next_check_at = Some(at(100));
        state
    }

    pub(super) fn settling(self) -> Self {
        self.after_copy(Stage::Settling, Phase::Finalising, 0)
    }

    pub(super) fn restoring(self, weight: u8) -> Self {
        self.after_copy(Stage::Restoring, Phase::Promoting, weight)
    }

    pub(super) fn reverting(self) -> Self {
        self.after_copy(Stage::Reverting, Phase::Progressing, 0)
    }

    /// Run 2 has failed; all traffic is on the primary.
    pub(super) fn failed(self) -> Self {
        let mut state = self.after_copy(Stage::Idle, Phase::Failed, 0);
        state.run.as_mut().unwrap().route_written_at = Some(at(0));
        state
    }

    /// The route has given everything to the primary since then.
    pub(super) fn settled(mut self, seconds: i64) -> Self {
        self.run.as_mut().unwrap().route_written_at = Some(at(seconds));
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn failures(mut self, failed: u32) -> Self {
        self.failed_checks = failed;
        self
    }

    pub(super) fn skipped(mut self) -> Self {
        self.run.as_mut().unwrap().skip = Some(Skip {
            source: SkipSource::Spec,
            by: None,
        });
        self
    }
}

/// One analysis with this success rate for every check of [`plan`].
pub(super) fn answer(value: Reading) -> Answers {
    Answers {
        analysis: Some(Analysis {
            at: at(100),
            samples: vec![Sample {
                query: "rate".to_owned(),
                value,
            }],
            share: Some(5.0),
            requests: None,
            cause: String::new(),
        }),
        hooks: Vec::new(),
    }
}

pub(super) fn pass() -> Answers {
    answer(Reading::Value(100.0))
}

pub(super) fn fail() -> Answers {
    answer(Reading::Value(90.0))
}

/// The act that `step` decides; a question fails the test.
pub(super) fn act(plan: &Plan, state: &State, seen: &Seen, answers: &Answers) -> Act {
    match step(plan, state, seen, answers) {
        Step::Act(act) => act,
        Step::Ask(question) => panic!("asked {question:?}"),
    }
}

/// A decision as text: where it leads, the effects in order, what is told, when to step again. Moments are seconds after [`START`].
pub(super) fn text(step: &Step) -> String {
    let act = match step {
        Step::Ask(question) => return format!("ask {question:?}"),
        Step::Act(act) => act,
    };
    let effects: Vec<String> = act.effects.iter().map(|e| effect(*e)).collect();
    let told: Vec<String> = act
        .tell
        .iter()
        .map(|t| format!("{}{}", if t.warning { "! " } else { "" }, t.message))
        .collect();
    let wait = match act.wait {
        Wait::Again => "again".to_owned(),
        Wait::Until(moment) => format!("until {}", moment.0 / 1000 - START),
        Wait::Change => "change".to_owned(),
    };
    let next = &act.next;
    let iteration = match next.iteration {
        0 | 1 => String::new(),
        n => format!(" #{n}"),
    };
    let more = match (next.traffic.matches(), next.traffic.mirror()) {
        (true, _) => " matched".to_owned(),
        (false, 0) => String::new(),
        (false, mirror) => format!(" mirror {mirror}"),
    };
    format!(
        "{:?} {:?} {}%{more}{iteration} failed {} | {} | {} | {wait}",
        next.stage,
        next.phase,
        next.weight(),
        next.failed_checks,
        effects.join(", "),
        told.join("; ")
    )
}

fn effect(effect: Effect) -> String {
    if let Effect::Traffic(w) = effect {
        let mut text = format!("{}/{}", w.primary(), w.canary());
        if w.matches() {
            text += " matched";
        }
        if w.mirror() > 0 {
            text = format!("{text} mirror {}", w.mirror());
        }
        return text;
    }
    if let Effect::ScaleUp(None) = effect {
        return "ScaleUp".to_owned();
    }
    if let Effect::Primary(copied) = effect {
        return format!("{copied:?}");
    }
    format!("{effect:?}")
}
