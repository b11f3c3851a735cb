//! A real Prometheus scrapes an embedded cluster while it rolls out at the speed of the wall's clock, and the engine asks it.

use std::{fmt::Write as _, time::Duration};

use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    decide::{
        facts::{Bounds, Reading},
        state::Verdict,
        verdict::verdict,
    },
    outbound::{
        http::{self as outbound, Transport},
        metrics::prometheus::{self as provider, Auth},
    },
};
use kube::config::Kubeconfig;
use serde_json::json;

use super::real::Prometheus;
use crate::processes::{
    child::{Clusters, PATIENCE, Serve},
    kubernetes::{Kubectl, NAME},
};

const SUCCESS: &str = "sum(rate(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"ai-platform\",\
destination_workload=~\"mcp-server\",response_code!~\"5.*\"}[20s])) / \
sum(rate(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"ai-platform\",destination_workload=~\"mcp-server\"}[20s])) * 100";
const DURATION: &str = "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter=\"destination\",\
destination_workload_namespace=\"ai-platform\",destination_workload=~\"mcp-server\"}[20s])) by (le))";
const SHARE: &str = "(sum(rate(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"ai-platform\",\
destination_workload=\"mcp-server\"}[20s])) or vector(0)) / sum(rate(istio_requests_total{reporter=\"destination\",\
destination_workload_namespace=\"ai-platform\",destination_workload=~\"mcp-server|mcp-server-primary\"}[20s])) * 100";

/// What the embedded Prometheus and the real one must agree on while the canary with errors has a quarter of the traffic: the query, its
/// bounds and verdict, the value, and how far each may be off it.
///
/// A window of 20 seconds holds 100 requests to the canary, every fifth of them fails. The real one has scraped it each second and the
/// embedded one every ten, so they see windows that begin and end up to ten seconds apart: one failure and one request more or less at
/// either end, two points of a hundred, and another one for the second in which a scrape may be late. Every request takes 120 to 180 ms,
/// which is one bucket: its quantile depends on no window.
const AGREED: [(&str, Bounds, Verdict, f64, f64); 3] = [
    (
        SUCCESS,
        Bounds {
            min: Some(99.0),
            max: None,
        },
        Verdict::Fail,
        80.0,
        3.0,
    ),
    (
        DURATION,
        Bounds {
            min: None,
            max: Some(500.0),
        },
        Verdict::Pass,
        248.5,
        0.001,
    ),
    (
        SHARE,
        Bounds {
            min: None,
            max: None,
        },
        Verdict::Pass,
        25.0,
        3.0,
    ),
];

/// The value of a query as the engine reads it.
async fn value(transport: &Transport, address: &str, query: &str) -> Reading {
    let request = provider::request(address, query, &[], &Auth::None).unwrap();
    provider::ask(transport, request).await
}

/// Waits until both say of every query what [`AGREED`] does, at one time: at first the window is not full.
async fn until_agreed(real: &str, embedded: &str) {
    let transport = Transport::Direct(outbound::client(false).unwrap());
    let mut last = String::new();
    let agreed = async {
        loop {
            let mut all = true;
            last.clear();
            for (query, bounds, wanted, about, off) in AGREED {
                for address in [real, embedded] {
                    let is = value(&transport, address, query).await;
                    let near = matches!(is, Reading::Value(v) if (v - about).abs() <= off);
                    all &= near && verdict(bounds, &is) == wanted;
                    let _ = writeln!(last, "{address}: {is:?}, wanted {about}: {query}");
                }
            }
            if all {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let within = tokio::time::timeout(PATIENCE, agreed).await;
    assert!(within.is_ok(), "they do not agree:\n{last}");
}

#[tokio::test]
async fn a_rollout_is_judged_by_a_prometheus_that_scrapes_it() {
    let clusters = Clusters::start("1").await;
    let server = server_of(&clusters, "prod-kr");
    let (host, path) = server
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let Some(real) = Prometheus::scraping(host, &format!("/{path}/metrics")).await else {
        return;
    };
    let _serve = Serve::start(&[
        "--kubeconfig",
        clusters.kubeconfig.to_str().unwrap(),
        "--lead",
        "prod-kr",
        "--metrics-server",
        &real.address,
    ])
    .await;
    let kubectl = Kubectl::new(&clusters.kubeconfig, "prod-kr").await;
    let mut canary = kubectl.watch_canary().await;
    canary.until_phase("Initialized").await;
    // Steps of ten seconds, judged by nobody but the Prometheus of the flag.
    let metric =
        |name: &str, range| json!({"name": name, "interval": "20s", "thresholdRange": range});
    let analysis = json!({"interval": "10s", "threshold": 20, "stepWeight": 25, "maxWeight": 50, "metrics": [
        metric("request-success-rate", json!({"min": 99})),
        metric("request-duration", json!({"max": 500})),
    ]});
    kubectl
        .merge(&CANARY, NAME, json!({"spec": {"analysis": analysis}}))
        .await;

    kubectl.set_image("registry.example/mcp-server:1.1.0").await;
    for phase in ["Progressing", "Promoting", "Succeeded"] {
        canary.until_phase(phase).await;
    }
    // Two analyses at least, of three queries each: after 25 % and after 50 %.
    assert!(real.queries_answered().await >= 6);

    kubectl
        .set_image("registry.example/mcp-server:1.2.0-errors")
        .await;
    canary
        .until(|c| c.int_at("/status/canaryWeight") == Some(25))
        .await;
    let embedded =
        format!("{server}/api/v1/namespaces/istio-system/services/prometheus:9090/proxy");
    until_agreed(&real.address, &embedded).await;
    // It has failed often enough by now.
    let strict = json!({"spec": {"analysis": {"threshold": 1}}});
    kubectl.merge(&CANARY, NAME, strict).await;
    let failed = canary.until_phase("Failed").await;
    assert_eq!(failed.int_at("/status/canaryWeight"), Some(0));
}

/// The address of an API server in a kubeconfig.
fn server_of(clusters: &Clusters, name: &str) -> String {
    let file = Kubeconfig::read_from(&clusters.kubeconfig).unwrap();
    let named = file.clusters.iter().find(|c| c.name == name).unwrap();
    named.cluster.as_ref().unwrap().server.clone().unwrap()
}
