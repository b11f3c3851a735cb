//! Discovery, tables, events, service proxy, faults.

use super::*;

#[tokio::test]
async fn discovery_finds_built_in_and_custom_kinds_both_ways() {
    let server = server();
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let client = server.client();
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(
        (version.major.as_str(), version.minor.as_str()),
        ("1", "33")
    );
    let aggregated = Discovery::new(client.clone())
        .run_aggregated()
        .await
        .unwrap();
    let legacy = Discovery::new(client.clone()).run().await.unwrap();
    for discovery in [aggregated, legacy] {
        let group = discovery.get("flagger.app").unwrap();
        assert_eq!(group.preferred_version_or_latest(), "v1beta1");
        let (resource, capabilities) = group.recommended_kind("Canary").unwrap();
        assert_eq!(resource.plural, "canaries");
        assert!(capabilities.supports_operation(kube::discovery::verbs::WATCH));
        let core = discovery.get("").unwrap();
        assert!(core.recommended_kind("Pod").is_some());
        let apps = discovery
            .get("apps")
            .unwrap()
            .recommended_kind("Deployment")
            .unwrap();
        let subresources: Vec<_> = apps
            .1
            .subresources
            .iter()
            .map(|(r, _)| r.plural.as_str())
            .collect();
        assert!(
            subresources.iter().any(|s| s.ends_with("scale")),
            "{subresources:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tables_show_printer_columns_and_virtual_ages() {
    let server = server();
    server
        .store()
        .create(&CRD, canary_definition(), "kubectl")
        .unwrap();
    let client = server.client();
    dynamic(&CANARY, &client, "default")
        .create(&PostParams::default(), &canary("a"))
        .await
        .unwrap();
    server
        .store()
        .modify_status(&CANARY, "default", "a", "canary-mcp", |canary| {
            canary["status"] = json!({"phase": "Progressing", "canaryWeight": 5});
        })
        .unwrap();
    maps(&client)
        .create(&PostParams::default(), &config_map("m", "1"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let table = ("application/json;as=Table;v=v1;g=meta.k8s.io", "");
    let path = "/apis/flagger.app/v1beta1/namespaces/default/canaries";
    let (_, canaries) = raw(&client, "GET", path, table, Value::Null).await;
    let names: Vec<_> = canaries
        .array_at("/columnDefinitions")
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(names, ["Name", "Status", "Weight"]);
    assert_eq!(canaries["rows"][0]["cells"], json!(["a", "Progressing", 5]));
    assert_eq!(
        canaries["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );
    let (_, maps) = raw(&client, "GET", "/api/v1/configmaps", table, Value::Null).await;
    assert_eq!(maps["rows"][0]["cells"], json!(["m", 1, "3m"]));
}

#[tokio::test]
async fn events_are_one_object_in_both_groups() {
    let server = server();
    let client = server.client();
    let newer: Api<Event> = Api::namespaced(client.clone(), "default");
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": "web.1"}, "eventTime": "2026-11-21T00:00:00.000000Z",
        "reportingController": "canary-mcp", "reportingInstance": "x", "action": "Synced", "reason": "Synced",
        "type": "Normal", "note": "advance", "regarding": {"kind": "Canary", "name": "web", "namespace": "default"},
    }))
    .unwrap();
    newer.create(&PostParams::default(), &event).await.unwrap();
    let core: Api<CoreEvent> = Api::namespaced(client.clone(), "default");
    let about = ListParams::default().fields("involvedObject.kind=Canary,involvedObject.name=web");
    let seen = core.list(&about).await.unwrap();
    assert_eq!(seen.items[0].message.as_deref(), Some("advance"));
    assert_eq!(seen.items[0].involved_object.name.as_deref(), Some("web"));
    let legacy: CoreEvent = serde_json::from_value(json!({
        "metadata": {"name": "web.2"}, "reason": "Killing", "message": "bye", "type": "Warning", "count": 2,
        "source": {"component": "kubelet"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
    }))
    .unwrap();
    core.create(&PostParams::default(), &legacy).await.unwrap();
    let about = ListParams::default().fields("regarding.name=p");
    let seen = newer.list(&about).await.unwrap();
    assert_eq!(seen.items[0].note.as_deref(), Some("bye"));
    assert_eq!(seen.items[0].deprecated_count, Some(2));
    let patch = Patch::Merge(json!({"count": 3, "message": "bye bye"}));
    let patched = core
        .patch("web.2", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        (patched.count, patched.message.as_deref()),
        (Some(3), Some("bye bye"))
    );
    assert_eq!(server.store().list(&EVENT, Some("default")).len(), 2);
    let wrong = core.list(&ListParams::default().fields("data.k=v")).await;
    assert_eq!(status(wrong).code, 400);
}

#[tokio::test]
async fn calls_of_services_go_to_the_proxy_of_the_cluster() {
    let server = server();
    let client = server.client();
    let path = "/api/v1/namespaces/istio-system/services/http:prometheus:9090/proxy/api/v1/query?query=a%2Bb";
    let (code, body) = raw(&client, "GET", path, ("", ""), Value::Null).await;
    assert_eq!((code, &body["reason"]), (503, &json!("ServiceUnavailable")));
    server.on_service_proxy(Arc::new(|call| {
        async move {
            let answer = json!({
                "service": format!("{}/{}:{}", call.namespace, call.service, call.port),
                "uri": call.request.uri().to_string(),
                "method": call.request.method().as_str(),
            });
            let mut response = http::Response::new(Bytes::from(answer.to_string()));
            *response.status_mut() = http::StatusCode::ACCEPTED;
            response
        }
        .boxed()
    }));
    let (code, body) = raw(&client, "GET", path, ("", ""), Value::Null).await;
    assert_eq!(code, 202);
    assert_eq!(
        body,
        json!({"service": "istio-system/prometheus:9090", "uri": "/api/v1/query?query=a%2Bb", "method": "GET"})
    );
    let bare = "/api/v1/namespaces/test/services/loadtester/proxy/";
    let (_, body) = raw(&client, "POST", bare, ("", ""), json!({})).await;
    assert_eq!(
        (&body["service"], &body["uri"]),
        (&json!("test/loadtester:"), &json!("/"))
    );
}

#[tokio::test]
async fn a_dropped_answer_is_a_write_that_happened() {
    let server = server();
    let api = maps(&server.client());
    server
        .faults()
        .drop_next_answer(|request| request.verb == "create" && request.plural == "configmaps");
    let lost = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await;
    assert!(matches!(lost, Err(Error::Service(_))), "{lost:?}");
    assert!(api.get_opt("a").await.unwrap().is_some());
    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_held_write_arrives_late_even_when_its_client_has_given_up() {
    let server = server();
    let client = server.client();
    let api = maps(&client);
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let held = server.faults().hold_next(|request| request.verb == "patch");
    let late = tokio::spawn({
        let api = api.clone();
        async move {
            let patch = Patch::Merge(json!({"data": {"k": "late"}}));
            api.patch("a", &PatchParams::default(), &patch).await
        }
    });
    held.reached().await;
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "1");
    late.abort();
    let mut revisions = server.store().subscribe();
    let before = *revisions.borrow_and_update();
    held.release();
    revisions
        .wait_for(|revision| *revision > before)
        .await
        .unwrap();
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["k"], "late");
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() {
    let server = server();
    let api = maps(&server.client());
    api.list(&ListParams::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    api.get("a").await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let faults = server.faults();
    assert_eq!((faults.reads(), faults.writes()), (2, 2));
    assert_eq!(faults.count("delete", "configmaps"), 1);
    faults.reset_counts();
    assert_eq!((faults.reads(), faults.writes()), (0, 0));
}

#[tokio::test]
async fn leases_are_replaced_by_version_and_answers_carry_the_wall_clock() {
    let client = server().client();
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "canary-mcp"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "renewTime": "2026-11-21T00:00:00.000000Z"}}))
    .unwrap();
    let created = api.create(&PostParams::default(), &lease).await.unwrap();
    let mut next = created.clone();
    next.spec.as_mut().unwrap().holder_identity = Some("b".into());
    api.replace("canary-mcp", &PostParams::default(), &next)
        .await
        .unwrap();
    assert_eq!(
        status(
            api.replace("canary-mcp", &PostParams::default(), &next)
                .await
        )
        .code,
        409
    );
    let request = http::Request::get("/version")
        .body(kube::client::Body::empty())
        .unwrap();
    let response = client.send(request).await.unwrap();
    let date = response.headers()["date"].to_str().unwrap().to_owned();
    assert!(date.ends_with(" GMT"), "{date}");
}

#[tokio::test]
async fn everything_is_allowed_and_says_so() {
    let client = server().client();
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, body) = raw(&client, "POST", path, ("", "application/json"), review).await;
    assert_eq!((code, &body["status"]["allowed"]), (201, &json!(true)));
    for path in ["/healthz", "/readyz", "/livez"] {
        let (code, body) = raw(&client, "GET", path, ("", ""), Value::Null).await;
        assert_eq!((code, body), (200, json!("ok")));
    }
    let (code, body) = raw(&client, "GET", "/nonsense", ("", ""), Value::Null).await;
    assert_eq!((code, body), (404, json!("404 page not found\n")));
}

#[tokio::test]
async fn kubes_finalizer_helper_works() {
    use kube::runtime::finalizer::{Event as Stage, finalizer};
    let client = server().client();
    let api = maps(&client);
    let run = async || {
        let map = Arc::new(api.get("a").await.unwrap());
        let outcome = finalizer(&api, "canary-mcp.dev/test", map, |stage| async move {
            match stage {
                Stage::Apply(_) | Stage::Cleanup(_) => {
                    Ok::<_, std::io::Error>(kube::runtime::controller::Action::await_change())
                }
            }
        });
        outcome.await.unwrap();
    };
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    run().await;
    assert_eq!(
        api.get("a").await.unwrap().metadata.finalizers.unwrap(),
        ["canary-mcp.dev/test"]
    );
    api.delete("a", &DeleteParams::default()).await.unwrap();
    run().await;
    assert!(api.get_opt("a").await.unwrap().is_none());
}
