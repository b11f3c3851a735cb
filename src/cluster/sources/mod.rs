//! Where clusters come from: kubeconfig files, the service account of this pod, Argo CD's cluster Secrets and the embedded fleet, all at once
//! and followed as they change.
//!
//! Each source is a task that says which clusters there are ([`Candidate`]); one more ([`merge`]) connects to each and writes the
//! [`Registry`]. A cluster that cannot be used is a row with the reason, and is tried again; none waits for another.

mod argocd;
mod aws;
mod connect;
pub mod given;
mod kubeconfig;
mod merge;
#[cfg(test)]
mod tests;
mod token;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use kubeconfig::{EMBEDDED_EXTENSION, LABELS_EXTENSION};

use self::{
    connect::{Access, Reached},
    given::{Given, Rule},
    merge::{Merger, News, Rank},
};
use super::{ClusterSpec, Overrides, Registry};

/// How long the start waits for the first verdict on every cluster. One that takes longer (its plugin hangs) joins later.
const START_WITHIN: Duration = Duration::from_secs(5);

/// Where clusters come from.
#[derive(Default)]
pub struct Sources {
    /// Kubeconfig files, merged as kubectl does; every context is a cluster.
    pub kubeconfigs: Vec<PathBuf>,
    /// Globs over contexts, those that become clusters; empty takes all.
    pub contexts: Vec<String>,
    /// Globs over names of clusters: the ones that the engine may lead.
    pub lead: Vec<String>,
    /// This process runs inside a cluster (`KUBERNETES_SERVICE_HOST` is set): the name of that cluster, which the engine leads.
    pub in_cluster: Option<String>,
    /// Argo CD's cluster Secrets.
    pub argocd: Option<ArgoCd>,
    /// The embedded fleet of this process.
    pub embedded: Vec<ClusterSpec>,
    /// Labels by cluster (`--cluster-labels`).
    pub labels: Vec<Rule>,
    /// A file of labels and settings by cluster (`--clusters-file`).
    pub clusters_file: Option<PathBuf>,
}

/// Where Argo CD's cluster Secrets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgoCd {
    /// Name of the cluster that Argo CD runs in: the one around this pod, or a context.
    pub home: String,
    /// Its namespace.
    pub namespace: String,
}

/// Why there are no clusters: what is wrong in the files, all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SourcesError(pub Vec<String>);

/// A cluster, as a source has it.
struct Candidate {
    name: String,
    /// Where it was found, for people.
    origin: String,
    labels: BTreeMap<String, String>,
    overrides: Overrides,
    leads: bool,
    way: Way,
    /// Equal marks: the way is the same.
    mark: String,
    /// What is to be told although it can be used.
    note: Option<String>,
}

/// How to reach a cluster.
#[derive(Clone)]
enum Way {
    /// There is a client already.
    Made(Reached),
    /// By the service account of this pod.
    Own,
    /// By a kubeconfig.
    Access(Arc<Access>),
    /// Not at all, and why.
    Never(String),
}

/// What is said of a cluster that another source has.
#[derive(Debug, Clone, Default, PartialEq)]
struct Extra {
    name: String,
    labels: BTreeMap<String, String>,
    overrides: Overrides,
    note: Option<String>,
}

/// Finds the clusters, and goes on following them until stopped. Returns when there was a verdict on each, at the latest after 5 s.
///
/// # Errors
/// Every file that cannot be read.
pub async fn start(sources: Sources, stop: &CancellationToken) -> Result<Registry, SourcesError> {
    super::registry::install_crypto();
    let Sources {
        kubeconfigs,
        contexts,
        lead,
        in_cluster,
        argocd,
        embedded,
        labels,
        clusters_file,
    } = sources;
    let mut mistakes = Vec::new();
    let files = kubeconfig::Files {
        paths: kubeconfigs,
        contexts,
        always: argocd.as_ref().map(|argocd| argocd.home.clone()),
        lead: lead.clone(),
    };
    let read = files.read().map_err(|wrong| mistakes.extend(wrong)).ok();
    let by_file = clusters_file
        .clone()
        .map_or(Ok(Vec::new()), |path| rules(&path));
    let by_file = by_file.map_err(|wrong| mistakes.extend(wrong)).ok();
    let (Some(read), Some(by_file)) = (read, by_file) else {
        return Err(SourcesError(mistakes));
    };

    let registry = Registry::default();
    let (sender, receiver) = mpsc::unbounded_channel();
    let slice = |rank, candidates| {
        let news = News::Slice(rank, candidates, None);
        // The receiver is held below.
        let _ = sender.send(news);
    };
    slice(Rank::Embedded, embedded.into_iter().map(made).collect());
    slice(Rank::InCluster, in_cluster.into_iter().map(own).collect());
    slice(Rank::Kubeconfig, read.candidates);
    let given = move |by_file: Vec<Rule>| {
        // What was typed goes before what the file says.
        Given(by_file.into_iter().chain(labels.iter().cloned()).collect())
    };
    let _ = sender.send(News::Given(given(by_file)));

    if !files.paths.is_empty() {
        let (sender, files) = (sender.clone(), files.clone());
        let again = move || files.read().map(|read| (read.candidates, read.files));
        let give = move |found| drop(sender.send(News::Slice(Rank::Kubeconfig, found, None)));
        until(
            stop,
            kubeconfig::follow("the kubeconfig", read.files, again, give),
        );
    }
    if let Some(path) = clusters_file {
        let sender = sender.clone();
        let looked = vec![path.clone()];
        let again = move || rules(&path).map(|rules| (rules, vec![path.clone()]));
        let give = move |found| drop(sender.send(News::Given(given(found))));
        until(
            stop,
            kubeconfig::follow("the clusters file", looked, again, give),
        );
    }
    let argo = argocd.is_some();
    if let Some(ArgoCd { home, namespace }) = argocd {
        let sender = sender.clone();
        let give = move |found: argocd::Found| {
            drop(sender.send(News::Slice(Rank::ArgoCd, found.candidates, found.home)));
        };
        let secrets = argocd::Secrets {
            home,
            namespace,
            lead,
        };
        until(stop, argocd::follow(secrets, registry.clone(), give));
    }
    let merger = Merger::new(registry.clone(), sender, argo);
    let mut settled = merger.settled();
    until(stop, merger.run(receiver));
    let first = settled.wait_for(|settled| *settled);
    if tokio::time::timeout(START_WITHIN, first).await.is_err() {
        tracing::warn!("some clusters are still being connected to; they join when that is done");
    }
    Ok(registry)
}

/// A task that ends with the process.
fn until(stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = task => {}
        }
    });
}

fn rules(path: &std::path::Path) -> Result<Vec<Rule>, Vec<String>> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![format!("cannot read clusters file {place}: {error}")])?;
    given::clusters_file(&text).map_err(|mistakes| {
        let mistakes = mistakes.into_iter();
        mistakes
            .map(|mistake| format!("clusters file {place}: {mistake}"))
            .collect()
    })
}

fn made(spec: ClusterSpec) -> Candidate {
    let ClusterSpec {
        name,
        labels,
        client,
        clock,
        leads,
        inside,
        embedded,
        overrides,
    } = spec;
    Candidate {
        mark: name.clone(),
        name,
        origin: "the embedded fleet".to_owned(),
        labels,
        overrides,
        leads,
        way: Way::Made(Reached {
            client,
            clock,
            inside,
            embedded,
        }),
        note: None,
    }
}

fn own(name: String) -> Candidate {
    Candidate {
        mark: name.clone(),
        name,
        origin: "the service account of this pod".to_owned(),
        labels: BTreeMap::new(),
        overrides: Overrides::default(),
        leads: true,
        way: Way::Own,
        note: None,
    }
}
