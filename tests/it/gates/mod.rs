//! Gates, from the first ask to the last: webhooks of ours, as Flagger and this engine call them, through the router that serves the product,
//! on the paused clock and without a socket.

mod annotations;
mod back;
mod coordinate;
mod hooks;
mod people;
mod webhooks;

use std::path::PathBuf;

use axum::body::Body;
use canary_mcp::{
    engine::control::Control,
    http::{
        Options,
        auth::{StaticTokens, mint},
        gate::Gates,
        router,
    },
    mcp::McpServer,
    telemetry::Metrics,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{http::fixture::messages, processes::child::Dir};

/// The product's router over `control`.
pub(super) struct Product {
    control: Control,
    tokens: Option<PathBuf>,
    open_checks: bool,
}

impl Product {
    pub(super) fn new(control: &Control) -> Self {
        Self {
            control: control.clone(),
            tokens: None,
            open_checks: false,
        }
    }

    fn router(&self) -> axum::Router {
        let metrics = Metrics::new("test", "istio");
        let handler = McpServer::new(
            self.control.clone(),
            metrics.clone(),
            CancellationToken::new(),
        );
        let options = Options {
            tokens: self
                .tokens
                .as_ref()
                .map(|path| StaticTokens::load(path).unwrap()),
            gates: Some(Gates {
                control: self.control.clone(),
                open_checks: self.open_checks,
            }),
            ..Options::new(Vec::new(), std::sync::Arc::new(|| Ok(())), metrics)
        };
        router(handler, options)
    }

    /// Status and body of a POST.
    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        self.post_with(path, body, &[]).await
    }

    pub(super) async fn post_with(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> (u16, String) {
        let mut request = http::Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = self.router().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

impl Product {
    /// What a tool answers, called as a client calls it.
    pub(super) async fn call(&self, tool: &str, more: Value) -> Value {
        let mut arguments =
            json!({"cluster": "prod-kr", "namespace": "ai-platform", "name": "mcp-server"});
        let more = more.as_object().unwrap().clone();
        arguments.as_object_mut().unwrap().extend(more);
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments,
                "_meta": {"io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"}}}});
        let headers = [
            ("host", "localhost"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2025-11-25"),
        ];
        let (status, text) = self.post_with("/mcp", &body, &headers).await;
        assert_eq!(status, 200, "{text}");
        let last = messages(&text).pop().unwrap();
        let result = &last["result"];
        assert!(result["structuredContent"].is_object(), "{last}");
        result["structuredContent"].clone()
    }

    /// Outcome and reason of a verb.
    pub(super) async fn verb(&self, tool: &str, more: Value) -> (String, String) {
        let head = self.call(tool, more).await;
        let text = |at: &str| head[at].as_str().unwrap().to_owned();
        (text("outcome"), text("reason"))
    }
}

pub(super) fn ended(outcome: &str, reason: &str) -> (String, String) {
    (outcome.to_owned(), reason.to_owned())
}

/// A file of a reader's and a writer's token, and the tokens.
fn tokens(dir: &Dir) -> (PathBuf, String, String) {
    let reader = mint("flagger", "rollouts:read").unwrap();
    let writer = mint("alice", "rollouts:write").unwrap();
    let path = dir.path("tokens");
    std::fs::write(&path, format!("{}\n{}\n", reader.line, writer.line)).unwrap();
    (path, reader.token, writer.token)
}
