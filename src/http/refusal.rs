//! Refusals in words that help, where rmcp's do not.

use axum::{
    Json,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};

/// What rmcp says of a Host that is not allowed; the other 403 is about the Origin.
const HOST: &[u8] = b"Forbidden: Host header is not allowed";
/// Longer than anything that rmcp says with a 403.
const LONGEST: usize = 4096;

/// The layer: a client that is refused for the name by which it calls is told which name, and the flag that allows it.
pub(super) async fn explain(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).cloned();
    let response = next.run(request).await;
    if response.status() != StatusCode::FORBIDDEN {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = match Limited::new(body, LONGEST).collect().await {
        Ok(said) => said.to_bytes(),
        Err(_) => return StatusCode::FORBIDDEN.into_response(),
    };
    match host.as_ref().map(HeaderValue::to_str) {
        Some(Ok(host)) if said.starts_with(HOST) => (
            StatusCode::FORBIDDEN,
            format!(
                "{host:?} is not a name of this server; if clients are to call it by that name, start it with --allowed-host {host}\n"
            ),
        )
            .into_response(),
        _ => Response::from_parts(parts, Body::from(said)),
    }
}

/// The answer to a body that is no message: JSON-RPC's two errors for it. There is no id to answer to.
pub(super) fn unreadable(body: &[u8]) -> Response {
    let (code, message) = match serde_json::from_slice::<Value>(body) {
        Err(error) => (-32700, format!("the body is not JSON: {error}")),
        Ok(Value::Array(_)) => (
            -32600,
            "batches are not part of MCP: send one message in each request".to_owned(),
        ),
        Ok(_) => (
            -32600,
            "the body is not a JSON-RPC 2.0 request or notification".to_owned(),
        ),
    };
    let error = json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}});
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}
