//! Tests of what is refused before a run.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::{
    api::objects::Objects,
    build::{check::check, manifest::manifest_for},
};

/// What the check says of the demo with the value at a pointer of one object replaced.
fn told(object: &str, pointer: &str, value: Value) -> Vec<String> {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let place = match object {
        "target" => &mut objects.target,
        "scaler" => &mut objects.scaler,
        "primary" => &mut objects.primary,
        "primary_scaler" => &mut objects.primary_scaler,
        "apex" => &mut objects.apex,
        "canary_service" => &mut objects.canary_service,
        other => panic!("no object {other}"),
    };
    let mut changed = place.as_deref().cloned().unwrap_or_default();
    let mut at = &mut changed;
    for key in pointer.split('/').skip(1) {
        at = &mut at[key];
    }
    *at = value;
    *place = (!changed.is_null()).then(|| Arc::new(changed));
    check(&plan, &objects)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_demo_can_be_carried_out() {
    let objects = demo();
    assert_eq!(check(&plan_of(&objects), &objects), []);
}

#[test]
fn a_target_that_cannot_be_copied_is_refused() {
    let rollout = json!([{"kind": "Rollout", "name": "r", "controller": true}]);
    let containers = json!([{"name": "s", "ports": [{"name": "web", "containerPort": 8080}]}]);
    for (pointer, value, refusal) in [
        (
            "",
            Value::Null,
            "spec.targetRef.name: there is no Deployment mcp-server in ai-platform; apply it, or name another one",
        ),
        (
            "/spec/selector/matchLabels",
            json!({"run": "x"}),
            "spec.targetRef: the Deployment's spec.selector.matchLabels has none of app, name, app.kubernetes.io/name; select its pods by one of them",
        ),
        (
            "/spec/selector/matchLabels/app",
            json!("a".repeat(60)),
            "spec.targetRef: the value of label app leaves no room for the suffix -primary; use one of at most 55 characters",
        ),
        (
            "/metadata/ownerReferences",
            rollout,
            "spec.targetRef.name: the Deployment is driven by the Argo Rollout r; delete the Rollout, or take the Canary away",
        ),
        (
            "/spec/template/spec/containers",
            containers,
            "spec.service.targetPort: no container of Deployment mcp-server has a port of name http; use one of 8080 (web), or declare it in the container",
        ),
    ] {
        assert_eq!(told("target", pointer, value), [refusal], "{pointer}");
    }
}

#[test]
fn a_scaler_that_cannot_be_followed_is_refused() {
    for (pointer, value, refusal) in [
        (
            "",
            Value::Null,
            "spec.autoscalerRef.name: there is no ScaledObject mcp-server in ai-platform; apply it, or take autoscalerRef out",
        ),
        (
            "/spec/scaleTargetRef/name",
            json!("mcp-server-primary"),
            "spec.autoscalerRef.name: ScaledObject mcp-server scales Deployment mcp-server-primary; let it scale Deployment mcp-server, or name another one",
        ),
        (
            "/spec/minReplicaCount",
            json!(0),
            "spec.autoscalerRef.name: ScaledObject mcp-server may scale to zero, and KEDA would take the canary away before it has traffic; set its minReplicaCount to 1 or more and take idleReplicaCount out",
        ),
        (
            "/spec/idleReplicaCount",
            json!(0),
            "spec.autoscalerRef.name: ScaledObject mcp-server may scale to zero, and KEDA would take the canary away before it has traffic; set its minReplicaCount to 1 or more and take idleReplicaCount out",
        ),
        (
            "/spec/advanced/horizontalPodAutoscalerConfig/name",
            json!("a-name-of-an-autoscaler-that-is-longer-than-it-should-be"),
            "spec.autoscalerRef.name: the primary's HPA would be called a-name-of-an-autoscaler-that-is-longer-than-it-should-be-primary, which is longer than 63 characters; set advanced.horizontalPodAutoscalerConfig.name to a shorter one",
        ),
    ] {
        assert_eq!(told("scaler", pointer, value), [refusal], "{pointer}");
    }
}

#[test]
fn objects_of_others_are_not_written_over() {
    let metadata = |name: &str| json!({"name": name});
    assert_eq!(
        told("primary", "/metadata", metadata("mcp-server-primary")),
        [
            "spec.targetRef: Deployment mcp-server-primary does not select its pods by app=mcp-server-primary, and a selector cannot be changed; delete that Deployment once its traffic can be spared; it is made anew",
            "spec.targetRef.name: Deployment mcp-server-primary exists and is not owned by this Canary; delete it, or rename it; it is made anew"
        ]
    );
    assert_eq!(
        told(
            "primary_scaler",
            "/metadata",
            metadata("mcp-server-primary")
        ),
        [
            "spec.targetRef.name: ScaledObject mcp-server-primary exists and is not owned by this Canary; delete it, or rename it; it is made anew"
        ]
    );
    let external = json!({"metadata": {"name": "mcp-server"}, "spec": {"type": "ExternalName"}});
    assert_eq!(
        told("apex", "", external),
        [
            "spec.service.name: Service mcp-server is of type ExternalName and selects no pods; use another name, or change its type"
        ]
    );
    let other = json!({"name": "mcp-server-canary", "ownerReferences": [{"kind": "Canary", "name": "other", "uid": "c-2", "controller": true}]});
    assert_eq!(
        told("canary_service", "/metadata", other),
        [
            "spec.service.name: Service mcp-server-canary belongs to the Canary other; give service.name another name, or delete that Canary"
        ]
    );
}

#[test]
fn routes_without_one_rule_to_the_app_and_unmatched_triggers_are_refused() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let mut none = (*foreign()).clone();
    none["spec"]["http"][1]["route"][0]["destination"]["host"] = json!("other");
    objects.virtual_service = Some(Arc::new(none));
    assert_eq!(
        check(&plan, &objects)[0].to_string(),
        "spec.service: VirtualService mcp-server is not ours, and none of its http routes leads to the app and nowhere else; leave one http route to host mcp-server in it, name the one that is meant in service.virtualService, or delete it so that it is made anew"
    );
    let mut two = (*foreign()).clone();
    two["spec"]["http"][0]["route"] = two["spec"]["http"][1]["route"].clone();
    objects.virtual_service = Some(Arc::new(two));
    assert_eq!(
        check(&plan, &objects)[0].reason,
        "VirtualService mcp-server is not ours, and 2 of its http routes lead to the app, and only one can be split"
    );
    objects.virtual_service = None;
    let mut canary = canary();
    canary["spec"]["autoscalerRef"]["primaryScalerQueries"] =
        json!({"queueLength": "q", "queue": "r"});
    objects.canary = Arc::new(canary);
    assert_eq!(
        check(&plan_of(&objects), &objects)[0].to_string(),
        "spec.autoscalerRef.primaryScalerQueries: no trigger of ScaledObject mcp-server is named queueLength; its triggers are queue, (without a name); use the triggers' names as keys, and give each trigger one (beside its type)"
    );
}

#[test]
fn metric_templates_must_be_there_and_be_prometheus() {
    let mut canary = canary();
    canary["spec"]["analysis"]["metrics"] = json!([{"name": "lat", "templateRef": {"name": "t", "namespace": "m"}, "thresholdRange": {"max": 1}}]);
    let mut objects = demo();
    objects.canary = Arc::new(canary);
    let plan = plan_of(&objects);
    assert_eq!(
        check(&plan, &objects)[0].to_string(),
        "spec.analysis.metrics[lat].templateRef: there is no MetricTemplate t in m; apply it, or name another one"
    );
    let template = |kind: &str| {
        Arc::new(
            json!({"metadata": {"name": "t", "namespace": "m"}, "spec": {"provider": {"type": kind}, "query": "q"}}),
        )
    };
    objects
        .templates
        .insert(("m".into(), "t".into()), template("datadog"));
    assert_eq!(
        check(&plan, &objects)[0].to_string(),
        "spec.analysis.metrics[lat].templateRef: MetricTemplate m/t: the provider \"datadog\" is not carried out yet, only prometheus is; change the MetricTemplate, or name another one"
    );
    objects
        .templates
        .insert(("m".into(), "t".into()), template("prometheus"));
    assert_eq!(check(&plan, &objects), []);
}

#[test]
fn a_deployment_without_a_canary_gets_a_complete_one() {
    let mut objects = demo();
    objects.apex = Some(Arc::new(apex()));
    objects.virtual_service = Some(foreign());
    let yaml = manifest_for(&target(), &objects);
    assert_eq!(
        yaml,
        "apiVersion: flagger.app/v1beta1
kind: Canary
metadata:
  name: mcp-server
  namespace: ai-platform
spec:
  provider: istio
  targetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: mcp-server
  autoscalerRef:
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    name: mcp-server
  service:
    port: 80
    targetPort: 8080
    gateways:
      - \"gw\"
    hosts:
      - \"mcp.example.com\"
  analysis:
    interval: 1m
    threshold: 3
    maxWeight: 30
    stepWeight: 5
    metrics:
      - name: request-success-rate
        interval: 1m
        thresholdRange:
          min: 99
      - name: request-duration
        interval: 1m
        thresholdRange:
          max: 500
"
    );
    let bare = manifest_for(&target(), &Objects::default());
    let canary: Value = serde_saphyr::from_str(&bare).unwrap();
    assert_eq!(
        canary["spec"]["service"],
        json!({"port": 8080, "targetPort": 8080})
    );
}
