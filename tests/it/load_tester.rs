//! The embedded fleet's load tester, by the address that hooks name, through the API server.

use std::time::Duration;

use bytes::Bytes;
use canary_mcp::{
    api::objects::{DEPLOYMENT, ObjectExt, SERVICE},
    cluster::{ServiceCall, embedded::load_tester::Script},
    decide::state::Phase,
    outbound::address::{self, Route},
};
use http::Request;
use serde_json::{Value, json};

use crate::support::{Rig, image};

/// POSTs a hook's payload to `url`, or GETs it without one.
async fn call(rig: &Rig, url: &str, payload: Option<Value>) -> (u16, String) {
    let route = address::route(url, "ai-platform", &[], false).unwrap();
    let Route::Service {
        namespace,
        service,
        port,
        ..
    } = route
    else {
        panic!("{url} is no Service");
    };
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    let request = match payload {
        Some(payload) => Request::post(format!("/{path}"))
            .header("Idempotency-Key", "run/rollout/smoke/1")
            .body(Bytes::from(payload.to_string())),
        None => Request::get(format!("/{path}")).body(Bytes::new()),
    };
    let call = ServiceCall {
        namespace,
        service,
        port: port.to_string(),
        request: request.unwrap(),
        within: Duration::from_secs(10),
    };
    let cluster = rig.registry.get("prod-kr").unwrap();
    let answer = cluster.service_call(call).await.unwrap();
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    (answer.status().as_u16(), text)
}

fn payload(metadata: &Value) -> Value {
    json!({"name": "mcp-server", "namespace": "ai-platform", "phase": "Progressing", "checksum": "1", "metadata": metadata})
}

async fn run(rig: &Rig, kind: &str, cmd: &str) -> u16 {
    let hook = payload(&json!({"type": kind, "cmd": cmd}));
    let (code, _) = call(rig, "http://flagger-loadtester.test/", Some(hook)).await;
    code
}

#[tokio::test(start_paused = true)]
async fn the_load_tester_is_in_the_fleet_and_answers_by_its_name() {
    let rig = Rig::without_engine(true);
    rig.pass(10).await;
    let store = rig.member().server.store();
    let deployment = store
        .get(&DEPLOYMENT, "test", "flagger-loadtester")
        .unwrap();
    assert_eq!(deployment.int_at("/status/readyReplicas"), Some(1));
    assert!(store.get(&SERVICE, "test", "flagger-loadtester").is_some());
    let (code, text) = call(&rig, "http://flagger-loadtester.test/healthz", None).await;
    assert_eq!((code, text.as_str()), (200, "OK"));
    // As `kubectl get --raw` asks.
    let raw = Request::get("/api/v1/namespaces/test/services/flagger-loadtester:80/proxy/healthz")
        .body(Vec::new())
        .unwrap();
    let client = rig.member().server.client();
    assert_eq!(client.request_text(raw).await.unwrap(), "OK");
}

#[tokio::test(start_paused = true)]
async fn gates_are_closed_until_they_are_opened_each_for_its_canary() {
    let rig = Rig::without_engine(true);
    let base = "http://flagger-loadtester.test";
    let ask = |path: &'static str, name: &'static str| {
        let body = json!({"name": name, "namespace": "ai-platform"});
        let rig = &rig;
        async move { call(rig, &format!("{base}{path}"), Some(body)).await }
    };
    for (path, name, code, text) in [
        ("/gate/approve", "a", 200, "OK"),
        ("/gate/halt", "a", 403, "Forbidden"),
        ("/gate/check", "a", 403, "Forbidden"),
        ("/gate/open", "a", 202, ""),
        ("/gate/check", "a", 200, "Approved"),
        ("/gate/check", "b", 403, "Forbidden"),
        ("/rollback/check", "a", 403, "Forbidden"),
        ("/rollback/open", "a", 202, ""),
        ("/rollback/check", "a", 200, "Approved"),
        ("/gate/close", "a", 202, ""),
        ("/gate/check", "a", 403, "Forbidden"),
        ("/rollback/close", "a", 202, ""),
        ("/rollback/check", "a", 403, "Forbidden"),
        ("/no/such", "a", 400, "metadata not found in payload"),
    ] {
        assert_eq!(
            ask(path, name).await,
            (code, text.to_owned()),
            "{path} {name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn bash_is_answered_by_a_table() {
    let rig = Rig::initialized(|_| {}).await;
    rig.member()
        .load_tester()
        .answers("./smoke-test.sh", 500, "1 of 12 failed");
    for (cmd, code) in [
        ("true", 200),
        ("exit 1", 500),
        (
            "curl -sd 'test' http://mcp-server.ai-platform:8080/ | grep ok",
            200,
        ),
        // The target is at zero.
        (
            "curl -sd 'test' http://mcp-server-canary.ai-platform:8080/ | grep ok",
            500,
        ),
        ("./no-such.sh", 500),
        ("./smoke-test.sh https://x", 500),
    ] {
        assert_eq!(run(&rig, "bash", cmd).await, code, "{cmd}");
    }
    let nothing = payload(&json!({}));
    let (code, _) = call(&rig, "http://flagger-loadtester.test/", Some(nothing)).await;
    assert_eq!(code, 400);
    // There is none; what it would say is in the table.
    assert_eq!(run(&rig, "helmv3", "test podinfo").await, 500);
    rig.member().load_tester().answers("test podinfo", 200, "");
    assert_eq!(run(&rig, "helmv3", "test podinfo").await, 200);
    assert_eq!(run(&rig, "spam", "x").await, 400);
}

/// What tests of hooks need: every call is kept as it came, and answered late or otherwise as often as a script says.
#[tokio::test(start_paused = true)]
async fn calls_are_kept_and_answered_as_a_script_says() {
    let rig = Rig::without_engine(true);
    rig.pass(10).await;
    let tester = rig.member().load_tester();
    let base = "http://flagger-loadtester.test";
    let hook = || Some(payload(&json!({"type": "bash", "cmd": "true"})));
    tester.script(Script::answer("/", 429, "busy").times(2));
    tester.script(Script::slow("/gate/approve", 5_000));
    let answers = [(429, "busy"), (429, "busy"), (200, "")];
    for (code, text) in answers {
        let answer = call(&rig, &format!("{base}/"), hook()).await;
        assert_eq!(answer, (code, text.to_owned()));
    }
    let begun = rig.now();
    let approved = call(&rig, &format!("{base}/gate/approve?who=me"), hook()).await;
    assert_eq!(approved, (200, "OK".to_owned()));
    // To the timers' grain.
    let took = rig.now().since(begun);
    assert!((5_000..5_050).contains(&took), "{took}");

    let calls = tester.calls();
    let told: Vec<(&str, &str, Option<u16>)> = calls
        .iter()
        .map(|c| (c.method.as_str(), c.path.as_str(), c.code))
        .collect();
    assert_eq!(
        told,
        [
            ("POST", "/", Some(429)),
            ("POST", "/", Some(429)),
            ("POST", "/", Some(200)),
            ("POST", "/gate/approve?who=me", Some(200)),
        ]
    );
    assert_eq!(calls[3].at, begun);
    assert_eq!(
        calls[0].header("idempotency-key"),
        Some("run/rollout/smoke/1")
    );
    assert_eq!(calls[0].payload, hook().unwrap());
}

/// hey really sends requests at the canary, as many as it says and as long as it says, each command once at a time.
#[tokio::test(start_paused = true)]
async fn hey_drives_traffic_at_the_canary() {
    let rig = Rig::initialized(|_| {}).await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let before = rig.counts();
    let hey = "hey -z 30s -q 10 -c 2 http://mcp-server-canary.ai-platform:8080/";
    assert_eq!(run(&rig, "cmd", hey).await, 202);
    assert_eq!(run(&rig, "cmd", hey).await, 202);
    rig.pass(40).await;
    let loaded = rig.counts().since(&before);
    let canary = loaded.images[&image("1.1.0")];
    // 600 of hey, and 5% of 20 a second for 40 s.
    assert!((630..=650).contains(&canary), "{loaded:?}");
    assert_eq!(loaded.application_500, 0);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Requests that ask for a failure get it, which a guide uses to see a rollback.
#[tokio::test(start_paused = true)]
async fn injected_failures_roll_the_canary_back() {
    let rig = Rig::initialized(|_| {}).await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let hey =
        "hey -z 5m -q 1 -c 1 -H 'X-Inject-Failure: 500' http://mcp-server-canary.ai-platform:8080/";
    assert_eq!(run(&rig, "cmd", hey).await, 202);
    rig.until_phase(Phase::Failed).await;
    let reason = rig.view().await.reason;
    assert_eq!(reason.as_deref(), Some("failed checks threshold reached 3"));
    assert!(rig.counts().application_500 > 100, "{:?}", rig.counts());
}
