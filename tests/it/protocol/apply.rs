//! Server-side apply: who owns which field after it, and in whose words it is refused.

use super::*;
use crate::control_plane::Feature;

const SERVICES: &str = "/api/v1/namespaces/{ns}/services";

/// Before 1.22 a status had no owner of its own.
fn scenario(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Scenario {
    Scenario::new(name, steps).needs(Feature::ManagedFieldsSubresource)
}

/// `manager` applies `body`, whose name is in it.
fn apply(manager: &str, collection: &str, body: &Value) -> Step {
    let name = body["metadata"]["name"].as_str().unwrap();
    let path = format!("{collection}/{name}?fieldManager={manager}");
    patch("apply", &path, body)
}

fn forced(manager: &str, collection: &str, body: &Value) -> Step {
    apply(&format!("{manager}&force=true"), collection, body)
}

#[expect(clippy::needless_pass_by_value, reason = "literals read better")]
fn map(data: Value) -> Value {
    config_map("a", &data)
}

#[expect(clippy::needless_pass_by_value, reason = "literals read better")]
fn one_widget(spec: Value) -> Value {
    widget("a", &spec)
}

#[expect(clippy::needless_pass_by_value, reason = "literals read better")]
fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec})
}

fn with_containers(containers: Value) -> Value {
    let mut deployment = deployment("a");
    deployment["spec"]["template"]["spec"]["containers"] = containers;
    deployment
}

#[tokio::test]
async fn an_apply_creates_and_the_same_again_changes_nothing() {
    check(scenario(
        "an apply creates",
        [
            apply("one", MAPS, &map(json!({"x": "1"}))),
            apply("one", MAPS, &map(json!({"x": "1"}))),
            apply("one", MAPS, &map(json!({"x": "1", "y": "2"}))),
            apply("one", MAPS, &map(json!({"y": "2"}))),
            apply("one", MAPS, &map(json!({}))),
            get(&format!("{MAPS}/a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn the_same_value_is_shared() {
    check(scenario(
        "the same value is shared",
        [
            apply("one", MAPS, &map(json!({"x": "1", "y": "1"}))),
            apply("two", MAPS, &map(json!({"x": "1"}))),
            apply("one", MAPS, &map(json!({"y": "1"}))),
            apply("two", MAPS, &map(json!({"z": "1"}))),
            apply("two", MAPS, &map(json!({"z": "1"}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn another_value_is_a_conflict() {
    check(scenario(
        "another value is a conflict",
        [
            apply("one", MAPS, &map(json!({"x": "1", "y": "1"}))),
            apply("two", MAPS, &map(json!({"x": "2"}))),
            apply("two", MAPS, &map(json!({"x": "2", "y": "2"}))),
            forced("two", MAPS, &map(json!({"x": "2"}))),
            apply("one", MAPS, &map(json!({"x": "1", "y": "1"}))),
            apply("one", MAPS, &map(json!({"y": "3"}))),
            get(&format!("{MAPS}/a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn updates_own_fields_too() {
    check(scenario(
        "updates own fields too",
        [
            post(MAPS, &map(json!({"x": "1", "y": "1"}))),
            apply("one", MAPS, &map(json!({"x": "1"}))),
            apply("one", MAPS, &map(json!({"x": "1", "y": "2"}))),
            patch(
                "merge",
                &format!("{MAPS}/a?fieldManager=hand"),
                &json!({"data": {"x": "2"}}),
            ),
            apply("one", MAPS, &map(json!({"x": "1"}))),
            patch(
                "merge",
                &format!("{MAPS}/a?fieldManager=hand"),
                &json!({"data": {"x": null}}),
            ),
            patch(
                "json",
                &format!("{MAPS}/a?fieldManager=hand"),
                &json!([{"op": "add", "path": "/data/z", "value": "1"}]),
            ),
            put(
                &format!("{MAPS}/a?fieldManager=third"),
                &map(json!({"z": "1", "w": "1"})),
            ),
            apply("one", MAPS, &map(json!({"x": "1"}))),
            get(&format!("{MAPS}/a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn what_an_apply_has_to_say() {
    let other_kind = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    let other_version = json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let with = |meta: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
    let path = format!("{MAPS}/a?fieldManager=one");
    check(scenario(
        "what an apply has to say",
        [
            patch("apply", &format!("{MAPS}/a"), &map(json!({}))),
            patch("apply", &format!("{MAPS}/a?fieldManager=one&force=false"), &map(json!({"k": "v"}))),
            patch("merge", &format!("{MAPS}/a?fieldManager=one&force=true"), &json!({})),
            patch("apply", &path, &other_kind),
            patch("apply", &path, &other_version),
            patch("apply", &path, &json!({"metadata": {"name": "a"}})),
            patch("apply", &path, &with(json!({"name": "b"}))),
            patch("apply", &path, &with(json!({}))),
            patch("apply", &path, &with(json!({"name": "a", "namespace": "default"}))),
            patch("apply", &path, &with(json!({"name": "a", "managedFields": []}))),
            patch("apply", &path, &with(json!({"name": "a", "managedFields": [{"manager": "x"}]}))),
            patch("apply", &path, &with(json!({"name": "a", "uid": "7f4e3c1a-0000-4000-8000-000000000000"}))),
            patch("apply", &path, &with(json!({"name": "a", "resourceVersion": "1"}))),
            patch("apply", &path, &with(json!({"name": "a", "labels": {"a": "b"}}))),
            patch("apply", &path, &map(json!({"x": 1}))),
            patch("apply", &path, &map(json!(["x"]))),
            patch("apply", &path, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "spec": {}})),
            patch("apply", &format!("{path}&fieldValidation=Strict"), &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "more": 1})),
            patch("apply", &path, &json!([])),
            patch("apply", &path, &json!("x")),
            patch("apply", &path, &json!({})).text("application/apply-patch+yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n"),
            patch("apply", &path, &json!({})).text("application/apply-patch+yaml; charset=utf-8", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn what_the_server_sets_has_no_owner() {
    let with = |meta: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
    check(scenario(
        "what the server sets has no owner",
        [
            apply("one", MAPS, &with(json!({"name": "a", "namespace": "{ns}"}))).save("uid", "/metadata/uid").save("rv", "/metadata/resourceVersion"),
            apply("one", MAPS, &with(json!({"name": "a", "uid": "{uid}", "resourceVersion": "{rv}", "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["x.example/y"]}))),
            apply("one", MAPS, &with(json!({"name": "a", "resourceVersion": "{rv}", "labels": {"a": "c"}}))),
            apply("two", MAPS, &with(json!({"name": "a", "finalizers": ["x.example/z"]}))),
            apply("one", MAPS, &with(json!({"name": "a"}))),
            apply("two", MAPS, &with(json!({"name": "a"}))),
            apply("two", MAPS, &with(json!({"name": "a", "generateName": "a-", "generation": 7, "creationTimestamp": null, "selfLink": "x"}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn managed_fields_are_reset_by_an_empty_list() {
    let path = format!("{MAPS}/a");
    check(scenario(
        "managed fields are reset",
        [
            apply("one", MAPS, &map(json!({"x": "1"}))),
            patch("merge", &path, &json!({"metadata": {"managedFields": null}})),
            patch("merge", &path, &json!({"metadata": {"managedFields": [{}]}})),
            patch("merge", &path, &json!({"data": {"y": "2"}})),
            apply("two", MAPS, &map(json!({"x": "1"}))),
            apply("two", MAPS, &map(json!({"x": "2"}))),
            patch("merge", &path, &json!({"metadata": {"managedFields": []}})),
            patch("json", &path, &json!([{"op": "replace", "path": "/metadata/managedFields", "value": [
                {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:x": {}}}}]}])),
            patch("json", &path, &json!([{"op": "add", "path": "/metadata/managedFields", "value": [
                {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:x": {}}}}]}])),
            apply("m", MAPS, &map(json!({"y": "3"}))),
            patch("merge", &path, &json!({"metadata": {"managedFields": [{"manager": "n", "operation": "Bad"}]}})),
        ],
    ))
    .await;
}

#[tokio::test]
async fn only_some_updates_are_remembered() {
    // The oldest are forgotten first, of one second in the order of their names: these names are in the order of time too.
    let mut steps = vec![post(
        &format!("{MAPS}?fieldManager=a"),
        &map(json!({"k": "0"})),
    )];
    for at in 0..13 {
        let path = format!("{MAPS}/a?fieldManager=m{at:02}");
        let key = format!("k{at:02}");
        steps.push(patch("merge", &path, &json!({"data": {key: "1"}})));
    }
    check(scenario("only some updates are remembered", steps)).await;
}

#[tokio::test]
async fn a_dry_run_answers_and_stores_nothing() {
    check(scenario(
        "a dry run of an apply",
        [
            apply("one&dryRun=All", MAPS, &map(json!({"x": "1"}))),
            get(&format!("{MAPS}/a")),
            apply("one", MAPS, &map(json!({"x": "1"}))),
            apply("two&dryRun=All&force=true", MAPS, &map(json!({"x": "2"}))),
            get(&format!("{MAPS}/a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn ports_of_a_service() {
    let both = json!({"selector": {"app": "a", "tier": "b"}, "ports": [{"port": 80, "name": "http"}, {"port": 80, "protocol": "UDP", "name": "udp"}], "clusterIP": "None"});
    check(scenario(
        "ports of a Service",
        [
            apply("one", SERVICES, &service(both.clone())),
            apply("one", SERVICES, &service(both)),
            apply("two", SERVICES, &service(json!({"ports": [{"port": 90, "name": "two"}]}))),
            apply("two", SERVICES, &service(json!({"ports": [{"port": 80, "name": "web"}]}))),
            apply("two", SERVICES, &service(json!({"selector": {"app": "a"}}))),
            apply("one", SERVICES, &service(json!({"selector": {"app": "a"}, "clusterIP": "None", "ports": [{"port": 80, "name": "http", "targetPort": 8080}]}))),
            apply("one", SERVICES, &service(json!({"ports": [{"port": 80, "name": "http"}, {"port": 80, "name": "again"}]}))),
            apply("one", SERVICES, &service(json!({"clusterIP": "None", "ports": [{"port": 81, "name": "new"}]}))),
            patch("merge", &format!("{SERVICES}/a"), &json!({"spec": {"publishNotReadyAddresses": true}})),
            get(&format!("{SERVICES}/a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_service_by_post() {
    check(scenario(
        "a Service by POST",
        [
            post(SERVICES, &service(json!({"selector": {"app": "a"}, "clusterIP": "None", "ports": [{"port": 80}]}))),
            put(&format!("{SERVICES}/a?fieldManager=two"), &service(json!({"selector": {"app": "b"}, "clusterIP": "None", "ports": [{"port": 80}, {"port": 81, "name": "x"}]}))),
            put(&format!("{SERVICES}/a?fieldManager=two"), &service(json!({"selector": {"app": "b"}, "clusterIP": "None", "ports": [{"port": 80, "name": "y"}, {"port": 81, "name": "x"}]}))),
            apply("one", SERVICES, &service(json!({"type": "ClusterIP", "ports": [{"port": 81, "name": "x"}]}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn containers_of_a_deployment() {
    let one = json!([{"name": "c", "image": "x:1", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "resources": {"limits": {"cpu": "1"}}, "args": ["a", "b"]}]);
    check(scenario(
        "containers of a Deployment",
        [
            apply("one", DEPLOYMENTS, &with_containers(one.clone())),
            apply("one", DEPLOYMENTS, &with_containers(one)),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_deployment_by_post() {
    let mut posted = with_containers(
        json!([{"name": "c", "image": "x:1", "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "1"}, {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}], "livenessProbe": {"httpGet": {"port": 80}}}]),
    );
    posted["metadata"]["labels"] = json!({"a": "b"});
    posted["metadata"]["annotations"] = json!({"c": "d"});
    posted["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "v", "configMap": {"name": "m"}}]);
    posted["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    posted["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    check(scenario(
        "a Deployment by POST",
        [post(DEPLOYMENTS, &posted)],
    ))
    .await;
}

#[tokio::test]
async fn changes_of_a_deployment() {
    let with = |image: &str| with_containers(json!([{"name": "c", "image": image}]));
    let path = format!("{DEPLOYMENTS}/a?fieldManager=hand");
    let bare = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec});
    let containers =
        |containers: Value| bare(json!({"template": {"spec": {"containers": containers}}}));
    check(scenario(
        "changes of a Deployment",
        [
            post(DEPLOYMENTS, &with("x:1")),
            patch("strategic", &path, &json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}})),
            patch("merge", &path, &json!({"metadata": {"annotations": {"a": "b"}}})),
            apply("one", DEPLOYMENTS, &with("x:3")),
            apply("one", DEPLOYMENTS, &containers(json!([{"name": "c", "env": [{"name": "A", "value": "1"}]}]))),
            apply("one", DEPLOYMENTS, &containers(json!([{"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}, {"name": "d", "image": "y:1"}]))),
            apply("one", DEPLOYMENTS, &containers(json!([{"name": "d", "image": "y:1"}, {"name": "c", "env": [{"name": "B", "value": "2"}]}]))),
            apply("two", DEPLOYMENTS, &containers(json!([{"name": "e", "image": "z:1"}, {"name": "d", "image": "y:2"}]))),
            apply("two", DEPLOYMENTS, &bare(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}))),
            forced("two", DEPLOYMENTS, &bare(json!({"strategy": {"type": "Recreate", "rollingUpdate": null}, "replicas": 2}))),
            apply("one", DEPLOYMENTS, &containers(json!([{"name": "c"}]))),
            apply("one", DEPLOYMENTS, &containers(json!([]))),
            apply("two", DEPLOYMENTS, &bare(json!({"replicas": "two"}))),
            get(&format!("{DEPLOYMENTS}/a")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn status_of_a_service() {
    let path = |manager: &str| format!("{SERVICES}/a/status?fieldManager={manager}");
    let condition = |kind: &str, value: &str| json!({"type": kind, "status": value, "reason": "R", "message": "m", "lastTransitionTime": "2026-11-21T00:00:00Z"});
    let status = |kind: &str, value: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"c": "d"}}, "spec": {"type": "NodePort"},
        "status": {"conditions": [condition(kind, value)]}})
    };
    let mut created =
        service(json!({"clusterIP": "None", "selector": {"app": "a"}, "ports": [{"port": 80}]}));
    created["metadata"]["labels"] = json!({"a": "b"});
    check(scenario(
        "status of a Service",
        [
            apply("one", SERVICES, &created),
            patch("apply", &path("s"), &status("Ready", "True")),
            patch("apply", &path("t"), &status("Ready", "False")),
            patch("apply", &path("t&force=true"), &status("Ready", "False")),
            patch("strategic", &path("u"), &json!({"metadata": {"annotations": {"x": "y"}}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}})),
            apply("one", SERVICES, &created),
            get(&format!("{SERVICES}/a/status")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn scale_of_a_deployment() {
    let path = |manager: &str| format!("{DEPLOYMENTS}/a/scale?fieldManager={manager}");
    let get = || get(&at(DEPLOYMENTS, "a"));
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": replicas}});
    let one = with_containers(json!([{"name": "c", "image": "x:1"}]));
    let other_kind =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
    let mut other_name = scale(1);
    other_name["metadata"]["name"] = json!("b");
    check(scenario(
        "scale of a Deployment",
        [
            patch("apply", &path("s"), &scale(1)),
            apply("one", DEPLOYMENTS, &one),
            patch("apply", &path("s"), &scale(2)),
            get(),
            patch("apply", &path("s&force=true"), &scale(2)),
            get(),
            patch("merge", &path("t"), &json!({"spec": {"replicas": 3}})),
            get(),
            patch("apply", &path("s"), &scale(3)),
            get(),
            apply("one", DEPLOYMENTS, &one),
            patch("apply", &path("s"), &other_kind),
            patch("apply", &path("s"), &other_name),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_custom_resource() {
    let full = json!({"size": 3, "tags": ["a", "b"], "parts": [{"id": "x", "weight": 2}, {"id": "y"}], "labels": {"k": "v"},
        "free": {"deep": {"list": [1, {"a": 1}]}, "n": 1}});
    check(scenario(
        "a custom resource",
        [
            apply("one", WIDGETS, &one_widget(full.clone())),
            apply("one", WIDGETS, &one_widget(full)),
            apply("two", WIDGETS, &one_widget(json!({"tags": ["c", "a"], "parts": [{"id": "z"}, {"id": "x", "weight": 3}], "labels": {"l": "w"}}))),
            forced("two", WIDGETS, &one_widget(json!({"tags": ["c", "a"], "parts": [{"id": "z"}, {"id": "x", "weight": 3}], "labels": {"l": "w"}, "free": {"n": 2, "deep": {"list": []}}}))),
            apply("one", WIDGETS, &one_widget(json!({"size": 4, "tags": ["b"], "parts": [{"id": "y"}]}))),
            apply("one", WIDGETS, &one_widget(json!({"size": 4}))),
            apply("two", WIDGETS, &one_widget(json!({}))),
            apply("two", WIDGETS, &one_widget(json!({"tags": ["a", "a"]}))),
            apply("two", WIDGETS, &one_widget(json!({"parts": [{"weight": 1}]}))),
            apply("two", WIDGETS, &one_widget(json!({"nonsense": 1}))),
            apply("two", WIDGETS, &one_widget(json!({"size": 4, "color": "green", "maybe": null}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_custom_resource_by_post() {
    let path = format!("{WIDGETS}/a?fieldManager=hand");
    let full = json!({"size": 3, "tags": ["a", "b"], "parts": [{"id": "x", "weight": 2}, {"id": "y"}], "labels": {"k": "v"}, "free": {"n": [1]}});
    check(scenario(
        "a custom resource by POST",
        [
            post(WIDGETS, &one_widget(full)),
            patch("merge", &path, &json!({"spec": {"parts": [{"id": "x", "weight": 3}], "tags": ["b"], "free": {"m": {}}, "labels": null}})),
            patch("merge", &path, &json!({"metadata": {"annotations": {"a": "b"}}})),
            apply("one", WIDGETS, &one_widget(json!({"size": 3, "color": "red"}))),
            apply("one", WIDGETS, &one_widget(json!({"size": 5, "color": "green"}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn status_and_scale_of_a_custom_resource() {
    let status = |phase: &str| json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget", "metadata": {"name": "a", "labels": {"a": "b"}}, "status": {"phase": phase}});
    let path = |sub: &str, manager: &str| format!("{WIDGETS}/a/{sub}?fieldManager={manager}");
    check(scenario(
        "status and scale of a custom resource",
        [
            apply(
                "one",
                WIDGETS,
                &one_widget(json!({"size": 1, "replicas": 1})),
            ),
            patch("apply", &path("status", "s"), &status("Up")),
            patch("apply", &path("status", "t"), &status("Down")),
            patch(
                "merge",
                &path("status", "t"),
                &json!({"status": {"phase": "Down", "replicas": 1}}),
            ),
            get(&format!("{WIDGETS}/a")),
            // Applied to its scale, the genuine server refuses what its own field managers cannot convert.
            patch(
                "merge",
                &path("scale", "u"),
                &json!({"spec": {"replicas": 2}}),
            ),
            get(&format!("{WIDGETS}/a")),
            apply("one", WIDGETS, &one_widget(json!({"size": 1}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn from_kubectls_client_side_apply() {
    let last = "{\"apiVersion\":\"v1\",\"data\":{\"x\":\"1\",\"y\":\"1\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}";
    let mut posted = map(json!({"x": "1", "y": "1"}));
    posted["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    check(scenario(
        "from kubectl's client-side apply",
        [
            post(
                &format!("{MAPS}?fieldManager=kubectl-client-side-apply"),
                &posted,
            ),
            apply("other", MAPS, &map(json!({"x": "2"}))),
            apply("kubectl", MAPS, &map(json!({"x": "2"}))),
            patch(
                "merge",
                &format!("{MAPS}/a?fieldManager=hand"),
                &json!({"data": {"y": "3"}}),
            ),
            apply("kubectl", MAPS, &map(json!({"x": "2", "y": "4"}))),
            forced("kubectl", MAPS, &map(json!({"x": "2", "y": "4"}))),
        ],
    ))
    .await;
}
