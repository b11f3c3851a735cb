//! What people and other tools do to a rollout while it goes on.

use canary_mcp::{
    api::objects::{CANARY, DEPLOYMENT, METRIC_TEMPLATE, ObjectExt, VIRTUAL_SERVICE},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::{Value, json};

use crate::{
    genuine::on_both,
    support::{Rig, World, image, sequence},
};

on_both!(
    a_new_image_in_mid_run_begins_anew,
    a_target_put_back_ends_the_run_traffic_first,
    skip_analysis_promotes_whatever_the_checks_would_say,
    a_route_edited_by_hand_is_repaired,
    the_gate_holds_while_the_analysis_goes_on_and_opens,
    a_rollback_closes_the_gate,
    promote_with_skip_analysis_promotes_now,
    traffic_returns_by_step_weight_promotion,
    a_spec_that_cannot_be_carried_out_is_refused_once_a_generation,
    a_canary_whose_status_another_controller_writes_is_not_driven_until_adopted,
    a_route_that_is_not_ours_is_taken_over_with_its_other_rules,
);

/// An initialized rig with a run of `tag` at this weight.
async fn at_weight<W: World>(rig: Rig<W>, tag: &str, weight: i64) -> Rig<W> {
    let rig = rig.initialize().await;
    rig.set_image(tag);
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(weight))
        .await;
    rig
}

fn text<'a>(canary: &'a Value, at: &str) -> &'a str {
    canary.str_at(at).unwrap_or_default()
}

async fn a_new_image_in_mid_run_begins_anew<W: World>(rig: Rig<W>) {
    let rig = at_weight(rig, "1.1.0", 10).await;
    let before = rig.canary();
    rig.set_image("1.1.1");
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
        sequence(&[
            ("Progressing", 10),
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
    let run = |canary: &Value, field: &str| canary["status"]["run"][field].clone();
    let after = rig.canary();
    assert_ne!(run(&after, "id"), run(&before, "id"));
    assert_eq!(run(&after, "previous"), run(&before, "previous"));
    rig.assert_ended(Phase::Succeeded, "1.1.1").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_restarts_the_run_from_nothing() {
    let rig = at_weight(Rig::without_engine(true), "1.1.0-flaky", 10).await;
    let twice = |c: &Value| c.int_at("/status/failedChecks") >= Some(1);
    rig.until(twice).await;
    let before = rig.canary();
    rig.set_image("1.1.1");
    let seen = rig.until_phase(Phase::Succeeded).await;
    let first = before.int_at("/status/canaryWeight").unwrap();
    assert_eq!(seen.first(), Some(&("Progressing".to_owned(), first)));
    assert_eq!(
        seen[1..],
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
    let after = rig.canary();
    assert_ne!(
        text(&after, "/status/run/id"),
        text(&before, "/status/run/id")
    );
    assert_eq!(
        text(&after, "/status/run/previous"),
        text(&before, "/status/run/previous")
    );
    assert_ne!(text(&after, "/status/run/previous"), "");
    assert_eq!(after.int_at("/status/failedChecks"), Some(0));
    let weights: Vec<i64> = after
        .array_at("/status/canaryAnalysis/steps")
        .iter()
        .filter_map(|s| s.int_at("/weight"))
        .collect();
    assert_eq!(weights, [5, 10, 15, 20, 25, 30]);
    rig.assert_ended(Phase::Succeeded, "1.1.1").await;
}

async fn a_target_put_back_ends_the_run_traffic_first<W: World>(rig: Rig<W>) {
    let rig = at_weight(rig, "1.1.0", 15).await;
    rig.set_image("1.0.0");
    rig.until_stored("all traffic to the primary", |r| r.weights() == (100, 0))
        .await;
    assert!(rig.replicas_of("mcp-server") > 0);
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(seen.last(), Some(&("Failed".to_owned(), 0)));
    let reason = rig.view().await.reason;
    assert_eq!(reason.as_deref(), Some("reverted by kubectl-edit"));
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

async fn skip_analysis_promotes_whatever_the_checks_would_say<W: World>(rig: Rig<W>) {
    rig.edit_spec(|spec| spec["skipAnalysis"] = true.into());
    let rig = rig.initialize().await;
    rig.set_image("1.1.0-errors");
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
        sequence(&[
            ("Initialized", 0),
            ("Progressing", 0),
            ("Promoting", 0),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    let skip = rig.canary()["status"]["run"]["skip"].clone();
    assert_eq!(skip, json!({"source": "spec"}));
    rig.assert_ended(Phase::Succeeded, "1.1.0-errors").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_while_suspended_and_an_edited_route_moves_the_counters() {
    let rig = at_weight(Rig::without_engine(true), "1.1.0", 10).await;
    rig.edit_spec(|spec| spec["suspend"] = true.into());
    rig.pass(5).await;
    let status = rig.canary()["status"].clone();
    rig.pass(300).await;
    assert_eq!(rig.canary()["status"], status);
    assert_eq!(rig.weights(), (90, 10));
    rig.edit(&VIRTUAL_SERVICE, "mcp-server", |route| {
        route["spec"]["http"][0]["route"][0]["weight"] = 60.into();
        route["spec"]["http"][0]["route"][1]["weight"] = 40.into();
    });
    rig.pass(4).await;
    let from = rig.counts();
    rig.pass(60).await;
    let share = rig.counts().since(&from).share("mcp-server");
    assert!((share - 40.0).abs() <= 2.0, "{share}");
    rig.edit_spec(|spec| spec["suspend"] = false.into());
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
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
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

async fn a_route_edited_by_hand_is_repaired<W: World>(rig: Rig<W>) {
    let rig = at_weight(rig, "1.1.0", 10).await;
    rig.pass(5).await;
    rig.edit(&VIRTUAL_SERVICE, "mcp-server", |route| {
        route["spec"]["http"][0]["route"][0]["weight"] = 0.into();
        route["spec"]["http"][0]["route"][1]["weight"] = 100.into();
    });
    let edited = rig.now();
    rig.until_stored("the route as recorded", |r| r.weights() == (90, 10))
        .await;
    assert!(rig.now().since(edited) < W::AT_ONCE);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// With a gate, a run at its last weight.
async fn gated<W: World>(rig: Rig<W>) -> Rig<W> {
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/gate", "promotion");
    let rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::WaitingPromotion).await;
    rig
}

async fn the_gate_holds_while_the_analysis_goes_on_and_opens<W: World>(rig: Rig<W>) {
    let rig = gated(rig).await;
    let at = |rig: &Rig<W>| {
        let canary = rig.canary();
        text(&canary, "/status/canaryAnalysis/checks/0/at").to_owned()
    };
    let first = at(&rig);
    rig.pass(200).await;
    assert_eq!(text(&rig.canary(), "/status/phase"), "WaitingPromotion");
    assert_eq!(rig.weights(), (70, 30));
    assert!(at(&rig) > first, "{} {first}", at(&rig));
    let waits = rig.view().await.waiting_for.unwrap();
    assert_eq!(waits.what, "a person to open the promotion gate");
    let acted = rig.wish(Verb::Promote, false).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
        sequence(&[("Promoting", 30), ("Finalising", 0), ("Succeeded", 0)])
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

async fn a_rollback_closes_the_gate<W: World>(rig: Rig<W>) {
    let rig = gated(rig).await;
    let acted = rig.wish(Verb::Rollback, false).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    assert_eq!(
        rig.until_phase(Phase::Failed).await,
        sequence(&[("WaitingPromotion", 0), ("Failed", 0)])
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

async fn promote_with_skip_analysis_promotes_now<W: World>(rig: Rig<W>) {
    let rig = at_weight(rig, "1.1.0", 5).await;
    rig.pass(10).await;
    let acted = rig.wish(Verb::Promote, true).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
        sequence(&[("Promoting", 5), ("Finalising", 0), ("Succeeded", 0)])
    );
    let skip = rig.canary()["status"]["run"]["skip"].clone();
    assert_eq!(skip, json!({"source": "person", "by": "test"}));
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

async fn traffic_returns_by_step_weight_promotion<W: World>(rig: Rig<W>) {
    rig.edit_spec(|spec| spec["analysis"]["stepWeightPromotion"] = 10.into());
    let rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Promoting).await;
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
        sequence(&[
            ("Promoting", 30),
            ("Promoting", 20),
            ("Promoting", 10),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn step_weights_are_taken_one_after_another() {
    let listed = |spec: &mut Value| {
        let analysis = spec["analysis"].as_object_mut().unwrap();
        analysis.remove("stepWeight");
        analysis.remove("maxWeight");
        analysis.insert("stepWeights".to_owned(), json!([1, 10, 80]));
    };
    let rig = Rig::initialized(listed).await;
    rig.set_image("1.1.0");
    let (seen, shares) = rig.until_phase_with_shares(Phase::Succeeded).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Initialized", 0),
            ("Progressing", 0),
            ("Progressing", 1),
            ("Progressing", 10),
            ("Progressing", 80),
            ("Promoting", 80),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    for share in shares.unwrap() {
        let expected = f64::from(i32::try_from(share.weight).unwrap());
        assert!((share.percent - expected).abs() <= 2.0, "{share:?}");
    }
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Waits at rest and gives the number of writes meanwhile.
async fn writes_at_rest<W: World>(rig: &Rig<W>, seconds: u64) -> u64 {
    rig.line().reset_counts();
    rig.pass(seconds).await;
    rig.line().writes()
}

async fn a_spec_that_cannot_be_carried_out_is_refused_once_a_generation<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.pass(5).await;
    rig.edit_spec(|spec| spec["provider"] = "nginx".into());
    rig.set_image("1.1.0");
    rig.until_stored("the refusal is told", |r| {
        r.warnings("Refused: spec.provider") == 1
    })
    .await;
    let accepted = rig.condition("Accepted").unwrap();
    assert_eq!(accepted["status"], "False");
    let message = accepted["message"].as_str().unwrap();
    assert!(message.starts_with("spec.provider"), "{message}");
    assert_eq!(text(&rig.canary(), "/status/phase"), "Initialized");
    // What sets out before the answer to the event has come.
    rig.pass(30).await;
    assert_eq!(writes_at_rest(&rig, 180).await, 0);
    assert_eq!(rig.replicas_of("mcp-server"), 0);
    assert_eq!(rig.warnings("Refused: spec.provider"), 1);
    rig.edit_spec(|spec| spec["provider"] = "traefik".into());
    rig.until_stored("the next refusal is told", |r| {
        r.warnings("Refused: spec.provider") == 2
    })
    .await;
    let refused = rig.start("1.2.0").await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert!(
        refused.reason.contains("spec.provider"),
        "{}",
        refused.reason
    );
    rig.edit_spec(|spec| spec["provider"] = "istio".into());
    rig.until_phase(Phase::Succeeded).await;
    assert_eq!(rig.condition("Accepted").unwrap()["status"], "True");
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_metric_template_is_refused_by_its_path() {
    let rig = Rig::initialized(|_| {}).await;
    rig.edit_spec(|spec| {
        spec["analysis"]["metrics"][1]["templateRef"]["name"] = "no-such".into();
    });
    rig.pass(5).await;
    let accepted = rig.condition("Accepted").unwrap();
    assert_eq!(accepted["status"], "False");
    let message = accepted["message"].as_str().unwrap();
    assert!(
        message.starts_with("spec.analysis.metrics[mcp-latency].templateRef"),
        "{message}"
    );
    // It comes into being, and nobody touches the Canary.
    let store = rig.member().server.store();
    let there = store
        .get(&METRIC_TEMPLATE, "flagger-system", "mcp-latency-template")
        .unwrap();
    let mut template = json!({"metadata": {"name": "no-such", "namespace": "flagger-system"}});
    template["spec"] = there["spec"].clone();
    store.create(&METRIC_TEMPLATE, template, "kubectl").unwrap();
    rig.pass(5).await;
    assert_eq!(rig.condition("Accepted").unwrap()["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_cannot_pass_keep_a_run_from_beginning() {
    let rig = Rig::initialized(|_| {}).await;
    let store = rig.member().server.store();
    let there = store
        .get(&METRIC_TEMPLATE, "flagger-system", "mcp-latency-template")
        .unwrap();
    let mut template = json!({"metadata": {"name": "guarded", "namespace": "flagger-system"}});
    template["spec"] = there["spec"].clone();
    template["spec"]["provider"]["address"] = "http://prometheus.monitoring:9090".into();
    template["spec"]["provider"]["secretRef"] = json!({"name": "prometheus"});
    store.create(&METRIC_TEMPLATE, template, "kubectl").unwrap();
    rig.edit_spec(|spec| {
        spec["analysis"]["metrics"][1]["templateRef"]["name"] = "guarded".into();
    });
    rig.set_image("1.1.0");
    rig.pass(60).await;
    let accepted = rig.condition("Accepted").unwrap();
    assert_eq!(accepted["status"], "False");
    let message = accepted["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "spec.analysis.metrics[mcp-latency].templateRef: the MetricTemplate has a secretRef and names a Service of cluster prod-kr"
        ),
        "{message}"
    );
    assert_eq!(text(&rig.canary(), "/status/phase"), "Initialized");
    assert_eq!(rig.replicas_of("mcp-server"), 0);
}

async fn a_canary_whose_status_another_controller_writes_is_not_driven_until_adopted<W: World>(
    rig: Rig<W>,
) {
    let rig = rig.initialize().await;
    // Managed fields tell times in seconds, of the API server's clock.
    rig.pass(60).await;
    let write = |c: &mut Value| c["status"]["iterations"] = 7.into();
    rig.modify_status(&CANARY, "mcp-server", "flagger", write);
    rig.set_image("1.1.0");
    rig.pass(60).await;
    assert_eq!(text(&rig.canary(), "/status/phase"), "Initialized");
    assert_eq!(rig.replicas_of("mcp-server"), 0);
    assert_eq!(
        rig.warnings("Not driven: the status was last written by flagger"),
        1
    );
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/adopt", "true");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Creates a `VirtualService` of somebody's at the app's name.
fn foreign_route<W: World>(rig: &Rig<W>, http: &Value) {
    let route = json!({
        "metadata": {"name": "mcp-server", "namespace": rig.namespace()},
        "spec": {"hosts": ["mcp-server"], "http": http},
    });
    rig.create(&VIRTUAL_SERVICE, route);
}

async fn a_route_that_is_not_ours_is_taken_over_with_its_other_rules<W: World>(rig: Rig<W>) {
    let beta = json!({
        "name": "beta",
        "match": [{"headers": {"x-beta": {"exact": "true"}}}],
        "route": [{"destination": {"host": "mcp-beta"}}],
    });
    let app = json!({
        "name": "app",
        "timeout": "7s",
        "route": [{"destination": {"host": "mcp-server"}}],
    });
    foreign_route(&rig, &json!([beta, app]));
    let rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    let route = rig.object(&VIRTUAL_SERVICE, "mcp-server").unwrap();
    assert_eq!(route["spec"]["http"][0], beta);
    assert_eq!(route["spec"]["http"][1]["name"], "app");
    assert_eq!(route["spec"]["http"][1]["timeout"], "7s");
    assert_eq!(
        route["spec"]["http"][1]["route"],
        json!([
            {"destination": {"host": "mcp-server-primary"}, "weight": 90},
            {"destination": {"host": "mcp-server-canary"}, "weight": 10},
        ])
    );
    let original = "flagger.kubernetes.io/original-configuration";
    let saved: Value = serde_json::from_str(route.annotation(original).unwrap()).unwrap();
    assert_eq!(saved["http"], json!([beta, app]));
    assert_eq!(route.array_at("/metadata/ownerReferences").len(), 0);
    rig.until_phase(Phase::Succeeded).await;
    rig.pass(60).await;
    assert_eq!(rig.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_route_without_a_place_for_the_app_is_refused() {
    let mut rig = Rig::without_engine(true);
    foreign_route(
        &rig,
        &json!([{"route": [{"destination": {"host": "elsewhere"}}]}]),
    );
    rig.start_engine("first");
    rig.until(|c| !c.array_at("/status/conditions").is_empty())
        .await;
    let accepted = rig.condition("Accepted").unwrap();
    assert_eq!(accepted["status"], "False");
    let message = accepted["message"].as_str().unwrap();
    assert!(
        message.contains("VirtualService mcp-server is not ours"),
        "{message}"
    );
    rig.pass(10).await;
    assert_eq!(writes_at_rest(&rig, 180).await, 0);
    assert!(rig.object(&DEPLOYMENT, "mcp-server-primary").is_none());
    let route = rig.object(&VIRTUAL_SERVICE, "mcp-server").unwrap();
    assert_eq!(
        route["spec"]["http"],
        json!([{"route": [{"destination": {"host": "elsewhere"}}]}])
    );
    assert_eq!(rig.image_of("mcp-server"), image("1.0.0"));
}
