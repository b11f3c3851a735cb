//! `canary-mcp token` and `serve --auth static-tokens`: what is printed, and what never is.

use serde_json::json;

use super::child::{Dir, Serve, run};
use crate::http::fixture::Era;

/// What follows a line of this beginning.
fn after(text: &str, line: &str) -> String {
    let mut lines = text.lines().skip_while(|l| *l != line);
    lines.nth(1).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_token_opens_what_its_line_says_and_is_never_told() {
    let output = run(&["token", "--name", "ci", "--scopes", "rollouts:read"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    let token = after(&said, "Token, shown this once:");
    let line = after(&said, "Line for the file of --auth-file:");
    let dir = Dir::new();
    let file = dir.path("tokens");
    std::fs::write(&file, format!("{line}\n")).unwrap();

    let flags = ["--embedded", "--auth", "static-tokens", "--auth-file"];
    let mut args = flags.to_vec();
    args.push(file.to_str().unwrap());
    let mut serve = Serve::talkative(&args).await;
    let wrong = format!("{token}planted");
    for (token, tool, status) in [
        (&token, "list_clusters", 200),
        (&token, "rollback", 403),
        (&wrong, "list_clusters", 401),
    ] {
        let params = json!({"name": tool, "arguments": {}});
        let request = serve.mcp.post(Era::Modern, "tools/call", params);
        let request = request.header("authorization", format!("Bearer {token}"));
        assert_eq!(request.send().await.unwrap().status(), status, "{tool}");
    }
    serve.process.terminate();
    assert_eq!(serve.process.ended().await.code(), Some(0));
    let log = serve.process.log();
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "{log}");
    let secret = token.strip_prefix("cmcp_").unwrap();
    assert!(!log.contains(secret) && !serve.process.heard.contains(secret));
}

#[test]
fn a_file_that_cannot_be_used_is_told_before_anything_is_served() {
    let dir = Dir::new();
    let file = dir.path("tokens");
    std::fs::write(&file, "a cmcp_secret rollouts:read\n").unwrap();
    let path = file.to_str().unwrap();
    let flags = ["serve", "--embedded", "--listen", "127.0.0.1:0", "--auth"];
    let mut args = flags.to_vec();
    args.extend(["static-tokens", "--auth-file", path]);
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap().trim_end(),
        format!("--auth-file: {path}, line 1: the hash has to be sha256: and 64 hex digits")
    );
}
