//! The head of a slow answer, in time.
//!
//! rmcp sends the head of a modern answer with the handler's first message, so a tool that says nothing sends nothing: clients and load
//! balancers cut such a connection after their header or idle timeout. Here a call that is silent for a grace period gets its head, then
//! comments until there is something to say. What the stream owns is the whole answer: dropping it cancels the tool.

use std::time::Duration;

use axum::{
    Extension,
    body::{Body, BodyDataStream, Bytes},
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::call::Call;

/// Longest answer that is no stream but came after the head; what rmcp says in that case is a line.
const ANSWER_LIMIT: usize = 1024 * 1024;
/// What a reader of server-sent events skips.
const COMMENT: &[u8] = b": working\n\n";

/// How patient the layer is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Early {
    /// How long an answer may be silent before its head is sent.
    pub(super) grace: Duration,
    /// How often a comment is sent after that.
    pub(super) keep_alive: Duration,
}

/// The layer.
pub(super) async fn answer(
    State(early): State<Early>,
    call: Option<Extension<Call>>,
    request: Request,
    next: Next,
) -> Response {
    // Only tools take time; everything else keeps its own status.
    let Some(Extension(call)) = call.filter(|call| call.method == "tools/call") else {
        return next.run(request).await;
    };
    let mut answer = next.run(request).boxed();
    match timeout(early.grace, answer.as_mut()).await {
        Ok(response) => response,
        Err(_) => head(Body::from_stream(events(answer, call.id, early.keep_alive))),
    }
}

/// The head of a stream of server-sent events.
pub(super) fn head(body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

enum Late {
    Waiting {
        answer: BoxFuture<'static, Response>,
        id: Option<Value>,
        ticks: Interval,
    },
    Streaming(BodyDataStream),
    Done,
}

/// Comments until `answer` is there, then what it says.
fn events(
    answer: BoxFuture<'static, Response>,
    id: Option<Value>,
    keep_alive: Duration,
) -> impl stream::Stream<Item = Result<Bytes, axum::Error>> {
    // The first tick is now: the head must not stay alone.
    let mut ticks = interval_at(Instant::now(), keep_alive);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold(Late::Waiting { answer, id, ticks }, async |late| {
        let mut late = late;
        loop {
            late = match late {
                Late::Waiting {
                    mut answer,
                    id,
                    mut ticks,
                } => {
                    tokio::select! {
                        response = &mut answer => {
                            if streams(&response) {
                                Late::Streaming(response.into_body().into_data_stream())
                            } else {
                                return Some((Ok(whole(response, id).await), Late::Done));
                            }
                        }
                        _ = ticks.tick() => {
                            let comment = Bytes::from_static(COMMENT);
                            return Some((Ok(comment), Late::Waiting { answer, id, ticks }));
                        }
                    }
                }
                Late::Streaming(mut body) => {
                    let chunk = body.next().await?;
                    return Some((chunk, Late::Streaming(body)));
                }
                Late::Done => return None,
            };
        }
    })
}

fn streams(response: &Response) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/event-stream"))
}

/// An answer that is no stream, as the one event of a stream. Its status can no longer be told; what is not JSON-RPC becomes an error of it.
async fn whole(response: Response, id: Option<Value>) -> Bytes {
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), ANSWER_LIMIT)
        .await
        .unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .filter(|message| message.get("jsonrpc").is_some())
        .unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&body);
            json!({
                "jsonrpc": "2.0",
                "id": id,
                "error": {"code": -32603, "message": format!("{status}: {}", text.trim())},
            })
        });
    Bytes::from(format!("event: message\ndata: {message}\n\n"))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    async fn late(response: Response) -> Vec<String> {
        let answer = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            response
        };
        events(answer.boxed(), Some(json!(3)), Duration::from_secs(15))
            .map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap())
            .collect()
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn comments_come_until_the_stream_does() {
        let response = head(Body::from("event: message\ndata: {}\n\n"));
        assert_eq!(
            late(response).await,
            [
                ": working\n\n",
                ": working\n\n",
                ": working\n\n",
                "event: message\ndata: {}\n\n"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_that_is_no_stream_becomes_an_event() {
        let json = r#"{"error":{"code":-32601,"message":"x"},"id":3,"jsonrpc":"2.0"}"#;
        let response = (StatusCode::NOT_FOUND, json).into_response();
        assert_eq!(
            late(response).await.last().unwrap(),
            &format!("event: message\ndata: {json}\n\n")
        );
        let response = (StatusCode::INTERNAL_SERVER_ERROR, "empty response\n").into_response();
        assert_eq!(
            late(response).await.last().unwrap(),
            "event: message\ndata: {\"error\":{\"code\":-32603,\"message\":\"500 Internal Server Error: empty response\"},\"id\":3,\"jsonrpc\":\"2.0\"}\n\n"
        );
    }
}
