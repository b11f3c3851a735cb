//! The engine dies and another goes on: the same weights, the same end, and no request lost.

use std::time::Duration;

use canary_mcp::{
    api::objects::{DEPLOYMENT, ObjectExt, SCALED_OBJECT, VIRTUAL_SERVICE},
    cluster::embedded::faults::{Held, RequestInfo},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::Value;

use crate::support::{Rig, image, sequence};

const GOOD: [(&str, i64); 10] = [
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
];

fn stage(name: &'static str) -> impl Fn(&Value) -> bool {
    move |c| c.str_at("/status/run/stage") == Some(name)
}

/// What was seen before and after a takeover, as one.
fn joined(mut before: Vec<(String, i64)>, after: Vec<(String, i64)>) -> Vec<(String, i64)> {
    before.extend(after);
    before.dedup();
    before
}

/// A run of a good image whose engine dies as soon as the Canary is as `when` says.
async fn dies(when: impl Fn(&Value) -> bool) {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig.until(when).await;
    rig.crash_engine();
    rig.start_engine("second");
    let after = rig.until_phase(Phase::Succeeded).await;
    assert_eq!(joined(before, after), sequence(&GOOD));
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn after_the_pin() {
    dies(stage("starting")).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_low_weights() {
    for weight in [5, 10, 15] {
        dies(|c| c.int_at("/status/canaryWeight") == Some(weight)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_high_weights() {
    for weight in [20, 25, 30] {
        dies(|c| c.int_at("/status/canaryWeight") == Some(weight)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_copy_is_decided() {
    dies(stage("copying")).await;
}

#[tokio::test(start_paused = true)]
async fn in_settle() {
    dies(stage("settling")).await;
}

#[tokio::test(start_paused = true)]
async fn in_mid_copy() {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig.until(stage("copying")).await;
    let halfway = |rig: &Rig| {
        let primary = rig.object(&DEPLOYMENT, "mcp-server-primary").unwrap();
        let updated = primary.int_at("/status/updatedReplicas").unwrap_or(0);
        rig.image_of("mcp-server-primary") == image("1.1.0")
            && updated > 0
            && primary.int_at("/status/replicas").unwrap_or(0) > updated
    };
    rig.until_stored("half of the primary's pods", halfway)
        .await;
    rig.crash_engine();
    rig.start_engine("second");
    let after = rig.until_phase(Phase::Succeeded).await;
    assert_eq!(joined(before, after), sequence(&GOOD));
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn in_a_rollback_before_the_scale_down() {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.2.0-errors");
    rig.until_phase(Phase::Progressing).await;
    let before = rig.until(stage("reverting")).await;
    assert!(rig.replicas_of("mcp-server") > 0);
    rig.crash_engine();
    rig.start_engine("second");
    let after = rig.until_phase(Phase::Failed).await;
    assert_eq!(
        joined(before, after),
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 0),
            ("Failed", 0)
        ])
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

#[tokio::test(start_paused = true)]
async fn in_a_rollback_after_the_copy() {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until(stage("settling")).await;
    let acted = rig.wish(Verb::Rollback, false).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    rig.until(stage("restoring")).await;
    rig.crash_engine();
    rig.start_engine("second");
    assert_eq!(
        rig.until_phase(Phase::Failed).await,
        sequence(&[("Finalising", 0), ("Failed", 0)])
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

#[tokio::test(start_paused = true)]
async fn in_bootstrap() {
    let mut rig = Rig::without_engine(true);
    rig.pass(60).await;
    rig.start_engine("first");
    rig.until_stored("the primary", |r| {
        r.object(&DEPLOYMENT, "mcp-server-primary").is_some()
    })
    .await;
    rig.crash_engine();
    rig.start_engine("second");
    rig.until_phase(Phase::Initialized).await;
    rig.assert_ended(Phase::Initialized, "1.0.0").await;
}

/// Waits for the held write, but not for ever: on the paused clock an hour is nothing.
async fn reached(held: &Held) {
    tokio::time::timeout(Duration::from_secs(3_600), held.reached())
        .await
        .expect("the write must come within an hour");
}

/// The first engine's write is on its way when the engine dies; it arrives when the second has already gone on.
async fn late(write: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static, arrives: i64) {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let held = rig.member().server.faults().hold_next(write);
    reached(&held).await;
    rig.crash_engine();
    rig.start_engine("second");
    let between = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(arrives))
        .await;
    let stored = || {
        let revision = |o: canary_mcp::api::objects::Object| o.resource_version().to_owned();
        (
            rig.object(&VIRTUAL_SERVICE, "mcp-server").map(revision),
            revision(rig.canary()),
        )
    };
    let there = stored();
    held.release();
    rig.pass(1).await;
    assert_eq!(stored(), there);
    let after = rig.until_phase(Phase::Succeeded).await;
    assert_eq!(joined(joined(before, between), after), sequence(&GOOD));
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_late_route_write_of_the_dead_engine_changes_nothing() {
    late(|r| r.plural == "virtualservices" && r.is_write(), 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_status_write_of_the_dead_engine_changes_nothing() {
    late(|r| r.plural == "canaries" && r.subresource == "status", 15).await;
}

/// The pause is what scales the target down: one that arrives in the next run would take the canary away under traffic.
#[tokio::test(start_paused = true)]
async fn a_late_pause_of_the_dead_engine_changes_nothing() {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until(stage("settling")).await;
    let pause =
        |r: &RequestInfo| r.plural == "scaledobjects" && r.is_write() && r.name == "mcp-server";
    let held = rig.member().server.faults().hold_next(pause);
    reached(&held).await;
    rig.crash_engine();
    rig.start_engine("second");
    rig.until_phase(Phase::Succeeded).await;
    rig.set_image("1.2.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    rig.pass(5).await;
    let pause_of = |rig: &Rig| {
        let scaler = rig.object(&SCALED_OBJECT, "mcp-server").unwrap();
        scaler
            .annotation("autoscaling.keda.sh/paused-replicas")
            .map(str::to_owned)
    };
    assert_eq!(pause_of(&rig), None);
    held.release();
    rig.pass(10).await;
    assert_eq!(pause_of(&rig), None);
    assert!(rig.replicas_of("mcp-server") > 0);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.2.0").await;
}
