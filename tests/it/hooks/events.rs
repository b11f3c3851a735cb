//! Event hooks: everything that people are told, in order, or what a hook asks for; never in the way.

use super::*;

fn event_hook(name: &str, more: &Value) -> Value {
    let mut hook = json!({
        "name": name, "type": "event",
        "url": format!("http://flagger-loadtester.test/event-{name}"),
    });
    let fields = more.as_object().unwrap().clone();
    hook.as_object_mut().unwrap().extend(fields);
    hook
}

/// What a receiver was told, in order: type, message, phase.
fn received(rig: &Rig, name: &str) -> Vec<String> {
    let calls = rig.member().load_tester().calls();
    let path = format!("/event-{name}");
    let of = calls.iter().filter(|call| call.path == path);
    of.map(|call| {
        let text = |at: &str| call.payload.str_at(at).unwrap_or("-").to_owned();
        format!(
            "{} {} [{}]",
            text("/metadata/eventType"),
            text("/metadata/eventMessage"),
            text("/phase")
        )
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn every_event_is_sent_in_order() {
    let rig = rig(&[event_hook(
        "all",
        &json!({"metadata": {"team": "search", "eventType": "mine"}}),
    )])
    .await;
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    rig.pass(60).await;
    assert_eq!(
        received(&rig, "all"),
        [
            "Normal New Deployment detected, starting initialization. [Initializing]",
            "Normal Initialization done! mcp-server.ai-platform [Initialized]",
            "Normal New revision detected! Scaling up mcp-server.ai-platform [Progressing]",
            "Normal Starting canary analysis for mcp-server.ai-platform [Progressing]",
            "Normal Advance mcp-server.ai-platform canary weight 15 [Progressing]",
            "Normal Advance mcp-server.ai-platform canary weight 30 [Progressing]",
            "Normal Copying mcp-server.ai-platform template spec to mcp-server-primary.ai-platform [Promoting]",
            "Normal Routing all traffic to primary [Finalising]",
            "Normal Promotion completed! Scaling down mcp-server.ai-platform [Succeeded]",
        ]
    );
    let calls = rig.member().load_tester().calls();
    let last = calls.last().unwrap();
    let at = last.payload.str_at("/metadata/timestamp").unwrap();
    assert_eq!(
        last.payload["metadata"],
        json!({
            "eventMessage": "Promotion completed! Scaling down mcp-server.ai-platform",
            "eventType": "Normal",
            "timestamp": at,
            "team": "search",
        })
    );
    let at: i64 = at.parse().unwrap();
    assert!(
        (0..=5_000).contains(&(last.at.0 - at)),
        "{at} {:?}",
        last.at
    );
    let mut keys: Vec<&str> = calls
        .iter()
        .map(|c| c.header("idempotency-key").unwrap())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), calls.len());
}

#[tokio::test(start_paused = true)]
async fn a_hook_gets_the_events_that_it_names() {
    let hooks = [
        event_hook("ends", &json!({"events": ["promoted", "rolledBack"]})),
        event_hook("revision", &json!({"events": ["revision"]})),
        // The guide's way of saying it.
        event_hook(
            "report",
            &json!({"metadata": {"eventType": "analysis-complete"}}),
        ),
    ];
    let rig = rig(&hooks).await;
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    rig.pass(60).await;
    assert_eq!(
        received(&rig, "ends"),
        ["Normal Promotion completed! Scaling down mcp-server.ai-platform [Succeeded]"]
    );
    assert_eq!(
        received(&rig, "revision"),
        ["Normal New revision detected! Scaling up mcp-server.ai-platform [Progressing]"]
    );
    assert_eq!(
        received(&rig, "report"),
        [
            "Normal Copying mcp-server.ai-platform template spec to mcp-server-primary.ai-platform [Promoting]"
        ]
    );
}

/// The installation's own receiver hears of the Canaries that have none.
#[tokio::test(start_paused = true)]
async fn the_installations_webhook_is_for_canaries_without_event_hooks() {
    for (hooks, global, own) in [
        (json!([]), true, false),
        // One that wants nothing of all this is one.
        (
            json!([event_hook("own", &json!({"events": ["failed"]}))]),
            false,
            false,
        ),
        (json!([event_hook("own", &json!({}))]), false, true),
    ] {
        let rig = Rig::without_engine(true);
        rig.edit_spec(|spec| spec["analysis"]["webhooks"] = hooks.clone());
        says(&rig, "", 200, "");
        let engine = rig.process_with("first", |settings| {
            let url = "http://flagger-loadtester.test/event-global";
            settings.event_webhook = Some(url.to_owned());
        });
        until_phase(&rig, Phase::Initialized).await;
        rig.pass(10).await;
        let initialized =
            "Normal Initialization done! mcp-server.ai-platform [Initialized]".to_owned();
        assert_eq!(
            received(&rig, "global").contains(&initialized),
            global,
            "{hooks}"
        );
        assert_eq!(received(&rig, "own").contains(&initialized), own, "{hooks}");
        engine.stop().await;
    }
}

/// A receiver that does not answer delays nothing, and what it has lost is counted.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_fails_is_not_in_the_way() {
    let rig = rig(&[event_hook("dead", &json!({"timeout": "60s", "retries": 1}))]).await;
    says_late(&rig, "/event-dead", 200, 3_600);
    let began = rig.now();
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    let took = rig.now().since(began);
    assert!(took < 5 * 60_000, "{took}");
    // Each takes two minutes and a second; the queue is emptied behind the run.
    rig.pass(3_600).await;
    let metrics = rig.metrics.encode().unwrap();
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("canary_mcp_event_hooks_total{outcome=\"failed\""));
    assert_eq!(
        failed,
        Some("canary_mcp_event_hooks_total{outcome=\"failed\",cluster=\"prod-kr\"} 7")
    );
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}
