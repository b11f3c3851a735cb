use serde_json::json;

use super::*;
use crate::decide::{
    facts::{Bounds, Verb},
    plan::{
        Check, Gates, Labels, PortRef, Router, Service, Source, Strategy as Kind, ThresholdMode,
    },
    strategy::canary,
};

fn demo() -> Value {
    json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform"},
        "spec": {
            "provider": "istio",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"},
            "autoscalerRef": {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "mcp-server"},
            "service": {"port": 8080},
            "analysis": {
                "interval": "1m", "threshold": 3, "maxWeight": 30, "stepWeight": 5,
                "metrics": [
                    {"name": "request-success-rate", "thresholdRange": {"min": 99.5}, "interval": "1m"},
                    {"name": "mcp-latency", "templateRef": {"name": "mcp-latency-template", "namespace": "flagger-system"},
                     "thresholdRange": {"max": 2000}, "interval": "1m"}
                ]
            }
        }
    })
}

/// The demo with the value at a pointer replaced (objects on the way are made).
fn with(pointer: &str, value: Value) -> Value {
    let mut canary = demo();
    let mut at = &mut canary;
    for key in pointer.split('/').skip(1) {
        at = match key.parse::<usize>() {
            Ok(i) => &mut at[i],
            Err(_) => &mut at[key.replace("~1", "/")],
        };
    }
    *at = value;
    canary
}

fn parse(canary: &Value) -> Result<Plan, Vec<String>> {
    plan(canary, &Settings::default()).map_err(|all| all.iter().map(ToString::to_string).collect())
}

fn refused(canary: &Value) -> Vec<String> {
    parse(canary).unwrap_err()
}

#[test]
fn the_demo_is_read_in_full() {
    assert_eq!(
        parse(&demo()).unwrap(),
        Plan {
            namespace: "ai-platform".into(),
            name: "mcp-server".into(),
            target: "mcp-server".into(),
            router: Router::Istio,
            service: Service {
                name: "mcp-server".into(),
                port: 8080,
                port_name: "http".into(),
                target_port: PortRef::Number(8080),
                app_protocol: None,
                port_discovery: false,
                hosts: vec!["mcp-server".into()],
                gateways: vec!["mesh".into()],
                delegation: false,
            },
            scaler: Some(Scaler {
                name: "mcp-server".into(),
                primary_queries: vec![],
                primary_min: None,
                primary_max: None,
            }),
            interval: 60_000,
            threshold: 3,
            delay: 0,
            threshold_mode: ThresholdMode::Cumulative,
            strategy: Kind::Canary,
            steps: canary::steps(&[], 0, &[5, 10, 15, 20, 25, 30], &[], 0, 0),
            affinity: None,
            canary_replicas: None,
            step_weight_promotion: None,
            settle: 10_000,
            progress_deadline: 600_000,
            primary_ready: 100,
            canary_ready: 100,
            skip_analysis: false,
            suspend: false,
            rehearsal: false,
            gates: Gates::default(),
            hooks: vec![],
            revert_on_deletion: false,
            checks: vec![
                Check {
                    name: "request-success-rate".into(),
                    bounds: Bounds {
                        min: Some(99.5),
                        max: None
                    },
                    source: Source::SuccessRate,
                    interval: "1m".into(),
                    variables: vec![],
                },
                Check {
                    name: "mcp-latency".into(),
                    bounds: Bounds {
                        min: None,
                        max: Some(2000.0)
                    },
                    source: Source::Template {
                        namespace: "flagger-system".into(),
                        name: "mcp-latency-template".into(),
                    },
                    interval: "1m".into(),
                    variables: vec![],
                },
            ],
            metrics_server: None,
            labels: Labels {
                selectors: vec!["app".into(), "name".into(), "app.kubernetes.io/name".into()],
                prefixes: vec![],
            },
        }
    );
}

#[test]
fn steps_go_on_as_flagger_does() {
    for (analysis, steps) in [
        (json!({"stepWeight": 20, "maxWeight": 50}), vec![20, 40, 60]),
        (json!({"stepWeight": 50, "maxWeight": 50}), vec![50]),
        (json!({"stepWeight": 40}), vec![40, 80, 100]),
        (
            json!({"stepWeight": 30, "maxWeight": 150}),
            vec![30, 60, 90, 100],
        ),
        (json!({"stepWeight": 100}), vec![100]),
        (json!({"stepWeight": 250}), vec![100]),
        (json!({"stepWeights": [1, 2, 10, 80]}), vec![1, 2, 10, 80]),
        (
            json!({"stepWeights": [10, 120], "maxWeight": 50}),
            vec![10, 100],
        ),
        (json!({"stepWeight": 5.0, "maxWeight": 10.0}), vec![5, 10]),
    ] {
        assert_eq!(
            parse(&with("/spec/analysis", analysis.clone()))
                .unwrap()
                .weights(),
            steps,
            "{analysis}"
        );
    }
}

#[test]
fn pace_and_threshold_have_flaggers_defaults_and_clamps() {
    for (key, value, interval, threshold) in [
        ("interval", json!("1h"), 3_600_000, 3),
        ("interval", json!("30s"), 30_000, 3),
        ("interval", json!("5s"), 10_000, 3),
        ("interval", json!("0.5s"), 10_000, 3),
        ("interval", json!("soon"), 60_000, 3),
        ("interval", json!(""), 60_000, 3),
        ("interval", json!(null), 60_000, 3),
        ("threshold", json!(null), 60_000, 3),
        ("threshold", json!(0), 60_000, 1),
        ("threshold", json!(-4), 60_000, 1),
        ("threshold", json!(10), 60_000, 10),
    ] {
        let plan = parse(&with(&format!("/spec/analysis/{key}"), value.clone())).unwrap();
        assert_eq!(
            (plan.interval, plan.threshold),
            (interval, threshold),
            "{key} {value}"
        );
    }
}

#[test]
fn hosts_and_gateways_are_completed_as_flagger_does() {
    for (service, hosts, gateways) in [
        (
            json!({"port": 80, "hosts": ["a.example"]}),
            vec!["a.example", "mcp-server"],
            vec!["mesh"],
        ),
        (json!({"port": 80, "hosts": ["*"]}), vec!["*"], vec!["mesh"]),
        (
            json!({"port": 80, "name": "web", "hosts": ["web"], "gateways": ["ns/gw"]}),
            vec!["web"],
            vec!["ns/gw"],
        ),
        (json!({"port": 80, "delegation": true}), vec![], vec![]),
    ] {
        let got = parse(&with("/spec/service", service.clone()))
            .unwrap()
            .service;
        assert_eq!(got.hosts, hosts, "{service}");
        assert_eq!(got.gateways, gateways, "{service}");
    }
}

#[test]
fn the_target_port_is_a_number_or_a_name() {
    for (value, port) in [
        (json!("http"), PortRef::Name("http".into())),
        (json!(9090), PortRef::Number(9090)),
        (json!("9090"), PortRef::Number(9090)),
        (json!(0), PortRef::Number(8080)),
        (json!(null), PortRef::Number(8080)),
    ] {
        let plan = parse(&with("/spec/service/targetPort", value)).unwrap();
        assert_eq!(plan.service.target_port, port);
    }
}

#[test]
fn a_metric_is_a_check_for_each_of_its_sources() {
    let metrics = json!([
        {"name": "request-success-rate", "threshold": 99},
        {"name": "request-duration", "threshold": 500},
        {"name": "errors", "query": "sum(x)", "threshold": 0, "interval": "30s"},
        {"name": "request-success-rate", "templateRef": {"name": "success-rate"}, "thresholdRange": {"min": 99},
         "templateVariables": {"b": "2", "a": "1"}}
    ]);
    let checks = parse(&with("/spec/analysis/metrics", metrics))
        .unwrap()
        .checks;
    let short: Vec<_> = checks
        .iter()
        .map(|c| {
            (
                c.name.as_str(),
                c.bounds.min,
                c.bounds.max,
                c.interval.as_str(),
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            ("request-success-rate", Some(99.0), None, "1m"),
            ("request-duration", None, Some(500.0), "1m"),
            ("errors", None, Some(0.0), "30s"),
            ("request-success-rate", Some(99.0), None, "1m"),
            (
                "request-success-rate (success-rate)",
                Some(99.0),
                None,
                "1m"
            ),
        ]
    );
    assert_eq!(
        checks[4].source,
        Source::Template {
            namespace: "ai-platform".into(),
            name: "success-rate".into()
        }
    );
    assert_eq!(
        checks[4].variables,
        [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned())
        ]
    );
}

#[test]
fn what_is_not_carried_out_is_refused_by_name() {
    for (pointer, value, refusal) in [
        (
            "/spec/provider",
            json!("linkerd"),
            "spec.provider: the routing provider \"linkerd\" (TrafficSplit) is not carried out; set gatewayapi:v1 and service.gatewayRefs to the Service itself (group core, kind Service), as Linkerd from 2.13 on wants it",
        ),
        (
            "/spec/targetRef/kind",
            json!("DaemonSet"),
            "spec.targetRef: targets of kind \"DaemonSet\" in \"apps/v1\" are not carried out yet; name a Deployment of apps/v1",
        ),
        (
            "/spec/autoscalerRef/kind",
            json!("HorizontalPodAutoscaler"),
            "spec.autoscalerRef: autoscalers of kind \"HorizontalPodAutoscaler\" in \"keda.sh/v1alpha1\" are not carried out yet; name a ScaledObject of keda.sh/v1alpha1, or leave autoscalerRef out",
        ),
        (
            "/spec/autoscalerRef/canaryScalerQueries",
            json!({"q": "x"}),
            "spec.autoscalerRef.canaryScalerQueries: another scaling of the canary is not carried out yet; take the field out",
        ),
        (
            "/spec/ingressRef",
            json!({"name": "x"}),
            "spec.ingressRef: routing through an Ingress is not carried out yet; take the field out",
        ),
        (
            "/spec/service/headless",
            json!(true),
            "spec.service.headless: a headless Service is not carried out yet; take the field out, or set it to false",
        ),
        (
            "/spec/service/trafficDistribution",
            json!("PreferClose"),
            "spec.service.trafficDistribution: a traffic distribution is not carried out yet; take the field out",
        ),
        (
            "/spec/analysis/alerts",
            json!([{"name": "x"}]),
            "spec.analysis.alerts: sending alerts is not carried out yet; take the field out",
        ),
    ] {
        assert_eq!(refused(&with(pointer, value)), [refusal], "{pointer}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_path() {
    let metric = "spec.analysis.metrics[0]";
    for (pointer, value, refusal) in [
        ("/spec/service/port", json!(null), "spec.service.port: the port is missing; give the port of the Service".to_owned()),
        ("/spec/service/port", json!("80"), "spec.service.port: a string stands where a whole number belongs; write a whole number".into()),
        ("/spec/targetRef/name", json!("Web_1"), "spec.targetRef.name: \"Web_1\" is not a name in Kubernetes; use lower-case letters, digits and dashes".into()),
        ("/spec/analysis/stepWeight", json!(null), "spec.analysis.stepWeight: no step is given; give stepWeight, or stepWeights; or iterations, for blue/green".into()),
        ("/spec/analysis/stepWeights", json!([10, 20]), "spec.analysis.stepWeights: stepWeight is given too; keep one of the two".into()),
        ("/spec/analysis/settle", json!("a bit"), "spec.analysis.settle: \"a bit\" is not a duration of at most a day; write a duration like 10s".into()),
        ("/spec/analysis/metrics/0", json!({"name": "canary-errors", "thresholdRange": {"max": 80}}),
         format!("{metric}.name: there is no built-in metric \"canary-errors\"; give a query or a templateRef, or use one of request-success-rate (percent without a 5xx), request-duration (99th percentile in ms), error-rate, request-duration-p50, request-duration-p90, request-duration-p95, request-duration-p99, cpu-usage, memory-usage")),
        ("/spec/analysis/metrics/0", json!({"name": "request-duration"}),
         format!("{metric}: the metric \"request-duration\" has no bound, so that no value could fail it; give thresholdRange.min or thresholdRange.max")),
        ("/spec/analysis/metrics/0", json!({"name": "request-duration", "thresholdRange": {"max": 1}, "interval": "1m]) or vector(0"}),
         format!("{metric}.interval: \"1m]) or vector(0\" is not a duration; write a duration like 1m")),
        ("/metadata/annotations/canary-mcp.dev~1gate", json!("promotion, trafic"),
         "metadata.annotations[canary-mcp.dev/gate]: there is no gate \"trafic\"; write some of rollout, traffic, promotion, or take the annotation off".into()),
        ("/spec/autoscalerRef/primaryScalerReplicas", json!({"minReplicas": 5, "maxReplicas": 2}),
         "spec.autoscalerRef.primaryScalerReplicas: minReplicas 5 is greater than maxReplicas 2; make it at most maxReplicas".into()),
        ("/spec/service/delegation", json!(true), String::new()),
    ] {
        if refusal.is_empty() {
            assert!(parse(&with(pointer, value)).is_ok());
        } else {
            assert_eq!(refused(&with(pointer, value)), [refusal], "{pointer}");
        }
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let canary = json!({
        "metadata": {"name": "x", "namespace": "y"},
        "spec": {"provider": "nginx", "analysis": {"iterations": 10, "webhooks": [{}], "metrics": [{}]}}
    });
    let paths: Vec<_> = plan(&canary, &Settings::default())
        .unwrap_err()
        .into_iter()
        .map(|r| r.path)
        .collect();
    assert_eq!(
        paths,
        [
            "spec.provider",
            "spec.targetRef",
            "spec.service",
            "spec.analysis.metrics[0].name",
            "spec.analysis.webhooks[0].name",
            "spec.analysis.webhooks[0].url",
        ]
    );
}

#[test]
fn gates_adoption_and_requests_are_annotations() {
    let gated = with(
        "/metadata/annotations/canary-mcp.dev~1gate",
        json!("promotion"),
    );
    assert!(parse(&gated).unwrap().gates.promotion);
    assert!(!adopt(&gated));
    assert!(adopt(&with(
        "/metadata/annotations/canary-mcp.dev~1adopt",
        json!("true")
    )));
    assert_eq!(request(&gated), None);
    let asked = with(
        "/metadata/annotations/canary-mcp.dev~1request",
        json!(r#"{"id":"7c1e","verb":"promote","run":"r1","skip":true,"by":"ann"}"#),
    );
    assert_eq!(
        request(&asked),
        Some(Ok(Request {
            id: "7c1e".into(),
            verb: Verb::Promote,
            run: Some("r1".into()),
            skip: true,
            to: None,
            reason: None,
            by: Some("ann".into()),
            at: None,
        }))
    );
    let nonsense = with(
        "/metadata/annotations/canary-mcp.dev~1request",
        json!("now!"),
    );
    assert_eq!(
        request(&nonsense).unwrap().unwrap_err(),
        "annotation canary-mcp.dev/request of Canary ai-platform/mcp-server is not a request: expected ident at line 1 column 2; write JSON with id, verb (promote, rollback or reset) and run, or use a tool"
    );
}
