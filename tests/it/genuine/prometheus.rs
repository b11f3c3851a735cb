//! A Prometheus for a cluster in which nothing runs: it says of the live canary what its image tag means.

use std::sync::Arc;

use bytes::Bytes;
use canary_mcp::{
    cluster::embedded::images::Behaviour,
    outbound::http::{Through, Transport},
};
use http::{Request, Response};
use serde_json::{Value, json};

/// What the answers are made of, read when a query comes.
pub(super) struct Live {
    pub(super) image: String,
    /// The canary's weight in the stored route.
    pub(super) weight: i64,
}

/// The way to it.
pub(super) fn transport<F>(live: impl Fn() -> F + Send + Sync + 'static) -> Transport
where
    F: Future<Output = Live> + Send + 'static,
{
    let through: Through = Arc::new(move |request: Request<Bytes>| {
        let live = live();
        Box::pin(async move {
            let query = query(&request).ok_or("a request without a query")?;
            let body = body(answer(&query, &live.await)).to_string();
            Ok(Response::new(Bytes::from(body)))
        })
    });
    Transport::Through(through)
}

fn query(request: &Request<Bytes>) -> Option<String> {
    let parameters = form_urlencoded::parse(request.uri().query()?.as_bytes());
    let mut queries = parameters.filter(|(name, _)| name == "query");
    queries.next().map(|(_, query)| query.into_owned())
}

/// The value, or none where there would be no series: a canary without traffic has neither errors nor durations.
fn answer(query: &str, live: &Live) -> Option<f64> {
    if query == "vector(1)" {
        return Some(1.0);
    }
    // The share is asked of both copies, everything else of the canary alone.
    if query.contains("mcp-server|mcp-server-primary") {
        return Some(f64::from(i32::try_from(live.weight).unwrap()));
    }
    if live.weight == 0 {
        return None;
    }
    let behaviour = Behaviour::of(&live.image);
    if query.contains("mcp_request_duration_seconds_bucket") {
        let slow = behaviour == Behaviour::Slow;
        return Some(if slow { 3_000.0 } else { 180.0 });
    }
    if query.contains("istio_requests_total") {
        let errors = behaviour == Behaviour::Errors;
        return Some(if errors { 80.0 } else { 100.0 });
    }
    None
}

fn body(value: Option<f64>) -> Value {
    let result: Vec<Value> = value
        .iter()
        .map(|value| json!({"metric": {}, "value": [0, value.to_string()]}))
        .collect();
    json!({"status": "success", "data": {"resultType": "vector", "result": result}})
}
