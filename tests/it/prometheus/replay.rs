//! A run's samples in a real Prometheus, and every query of the run asked again at its time.

use std::future::Future;

use bytes::Bytes;
use canary_mcp::{
    cluster::{
        Registry,
        embedded::{fleet::Member, metrics::Answer},
        registry::Entry,
    },
    decide::{
        facts::{Bounds, Moment, Reading},
        state::{Phase, Verdict},
        verdict::verdict,
    },
    engine::{Engine, Settings},
    outbound::{
        http::{self as outbound, Transport},
        metrics::prometheus as provider,
    },
};

use serde_json::Value;

use super::{
    asked::{Asked, Log, listened_to},
    queries::{QUERIES, RANGES, TIMES},
    real::{Prometheus, Sample},
    same::difference,
};
use crate::support::{EPOCH, Rig};

/// What is known after the rollouts of a test.
struct Recorded {
    asked: Vec<Asked>,
    samples: Vec<Sample>,
    /// Our answers to [`QUERIES`], each at all of [`TIMES`]: the status and the body.
    answers: Vec<(u16, Bytes)>,
    /// The same for [`RANGES`].
    ranges: Vec<(u16, Bytes)>,
    /// The same for [`EDGE`].
    edge: (u16, Bytes),
}

/// On a clock that goes on by itself when all wait. A real process cannot be waited for there, so it comes after.
fn on_the_paused_clock<T>(rollouts: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(rollouts)
}

/// A good image, one with errors and a slow one, one after the other.
async fn three_rollouts() -> Recorded {
    let rig = Rig::without_engine(true);
    let log = Log::default();
    let settings = Settings {
        identity: "listened-to".to_owned(),
        ..Settings::default()
    };
    let direct = Transport::Direct(outbound::client(false).unwrap());
    let cluster = listened_to(rig.member(), &log);
    let registry = Registry::of(vec![Entry::known(cluster)]);
    let _engine = Engine::start(&registry, settings, rig.metrics.clone(), direct);
    rig.until_phase(Phase::Initialized).await;
    for (tag, end) in [
        ("1.1.0", Phase::Succeeded),
        ("1.2.0-errors", Phase::Failed),
        ("1.3.0-slow", Phase::Failed),
    ] {
        rig.pass(60).await;
        rig.start(tag).await;
        rig.until_phase(end).await;
    }
    // Until nothing is left of the last canary's counters.
    rig.pass(400).await;
    let asked = log.lock().unwrap().clone();
    let mut answers = Vec::new();
    for query in QUERIES {
        for seconds in TIMES {
            answers.push(
                ours(
                    rig.member(),
                    "query",
                    &[("query", query), ("time", &time(*seconds))],
                )
                .await,
            );
        }
    }
    let mut ranges = Vec::new();
    for range in RANGES {
        ranges.push(ours(rig.member(), "query_range", &range.parameters()).await);
    }
    Recorded {
        asked,
        samples: samples(&rig),
        answers,
        ranges,
        edge: ours(rig.member(), "query", &EDGE).await,
    }
}

/// Asks the embedded Prometheus as kubectl does, through the API server.
async fn ours(member: &Member, what: &str, parameters: &[(&str, &str)]) -> (u16, Bytes) {
    let query: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    let uri = format!(
        "/api/v1/namespaces/istio-system/services/prometheus:9090/proxy/api/v1/{what}?{query}"
    );
    let request = http::Request::get(uri).body(Bytes::new()).unwrap();
    let answer = member.server.handle(request).await;
    let status = answer.status().as_u16();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await;
    (status, body.unwrap().to_bytes())
}

/// Every sample that was ever scraped: none is left out.
fn samples(rig: &Rig) -> Vec<Sample> {
    let metrics = rig.member().metrics();
    let all = metrics
        .instant("{__name__=~\".+\"}[2h]", rig.now())
        .unwrap();
    let Answer::Matrix(all) = all else {
        panic!("a range selector gives a range: {all:?}");
    };
    let mut samples = Vec::new();
    for (mut labels, points) in all {
        let name = labels.remove("__name__").unwrap();
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
        let series = format!("{name}{{{}}}", labels.join(","));
        samples.extend(points.into_iter().map(|(at, value)| Sample {
            at,
            text: format!("{series} {value}"),
        }));
    }
    let held = metrics.held();
    assert_eq!((held.stores, held.samples), (1, samples.len()));
    samples
}

/// Unix time of so many seconds after the cluster's beginning.
fn time(seconds: i64) -> String {
    unix(EPOCH.plus(seconds * 1_000))
}

fn unix(at: Moment) -> String {
    format!("{}.{:03}", at.0 / 1_000, at.0 % 1_000)
}

/// The bounds of the example's two checks; the canary's share has none.
fn bounds(query: &str) -> Option<(&'static str, Bounds)> {
    let of = |min, max| Bounds { min, max };
    if query.contains("or vector(0)") {
        None
    } else if query.contains("istio_requests_total") {
        Some(("success", of(Some(99.5), None)))
    } else if query.contains("mcp_request_duration_seconds_bucket") {
        Some(("latency", of(None, Some(2_000.0))))
    } else {
        panic!("nobody should ask {query}")
    }
}

fn judged(bounds: Bounds, status: u16, body: &[u8]) -> Verdict {
    let reading: Reading = provider::parse(status, body);
    verdict(bounds, &reading)
}

#[test]
fn every_query_of_a_run_has_the_value_and_the_verdict_of_the_real_one() {
    let recorded = on_the_paused_clock(three_rollouts());
    let judge = async {
        let Some(real) = Prometheus::holding(recorded.samples).await else {
            return;
        };
        let mut differences = Vec::new();
        let mut verdicts = Vec::new();
        // Three queries to each of twelve analyses.
        assert_eq!(recorded.asked.len(), 36);
        for Asked {
            at,
            query,
            status,
            body,
        } in &recorded.asked
        {
            let parameters = [("query", query.as_str()), ("time", &unix(*at))];
            let (is, says) = real.get("/api/v1/query", &parameters).await;
            let what = format!("{query} at {}", at.since(EPOCH));
            // There the two differ by what EDGE shows.
            assert_ne!(at.since(EPOCH) % 10_000, 0, "at a scrape: {what}");
            differences
                .extend(difference((*status, body), (is, &says)).map(|d| format!("{what}\n{d}")));
            let Some((check, bounds)) = bounds(query) else {
                continue;
            };
            let ours = judged(bounds, *status, body);
            assert_eq!(ours, judged(bounds, is, &says), "{what}");
            verdicts.push((check, ours));
        }
        assert!(differences.is_empty(), "{}", differences.join("\n\n"));
        assert_verdicts(&verdicts);
        others(&real, &recorded.answers, &recorded.ranges).await;
        assert_open_on_the_left(&real, &recorded.edge).await;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(judge);
}

/// What the run has heard: six analyses of the good image, three of each bad one, which its threshold allows.
fn assert_verdicts(verdicts: &[(&str, Verdict)]) {
    use Verdict::{Fail, Pass};
    let of = |check: &str| -> Vec<Verdict> {
        let of_check = verdicts.iter().filter(|(name, _)| *name == check);
        of_check.map(|(_, verdict)| *verdict).collect()
    };
    let good = [Pass; 6];
    assert_eq!(of("success"), [&good[..], &[Fail; 3], &[Pass; 3]].concat());
    assert_eq!(of("latency"), [&good[..], &[Pass; 3], &[Fail; 3]].concat());
}

/// The one difference that is meant: at the very beginning of a range a sample counted before Prometheus 3.0, and does not any more.
async fn assert_open_on_the_left(real: &Prometheus, (status, body): &(u16, Bytes)) {
    let seconds = |body: &[u8]| -> Vec<f64> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let points = body["data"]["result"][0]["values"].as_array().unwrap();
        let at = points.iter().map(|point| point[0].as_f64().unwrap());
        at.map(|at| at - 1_795_219_200.0).collect()
    };
    let (is, says) = real.get("/api/v1/query", &EDGE).await;
    assert_eq!((*status, seconds(body)), (200, vec![230.0, 240.0, 250.0]));
    assert_eq!(
        (is, seconds(&says)),
        (200, vec![220.0, 230.0, 240.0, 250.0])
    );
}

/// A range that begins at a scrape, 250 seconds after the cluster.
const EDGE: [(&str, &str); 2] = [
    (
        "query",
        "mcp_requests_total{status=\"success\",workload=\"mcp-server\"}[30s]",
    ),
    ("time", "1795219450"),
];

async fn others(real: &Prometheus, answers: &[(u16, Bytes)], ranges: &[(u16, Bytes)]) {
    let mut differences = Vec::new();
    let points = QUERIES
        .iter()
        .flat_map(|query| TIMES.iter().map(move |seconds| (query, *seconds)));
    for ((query, seconds), (status, body)) in points.zip(answers) {
        let parameters = [("query", *query), ("time", &time(seconds))];
        let (is, says) = real.get("/api/v1/query", &parameters).await;
        let difference = difference((*status, body), (is, &says));
        differences.extend(difference.map(|d| format!("{query} at {seconds}\n{d}")));
    }
    for (range, (status, body)) in RANGES.iter().zip(ranges) {
        let (is, says) = real.get("/api/v1/query_range", &range.parameters()).await;
        let difference = difference((*status, body), (is, &says));
        differences.extend(difference.map(|d| format!("{}\n{d}", range.query)));
    }
    assert!(
        differences.is_empty(),
        "{} differ\n{}",
        differences.len(),
        differences.join("\n\n")
    );
}
