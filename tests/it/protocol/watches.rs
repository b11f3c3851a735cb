//! Watches: where they begin, what they tell, how they end.

use super::*;

fn watch(query: &str) -> Step {
    get(&format!("{LEASES}?watch=true&{query}"))
}

fn relabel(name: &str, labels: &Value) -> Step {
    patch(
        "merge",
        &at(LEASES, name),
        &json!({"metadata": {"labels": labels}}),
    )
}

#[tokio::test]
async fn a_watch_from_a_revision_tells_what_came_after_it() {
    check(Scenario::new(
        "a watch from a revision tells what came after it",
        [
            post(LEASES, &lease("a", &json!({}))).save("first", "/metadata/resourceVersion"),
            post(LEASES, &lease("b", &json!({}))),
            relabel("a", &json!({"x": "y"})),
            delete(&at(LEASES, "b")),
            post(LEASES, &lease("b", &json!({}))),
            watch("resourceVersion={first}").events(4),
            get("/apis/coordination.k8s.io/v1/leases?watch=1&fieldSelector=metadata.namespace={ns}&resourceVersion={first}").events(4),
            watch("resourceVersion={first}&fieldSelector=metadata.name=a").events(1),
        ],
    ))
    .await;
}

#[tokio::test]
async fn an_open_watch_tells_what_happens() {
    check(Scenario::new(
        "an open watch tells what happens",
        [
            post(LEASES, &lease("a", &json!({}))),
            watch("").open("all"),
            more("all", 1),
            watch("resourceVersion=0").open("zero"),
            more("zero", 1),
            relabel("a", &json!({"x": "y"})),
            post(LEASES, &lease("b", &json!({}))),
            delete(&at(LEASES, "a")),
            more("all", 3),
            more("zero", 3),
        ],
    ))
    .await;
}

#[tokio::test]
async fn selected_objects_come_and_go() {
    check(Scenario::new(
        "selected objects come and go",
        [
            post(LEASES, &lease("a", &json!({"app": "x"})))
                .save("first", "/metadata/resourceVersion"),
            watch("resourceVersion={first}&labelSelector=app=x").open("x"),
            relabel("a", &json!({"app": "y"})),
            relabel("a", &json!({"app": "z"})),
            relabel("a", &json!({"app": "x"})),
            relabel("a", &json!({"app": "x", "more": "1"})),
            delete(&at(LEASES, "a")),
            post(LEASES, &lease("last", &json!({"app": "x"}))),
            more("x", 5),
            watch("resourceVersion={first}&labelSelector=app=x").events(5),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_watch_ends_in_its_time() {
    check(Scenario::new(
        "a watch ends in its time",
        [
            post(LEASES, &lease("a", &json!({}))),
            watch("timeoutSeconds=2").until_it_ends(),
            watch("timeoutSeconds=x"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn a_streaming_list() {
    let scenario = Scenario::new(
        "a streaming list",
        [
            post(LEASES, &lease("a", &json!({}))),
            post(LEASES, &lease("b", &json!({}))),
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true").events(3).apart("empty structs"),
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=0").events(3).apart("empty structs"),
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=none").events(1).apart("empty structs"),
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
                .header("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
                .events(3),
            get(&format!("{WIDGETS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")).events(1),
            watch("sendInitialEvents=true&allowWatchBookmarks=true"),
            watch("resourceVersionMatch=NotOlderThan"),
            get(&format!("{LEASES}?sendInitialEvents=true")),
        ],
    );
    check(scenario.needs(Feature::StreamingList)).await;
}

#[tokio::test]
async fn watches_that_cannot_begin() {
    check(Scenario::new(
        "watches that cannot begin",
        [
            watch("resourceVersion=x").apart("a mistake answered as a server error"),
            watch("labelSelector=a+in+x").apart("words of the selector's parser"),
            watch("fieldSelector=x=y"),
            get("/api/v1/nonsense?watch=true"),
        ],
    ))
    .await;
}

#[tokio::test]
async fn watches_in_other_forms() {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    check(Scenario::new(
        "watches in other forms",
        [
            post(LEASES, &lease("a", &json!({}))).save("first", "/metadata/resourceVersion"),
            post(LEASES, &lease("b", &json!({}))),
            relabel("b", &json!({"x": "y"})),
            watch("resourceVersion={first}")
                .header("accept", table)
                .events(2),
            watch("resourceVersion={first}")
                .header(
                    "accept",
                    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
                )
                .events(2),
            get(&format!("{LEASES}/b?watch=true")),
        ],
    ))
    .await;
}
