//! `dry_run` of `start_canary`, and the timelines that it and a run agree with.

use canary_mcp::{
    api::{
        objects::{CANARY, DEPLOYMENT, ObjectExt, SCALED_OBJECT},
        preview::{PlannedReplicas, Preview},
    },
    decide::{
        facts::Verb,
        state::{Phase, Verdict},
    },
    engine::control::{Outcome, Planned, Start},
};

use crate::support::{Rig, image};

async fn dry_run(rig: &Rig, tag: &str) -> Planned {
    let start = Start {
        key: Rig::key(),
        image: Some(image(tag)),
        container: None,
        retry: false,
        expect_revision: None,
        by: Some("test".to_owned()),
    };
    // What the engine has just done has been told.
    rig.pass(5).await;
    let before = rig.writes();
    let planned = rig.control.preview(&start).await.unwrap();
    assert_eq!(rig.writes(), before, "{planned:?}");
    planned
}

/// A dry run that would be done.
async fn planned(rig: &Rig, tag: &str) -> Preview {
    let Planned { acted, preview } = dry_run(rig, tag).await;
    assert_eq!(acted.outcome, Outcome::Planned, "{}", acted.reason);
    preview.unwrap()
}

fn course(preview: &Preview) -> Vec<(i64, &'static str, u8)> {
    let steps = preview.steps.iter();
    steps
        .map(|s| (s.after_seconds, s.phase.name(), s.weight))
        .collect()
}

fn changes(preview: &Preview) -> Vec<String> {
    let all = preview.changes.iter();
    all.map(|c| format!("{} {} {}: {}", c.action, c.kind, c.object, c.what))
        .collect()
}

/// Follows the run: each change of phase or weight with the seconds since now.
async fn timeline(rig: &Rig, end: Phase) -> Vec<(i64, String, i64)> {
    let began = rig.now();
    let mut all: Vec<(i64, String, i64)> = Vec::new();
    let mut opened = false;
    loop {
        let last = all
            .last()
            .map(|(_, phase, weight)| (phase.clone(), *weight));
        let shown = |c: &serde_json::Value| {
            (
                c.str_at("/status/phase").unwrap_or_default().to_owned(),
                c.int_at("/status/canaryWeight").unwrap_or(0),
            )
        };
        rig.until(|c| Some(shown(c)) != last).await;
        let (phase, weight) = shown(&rig.canary());
        let at = rig.now().since(began) / 1000;
        all.push((at, phase.clone(), weight));
        if phase == end.name() {
            return all;
        }
        if phase == Phase::WaitingPromotion.name() && !opened {
            opened = true;
            // A person takes two minutes.
            rig.pass(120).await;
            rig.wish(Verb::Promote, false).await;
        }
    }
}

/// Each row of `written` (minute, weight) was reached within `tolerance` seconds of its minute.
fn assert_near(run: &[(i64, String, i64)], written: &[(i64, i64)], tolerance: i64) {
    for (minute, weight) in written {
        let found = run.iter().find(|(_, _, w)| w == weight);
        let (at, _, _) = found.unwrap_or_else(|| panic!("never {weight}%: {run:?}"));
        assert!(
            (at - minute * 60).abs() <= tolerance,
            "{weight}% at {at} s, not near minute {minute}: {run:?}"
        );
    }
}

fn phase_at(run: &[(i64, String, i64)], phase: Phase) -> i64 {
    let found = run.iter().find(|(_, p, _)| p == phase.name());
    found
        .unwrap_or_else(|| panic!("never {phase:?}: {run:?}"))
        .0
}

/// stepWeight 5, maxWeight 50, on pods that take half a minute to count as available.
async fn fifty_percent(interval: &str, gated: bool) -> Rig {
    let mut rig = Rig::without_engine(true);
    rig.edit_spec(|spec| {
        spec["analysis"]["interval"] = interval.into();
        spec["analysis"]["maxWeight"] = 50.into();
    });
    rig.edit(&DEPLOYMENT, "mcp-server", |d| {
        d["spec"]["minReadySeconds"] = 30.into();
    });
    if gated {
        rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/gate", "promotion");
    }
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.pass(120).await;
    rig
}

/// A common example: stepWeight 5, maxWeight 50, interval 1m, "total time ~12 minutes": 5% from minute 1, 10% from minute 2, ... 50% from
/// minute 10, promotion from minute 11, done in minute 12. Both the dry run and the run agree with it to within an interval.
#[tokio::test(start_paused = true)]
async fn the_twelve_minute_canary_takes_twelve_minutes() {
    let rig = fifty_percent("1m", false).await;
    let written = [
        (1, 5),
        (2, 10),
        (3, 15),
        (4, 20),
        (5, 25),
        (6, 30),
        (7, 35),
        (8, 40),
        (9, 45),
        (10, 50),
    ];
    let preview = planned(&rig, "1.1.0").await;
    assert_eq!(
        course(&preview),
        [
            (0, "Progressing", 0),
            (40, "Progressing", 5),
            (100, "Progressing", 10),
            (160, "Progressing", 15),
            (220, "Progressing", 20),
            (280, "Progressing", 25),
            (340, "Progressing", 30),
            (400, "Progressing", 35),
            (460, "Progressing", 40),
            (520, "Progressing", 45),
            (580, "Progressing", 50),
            (640, "Promoting", 50),
            (680, "Finalising", 0),
            (690, "Succeeded", 0),
        ]
    );
    rig.start("1.1.0").await;
    let run = timeline(&rig, Phase::Succeeded).await;
    assert_near(&run, &written, 60);
    assert!((phase_at(&run, Phase::Promoting) - 11 * 60).abs() <= 60);
    assert!((phase_at(&run, Phase::Succeeded) - 12 * 60).abs() <= 60);
    for step in &preview.steps {
        let weight = i64::from(step.weight);
        let same = |(_, phase, w): &&(i64, String, i64)| phase == step.phase.name() && *w == weight;
        let (at, _, _) = run.iter().find(same).unwrap();
        let off = (at - step.after_seconds).abs();
        assert!(off <= 60, "{step:?}: the run was there at {at} s");
    }
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// A payment service: interval 2m, a manual gate: 5% at minute 2, 10% at 4, 15% at 6, ... 50% at 20, the gate at 22, promotion at 24.
#[tokio::test(start_paused = true)]
async fn the_payment_service_waits_at_its_gate_and_is_promoted_after_24_minutes() {
    let rig = fifty_percent("2m", true).await;
    let preview = planned(&rig, "1.1.0").await;
    let gate: Vec<i64> = preview
        .steps
        .iter()
        .filter(|s| s.phase == Phase::WaitingPromotion)
        .map(|s| s.after_seconds)
        .collect();
    assert_eq!(gate, [40 + 10 * 120]);
    rig.start("1.1.0").await;
    let run = timeline(&rig, Phase::Succeeded).await;
    assert_near(&run, &[(2, 5), (4, 10), (6, 15), (20, 50)], 120);
    assert!((phase_at(&run, Phase::WaitingPromotion) - 22 * 60).abs() <= 120);
    assert!((phase_at(&run, Phase::Promoting) - 24 * 60).abs() <= 120);
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_what_a_start_would_do() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(180).await;
    let before = rig.canary();
    let preview = planned(&rig, "1.1.0").await;
    assert_eq!(
        course(&preview),
        [
            (0, "Progressing", 0),
            (10, "Progressing", 5),
            (70, "Progressing", 10),
            (130, "Progressing", 15),
            (190, "Progressing", 20),
            (250, "Progressing", 25),
            (310, "Progressing", 30),
            (370, "Promoting", 30),
            (380, "Finalising", 0),
            (390, "Succeeded", 0),
        ]
    );
    let pin = changes(&preview)[2].clone();
    assert!(
        pin.starts_with("create ControllerRevision ai-platform/mcp-server-"),
        "{pin}"
    );
    let mut rest = changes(&preview);
    rest.remove(2);
    assert_eq!(
        rest,
        [
            "patch Deployment ai-platform/mcp-server: image registry.example/mcp-server:1.0.0 to registry.example/mcp-server:1.1.0",
            "patch Canary ai-platform/mcp-server: its status at each step; every object of the run gets the annotation canary-mcp.dev/epoch of who leads",
            "patch ScaledObject ai-platform/mcp-server: annotation autoscaling.keda.sh/paused-replicas taken off, at the end set to 0",
            "scale Deployment ai-platform/mcp-server: 0 to 1 replicas, at the end back to 0",
            "patch VirtualService ai-platform/mcp-server: the canary's weight: 5, 10, 15, 20, 25, 30, 0",
            "patch Deployment ai-platform/mcp-server-primary: the canary's template: image registry.example/mcp-server:1.0.0 to registry.example/mcp-server:1.1.0",
        ]
    );
    let [rate, latency] = preview.checks.as_slice() else {
        panic!("{:?}", preview.checks);
    };
    assert_eq!(
        (rate.name.as_str(), rate.value, rate.min, rate.verdict),
        (
            "request-success-rate",
            Some(100.0),
            Some(99.5),
            Some(Verdict::Pass)
        )
    );
    assert_eq!(
        rate.query.as_deref(),
        Some(
            r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server-primary",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server-primary"}[1m])) * 100"#
        )
    );
    assert_eq!(
        latency.query.as_deref(),
        Some(
            r#"histogram_quantile(0.99, sum by (le) ( rate(mcp_request_duration_seconds_bucket{ namespace="ai-platform", pod=~"mcp-server-primary-[0-9a-z]+-[0-9a-z]+" }[1m]) ) ) * 1000"#
        )
    );
    assert_eq!(latency.verdict, Some(Verdict::Pass));
    assert!((120.0..=250.0).contains(&latency.value.unwrap()));
    assert_eq!(
        preview.replicas,
        PlannedReplicas {
            canary: 1,
            canary_max: Some(20),
            peak_extra: 2
        }
    );
    assert_eq!(preview.warnings, Vec::<String>::new());
    assert_eq!(rig.canary(), before);
}

/// What would be refused is refused, with the plan beside it where there is one.
#[tokio::test(start_paused = true)]
async fn a_dry_run_is_refused_as_a_start_is() {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.pass(10).await;
    let live = dry_run(&rig, "1.0.0").await;
    assert_eq!(
        (live.acted.outcome, live.preview),
        (Outcome::Already, None),
        "{}",
        live.acted.reason
    );
    rig.edit(&SCALED_OBJECT, "mcp-server", |s| {
        s["spec"]["minReplicaCount"] = 0.into();
    });
    let refused = dry_run(&rig, "1.1.0").await;
    let started = rig.start("1.1.0").await;
    assert_eq!(refused.acted.outcome, Outcome::Refused);
    assert_eq!(refused.acted.reason, started.reason);
    assert_eq!(refused.preview, None);
    rig.edit(&SCALED_OBJECT, "mcp-server", |s| {
        s["spec"]["minReplicaCount"] = 1.into();
    });
    // A reader alone, and nobody leads: the answer of a start, and the plan all the same.
    rig.only_read();
    rig.pass(60).await;
    let reader = dry_run(&rig, "1.1.0").await;
    assert_eq!(reader.acted.outcome, Outcome::Refused);
    assert!(
        reader.acted.reason.contains("nobody leads cluster prod-kr"),
        "{}",
        reader.acted.reason
    );
    assert_eq!(reader.preview.unwrap().steps.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_it_would_interrupt() {
    let rig = Rig::initialized(|_| {}).await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    let preview = planned(&rig, "1.2.0").await;
    let [first, ..] = preview.warnings.as_slice() else {
        panic!("no warning");
    };
    assert!(
        first.starts_with("a run is going on (revision v1-")
            && first.ends_with(
                ", phase Progressing, 15% of the traffic, begun 2 min ago; live is registry.example/mcp-server:1.0.0): \
                 its traffic goes back to the primary, and the analysis begins anew with the new image"
            ),
        "{first}"
    );
    assert_eq!(course(&preview)[0], (0, "Progressing", 0));
    assert_eq!(rig.weights(), (85, 15));
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_warns_of_what_a_start_would_not_say() {
    let rig = Rig::initialized(|spec| {
        let analysis = spec["analysis"].as_object_mut().unwrap();
        analysis.remove("threshold");
        analysis["metrics"] = serde_json::json!([
            {"name": "errors", "interval": "1m", "thresholdRange": {"max": 1},
             "query": "sum(rate(istio_requests_total{destination_workload=\"mcp-server-canary\",response_code=~\"5.*\"}[1m]))"},
            {"name": "strict", "interval": "1m", "thresholdRange": {"max": 0}, "query": "vector(2)"},
        ]);
    })
    .await;
    rig.pass(10).await;
    let preview = planned(&rig, "1.1.0").await;
    assert_eq!(
        preview.warnings,
        [
            "spec.analysis.threshold is not given: 3 failed analyses end the run",
            "the query of check errors asks for destination_workload mcp-server-canary: there is no such workload, the canary is mcp-server itself",
            "check errors has no value for the live version now (no values found): no data counts as failed",
            "check strict fails on the live version now (2.00): a canary that is as good would be rolled back; look at its bounds",
        ]
    );
    rig.edit_spec(|spec| spec["analysis"]["metrics"] = serde_json::json!([]));
    rig.pass(5).await;
    assert_eq!(
        planned(&rig, "1.1.0").await.warnings[0],
        "spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one"
    );
}
