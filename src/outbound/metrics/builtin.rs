//! The queries that Flagger has built in, for Istio, and one of our own for the observed share.
//!
//! They are templates of [`crate::outbound::template`]. `target` is the canary's workload: Flagger runs the new version in the target itself.

use crate::decide::plan::Named;

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

/// How many requests the share is of.
pub const REQUESTS: &str = "sum(increase(istio_requests_total{reporter=\"destination\",destination_workload_namespace=\"{{ namespace }}\",\
destination_workload=~\"{{ target }}|{{ target }}-primary\"}[{{ interval }}]))";

/// The query of a metric that is known by name alone.
#[must_use]
pub fn named(metric: Named) -> String {
    match metric {
        Named::ErrorRate => format!("100 - ({SUCCESS_RATE})"),
        Named::DurationP50 => quantile("0.50"),
        Named::DurationP90 => quantile("0.90"),
        Named::DurationP95 => quantile("0.95"),
        Named::DurationP99 => quantile("0.99"),
        Named::CpuUsage => format!(
            "sum(rate(container_cpu_usage_seconds_total{{{PODS},container!=\"\"}}[{{{{ interval }}}}])) / \
             sum(kube_pod_container_resource_requests{{{PODS},resource=\"cpu\"}}) * 100"
        ),
        Named::MemoryUsage => format!(
            "avg(sum by (pod) (container_memory_working_set_bytes{{{PODS},container!=\"\"}})) / 1048576"
        ),
    }
}

/// Matchers of the canary's pods, where series name pods and not workloads.
const PODS: &str = "namespace=\"{{ namespace }}\",pod=~\"{{ target }}-[0-9a-z]+-[0-9a-z]+\"";

fn quantile(of: &str) -> String {
    DURATION.replacen("0.99", of, 1)
}

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

    #[test]
    fn metrics_that_are_known_by_name_alone() {
        let values = Values {
            namespace: "ai-platform".to_owned(),
            target: "mcp-server".to_owned(),
            interval: "1m".to_owned(),
            ..Values::default()
        };
        let table = [
            (
                Named::ErrorRate,
                r#"100 - (sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) * 100)"#,
            ),
            (
                Named::DurationP50,
                r#"histogram_quantile(0.50, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) by (le))"#,
            ),
            (
                Named::CpuUsage,
                r#"sum(rate(container_cpu_usage_seconds_total{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+",container!=""}[1m])) / sum(kube_pod_container_resource_requests{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+",resource="cpu"}) * 100"#,
            ),
            (
                Named::MemoryUsage,
                r#"avg(sum by (pod) (container_memory_working_set_bytes{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+",container!=""})) / 1048576"#,
            ),
        ];
        for (metric, expected) in table {
            assert_eq!(
                render_query(&named(metric), &values).as_deref(),
                Ok(expected)
            );
        }
        assert_eq!(Named::of("canary-errors"), None);
    }
}
