//! Clusters from kubeconfig files: merged as kubectl does, every context a cluster, followed as the files change.
//!
//! Files are looked at, not notified of: a Secret that is mounted as a volume changes by the swap of a link two folders up, and network file
//! systems tell nothing. What is looked at are also the files that an entry names (certificates, keys).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::config::{Cluster, Kubeconfig, NamedContext, NamedExtension};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wildmatch::WildMatch;

use super::{Candidate, Way, connect::Access};
use crate::cluster::{Overrides, error};

/// Kubeconfig extension on an embedded cluster, written by `canary-mcp cluster`.
pub const EMBEDDED_EXTENSION: &str = "canary-mcp.dev/embedded";
/// Kubeconfig extension with a cluster's labels, an object of strings.
pub const LABELS_EXTENSION: &str = "canary-mcp.dev/labels";
/// How often files are looked at. A change is taken up when two looks agree, for a file that is being written is not read half.
const LOOK: Duration = Duration::from_millis(500);

/// Which kubeconfig files, and which of their contexts.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) paths: Vec<PathBuf>,
    /// Globs; empty takes every context.
    pub(super) contexts: Vec<String>,
    /// A context that is taken in any case: the one that Argo CD runs in.
    pub(super) always: Option<String>,
    /// Globs of the ones that may be led.
    pub(super) lead: Vec<String>,
}

/// What the files say.
pub(super) struct Read {
    pub(super) candidates: Vec<Candidate>,
    /// Every file that it hangs on.
    pub(super) files: Vec<PathBuf>,
}

impl Files {
    /// Reads and merges the files.
    ///
    /// # Errors
    /// Every file that cannot be read.
    pub(super) fn read(&self) -> Result<Read, Vec<String>> {
        let mut merged = Kubeconfig::default();
        let mut mistakes = Vec::new();
        let mut origins: BTreeMap<String, &Path> = BTreeMap::new();
        for path in &self.paths {
            let wrong = |error: &dyn std::error::Error| {
                format!(
                    "cannot read kubeconfig {}: {}",
                    path.display(),
                    error::report(error)
                )
            };
            match Kubeconfig::read_from(path) {
                Ok(file) => {
                    for context in &file.contexts {
                        origins.entry(context.name.clone()).or_insert(path);
                    }
                    // kubectl's rule: of two things with one name the first counts.
                    match merged.clone().merge(file) {
                        Ok(both) => merged = both,
                        Err(error) => mistakes.push(wrong(&error)),
                    }
                }
                Err(error) => mistakes.push(wrong(&error)),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut files: BTreeSet<PathBuf> = self.paths.iter().cloned().collect();
        let wanted = |context: &&NamedContext| self.wants(&context.name);
        let candidates = merged.contexts.iter().filter(wanted).map(|context| {
            let origin = origins
                .get(&context.name)
                .map(|path| path.display().to_string());
            let origin = format!("kubeconfig {}", origin.unwrap_or_default());
            let single = single(&merged, context);
            files.extend(named_files(&single));
            candidate(&single, context, origin, &self.lead)
        });
        Ok(Read {
            candidates: candidates.collect(),
            files: files.into_iter().collect(),
        })
    }

    fn wants(&self, context: &str) -> bool {
        let mut globs = self.contexts.iter();
        self.contexts.is_empty()
            || self.always.as_deref() == Some(context)
            || globs.any(|glob| WildMatch::new(glob).matches(context))
    }
}

/// Reads again whenever a file has changed, and gives what it then says; what cannot be read is told once, and changes nothing.
pub(super) async fn follow<T: Send + 'static>(
    what: &'static str,
    mut files: Vec<PathBuf>,
    read: impl Fn() -> Result<(T, Vec<PathBuf>), Vec<String>> + Clone + Send + 'static,
    give: impl Fn(T) + Send,
) {
    let mut known = None;
    let mut pending = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let looked = files.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || stamps(&looked)).await else {
            continue;
        };
        if known.is_none() {
            // What was read at the start may have changed before this first look: it is read once more.
            pending = Some(now.clone());
            known = Some(Vec::new());
        }
        if known.as_ref() == Some(&now) {
            pending = None;
            continue;
        }
        if pending.as_ref() != Some(&now) {
            pending = Some(now);
            continue;
        }
        known = Some(now);
        pending = None;
        let read = read.clone();
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok((found, names))) => {
                if names != files {
                    // Other files to look at: their first stamps are a change of their own, which is read and found to be none.
                    files = names;
                }
                give(found);
            }
            Ok(Err(mistakes)) => tracing::warn!(
                "{what}: {}; what was read before stays as it is",
                mistakes.join("; ")
            ),
            Err(error) => tracing::error!(%error, "reading {what} has failed"),
        }
    }
}

/// What tells one content of a file from another without reading it; `None` when it is not there.
type Stamp = Option<(i64, i64, u64, u64, u64)>;

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let of = fs::metadata(path).ok()?;
        Some((of.mtime(), of.mtime_nsec(), of.len(), of.ino(), of.dev()))
    };
    paths.iter().map(stamp).collect()
}

/// The kubeconfig with this context and what it names, and nothing else.
fn single(all: &Kubeconfig, context: &NamedContext) -> Kubeconfig {
    let (cluster, user) = context
        .context
        .as_ref()
        .map(|context| (context.cluster.as_str(), context.user.as_deref()))
        .unwrap_or_default();
    Kubeconfig {
        clusters: all
            .clusters
            .iter()
            .filter(|named| named.name == cluster)
            .cloned()
            .collect(),
        auth_infos: all
            .auth_infos
            .iter()
            .filter(|named| Some(named.name.as_str()) == user)
            .cloned()
            .collect(),
        contexts: vec![context.clone()],
        current_context: Some(context.name.clone()),
        ..Kubeconfig::default()
    }
}

/// The files that an entry names, but for the token's, which kube itself reads again each minute.
fn named_files(single: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = single.clusters.iter().filter_map(|named| {
        let cluster = named.cluster.as_ref()?;
        cluster.certificate_authority.clone()
    });
    let users = single.auth_infos.iter().flat_map(|named| {
        let user = named.auth_info.iter();
        user.flat_map(|user| [user.client_certificate.clone(), user.client_key.clone()])
            .flatten()
    });
    clusters.chain(users).map(PathBuf::from).collect()
}

/// A digest of all that a client is made of: equal digests need no new client.
pub(super) fn mark(single: &Kubeconfig) -> String {
    let mut digest = Sha256::new();
    // By way of a value, whose maps are sorted: those of the types are not.
    let value = serde_json::to_value(single).unwrap_or_default();
    digest.update(value.to_string());
    for file in named_files(single) {
        digest.update(fs::read(file).unwrap_or_default());
    }
    BASE64_STANDARD.encode(digest.finalize())
}

fn candidate(
    single: &Kubeconfig,
    context: &NamedContext,
    origin: String,
    lead: &[String],
) -> Candidate {
    let cluster = single
        .clusters
        .first()
        .and_then(|named| named.cluster.as_ref());
    let extensions = cluster.and_then(|cluster: &Cluster| cluster.extensions.as_deref());
    let embedded = extension(extensions, EMBEDDED_EXTENSION);
    let own_labels = extension(extensions, LABELS_EXTENSION);
    let labels = own_labels.or_else(|| embedded.and_then(|embedded| embedded.get("labels")));
    let joined = embedded.is_some();
    Candidate {
        name: context.name.clone(),
        origin,
        labels: labels.map(strings).unwrap_or_default(),
        overrides: Overrides::default(),
        leads: joined || matches_any(lead, &context.name),
        mark: mark(single),
        way: Way::Access(Arc::new(Access {
            kubeconfig: single.clone(),
            context: context.name.clone(),
            joined,
            aws: None,
        })),
        note: None,
    }
}

/// Whether one of the globs matches.
pub(super) fn matches_any(globs: &[String], name: &str) -> bool {
    globs.iter().any(|glob| WildMatch::new(glob).matches(name))
}

fn extension<'a>(extensions: Option<&'a [NamedExtension]>, name: &str) -> Option<&'a Value> {
    extensions?
        .iter()
        .find(|extension| extension.name == name)
        .map(|extension| &extension.extension)
}

/// The texts of an object of texts.
pub(super) fn strings(object: &Value) -> BTreeMap<String, String> {
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}
