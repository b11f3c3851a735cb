//! Status, scale, and what is none.

use super::*;

#[tokio::test]
async fn status() {
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses";
    let path = at(ingresses, "a");
    let status = format!("{path}/status");
    let ingress = |name: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a", "labels": {"a": name}},
            "spec": {"defaultBackend": {"service": {"name": name, "port": {"number": 80}}}},
            "status": {"loadBalancer": {"ingress": [{"hostname": name}]}}})
    };
    check(Scenario::new(
        "status",
        [
            post(ingresses, &ingress("x")),
            get(&status),
            patch(
                "merge",
                &status,
                &json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.1.2.3"}]}}, "spec": null,
                "metadata": {"labels": {"a": "b"}}}),
            ),
            patch(
                "strategic",
                &status,
                &json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.1.2.4"}]}}}),
            ),
            patch(
                "json",
                &status,
                &json!([{"op": "remove", "path": "/status/loadBalancer/ingress"}]),
            ),
            put(&status, &ingress("y")),
            put(&path, &ingress("z")),
            get(&path),
            post(&status, &ingress("x")),
            delete(&status),
            get(&format!("{MAPS}/a/status")),
            patch("merge", &format!("{ingresses}/none/status"), &json!({})),
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
            put(&scale, &to(json!(-1))).apart("numbers of a scale that cannot be"),
            put(&scale, &to(json!("x"))).apart("numbers of a scale that cannot be"),
            get(&path),
            get(&format!("{DEPLOYMENTS}/none/scale")).needs(Feature::NewestWords),
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
            get(&format!("{WIDGETS}/a/nonsense")),
            get("/apis/protocol.canary-mcp.dev/v1/gadgets/a/status"),
            get("/apis/protocol.canary-mcp.dev/v1/gadgets/a/scale"),
            get("/apis/protocol.canary-mcp.dev/v1beta1/namespaces/{ns}/widgets/a/status"),
        ],
    ))
    .await;
}
