//! Whole rollouts through the binary alone: MCP over HTTP in both eras on one side, kubectl's view of the same clusters on the other.

use canary_mcp::api::objects::{CANARY, DEPLOYMENT, ObjectExt};
use serde_json::{Value, json};

use super::{
    child::{PATIENCE, Serve},
    kubernetes::{Kubectl, NAME, NAMESPACE},
};
use crate::{
    http::fixture::{Era, Server, messages},
    support::image,
};

const LEGACY: Era = Era::Legacy("2025-11-25");

pub(super) fn of(cluster: &str) -> Value {
    json!({"cluster": cluster, "namespace": NAMESPACE, "name": NAME})
}

pub(super) fn with(mut arguments: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    arguments.as_object_mut().unwrap().extend(more);
    arguments
}

async fn call(server: &Server, era: Era, tool: &str, arguments: Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    let request = server.post(era, "tools/call", params).timeout(PATIENCE);
    let answer = request.send().await.unwrap().text().await.unwrap();
    let last = messages(&answer).pop().unwrap();
    assert_ne!(last["result"]["isError"], true, "{tool}: {last}");
    last["result"]["structuredContent"].clone()
}

/// One answer of a running call, as it comes.
struct Stream {
    answer: reqwest::Response,
    text: String,
    read: usize,
}

impl Stream {
    async fn call(server: &Server, era: Era, tool: &str, arguments: Value) -> Self {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "t"}});
        let request = server.post(era, "tools/call", params).timeout(PATIENCE);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            answer,
            text: String::new(),
            read: 0,
        }
    }

    /// The next message; events end with an empty line.
    async fn next(&mut self) -> Value {
        loop {
            let whole = self.text.rfind("\n\n").map_or(0, |end| end + 2);
            let mut all = messages(&self.text[..whole]);
            if self.read < all.len() {
                self.read += 1;
                return all.swap_remove(self.read - 1);
            }
            let chunk = self.answer.chunk().await.unwrap();
            let chunk = chunk.expect("the stream must end with a result");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The text of the next progress message, or the result.
    async fn progress(&mut self, last: &mut f64) -> Result<String, Value> {
        let mut message = self.next().await;
        if message.get("result").is_some() {
            return Err(message["result"].take());
        }
        assert_eq!(message["method"], "notifications/progress", "{message}");
        let params = &message["params"];
        assert_eq!(params["progressToken"], "t");
        let progress = params["progress"].as_f64().unwrap();
        assert!(progress > *last, "{message} after {last}");
        *last = progress;
        Ok(params["message"].as_str().unwrap().to_owned())
    }

    /// All progress messages that are left, and the result.
    async fn rest(&mut self, last: &mut f64) -> (Vec<String>, Value) {
        let mut said = Vec::new();
        loop {
            match self.progress(last).await {
                Ok(text) => said.push(text),
                Err(result) => return (said, result),
            }
        }
    }
}

/// The percent of each message that tells a weight, without repeats.
fn weights(said: &[String]) -> Vec<u8> {
    let told = said.iter().filter(|text| text.contains("step "));
    let mut weights: Vec<u8> = told
        .map(|text| {
            let (before, _) = text.split_once("% to canary").unwrap();
            before.rsplit(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    weights.dedup();
    weights
}

pub(super) async fn initialized(serve: &mut Serve) -> [Kubectl; 3] {
    let kubeconfig = serve.kubeconfig().await;
    let mut all = Vec::new();
    for context in ["prod-kr", "prod-jp", "staging"] {
        let kubectl = Kubectl::new(&kubeconfig, context).await;
        kubectl
            .watch_canary()
            .await
            .until_phase("Initialized")
            .await;
        all.push(kubectl);
    }
    all.try_into().ok().unwrap()
}

/// Virtual seconds for each real one. Faster, the deadlines of a rollout come down to what a busy machine needs to start a task.
const SPEED: [&str; 3] = ["--embedded", "--embedded-speed", "60"];

#[tokio::test]
async fn a_rollout_streams_its_steps_in_both_eras() {
    let mut serve = Serve::start(&SPEED).await;
    let [kr, jp, _] = initialized(&mut serve).await;
    futures::join!(
        stream_a_rollout(&serve.mcp, Era::Modern, "prod-kr", &kr),
        stream_a_rollout(&serve.mcp, LEGACY, "prod-jp", &jp),
    );
}

async fn stream_a_rollout(server: &Server, era: Era, cluster: &str, kubectl: &Kubectl) {
    let more = json!({"image": image("1.1.0"), "wait_seconds": 3600});
    let start = with(of(cluster), &more);
    let mut stream = Stream::call(server, era, "start_canary", start).await;
    let mut last = -1.0;
    let first = stream.progress(&mut last).await.unwrap();
    let begins = format!(
        "{cluster} ai-platform/mcp-server: asking the engine to roll registry.example/mcp-server:1.1.0 out"
    );
    assert_eq!(first, begins);
    let (said, result) = stream.rest(&mut last).await;
    assert_eq!(weights(&said), [5, 10, 15, 20, 25, 30], "{said:#?}");
    let done = format!(
        "{cluster} ai-platform/mcp-server: succeeded, registry.example/mcp-server:1.1.0 is live"
    );
    assert_eq!(said.last(), Some(&done));

    assert_ne!(result["isError"], true, "{result}");
    let content = &result["structuredContent"];
    assert_eq!(content["outcome"], "applied");
    assert_eq!(content["phase"], "Succeeded");
    assert_eq!(content["summary"], format!("{done}."));
    let steps = content["steps"].as_array().unwrap();
    let steps: Vec<_> = steps
        .iter()
        .map(|step| (step["weight"].as_i64(), step["verdict"].as_str()))
        .collect();
    let passed = [5, 10, 15, 20, 25, 30].map(|weight| (Some(weight), Some("pass")));
    assert_eq!(steps, passed);

    let primary = kubectl.get(&DEPLOYMENT, "mcp-server-primary").await;
    let live = primary.str_at("/spec/template/spec/containers/0/image");
    assert_eq!(live, Some(image("1.1.0").as_str()));
    let row = kubectl.canary_row().await;
    assert_eq!(row[..3], ["mcp-server", "Succeeded", "0"]);
}

/// A hundred checks may fail: on a machine that starves the cluster's traffic, a minute of its clock may have none to measure.
pub(super) async fn patient(kubectl: &Kubectl) {
    let patch = json!({"spec": {"analysis": {"threshold": 100}}});
    kubectl.merge(&CANARY, NAME, patch).await;
}

/// One step of 30%, looked at each `interval`, and a gate where `gate` says so.
pub(super) async fn one_step(kubectl: &Kubectl, interval: &str, gate: Option<&str>) {
    let patch = json!({
        "metadata": {"annotations": {"canary-mcp.dev/gate": gate}},
        "spec": {"analysis": {"stepWeight": 30, "interval": interval}},
    });
    kubectl.merge(&CANARY, NAME, patch).await;
}

#[tokio::test]
async fn a_gate_is_opened_by_promote() {
    let mut serve = Serve::start(&SPEED).await;
    let [kr, ..] = initialized(&mut serve).await;
    let server = &serve.mcp;
    let refused = call(server, LEGACY, "promote", of("prod-kr")).await;
    assert_eq!(refused["outcome"], "refused", "{refused}");

    one_step(&kr, "20s", Some("promotion")).await;
    let start = with(
        of("prod-kr"),
        &json!({"image": image("1.1.0"), "wait_seconds": 3600}),
    );
    let waiting = call(server, LEGACY, "start_canary", start).await;
    assert_eq!(waiting["outcome"], "applied", "{waiting}");
    assert_eq!(waiting["phase"], "WaitingPromotion", "{waiting}");
    assert!(
        waiting["next"]
            .as_str()
            .unwrap()
            .starts_with("call promote ")
    );

    let seen = call(server, Era::Modern, "get_status", of("prod-kr")).await;
    let cursor = seen["rollout"]["cursor"].clone();
    let arguments = with(of("prod-kr"), &json!({"reason": "looks good"}));
    let promoted = call(server, Era::Modern, "promote", arguments).await;
    assert_eq!(promoted["outcome"], "applied", "{promoted}");
    // It has changed since, so this answers at once, whatever it may wait for.
    let wait = with(
        of("prod-kr"),
        &json!({"since": cursor, "wait_seconds": 3600}),
    );
    let changed = call(server, Era::Modern, "get_status", wait).await;
    assert_ne!(changed["rollout"]["cursor"], cursor, "{changed}");
    assert_ne!(changed["rollout"]["phase"], "WaitingPromotion");
    kr.watch_canary().await.until_phase("Succeeded").await;
}

#[tokio::test]
async fn two_processes_have_embedded_clusters_of_their_own() {
    let mut first = Serve::start(&SPEED).await;
    let mut second = Serve::start(&SPEED).await;
    assert_ne!(first.mcp.origin, second.mcp.origin);
    let [_, _, staging] = initialized(&mut first).await;
    let [_, _, other] = initialized(&mut second).await;
    let server = &first.mcp;

    one_step(&staging, "24h", None).await;
    let start = json!({"image": image("1.1.0"), "wait_seconds": 3600});
    let start = with(of("staging"), &start);
    let mut stream = Stream::call(server, Era::Modern, "start_canary", start).await;
    let mut last = -1.0;
    loop {
        let text = stream.progress(&mut last).await.unwrap();
        if text.starts_with("staging ai-platform/mcp-server: 30% to canary") {
            break;
        }
    }
    // What was heard came while the call was running: only this ends it.
    let why = with(of("staging"), &json!({"reason": "enough seen"}));
    let rolled_back = call(server, LEGACY, "rollback", why).await;
    assert_eq!(rolled_back["outcome"], "applied", "{rolled_back}");
    assert_eq!(rolled_back["weight"]["written"], 0, "{rolled_back}");
    let (said, result) = stream.rest(&mut last).await;
    assert_eq!(result["structuredContent"]["phase"], "Failed", "{result}");
    let end = said.last().unwrap();
    assert!(
        end.starts_with("staging ai-platform/mcp-server: failed: "),
        "{said:?}"
    );
    assert!(
        end.ends_with("; registry.example/mcp-server:1.0.0 is live"),
        "{said:?}"
    );
    let again = call(server, Era::Modern, "rollback", of("staging")).await;
    assert_eq!(again["outcome"], "already", "{again}");
    assert_eq!(
        staging.canary_row().await[..3],
        ["mcp-server", "Failed", "0"]
    );

    assert_eq!(
        other.canary_row().await[..3],
        ["mcp-server", "Initialized", "0"]
    );
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    let serve = Serve::start(&["--embedded", "--embedded-speed", "1"]).await;
    for tool in [
        "start_canary",
        "promote",
        "rollback",
        "get_status",
        "list_clusters",
    ] {
        for era in [Era::Modern, LEGACY] {
            let params = json!({"name": tool, "arguments": {"force": true}});
            let result = serve.mcp.result(era, "tools/call", params).await;
            assert_eq!(result["isError"], true, "{tool}: {result}");
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(
                text.starts_with("force: there is no such field; there are "),
                "{tool}: {text}"
            );
        }
    }
}
