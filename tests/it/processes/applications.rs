//! `examples/clients`: the scripts are run as they stand, and the configurations of applications are given to the programs that read them, where
//! such a program can be run without a person: Claude Code, and the bridge through which Claude Desktop comes. Cursor and VS Code cannot; of their
//! files it is tested that they have the keys that their manuals want, no more.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{
    child::{Dir, Process, Serve},
    rollout::{initialized, patient},
};
use crate::tools;

/// What stands in the examples.
const URL: &str = "http://127.0.0.1:8080/mcp";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/clients")
        .join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap()
}

fn url(serve: &Serve) -> String {
    format!("{}/mcp", serve.mcp.origin)
}

/// A program of the Node.js tool, with nothing of this process's surroundings but its home.
fn node(program: &str, tool: &Path, home: &Dir) -> Command {
    let path = format!("{}:/usr/bin:/bin", tool.join("bin").display());
    let mut command = Command::new(tool.join(program));
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", home.path("."))
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .current_dir(home.path("."))
        .stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output:?}\n{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn each_application_gets_the_keys_that_it_reads() {
    let http = json!({"type": "http", "url": URL});
    let bridge = json!({"command": "npx", "args": ["-y", "mcp-remote", URL]});
    for (file, wanted) in [
        (
            "claude-code.mcp.json",
            json!({"mcpServers": {"canary-mcp": http}}),
        ),
        (
            "claude_desktop_config.json",
            json!({"mcpServers": {"canary-mcp": bridge}}),
        ),
        (
            "cursor.mcp.json",
            json!({"mcpServers": {"canary-mcp": {"url": URL}}}),
        ),
        ("vscode.mcp.json", json!({"servers": {"canary-mcp": http}})),
    ] {
        let written: Value = serde_json::from_str(&text(file)).unwrap();
        assert_eq!(written, wanted, "{file}");
    }
}

#[tokio::test]
async fn claude_code_connects() {
    let Some(tool) = tools::need("node-mcp") else {
        return;
    };
    let serve = Serve::start(&["--embedded"]).await;
    let home = Dir::new();
    let claude = |arguments: &[&str]| {
        let mut command = node("node_modules/.bin/claude", &tool, &home);
        stdout(&command.args(arguments).output().unwrap())
    };
    let connected = format!("canary-mcp: {} (HTTP) - ✔ Connected", url(&serve));

    // As the README says it.
    let command = format!("claude mcp add --transport http canary-mcp {URL}");
    assert!(include_str!("../../../README.md").contains(&command));
    let here = command.replace(URL, &url(&serve));
    let arguments: Vec<&str> = here.split(' ').skip(1).collect();
    claude(&arguments);
    let listed = claude(&["mcp", "list"]);
    assert!(listed.contains(&connected), "{listed}");
    claude(&["mcp", "remove", "canary-mcp"]);

    // The file, as that of a project, once the person has said yes to it.
    let file = text("claude-code.mcp.json").replace(URL, &url(&serve));
    fs::write(home.path(".mcp.json"), file).unwrap();
    let yes = r#"{"enableAllProjectMcpServers": true}"#;
    fs::create_dir_all(home.path(".claude")).unwrap();
    fs::write(home.path(".claude/settings.json"), yes).unwrap();
    let listed = claude(&["mcp", "list"]);
    assert!(listed.contains(&connected), "{listed}");
}

#[tokio::test]
async fn claude_desktop_comes_through_the_bridge() {
    let Some(tool) = tools::need("node-mcp") else {
        return;
    };
    let mut serve = Serve::start(&["--embedded"]).await;
    initialized(&mut serve).await;
    let config: Value =
        serde_json::from_str(&text("claude_desktop_config.json").replace(URL, &url(&serve)))
            .unwrap();
    let bridge = &config["mcpServers"]["canary-mcp"];
    assert_eq!(bridge["command"], "npx");
    let arguments = bridge["args"].as_array().unwrap().iter();
    let arguments: Vec<&str> = arguments.map(|word| word.as_str().unwrap()).collect();

    let home = Dir::new();
    // npx takes what is installed beside it before it asks a registry.
    std::os::unix::fs::symlink(tool.join("node_modules"), home.path("node_modules")).unwrap();
    fs::write(home.path("package.json"), "{}").unwrap();
    let mut command = node("bin/npx", &tool, &home);
    command.args(arguments).stdin(Stdio::piped());
    let mut bridge = Process::of(command, home);

    let client = json!({"name": "claude-ai", "version": "1"});
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    let hello = ask(&mut bridge, 1, "initialize", &hello).await;
    assert_eq!(hello["serverInfo"]["name"], "canary-mcp");
    bridge.tell(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
    let listed = ask(&mut bridge, 2, "tools/list", &json!({})).await;
    assert_eq!(listed["tools"].as_array().unwrap().len(), 5, "{listed}");
    let call = json!({"name": "get_status", "arguments": {"cluster": "prod-kr"}});
    let called = ask(&mut bridge, 3, "tools/call", &call).await;
    assert_eq!(
        called["structuredContent"]["rollout"]["phase"],
        "Initialized"
    );
}

async fn ask(bridge: &mut Process, id: u32, method: &str, params: &Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    bridge.tell(&request.to_string());
    let mut answer: Value = serde_json::from_str(&bridge.line().await).unwrap();
    assert_eq!(answer["id"], id, "{answer}");
    answer["result"].take()
}

/// What `rollout.mts` and `rollout.py` print of a good rollout, a bad one, and a name that cannot be.
fn rolls_out(run: impl Fn(&[&str]) -> Output) {
    let image = |tag: &str| format!("registry.example/mcp-server:{tag}");
    let rollout =
        |cluster: &str, name: &str, image: &str| run(&[cluster, "ai-platform", name, image]);
    let good = rollout("prod-kr", "mcp-server", &image("1.1.0"));
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let said = stdout(&good);
    let of = "prod-kr ai-platform/mcp-server";
    let told: Vec<&str> = said.lines().collect();
    let first = format!("{of}: asking the engine to roll registry.example/mcp-server:1.1.0 out");
    assert_eq!(told.first(), Some(&first.as_str()), "{said}");
    let summary = format!("{of}: succeeded, registry.example/mcp-server:1.1.0 is live.");
    let next = "next: nothing to do; start_canary with a new image rolls it out";
    assert_eq!(told[told.len() - 2..], [summary.as_str(), next], "{said}");
    for weight in [5, 10, 15, 20, 25, 30] {
        let step = format!("{of}: {weight}% to canary, ");
        assert!(told.iter().any(|line| line.starts_with(&step)), "{said}");
    }

    let bad = rollout("staging", "mcp-server", &image("1.2.0-errors"));
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let said = String::from_utf8(bad.stdout).unwrap();
    let summary = "staging ai-platform/mcp-server: failed: failed checks threshold reached 3; registry.example/mcp-server:1.0.0 is live.\n";
    assert!(said.contains(summary), "{said}");

    let wrong = rollout("prod-jp", "MCP", &image("1.1.0"));
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let told = "name: \"MCP\" is not a DNS-1123 name: at most 253 lower-case letters, digits, dashes and dots\n";
    assert_eq!(String::from_utf8(wrong.stderr).unwrap(), told);
}

#[tokio::test]
async fn the_typescript_example_rolls_out() {
    let Some(tool) = tools::need("node-mcp") else {
        return;
    };
    let mut serve = Serve::start(&["--embedded"]).await;
    let [kr, ..] = initialized(&mut serve).await;
    patient(&kr).await;
    let home = Dir::new();
    // As `npm install` beside the file leaves it.
    std::os::unix::fs::symlink(tool.join("node_modules"), home.path("node_modules")).unwrap();
    fs::copy(example("rollout.mts"), home.path("rollout.mts")).unwrap();
    rolls_out(|arguments| {
        let mut command = node("bin/node", &tool, &home);
        command.env("CANARY_MCP_URL", url(&serve));
        command.arg("rollout.mts").args(arguments).output().unwrap()
    });

    // Node.js runs it without a look at its types.
    let mut check = node("bin/node", &tool, &home);
    check.arg("node_modules/typescript/bin/tsc");
    check.args([
        "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext",
    ]);
    check.args(["--skipLibCheck", "--types", "node", "rollout.mts"]);
    assert_eq!(stdout(&check.output().unwrap()), "");
}

#[tokio::test]
async fn the_python_example_rolls_out() {
    let Some(tool) = tools::need("python-mcp") else {
        return;
    };
    let mut serve = Serve::start(&["--embedded"]).await;
    let [kr, ..] = initialized(&mut serve).await;
    patient(&kr).await;
    rolls_out(|arguments| {
        let mut command = Command::new("python3");
        command
            .arg(example("rollout.py"))
            .args(arguments)
            .env("PYTHONPATH", tool.join("2"))
            .env("CANARY_MCP_URL", url(&serve))
            .env("no_proxy", "127.0.0.1");
        command.output().unwrap()
    });
}
