//! The metrics of an embedded cluster as its sidecars and servers would show them, for a Prometheus of one's own to scrape: Prometheus' text
//! format 0.0.4 (`prometheus.io/docs/instrumenting/exposition_formats`).

use std::fmt::Write as _;

use super::metrics::Reading;

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families with their type and help. A histogram's samples have three endings.
const FAMILIES: [(&str, &str, &str); 10] = [
    (
        "istio_requests_total",
        "counter",
        "Requests, as the mesh counts them.",
    ),
    (
        "istio_request_duration_milliseconds",
        "histogram",
        "How long requests took, as the mesh measures it.",
    ),
    (
        "istio_tcp_connections_opened_total",
        "counter",
        "Connections that were opened, as the mesh counts them.",
    ),
    (
        "istio_tcp_connections_closed_total",
        "counter",
        "Connections that were closed, as the mesh counts them.",
    ),
    (
        "http_request_duration_seconds",
        "histogram",
        "How long requests took, as the server measures it.",
    ),
    (
        "response_total",
        "counter",
        "Responses, as the proxy counts them.",
    ),
    (
        "response_latency_ms",
        "histogram",
        "How long responses took, as the proxy measures it.",
    ),
    (
        "mcp_requests_total",
        "counter",
        "Requests, as the MCP server counts them.",
    ),
    (
        "mcp_request_duration_seconds",
        "histogram",
        "How long requests took, as the MCP server measures it.",
    ),
    (
        "mcp_request_queue_depth",
        "gauge",
        "Requests that the MCP server has at work.",
    ),
];

/// The readings as text, family by family as the format wants it.
pub(super) fn text(readings: &[Reading]) -> String {
    let mut out = String::new();
    for (family, kind, help) in FAMILIES {
        let endings = match kind {
            "histogram" => &["_bucket", "_sum", "_count"][..],
            _ => &[""],
        };
        let of_family = |reading: &&Reading| {
            let ending = reading.name.strip_prefix(family);
            ending.is_some_and(|ending| endings.contains(&ending))
        };
        let mut samples = readings.iter().filter(of_family).peekable();
        if samples.peek().is_some() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {family} {help}\n# TYPE {family} {kind}");
        }
        for Reading {
            name,
            labels,
            value,
        } in samples
        {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let _ = writeln!(out, "{name}{{{}}} {value}", labels.join(","));
        }
    }
    out
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together() {
        let reading = |name, labels: &[(&'static str, &str)], value| Reading {
            name,
            labels: labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect(),
            value,
        };
        let readings = [
            reading("istio_requests_total", &[("a", "1")], 7.0),
            reading(
                "istio_request_duration_milliseconds_bucket",
                &[("le", "+Inf")],
                7.0,
            ),
            reading("istio_request_duration_milliseconds_sum", &[], 0.25),
            reading(
                "istio_requests_total",
                &[("a", "quote \" slash \\ line \n")],
                3.0,
            ),
        ];
        assert_eq!(
            text(&readings),
            r#"# HELP istio_requests_total Requests, as the mesh counts them.
# TYPE istio_requests_total counter
istio_requests_total{a="1"} 7
istio_requests_total{a="quote \" slash \\ line \n"} 3
# HELP istio_request_duration_milliseconds How long requests took, as the mesh measures it.
# TYPE istio_request_duration_milliseconds histogram
istio_request_duration_milliseconds_bucket{le="+Inf"} 7
istio_request_duration_milliseconds_sum{} 0.25
"#
        );
    }
}
