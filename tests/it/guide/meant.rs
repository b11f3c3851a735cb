//! What each manifest says, for [`super::meaning`].

/// By name; `told` is what a dry run says before.
#[expect(
    clippy::needless_raw_string_hashes,
    reason = "some have quotes, all look alike"
)]
pub(super) const MEANT: [(&str, &str); 28] = [
    (
        "mcp-server",
        r#"
refused: spec.autoscalerRef.canaryScalerQueries: another scaling of the canary is not carried out yet; take the field out
without: canary on istio, 5 intervals of 60 s, 5 failed checks
steps: 10%, 20%, 30%, 40%, 50%
check: request-success-rate min 99 over 1m
check: request-duration max 500 over 1m
hook: rollout load-test http://flagger-loadtester.test/ 5 s with cmd
"#,
    ),
    (
        "mcp-server-chart",
        r#"
canary on istio, 6 intervals of 60 s, 3 failed checks
steps: 5%, 10%, 15%, 20%, 25%, 30%
check: request-success-rate min 99.5 over 1m
check: mcp-tool-call-latency max 2000 over 1m
"#,
    ),
    (
        "overview",
        r#"
canary on istio, 5 intervals of 60 s, 5 failed checks
steps: 10%, 20%, 30%, 40%, 50%
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
"#,
    ),
    (
        "canary",
        r#"
canary on istio, 10 intervals of 60 s, 10 failed checks
steps: 5%, 10%, 15%, 20%, 25%, 30%, 35%, 40%, 45%, 50%
check: request-success-rate min 99 over 1m
check: request-duration max 500 over 1m
hook: rollout load-test http://flagger-loadtester.test/ 5 s with cmd, type
"#,
    ),
    (
        "ab-testing",
        r#"
ab-testing on istio, 10 intervals of 60 s, 10 failed checks
steps: the match x10
cookie: flagger-cookie for 86400 s
check: request-success-rate min 99 over 1m
"#,
    ),
    (
        "blue-green",
        r#"
blue-green on istio, 11 intervals of 60 s, 10 failed checks
steps: primary x10, 100%
check: request-success-rate min 99 over 1m
hook: rollout smoke-tests http://flagger-loadtester/ 30 s with cmd, type
"#,
    ),
    (
        "mirroring",
        r#"
blue-green on istio, 11 intervals of 60 s, 10 failed checks
steps: copies of 100% x10, 100%
check: request-duration max 500 over 1m
check: error-rate max 1 over 1m
"#,
    ),
    (
        "alerts",
        r#"
not applied: Canary.flagger.app "myapp" is invalid: spec.targetRef: Required value
in full: refused: spec.analysis.alerts: sending alerts is not carried out yet; take the field out
without: canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "flux",
        r#"
canary on istio, 5 intervals of 60 s, 5 failed checks
steps: 10%, 20%, 30%, 40%, 50%
check: request-success-rate min 99 over 1m
check: request-duration max 500 over 1m
"#,
    ),
    (
        "payments",
        r#"
refused: spec.analysis.alerts: sending alerts is not carried out yet; take the field out
without: canary on istio, 10 intervals of 120 s, 3 failed checks
steps: 5%, 10%, 15%, 20%, 25%, 30%, 35%, 40%, 45%, 50%
check: request-success-rate min 99.95 over 1m
check: request-success-rate (request-success-rate) min 99.95 over 1m
check: latency-p99 max 200 over 1m
check: payment-error-rate max 0.01 over 1m
hook: rollout load-test http://loadtester.test/ 60 s with cmd, type
hook: rollout acceptance-test http://loadtester.test/ 30 s with cmd, type
hook: confirm-promotion confirm-promotion http://flagger-loadtester/gate/approve 10 s
"#,
    ),
    (
        "recommendation",
        r#"
refused: spec.analysis.alerts: sending alerts is not carried out yet; take the field out
without: ab-testing on istio, 168 intervals of 3600 s, 3 failed checks
steps: the match x168
cookie: recommendation-version for 604800 s
check: request-success-rate min 99.5 over 5m
check: click-through-rate min 5 over 1h
check: conversion-rate min 2 over 1h
hook: event daily-report http://analytics-service/webhooks/ab-test-report 10 s with eventType of [AnalysisComplete]
told: spec.analysis.threshold is not given: 3 failed analyses end the run
told: the query of check click-through-rate asks for version="canary": no pod has that label, the canary is recommendation-api itself
told: the query of check conversion-rate asks for version="canary": no pod has that label, the canary is recommendation-api itself
"#,
    ),
    (
        "user-service",
        r#"
refused: spec.analysis.alerts: sending alerts is not carried out yet; take the field out
without: blue-green on istio, 11 intervals of 60 s, 3 failed checks
steps: primary x10, 100%
check: request-success-rate min 99.9 over 1m
check: database-errors max 0 over 1m
hook: pre-rollout db-migration http://migration-runner/ 300 s with cmd, type
hook: rollout smoke-tests http://loadtester/ 60 s with cmd, type
hook: rollout integration-tests http://loadtester/ 120 s with cmd, type
hook: post-rollout db-cleanup http://migration-runner/ 60 s with cmd, type
hook: rollback db-rollback http://migration-runner/ 300 s with cmd, type
told: spec.analysis.threshold is not given: 3 failed analyses end the run
told: rollback hook db-rollback carries something to do: it is called at each interval, and a yes rolls the canary back; what has to be done after a rollback is a post-rollout hook with when: [failed, rolledBack]
"#,
    ),
    (
        "api-gateway",
        r#"
blue-green on istio, 11 intervals of 60 s, 3 failed checks
steps: copies of 100% x10, 100%
check: error-rate max 1 over 1m
check: memory-usage max 2048 over 1m
check: cpu-usage max 2 over 1m
hook: rollout mirror-analysis http://analyzer-service/mirror-results 30 s with cmd
told: spec.analysis.threshold is not given: 3 failed analyses end the run
told: the query of check error-rate asks for deployment api-gateway-canary: there is no such workload, the canary is api-gateway itself
told: the query of check memory-usage asks for pod api-gateway-canary: there is no such workload, the canary is api-gateway itself
told: the query of check cpu-usage asks for pod api-gateway-canary: there is no such workload, the canary is api-gateway itself
"#,
    ),
    (
        "us-east",
        r#"
not applied: Canary.flagger.app "api-gateway-us-east" is invalid: spec.targetRef: Required value
in full: blue-green on istio, 11 intervals of 60 s, 3 failed checks
steps: primary x10, 100%
ready: 100% primary, 0% canary
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
told: spec.analysis.canaryReadyThreshold is 0: one ready pod is enough; requests never go to a canary without any
"#,
    ),
    (
        "eu-west",
        r#"
not applied: Canary.flagger.app "api-gateway-eu-west" is invalid: spec.targetRef: Required value
in full: blue-green on istio, 11 intervals of 60 s, 3 failed checks
steps: primary x10, 100%
hook: pre-rollout check-us-east-status http://region-coordinator/check-status 600 s with canary, region
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "multi-provider",
        r#"
not applied: Canary.flagger.app "multi-provider-app" is invalid: spec.targetRef: Required value
in full: canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
check: request-success-rate min 99 over 1m
check: request-success-rate (success-rate) min 99 over 1m
check: apm-error-rate max 1 over 1m
check: business-kpi min 100 over 5m
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "progressive-mirroring",
        r#"
refused: spec.analysis.metrics[0].name: there is no built-in metric "canary-errors"; give a query or a templateRef, or use one of request-success-rate (percent without a 5xx), request-duration (99th percentile in ms), error-rate, request-duration-p50, request-duration-p90, request-duration-p95, request-duration-p99, cpu-usage, memory-usage
without: blue-green on istio, 11 intervals of 60 s, 3 failed checks
steps: copies of 10%, copies of 20%, copies of 30%, copies of 40%, copies of 50%, copies of 60%, copies of 70%, copies of 80%, copies of 90%, copies of 100%, 100%
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "primary-cluster",
        r#"
not applied: Canary.flagger.app "myapp-primary-cluster" is invalid: spec.targetRef: Required value
in full: canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
hook: post-rollout notify-secondary-cluster https://secondary-cluster-api/trigger-deployment 30 s with action, cluster
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "secondary-cluster",
        r#"
not applied: Canary.flagger.app "myapp-secondary-cluster" is invalid: spec.targetRef: Required value
in full: canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
hook: pre-rollout wait-for-primary http://cluster-coordinator/check-primary-status 600 s with canary, primary-cluster
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "feature-flag",
        r#"
canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
hook: pre-rollout enable-feature-flag http://feature-flag-service/api/flags 10 s with body, method
hook: rollout test-feature-flag http://loadtester/ 60 s with cmd
hook: rollback disable-feature-flag http://feature-flag-service/api/flags 10 s with body, method
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
told: rollback hook disable-feature-flag carries something to do: it is called at each interval, and a yes rolls the canary back; what has to be done after a rollback is a post-rollout hook with when: [failed, rolledBack]
"#,
    ),
    (
        "spot",
        r#"
refused: spec.service: the service is missing; give at least service.port
refused: spec.analysis.canaryAnalysis.templateVariables: changing the canary's pods is not carried out yet; take the field out
refused: spec.analysis.stepWeight: no step is given; give stepWeight, or stepWeights; or iterations, for blue/green
"#,
    ),
    (
        "good-metrics",
        r#"
refused: spec.analysis.metrics[3].name: there is no built-in metric "conversion-rate"; give a query or a templateRef, or use one of request-success-rate (percent without a 5xx), request-duration (99th percentile in ms), error-rate, request-duration-p50, request-duration-p90, request-duration-p95, request-duration-p99, cpu-usage, memory-usage
without: canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
check: request-success-rate min 99.5 over 1m
check: request-duration-p99 max 500 over 1m
check: cpu-usage max 80 over 1m
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "conservative",
        r#"
canary on istio, 20 intervals of 300 s, 3 failed checks
steps: 5%, 10%, 15%, 20%, 25%, 30%, 35%, 40%, 45%, 50% x11
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
"#,
    ),
    (
        "aggressive",
        r#"
canary on istio, 5 intervals of 60 s, 10 failed checks
steps: 20%, 40%, 60%, 80% x2
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
"#,
    ),
    (
        "load-test-hooks",
        r#"
canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
hook: rollout load-test http://loadtester/ 60 s with cmd, type
hook: rollout load-test-50percent http://loadtester/ 120 s with cmd, type
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "secrets",
        r#"
not applied: Canary.flagger.app "myapp" is invalid: spec.targetRef: Required value
in full: canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
hook: rollout acceptance-test http://loadtester/ 10 s with cmd
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
    (
        "staging",
        r#"
not applied: Canary.flagger.app "myapp" is invalid: spec.targetRef: Required value
in full: canary on istio, 5 intervals of 30 s, 3 failed checks
steps: 20%, 40%, 60%, 80%, 100%
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
"#,
    ),
    (
        "canary-app",
        r#"
not applied: Canary.flagger.app "canary-app" is invalid: spec.analysis: Required value
in full: refused: spec.autoscalerRef: autoscalers of kind "HorizontalPodAutoscaler" in "autoscaling/v2" are not carried out yet; name a ScaledObject of keda.sh/v1alpha1, or leave autoscalerRef out
without: canary on istio, 5 intervals of 60 s, 3 failed checks
steps: 10%, 20%, 30%, 40%, 50%
told: spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; add a metric, request-success-rate for one
told: spec.analysis.threshold is not given: 3 failed analyses end the run
"#,
    ),
];
