//! Gates that a person opens: each by itself and all of them, through the tools, and what `get_status` says of each.

use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    decide::state::Phase,
};
use serde_json::{Value, json};

use super::{Product, ended};
use crate::support::{NAME, Rig, sequence};

/// An initialized cluster whose Canary has these gates.
async fn gated(gates: &str) -> Rig {
    let rig = Rig::without_engine(true);
    rig.annotate(&CANARY, NAME, "canary-mcp.dev/gate", gates);
    rig.initialize().await
}

fn waits_for(what: &'static str) -> impl Fn(&Value) -> bool {
    move |canary| canary.str_at("/status/run/waiting/what") == Some(what)
}

/// What `get_status` says that the rollout waits for: since when is told too.
async fn waiting(product: &Product) -> (String, String) {
    let status = product.call("get_status", json!({})).await;
    let waiting = &status["rollout"]["waiting_for"];
    assert!(waiting["since"].is_string(), "{status}");
    let next = status["next"].as_str().unwrap();
    assert!(next.starts_with("call promote "), "{next}");
    let text = |at: &str| waiting[at].as_str().unwrap().to_owned();
    (text("what"), text("how"))
}

fn by_a_person(gate: &str) -> (String, String) {
    (
        format!("a person to open the {gate} gate"),
        "call promote to go on, or rollback".to_owned(),
    )
}

const OPEN: &str = "the gate is open, the run goes on";

#[tokio::test(start_paused = true)]
async fn nothing_is_scaled_up_before_the_rollout_gate_is_open() {
    let rig = gated("rollout").await;
    let product = Product::new(&rig.control);
    rig.set_image("1.1.0");
    rig.until(waits_for("rollout")).await;
    assert_eq!(waiting(&product).await, by_a_person("rollout"));
    // It waits as long as it takes.
    rig.pass(3_600).await;
    assert_eq!(rig.canary().str_at("/status/phase"), Some("Waiting"));
    assert_eq!((rig.replicas_of(NAME), rig.weights()), (0, (100, 0)));
    assert_eq!(
        product.verb("promote", json!({})).await,
        ended("applied", OPEN)
    );
    let seen = rig.until_phase(Phase::Succeeded).await;
    assert_eq!(
        seen.last(),
        sequence(&[("Succeeded", 0)]).last(),
        "{seen:?}"
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    assert_eq!(
        product.verb("promote", json!({})).await,
        ended("already", "the last run was promoted already")
    );
}

#[tokio::test(start_paused = true)]
async fn each_weight_waits_for_its_own_approval() {
    let rig = gated("traffic").await;
    let product = Product::new(&rig.control);
    rig.set_image("1.1.0");
    for (now, then) in [(0, 5), (5, 10), (10, 15), (15, 20), (20, 25), (25, 30)] {
        rig.until(waits_for("traffic")).await;
        assert_eq!(waiting(&product).await, by_a_person("traffic"));
        assert_eq!(rig.weights(), (100 - now, now));
        assert_eq!(
            product.verb("promote", json!({})).await,
            ended("applied", OPEN)
        );
        rig.until(|c| c.int_at("/status/canaryWeight") == Some(then))
            .await;
    }
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn all_gates_are_opened_one_after_another_by_the_same_tool() {
    let rig = gated("rollout,traffic,promotion").await;
    let product = Product::new(&rig.control);
    rig.set_image("1.1.0");
    rig.until(waits_for("rollout")).await;
    assert_eq!(
        product.verb("promote", json!({})).await,
        ended("applied", OPEN)
    );
    for then in [5, 10, 15, 20, 25, 30] {
        rig.until(waits_for("traffic")).await;
        assert_eq!(
            product.verb("promote", json!({})).await,
            ended("applied", OPEN)
        );
        rig.until(|c| c.int_at("/status/canaryWeight") == Some(then))
            .await;
    }
    rig.until(waits_for("promotion")).await;
    assert_eq!(waiting(&product).await, by_a_person("promotion"));
    assert_eq!(
        rig.canary().str_at("/status/phase"),
        Some("WaitingPromotion")
    );
    assert_eq!(
        product.verb("promote", json!({})).await,
        ended("applied", "the run is being promoted")
    );
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    for what in ["Rollout", "Promotion"] {
        let told = format!("{what} of mcp-server.ai-platform approved by test/1");
        let times = rig.events().iter().filter(|(_, m)| *m == told).count();
        assert_eq!(times, 1, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_rolled_back_at_every_gate() {
    for what in ["rollout", "traffic", "promotion"] {
        let rig = gated(what).await;
        let product = Product::new(&rig.control);
        rig.set_image("1.1.0");
        rig.until(waits_for(what)).await;
        assert_eq!(
            product.verb("rollback", json!({})).await,
            ended("applied", "the run is being rolled back, traffic first"),
            "{what}"
        );
        rig.until_phase(Phase::Failed).await;
        rig.assert_idle();
        assert_eq!(rig.counts().no_endpoint_503, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_failed_is_tried_once_more_when_somebody_asks() {
    let rig = Rig::initialized(|_| {}).await;
    let product = Product::new(&rig.control);
    let at_once = |retry: bool| json!({"retry": retry, "wait_seconds": 0});
    assert_eq!(
        product.verb("start_canary", at_once(true)).await,
        ended(
            "already",
            "registry.example/mcp-server:1.0.0 is what is live"
        )
    );
    rig.set_image("1.2.0-errors");
    rig.until_phase(Phase::Failed).await;
    let failed = rig.canary();
    let image = json!({"image": "registry.example/mcp-server:1.2.0-errors", "wait_seconds": 0});
    assert_eq!(
        product.verb("start_canary", image).await,
        ended(
            "refused",
            "registry.example/mcp-server:1.2.0-errors was rolled back (failed checks threshold reached 3); build a new image, or try this one once more with retry"
        )
    );
    assert_eq!(
        product.verb("start_canary", at_once(true)).await,
        ended(
            "applied",
            "the revision that has failed is analysed once more"
        )
    );
    let canary = rig.canary();
    assert_eq!(
        canary["status"]["run"]["revision"],
        failed["status"]["run"]["revision"]
    );
    assert_ne!(canary["status"]["run"]["id"], failed["status"]["run"]["id"]);
    rig.until_phase(Phase::Failed).await;
    assert_eq!(
        rig.canary()["status"]["run"]["n"],
        json!(failed["status"]["run"]["n"].as_i64().unwrap() + 1)
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}
