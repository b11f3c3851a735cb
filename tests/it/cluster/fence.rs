//! The fence: what an earlier holder may no longer write.

use std::{sync::Arc, time::Duration};

use canary_mcp::{
    api::objects::{DEPLOYMENT, ObjectExt, REPLICA_SET, Write},
    cluster::{ErrorKind, LeaseKeeper},
};
use serde_json::{Value, json};

use super::support::{
    EPOCH, LEASES, Line, deployment, held, image, image_of, member, service, world,
};

#[tokio::test(start_paused = true)]
async fn a_later_holders_stamp_ends_every_earlier_write() {
    let world = world();
    let made = world.create(deployment()).await;
    let service = world.create(service()).await;
    let first = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&first).await;
    let stamped = world.cluster.stamp(&made, &old).await.unwrap();
    assert_eq!(stamped.annotation(EPOCH), Some(old.epoch()));
    assert_eq!(stamped.annotation("team"), Some("platform"));
    let bare = world.cluster.stamp(&service, &old).await.unwrap();
    assert_eq!(
        bare.annotation(EPOCH),
        Some(old.epoch()),
        "an object without annotations"
    );
    let before = world.writes();
    world.cluster.stamp(&stamped, &old).await.unwrap();
    assert_eq!(world.writes(), before, "ours already");

    // `old` stays valid in its own eyes: the first keeper's line is cut right after its renewal.
    let line = Line::default();
    let second = LeaseKeeper::start(&member(&world.server, &line), "second", LEASES);
    world.line.cut();
    let new = held(&second).await;
    world.line.mend();
    assert!(new.epoch().parse::<u64>().unwrap() == old.epoch().parse::<u64>().unwrap() + 1);

    // A patch by the new holder takes the object over in the same write.
    let write = Write::Patch {
        from: Arc::clone(&stamped),
        ops: image("1.1.0"),
    };
    let taken = member(&world.server, &line)
        .write(&write, Some(&new))
        .await
        .unwrap();
    assert_eq!(
        (taken.annotation(EPOCH), image_of(&taken)),
        (Some(new.epoch()), "registry.example/mcp-server:1.1.0")
    );
    first.release().await;
    second.release().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_of_a_later_holder_is_not_written() {
    let world = world();
    let mut later = deployment();
    later["metadata"]["annotations"][EPOCH] = json!("99999999999");
    let from = world.create(later).await;
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let fence = held(&keeper).await;
    let before = world.writes();
    let writes = [
        Write::Patch {
            from: Arc::clone(&from),
            ops: image("1.1.0"),
        },
        Write::Scale {
            from: Arc::clone(&from),
            replicas: 0,
        },
        Write::Merge {
            from: Arc::clone(&from),
            patch: json!({}),
        },
        Write::Delete {
            from: Arc::clone(&from),
        },
    ];
    for write in writes {
        let error = world.cluster.write(&write, Some(&fence)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "{write:?}");
    }
    assert_eq!(
        world
            .cluster
            .put_status(&from, &fence)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::LeaseLost
    );
    assert_eq!(
        world.cluster.stamp(&from, &fence).await.unwrap_err().kind(),
        ErrorKind::LeaseLost
    );
    assert_eq!(world.writes(), before);
    keeper.release().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_ten_seconds_after_the_last_renewal() {
    let world = world();
    let from = world.create(deployment()).await;
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let fence = held(&keeper).await;
    world.line.cut();
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert!(fence.check().is_ok());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(fence.check().is_err());
    assert!(keeper.held().is_none());
    world.line.mend();
    let before = world.stored(DEPLOYMENT, "mcp-server").unwrap();
    let write = Write::Patch {
        from,
        ops: image("1.1.0"),
    };
    let error = world.cluster.write(&write, Some(&fence)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    assert_eq!(world.stored(DEPLOYMENT, "mcp-server").unwrap(), before);
    keeper.release().await;
}

#[tokio::test(start_paused = true)]
async fn status_goes_to_the_status_subresource() {
    let world = world();
    let made = world.create(deployment()).await;
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let fence = held(&keeper).await;
    let mut wanted = Value::clone(&made);
    wanted["status"] = json!({"replicas": 3});
    wanted["spec"]["replicas"] = json!(9);
    let written = world.cluster.put_status(&wanted, &fence).await.unwrap();
    assert_eq!(
        (&written["status"]["replicas"], &written["spec"]["replicas"]),
        (&json!(3), &json!(2))
    );
    let error = world.cluster.put_status(&wanted, &fence).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let mut again = Value::clone(&written);
    again["status"] = json!({"replicas": 4});
    world
        .server
        .faults()
        .drop_next_answer(|request| request.subresource == "status");
    let written = world.cluster.put_status(&again, &fence).await.unwrap();
    assert_eq!(written["status"]["replicas"], 4);
    keeper.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_still_on_its_way_fails_after_the_takeover() {
    let world = world();
    // Of a ReplicaSet an annotation is no new generation, so here only the epoch stands in the way.
    let mut replica_set = deployment();
    replica_set["kind"] = json!("ReplicaSet");
    let made = world.create(replica_set).await;
    let first = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&first).await;
    let stamped = world.cluster.stamp(&made, &old).await.unwrap();

    let on_its_way = world
        .server
        .faults()
        .hold_next(|request| request.verb == "patch" && request.plural == "replicasets");
    let write = Write::Patch {
        from: Arc::clone(&stamped),
        ops: vec![json!({"op": "replace", "path": "/spec/replicas", "value": 0})],
    };
    let error = world.cluster.write(&write, Some(&old)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfirmed);
    world.line.cut();
    let other = member(&world.server, &Line::default());
    let second = LeaseKeeper::start(&other, "second", LEASES);
    let new = held(&second).await;
    let taken = other.stamp(&stamped, &new).await.unwrap();
    assert_eq!(taken.generation(), stamped.generation());

    on_its_way.release();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        world.stored(REPLICA_SET, "mcp-server").unwrap()["spec"]["replicas"],
        2
    );
    second.release().await;
}
