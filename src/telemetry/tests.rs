//! The exposition, literally.

use super::*;

fn target() -> Target {
    Target {
        name: "mcp-server".to_owned(),
        namespace: "ai-platform".to_owned(),
        cluster: "prod-kr".to_owned(),
    }
}

fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
    metrics
        .encode()
        .unwrap()
        .lines()
        .filter(|line| line.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_exposition_has_flaggers_names_and_labels() {
    let metrics = Metrics::new("0.1.0", "istio");
    metrics.canaries("prod-kr", "ai-platform", 1);
    metrics.status(&target(), Phase::Progressing);
    metrics.canary_weight(&target(), 15);
    metrics.analysis(&target(), "request-success-rate", 99.9);
    metrics.finished(
        &target(),
        Finished {
            success: true,
            skipped: false,
        },
    );
    metrics.finished(
        &target(),
        Finished {
            success: false,
            skipped: true,
        },
    );
    metrics.run_age(&target(), Some(61));
    metrics.members(3);
    metrics.leading("prod-kr", Some(true));
    metrics.leading("prod-jp", Some(false));
    metrics.leading("staging", Some(true));
    metrics.leading("staging", None);
    metrics.handover("prod-kr", "asked");
    metrics.event_hook("prod-kr", EventHook::Sent);
    metrics.event_hook("prod-kr", EventHook::Sent);
    metrics.event_hook("prod-kr", EventHook::Failed);
    metrics.event_hook("prod-kr", EventHook::Dropped);
    metrics.progress(&target(), Phase::WaitingPromotion, 0);
    metrics.progress(&target(), Phase::Progressing, 2);
    metrics.observed(&target(), Some(14.5), 0);
    let text = metrics.encode().unwrap();
    let (comments, mut samples): (Vec<_>, Vec<_>) = text
        .lines()
        .filter(|line| !line.starts_with("# HELP"))
        .partition(|line| line.starts_with('#'));
    samples.sort_unstable();
    assert_eq!(
        comments,
        [
            "# TYPE flagger_info gauge",
            "# TYPE canary_mcp_leading gauge",
            "# TYPE canary_mcp_members gauge",
            "# TYPE canary_mcp_handovers counter",
            "# TYPE flagger_canary_total gauge",
            "# TYPE flagger_canary_status gauge",
            "# TYPE flagger_canary_weight gauge",
            "# TYPE flagger_canary_metric_analysis gauge",
            "# TYPE flagger_canary_successes counter",
            "# TYPE flagger_canary_failures counter",
            "# TYPE canary_mcp_run_age_seconds gauge",
            "# TYPE canary_mcp_phase gauge",
            "# TYPE canary_mcp_failed_checks gauge",
            "# TYPE canary_mcp_observed_weight gauge",
            "# TYPE canary_mcp_weight_apart gauge",
            "# TYPE canary_mcp_event_hooks counter",
            "# EOF",
        ]
    );
    assert_eq!(
        samples,
        [
            r#"canary_mcp_event_hooks_total{outcome="dropped",cluster="prod-kr"} 1"#,
            r#"canary_mcp_event_hooks_total{outcome="failed",cluster="prod-kr"} 1"#,
            r#"canary_mcp_event_hooks_total{outcome="sent",cluster="prod-kr"} 2"#,
            r#"canary_mcp_failed_checks{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 2"#,
            r#"canary_mcp_handovers_total{cluster="prod-kr",lease="asked"} 1"#,
            r#"canary_mcp_leading{cluster="prod-jp"} 0"#,
            r#"canary_mcp_leading{cluster="prod-kr"} 1"#,
            "canary_mcp_members 3",
            r#"canary_mcp_observed_weight{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 14.5"#,
            r#"canary_mcp_phase{name="mcp-server",namespace="ai-platform",cluster="prod-kr",phase="Progressing"} 1"#,
            r#"canary_mcp_run_age_seconds{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 61"#,
            r#"canary_mcp_weight_apart{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 0"#,
            r#"flagger_canary_failures_total{name="mcp-server",namespace="ai-platform",deployment_strategy="canary",analysis_status="skipped",cluster="prod-kr"} 1"#,
            r#"flagger_canary_metric_analysis{name="mcp-server",namespace="ai-platform",metric="request-success-rate",cluster="prod-kr"} 99.9"#,
            r#"flagger_canary_status{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 0"#,
            r#"flagger_canary_successes_total{name="mcp-server",namespace="ai-platform",deployment_strategy="canary",analysis_status="completed",cluster="prod-kr"} 1"#,
            r#"flagger_canary_total{namespace="ai-platform",cluster="prod-kr"} 1"#,
            r#"flagger_canary_weight{workload="mcp-server",namespace="ai-platform",cluster="prod-kr"} 15"#,
            r#"flagger_canary_weight{workload="mcp-server-primary",namespace="ai-platform",cluster="prod-kr"} 85"#,
            r#"flagger_info{version="0.1.0",mesh_provider="istio"} 1"#,
        ]
    );
}

#[test]
fn a_tick_and_a_tool_call_are_observed_in_seconds() {
    let metrics = Metrics::new("6b8f", "istio");
    metrics.tick(&target(), Duration::from_millis(30));
    metrics.request("get_status", true, Duration::from_millis(1600));
    metrics.request("get_status", false, Duration::from_millis(1));
    assert_eq!(
        lines(&metrics, "flagger_canary_duration_seconds")[..5],
        [
            r#"flagger_canary_duration_seconds_sum{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 0.03"#,
            r#"flagger_canary_duration_seconds_count{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 1"#,
            r#"flagger_canary_duration_seconds_bucket{le="0.005",name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 0"#,
            r#"flagger_canary_duration_seconds_bucket{le="0.01",name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 0"#,
            r#"flagger_canary_duration_seconds_bucket{le="0.025",name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 0"#,
        ]
    );
    let mut requests = lines(&metrics, "mcp_requests_total");
    requests.sort();
    assert_eq!(
        requests,
        [
            r#"mcp_requests_total{tool="get_status",status="error",version="6b8f"} 1"#,
            r#"mcp_requests_total{tool="get_status",status="success",version="6b8f"} 1"#,
        ]
    );
    assert_eq!(
        lines(&metrics, r#"mcp_request_duration_seconds_bucket{le="1.75""#),
        [r#"mcp_request_duration_seconds_bucket{le="1.75",tool="get_status",version="6b8f"} 2"#]
    );
}

#[test]
fn what_is_forgotten_leaves_no_gauge_behind() {
    let metrics = Metrics::new("0.1.0", "istio");
    metrics.status(&target(), Phase::Failed);
    metrics.canary_weight(&target(), 0);
    metrics.analysis(&target(), "mcp-latency", 182.0);
    metrics.run_age(&target(), Some(3));
    metrics.progress(&target(), Phase::Failed, 3);
    metrics.observed(&target(), Some(5.0), 2);
    metrics.tick(&target(), Duration::from_secs(1));
    assert_eq!(
        lines(&metrics, "flagger_canary_status"),
        [r#"flagger_canary_status{name="mcp-server",namespace="ai-platform",cluster="prod-kr"} 2"#]
    );
    metrics.forget(&target());
    for gone in [
        "flagger_canary_status",
        "flagger_canary_weight",
        "flagger_canary_metric_analysis",
        "flagger_canary_duration_seconds",
        "canary_mcp_run_age_seconds",
        "canary_mcp_phase",
        "canary_mcp_failed_checks",
        "canary_mcp_observed_weight",
        "canary_mcp_weight_apart",
    ] {
        assert_eq!(lines(&metrics, gone), Vec::<String>::new(), "{gone}");
    }
}
