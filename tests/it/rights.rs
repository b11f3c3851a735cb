//! Rights that are missing: found before a run, told, and noticed when they are granted. The cluster takes them away one by one.

use canary_mcp::{
    api::{
        objects::{ObjectExt, SCALED_OBJECT},
        rights::Right,
    },
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::{Value, json};

use crate::support::{Rig, World};

const PATCH_ROUTES: Right = Right {
    verb: "patch",
    group: "networking.istio.io",
    resource: "virtualservices",
};
/// What is told without it.
const WITHOUT_ROUTES: &str = "rights are missing in cluster prod-kr: patch virtualservices.networking.istio.io in namespace ai-platform; \
                              give them to embedded (`canary-mcp rights` prints the role), then check with: kubectl auth can-i patch \
                              virtualservices.networking.istio.io -n ai-platform --as embedded";

fn deny(rig: &Rig, denied: &[Right]) {
    rig.member().server.faults().deny(denied);
}

/// Reason and message of condition `Accepted`.
fn accepted(canary: &Value) -> (String, String) {
    let all = canary.array_at("/status/conditions").iter();
    let of = |at: &str| {
        let condition = all.clone().find(|c| c["type"] == "Accepted").unwrap();
        condition.str_at(at).unwrap().to_owned()
    };
    (of("/reason"), of("/message"))
}

fn reason(canary: &Value) -> String {
    accepted(canary).0
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_right_does_not_begin_until_it_is_granted() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(120).await;
    let before = rig.canary();
    deny(&rig, &[PATCH_ROUTES]);
    let writes = rig.writes();
    rig.set_image("1.1.0");
    rig.until(|c| reason(c) == "MissingRights").await;
    rig.pass(600).await;

    let after = rig.canary();
    assert_eq!(
        accepted(&after),
        ("MissingRights".to_owned(), WITHOUT_ROUTES.to_owned())
    );
    for field in ["phase", "canaryWeight", "run", "lastAppliedSpec"] {
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
    // The condition and the event, and nothing else in ten minutes.
    assert_eq!(rig.writes() - writes, 2);
    assert_eq!(rig.replicas_of("mcp-server"), 0);
    assert_eq!(rig.warnings(&format!("No run begins, {WITHOUT_ROUTES}")), 1);
    assert_eq!(rig.view().await.reason.as_deref(), Some(WITHOUT_ROUTES));

    deny(&rig, &[]);
    let granted = rig.now();
    rig.until_phase(Phase::Progressing).await;
    assert!(rig.now().since(granted) <= 31_000);
    assert_eq!(reason(&rig.canary()), "Accepted");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn where_no_condition_can_be_written_an_event_tells() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(120).await;
    let status = Right {
        verb: "update",
        group: "flagger.app",
        resource: "canaries/status",
    };
    deny(&rig, &[status]);
    rig.set_image("1.1.0");
    rig.pass(60).await;
    let told = "No run begins, rights are missing in cluster prod-kr: update canaries.flagger.app/status in namespace ai-platform; ";
    assert_eq!(rig.warnings(told), 1);
    assert_eq!(rig.canary().str_at("/status/phase"), Some("Initialized"));
}

#[tokio::test(start_paused = true)]
async fn the_tool_refuses_by_what_the_engine_has_found() {
    let mut rig = Rig::new();
    let _second = rig.process("second");
    rig.until_phase(Phase::Initialized).await;
    rig.crash_engine();
    deny(&rig, &[PATCH_ROUTES]);
    // A new term asks at once, before anybody wants a run.
    rig.until(|c| reason(c) == "MissingRights").await;
    // The event follows the condition.
    rig.pass(1).await;
    let writes = rig.writes();
    let refused = rig.start("1.1.0").await;
    assert_eq!(
        (refused.outcome, refused.reason),
        (
            Outcome::Refused,
            format!("whoever leads could not carry the run out: {WITHOUT_ROUTES}")
        )
    );
    assert_eq!(rig.writes(), writes);
    let rows = rig.control.clusters(None).await.unwrap();
    assert_eq!(
        rows[0].reason,
        Some(format!("no run begins, {WITHOUT_ROUTES}"))
    );

    deny(&rig, &[]);
    rig.until(|c| reason(c) == "Accepted").await;
    let started = rig.start("1.1.0").await;
    assert_eq!(started.outcome, Outcome::Applied, "{}", started.reason);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_lost_meanwhile_is_told_to_who_asks_for_the_run() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(120).await;
    deny(&rig, &[PATCH_ROUTES]);
    let acted = rig.start("1.1.0").await;
    assert_eq!(
        (acted.outcome, acted.reason),
        (
            Outcome::Unconfirmed,
            format!(
                "the image is set, but whoever leads cannot carry the run out: {WITHOUT_ROUTES}"
            )
        )
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_canary_does_not_need_is_not_demanded() {
    let rig = Rig::without_engine(true);
    rig.delete(&SCALED_OBJECT, "mcp-server");
    rig.edit_spec(|spec| {
        let spec = spec.as_object_mut().unwrap();
        spec.remove("autoscalerRef");
        spec["analysis"]["metrics"] = json!([{"name": "request-success-rate", "thresholdRange": {"min": 99}, "interval": "1m"}]);
    });
    let rig = rig.initialize().await;
    rig.pass(120).await;
    let scalers = |verb| Right {
        verb,
        group: "keda.sh",
        resource: "scaledobjects",
    };
    let get = |group, resource| Right {
        verb: "get",
        group,
        resource,
    };
    deny(
        &rig,
        &[
            scalers("create"),
            scalers("patch"),
            get("", "secrets"),
            get("flagger.app", "metrictemplates"),
        ],
    );
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_its_way_without_events() {
    let rig = Rig::initialized(|_| {}).await;
    let events = |verb| Right {
        verb,
        group: "events.k8s.io",
        resource: "events",
    };
    deny(&rig, &[events("create"), events("patch")]);
    let before = rig.events().len();
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    assert_eq!(rig.events().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_lost_in_mid_run_holds_the_run_and_its_return_lets_it_go_on() {
    let rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    deny(&rig, &[PATCH_ROUTES]);
    rig.pass(600).await;
    assert_eq!(rig.canary().int_at("/status/canaryWeight"), Some(10));
    assert_eq!(reason(&rig.canary()), "Accepted");
    deny(&rig, &[]);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_front_without_its_own_rights_says_which() {
    let rig = Rig::initialized(|_| {}).await;
    let patch = |group, resource| Right {
        verb: "patch",
        group,
        resource,
    };
    rig.start("1.1.0").await;
    deny(
        &rig,
        &[
            patch("flagger.app", "canaries"),
            patch("apps", "deployments"),
        ],
    );
    let refused = rig.wish(Verb::Rollback, false).await;
    assert_eq!(
        (refused.outcome, refused.reason.as_str()),
        (
            Outcome::Refused,
            "cannot patch Canary ai-platform/mcp-server in cluster prod-kr: not allowed; give our service account the verb, then check \
             with: kubectl auth can-i patch canaries.flagger.app -n ai-platform: canaries.flagger.app \"mcp-server\" is forbidden: User \
             \"embedded\" cannot patch resource \"canaries\" in API group \"flagger.app\" in the namespace \"ai-platform\" (403 Forbidden)"
        )
    );
    let refused = rig.start("1.1.1").await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert!(
        refused.reason.starts_with(
            "cannot patch Deployment ai-platform/mcp-server in cluster prod-kr: not allowed; "
        ),
        "{}",
        refused.reason
    );
}
