//! `--auth static-tokens` on the wire: who gets in, who may do what, and who is told to have done it.

use std::{path::PathBuf, time::Duration};

use canary_mcp::{
    api::objects::ObjectExt,
    decide::state::Phase,
    http::{
        Options,
        auth::{StaticTokens, mint},
        router,
    },
    mcp::McpServer,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::fixture::{Era, PATIENCE, Server, misbehaving, options, serve};
use crate::{
    processes::child::Dir,
    support::{Rig, no_clusters},
};

const ERAS: [Era; 2] = [Era::Modern, Era::Legacy("2025-11-25")];

/// A file of tokens, and the tokens.
struct Tokens {
    dir: Dir,
    read: String,
    write: String,
    admin: String,
}

impl Tokens {
    fn new() -> Self {
        let dir = Dir::new();
        let [(read, a), (write, b), (admin, c)] = [
            ("reader", "rollouts:read"),
            ("alice@example.com", "rollouts:read,rollouts:write"),
            ("root", "rollouts:admin"),
        ]
        .map(|(name, scopes)| {
            let minted = mint(name, scopes).unwrap();
            (minted.token, minted.line)
        });
        std::fs::write(dir.path("tokens"), format!("# ours\n{a}\n{b}\n{c}\n")).unwrap();
        Self {
            dir,
            read,
            write,
            admin,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path("tokens")
    }

    fn options(&self) -> Options {
        Options {
            tokens: Some(StaticTokens::load(&self.path()).unwrap()),
            ..options()
        }
    }
}

async fn product(tokens: &Tokens) -> Server {
    let options = tokens.options();
    let handler = McpServer::new(
        no_clusters(),
        options.metrics.clone(),
        CancellationToken::new(),
    );
    serve(handler, options).await
}

/// Status, challenge and body.
async fn call(
    server: &Server,
    era: Era,
    token: Option<&str>,
    tool: &str,
    arguments: Value,
) -> (u16, Option<String>, String) {
    let mut request = server.post(
        era,
        "tools/call",
        json!({"name": tool, "arguments": arguments}),
    );
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = request.send().await.unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
    (
        response.status().as_u16(),
        challenge,
        response.text().await.unwrap(),
    )
}

fn of(more: &Value) -> Value {
    let mut all = json!({"cluster": "a", "namespace": "b", "name": "c"});
    all.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    all
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_but_the_probes() {
    let tokens = Tokens::new();
    let server = product(&tokens).await;
    for era in ERAS {
        assert_eq!(
            call(&server, era, None, "list_clusters", json!({})).await,
            (
                401,
                Some("Bearer realm=\"canary-mcp\"".to_owned()),
                "this server takes a token: send the header Authorization: Bearer TOKEN; who runs it makes one with `canary-mcp token`\n"
                    .to_owned()
            )
        );
        let wrong = format!("{}0", tokens.read);
        assert_eq!(
            call(&server, era, Some(&wrong), "list_clusters", json!({})).await,
            (
                401,
                Some("Bearer realm=\"canary-mcp\", error=\"invalid_token\"".to_owned()),
                "the token is not one of this server's; ask who runs it for a new one\n".to_owned()
            )
        );
        let (status, _, _) =
            call(&server, era, Some(&tokens.read), "list_clusters", json!({})).await;
        assert_eq!(status, 200);
    }
    for (path, status) in [
        ("healthz", 200),
        ("readyz", 200),
        ("metrics", 200),
        ("mcp", 401),
    ] {
        let url = format!("{}/{path}", server.origin);
        let answer = server.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}

#[tokio::test]
async fn each_may_do_what_its_scopes_say() {
    let tokens = Tokens::new();
    let server = product(&tokens).await;
    let image = json!({"image": "registry.example/web:1"});
    let dry = json!({"image": "registry.example/web:1", "dry_run": true});
    let table = [
        ("get_status", json!({}), None),
        ("list_clusters", json!({}), None),
        ("start_canary", of(&dry), None),
        ("start_canary", of(&image), Some("rollouts:write")),
        ("promote", of(&json!({})), Some("rollouts:write")),
        ("rollback", of(&json!({})), Some("rollouts:write")),
        (
            "promote",
            of(&json!({"skip_analysis": true})),
            Some("rollouts:admin"),
        ),
    ];
    let callers = [
        (
            "reader",
            &tokens.read,
            &["rollouts:write", "rollouts:admin"][..],
        ),
        ("alice@example.com", &tokens.write, &["rollouts:admin"]),
        ("root", &tokens.admin, &[]),
    ];
    for era in ERAS {
        for (name, token, lacks) in &callers {
            for (tool, arguments, scope) in &table {
                let answer = call(&server, era, Some(token), tool, arguments.clone()).await;
                match scope.filter(|scope| lacks.contains(scope)) {
                    None => assert_eq!(answer.0, 200, "{name} {tool}: {answer:?}"),
                    Some(scope) => assert_eq!(
                        answer,
                        (
                            403,
                            Some(format!(
                                "Bearer realm=\"canary-mcp\", error=\"insufficient_scope\", scope=\"{scope}\""
                            )),
                            format!(
                                "{name} may not do this: its token has no scope {scope}; ask who runs this server for one that has\n"
                            )
                        )
                    ),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_two_readers_read_differently_is_not_let_through() {
    let tokens = Tokens::new();
    let server = product(&tokens).await;
    let arguments = of(&json!({}));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"list_clusters","name":"rollback","arguments":{arguments}}}}}"#
    );
    let answer = server
        .post(ERAS[1], "tools/call", json!({}))
        .header("authorization", format!("Bearer {}", tokens.read))
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(
        status.is_client_error() || text.contains("reader may not do this"),
        "{status} {text}"
    );
}

#[tokio::test]
async fn no_tool_sees_the_token() {
    let tokens = Tokens::new();
    let (handler, _strings) = misbehaving();
    let server = serve(handler, tokens.options()).await;
    // A tool that nobody knows takes the strongest scope.
    let (status, _, text) = call(&server, ERAS[1], Some(&tokens.admin), "headers", json!({})).await;
    assert_eq!(status, 200);
    assert!(
        text.contains("content-type") && !text.contains("authorization"),
        "{text}"
    );
}

/// Asks until the answer has this status.
async fn until(server: &Server, token: &str, wanted: u16) {
    let limit = std::time::Instant::now() + PATIENCE;
    loop {
        let (status, _, text) =
            call(server, ERAS[1], Some(token), "list_clusters", json!({})).await;
        if status == wanted {
            return;
        }
        assert!(std::time::Instant::now() < limit, "{status} {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_changed_file_counts_and_a_broken_one_does_not() {
    let tokens = Tokens::new();
    let server = product(&tokens).await;
    until(&server, &tokens.read, 200).await;
    let new = mint("new", "rollouts:read").unwrap();
    std::fs::write(tokens.path(), &new.line).unwrap();
    until(&server, &new.token, 200).await;
    until(&server, &tokens.read, 401).await;

    let newest = mint("newest", "rollouts:read").unwrap();
    let broken = format!("{}\n{} nonsense\n", newest.line, newest.line);
    std::fs::write(tokens.path(), broken).unwrap();
    // As long as a look lasts, and then some: what was known still counts, and what is new does not.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    until(&server, &new.token, 200).await;
    until(&server, &newest.token, 401).await;
    std::fs::remove_file(tokens.path()).unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    until(&server, &new.token, 200).await;

    std::fs::write(tokens.path(), &newest.line).unwrap();
    until(&server, &newest.token, 200).await;
    until(&server, &new.token, 401).await;
}

#[tokio::test(start_paused = true)]
async fn the_callers_name_is_told_not_what_its_client_says() {
    let tokens = Tokens::new();
    let rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let handler = McpServer::new(
        rig.control.clone(),
        rig.metrics.clone(),
        CancellationToken::new(),
    );
    let arguments = json!({"cluster": "prod-kr", "namespace": "ai-platform", "name": "mcp-server"});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "rollback", "arguments": arguments,
            "_meta": {"io.modelcontextprotocol/clientInfo": {"name": "mallory", "version": "1"}}}});
    let request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .header("authorization", format!("Bearer {}", tokens.write))
        .body(axum::body::Body::from(body.to_string()))
        .unwrap();
    let answer = router(handler, tokens.options())
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    rig.until_phase(Phase::Failed).await;
    let canary = rig.canary();
    let request = canary.annotation("canary-mcp.dev/request").unwrap();
    let request: Value = serde_json::from_str(request).unwrap();
    assert_eq!(request["by"], "alice@example.com");
    assert_eq!(
        rig.warnings("Rolling back mcp-server.ai-platform rollback requested by alice@example.com"),
        1,
        "{:?}",
        rig.events()
    );
}
