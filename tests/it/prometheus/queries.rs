//! Queries for both, and when.

/// Moments of the run, in seconds after its beginning: before the first scrape, at rest, in each rollout and long after. None is a whole range
/// after a scrape.
pub(super) const TIMES: &[i64] = &[5, 12, 95, 257, 437, 611, 905, 1_203, 1_648];

/// What people ask, and what shows how a query engine reads its samples.
pub(super) const QUERIES: &[&str] = &[
    // What the engine asks by name, and what it can be told to.
    r#"100 - (sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) * 100)"#,
    r#"histogram_quantile(0.50, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) by (le))"#,
    r#"histogram_quantile(0.90, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[1m])) by (le))"#,
    r#"histogram_quantile(0.95, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[30s])) by (le))"#,
    r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="ai-platform",destination_workload=~"mcp-server"}[5m])) by (le))"#,
    // No containers and no kube-state-metrics are scraped: no data on both.
    r#"sum(rate(container_cpu_usage_seconds_total{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+",container!=""}[1m])) / sum(kube_pod_container_resource_requests{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+",resource="cpu"}) * 100"#,
    r#"avg(sum by (pod) (container_memory_working_set_bytes{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+",container!=""})) / 1048576"#,
    // The autoscaler's.
    r#"sum(mcp_request_queue_depth{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+"})"#,
    r#"sum(mcp_request_queue_depth{namespace="ai-platform",pod=~"mcp-server-primary-[0-9a-z]+-[0-9a-z]+"})"#,
    // What people write into MetricTemplates.
    r#"sum(rate(istio_requests_total{destination_workload="mcp-server",response_code=~"5.."}[1m])) / sum(rate(istio_requests_total{destination_workload="mcp-server"}[1m]))"#,
    r#"100 - sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload="mcp-server",response_code!="404"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="ai-platform",destination_workload="mcp-server"}[1m])) * 100"#,
    r#"sum(rate(mcp_requests_total{namespace="ai-platform",status="error"}[2m])) by (workload) / sum(rate(mcp_requests_total{namespace="ai-platform"}[2m])) by (workload) * 100"#,
    r#"histogram_quantile(0.99, sum by (le, workload) (rate(mcp_request_duration_seconds_bucket{namespace="ai-platform"}[1m]))) * 1000"#,
    "sum(rate(mcp_request_duration_seconds_sum[1m])) / sum(rate(mcp_request_duration_seconds_count[1m]))",
    r#"sum(increase(istio_requests_total{response_flags="UH"}[5m])) or vector(0)"#,
    "sum(irate(istio_requests_total[1m])) by (destination_workload, response_code)",
    r#"avg_over_time(mcp_request_queue_depth{workload="mcp-server"}[1m])"#,
    "max_over_time(mcp_request_queue_depth[2m]) > 1",
    r#"quantile_over_time(0.9, mcp_request_queue_depth{workload="mcp-server-primary"}[5m])"#,
    r#"histogram_quantile(0.99, sum(rate(mcp_request_duration_seconds_bucket{workload="mcp-server"}[1m])) by (le)) / histogram_quantile(0.99, sum(rate(mcp_request_duration_seconds_bucket{workload="mcp-server-primary"}[1m])) by (le))"#,
    // How it reads its samples.
    "istio_requests_total",
    "mcp_requests_total offset 1m",
    r#"rate(mcp_requests_total{status="success"}[1m])"#,
    "delta(mcp_request_queue_depth[1m])",
    "deriv(mcp_request_queue_depth[2m])",
    "changes(mcp_requests_total[1m])",
    "resets(mcp_requests_total[5m])",
    "count_over_time(mcp_requests_total[56s])",
    "last_over_time(mcp_requests_total[5m])",
    r#"mcp_requests_total{status="success"}[30s]"#,
    "absent(istio_requests_total)",
    "absent(nobody_counts_this)",
    "count(count by (pod) (mcp_requests_total))",
    "topk(1, sum by (workload) (rate(mcp_requests_total[1m])))",
    "sum without (pod, version) (mcp_requests_total)",
    r#"mcp_requests_total{status="error"} == 0"#,
    r#"mcp_requests_total{status="error"} == bool 0"#,
    r#"mcp_requests_total{status="error"} / ignoring(status) mcp_requests_total{status="success"}"#,
    "rate(mcp_requests_total[1m]) / on(pod) group_left sum by (pod) (rate(mcp_requests_total[1m]))",
    r#"mcp_requests_total unless mcp_requests_total{workload="mcp-server"}"#,
    r#"mcp_requests_total{workload="mcp-server"} and on(pod) mcp_request_queue_depth > 0"#,
    r#"label_replace(sum by (pod) (mcp_requests_total), "copy", "$1", "pod", "(.*)-[^-]+-[^-]+")"#,
    "clamp_max(sum(rate(mcp_requests_total[1m])), 10)",
    "round(sum by (workload) (rate(mcp_requests_total[1m])), 0.1)",
    "stddev(mcp_request_queue_depth)",
    r#"mcp_requests_total{status="error"} / on(pod) mcp_requests_total{status="success"}"#,
    r#"sum by (status) (mcp_requests_total{status="error"} / ignoring(status) mcp_requests_total{status="success"})"#,
    r#"mcp_requests_total{status="error"} >= bool on(pod, workload) mcp_requests_total{status="success"}"#,
    r#"mcp_requests_total{status="error"} <= on(pod) mcp_requests_total{status="success"}"#,
    "mcp_requests_total / mcp_requests_total",
    "rate(mcp_requests_total[1m]) > 0.5",
    "1 - sum(rate(mcp_requests_total[1m])) ^ 2",
    "-sum(mcp_requests_total)",
    "2 > bool 1",
    "0 / 0",
    "count_values(\"depth\", round(mcp_request_queue_depth))",
    "group by (workload) (mcp_requests_total)",
    "bottomk(2, mcp_request_queue_depth)",
    "stdvar by (workload) (mcp_request_queue_depth)",
    "quantile(0.9, mcp_request_queue_depth)",
    "max without (pod) (mcp_request_queue_depth)",
    "avg by (version) (mcp_request_queue_depth)",
    "min_over_time(mcp_request_queue_depth[1m])",
    "sum_over_time(mcp_request_queue_depth[1m])",
    "stddev_over_time(mcp_request_queue_depth[3m])",
    "present_over_time(mcp_request_queue_depth[1m])",
    "absent_over_time(nobody_counts_this{a=\"b\"}[1m])",
    "idelta(mcp_request_queue_depth[1m])",
    "predict_linear(mcp_request_queue_depth[2m], 60)",
    "timestamp(mcp_request_queue_depth)",
    "hour()",
    "minute(vector(time()))",
    "day_of_week()",
    "ceil(mcp_request_queue_depth) + floor(mcp_request_queue_depth)",
    "sqrt(abs(-mcp_request_queue_depth))",
    "clamp(mcp_request_queue_depth, 0.1, 1)",
    r#"label_join(sum by (pod, workload) (mcp_requests_total), "both", "/", "workload", "pod")"#,
    "sort_desc(sum by (pod) (mcp_requests_total))",
    "rate(mcp_requests_total[1m] offset 30s)",
    "mcp_requests_total @ 1795219500",
    "sum(rate(mcp_requests_total[1m] @ 1795219500))",
    r#"{__name__=~"mcp_request_.*_count", workload!="mcp-server"}"#,
    r#"{__name__="mcp_requests_total", status=~"succ.*|x"}"#,
    r#"mcp_requests_total{nobody=""}"#,
    r#"mcp_requests_total{status!~".*"}"#,
    "histogram_quantile(0.5, mcp_request_duration_seconds_bucket)",
    "histogram_quantile(1.5, sum by (le) (mcp_request_duration_seconds_bucket))",
    "histogram_quantile(0.99, sum(rate(nobody_counts_this_bucket[1m])) by (le))",
    "sum(mcp_requests_total) by (nobody)",
    "scalar(mcp_requests_total)",
    "rate(mcp_requests_total[5s])",
    r#""text""#,
    "time()",
    "1 / 0",
    "scalar(sum(mcp_requests_total))",
    "vector(1)",
    // What no Prometheus takes.
    "sum(",
    "rate(mcp_requests_total)",
    "clamp_min(0, 1)",
    "",
    "sum(rate(mcp_requests_total[1m])) by (",
    "{}",
    r#"{pod=~".*"}"#,
    "mcp_requests_total[0s]",
    "1 > 2",
    "foo(mcp_requests_total)",
    "mcp_requests_total / on(workload) mcp_request_queue_depth",
    "sum(mcp_requests_total) and 1",
    "topk(mcp_requests_total, mcp_requests_total)",
    "mcp_requests_total{status=~\"(\"}",
];

/// A query over time.
pub(super) struct Range {
    pub(super) query: &'static str,
    start: &'static str,
    end: &'static str,
    step: &'static str,
}

impl Range {
    pub(super) fn parameters(&self) -> [(&'static str, &'static str); 4] {
        let Self {
            query,
            start,
            end,
            step,
        } = self;
        [
            ("query", query),
            ("start", start),
            ("end", end),
            ("step", step),
        ]
    }
}

/// What a dashboard draws: the whole run, by the minute and finer than it is scraped.
pub(super) const RANGES: &[Range] = &[
    Range {
        query: "sum(rate(istio_requests_total[1m])) by (destination_workload, response_code)",
        start: "2026-11-21T00:00:04Z",
        end: "2026-11-21T00:30:00Z",
        step: "1m",
    },
    Range {
        query: r#"histogram_quantile(0.99, sum(rate(mcp_request_duration_seconds_bucket{workload="mcp-server"}[1m])) by (le))"#,
        start: "2026-11-21T00:01:03Z",
        end: "2026-11-21T00:29:00Z",
        step: "7s",
    },
    Range {
        query: "mcp_request_queue_depth",
        start: "1795219200",
        end: "1795220400.5",
        step: "3.5",
    },
    Range {
        query: "up",
        start: "2026-11-21T00:05:00Z",
        end: "2026-11-21T00:01:00Z",
        step: "15s",
    },
];
