//! The store, as the controllers inside the cluster use it.

use super::*;

#[tokio::test]
async fn controllers_read_the_log() {
    let store = Store::new(Clock::fast(EPOCH, 20.0));
    let start = store.revision();
    let map = json!({"metadata": {"name": "a", "namespace": "default"}, "data": {"k": "1"}});
    store.create(&CONFIG_MAP, map, "me").unwrap();
    store
        .modify(&CONFIG_MAP, "default", "a", "me", |map| {
            map["data"]["k"] = json!("2");
        })
        .unwrap();
    store
        .modify(&CONFIG_MAP, "default", "a", "me", |_| {})
        .unwrap();
    assert_eq!(
        store
            .modify(&CONFIG_MAP, "default", "none", "me", |_| {})
            .unwrap(),
        None
    );
    store.delete(&CONFIG_MAP, "default", "a").unwrap();
    let changes = store.changes_since(start).unwrap();
    let kinds: Vec<_> = changes
        .iter()
        .map(|c| (c.revision - start, c.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, ChangeKind::Added),
            (2, ChangeKind::Modified),
            (3, ChangeKind::Deleted)
        ]
    );
    assert!(changes.iter().all(|c| c.resource.is(&CONFIG_MAP)));
    assert_eq!(changes[1].previous.as_ref().unwrap()["data"]["k"], "1");
    assert_eq!(
        changes[2].object.resource_version(),
        (start + 3).to_string()
    );
    store.keep_history(1);
    assert!(store.changes_since(start).is_none());
    assert_eq!(store.changes_since(start + 2).unwrap().len(), 1);
}

#[tokio::test]
async fn services_get_addresses_and_keep_them() {
    let store = Store::new(Clock::fast(EPOCH, 20.0));
    let service = |name: &str| json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
    let first = store.create(&SERVICE, service("a"), "me").unwrap();
    let second = store.create(&SERVICE, service("b"), "me").unwrap();
    assert_eq!(first["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(second["spec"]["clusterIPs"], json!(["10.96.0.2"]));
    let replaced = store
        .modify(&SERVICE, "default", "a", "me", |s| *s = service("a"))
        .unwrap()
        .unwrap();
    assert_eq!(replaced["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn an_object_of_an_owner_that_is_gone_does_not_stay() {
    let store = Store::new(Clock::fast(EPOCH, 20.0));
    let revision = json!({"metadata": {"name": "r", "namespace": "default", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gone", "uid": "no-such-uid"}]},
        "data": {}, "revision": 1});
    store.create(&CONTROLLER_REVISION, revision, "me").unwrap();
    assert!(store.get(&CONTROLLER_REVISION, "default", "r").is_none());
}

#[tokio::test]
async fn writers_in_parallel_lose_no_update() {
    let server = server();
    let client = server.client();
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let retries = Arc::new(AtomicU32::new(0));
    let write = |_| {
        let (api, retries) = (api.clone(), Arc::clone(&retries));
        tokio::spawn(async move {
            loop {
                let mut current = api.get("web").await.unwrap();
                *current.spec.as_mut().unwrap().replicas.as_mut().unwrap() += 1;
                match api.replace("web", &PostParams::default(), &current).await {
                    Ok(_) => return,
                    Err(Error::Api(status)) if status.code == 409 => {
                        retries.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    futures::future::join_all((0..20).map(write)).await;
    let stored = server.store().get(&DEPLOYMENT, "default", "web").unwrap();
    assert_eq!(stored.int_at("/spec/replicas"), Some(21));
    assert_eq!(stored.generation(), Some(21));
    assert!(retries.load(Ordering::Relaxed) > 0);
}
