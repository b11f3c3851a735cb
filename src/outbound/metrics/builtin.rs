//! The queries that Flagger has built in, for Istio, and one of our own for the observed share.
//!
//! They are templates of [`crate::outbound::template`]. `target` is the canary's workload: Flagger runs the new version in the target itself.

/// `request-success-rate`: percent of the requests to the canary without a 5xx.
pub const SUCCESS_RATE: &str = "sum(rate(istio_requests_total{reporter=\"destination\",\
destination_workload_namespace=\"{{ namespace }}\",destination_workload=~\"{{ target }}\",response_code!~\"5.*\"}[{{ interval }}])) / \
sum(rate(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"{{ namespace }}\",\
destination_workload=~\"{{ target }}\"}[{{ interval }}])) * 100";

/// `request-duration`: 99th percentile in milliseconds of the requests to the canary.
pub const DURATION: &str = "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter=\"destination\",\
destination_workload_namespace=\"{{ namespace }}\",destination_workload=~\"{{ target }}\"}[{{ interval }}])) by (le))";

/// Percent of the requests that reached the canary rather than the primary. No data when there were none at all; 0 when all went to the
/// primary.
pub const SHARE: &str = "(sum(rate(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"{{ namespace }}\",\
destination_workload=\"{{ target }}\"}[{{ interval }}])) or vector(0)) / sum(rate(istio_requests_total{reporter=\"destination\",\
destination_workload_namespace=\"{{ namespace }}\",destination_workload=~\"{{ target }}|{{ target }}-primary\"}[{{ interval }}])) * 100";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::template::{Values, render_query};

    #[test]
    fn the_queries_as_they_are_sent() {
        let values = Values {
            namespace: "ai-platform".to_owned(),
            target: "mcp-server".to_owned(),
            interval: "1m".to_owned(),
            ..Values::default()
        };
        let table = [
            (
                SUCCESS_RATE,
                r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) * 100"#,
            ),
            (
                DURATION,
                r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) by (le))"#,
            ),
            (
                SHARE,
                r#"(sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload="mcp-server"}[1m])) or vector(0)) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server|mcp-server-primary"}[1m])) * 100"#,
            ),
        ];
        for (query, expected) in table {
            assert_eq!(render_query(query, &values).as_deref(), Ok(expected));
        }
    }
}
