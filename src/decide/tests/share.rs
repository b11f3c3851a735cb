//! When the observed share is not the written weight, and what follows.

use super::fixtures::{answer, at, fail, hook, pass, plan, seen, state, text};
use crate::decide::{
    effect::Traffic,
    facts::{Answers, Reading},
    plan::{HookKind, Plan},
    share::{apart, before, told},
    state::{Apart, State, Verdict},
    step,
};

#[test]
fn far_off_accounts_for_the_step_and_for_the_sample() {
    for (what, written, before, share, requests, expected) in [
        (
            "nothing arrives at the first step",
            5,
            0,
            0.0,
            1_200.0,
            true,
        ),
        ("and a quarter is on the way", 5, 0, 1.25, 1_200.0, false),
        ("two points are nothing", 5, 5, 7.0, 100_000.0, false),
        ("a second Service doubles it", 5, 5, 10.0, 1_200.0, true),
        ("few requests say nothing", 5, 5, 40.0, 99.0, false),
        ("a hundred say something", 5, 5, 40.0, 100.0, true),
        (
            "four deviations of 300 requests at 5% are 5.03 points",
            5,
            0,
            0.0,
            300.0,
            false,
        ),
        ("and of 310 they are 4.95", 5, 0, 0.0, 310.0, true),
        (
            "half of the way of a big step may be late",
            50,
            0,
            32.0,
            1_200.0,
            false,
        ),
        ("but not all of it", 50, 0, 20.0, 1_200.0, true),
        (
            "once it has been there for an interval",
            50,
            50,
            32.0,
            1_200.0,
            true,
        ),
        ("all of the traffic", 100, 100, 99.0, 1_200.0, false),
        ("less than all of it", 100, 100, 97.0, 1_200.0, true),
        ("no requests at all", 5, 0, 0.0, 0.0, false),
    ] {
        assert_eq!(apart(written, before, share, requests), expected, "{what}");
    }
}

#[test]
fn the_weight_before_counts_until_the_step_is_analysed() {
    let first = state().analysing(5);
    assert_eq!(before(&state().evidence), 0);
    assert_eq!(before(&first.evidence), 0);
    assert_eq!(before(&first.judged(Verdict::Pass).evidence), 5);
}

/// An analysis that found this share in 1,200 requests.
fn with_share(answers: Answers, share: f64) -> Answers {
    let mut answers = answers;
    let analysis = answers.analysis.as_mut().unwrap();
    analysis.share = Some(share);
    analysis.requests = Some(1_200.0);
    analysis.cause = "Service ai/direct selects the canary's pods too".to_owned();
    answers
}

/// At 5% for an interval at least, the share has parted `intervals` times since `since`.
fn parted(intervals: u32, since: i64) -> State {
    let mut state = state().analysing(5).judged(Verdict::Pass);
    state.evidence.apart = Some(Apart {
        intervals,
        since: at(since),
        cause: "Service ai/direct selects the canary's pods too".to_owned(),
    });
    state
}

#[test]
fn a_share_far_off_for_two_intervals_holds_the_step() {
    let once = state().analysing(5).judged(Verdict::Pass);
    let held = "Halt mcp.ai advancement observed share 40.0% of the requests, written weight 5%: Service ai/direct selects the canary's pods too";
    for (what, state, answers, want) in [
        (
            "once is not enough",
            once.clone(),
            with_share(pass(), 40.0),
            "Analysing Progressing 10% failed 0 | 90/10 | Advance mcp.ai canary weight 10 | until 160".to_owned(),
        ),
        (
            "twice is, and it is no failed check",
            parted(1, 40),
            with_share(pass(), 40.0),
            format!("Analysing Progressing 5% failed 0 |  | ! {held} | until 160"),
        ),
        (
            "it is told once",
            parted(2, 40),
            with_share(pass(), 40.0),
            "Analysing Progressing 5% failed 0 |  |  | until 160".to_owned(),
        ),
        (
            "no data is what follows from no requests",
            parted(1, 40),
            with_share(answer(Reading::NoData), 40.0),
            format!(
                "Analysing Progressing 5% failed 0 |  | ! Halt advancement no values found for istio metric request-success-rate probably srv.ai is not receiving traffic; ! {held} | until 160"
            ),
        ),
        (
            "a failed check is one all the same",
            parted(2, 40),
            with_share(fail(), 40.0),
            "Analysing Progressing 5% failed 1 |  | ! Halt mcp.ai advancement success rate 90.00% < 99.5% | until 160".to_owned(),
        ),
        (
            "the share agrees: on it goes",
            parted(7, 40),
            with_share(pass(), 6.0),
            "Analysing Progressing 10% failed 0 | 90/10 | Advance mcp.ai canary weight 10 | until 160".to_owned(),
        ),
        (
            "nothing is known of the share: nothing is held",
            parted(7, 40),
            pass(),
            "Analysing Progressing 10% failed 0 | 90/10 | Advance mcp.ai canary weight 10 | until 160".to_owned(),
        ),
        (
            "at the progress deadline the run ends",
            parted(9, -500),
            with_share(pass(), 40.0),
            "Reverting Progressing 0% failed 0 | 100/0 | ! Rolling back mcp.ai observed share 40.0% of the requests, written weight 5% for 600 s: Service ai/direct selects the canary's pods too | again".to_owned(),
        ),
    ] {
        let seen = seen().canary_ready().weight(5);
        assert_eq!(text(&step(&plan(), &state, &seen, &answers)), want, "{what}");
    }
    let seen = seen().canary_ready().weight(5);
    let crate::decide::Step::Act(act) = step(&plan(), &once, &seen, &with_share(pass(), 40.0))
    else {
        panic!("asked");
    };
    let apart = act.next.evidence.apart.unwrap();
    assert_eq!((apart.intervals, apart.since), (1, at(100)));
}

/// Twenty requests a second of a load test at the canary beside twenty of users would be a share of half at a weight of 5.
#[test]
fn a_load_test_at_the_canary_makes_the_share_say_nothing() {
    let state = State {
        traffic: Traffic::to_canary(5),
        ..state()
    };
    let with = |cmd: &str| {
        let mut load = hook("load", HookKind::Rollout);
        load.metadata.push(("cmd".to_owned(), cmd.to_owned()));
        Plan {
            hooks: vec![load],
            ..plan()
        }
    };
    let service = plan().service.name;
    assert!(told(&plan(), &state));
    assert!(told(&with(&format!("hey http://{service}.test/")), &state));
    assert!(!told(
        &with(&format!("hey http://{service}-canary.test/")),
        &state
    ));
}
