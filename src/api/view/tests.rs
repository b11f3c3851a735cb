use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{objects::Objects, parse::Settings},
    decide::facts::Moment,
};

const NOON: Moment = Moment(1_784_635_200_000);

/// The demo rollout in its third step of six, as the cluster has it.
fn third_step() -> Objects {
    let deployment = |name: &str, tag: &str, replicas: u32| {
        Some(Arc::new(json!({
            "metadata": {"name": name, "namespace": "ai-platform"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"spec": {"containers": [{"name": "server", "image": format!("registry.example/mcp-server:{tag}")}]}}
            },
            "status": {"readyReplicas": replicas}
        })))
    };
    let scaler = |name: &str, annotations: Value| {
        Some(Arc::new(json!({
            "kind": "ScaledObject",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"minReplicaCount": 1, "maxReplicaCount": 20}
        })))
    };
    Objects {
        cluster: "prod-kr".into(),
        canary: Arc::new(canary()),
        target: deployment("mcp-server", "1.1.0", 1),
        primary: deployment("mcp-server-primary", "1.0.0", 2),
        scaler: scaler("mcp-server", json!({})),
        primary_scaler: scaler("mcp-server-primary", json!({})),
        events: vec![
            Arc::new(
                json!({"lastTimestamp": "2026-07-21T11:59:30Z", "type": "Warning", "message": "Halt\u{1b}[0m\nadvancement"}),
            ),
            Arc::new(
                json!({"eventTime": "2026-07-21T11:59:00.000000Z", "type": "Normal", "note": "Advance mcp-server.ai-platform canary weight 15"}),
            ),
        ],
        led_by: Some("host-1".into()),
        ..Objects::default()
    }
}

fn canary() -> Value {
    json!({
        "metadata": {"name": "mcp-server", "namespace": "ai-platform", "generation": 1},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"},
            "service": {"port": 8080},
            "analysis": {"interval": "1m", "threshold": 3, "maxWeight": 30, "stepWeight": 5, "metrics": [
                {"name": "request-success-rate", "thresholdRange": {"min": 99.5}},
                {"name": "mcp-latency", "templateRef": {"name": "mcp-latency-template"}, "thresholdRange": {"max": 2000}}
            ]}
        },
        "status": {
            "phase": "Progressing", "canaryWeight": 15, "failedChecks": 0,
            "lastPromotedSpec": "v1-live", "lastTransitionTime": "2026-07-21T11:59:00Z",
            "nextCheckAt": "2026-07-21T12:00:00Z",
            "run": {"id": "r8", "n": 8, "revision": "v1-new", "template": "mcp-server-new", "stage": "analysing",
                    "startedAt": "2026-07-21T11:56:30Z", "stageAt": "2026-07-21T11:57:00Z"},
            "canaryAnalysis": {
                "checks": [
                    {"name": "request-success-rate", "value": 99.9, "min": 99.5, "verdict": "pass", "query": "a", "at": "2026-07-21T11:59:00Z"},
                    {"name": "mcp-latency", "value": 182.31, "max": 2000.0, "verdict": "pass", "at": "2026-07-21T11:59:00Z",
                     "query": "histogram_quantile(0.99, sum(rate(x[1m])) by (le)) * 1000"}
                ],
                "steps": [{"weight": 5, "at": "2026-07-21T11:57:00Z", "verdict": "pass",
                           "checks": [{"name": "mcp-latency", "value": 180.5, "verdict": "pass"}]},
                          {"weight": 10, "at": "2026-07-21T11:58:00Z", "verdict": "pass"},
                          {"weight": 15, "at": "2026-07-21T11:59:00Z"}],
                "share": 14.6, "shareAt": "2026-07-21T11:59:00Z"
            }
        }
    })
}

fn of(objects: &Objects) -> RolloutView {
    view(objects, NOON, &Settings::default())
}

/// The third step with fields of its status replaced.
fn with(status: &Value) -> RolloutView {
    let mut objects = third_step();
    let mut canary = canary();
    for (key, value) in status.as_object().unwrap() {
        canary["status"][key] = value.clone();
    }
    objects.canary = Arc::new(canary);
    of(&objects)
}

#[test]
fn a_rollout_is_shown_in_full() {
    assert_eq!(
        serde_json::to_value(of(&third_step())).unwrap(),
        json!({
            "cluster": "prod-kr", "namespace": "ai-platform", "name": "mcp-server",
            "strategy": "canary", "phase": "Progressing",
            "weight": {"written": 15, "observed": 14.6, "observed_at": "2026-07-21T11:59:00Z"},
            "step": {"n": 3, "of": 6},
            "run": "r8",
            "revision": {"live": "v1-live", "canary": "v1-21727c780163aa350f5e34b965f5c571dbfc9ab9f7b2940c71e76eca24bdf835"},
            "image": {"live": "registry.example/mcp-server:1.0.0", "canary": "registry.example/mcp-server:1.1.0"},
            "failed_checks": 0, "threshold": 3,
            "checks": [
                {"name": "request-success-rate", "value": 99.9, "min": 99.5, "verdict": "pass", "query": "a", "at": "2026-07-21T11:59:00Z"},
                {"name": "mcp-latency", "value": 182.31, "max": 2000.0, "verdict": "pass", "at": "2026-07-21T11:59:00Z",
                 "query": "histogram_quantile(0.99, sum(rate(x[1m])) by (le)) * 1000"}
            ],
            "steps": [
                {"weight": 5, "at": "2026-07-21T11:57:00Z", "verdict": "pass", "checks": [{"name": "mcp-latency", "value": 180.5, "verdict": "pass"}]},
                {"weight": 10, "at": "2026-07-21T11:58:00Z", "verdict": "pass"},
                {"weight": 15, "at": "2026-07-21T11:59:00Z"}
            ],
            "copies": {
                "primary": {"replicas": 2, "ready": 2, "scaler": {"kind": "ScaledObject", "name": "mcp-server-primary", "min": 1, "max": 20, "paused": false}},
                "canary": {"replicas": 1, "ready": 1, "scaler": {"kind": "ScaledObject", "name": "mcp-server", "min": 1, "max": 20, "paused": false}}
            },
            "events": [
                {"at": "2026-07-21T11:59:00Z", "warning": false, "message": "Advance mcp-server.ai-platform canary weight 15"},
                {"at": "2026-07-21T11:59:30Z", "warning": true, "message": "Halt[0m advancement"}
            ],
            "elapsed_seconds": 210,
            "estimated_end": "2026-07-21T12:03:10Z",
            "next_check_at": "2026-07-21T12:00:00Z",
            "led_by": "host-1",
            "cursor": "run8:Progressing:15"
        })
    );
}

#[test]
fn the_line_is_what_a_person_would_say() {
    let failing = json!({"failedChecks": 1, "canaryAnalysis": {"checks": [
        {"name": "request-success-rate", "value": 80.125, "min": 99.5, "verdict": "fail", "query": "a", "at": "2026-07-21T11:59:00Z"},
        {"name": "mcp-latency", "max": 2000.0, "verdict": "noData", "at": "2026-07-21T11:59:00Z", "query": "b"}
    ]}});
    let run = |stage: &str, reason: Option<&str>| json!({"id": "r8", "n": 8, "revision": "v1-new", "template": "t", "stage": stage, "reason": reason});
    for (status, said) in [
        (
            json!({}),
            "15% to canary, success 99.9% (min 99.5), p99 182 ms (max 2000), step 3 of 6",
        ),
        (
            failing,
            "15% to canary, success 80.12% (min 99.5) FAILED, mcp-latency no data (max 2000), step 3 of 6, failed checks 1 of 3",
        ),
        (
            json!({"canaryWeight": 0, "run": run("starting", None)}),
            "registry.example/mcp-server:1.1.0 starts, no traffic yet",
        ),
        (
            json!({"phase": "WaitingPromotion", "canaryWeight": 30, "run": run("gated", None)}),
            "30% to canary, success 99.9% (min 99.5), p99 182 ms (max 2000), step 6 of 6, promotion gate closed",
        ),
        (
            json!({"canaryWeight": 0, "run": run("reverting", Some("failed checks threshold reached 3"))}),
            "rolling back: failed checks threshold reached 3; 0% to canary",
        ),
        (
            json!({"phase": "Promoting", "canaryWeight": 30, "run": run("restoring", Some("primary not ready"))}),
            "rolling back: primary not ready; 30% to canary",
        ),
        (
            json!({"phase": "Promoting", "canaryWeight": 30, "run": run("copying", None)}),
            "promoting registry.example/mcp-server:1.1.0, 30% still to canary",
        ),
        (
            json!({"phase": "Finalising", "canaryWeight": 0, "run": run("settling", None)}),
            "registry.example/mcp-server:1.0.0 promoted, all traffic on the primary",
        ),
        (
            json!({"phase": "Succeeded", "canaryWeight": 0, "run": run("idle", None)}),
            "succeeded, registry.example/mcp-server:1.0.0 is live",
        ),
        (
            json!({"phase": "Failed", "canaryWeight": 0, "run": run("idle", Some("failed checks threshold reached 3"))}),
            "failed: failed checks threshold reached 3; registry.example/mcp-server:1.0.0 is live",
        ),
        (
            json!({"phase": "Failed", "canaryWeight": 100, "run": run("idle", Some("promotion failed"))}),
            "failed: promotion failed; 100% to canary (registry.example/mcp-server:1.1.0)",
        ),
        (
            json!({"phase": "Initialized", "canaryWeight": 0, "run": run("idle", None)}),
            "ready for a first rollout, registry.example/mcp-server:1.0.0 is live",
        ),
        (
            json!({"phase": "Initializing", "canaryWeight": 0, "run": null}),
            "being set up",
        ),
    ] {
        let view = with(&status);
        assert_eq!(
            line(&view),
            format!("prod-kr ai-platform/mcp-server: {said}")
        );
    }
}

#[test]
fn the_summary_says_what_is_waited_for_and_next_what_to_call() {
    let gated = with(&json!({"phase": "WaitingPromotion", "canaryWeight": 30,
        "run": {"id": "r8", "n": 8, "revision": "v1-new", "template": "t", "stage": "gated"}}));
    assert_eq!(
        summary(&gated),
        "prod-kr ai-platform/mcp-server: 30% to canary, success 99.9% (min 99.5), p99 182 ms (max 2000), step 6 of 6, promotion gate closed; waits for a person to open the promotion gate (call promote to go on, or rollback)."
    );
    assert_eq!(
        next(&gated),
        r#"call promote {"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform"} to open the gate, or rollback {"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform"}; or call get_status {"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform","since":"run8:WaitingPromotion:30","wait_seconds":50} for the next change"#
    );
    assert_eq!(
        next(&with(&json!({}))),
        r#"call get_status {"cluster":"prod-kr","name":"mcp-server","namespace":"ai-platform","since":"run8:Progressing:15","wait_seconds":50} for the next change"#
    );
    assert_eq!(
        next(&with(&json!({"phase": "Failed", "canaryWeight": 100}))),
        "look at reason and events and repair the primary; the traffic then returns to it by itself, and start_canary works again"
    );
    let mut alone = third_step();
    alone.led_by = None;
    assert_eq!(
        of(&alone).waiting_for.unwrap().what,
        "an engine: nobody holds the Lease of this cluster"
    );
}

#[test]
fn pods_that_do_not_come_up_are_told() {
    let mut objects = third_step();
    let mut canary = canary();
    canary["status"]["canaryWeight"] = json!(0);
    canary["status"]["run"]["stage"] = json!("starting");
    objects.canary = Arc::new(canary);
    objects.pods = vec![Arc::new(json!({
        "metadata": {"name": "mcp-server-abc", "labels": {"app": "mcp-server"}},
        "status": {"containerStatuses": [{"name": "server", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
    }))];
    let mut target = (**objects.target.as_ref().unwrap()).clone();
    target["status"] = json!({});
    objects.target = Some(Arc::new(target));
    assert_eq!(
        of(&objects).waiting_for,
        Some(WaitingFor {
            what: "the canary's pods to become ready (0 of 1 are)".into(),
            since: Some("2026-07-21T11:57:00Z".into()),
            how: Some(
                "container server of pod mcp-server-abc: CrashLoopBackOff, 2 restarts".into()
            ),
            opens: false,
        })
    );
}

#[test]
fn the_table_has_a_row_for_each_and_a_refused_canary_says_why() {
    let row = row(&third_step(), NOON);
    assert_eq!(
        serde_json::to_value(row).unwrap(),
        json!({"cluster": "prod-kr", "namespace": "ai-platform", "name": "mcp-server", "phase": "Progressing", "weight": 15,
               "failed_checks": 0, "image": "registry.example/mcp-server:1.0.0",
               "canary_image": "registry.example/mcp-server:1.1.0", "since": "2026-07-21T11:59:00Z"})
    );
    let mut objects = third_step();
    let mut canary = canary();
    canary["spec"]["provider"] = json!("nginx");
    canary["status"]["phase"] = json!("Initialized");
    objects.canary = Arc::new(canary);
    assert_eq!(
        of(&objects).reason.unwrap(),
        "spec.provider: the routing provider \"nginx\" is not carried out yet; set one of istio, gatewayapi:v1, kubernetes"
    );
}

#[test]
fn a_canary_that_is_spoilt_in_mid_run_is_waited_for() {
    let mut objects = third_step();
    let mut canary = canary();
    canary["spec"]["provider"] = json!("nginx");
    objects.canary = Arc::new(canary);
    let view = of(&objects);
    assert_eq!(view.reason, None);
    assert_eq!(
        view.waiting_for,
        Some(WaitingFor {
            what: "a Canary that can be carried out, it was changed in mid-run".into(),
            since: Some("2026-07-21T11:57:00Z".into()),
            how: Some("spec.provider: the routing provider \"nginx\" is not carried out yet; set one of istio, gatewayapi:v1, kubernetes".into()),
            opens: false,
        })
    );
}

#[test]
fn steps_between_two_looks_are_told() {
    let mut last = view(&third_step(), NOON, &Settings::default());
    let check = |name: &str, value| StepCheckView {
        name: name.into(),
        value: Some(value),
        verdict: Verdict::Pass,
    };
    let step = |weight, value| StepView {
        weight,
        mirrored: None,
        matched: None,
        at: String::new(),
        verdict: Some(Verdict::Pass),
        checks: vec![
            check("request-success-rate", value),
            check("mcp-latency", 182.0),
        ],
    };
    last.steps = vec![
        step(5, 99.9),
        step(10, 99.8),
        step(15, 99.7),
        step(20, 99.6),
    ];
    last.step.n = 1;
    last.weight.written = 5;
    let mut newer = last.clone();
    assert_eq!(between(&last, &newer), Vec::<String>::new());

    newer.step.n = 4;
    newer.weight.written = 20;
    let told = [
        "prod-kr ai-platform/mcp-server: 10% to canary, success 99.9% (min 99.5), p99 182 ms (max 2000), step 2 of 6",
        "prod-kr ai-platform/mcp-server: 15% to canary, success 99.8% (min 99.5), p99 182 ms (max 2000), step 3 of 6",
    ];
    assert_eq!(between(&last, &newer), told);

    newer.phase = Phase::Promoting;
    let fourth = "prod-kr ai-platform/mcp-server: 20% to canary, success 99.7% (min 99.5), p99 182 ms (max 2000), step 4 of 6";
    assert_eq!(between(&last, &newer), [told[0], told[1], fourth]);
}
