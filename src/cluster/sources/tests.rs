//! What the sources say, and what becomes of it, without a call to any cluster.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::{
    argocd::{Found, Secrets as Which, found},
    given::clusters_file,
    merge::choose,
    token::Secrets,
    *,
};
use crate::cluster::{Cluster, registry::Entry};

const FILE: &str = r#"
apiVersion: v1
kind: Config
current-context: prod-kr
clusters:
- name: kr
  cluster:
    server: https://127.0.0.1:1
    insecure-skip-tls-verify: true
    extensions:
    - name: canary-mcp.dev/labels
      extension: {env: production, region: kr}
- name: proxied
  cluster: {server: "https://127.0.0.1:1", proxy-url: "ftp://x"}
- name: embedded
  cluster:
    server: http://127.0.0.1:1/clusters/staging
    extensions:
    - name: canary-mcp.dev/embedded
      extension: {clock: "http://127.0.0.1:1/clusters/staging/clock", labels: {env: staging}}
users:
- name: u
  user: {token: secret-token}
contexts:
- name: prod-kr
  context: {cluster: kr, user: u}
- name: prod-jp
  context: {cluster: kr, user: u}
- name: lost
  context: {cluster: nowhere, user: u}
- name: behind-proxy
  context: {cluster: proxied, user: u}
- name: staging
  context: {cluster: embedded, user: u}
"#;

/// A folder of its own for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("canary-mcp-sources-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn begin(sources: Sources) -> Registry {
    let stop = CancellationToken::new();
    start(sources, &stop).await.unwrap()
}

fn names(registry: &Registry) -> Vec<String> {
    registry
        .all()
        .iter()
        .map(|entry| entry.name.clone())
        .collect()
}

fn entry(registry: &Registry, name: &str) -> Entry {
    let all = registry.all();
    all.iter().find(|entry| entry.name == name).unwrap().clone()
}

/// Waits for the registry to be as wanted; virtual time passes meanwhile.
async fn becomes(registry: &Registry, wanted: impl Fn(&[Entry]) -> bool) {
    let mut changes = registry.subscribe();
    let wait = changes.wait_for(|entries| wanted(entries));
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("the registry must become as wanted")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_context_is_a_row_and_only_the_named_ones_lead() {
    let folder = Folder::new("all");
    let registry = begin(Sources {
        kubeconfigs: vec![folder.write("config", FILE)],
        lead: vec!["*-kr".to_owned()],
        ..Sources::default()
    })
    .await;
    let all = registry.all();
    let rows = all.iter().map(|entry| {
        let cluster = entry.cluster.as_ref();
        (entry.name.as_str(), cluster.ok().map(Cluster::may_lead))
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            ("behind-proxy", None),
            ("lost", None),
            ("prod-jp", Some(false)),
            ("prod-kr", Some(true)),
            ("staging", None),
        ]
    );
    let told = registry.get("staging").unwrap_err();
    assert!(
        told.starts_with("cluster staging cannot be used: its clock cannot be read, start it with: canary-mcp cluster ("),
        "{told}"
    );
    assert_eq!(
        registry.get("behind-proxy").unwrap_err(),
        "cluster behind-proxy cannot be used: its proxy-url \"ftp://x\" cannot be used; give one of http://, https:// or socks5://"
    );
    let told = format!("{:?}", registry.all());
    assert!(!told.contains("secret-token"), "{told}");
    let selected = registry.select("env in (staging),!region").unwrap();
    let selected: Vec<&str> = selected.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(selected, ["staging"]);
    assert_eq!(
        registry.select("env=production").unwrap().len(),
        2,
        "both contexts of the labelled cluster"
    );
    assert_eq!(
        registry.select("env in").unwrap_err(),
        "selector: \"env in\" in \"env in\" is no label key, write for example: env=production"
    );
}

fn context(name: &str, server: &str) -> String {
    format!(
        "contexts: [{{name: {name}, context: {{cluster: {name}, user: u}}}}]\nclusters: [{{name: {name}, cluster: {{server: \"{server}\"}}}}]\nusers: [{{name: u, user: {{token: t-{name}}}}}]\n"
    )
}

#[tokio::test(start_paused = true)]
async fn files_are_merged_as_kubectl_does_and_only_the_wanted_contexts_count() {
    let folder = Folder::new("merged");
    let registry = begin(Sources {
        kubeconfigs: vec![
            folder.write("a", &context("prod-kr", "ftp://never/")),
            folder.write("b", &context("prod-kr", "https://127.0.0.1:2")),
            folder.write("c", &context("prod-jp", "https://127.0.0.1:3")),
            folder.write("d", &context("lab", "https://127.0.0.1:4")),
        ],
        contexts: vec!["prod-*".to_owned()],
        labels: vec![given::cluster_labels("prod-*=env=production").unwrap()],
        clusters_file: Some(folder.write(
            "clusters",
            "prod-jp: {labels: {env: overruled, region: jp}, namespaces: [ai-platform]}",
        )),
        ..Sources::default()
    })
    .await;
    assert_eq!(names(&registry), ["prod-jp", "prod-kr"]);
    let jp = entry(&registry, "prod-jp");
    let labels = jp
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    assert_eq!(
        labels.collect::<Vec<_>>(),
        [("env", "production"), ("region", "jp")]
    );
    assert_eq!(
        jp.cluster.unwrap().overrides().namespaces,
        Some(vec!["ai-platform".to_owned()])
    );
    // No note: of two contexts in two files the first counts, as with kubectl.
    assert_eq!(entry(&registry, "prod-kr").note, None);
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let folder = Folder::new("wrong");
    let clusters = folder.write("clusters", "a: {label: {}}\nb: 5");
    let broken = folder.write("broken", "contexts: 5");
    let sources = Sources {
        kubeconfigs: vec![PathBuf::from("/nowhere/kubeconfig"), broken.clone()],
        clusters_file: Some(clusters.clone()),
        ..Sources::default()
    };
    let SourcesError(problems) = start(sources, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(
        problems[0].starts_with("cannot read kubeconfig /nowhere/kubeconfig: "),
        "{problems:?}"
    );
    let place = format!("cannot read kubeconfig {}: ", broken.display());
    assert!(problems[1].starts_with(&place), "{problems:?}");
    let place = clusters.display();
    assert_eq!(
        problems[2..],
        [
            format!(
                "clusters file {place}: a.label: is not known; there are labels, meshProvider, metricsServer, selectorLabels, includeLabelPrefix, namespaces, maxConcurrent, maxConcurrentPerNamespace"
            ),
            format!(
                "clusters file {place}: b: is not a map of labels, meshProvider, metricsServer, selectorLabels, includeLabelPrefix, namespaces, maxConcurrent, maxConcurrentPerNamespace"
            ),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_kubeconfig_is_followed_as_it_changes() {
    let folder = Folder::new("followed");
    // A Secret that is mounted: the path is a link through a link, and a change is the swap of the inner one.
    for (version, text) in [
        ("..1", context("prod-kr", "https://127.0.0.1:1")),
        (
            "..2",
            context("prod-kr", "https://127.0.0.1:1")
                + "---\n"
                + &context("new", "https://127.0.0.1:5"),
        ),
        ("..3", "contexts: 5".to_owned()),
        ("..4", context("new", "https://127.0.0.1:6")),
    ] {
        std::fs::create_dir_all(folder.0.join(version)).unwrap();
        folder.write(&format!("{version}/config"), &text);
    }
    let swap = |version: &str| {
        std::os::unix::fs::symlink(version, folder.0.join("..tmp")).unwrap();
        std::fs::rename(folder.0.join("..tmp"), folder.0.join("..data")).unwrap();
    };
    swap("..1");
    let path = folder.0.join("config");
    std::os::unix::fs::symlink("..data/config", &path).unwrap();
    let registry = begin(Sources {
        kubeconfigs: vec![path],
        ..Sources::default()
    })
    .await;
    assert_eq!(names(&registry), ["prod-kr"]);
    let kr = registry.get("prod-kr").unwrap();

    swap("..2");
    becomes(&registry, |entries| {
        entries.len() == 2 && entries.iter().all(|e| e.cluster.is_ok())
    })
    .await;
    assert!(
        registry.get("prod-kr").unwrap().is(&kr),
        "what has not changed stays"
    );
    let new = registry.get("new").unwrap();

    // What cannot be read changes nothing.
    swap("..3");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(names(&registry), ["new", "prod-kr"]);
    assert!(registry.get("new").unwrap().is(&new));

    swap("..4");
    becomes(&registry, |entries| {
        entries.len() == 1 && entries[0].cluster.is_ok()
    })
    .await;
    assert!(
        !registry.get("new").unwrap().is(&new),
        "another address is another cluster"
    );
    let told = registry.get("prod-kr").unwrap_err();
    assert!(
        told.starts_with("cluster prod-kr was removed at 20"),
        "{told}"
    );
    assert!(
        told.ends_with(
            "Z, from where clusters are found; its rollouts were left as they were then"
        ),
        "{told}"
    );
}

// === Argo CD's Secrets ===

fn which() -> Which {
    Which {
        home: "in-cluster".to_owned(),
        namespace: "argocd".to_owned(),
        lead: vec!["prod-*".to_owned()],
    }
}

/// A cluster Secret, its data encoded as the API server gives it.
fn secret(name: &str, annotations: &Value, data: &[(&str, &str)]) -> Value {
    let data = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(value))));
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": name, "namespace": "argocd", "annotations": annotations,
            "labels": {"argocd.argoproj.io/secret-type": "cluster", "env": "production"}
        },
        "data": data.collect::<serde_json::Map<_, _>>(),
    })
}

fn one(secret: &Value) -> Candidate {
    let Found { candidates, .. } = found(&[secret], &which());
    candidates.into_iter().next().unwrap()
}

/// The cluster and the user of the kubeconfig that a Secret becomes.
fn kubeconfig_of(candidate: &Candidate) -> (Value, Value) {
    let Way::Access(access) = &candidate.way else {
        panic!("{} has no access", candidate.name);
    };
    let kubeconfig = &access.kubeconfig;
    (
        serde_json::to_value(&kubeconfig.clusters[0].cluster).unwrap(),
        serde_json::to_value(&kubeconfig.auth_infos[0].auth_info).unwrap(),
    )
}

#[test]
fn a_secret_becomes_what_argo_cd_makes_of_it() {
    let everything = json!({
        "bearerToken": "planted-token",
        "tlsClientConfig": {"insecure": false, "serverName": "api.kr", "caData": "Y2E=", "certData": "Y2VydA==", "keyData": "a2V5"},
        "proxyUrl": "socks5://proxy:1080", "disableCompression": true, "somethingNew": 5,
    });
    let candidate = one(&secret(
        "cluster-kr",
        &json!({}),
        &[
            ("name", "prod-kr"),
            ("server", "https://kr:6443"),
            ("config", &everything.to_string()),
            ("project", "x"),
            ("clusterResources", "true"),
        ],
    ));
    assert_eq!(
        (candidate.name.as_str(), candidate.leads),
        ("prod-kr", true)
    );
    assert_eq!(candidate.origin, "Secret argocd/cluster-kr");
    assert_eq!(
        candidate.labels,
        BTreeMap::from([
            (
                "argocd.argoproj.io/secret-type".to_owned(),
                "cluster".to_owned()
            ),
            ("env".to_owned(), "production".to_owned()),
        ])
    );
    assert_eq!(
        kubeconfig_of(&candidate),
        (
            json!({
                "server": "https://kr:6443", "insecure-skip-tls-verify": false, "certificate-authority-data": "Y2E=",
                "proxy-url": "socks5://proxy:1080", "disable-compression": true, "tls-server-name": "api.kr",
            }),
            json!({"token": "planted-token", "client-certificate-data": "Y2VydA==", "client-key-data": "a2V5"}),
        )
    );
}

#[test]
fn aws_goes_before_a_plugin_and_a_plugin_before_a_password_and_a_token() {
    let both = json!({
        "username": "u", "password": "planted", "bearerToken": "planted",
        "execProviderConfig": {
            "command": "argocd-k8s-auth", "args": ["gcp"], "env": {"B": "2", "A": "1"},
            "apiVersion": "client.authentication.k8s.io/v1beta1", "installHint": "get it",
            "provideClusterInfo": true, "config": {"audience": "x"}
        },
    });
    let candidate = one(&secret(
        "c",
        &json!({}),
        &[("server", "https://c"), ("config", &both.to_string())],
    ));
    assert_eq!(
        (candidate.name.as_str(), candidate.leads),
        ("c", false),
        "without a name it has the Secret's"
    );
    let (cluster, user) = kubeconfig_of(&candidate);
    assert_eq!(
        cluster["extensions"],
        json!([{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}])
    );
    assert_eq!(
        user,
        json!({"exec": {
            "command": "argocd-k8s-auth", "args": ["gcp"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "apiVersion": "client.authentication.k8s.io/v1beta1", "installHint": "get it",
            "interactiveMode": "Never", "provideClusterInfo": true,
        }}),
        "a plugin goes before a password and a token"
    );

    let aws = json!({
        "bearerToken": "planted", "execProviderConfig": {"command": "x"},
        "awsAuthConfig": {"clusterName": "eks-kr", "roleARN": "arn:aws:iam::1:role/r", "profile": ""},
    });
    let candidate = one(&secret(
        "c",
        &json!({}),
        &[("server", "https://c"), ("config", &aws.to_string())],
    ));
    assert_eq!(
        kubeconfig_of(&candidate).1,
        json!({}),
        "AWS goes before all"
    );
    let Way::Access(access) = &candidate.way else {
        panic!("there is an access");
    };
    assert_eq!(
        access.aws.as_ref().map(aws::AwsAuth::mark).as_deref(),
        Some("eks-kr Some(\"arn:aws:iam::1:role/r\") None")
    );

    let basic = json!({"username": "u", "password": "p"});
    let candidate = one(&secret(
        "c",
        &json!({}),
        &[("server", "https://c"), ("config", &basic.to_string())],
    ));
    assert_eq!(
        kubeconfig_of(&candidate).1,
        json!({"username": "u", "password": "p"})
    );
    let candidate = one(&secret("c", &json!({}), &[("server", "https://c")]));
    assert_eq!(kubeconfig_of(&candidate).1, json!({}), "no config at all");
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_a_value_of_it() {
    let table = [
        (
            r#"{"bearerToken": planted}"#,
            "data.config is no JSON (line 1, column 17)",
        ),
        (r#"["planted"]"#, "data.config is not an object"),
        (
            r#"{"bearerToken": {"planted": 1}}"#,
            "data.config.bearerToken is not a text",
        ),
        (
            r#"{"tlsClientConfig": "planted"}"#,
            "data.config.tlsClientConfig is not an object",
        ),
        (
            r#"{"tlsClientConfig": {"insecure": "planted"}}"#,
            "data.config.tlsClientConfig.insecure is not true or false",
        ),
        (
            r#"{"execProviderConfig": {"args": ["planted"]}}"#,
            "data.config.execProviderConfig.command is missing",
        ),
        (
            r#"{"execProviderConfig": {"command": "c", "args": ["planted", 1]}}"#,
            "data.config.execProviderConfig.args is not a list of texts",
        ),
        (
            r#"{"execProviderConfig": {"command": "c", "env": {"A": ["planted"]}}}"#,
            "data.config.execProviderConfig.env.A is not a text",
        ),
        (
            r#"{"awsAuthConfig": {"roleARN": "planted"}}"#,
            "data.config.awsAuthConfig.clusterName is missing",
        ),
    ];
    for (config, expected) in table {
        let candidate = one(&secret(
            "c",
            &json!({}),
            &[("server", "https://c"), ("config", config)],
        ));
        let Way::Never(why) = candidate.way else {
            panic!("{config} must be refused");
        };
        assert_eq!(why, format!("Secret argocd/c: {expected}"), "{config}");
    }
    let Way::Never(why) = one(&secret("c", &json!({}), &[("name", "x")])).way else {
        panic!("a Secret without a server must be refused");
    };
    assert_eq!(
        why,
        "Secret argocd/c: data.server is missing; give the address of the API server"
    );
}

#[test]
fn annotations_of_a_secret_are_settings_of_its_cluster() {
    let annotations = json!({
        "canary-mcp.dev/mesh-provider": "istio",
        "canary-mcp.dev/metrics-server": "http://thanos:9090/",
        "canary-mcp.dev/selector-labels": "app, k8s-app",
        "canary-mcp.dev/include-label-prefix": "team.example.com/",
        "canary-mcp.dev/max-concurrent": "3",
        "canary-mcp.dev/max-concurrent-per-namespace": "1",
    });
    let candidate = one(&secret(
        "c",
        &annotations,
        &[("server", "https://c"), ("namespaces", "a, b")],
    ));
    assert_eq!(
        candidate.overrides,
        Overrides {
            mesh_provider: Some("istio".to_owned()),
            metrics_server: Some("http://thanos:9090".to_owned()),
            selector_labels: Some(vec!["app".to_owned(), "k8s-app".to_owned()]),
            include_label_prefix: Some(vec!["team.example.com/".to_owned()]),
            namespaces: Some(vec!["a".to_owned(), "b".to_owned()]),
            max_concurrent: Some(3),
            max_concurrent_per_namespace: Some(1),
        }
    );
    let annotations = json!({"canary-mcp.dev/namespaces": "c"});
    let candidate = one(&secret(
        "c",
        &annotations,
        &[("server", "https://c"), ("namespaces", "a")],
    ));
    assert_eq!(candidate.overrides.namespaces, Some(vec!["c".to_owned()]));
    // A setting that is wrong must not quietly be the installation's.
    let annotations = json!({"canary-mcp.dev/mesh-provider": "linkerd"});
    let Way::Never(why) = one(&secret("c", &annotations, &[("server", "https://c")])).way else {
        panic!("a wrong setting must be refused");
    };
    assert_eq!(
        why,
        "Secret argocd/c: annotation canary-mcp.dev/mesh-provider: \"linkerd\" is not carried out by this version; istio, gatewayapi:v1 and kubernetes are"
    );
}

#[test]
fn unmanaged_odd_own_and_double_clusters_are_told() {
    let skipped = one(&secret(
        "c",
        &json!({"argocd.argoproj.io/skip-reconcile": "true"}),
        &[("name", "prod-us"), ("server", "https://c")],
    ));
    let Way::Never(why) = skipped.way else {
        panic!("an unmanaged cluster must not be used");
    };
    assert_eq!(
        why,
        "not managed: annotation argocd.argoproj.io/skip-reconcile is \"true\" on Secret argocd/c"
    );

    let odd = one(&secret(
        "c",
        &json!({}),
        &[("name", "prod kr (neu)"), ("server", "https://c")],
    ));
    assert_eq!(odd.name, "prod-kr--neu-");
    assert_eq!(
        odd.note.as_deref(),
        Some("Secret argocd/c calls it \"prod kr (neu)\", which is no name for a tool's argument")
    );
    let eks = "arn:aws:eks:us-east-1:1:cluster/prod";
    assert_eq!(
        one(&secret(
            "c",
            &json!({}),
            &[("name", eks), ("server", "https://c")]
        ))
        .name,
        eks
    );

    // Argo CD's own cluster is the one that the Secrets are in.
    for server in [
        "https://kubernetes.default.svc",
        "https://kubernetes.default.svc:443/",
    ] {
        let own = secret(
            "own",
            &json!({"canary-mcp.dev/namespaces": "a"}),
            &[("name", "in-cluster"), ("server", server)],
        );
        let Found { candidates, home } = found(&[&own], &which());
        assert_eq!(candidates.len(), 0, "{server}");
        let home = home.unwrap();
        assert_eq!(home.name, "in-cluster");
        assert_eq!(home.labels["env"], "production");
        assert_eq!(home.overrides.namespaces, Some(vec!["a".to_owned()]));
    }
    let other = secret(
        "c",
        &json!({}),
        &[("server", "https://kubernetes.default.svc.example.com")],
    );
    assert_eq!(found(&[&other], &which()).candidates.len(), 1);

    let first = secret(
        "a",
        &json!({}),
        &[("name", "prod-kr"), ("server", "https://a")],
    );
    let second = secret(
        "b",
        &json!({}),
        &[("name", "prod-kr"), ("server", "https://b")],
    );
    let both: Vec<_> = found(&[&first, &second], &which())
        .candidates
        .into_iter()
        .map(Arc::new)
        .collect();
    let in_file = Arc::new(Candidate {
        origin: "kubeconfig /etc/k".to_owned(),
        ..one(&second)
    });
    let chosen = choose([(Rank::ArgoCd, both.as_slice())].into_iter());
    assert_eq!(chosen.len(), 1);
    assert_eq!(kubeconfig_of(&chosen[0].candidate).0["server"], "https://a");
    assert_eq!(
        chosen[0].notes,
        [
            "there are two of this name, in Secret argocd/a and Secret argocd/b; the first counts, rename the other"
        ]
    );
    let chosen = choose(
        [
            (Rank::Kubeconfig, [in_file].as_slice()),
            (Rank::ArgoCd, both.as_slice()),
        ]
        .into_iter(),
    );
    assert_eq!(chosen[0].rank, Rank::Kubeconfig);
    assert_eq!(
        chosen[0].notes,
        [
            "there are two of this name, in kubeconfig /etc/k and Secret argocd/a; the first counts, rename the other",
            "there are two of this name, in kubeconfig /etc/k and Secret argocd/b; the first counts, rename the other",
        ]
    );
}

#[test]
fn no_credential_of_an_entry_passes() {
    let kubeconfig = Kubeconfig::from_yaml(
        "clusters: [{name: c, cluster: {server: https://c, proxy-url: 'http://me:planted-5@proxy:3128'}}]\n\
         users: [{name: u, user: {token: planted-1, password: planted-2, exec: {command: c, args: [--key=planted-3, eks], env: [{name: K, value: planted-4}]}}}]\n",
    )
    .unwrap();
    let secrets = Secrets::of(&kubeconfig);
    assert_eq!(
        secrets.hide("planted-1 planted-2 --key=planted-3 eks K=planted-4 http://me:planted-5@proxy:3128 planted-5"),
        "*** *** --key=*** eks K=*** http://***@proxy:3128 ***"
    );
    assert_eq!(format!("{secrets:?}"), "Secrets(6)");
    assert_eq!(clusters_file("").unwrap(), []);
}
