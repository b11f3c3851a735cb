//! The forms in which objects are answered.

use super::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn tables() {
    let of = |path: &str| get(path).header("accept", TABLE);
    check(Scenario::new(
        "tables",
        [
            post(WIDGETS, &widget("a", &json!({"size": 1}))),
            post(WIDGETS, &widget("b", &json!({"size": 2, "color": "green"}))),
            patch(
                "merge",
                &format!("{WIDGETS}/b/status"),
                &json!({"status": {"phase": "x"}}),
            ),
            of(WIDGETS),
            of(&at(WIDGETS, "b")),
            of(&format!("{WIDGETS}?limit=1")),
            of(&format!("{WIDGETS}?includeObject=None")),
            of(&format!("{WIDGETS}?includeObject=Object")),
            of(&at(WIDGETS, "none")),
            of("/apis/protocol.canary-mcp.dev/v1/gadgets?labelSelector=none"),
            post(LEASES, &lease("a", &json!({}))),
            of(LEASES),
            post(DEPLOYMENTS, &deployment("a")),
            of(&format!("{DEPLOYMENTS}?includeObject=None")),
            of("/api/v1/namespaces/{ns}/secrets").needs(Feature::NoTokenSecrets),
            of("/api/v1/namespaces/{ns}/pods").needs(Feature::RestartsAsText),
            of("/api/v1/namespaces/{ns}/services"),
            of(&format!("{MAPS}?labelSelector=none")),
            of("/apis/apps/v1/namespaces/{ns}/replicasets"),
            of("/apis/apps/v1/namespaces/{ns}/controllerrevisions"),
            of("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices")
                .needs(Feature::EndpointSliceV1),
        ],
    ))
    .await;
}

#[tokio::test]
async fn metadata_alone() {
    check(Scenario::new(
        "metadata alone",
        [
            post(
                MAPS,
                &json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}}),
            ),
            get(&at(MAPS, "a")).header("accept", METADATA),
            get(&format!("{MAPS}?labelSelector=x")).header("accept", METADATA_LIST),
            get(&at(MAPS, "none")).header("accept", METADATA),
            patch("merge", &at(MAPS, "a"), &json!({"data": {"k": "w"}})).header("accept", METADATA),
            post(MAPS, &json!({"metadata": {"name": "b"}})).header("accept", METADATA),
            delete(&at(MAPS, "a")).header("accept", METADATA),
            post(WIDGETS, &widget("a", &json!({"size": 1}))),
            get(&at(WIDGETS, "a")).header("accept", METADATA),
            get(WIDGETS).header("accept", METADATA_LIST),
        ],
    ))
    .await;
}

#[tokio::test]
async fn what_is_accepted() {
    let of = |accept: &str| get(&at(WIDGETS, "a")).header("accept", accept);
    check(Scenario::new(
        "what is accepted",
        [
            post(WIDGETS, &widget("a", &json!({"size": 1}))),
            of(""),
            of("*/*"),
            of("application/*"),
            of("text/html"),
            of("text/html,*/*;q=0.5"),
            of("application/json;as=Nonsense;v=v1;g=meta.k8s.io"),
            of("application/json;as=Table;v=v2;g=meta.k8s.io"),
            of("application/json;as=Table;v=v2;g=meta.k8s.io,application/json"),
            of("application/json;as=Table;g=meta.k8s.io"),
            of("application/vnd.kubernetes.protobuf,application/json"),
            of("application/json;stream=watch"),
            of("application/json;charset=utf-8"),
        ],
    ))
    .await;
}
