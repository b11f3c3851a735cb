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

fn of(cluster: &str) -> Value {
    json!({"cluster": cluster, "namespace": NAMESPACE, "name": NAME})
}

fn with(mut arguments: Value, more: &Value) -> Value {
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

async fn initialized(serve: &mut Serve) -> [Kubectl; 3] {
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

#[tokio::test]
async fn a_rollout_streams_its_steps_in_both_eras() {
    let mut serve = Serve::start(&["--embedded", "--embedded-speed", "600"]).await;
    let [kr, jp, _] = initialized(&mut serve).await;
    for (era, cluster, kubectl) in [(Era::Modern, "prod-kr", &kr), (LEGACY, "prod-jp", &jp)] {
        let start = with(
            of(cluster),
            &json!({"image": image("1.1.0"), "wait_seconds": 3600}),
        );
        let mut stream = Stream::call(&serve.mcp, era, "start_canary", start).await;
        let mut last = -1.0;
        let first = stream.progress(&mut last).await.unwrap();
        let begins = format!(
            "{cluster} ai-platform/mcp-server: rolling registry.example/mcp-server:1.1.0 out"
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
            .map(|step| {
                (
                    step["weight"].as_i64().unwrap(),
                    step["verdict"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            steps,
            [5, 10, 15, 20, 25, 30].map(|weight| (weight, "pass"))
        );

        let primary = kubectl.get(&DEPLOYMENT, "mcp-server-primary").await;
        let live = primary.str_at("/spec/template/spec/containers/0/image");
        assert_eq!(live, Some(image("1.1.0").as_str()));
        let canary = kubectl.get(&CANARY, NAME).await;
        assert_eq!(canary.str_at("/status/phase"), Some("Succeeded"));
    }
}
