//! Rollouts from a cluster's first moment to their end. `arm` is called where the part begins that a test disturbs.

use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    decide::state::Phase,
};
use serde_json::Value;

use super::{wish, without_autoscaler};
use crate::support::Rig;

async fn initialized(rig: &Rig) {
    rig.until_phase(Phase::Initialized).await;
    rig.pass(30).await;
}

fn at_weight(weight: i64) -> impl Fn(&Value) -> bool {
    move |c| c.int_at("/status/canaryWeight") == Some(weight)
}

fn at_stage(stage: &'static str) -> impl Fn(&Value) -> bool {
    move |c| c.str_at("/status/run/stage") == Some(stage)
}

pub(super) async fn bootstrap(rig: &Rig, arm: &dyn Fn()) {
    arm();
    rig.until_phase(Phase::Initialized).await;
    rig.pass(120).await;
}

pub(super) async fn good(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    arm();
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
}

pub(super) async fn failing(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    arm();
    rig.set_image("1.1.0-errors");
    rig.until_phase(Phase::Failed).await;
}

pub(super) async fn skipped_by_spec(rig: &Rig, arm: &dyn Fn()) {
    rig.edit_spec(|s| s["skipAnalysis"] = true.into());
    initialized(rig).await;
    arm();
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
}

pub(super) async fn skipped_by_person(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until(at_weight(15)).await;
    rig.pass(5).await;
    arm();
    wish(rig, "promote", true);
    rig.until_phase(Phase::Succeeded).await;
}

pub(super) async fn rolled_back_before_the_first_weight(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until(at_stage("starting")).await;
    rig.pass(2).await;
    arm();
    wish(rig, "rollback", false);
    rig.until_phase(Phase::Failed).await;
}

pub(super) async fn rolled_back_at_a_weight(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until(at_weight(30)).await;
    rig.pass(5).await;
    arm();
    wish(rig, "rollback", false);
    rig.until_phase(Phase::Failed).await;
}

pub(super) async fn rolled_back_at_a_gate(rig: &Rig, arm: &dyn Fn()) {
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/gate", "promotion");
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::WaitingPromotion).await;
    rig.pass(5).await;
    arm();
    wish(rig, "rollback", false);
    rig.until_phase(Phase::Failed).await;
}

pub(super) async fn promoted_at_a_gate(rig: &Rig, arm: &dyn Fn()) {
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/gate", "promotion");
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::WaitingPromotion).await;
    rig.pass(5).await;
    arm();
    wish(rig, "promote", false);
    rig.until_phase(Phase::Succeeded).await;
}

pub(super) async fn rolled_back_while_copied(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until(at_stage("copying")).await;
    rig.until_stored("the copy", |r| {
        r.image_of("mcp-server-primary").ends_with(":1.1.0")
    })
    .await;
    rig.pass(2).await;
    arm();
    wish(rig, "rollback", false);
    rig.until_phase(Phase::Failed).await;
}

pub(super) async fn rolled_back_before_the_canary_goes(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until(at_stage("settling")).await;
    rig.pass(3).await;
    arm();
    wish(rig, "rollback", false);
    rig.until_phase(Phase::Failed).await;
}

/// Without an autoscaler the engine scales by itself, through `/scale`.
pub(super) async fn good_without_an_autoscaler(rig: &Rig, arm: &dyn Fn()) {
    without_autoscaler(rig);
    initialized(rig).await;
    arm();
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
}
