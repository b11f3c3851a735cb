//! Golden tests of Services, routes and checks.

use std::sync::Arc;

use serde_json::json;

use super::{check::check, fixtures::*, manifest::manifest_for, routes::istio, services, *};
use crate::{
    api::objects::{Object, Write},
    decide::effect::Weights,
};

fn disabled() -> Value {
    json!({"kustomize.toolkit.fluxcd.io/reconcile": "disabled", "helm.toolkit.fluxcd.io/driftDetection": "disabled",
           "canary-mcp.dev/epoch": "4"})
}

fn service_json(name: &str, selects: &str, ports: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": "ai-platform",
            "labels": {"app": name, "app.kubernetes.io/managed-by": "flagger"},
            "annotations": disabled(), "ownerReferences": owners()
        },
        "spec": {"type": "ClusterIP", "selector": {"app": selects}, "ports": ports}
    })
}

fn creations(writes: &[Write]) -> Vec<Value> {
    writes
        .iter()
        .map(|write| created(std::slice::from_ref(write)))
        .collect()
}

#[test]
fn the_three_services_are_made_and_then_right() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let ports = json!([{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]);
    let roles = services::roles(&plan, &objects, &stamp());
    assert_eq!(
        creations(&roles),
        [
            service_json("mcp-server-canary", "mcp-server", &ports),
            service_json("mcp-server-primary", "mcp-server-primary", &ports),
        ]
    );
    let apex = services::apex(&plan, &objects, &stamp());
    assert_eq!(
        creations(&apex),
        [service_json("mcp-server", "mcp-server-primary", &ports)]
    );
    assert!(!services::roles_ready(&plan, &objects));
    assert!(!services::apex_on_primary(&plan, &objects));
    apply(&mut objects, roles);
    apply(&mut objects, apex);
    assert!(services::roles_ready(&plan, &objects));
    assert!(services::apex_on_primary(&plan, &objects));
    assert_eq!(services::roles(&plan, &objects, &stamp()), []);
    assert_eq!(services::apex(&plan, &objects, &stamp()), []);
}

#[test]
fn ports_are_discovered_and_metadata_is_the_canarys() {
    let objects = demo_with_service(json!({
        "port": 80, "targetPort": 8080, "appProtocol": "http", "portDiscovery": true,
        "canary": {"labels": {"lane": "new"}, "annotations": {"note": "x"}}
    }));
    let service = created(&services::roles(&plan_of(&objects), &objects, &stamp())[..1]);
    assert_eq!(
        service["spec"]["ports"],
        json!([
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "http"},
            {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
            {"name": "tcp-server-3", "port": 9090, "targetPort": 9090, "protocol": "TCP"}
        ])
    );
    assert_eq!(
        service["metadata"]["labels"],
        json!({"lane": "new", "app": "mcp-server-canary", "app.kubernetes.io/managed-by": "flagger"})
    );
    assert_eq!(service["metadata"]["annotations"]["note"], "x");
}

#[test]
fn an_apex_that_was_there_is_adopted_with_its_node_ports_and_further_ports() {
    let mut objects = demo();
    objects.apex = Some(Arc::new(apex()));
    let plan = plan_of(&objects);
    let writes = services::apex(&plan, &objects, &stamp());
    assert_eq!(
        patched(&writes),
        json!([
            {"op": "add", "path": "/spec/ports", "value": [
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080},
                {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP", "nodePort": 30090}]},
            {"op": "add", "path": "/spec/selector", "value": {"app": "mcp-server-primary"}}
        ])
    );
    let roles = services::roles(&plan, &objects, &stamp());
    assert_eq!(
        created(&roles[..1])["spec"]["ports"],
        json!([{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
               {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"}])
    );
    apply(&mut objects, writes);
    assert_eq!(
        objects.apex.as_ref().unwrap()["metadata"],
        apex()["metadata"]
    );
    assert!(services::apex_on_primary(&plan, &objects));
    assert_eq!(services::apex(&plan, &objects, &stamp()), []);
}

#[test]
fn a_node_port_stays_with_its_number_when_the_port_gets_a_name() {
    let mut unnamed = apex();
    unnamed["spec"]["ports"] = json!([{"port": 80, "nodePort": 30080}]);
    let mut objects = demo();
    objects.apex = Some(Arc::new(unnamed));
    let ops = patched(&services::apex(&plan_of(&objects), &objects, &stamp()));
    assert_eq!(
        ops[0]["value"],
        json!([{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080}])
    );
}

#[test]
fn metadata_of_our_services_is_put_right_but_for_what_others_manage() {
    let mut objects = demo_with_service(
        json!({"port": 80, "targetPort": "http", "apex": {"labels": {"a": "1", "b": "2"}}}),
    );
    let writes = services::apex(&plan_of(&objects), &objects, &stamp());
    apply(&mut objects, writes);
    let mut changed = (**objects.apex.as_ref().unwrap()).clone();
    changed["metadata"]["labels"]["a"] = json!("theirs");
    changed["metadata"]["labels"]["b"] = json!("theirs");
    changed["metadata"]["labels"]["c"] = json!("kept");
    objects.apex = Some(Arc::new(changed));
    let mut canary = (*objects.canary).clone();
    canary["spec"]["service"]["unmanagedMetadata"] = json!({"labels": ["b"]});
    objects.canary = Arc::new(canary);
    assert_eq!(
        patched(&services::apex(&plan_of(&objects), &objects, &stamp())),
        json!([{"op": "add", "path": "/metadata/labels/a", "value": "1"}])
    );
}

fn rule_json(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "ai-platform", "labels": {"app.kubernetes.io/managed-by": "flagger"},
                     "annotations": disabled(), "ownerReferences": owners()},
        "spec": spec
    })
}

fn virtual_service_json(spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform", "labels": {"app.kubernetes.io/managed-by": "flagger"},
                     "annotations": disabled(), "ownerReferences": owners()},
        "spec": spec
    })
}

fn split_json(primary: u8, canary: u8) -> Value {
    json!([{"destination": {"host": "mcp-server-primary"}, "weight": primary},
           {"destination": {"host": "mcp-server-canary"}, "weight": canary}])
}

#[test]
fn the_routes_begin_with_all_traffic_on_the_primary() {
    let objects = demo();
    assert_eq!(
        creations(&istio::ensure(&plan_of(&objects), &objects, &stamp())),
        [
            rule_json("mcp-server-primary", &json!({"host": "mcp-server-primary"})),
            rule_json("mcp-server-canary", &json!({"host": "mcp-server-canary"})),
            virtual_service_json(
                &json!({"hosts": ["mcp-server"], "gateways": ["mesh"], "http": [{"route": split_json(100, 0)}]})
            ),
        ]
    );
    assert_eq!(istio::read(&objects), None);
    assert!(!istio::ready(&plan_of(&objects), &objects));
}

#[test]
fn what_the_canary_says_of_the_route_is_copied_into_it() {
    let objects = demo_with_service(json!({
        "port": 80, "targetPort": "http", "portDiscovery": true,
        "gateways": ["istio-system/public"], "hosts": ["api.example.com"],
        "timeout": "15s", "retries": {"attempts": 3, "newField": 1}, "match": [{"uri": {"prefix": "/v1"}, "newField": 2}],
        "rewrite": {"uri": "/", "type": "ReplaceFullPath"}, "corsPolicy": {"allowOrigins": [{"exact": "a"}]},
        "headers": {"request": {"add": {"x": "y"}}},
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "newField": 3},
        "apex": {"labels": {"lane": "live"}}
    }));
    let all = creations(&istio::ensure(&plan_of(&objects), &objects, &stamp()));
    assert_eq!(
        all[0]["spec"],
        json!({"host": "mcp-server-primary", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "newField": 3}})
    );
    assert_eq!(all[2]["metadata"]["labels"]["lane"], "live");
    assert_eq!(
        all[2]["spec"],
        json!({
            "hosts": ["api.example.com", "mcp-server"], "gateways": ["istio-system/public"],
            "http": [{
                "match": [{"uri": {"prefix": "/v1"}, "newField": 2}],
                "rewrite": {"uri": "/"}, "timeout": "15s", "retries": {"attempts": 3, "newField": 1},
                "corsPolicy": {"allowOrigins": [{"exact": "a"}]}, "headers": {"request": {"add": {"x": "y"}}},
                "route": [
                    {"destination": {"host": "mcp-server-primary", "port": {"number": 80}}, "weight": 100},
                    {"destination": {"host": "mcp-server-canary", "port": {"number": 80}}, "weight": 0}
                ]
            }]
        })
    );
    let delegate = demo_with_service(json!({"port": 80, "targetPort": "http", "delegation": true}));
    let all = creations(&istio::ensure(&plan_of(&delegate), &delegate, &stamp()));
    assert_eq!(
        all[2]["spec"],
        json!({"http": [{"route": split_json(100, 0)}]})
    );
}

#[test]
fn weights_are_written_read_and_kept_when_the_route_is_put_right() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let writes = istio::ensure(&plan, &objects, &stamp());
    apply(&mut objects, writes);
    assert!(istio::ready(&plan, &objects));
    assert_eq!(istio::read(&objects), Some(Weights::PRIMARY));
    let writes = istio::set_weights(&objects, Weights::to_canary(15));
    assert_eq!(
        patched(&writes),
        json!([{"op": "add", "path": "/spec/http/0/route/0/weight", "value": 85},
               {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 15}])
    );
    apply(&mut objects, writes);
    assert_eq!(istio::read(&objects), Some(Weights::to_canary(15)));
    assert_eq!(istio::set_weights(&objects, Weights::to_canary(15)), []);
    assert_eq!(istio::ensure(&plan, &objects, &stamp()), []);

    let mut edited = (**objects.virtual_service.as_ref().unwrap()).clone();
    edited["spec"]["hosts"] = json!(["elsewhere"]);
    edited["spec"]["http"][0]["timeout"] = json!("1s");
    objects.virtual_service = Some(Arc::new(edited));
    assert!(!istio::ready(&plan, &objects));
    let writes = istio::ensure(&plan, &objects, &stamp());
    assert_eq!(
        patched(&writes),
        json!([{"op": "add", "path": "/spec/http", "value": [{"route": split_json(85, 15)}]},
               {"op": "add", "path": "/spec/hosts", "value": ["mcp-server"]}])
    );
}

#[test]
fn a_stored_split_is_read_whatever_its_spelling() {
    let read = |route: Value| {
        let mut objects = demo();
        objects.virtual_service = Some(Arc::new(json!({
            "metadata": {"name": "mcp-server", "namespace": "ai-platform"}, "spec": {"http": [{"route": route}]}
        })));
        istio::read(&objects).map(Weights::canary)
    };
    let to = |host: &str, weight: Value| json!({"destination": {"host": host}, "weight": weight});
    let primary = |weight: Value| to("mcp-server-primary", weight);
    let canary = |weight: Value| to("mcp-server-canary", weight);
    for (route, share) in [
        (json!([primary(json!(70)), canary(json!(30))]), Some(30)),
        (json!([canary(json!(30)), primary(json!(70))]), Some(30)),
        (json!([primary(json!(100)), canary(json!(null))]), Some(0)),
        (
            json!([
                to("mcp-server-primary.ai-platform.svc.cluster.local", json!(9)),
                to("mcp-server-canary.ai-platform", json!(1))
            ]),
            Some(10),
        ),
        (json!([primary(json!(999)), canary(json!(1))]), Some(1)),
        (json!([primary(json!(0)), canary(json!(0))]), None),
        (json!([primary(json!(100))]), None),
        (
            json!([
                primary(json!(50)),
                canary(json!(40)),
                to("other", json!(10))
            ]),
            None,
        ),
        (
            json!([to("mcp-server-primary.other", json!(50)), canary(json!(50))]),
            None,
        ),
        (json!([]), None),
    ] {
        assert_eq!(read(route.clone()), share, "{route}");
    }
}

/// Somebody's route: a header rule to another app, the app's own rule with what only they know of.
fn foreign() -> Object {
    Arc::new(json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform", "uid": "f-1", "generation": 2},
        "spec": {
            "hosts": ["mcp.example.com"], "gateways": ["gw"], "newField": 1,
            "http": [
                {"match": [{"uri": {"prefix": "/docs"}}], "route": [{"destination": {"host": "docs"}}]},
                {"name": "app", "timeout": "3s", "fault": {"delay": {"fixedDelay": "1s"}},
                 "route": [{"destination": {"host": "mcp-server.ai-platform.svc.cluster.local", "subset": "v1"},
                            "headers": {"request": {"set": {"x": "y"}}}}]}
            ]
        }
    }))
}

#[test]
fn a_route_of_others_is_saved_once_and_only_its_destinations_change() {
    let mut objects = demo();
    let plan = plan_of(&objects);
    let writes = istio::ensure(&plan, &objects, &stamp());
    apply(&mut objects, writes);
    objects.virtual_service = Some(foreign());
    assert_eq!(check(&plan, &objects), []);
    let writes = istio::ensure(&plan, &objects, &stamp());
    let headers = json!({"request": {"set": {"x": "y"}}});
    let original = r#"{"gateways":["gw"],"hosts":["mcp.example.com"],"http":[{"match":[{"uri":{"prefix":"/docs"}}],"route":[{"destination":{"host":"docs"}}]},{"fault":{"delay":{"fixedDelay":"1s"}},"name":"app","route":[{"destination":{"host":"mcp-server.ai-platform.svc.cluster.local","subset":"v1"},"headers":{"request":{"set":{"x":"y"}}}}],"timeout":"3s"}],"newField":1}"#;
    assert_eq!(
        patched(&writes),
        json!([
            {"op": "add", "path": "/metadata/annotations", "value": {"flagger.kubernetes.io/original-configuration": original}},
            {"op": "replace", "path": "/spec/http/1/route", "value": [
                {"destination": {"host": "mcp-server-primary"}, "weight": 100, "headers": headers},
                {"destination": {"host": "mcp-server-canary"}, "weight": 0, "headers": headers}]}
        ])
    );
    apply(&mut objects, writes);
    assert!(istio::ready(&plan, &objects));
    let writes = istio::set_weights(&objects, Weights::to_canary(5));
    apply(&mut objects, writes);
    let route = objects.virtual_service.as_ref().unwrap();
    assert_eq!(route["spec"]["http"][1]["route"][1]["weight"], 5);
    assert_eq!(route["spec"]["http"][0], foreign()["spec"]["http"][0]);
    assert_eq!(istio::ensure(&plan, &objects, &stamp()), []);
    assert_eq!(check(&plan, &objects), []);
}

#[test]
fn a_rule_of_others_keeps_its_policy() {
    let mut objects = demo();
    let theirs = |host: &str| {
        Arc::new(
            json!({"kind": "DestinationRule", "metadata": {"name": "mcp-server-primary", "namespace": "ai-platform", "annotations": {}},
                        "spec": {"host": host, "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}}),
        )
    };
    objects.primary_rule = Some(theirs("mcp-server-primary.ai-platform.svc.cluster.local"));
    let plan = plan_of(&objects);
    assert_eq!(istio::ensure(&plan, &objects, &stamp()).len(), 2);
    objects.primary_rule = Some(theirs("mcp-server"));
    assert_eq!(
        patched(&istio::ensure(&plan, &objects, &stamp())[..1]),
        json!([
            {"op": "add", "path": "/metadata/annotations/flagger.kubernetes.io~1original-configuration",
             "value": r#"{"host":"mcp-server","trafficPolicy":{"tls":{"mode":"SIMPLE"}}}"#},
            {"op": "add", "path": "/spec/host", "value": "mcp-server-primary"}
        ])
    );
}

type Change = fn(&mut Objects);

/// An object with the value at a path of keys replaced.
fn set(object: &mut Option<Object>, keys: &[&str], value: Value) {
    let mut json = object.as_deref().cloned().unwrap_or_default();
    let mut at = &mut json;
    for key in keys {
        at = &mut at[*key];
    }
    *at = value;
    *object = Some(Arc::new(json));
}

#[test]
fn what_cannot_be_carried_out_is_refused() {
    let other = |name: &str| {
        json!({"metadata": {"name": name, "ownerReferences": [
        {"kind": "Canary", "name": "other", "uid": "c-2", "controller": true}]}})
    };
    let cases: Vec<(Change, &str)> = vec![
        (
            |o| o.target = None,
            "spec.targetRef.name: there is no Deployment mcp-server in ai-platform; apply it, or name another one",
        ),
        (
            |o| {
                set(
                    &mut o.target,
                    &["spec", "selector", "matchLabels"],
                    json!({"run": "x"}),
                )
            },
            "spec.targetRef: the Deployment's spec.selector.matchLabels has none of app, name, app.kubernetes.io/name; select its pods by one of them",
        ),
        (
            |o| {
                set(
                    &mut o.target,
                    &["metadata", "ownerReferences"],
                    json!([{"kind": "Rollout", "name": "r", "controller": true}]),
                )
            },
            "spec.targetRef.name: the Deployment is driven by the Argo Rollout r; delete the Rollout, or take the Canary away",
        ),
        (
            |o| {
                set(
                    &mut o.target,
                    &["spec", "template", "spec", "containers"],
                    json!([{"name": "s", "ports": [{"name": "web", "containerPort": 8080}]}]),
                )
            },
            "spec.service.targetPort: no container of Deployment mcp-server has a port of name http; use one of 8080 (web), or declare it in the container",
        ),
        (
            |o| o.scaler = None,
            "spec.autoscalerRef.name: there is no ScaledObject mcp-server in ai-platform; apply it, or take autoscalerRef out",
        ),
        (
            |o| {
                set(
                    &mut o.scaler,
                    &["spec", "scaleTargetRef", "name"],
                    json!("mcp-server-primary"),
                )
            },
            "spec.autoscalerRef.name: ScaledObject mcp-server scales Deployment mcp-server-primary; let it scale Deployment mcp-server, or name another one",
        ),
        (
            |o| set(&mut o.scaler, &["spec", "minReplicaCount"], json!(0)),
            "spec.autoscalerRef.name: ScaledObject mcp-server may scale to zero, and KEDA would take the canary away before it has traffic; set its minReplicaCount to 1 or more and take idleReplicaCount out",
        ),
        (
            |o| {
                set(
                    &mut o.primary,
                    &["metadata", "name"],
                    json!("mcp-server-primary"),
                )
            },
            "",
        ),
        (
            |o| {
                set(
                    &mut o.primary_scaler,
                    &["metadata", "name"],
                    json!("mcp-server-primary"),
                )
            },
            "spec.targetRef.name: ScaledObject mcp-server-primary exists and is not owned by this Canary; delete it, or rename it; it is made anew",
        ),
        (
            |o| {
                set(
                    &mut o.apex,
                    &[],
                    json!({"metadata": {"name": "mcp-server"}, "spec": {"type": "ExternalName"}}),
                )
            },
            "spec.service.name: Service mcp-server is of type ExternalName and selects no pods; use another name, or change its type",
        ),
    ];
    for (change, refusal) in cases {
        let mut objects = demo();
        let plan = plan_of(&objects);
        assert_eq!(check(&plan, &objects), []);
        change(&mut objects);
        let told: Vec<String> = check(&plan, &objects)
            .iter()
            .map(ToString::to_string)
            .collect();
        if refusal.is_empty() {
            assert_eq!(
                told,
                [
                    "spec.targetRef: Deployment mcp-server-primary does not select its pods by app=mcp-server-primary, and a selector cannot be changed; delete that Deployment once its traffic can be spared; it is made anew",
                    "spec.targetRef.name: Deployment mcp-server-primary exists and is not owned by this Canary; delete it, or rename it; it is made anew"
                ]
            );
        } else {
            assert_eq!(told, [refusal]);
        }
    }
    let mut objects = demo();
    objects.canary_service = Some(Arc::new(other("mcp-server-canary")));
    assert_eq!(
        check(&plan_of(&objects), &objects)[0].to_string(),
        "spec.service.name: Service mcp-server-canary belongs to the Canary other; give service.name another name, or delete that Canary"
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
        "spec.service: VirtualService mcp-server is not ours, and none of its http routes leads to the app and nowhere else; leave one http route to host mcp-server in it, or delete it so that it is made anew"
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
