use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decide::{
    effect::Traffic,
    facts::Bounds,
    plan::Outcome,
    state::{
        Apart, CheckResult, Cookies, Evidence, Phase, Queue, Skip, SkipSource, StepCheck,
        StepResult, Verdict, WaitFor, Waiting,
    },
};

const NOON: Moment = Moment(1_784_635_200_000);
const HASH: &str = "v1-44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fn extra(canary: &Value) -> Extra<'_> {
    Extra {
        canary,
        iterations: 0,
        now: NOON,
        kind: "Deployment",
        refusals: &[],
        missing_rights: None,
    }
}

fn progressing() -> State {
    State {
        phase: Phase::Progressing,
        stage: Stage::Analysing,
        traffic: Traffic::to_canary(10),
        iteration: 1,
        cookies: Cookies::default(),
        failed_checks: 1,
        last_applied: Some(HASH.into()),
        last_promoted: Some("v1-old".into()),
        run: Some(Run {
            id: "8f0e".into(),
            n: 3,
            revision: HASH.into(),
            template: "mcp-server-44136fa355".into(),
            previous: Some("mcp-server-0000000000".into()),
            started_at: NOON.plus(-120_250),
            stage_at: NOON.plus(-60_000),
            route_written_at: Some(NOON.plus(-1)),
            skip: None,
            reason: None,
            outcome: None,
            waiting: None,
            reset: false,
            rehearsal: false,
        }),
        next_check_at: Some(NOON.plus(60_000)),
        handled_request: Some("7c1e".into()),
        evidence: Evidence {
            checks: vec![CheckResult {
                name: "request-success-rate".into(),
                value: Some(99.9),
                bounds: Bounds {
                    min: Some(99.5),
                    max: None,
                },
                verdict: Verdict::Pass,
                query: "sum(x)".into(),
                at: NOON,
                error: None,
            }],
            steps: vec![
                StepResult {
                    traffic: Traffic::to_canary(5),
                    at: NOON.plus(-60_000),
                    verdict: Some(Verdict::NoData),
                    checks: vec![StepCheck {
                        name: "request-success-rate".into(),
                        value: None,
                        verdict: Verdict::NoData,
                    }],
                },
                StepResult {
                    traffic: Traffic::to_canary(10),
                    at: NOON,
                    verdict: None,
                    checks: vec![],
                },
            ],
            merged: 0,
            share: Some(9.75),
            share_at: Some(NOON),
            apart: None,
        },
        since: NOON,
    }
}

#[test]
fn a_state_is_recorded_as_flagger_and_we_name_things() {
    let canary = json!({"metadata": {"generation": 7}});
    assert_eq!(
        status(&progressing(), &extra(&canary)),
        json!({
            "phase": "Progressing",
            "canaryWeight": 10,
            "failedChecks": 1,
            "iterations": 0,
            "trackedConfigs": {},
            "lastAppliedSpec": HASH,
            "lastPromotedSpec": "v1-old",
            "lastTransitionTime": "2026-07-21T12:00:00Z",
            "conditions": [
                {"type": "Promoted", "status": "Unknown", "reason": "Progressing",
                 "message": "New revision detected, progressing canary analysis.",
                 "lastUpdateTime": "2026-07-21T12:00:00Z", "lastTransitionTime": "2026-07-21T12:00:00Z"},
                {"type": "Accepted", "status": "True", "reason": "Accepted",
                 "message": "The Canary is carried out as it is written.", "observedGeneration": 7,
                 "lastUpdateTime": "2026-07-21T12:00:00Z", "lastTransitionTime": "2026-07-21T12:00:00Z"}
            ],
            "run": {
                "id": "8f0e", "n": 3, "revision": HASH, "template": "mcp-server-44136fa355",
                "previous": "mcp-server-0000000000", "startedAt": "2026-07-21T11:57:59.75Z",
                "stage": "analysing", "stageAt": "2026-07-21T11:59:00Z", "routeWrittenAt": "2026-07-21T11:59:59.999Z"
            },
            "nextCheckAt": "2026-07-21T12:01:00Z",
            "handledRequest": "7c1e",
            "canaryAnalysis": {
                "checks": [{"name": "request-success-rate", "value": 99.9, "min": 99.5, "verdict": "pass",
                            "query": "sum(x)", "at": "2026-07-21T12:00:00Z"}],
                "steps": [
                    {"weight": 5, "at": "2026-07-21T11:59:00Z", "verdict": "noData",
                     "checks": [{"name": "request-success-rate", "verdict": "noData"}]},
                    {"weight": 10, "at": "2026-07-21T12:00:00Z"}
                ],
                "share": 9.75, "shareAt": "2026-07-21T12:00:00Z"
            }
        })
    );
}

#[test]
fn nothing_changed_is_nothing_to_write() {
    let mut canary = json!({"metadata": {"generation": 7}});
    canary["status"] = status(&progressing(), &extra(&canary));
    let later = Extra {
        now: NOON.plus(3_600_000),
        ..extra(&canary)
    };
    assert_eq!(status(&state(&canary, later.now), &later), canary["status"]);
}

#[test]
fn promoted_has_flaggers_texts() {
    for (phase, status_text, message) in [
        (
            Phase::Initializing,
            "Unknown",
            "New Deployment detected, starting initialization.",
        ),
        (
            Phase::Initialized,
            "True",
            "Deployment initialization completed.",
        ),
        (Phase::Waiting, "Unknown", "Waiting for approval."),
        (
            Phase::Progressing,
            "Unknown",
            "New revision detected, progressing canary analysis.",
        ),
        (Phase::WaitingPromotion, "Unknown", "Waiting for approval."),
        (
            Phase::Promoting,
            "Unknown",
            "Canary analysis completed, starting primary rolling update.",
        ),
        (
            Phase::Finalising,
            "Unknown",
            "Canary analysis completed, routing all traffic to primary.",
        ),
        (
            Phase::Succeeded,
            "True",
            "Canary analysis completed successfully, promotion finished.",
        ),
        (
            Phase::Failed,
            "False",
            "Canary analysis failed, Deployment scaled to zero.",
        ),
        (
            Phase::Terminating,
            "Unknown",
            "New Deployment detected, starting initialization.",
        ),
    ] {
        let canary = json!({});
        let got = status(
            &State {
                phase,
                ..State::new(NOON)
            },
            &extra(&canary),
        );
        assert_eq!(got["conditions"][0]["reason"], phase.name());
        assert_eq!(got["conditions"][0]["status"], status_text, "{phase:?}");
        assert_eq!(got["conditions"][0]["message"], message, "{phase:?}");
    }
}

/// Flagger's text comes back when the step goes on.
#[test]
fn a_held_step_is_told_by_the_condition() {
    let mut state = progressing();
    let message = |state: &State, canary: &Value| {
        let status = status(state, &extra(canary));
        (
            status["conditions"][0]["message"].clone(),
            json!({"status": status}),
        )
    };
    let (first, canary) = message(&state, &json!({}));
    let flagger = "New revision detected, progressing canary analysis.";
    assert_eq!(first, flagger);
    let apart = |intervals| {
        Some(Apart {
            intervals,
            since: NOON,
            cause: "Service ai/direct selects the canary's pods too".to_owned(),
        })
    };
    state.evidence.share = Some(36.66);
    state.evidence.apart = apart(1);
    let (once, canary) = message(&state, &canary);
    assert_eq!(once, flagger);
    state.evidence.apart = apart(2);
    let (held, canary) = message(&state, &canary);
    assert_eq!(
        held,
        "The step is held: 36.7% of the requests reach the canary, its weight is 10%: Service ai/direct selects the canary's pods too"
    );
    state.evidence.apart = None;
    let (on, _) = message(&state, &canary);
    assert_eq!(on, flagger);
}

#[test]
fn a_condition_moves_with_its_status_and_is_replaced_with_its_reason() {
    let condition = |reason: &str| {
        json!({"status": {"conditions": [
            {"type": "Promoted", "status": "Unknown", "reason": reason, "message": "old",
             "lastUpdateTime": "2026-07-21T09:00:00Z", "lastTransitionTime": "2026-07-21T08:00:00Z"},
            {"type": "Other", "status": "True"}
        ]}})
    };
    let state = State {
        phase: Phase::Progressing,
        ..State::new(NOON)
    };
    let same = status(&state, &extra(&condition("Progressing")));
    assert_eq!(same["conditions"][0]["message"], "old");
    let other = status(&state, &extra(&condition("Waiting")));
    assert_eq!(
        other["conditions"][0]["lastUpdateTime"],
        "2026-07-21T12:00:00Z"
    );
    assert_eq!(
        other["conditions"][0]["lastTransitionTime"],
        "2026-07-21T08:00:00Z"
    );
    assert_eq!(
        other["conditions"][2],
        json!({"type": "Other", "status": "True"})
    );
}

#[test]
fn a_refused_canary_keeps_its_status_but_for_accepted() {
    let mut canary =
        json!({"metadata": {"generation": 2}, "status": {"phase": "Succeeded", "canaryWeight": 0}});
    let refusals = [
        Refusal::new("spec.provider", "no", "yes"),
        Refusal::new("spec.x", "a\nb", "c"),
    ];
    assert!(!refusal_told(&canary));
    canary["status"] = refused(&Extra {
        refusals: &refusals,
        ..extra(&canary)
    });
    assert_eq!(
        canary["status"],
        json!({"phase": "Succeeded", "canaryWeight": 0, "conditions": [
            {"type": "Accepted", "status": "False", "reason": "Refused", "observedGeneration": 2,
             "message": "spec.provider: no; yes. spec.x: a b; c",
             "lastUpdateTime": "2026-07-21T12:00:00Z", "lastTransitionTime": "2026-07-21T12:00:00Z"}
        ]})
    );
    assert!(refusal_told(&canary));
    canary["metadata"]["generation"] = json!(3);
    assert!(!refusal_told(&canary));
}

#[test]
fn what_flagger_wrote_is_understood() {
    for (phase, weight, stage) in [
        ("Initializing", 0, Stage::Bootstrap),
        ("Initialized", 0, Stage::Idle),
        ("Waiting", 0, Stage::Idle),
        ("Progressing", 0, Stage::Starting),
        ("Progressing", 20, Stage::Analysing),
        ("WaitingPromotion", 50, Stage::Gated),
        ("Promoting", 50, Stage::Copying),
        ("Finalising", 0, Stage::Settling),
        ("Succeeded", 0, Stage::Idle),
        ("Failed", 100, Stage::Idle),
        ("Terminating", 0, Stage::Idle),
    ] {
        let canary = json!({"status": {
            "phase": phase, "canaryWeight": weight, "failedChecks": 2, "iterations": -1,
            "lastAppliedSpec": "5978589476", "lastPromotedSpec": "",
            "lastTransitionTime": "2026-07-21T10:00:00Z", "trackedConfigs": {"configmap/x": "0123"}
        }});
        let got = state(&canary, NOON);
        assert_eq!((got.phase.name(), got.stage), (phase, stage));
        assert_eq!((i64::from(got.weight()), got.failed_checks), (weight, 2));
        assert_eq!(got.last_applied.as_deref(), Some("5978589476"));
        assert_eq!((got.last_promoted, got.run), (None, None));
        assert_eq!(got.since, Moment(1_784_628_000_000));
    }
    for nobody in [
        json!({}),
        json!({"status": {}}),
        json!({"status": {"phase": "Dancing"}}),
    ] {
        assert_eq!(state(&nobody, NOON), State::new(NOON));
    }
}

#[test]
fn a_large_record_gives_up_its_oldest_values_and_then_its_oldest_steps() {
    let steps = |n: u8, checks: usize| Evidence {
        steps: (0..n)
            .map(|weight| StepResult {
                traffic: Traffic::to_canary(weight),
                at: NOON,
                verdict: Some(Verdict::Pass),
                checks: (0..checks)
                    .map(|i| StepCheck {
                        name: format!("check-{i}"),
                        value: Some(1.0),
                        verdict: Verdict::Pass,
                    })
                    .collect(),
            })
            .collect(),
        ..Evidence::default()
    };
    for (n, checks, merged_some, last_has) in [
        (30, 4, false, 4),
        (100, 10, false, 10),
        (100, 250, true, 250),
    ] {
        let written = evidence::write(&steps(n, checks)).unwrap();
        let read = evidence::read(&json!({"canaryAnalysis": written}));
        assert!(written.to_string().len() <= 16 * 1024);
        assert_eq!(read.merged > 0, merged_some, "{n} {checks}");
        assert_eq!(read.merged as usize + read.steps.len(), usize::from(n));
        let last = read.steps.last().unwrap();
        assert_eq!(
            (last.traffic.canary(), last.checks.len()),
            (n - 1, last_has)
        );
    }
    let small = steps(30, 4);
    let kept = evidence::read(&json!({"canaryAnalysis": evidence::write(&small).unwrap()}));
    assert_eq!(kept, small);
}

fn moments() -> impl Strategy<Value = Moment> {
    (0_i64..4_000_000_000_000).prop_map(Moment)
}

fn names() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,12}"
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Pass),
        Just(Verdict::Fail),
        Just(Verdict::NoData)
    ]
}

fn values() -> impl Strategy<Value = Option<f64>> {
    proptest::option::of(-1e12..1e12)
}

prop_compose! {
    fn checks()(name in names(), value in values(), min in values(), max in values(), verdict in verdicts(),
                query in "\\PC{0,40}", at in moments(), error in proptest::option::of("\\PC{0,20}")) -> CheckResult {
        CheckResult { name, value, bounds: Bounds { min, max }, verdict, query, at, error }
    }
}

prop_compose! {
    fn steps()((weight, matched, mirror) in (0_u8..=100, any::<bool>(), 0_u8..=100), at in moments(), verdict in proptest::option::of(verdicts()),
               checks in proptest::collection::vec((names(), values(), verdicts()), 0..3)) -> StepResult {
        let checks = checks.into_iter().map(|(name, value, verdict)| StepCheck { name, value, verdict }).collect();
        StepResult { traffic: Traffic::stored(weight, matched, mirror), at, verdict, checks }
    }
}

prop_compose! {
    fn evidences()(checks in proptest::collection::vec(checks(), 0..3), steps in proptest::collection::vec(steps(), 0..5),
                   merged in 0_u32..9, share in values(), share_at in proptest::option::of(moments()),
                   parted in proptest::option::of((1_u32..9, moments(), "[a-z]{0,20}"))) -> Evidence {
        let apart = parted.map(|(intervals, since, cause)| Apart { intervals, since, cause });
        Evidence { checks, steps, merged, share, share_at, apart }
    }
}

fn skips() -> impl Strategy<Value = Skip> {
    let source = prop_oneof![
        Just(SkipSource::Initial),
        Just(SkipSource::Adopted),
        Just(SkipSource::Spec),
        Just(SkipSource::Annotation),
        Just(SkipSource::Person)
    ];
    (source, proptest::option::of(names())).prop_map(|(source, by)| Skip { source, by })
}

fn stages() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Bootstrap),
        Just(Stage::Idle),
        Just(Stage::Starting),
        Just(Stage::Analysing),
        Just(Stage::Gated),
        Just(Stage::Copying),
        Just(Stage::Shifting),
        Just(Stage::Settling),
        Just(Stage::Reverting),
        Just(Stage::Restoring)
    ]
}

fn outcomes() -> impl Strategy<Value = Option<Outcome>> {
    proptest::option::of(proptest::sample::select(
        Outcome::ALL.map(|(_, outcome)| outcome).to_vec(),
    ))
}

prop_compose! {
    fn queues()(place in 1_u32..99, running in 0_u32..99, limit in names()) -> Queue {
        Queue { place, running, limit }
    }
}

prop_compose! {
    fn waits()(what in proptest::sample::select(vec![WaitFor::Rollout, WaitFor::Traffic, WaitFor::Promotion, WaitFor::Queue]),
               hook in proptest::option::of(names()), queue in proptest::option::of(queues()), since in moments()) -> Waiting {
        Waiting { what, hook, queue, since }
    }
}

prop_compose! {
    fn cookies()(canary in proptest::option::of(names()), primary in proptest::option::of(names()),
                 previous in proptest::option::of(names())) -> Cookies {
        Cookies { canary, primary, previous }
    }
}

prop_compose! {
    fn runs()(id in names(), n in 0_u32..99, revision in names(), template in names(), previous in proptest::option::of(names()),
              started_at in moments(), stage_at in moments(), route_written_at in proptest::option::of(moments()),
              skip in proptest::option::of(skips()), reason in proptest::option::of("\\PC{1,30}"),
              (outcome, waiting) in (outcomes(), proptest::option::of(waits())), (reset, rehearsal) in any::<(bool, bool)>()) -> Run {
        Run { id, n, revision, template, previous, started_at, stage_at, route_written_at, skip, reason, outcome, waiting, reset, rehearsal }
    }
}

prop_compose! {
    fn states()(phase in proptest::sample::select(&Phase::ALL[..]), stage in stages(), (weight, matched, mirror) in (0_u8..=100, any::<bool>(), 0_u8..=100),
                iteration in 2_u32..9, cookies in cookies(),
                failed_checks in 0_u32..99, last_applied in proptest::option::of(names()),
                last_promoted in proptest::option::of(names()), run in runs(),
                next_check_at in proptest::option::of(moments()), handled_request in proptest::option::of(names()),
                evidence in evidences(), since in moments()) -> State {
        let traffic = Traffic::stored(weight, matched, mirror);
        State { phase, stage, traffic, iteration, cookies, failed_checks, last_applied, last_promoted, run: Some(run), next_check_at,
                handled_request, evidence, since }
    }
}

proptest! {
    #[test]
    fn what_is_recorded_is_read_back(written in states()) {
        let canary = json!({"status": status(&written, &extra(&json!({})))});
        prop_assert_eq!(state(&canary, Moment(1)), written);
    }
}
