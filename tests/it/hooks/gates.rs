//! Hooks that hold a run, hooks that end it, and hooks that act after its end.

use canary_mcp::api::objects::DEPLOYMENT;

use super::*;
use crate::support::{NAME, sequence};

/// Nothing is scaled up before a confirm-rollout hook says yes.
#[tokio::test(start_paused = true)]
async fn a_confirm_rollout_hook_holds_a_run_before_anything_happens() {
    let rig = rig(&[hook("confirm-rollout")]).await;
    says(&rig, "/confirm-rollout", 403, "Forbidden");
    rig.set_image("1.1.0");
    until_phase(&rig, Phase::Waiting).await;
    rig.pass(120).await;
    assert_eq!(rig.replicas_of(NAME), 0);
    assert_eq!(rig.weights(), (100, 0));
    // Asked at each interval, told once.
    let asked = count(&rig, "/confirm-rollout");
    assert!((4..=6).contains(&asked), "{asked}");
    let halt = "Halt mcp-server.ai-platform advancement waiting for approval confirm-rollout";
    assert_eq!(rig.warnings(halt), 1, "{:?}", warnings(&rig));
    assert_eq!(rig.canary().int_at("/status/failedChecks"), Some(0));
    says(&rig, "/confirm-rollout", 200, "");
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
        sequence(&[
            ("Waiting", 0),
            ("Progressing", 0),
            ("Progressing", 15),
            ("Progressing", 30),
            ("Promoting", 30),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// The weight holds, and nothing is counted against the run.
#[tokio::test(start_paused = true)]
async fn a_confirm_traffic_increase_hook_holds_the_weight() {
    let rig = rig(&[hook("confirm-traffic-increase")]).await;
    rig.set_image("1.1.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    says(&rig, "/confirm-traffic-increase", 403, "Forbidden");
    rig.pass(180).await;
    let canary = rig.canary();
    assert_eq!(canary.int_at("/status/canaryWeight"), Some(15));
    assert_eq!(canary.int_at("/status/failedChecks"), Some(0));
    assert_eq!(canary.str_at("/status/phase"), Some("Progressing"));
    let halt = "Halt mcp-server.ai-platform advancement waiting for traffic increase approval confirm-traffic-increase";
    assert!(rig.warnings(halt) >= 1, "{:?}", warnings(&rig));
    says(&rig, "/confirm-traffic-increase", 200, "");
    until_phase(&rig, Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_confirm_promotion_hook_holds_the_promotion() {
    let rig = rig(&[hook("confirm-promotion")]).await;
    says(&rig, "/confirm-promotion", 403, "Forbidden");
    rig.set_image("1.1.0");
    until_phase(&rig, Phase::WaitingPromotion).await;
    rig.pass(120).await;
    assert_eq!(
        rig.canary().str_at("/status/phase"),
        Some("WaitingPromotion")
    );
    let halt =
        "Halt mcp-server.ai-platform advancement waiting for promotion approval confirm-promotion";
    assert_eq!(rig.warnings(halt), 1, "{:?}", warnings(&rig));
    says(&rig, "/confirm-promotion", 202, "");
    until_phase(&rig, Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// A yes of a rollback hook ends the run, wherever it is; anything else changes nothing.
async fn rolled_back_in(phase: Phase, gate: Option<&str>) {
    let mut hooks = vec![hook("rollback")];
    hooks.extend(gate.map(hook));
    let rig = rig(&hooks).await;
    if let Some(gate) = gate {
        says(&rig, &format!("/{gate}"), 403, "Forbidden");
    }
    rig.set_image("1.1.0");
    until_phase(&rig, phase).await;
    rig.pass(35).await;
    assert_eq!(rig.canary().str_at("/status/phase"), Some(phase.name()));
    says(&rig, "/rollback", 200, "");
    until_phase(&rig, Phase::Failed).await;
    let told = "Rolling back mcp-server.ai-platform manual webhook invoked";
    assert_eq!(rig.warnings(told), 1, "{:?}", warnings(&rig));
    assert_eq!(rig.replicas_of(NAME), 0);
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_hook_ends_an_analysis() {
    rolled_back_in(Phase::Progressing, None).await;
}

/// Flagger asks it while waiting too, and never gets there.
#[tokio::test(start_paused = true)]
async fn a_rollback_hook_ends_a_run_that_waits_to_begin() {
    rolled_back_in(Phase::Waiting, Some("confirm-rollout")).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_hook_ends_a_run_that_waits_for_its_promotion() {
    rolled_back_in(Phase::WaitingPromotion, Some("confirm-promotion")).await;
}

/// `when` chooses the ends after which a hook acts; one that fails is told, and those after it are left out.
#[tokio::test(start_paused = true)]
async fn hooks_after_the_end_act_on_the_ends_that_they_name() {
    let post = |name: &str, when: &[&str]| {
        json!({
            "name": name, "type": "post-rollout", "when": when,
            "url": format!("http://flagger-loadtester.test/{name}"),
        })
    };
    let hooks = [
        post("always", &[]),
        post("clean-up", &["succeeded"]),
        post("restore", &["failed", "rolledBack"]),
        post("broken", &["rolledBack"]),
        post("never", &["rolledBack"]),
        hook("rollback"),
    ];
    let rig = rig(&hooks).await;
    says(&rig, "/broken", 500, "no");
    let after_end = |rig: &Rig| -> Vec<String> {
        let of = told(rig).into_iter();
        of.filter(|told| !told.starts_with("/rollback")).collect()
    };
    rig.set_image("1.1.0");
    until_phase(&rig, Phase::Succeeded).await;
    assert_eq!(
        after_end(&rig),
        ["/always Succeeded 0", "/clean-up Succeeded 0"]
    );
    rig.set_image("1.2.0");
    until_phase(&rig, Phase::Progressing).await;
    says(&rig, "/rollback", 200, "");
    until_phase(&rig, Phase::Failed).await;
    assert_eq!(
        after_end(&rig)[2..],
        ["/always Failed 0", "/restore Failed 0", "/broken Failed 0"]
    );
    rig.pass(30).await;
    let failed = "Post-rollout hook broken failed no (answered 500)";
    assert_eq!(rig.warnings(failed), 1, "{:?}", warnings(&rig));
    assert_eq!(
        rig.object(&DEPLOYMENT, NAME)
            .unwrap()
            .int_at("/spec/replicas"),
        Some(0)
    );
    rig.assert_ended(Phase::Failed, "1.1.0").await;
}
