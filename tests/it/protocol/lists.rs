//! Lists: selectors, pages, revisions.

use super::*;

fn three() -> [Step; 3] {
    [
        post(LEASES, &lease("a", &json!({"app": "x", "tier": "web"}))),
        post(LEASES, &lease("b", &json!({"app": "y"}))),
        post(LEASES, &lease("c", &json!({}))),
    ]
}

fn list(query: &str) -> Step {
    get(&format!("{LEASES}?{query}"))
}

#[tokio::test]
async fn label_selectors() {
    let good = [
        "",
        "app=x",
        "app==x",
        "app!=x",
        "app=x,tier=web",
        "app+in+(x,y)",
        "app+notin+(x)",
        "app",
        "!app",
        "app,!tier",
        "none+notin+(x)",
        "app=",
    ];
    let bad = [
        "app+in+(x",
        "app+in+x",
        "=x",
        "!",
        "app=x=y",
        "app+is+x",
        "a+b",
    ];
    let list_of = |selector: &&str| list(&format!("labelSelector={selector}"));
    let good = good.iter().map(list_of);
    let bad = bad.iter().map(list_of);
    let bad = bad.map(|step| step.apart("words of the selector's parser"));
    check(Scenario::new(
        "label selectors",
        three().into_iter().chain(good).chain(bad),
    ))
    .await;
}

#[tokio::test]
async fn field_selectors() {
    let queries = [
        "metadata.name=a",
        "metadata.name==a",
        "metadata.name!=a",
        "metadata.namespace={ns}",
        "metadata.namespace=x",
        "metadata.name=a,metadata.name=b",
        "metadata.name",
        "spec.holderIdentity=h",
        "nonsense=x",
        "metadata.name+in+(a)",
    ];
    let lists = queries
        .iter()
        .map(|query| list(&format!("fieldSelector={query}")));
    let others = [
        get("/api/v1/namespaces/{ns}/secrets?fieldSelector=data.k=v"),
        get("/api/v1/namespaces/{ns}/secrets?fieldSelector=type=Opaque"),
        get("/api/v1/namespaces/{ns}/pods?fieldSelector=spec.nodeName=x,status.phase!=Running"),
        get("/api/v1/namespaces/{ns}/pods?fieldSelector=spec.x=x"),
        get("/api/v1/namespaces/{ns}/events?fieldSelector=involvedObject.name=x,reason=R"),
        get("/api/v1/namespaces/{ns}/events?fieldSelector=x=x"),
        get(&format!("{WIDGETS}?fieldSelector=metadata.name=a")),
        get(&format!("{WIDGETS}?fieldSelector=spec.size=1")),
        get("/apis/protocol.canary-mcp.dev/v1/gadgets?fieldSelector=metadata.namespace=a"),
        get(&format!("{DEPLOYMENTS}?fieldSelector=spec.replicas=1")),
    ];
    check(Scenario::new(
        "field selectors",
        three().into_iter().chain(lists).chain(others),
    ))
    .await;
}

#[tokio::test]
async fn pages() {
    check(Scenario::new(
        "pages",
        three().into_iter().chain([
            list("limit=2").save("next", "/metadata/continue"),
            // A page shows the revision of the first.
            delete(&at(LEASES, "c")),
            post(LEASES, &lease("d", &json!({}))),
            list("limit=2&continue={next}"),
            list("continue={next}"),
            list("limit=1").save("next", "/metadata/continue"),
            list("limit=1&continue={next}"),
            list("limit=3"),
            list("limit=0"),
            list("limit=1&labelSelector=app"),
            list("limit=1&fieldSelector=metadata.name!=a"),
            list("limit=x"),
            list("limit=-1"),
            list("continue=nonsense").apart("words of Go's decoder"),
            list("limit=1&continue={next}&resourceVersion=1"),
        ]),
    ))
    .await;
}

#[tokio::test]
async fn revisions() {
    check(Scenario::new(
        "revisions",
        [
            post(LEASES, &lease("a", &json!({}))).save("first", "/metadata/resourceVersion"),
            post(LEASES, &lease("b", &json!({}))),
            list("resourceVersion=0&resourceVersionMatch=NotOlderThan")
                .needs(Feature::OrderedCache),
            list("resourceVersion={first}&resourceVersionMatch=Exact"),
            list("resourceVersion={first}&resourceVersionMatch=NotOlderThan")
                .needs(Feature::OrderedCache),
            list("resourceVersion={first}").needs(Feature::OrderedCache),
            list("resourceVersion=0&resourceVersionMatch=Exact"),
            list("resourceVersionMatch=Exact"),
            list("resourceVersion={first}&resourceVersionMatch=x"),
            list("resourceVersion=x").needs(Feature::MistakesAreBadRequests),
            list("resourceVersion=-1").needs(Feature::MistakesAreBadRequests),
            get(&format!("{LEASES}/a?resourceVersion=0")),
            get(&format!("{LEASES}/a?resourceVersion={{first}}")),
            list("resourceVersion=9000000000"),
            get(&format!("{LEASES}/a?resourceVersion=9000000000")),
        ],
    ))
    .await;
}

#[tokio::test]
async fn lists_of_many_namespaces() {
    check(Scenario::new(
        "lists of many namespaces",
        three().into_iter().chain([
            get("/apis/coordination.k8s.io/v1/leases?fieldSelector=metadata.namespace={ns}"),
            get("/apis/coordination.k8s.io/v1/leases?labelSelector=nonsense"),
            get("/apis/protocol.canary-mcp.dev/v1/widgets?fieldSelector=metadata.namespace={ns}"),
        ]),
    ))
    .await;
}
