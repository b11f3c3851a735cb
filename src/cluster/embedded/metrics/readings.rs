//! Counters as the metrics that a scrape reads: names, labels and bounds.

use std::sync::Arc;

use super::{Histogram, PodCounters, PodKey, Reading, RouteKey, float};

/// Istio's bounds of request durations, in milliseconds.
pub(super) const ISTIO_BOUNDS: [(f64, &str); 19] = [
    (0.5, "0.5"),
    (1.0, "1"),
    (5.0, "5"),
    (10.0, "10"),
    (25.0, "25"),
    (50.0, "50"),
    (100.0, "100"),
    (250.0, "250"),
    (500.0, "500"),
    (1_000.0, "1000"),
    (2_500.0, "2500"),
    (5_000.0, "5000"),
    (10_000.0, "10000"),
    (30_000.0, "30000"),
    (60_000.0, "60000"),
    (300_000.0, "300000"),
    (600_000.0, "600000"),
    (1_800_000.0, "1800000"),
    (3_600_000.0, "3600000"),
];

/// Bounds of the MCP servers' own histogram, in seconds, close together around two seconds.
pub(super) const MCP_BOUNDS: [(f64, &str); 9] = [
    (0.1, "0.1"),
    (0.25, "0.25"),
    (0.5, "0.5"),
    (1.0, "1"),
    (1.5, "1.5"),
    (2.0, "2"),
    (2.5, "2.5"),
    (3.0, "3"),
    (5.0, "5"),
];

/// The default bounds of Prometheus' clients, in seconds.
pub(super) const HTTP_BOUNDS: [(f64, &str); 11] = [
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (0.5, "0.5"),
    (1.0, "1"),
    (2.5, "2.5"),
    (5.0, "5"),
    (10.0, "10"),
];

/// Linkerd's bounds, in milliseconds; its proxy has a few of less than one and more than these.
pub(super) const LINKERD_BOUNDS: [(f64, &str); 26] = [
    (1.0, "1"),
    (2.0, "2"),
    (3.0, "3"),
    (4.0, "4"),
    (5.0, "5"),
    (10.0, "10"),
    (20.0, "20"),
    (30.0, "30"),
    (40.0, "40"),
    (50.0, "50"),
    (100.0, "100"),
    (200.0, "200"),
    (300.0, "300"),
    (400.0, "400"),
    (500.0, "500"),
    (1_000.0, "1000"),
    (2_000.0, "2000"),
    (3_000.0, "3000"),
    (4_000.0, "4000"),
    (5_000.0, "5000"),
    (10_000.0, "10000"),
    (20_000.0, "20000"),
    (30_000.0, "30000"),
    (40_000.0, "40000"),
    (50_000.0, "50000"),
    (100_000.0, "100000"),
];

pub(super) fn of_route(key: &RouteKey, route: &Histogram<19>, out: &mut Vec<Reading>) {
    let unknown: Arc<str> = Arc::from("unknown");
    let (workload, namespace) = key
        .workload
        .as_ref()
        .map_or((&unknown, &unknown), |(w, n)| (w, n));
    // The server's sidecar reports what it answered; only the client's knows of a request that reached nobody.
    let (reporter, flags) = match (&key.workload, key.code) {
        (Some(_), _) => ("destination", "-"),
        (None, 404) => ("source", "NR"),
        (None, _) => ("source", "UH"),
    };
    let service = format!("{}.{}.svc.cluster.local", key.service, key.namespace);
    let mut labels = vec![
        ("reporter", reporter.to_owned()),
        ("source_workload", "mcp-clients".to_owned()),
        ("source_workload_namespace", "ai-clients".to_owned()),
        ("destination_workload", workload.to_string()),
        ("destination_workload_namespace", namespace.to_string()),
        ("destination_service", service),
        ("destination_service_name", key.service.to_string()),
        ("destination_service_namespace", key.namespace.to_string()),
        ("response_flags", flags.to_owned()),
    ];
    if key.tcp {
        labels.push(("request_protocol", "tcp".to_owned()));
        for name in [
            "istio_tcp_connections_opened_total",
            "istio_tcp_connections_closed_total",
        ] {
            out.push(reading(name, labels.clone(), float(route.count)));
        }
        return;
    }
    labels.push(("request_protocol", "http".to_owned()));
    labels.push(("response_code", key.code.to_string()));
    out.push(reading(
        "istio_requests_total",
        labels.clone(),
        float(route.count),
    ));
    let names = [
        "istio_request_duration_milliseconds_bucket",
        "istio_request_duration_milliseconds_sum",
        "istio_request_duration_milliseconds_count",
    ];
    route.read(names, &labels, &ISTIO_BOUNDS, out);
}

pub(super) fn of_pod(key: &PodKey, pod: &PodCounters, out: &mut Vec<Reading>) {
    let labels = vec![
        ("namespace", key.namespace.to_string()),
        ("pod", key.pod.to_string()),
        ("workload", key.workload.to_string()),
        ("version", key.version.to_string()),
    ];
    for (status, count) in [("success", pod.success), ("error", pod.error)] {
        let mut labels = labels.clone();
        labels.push(("status", status.to_owned()));
        out.push(reading("mcp_requests_total", labels, float(count)));
    }
    let names = [
        "mcp_request_duration_seconds_bucket",
        "mcp_request_duration_seconds_sum",
        "mcp_request_duration_seconds_count",
    ];
    pod.duration.read(names, &labels, &MCP_BOUNDS, out);
    out.push(reading("mcp_request_queue_depth", labels, pod.depth));
    read_http(key, pod, out);
    read_proxy(key, pod, out);
}

/// What Flagger's queries for `kubernetes` and `gatewayapi` ask for: the server's own metrics, with the pod's name from the scrape.
fn read_http(key: &PodKey, pod: &PodCounters, out: &mut Vec<Reading>) {
    for (code, durations) in &pod.http {
        let labels = vec![
            ("kubernetes_namespace", key.namespace.to_string()),
            ("kubernetes_pod_name", key.pod.to_string()),
            ("status", code.to_string()),
        ];
        let names = [
            "http_request_duration_seconds_bucket",
            "http_request_duration_seconds_sum",
            "http_request_duration_seconds_count",
        ];
        durations.read(names, &labels, &HTTP_BOUNDS, out);
    }
}

/// Linkerd's proxy beside the server (linkerd.io/2/reference/proxy-metrics).
fn read_proxy(key: &PodKey, pod: &PodCounters, out: &mut Vec<Reading>) {
    for (code, durations) in &pod.proxy {
        let mut labels = vec![
            ("namespace", key.namespace.to_string()),
            ("deployment", key.workload.to_string()),
            ("pod", key.pod.to_string()),
            ("direction", "inbound".to_owned()),
            ("status_code", code.to_string()),
            ("tls", "true".to_owned()),
        ];
        let names = [
            "response_latency_ms_bucket",
            "response_latency_ms_sum",
            "response_latency_ms_count",
        ];
        durations.read(names, &labels, &LINKERD_BOUNDS, out);
        let failed = *code >= 500;
        let class = if failed { "failure" } else { "success" };
        labels.push(("classification", class.to_owned()));
        out.push(reading("response_total", labels, float(durations.count)));
    }
}

pub(super) fn reading(
    name: &'static str,
    labels: Vec<(&'static str, String)>,
    value: f64,
) -> Reading {
    Reading {
        name,
        labels,
        value,
    }
}
