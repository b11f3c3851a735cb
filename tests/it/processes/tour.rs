//! The README's tour, as a stranger takes it: its commands are run in their order, and each must say what the README shows.

use std::{env, path::Path, process::Command};

use regex::Regex;

use super::{child::Serve, rollout::initialized};
use crate::tools;

const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));

/// What differs between two walks, and what stands for it, in what is shown and in what is said alike. A line that then is the same as the one
/// before it counts once.
const VARIES: [(&str, &str); 6] = [
    // What a rollout waits for between two stages, and signs of life while a machine is slow.
    ("; waits for .*", ""),
    ("(?m)^still .*\n", ""),
    ("success [0-9.]+%", "success N%"),
    ("p99 [0-9]+ ms", "p99 N ms"),
    // kubectl's times and ages, and the space between its columns.
    (
        r"\d{4}-\d\d-\d\dT[0-9:.]+Z|\b\d+[dhms](?:\d+[hms])?\b",
        "TIME",
    ),
    ("[ \t]+", " "),
];

/// A line that stands for any number of lines.
const ANYTHING: &str = "...";

#[tokio::test]
async fn the_tour_is_as_the_readme_shows_it() {
    if !tools::program("curl") {
        return;
    }
    let mut stops = stops().into_iter();
    let (command, shown) = stops.next().unwrap();
    assert_eq!(command, "cargo run -- serve --embedded\n");
    let mut serve = Serve::start(&["--embedded"]).await;
    let kubeconfig = serve.kubeconfig().await;
    serve.process.said("What happened?").await;
    // To read that takes a person longer than the clusters take to be set up.
    initialized(&mut serve).await;
    let walk = Walk {
        mcp: format!("{}/mcp", serve.mcp.origin),
        kubeconfig: kubeconfig.to_str().unwrap().to_owned(),
    };
    shows(&command, &shown, &walk.as_by_default(&serve.process.heard));

    let kubectl = tools::need("kubectl-1.20");
    for (command, shown) in stops {
        if command.contains("kubectl") {
            let Some(kubectl) = &kubectl else { continue };
            shows(&command, &shown, &walk.run(&command, Some(kubectl)));
        } else {
            shows(&command, &shown, &walk.run(&command, None));
        }
    }
}

/// The commands of the tour, each with what the README shows of its answer.
fn stops() -> Vec<(String, String)> {
    let (_, tour) = README.split_once("\n## Five minutes\n").unwrap();
    let (tour, _) = tour.split_once("\n## ").unwrap();
    let stop = Regex::new("(?s)```sh\n(.*?)```\n(?:[^`]*?)```text\n(.*?)```").unwrap();
    let stops: Vec<_> = stop
        .captures_iter(tour)
        .map(|stop| (stop[1].to_owned(), stop[2].to_owned()))
        .collect();
    // Nothing is shown that is not run, and the other way round.
    let fences = tour.lines().filter(|line| line.starts_with("```"));
    assert_eq!(fences.count(), 4 * stops.len());
    stops
}

/// Where the server of this walk is, instead of where it is by default.
struct Walk {
    mcp: String,
    kubeconfig: String,
}

impl Walk {
    /// A command as it stands in the README, in the folder of the README.
    fn run(&self, command: &str, kubectl: Option<&Path>) -> String {
        let mut path = env::var("PATH").unwrap();
        if let Some(kubectl) = kubectl {
            path = format!("{}:{path}", kubectl.join("usr/bin").display());
        }
        let command = command.replace("/tmp/canary-mcp-8090.kubeconfig", &self.kubeconfig);
        let ran = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &command])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("PATH", path)
            .env("CANARY_MCP_URL", &self.mcp)
            .env("no_proxy", "127.0.0.1")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() && errors.is_empty(),
            "{command}{errors}"
        );
        String::from_utf8(ran.stdout).unwrap()
    }

    fn as_by_default(&self, said: &str) -> String {
        let fleet = Regex::new(r"http://127\.0\.0\.1:\d+/clusters/").unwrap();
        let said = said
            .replace(&self.mcp, "http://127.0.0.1:8080/mcp")
            .replace(&self.kubeconfig, "/tmp/canary-mcp-8090.kubeconfig");
        fleet
            .replace_all(&said, "http://127.0.0.1:8090/clusters/")
            .into_owned()
    }
}

fn shows(command: &str, shown: &str, said: &str) {
    let lines = |text: &str| {
        let mut text = text.to_owned();
        for (pattern, stands) in VARIES {
            let pattern = Regex::new(pattern).unwrap();
            text = pattern.replace_all(&text, stands).into_owned();
        }
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.dedup();
        lines
    };
    let (expected, heard) = (lines(shown), lines(said));
    assert!(
        alike(&expected, &heard),
        "$ {command}\n--- says\n{said}\n--- and not, as the README shows,\n{shown}"
    );
}

fn alike(shown: &[String], said: &[String]) -> bool {
    match shown.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == ANYTHING => {
            (0..=said.len()).any(|n| alike(rest, &said[n..]))
        }
        Some((first, rest)) => said.first() == Some(first) && alike(rest, &said[1..]),
    }
}

#[test]
fn what_is_left_out_may_be_anything_and_nothing_else() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let said = lines("a b c d");
    for shown in ["a b c d", "... d", "a ...", "a ... c ...", "a ... b c d"] {
        assert!(alike(&lines(shown), &said), "{shown}");
    }
    for shown in ["a b c", "b c d", "a ... c", "... a", "a x c d"] {
        assert!(!alike(&lines(shown), &said), "{shown}");
    }
}
