//! What answers behind `services/proxy`: the load tester, and the Prometheus of an embedded cluster, with Prometheus' own HTTP API
//! (prometheus.io/docs/prometheus/latest/querying/api).

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{
    load_tester::LoadTester,
    metrics::{Answer, Labels, Metrics, QueryError},
    server::{ProxyCall, ServiceProxy},
};
use crate::{cluster::clock::Clock, decide::facts::Moment};

/// Namespace, name and port (with its name) of the Service at which the manifests ask for metrics.
const PROMETHEUS: (&str, &str, [&str; 3]) = ("istio-system", "prometheus", ["9090", "http", ""]);
/// Most points of one series of a range query (Prometheus' own limit).
const MAX_POINTS: i64 = 11_000;

/// The proxy of one cluster.
pub(super) fn service_proxy(
    metrics: Arc<Metrics>,
    tester: LoadTester,
    clock: Clock,
) -> ServiceProxy {
    Arc::new(move |call: ProxyCall| {
        let Some(pending) = tester.answer(&call) else {
            let answer = answer(&call, &metrics, clock.now());
            return futures::future::ready(answer).boxed();
        };
        let (tester, clock) = (tester.clone(), clock.clone());
        async move {
            if pending.after_ms > 0 {
                clock.sleep(pending.after_ms).await;
            }
            tester.answered(pending.number, pending.response.status());
            pending.response
        }
        .boxed()
    })
}

fn answer(call: &ProxyCall, metrics: &Metrics, now: Moment) -> Response<Bytes> {
    let (namespace, service, ports) = PROMETHEUS;
    if call.namespace == namespace && call.service == service && ports.contains(&call.port.as_str())
    {
        return prometheus(&call.request, metrics, now);
    }
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": "ServiceUnavailable",
        "message": format!(
            "no endpoints available for service \"{}:{}\" in namespace \"{}\"; an embedded cluster answers at {service}.{namespace}:9090 and flagger-loadtester.test only",
            call.service, call.port, call.namespace
        ),
        "code": 503,
    });
    reply(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// Answers one request to Prometheus as of `now`.
fn prometheus(request: &Request<Bytes>, metrics: &Metrics, now: Moment) -> Response<Bytes> {
    if cfg!(not(feature = "embedded-metrics")) {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            &QueryError::Disabled.to_string(),
        );
    }
    let get = request.method() == Method::GET;
    match request.uri().path() {
        "/-/ready" if get => text(StatusCode::OK, "Prometheus Server is Ready.\n"),
        "/-/healthy" if get => text(StatusCode::OK, "Prometheus Server is Healthy.\n"),
        "/api/v1/status/buildinfo" if get => success(&json!({
            // tsink leaves out a sample at the very beginning of a range, as Prometheus does from 3.0 on.
            "version": "3.0.0+embedded",
            "revision": "",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        })),
        "/api/v1/query" => finish(query(request, metrics, now)),
        "/api/v1/query_range" => finish(query_range(request, metrics, now)),
        path => text(
            StatusCode::NOT_FOUND,
            &format!(
                "the embedded prometheus does not serve {path}: it has /api/v1/query and /api/v1/query_range\n"
            ),
        ),
    }
}

/// A refused query: Prometheus' `errorType` and its text.
struct Refusal(StatusCode, &'static str, String);

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        let (code, kind) = match &error {
            QueryError::Bad(_) => (StatusCode::BAD_REQUEST, "bad_data"),
            QueryError::Execution(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            QueryError::Disabled => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self(code, kind, error.to_string())
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "bad_data", message.into())
}

fn query(request: &Request<Bytes>, metrics: &Metrics, now: Moment) -> Result<Value, Refusal> {
    let form = Form::of(request)?;
    let at = form.time("time")?.unwrap_or(now);
    let answer = metrics.instant(form.text("query")?, at)?;
    Ok(render(&answer, at))
}

fn query_range(request: &Request<Bytes>, metrics: &Metrics, now: Moment) -> Result<Value, Refusal> {
    let form = Form::of(request)?;
    let missing = |name: &str| {
        bad(format!(
            "invalid parameter \"{name}\": cannot parse \"\" to a valid timestamp"
        ))
    };
    let start = form.time("start")?.ok_or_else(|| missing("start"))?;
    let end = form.time("end")?.unwrap_or(now);
    let step = form.step()?;
    if end < start {
        return Err(bad(
            "invalid parameter \"end\": end timestamp must not be before start time".to_owned(),
        ));
    }
    if end.since(start) / step > MAX_POINTS {
        return Err(bad(format!(
            "exceeded maximum resolution of {MAX_POINTS} points per timeseries. Try decreasing the query resolution (?step=XX)"
        )));
    }
    let answer = metrics.range(form.text("query")?, start, end, step)?;
    Ok(render(&answer, end))
}

/// Parameters of the URL and of a posted form together.
struct Form(HashMap<String, String>);

impl Form {
    fn of(request: &Request<Bytes>) -> Result<Self, Refusal> {
        let url = request.uri().query().unwrap_or_default().as_bytes();
        let body: &[u8] = match *request.method() {
            Method::GET => &[],
            Method::POST => request.body(),
            _ => {
                let message = format!(
                    "method {} is not allowed: use GET or POST",
                    request.method()
                );
                return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "bad_data", message));
            }
        };
        let pairs = [url, body].map(|form| form_urlencoded::parse(form).into_owned());
        Ok(Self(pairs.into_iter().flatten().collect()))
    }

    fn text(&self, name: &str) -> Result<&str, Refusal> {
        let value = self
            .0
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty());
        value.ok_or_else(|| {
            bad(format!("invalid parameter \"{name}\": unknown position: parse error: no expression found in input"))
        })
    }

    /// Unix seconds with fractions, or RFC 3339.
    fn time(&self, name: &str) -> Result<Option<Moment>, Refusal> {
        let Some(value) = self.0.get(name).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        if let Some(ms) = value.parse().ok().and_then(milliseconds) {
            return Ok(Some(Moment(ms)));
        }
        let at: Result<jiff::Timestamp, _> = value.parse();
        at.map(|at| Some(Moment(at.as_millisecond()))).map_err(|_| {
            bad(format!(
                "invalid parameter \"{name}\": cannot parse \"{value}\" to a valid timestamp"
            ))
        })
    }

    /// Seconds, or a duration of one unit (`15s`, `1m`, `1h`, `500ms`).
    fn step(&self) -> Result<i64, Refusal> {
        let value = self.0.get("step").map_or("", String::as_str);
        let units = [
            ("ms", 0.001),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3_600.0),
            ("d", 86_400.0),
        ];
        let seconds = value.parse::<f64>().ok().or_else(|| {
            let mut of_unit = units.iter().filter_map(|(unit, seconds)| {
                let number: f64 = value.strip_suffix(unit)?.parse().ok()?;
                Some(number * seconds)
            });
            of_unit.next()
        });
        seconds.and_then(milliseconds).filter(|ms| *ms > 0).ok_or_else(|| {
            bad(format!("invalid parameter \"step\": cannot parse \"{value}\" to a valid positive duration"))
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded right before")]
fn milliseconds(seconds: f64) -> Option<i64> {
    // The years that a timestamp can name.
    (seconds.abs() < 253_402_300_800.0).then_some((seconds * 1_000.0).round() as i64)
}

fn render(answer: &Answer, at: Moment) -> Value {
    match answer {
        Answer::Scalar(value) => json!({"resultType": "scalar", "result": point(at, *value)}),
        Answer::Text(text) => json!({"resultType": "string", "result": [seconds(at), text]}),
        Answer::Vector(series) => {
            let rows = series.iter().map(
                |(labels, value)| json!({"metric": metric(labels), "value": point(at, *value)}),
            );
            json!({"resultType": "vector", "result": rows.collect::<Vec<_>>()})
        }
        Answer::Matrix(series) => {
            let rows = series.iter().map(|(labels, points)| {
                let values: Vec<Value> = points.iter().map(|(at, v)| point(*at, *v)).collect();
                json!({"metric": metric(labels), "values": values})
            });
            json!({"resultType": "matrix", "result": rows.collect::<Vec<_>>()})
        }
    }
}

fn metric(labels: &Labels) -> Value {
    json!(labels)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 stay below 2^53"
)]
fn seconds(at: Moment) -> f64 {
    at.0 as f64 / 1_000.0
}

/// Numbers are texts in Prometheus' JSON, so that infinities and NaN have a place.
fn point(at: Moment, value: f64) -> Value {
    let text = if value.is_infinite() {
        (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        value.to_string()
    };
    json!([seconds(at), text])
}

fn finish(result: Result<Value, Refusal>) -> Response<Bytes> {
    match result {
        Ok(data) => success(&data),
        Err(Refusal(code, kind, error)) => reply(
            code,
            &json!({"status": "error", "errorType": kind, "error": error}),
        ),
    }
}

fn success(data: &Value) -> Response<Bytes> {
    reply(StatusCode::OK, &json!({"status": "success", "data": data}))
}

fn reply(code: StatusCode, body: &Value) -> Response<Bytes> {
    typed(code, "application/json", body.to_string())
}

fn text(code: StatusCode, body: &str) -> Response<Bytes> {
    typed(code, "text/plain; charset=utf-8", body.to_owned())
}

fn typed(code: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = code;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(all(test, feature = "embedded-metrics"))]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_795_219_200_000);

    fn get(path: &str) -> (u16, Value) {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        ask(&request)
    }

    fn ask(request: &Request<Bytes>) -> (u16, Value) {
        let response = prometheus(request, &Metrics::new(NOW), NOW);
        let body = serde_json::from_slice(response.body()).unwrap_or_default();
        (response.status().as_u16(), body)
    }

    #[test]
    fn answers_have_prometheus_forms() {
        for (path, code, body) in [
            (
                "/api/v1/query?query=vector(1)",
                200,
                json!({"status": "success", "data": {"resultType": "vector",
                    "result": [{"metric": {}, "value": [1_795_219_200.0, "1"]}]}}),
            ),
            (
                "/api/v1/query?query=1%2F0&time=1795219201.5",
                200,
                json!({"status": "success", "data": {"resultType": "scalar", "result": [1_795_219_201.5, "+Inf"]}}),
            ),
            (
                "/api/v1/query?query=up",
                200,
                json!({"status": "success", "data": {"resultType": "vector", "result": []}}),
            ),
            (
                "/api/v1/query?query=max_over_time(up%5B5m:1m%5D)",
                422,
                json!({"status": "error", "errorType": "execution",
                    "error": "the embedded prometheus does not evaluate subqueries: use a plain range selector"}),
            ),
            (
                "/api/v1/query_range?query=vector(1)&start=1795219200&end=1795219100&step=15s",
                400,
                json!({"status": "error", "errorType": "bad_data",
                    "error": "invalid parameter \"end\": end timestamp must not be before start time"}),
            ),
            (
                "/api/v1/query_range?query=vector(1)&start=1795219140&end=2026-11-21T00:00:00Z&step=1m",
                200,
                json!({"status": "success", "data": {"resultType": "matrix",
                    "result": [{"metric": {}, "values": [[1_795_219_140.0, "1"], [1_795_219_200.0, "1"]]}]}}),
            ),
        ] {
            assert_eq!(get(path), (code, body), "{path}");
        }
    }

    #[test]
    fn a_wrong_query_is_refused_as_prometheus_refuses_it() {
        for path in ["sum(", "clamp_min(0,1)", "rate(up)", ""] {
            let query: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
            let (code, body) = get(&format!("/api/v1/query?query={query}"));
            assert_eq!(
                (code, &body["errorType"]),
                (400, &json!("bad_data")),
                "{path}: {body}"
            );
        }
    }

    #[test]
    fn a_query_nests_so_deep_and_no_deeper() {
        let wraps = [
            ("-", "1", ""),
            ("(", "1", ")"),
            ("abs(", "vector(1)", ")"),
            ("1+", "1", ""),
            ("", "1", "^1"),
            ("vector(1) or ", "vector(1)", ""),
        ];
        for (before, inner, after) in wraps {
            for (deep, code) in [(95, 200), (1_000, 400)] {
                let query = format!("{}{inner}{}", before.repeat(deep), after.repeat(deep));
                let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
                let (is, body) = get(&format!("/api/v1/query?query={query}"));
                assert_eq!(is, code, "{before} {after} {deep}: {body}");
            }
        }
        let (_, body) = get(&format!("/api/v1/query?query=1{}", "-1".repeat(201)));
        assert_eq!(
            body["error"],
            "invalid parameter \"query\": the embedded prometheus takes no more than 200 operators and brackets in a query"
        );
    }

    #[test]
    fn queries_may_be_posted() {
        let request = Request::post("/api/v1/query")
            .body(Bytes::from("query=vector(2)"))
            .unwrap();
        let (code, body) = ask(&request);
        assert_eq!(
            (code, &body["data"]["result"][0]["value"][1]),
            (200, &json!("2"))
        );
    }
}
