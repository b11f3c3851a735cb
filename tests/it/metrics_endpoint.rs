//! `/metrics` after whole runs: Flagger's names, with the right values.

use canary_mcp::{api::objects::ObjectExt, decide::state::Phase};

use crate::support::Rig;

/// The value of one series.
fn value(rig: &Rig, series: &str) -> Option<f64> {
    let text = rig.metrics.encode().unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(series))?;
    Some(found.strip_prefix(' ')?.parse().unwrap())
}

/// `flagger_canary_NAME` of the rollout.
fn of(rig: &Rig, name: &str) -> Option<f64> {
    let labels = r#"name="mcp-server",namespace="ai-platform",cluster="prod-kr""#;
    value(rig, &format!("{name}{{{labels}}}"))
}

fn in_phase(rig: &Rig, phase: &str) -> Option<f64> {
    value(
        rig,
        &format!(
            r#"canary_mcp_phase{{name="mcp-server",namespace="ai-platform",cluster="prod-kr",phase="{phase}"}}"#
        ),
    )
}

fn check(rig: &Rig, metric: &str) -> Option<f64> {
    value(
        rig,
        &format!(
            r#"flagger_canary_metric_analysis{{name="mcp-server",namespace="ai-platform",metric="{metric}",cluster="prod-kr"}}"#
        ),
    )
}

/// Weights of primary and canary.
fn weights(rig: &Rig) -> [Option<f64>; 2] {
    ["mcp-server-primary", "mcp-server"].map(|workload| {
        value(
            rig,
            &format!(
                r#"flagger_canary_weight{{workload="{workload}",namespace="ai-platform",cluster="prod-kr"}}"#
            ),
        )
    })
}

/// Runs that ended so.
fn ended(rig: &Rig, how: &str, analysis: &str) -> Option<f64> {
    value(
        rig,
        &format!(
            r#"flagger_canary_{how}_total{{name="mcp-server",namespace="ai-platform",deployment_strategy="canary",analysis_status="{analysis}",cluster="prod-kr"}}"#
        ),
    )
}

#[tokio::test(start_paused = true)]
async fn the_metrics_follow_the_runs() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(5).await;
    let total = r#"flagger_canary_total{namespace="ai-platform",cluster="prod-kr"}"#;
    assert_eq!(value(&rig, total), Some(1.0));
    let info = r#"flagger_info{version="test",mesh_provider="istio"}"#;
    assert_eq!(value(&rig, info), Some(1.0));
    assert_eq!(of(&rig, "flagger_canary_status"), Some(1.0));
    assert_eq!(of(&rig, "canary_mcp_run_age_seconds"), None);

    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    rig.pass(1).await;
    assert_eq!(of(&rig, "flagger_canary_status"), Some(0.0));
    assert_eq!(weights(&rig), [Some(85.0), Some(15.0)]);
    assert_eq!(check(&rig, "request-success-rate"), Some(100.0));
    let latency = check(&rig, "mcp-latency").unwrap();
    assert!((100.0..500.0).contains(&latency), "{latency}");
    let age = of(&rig, "canary_mcp_run_age_seconds").unwrap();
    assert!((120.0..140.0).contains(&age), "{age}");
    assert_eq!(in_phase(&rig, "Progressing"), Some(1.0));
    assert_eq!(in_phase(&rig, "Initialized"), None);
    assert_eq!(of(&rig, "canary_mcp_failed_checks"), Some(0.0));
    assert_eq!(of(&rig, "canary_mcp_weight_apart"), Some(0.0));
    let observed = of(&rig, "canary_mcp_observed_weight").unwrap();
    assert!((8.0..12.0).contains(&observed), "of step 10: {observed}");

    rig.until_phase(Phase::Succeeded).await;
    rig.pass(5).await;
    assert_eq!(of(&rig, "flagger_canary_status"), Some(1.0));
    assert_eq!(weights(&rig), [Some(100.0), Some(0.0)]);
    assert_eq!(ended(&rig, "successes", "completed"), Some(1.0));
    assert_eq!(of(&rig, "canary_mcp_run_age_seconds"), None);

    rig.start("1.2.0-errors").await;
    rig.until_phase(Phase::Failed).await;
    rig.pass(5).await;
    assert_eq!(of(&rig, "flagger_canary_status"), Some(2.0));
    let success = check(&rig, "request-success-rate").unwrap();
    assert!((78.0..82.0).contains(&success), "{success}");
    assert_eq!(ended(&rig, "failures", "completed"), Some(1.0));
    assert_eq!(in_phase(&rig, "Failed"), Some(1.0));
    assert_eq!(of(&rig, "canary_mcp_failed_checks"), Some(3.0));
    assert_eq!(of(&rig, "canary_mcp_observed_weight"), None);

    rig.edit_spec(|spec| spec["skipAnalysis"] = true.into());
    rig.start("1.3.0").await;
    rig.until_phase(Phase::Succeeded).await;
    rig.pass(5).await;
    assert_eq!(ended(&rig, "successes", "skipped"), Some(1.0));
    assert_eq!(ended(&rig, "successes", "completed"), Some(1.0));
    assert_eq!(ended(&rig, "failures", "completed"), Some(1.0));
    let ticks = of(&rig, "flagger_canary_duration_seconds_count").unwrap();
    assert!(ticks > 10.0, "{ticks}");
}
