//! Writes: preconditions and lost answers.

use std::sync::Arc;

use canary_mcp::{
    api::objects::{DEPLOYMENT, Object, ObjectExt, Write},
    cluster::ErrorKind,
};
use serde_json::json;

use super::support::{deployment, image, image_of, service, world};

#[tokio::test(start_paused = true)]
async fn a_patch_is_for_the_generation_it_was_made_for() {
    let world = world();
    let from = world.create(deployment()).await;
    let patch = |from: &Object, tag| Write::Patch {
        from: Arc::clone(from),
        ops: image(tag),
    };

    // A new status is no new generation.
    world
        .server
        .store()
        .modify_status(&DEPLOYMENT, "ai-platform", "mcp-server", "test", |object| {
            object["status"] = json!({"replicas": 2});
        })
        .unwrap();
    let second = world
        .cluster
        .write(&patch(&from, "1.1.0"), None)
        .await
        .unwrap();
    assert_eq!(image_of(&second), "registry.example/mcp-server:1.1.0");
    assert_eq!(second["status"]["replicas"], 2);

    let error = world
        .cluster
        .write(&patch(&from, "1.2.0"), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let stored = world.stored(DEPLOYMENT, "mcp-server").unwrap();
    assert_eq!(image_of(&stored), "registry.example/mcp-server:1.1.0");
    let managers: Vec<&str> = stored
        .array_at("/metadata/managedFields")
        .iter()
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    assert!(managers.contains(&"canary-mcp"), "{managers:?}");

    // Another object of the same name is not the one that was meant, whatever its generation.
    world
        .server
        .store()
        .delete(&DEPLOYMENT, "ai-platform", "mcp-server")
        .unwrap();
    let again = world.create(deployment()).await;
    assert_eq!(again.generation(), from.generation());
    let error = world
        .cluster
        .write(&patch(&from, "1.2.0"), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_kind_without_generation_is_guarded_by_its_version() {
    let world = world();
    let from = world.create(service()).await;
    assert_eq!(from.generation(), None);
    let ops = vec![
        json!({"op": "replace", "path": "/spec/selector", "value": {"app": "mcp-server-primary"}}),
    ];
    let write = Write::Patch {
        from: Arc::clone(&from),
        ops,
    };
    let after = world.cluster.write(&write, None).await.unwrap();
    assert_eq!(
        after["spec"]["selector"],
        json!({"app": "mcp-server-primary"})
    );
    let error = world.cluster.write(&write, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_patch_is_no_conflict() {
    let world = world();
    let from = world.create(deployment()).await;
    let ops = vec![
        json!({"op": "replace", "path": "/spec/selector/matchLabels", "value": {"app": "other"}}),
    ];
    let error = world
        .cluster
        .write(&Write::Patch { from, ops }, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{}", error.report());
}

#[tokio::test(start_paused = true)]
async fn create_merge_scale_and_delete_each_have_their_guard() {
    let world = world();
    let first = world.create(deployment()).await;
    let error = world
        .cluster
        .write(&Write::Create(deployment()), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);

    let off = json!({"metadata": {"annotations": {"team": null}}});
    let merge = Write::Merge {
        from: Arc::clone(&first),
        patch: off,
    };
    let second = world.cluster.write(&merge, None).await.unwrap();
    assert_eq!(second.annotation("team"), None);
    assert_eq!(
        world.cluster.write(&merge, None).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );

    let stale = Write::Scale {
        from: first,
        replicas: 0,
    };
    assert_eq!(
        world.cluster.write(&stale, None).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let scaled = world
        .cluster
        .write(
            &Write::Scale {
                from: second,
                replicas: 0,
            },
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        (scaled["kind"].as_str(), scaled["spec"]["replicas"].as_i64()),
        (Some("Deployment"), Some(0))
    );

    world
        .server
        .store()
        .delete(&DEPLOYMENT, "ai-platform", "mcp-server")
        .unwrap();
    let other = world.create(deployment()).await;
    let wrong = Write::Delete { from: scaled };
    assert_eq!(
        world.cluster.write(&wrong, None).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    world
        .cluster
        .write(&Write::Delete { from: other }, None)
        .await
        .unwrap();
    assert_eq!(world.stored(DEPLOYMENT, "mcp-server"), None);
    let gone = Write::Delete { from: nobody() };
    assert_eq!(
        world.cluster.write(&gone, None).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// A Deployment that is not there.
fn nobody() -> Object {
    let mut object = deployment();
    object["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    Arc::new(object)
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_looked_up() {
    let world = world();
    let lose = |verb: &'static str| {
        world
            .server
            .faults()
            .drop_next_answer(move |request| request.verb == verb);
    };

    lose("create");
    let made = world
        .cluster
        .write(&Write::Create(deployment()), None)
        .await
        .unwrap();
    assert!(!made.uid().is_empty());
    lose("patch");
    let write = Write::Patch {
        from: made,
        ops: image("1.1.0"),
    };
    let patched = world.cluster.write(&write, None).await.unwrap();
    assert_eq!(image_of(&patched), "registry.example/mcp-server:1.1.0");
    lose("update");
    let scaled = world
        .cluster
        .write(
            &Write::Scale {
                from: patched,
                replicas: 5,
            },
            None,
        )
        .await
        .unwrap();
    assert_eq!(scaled["spec"]["replicas"], 5);
    lose("patch");
    let patch = json!({"metadata": {"annotations": {"team": null, "new/key": "x"}}});
    let merged = world
        .cluster
        .write(
            &Write::Merge {
                from: scaled,
                patch,
            },
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        (merged.annotation("team"), merged.annotation("new/key")),
        (None, Some("x"))
    );
    lose("delete");
    world
        .cluster
        .write(&Write::Delete { from: merged }, None)
        .await
        .unwrap();
    assert_eq!(world.stored(DEPLOYMENT, "mcp-server"), None);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_arrived_is_unconfirmed() {
    let world = world();
    let from = world.create(deployment()).await;
    world.line.cut_writes();
    let writes = [
        Write::Patch {
            from: Arc::clone(&from),
            ops: image("1.1.0"),
        },
        Write::Merge {
            from: Arc::clone(&from),
            patch: json!({"metadata": {"annotations": {"team": null}}}),
        },
        Write::Scale {
            from: Arc::clone(&from),
            replicas: 0,
        },
        Write::Delete { from },
        Write::Create(service()),
    ];
    for write in writes {
        let error = world.cluster.write(&write, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unconfirmed, "{write:?}");
    }
    world.line.cut();
    let error = world
        .cluster
        .write(&Write::Create(service()), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconfirmed);
}
