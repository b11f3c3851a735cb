//! The patch formats.

use super::*;

#[tokio::test]
async fn json_patches() {
    let path = at(MAPS, "a");
    let to = |operations: Value| patch("json", &path, &operations);
    check(Scenario::new(
        "JSON patches",
        [
            post(MAPS, &config_map("a", &json!({"k": "v"}))),
            to(json!([{"op": "test", "path": "/data/k", "value": "v"}, {"op": "replace", "path": "/data/k", "value": "w"}])),
            to(json!([{"op": "add", "path": "/data/new", "value": "x"}, {"op": "add", "path": "/metadata/annotations", "value": {"a/b": "c"}}, {"op": "remove", "path": "/metadata/annotations/a~1b"}])),
            to(json!([{"op": "copy", "from": "/data/k", "path": "/data/l"}, {"op": "move", "from": "/data/new", "path": "/data/m"}])),
            to(json!([])),
            to(json!([{"op": "test", "path": "/metadata/finalizers", "value": null}])),
            to(json!([{"op": "test", "path": "/metadata/annotations/x", "value": null}])).apart("why a JSON patch does not apply"),
            to(json!([{"op": "test", "path": "/data/k", "value": "v"}])).apart("why a JSON patch does not apply"),
            to(json!([{"op": "test", "path": "/data/none", "value": "v"}])).apart("why a JSON patch does not apply"),
            to(json!([{"op": "remove", "path": "/data/none"}])).apart("why a JSON patch does not apply"),
            to(json!([{"op": "replace", "path": "/data/none", "value": "x"}])),
            to(json!([{"op": "add", "path": "/none/x", "value": "x"}])).apart("why a JSON patch does not apply"),
            to(json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "x"}])).apart("why a JSON patch does not apply"),
            to(json!([{"op": "copy", "from": "/data/none", "path": "/data/x"}])),
            to(json!([{"op": "move", "from": "/data/none", "path": "/data/x"}])),
            to(json!([{"op": "nonsense", "path": "/data/x"}])).apart("why a JSON patch does not apply"),
            to(json!([{"op": "add"}])).apart("why a JSON patch does not apply"),
            to(json!({"op": "add"})).apart("words of Go's decoder"),
            to(json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}])),
            to(json!([{"op": "add", "path": "/metadata/labels/c", "value": "d"}])),
            get(&path),
        ],
    ))
    .await;
}

#[tokio::test]
async fn merge_patches() {
    let path = at(MAPS, "a");
    let to = |patched: Value| patch("merge", &path, &patched);
    check(Scenario::new(
        "merge patches",
        [
            post(MAPS, &config_map("a", &json!({"k": "v"}))),
            to(json!({"data": {"k": null, "l": "x"}, "metadata": {"labels": {"a": "b"}}})),
            to(json!({"data": null})),
            to(json!({})),
            to(json!([]))
                .apart("words of Go's decoder")
                .needs(Feature::MistakesAreBadRequests),
            to(json!("x"))
                .apart("words of Go's decoder")
                .needs(Feature::MistakesAreBadRequests),
            patch("merge", &path, &json!({}))
                .text("application/merge-patch+json", "{")
                .apart("words of Go's decoder")
                .needs(Feature::MistakesAreBadRequests),
            to(json!({"data": {"k": 7}})).apart("a patch that makes no object"),
            to(json!({"data": {"k": {"deep": null}}})).apart("a patch that makes no object"),
            get(&path),
        ],
    ))
    .await;
}

#[tokio::test]
async fn strategic_patches() {
    let path = at(DEPLOYMENTS, "a");
    let to = |patched: Value| patch("strategic", &path, &patched);
    let spec = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    check(Scenario::new(
        "strategic merge patches",
        [
            post(DEPLOYMENTS, &deployment("a")),
            to(spec(json!({"containers": [{"name": "c", "image": "x:2"}]}))),
            to(spec(json!({"containers": [{"name": "d", "image": "y:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]}))),
            to(spec(json!({"containers": [{"name": "d", "env": [{"name": "A", "$patch": "delete"}, {"name": "C", "value": "3"}]}]}))),
            to(spec(json!({"containers": [{"name": "d", "ports": [{"containerPort": 80}, {"containerPort": 81, "name": "m"}]}]}))),
            to(spec(json!({"containers": [{"name": "d", "ports": [{"containerPort": 80, "name": "web"}]}]}))),
            to(spec(json!({"containers": [{"name": "d", "$patch": "delete"}], "nodeSelector": {"a": "b"}}))),
            to(spec(json!({"nodeSelector": {"$patch": "replace", "c": "d"}}))),
            to(spec(json!({"nodeSelector": null}))),
            to(spec(json!({"$setElementOrder/containers": [{"name": "e"}, {"name": "c"}], "containers": [{"name": "e", "image": "z"}]}))),
            to(json!({"metadata": {"finalizers": ["a.b/c"]}})),
            to(json!({"metadata": {"finalizers": ["a.b/d"]}})),
            to(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/c"]}})),
            to(json!({"metadata": {"finalizers": null}})),
            to(json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})),
            to(spec(json!({"containers": [{"image": "x"}]}))).apart("a patch that makes no object"),
            to(spec(json!({"containers": "x"}))).apart("a patch that makes no object"),
            to(json!({"spec": {"$patch": "nonsense"}})).apart("a patch that makes no object"),
            to(json!([])).apart("words of Go's decoder"),
            get(&path),
        ],
    ))
    .await;
}

#[tokio::test]
async fn patches_of_unknown_formats() {
    check(Scenario::new(
        "patches of unknown formats",
        [
            post(MAPS, &config_map("a", &json!({}))),
            patch("merge", &at(MAPS, "a"), &json!({})).header("content-type", "application/json"),
            patch("merge", &at(MAPS, "a"), &json!({})).header("content-type", "text/plain"),
            patch("merge", &at(MAPS, "a"), &json!({"data": {"k": "v"}})).header(
                "content-type",
                "application/merge-patch+json; charset=utf-8",
            ),
            post(WIDGETS, &widget("a", &json!({"size": 1}))),
            patch(
                "strategic",
                &at(WIDGETS, "a"),
                &json!({"spec": {"size": 2}}),
            ),
            patch("merge", &at(WIDGETS, "a"), &json!({}))
                .header("content-type", "application/json"),
            patch("merge", &at(WIDGETS, "a"), &json!({"spec": {"size": 2}})),
            patch(
                "json",
                &at(WIDGETS, "a"),
                &json!([{"op": "replace", "path": "/spec/size", "value": 3}]),
            ),
        ],
    ))
    .await;
}
