//! The official SDKs as clients: TypeScript and Python, each in both eras and in the major version before. Small drivers (`tests/it/clients`)
//! do as they are told and say what their client hears, when it hears it. The SDKs check what they get by themselves: the messages by the
//! protocol's schema, and each `structuredContent` by the tool's `outputSchema`.

use std::{collections::VecDeque, path::Path, process::Command, process::Stdio};

use serde_json::{Value, json};

use super::{
    child::{Dir, Process, Serve},
    kubernetes::Kubectl,
    rollout::{initialized, of, one_step, patient, with},
};
use crate::{support::image, tools};

/// A client of an SDK, connected.
struct Client {
    process: Process,
    calls: u32,
    /// What was said of other calls than the one that was listened to.
    unheard: VecDeque<Value>,
}

impl Client {
    /// The driver `command` in one of its modes; the protocol's version that client and server agree on.
    async fn connect(mut command: Command, dir: Dir, serve: &Serve, mode: &str) -> (Self, String) {
        let url = format!("{}/mcp", serve.mcp.origin);
        command.args([&url, mode]).stdin(Stdio::piped());
        let mut client = Self {
            process: Process::of(command, dir),
            calls: 0,
            unheard: VecDeque::new(),
        };
        let hello = client.said().await;
        assert_eq!(hello["server"], "canary-mcp", "{hello}");
        let instructions = hello["instructions"].as_str().unwrap();
        assert!(
            instructions.starts_with("Rolls new versions out on Kubernetes clusters step by step"),
            "{hello}"
        );
        (client, hello["connected"].as_str().unwrap().to_owned())
    }

    async fn said(&mut self) -> Value {
        let line = self.process.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn tell(&mut self, wish: &Value) {
        self.process.tell(&wish.to_string());
    }

    async fn tools(&mut self) -> Value {
        self.tell(&json!({"list": true}));
        self.said().await["tools"].take()
    }

    /// Begins a call, and gives its number.
    fn begin(&mut self, tool: &str, arguments: &Value) -> u32 {
        self.calls += 1;
        self.tell(&json!({"call": self.calls, "tool": tool, "arguments": arguments}));
        self.calls
    }

    /// What comes next of one call: progress, the result or an error.
    async fn next(&mut self, call: u32) -> Value {
        if let Some(at) = self.unheard.iter().position(|said| said["of"] == call) {
            return self.unheard.remove(at).unwrap();
        }
        loop {
            let said = self.said().await;
            if said["of"] == call {
                return said;
            }
            self.unheard.push_back(said);
        }
    }

    /// The messages of a call until one contains `text`, in strictly growing progress.
    async fn until(&mut self, call: u32, text: &str) {
        loop {
            let said = self.next(call).await;
            let message = said["progress"]["message"].as_str();
            let message =
                message.unwrap_or_else(|| panic!("{text:?} must be said before the end: {said}"));
            if message.contains(text) {
                return;
            }
        }
    }

    /// All messages of a call, and its result.
    async fn rest(&mut self, call: u32) -> (Vec<String>, Value) {
        let (mut messages, mut last) = (Vec::new(), -1.0);
        loop {
            let mut said = self.next(call).await;
            assert_eq!(said.get("error"), None, "{said}");
            if said.get("result").is_some() {
                return (messages, said["result"].take());
            }
            let progress = said["progress"]["progress"].as_f64().unwrap();
            assert!(progress > last, "{said} after {last}");
            last = progress;
            messages.push(said["progress"]["message"].as_str().unwrap().to_owned());
        }
    }

    /// A whole call: the structured content of its result, which the result's text repeats.
    async fn ask(&mut self, tool: &str, arguments: &Value) -> Value {
        let call = self.begin(tool, arguments);
        let (_, result) = self.rest(call).await;
        content(&result)
    }
}

fn content(result: &Value) -> Value {
    assert_ne!(result["isError"], true, "{result}");
    let text = result["content"][0]["text"].as_str().unwrap();
    let text: Value = serde_json::from_str(text).unwrap();
    // Not the whole: to JavaScript 100.0 is 100.
    let structured = &result["structuredContent"];
    assert_eq!(text["summary"], structured["summary"], "{result}");
    structured.clone()
}

async fn typescript(mode: &str, version: &str) {
    let Some(node) = tools::need("node-mcp") else {
        return;
    };
    let dir = Dir::new();
    // Node.js looks for packages beside the file.
    std::os::unix::fs::symlink(node.join("node_modules"), dir.path("node_modules")).unwrap();
    let driver = dir.path("drive.mjs");
    std::fs::copy(script("drive.mjs"), &driver).unwrap();
    let mut command = Command::new(node.join("bin/node"));
    command.arg(driver);
    tour(command, dir, mode, version).await;
}

async fn python(mode: &str, version: &str) {
    let Some(sdks) = tools::need("python-mcp") else {
        return;
    };
    let mut command = Command::new("python3");
    command
        .arg(script("drive.py"))
        .env(
            "PYTHONPATH",
            sdks.join(if mode == "v1" { "1" } else { "2" }),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1");
    tour(command, Dir::new(), mode, version).await;
}

fn script(name: &str) -> std::path::PathBuf {
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/clients");
    Path::new(clients).join(name)
}

/// Everything that a client does with the server.
async fn tour(command: Command, dir: Dir, mode: &str, version: &str) {
    // At the speed that a person sees: three rollouts at once, beside whatever else the machine does, need their real seconds.
    let mut serve = Serve::start(&["--embedded"]).await;
    let [kr, jp, _] = initialized(&mut serve).await;
    let (mut client, agreed) = Client::connect(command, dir, &serve, mode).await;
    assert_eq!(agreed, version);
    lists_the_tools(&mut client).await;
    looks_around(&mut client).await;

    // The three clusters at once: the client tells their messages apart.
    patient(&kr).await;
    one_step(&jp, "24h", None).await;
    let start = |cluster: &str, tag: &str| {
        let image = json!({"image": image(tag), "wait_seconds": 3600});
        with(of(cluster), &image)
    };
    let held = client.begin("start_canary", &start("prod-jp", "1.1.0"));
    let good = client.begin("start_canary", &start("prod-kr", "1.1.0"));
    let bad = client.begin("start_canary", &start("staging", "1.2.0-errors"));
    good_rollout(&client.rest(good).await);
    bad_rollout(&client.rest(bad).await);
    intervenes(&mut client, held, &jp).await;
}

async fn lists_the_tools(client: &mut Client) {
    let hints = |tool: &Value| {
        let hint = |name: &str| tool["annotations"][name].as_bool().unwrap();
        (
            tool["name"].as_str().unwrap().to_owned(),
            tool["title"].as_str().unwrap().to_owned(),
            hint("readOnlyHint"),
            hint("destructiveHint"),
            hint("idempotentHint"),
            hint("openWorldHint"),
        )
    };
    let listed = client.tools().await;
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(hints).collect();
    let row = |name: &str, title: &str, reads: bool, destroys: bool, again: bool| {
        let (name, title) = (name.to_owned(), title.to_owned());
        (name, title, reads, destroys, again, false)
    };
    assert_eq!(
        listed,
        [
            row(
                "get_status",
                "Get the status of rollouts",
                true,
                false,
                true
            ),
            row("list_clusters", "List clusters", true, false, true),
            row("promote", "Promote a canary", false, true, false),
            row("rollback", "Roll back a canary", false, true, true),
            row("start_canary", "Start a canary rollout", false, true, true),
        ]
    );
}

async fn looks_around(client: &mut Client) {
    let clusters = client.ask("list_clusters", &json!({})).await;
    assert_eq!(
        clusters["summary"],
        "3 clusters: prod-jp, prod-kr, staging."
    );
    let table = client.ask("get_status", &json!({})).await;
    assert_eq!(table["summary"], "3 rollouts, 0 of them going on.");
    for (tool, arguments, told) in [
        (
            "get_status",
            json!({"wait_seconds": "50"}),
            "wait_seconds: a whole number is needed, not \"50\"",
        ),
        (
            "start_canary",
            of("prod-kr"),
            "image: is needed, unless retry tries the one that has failed",
        ),
        (
            "rollback",
            with(of("prod-kr"), &json!({"force": true})),
            "force: there is no such field; there are cluster, name, namespace, reason, skip_analysis, to_revision",
        ),
    ] {
        let call = client.begin(tool, &arguments);
        let (_, result) = client.rest(call).await;
        assert_eq!(result["isError"], true, "{tool}: {result}");
        assert_eq!(result["content"][0]["text"], told, "{tool}");
    }
}

/// What the messages of a call say a rollout does, without what changes from run to run: values, what it waits for, signs of life.
fn stages(cluster: &str, messages: &[String]) -> Vec<String> {
    let of = format!("{cluster} ai-platform/mcp-server: ");
    let mut stages: Vec<String> = messages
        .iter()
        .filter(|message| !message.starts_with("still "))
        .map(|message| message.strip_prefix(&of).unwrap_or(message))
        .filter(|message| *message != "waiting for the engine to begin")
        .map(|message| message.split("; waits for ").next().unwrap())
        .map(|message| match message.split_once("% to canary, ") {
            Some((weight, _)) => format!("{weight}% to canary"),
            None => message.to_owned(),
        })
        .collect();
    stages.dedup();
    stages
}

/// The stages are of `all`, in that order, each once; who looks at a fast rollout may miss those marked with `?`, and no other.
fn in_order(stages: &[String], all: &[&str]) {
    let seen = |stage: &&&str| {
        stage
            .strip_prefix('?')
            .is_none_or(|stage| stages.iter().any(|seen| seen == stage))
    };
    let expected = all.iter().filter(seen);
    let expected: Vec<&str> = expected
        .map(|stage| stage.trim_start_matches('?'))
        .collect();
    assert_eq!(stages, expected);
}

fn good_rollout((messages, result): &(Vec<String>, Value)) {
    in_order(
        &stages("prod-kr", messages),
        &[
            "asking the engine to roll registry.example/mcp-server:1.1.0 out",
            "?registry.example/mcp-server:1.1.0 starts, no traffic yet",
            "5% to canary",
            "10% to canary",
            "15% to canary",
            "20% to canary",
            "25% to canary",
            "30% to canary",
            "?promoting registry.example/mcp-server:1.1.0, 30% still to canary",
            "?registry.example/mcp-server:1.1.0 promoted, all traffic on the primary",
            "succeeded, registry.example/mcp-server:1.1.0 is live",
        ],
    );
    let content = content(result);
    let told = (
        &content["outcome"],
        &content["phase"],
        &content["weight"]["written"],
    );
    assert_eq!(told, (&json!("applied"), &json!("Succeeded"), &json!(0)));
    assert_eq!(
        content["summary"],
        "prod-kr ai-platform/mcp-server: succeeded, registry.example/mcp-server:1.1.0 is live."
    );
    let steps = content["steps"].as_array().unwrap().iter();
    let steps: Vec<_> = steps
        .map(|step| (step["weight"].as_i64(), step["verdict"].as_str()))
        .collect();
    let passed = [5, 10, 15, 20, 25, 30].map(|weight| (Some(weight), Some("pass")));
    assert_eq!(steps, passed);
}

fn bad_rollout((messages, result): &(Vec<String>, Value)) {
    in_order(
        &stages("staging", messages),
        &[
            "asking the engine to roll registry.example/mcp-server:1.2.0-errors out",
            "?registry.example/mcp-server:1.2.0-errors starts, no traffic yet",
            "5% to canary",
            // Of a starved cluster's few requests, for once none may be among the fifth that fails.
            "?10% to canary",
            "?rolling back: failed checks threshold reached 3; 0% to canary",
            "failed: failed checks threshold reached 3; registry.example/mcp-server:1.0.0 is live",
        ],
    );
    let content = content(result);
    for (field, told) in [
        ("outcome", "applied"),
        ("phase", "Failed"),
        (
            "reason",
            "the image was set, and its run was rolled back: failed checks threshold reached 3",
        ),
        (
            "summary",
            "staging ai-platform/mcp-server: failed: failed checks threshold reached 3; registry.example/mcp-server:1.0.0 is live.",
        ),
        (
            "next",
            "look at reason, checks and events, then start_canary with an image that mends it, or with retry to try this one once more",
        ),
    ] {
        assert_eq!(content[field], told, "{field}: {content}");
    }
}

/// `held` is a call that follows a run at its one step. Its end by the client is none of the run; that is ended by `rollback`, which wakes who
/// waits in `get_status`, and the next run by `promote`.
async fn intervenes(client: &mut Client, held: u32, jp: &Kubectl) {
    // Nothing but the client ends this call, so what is heard here is heard live.
    client.until(held, "30% to canary").await;
    client.tell(&json!({"abort": held}));
    let ended = loop {
        let said = client.next(held).await;
        // Signs of life that were on their way.
        if said.get("progress").is_none() {
            break said;
        }
    };
    assert!(ended["error"].is_string(), "{ended}");

    let seen = client.ask("get_status", &of("prod-jp")).await;
    let rollout = &seen["rollout"];
    let told = (&rollout["phase"], &rollout["weight"]["written"]);
    assert_eq!(told, (&json!("Progressing"), &json!(30)), "{seen}");

    let wait = json!({"wait_seconds": 3600, "since": rollout["cursor"]});
    let waiting = client.begin("get_status", &with(of("prod-jp"), &wait));
    client.until(waiting, "30% to canary").await;
    let why = with(of("prod-jp"), &json!({"reason": "enough seen"}));
    let back = client.ask("rollback", &why).await;
    assert_eq!(back["outcome"], "applied", "{back}");
    assert_eq!(back["weight"]["written"], 0, "{back}");
    let (_, woken) = client.rest(waiting).await;
    let woken = content(&woken);
    assert_ne!(woken["rollout"]["cursor"], rollout["cursor"], "{woken}");
    jp.watch_canary().await.until_phase("Failed").await;

    let start = json!({"image": image("1.3.0"), "wait_seconds": 3600});
    let again = client.begin("start_canary", &with(of("prod-jp"), &start));
    client.until(again, "30% to canary").await;
    let skip = with(of("prod-jp"), &json!({"skip_analysis": true}));
    let promoted = client.ask("promote", &skip).await;
    assert_eq!(promoted["outcome"], "applied", "{promoted}");
    let (_, result) = client.rest(again).await;
    let end =
        "prod-jp ai-platform/mcp-server: succeeded, registry.example/mcp-server:1.3.0 is live.";
    assert_eq!(content(&result)["summary"], end);
}

#[tokio::test]
async fn typescript_of_today() {
    typescript("modern", "2026-07-28").await;
}

#[tokio::test]
async fn typescript_of_today_as_it_was() {
    typescript("legacy", "2025-11-25").await;
}

#[tokio::test]
async fn typescript_before() {
    typescript("v1", "2025-11-25").await;
}

#[tokio::test]
async fn python_of_today() {
    python("modern", "2026-07-28").await;
}

#[tokio::test]
async fn python_of_today_as_it_was() {
    python("legacy", "2025-11-25").await;
}

#[tokio::test]
async fn python_before() {
    python("v1", "2025-11-25").await;
}
