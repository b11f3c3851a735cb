//! Users of all kinds under tokio's paused clock.

use serde_json::json;

use super::*;
use crate::cluster::embedded::fleet::{
    Fleet,
    tests::{NS, annotate, one, primary, seconds},
};

/// One cluster with both copies up and this route of the app, some time after its write.
async fn routed(http: Value) -> (Fleet, Store) {
    let (fleet, store) = one(20);
    annotate(&store, "autoscaling.keda.sh/paused", Some("true"));
    primary(&store);
    seconds(&store, 10).await;
    let vs = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "mcp-server", "namespace": NS}, "spec": {"hosts": ["mcp-server"], "http": http}});
    store.create(&VIRTUAL_SERVICE, vs, "canary-mcp").unwrap();
    seconds(&store, 4).await;
    (fleet, store)
}

async fn change(store: &Store, http: Value) {
    let write = |vs: &mut Value| vs["spec"]["http"] = http;
    store
        .modify(&VIRTUAL_SERVICE, NS, "mcp-server", "canary-mcp", write)
        .unwrap();
    seconds(store, 4).await;
}

/// What was counted in a minute: 1200 requests, and what falls between two looks at what is due.
async fn minute(fleet: &Fleet, store: &Store) -> Counts {
    let before = fleet.counters("prod-kr");
    seconds(store, 60).await;
    let counts = fleet.counters("prod-kr").since(&before);
    assert!((1_195..=1_205).contains(&counts.total), "{counts:?}");
    counts
}

fn near(n: u64, expected: u64) -> bool {
    n.abs_diff(expected) <= 2 + expected / 200
}

fn split(primary: i64, canary: i64) -> Value {
    json!([
        {"destination": {"host": "mcp-server-primary"}, "weight": primary},
        {"destination": {"host": "mcp-server-canary"}, "weight": canary},
    ])
}

const PRIMARY: &str = "mcp-server-primary";
const CANARY: &str = "mcp-server";

#[tokio::test(start_paused = true)]
async fn users_whom_a_rule_names_get_its_version_and_nobody_else_does() {
    let http = json!([
        {"match": [
            {"headers": {"x-canary": {"exact": "insider"}}},
            {"headers": {"cookie": {"regex": "^(.*?;)?(\\s*version=beta)(;.*)?$"}}},
        ], "route": split(0, 100)},
        {"route": split(100, 0)},
    ]);
    let (fleet, store) = routed(http).await;
    let counts = minute(&fleet, &store).await;
    for (class, workload, expected) in [
        ("plain", PRIMARY, 840),
        ("cookieless", PRIMARY, 180),
        ("insider", CANARY, 60),
        ("beta", CANARY, 60),
        ("always", PRIMARY, 60),
    ] {
        let of_class = &counts.classes[class];
        assert_eq!(of_class.len(), 1, "{class} {counts:?}");
        assert!(near(of_class[workload], expected), "{class} {counts:?}");
    }
    assert!((counts.class_share("beta", CANARY) - 100.0).abs() < 1e-9);
}

/// Flagger's rules for session affinity: whoever was sent to the canary stays there, until the cookie is taken back.
#[tokio::test(start_paused = true)]
async fn who_keeps_cookies_stays_with_a_version_until_the_cookie_is_taken_back() {
    let cookie = |value: &str| json!({"response": {"add": {"Set-Cookie": value}}});
    let pinned = json!([{"headers": {"Cookie": {"regex": ".*flagger-cookie.*abc.*"}}}]);
    let mut weighted = split(90, 10);
    weighted[1]["headers"] = cookie("flagger-cookie=abc; Max-Age=86400");
    let http = json!([
        {"match": pinned, "route": split(0, 100)},
        {"route": weighted},
    ]);
    let (fleet, store) = routed(http).await;
    let mut last = minute(&fleet, &store).await;
    for _ in 0..9 {
        let next = minute(&fleet, &store).await;
        // Those without cookies go on as the weights say.
        let cookieless = next.class_share("cookieless", CANARY);
        assert!((cookieless - 10.0).abs() < 5.0, "{next:?}");
        assert!(next.switches.values().all(|n| *n == 1), "{next:?}");
        last = next;
    }
    // After ten minutes everybody has been sent there once.
    assert!((last.class_share("plain", CANARY) - 100.0).abs() < 1e-9);
    let total = fleet.counters("prod-kr");
    assert!(total.switches.values().all(|n| *n == 1), "{total:?}");

    let mut back = split(100, 0);
    back[0]["headers"] = cookie("flagger-cookie=abc; Max-Age=-1");
    let taken = json!([{"match": pinned, "route": back}, {"route": split(0, 100)}]);
    change(&store, taken).await;
    seconds(&store, 10).await;
    let counts = minute(&fleet, &store).await;
    // Each of the 34 took the first rule once, lost the cookie, and has followed the second one since.
    assert_eq!(counts.workloads.get(PRIMARY), None, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn copies_reach_the_mirror_and_no_count_of_users() {
    let http = json!([{"route": split(100, 0), "mirror": {"host": "mcp-server-canary"},
        "mirrorPercentage": {"value": 10}}]);
    let (fleet, store) = routed(http).await;
    let counts = minute(&fleet, &store).await;
    assert_eq!(counts.workloads.get(CANARY), None, "{counts:?}");
    assert!(near(counts.mirrored[CANARY], 120), "{counts:?}");
    // A mirror without an endpoint is nobody's failure.
    annotate(&store, "autoscaling.keda.sh/paused-replicas", Some("0"));
    seconds(&store, 5).await;
    let counts = minute(&fleet, &store).await;
    assert_eq!(counts.no_endpoint_503, 0);
    assert!(counts.mirrored.is_empty(), "{counts:?}");
}

#[cfg(feature = "embedded-metrics")]
#[tokio::test(start_paused = true)]
async fn the_mesh_counts_copies_at_the_workload_that_gets_them() {
    use crate::cluster::embedded::metrics::Answer;
    let http = json!([{"route": split(100, 0), "mirror": {"host": "mcp-server-canary"},
        "mirrorPercentage": {"value": 50}}]);
    let (fleet, store) = routed(http).await;
    seconds(&store, 120).await;
    let query = r#"sum(rate(istio_requests_total{reporter="destination",destination_workload="mcp-server"}[1m]))"#;
    let member = &fleet.members()[0];
    let answer = member.metrics().instant(query, member.clock.now()).unwrap();
    let Answer::Vector(series) = answer else {
        panic!("{answer:?}");
    };
    assert!((series[0].1 - 10.0).abs() < 0.1, "{series:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_no_rule_takes_is_a_404() {
    let http = json!([{"match": [{"headers": {"x-canary": {}}}], "route": split(100, 0)}]);
    let (fleet, store) = routed(http).await;
    let counts = minute(&fleet, &store).await;
    assert!(near(counts.no_route_404, 1_140), "{counts:?}");
    assert_eq!(counts.no_endpoint_503, 0);
}
