//! Reads a request once, so that the layers below know what it is: a call, a notification, of which era.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::Value;

use super::{BODY_LIMIT, refusal};

/// The first version of the protocol without sessions. Versions are dates and compare as text.
const MODERN: &str = "2026-07-28";
/// Where a legacy client says which connection it means.
pub(super) const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// What the layers need to know of a request; inserted into its extensions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// JSON-RPC's method.
    pub(super) method: String,
    /// JSON-RPC's id; notifications have none.
    pub(super) id: Option<Value>,
    /// The id that a `notifications/cancelled` is about.
    pub(super) cancels: Option<Value>,
    /// The session of a legacy client.
    pub(super) session: Option<String>,
    /// The tool that is called.
    pub(super) tool: Option<Tool>,
}

/// A tool that is called, and with what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) arguments: Option<Value>,
}

#[derive(Deserialize)]
struct Peek {
    method: String,
    id: Option<Value>,
    #[serde(default)]
    params: Option<Params>,
}

#[derive(Deserialize, Default)]
struct Params {
    #[serde(rename = "requestId")]
    request_id: Option<Value>,
    name: Option<Value>,
    arguments: Option<Value>,
}

/// The layer: reads the body of a POST, notes what it is, and passes both on. What cannot be read goes on too, for rmcp to refuse it by Host,
/// Origin and headers first; if nothing but the body is wrong, it is told as JSON-RPC wants it.
pub(super) async fn read(request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let bytes = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            return (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request is longer than {BODY_LIMIT} bytes\n"),
            )
                .into_response();
        }
        Err(error) => {
            return (
                StatusCode::BAD_REQUEST,
                format!("the request's body cannot be read: {error}\n"),
            )
                .into_response();
        }
    };
    if let Some(call) = recognise(&bytes, &parts.headers) {
        parts.extensions.insert(call);
    }
    let json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let response = next
        .run(Request::from_parts(parts, Body::from(bytes.clone())))
        .await;
    // rmcp says 415 of a body that it cannot read, whatever its type is said to be.
    if json && response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return refusal::unreadable(&bytes);
    }
    response
}

fn recognise(body: &[u8], headers: &HeaderMap) -> Option<Call> {
    let Peek { method, id, params } = serde_json::from_slice(body).ok()?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let modern = text(VERSION).is_some_and(|version| version >= MODERN);
    let Params {
        request_id: cancels,
        name,
        arguments,
    } = params.unwrap_or_default();
    let tool = name.as_ref().and_then(Value::as_str);
    let tool = tool.filter(|_| method == "tools/call").map(|name| Tool {
        name: name.to_owned(),
        arguments,
    });
    Some(Call {
        method,
        id,
        cancels,
        tool,
        // A modern request has no session, whatever its headers say.
        session: text(SESSION)
            .filter(|session| !modern && session.len() <= 64)
            .map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(body: &Value, headers: &[(&'static str, &'static str)]) -> Option<Call> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        recognise(body.to_string().as_bytes(), &headers)
    }

    #[test]
    fn a_call_is_known_by_method_id_and_session() {
        let body =
            json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "x"}});
        let known = Call {
            method: "tools/call".to_owned(),
            id: Some(json!(7)),
            cancels: None,
            session: Some("s".to_owned()),
            tool: None,
        };
        assert_eq!(call(&body, &[("mcp-session-id", "s")]), Some(known.clone()));
        assert_eq!(
            call(
                &body,
                &[
                    ("mcp-session-id", "s"),
                    ("mcp-protocol-version", "2025-11-25")
                ]
            ),
            Some(known.clone())
        );
        assert_eq!(
            call(
                &body,
                &[
                    ("mcp-session-id", "s"),
                    ("mcp-protocol-version", "2026-07-28")
                ]
            ),
            Some(Call {
                session: None,
                ..known
            })
        );
    }

    #[test]
    fn a_cancellation_names_its_request() {
        let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "a"}});
        assert_eq!(
            call(&body, &[]),
            Some(Call {
                method: "notifications/cancelled".to_owned(),
                id: None,
                cancels: Some(json!("a")),
                session: None,
                tool: None,
            })
        );
        assert_eq!(call(&json!([1, 2]), &[]), None);
    }
}
