//! The product's own handler, in both eras.

use canary_mcp::{
    http::Options,
    mcp::{McpServer, schemas},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::no_clusters;

use super::fixture::{Era, Server, options, serve};

/// The product without a cluster.
async fn product() -> Server {
    let Options { metrics, .. } = options();
    let handler = McpServer::new(no_clusters(), metrics.clone(), CancellationToken::new());
    let options = Options {
        metrics,
        ..options()
    };
    serve(handler, options).await
}

const LEGACY: Era = Era::Legacy("2025-11-25");

#[tokio::test]
async fn a_modern_client_discovers() {
    let server = product().await;
    let result = server
        .result(Era::Modern, "server/discover", json!({}))
        .await;
    assert_eq!(
        result["supportedVersions"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18"])
    );
    assert_eq!(result["capabilities"], json!({"tools": {}}));
    assert_eq!(result["resultType"], "complete");
    let instructions = result["instructions"].as_str().unwrap();
    for name in schemas::NAMES {
        assert!(instructions.contains(name), "{name}");
    }
}

#[tokio::test]
async fn a_legacy_client_initializes() {
    let server = product().await;
    for (asked, agreed) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2024-11-05", "2025-11-25"),
    ] {
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let result = server
            .result(Era::Legacy(asked), "initialize", params)
            .await;
        assert_eq!(result["protocolVersion"], agreed);
        assert_eq!(result["serverInfo"]["name"], "canary-mcp");
        assert_eq!(result["capabilities"], json!({"tools": {}}));
        assert!(result["instructions"].is_string());
    }
}

#[tokio::test]
async fn the_tools_are_listed_in_few_bytes() {
    let server = product().await;
    for era in [Era::Modern, LEGACY, Era::Legacy("2025-06-18")] {
        let response = server
            .post(era, "tools/list", json!({}))
            .send()
            .await
            .unwrap();
        let text = response.text().await.unwrap();
        // Every conversation pays for it. Gates, kept revisions, retries and the strategies' traffic have come to the first 14,000.
        assert!(text.len() < 15_000, "{} bytes", text.len());
        let message = super::fixture::messages(&text).pop().unwrap();
        let tools = message["result"]["tools"].as_array().unwrap();
        let names: Vec<_> = tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "get_status",
                "list_clusters",
                "promote",
                "rollback",
                "start_canary"
            ]
        );
        for tool in tools {
            let hints = tool["annotations"].as_object().unwrap();
            assert_eq!(
                hints.keys().collect::<Vec<_>>(),
                [
                    "destructiveHint",
                    "idempotentHint",
                    "openWorldHint",
                    "readOnlyHint"
                ]
            );
        }
        if era == Era::Modern {
            assert!(message["result"]["ttlMs"].is_u64());
            assert_eq!(message["result"]["cacheScope"], "public");
        }
    }
}

fn call(name: &str, arguments: &Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

#[tokio::test]
async fn what_is_not_there_is_said_not_to_be_there() {
    let server = product().await;
    for method in [
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "no/such/method",
    ] {
        let (status, messages) = server.ask(Era::Modern, method, json!({})).await;
        assert_eq!(status, 404, "{method}");
        assert_eq!(messages[0]["error"]["code"], -32601, "{method}");
        let (status, messages) = server.ask(LEGACY, method, json!({})).await;
        assert_eq!(status, 200, "{method}");
        assert_eq!(messages[0]["error"]["code"], -32601, "{method}");
    }
    for era in [Era::Modern, LEGACY] {
        let (_, messages) = server
            .ask(era, "tools/call", call("delete", &json!({})))
            .await;
        assert_eq!(
            messages[0]["error"],
            json!({
                "code": -32602,
                "message": "unknown tool \"delete\"; there are get_status, list_clusters, promote, rollback, start_canary",
            })
        );
    }
}

#[tokio::test]
async fn wrong_versions_and_headers_are_refused() {
    let server = product().await;
    let unknown = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}});
    for (header, value, params, code) in [
        ("mcp-protocol-version", "2099-01-01", unknown, -32022),
        ("mcp-protocol-version", "2025-11-25", json!({}), -32020),
        ("mcp-method", "tools/call", json!({}), -32020),
    ] {
        let mut request = server
            .post(Era::Modern, "tools/list", params)
            .build()
            .unwrap();
        request.headers_mut().insert(header, value.parse().unwrap());
        let response = server.client.execute(request).await.unwrap();
        assert_eq!(response.status(), 400, "{header}");
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(body["error"]["code"], code, "{header}: {body}");
    }
}

#[tokio::test]
async fn arguments_are_judged_before_anything_is_done() {
    let server = product().await;
    let names = json!({"cluster": "prod-kr", "namespace": "ai-platform", "name": "mcp-server"});
    let with = |key: &str, value: Value| {
        let mut arguments = names.clone();
        arguments[key] = value;
        arguments
    };
    for (tool, arguments, begins) in [
        (
            "rollback",
            with("force", json!(true)),
            "force: there is no such field; there are cluster, name, namespace, reason, skip_analysis, to_revision",
        ),
        ("start_canary", names.clone(), "image: is needed"),
        (
            "get_status",
            json!({"wait_seconds": "50"}),
            "wait_seconds: a whole number is needed, not \"50\"",
        ),
        (
            "promote",
            with("namespace", json!("AI")),
            r#"namespace: "AI" is not a DNS-1123 label"#,
        ),
        (
            "start_canary",
            with("image", json!(" ")),
            r#"image: " " is not an image reference"#,
        ),
        (
            "get_status",
            json!({"wait_seconds": 3601}),
            "wait_seconds: 3601 is not between 0 and 3600",
        ),
    ] {
        for era in [Era::Modern, LEGACY] {
            let result = server
                .result(era, "tools/call", call(tool, &arguments))
                .await;
            assert_eq!(result["isError"], true, "{tool}");
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(text.starts_with(begins), "{tool}: {text}");
        }
    }
}

#[tokio::test]
async fn a_result_suffices_by_itself_and_says_whose_it_is() {
    let server = product().await;
    let result = server
        .result(
            Era::Modern,
            "tools/call",
            call("list_clusters", &json!({"selector": "env=production"})),
        )
        .await;
    let expected = json!({"clusters": [], "summary": "no cluster matches.", "next": "call list_clusters without selector"});
    assert_eq!(result["structuredContent"], expected);
    let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, expected);
    assert_eq!(
        result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "canary-mcp"
    );
    let legacy = server
        .result(LEGACY, "tools/call", call("list_clusters", &json!({})))
        .await;
    assert_eq!(legacy.get("_meta"), None);
}

#[tokio::test]
async fn progress_comes_with_a_token_only_and_grows() {
    let server = product().await;
    let arguments = json!({
        "cluster": "prod-kr", "namespace": "ai-platform", "name": "mcp-server",
        "image": "registry.example/mcp-server:1.1.0",
    });
    for era in [Era::Modern, LEGACY] {
        let mut params = call("start_canary", &arguments);
        let (_, silent) = server.ask(era, "tools/call", params.clone()).await;
        assert_eq!(silent.len(), 1, "{silent:?}");
        params["_meta"] = json!({"progressToken": "token"});
        let (_, heard) = server.ask(era, "tools/call", params).await;
        assert_eq!(heard[0]["method"], "notifications/progress");
        assert_eq!(
            heard[0]["params"],
            json!({
                "progressToken": "token",
                "progress": 0.0,
                "message": "prod-kr ai-platform/mcp-server: asking the engine to roll registry.example/mcp-server:1.1.0 out",
            })
        );
        assert!(heard.last().unwrap().get("result").is_some());
        let numbers: Vec<_> = heard
            .iter()
            .filter_map(|message| message["params"]["progress"].as_f64())
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "{numbers:?}"
        );
    }
}

#[tokio::test]
async fn a_failed_result_counts_as_an_error() {
    let server = product().await;
    for (tool, arguments) in [
        ("list_clusters", json!({})),
        ("rollback", json!({})),
        ("rollback", json!({})),
    ] {
        server
            .result(Era::Modern, "tools/call", call(tool, &arguments))
            .await;
    }
    let metrics = server
        .client
        .get(format!("{}/metrics", server.origin))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        r#"mcp_requests_total{tool="list_clusters",status="success",version="test"} 1"#,
        r#"mcp_requests_total{tool="rollback",status="error",version="test"} 2"#,
    ] {
        assert!(metrics.lines().any(|has| has == line), "{line}\n{metrics}");
    }
}
