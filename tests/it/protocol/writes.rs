//! Creates and updates.

use super::*;

#[tokio::test]
async fn an_object_lives() {
    check(Scenario::new(
        "an object lives",
        [
            post(MAPS, &config_map("a", &json!({"k": "v"}))),
            get(&at(MAPS, "a")),
            put(&at(MAPS, "a"), &config_map("a", &json!({"k": "w"}))),
            // Nothing changes: the resourceVersion stays.
            put(&at(MAPS, "a"), &config_map("a", &json!({"k": "w"}))),
            patch("merge", &at(MAPS, "a"), &json!({"data": {"k": "w"}})),
            get(&at(MAPS, "a")),
            delete(&at(MAPS, "a")),
            get(&at(MAPS, "a")),
            post(MAPS, &config_map("a", &json!({"k": "v"}))),
            post(MAPS, &config_map("a", &json!({"k": "v"}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_write_that_comes_too_late_is_a_conflict() {
    let of = |version: &str, value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "resourceVersion": version}, "data": {"k": value}})
    };
    check(Scenario::new(
        "a write that comes too late is a conflict",
        [
            post(MAPS, &config_map("a", &json!({}))).save("first", "/metadata/resourceVersion"),
            put(&at(MAPS, "a"), &of("{first}", "1")).save("second", "/metadata/resourceVersion"),
            put(&at(MAPS, "a"), &of("{first}", "1")),
            patch("merge", &at(MAPS, "a"), &of("{first}", "1")),
            patch("strategic", &at(MAPS, "a"), &of("{first}", "1")),
            patch("json", &at(MAPS, "a"), &json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "{first}"}])),
            put(&at(MAPS, "a"), &of("{second}", "2")),
            put(&at(MAPS, "a"), &of("x", "3")).apart("a mistake answered as a server error"),
            put(&at(MAPS, "a"), &json!({"metadata": {"name": "a", "uid": "00000000-0000-0000-0000-000000000000"}})).apart("words of the storage"),
            patch("merge", &at(MAPS, "a"), &json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}})).apart("mistakes told twice"),
            get(&at(MAPS, "a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_kind_that_wants_a_resource_version() {
    check(Scenario::new(
        "a kind that wants a resourceVersion",
        [
            post(LEASES, &lease("a", &json!({}))).save("lease", "/metadata/resourceVersion"),
            put(&at(LEASES, "a"), &lease("a", &json!({"x": "y"}))),
            post(WIDGETS, &widget("a", &json!({"size": 1})))
                .save("widget", "/metadata/resourceVersion"),
            put(&at(WIDGETS, "a"), &widget("a", &json!({"size": 2}))),
            put(
                &at(WIDGETS, "a"),
                &json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget",
                "metadata": {"name": "a", "resourceVersion": "{widget}"}, "spec": {"size": 2}}),
            ),
            put(
                &at(WIDGETS, "a"),
                &json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget",
                "metadata": {"name": "a", "resourceVersion": "{widget}"}, "spec": {"size": 3}}),
            ),
            get(&at(WIDGETS, "a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn the_server_keeps_its_own_metadata() {
    check(Scenario::new(
        "the server keeps its own metadata",
        [
            post(MAPS, &json!({"metadata": {"name": "a", "uid": "mine", "creationTimestamp": "2020-01-01T00:00:00Z", "selfLink": "/x", "labels": {}, "annotations": {"a": ""}}})),
            patch("merge", &at(MAPS, "a"), &json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z", "generateName": "x", "labels": {"a": "b"}}})),
            patch("merge", &at(MAPS, "a"), &json!({"metadata": {"labels": null, "annotations": null, "creationTimestamp": null}})),
            get(&at(MAPS, "a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn made_up_names() {
    let named = |meta: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
    check(Scenario::new(
        "made-up names",
        [
            post(MAPS, &named(json!({"generateName": "a-"}))),
            post(MAPS, &named(json!({"generateName": "a-", "name": "b"}))),
            post(
                WIDGETS,
                &json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget",
                "metadata": {"generateName": "w-"}, "spec": {"size": 1}}),
            ),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    check(Scenario::new(
        "a dry run writes nothing",
        [
            post(&format!("{MAPS}?dryRun=All"), &config_map("a", &json!({}))),
            get(&at(MAPS, "a")),
            post(MAPS, &config_map("a", &json!({}))),
            post(&format!("{MAPS}?dryRun=All"), &config_map("a", &json!({}))),
            put(
                &format!("{MAPS}/a?dryRun=All"),
                &config_map("a", &json!({"k": "v"})),
            ),
            patch(
                "merge",
                &format!("{MAPS}/a?dryRun=All"),
                &json!({"data": {"k": "v"}}),
            ),
            delete(&format!("{MAPS}/a?dryRun=All")),
            delete(&at(MAPS, "a")).json(&json!({"dryRun": ["All"]})),
            get(&at(MAPS, "a")),
            post(&format!("{MAPS}?dryRun=x"), &config_map("b", &json!({}))),
            put(&format!("{MAPS}/a?dryRun=x"), &config_map("a", &json!({}))),
            patch("merge", &format!("{MAPS}/a?dryRun=x"), &json!({})),
            delete(&format!("{MAPS}/a?dryRun=x")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn unknown_fields() {
    let typo = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "typo": 1}, "spec": {
        "paused": true, "replicas": 0, "typo": 1, "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {
            "containers": [{"name": "c", "image": "x:1", "typo": {"a": 1}}]}}}});
    let with = |validation: &str| format!("{DEPLOYMENTS}?fieldValidation={validation}");
    let scenario = Scenario::new(
        "unknown fields",
        [
            post(&with("Strict"), &typo),
            post(&with("Warn"), &typo),
            put(&format!("{DEPLOYMENTS}/a?fieldValidation=Strict"), &typo),
            patch(
                "merge",
                &format!("{DEPLOYMENTS}/a?fieldValidation=Strict"),
                &json!({"spec": {"typo": 1}}),
            )
            .apart("a patch that makes no object"),
            patch(
                "merge",
                &format!("{DEPLOYMENTS}/a?fieldValidation=Warn"),
                &json!({"spec": {"typo": 1}}),
            ),
            patch(
                "strategic",
                &format!("{DEPLOYMENTS}/a?fieldValidation=Strict"),
                &json!({"spec": {"typo": 1}}),
            )
            .apart("a patch that makes no object"),
            patch(
                "json",
                &format!("{DEPLOYMENTS}/a?fieldValidation=Strict"),
                &json!([{"op": "add", "path": "/spec/typo", "value": 1}]),
            )
            .apart("a patch that makes no object"),
            delete(&at(DEPLOYMENTS, "a")),
            post(&with("Ignore"), &typo),
            delete(&at(DEPLOYMENTS, "a")),
            // Warn is the default.
            post(DEPLOYMENTS, &typo),
            post(&with("x"), &typo),
        ],
    );
    check(scenario.needs(Feature::FieldValidation)).await;
}

#[tokio::test]
async fn defaults_of_a_deployment() {
    let mut probes = deployment("b");
    probes["spec"]["template"]["spec"]["containers"][0] = json!({"name": "c", "image": "x", "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": {"httpGet": {"port": 80}}, "livenessProbe": {"grpc": {"port": 80}},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    probes["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "v", "configMap": {"name": "m"}}, {"name": "e"}]);
    check(Scenario::new(
        "defaults of a deployment",
        [
            post(DEPLOYMENTS, &deployment("a")),
            post(DEPLOYMENTS, &probes).needs(Feature::GrpcProbes),
            put(&at(DEPLOYMENTS, "a"), &deployment("a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn generations() {
    let path = at(DEPLOYMENTS, "a");
    check(Scenario::new(
        "generations",
        [
            post(DEPLOYMENTS, &deployment("a")),
            patch("merge", &path, &json!({"metadata": {"labels": {"x": "y"}}})),
            patch(
                "merge",
                &path,
                &json!({"metadata": {"annotations": {"x": "y"}}}),
            ),
            patch("merge", &path, &json!({"spec": {"minReadySeconds": 1}})),
            patch("merge", &path, &json!({"status": {"replicas": 3}})),
            patch(
                "merge",
                &path,
                &json!({"spec": {"selector": {"matchLabels": {"app": "b"}}}}),
            ),
            post(WIDGETS, &widget("a", &json!({"size": 1}))),
            patch(
                "merge",
                &at(WIDGETS, "a"),
                &json!({"metadata": {"labels": {"x": "y"}}}),
            ),
            patch(
                "merge",
                &at(WIDGETS, "a"),
                &json!({"metadata": {"annotations": {"x": "y"}}}),
            ),
            patch("merge", &at(WIDGETS, "a"), &json!({"spec": {"size": 2}})),
            patch(
                "merge",
                &at(WIDGETS, "a"),
                &json!({"status": {"phase": "x"}}),
            )
            .needs(Feature::ManagedFieldsSubresource),
        ],
    ))
    .await;
}

#[tokio::test]
async fn kinds_that_we_write() {
    check(Scenario::new(
        "kinds that we write",
        [
            post("/api/v1/namespaces/{ns}/services", &json!({"metadata": {"name": "a"}, "spec": {
                "selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "x", "port": 81}]}})).needs(Feature::ServiceDefaults),
            patch("merge", "/api/v1/namespaces/{ns}/services/a", &json!({"spec": {"selector": {"app": "b"}}})).needs(Feature::ServiceDefaults),
            post("/api/v1/namespaces/{ns}/services", &json!({"metadata": {"name": "h"}, "spec": {
                "clusterIP": "None", "selector": {"app": "a"}, "ports": [{"port": 80}]}})).needs(Feature::ServiceDefaults),
            post("/api/v1/namespaces/{ns}/secrets", &json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}})),
            post("/apis/apps/v1/namespaces/{ns}/controllerrevisions", &json!({"metadata": {"name": "a"}, "revision": 1,
                "data": {"spec": {"template": {"x": 1}}}})),
            patch("merge", "/apis/apps/v1/namespaces/{ns}/controllerrevisions/a", &json!({"data": {"spec": null}})),
            patch("merge", "/apis/apps/v1/namespaces/{ns}/controllerrevisions/a", &json!({"revision": 2})),
            post("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices", &json!({"metadata": {"name": "a"},
                "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 80}]})).apart("empty structs").needs(Feature::EndpointSliceV1),
            post("/apis/events.k8s.io/v1/namespaces/{ns}/events", &json!({"metadata": {"name": "a"},
                "eventTime": "2026-11-21T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i", "action": "A",
                "reason": "R", "type": "Normal", "note": "n", "regarding": {"kind": "ConfigMap", "namespace": "{ns}", "name": "x"}})).apart("events of both APIs"),
            get("/api/v1/namespaces/{ns}/events/a").apart("events of both APIs"),
            post("/api/v1/namespaces/{ns}/events", &json!({"metadata": {"name": "b"}, "reason": "R", "message": "m", "type": "Warning",
                "source": {"component": "c"}, "firstTimestamp": "2026-11-21T00:00:00Z", "lastTimestamp": "2026-11-21T00:00:00Z", "count": 1,
                "involvedObject": {"kind": "ConfigMap", "namespace": "{ns}", "name": "x"}})).apart("events of both APIs"),
            get("/apis/events.k8s.io/v1/namespaces/{ns}/events/b").apart("events of both APIs"),
        ],
    ))
    .await;
}
