//! The demo's objects, and a world that takes writes, for the builders' tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    api::{
        objects::{Object, ObjectExt, Objects, Write},
        parse::{Settings, plan},
    },
    build::{Stamp, routes},
    decide::{effect::Traffic, plan::Plan, state::Cookies},
};

pub(super) const RUN: &str = "00000000-0000-5000-8000-000000000001";

pub(super) fn stamp() -> Stamp {
    Stamp { epoch: "4".into() }
}

/// `metadata.ownerReferences` of what the demo's Canary owns.
pub(super) fn owners() -> Value {
    json!([{"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "mcp-server", "uid": "c-1",
            "controller": true, "blockOwnerDeletion": true}])
}

pub(super) fn canary() -> Value {
    json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform", "uid": "c-1"},
        "spec": {
            "provider": "istio",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"},
            "autoscalerRef": {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "mcp-server"},
            "service": {"port": 80, "targetPort": "http"},
            "analysis": {"interval": "1m", "threshold": 3, "maxWeight": 30, "stepWeight": 5, "metrics": [
                {"name": "request-success-rate", "thresholdRange": {"min": 99.5}}
            ]}
        }
    })
}

/// The target: with an environment variable and a port number twice, which Kubernetes allows, and a field from the future.
pub(super) fn target() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "mcp-server", "namespace": "ai-platform", "uid": "d-1", "generation": 3,
            "labels": {"app": "mcp-server", "team": "platform"},
            "annotations": {
                "deployment.kubernetes.io/revision": "3",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "argocd.argoproj.io/tracking-id": "a:apps/Deployment:ai-platform/mcp-server",
                "kustomize.toolkit.fluxcd.io/checksum": "1",
                "example.com/contact": "team"
            }
        },
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "futureField": {"kept": true},
            "selector": {"matchLabels": {"app": "mcp-server", "tier": "front"}},
            "template": template("1.0.0")
        }
    })
}

/// The target's pod template with this image tag.
pub(super) fn template(tag: &str) -> Value {
    json!({
        "metadata": {
            "creationTimestamp": null,
            "labels": {"app": "mcp-server", "tier": "front"},
            "annotations": {"prometheus.io/scrape": "true", "helm.toolkit.fluxcd.io/x": "1"}
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
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "mcp-server"}}}],
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchExpressions": [
                        {"key": "app", "operator": "In", "values": ["mcp-server", "other"]}]}}}]
            }},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "mcp-server"}}}]
        }
    })
}

pub(super) fn scaler() -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {
            "name": "mcp-server", "namespace": "ai-platform", "uid": "s-1", "generation": 1,
            "labels": {"team": "platform", "scaledobject.keda.sh/name": "mcp-server"},
            "annotations": {"autoscaling.keda.sh/paused-replicas": "0", "autoscaling.keda.sh/paused": "true",
                            "example.com/contact": "team"},
            "finalizers": ["finalizer.keda.sh"]
        },
        "spec": {
            "scaleTargetRef": {"name": "mcp-server"},
            "minReplicaCount": 2, "maxReplicaCount": 20, "futureField": 1,
            "advanced": {"horizontalPodAutoscalerConfig": {"name": "mcp-hpa", "behavior": {"scaleDown": {}}}},
            "triggers": [
                {"type": "prometheus", "name": "queue", "metadata": {"serverAddress": "http://p", "threshold": "5",
                    "query": "sum(mcp_request_queue_depth{workload=\"mcp-server\"})"}},
                {"type": "cron", "metadata": {"start": "0 8 * * *"}}
            ]
        },
        "status": {"hpaName": "mcp-hpa"}
    })
}

/// The Service that was there before the Canary: a `LoadBalancer` with a second port.
pub(super) fn apex() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform", "uid": "v-1", "resourceVersion": "9",
                     "labels": {"own": "kept"}},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"app": "mcp-server", "tier": "front"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 30080},
                      {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP", "nodePort": 30090}]
        }
    })
}

/// The demo before the Canary was driven, without an apex.
pub(super) fn demo() -> Objects {
    Objects {
        cluster: "prod-kr".into(),
        canary: Arc::new(canary()),
        target: Some(Arc::new(target())),
        scaler: Some(Arc::new(scaler())),
        ..Objects::default()
    }
}

/// The demo with this in place of `spec.service`.
pub(super) fn demo_with_service(service: Value) -> Objects {
    let mut canary = canary();
    canary["spec"]["service"] = service;
    Objects {
        canary: Arc::new(canary),
        ..demo()
    }
}

pub(super) fn plan_of(objects: &Objects) -> Plan {
    plan(&objects.canary, &Settings::default()).unwrap()
}

/// The one object that the writes create.
pub(super) fn created(writes: &[Write]) -> Value {
    match writes {
        [Write::Create(object)] => object.clone(),
        other => panic!("not one creation: {other:?}"),
    }
}

/// The operations of the one patch.
pub(super) fn patched(writes: &[Write]) -> Value {
    match writes {
        [Write::Patch { ops, .. }] => json!(ops),
        other => panic!("not one patch: {other:?}"),
    }
}

/// Carries the writes out, as an API server would.
pub(super) fn apply(objects: &mut Objects, writes: Vec<Write>) {
    for write in writes {
        let object = match write {
            Write::Create(object) => object,
            Write::Patch { from, ops } => {
                let mut object = (*from).clone();
                let ops: json_patch::Patch = serde_json::from_value(json!(ops)).unwrap();
                json_patch::patch(&mut object, &ops).unwrap();
                object
            }
            Write::Merge { from, patch } => {
                let mut object = (*from).clone();
                json_patch::merge(&mut object, &patch);
                object
            }
            Write::Scale { from, replicas } => {
                let mut object = (*from).clone();
                object["spec"]["replicas"] = json!(replicas);
                object
            }
            Write::Delete { from } => {
                objects.revisions.retain(|pin| pin.name() != from.name());
                continue;
            }
        };
        put(objects, object);
    }
}

fn put(objects: &mut Objects, object: Value) {
    let name = object.name().to_owned();
    let kind = object["kind"].as_str().unwrap().to_owned();
    let place: &mut Option<Object> = match (kind.as_str(), name.rsplit_once("server").unwrap().1) {
        ("Deployment", "") => &mut objects.target,
        ("Deployment", "-primary") => &mut objects.primary,
        ("Service", "") => &mut objects.apex,
        ("Service", "-primary") => &mut objects.primary_service,
        ("Service", "-canary") => &mut objects.canary_service,
        ("VirtualService", "") => &mut objects.virtual_service,
        ("HTTPRoute", "") => &mut objects.http_route,
        ("DestinationRule", "-primary") => &mut objects.primary_rule,
        ("DestinationRule", "-canary") => &mut objects.canary_rule,
        ("ScaledObject", "") => &mut objects.scaler,
        ("ScaledObject", "-primary") => &mut objects.primary_scaler,
        ("ControllerRevision", _) => {
            objects.revisions.push(Arc::new(object));
            return;
        }
        other => panic!("no place for {other:?}"),
    };
    *place = Some(Arc::new(object));
}

/// Annotations of a Service or route of ours.
pub(super) fn disabled() -> Value {
    json!({"kustomize.toolkit.fluxcd.io/reconcile": "disabled", "helm.toolkit.fluxcd.io/driftDetection": "disabled",
           "canary-mcp.dev/epoch": "4"})
}

/// The objects that the writes create.
pub(super) fn creations(writes: &[Write]) -> Vec<Value> {
    writes
        .iter()
        .map(|write| created(std::slice::from_ref(write)))
        .collect()
}

/// Somebody's route: a header rule to another app, the app's own rule with what only they know of.
pub(super) fn foreign() -> Object {
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

/// The demo with this in place of `spec.analysis`, on this router.
pub(super) fn demo_with(provider: &str, service: Value, analysis: Value) -> Objects {
    let mut canary = canary();
    canary["spec"]["provider"] = json!(provider);
    canary["spec"]["service"] = service;
    canary["spec"]["analysis"] = analysis;
    Objects {
        canary: Arc::new(canary),
        ..demo()
    }
}

/// Cookies as a run has them after another one.
pub(super) fn cookies() -> Cookies {
    Cookies {
        canary: Some("lane=abcdefghij".into()),
        primary: Some("home=klmnopqrst".into()),
        previous: Some("lane=zyxwvutsrq".into()),
    }
}

/// Carries out what makes the routes, and returns the stored object of the router.
pub(super) fn ensured(objects: &mut Objects, cookies: &Cookies) -> Value {
    let plan = plan_of(objects);
    let writes = routes::ensure(&plan, objects, cookies, &stamp());
    apply(objects, writes);
    route_of(objects)
}

/// Sends requests so, and returns the operations and the stored object.
pub(super) fn sent(objects: &mut Objects, cookies: &Cookies, traffic: Traffic) -> (Value, Value) {
    let plan = plan_of(objects);
    let writes = routes::set(&plan, objects, cookies, traffic);
    let ops = patched(&writes);
    apply(objects, writes);
    assert_eq!(routes::read(&plan, objects), Some(traffic));
    assert_eq!(routes::set(&plan, objects, cookies, traffic), []);
    assert_eq!(routes::ensure(&plan, objects, cookies, &stamp()), []);
    (ops, route_of(objects))
}

fn route_of(objects: &Objects) -> Value {
    let route = objects.virtual_service.as_ref();
    let route = route.or(objects.http_route.as_ref());
    route.map(|route| (**route).clone()).unwrap()
}
