//! Status, scale, and what is none.

use super::*;

#[tokio::test]
async fn status() {
    let path = at(DEPLOYMENTS, "a");
    let status = format!("{path}/status");
    let mut with_status = deployment("a");
    with_status["status"] = json!({"replicas": 7});
    check(Scenario::new(
        "status",
        [
            post(DEPLOYMENTS, &with_status),
            get(&status),
            patch("merge", &status, &json!({"status": {"replicas": 2}, "spec": {"replicas": 5}, "metadata": {"labels": {"a": "b"}}})),
            patch("strategic", &status, &json!({"status": {"conditions": [{"type": "X", "status": "True"}]}})),
            patch("json", &status, &json!([{"op": "add", "path": "/status/readyReplicas", "value": 1}])),
            put(&status, &with_status),
            put(&path, &with_status),
            post(&status, &with_status),
            delete(&status),
            get(&format!("{MAPS}/a/status")),
            patch("merge", &format!("{DEPLOYMENTS}/none/status"), &json!({})),
        ],
    ))
    .await;
}

#[tokio::test]
async fn scale() {
    let path = at(DEPLOYMENTS, "a");
    let scale = format!("{path}/scale");
    let to = |replicas: Value| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "{ns}"},
        "spec": {"replicas": replicas}})
    };
    let late = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", "namespace": "{ns}", "resourceVersion": "{first}"},
        "spec": {"replicas": 1}});
    check(Scenario::new(
        "scale",
        [
            post(DEPLOYMENTS, &deployment("a")).save("first", "/metadata/resourceVersion"),
            get(&scale),
            put(&scale, &to(json!(3))),
            put(&scale, &late),
            patch("merge", &scale, &json!({"spec": {"replicas": 2}})),
            patch(
                "merge",
                &scale,
                &json!({"metadata": {"resourceVersion": "{first}"}, "spec": {"replicas": 1}}),
            ),
            patch(
                "json",
                &scale,
                &json!([{"op": "replace", "path": "/spec/replicas", "value": 1}]),
            ),
            patch("strategic", &scale, &json!({"spec": {"replicas": 4}})),
            put(&scale, &to(json!(-1))),
            put(&scale, &to(json!("x"))),
            put(&scale, &deployment("a")),
            get(&path),
            get(&format!("{DEPLOYMENTS}/none/scale")),
            get(&format!("{MAPS}/a/scale")),
            delete(&scale),
        ],
    ))
    .await;
}

#[tokio::test]
async fn subresources_that_are_none() {
    check(Scenario::new(
        "subresources that are none",
        [
            post(DEPLOYMENTS, &deployment("a")),
            get(&format!("{DEPLOYMENTS}/a/nonsense")),
            put(&format!("{DEPLOYMENTS}/a/nonsense"), &deployment("a")),
            get(&format!("{DEPLOYMENTS}/a/status/more")),
            get(&format!("{WIDGETS}/a/nonsense")),
            get("/apis/protocol.canary-mcp.dev/v1/gadgets/a/status"),
            get("/apis/protocol.canary-mcp.dev/v1/gadgets/a/scale"),
            get("/apis/protocol.canary-mcp.dev/v1beta1/namespaces/{ns}/widgets/a/status"),
        ],
    ))
    .await;
}
