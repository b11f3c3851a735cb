//! [`Registry`]: the clusters that this process knows, by name and labels.
//!
//! They come from the kubeconfig files that were named (never `$KUBECONFIG` unasked), from the service account when we run inside a
//! cluster, and from the embedded fleet. One that cannot be used is a row with the reason, not a failure.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use futures::future::join_all;
use tokio::sync::watch;
use wildmatch::WildMatch;

use super::{
    Cluster, ClusterSpec,
    kubeconfig::{contexts, own_cluster},
    selector::Selector,
};

pub use super::kubeconfig::{EMBEDDED_EXTENSION, LABELS_EXTENSION};

/// Name of the cluster that we run inside of.
pub const IN_CLUSTER: &str = "in-cluster";
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

/// All clusters that this process knows, by name, as they are now. Cheap to clone; every clone sees the same changes.
#[derive(Debug, Clone)]
pub struct Registry {
    entries: watch::Sender<Arc<[Entry]>>,
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
                    let made = join_all(contexts.into_iter().map(|context| context.entry(&lead)));
                    let made = made.await.into_iter();
                    entries.extend(made.map(|entry| (place.clone(), entry)));
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
    pub fn of(entries: Vec<Entry>) -> Self {
        Self {
            entries: watch::channel(by_name(entries)).0,
        }
    }

    /// Other clusters from now on; of two with one name the first counts. An entry that has not changed must keep its [`Cluster`], so that
    /// nothing that runs on it begins anew.
    pub fn replace(&self, entries: Vec<Entry>) {
        self.entries.send_replace(by_name(entries));
    }

    /// Every cluster, by name, the ones that cannot be used too.
    #[must_use]
    pub fn all(&self) -> Arc<[Entry]> {
        self.entries.borrow().clone()
    }

    /// Follows the clusters; the receiver begins as seen.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<[Entry]>> {
        self.entries.subscribe()
    }

    /// One cluster.
    ///
    /// # Errors
    /// There is none of that name (with the names that may be meant), or why it cannot be used.
    pub fn get(&self, name: &str) -> Result<Cluster, String> {
        let entries = self.all();
        match entries.iter().find(|entry| entry.name == name) {
            Some(Entry {
                cluster: Ok(cluster),
                ..
            }) => Ok(cluster.clone()),
            Some(Entry {
                cluster: Err(reason),
                ..
            }) => Err(format!("cluster {name} cannot be used: {reason}")),
            None => Err(missing(name, &entries)),
        }
    }

    /// The clusters whose labels match a Kubernetes label selector (`env=production,region in (kr,jp)`).
    ///
    /// # Errors
    /// What cannot be read in `selector`; the text begins with the field's name.
    pub fn select(&self, selector: &str) -> Result<Vec<Entry>, String> {
        let selector: Selector = selector
            .parse()
            .map_err(|error| format!("selector: {error}"))?;
        Ok(self
            .all()
            .iter()
            .filter(|entry| selector.matches(&entry.labels))
            .cloned()
            .collect())
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

/// Sorted by name; of two with one name the first counts.
fn by_name(mut entries: Vec<Entry>) -> Arc<[Entry]> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup_by(|b, a| a.name == b.name);
    entries.into()
}

fn missing(name: &str, entries: &[Entry]) -> String {
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
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

impl Entry {
    /// A cluster that can be used.
    #[must_use]
    pub fn of(spec: ClusterSpec) -> Self {
        Self::known(Cluster::new(spec))
    }

    /// A cluster that was made already.
    #[must_use]
    pub fn known(cluster: Cluster) -> Self {
        Self {
            name: cluster.name().to_owned(),
            labels: cluster.labels().clone(),
            cluster: Ok(cluster),
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

/// One crypto provider for the whole process; a second call changes nothing.
pub fn install_crypto() {
    // An error says that one is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
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

        let all = registry.all();
        let rows: Vec<(&str, Option<bool>)> = all
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
        for entry in registry.all().iter() {
            let told = format!("{entry:?}");
            assert!(!told.contains("secret-token"), "{told}");
        }
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
}
