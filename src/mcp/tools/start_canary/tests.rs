//! What `start_canary` answers, for each way in which it can end.

use serde_json::json;

use super::*;
use crate::{
    api::view::Pair,
    mcp::{progress::tests::rollout, words},
};

fn key() -> Key {
    Key {
        cluster: "prod-kr".to_owned(),
        namespace: "ai-platform".to_owned(),
        name: "mcp-server".to_owned(),
    }
}

fn acted(outcome: Outcome, reason: &str, view: Option<RolloutView>) -> Acted {
    Acted {
        outcome,
        reason: reason.to_owned(),
        view: view.map(Arc::new),
    }
}

#[test]
fn the_result_has_the_head_of_the_rollout_and_its_steps() {
    let mut view = rollout(Phase::Progressing, 10, 2);
    view.revision = Pair {
        live: Some("v1-aaaaaaaa".to_owned()),
        canary: Some("v1-bbbbbbbb".to_owned()),
    };
    view.steps = vec![StepView {
        weight: 5,
        mirrored: None,
        matched: None,
        at: "2026-11-21T00:01:00Z".to_owned(),
        verdict: None,
        checks: Vec::new(),
    }];
    let summary = words::sentence(&words::summary(&view));
    let result = started(
        &key(),
        &acted(Outcome::Applied, "the run has begun", Some(view)),
        Some("wait".to_owned()),
    );
    assert_eq!(
        json!(result),
        json!({
            "outcome": "applied",
            "reason": "the run has begun",
            "summary": summary,
            "next": "wait",
            "cluster": "prod-kr",
            "namespace": "ai-platform",
            "name": "mcp-server",
            "phase": "Progressing",
            "weight": {"written": 10},
            "revision": {"live": "v1-aaaaaaaa", "canary": "v1-bbbbbbbb"},
            "steps": [{"weight": 5, "at": "2026-11-21T00:01:00Z"}],
        })
    );
}

#[test]
fn a_refusal_with_a_manifest_has_a_short_sentence() {
    let reason = "there is no Canary for Deployment mcp-server; apply this one:\napiVersion: flagger.app/v1beta1\n";
    let result = started(&key(), &acted(Outcome::Refused, reason, None), None);
    assert_eq!(
        json!(result),
        json!({
            "outcome": "refused",
            "reason": reason,
            "summary": "prod-kr ai-platform/mcp-server: refused, there is no Canary for Deployment mcp-server; apply this one.",
            "next": r#"do what reason says; call get_status {"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform"} for the rollout as it is"#,
            "cluster": "prod-kr",
            "namespace": "ai-platform",
            "name": "mcp-server",
            "steps": [],
        })
    );
}

#[test]
fn each_outcome_has_its_sentence() {
    for (outcome, summary) in [
        (
            Outcome::Already,
            "prod-kr ai-platform/mcp-server: nothing to do, it runs.",
        ),
        (
            Outcome::Refused,
            "prod-kr ai-platform/mcp-server: refused, it runs.",
        ),
        (
            Outcome::Unconfirmed,
            "prod-kr ai-platform/mcp-server: not confirmed, it runs.",
        ),
        (Outcome::Applied, "prod-kr ai-platform/mcp-server: it runs."),
    ] {
        let head = Head::new(&key(), &acted(outcome, "it runs", None));
        assert_eq!(json!(head)["summary"], summary);
    }
}

#[test]
fn no_run_and_a_person_who_is_asked_end_the_following() {
    for (phase, ends) in [
        (Phase::Initializing, false),
        // The image that was asked for is what is live, and no run was ever needed.
        (Phase::Initialized, true),
        (Phase::Waiting, true),
        (Phase::Progressing, false),
        (Phase::WaitingPromotion, true),
        (Phase::Promoting, false),
        (Phase::Finalising, false),
        (Phase::Succeeded, true),
        (Phase::Failed, true),
        (Phase::Terminating, true),
        (Phase::Terminated, true),
    ] {
        let view = rollout(phase, 5, 1);
        assert_eq!(over(&view, Some("run-1")), ends, "{phase:?}");
        assert!(over(&view, Some("run-0")), "{phase:?}: another run");
    }
}

#[test]
fn the_bound_says_how_to_go_on() {
    let view = rollout(Phase::Progressing, 10, 2);
    let arguments = r#"{"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform","since":"run-1:Progressing:10","wait_seconds":50}"#;
    let wait = Duration::from_secs(50);
    for (ended, next) in [
        (Ended::Reached, None),
        (
            Ended::TimeUp,
            Some(format!(
                "this call ends after 50 s, the rollout goes on: call get_status {arguments} for the next change, or rollback to end it"
            )),
        ),
        (
            Ended::Draining,
            Some(
                r#"this server is about to stop, the rollout goes on: call get_status {"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform"} again"#
                    .to_owned(),
            ),
        ),
        (
            Ended::Lost,
            Some(
                r#"the Canary is gone or cannot be watched any more: call get_status {"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform"}"#
                    .to_owned(),
            ),
        ),
    ] {
        assert_eq!(next_after(ended, &key(), &view, wait), next);
    }
}

#[test]
fn a_dry_run_says_how_long_it_would_take_and_that_nothing_was_written() {
    let preview: Preview = serde_json::from_value(json!({
        "steps": [
            {"weight": 0, "phase": "Progressing", "after_seconds": 0, "at": "2026-11-21T00:00:00Z"},
            {"weight": 30, "phase": "Progressing", "after_seconds": 310, "at": "2026-11-21T00:05:10Z"},
            {"weight": 0, "phase": "Succeeded", "after_seconds": 390, "at": "2026-11-21T00:06:30Z"},
        ],
        "changes": [],
        "checks": [],
        "replicas": {"canary": 1, "peak_extra": 2},
        "warnings": ["one"],
    }))
    .unwrap();
    let planned = Planned {
        acted: acted(
            Outcome::Planned,
            "nothing was written; start_canary without dry_run does it",
            None,
        ),
        preview: Some(preview.clone()),
    };
    assert_eq!(
        json!(foreseen(&key(), planned)),
        json!({
            "outcome": "planned",
            "reason": "nothing was written; start_canary without dry_run does it",
            "summary": "prod-kr ai-platform/mcp-server: dry run, up to 30% of the traffic, done after about 7 min if every check passes, \
                        at most 2 pods more than now, 1 warning; nothing was written.",
            "next": "show the plan to the person; start_canary without dry_run does it",
            "cluster": "prod-kr",
            "namespace": "ai-platform",
            "name": "mcp-server",
            "steps": [],
            "plan": preview,
        })
    );
}
