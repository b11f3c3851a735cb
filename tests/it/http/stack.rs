//! The stack under a handler that misbehaves.

use std::{sync::Arc, time::Duration};

use axum::serve::Listener as _;
use canary_mcp::http::{Options, prompt, router};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::fixture::{Era, PATIENCE, Server, client, messages, misbehaving, options, serve};

const ERAS: [Era; 3] = [
    Era::Modern,
    Era::Legacy("2025-11-25"),
    Era::Legacy("2025-06-18"),
];

#[tokio::test]
async fn a_panic_is_answered() {
    let (handler, _strings) = misbehaving();
    let server = serve(handler, options()).await;
    for era in ERAS {
        let result = server
            .result(era, "tools/call", json!({"name": "panics"}))
            .await;
        assert_eq!(result["isError"], true);
        assert_eq!(
            result["content"][0]["text"],
            "panics: internal error, the server's log says more; whether anything was done is not known: call get_status"
        );
    }
}

#[tokio::test]
async fn a_silent_tool_gets_its_head_and_comments_until_it_speaks() {
    for era in ERAS {
        let (handler, mut strings) = misbehaving();
        let options = Options {
            grace: Duration::from_millis(20),
            keep_alive: Duration::from_millis(20),
            ..options()
        };
        let server = serve(handler, options).await;
        let mut response = server
            .post(era, "tools/call", json!({"name": "silent"}))
            .send()
            .await
            .unwrap();
        // The tool has not been released: the head is early.
        assert_eq!(strings.event().await, "running");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let mut text = String::new();
        while text.lines().filter(|line| line.starts_with(':')).count() < 2 {
            let chunk = timeout(PATIENCE, response.chunk()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
        assert_eq!(messages(&text), [] as [serde_json::Value; 0]);
        strings.release.notify_one();
        let rest = timeout(PATIENCE, response.text()).await.unwrap().unwrap();
        let last = messages(&rest).pop().unwrap();
        assert_eq!(last["id"], 1);
        assert_eq!(last["result"]["content"][0]["text"], "done");
    }
}

#[tokio::test]
async fn who_leaves_cancels() {
    for era in ERAS {
        for early in [true, false] {
            let (handler, mut strings) = misbehaving();
            let grace = if early {
                Duration::ZERO
            } else {
                Duration::from_secs(60)
            };
            let server = serve(handler, Options { grace, ..options() }).await;
            let request = server.post(era, "tools/call", json!({"name": "waits"}));
            let call = tokio::spawn(async move {
                let response = request.send().await.unwrap();
                // The head is there; now the body is awaited for ever.
                response.text().await
            });
            assert_eq!(strings.event().await, "running");
            call.abort();
            assert_eq!(strings.event().await, "cancelled");
        }
    }
}

async fn session(server: &Server) -> String {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let response = server
        .post(Era::Legacy("2025-11-25"), "initialize", params)
        .send()
        .await
        .unwrap();
    response.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_legacy_client_cancels_its_own_call_only() {
    let era = Era::Legacy("2025-11-25");
    let (handler, mut strings) = misbehaving();
    let server = serve(handler, options()).await;
    let (mine, other) = (session(&server).await, session(&server).await);
    assert_ne!(mine, other);

    let mut call = server
        .post(era, "tools/call", json!({"name": "waits"}))
        .header("mcp-session-id", &mine)
        .send()
        .await
        .unwrap();
    assert_eq!(strings.event().await, "running");
    for (session, origin, status) in [
        (Some(&other), None, 202),
        (None, None, 202),
        // A page that the browser runs cannot cancel either.
        (Some(&mine), Some("https://evil.example"), 403),
    ] {
        let mut cancel = server.post(
            era,
            "notifications/cancelled",
            json!({"requestId": 1, "reason": "timeout"}),
        );
        if let Some(session) = session {
            cancel = cancel.header("mcp-session-id", session);
        }
        if let Some(origin) = origin {
            cancel = cancel.header("origin", origin);
        }
        assert_eq!(cancel.send().await.unwrap().status(), status);
    }
    assert!(
        strings.events.try_recv().is_err(),
        "nobody else cancels the call"
    );

    let cancel = server
        .post(era, "notifications/cancelled", json!({"requestId": 1}))
        .header("mcp-session-id", &mine);
    assert_eq!(cancel.send().await.unwrap().status(), 202);
    assert_eq!(strings.event().await, "cancelled");
    // Nothing more is said of it, and its stream ends.
    let mut rest = String::new();
    while let Some(chunk) = timeout(PATIENCE, call.chunk()).await.unwrap().unwrap() {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert_eq!(messages(&rest), [] as [serde_json::Value; 0]);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let (handler, _strings) = misbehaving();
    let server = serve(handler, options()).await;
    let port = server.origin.rsplit(':').next().unwrap().to_owned();
    for (header, value, status) in [
        ("host", "localhost".to_owned(), 200),
        ("host", format!("127.0.0.1:{port}"), 200),
        ("host", "mcp.example.com".to_owned(), 200),
        ("host", "evil.example".to_owned(), 403),
        ("origin", "https://evil.example".to_owned(), 403),
        ("origin", "null".to_owned(), 403),
        ("origin", format!("http://localhost:{port}"), 403),
    ] {
        for era in ERAS {
            let request = server
                .post(era, "tools/call", json!({"name": "headers"}))
                .header(header, &value);
            assert_eq!(
                request.send().await.unwrap().status(),
                status,
                "{header}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn a_tool_sees_no_credentials() {
    let (handler, _strings) = misbehaving();
    let server = serve(handler, options()).await;
    let response = server
        .post(Era::Modern, "tools/call", json!({"name": "headers"}))
        .header("authorization", "Bearer secret")
        .header("proxy-authorization", "Basic secret")
        .header("cookie", "secret=1")
        .header("x-request-id", "7")
        .send()
        .await
        .unwrap();
    let last = messages(&response.text().await.unwrap()).pop().unwrap();
    assert_eq!(
        last["result"]["content"][0]["text"],
        "accept content-length content-type host mcp-method mcp-name mcp-protocol-version x-request-id"
    );
}

#[tokio::test]
async fn there_is_neither_a_stream_nor_a_session_to_ask_for() {
    let (handler, _strings) = misbehaving();
    let server = serve(handler, options()).await;
    let url = format!("{}/mcp", server.origin);
    for request in [server.client.get(&url), server.client.delete(&url)] {
        let response = request
            .header("accept", "text/event-stream")
            .header("mcp-session-id", "x")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 405);
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let (handler, _strings) = misbehaving();
    let server = serve(handler, options()).await;
    let response = server
        .post(Era::Modern, "tools/call", json!({"name": "headers"}))
        .body("x".repeat(1024 * 1024 + 1))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(
        response.text().await.unwrap(),
        "the request is longer than 1048576 bytes\n"
    );
}

#[tokio::test]
async fn connections_are_without_nagles_delay() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = prompt(listener);
    let (client, (connection, _)) = tokio::join!(TcpStream::connect(address), listener.accept());
    assert!(!client.unwrap().nodelay().unwrap());
    assert!(connection.nodelay().unwrap());
}

#[tokio::test]
async fn probes_and_metrics_need_no_host() {
    let ready = CancellationToken::new();
    let seen = ready.clone();
    let options = Options {
        ready: Arc::new(move || {
            if seen.is_cancelled() {
                Ok(())
            } else {
                Err("the clusters are not read yet".to_owned())
            }
        }),
        ..options()
    };
    let (handler, _strings) = misbehaving();
    let server = serve(handler, options).await;
    let get = async |path: &str| {
        let response = server
            .client
            .get(format!("{}{path}", server.origin))
            .header("host", "10.1.2.3:8080")
            .send()
            .await
            .unwrap();
        (
            response.status().as_u16(),
            response
                .headers()
                .get("content-type")
                .map(|value| value.to_str().unwrap().to_owned()),
            response.text().await.unwrap(),
        )
    };
    let text = Some("text/plain; charset=utf-8".to_owned());
    assert_eq!(
        get("/healthz").await,
        (200, text.clone(), "ok\n".to_owned())
    );
    assert_eq!(
        get("/readyz").await,
        (
            503,
            text.clone(),
            "the clusters are not read yet\n".to_owned()
        )
    );
    ready.cancel();
    assert_eq!(get("/readyz").await, (200, text, "ok\n".to_owned()));
    let (status, kind, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    assert_eq!(
        kind.as_deref(),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(metrics.contains("flagger_info{version=\"test\",mesh_provider=\"istio\"} 1\n"));
    assert!(metrics.ends_with("# EOF\n"));
}

/// Starts a server that can be told to stop.
async fn stoppable(
    drain: Duration,
) -> (
    Server,
    super::fixture::Strings,
    CancellationToken,
    tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let (handler, strings) = misbehaving();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let options = Options {
        grace: Duration::ZERO,
        ..options()
    };
    let cut = options.cut.clone();
    let stop = CancellationToken::new();
    let task = tokio::spawn(canary_mcp::http::serve(
        listener,
        router(handler, options),
        stop.clone().cancelled_owned(),
        drain,
        cut,
    ));
    let server = Server {
        origin,
        client: client(),
    };
    (server, strings, stop, task)
}

#[tokio::test]
async fn a_running_call_ends_in_peace() {
    let (server, mut strings, stop, task) = stoppable(PATIENCE).await;
    let response = server
        .post(Era::Modern, "tools/call", json!({"name": "silent"}))
        .send()
        .await
        .unwrap();
    assert_eq!(strings.event().await, "running");
    stop.cancel();
    strings.release.notify_one();
    let last = messages(&response.text().await.unwrap()).pop().unwrap();
    assert_eq!(last["result"]["content"][0]["text"], "done");
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_outlives_the_drain_is_cut() {
    let (server, mut strings, stop, task) = stoppable(Duration::ZERO).await;
    let response = server
        .post(Era::Modern, "tools/call", json!({"name": "waits"}))
        .send()
        .await
        .unwrap();
    assert_eq!(strings.event().await, "running");
    stop.cancel();
    assert_eq!(strings.event().await, "cancelled");
    drop(response);
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}
