//! Custom resources.

use super::*;

#[tokio::test]
async fn validation() {
    let with = |spec: Value| post(WIDGETS, &widget("a", &spec));
    check(Scenario::new(
        "validation of custom resources",
        [
            with(json!({})),
            with(json!({"size": 11})),
            with(json!({"size": 0})),
            with(json!({"size": 1.5})).apart("words of a schema's validation"),
            with(json!({"size": "1"})),
            with(json!({"size": 1, "color": "blue"})),
            with(json!({"size": 1, "name": "a"})),
            with(json!({"size": 1, "name": "abcdef"})),
            with(json!({"size": 1, "name": "A-1"})),
            with(json!({"size": 1, "replicas": 3_000_000_000_i64})).apart("words of a schema's validation"),
            with(json!({"size": 1, "on": "yes"})),
            with(json!({"size": 1, "port": true})),
            with(json!({"size": 1, "tags": ["a", "a"]})),
            with(json!({"size": 1, "tags": ["a", "b", "c", "d"]})),
            with(json!({"size": 1, "tags": [1, null]})),
            with(json!({"size": 1, "parts": [{"id": "a"}, {"id": "a"}]})),
            with(json!({"size": 1, "parts": [{"weight": 1}]})),
            with(json!({"size": 1, "labels": {"a": "1", "b": "2", "c": "3"}})),
            with(json!({"size": 1, "labels": {"a": 1}})),
            with(json!([])).apart("words of a schema's validation"),
            with(json!(null)),
            post(WIDGETS, &json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget", "metadata": {"name": "a"}})),
            post(WIDGETS, &widget("A", &json!({"size": 1}))),
        ],
    ))
    .await;
}

#[tokio::test]
async fn defaults_and_pruning() {
    let full = json!({"size": 2, "maybe": null, "name": null, "typo": 1, "port": "http", "ratio": 1,
        "parts": [{"id": "a", "typo": 1}, {"id": "b", "weight": 7}], "free": {"a": {"b": null}}, "labels": {"x": "y"}});
    let mut typo = widget("b", &full);
    typo["more"] = json!(1);
    typo["metadata"]["typo"] = json!(1);
    let scenario = Scenario::new(
        "defaults and pruning",
        [
            post(WIDGETS, &widget("a", &full)),
            get(&at(WIDGETS, "a")),
            patch(
                "merge",
                &at(WIDGETS, "a"),
                &json!({"spec": {"color": null, "typo": 2}}),
            ),
            post(&format!("{WIDGETS}?fieldValidation=Strict"), &typo),
            post(&format!("{WIDGETS}?fieldValidation=Warn"), &typo),
            patch(
                "merge",
                &format!("{WIDGETS}/a?fieldValidation=Strict"),
                &json!({"spec": {"typo": 1}}),
            )
            .apart("a patch that makes no object"),
            post(
                &format!("{WIDGETS}?fieldValidation=Ignore"),
                &widget("c", &full),
            ),
            get("/apis/protocol.canary-mcp.dev/v1beta1/namespaces/{ns}/widgets/a"),
            get("/apis/protocol.canary-mcp.dev/v1beta1/namespaces/{ns}/widgets"),
        ],
    );
    check(scenario.needs(Feature::FieldValidation)).await;
}

#[tokio::test]
async fn status_and_scale() {
    let path = at(WIDGETS, "a");
    let (status, scale) = (format!("{path}/status"), format!("{path}/scale"));
    let mut with_status = widget("a", &json!({"size": 1, "replicas": 2}));
    with_status["status"] = json!({"phase": "x"});
    check(Scenario::new(
        "status and scale of custom resources",
        [
            post(WIDGETS, &with_status),
            get(&status),
            patch("merge", &status, &json!({"status": {"phase": "y", "replicas": 1, "selector": "a=b", "typo": 1}, "spec": {"size": 9},
                "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})),
            patch("merge", &status, &json!({"status": {"phase": 7}})).apart("words of a schema's validation"),
            get(&scale),
            patch("merge", &scale, &json!({"spec": {"replicas": 5}})),
            put(&scale, &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "{ns}"}, "spec": {"replicas": 6}})),
            put(&scale, &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "{ns}"}, "spec": {"replicas": -6}})).apart("numbers of a scale that cannot be"),
            get(&path).save("rv", "/metadata/resourceVersion"),
            put(&status, &json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Widget", "metadata": {"name": "a", "resourceVersion": "{rv}"}})),
            post(WIDGETS, &widget("b", &json!({"size": 1}))),
            patch("merge", &format!("{WIDGETS}/none/scale"), &json!({"spec": {"replicas": 5}})),
        ],
    ))
    .await;
}

#[tokio::test]
async fn cluster_wide_ones() {
    let gadgets = "/apis/protocol.canary-mcp.dev/v1/gadgets";
    let gadget = |content: Value| {
        json!({"apiVersion": "protocol.canary-mcp.dev/v1", "kind": "Gadget", "metadata": {"name": "{ns}", "labels": {"in": "{ns}"}},
            "spec": content})
    };
    check(Scenario::new(
        "cluster-wide custom resources",
        [
            post(gadgets, &gadget(json!({"a": [1, {"b": null}]}))),
            get(&format!("{gadgets}/{{ns}}")),
            patch(
                "merge",
                &format!("{gadgets}/{{ns}}"),
                &json!({"spec": {"a": null}}),
            ),
            patch(
                "merge",
                &format!("{gadgets}/{{ns}}"),
                &json!({"status": {"a": 1}}),
            ),
            get(&format!("{gadgets}?labelSelector=in={{ns}}")),
            get("/apis/protocol.canary-mcp.dev/v1/namespaces/{ns}/gadgets"),
            get("/apis/protocol.canary-mcp.dev/v1/widgets/a"),
            delete(&format!("{gadgets}/{{ns}}")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn definitions() {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let with = |name: &str, spec: Value| {
        post(
            definitions,
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": name}, "spec": spec}),
        )
    };
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    check(Scenario::new(
        "definitions with mistakes",
        [
            with("things.{ns}.example", json!({"group": "{ns}.example", "scope": "Namespaced", "names": {"plural": "others", "kind": "Thing"}, "versions": [version]})).apart("words of a definition's validation"),
            with("things.{ns}.example", json!({"group": "{ns}.example", "scope": "X", "names": {"plural": "things", "kind": "Thing"}, "versions": [version]})),
            with("things.{ns}.example", json!({"group": "{ns}.example", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]})).apart("words of a definition's validation"),
            with("things.{ns}.example", json!({"group": "{ns}.example", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": true}]})).apart("words of a definition's validation"),
        ],
    ))
    .await;
}
