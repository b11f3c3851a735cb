//! What the engine does besides rollouts that go their way: whom it yields to, what it measures, what its views are made of.

use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::json;

use crate::support::Rig;

#[tokio::test(start_paused = true)]
async fn another_controllers_canary_is_left_alone_until_it_is_adopted() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    // Managed fields tell times in seconds.
    rig.pass(2).await;
    let store = rig.member().server.store();
    store
        .modify_status(&CANARY, "ai-platform", "mcp-server", "flagger", |canary| {
            canary["status"]["failedChecks"] = json!(1);
        })
        .unwrap()
        .unwrap();
    let why = "the status was last written by flagger; stop it and set the annotation canary-mcp.dev/adopt: \"true\" to take over";
    let refused = rig.start("1.1.0").await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert_eq!(
        refused.reason,
        format!("this Canary is not ours to drive: {why}")
    );
    assert_eq!(
        rig.wish(Verb::Rollback, false).await.outcome,
        Outcome::Refused
    );
    let before = rig.canary();
    rig.set_image("1.1.0");
    rig.pass(180).await;
    assert_eq!(rig.canary(), before);
    let events = rig.view().await.events;
    assert_eq!(
        events.last().unwrap().message,
        format!("Not driven: {why}"),
        "{events:?}"
    );

    rig.edit(&CANARY, "mcp-server", |canary| {
        canary["metadata"]["annotations"] = json!({"canary-mcp.dev/adopt": "true"});
    });
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_idle();
    assert_eq!(rig.counts().no_endpoint_503, 0);
}

#[tokio::test(start_paused = true)]
async fn a_canary_is_measured_from_the_first_look_until_it_is_gone() {
    let mut rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    let labels = r#"name="mcp-server",namespace="ai-platform",cluster="prod-kr""#;
    let all = r#"flagger_canary_total{namespace="ai-platform",cluster="prod-kr"}"#;
    let shows = |rig: &Rig, line: &str| {
        let text = rig.metrics.encode().unwrap();
        text.lines().any(|l| l.starts_with(line))
    };
    assert!(shows(&rig, &format!("flagger_canary_status{{{labels}}} 1")));
    assert!(shows(
        &rig,
        &format!("flagger_canary_duration_seconds_count{{{labels}}}")
    ));
    assert!(shows(&rig, &format!("{all} 1")));

    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    rig.pass(1).await;
    assert!(shows(&rig, &format!("flagger_canary_status{{{labels}}} 0")));
    assert!(shows(
        &rig,
        r#"flagger_canary_weight{workload="mcp-server",namespace="ai-platform",cluster="prod-kr"} 5"#
    ));
    assert!(shows(
        &rig,
        &format!("canary_mcp_run_age_seconds{{{labels}}}")
    ));

    rig.crash_engine();
    rig.pass(1).await;
    assert!(!shows(&rig, &format!("flagger_canary_status{{{labels}}}")));
    assert!(!shows(
        &rig,
        &format!("canary_mcp_run_age_seconds{{{labels}}}")
    ));
    assert!(shows(&rig, &format!("{all} 0")));
}

#[tokio::test(start_paused = true)]
async fn a_view_says_what_its_pods_lack_and_tells_events_in_their_order() {
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    rig.set_image("1.2.0-crash");
    rig.until(|c| c.str_at("/status/run/stage") == Some("starting"))
        .await;
    rig.pass(20).await;
    let view = rig.view().await;
    let waiting = view.waiting_for.clone().unwrap();
    assert_eq!(
        waiting.what,
        "the canary's pods to become ready (0 of 1 are)"
    );
    let how = waiting.how.unwrap();
    assert!(how.contains(": CrashLoopBackOff, "), "{how}");

    rig.until_phase(Phase::Failed).await;
    rig.pass(5).await;
    let said: Vec<String> = rig
        .view()
        .await
        .events
        .into_iter()
        .map(|e| e.message)
        .collect();
    let at = |start: &str| said.iter().position(|m| m.starts_with(start)).unwrap();
    let order = [
        at("New revision detected!"),
        at("canary deployment mcp-server.ai-platform not ready"),
        at("Canary failed! Scaling down"),
    ];
    assert!(order.is_sorted(), "{said:?}");
}
