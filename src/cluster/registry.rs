//! [`Registry`]: the clusters that this process knows, by name and labels.
//!
//! Where they come from is told in [`super::sources`]. One that cannot be used is a row with the reason, not a failure.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{Cluster, ClusterSpec, selector::Selector};

pub use super::sources::{EMBEDDED_EXTENSION, LABELS_EXTENSION};

/// Edits that a name may be away from one that is meant.
const NEAR: usize = 3;

/// Clusters that are gone and still spoken of; the oldest are forgotten.
const MOST_GONE: usize = 100;

/// One cluster, or why it cannot be used.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name that people and tools use: the context's.
    pub name: String,
    /// Labels that selectors match.
    pub labels: BTreeMap<String, String>,
    /// The cluster, or the reason why it cannot be used and what to do about it.
    pub cluster: Result<Cluster, String>,
    /// What is to be known of it although it can be used: that another source has one of the same name, say.
    pub note: Option<String>,
}

/// All clusters that this process knows, by name, as they are now. Cheap to clone; every clone sees the same changes.
#[derive(Debug, Clone)]
pub struct Registry {
    entries: watch::Sender<Arc<[Entry]>>,
    /// When a cluster was there last that is no more, by name.
    gone: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

// === impl Registry ===

impl Registry {
    /// A registry of these clusters; of two with one name the first counts.
    #[must_use]
    pub fn of(entries: Vec<Entry>) -> Self {
        Self {
            entries: watch::channel(by_name(entries)).0,
            gone: Arc::default(),
        }
    }

    /// Other clusters from now on; of two with one name the first counts. An entry that has not changed must keep its [`Cluster`], so that
    /// nothing that runs on it begins anew.
    pub fn replace(&self, entries: Vec<Entry>) {
        let now = by_name(entries);
        let has = |name: &str| now.iter().any(|entry| entry.name == name);
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|name, _| !has(name));
        for entry in self.all().iter().filter(|entry| !has(&entry.name)) {
            gone.insert(entry.name.clone(), Timestamp::now());
        }
        while gone.len() > MOST_GONE {
            let oldest = gone.iter().min_by_key(|(_, at)| **at);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            gone.remove(&oldest);
        }
        drop(gone);
        self.entries.send_replace(now);
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
            None => {
                let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
                Err(match gone.get(name) {
                    Some(at) => format!(
                        "cluster {name} was removed at {}, from where clusters are found; its rollouts were left as they were then",
                        at.strftime("%Y-%m-%dT%H:%M:%SZ")
                    ),
                    None => missing(name, &entries),
                })
            }
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
            note: None,
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

/// One crypto provider for the whole process; a second call changes nothing.
pub fn install_crypto() {
    // An error says that one is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

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
            note: None,
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
