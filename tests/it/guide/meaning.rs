//! What each manifest of the guide means, as it stands.
//!
//! `manifests/` has every one of its Canaries and every part of one, letter by letter with the indentation that it must have had; the first line of
//! each is the document and the line. Each is applied to the embedded API server, and what that stored is read: a plan, or each refusal.

use std::{collections::BTreeMap, fmt::Write as _};

use canary_mcp::{
    api::{
        objects::{CANARY, Kind, NAMESPACE, ObjectExt, Objects},
        parse::{self, Refusal, Settings},
    },
    build::preflight,
    decide::{
        facts::Bounds,
        plan::{CanaryReplicas, Check, Hook, Plan, PlanStep, Source, ThresholdMode},
        strategy,
    },
};
use http::Request;
use serde_json::{Value, json};

use super::meant::MEANT;
use crate::support::{NAME, Rig, World as _};

macro_rules! manifests {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("manifests/", $name, ".yaml")))),*]
    };
}

const MANIFESTS: [(&str, &str); 28] = manifests![
    "mcp-server",
    "mcp-server-chart",
    "overview",
    "canary",
    "ab-testing",
    "blue-green",
    "mirroring",
    "alerts",
    "flux",
    "payments",
    "recommendation",
    "user-service",
    "api-gateway",
    "us-east",
    "eu-west",
    "multi-provider",
    "progressive-mirroring",
    "primary-cluster",
    "secondary-cluster",
    "feature-flag",
    "spot",
    "good-metrics",
    "conservative",
    "aggressive",
    "load-test-hooks",
    "secrets",
    "staging",
    "canary-app",
];

/// What the guide shows under this name.
pub(super) fn manifest(name: &str) -> Value {
    let (_, text) = MANIFESTS.iter().find(|(n, _)| *n == name).unwrap();
    serde_saphyr::from_str(text).unwrap()
}

/// A Canary from what the guide shows. A part of one gets what it leaves out: a target, a port, and steps where it has none.
fn canary(text: &str) -> Value {
    // One stands in a Helm chart.
    let text = text
        .replace("{{ .Release.Namespace }}", "ai-platform")
        .replace("{{ .Values.service.port }}", "8080")
        .replace(
            "{{ .Values.flagger.gateway }}",
            "istio-system/public-gateway",
        );
    let shown: Value = serde_saphyr::from_str(&text).unwrap();
    let mut canary = if shown.get("kind").is_some() {
        shown
    } else {
        let analysis = match shown.get("analysis") {
            Some(analysis) => analysis.clone(),
            None => shown,
        };
        let canary = json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "myapp"},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "myapp"},
                "service": {"port": 8080},
                "analysis": analysis,
            }
        });
        completed(&canary)
    };
    if canary.namespace().is_empty() {
        // kubectl's own, where a manifest names none.
        canary["metadata"]["namespace"] = "default".into();
    }
    canary
}

/// As `kubectl apply` creates it: what the API server stored, or its answer.
async fn applied(rig: &Rig, canary: &Value) -> Result<Value, String> {
    let client = rig.member().server.client();
    let post = |path: String, body: &Value| {
        Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(body).unwrap())
            .unwrap()
    };
    let namespace = canary.namespace();
    if rig
        .member()
        .server
        .store()
        .get(&NAMESPACE, "", namespace)
        .is_none()
    {
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let made: kube::Result<Value> = client
            .request(post("/api/v1/namespaces".to_owned(), &body))
            .await;
        made.unwrap();
    }
    let Kind {
        group,
        version,
        plural,
        ..
    } = CANARY;
    let path = format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}");
    let stored: kube::Result<Value> = client.request(post(path, canary)).await;
    stored.map_err(|error| {
        if let kube::Error::Api(status) = error {
            return status.message;
        }
        error.to_string()
    })
}

/// What a Canary means, for people: its plan and what is told before a run; or why there is none and, where that can just be left out, what
/// it means without it.
fn meaning(canary: &Value) -> String {
    let refused = match parse::plan(canary, &Settings::default()) {
        Ok(plan) => return said(&plan, canary),
        Err(refused) => refused,
    };
    let mut text = String::new();
    for refusal in &refused {
        writeln!(text, "refused: {refusal}").unwrap();
    }
    let rest = without(canary, &refused);
    if let Ok(plan) = parse::plan(&rest, &Settings::default()) {
        write!(text, "without: {}", said(&plan, &rest)).unwrap();
    }
    text
}

/// Without the fields that are not carried out yet and the metrics that are not known.
fn without(canary: &Value, refused: &[Refusal]) -> Value {
    let mut rest = canary.clone();
    for refusal in refused.iter().rev() {
        let unknown = refusal
            .path
            .strip_suffix(".name")
            .filter(|_| refusal.reason.starts_with("there is no built-in metric"));
        let pointer = format!(
            "/{}",
            unknown
                .unwrap_or(&refusal.path)
                .replace('[', ".")
                .replace(']', "")
                .replace('.', "/")
        );
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match rest.pointer_mut(parent) {
            Some(Value::Array(items)) => {
                items.remove(key.parse().unwrap());
            }
            Some(Value::Object(fields)) => {
                fields.remove(key);
            }
            _ => {}
        }
    }
    rest
}

/// What the guide leaves out where it says "same config as above".
fn completed(canary: &Value) -> Value {
    let mut canary = canary.clone();
    let name = canary.name().to_owned();
    let spec = &mut canary["spec"];
    if spec["targetRef"].is_null() {
        spec["targetRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
    }
    if spec["service"].is_null() {
        spec["service"] = json!({"port": 8080});
    }
    if spec["analysis"].is_null() {
        spec["analysis"] = json!({});
    }
    let analysis = &mut spec["analysis"];
    if analysis["stepWeight"].is_null() && analysis["iterations"].is_null() {
        analysis["stepWeight"] = 10.into();
        analysis["maxWeight"] = 50.into();
    }
    canary
}

fn said(plan: &Plan, canary: &Value) -> String {
    let minutes = plan.interval / 1000;
    let mode = match plan.threshold_mode {
        ThresholdMode::Cumulative => "",
        ThresholdMode::Consecutive => " in a row",
    };
    let mut text = format!(
        "{} on {}, {} intervals of {minutes} s, {} failed checks{mode}\n",
        plan.strategy.name(),
        plan.router.name(),
        strategy::total(plan),
        plan.threshold,
    );
    let steps: Vec<String> = plan.steps.iter().copied().map(step).collect();
    writeln!(text, "steps: {}", steps.join(", ")).unwrap();
    if (plan.primary_ready, plan.canary_ready) != (100, 100) {
        writeln!(
            text,
            "ready: {}% primary, {}% canary",
            plan.primary_ready, plan.canary_ready
        )
        .unwrap();
    }
    if let Some(replicas) = plan.canary_replicas {
        let name = match replicas {
            CanaryReplicas::Min => "min",
            CanaryReplicas::Primary => "primary",
            CanaryReplicas::Weight => "weight",
        };
        writeln!(text, "replicas: {name}").unwrap();
    }
    if let Some(affinity) = &plan.affinity {
        writeln!(
            text,
            "cookie: {} for {} s",
            affinity.cookie, affinity.max_age
        )
        .unwrap();
    }
    for check in &plan.checks {
        let Bounds { min, max } = check.bounds;
        let bound = |name: &str, value: Option<f64>| {
            value.map_or(String::new(), |v| format!(" {name} {v}"))
        };
        writeln!(
            text,
            "check: {}{}{} over {}",
            check.name,
            bound("min", min),
            bound("max", max),
            check.interval
        )
        .unwrap();
    }
    for hook in &plan.hooks {
        writeln!(text, "hook: {}", called(hook)).unwrap();
    }
    let queries: Vec<_> = plan.checks.iter().filter_map(inline).collect();
    let objects = Objects {
        canary: canary.clone().into(),
        ..Objects::default()
    };
    for told in preflight::warnings(plan, &objects, &queries) {
        writeln!(text, "told: {told}").unwrap();
    }
    text
}

fn inline(check: &Check) -> Option<(String, String)> {
    match &check.source {
        Source::Query(query) => Some((check.name.clone(), query.clone())),
        Source::SuccessRate | Source::Duration | Source::Named(_) | Source::Template { .. } => None,
    }
}

/// `5%`, `5% x3`, `copies of 10%`, `the match`, `primary`.
fn step(PlanStep { traffic, intervals }: PlanStep) -> String {
    let to = match (traffic.canary(), traffic.matches(), traffic.mirror()) {
        (0, false, 0) => "primary".to_owned(),
        (0, false, mirror) => format!("copies of {mirror}%"),
        (0, true, _) => "the match".to_owned(),
        (canary, _, _) => format!("{canary}%"),
    };
    if intervals == 1 {
        to
    } else {
        format!("{to} x{intervals}")
    }
}

fn called(hook: &Hook) -> String {
    let keys: Vec<&str> = hook.metadata.iter().map(|(key, _)| key.as_str()).collect();
    let mut text = format!(
        "{} {} {} {} s",
        hook.kind.name(),
        hook.name,
        hook.url,
        hook.timeout / 1000
    );
    if !keys.is_empty() {
        write!(text, " with {}", keys.join(", ")).unwrap();
    }
    if !hook.when.is_empty() {
        write!(text, " when {:?}", hook.when).unwrap();
    }
    if !hook.events.is_empty() {
        write!(text, " of {:?}", hook.events).unwrap();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn every_manifest_of_the_guide_is_applied_as_it_stands_and_says_what_it_means() {
    let rig = Rig::without_engine(true);
    // The fleet's own has the name of one of the guide's.
    rig.delete(&CANARY, NAME);
    let written: BTreeMap<&str, &str> = MEANT.into_iter().collect();
    let mut wrong = String::new();
    for (name, manifest) in MANIFESTS {
        let canary = canary(manifest);
        let says = match applied(&rig, &canary).await {
            Ok(stored) => {
                // Several of the guide's have one name.
                let (namespace, of) = (canary.namespace(), canary.name());
                rig.member()
                    .server
                    .store()
                    .remove(&CANARY, namespace, of)
                    .unwrap();
                meaning(&stored)
            }
            Err(answer) => format!(
                "not applied: {answer}\nin full: {}",
                meaning(&completed(&canary))
            ),
        };
        let expected = written.get(name).copied().unwrap_or_default();
        if says.trim_end() != expected.trim() {
            writeln!(wrong, "(\n    {name:?},\n    r#\"\n{says}\"#,\n),").unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "these say something else than is written:\n{wrong}"
    );
}
