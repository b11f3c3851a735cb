//! The programs of others that judge ours, as `tests/tools/install` has put them into a cache folder outside the tree.

use std::{env, path::PathBuf, process::Command};

/// The folder of one tool. Where it is not installed the caller's test has nothing to judge by and ends: that is said, and with `CI=true` it
/// is a failure.
pub(crate) fn need(tool: &str) -> Option<PathBuf> {
    let folder = folder(tool);
    if folder.join(".ready").is_file() {
        return Some(folder);
    }
    let missing = format!("{tool} is not installed; run: tests/tools/install {tool}");
    assert!(!in_ci(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

/// Whether the machine has a program that comes with every one that is not bare, like curl. Where it has not, that is said, and with
/// `CI=true` it is a failure.
pub(crate) fn program(name: &str) -> bool {
    let found = env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    if !found {
        assert!(!in_ci(), "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// The folder of one tool, whether it is there or not.
pub(crate) fn folder(tool: &str) -> PathBuf {
    cache().join(tool)
}

/// `CI=true`: nothing may be missing.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}

fn cache() -> PathBuf {
    let of = |name: &str| env::var_os(name).filter(|v| !v.is_empty());
    if let Some(folder) = of("CANARY_MCP_TOOLS") {
        return folder.into();
    }
    let user = of("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(of("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    user.join("canary-mcp-tools")
}

/// What judges is what we think it is.
#[test]
fn the_programs_are_the_pinned_ones() {
    let says = |tool: &str, program: &str, arguments: &[&str], wanted: &str| {
        let Some(folder) = need(tool) else { return };
        let ran = Command::new(folder.join(program))
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(said.contains(wanted), "{tool}: {said}");
    };
    says(
        "prometheus",
        "usr/bin/prometheus",
        &["--version"],
        "prometheus, version 2.42.0",
    );
    says(
        "kubectl-1.20",
        "usr/bin/kubectl",
        &["version", "--client"],
        "GitVersion:\"v1.20.2\"",
    );
    says("node-mcp", "bin/node", &["--version"], "v24.19.0");
    says(
        "node-mcp",
        "node_modules/.bin/claude",
        &["--version"],
        "2.1.329 (Claude Code)",
    );
    says("python-mcp", "version", &["1"], "1.30.0\n");
    says("python-mcp", "version", &["2"], "2.3.0\n");
}
