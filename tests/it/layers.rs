//! The house's layers, held by a scan of the sources: who may import whom, and the words that a pure room must not contain.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A room, the rooms that it may import, and words that it must not contain.
const ROOMS: [(&str, &[&str], &[&str]); 8] = [
    (
        "decide",
        &[],
        &[
            "kube::",
            "tokio",
            "async ",
            "tracing",
            "SystemTime",
            "Instant::now",
            "jiff",
        ],
    ),
    ("api", &["decide"], &["kube::", "tokio", "async "]),
    (
        "build",
        &["decide", "api"],
        &["kube::", "tokio", "async ", "Result<"],
    ),
    (
        "cluster",
        &["api", "decide::facts", "telemetry"],
        &["rmcp", "axum::extract::State"],
    ),
    (
        "outbound",
        &["decide", "api", "telemetry"],
        &["kube::", "rmcp", "axum"],
    ),
    (
        "engine",
        &["decide", "api", "build", "cluster", "outbound", "telemetry"],
        &["rmcp", "axum", "kube::"],
    ),
    (
        "mcp",
        &["decide", "api", "engine", "telemetry"],
        &["kube::", "axum"],
    ),
    ("http", &["api", "mcp", "engine", "telemetry"], &["kube::"]),
];

fn sources(room: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![room.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let body = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    body.lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The paths after `crate::`, those of `use crate::{a::b, c}` too.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `pub(in crate::x)` names a scope, not a thing.
        if code[..at].ends_with("in ") {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0_i32, 0);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        found.push(group[start..i].trim().to_owned());
                        break;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.push(group[start..i].trim().to_owned());
                        start = i + 1;
                    }
                    _ => {}
                }
            }
        } else {
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
        }
    }
    found.retain(|p| !p.is_empty());
    found
}

fn allowed(import: &str, room: &str, may: &[&str]) -> bool {
    std::iter::once(room).chain(may.iter().copied()).any(|m| {
        import == m
            || import
                .strip_prefix(m)
                .is_some_and(|rest| rest.starts_with("::"))
    })
}

#[test]
fn every_room_imports_only_what_lies_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (room, may, banned) in ROOMS {
        let files = sources(&src.join(room));
        assert!(!files.is_empty(), "room {room} has no sources");
        for file in files
            .iter()
            .filter(|f| !f.to_string_lossy().contains("tests"))
        {
            let code = code(&fs::read_to_string(file).unwrap());
            let name = file.strip_prefix(&src).unwrap().display().to_string();
            for import in imports(&code) {
                if !allowed(&import, room, may) {
                    wrong.push(format!("{name}: crate::{import}"));
                }
            }
            for word in banned {
                if code.contains(word) {
                    wrong.push(format!("{name}: {word:?}"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_scan_sees_what_it_should() {
    let text = "use crate::{\n    api::objects::{A, B},\n    engine::control,\n};\nfn f() { crate::mcp::x() }\n// crate::http\n";
    assert_eq!(
        imports(&code(text)),
        vec!["api::objects::{A, B}", "engine::control", "mcp::x"]
    );
    assert!(allowed("api::objects", "decide", &["api"]));
    assert!(!allowed("apiary", "decide", &["api"]));
    assert!(!allowed("engine::control", "api", &["decide"]));
}
