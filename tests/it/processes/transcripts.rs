//! Whole conversations on the wire, by curl, as `tests/it/transcripts` has them: each file defines a few shell functions, and then goes on in
//! blocks of a title (`# `), a command (`$ `) and its answer. `UPDATE_GOLDEN=1` writes the answers anew.

use std::{env, fmt::Write as _, fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use super::{child::Serve, rollout::initialized};
use crate::tools;

/// What differs between two runs that say the same, and what stands for it. Beside these, the headers `date` and `content-length` are left out,
/// the port is 8080, and JSON is indented and its keys sorted. A tool that is exactly as its file in `tool-schemas` has it stands as that
/// file's name, and a text that repeats `structuredContent` as `(structuredContent)`.
const VARIES: [(&str, &str); 1] = [(
    "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "RANDOM-UUID",
)];

#[tokio::test]
async fn the_wire_is_as_written() {
    if !tools::program("curl") {
        return;
    }
    let mut serve = Serve::start(&["--embedded", "--embedded-speed", "60"]).await;
    initialized(&mut serve).await;
    for name in ["2026-07-28", "2025-11-25", "2025-06-18", "refusals"] {
        let path = transcripts().join(format!("{name}.txt"));
        let written = fs::read_to_string(&path).unwrap();
        let heard = replayed(&written, &serve.mcp.origin);
        if env::var("UPDATE_GOLDEN").is_ok_and(|update| update == "1") {
            fs::write(&path, &heard).unwrap();
            continue;
        }
        // Block by block: a difference is told with its title and command.
        let blocks = heard.split("\n# ").zip(written.split("\n# "));
        for (heard, written) in blocks {
            assert!(
                heard.trim_end() == written.trim_end(),
                "{name}\n# {heard}\n--- and not, as written:\n# {written}"
            );
        }
        assert_eq!(heard, written, "{name}");
    }
}

fn transcripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts")
}

/// The transcript with the answers that its commands get now.
fn replayed(written: &str, origin: &str) -> String {
    let (definitions, blocks) = written
        .split_once("\n\n# ")
        .expect("definitions must stand before the first block");
    let mut text = definitions.to_owned();
    for block in blocks.split("\n# ") {
        let (title, rest) = block.split_once("\n$ ").expect("a block has a command");
        let command = command_of(rest);
        let answer = run(definitions, &command, origin);
        let answer = answer.trim_end();
        write!(text, "\n\n# {title}\n$ {command}\n{answer}").unwrap();
    }
    text + "\n"
}

/// The command: lines that go on with a backslash.
fn command_of(rest: &str) -> String {
    let mut lines = rest.lines();
    let mut command: Vec<&str> = Vec::new();
    for line in lines.by_ref() {
        command.push(line);
        if !line.ends_with('\\') {
            break;
        }
    }
    command.join("\n")
}

fn run(definitions: &str, command: &str, origin: &str) -> String {
    let mut bash = Command::new("bash");
    let ran = bash
        .args(["-euo", "pipefail", "-c"])
        .arg(format!("{definitions}\n{command}"))
        .env("MCP", format!("{origin}/mcp"))
        .env("no_proxy", "127.0.0.1")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success() && errors.is_empty(),
        "{command}: {errors}"
    );
    let answer = String::from_utf8(ran.stdout).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{command}: {answer}"));
    let head = head
        .lines()
        .filter(|line| !line.starts_with("date: ") && !line.starts_with("content-length: "));
    let mut text = head.collect::<Vec<_>>().join("\n") + "\n\n";
    if let Ok(message) = serde_json::from_str(body) {
        text += &readable(message);
    } else {
        for line in body.lines() {
            match line.strip_prefix("data: ").map(serde_json::from_str) {
                Some(Ok(message)) => writeln!(text, "data: {}", readable(message)).unwrap(),
                Some(Err(_)) | None => writeln!(text, "{line}").unwrap(),
            }
        }
    }
    let port = origin.rsplit(':').next().unwrap();
    text = text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:8080");
    for (pattern, stands) in VARIES {
        text = regex::Regex::new(pattern)
            .unwrap()
            .replace_all(&text, stands)
            .into_owned();
    }
    text
}

fn readable(mut message: Value) -> String {
    let tools = message
        .pointer_mut("/result/tools")
        .and_then(Value::as_array_mut);
    for tool in tools.into_iter().flatten() {
        let file = format!("tool-schemas/{}.json", tool["name"].as_str().unwrap());
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&file);
        let committed: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        if *tool == committed {
            *tool = json!(file);
        }
    }
    let structured = message.pointer("/result/structuredContent").cloned();
    if let Some(text) = message.pointer_mut("/result/content/0/text") {
        let repeated = text
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok());
        if structured.is_some() && repeated == structured {
            *text = json!("(structuredContent)");
        }
    }
    format!("{message:#}")
}
