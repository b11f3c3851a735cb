//! Engines and a front end as processes of their own: the engines share the work and hand it over, the front end starts a rollout.

use canary_mcp::api::objects::{LEASE, ObjectExt};
use serde_json::{Value, json};

use super::{
    child::{Clusters, Dir, PATIENCE, Process, Serve},
    kills::{PROMOTED, assert_idle, assert_nobody_noticed, follow, only, weight},
    kubernetes::{Kubectl, NAME, NAMESPACE, raw},
};
use crate::{
    http::fixture::{Era, Server, client, messages},
    support::image,
};

/// `canary-mcp engine`, and where it tells how it is.
struct Alone {
    process: Process,
    probes: Server,
}

impl Alone {
    async fn start(kubeconfig: &str) -> Self {
        let mut process = Process::start(&[
            "engine",
            "--listen",
            "127.0.0.1:0",
            "--kubeconfig",
            kubeconfig,
            "--home",
            "prod-kr",
        ]);
        let origin = process.said("/healthz, /readyz and /metrics are at ").await;
        Self {
            process,
            probes: Server {
                origin,
                client: client(),
            },
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.probes.origin);
        let answer = self.probes.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What its metrics say, where that is there.
    async fn says(&self, line: &str) -> bool {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        text.lines().any(|l| l == line)
    }

    async fn leads(&self) -> bool {
        self.says(r#"canary_mcp_leading{cluster="prod-kr"} 1"#)
            .await
    }
}

/// Waits until it is so.
async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let limit = tokio::time::Instant::now() + PATIENCE;
    while !so().await {
        assert!(tokio::time::Instant::now() < limit, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn holder(kubectl: &Kubectl) -> String {
    let leases = kubectl.api(&LEASE, "canary-mcp-system");
    let lease = raw(&leases.get("canary-mcp").await.unwrap());
    let holder = lease.str_at("/spec/holderIdentity");
    holder.unwrap_or_default().to_owned()
}

/// The result of a tool call, which may wait for the engine.
async fn call(mcp: &Server, tool: &str, more: Value) -> Value {
    let mut arguments = json!({"cluster": "prod-kr", "namespace": NAMESPACE, "name": NAME});
    if let Value::Object(more) = more {
        arguments.as_object_mut().unwrap().extend(more);
    }
    answer(mcp, json!({"name": tool, "arguments": arguments})).await
}

async fn answer(mcp: &Server, params: Value) -> Value {
    let request = mcp.post(Era::Modern, "tools/call", params);
    let response = request.timeout(PATIENCE).send().await.unwrap();
    let last = messages(&response.text().await.unwrap()).pop().unwrap();
    last["result"]["structuredContent"].clone()
}

#[tokio::test]
async fn a_rollout_goes_on_when_its_engine_ends_and_when_another_is_killed() {
    let clusters = Clusters::start("30").await;
    let dir = Dir::new();
    let kubeconfig = only(&clusters, "prod-kr", dir.path("kubeconfig"));
    let path = kubeconfig.to_str().unwrap();
    let kubectl = Kubectl::new(&kubeconfig, "prod-kr").await;
    // While nobody leads, 450 seconds of the cluster's clock go by: no deadline of this rollout may be as short.
    let patient = json!({"spec": {"progressDeadlineSeconds": 3600}});
    let canary = canary_mcp::api::objects::CANARY;
    kubectl.merge(&canary, NAME, patient).await;

    let front = Serve::start(&["--kubeconfig", path, "--engine", "off"]).await;
    let mut engines = vec![Alone::start(path).await, Alone::start(path).await];
    for engine in &engines {
        assert_eq!(engine.get("/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(engine.get("/readyz").await, (200, "ok\n".to_owned()));
        assert_eq!(engine.get("/mcp").await.0, 404);
        until("both must see both", async || {
            engine.says("canary_mcp_members 2").await
        })
        .await;
    }
    let mut canary = kubectl.watch_canary().await;
    canary.until_phase("Initialized").await;

    // Nobody but the engines drives it, and the front end starts it.
    let mut seen = Vec::new();
    follow(&mut canary, &mut seen, |_| true).await;
    let started = call(&front.mcp, "start_canary", json!({"image": image("1.1.0")})).await;
    assert_eq!(started["outcome"], "applied", "{started}");
    follow(&mut canary, &mut seen, |c| weight(c) == 10).await;

    // One is asked to end: when it has ended it leads no more, and the other goes on.
    let before = holder(&kubectl).await;
    let leads = usize::from(engines[1].leads().await);
    let mut ending = engines.remove(leads);
    ending.process.terminate();
    assert_eq!(ending.process.ended().await.code(), Some(0));
    assert_ne!(holder(&kubectl).await, before);
    until("the other must lead", async || engines[0].leads().await).await;
    engines.push(Alone::start(path).await);
    follow(&mut canary, &mut seen, |c| weight(c) == 20).await;

    // Another is killed: its Lease has to run out.
    let before = holder(&kubectl).await;
    let leads = usize::from(engines[1].leads().await);
    engines.remove(leads).process.kill();
    until("the other must lead", async || engines[0].leads().await).await;
    assert_ne!(holder(&kubectl).await, before);
    follow(&mut canary, &mut seen, |c| {
        c.str_at("/status/phase") == Some("Succeeded")
    })
    .await;
    let seen: Vec<(&str, i64)> = seen.iter().map(|(p, w)| (p.as_str(), *w)).collect();
    assert_eq!(seen, PROMOTED);
    assert_idle(&kubectl, "1.1.0").await;
    assert_nobody_noticed(&kubectl).await;
}
