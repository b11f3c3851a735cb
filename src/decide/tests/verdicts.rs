//! Samples against bounds, and the sentences of Flagger.

use super::fixtures::{check, plan};
use crate::decide::{
    facts::{Analysis, Bounds, Moment, Reading, Sample},
    plan::{Plan, Source},
    state::{CheckResult, Phase, Stage, Verdict},
    strategy,
    verdict::{halt, judge, overall, step_checks, verdict},
};

#[test]
fn bounds_are_inclusive() {
    let (none, pass, fail) = (None, Verdict::Pass, Verdict::Fail);
    let rows = [
        (Some(99.5), none, 99.5, pass),
        (Some(99.5), none, 99.49, fail),
        (Some(99.5), none, f64::INFINITY, pass),
        (none, Some(2000.0), 2000.0, pass),
        (none, Some(2000.0), 2000.01, fail),
        (none, Some(2000.0), -1.0, pass),
        (none, Some(2000.0), f64::INFINITY, fail),
        (Some(1.0), Some(2.0), 1.5, pass),
        (Some(1.0), Some(2.0), 0.5, fail),
        (Some(1.0), Some(2.0), 2.5, fail),
        (none, none, 0.0, pass),
        (none, none, f64::NAN, Verdict::NoData),
        (Some(0.0), none, f64::NAN, Verdict::NoData),
    ];
    for (min, max, value, want) in rows {
        let got = verdict(Bounds { min, max }, &Reading::Value(value));
        assert_eq!(got, want, "{value} in {min:?}..={max:?}");
    }
    let open = Bounds::default();
    assert_eq!(verdict(open, &Reading::NoData), Verdict::NoData);
    assert_eq!(
        verdict(open, &Reading::Error("refused".to_owned())),
        Verdict::NoData
    );
}

fn four_checks() -> Plan {
    let template = Source::Template {
        namespace: "flagger-system".to_owned(),
        name: "latency".to_owned(),
    };
    let mut plan = plan();
    plan.checks = vec![
        check(
            "request-success-rate",
            Some(99.5),
            None,
            Source::SuccessRate,
        ),
        check("request-duration", None, Some(500.0), Source::Duration),
        check("latency", None, Some(2000.0), template),
        check(
            "queue",
            Some(1.0),
            Some(9.0),
            Source::Query("sum(queue)".to_owned()),
        ),
    ];
    plan
}

fn judged(readings: Vec<Reading>) -> Vec<CheckResult> {
    let samples = readings.into_iter().map(|value| Sample {
        query: "q".to_owned(),
        value,
    });
    let analysis = Analysis {
        at: Moment(7000),
        samples: samples.collect(),
        share: None,
        requests: None,
        cause: String::new(),
    };
    judge(&four_checks(), &analysis)
}

#[test]
fn every_check_is_judged_even_after_one_failed() {
    let results = judged(vec![
        Reading::Value(90.0),
        Reading::Value(f64::NAN),
        Reading::Error("connection refused".to_owned()),
    ]);
    let row = |r: &CheckResult| (r.name.clone(), r.value, r.verdict, r.error.clone());
    let none = Some("no values found".to_owned());
    let refused = Some("connection refused".to_owned());
    assert_eq!(
        results.iter().map(row).collect::<Vec<_>>(),
        [
            (
                "request-success-rate".to_owned(),
                Some(90.0),
                Verdict::Fail,
                None
            ),
            (
                "request-duration".to_owned(),
                None,
                Verdict::NoData,
                none.clone()
            ),
            ("latency".to_owned(), None, Verdict::NoData, refused),
            ("queue".to_owned(), None, Verdict::NoData, none),
        ],
        "a sample that is missing is no data"
    );
    assert!(results.iter().all(|r| r.at == Moment(7000)));
    assert_eq!(results[0].query, "q");
    assert_eq!(results[3].query, "");
    let kept = step_checks(&results);
    assert_eq!(
        (kept[0].name.as_str(), kept[0].value),
        ("request-success-rate", Some(90.0))
    );
}

#[test]
fn an_analysis_passes_when_every_check_does() {
    let good = || [99.9, 100.0, 100.0, 5.0].map(Reading::Value).to_vec();
    let with = |at: usize, reading: Reading| {
        let mut readings = good();
        readings[at] = reading;
        overall(&judged(readings))
    };
    assert_eq!(overall(&judged(good())), Verdict::Pass);
    assert_eq!(with(3, Reading::Value(10.0)), Verdict::Fail);
    assert_eq!(with(0, Reading::NoData), Verdict::NoData);
    assert_eq!(
        overall(&judged(vec![Reading::NoData, Reading::Value(900.0)])),
        Verdict::Fail
    );
    assert_eq!(
        overall(&[]),
        Verdict::Pass,
        "without a check there is nothing to fail"
    );
}

#[test]
fn a_halt_says_value_and_bound() {
    let told = |readings: [Reading; 4]| -> Vec<Option<String>> {
        let results = judged(readings.to_vec());
        results.iter().map(|r| halt(&four_checks(), r)).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        told([99.9, 100.0, 100.0, 5.0].map(Reading::Value)),
        [None, None, None, None]
    );
    assert_eq!(
        told([90.0, 700.4, 3000.0, 0.5].map(Reading::Value)),
        [
            some("Halt mcp.ai advancement success rate 90.00% < 99.5%"),
            some("Halt mcp.ai advancement request duration 700ms > 500ms"),
            some("Halt mcp.ai advancement latency 3000.00 > 2000"),
            some("Halt mcp.ai advancement queue 0.50 < 1"),
        ]
    );
    assert_eq!(
        told([
            Reading::NoData,
            Reading::Error("connection refused".to_owned()),
            Reading::Value(f64::NAN),
            Reading::Value(10.0),
        ]),
        [
            some(
                "Halt advancement no values found for istio metric request-success-rate probably srv.ai is not receiving traffic"
            ),
            some("Prometheus query failed: connection refused"),
            some("Halt advancement no values found for custom metric: latency"),
            some("Halt mcp.ai advancement queue 10.00 > 9"),
        ]
    );
}

#[test]
fn durations_are_printed_as_go_prints_them() {
    let told = |value: f64| {
        halt(
            &four_checks(),
            &judged(vec![Reading::Value(100.0), Reading::Value(value)])[1],
        )
    };
    let rows = [
        (501.9, "501ms"),
        (1000.0, "1s"),
        (1500.0, "1.5s"),
        (2050.0, "2.05s"),
        (60_000.0, "1m0s"),
        (123_000.0, "2m3s"),
        (3_723_004.0, "1h2m3.004s"),
    ];
    for (value, want) in rows {
        let want = format!("Halt mcp.ai advancement request duration {want} > 500ms");
        assert_eq!(told(value), Some(want));
    }
}

#[test]
fn a_failed_template_is_named() {
    let results = judged(vec![
        Reading::Value(100.0),
        Reading::Value(100.0),
        Reading::Error("connection refused".to_owned()),
        Reading::NoData,
    ]);
    let told: Vec<Option<String>> = results.iter().map(|r| halt(&four_checks(), r)).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        told,
        [
            None,
            None,
            some("Metric query failed for latency: connection refused"),
            some("Halt advancement no values found for metric: queue"),
        ]
    );
}

#[test]
fn weights_go_up_by_the_steps_and_back_by_the_promotion_step() {
    let plan = plan().returning_by(10);
    let at = |weight: u8| super::fixtures::state().analysing(weight);
    let next = |w: u8| strategy::next(&plan, &at(w)).map(|n| (n.traffic.canary(), n.iteration));
    assert_eq!(
        [0, 3, 5, 7, 10, 14].map(next),
        [5, 5, 10, 10, 15, 15].map(|w| Some((w, 1)))
    );
    assert_eq!([15, 16, 100].map(next), [None; 3]);
    assert_eq!(
        [15, 10, 5, 0].map(|w| strategy::back(&plan, w)),
        [5, 0, 0, 0]
    );
    assert_eq!(
        strategy::back(&super::fixtures::plan(), 15),
        0,
        "all at once"
    );
    assert_eq!(
        [0, 4, 5, 9, 10, 15, 90].map(|w| strategy::number(&plan, &at(w))),
        [0, 0, 1, 1, 2, 3, 3]
    );
}

#[test]
fn no_phase_and_no_stage_is_left_out() {
    // A new variant does not compile here until it is counted, and then has to be in `ALL`.
    let phase = |p: Phase| match p {
        Phase::Initializing => 0,
        Phase::Initialized => 1,
        Phase::Waiting => 2,
        Phase::Progressing => 3,
        Phase::WaitingPromotion => 4,
        Phase::Promoting => 5,
        Phase::Finalising => 6,
        Phase::Succeeded => 7,
        Phase::Failed => 8,
        Phase::Terminating => 9,
        Phase::Terminated => 10,
    };
    let stage = |s: Stage| match s {
        Stage::Bootstrap => 0,
        Stage::Idle => 1,
        Stage::Waiting => 2,
        Stage::Starting => 3,
        Stage::Analysing => 4,
        Stage::Gated => 5,
        Stage::Copying => 6,
        Stage::Shifting => 7,
        Stage::Settling => 8,
        Stage::Reverting => 9,
        Stage::Restoring => 10,
    };
    assert_eq!(Phase::ALL.map(phase), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(Stage::ALL.map(stage), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_phase_is_written_by_its_name() {
    for phase in Phase::ALL {
        let written = serde_json::to_value(phase).unwrap();
        assert_eq!(written, phase.name());
        assert_eq!(serde_json::from_value::<Phase>(written).unwrap(), phase);
    }
}

#[test]
fn every_stage_may_rest_and_every_stage_leads_to_idle() {
    for stage in Stage::ALL {
        assert!(stage.may_become().contains(&stage), "{stage:?} may rest");
        let mut reached = vec![stage];
        let mut i = 0;
        while let Some(from) = reached.get(i) {
            for to in from.may_become() {
                if !reached.contains(to) {
                    reached.push(*to);
                }
            }
            i += 1;
        }
        assert!(reached.contains(&Stage::Idle), "{stage:?} leads to idle");
    }
}
