//! The engine dies and another goes on: the same weights, the same end, and no request lost.

use canary_mcp::{
    api::objects::{CANARY, DEPLOYMENT, ObjectExt, SCALED_OBJECT, VIRTUAL_SERVICE},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use http::Method;
use serde_json::Value;

use crate::{
    genuine::on_both,
    support::{Rig, World, image, sequence},
};

on_both!(
    at_15_percent,
    in_settle,
    in_mid_copy,
    in_a_rollback_before_the_scale_down,
    a_late_route_write_of_the_dead_engine_changes_nothing,
    a_late_pause_of_the_dead_engine_changes_nothing,
);

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
async fn dies<W: World>(rig: Rig<W>, when: impl Fn(&Value) -> bool) {
    let mut rig = rig.initialize().await;
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
    dies(Rig::without_engine(true), stage("starting")).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_low_weights() {
    for weight in [5, 10] {
        dies(Rig::without_engine(true), |c| {
            c.int_at("/status/canaryWeight") == Some(weight)
        })
        .await;
    }
}

async fn at_15_percent<W: World>(rig: Rig<W>) {
    dies(rig, |c| c.int_at("/status/canaryWeight") == Some(15)).await;
}

#[tokio::test(start_paused = true)]
async fn at_the_high_weights() {
    for weight in [20, 25, 30] {
        dies(Rig::without_engine(true), |c| {
            c.int_at("/status/canaryWeight") == Some(weight)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_copy_is_decided() {
    dies(Rig::without_engine(true), stage("copying")).await;
}

async fn in_settle<W: World>(rig: Rig<W>) {
    dies(rig, stage("settling")).await;
}

async fn in_mid_copy<W: World>(rig: Rig<W>) {
    let mut rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig.until(stage("copying")).await;
    let halfway = |rig: &Rig<W>| {
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

async fn in_a_rollback_before_the_scale_down<W: World>(rig: Rig<W>) {
    let mut rig = rig.initialize().await;
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

/// The first engine's write is on its way when the engine dies; it arrives when the second has already gone on.
async fn late<W: World>(
    rig: Rig<W>,
    write: impl Fn(&Method, &str) -> bool + Send + 'static,
    arrives: i64,
) {
    let mut rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let held = rig.line().hold_next(write);
    rig.reached(&held).await;
    rig.crash_engine();
    rig.start_engine("second");
    let between = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(arrives))
        .await;
    let revision = |kind| {
        rig.object(kind, "mcp-server")
            .map(|o| o.resource_version().to_owned())
    };
    let stored = || (revision(&VIRTUAL_SERVICE), revision(&CANARY));
    let there = stored();
    let answer = held.release().await;
    assert!(answer.is_client_error(), "{answer}");
    assert_eq!(stored(), there);
    let after = rig.until_phase(Phase::Succeeded).await;
    assert_eq!(joined(joined(before, between), after), sequence(&GOOD));
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

async fn a_late_route_write_of_the_dead_engine_changes_nothing<W: World>(rig: Rig<W>) {
    let route = |method: &Method, target: &str| {
        method == Method::PATCH && target.contains("/virtualservices/mcp-server?")
    };
    late(rig, route, 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_status_write_of_the_dead_engine_changes_nothing() {
    let status = |_: &Method, target: &str| target.contains("/canaries/mcp-server/status?");
    late(Rig::without_engine(true), status, 15).await;
}

/// The pause is what scales the target down: one that arrives in the next run would take the canary away under traffic.
async fn a_late_pause_of_the_dead_engine_changes_nothing<W: World>(rig: Rig<W>) {
    let mut rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until(stage("settling")).await;
    let held = rig.line().hold_next(|method, target| {
        method == Method::PATCH && target.contains("/scaledobjects/mcp-server?")
    });
    rig.reached(&held).await;
    rig.crash_engine();
    rig.start_engine("second");
    rig.until_phase(Phase::Succeeded).await;
    rig.set_image("1.2.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    rig.pass(5).await;
    let pause_of = |rig: &Rig<W>| {
        let scaler = rig.object(&SCALED_OBJECT, "mcp-server").unwrap();
        scaler
            .annotation("autoscaling.keda.sh/paused-replicas")
            .map(str::to_owned)
    };
    assert_eq!(pause_of(&rig), None);
    let answer = held.release().await;
    assert!(answer.is_client_error(), "{answer}");
    rig.pass(10).await;
    assert_eq!(pause_of(&rig), None);
    assert!(rig.replicas_of("mcp-server") > 0);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.2.0").await;
}
