//! Caches that follow the cluster.

use std::{sync::Arc, time::Duration};

use canary_mcp::{
    api::objects::{DEPLOYMENT, SERVICE, VIRTUAL_SERVICE, Write},
    cluster::Scope,
};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::support::{deployment, image, service, soon, world};

/// An object but for which manager has which of its fields, which no cache keeps.
fn without_fields(object: &Value) -> Value {
    let mut object = object.clone();
    for entry in object["metadata"]["managedFields"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("fieldsV1").unwrap();
    }
    object
}

#[tokio::test(start_paused = true)]
async fn a_watch_follows_and_our_own_write_is_in_it_at_once() {
    let world = world();
    let made = world.create(deployment()).await;
    let scope = Scope {
        namespace: Some("ai-platform".to_owned()),
        ..Scope::default()
    };
    let watched = world.cluster.watch(&DEPLOYMENT, scope);
    watched.ready().await;
    assert_eq!(watched.list().len(), 1);
    let seen = watched.get("ai-platform", "mcp-server").unwrap();
    assert_eq!(*seen, without_fields(&made), "the object as it is stored");

    let mut changes = watched.subscribe();
    let write = Write::Patch {
        from: made,
        ops: image("1.1.0"),
    };
    let written = world.cluster.write(&write, None).await.unwrap();
    watched.put(&written);
    let own = Arc::new(without_fields(&written));
    assert_eq!(watched.get("ai-platform", "mcp-server").unwrap(), own);
    watched.put(&seen);
    assert_eq!(
        watched.get("ai-platform", "mcp-server").unwrap(),
        own,
        "an older object is no news"
    );
    assert!(changes.has_changed().unwrap());
    changes.borrow_and_update();

    let elsewhere = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "default", "resourceVersion": "999999"}});
    watched.put(&Arc::new(elsewhere));
    assert_eq!(watched.list().len(), 1, "outside the scope");

    world
        .server
        .store()
        .modify(
            &DEPLOYMENT,
            "ai-platform",
            "mcp-server",
            "kubectl",
            |object| object["spec"]["replicas"] = json!(7),
        )
        .unwrap();
    soon(&mut changes, |_| {
        watched.get("ai-platform", "mcp-server").unwrap()["spec"]["replicas"] == 7
    })
    .await;
    world
        .server
        .store()
        .delete(&DEPLOYMENT, "ai-platform", "mcp-server")
        .unwrap();
    soon(&mut changes, |_| watched.list().is_empty()).await;
    assert_eq!(watched.health(), None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_after_a_broken_line_and_after_expiry() {
    let world = world();
    let watched = world.cluster.watch(&SERVICE, Scope::default());
    watched.ready().await;
    world.server.store().keep_history(2);
    world.line.cut();
    // The stream that is open ends by itself after 290 s, and then nothing gets through.
    tokio::time::sleep(Duration::from_secs(330)).await;
    assert!(
        watched
            .health()
            .is_some_and(|health| health.starts_with("cannot watch services in cluster prod-kr: "))
    );
    for n in 0..10 {
        let mut one = service();
        one["metadata"]["name"] = json!(format!("s{n}"));
        world
            .server
            .store()
            .create(&SERVICE, one, "kubectl")
            .unwrap();
    }
    world
        .server
        .store()
        .delete(&SERVICE, "ai-platform", "s3")
        .unwrap();
    world.line.mend();
    let mut changes = watched.subscribe();
    soon(&mut changes, |_| watched.list().len() == 9).await;
    assert_eq!(watched.health(), None);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_there_is_told_and_waited_for() {
    let world = world();
    let watched = world.cluster.watch(&VIRTUAL_SERVICE, Scope::default());
    let told = watched.settled().await.unwrap_err();
    assert!(
        told.starts_with("cannot watch virtualservices in cluster prod-kr: "),
        "{told}"
    );
    assert!(watched.ready().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_with_its_last_clone() {
    let world = world();
    let watched = world.cluster.watch(&SERVICE, Scope::default());
    let clone = watched.clone();
    watched.ready().await;
    drop(watched);
    world.create(service()).await;
    soon(&mut clone.subscribe(), |_| clone.list().len() == 1).await;
    drop(clone);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reads = world.server.faults().reads();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.server.faults().reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn a_phantom_of_our_own_write_goes_away() {
    let world = world();
    let watched = world.cluster.watch(&SERVICE, Scope::default());
    watched.ready().await;
    // As if it had been created and deleted while the watch was away.
    let mut phantom = service();
    phantom["metadata"]["resourceVersion"] = json!("999999");
    watched.put(&Arc::new(phantom));
    assert_eq!(watched.list().len(), 1);
    let asked = Instant::now();
    soon(&mut watched.subscribe(), |_| watched.list().is_empty()).await;
    assert!(
        asked.elapsed() <= Duration::from_secs(31),
        "{:?}",
        asked.elapsed()
    );
}
