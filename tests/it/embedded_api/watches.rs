//! Lists and watches.

use super::*;

#[tokio::test]
async fn pages_show_one_revision_whatever_happens_between_them() {
    let server = server();
    let api = maps(&server.client());
    for name in ["a", "b", "c", "d", "e"] {
        api.create(&PostParams::default(), &config_map(name, "1"))
            .await
            .unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    let revision = first.metadata.resource_version.clone();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    api.delete("d", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("bb", "1"))
        .await
        .unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = api
        .list(&ListParams::default().limit(10).continue_token(&token))
        .await
        .unwrap();
    let names: Vec<_> = rest
        .items
        .iter()
        .map(|m| m.metadata.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(rest.metadata.resource_version, revision);
    assert_eq!(rest.metadata.continue_, None);

    // In the words of Kubernetes 1.36.3.
    server.store().keep_history(0);
    let again = ListParams::default().limit(1).continue_token(&token);
    let expired = status(api.list(&again).await);
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    assert_eq!(
        expired.message,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue \
         parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided \
         token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
         returned and now may show up in the list."
    );
    let inconsistent = expired.metadata.unwrap().continue_.unwrap();
    let again = ListParams::default().limit(1).continue_token(&inconsistent);
    let newest = api.list(&again).await.unwrap();
    // It was made after the first page.
    assert_eq!(newest.items[0].metadata.name.as_deref(), Some("bb"));
    assert_ne!(newest.metadata.resource_version, revision);
    assert_ne!(newest.metadata.continue_, None);
    let exact = ListParams::default().at("1").matching(VersionMatch::Exact);
    let expired = status(api.list(&exact).await);
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    assert_eq!(
        expired.message,
        "The resourceVersion for the provided list is too old."
    );
    let malformed = status(
        api.list(&ListParams::default().continue_token("nonsense"))
            .await,
    );
    assert_eq!(malformed.code, 400);
}

#[tokio::test]
async fn lists_of_built_in_kinds_do_not_repeat_the_kind() {
    let client = server().client();
    maps(&client)
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let any = ("application/json", "");
    let (_, list) = raw(&client, "GET", "/api/v1/configmaps", any, Value::Null).await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("ConfigMapList"), &json!("v1"))
    );
    assert_eq!(list["items"][0].get("kind"), None);
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (_, list) = raw(
        &client,
        "GET",
        "/api/v1/configmaps",
        (metadata, ""),
        Value::Null,
    )
    .await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0].get("data"), None);
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_changes_selector_transitions_bookmarks_and_ends() {
    let server = server();
    let api = maps(&server.client());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let revision = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let params = WatchParams::default().labels("value=1").timeout(90);
    let mut watch = api.watch(&params, &revision).await.unwrap().boxed();
    let set = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"value": value}}}));
    api.patch("a", &PatchParams::default(), &set("2"))
        .await
        .unwrap();
    api.patch("a", &PatchParams::default(), &set("1"))
        .await
        .unwrap();
    api.create(&PostParams::default(), &config_map("other", "3"))
        .await
        .unwrap();
    api.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"k": "x"}})),
    )
    .await
    .unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = watch.try_next().await.unwrap() {
        seen.push(match event {
            WatchEvent::Added(o) => ("added", o.metadata.resource_version.unwrap()),
            WatchEvent::Modified(o) => ("modified", o.metadata.resource_version.unwrap()),
            WatchEvent::Deleted(o) => ("deleted", o.metadata.resource_version.unwrap()),
            WatchEvent::Bookmark(b) => ("bookmark", b.metadata.resource_version),
            WatchEvent::Error(status) => panic!("{status:?}"),
        });
    }
    let own = |n: u64| (revision.parse::<u64>().unwrap() + n).to_string();
    assert_eq!(
        seen,
        [
            ("deleted", own(1)),
            ("added", own(2)),
            ("modified", own(4)),
            ("deleted", own(5)),
            ("bookmark", own(5)),
            ("bookmark", own(5)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_is_an_error_event_and_the_watcher_lists_again() {
    let server = server();
    let api = maps(&server.client());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    server.store().keep_history(0);
    let mut watch = api
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap()
        .boxed();
    match watch.try_next().await.unwrap() {
        Some(WatchEvent::Error(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
            assert_eq!(status.message, "too old resource version: 1 (5)");
        }
        other => panic!("{other:?}"),
    }
    assert!(watch.try_next().await.unwrap().is_none());

    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    let mut names = Vec::new();
    while let Some(event) = events.next().await {
        match event.unwrap() {
            Seen::InitApply(map) => names.push(map.metadata.name.unwrap()),
            Seen::InitDone => break,
            Seen::Init | Seen::Apply(_) | Seen::Delete(_) => {}
        }
    }
    assert_eq!(names, ["a"]);
    // Each write is forgotten at once, so the next read of the log expires and the watcher has to list again.
    let lists = server.faults().count("list", "configmaps");
    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&"b".to_owned()) {
        match events.next().await.unwrap() {
            Ok(Seen::InitApply(map) | Seen::Apply(map)) => seen.push(map.metadata.name.unwrap()),
            Ok(Seen::Init | Seen::InitDone | Seen::Delete(_)) | Err(_) => {}
        }
    }
    assert_eq!(server.faults().count("list", "configmaps"), lists + 1);
}

#[tokio::test(start_paused = true)]
async fn a_reflector_and_a_streaming_list_keep_up() {
    let server = server();
    let api = maps(&server.client());
    api.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let config = watcher::Config::default().streaming_lists();
    let (store, writer) = reflector::store();
    let mut stream = watcher::watcher(api.clone(), config)
        .reflect(writer)
        .applied_objects()
        .boxed();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("a"));
    store.wait_until_ready().now_or_never();
    api.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    let second = stream.next().await.unwrap().unwrap();
    assert_eq!(second.metadata.name.as_deref(), Some("b"));
    store.wait_until_ready().await.unwrap();
    assert_eq!(store.len(), 2);
    assert_eq!(server.faults().count("list", "configmaps"), 0);
    assert_eq!(server.faults().count("watch", "configmaps"), 1);
}

#[tokio::test]
async fn a_version_from_the_future_is_a_timeout() {
    let client = server().client();
    let future = ("application/json", "");
    let path = "/api/v1/configmaps?resourceVersion=999999";
    let (code, body) = raw(&client, "GET", path, future, Value::Null).await;
    assert_eq!((code, &body["reason"]), (504, &json!("Timeout")));
}
