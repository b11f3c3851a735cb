//! Calls that are cut short, and calls that are made again.

use canary_mcp::decide::facts::Verb;
use http::Method;

use super::*;
use crate::support::{NAME, sequence};

fn keys(rig: &Rig, path: &str) -> Vec<String> {
    let calls = calls(rig);
    let of = calls.iter().filter(|call| call.path == path);
    of.map(|call| call.header("idempotency-key").unwrap().to_owned())
        .collect()
}

/// A hook that takes ten minutes does not hold a person's rollback up.
#[tokio::test(start_paused = true)]
async fn a_slow_hook_is_interrupted_by_a_rollback() {
    let mut slow = hook("pre-rollout");
    slow["timeout"] = "15m".into();
    slow["retries"] = 5.into();
    let rig = rig(&[slow]).await;
    says_late(&rig, "/pre-rollout", 500, 600);
    rig.set_image("1.1.0");
    rig.until_stored("the hook is called", |rig| count(rig, "/pre-rollout") == 1)
        .await;
    let began = rig.now();
    rig.wish(Verb::Rollback, false).await;
    until_phase(&rig, Phase::Failed).await;
    assert!(rig.now().since(began) < 60_000, "{:?}", rig.now());
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    // Nobody waits for the answer any more, and for another attempt.
    rig.pass(900).await;
    assert_eq!(count(&rig, "/pre-rollout"), 1);
}

/// Somebody else's write to the Canary is no reason to call a hook again.
#[tokio::test(start_paused = true)]
async fn a_label_in_mid_call_changes_nothing() {
    let rig = rig(&[hook("pre-rollout")]).await;
    says_late(&rig, "/pre-rollout", 200, 8);
    rig.set_image("1.1.0");
    rig.until_stored("the hook is called", |rig| count(rig, "/pre-rollout") == 1)
        .await;
    rig.edit(&canary_mcp::api::objects::CANARY, NAME, |canary| {
        canary["metadata"]["labels"] = json!({"team": "search"});
    });
    until_phase(&rig, Phase::Succeeded).await;
    let calls = calls(&rig);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].code, Some(200));
}

/// Between a hook and the record of what it meant: whoever comes next calls again, and the receiver can tell by the key.
#[tokio::test(start_paused = true)]
async fn a_call_that_a_crash_has_left_unrecorded_is_made_again_with_its_key() {
    let mut rig = rig(&[hook("pre-rollout"), hook("confirm-promotion")]).await;
    rig.set_image("1.1.0");
    rig.until_stored("the canary comes up", |rig| rig.replicas_of(NAME) > 0)
        .await;
    let held = rig.line().hold_next(|method, path| {
        *method == Method::PATCH && path.contains("virtualservices/mcp-server")
    });
    rig.reached(&held).await;
    assert_eq!(count(&rig, "/pre-rollout"), 1);
    rig.crash_engine();
    drop(held);
    rig.start_engine("second");
    assert_eq!(
        rig.until_phase(Phase::Succeeded).await,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 15),
            ("Progressing", 30),
            ("Promoting", 30),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    let keys = keys(&rig, "/pre-rollout");
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    let run = rig.canary()["status"]["run"]["id"].clone();
    let begin = format!("{}/pre-rollout/pre-rollout/", run.as_str().unwrap());
    assert!(keys[0].starts_with(&begin), "{}", keys[0]);
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// At each interval a rollout hook is called anew: another key each time.
#[tokio::test(start_paused = true)]
async fn each_interval_has_a_key_of_its_own() {
    let rig = rig(&[hook("rollout")]).await;
    rig.set_image("1.1.0");
    until_phase(&rig, Phase::Succeeded).await;
    let keys = keys(&rig, "/rollout");
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}
