//! What is refused, and in which words.

use super::*;

#[tokio::test]
async fn what_is_not_there() {
    check(Scenario::new(
        "what is not there",
        [
            get("/nonsense").needs(Feature::NewestWords),
            get("/api/v2"),
            get("/api/v2/pods"),
            get(&at(MAPS, "none")),
            get(&at(DEPLOYMENTS, "none")),
            get("/api/v1/nonsense"),
            get("/api/v1/namespaces/{ns}/nonsense/a"),
            get("/apis/nonsense.example"),
            get("/apis/nonsense.example/v1"),
            get("/apis/nonsense.example/v1/things"),
            get("/apis/apps/v2"),
            get("/apis/apps/v2/deployments"),
            get("/apis/protocol.canary-mcp.dev/v2"),
            get("/apis/protocol.canary-mcp.dev/v2/widgets"),
            get("/apis/protocol.canary-mcp.dev/v1/nonsense"),
            get("/api/v1/namespaces/{ns}-none"),
            get("/api/v1/namespaces/{ns}-none/configmaps"),
            get("/api/v1/namespaces/{ns}-none/configmaps/a"),
            put(&at(MAPS, "none"), &config_map("none", &json!({}))),
            patch("merge", &at(MAPS, "none"), &json!({})),
            delete(&at(MAPS, "none")),
            post(
                "/api/v1/namespaces/{ns}-none/configmaps",
                &config_map("a", &json!({})),
            ),
            post(
                "/apis/protocol.canary-mcp.dev/v1/namespaces/{ns}-none/widgets",
                &widget("a", &json!({"size": 1})),
            ),
        ],
    ))
    .await;
}

#[tokio::test]
async fn methods_that_are_not_offered() {
    check(Scenario::new(
        "methods that are not offered",
        [
            post(&at(MAPS, "a"), &config_map("a", &json!({}))),
            put(MAPS, &config_map("a", &json!({}))),
            patch("merge", MAPS, &json!({})),
            post("/api/v1/configmaps", &config_map("a", &json!({}))),
            call("OPTIONS", MAPS),
            post(
                "/apis/protocol.canary-mcp.dev/v1/widgets",
                &widget("a", &json!({"size": 1})),
            ),
            get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
            delete("/version"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_head_is_an_answer_without_a_body() {
    check(Scenario::new(
        "a HEAD is an answer without a body",
        [
            post(MAPS, &config_map("a", &json!({}))),
            call("HEAD", &at(MAPS, "a")),
            call("HEAD", &at(MAPS, "none")),
            call("HEAD", "/version"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    check(Scenario::new(
        "bodies that cannot be read",
        [
            call("POST", MAPS)
                .text("application/json", "{")
                .apart("words of Go's decoder"),
            call("POST", MAPS)
                .text("application/json", "[]")
                .apart("words of Go's decoder"),
            call("POST", MAPS)
                .text("application/json", "7")
                .apart("words of Go's decoder"),
            call("POST", MAPS)
                .text("application/json", "")
                .apart("words of Go's decoder"),
            call("POST", MAPS).text("text/plain", "{}"),
            call("POST", MAPS).text("application/xml", "<a/>"),
            call("POST", MAPS).text(
                "application/json; charset=utf-8",
                "{\"metadata\":{\"name\":\"b\"}}",
            ),
            call("POST", MAPS).text(
                "application/yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata: {k: v}\n",
            ),
            call("POST", MAPS)
                .text("application/yaml", "a: [b")
                .apart("words of Go's decoder"),
            call("POST", WIDGETS)
                .text("application/json", "{")
                .apart("words of Go's decoder"),
            call("POST", WIDGETS)
                .text("application/json", "[]")
                .apart("words of Go's decoder"),
            call("POST", WIDGETS).text("text/plain", "{}"),
            post(MAPS, &config_map("d", &json!({"k": 1}))).apart("words of Go's decoder"),
            post(MAPS, &config_map("d", &json!(["k"]))).apart("words of Go's decoder"),
            post(
                DEPLOYMENTS,
                &json!({"metadata": {"name": "a"}, "spec": {"replicas": "two"}}),
            )
            .apart("words of Go's decoder"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn what_contradicts_the_url() {
    let mut other_kind = config_map("a", &json!({}));
    other_kind["kind"] = json!("Secret");
    let mut other_version = config_map("a", &json!({}));
    other_version["apiVersion"] = json!("v2");
    let mut other_namespace = config_map("a", &json!({}));
    other_namespace["metadata"]["namespace"] = json!("default");
    let mut other_widget = widget("a", &json!({"size": 1}));
    other_widget["metadata"]["namespace"] = json!("default");

    check(Scenario::new(
        "what contradicts the URL",
        [
            post(MAPS, &other_kind).apart("words of Go's decoder"),
            post(MAPS, &other_version).apart("words of Go's decoder"),
            post(MAPS, &other_namespace),
            post(WIDGETS, &other_widget),
            post(MAPS, &config_map("a", &json!({}))),
            put(&at(MAPS, "a"), &config_map("b", &json!({}))),
            put(&at(MAPS, "a"), &other_namespace),
            patch("merge", &at(MAPS, "a"), &json!({"metadata": {"name": "b"}})),
            patch("merge", &at(MAPS, "a"), &json!({"kind": "Secret"}))
                .apart("a patch that makes no object"),
            post(MAPS, &json!({"metadata": {"name": "c"}})),
            put(
                &at(MAPS, "c"),
                &json!({"metadata": {"name": "c"}, "data": {"k": "v"}}),
            ),
            put(&at(MAPS, "c"), &json!({"data": {"k": "v"}})),
        ],
    ))
    .await;
}

#[tokio::test]
async fn objects_with_mistakes() {
    let named = |name: &str| config_map(name, &json!({}));
    let meta = |meta: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
    let mut selector = deployment("a");
    selector["spec"]["selector"] = json!({});
    let mut two = deployment("a");
    two["spec"]["template"]["spec"]["containers"] =
        json!([{"name": "C"}, {"name": "d", "image": "x"}, {"name": "d", "image": "x"}]);
    let mut labels = deployment("a");
    labels["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
    let mut negative = deployment("a");
    negative["spec"]["replicas"] = json!(-1);
    let mut mount = deployment("a");
    mount["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/v"}]);
    let mut ports = deployment("a");
    ports["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 70000}]);
    check(Scenario::new(
        "objects with mistakes",
        [
            post(MAPS, &named("")),
            post(MAPS, &named("A_b")),
            post(MAPS, &named("a/b")),
            post(MAPS, &meta(json!({"name": "a", "labels": {"a b": "c"}}))),
            post(MAPS, &meta(json!({"name": "a", "labels": {"a": "c d"}}))),
            post(MAPS, &meta(json!({"name": "a", "annotations": {"a b": "c"}}))),
            post(MAPS, &meta(json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "", "name": "x", "uid": ""}]}))),
            post(MAPS, &meta(json!({"name": "a", "finalizers": ["x"]}))),
            post(MAPS, &meta(json!({"name": "a", "resourceVersion": "7"}))).apart("a mistake answered as a server error"),
            post(MAPS, &json!({"apiVersion": "v1", "kind": "ConfigMap"})),
            post("/api/v1/namespaces", &json!({"metadata": {"name": "A.b"}})),

            post("/api/v1/namespaces/{ns}/services", &json!({"metadata": {"name": "a"}, "spec": {}})),
            post(DEPLOYMENTS, &selector),
            post(DEPLOYMENTS, &two),
            post(DEPLOYMENTS, &labels),
            post(DEPLOYMENTS, &negative),
            post(DEPLOYMENTS, &mount),
            post(DEPLOYMENTS, &ports),
            post(LEASES, &json!({"metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 0}})),
        ],
    ))
    .await;
}
