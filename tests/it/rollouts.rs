//! Whole rollouts: on the embedded cluster on tokio's paused clock, exact and as fast as the CPU, and those of [`on_both`] on a genuine
//! control plane too.

use serde_json::Value;

use crate::{
    genuine::on_both,
    support::{Rig, World, embedded::Share, image, sequence},
};
use canary_mcp::{
    api::objects::{ObjectExt, POD},
    decide::{
        facts::{Moment, Verb},
        state::Phase,
    },
    engine::control::Outcome,
};

on_both!(
    bootstrap_makes_the_idle_shape,
    a_good_image_is_promoted,
    errors_are_rolled_back_and_the_primary_is_untouched,
    a_slow_image_is_rolled_back,
    a_crashing_image_is_rolled_back,
    a_rollback_goes_traffic_first,
    a_canary_without_endpoints_loses_its_traffic_first,
    an_image_that_cannot_be_pulled_ends_at_the_progress_deadline,
);

/// Where there is traffic: each weight, over some thousand requests at most 2 points off.
fn assert_shares(shares: Option<&[Share]>, weights: &[i64]) {
    let Some(shares) = shares else { return };
    let seen: Vec<i64> = shares.iter().map(|s| s.weight).collect();
    assert_eq!(seen, weights, "{shares:?}");
    for share in shares {
        let expected = f64::from(i32::try_from(share.weight).unwrap());
        assert!((share.percent - expected).abs() <= 2.0, "{share:?}");
        assert!(share.weight == 0 || share.requests > 900, "{share:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bootstrap_moves_the_traffic_without_losing_a_request() {
    let mut rig = Rig::without_engine(true);
    rig.pass(60).await;
    let before = rig.counts();
    assert!(before.share("mcp-server") > 99.9, "{before:?}");
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.assert_ended(Phase::Initialized, "1.0.0").await;
    let since = rig.counts().since(&before);
    assert!(since.share("mcp-server-primary") > 90.0, "{since:?}");
}

async fn bootstrap_makes_the_idle_shape<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.assert_ended(Phase::Initialized, "1.0.0").await;
}

async fn a_good_image_is_promoted<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    let begun = rig.start("1.1.0").await;
    assert_eq!(begun.outcome, Outcome::Applied, "{}", begun.reason);
    let (seen, shares) = rig.until_phase_with_shares(Phase::Succeeded).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 10),
            ("Progressing", 15),
            ("Progressing", 20),
            ("Progressing", 25),
            ("Progressing", 30),
            ("Promoting", 30),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    assert_shares(shares.as_deref(), &[0, 5, 10, 15, 20, 25, 30, 0]);
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    assert_eq!(rig.canary().int_at("/status/failedChecks"), Some(0));
}

async fn errors_are_rolled_back_and_the_primary_is_untouched<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.start("1.2.0-errors").await;
    let (seen, shares) = rig.until_phase_with_shares(Phase::Failed).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 0),
            ("Failed", 0)
        ])
    );
    assert_shares(shares.as_deref(), &[0, 5, 0]);
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    let view = rig.view().await;
    assert_eq!(
        view.reason.as_deref(),
        Some("failed checks threshold reached 3")
    );
}

/// The race of an autoscaler with the verdict on one canary: twenty requests wait at it while its checks fail, so KEDA wants ten pods of a
/// version that is about to be rolled back. One object owns both, so traffic goes first, then the autoscaler is paused, then the pods go,
/// however long the queue is.
#[tokio::test(start_paused = true)]
async fn keda_wants_ten_canaries_while_the_verdict_is_bad() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.2.0-errors").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let metrics = rig.member().metrics();
    metrics.set_queue("ai-platform", "mcp-server", 20);
    let failing = |c: &Value| c.int_at("/status/failedChecks") == Some(2);
    rig.until(failing).await;
    rig.until_stored("ten canaries", |r| r.replicas_of("mcp-server") == 10)
        .await;
    assert_eq!(rig.canary().str_at("/status/phase"), Some("Progressing"));
    assert_eq!(rig.weights(), (95, 5));
    rig.until(|c| c.int_at("/status/failedChecks") == Some(3))
        .await;
    let verdict = rig.counts();
    assert_eq!(rig.weights(), (100, 0));
    assert_eq!(rig.replicas_of("mcp-server"), 10);
    // The mesh takes up the route within 3 s.
    rig.pass(4).await;
    let routed = rig.counts();
    let on_the_way = routed.since(&verdict).images;
    let reached = on_the_way.get(&image("1.2.0-errors")).copied();
    assert!(reached.unwrap_or(0) <= 3, "{on_the_way:?}");
    rig.until_phase(Phase::Failed).await;
    rig.assert_idle();
    // The queue does not shrink, and nothing comes back.
    for _ in 0..10 {
        rig.pass(60).await;
        rig.assert_idle();
        assert_eq!(rig.pods_of("mcp-server").len(), 0);
    }
    let since = rig.counts().since(&routed);
    assert_eq!(since.images.get(&image("1.2.0-errors")), None, "{since:?}");
    assert_eq!(since.workloads.get("mcp-server"), None, "{since:?}");
    assert!(since.total > 10_000, "{since:?}");
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

async fn a_slow_image_is_rolled_back<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.start("1.2.0-slow").await;
    let (seen, shares) = rig.until_phase_with_shares(Phase::Failed).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 0),
            ("Failed", 0)
        ])
    );
    assert_shares(shares.as_deref(), &[0, 5, 0]);
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

async fn a_crashing_image_is_rolled_back<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.start("1.2.0-crash").await;
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(seen, sequence(&[("Progressing", 0), ("Failed", 0)]));
    assert_eq!(
        rig.view().await.reason.as_deref(),
        Some(
            "canary not ready: container mcp-server does not start (3 restarts): Error (exit code 1): panic: config key missing"
        )
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

/// When the third restart of a pod of the target was first seen.
async fn third_restart(rig: &Rig) -> Moment {
    let restarted = |rig: &Rig| {
        let pods = rig.pods_of("mcp-server");
        pods.iter()
            .any(|p| p.int_at("/status/containerStatuses/0/restartCount") >= Some(3))
    };
    rig.until_stored("three restarts", restarted).await;
    rig.now()
}

#[tokio::test(start_paused = true)]
async fn a_crashing_image_ends_within_seconds_of_the_third_restart() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.2.0-crash").await;
    let ended = async {
        let seen = rig.until_phase(Phase::Failed).await;
        (seen, rig.now())
    };
    let (third, (seen, end)) = tokio::join!(third_restart(&rig), ended);
    assert_eq!(seen, sequence(&[("Progressing", 0), ("Failed", 0)]));
    let took = end.since(third);
    assert!((0..=5_000).contains(&took), "took {took} ms");
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    assert_eq!(rig.counts().images.get(&image("1.2.0-crash")), None);
}

#[tokio::test(start_paused = true)]
async fn a_flaky_image_is_promoted_with_a_failed_check_or_two() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.3.0-flaky").await;
    let (seen, shares) = rig.until_phase_with_shares(Phase::Succeeded).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 10),
            ("Progressing", 15),
            ("Progressing", 20),
            ("Progressing", 25),
            ("Progressing", 30),
            ("Promoting", 30),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    assert_shares(shares.as_deref(), &[0, 5, 10, 15, 20, 25, 30, 0]);
    rig.assert_ended(Phase::Succeeded, "1.3.0-flaky").await;
    let failed = rig.canary().int_at("/status/failedChecks").unwrap();
    assert!((1..=2).contains(&failed), "failedChecks {failed}");
}

async fn a_rollback_goes_traffic_first<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    let acted = rig.wish(Verb::Rollback, false).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    assert_eq!(rig.weights(), (100, 0));
    assert!(rig.replicas_of("mcp-server") > 0);
    rig.until_phase(Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    let again = rig.wish(Verb::Rollback, false).await;
    assert_eq!(again.outcome, Outcome::Already);
}

/// The canary loses all its pods at 15%: what the route still sends there is lost for as long as the mesh needs, and no longer.
async fn a_canary_without_endpoints_loses_its_traffic_first<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    rig.pass(20).await;
    let gone = rig.now();
    for pod in rig.pods_of("mcp-server") {
        rig.delete(&POD, pod.name());
    }
    rig.until_stored("all traffic to the primary", |r| r.weights() == (100, 0))
        .await;
    assert!(rig.now().since(gone) < W::AT_ONCE);
    assert!(rig.replicas_of("mcp-server") > 0);
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(seen.last(), Some(&("Failed".to_owned(), 0)));
    rig.pass(60).await;
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    // 15% of 20 requests a second for three seconds.
    let lost = rig.lost();
    assert!(lost <= 10, "{lost}");
    let reason = rig.view().await.reason;
    assert_eq!(
        reason.as_deref(),
        Some("the canary has traffic and no ready endpoint")
    );
}

async fn an_image_that_cannot_be_pulled_ends_at_the_progress_deadline<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    let began = rig.now();
    rig.start("1.2.0-missing").await;
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(seen, sequence(&[("Progressing", 0), ("Failed", 0)]));
    let took = rig.now().since(began) / 1_000;
    assert!((300..330).contains(&took), "took {took} s");
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}
