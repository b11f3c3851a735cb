//! The gates by themselves, and on a Canary that Flagger drives.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    decide::facts::Verb,
    engine::{
        Settings,
        control::{Control, Outcome},
    },
    outbound::http::{self as outbound, Transport},
};
use serde_json::{Value, json};

use super::{Product, tokens};
use crate::{processes::child::Dir, support::Rig};

fn payload() -> Value {
    json!({"name": "mcp-server", "namespace": "ai-platform", "phase": "Progressing", "checksum": "86d557d6f7"})
}

fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_gates_answer_as_flaggers_load_tester_does() {
    let rig = Rig::without_engine(true);
    let product = Product::new(&rig.control);
    let (approved, forbidden) = (said(200, "Approved"), said(403, "Forbidden"));
    let body = payload();
    for (path, answer) in [
        ("/gate/prod-kr/approve", said(200, "OK")),
        ("/gate/prod-kr/halt", forbidden.clone()),
        ("/gate/prod-kr/check", forbidden.clone()),
        ("/gate/prod-kr/open", said(202, "")),
        ("/gate/prod-kr/check", approved.clone()),
        ("/rollback/prod-kr/check", forbidden.clone()),
        ("/rollback/prod-kr/open", said(202, "")),
        ("/gate/prod-kr/close", said(202, "")),
        ("/gate/prod-kr/check", forbidden.clone()),
        ("/rollback/prod-kr/check", approved.clone()),
        ("/rollback/prod-kr/close", said(202, "")),
        ("/rollback/prod-kr/close", said(202, "")),
        ("/rollback/prod-kr/check", forbidden.clone()),
        ("/gate/prod-kr/open", said(202, "")),
    ] {
        assert_eq!(product.post(path, &body).await, answer, "{path}");
    }
    assert_eq!(
        rig.canary().annotation("canary-mcp.dev/gate-state"),
        Some(r#"{"gate":"open","rollback":"closed","at":"2026-11-21T00:00:00Z"}"#)
    );
    // Another replica, and names alone as people send them with curl.
    let direct = Transport::Direct(outbound::client(false).unwrap());
    let other = Control::new(rig.registry.clone(), Settings::default(), direct);
    let names = json!({"name": "mcp-server", "namespace": "ai-platform"});
    assert_eq!(
        Product::new(&other)
            .post("/gate/prod-kr/check", &names)
            .await,
        approved
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_not_approved() {
    let rig = Rig::without_engine(true);
    let product = Product::new(&rig.control);
    for path in [
        "/gate/prod-de/approve",
        "/gate/prod-de/check",
        "/rollback/prod-de/check",
    ] {
        assert_eq!(
            product.post(path, &payload()).await,
            said(404, "there is no cluster \"prod-de\" here\n"),
            "{path}"
        );
    }
    let other = json!({"name": "../secrets", "namespace": "ai-platform"});
    for path in ["/gate/prod-kr/check", "/rollback/prod-kr/check"] {
        assert_eq!(
            product.post(path, &other).await,
            said(
                404,
                "cluster prod-kr has no Canary ai-platform/../secrets\n"
            )
        );
    }
    let (status, text) = product
        .post("/gate/prod-kr/check", &json!({"name": "a"}))
        .await;
    assert_eq!(status, 400);
    assert!(
        text.starts_with("the body has to be a webhook's payload, {\"name\", \"namespace\"} at least: missing field `namespace`"),
        "{text}"
    );
    let page = [("origin", "http://localhost:8080")];
    assert_eq!(
        product
            .post_with("/gate/prod-kr/open", &payload(), &page)
            .await,
        said(403, "webhooks are not for web pages\n")
    );
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/gate-state", "open");
    assert_eq!(
        product.post("/gate/prod-kr/check", &payload()).await,
        said(403, "Forbidden")
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_may_stand_in_the_hooks_url_and_does_what_its_scope_says() {
    let rig = Rig::without_engine(true);
    let dir = Dir::new();
    let (path, reader, writer) = tokens(&dir);
    let mut product = Product::new(&rig.control);
    product.tokens = Some(path);
    // As Go's client sends http://flagger:TOKEN@canary-mcp/.
    let of_url = |token: &str| format!("Basic {}", STANDARD.encode(format!("flagger:{token}")));
    let (read, write) = (of_url(&reader), of_url(&writer));
    let (bearer, wrong) = (format!("Bearer {writer}"), of_url("cmcp_0"));
    let checks = [
        "/gate/prod-kr/approve",
        "/gate/prod-kr/halt",
        "/gate/prod-kr/check",
        "/rollback/prod-kr/check",
    ];
    let changes = [
        "/gate/prod-kr/open",
        "/gate/prod-kr/close",
        "/rollback/prod-kr/open",
        "/rollback/prod-kr/close",
        "/trigger-deployment",
    ];
    let status = ["/check-status", "/check-primary-status"];
    for path in checks.iter().chain(&changes).chain(&status) {
        let (none, _) = product.post(path, &payload()).await;
        assert_eq!(none, 401, "{path}");
        let headers = [("authorization", wrong.as_str())];
        let (unknown, _) = product.post_with(path, &payload(), &headers).await;
        assert_eq!(unknown, 401, "{path}");
        let headers = [("authorization", read.as_str())];
        let (_, text) = product.post_with(path, &payload(), &headers).await;
        let lacks = "flagger may not do this: its token has no scope rollouts:write; ask who runs this server for one that has\n";
        assert_eq!(text == lacks, changes.contains(path), "{path}: {text}");
    }
    for headers in [
        [("authorization", bearer.as_str())],
        [("authorization", write.as_str())],
    ] {
        for (path, answer) in [
            ("/gate/prod-kr/open", said(202, "")),
            ("/gate/prod-kr/check", said(200, "Approved")),
            ("/gate/prod-kr/close", said(202, "")),
        ] {
            assert_eq!(product.post_with(path, &payload(), &headers).await, answer);
        }
    }
    let state = rig.canary();
    let state = state.annotation("canary-mcp.dev/gate-state").unwrap();
    assert!(state.contains(r#""by":"alice""#), "{state}");
    assert!(!rig.canary().to_string().contains(&writer));

    product.open_checks = true;
    assert_eq!(
        product.post("/gate/prod-kr/check", &payload()).await,
        said(403, "Forbidden")
    );
    for path in changes.iter().chain(&status) {
        assert_eq!(product.post(path, &payload()).await.0, 401, "{path}");
    }
}

/// Flagger writes its status.
fn flagger(rig: &Rig, phase: &str, revision: &str, weight: i64, since: &str) {
    rig.member()
        .server
        .store()
        .modify_status(&CANARY, "ai-platform", "mcp-server", "flagger", |canary| {
            canary["status"] = json!({
                "phase": phase, "canaryWeight": weight, "failedChecks": 0, "iterations": 0,
                "lastAppliedSpec": revision, "lastPromotedSpec": "5f8d9c7b6",
                "lastTransitionTime": "2026-11-21T00:00:00Z",
                "conditions": [{"type": "Promoted", "status": "Unknown", "reason": phase,
                    "lastTransitionTime": since, "lastUpdateTime": since, "message": "m"}],
            });
        })
        .unwrap()
        .unwrap();
}

fn hooks(rig: &Rig, hooks: &Value) {
    rig.edit_spec(|spec| spec["analysis"]["webhooks"] = hooks.clone());
}

const NOT_OURS: &str = "this Canary is not ours to drive: the status was last written by flagger; stop it and set the annotation canary-mcp.dev/adopt: \"true\" to take over";

#[tokio::test(start_paused = true)]
async fn promote_opens_the_gate_that_flagger_asks_for_what_waits_now() {
    let rig = Rig::without_engine(true);
    let product = Product::new(&rig.control);
    let check = async || product.post("/gate/prod-kr/check", &payload()).await.0;
    let promote = async || {
        let acted = rig.wish(Verb::Promote, false).await;
        (acted.outcome, acted.reason)
    };
    flagger(&rig, "Waiting", "5f8d9c7b6", 0, "2026-11-21T00:00:00Z");
    assert_eq!(
        promote().await,
        (
            Outcome::Refused,
            format!(
                "{NOT_OURS}; to have it ask here instead, add to spec.analysis.webhooks {{type: confirm-rollout, name: approve, url: http://THIS-SERVER/gate/prod-kr/check}}"
            )
        )
    );
    hooks(
        &rig,
        &json!([
            {"name": "start", "type": "confirm-rollout", "url": "http://flagger:cmcp_secret@canary-mcp.canary-mcp-system/gate/prod-kr/check"},
            {"name": "live", "type": "confirm-promotion", "url": "http://canary-mcp.canary-mcp-system/gate/prod-kr/check"},
        ]),
    );
    let opened = |hook: &str| {
        format!(
            "gate opened, for what waits now and no further; flagger asks it at its next interval (webhook {hook})"
        )
    };
    assert_eq!(check().await, 403);
    assert_eq!(promote().await, (Outcome::Applied, opened("start")));
    assert_eq!(check().await, 200);
    assert_eq!(
        promote().await,
        (
            Outcome::Already,
            opened("start").replace("gate opened", "gate open already")
        )
    );

    // Flagger goes on: the approval of the start is none of the promotion.
    flagger(&rig, "Progressing", "6c9f7d8b5", 10, "2026-11-21T00:00:00Z");
    assert_eq!(check().await, 403);
    assert_eq!(
        promote().await,
        (
            Outcome::Refused,
            format!("{NOT_OURS}; nothing waits for approval (phase Progressing)")
        )
    );
    flagger(
        &rig,
        "WaitingPromotion",
        "6c9f7d8b5",
        0,
        "2026-11-21T00:00:00Z",
    );
    assert_eq!(check().await, 403);
    let skips = rig.wish(Verb::Promote, true).await;
    assert_eq!(
        (skips.outcome, skips.reason),
        (Outcome::Refused, NOT_OURS.to_owned())
    );
    assert_eq!(promote().await, (Outcome::Applied, opened("live")));
    assert_eq!(check().await, 200);

    // The next version waits for an approval of its own.
    flagger(&rig, "Succeeded", "6c9f7d8b5", 0, "2026-11-21T00:05:00Z");
    assert_eq!(
        promote().await,
        (
            Outcome::Refused,
            format!("{NOT_OURS}; it asks nobody now (phase Succeeded)")
        )
    );
    flagger(
        &rig,
        "WaitingPromotion",
        "7d8b5c9f6",
        0,
        "2026-11-21T00:06:00Z",
    );
    assert_eq!(check().await, 403);
}

#[tokio::test(start_paused = true)]
async fn rollback_opens_the_rollback_gate_that_flagger_asks_for_this_run() {
    let rig = Rig::without_engine(true);
    let product = Product::new(&rig.control);
    let check = async || product.post("/rollback/prod-kr/check", &payload()).await.0;
    flagger(&rig, "Progressing", "6c9f7d8b5", 10, "2026-11-21T00:00:00Z");
    let refused = rig.wish(Verb::Rollback, false).await;
    assert_eq!(
        (refused.outcome, refused.reason),
        (
            Outcome::Refused,
            format!(
                "{NOT_OURS}; to have it ask here instead, add to spec.analysis.webhooks {{type: rollback, name: rollback, url: http://THIS-SERVER/rollback/prod-kr/check}}"
            )
        )
    );
    hooks(
        &rig,
        &json!([{"name": "back", "type": "rollback", "url": "http://canary-mcp/rollback/prod-kr/check"}]),
    );
    let opened = rig.wish(Verb::Rollback, false).await;
    assert_eq!(
        (opened.outcome, opened.reason.as_str()),
        (
            Outcome::Applied,
            "rollback gate opened, for this run; flagger asks it at its next interval (webhook back) and then rolls back"
        )
    );
    assert_eq!(check().await, 200);
    // The same version tried again later is not rolled back by the wish of then.
    flagger(&rig, "Progressing", "6c9f7d8b5", 10, "2026-11-21T00:30:00Z");
    assert_eq!(check().await, 403);
}
