//! Rollouts from a cluster's first moment to their end. `arm` is called where the part begins that a test disturbs.

use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    decide::state::Phase,
};
use serde_json::{Value, json};

use super::{go_back, wish, wish_named, without_autoscaler};
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

/// The analysis of the Canary, a minute's interval, with these fields; without metrics every analysis passes.
fn analysed(rig: &Rig, fields: &Value) {
    rig.edit_spec(|spec| {
        spec["analysis"] = fields.clone();
        spec["analysis"]["interval"] = "1m".into();
        spec["analysis"]["metrics"] = json!([]);
    });
}

async fn promoted(rig: &Rig, arm: &dyn Fn()) {
    initialized(rig).await;
    arm();
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
}

pub(super) async fn a_b_testing(rig: &Rig, arm: &dyn Fn()) {
    let users = json!([{"headers": {"x-canary": {"exact": "insider"}}}]);
    analysed(rig, &json!({"iterations": 2, "match": users}));
    promoted(rig, arm).await;
}

pub(super) async fn blue_green_on_copies(rig: &Rig, arm: &dyn Fn()) {
    analysed(rig, &json!({"iterations": 2, "mirror": true}));
    promoted(rig, arm).await;
}

pub(super) async fn weights_with_cookies(rig: &Rig, arm: &dyn Fn()) {
    let cookies = json!({"cookieName": "canary", "primaryCookieName": "primary"});
    analysed(
        rig,
        &json!({"stepWeights": [20, 60], "stepWeightPromotion": 30, "sessionAffinity": cookies}),
    );
    promoted(rig, arm).await;
}

/// All three gates, each opened as soon as it waits.
pub(super) async fn opened_gate_by_gate(rig: &Rig, arm: &dyn Fn()) {
    analysed(rig, &json!({"stepWeights": [20]}));
    let gates = "rollout,traffic,promotion";
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/gate", gates);
    initialized(rig).await;
    arm();
    rig.set_image("1.1.0");
    for gate in ["rollout", "traffic", "promotion"] {
        rig.until(|c| c.str_at("/status/run/waiting/what") == Some(gate))
            .await;
        rig.pass(3).await;
        wish_named(rig, "promote", gate);
    }
    rig.until_phase(Phase::Succeeded).await;
}

/// A failed revision is tried once more, and the version that it replaced at last is gone back to.
pub(super) async fn retried_and_gone_back(rig: &Rig, arm: &dyn Fn()) {
    analysed(rig, &json!({"stepWeights": [20]}));
    initialized(rig).await;
    rig.set_image("1.1.0");
    rig.until(at_weight(20)).await;
    wish_named(rig, "rollback", "first");
    rig.until_phase(Phase::Failed).await;
    let before = rig
        .canary()
        .str_at("/status/lastPromotedSpec")
        .map(str::to_owned);
    arm();
    wish_named(rig, "reset", "again");
    rig.until_phase(Phase::Succeeded).await;
    go_back(rig, &before.unwrap());
    rig.until(|c| c.int_at("/status/run/n") == Some(3) && at_stage("idle")(c))
        .await;
}
