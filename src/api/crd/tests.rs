use serde_json::json;

use super::*;

fn schema(i: usize) -> Value {
    crds()[i]["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// What an API server would drop from `value` or refuse in it.
fn lost(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        _ => schema["x-kubernetes-int-or-string"] == true && (value.is_i64() || value.is_string()),
    };
    if !fits {
        return vec![format!("{path}: wrong type")];
    }
    let mut all = Vec::new();
    for required in schema["required"].as_array().into_iter().flatten() {
        if value[required.as_str().unwrap()].is_null() {
            all.push(format!("{path}.{}: missing", required.as_str().unwrap()));
        }
    }
    for (key, field) in value.as_object().into_iter().flatten() {
        let at = format!("{path}.{key}");
        if let Some(known) = schema["properties"].get(key) {
            all.extend(lost(known, field, &at));
        } else if let Some(values) = schema.get("additionalProperties") {
            all.extend(lost(values, field, &at));
        } else if schema["x-kubernetes-preserve-unknown-fields"] != true
            && !at.starts_with(".metadata.")
        {
            all.push(format!("{at}: unknown"));
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        all.extend(lost(&schema["items"], item, &format!("{path}[{i}]")));
    }
    all
}

/// Structural, as Kubernetes wants it: every node says what it is, and only known keywords are used.
fn structural(schema: &Value, path: &str, wrong: &mut Vec<String>) {
    let known = [
        "type",
        "description",
        "properties",
        "items",
        "additionalProperties",
        "required",
        "format",
        "minimum",
        "maximum",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
    ];
    for key in schema.as_object().unwrap().keys() {
        if !known.contains(&key.as_str()) {
            wrong.push(format!("{path}: keyword {key}"));
        }
    }
    if schema["type"].is_null() && schema["x-kubernetes-int-or-string"] != true {
        wrong.push(format!("{path}: no type"));
    }
    if schema["type"] == "array" && schema["items"].is_null() {
        wrong.push(format!("{path}: no items"));
    }
    for (key, field) in schema["properties"].as_object().into_iter().flatten() {
        structural(field, &format!("{path}.{key}"), wrong);
    }
    for part in ["items", "additionalProperties"] {
        if let Some(field) = schema.get(part) {
            structural(field, &format!("{path}.{part}"), wrong);
        }
    }
}

#[test]
fn the_definitions_are_structural_and_named_as_flaggers() {
    let names: Vec<_> = crds()
        .iter()
        .map(|crd| crd["metadata"]["name"].clone())
        .collect();
    assert_eq!(
        names,
        [
            "canaries.flagger.app",
            "metrictemplates.flagger.app",
            "alertproviders.flagger.app"
        ]
    );
    let mut wrong = Vec::new();
    for i in 0..3 {
        structural(&schema(i), "", &mut wrong);
    }
    assert_eq!(wrong, Vec::<String>::new());
    let columns: Vec<_> = crds()[0]["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].clone())
        .collect();
    assert_eq!(
        columns,
        [
            "Status",
            "Weight",
            "Suspended",
            "FailedChecks",
            "Interval",
            "Mirror",
            "StepWeight",
            "StepWeights",
            "MaxWeight",
            "LastTransitionTime"
        ]
    );
}

#[test]
fn the_yaml_is_the_same_three_documents() {
    let documents: Vec<Value> = yaml()
        .split("---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect();
    assert_eq!(documents, crds());
}

/// Shapes that are met in the wild, one for each strategy and habit of writing.
const MANIFESTS: [&str; 7] = [
    "
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  progressDeadlineSeconds: 60
  service: {port: 9898, targetPort: 9898, portDiscovery: true}
  analysis:
    interval: 1m
    threshold: 10
    maxWeight: 50
    stepWeight: 5
    metrics:
      - {name: request-success-rate, thresholdRange: {min: 99}, interval: 1m}
      - {name: request-duration, threshold: 500, interval: 30s}
    webhooks:
      - name: load-test
        type: rollout
        url: http://flagger-loadtester.test/
        timeout: 5s
        metadata: {type: cmd, cmd: hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/}
",
    "
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: recommendation}
  service:
    port: 8080
    targetPort: http
    gateways: [mobile-gateway]
    hosts: [api.mobile.example.com]
    trafficPolicy:
      tls: {mode: ISTIO_MUTUAL}
      connectionPool: {tcp: {maxConnections: 100}}
  analysis:
    interval: 1h
    iterations: 168
    match:
      - headers: {x-app-version: {regex: '^2\\..*'}}
      - headers: {x-mobile-beta: {exact: 'true'}}
    sessionAffinity: {cookieName: recommendation-version, maxAge: 604800}
    metrics:
      - name: click-through-rate
        query: sum(rate(clicks_total[1h])) / sum(rate(views_total[1h])) * 100
        thresholdRange: {min: 5}
        interval: 1h
    alerts:
      - {name: team, severity: info, providerRef: {name: slack-mobile, namespace: flagger-system}}
",
    "
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: user-service}
  service: {port: 8080}
  analysis:
    interval: 1m
    iterations: 10
    webhooks:
      - {name: db-migration, type: pre-rollout, url: http://migration-runner/, timeout: 300s, metadata: {type: bash, cmd: migrate up}}
      - {name: gate, type: confirm-promotion, url: http://flagger-loadtester/gate/approve, retries: 3, muteAlert: true}
      - {name: db-rollback, type: rollback, url: http://migration-runner/, disableTLS: true}
",
    "
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: api-gateway}
  service: {port: 8080, gateways: [istio-system/public-gateway], hosts: [api.example.com]}
  analysis:
    interval: 1m
    iterations: 10
    mirror: true
    mirrorWeight: 100
    canaryReadyThreshold: 0
    canaryAnalysis: {stepWeightPromotion: 10, maxMirrorWeight: 100, templateVariables: {nodeSelector: {node-type: spot}}}
    metrics:
      - {name: error-rate, thresholdRange: {max: 1}, interval: 1m}
",
    "
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: staging}
  analysis: {interval: 30s, threshold: 3, maxWeight: 100, stepWeight: 20, iterations: 5}
",
    "
spec:
  provider: istio
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: mcp-server}
  autoscalerRef:
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    name: mcp-server
    primaryScalerQueries: {queueLength: 'sum(x)'}
    primaryScalerReplicas: {minReplicas: 2, maxReplicas: 10}
    canaryScalerQueries: {queueLength: 'sum(y)'}
  service: {port: 8080, gateways: [public-gateway.istio-system.svc.cluster.local]}
  analysis:
    interval: 1m
    threshold: 5
    stepWeights: [1, 2, 10, 80]
    stepWeightPromotion: 50
    settle: 5s
    metrics:
      - {name: mcp-latency, templateRef: {name: mcp-latency-template, namespace: flagger-system}, thresholdRange: {max: 2000},
         templateVariables: {tool: search}}
",
    "
spec:
  provider: gatewayapi:v1
  metricsServer: http://prometheus:9090
  skipAnalysis: false
  revertOnDeletion: true
  suspend: false
  targetRef: {apiVersion: apps/v1, kind: DaemonSet, name: web}
  ingressRef: {apiVersion: networking.k8s.io/v1, kind: Ingress, name: web}
  routeRef: {apiVersion: apisix.apache.org/v2, kind: ApisixRoute, name: web}
  upstreamRef: {apiVersion: gloo.solo.io/v1, kind: Upstream, name: web, namespace: gloo}
  service:
    name: web
    port: 80
    portName: http
    appProtocol: http
    trafficDistribution: PreferClose
    headless: false
    timeout: 15s
    backendTimeout: 10s
    meshName: mesh
    backends: [a.test]
    gatewayRefs: [{name: gw, namespace: istio, group: gateway.networking.k8s.io, kind: Gateway, sectionName: http, port: 80}]
    delegation: false
    match: [{uri: {prefix: /}, ignoreUriCase: true, headers: {x: {regex: y}}, queryParams: {a: {exact: b}}}]
    rewrite: {uri: /, authority: a, type: ReplacePrefixMatch}
    retries: {attempts: 3, perTryTimeout: 1s, retryOn: 'gateway-error'}
    headers: {request: {add: {a: b}, set: {c: d}, remove: [e]}, response: {remove: [f]}}
    mirror: [{backendRef: {name: m, port: 80}}]
    corsPolicy: {allowOrigin: [a], allowOrigins: [{exact: a}], allowMethods: [GET], allowCredentials: true, maxAge: 24h}
    apex: {labels: {a: b}, annotations: {c: d}}
    primary: {labels: {a: b}}
    canary: {annotations: {c: d}}
    unmanagedMetadata: {labels: [a], annotations: [b]}
  analysis:
    interval: 1m30s
    threshold: 2
    primaryReadyThreshold: 50
    stepWeight: 10
    sessionAffinity: {cookieName: a, primaryCookieName: b, domain: c, httpOnly: true, partitioned: true, path: /, sameSite: Lax, secure: true}
",
];

#[test]
fn every_field_of_every_habit_is_accepted_and_kept() {
    for manifest in MANIFESTS {
        let mut canary: Value = serde_saphyr::from_str(manifest).unwrap();
        canary["apiVersion"] = json!("flagger.app/v1beta1");
        canary["kind"] = json!("Canary");
        canary["metadata"] = json!({"name": "x", "namespace": "y"});
        assert_eq!(
            lost(&schema(0), &canary, ""),
            Vec::<String>::new(),
            "{manifest}"
        );
    }
}

#[test]
fn the_other_two_kinds_keep_every_field() {
    let template = json!({"spec": {"provider": {"type": "datadog", "address": "http://a", "headers": {"X": ["y"]},
        "secretRef": {"name": "s"}, "region": "r", "insecureSkipVerify": true}, "query": "q"}});
    assert_eq!(lost(&schema(1), &template, ""), Vec::<String>::new());
    let alert = json!({"spec": {"type": "slack", "channel": "c", "username": "u", "address": "http://a",
        "proxy": "http://p", "secretRef": {"name": "s"}}});
    assert_eq!(lost(&schema(2), &alert, ""), Vec::<String>::new());
}

#[test]
fn every_field_of_a_recorded_status_is_kept() {
    let status = json!({
        "phase": "Progressing", "canaryWeight": 10, "failedChecks": 1, "iterations": 0, "trackedConfigs": {"configmap/x": "0"},
        "lastAppliedSpec": "a", "lastPromotedSpec": "b", "lastTransitionTime": "2026-07-21T12:00:00Z",
        "sessionAffinityCookie": "a", "primarySessionAffinityCookie": "b", "previousSessionAffinityCookie": "c",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "m", "observedGeneration": 7,
                        "lastUpdateTime": "2026-07-21T12:00:00Z", "lastTransitionTime": "2026-07-21T12:00:00Z"}],
        "run": {"id": "i", "n": 3, "revision": "r", "template": "t", "previous": "p", "startedAt": "2026-07-21T11:57:59.75Z",
                "stage": "analysing", "stageAt": "2026-07-21T11:59:00Z", "routeWrittenAt": "2026-07-21T11:59:59.999Z",
                "skip": {"source": "person", "by": "ann"}, "reason": "x", "outcome": "rolledBack", "matched": true, "mirror": 10,
                "iteration": 2, "reset": true, "waiting": {"what": "traffic", "hook": "h", "since": "2026-07-21T11:59:00Z"}},
        "nextCheckAt": "2026-07-21T12:01:00Z", "handledRequest": "7c1e",
        "canaryAnalysis": {
            "checks": [{"name": "n", "value": 99.9, "min": 99.5, "max": 1.0, "verdict": "pass", "query": "q", "at": "2026-07-21T12:00:00Z", "error": "e"}],
            "steps": [{"weight": 5, "matched": true, "mirror": 10, "at": "2026-07-21T11:59:00Z", "verdict": "noData",
                       "checks": [{"name": "n", "value": 1, "verdict": "noData"}]}],
            "merged": 2, "share": 9.75, "shareAt": "2026-07-21T12:00:00Z"}
    });
    assert_eq!(
        lost(&schema(0)["properties"]["status"], &status, ""),
        Vec::<String>::new()
    );
}
