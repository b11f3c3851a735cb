//! What is served, told to clients.

use super::*;

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

#[tokio::test]
async fn groups_and_versions() {
    check(Scenario::new(
        "groups and versions",
        [
            get("/api"),
            get("/apis/protocol.canary-mcp.dev"),
            get("/apis/protocol.canary-mcp.dev/v1"),
            get("/apis/protocol.canary-mcp.dev/v1beta1"),
            get("/apis/apps"),
            get("/apis/apps/v1"),
            get("/apis/coordination.k8s.io/v1"),
            get("/apis/events.k8s.io/v1"),
            get("/healthz"),
            get("/readyz"),
            get("/livez"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn aggregated() {
    check(Scenario::new(
        "aggregated discovery",
        [
            get("/api").header("accept", AGGREGATED),
            get("/apis").header("accept", AGGREGATED),
            get("/api").header(
                "accept",
                "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io",
            ),
            get("/api").header("accept", "*/*"),
            get("/api").header("accept", ""),
        ],
    ))
    .await;
}

#[tokio::test]
async fn openapi() {
    check(Scenario::new(
        "the index of OpenAPI",
        [get("/openapi/v3"), get("/openapi/v3/apis/nonsense/v1")],
    ))
    .await;
}
