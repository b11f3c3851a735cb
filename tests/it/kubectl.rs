//! What a person sees who works on an embedded cluster with kubectl: one script of commands, its output as it stands in `kubectl/*.golden`.
//! `UPDATE_GOLDEN=1` writes those anew.

use std::{
    borrow::Cow,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use regex::{Captures, Regex};

use crate::{
    processes::{
        child::{Dir, Serve},
        kubernetes::Kubectl,
    },
    tools,
};

/// What differs from run to run, and what stands for it. In this order.
const RULES: [(&str, &str); 15] = [
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\w{3}, \d\d \w{3} \d{4} [\d:]+ \+0000", "TIME"),
    (r"\d{4}-\d\d-\d\d [\d:.]+ \+0000", "TIME"),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "UID",
    ),
    // What the fleet's workloads look like, and in which order they come, is not kubectl's.
    ("v1-[0-9a-f]{64}", "v1-REVISION"),
    (r"(Template: +mcp-server)-[0-9a-f]{10}\b", "$1-REVISION"),
    (r"\b10\.96\.\d+\.\d+", "CLUSTER-IP"),
    // A pod-template-hash and a pod's own suffix: letters and digits that make no words.
    (r"([-=])[2456789bcdfghjklmnpqrstvwxz]{10}\b", "${1}HASH"),
    (r"HASH-[2456789bcdfghjklmnpqrstvwxz]{5}\b", "HASH-POD"),
    (r"(Resource Version:|resourceVersion:) .*", "$1 N"),
    (r"(canary-mcp.dev/epoch:) .*", "$1 N"),
    (r"10\.244\.\d+\.\d+", "POD-IP"),
    (r"/tmp/(LIVE|MERGED)-[^/]+/", "/tmp/$1/"),
    // How wide a column is depends on the ages in it.
    (r"(\S) {2,}", "$1  "),
    (r"\s+$", ""),
];

/// What follows = or is quoted is a setting, and so is 1m: an age is never one minute (that is 60s).
const AGE: &str = r#"(^|[^="\w])(\d+[smhdy](?:\d+[smhdy])?)\b"#;

/// The output without who has set which field, which old clients show by themselves.
fn without_managed_fields(output: &str) -> String {
    let mut kept = String::new();
    let mut inside = None;
    for line in output.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        // The items of a list in YAML stand as far left as its name.
        if inside.is_some_and(|from| indent > from || indent == from && text.starts_with("- ")) {
            continue;
        }
        let begins = ["Managed Fields:", "managedFields:"].contains(&text.trim_end());
        inside = begins.then_some(indent);
        if !begins {
            writeln!(kept, "{line}").unwrap();
        }
    }
    kept
}

/// The output of one command as the goldens have it.
fn normalised(output: &str) -> String {
    let rules: Vec<(Regex, &str)> = RULES
        .iter()
        .map(|(pattern, stands)| (Regex::new(pattern).unwrap(), *stands))
        .collect();
    let age = Regex::new(AGE).unwrap();
    let mut lines = Vec::new();
    for line in without_managed_fields(output).lines() {
        // How often it looks is a matter of time.
        if line.starts_with("Waiting for deployment") {
            continue;
        }
        let line = rules.iter().fold(Cow::from(line), |line, (rule, stands)| {
            Cow::Owned(rule.replace_all(&line, *stands).into_owned())
        });
        // 100m of one are no age.
        if line.trim_start().starts_with("cpu:") {
            lines.push(line.into_owned());
            continue;
        }
        let line = age.replace_all(&line, |found: &Captures| match &found[2] {
            "1m" => found[0].to_owned(),
            _ => format!("{}AGE", &found[1]),
        });
        lines.push(line.into_owned());
    }
    // They come by their names, which end in a hash of what the fleet's workloads look like.
    for sets in lines.chunk_by_mut(|a, b| [a, b].iter().all(|l| l.starts_with("replicaset.apps/")))
    {
        sets.sort();
    }
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// Runs the script with the kubectl of a folder: each command with its output, and its exit code if it is not 0.
async fn transcript(kubectl: &Path) -> String {
    let mut serve = Serve::start(&["--embedded", "--embedded-speed", "40"]).await;
    let kubeconfig = serve.kubeconfig().await;
    for context in ["prod-kr", "prod-jp", "staging"] {
        let cluster = Kubectl::new(&kubeconfig, context).await;
        cluster
            .watch_canary()
            .await
            .until_phase("Initialized")
            .await;
    }
    let home = Dir::new();
    let (folder, kubectl) = (folder(), kubectl.display());
    let mut text = String::new();
    let script = std::fs::read_to_string(folder.join("script")).unwrap();
    for line in script.lines() {
        if line.starts_with('#') {
            writeln!(text, "{line}").unwrap();
            continue;
        }
        let ran = Command::new("sh")
            .args(["-c", &format!("{{ {line}; }} 2>&1")])
            .current_dir(&folder)
            .env_clear()
            .env("PATH", format!("{kubectl}:/usr/bin:/bin"))
            .env("HOME", home.path(""))
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        write!(text, "$ {line}\n{}", normalised(&said)).unwrap();
        if !ran.status.success() {
            writeln!(text, "[{}]", ran.status.code().unwrap()).unwrap();
        }
    }
    text
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kubectl")
}

async fn compare(tool: &str, programs: &str, golden: &str) {
    let Some(tool) = tools::need(tool) else {
        return;
    };
    let is = transcript(&tool.join(programs)).await;
    let golden = folder().join(golden);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, is).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&golden).unwrap();
    let lines = is.lines().zip(wanted.lines()).enumerate();
    for (n, (is, wanted)) in lines {
        assert_eq!(is, wanted, "{}:{}", golden.display(), n + 1);
    }
    assert_eq!(is.lines().count(), wanted.lines().count());
}

/// Debian's, of 2021.
#[tokio::test]
async fn the_oldest_kubectl_sees_what_the_golden_file_says() {
    compare("kubectl-1.20", "usr/bin", "1.20.golden").await;
}

/// Built with the control plane, from the newest release of the modules.
#[tokio::test]
async fn the_newest_kubectl_sees_what_the_golden_file_says() {
    compare("control-plane", "bin", "newest.golden").await;
}
