//! `Cluster` against the embedded API server: every write's preconditions, lost answers, the fence, watches and the Lease.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use canary_mcp::{
    api::objects::{
        CONTROLLER_REVISION, DEPLOYMENT, EVENT, Kind, LEASE, NAMESPACE, Object, ObjectExt, Ref,
        SERVICE, VIRTUAL_SERVICE, Write,
    },
    cluster::{
        Clock, Cluster, ClusterSpec, ErrorKind, Held, LeaseKeeper, Scope, ServiceCall, Standing,
        embedded::{server::ApiServer, store::Store},
    },
    decide::facts::Moment,
};
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

const EPOCH: &str = "canary-mcp.dev/epoch";
const LEASES: &str = "canary-mcp-system";

/// One embedded cluster, and a line to it that can be cut.
struct World {
    server: ApiServer,
    cluster: Cluster,
    line: Line,
}

/// 0: works; 1: nothing gets through; 2: only reads get through.
#[derive(Clone, Default)]
struct Line(Arc<AtomicU8>);

impl Line {
    fn cut(&self) {
        self.0.store(1, Ordering::SeqCst);
    }
    fn cut_writes(&self) {
        self.0.store(2, Ordering::SeqCst);
    }
    fn mend(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
    fn is_cut(&self, method: &http::Method) -> bool {
        match self.0.load(Ordering::SeqCst) {
            0 => false,
            1 => true,
            _ => method != http::Method::GET,
        }
    }
}

fn client(server: &ApiServer, line: &Line) -> kube::Client {
    let (server, line) = (server.clone(), line.clone());
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (server, line) = (server.clone(), line.clone());
        async move {
            if line.is_cut(request.method()) {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
            }
            // The server's own client breaks the connection where a fault wants it.
            server
                .client()
                .send(request)
                .await
                .map_err(tower::BoxError::from)
        }
    });
    kube::Client::new(service, "default")
}

fn member(server: &ApiServer, line: &Line) -> Cluster {
    Cluster::new(ClusterSpec {
        name: "prod-kr".to_owned(),
        labels: BTreeMap::new(),
        client: client(server, line),
        clock: server.store().clock().clone(),
        leads: true,
        inside: false,
        embedded: true,
    })
}

fn world() -> World {
    let clock = Clock::fast(Moment(1_795_219_200_000), 20.0);
    let server = ApiServer::new("prod-kr", Store::new(clock));
    for name in ["ai-platform", LEASES] {
        server
            .store()
            .create(&NAMESPACE, json!({"metadata": {"name": name}}), "test")
            .unwrap();
    }
    let line = Line::default();
    World {
        cluster: member(&server, &line),
        server,
        line,
    }
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform", "annotations": {"team": "platform"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "mcp-server"}},
            "template": {
                "metadata": {"labels": {"app": "mcp-server"}},
                "spec": {"containers": [{"name": "main", "image": "registry.example/mcp-server:1.0.0"}]},
            },
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform"},
        "spec": {"selector": {"app": "mcp-server"}, "ports": [{"name": "http", "port": 80}]},
    })
}

fn of(kind: Kind, name: &str) -> Ref {
    Ref {
        kind,
        namespace: "ai-platform".to_owned(),
        name: name.to_owned(),
    }
}

fn image(tag: &str) -> Vec<Value> {
    vec![json!({
        "op": "replace", "path": "/spec/template/spec/containers/0/image",
        "value": format!("registry.example/mcp-server:{tag}"),
    })]
}

fn image_of(object: &Value) -> &str {
    object
        .str_at("/spec/template/spec/containers/0/image")
        .unwrap()
}

impl World {
    async fn create(&self, object: Value) -> Object {
        let created = self.cluster.write(&Write::Create(object), None).await;
        created.unwrap()
    }

    fn stored(&self, kind: Kind, name: &str) -> Option<Object> {
        self.server.store().get(&kind, "ai-platform", name)
    }

    fn writes(&self) -> u64 {
        self.server.faults().writes()
    }
}

/// Waits for a value, but not for ever: on the paused clock an hour is nothing.
async fn soon<T: Clone>(receiver: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) -> T {
    tokio::time::timeout(Duration::from_secs(3_600), receiver.wait_for(wanted))
        .await
        .expect("it must happen within an hour")
        .unwrap()
        .clone()
}

/// Waits until the keeper holds the Lease.
async fn held(keeper: &LeaseKeeper) -> Held {
    let mut standing = keeper.watch();
    let now = soon(&mut standing, |standing| {
        matches!(standing, Standing::Held(_))
    })
    .await;
    match now {
        Standing::Held(held) => held,
        other => panic!("{other:?}"),
    }
}

// === reads ===

#[tokio::test(start_paused = true)]
async fn reads_one_object_and_says_when_there_is_none() {
    let world = world();
    world.create(deployment()).await;
    let found = world
        .cluster
        .get(&of(DEPLOYMENT, "mcp-server"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.name(), found["kind"].as_str()),
        ("mcp-server", Some("Deployment"))
    );
    assert_eq!(
        world.cluster.get(&of(DEPLOYMENT, "nobody")).await.unwrap(),
        None
    );
    // A kind that is not served is no object either.
    assert_eq!(
        world.cluster.get(&of(VIRTUAL_SERVICE, "x")).await.unwrap(),
        None
    );
    world.line.cut();
    let error = world
        .cluster
        .get(&of(DEPLOYMENT, "mcp-server"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        "cannot get Deployment ai-platform/mcp-server in cluster prod-kr: the API server does not answer; check with: kubectl \
         --context prod-kr get --raw /readyz"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_has_every_page_and_every_kind() {
    let world = world();
    for n in 0..501 {
        let revision = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": format!("r{n:03}"), "namespace": "ai-platform", "labels": {"half": (n % 2).to_string()}},
            "revision": n, "data": {},
        });
        world
            .server
            .store()
            .create(&CONTROLLER_REVISION, revision, "test")
            .unwrap();
    }
    let all = world
        .cluster
        .list(&CONTROLLER_REVISION, None, None, None)
        .await
        .unwrap();
    assert_eq!(all.len(), 501);
    assert!(
        all.iter()
            .all(|one| one["kind"] == "ControllerRevision" && one["apiVersion"] == "apps/v1")
    );
    let list = |namespace, labels, fields| {
        world
            .cluster
            .list(&CONTROLLER_REVISION, namespace, labels, fields)
    };
    assert_eq!(
        list(Some("ai-platform"), Some("half=1"), None)
            .await
            .unwrap()
            .len(),
        250
    );
    assert_eq!(list(Some("default"), None, None).await.unwrap().len(), 0);
    assert_eq!(
        list(None, None, Some("metadata.name=r007"))
            .await
            .unwrap()
            .len(),
        1
    );
    let error = world
        .cluster
        .list(&VIRTUAL_SERVICE, None, None, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_is() {
    let world = world();
    let version = world.cluster.version().await.unwrap();
    assert!(version.starts_with("v1.33."), "{version}");
    let installed = world.cluster.installed().await.unwrap();
    let apps = installed.iter().find(|(group, _)| group == "apps");
    assert_eq!(apps, Some(&("apps".to_owned(), vec!["v1".to_owned()])));
}

// === writes ===

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
            object["status"] = json!({"replicas": 2})
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
            .drop_next_answer(move |request| request.verb == verb)
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

// === the fence ===

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

// === the Lease ===

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_over_only_after_its_whole_duration() {
    let world = world();
    let first = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&first).await;
    let second = LeaseKeeper::start(&member(&world.server, &Line::default()), "second", LEASES);
    let mut standing = second.watch();
    soon(&mut standing, |standing| matches!(standing, Standing::Follower { holder: Some(holder) } if holder == "first")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        first.held().is_some() && second.held().is_none(),
        "the holder renews"
    );

    world.line.cut();
    let cut = Instant::now();
    let mut stops = first.watch();
    soon(&mut stops, |standing| {
        !matches!(standing, Standing::Held(_))
    })
    .await;
    let stopped = cut.elapsed();
    assert!(old.check().is_err());
    assert!(
        second.held().is_none(),
        "the holder stops before anyone can take over"
    );
    let new = held(&second).await;
    let taken = cut.elapsed();
    // The last renewal was up to 5 s before the cut.
    assert!(
        stopped >= Duration::from_secs(5) && stopped <= Duration::from_secs(13),
        "{stopped:?}"
    );
    assert!(
        taken >= Duration::from_secs(10) && taken <= Duration::from_secs(21),
        "{taken:?}"
    );
    assert!(new.epoch() != old.epoch());

    // The first one comes back and follows.
    world.line.mend();
    let mut standing = first.watch();
    soon(&mut standing, |standing| matches!(standing, Standing::Follower { holder: Some(holder) } if holder == "second")).await;
    second.release().await;
    let third = held(&first).await;
    assert_eq!(
        third.epoch().parse::<u64>().unwrap(),
        old.epoch().parse::<u64>().unwrap() + 2
    );
    first.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_hands_over_at_once() {
    let world = world();
    let first = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&first).await;
    let second = LeaseKeeper::start(&member(&world.server, &Line::default()), "second", LEASES);
    let mut standing = second.watch();
    soon(&mut standing, |standing| {
        matches!(standing, Standing::Follower { holder: Some(_) })
    })
    .await;
    let released = Instant::now();
    first.release().await;
    assert!(old.check().is_err());
    let new = held(&second).await;
    assert!(
        released.elapsed() < Duration::from_secs(1),
        "{:?}",
        released.elapsed()
    );
    assert!(new.epoch() != old.epoch());
    second.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_as_others_see_it() {
    let world = world();
    assert_eq!(
        world
            .cluster
            .lease_view(LEASES, "canary-mcp")
            .await
            .unwrap(),
        None
    );
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    held(&keeper).await;
    let view = world
        .cluster
        .lease_view(LEASES, "canary-mcp")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.holder.as_deref(), view.fresh), (Some("first"), true));
    world.line.cut();
    tokio::time::sleep(Duration::from_secs(17)).await;
    world.line.mend();
    let other = member(&world.server, &Line::default());
    // Read before the keeper's next attempt.
    let view = other
        .lease_view(LEASES, "canary-mcp")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.holder.as_deref(), view.fresh), (Some("first"), false));
    held(&keeper).await;
    keeper.release().await;
    let view = other
        .lease_view(LEASES, "canary-mcp")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.holder, view.fresh), (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_lost_renewal_answer_or_a_label_is_no_loss() {
    let world = world();
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let fence = held(&keeper).await;
    world
        .server
        .faults()
        .drop_next_answer(|request| request.plural == "leases" && request.verb == "update");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(fence.check().is_ok());
    world
        .server
        .store()
        .modify(&LEASE, LEASES, "canary-mcp", "kubectl", |lease| {
            lease["metadata"]["labels"] = json!({"a": "b"})
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(fence.check().is_ok());
    assert_eq!(
        keeper.held().map(|held| held.epoch().to_owned()),
        Some(fence.epoch().to_owned())
    );
    keeper.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_ends_the_holder_and_never_repeats_an_epoch() {
    let world = world();
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&keeper).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world
        .server
        .store()
        .delete(&LEASE, LEASES, "canary-mcp")
        .unwrap();
    let mut standing = keeper.watch();
    // The Lease is made again at once, so it may be the new one that is seen first.
    let is_new = |standing: &Standing| matches!(standing, Standing::Held(held) if held.epoch() != old.epoch());
    soon(&mut standing, is_new).await;
    assert!(old.check().is_err());
    let new = held(&keeper).await;
    assert!(new.epoch().parse::<u64>().unwrap() > old.epoch().parse::<u64>().unwrap());
    keeper.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_namespace_is_told_with_the_command_and_heals() {
    let world = world();
    let keeper = LeaseKeeper::start(&world.cluster, "first", "elsewhere");
    let mut standing = keeper.watch();
    let told = soon(&mut standing, |standing| {
        matches!(standing, Standing::Refused(_))
    })
    .await;
    let Standing::Refused(text) = told else {
        panic!("{told:?}")
    };
    assert!(
        text.ends_with(
            "make the namespace with: kubectl --context prod-kr create namespace elsewhere"
        ),
        "{text}"
    );
    world
        .server
        .store()
        .create(
            &NAMESPACE,
            json!({"metadata": {"name": "elsewhere"}}),
            "kubectl",
        )
        .unwrap();
    held(&keeper).await;
    keeper.release().await;
}

// === watches ===

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
    assert_eq!(seen, made, "the object exactly as it is stored");

    let mut changes = watched.subscribe();
    let write = Write::Patch {
        from: made,
        ops: image("1.1.0"),
    };
    let written = world.cluster.write(&write, None).await.unwrap();
    watched.put(Arc::clone(&written));
    assert_eq!(watched.get("ai-platform", "mcp-server").unwrap(), written);
    watched.put(seen);
    assert_eq!(
        watched.get("ai-platform", "mcp-server").unwrap(),
        written,
        "an older object is no news"
    );
    assert!(changes.has_changed().unwrap());
    changes.borrow_and_update();

    let elsewhere = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "default", "resourceVersion": "999999"}});
    watched.put(Arc::new(elsewhere));
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
    watched.put(Arc::new(phantom));
    assert_eq!(watched.list().len(), 1);
    let asked = Instant::now();
    soon(&mut watched.subscribe(), |_| watched.list().is_empty()).await;
    assert!(
        asked.elapsed() <= Duration::from_secs(31),
        "{:?}",
        asked.elapsed()
    );
}

// === events and Services ===

#[tokio::test(start_paused = true)]
async fn repeats_of_an_event_are_a_series() {
    let world = world();
    let canary = world.create(deployment()).await;
    let tell = |warning, message| world.cluster.event(&canary, warning, "Synced", message);
    tell(false, "Advance mcp-server.ai-platform canary weight 5")
        .await
        .unwrap();
    tell(true, "Halt advancement").await.unwrap();
    tell(true, "Halt advancement").await.unwrap();
    tell(true, "Halt advancement").await.unwrap();
    tell(false, "Advance mcp-server.ai-platform canary weight 5")
        .await
        .unwrap();
    let events = world
        .cluster
        .list(
            &EVENT,
            Some("ai-platform"),
            None,
            Some("regarding.name=mcp-server"),
        )
        .await
        .unwrap();
    let mut told: Vec<(&str, &str, i64)> = events
        .iter()
        .map(|event| {
            let count = event.int_at("/series/count").unwrap_or(1);
            (
                event.str_at("/type").unwrap(),
                event.str_at("/note").unwrap(),
                count,
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (
                "Normal",
                "Advance mcp-server.ai-platform canary weight 5",
                1
            ),
            (
                "Normal",
                "Advance mcp-server.ai-platform canary weight 5",
                1
            ),
            ("Warning", "Halt advancement", 3),
        ]
    );
}

fn call_of(request: Request<Bytes>) -> ServiceCall {
    ServiceCall {
        namespace: "istio-system".to_owned(),
        service: "prometheus".to_owned(),
        port: "9090".to_owned(),
        request,
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_reached_through_the_api_server() {
    let world = world();
    let call = |path: &str| {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        world.cluster.service_call(call_of(request))
    };
    let none = call("/api/v1/query?query=up").await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Rejected, "{}", none.report());

    world.server.on_service_proxy(Arc::new(|call| {
        async move {
            assert_eq!(
                (
                    call.namespace.as_str(),
                    call.service.as_str(),
                    call.port.as_str()
                ),
                ("istio-system", "prometheus", "9090")
            );
            let mut answer = Response::new(Bytes::from(call.request.uri().to_string()));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
        .boxed()
    }));
    let answer = call("/api/v1/query?query=up%7Ba%3D%22b%22%7D")
        .await
        .unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(
        answer.body().as_ref(),
        b"/api/v1/query?query=up%7Ba%3D%22b%22%7D"
    );

    let with_secret = Request::get("/")
        .header("authorization", "Bearer x")
        .body(Bytes::new())
        .unwrap();
    let before = world.server.faults().counts();
    let call = call_of(with_secret);
    let error = world.cluster.service_call(call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert_eq!(world.server.faults().counts(), before, "nothing was sent");
}
