//! The choke point, with a tool that panics in place of one of ours.

use std::sync::Arc;

use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use rmcp::{
    handler::server::router::tool::ToolRoute,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::registry::Registry,
    engine::Settings,
    outbound::http::{Transport, client},
};

fn server() -> McpServer {
    McpServer::new(
        Control::new(
            Registry::default(),
            Settings::default(),
            Transport::Direct(client(false).unwrap()),
        ),
        Metrics::new("test", "istio"),
        CancellationToken::new(),
    )
}

/// The result or error of one legacy call.
async fn call(server: McpServer, tool: &str) -> Value {
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        StreamableHttpServerConfig::default().with_legacy_session_mode(false),
    );
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}});
    let request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
        .body(Full::new(bytes::Bytes::from(body.to_string())))
        .unwrap();
    let answer = service
        .handle(request)
        .await
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let data = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .find(|data| !data.is_empty())
        .unwrap();
    serde_json::from_str(data).unwrap()
}

#[tokio::test]
async fn a_panic_is_a_failed_result_and_a_counted_error() {
    let mut server = server();
    let definition = server.router.get("get_status").unwrap().clone();
    server.router.add_route(ToolRoute::new_dyn(definition, |_| {
        async { panic!("a mistake of ours") }.boxed()
    }));
    let metrics = server.metrics.clone();
    let answer = call(server, "get_status").await;
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 1, "result": {
            "content": [{"type": "text", "text": "get_status: internal error, the server's log says more; whether anything was done is not known: call get_status"}],
            "isError": true,
        }})
    );
    let text = metrics.encode().unwrap();
    assert!(
        text.contains(r#"mcp_requests_total{tool="get_status",status="error",version="test"} 1"#),
        "{text}"
    );
}

#[test]
fn a_tool_that_follows_may_take_as_long_as_it_may_follow() {
    for (tool, seconds) in [
        ("get_status", 3720),
        ("start_canary", 3720),
        ("list_clusters", 120),
        ("promote", 120),
        ("rollback", 120),
    ] {
        assert_eq!(deadline(tool), Duration::from_secs(seconds), "{tool}");
    }
}

#[test]
fn the_instructions_name_every_tool() {
    for name in schemas::NAMES {
        assert!(INSTRUCTIONS.contains(&format!("{name}: ")), "{name}");
    }
}
