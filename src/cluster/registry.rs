//! [`Registry`]: the clusters that this process knows, by name and labels.
//!
//! They come from the kubeconfig files that were named (never `$KUBECONFIG` unasked), from the service account when we run inside a
//! cluster, and from the embedded fleet. One that cannot be used is a row with the reason, not a failure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, NamedExtension},
};
use serde_json::Value;
use wildmatch::WildMatch;

use super::{
    Cluster, ClusterSpec,
    clock::Clock,
    error::{self, Cause},
    selector::Selector,
    wire::{self, Call},
};
use crate::{api::objects::ObjectExt, decide::facts::Moment};

/// Kubeconfig extension on an embedded cluster, written by `canary-mcp cluster`.
pub const EMBEDDED_EXTENSION: &str = "canary-mcp.dev/embedded";
/// Kubeconfig extension with a cluster's labels, an object of strings.
pub const LABELS_EXTENSION: &str = "canary-mcp.dev/labels";
/// Name of the cluster that we run inside of.
pub const IN_CLUSTER: &str = "in-cluster";
/// Connecting to an API server may take this long, in real time.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Reading an embedded cluster's clock may take this long, in real time.
const CLOCK_WITHIN: Duration = Duration::from_secs(3);
/// Edits that a name may be away from one that is meant.
const NEAR: usize = 3;

/// Where clusters come from.
#[derive(Default)]
pub struct Sources {
    /// Kubeconfig files; every context of each is a cluster.
    pub kubeconfigs: Vec<PathBuf>,
    /// Globs over context names: the ones that the engine may lead.
    pub lead: Vec<String>,
    /// This process runs inside a cluster (`KUBERNETES_SERVICE_HOST` is set): that cluster, which the engine leads.
    pub in_cluster: bool,
    /// The embedded fleet of this process.
    pub embedded: Vec<ClusterSpec>,
}

/// Why there is no registry: what is wrong in the files, all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct RegistryError(pub Vec<String>);

/// One cluster, or why it cannot be used.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name that people and tools use: the context's.
    pub name: String,
    /// Labels that selectors match.
    pub labels: BTreeMap<String, String>,
    /// The cluster, or the reason why it cannot be used and what to do about it.
    pub cluster: Result<Cluster, String>,
}

/// All clusters that this process knows, by name. Cheap to clone; it does not change.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    entries: Arc<[Entry]>,
}

/// A context as the kubeconfig has it.
struct Context {
    name: String,
    file: Arc<Kubeconfig>,
    labels: BTreeMap<String, String>,
    embedded: bool,
    proxied: bool,
}

// === impl Registry ===

impl Registry {
    /// Reads the files and builds a client for each context. Only an embedded cluster is called, for its clock.
    ///
    /// # Errors
    /// Every file that cannot be read and every name that is there twice, at once.
    pub async fn load(sources: Sources) -> Result<Self, RegistryError> {
        install_crypto();
        let Sources {
            kubeconfigs,
            lead,
            in_cluster,
            embedded,
        } = sources;
        let mut problems = Vec::new();
        let mut entries: Vec<(String, Entry)> = embedded
            .into_iter()
            .map(|spec| ("the embedded fleet".to_owned(), Entry::of(spec)))
            .collect();
        if in_cluster {
            entries.push((
                "the service account of this pod".to_owned(),
                own_cluster().await,
            ));
        }
        let lead: Vec<WildMatch> = lead.iter().map(|glob| WildMatch::new(glob)).collect();
        for path in kubeconfigs {
            let place = path.display().to_string();
            match contexts(&path) {
                Ok(contexts) => {
                    for context in contexts {
                        entries.push((place.clone(), context.entry(&lead).await));
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(twice(&entries));
        if !problems.is_empty() {
            return Err(RegistryError(problems));
        }
        Ok(Self::of(
            entries.into_iter().map(|(_, entry)| entry).collect(),
        ))
    }

    /// A registry of these clusters; of two with one name the first counts.
    #[must_use]
    pub fn of(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|b, a| a.name == b.name);
        Self {
            entries: entries.into(),
        }
    }

    /// Every cluster, by name, the ones that cannot be used too.
    #[must_use]
    pub fn all(&self) -> &[Entry] {
        &self.entries
    }

    /// One cluster.
    ///
    /// # Errors
    /// There is none of that name (with the names that may be meant), or why it cannot be used.
    pub fn get(&self, name: &str) -> Result<&Cluster, String> {
        match self.entries.iter().find(|entry| entry.name == name) {
            Some(Entry {
                cluster: Ok(cluster),
                ..
            }) => Ok(cluster),
            Some(Entry {
                cluster: Err(reason),
                ..
            }) => Err(format!("cluster {name} cannot be used: {reason}")),
            None => Err(self.missing(name)),
        }
    }

    /// The clusters whose labels match a Kubernetes label selector (`env=production,region in (kr,jp)`).
    ///
    /// # Errors
    /// What cannot be read in `selector`; the text begins with the field's name.
    pub fn select(&self, selector: &str) -> Result<Vec<&Entry>, String> {
        let selector: Selector = selector
            .parse()
            .map_err(|error| format!("selector: {error}"))?;
        Ok(self
            .entries
            .iter()
            .filter(|entry| selector.matches(&entry.labels))
            .collect())
    }

    fn missing(&self, name: &str) -> String {
        let names: Vec<&str> = self
            .entries
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        if names.is_empty() {
            return format!(
                "there is no cluster {name:?}: no cluster is known, name a file with --kubeconfig or try --embedded"
            );
        }
        let near = near(name, &names);
        let meant = if near.is_empty() {
            "; there".to_owned()
        } else {
            format!(", did you mean {}? There", near.join(" or "))
        };
        format!(
            "there is no cluster {name:?}{meant} are: {}",
            names.join(", ")
        )
    }
}

impl Entry {
    /// A cluster that can be used.
    #[must_use]
    pub fn of(spec: ClusterSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            cluster: Ok(Cluster::new(spec)),
        }
    }
}

/// The names that `name` may be meant to be: a part of it, or a few edits away; the nearest first, at most three.
#[must_use]
pub fn near<'a>(name: &str, names: &[&'a str]) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let edits = edits(&wanted, &lower);
            let part = !wanted.is_empty() && (lower.contains(&wanted) || wanted.contains(&lower));
            let close = edits <= NEAR && edits * 2 <= lower.chars().count();
            (part || close).then_some((if part { 0 } else { edits }, *candidate))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Names that come from two places.
fn twice(entries: &[(String, Entry)]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (place, entry) in entries {
        places.entry(&entry.name).or_default().push(place);
    }
    places
        .into_iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(name, places)| {
            format!(
                "cluster name {name} is there {} times, in {}: rename one with kubectl config rename-context",
                places.len(),
                places.join(" and ")
            )
        })
        .collect()
}

// === contexts ===

fn contexts(path: &Path) -> Result<Vec<Context>, String> {
    let file = Kubeconfig::read_from(path).map_err(|error| {
        format!(
            "cannot read kubeconfig {}: {}",
            path.display(),
            error::report(&error)
        )
    })?;
    let file = Arc::new(file);
    let contexts = file.contexts.iter().map(|named| {
        let cluster_name = named.context.as_ref().map(|context| &context.cluster);
        let cluster = file
            .clusters
            .iter()
            .find(|cluster| Some(&cluster.name) == cluster_name)
            .and_then(|named| named.cluster.as_ref());
        let extensions = cluster.and_then(|cluster| cluster.extensions.as_deref());
        let embedded = extension(extensions, EMBEDDED_EXTENSION);
        let own_labels = extension(extensions, LABELS_EXTENSION);
        let labels = own_labels.or_else(|| embedded.and_then(|embedded| embedded.get("labels")));
        Context {
            name: named.name.clone(),
            file: Arc::clone(&file),
            labels: labels.map(strings).unwrap_or_default(),
            embedded: embedded.is_some(),
            proxied: cluster.is_some_and(|cluster| cluster.proxy_url.is_some()),
        }
    });
    Ok(contexts.collect())
}

fn extension<'a>(extensions: Option<&'a [NamedExtension]>, name: &str) -> Option<&'a Value> {
    extensions?
        .iter()
        .find(|extension| extension.name == name)
        .map(|extension| &extension.extension)
}

fn strings(object: &Value) -> BTreeMap<String, String> {
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

impl Context {
    async fn entry(self, lead: &[WildMatch]) -> Entry {
        let cluster = self.cluster(lead).await;
        if let Err(reason) = &cluster {
            tracing::warn!(cluster.name = %self.name, reason, "a cluster cannot be used");
        }
        Entry {
            name: self.name,
            labels: self.labels,
            cluster,
        }
    }

    async fn cluster(&self, lead: &[WildMatch]) -> Result<Cluster, String> {
        let options = KubeConfigOptions {
            context: Some(self.name.clone()),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(Kubeconfig::clone(&self.file), &options)
            .await
            .map_err(|error| {
                format!(
                    "its kubeconfig entry cannot be used: {}",
                    error::report(&error)
                )
            })?;
        if !self.proxied {
            // kube would take a proxy from the environment, for loopback too; we go by the file alone.
            config.proxy_url = None;
        }
        let client = client(config)?;
        let clock = if self.embedded {
            joined_clock(&client).await?
        } else {
            Clock::real()
        };
        Ok(Cluster::new(ClusterSpec {
            leads: self.embedded || lead.iter().any(|glob| glob.matches(&self.name)),
            name: self.name.clone(),
            labels: self.labels.clone(),
            client,
            clock,
            inside: false,
            embedded: self.embedded,
        }))
    }
}

async fn own_cluster() -> Entry {
    let client = Config::incluster()
        .map_err(|error| {
            format!(
                "the service account cannot be used: {}",
                error::report(&error)
            )
        })
        .and_then(client);
    let cluster = client.map(|client| {
        Cluster::new(ClusterSpec {
            name: IN_CLUSTER.to_owned(),
            labels: BTreeMap::new(),
            client,
            clock: Clock::real(),
            leads: true,
            inside: true,
            embedded: false,
        })
    });
    Entry {
        name: IN_CLUSTER.to_owned(),
        labels: BTreeMap::new(),
        cluster,
    }
}

fn client(mut config: Config) -> Result<Client, String> {
    config.connect_timeout = Some(CONNECT_WITHIN);
    // A write that is sent again later would not have been checked against the Lease then.
    config.default_retry = false;
    Client::try_from(config)
        .map_err(|error| format!("no client can be made for it: {}", error::report(&error)))
}

/// The clock of an embedded cluster that another process runs: `GET clock` beside its API, `{epoch, now, speed}`.
async fn joined_clock(client: &Client) -> Result<Clock, String> {
    let answer = wire::send(client, Call::get("/clock".to_owned(), CLOCK_WITHIN)).await;
    let answer = answer.map_err(|cause: Cause| {
        format!(
            "its clock cannot be read, start it with: canary-mcp cluster ({})",
            error::report(&cause)
        )
    })?;
    clock_of(&answer.body)
        .ok_or_else(|| format!("its clock says {}, which is not understood", answer.body))
}

fn clock_of(body: &Value) -> Option<Clock> {
    let now: jiff::Timestamp = body.str_at("/now")?.parse().ok()?;
    let speed = body["speed"].as_f64().filter(|speed| *speed > 0.0)?;
    Some(Clock::fast(Moment(now.as_millisecond()), speed))
}

/// One crypto provider for the whole process; a second call changes nothing.
pub fn install_crypto() {
    // An error says that one is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

    fn file(name: &str, text: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("canary-mcp-registry-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[tokio::test]
    async fn every_context_is_a_row_and_only_the_named_ones_lead() {
        let path = file("all", FILE);
        let sources = Sources {
            kubeconfigs: vec![path.clone()],
            lead: vec!["*-kr".to_owned()],
            ..Sources::default()
        };
        let registry = Registry::load(sources).await.unwrap();
        std::fs::remove_file(path).unwrap();

        let rows: Vec<(&str, Option<bool>)> = registry
            .all()
            .iter()
            .map(|entry| {
                (
                    entry.name.as_str(),
                    entry.cluster.as_ref().ok().map(Cluster::may_lead),
                )
            })
            .collect();
        assert_eq!(
            rows,
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
        for entry in registry.all() {
            let told = format!("{entry:?}");
            assert!(!told.contains("secret-token"), "{told}");
        }
        let selected: Vec<&str> = registry
            .select("env in (staging),!region")
            .unwrap()
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
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

    #[tokio::test]
    async fn everything_that_is_wrong_is_told_at_once() {
        let first = file("first", FILE);
        let second = file(
            "second",
            "contexts: [{name: prod-kr, context: {cluster: a, user: b}}]\n",
        );
        let sources = Sources {
            kubeconfigs: vec![
                first.clone(),
                second.clone(),
                PathBuf::from("/nowhere/kubeconfig"),
            ],
            ..Sources::default()
        };
        let RegistryError(problems) = Registry::load(sources).await.unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].starts_with("cannot read kubeconfig /nowhere/kubeconfig: "),
            "{problems:?}"
        );
        assert_eq!(
            problems[1],
            format!(
                "cluster name prod-kr is there 2 times, in {} and {}: rename one with kubectl config rename-context",
                first.display(),
                second.display()
            )
        );
        std::fs::remove_file(first).unwrap();
        std::fs::remove_file(second).unwrap();
    }

    #[test]
    fn a_wrong_name_is_met_with_the_right_ones() {
        let names = ["prod-jp", "prod-kr", "staging"];
        let table: [(&str, &[&str]); 6] = [
            ("prod-k", &["prod-kr", "prod-jp"]),
            ("prod", &["prod-jp", "prod-kr"]),
            ("stagign", &["staging"]),
            ("PROD-KR", &["prod-kr", "prod-jp"]),
            ("development", &[]),
            ("", &[]),
        ];
        for (name, expected) in table {
            assert_eq!(near(name, &names), expected, "{name}");
        }
        let entries = names.map(|name| Entry {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            cluster: Err("x".to_owned()),
        });
        let registry = Registry::of(entries.to_vec());
        assert_eq!(
            registry.get("stagign").unwrap_err(),
            "there is no cluster \"stagign\", did you mean staging? There are: prod-jp, prod-kr, staging"
        );
        assert_eq!(
            registry.get("x9").unwrap_err(),
            "there is no cluster \"x9\"; there are: prod-jp, prod-kr, staging"
        );
        assert_eq!(
            Registry::default().get("x9").unwrap_err(),
            "there is no cluster \"x9\": no cluster is known, name a file with --kubeconfig or try --embedded"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_joined_clock_goes_on_from_what_the_cluster_said() {
        let said =
            json!({"epoch": "2026-11-21T00:00:00Z", "now": "2026-11-21T01:00:00Z", "speed": 20});
        let clock = clock_of(&said).unwrap();
        tokio::time::advance(Duration::from_secs(3)).await;
        // One hour and a minute after 2026-11-21T00:00:00Z.
        assert_eq!(clock.now(), Moment(1_795_219_200_000 + 3_660_000));
        for odd in [
            json!({}),
            json!({"now": "yesterday", "speed": 1}),
            json!({"now": "2026-11-21T00:00:00Z", "speed": 0}),
        ] {
            assert!(clock_of(&odd).is_none(), "{odd}");
        }
    }
}
