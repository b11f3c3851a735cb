//! Clusters that come, change and go while the process runs: Argo CD's Secrets, credential plugins, proxies.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::HeaderMap, routing::get};
use canary_mcp::{
    api::crd,
    cluster::{
        Cluster, Registry,
        embedded::fleet::{Fleet, FleetOptions},
        registry::Entry,
        sources::{self, ArgoCd, Sources},
    },
    decide::facts::Moment,
    engine::{
        Settings,
        control::{Control, Filter, Key},
    },
    outbound::http::{Transport, client},
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::support;

/// 2026-11-21T00:00:00Z
const EPOCH: Moment = Moment(1_795_219_200_000);
/// Generous: what is waited for is a condition, and comes at once or within a second.
const SOON: Duration = Duration::from_secs(60);

async fn begin(sources: Sources) -> Registry {
    sources::start(sources, &CancellationToken::new())
        .await
        .unwrap()
}

fn rows(registry: &Registry) -> Vec<(String, Option<bool>)> {
    let all = registry.all();
    let rows = all.iter().map(|entry| {
        let cluster = entry.cluster.as_ref().ok();
        (entry.name.clone(), cluster.map(Cluster::may_lead))
    });
    rows.collect()
}

fn row(registry: &Registry, name: &str) -> Entry {
    let all = registry.all();
    all.iter().find(|entry| entry.name == name).unwrap().clone()
}

async fn becomes(registry: &Registry, wanted: impl Fn(&[Entry]) -> bool) {
    let mut changes = registry.subscribe();
    let wait = changes.wait_for(|entries| wanted(entries));
    tokio::time::timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("the registry stays at {:?}", registry.all()))
        .unwrap();
}

// === Argo CD ===

/// The embedded staging cluster, with Argo CD's namespace in it.
async fn home() -> (Fleet, Client) {
    let fleet = Fleet::start(FleetOptions::new(EPOCH, 1.0, Vec::new())).unwrap();
    let client = fleet.member("staging").unwrap().server.client();
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "argocd"}})).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    (fleet, client)
}

fn secret(name: &str, cluster: &str, server: &str) -> Secret {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"argocd.argoproj.io/secret-type": "cluster", "env": "production"}},
        "stringData": {"name": cluster, "server": server, "config": r#"{"bearerToken": "planted-token"}"#}
    }))
    .unwrap()
}

/// `data` of a Secret, since the embedded API server keeps what it is given.
fn encoded(mut secret: Secret) -> Secret {
    let given = secret.string_data.take().unwrap_or_default();
    secret.data = Some(
        given
            .into_iter()
            .map(|(key, value)| (key, k8s_openapi::ByteString(value.into_bytes())))
            .collect(),
    );
    secret
}

#[tokio::test(start_paused = true)]
async fn a_cluster_secret_takes_effect_within_a_second_and_a_cluster_that_is_gone_is_told() {
    let (fleet, client) = home().await;
    let secrets: Api<Secret> = Api::namespaced(client, "argocd");
    let create = async |secret: Secret| {
        secrets
            .create(&PostParams::default(), &encoded(secret))
            .await
            .unwrap();
    };
    create(secret("cluster-kr", "eu-kr", "https://127.0.0.1:1")).await;
    let registry = begin(Sources {
        embedded: vec![support::spec(fleet.member("staging").unwrap(), true)],
        argocd: Some(ArgoCd {
            home: "staging".to_owned(),
            namespace: "argocd".to_owned(),
        }),
        lead: vec!["eu-*".to_owned()],
        ..Sources::default()
    })
    .await;
    let leads = |name: &str, leads| (name.to_owned(), leads);
    assert_eq!(
        rows(&registry),
        [leads("eu-kr", Some(true)), leads("staging", Some(true))],
        "what is there at the start is there when it has started"
    );
    assert_eq!(registry.select("env=production").unwrap().len(), 1);
    let kr = registry.get("eu-kr").unwrap();

    let before = tokio::time::Instant::now();
    create(secret("cluster-us", "us", "https://127.0.0.1:2")).await;
    becomes(&registry, |entries| {
        entries.iter().any(|e| e.name == "us" && e.cluster.is_ok())
    })
    .await;
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
    assert!(
        registry.get("eu-kr").unwrap().is(&kr),
        "a Secret that has not changed keeps its cluster"
    );
    assert!(!registry.get("us").unwrap().may_lead());

    // A label is no other cluster, another token is one.
    let label = json!({"metadata": {"labels": {"env": "staging"}}});
    let change = async |patch: &Value| {
        let name = "cluster-kr";
        secrets
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    };
    change(&label).await;
    becomes(&registry, |entries| entries[0].labels["env"] == "staging").await;
    assert!(registry.get("eu-kr").unwrap().is(&kr));
    // {"bearerToken": "another"}
    change(&json!({"data": {"config": "eyJiZWFyZXJUb2tlbiI6ICJhbm90aGVyIn0="}})).await;
    let other = |entries: &[Entry]| {
        entries[0]
            .cluster
            .as_ref()
            .is_ok_and(|cluster| !cluster.is(&kr))
    };
    becomes(&registry, other).await;

    // A second Secret of the name is told, and does not count.
    create(secret("cluster-zz", "eu-kr", "https://127.0.0.1:3")).await;
    becomes(&registry, |entries| entries[0].note.is_some()).await;
    assert_eq!(
        row(&registry, "eu-kr").note.as_deref(),
        Some(
            "there are two of this name, in Secret argocd/cluster-kr and Secret argocd/cluster-zz; the first counts, rename the other"
        )
    );
    let told = format!("{:?}", registry.all());
    assert!(!told.contains("planted"), "{told}");

    let before = tokio::time::Instant::now();
    secrets
        .delete("cluster-us", &DeleteParams::default())
        .await
        .unwrap();
    becomes(&registry, |entries| !entries.iter().any(|e| e.name == "us")).await;
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "{:?}",
        before.elapsed()
    );
    let told = registry.get("us").unwrap_err();
    assert!(told.starts_with("cluster us was removed at 20"), "{told}");
    assert!(
        told.ends_with("its rollouts were left as they were then"),
        "{told}"
    );
}

// === settings of one cluster ===

#[tokio::test(start_paused = true)]
async fn only_the_namespaces_of_the_settings_are_listed_and_shown() {
    let fleet = Fleet::start(FleetOptions::new(EPOCH, 1.0, crd::crds())).unwrap();
    let shown = async |given: &str| {
        let folder = Folder::new(&format!("namespaces-{}", given.len()));
        let registry = begin(Sources {
            embedded: vec![support::spec(fleet.member("prod-kr").unwrap(), false)],
            clusters_file: Some(folder.write("clusters", 0o600, given)),
            ..Sources::default()
        })
        .await;
        let direct = Transport::Direct(client(false).unwrap());
        let control = Control::new(registry, Settings::default(), direct);
        let table = control.table(&Filter::default()).await.unwrap();
        assert_eq!(table.unreachable, Vec::<String>::new());
        let rows = table.rows.into_iter();
        let rows: Vec<String> = rows
            .map(|row| format!("{}/{}", row.namespace, row.name))
            .collect();
        let key = Key {
            cluster: "prod-kr".to_owned(),
            namespace: "ai-platform".to_owned(),
            name: "mcp-server".to_owned(),
        };
        let view = control.view(&key).await;
        (rows, view.err().map(|error| error.to_string()))
    };
    let all = (vec!["ai-platform/mcp-server".to_owned()], None);
    assert_eq!(shown("").await, all);
    assert_eq!(
        shown("prod-*: {namespaces: [ai-platform, payments]}").await,
        all
    );
    assert_eq!(
        shown("prod-*: {namespaces: [payments]}").await,
        (
            Vec::new(),
            Some(
                "namespace: \"ai-platform\" is not led and shown on cluster prod-kr; --namespace allows payments"
                    .to_owned()
            )
        )
    );
}

// === plugins and proxies, over real sockets and so in real time ===

/// An API server that knows its version, and keeps what each request was authorised with.
async fn api_server() -> (String, Arc<Mutex<Vec<String>>>) {
    type Seen = Arc<Mutex<Vec<String>>>;
    async fn version(State(seen): State<Seen>, headers: HeaderMap) -> Json<Value> {
        let authorization = headers.get("authorization");
        let authorization = authorization.map_or("", |value| value.to_str().unwrap());
        seen.lock().unwrap().push(authorization.to_owned());
        Json(json!({"gitVersion": "v1.33.1"}))
    }
    let seen = Seen::default();
    let routes = Router::new()
        .route("/version", get(version))
        .with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (format!("http://{address}"), seen)
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!(
            "canary-mcp-it-sources-{}-{name}",
            std::process::id()
        ));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = self.0.join(name);
        // Written under another name first: a file that is being written cannot be run.
        let beside = self.0.join("beside");
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(mode);
        options
            .open(&beside)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        std::fs::rename(beside, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn one(folder: &Folder, cluster: &Value, user: &Value) -> Registry {
    let kubeconfig = json!({
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    });
    begin(Sources {
        kubeconfigs: vec![folder.write("config", 0o600, &kubeconfig.to_string())],
        ..Sources::default()
    })
    .await
}

#[tokio::test]
async fn a_plugin_that_fails_at_the_start_is_tried_again_and_told_without_its_secrets() {
    let folder = Folder::new("plugin");
    let (server, seen) = api_server().await;
    let plugin = folder.write(
        "plugin",
        0o700,
        "#!/bin/sh\necho 'first line' >&2\necho \"cannot log in with $PASSWORD\" >&2\nexit 3\n",
    );
    let exec = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": "IfAvailable",
        "env": [{"name": "PASSWORD", "value": "planted-password"}]
    }});
    let registry = one(&folder, &json!({"server": server}), &exec).await;
    let name = plugin.display();
    assert_eq!(
        registry.get("c").unwrap_err(),
        format!(
            "cluster c cannot be used: its credential plugin {name} failed (exit status: 3): cannot log in with ***"
        )
    );
    let expected = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}"#;
    folder.write(
        "plugin",
        0o700,
        &format!(
            "#!/bin/sh\ntest \"$KUBERNETES_EXEC_INFO\" = '{expected}' || exit 4\necho '{{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\", \"status\": {{\"token\": \"from-the-plugin\"}}}}'\n"
        ),
    );
    becomes(&registry, |entries| entries[0].cluster.is_ok()).await;
    let version = registry.get("c").unwrap().version().await.unwrap();
    assert_eq!(version, "v1.33.1");
    assert_eq!(*seen.lock().unwrap(), ["Bearer from-the-plugin"]);
}

#[tokio::test]
async fn a_plugin_that_is_not_there_is_named_with_what_to_do() {
    let folder = Folder::new("missing");
    let exec = |command: &str, hint: Option<&str>| json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "installHint": hint}});
    let server = json!({"server": "https://127.0.0.1:1"});
    for (user, expected) in [
        (
            exec("no-such-helper", None),
            "its credential plugin no-such-helper cannot be started (No such file or directory (os error 2)): install it on the PATH of this process",
        ),
        (
            exec("no-such-helper", Some("brew install helper")),
            "its credential plugin no-such-helper cannot be started (No such file or directory (os error 2)): brew install helper",
        ),
        (
            json!({"exec": {"command": "true", "interactiveMode": "Always"}}),
            "its credential plugin wants a terminal (interactiveMode: Always), and there is none here; use one that does not",
        ),
        (
            exec("true", None),
            "its credential plugin true gave no ExecCredential with a token or a certificate in its status",
        ),
    ] {
        let registry = one(&folder, &server, &user).await;
        assert_eq!(
            registry.get("c").unwrap_err(),
            format!("cluster c cannot be used: {expected}")
        );
    }
}

/// A proxy that tunnels (CONNECT) to wherever it is asked, and tells the head of each request.
async fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kept = heads.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && client.read_line(&mut head).await.unwrap() > 0
                {
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                kept.lock().unwrap().push(head);
                let mut server = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .ok();
            });
        }
    });
    (address.to_string(), heads)
}

#[tokio::test]
async fn a_cluster_is_reached_through_the_proxy_of_its_entry() {
    let folder = Folder::new("proxy");
    let (server, seen) = api_server().await;
    let (proxy, heads) = proxy().await;
    let cluster =
        json!({"server": server, "proxy-url": format!("http://me:planted-password@{proxy}")});
    let registry = one(&folder, &cluster, &json!({"token": "planted-token"})).await;
    let version = registry.get("c").unwrap().version().await.unwrap();
    assert_eq!(version, "v1.33.1");
    assert_eq!(*seen.lock().unwrap(), ["Bearer planted-token"]);
    let heads = heads.lock().unwrap();
    let target = server.strip_prefix("http://").unwrap();
    assert!(
        heads[0].starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")),
        "{heads:?}"
    );
    // me:planted-password
    assert!(
        heads[0]
            .to_lowercase()
            .contains("proxy-authorization: basic bwu6cgxhbnrlzc1wyxnzd29yza=="),
        "{heads:?}"
    );
}
