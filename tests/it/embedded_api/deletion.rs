//! Deletion: finalizers, owners, namespaces, pods.

use super::*;

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_taken_off() {
    let client = server().client();
    let api = maps(&client);
    let mut map = config_map("a", "1");
    map.metadata.finalizers = Some(vec!["x.io/a".into(), "x.io/b".into()]);
    api.create(&PostParams::default(), &map).await.unwrap();
    let marked = api
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(0));
    let again = api
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(
        again.metadata.resource_version,
        marked.metadata.resource_version
    );
    let merge = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let more = merge(json!(["x.io/a", "x.io/b", "x.io/c"]));
    assert_eq!(
        status(api.patch("a", &PatchParams::default(), &more).await).code,
        422
    );
    api.patch("a", &PatchParams::default(), &merge(json!(["x.io/b"])))
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_some());
    api.patch("a", &PatchParams::default(), &merge(Value::Null))
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn preconditions_guard_a_deletion() {
    let client = server().client();
    let api = maps(&client);
    let created = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let with_uid = |uid: &str| DeleteParams {
        preconditions: Some(kube::api::Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    assert_eq!(
        status(api.delete("a", &with_uid("another")).await).code,
        409
    );
    let gone = api
        .delete("a", &with_uid(created.metadata.uid.as_deref().unwrap()))
        .await
        .unwrap();
    assert!(gone.right().unwrap().is_success());
}

fn owned(name: &str, owners: &[&ConfigMap]) -> ConfigMap {
    let mut map = config_map(name, "1");
    let reference = |owner: &&ConfigMap| {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "name": owner.metadata.name, "uid": owner.metadata.uid}))
        .unwrap()
    };
    map.metadata.owner_references = Some(owners.iter().map(reference).collect());
    map
}

#[tokio::test]
async fn owned_objects_go_when_all_owners_are_gone() {
    let client = server().client();
    let api = maps(&client);
    let post = PostParams::default();
    let a = api.create(&post, &config_map("a", "1")).await.unwrap();
    let b = api.create(&post, &config_map("b", "1")).await.unwrap();
    let child = api.create(&post, &owned("child", &[&a, &b])).await.unwrap();
    api.create(&post, &owned("grandchild", &[&child]))
        .await
        .unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let left = api
        .get("child")
        .await
        .unwrap()
        .metadata
        .owner_references
        .unwrap();
    assert_eq!(
        left.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(),
        ["b"]
    );
    api.delete("b", &DeleteParams::default()).await.unwrap();
    let names = api.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!(names, 0);
}

#[tokio::test]
async fn orphans_stay_and_foreground_deletion_waits_for_the_owned() {
    let client = server().client();
    let api = maps(&client);
    let post = PostParams::default();
    let policy = |policy| DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    let a = api.create(&post, &config_map("a", "1")).await.unwrap();
    api.create(&post, &owned("stays", &[&a])).await.unwrap();
    api.delete("a", &policy(PropagationPolicy::Orphan))
        .await
        .unwrap();
    assert_eq!(
        api.get("stays").await.unwrap().metadata.owner_references,
        None
    );

    let b = api.create(&post, &config_map("b", "1")).await.unwrap();
    let mut child = owned("child", &[&b]);
    child.metadata.finalizers = Some(vec!["x.io/a".into()]);
    api.create(&post, &child).await.unwrap();
    let marked = api
        .delete("b", &policy(PropagationPolicy::Foreground))
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.finalizers.unwrap(), ["foregroundDeletion"]);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("child", &PatchParams::default(), &release)
        .await
        .unwrap();
    assert!(api.get_opt("child").await.unwrap().is_none());
    assert!(api.get_opt("b").await.unwrap().is_none());
}

#[tokio::test]
async fn a_namespace_takes_its_content_along() {
    let client = server().client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "demo"}})).unwrap();
    let created = namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    assert_eq!(
        created.metadata.labels.unwrap()["kubernetes.io/metadata.name"],
        "demo"
    );
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "demo");
    let mut held = config_map("held", "1");
    held.metadata.finalizers = Some(vec!["x.io/a".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    api.create(&PostParams::default(), &config_map("free", "1"))
        .await
        .unwrap();
    namespaces
        .delete("demo", &DeleteParams::default())
        .await
        .unwrap();
    assert!(api.get_opt("free").await.unwrap().is_none());
    let waiting = namespaces.get("demo").await.unwrap();
    assert_eq!(
        waiting.status.unwrap().phase.as_deref(),
        Some("Terminating")
    );
    let refused = status(
        api.create(&PostParams::default(), &config_map("late", "1"))
            .await,
    );
    assert_eq!(refused.code, 403);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &PatchParams::default(), &release)
        .await
        .unwrap();
    assert!(namespaces.get_opt("demo").await.unwrap().is_none());
}

#[tokio::test]
async fn a_pod_on_a_node_goes_in_two_steps() {
    let server = server();
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n1",
        "containers": [{"name": "c", "image": "x"}]}});
    server.store().create(&POD, pod, "kubelet").unwrap();
    let marked = pods
        .delete("p", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert!(
        pods.delete("p", &DeleteParams::default())
            .await
            .unwrap()
            .left()
            .is_some()
    );
    server.store().delete(&POD, "default", "p").unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let client = server().client();
    let api = maps(&client);
    for (name, value) in [("a", "1"), ("b", "2"), ("c", "1")] {
        api.create(&PostParams::default(), &config_map(name, value))
            .await
            .unwrap();
    }
    let selected = ListParams::default().labels("value in (1)");
    api.delete_collection(&DeleteParams::default(), &selected)
        .await
        .unwrap();
    let left = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    assert_eq!(left.items[0].metadata.name.as_deref(), Some("b"));
}
