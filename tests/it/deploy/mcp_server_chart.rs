//! `deploy/mcp-server-chart`: what it renders, what it refuses, and that an engine carries it out.

use canary_mcp::{
    api::{
        objects::{
            CANARY, DEPLOYMENT, Kind, METRIC_TEMPLATE, ObjectExt, SCALED_OBJECT, SERVICE,
            VIRTUAL_SERVICE,
        },
        parse::{self, Settings},
    },
    decide::{
        plan::{PortRef, Source},
        state::Phase,
    },
};
use kube::Client;
use serde_json::{Value, json};

use super::{helm, objects, path, schemas::judge};
use crate::{
    processes::child::Dir,
    support::{NAME, Rig, World as _, image, sequence},
    tools,
};

const NAMESPACE: &str = "ai-platform";
/// A Canary with everything that the guide's chart has.
pub(super) const ROLLED_OUT: &[&str] = &["--set", "flagger.enabled=true"];

/// What helm makes of a chart of `deploy/`, or what it refuses. `None` without helm.
pub(super) fn render(
    chart: &str,
    release: &str,
    namespace: &str,
    arguments: &[&str],
) -> Option<Result<Vec<Value>, String>> {
    let ran = helm()?
        .current_dir(path(""))
        .args(["template", release, chart, "--namespace", namespace])
        .args(arguments)
        .output()
        .unwrap();
    Some(if ran.status.success() {
        Ok(objects(&String::from_utf8(ran.stdout).unwrap()))
    } else {
        Err(String::from_utf8(ran.stderr).unwrap())
    })
}

fn rendered(arguments: &[&str]) -> Option<Vec<Value>> {
    Some(render("mcp-server-chart", NAME, NAMESPACE, arguments)?.unwrap_or_else(|e| panic!("{e}")))
}

/// Renders with these values, which stand in a file.
fn with(values: &Value) -> Option<Result<Vec<Value>, String>> {
    let dir = Dir::new();
    let file = dir.path("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    render(
        "mcp-server-chart",
        NAME,
        NAMESPACE,
        &["--values", file.to_str().unwrap()],
    )
}

fn one<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    let mut found = all.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    object
}

fn kinds(all: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = all.iter().map(|o| o["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn every_field_of_the_canary_is_carried_out() {
    let Some(all) = rendered(ROLLED_OUT) else {
        return;
    };
    assert_eq!(
        kinds(&all),
        [
            "Canary",
            "Deployment",
            "MetricTemplate",
            "MetricTemplate",
            "PodDisruptionBudget",
            "ScaledObject",
            "ServiceAccount"
        ]
    );
    let plan = parse::plan(one(&all, "Canary"), &Settings::default()).unwrap();
    assert_eq!(
        (plan.namespace.as_str(), plan.name.as_str()),
        (NAMESPACE, NAME)
    );
    assert_eq!(plan.target, NAME);
    assert_eq!(plan.weights(), [5, 10, 15, 20, 25, 30]);
    assert_eq!((plan.interval, plan.threshold), (60_000, 3));
    assert_eq!(plan.progress_deadline, 300_000);
    assert_eq!((plan.skip_analysis, plan.gates.promotion), (false, false));
    assert_eq!(
        (plan.service.port, plan.service.name.as_str()),
        (8080, NAME)
    );
    assert_eq!(plan.service.target_port, PortRef::Name("http".to_owned()));
    assert_eq!(plan.service.gateways, ["mesh"]);
    let scaler = plan.scaler.unwrap();
    assert_eq!(
        (scaler.primary_min, scaler.primary_max),
        (Some(2), Some(20))
    );
    assert_eq!(
        scaler.primary_queries,
        [(
            "queue-depth".to_owned(),
            r#"sum(mcp_request_queue_depth{namespace="ai-platform",pod=~"mcp-server-primary-[0-9a-z]+-[0-9a-z]+"})"#
                .to_owned()
        )]
    );
    let checks: Vec<_> = plan
        .checks
        .iter()
        .map(|c| (c.name.as_str(), c.bounds.min, c.bounds.max, &c.source))
        .collect();
    let template = |name: &str| Source::Template {
        namespace: "flagger-system".to_owned(),
        name: name.to_owned(),
    };
    assert_eq!(
        checks,
        [
            (
                "request-success-rate",
                Some(99.5),
                None,
                &Source::SuccessRate
            ),
            (
                "mcp-tool-call-success",
                Some(95.0),
                None,
                &template("mcp-success-rate")
            ),
            (
                "mcp-tool-call-latency",
                None,
                Some(2000.0),
                &template("mcp-latency-template")
            ),
        ]
    );
}

#[test]
fn what_every_value_of_flagger_says_is_carried_out_too() {
    let values = json!({
        "fullnameOverride": "search",
        "service": {"port": 80, "portName": "http2", "annotations": {"team": "search"}},
        "autoscaling": {"enabled": false},
        "metrics": {"podMonitor": {"enabled": true}},
        "flagger": {
            "enabled": true,
            "gateway": "istio-system/public",
            "hosts": ["search.example"],
            "gatePromotion": true,
            "analysis": {
                "interval": "30s", "threshold": 5, "maxWeight": 60, "stepWeight": 20, "stepWeightPromotion": 50,
                "successRate": {"enabled": false},
                "mcpSuccessRate": {"enabled": false},
                "mcpLatency": {"enabled": false},
                "metrics": [{"name": "error-rate", "interval": "1m", "thresholdRange": {"max": 1}}],
            },
            "metricTemplates": {"create": false},
        },
    });
    let Some(all) = with(&values) else { return };
    let all = all.unwrap();
    assert_eq!(
        kinds(&all),
        [
            "Canary",
            "Deployment",
            "PodDisruptionBudget",
            "PodMonitor",
            "ServiceAccount"
        ]
    );
    let plan = parse::plan(one(&all, "Canary"), &Settings::default()).unwrap();
    assert_eq!(plan.service.gateways, ["istio-system/public", "mesh"]);
    assert_eq!(plan.service.hosts, ["search.example", "search"]);
    assert_eq!((plan.service.port, plan.weights()), (80, vec![20, 40, 60]));
    assert_eq!(plan.step_weight_promotion, Some(50));
    assert!(plan.gates.promotion);
    assert_eq!(plan.scaler, None);
    assert_eq!(plan.checks.len(), 1);
}

/// Regions differ in their steps and in how many pods they have.
#[test]
fn each_region_has_values_of_its_own() {
    for (region, replicas, steps) in [
        ("kr", (Some(3), Some(30)), vec![5, 10, 15, 20, 25, 30]),
        ("jp", (Some(2), Some(15)), vec![10, 20, 30, 40]),
    ] {
        let file = format!("mcp-server-chart/values-{region}.yaml");
        let arguments = [ROLLED_OUT, &["--values", &file]].concat();
        let Some(all) = rendered(&arguments) else {
            return;
        };
        let plan = parse::plan(one(&all, "Canary"), &Settings::default()).unwrap();
        assert_eq!(plan.weights(), steps);
        let scaler = plan.scaler.unwrap();
        assert_eq!((scaler.primary_min, scaler.primary_max), replicas);
    }
}

/// Flagger's file has quoted texts that go on without indentation, which its own reader takes and ours does not: each on one line.
fn joined(yaml: &str) -> String {
    let mut text = String::with_capacity(yaml.len());
    let mut open = false;
    for line in yaml.lines() {
        text.push_str(if open { line.trim_start() } else { line });
        open ^= line.matches('\'').count() % 2 == 1;
        text.push(if open { ' ' } else { '\n' });
    }
    text
}

/// Flagger may be the engine: its definition takes what the chart renders, and drops nothing of it.
#[tokio::test(start_paused = true)]
async fn flaggers_own_definition_takes_the_canary() {
    let Some(tool) = tools::need("crds") else {
        return;
    };
    let Some(mut all) = rendered(ROLLED_OUT) else {
        return;
    };
    let further = json!({
        "fullnameOverride": "search",
        "flagger": {
            "enabled": true, "gateway": "istio-system/public", "hosts": ["search.example"], "gatePromotion": true, "skipAnalysis": true,
            "analysis": {"stepWeightPromotion": 50}, "metricTemplates": {"create": false},
        },
    });
    all.extend(with(&further).unwrap().unwrap());
    all.retain(|object| object["apiVersion"] == "flagger.app/v1beta1");
    assert_eq!(
        kinds(&all),
        ["Canary", "Canary", "MetricTemplate", "MetricTemplate"]
    );
    let theirs = std::fs::read_to_string(tool.join("flagger/crd.yaml")).unwrap();
    let theirs = serde_saphyr::from_multiple(&joined(&theirs)).unwrap();
    let rig = Rig::with_fleet(|options| options.crds = theirs);
    without_examples(&rig);
    // An unknown field is refused, not dropped.
    apply(&rig.client(), &all).await;
}

#[test]
fn helm_and_kubernetes_find_no_fault() {
    for file in ["values.yaml", "values-kr.yaml", "values-jp.yaml"] {
        let Some(mut helm) = helm() else { return };
        let chart = path("mcp-server-chart");
        helm.args(["lint", "--strict"]).arg(&chart);
        helm.arg("--values").arg(chart.join(file));
        let ran = helm.args(ROLLED_OUT).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{file}: {said}");
    }
    for settings in [
        "flagger.enabled=true",
        "flagger.enabled=false",
        "autoscaling.enabled=false,replicaCount=3",
    ] {
        let all = rendered(&["--set", settings]).unwrap();
        for version in ["1.25", "1.30", "1.37"] {
            judge(version, &all);
        }
    }
}

/// Whoever owns the replicas writes them: git does not.
#[test]
fn the_replicas_are_in_the_deployment_only_where_nobody_else_has_them() {
    for (scaler, canary, replicas) in [
        (true, true, Value::Null),
        (true, false, Value::Null),
        (false, true, Value::Null),
        (false, false, json!(1)),
    ] {
        let values = json!({"autoscaling": {"enabled": scaler}, "flagger": {"enabled": canary}});
        let Some(all) = with(&values) else { return };
        let all = all.unwrap();
        assert_eq!(one(&all, "Deployment")["spec"]["replicas"], replicas);
        // The apex is the Canary's where there is one.
        let services = all.iter().filter(|o| o["kind"] == "Service").count();
        assert_eq!(services, usize::from(!canary));
    }
    let values = json!({"autoscaling": {"enabled": false}, "replicaCount": 4});
    let all = with(&values).unwrap().unwrap();
    assert_eq!(one(&all, "Deployment")["spec"]["replicas"], 4);
    let kept = &one(&all, "Service")["metadata"]["annotations"];
    assert_eq!(kept["helm.sh/resource-policy"], "keep");
}

#[test]
fn each_copy_scales_by_its_own_pods() {
    let Some(all) = rendered(ROLLED_OUT) else {
        return;
    };
    let scaler = one(&all, "ScaledObject");
    assert_eq!(
        scaler["spec"],
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"},
            "pollingInterval": 30,
            "cooldownPeriod": 300,
            "minReplicaCount": 1,
            "maxReplicaCount": 20,
            "triggers": [{
                "name": "queue-depth",
                "type": "prometheus",
                "metadata": {
                    "serverAddress": "http://prometheus.istio-system:9090",
                    "query": r#"sum(mcp_request_queue_depth{namespace="ai-platform",pod=~"mcp-server-[0-9a-z]+-[0-9a-z]+"})"#,
                    "threshold": "2",
                },
            }],
        })
    );
    let annotations = &scaler["metadata"]["annotations"];
    assert_eq!(annotations["argocd.argoproj.io/ignore-healthcheck"], "true");
    assert_eq!(annotations["argocd.argoproj.io/sync-wave"], "-1");
}

#[test]
fn a_template_can_tell_the_canary_by_the_servers_own_label() {
    let values = json!({"flagger": {"enabled": true, "metricTemplates": {"canaryBy": "version", "namespace": ""}}});
    let Some(all) = with(&values) else { return };
    let all = all.unwrap();
    let named = |name: &str| {
        let of = |o: &&Value| o["kind"] == "MetricTemplate" && o["metadata"]["name"] == name;
        let found = all.iter().find(of).unwrap();
        assert_eq!(found["metadata"]["namespace"], NAMESPACE);
        let query = found["spec"]["query"].as_str().unwrap();
        query.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        named("mcp-success-rate"),
        r#"sum(rate(mcp_requests_total{status="success",namespace="{{ namespace }}",version="{{ canaryHash }}"}[{{ interval }}])) / sum(rate(mcp_requests_total{namespace="{{ namespace }}",version="{{ canaryHash }}"}[{{ interval }}])) * 100"#
    );
    assert_eq!(
        named("mcp-latency-template"),
        r#"histogram_quantile(0.99, sum by (le) ( rate(mcp_request_duration_seconds_bucket{namespace="{{ namespace }}",version="{{ canaryHash }}"}[{{ interval }}]) ) ) * 1000"#
    );
    let env = &one(&all, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"];
    let label = "metadata.labels['pod-template-hash']";
    assert_eq!(
        env,
        &json!([{"name": "VERSION", "valueFrom": {"fieldRef": {"fieldPath": label}}}])
    );
}

#[test]
fn what_cannot_work_is_refused() {
    let trigger = |kind: &str, wakes: bool| json!([{"name": "work", "type": kind, "wakesFromZero": wakes, "metadata": {"query": "sum(up)"}}]);
    let scaling = |min: u32, kind: &str, wakes: bool| json!({"autoscaling": {"minReplicas": min, "triggers": trigger(kind, wakes)}});
    for (values, wanted) in [
        (
            scaling(0, "prometheus", false),
            "every trigger (work) measures the pods themselves",
        ),
        (
            scaling(0, "cpu", false),
            "every trigger (work) measures the pods themselves",
        ),
        (
            json!({"flagger": {"enabled": true}, "autoscaling": {"minReplicas": 0, "triggers": trigger("cron", false)}}),
            "a primary at zero has no pod",
        ),
        (
            json!({"autoscaling": {"minReplicas": 5, "maxReplicas": 4}}),
            "autoscaling.minReplicas 5 is more than autoscaling.maxReplicas 4",
        ),
        (
            json!({"replicaCount": 3}),
            "replicaCount: the replicas are the scaler's or the Canary's",
        ),
        (
            json!({"autoscaling": {"triggers": [{"name": "", "type": "cron", "metadata": {}}]}}),
            "/autoscaling/triggers/0/name",
        ),
        (
            json!({"autoscaling": {"triggers": [{"type": "cron", "metadata": {}}]}}),
            "missing property 'name'",
        ),
        (
            json!({"flagger": {"enabled": true, "analysis": {
                "successRate": {"enabled": false}, "mcpSuccessRate": {"enabled": false}, "mcpLatency": {"enabled": false}}}}),
            "flagger.analysis has no check",
        ),
        (
            json!({"flagger": {"enabled": true, "canaryReplicas": {"minReplicas": 0}}}),
            "/flagger/canaryReplicas/minReplicas",
        ),
        (
            json!({"flagger": {"enabled": true, "provider": "linkerd"}}),
            "/flagger/provider",
        ),
        (
            json!({"fullnameOverride": "a".repeat(47)}),
            "has more than 46 characters",
        ),
        (json!({"autoscalng": {}}), "'autoscalng' not allowed"),
    ] {
        let Some(answer) = with(&values) else { return };
        let why = answer.expect_err(&values.to_string());
        assert!(why.contains(wanted), "{values}: {why}");
    }
    for (values, min) in [
        (scaling(0, "cron", false), 0),
        (scaling(0, "external-push", false), 0),
        (scaling(0, "prometheus", true), 0),
        (scaling(1, "prometheus", false), 1),
    ] {
        let all = with(&values).unwrap().unwrap();
        let scaler = one(&all, "ScaledObject");
        assert_eq!(scaler["spec"]["minReplicaCount"], min);
        // What only the chart reads is not written.
        assert_eq!(scaler["spec"]["triggers"][0]["wakesFromZero"], Value::Null);
    }
}

fn plural(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "ServiceAccount" => ("/api/v1", "serviceaccounts"),
        "Deployment" => ("/apis/apps/v1", "deployments"),
        "ScaledObject" => ("/apis/keda.sh/v1alpha1", "scaledobjects"),
        "MetricTemplate" => ("/apis/flagger.app/v1beta1", "metrictemplates"),
        "Canary" => ("/apis/flagger.app/v1beta1", "canaries"),
        other => panic!("the chart has a new kind {other}"),
    }
}

/// `kubectl apply` of what helm has rendered.
async fn apply(client: &Client, objects: &[Value]) {
    for object in objects {
        let (api, plural) = plural(object["kind"].as_str().unwrap());
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        let request = http::Request::post(format!(
            "{api}/namespaces/{namespace}/{plural}?fieldManager=helm&fieldValidation=Strict"
        ))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
        let made: Value = client.request(request).await.unwrap();
        assert_eq!(made["metadata"]["name"], object["metadata"]["name"]);
    }
}

/// Takes away what the embedded cluster has of the example manifests.
fn without_examples(rig: &Rig) {
    let here: [&Kind; 4] = [&CANARY, &SCALED_OBJECT, &DEPLOYMENT, &SERVICE];
    for kind in here {
        rig.delete(kind, NAME);
    }
    let store = rig.member().server.store();
    store
        .remove(&METRIC_TEMPLATE, "flagger-system", "mcp-latency-template")
        .unwrap();
}

/// The embedded cluster with the chart in place of the example manifests, led by an engine.
async fn released(settings: &str) -> Option<Rig> {
    // The embedded API server has no PodDisruptionBudgets.
    let settings = format!("podDisruptionBudget.enabled=false,{settings}");
    let arguments = [ROLLED_OUT, &["--set", &settings]].concat();
    let all = rendered(&arguments)?;
    let rig = Rig::without_engine(true);
    without_examples(&rig);
    apply(&rig.client(), &all).await;
    Some(rig.initialize().await)
}

#[tokio::test(start_paused = true)]
async fn a_good_image_goes_all_the_way() {
    let Some(rig) = released("flagger.metricTemplates.canaryBy=pod").await else {
        return;
    };
    rig.start("1.1.0").await;
    let seen = rig.until_phase(Phase::Succeeded).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 10),
            ("Progressing", 15),
            ("Progressing", 20),
            ("Progressing", 25),
            ("Progressing", 30),
            ("Promoting", 30),
            ("Finalising", 0),
            ("Succeeded", 0),
        ])
    );
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.1.0"));
    rig.assert_idle();
    let checks: Vec<String> = rig
        .view()
        .await
        .checks
        .iter()
        .map(|c| c.name.clone())
        .collect();
    assert_eq!(
        checks,
        [
            "request-success-rate",
            "mcp-tool-call-success",
            "mcp-tool-call-latency"
        ]
    );
    let primary = rig.object(&SCALED_OBJECT, "mcp-server-primary").unwrap();
    assert_eq!(primary.int_at("/spec/minReplicaCount"), Some(2));
    let query = r#"sum(mcp_request_queue_depth{namespace="ai-platform",pod=~"mcp-server-primary-[0-9a-z]+-[0-9a-z]+"})"#;
    assert_eq!(
        primary.str_at("/spec/triggers/0/metadata/query"),
        Some(query)
    );
    assert!(rig.object(&VIRTUAL_SERVICE, NAME).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_bad_image_comes_back() {
    let Some(rig) = released("flagger.metricTemplates.canaryBy=version").await else {
        return;
    };
    rig.start("1.2.0-errors").await;
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(
        seen,
        sequence(&[
            ("Progressing", 0),
            ("Progressing", 5),
            ("Progressing", 0),
            ("Failed", 0)
        ])
    );
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    rig.assert_idle();
    // Every fifth call fails, which the server's own metrics say as well as the mesh's.
    let view = rig.view().await;
    let success = |name: &str| view.checks.iter().find(|c| c.name == name).unwrap().value;
    for check in ["request-success-rate", "mcp-tool-call-success"] {
        let value = success(check).unwrap();
        assert!((75.0..85.0).contains(&value), "{check}: {value}");
    }
}
