//! Whole rollouts on the embedded cluster, on tokio's paused clock: exact, and as fast as the CPU.

use canary_mcp::{
    api::objects::ObjectExt,
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};

use crate::support::{Rig, image};

const CLIMB: [(&str, i64); 7] = [
    ("Progressing", 0),
    ("Progressing", 5),
    ("Progressing", 10),
    ("Progressing", 15),
    ("Progressing", 20),
    ("Progressing", 25),
    ("Progressing", 30),
];

fn climb() -> Vec<(String, i64)> {
    CLIMB.iter().map(|(p, w)| ((*p).to_owned(), *w)).collect()
}

fn sequence(steps: &[(&str, i64)]) -> Vec<(String, i64)> {
    steps.iter().map(|(p, w)| ((*p).to_owned(), *w)).collect()
}

#[tokio::test(start_paused = true)]
async fn bootstrap_moves_the_traffic_without_losing_a_request() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.pass(60).await;
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    let counts = rig.counts();
    assert_eq!(counts.no_endpoint_503, 0);
    assert!(counts.total > 1000, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_good_image_is_promoted() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    let begun = rig.start("1.1.0").await;
    assert_eq!(begun.outcome, Outcome::Applied, "{}", begun.reason);
    let seen = rig.until_phase(Phase::Succeeded).await;
    let mut expected = climb();
    expected.extend(sequence(&[
        ("Promoting", 30),
        ("Finalising", 0),
        ("Succeeded", 0),
    ]));
    assert_eq!(seen, expected);
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.1.0"));
    let counts = rig.counts();
    assert_eq!(counts.no_endpoint_503, 0);
    assert!(counts.total > 5000, "{counts:?}");
    assert_eq!(rig.canary().int_at("/status/failedChecks"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn errors_are_rolled_back_and_the_primary_is_untouched() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.2.0-errors").await;
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 0),
            ("Failed", 0)
        ])
    );
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    assert_eq!(rig.counts().no_endpoint_503, 0);
    let view = rig.view().await;
    assert_eq!(
        view.reason.as_deref(),
        Some("failed checks threshold reached 3")
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_image_is_rolled_back() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.2.0-slow").await;
    rig.until_phase(Phase::Failed).await;
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    assert_eq!(rig.counts().no_endpoint_503, 0);
}

#[tokio::test(start_paused = true)]
async fn a_crashing_image_ends_within_seconds_of_the_third_restart() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.2.0-crash").await;
    let began = rig.now();
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(seen, sequence(&[("Progressing", 0), ("Failed", 0)]));
    let took = rig.now().since(began) / 1000;
    assert!(took < 120, "took {took} s of the cluster's clock");
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    assert_eq!(rig.counts().no_endpoint_503, 0);
}

#[tokio::test(start_paused = true)]
async fn a_flaky_image_is_promoted_with_a_failed_check_or_two() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.3.0-flaky").await;
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.3.0-flaky"));
    assert_eq!(rig.counts().no_endpoint_503, 0);
    let failed = rig.canary().int_at("/status/failedChecks").unwrap();
    assert!((1..=2).contains(&failed), "failedChecks {failed}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_goes_traffic_first() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    let acted = rig.wish(Verb::Rollback, false).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    assert_eq!(rig.weights(), (100, 0));
    rig.until_phase(Phase::Failed).await;
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    assert_eq!(rig.counts().no_endpoint_503, 0);
    let again = rig.wish(Verb::Rollback, false).await;
    assert_eq!(again.outcome, Outcome::Already);
}
