//! Which hooks are called, in which order, with what; their attempts; and what is refused before a run.

use canary_mcp::api::{objects::SECRET, rights::Right};

use super::*;
use crate::support::{image, sequence};

/// Every type in its place, and nothing is called between runs.
#[tokio::test(start_paused = true)]
async fn each_hook_is_called_in_its_place() {
    let hooks = [
        "post-rollout",
        "rollback",
        "confirm-promotion",
        "confirm-traffic-increase",
        "rollout",
        "pre-rollout",
        "confirm-rollout",
    ];
    let rig = rig(&hooks.map(hook)).await;
    rig.pass(300).await;
    assert_eq!(calls(&rig), []);
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    assert_eq!(
        told(&rig),
        [
            // What ends a run is asked before what holds it.
            "/rollback Progressing 0",
            "/confirm-rollout Progressing 0",
            "/rollback Progressing 0",
            "/pre-rollout Progressing 0",
            "/confirm-traffic-increase Progressing 0",
            "/rollback Progressing 15",
            "/rollout Progressing 15",
            "/confirm-traffic-increase Progressing 15",
            "/rollback Progressing 30",
            "/rollout Progressing 30",
            "/confirm-promotion Progressing 30",
            "/post-rollout Succeeded 0",
        ]
    );
    let count = calls(&rig).len();
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    assert_eq!(calls(&rig).len(), count);
}

#[tokio::test(start_paused = true)]
async fn the_payload_tells_what_is_rolled_out() {
    let mut rollout = hook("rollout");
    rollout["metadata"] = json!({
        "type": "bash",
        "cmd": "if [ {{ canaryWeight }} -eq 15 ]; then smoke {{ image }}; fi",
        "names": "docker ps --format '{{.Names}}'",
    });
    let rig = rig(&[rollout]).await;
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    let calls = calls(&rig);
    let run = rig.canary()["status"]["run"]["id"].clone();
    let first = &calls[0];
    assert_eq!(first.method, "POST");
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("authorization"), None);
    let checksum = first.payload["checksum"].clone();
    assert_eq!(
        first.payload,
        json!({
            "name": "mcp-server",
            "namespace": "ai-platform",
            "phase": "Progressing",
            "checksum": checksum,
            "metadata": {
                "type": "bash",
                "cmd": "if [ 15 -eq 15 ]; then smoke registry.example/mcp-server:1.1.0; fi",
                "names": "docker ps --format '{{.Names}}'",
            },
            "canaryWeight": 15,
            "primaryWeight": 85,
            "iteration": 1,
            "image": image("1.1.0"),
            "run": run,
        })
    );
    // The same all through the run, another for another revision.
    assert_eq!(checksum.as_str().unwrap().len(), 16);
    assert!(
        calls
            .iter()
            .all(|call| call.payload["checksum"] == checksum)
    );
    rig.start("1.2.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    let last = super::calls(&rig).pop().unwrap();
    assert_ne!(last.payload["checksum"], checksum);
}

/// The method, headers and body that a hook has of its own; the Secret's values are told nowhere.
#[tokio::test(start_paused = true)]
async fn a_hook_may_send_a_request_of_its_own() {
    let mut flag = hook("pre-rollout");
    flag["request"] = json!({
        "method": "PUT",
        "headersFrom": {"secretRef": {"name": "flags"}},
        "body": "{\"flag\": \"new-algorithm\", \"target\": \"{{ target }}\", \"run\": \"{{ run }}\"}",
    });
    let rig = rig(&[flag]).await;
    // "s3cret" in base64.
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "flags", "namespace": "ai-platform"},
        "data": {"X-Api-Key": "czNjcmV0"},
    });
    let store = rig.member().server.store();
    store.create(&SECRET, secret, "kubectl").unwrap();
    says(&rig, "/pre-rollout", 401, "no s3cret here");
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Failed).await;
    let calls = calls(&rig);
    let run = rig.canary()["status"]["run"]["id"].clone();
    assert_eq!(calls[0].method, "PUT");
    assert_eq!(calls[0].header("x-api-key"), Some("s3cret"));
    assert_eq!(
        calls[0].payload,
        json!({"flag": "new-algorithm", "target": "mcp-server", "run": run})
    );
    let halt =
        "Halt mcp-server.ai-platform advancement pre-rollout check pre-rollout failed no *** here";
    assert_eq!(rig.warnings(halt), 1, "{:?}", warnings(&rig));
    assert!(!format!("{:?}", rig.events()).contains("s3cret"));
    assert!(!rig.canary()["status"].to_string().contains("s3cret"));
}

/// A hook that says no is a failed check, and its words are told; the canary never gets a request.
#[tokio::test(start_paused = true)]
async fn a_pre_rollout_hook_that_says_no_fails_the_run() {
    let rig = rig(&[hook("pre-rollout"), hook("post-rollout")]).await;
    says(&rig, "/pre-rollout", 500, "smoke test: 3 of 12 failed\n");
    rig.start("1.1.0").await;
    assert_eq!(
        rig.until_phase(Phase::Failed).await,
        sequence(&[("Progressing", 0), ("Failed", 0)])
    );
    assert_eq!(
        told(&rig),
        ["/pre-rollout Progressing 0", "/post-rollout Failed 0"]
    );
    assert_eq!(count(&rig, "/pre-rollout"), 2);
    let halt = "Halt mcp-server.ai-platform advancement pre-rollout check pre-rollout failed smoke test: 3 of 12 failed (answered 500)";
    assert_eq!(rig.warnings(halt), 1, "{:?}", warnings(&rig));
    assert!(!rig.counts().images.contains_key(&image("1.1.0")));
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_hook_that_says_no_is_a_failed_check() {
    let rig = rig(&[hook("rollout")]).await;
    let once = Script::answer("/rollout", 403, "too slow").times(1);
    rig.member().load_tester().script(once);
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    assert_eq!(count(&rig, "/rollout"), 3);
    let halt = "Halt mcp-server.ai-platform advancement external check rollout failed too slow";
    assert_eq!(rig.warnings(halt), 1, "{:?}", warnings(&rig));
    says(&rig, "/rollout", 403, "too slow");
    rig.start("1.2.0").await;
    until_phase(&rig, Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.1.0").await;
}

/// The network and the receiver's own trouble are worth another attempt, of the same call.
#[tokio::test(start_paused = true)]
async fn attempts_are_repeated_as_the_hook_says() {
    let mut pre = hook("pre-rollout");
    pre["retries"] = 2.into();
    let rig = rig(&[pre]).await;
    let twice = Script::answer("/pre-rollout", 503, "starting").times(2);
    rig.member().load_tester().script(twice);
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Succeeded).await;
    let calls = calls(&rig);
    let codes: Vec<Option<u16>> = calls.iter().map(|call| call.code).collect();
    assert_eq!(codes, [Some(503), Some(503), Some(200)]);
    let first = calls[0].header("idempotency-key").unwrap();
    assert!(
        calls
            .iter()
            .all(|c| c.header("idempotency-key") == Some(first))
    );
    let waits: Vec<i64> = calls
        .windows(2)
        .map(|two| two[1].at.since(two[0].at) / 1_000)
        .collect();
    assert_eq!(waits, [1, 2], "seconds");
    assert_eq!(rig.canary().int_at("/status/failedChecks"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_takes_too_long_says_no() {
    let mut pre = hook("pre-rollout");
    pre["timeout"] = "5s".into();
    let rig = rig(&[pre]).await;
    says_late(&rig, "/pre-rollout", 200, 6);
    rig.start("1.1.0").await;
    until_phase(&rig, Phase::Failed).await;
    let halt = "Halt mcp-server.ai-platform advancement pre-rollout check pre-rollout failed \
                http://flagger-loadtester.test.svc:80/pre-rollout gave no answer within 5s";
    assert_eq!(rig.warnings(halt), 1, "{:?}", warnings(&rig));
}

/// What a manifest may not name is refused before a run, by the hook's name.
#[tokio::test(start_paused = true)]
async fn a_url_that_leads_out_of_the_cluster_is_refused() {
    let rig = Rig::initialized(|_| {}).await;
    let mut out = hook("rollout");
    out["url"] = "http://169.254.169.254/latest/meta-data".into();
    rig.edit_spec(|spec| spec["analysis"]["webhooks"] = json!([out]));
    rig.until(|_| {
        rig.condition("Accepted")
            .is_some_and(|c| c["status"] == "False")
    })
    .await;
    let accepted = rig.condition("Accepted").unwrap();
    assert_eq!(accepted["status"], "False");
    assert_eq!(
        accepted["message"],
        "spec.analysis.webhooks[rollout].url: the url names an IP address, which a manifest may not: name a Service (name.namespace), or set \
         the address by a flag; name a Service of the cluster, or a host that the engine's --allow-hosts has; credentials belong into \
         request.headersFrom"
    );
    assert_eq!(rig.member().load_tester().calls(), []);
}

/// A right that a hook takes is missing: no run begins, and it is told which.
#[tokio::test(start_paused = true)]
async fn the_right_to_call_a_hook_is_needed_before_a_run() {
    let rig = rig(&[hook("rollout")]).await;
    let create = Right {
        verb: "create",
        group: "",
        resource: "services/proxy",
    };
    rig.member().server.faults().deny(&[create]);
    rig.pass(120).await;
    rig.set_image("1.1.0");
    rig.until(|_| {
        rig.condition("Accepted")
            .is_some_and(|c| c["status"] == "False")
    })
    .await;
    let accepted = rig.condition("Accepted").unwrap();
    let told = accepted["message"].as_str().unwrap();
    assert!(
        told.starts_with(
            "rights are missing in cluster prod-kr: create services/proxy in namespace test; "
        ),
        "{told}"
    );
    rig.member().server.faults().deny(&[]);
    until_phase(&rig, Phase::Succeeded).await;
}
