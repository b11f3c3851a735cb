//! What is served, told to clients. Of the genuine server's answers only what the embedded one has as well.

use super::*;

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
const GROUP: &str = "protocol.canary-mcp.dev";

#[tokio::test]
async fn groups_and_versions() {
    check(Scenario::new(
        "groups and versions",
        [
            get("/apis").only("groups", "name", &[GROUP]),
            get("/apis").only("groups", "name", &["apps"]),
            get("/apis/protocol.canary-mcp.dev"),
            get("/apis/protocol.canary-mcp.dev/v1").only(
                "resources",
                "name",
                &["widgets", "widgets/status", "widgets/scale"],
            ),
            get("/apis/protocol.canary-mcp.dev/v1beta1"),
            get("/apis/apps"),
            get("/apis/apps/v1").only(
                "resources",
                "name",
                &[
                    "deployments",
                    "deployments/scale",
                    "deployments/status",
                    "controllerrevisions",
                ],
            ),
            get("/apis/coordination.k8s.io/v1").only("resources", "name", &["leases"]),
            get("/api/v1").only(
                "resources",
                "name",
                &["configmaps", "pods", "secrets", "events"],
            ),
            get("/api/v1")
                .only("resources", "name", &["services"])
                .needs(Feature::ServiceCollections),
            get("/healthz"),
            get("/readyz"),
            get("/livez"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn aggregated() {
    check(
        Scenario::new(
            "aggregated discovery",
            [get("/apis")
                .header("accept", AGGREGATED)
                .only("items", "metadata", &[GROUP])],
        )
        .needs(Feature::AggregatedDiscovery),
    )
    .await;
}
