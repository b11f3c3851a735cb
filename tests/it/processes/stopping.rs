//! SIGTERM: running calls get an answer, the Lease is handed over, and the exit code is 0. And what two processes share: the clock.

use std::os::unix::fs::PermissionsExt as _;

use canary_mcp::api::objects::{LEASE, ObjectExt};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    child::{Clusters, PATIENCE, Serve},
    kubernetes::{Kubectl, NAME, NAMESPACE, raw},
};
use crate::{
    http::fixture::{Era, messages},
    support::image,
};

const LEASES: &str = "canary-mcp-system";
const CONTEXTS: [&str; 3] = ["prod-kr", "prod-jp", "staging"];

async fn holder(kubectl: &Kubectl) -> String {
    let lease = kubectl.api(&LEASE, LEASES).get("canary-mcp").await.unwrap();
    let lease = raw(&lease);
    let holder = lease.str_at("/spec/holderIdentity");
    holder.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn sigterm_answers_the_calls_hands_the_leases_over_and_exits_with_0() {
    let clusters = Clusters::start("20").await;
    let mut serve = Serve::joining(&clusters.kubeconfig).await;
    for context in CONTEXTS {
        let kubectl = Kubectl::new(&clusters.kubeconfig, context).await;
        kubectl
            .watch_canary()
            .await
            .until_phase("Initialized")
            .await;
        assert_ne!(holder(&kubectl).await, "");
    }

    let arguments =
        json!({"cluster": "prod-kr", "namespace": NAMESPACE, "name": NAME, "wait_seconds": 3600});
    let params =
        json!({"name": "get_status", "arguments": arguments, "_meta": {"progressToken": 1}});
    let request = serve.mcp.post(Era::Modern, "tools/call", params);
    let mut answer = request.timeout(PATIENCE).send().await.unwrap();
    // The call is running: it has said something.
    let mut text = answer.chunk().await.unwrap().unwrap().to_vec();
    serve.process.terminate();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    let last = messages(&String::from_utf8(text).unwrap()).pop().unwrap();
    let summary = last["result"]["structuredContent"]["summary"]
        .as_str()
        .unwrap();
    assert!(
        summary.starts_with("this server is about to stop, so it did not wait: prod-kr ai-platform/mcp-server: ready"),
        "{summary}"
    );

    assert_eq!(serve.process.ended().await.code(), Some(0));
    for context in CONTEXTS {
        let kubectl = Kubectl::new(&clusters.kubeconfig, context).await;
        assert_eq!(holder(&kubectl).await, "", "{context}");
    }
    let refused = serve.mcp.client.get(&serve.mcp.origin).send().await;
    assert!(refused.unwrap_err().is_connect());
}

/// The published clock of a cluster, before which nothing of the joined `serve` is and which nothing of it is ahead of.
async fn clock(kubectl: &Kubectl) -> (Timestamp, f64) {
    let clock = kubectl.get_raw("/clock").await;
    let now = clock["now"].as_str().unwrap().parse().unwrap();
    (now, clock["speed"].as_f64().unwrap())
}

#[tokio::test]
async fn a_joined_serve_lives_by_the_clock_of_the_clusters() {
    let clusters = Clusters::start("100").await;
    let kubectl = Kubectl::new(&clusters.kubeconfig, "prod-kr").await;
    // The cluster's clock begins a week before the wall's: a serve that went by the wall would be seen.
    let before = clock(&kubectl).await;
    assert!(Timestamp::now().duration_since(before.0).as_hours() > 6 * 24);
    assert_eq!(before.1.to_string(), "100");

    let serve = Serve::joining(&clusters.kubeconfig).await;
    let mut canary = kubectl.watch_canary().await;
    canary.until_phase("Initialized").await;
    kubectl.set_image(&image("1.1.0")).await;
    let second = |c: &Value| c.int_at("/status/canaryWeight") == Some(10);
    canary.until(second).await;
    let of = json!({"cluster": "prod-kr", "namespace": NAMESPACE, "name": NAME});
    let params = json!({"name": "get_status", "arguments": of});
    let result = serve.mcp.result(Era::Modern, "tools/call", params).await;
    let view = &result["structuredContent"]["rollout"];
    let after = clock(&kubectl).await;

    // Times of a status have whole seconds, the rest cut off.
    let first = before.0 - jiff::SignedDuration::from_secs(1);
    let at = |pointer: &str| -> Timestamp { view.str_at(pointer).unwrap().parse().unwrap() };
    let times = [at("/steps/0/at"), at("/steps/1/at"), at("/checks/0/at")];
    for time in times {
        assert!(
            first <= time && time <= after.0,
            "{time}: {before:?} to {after:?}"
        );
    }
    assert!(times[0] < times[1], "{times:?}");
    let (elapsed, most) = (
        view.int_at("/elapsed_seconds"),
        after.0.duration_since(first),
    );
    assert!(
        elapsed >= Some(60) && elapsed <= Some(most.as_secs()),
        "{elapsed:?}"
    );
}

#[tokio::test]
async fn the_kubeconfig_is_its_owners_alone() {
    let clusters = Clusters::start("1").await;
    let metadata = std::fs::metadata(&clusters.kubeconfig).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&clusters.kubeconfig).unwrap();
    let config: Value = serde_saphyr::from_str(&text).unwrap();
    let names: Vec<&Value> = config["contexts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|context| &context["name"])
        .collect();
    assert_eq!(names, CONTEXTS);
}
