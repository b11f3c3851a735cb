//! Clusters from Argo CD's cluster Secrets, as an `ApplicationSet`'s `clusters` generator sees them: label
//! `argocd.argoproj.io/secret-type: cluster`, the Secret's labels are the cluster's.
//!
//! <https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#clusters>. Nothing of a Secret's `config` is ever told but
//! the names of its fields.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::config::{
    AuthInfo, Cluster as KubeCluster, Context, ExecConfig, ExecInteractiveMode, Kubeconfig,
    NamedAuthInfo, NamedCluster, NamedContext, NamedExtension,
};
use serde_json::Value;

use super::{
    Candidate, Extra, Way,
    aws::AwsAuth,
    connect::Access,
    given,
    kubeconfig::{mark, matches_any, strings},
};
use crate::{
    api::objects::{ObjectExt, SECRET},
    cluster::{Cluster, Overrides, Registry, watch::Scope},
};

/// Tells a cluster Secret.
const LABEL: &str = "argocd.argoproj.io/secret-type=cluster";
/// `"true"`: Argo CD does not manage the cluster, and neither do we.
const SKIP: &str = "argocd.argoproj.io/skip-reconcile";
/// The address that means the cluster that Argo CD itself runs in.
const OWN_SERVER: &str = "kubernetes.default.svc";
/// Where a plugin finds the `config` that it is given: client-go.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";
/// Annotations of a Secret that are settings of its cluster.
const MESH_PROVIDER: &str = "canary-mcp.dev/mesh-provider";
const METRICS_SERVER: &str = "canary-mcp.dev/metrics-server";
const SELECTOR_LABELS: &str = "canary-mcp.dev/selector-labels";
const INCLUDE_LABEL_PREFIX: &str = "canary-mcp.dev/include-label-prefix";
const NAMESPACES: &str = "canary-mcp.dev/namespaces";
const MAX_CONCURRENT: &str = "canary-mcp.dev/max-concurrent";
const MAX_CONCURRENT_PER_NAMESPACE: &str = "canary-mcp.dev/max-concurrent-per-namespace";

/// Which Secrets.
#[derive(Clone)]
pub(super) struct Secrets {
    /// Name of the cluster that Argo CD runs in, as the registry has it.
    pub(super) home: String,
    /// Its namespace there.
    pub(super) namespace: String,
    /// Globs of the clusters that may be led.
    pub(super) lead: Vec<String>,
}

/// What the Secrets say: clusters, by the Secrets' names, and what is said of Argo CD's own.
#[derive(Default)]
pub(super) struct Found {
    pub(super) candidates: Vec<Candidate>,
    pub(super) home: Option<Extra>,
}

/// Follows the Secrets for good.
pub(super) async fn follow(secrets: Secrets, registry: Registry, give: impl Fn(Found) + Send) {
    let mut changes = registry.subscribe();
    let mut given = false;
    loop {
        let home = home(&changes.borrow_and_update().clone(), &secrets.home);
        let Some(home) = home else {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        };
        read(&secrets, &home, &mut changes, &mut given, &give).await;
    }
}

fn home(entries: &[crate::cluster::registry::Entry], name: &str) -> Option<Cluster> {
    let entry = entries.iter().find(|entry| entry.name == name)?;
    entry.cluster.as_ref().ok().cloned()
}

type Changes = tokio::sync::watch::Receiver<Arc<[crate::cluster::registry::Entry]>>;

/// Watches until the home cluster is another one.
async fn read(
    secrets: &Secrets,
    home_now: &Cluster,
    changes: &mut Changes,
    given: &mut bool,
    give: &(impl Fn(Found) + Send),
) {
    let scope = Scope {
        namespace: Some(secrets.namespace.clone()),
        labels: Some(LABEL.to_owned()),
        fields: None,
    };
    let watched = home_now.watch(&SECRET, scope);
    let mut news = watched.subscribe();
    if let Err(why) = watched.settled().await {
        let why = format!(
            "the cluster Secrets of Argo CD cannot be read: {why}; allow get, list and watch of secrets in namespace {}, or give another --argocd-namespace",
            secrets.namespace
        );
        tracing::warn!(cluster.name = %secrets.home, "{why}");
        if !*given {
            // What was read before, from a home that has changed since, would stay.
            give(Found {
                candidates: Vec::new(),
                home: Some(Extra {
                    name: secrets.home.clone(),
                    note: Some(why),
                    ..Extra::default()
                }),
            });
            *given = true;
        }
        let other = async {
            loop {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                let entries = changes.borrow_and_update().clone();
                if !home(&entries, &secrets.home).is_some_and(|now| now.is(home_now)) {
                    return;
                }
            }
        };
        tokio::select! {
            () = watched.ready() => {}
            () = other => return,
        }
    }
    loop {
        news.mark_unchanged();
        let secrets_now: Vec<_> = watched.list();
        let secrets_now: Vec<&Value> = secrets_now.iter().map(AsRef::as_ref).collect();
        give(found(&secrets_now, secrets));
        *given = true;
        loop {
            tokio::select! {
                alive = news.changed() => {
                    if alive.is_err() {
                        return;
                    }
                    break;
                }
                alive = changes.changed() => {
                    if alive.is_err() {
                        return;
                    }
                    let entries = changes.borrow_and_update().clone();
                    if !home(&entries, &secrets.home).is_some_and(|now| now.is(home_now)) {
                        return;
                    }
                }
            }
        }
    }
}

/// What these Secrets say, in the order of their names.
pub(super) fn found(all: &[&Value], secrets: &Secrets) -> Found {
    let mut found = Found::default();
    for secret in all {
        let data = Data(secret);
        let place = format!("Secret {}/{}", secret.namespace(), secret.name());
        if is_own(&data.text("server")) {
            let (overrides, wrong) = overrides(secret, &data);
            found.home.get_or_insert_with(|| Extra {
                name: secrets.home.clone(),
                labels: strings(&secret["metadata"]["labels"]),
                overrides,
                note: wrong.map(|wrong| format!("{place}: {wrong}")),
            });
        } else {
            found
                .candidates
                .push(candidate(secret, &data, place, secrets));
        }
    }
    found
}

fn is_own(server: &str) -> bool {
    let host = server.strip_prefix("https://").unwrap_or(server);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    host == OWN_SERVER
}

fn candidate(secret: &Value, data: &Data<'_>, origin: String, secrets: &Secrets) -> Candidate {
    let given = data.text("name");
    let given = if given.is_empty() {
        secret.name().to_owned()
    } else {
        given
    };
    let name = plain(&given);
    let note = (name != given)
        .then(|| format!("{origin} calls it {given:?}, which is no name for a tool's argument"));
    let (overrides, wrong) = overrides(secret, data);
    let access = match (secret.annotation(SKIP), wrong) {
        (Some("true"), _) => Err(format!(
            "not managed: annotation {SKIP} is \"true\" on {origin}"
        )),
        (_, Some(wrong)) => Err(format!("{origin}: {wrong}")),
        _ => access(&name, data).map_err(|wrong| format!("{origin}: {wrong}")),
    };
    let (way, mark) = match access {
        Ok(access) => {
            let aws = access.aws.as_ref().map(AwsAuth::mark).unwrap_or_default();
            let mark = format!("{} {aws}", mark(&access.kubeconfig));
            (Way::Access(Arc::new(access)), mark)
        }
        Err(why) => (Way::Never(why.clone()), why),
    };
    Candidate {
        leads: matches_any(&secrets.lead, &name),
        name,
        origin,
        labels: strings(&secret["metadata"]["labels"]),
        overrides,
        way,
        mark,
        note,
    }
}

/// A name that can be typed: what is not a letter, a digit or one of `-._:/@` becomes a dash.
fn plain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:/@".contains(c);
    name.trim()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect()
}

/// The settings of the annotations, and what is wrong with one.
fn overrides(secret: &Value, data: &Data<'_>) -> (Overrides, Option<String>) {
    let mut overrides = Overrides::default();
    let namespaces = data.list("namespaces");
    if !namespaces.is_empty() {
        // Argo CD may see nothing else there, and neither may who has its credentials.
        overrides.namespaces = Some(namespaces);
    }
    let listed = |name: &str| secret.annotation(name).map(list);
    let mut wrong = None;
    let mut take = |name: &str, result: Result<(), String>| {
        if let Err(why) = result {
            wrong.get_or_insert(format!("annotation {name}: {why}"));
        }
    };
    if let Some(value) = secret.annotation(MESH_PROVIDER) {
        let value = given::mesh_provider(value);
        take(
            MESH_PROVIDER,
            value.map(|v| overrides.mesh_provider = Some(v)),
        );
    }
    if let Some(value) = secret.annotation(METRICS_SERVER) {
        let value = given::metrics_server(value);
        take(
            METRICS_SERVER,
            value.map(|v| overrides.metrics_server = Some(v)),
        );
    }
    if let Some(values) = listed(SELECTOR_LABELS) {
        let values = given::selector_labels(values);
        take(
            SELECTOR_LABELS,
            values.map(|v| overrides.selector_labels = Some(v)),
        );
    }
    if let Some(values) = listed(INCLUDE_LABEL_PREFIX) {
        let values = given::label_prefixes(values);
        take(
            INCLUDE_LABEL_PREFIX,
            values.map(|v| overrides.include_label_prefix = Some(v)),
        );
    }
    if let Some(values) = listed(NAMESPACES) {
        let values = given::namespaces(values);
        take(NAMESPACES, values.map(|v| overrides.namespaces = Some(v)));
    }
    if let Some(value) = secret.annotation(MAX_CONCURRENT) {
        let most = given::limit(value);
        take(
            MAX_CONCURRENT,
            most.map(|most| overrides.max_concurrent = Some(most)),
        );
    }
    if let Some(value) = secret.annotation(MAX_CONCURRENT_PER_NAMESPACE) {
        let most = given::limit(value);
        take(
            MAX_CONCURRENT_PER_NAMESPACE,
            most.map(|most| overrides.max_concurrent_per_namespace = Some(most)),
        );
    }
    (overrides, wrong)
}

fn list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A Secret's data, decoded.
struct Data<'a>(&'a Value);

impl Data<'_> {
    fn text(&self, key: &str) -> String {
        let encoded = self.0["data"][key].as_str().unwrap_or_default();
        let decoded = BASE64_STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8(decoded)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    fn list(&self, key: &str) -> Vec<String> {
        list(&self.text(key))
    }
}

/// `config` and `server` as a kubeconfig. Argo CD's rule: AWS goes before a plugin, a plugin before a password or a token.
fn access(name: &str, data: &Data<'_>) -> Result<Access, String> {
    let server = data.text("server");
    if server.is_empty() {
        return Err("data.server is missing; give the address of the API server".to_owned());
    }
    let config = data.text("config");
    let config: Value = if config.is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        // Of the error only the place: the text around it may be a credential.
        serde_json::from_str(&config).map_err(|error| {
            format!(
                "data.config is no JSON (line {}, column {})",
                error.line(),
                error.column()
            )
        })?
    };
    let config = Fields::of("data.config", &config)?;
    let tls = config.fields("tlsClientConfig")?;
    let aws = config.optional("awsAuthConfig")?;
    let exec = config.optional("execProviderConfig")?;
    let mut user = AuthInfo {
        client_certificate_data: tls.text("certData")?,
        client_key_data: tls.text("keyData")?.map(Into::into),
        ..AuthInfo::default()
    };
    let mut extensions = None;
    let aws = aws.map(|aws| aws_auth(&aws)).transpose()?;
    match exec {
        _ if aws.is_some() => {}
        Some(exec) => {
            user.exec = Some(plugin(&exec)?);
            extensions = exec.0.1.get("config").map(|config| {
                vec![NamedExtension {
                    name: EXEC_EXTENSION.to_owned(),
                    extension: config.clone(),
                }]
            });
        }
        None => {
            user.username = config.text("username")?;
            user.password = config.text("password")?.map(Into::into);
            user.token = config.text("bearerToken")?.map(Into::into);
        }
    }
    let cluster = KubeCluster {
        server: Some(server),
        insecure_skip_tls_verify: tls.boolean("insecure")?,
        certificate_authority_data: tls.text("caData")?,
        tls_server_name: tls.text("serverName")?,
        proxy_url: config.text("proxyUrl")?,
        disable_compression: config.boolean("disableCompression")?,
        extensions,
        ..KubeCluster::default()
    };
    Ok(Access {
        kubeconfig: kubeconfig(name, cluster, user),
        context: name.to_owned(),
        joined: false,
        aws,
    })
}

fn kubeconfig(name: &str, cluster: KubeCluster, user: AuthInfo) -> Kubeconfig {
    let name = name.to_owned();
    Kubeconfig {
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(cluster),
            other: BTreeMap::new(),
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(user),
            other: BTreeMap::new(),
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context {
                cluster: name.clone(),
                user: Some(name.clone()),
                ..Context::default()
            }),
            other: BTreeMap::new(),
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    }
}

fn plugin(exec: &Fields<'_>) -> Result<ExecConfig, String> {
    let command = exec.text("command")?;
    let command = command.ok_or_else(|| format!("{}.command is missing", exec.path()))?;
    let env = exec.fields("env")?;
    let env = env.0.1.iter().map(|(name, value)| {
        let value = value
            .as_str()
            .ok_or_else(|| format!("{}.{name} is not a text", env.path()))?;
        Ok([("name", name.as_str()), ("value", value)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into())
    });
    Ok(ExecConfig {
        command: Some(command),
        args: Some(exec.texts("args")?),
        env: Some(env.collect::<Result<_, String>>()?),
        api_version: exec.text("apiVersion")?,
        install_hint: exec.text("installHint")?,
        provide_cluster_info: exec.boolean("provideClusterInfo")?.unwrap_or(false),
        // Nobody sits before a server.
        interactive_mode: Some(ExecInteractiveMode::Never),
        drop_env: None,
        cluster: None,
        other: BTreeMap::new(),
    })
}

fn aws_auth(aws: &Fields<'_>) -> Result<AwsAuth, String> {
    let cluster = aws.text("clusterName")?;
    Ok(AwsAuth {
        cluster: cluster.ok_or_else(|| format!("{}.clusterName is missing", aws.path()))?,
        role: aws.text("roleARN")?,
        profile: aws.text("profile")?,
    })
}

/// Fields of an object with its path, for errors that name a field and never its value.
struct Fields<'a>((String, &'a serde_json::Map<String, Value>));

impl<'a> Fields<'a> {
    fn of(path: &str, value: &'a Value) -> Result<Self, String> {
        match value.as_object() {
            Some(fields) => Ok(Self((path.to_owned(), fields))),
            None => Err(format!("{path} is not an object")),
        }
    }

    fn path(&self) -> &str {
        &self.0.0
    }

    fn at<T>(
        &self,
        key: &str,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.0.1.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(format!("{}.{key} is not {what}", self.path())),
            },
        }
    }

    /// A text that is not empty: Argo CD writes what is not given as an empty one.
    fn text(&self, key: &str) -> Result<Option<String>, String> {
        let text = self.at(key, "a text", |value| value.as_str().map(str::to_owned))?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, String> {
        self.at(key, "true or false", Value::as_bool)
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let texts = self.at(key, "a list of texts", |value| {
            let all = value.as_array()?.iter();
            all.map(|one| one.as_str().map(str::to_owned)).collect()
        })?;
        Ok(texts.unwrap_or_default())
    }

    fn optional(&self, key: &str) -> Result<Option<Self>, String> {
        let fields = self.at(key, "an object", Value::as_object)?;
        Ok(fields.map(|fields| Self((format!("{}.{key}", self.path()), fields))))
    }

    /// The fields of an object; of one that is not there none.
    fn fields(&self, key: &str) -> Result<Self, String> {
        static NONE: std::sync::LazyLock<serde_json::Map<String, Value>> =
            std::sync::LazyLock::new(serde_json::Map::new);
        let path = format!("{}.{key}", self.path());
        Ok(self.optional(key)?.unwrap_or(Self((path, &NONE))))
    }
}
