//! The observed share of the requests parts from the written weight: the step holds, the cause is named, and it goes on without it.

use canary_mcp::{
    api::objects::{ObjectExt, SERVICE, VIRTUAL_SERVICE},
    cluster::embedded::traffic::Source,
    decide::state::Phase,
};
use serde_json::{Value, json};

use crate::support::{Rig, image, sequence};

const DIRECT: &str = "mcp-server-direct";

/// A cluster with so many requests a second to the Canary's Service, and to one beside it as soon as that is there.
fn with_direct(apex: u32, direct: u32) -> Rig {
    Rig::with_fleet(|options| {
        let source = |service: &str, per_second| Source::new("ai-platform", service, per_second);
        options.traffic = vec![source("mcp-server", apex), source(DIRECT, direct)];
    })
}

fn create(rig: &Rig, kind: &canary_mcp::api::objects::Kind, object: Value) {
    let store = rig.member().server.store();
    store.create(kind, object, "kubectl-create").unwrap();
}

fn delete(rig: &Rig, kind: &canary_mcp::api::objects::Kind, name: &str) {
    let store = rig.member().server.store();
    store.remove(kind, "ai-platform", name).unwrap();
}

fn held(canary: &Value) -> bool {
    canary.int_at("/status/canaryAnalysis/apart/intervals") >= Some(2)
}

fn promoted_message(rig: &Rig) -> String {
    let condition = rig.condition("Promoted").unwrap();
    condition.str_at("/message").unwrap().to_owned()
}

/// What `get_status` says while the step is held, and that it stays so for some intervals without a failed check.
async fn assert_held(rig: &Rig, weight: i64, cause: &str) {
    rig.pass(1).await;
    let failed = rig.canary().int_at("/status/failedChecks");
    let view = rig.view().await;
    let waiting = view.waiting_for.unwrap();
    let begins = "the observed share of the requests (";
    assert!(waiting.what.starts_with(begins), "{}", waiting.what);
    let ends = format!("%) to agree with the written weight ({weight}%)");
    assert!(waiting.what.ends_with(&ends), "{}", waiting.what);
    assert_eq!(waiting.how.as_deref(), Some(cause));
    assert!(promoted_message(rig).starts_with("The step is held: "));
    assert!(promoted_message(rig).ends_with(cause));
    let told = |view: &canary_mcp::api::view::RolloutView| {
        let about = |message: &str| {
            message.starts_with("Halt mcp-server.ai-platform advancement observed share ")
                && message.ends_with(cause)
        };
        view.events
            .iter()
            .filter(|e| e.warning && about(&e.message))
            .count()
    };
    assert_eq!(told(&rig.view().await), 1);
    rig.pass(90).await;
    let canary = rig.canary();
    assert_eq!(canary.int_at("/status/canaryWeight"), Some(weight));
    assert_eq!(canary.int_at("/status/failedChecks"), failed);
    assert!(held(&canary));
    assert_eq!(told(&rig.view().await), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_service_on_the_canarys_pods_holds_the_step_until_it_is_gone() {
    let mut rig = with_direct(20, 10);
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    create(
        &rig,
        &SERVICE,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": DIRECT, "namespace": "ai-platform"},
            "spec": {"selector": {"app": "mcp-server"}, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]},
        }),
    );
    // At 5% it parts for the first time, at 10% for the second.
    rig.until(held).await;
    assert_held(
        &rig,
        10,
        "Service ai-platform/mcp-server-direct selects the canary's pods too, and what calls it is not split: let its clients call mcp-server, or delete it",
    )
    .await;
    delete(&rig, &SERVICE, DIRECT);
    let seen = rig.until_phase(Phase::Succeeded).await;
    assert_eq!(
        seen,
        sequence(&[
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
    assert_eq!(rig.canary().int_at("/status/failedChecks"), Some(0));
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Another `VirtualService` for the host, older than ours and pinned at 100/0: the weights rise and nothing reaches the canary.
#[tokio::test(start_paused = true)]
async fn a_second_virtual_service_holds_the_step_until_it_is_gone() {
    let mut rig = Rig::without_engine(true);
    create(
        &rig,
        &VIRTUAL_SERVICE,
        json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": {"name": "pinned", "namespace": "ai-platform"},
            "spec": {"hosts": ["mcp-server"], "http": [{"route": [{"destination": {"host": "mcp-server"}}]}]},
        }),
    );
    rig.pass(5).await;
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.pass(120).await;
    rig.start("1.1.0").await;
    rig.until(held).await;
    // The first interval without data counted, those since then do not.
    assert_eq!(rig.canary().int_at("/status/failedChecks"), Some(1));
    assert_held(
        &rig,
        5,
        "VirtualService ai-platform/pinned is for host mcp-server too, and a mesh follows only one of them: delete it, or take the host out of it",
    )
    .await;
    assert_eq!(rig.counts().images.get(&image("1.1.0")), None);
    delete(&rig, &VIRTUAL_SERVICE, "pinned");
    rig.until_phase(Phase::Succeeded).await;
    assert_eq!(
        promoted_message(&rig),
        "Canary analysis completed successfully, promotion finished."
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Nobody takes the cause away: the run ends at the progress deadline, with the reason.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_held_ends_at_the_progress_deadline() {
    let mut rig = with_direct(20, 10);
    create(
        &rig,
        &SERVICE,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": DIRECT, "namespace": "ai-platform"},
            "spec": {"selector": {"app": "mcp-server"}, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]},
        }),
    );
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.1.0").await;
    rig.until(held).await;
    let since = rig.now();
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(seen.last(), Some(&("Failed".to_owned(), 0)));
    // The deadline counts from the first of the two intervals.
    let took = rig.now().since(since) / 1_000;
    assert!((240..=270).contains(&took), "took {took} s");
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    let reason = rig.view().await.reason.unwrap();
    assert!(
        reason.starts_with("observed share ")
            && reason.contains(
                "written weight 10% for 300 s: Service ai-platform/mcp-server-direct selects"
            ),
        "{reason}"
    );
}

/// Few requests say nothing about the split, whoever got them; and none at all are for the checks to judge.
#[tokio::test(start_paused = true)]
async fn few_requests_hold_nothing() {
    for (direct, phase, reason) in [
        (1, Phase::Succeeded, None),
        (0, Phase::Failed, Some("failed checks threshold reached 3")),
    ] {
        let mut rig = with_direct(0, direct);
        create(
            &rig,
            &SERVICE,
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": DIRECT, "namespace": "ai-platform"},
                "spec": {"selector": {"app": "mcp-server"}, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]},
            }),
        );
        rig.start_engine("first");
        rig.until_phase(Phase::Initialized).await;
        rig.start("1.1.0").await;
        let parted = |c: &Value| c["status"]["canaryAnalysis"]["apart"] != Value::Null;
        let over = |c: &Value| parted(c) || c.str_at("/status/phase") == Some(phase.name());
        rig.until(over).await;
        assert!(!parted(&rig.canary()), "{:#}", rig.canary());
        assert_eq!(rig.view().await.reason.as_deref(), reason);
    }
}
