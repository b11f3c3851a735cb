//! Golden tests of workloads, pins and autoscalers.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    api::{
        objects::{Objects, Write},
        revision::{pin_name, revision},
    },
    build::{Selector, pin, scaler, template as pod, workload},
    decide::{facts::Moment, plan::Labels, state::Run},
};

/// The primary's pod template with this image tag, written out.
fn primary_template(tag: &str) -> Value {
    json!({
        "metadata": {
            "creationTimestamp": null,
            "labels": {"app": "mcp-server-primary", "tier": "front"},
            "annotations": {"prometheus.io/scrape": "true", "flagger-id": RUN}
        },
        "spec": {
            "futureField": ["kept"],
            "containers": [
                {"name": "istio-proxy", "image": "proxy", "ports": [{"containerPort": 15090}]},
                {"name": "server", "image": format!("registry.example/mcp-server:{tag}"),
                 "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                 "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                           {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                           {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                           {"containerPort": 9090, "protocol": "TCP"}]}
            ],
            "affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "mcp-server-primary"}}}],
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchExpressions": [
                        {"key": "app", "operator": "In", "values": ["mcp-server-primary", "other"]}]}}}]
            }},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "mcp-server-primary"}}}]
        }
    })
}

#[test]
fn the_primary_is_a_whole_copy_of_the_target() {
    let objects = demo();
    let primary = created(&workload::create_primary(
        &plan_of(&objects),
        &objects,
        &stamp(),
        RUN,
    ));
    assert_eq!(
        primary,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "mcp-server-primary", "namespace": "ai-platform",
                "labels": {"app": "mcp-server-primary", "app.kubernetes.io/managed-by": "flagger"},
                "annotations": {"example.com/contact": "team", "canary-mcp.dev/epoch": "4"},
                "ownerReferences": owners()
            },
            "spec": {
                "replicas": 2,
                "progressDeadlineSeconds": 600,
                "revisionHistoryLimit": 10,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
                "futureField": {"kept": true},
                "selector": {"matchLabels": {"app": "mcp-server-primary"}},
                "template": primary_template("1.0.0")
            }
        })
    );
}

#[test]
fn the_settings_say_which_label_tells_the_pods_and_which_the_primary_takes_over() {
    let mut objects = demo();
    let mut plan = plan_of(&objects);
    plan.labels = Labels {
        selectors: vec!["k8s-app".to_owned(), "tier".to_owned()],
        prefixes: vec!["team".to_owned()],
    };
    let writes = workload::create_primary(&plan, &objects, &stamp(), RUN);
    let primary = created(&writes);
    assert_eq!(
        primary["spec"]["selector"],
        json!({"matchLabels": {"tier": "front-primary"}})
    );
    assert_eq!(
        primary["metadata"]["labels"],
        json!({"tier": "front-primary", "team": "platform", "app.kubernetes.io/managed-by": "flagger"})
    );
    assert_eq!(
        primary["spec"]["template"]["metadata"]["labels"],
        json!({"app": "mcp-server", "tier": "front-primary"})
    );
    apply(&mut objects, writes);

    // At promotion the labels follow; those that make the primary what it is do not.
    let mut live = target();
    live["metadata"]["labels"] = json!({
        "app": "mcp-server", "team": "payments", "tier": "x", "app.kubernetes.io/managed-by": "Helm",
        "kustomize.toolkit.fluxcd.io/name": "x"
    });
    objects.target = Some(Arc::new(live));
    plan.labels.prefixes = vec!["*".to_owned()];
    assert_eq!(
        patched(&workload::copy_template(
            &plan.labels,
            &objects,
            &template("1.0.0"),
            RUN
        )),
        json!([
            {"op": "add", "path": "/metadata/labels/app", "value": "mcp-server"},
            {"op": "add", "path": "/metadata/labels/team", "value": "payments"}
        ])
    );

    plan.labels.selectors = vec!["k8s-app".to_owned(), "name".to_owned()];
    let refused = crate::build::check::check(&plan, &objects);
    assert_eq!(
        refused[0].to_string(),
        "spec.targetRef: the Deployment's spec.selector.matchLabels has none of k8s-app, name; select its pods by one of them"
    );
}

#[test]
fn a_primary_has_at_least_one_replica_and_is_created_once() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let mut at_zero = target();
    at_zero["spec"]["replicas"] = json!(0);
    objects.target = Some(Arc::new(at_zero));
    let writes = workload::create_primary(&plan, &objects, &stamp(), RUN);
    assert_eq!(created(&writes)["spec"]["replicas"], 1);
    apply(&mut objects, writes);
    assert_eq!(workload::create_primary(&plan, &objects, &stamp(), RUN), []);
}

#[test]
fn promotion_replaces_the_template_as_a_whole_and_nothing_of_the_primarys_own() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let writes = workload::create_primary(&plan, &objects, &stamp(), "an earlier run");
    apply(&mut objects, writes);
    // The target has moved on to 1.2.0; what was pinned and judged is 1.1.0.
    let mut live = target();
    live["spec"]["template"] = template("1.2.0");
    live["spec"]["replicas"] = json!(7);
    live["spec"]["minReadySeconds"] = json!(5);
    live["spec"]
        .as_object_mut()
        .unwrap()
        .remove("revisionHistoryLimit");
    objects.target = Some(Arc::new(live));
    let pinned = template("1.1.0");
    let writes = workload::copy_template(&Labels::default(), &objects, &pinned, RUN);
    assert_eq!(
        patched(&writes),
        json!([
            {"op": "replace", "path": "/spec/template", "value": primary_template("1.1.0")},
            {"op": "add", "path": "/spec/minReadySeconds", "value": 5},
            {"op": "remove", "path": "/spec/revisionHistoryLimit"}
        ])
    );
    apply(&mut objects, writes);
    let primary = objects.primary.as_ref().unwrap();
    assert!(workload::primary_has(&Labels::default(), primary, &pinned));
    assert!(!workload::primary_has(
        &Labels::default(),
        primary,
        &template("1.2.0")
    ));
    assert_eq!(primary["spec"]["replicas"], 2);
    assert_eq!(
        primary["metadata"]["annotations"]["example.com/contact"],
        "team"
    );
    assert_eq!(
        workload::copy_template(&Labels::default(), &objects, &pinned, "a later run"),
        []
    );
}

#[test]
fn a_pinned_template_can_be_put_back_without_the_target() {
    let mut objects = demo();
    let writes = workload::create_primary(&plan_of(&objects), &objects, &stamp(), RUN);
    apply(&mut objects, writes);
    objects.target = None;
    assert_eq!(
        patched(&workload::copy_template(
            &Labels::default(),
            &objects,
            &template("0.9.0"),
            RUN
        )),
        json!([{"op": "replace", "path": "/spec/template", "value": primary_template("0.9.0")}])
    );
}

#[test]
fn a_term_without_a_selector_stays_without_one() {
    let bare = json!({"metadata": {"labels": {"app": "mcp-server"}}, "spec": {
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        "topologySpreadConstraints": [{"maxSkew": 1}]}});
    let selector = Selector {
        key: "app".into(),
        value: "mcp-server".into(),
    };
    assert_eq!(pod::primary(&bare, &selector, RUN)["spec"], bare["spec"]);
}

#[test]
fn templates_are_compared_without_the_runs_id() {
    let other_id = |tag: &str| {
        let mut template = primary_template(tag);
        template["metadata"]["annotations"]["flagger-id"] = json!("another");
        template["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("creationTimestamp");
        template
    };
    assert!(workload::same_template(
        &Labels::default(),
        &template("1.0.0"),
        &other_id("1.0.0")
    ));
    assert!(!workload::same_template(
        &Labels::default(),
        &template("1.0.0"),
        &other_id("1.0.1")
    ));
    let mut less = template("1.0.0");
    less["spec"].as_object_mut().unwrap().remove("affinity");
    assert!(!workload::same_template(
        &Labels::default(),
        &less,
        &other_id("1.0.0")
    ));
    assert!(!workload::same_template(
        &Labels::default(),
        &template("1.0.0"),
        &template("1.0.0")
    ));
    assert!(pod::same(
        &json!({"metadata": {"annotations": {"flagger-id": "x"}}, "spec": {}}),
        &json!({"metadata": {}, "spec": {}})
    ));
}

#[test]
fn the_target_is_scaled_by_flaggers_rule() {
    let at = |replicas: u32, scaler_min: Option<u32>, primary: u32| {
        let mut objects = demo();
        let mut plan = plan_of(&objects);
        let mut target = target();
        target["spec"]["replicas"] = json!(replicas);
        objects.target = Some(Arc::new(target));
        objects.primary = Some(Arc::new(json!({"spec": {"replicas": primary}})));
        match scaler_min {
            Some(min) => objects.scaler = Some(Arc::new(json!({"spec": {"minReplicaCount": min}}))),
            None => plan.scaler = None,
        }
        let up = workload::scale_up(&plan, &objects, None);
        up.first().map(|write| {
            let Write::Scale { replicas, .. } = write else {
                panic!("{write:?}");
            };
            *replicas
        })
    };
    for (replicas, scaler_min, primary, wanted) in [
        (3, Some(2), 5, None),
        (0, Some(2), 5, Some(2)),
        (0, Some(0), 5, Some(1)),
        (0, None, 5, Some(5)),
        (0, None, 0, Some(1)),
    ] {
        assert_eq!(at(replicas, scaler_min, primary), wanted);
    }
    let mut objects = demo();
    let writes = workload::scale_to_zero(&objects);
    assert!(matches!(writes[..], [Write::Scale { replicas: 0, .. }]));
    apply(&mut objects, writes);
    assert_eq!(workload::scale_to_zero(&objects), []);
}

fn run(n: u32, tag: &str, previous: Option<&str>) -> Run {
    let revision = revision(&template(tag));
    Run {
        id: RUN.into(),
        n,
        template: pin_name("mcp-server", &revision),
        revision,
        previous: previous.map(str::to_owned),
        started_at: Moment(0),
        stage_at: Moment(0),
        route_written_at: None,
        skip: None,
        reason: None,
        outcome: None,
        waiting: None,
        reset: false,
        rehearsal: false,
    }
}

#[test]
fn a_pin_keeps_the_raw_template_once() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let run = run(3, "1.0.0", None);
    assert_eq!(run.template, "mcp-server-684910ba5c");
    let writes = pin::pin(&plan, &objects, &stamp(), &run);
    assert_eq!(
        created(&writes),
        json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": "mcp-server-684910ba5c", "namespace": "ai-platform",
                "labels": {"app.kubernetes.io/managed-by": "flagger"},
                "annotations": {"canary-mcp.dev/epoch": "4"},
                "ownerReferences": owners()
            },
            "data": template("1.0.0"),
            "revision": 3
        })
    );
    apply(&mut objects, writes);
    assert_eq!(pin::pin(&plan, &objects, &stamp(), &run), []);
    assert_eq!(
        pin::pinned(&objects, "mcp-server-684910ba5c"),
        Some(&template("1.0.0"))
    );
}

#[test]
fn a_target_that_moved_on_is_not_pinned_under_the_old_name() {
    let objects = demo();
    let writes = pin::pin(
        &plan_of(&objects),
        &objects,
        &stamp(),
        &run(3, "0.9.0", None),
    );
    assert_eq!(writes, []);
}

#[test]
fn the_last_few_pins_and_those_of_the_run_are_kept() {
    let mut objects = demo();
    let mut foreign =
        json!({"metadata": {"name": "foreign", "ownerReferences": []}, "revision": 0});
    foreign["kind"] = json!("ControllerRevision");
    objects.revisions = (0..9)
        .map(|n| Arc::new(json!({"metadata": {"name": format!("pin-{n}"), "ownerReferences": owners()}, "revision": n})))
        .chain([Arc::new(foreign)])
        .collect();
    let mut run = run(9, "0.9.0", Some("pin-1"));
    run.template = "pin-8".into();
    let writes = pin::pin(&plan_of(&objects), &objects, &stamp(), &run);
    let dropped: Vec<_> = writes
        .iter()
        .map(|write| {
            let Write::Delete { from } = write else {
                panic!("{write:?}");
            };
            from["metadata"]["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(dropped, ["pin-2", "pin-0"]);
}

#[test]
fn the_primarys_scaler_is_a_whole_copy_without_the_pause() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let writes = scaler::create_primary(&plan, &objects, &stamp());
    assert_eq!(
        created(&writes),
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {
                "name": "mcp-server-primary", "namespace": "ai-platform",
                "labels": {"team": "platform", "app.kubernetes.io/managed-by": "flagger"},
                "annotations": {"example.com/contact": "team", "canary-mcp.dev/epoch": "4"},
                "ownerReferences": owners()
            },
            "spec": {
                "scaleTargetRef": {"name": "mcp-server-primary"},
                "minReplicaCount": 2, "maxReplicaCount": 20, "futureField": 1,
                "advanced": {"horizontalPodAutoscalerConfig": {"name": "mcp-hpa-primary", "behavior": {"scaleDown": {}}}},
                "triggers": [
                    {"type": "prometheus", "name": "queue", "metadata": {"serverAddress": "http://p", "threshold": "5",
                        "query": "sum(mcp_request_queue_depth{workload=\"mcp-server-primary\"})"}},
                    {"type": "cron", "metadata": {"start": "0 8 * * *"}}
                ]
            }
        })
    );
    apply(&mut objects, writes);
    assert_eq!(scaler::create_primary(&plan, &objects, &stamp()), []);
    assert_eq!(scaler::sync_primary(&plan, &objects), []);
    let mut changed = scaler();
    changed["spec"] =
        json!({"scaleTargetRef": {"name": "mcp-server"}, "maxReplicaCount": 9, "triggers": []});
    objects.scaler = Some(Arc::new(changed));
    assert_eq!(
        patched(&scaler::sync_primary(&plan, &objects)),
        json!([{"op": "replace", "path": "/spec",
                "value": {"scaleTargetRef": {"name": "mcp-server-primary"}, "maxReplicaCount": 9, "triggers": []}}])
    );
}

fn with_scaling(queries: Value, replicas: Value) -> Objects {
    let mut canary = canary();
    canary["spec"]["autoscalerRef"]["primaryScalerQueries"] = queries;
    canary["spec"]["autoscalerRef"]["primaryScalerReplicas"] = replicas;
    Objects {
        canary: Arc::new(canary),
        ..demo()
    }
}

#[test]
fn queries_and_replicas_of_the_primary_are_the_plans() {
    let objects = with_scaling(
        json!({"queue": "q2"}),
        json!({"minReplicas": 3, "maxReplicas": 30}),
    );
    let spec = created(&scaler::create_primary(
        &plan_of(&objects),
        &objects,
        &stamp(),
    ))["spec"]
        .clone();
    assert_eq!(spec["triggers"][0]["metadata"]["query"], "q2");
    assert_eq!(
        (&spec["minReplicaCount"], &spec["maxReplicaCount"]),
        (&json!(3), &json!(30))
    );
    assert_eq!(scaler::matched_unnamed(&plan_of(&objects), &objects), None);
}

#[test]
fn one_key_and_one_unnamed_trigger_belong_together_and_that_is_told() {
    let mut objects = with_scaling(json!({"queueLength": "q2"}), json!({}));
    let mut source = scaler();
    source["spec"]["triggers"] = json!([{"type": "prometheus", "metadata": {"query": "q1"}}]);
    objects.scaler = Some(Arc::new(source));
    let plan = plan_of(&objects);
    let spec = created(&scaler::create_primary(&plan, &objects, &stamp()))["spec"].clone();
    assert_eq!(
        spec["triggers"],
        json!([{"type": "prometheus", "metadata": {"query": "q2"}}])
    );
    assert_eq!(
        scaler::matched_unnamed(&plan, &objects).unwrap(),
        "primaryScalerQueries.queueLength is used for the only trigger of ScaledObject mcp-server.ai-platform, which has no name; give it the name queueLength"
    );
}

#[test]
fn the_target_is_paused_at_zero_and_resumed() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    assert_eq!(scaler::paused(&plan, &objects), Some(true));
    assert_eq!(scaler::pause(&plan, &objects), []);
    let writes = scaler::resume(&plan, &objects);
    assert_eq!(
        writes,
        [Write::Merge {
            from: objects.scaler.clone().unwrap(),
            patch: json!({"metadata": {"annotations": {"autoscaling.keda.sh/paused-replicas": null}}}),
        }]
    );
    apply(&mut objects, writes);
    assert_eq!(scaler::paused(&plan, &objects), Some(false));
    assert_eq!(scaler::resume(&plan, &objects), []);
    let writes = scaler::pause(&plan, &objects);
    assert_eq!(
        writes,
        [Write::Merge {
            from: objects.scaler.clone().unwrap(),
            patch: json!({"metadata": {"annotations": {"autoscaling.keda.sh/paused-replicas": "0"}}}),
        }]
    );
}
