//! One embedded cluster with a line to it that can be cut.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use canary_mcp::{
    api::objects::{Kind, NAMESPACE, Object, ObjectExt, Ref, Write},
    cluster::{
        Clock, Cluster, ClusterSpec, Held, LeaseKeeper, Overrides, Standing,
        embedded::{server::ApiServer, store::Store},
    },
    decide::facts::Moment,
};
use http::Request;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(super) const EPOCH: &str = "canary-mcp.dev/epoch";
pub(super) const LEASES: &str = "canary-mcp-system";

/// One embedded cluster, and a line to it that can be cut.
pub(super) struct World {
    pub(super) server: ApiServer,
    pub(super) cluster: Cluster,
    pub(super) line: Line,
}

/// 0: works; 1: nothing gets through; 2: only reads get through.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<AtomicU8>);

impl Line {
    pub(super) fn cut(&self) {
        self.0.store(1, Ordering::SeqCst);
    }
    pub(super) fn cut_writes(&self) {
        self.0.store(2, Ordering::SeqCst);
    }
    pub(super) fn mend(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
    pub(super) fn is_cut(&self, method: &http::Method) -> bool {
        match self.0.load(Ordering::SeqCst) {
            0 => false,
            1 => true,
            _ => method != http::Method::GET,
        }
    }
}

pub(super) fn client(server: &ApiServer, line: &Line) -> kube::Client {
    let (server, line) = (server.clone(), line.clone());
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (server, line) = (server.clone(), line.clone());
        async move {
            if line.is_cut(request.method()) {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
            }
            // As on a real line, a request goes on when its caller has given up. The server's own client breaks the connection where
            // a fault wants it.
            let sent = tokio::spawn(async move { server.client().send(request).await });
            sent.await?.map_err(tower::BoxError::from)
        }
    });
    kube::Client::new(service, "default")
}

pub(super) fn member(server: &ApiServer, line: &Line) -> Cluster {
    Cluster::new(ClusterSpec {
        name: "prod-kr".to_owned(),
        labels: BTreeMap::new(),
        client: client(server, line),
        clock: server.store().clock().clone(),
        leads: true,
        inside: false,
        embedded: true,
        overrides: Overrides::default(),
    })
}

pub(super) fn world() -> World {
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

pub(super) fn deployment() -> Value {
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

pub(super) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "mcp-server", "namespace": "ai-platform"},
        "spec": {"selector": {"app": "mcp-server"}, "ports": [{"name": "http", "port": 80}]},
    })
}

pub(super) fn of(kind: Kind, name: &str) -> Ref {
    Ref {
        kind,
        namespace: "ai-platform".to_owned(),
        name: name.to_owned(),
    }
}

pub(super) fn image(tag: &str) -> Vec<Value> {
    vec![json!({
        "op": "replace", "path": "/spec/template/spec/containers/0/image",
        "value": format!("registry.example/mcp-server:{tag}"),
    })]
}

pub(super) fn image_of(object: &Value) -> &str {
    object
        .str_at("/spec/template/spec/containers/0/image")
        .unwrap()
}

impl World {
    pub(super) async fn create(&self, object: Value) -> Object {
        let created = self.cluster.write(&Write::Create(object), None).await;
        created.unwrap()
    }

    pub(super) fn stored(&self, kind: Kind, name: &str) -> Option<Object> {
        self.server.store().get(&kind, "ai-platform", name)
    }

    pub(super) fn writes(&self) -> u64 {
        self.server.faults().writes()
    }
}

/// Waits for a value, but not for ever: on the paused clock an hour is nothing.
pub(super) async fn soon<T: Clone>(
    receiver: &mut watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool,
) -> T {
    tokio::time::timeout(Duration::from_secs(3_600), receiver.wait_for(wanted))
        .await
        .expect("it must happen within an hour")
        .unwrap()
        .clone()
}

/// Waits until the keeper holds the Lease.
pub(super) async fn held(keeper: &LeaseKeeper) -> Held {
    let mut standing = keeper.watch();
    let now = soon(&mut standing, |standing| {
        matches!(standing, Standing::Held(_))
    })
    .await;
    match now {
        Standing::Held(held) => held,
        other @ (Standing::Follower { .. } | Standing::Refused(_)) => panic!("{other:?}"),
    }
}
