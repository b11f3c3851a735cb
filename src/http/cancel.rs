//! The cancellation of legacy clients.
//!
//! Until 2025-11-25 a client cancels with `notifications/cancelled`, in a request of its own, and leaves the stream of the call open. A
//! stateless server cannot know which of its calls is meant, unless the client has a name: so `initialize` is answered with a random
//! session id. It is only ever a key of the calls that run in this process; nothing is kept for it, and no request needs one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    middleware::Next,
    response::Response,
};
use futures::StreamExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    call::{Call, SESSION},
    early::head,
};

type CallKey = (String, String);

/// The legacy calls that run in this process.
#[derive(Clone, Default)]
pub(super) struct Calls {
    running: Arc<Mutex<HashMap<CallKey, (u64, CancellationToken)>>>,
    count: Arc<AtomicU64>,
}

/// One running call; dropping it forgets the call.
struct Running {
    calls: Calls,
    key: CallKey,
    number: u64,
    cancelled: CancellationToken,
}

impl Calls {
    fn begin(&self, session: &str, id: &Value) -> Running {
        let key = (session.to_owned(), id.to_string());
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let cancelled = CancellationToken::new();
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), (number, cancelled.clone()));
        Running {
            calls: self.clone(),
            key,
            number,
            cancelled,
        }
    }

    fn cancel(&self, session: &str, id: &Value) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cancelled)) = running.get(&(session.to_owned(), id.to_string())) {
            cancelled.cancel();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self
            .calls
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A client may use an id twice; the newer call is not ours to forget.
        if running
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            running.remove(&self.key);
        }
    }
}

/// The layer: names legacy clients, and ends a call's answer when its client cancels it. Ending the answer cancels the tool, as a
/// disconnect does.
pub(super) async fn listen(
    State(calls): State<Calls>,
    call: Option<Extension<Call>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Extension(call)) = call else {
        return next.run(request).await;
    };
    match (call.method.as_str(), &call.session, &call.id, &call.cancels) {
        ("initialize", _, _, _) => named(next.run(request).await),
        ("notifications/cancelled", Some(session), None, Some(id)) => {
            let response = next.run(request).await;
            // Host and Origin are judged in there.
            if response.status() == StatusCode::ACCEPTED {
                calls.cancel(session, id);
            }
            response
        }
        ("tools/call", Some(session), Some(id), _) => {
            let running = calls.begin(session, id);
            cancellable(running, request, next).await
        }
        _ => next.run(request).await,
    }
}

async fn cancellable(running: Running, request: Request, next: Next) -> Response {
    let response = tokio::select! {
        response = next.run(request) => response,
        // Nothing more is said of a cancelled call.
        () = running.cancelled.cancelled() => return head(Body::empty()),
    };
    let (parts, body) = response.into_parts();
    let cancelled = running.cancelled.clone().cancelled_owned();
    let body = body
        .into_data_stream()
        .take_until(cancelled)
        .map(move |chunk| {
            // The call runs as long as its stream is kept.
            let _ = &running;
            chunk
        });
    Response::from_parts(parts, Body::from_stream(body))
}

fn named(mut response: Response) -> Response {
    if response.status() == StatusCode::OK {
        let session = uuid::Uuid::new_v4().to_string();
        if let Ok(session) = HeaderValue::from_str(&session) {
            response.headers_mut().insert(SESSION, session);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_cancelled_by_its_own_client_only_and_then_forgotten() {
        let calls = Calls::default();
        let one = calls.begin("a", &json!(1));
        let other = calls.begin("b", &json!(1));
        let text = calls.begin("a", &json!("1"));
        calls.cancel("a", &json!(1));
        assert!(one.cancelled.is_cancelled());
        assert!(!other.cancelled.is_cancelled());
        assert!(!text.cancelled.is_cancelled());
        drop((one, other, text));
        assert!(calls.running.lock().unwrap().is_empty());
    }

    #[test]
    fn an_id_that_is_used_twice_means_the_newer_call() {
        let calls = Calls::default();
        let older = calls.begin("a", &json!(1));
        let newer = calls.begin("a", &json!(1));
        drop(older);
        calls.cancel("a", &json!(1));
        assert!(newer.cancelled.is_cancelled());
    }
}
