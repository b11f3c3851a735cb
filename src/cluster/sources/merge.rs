//! From what all sources say to the rows of the registry: one task, which alone writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Candidate, Extra, Way,
    connect::{Reached, keep_connected},
    given::Given,
};
use crate::cluster::{Cluster, ClusterSpec, Overrides, Registry, registry::Entry};

/// The sources, in the order in which they count where two have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Embedded,
    InCluster,
    Kubeconfig,
    ArgoCd,
}

/// What changes the rows.
pub(super) enum News {
    /// All that a source has now.
    Slice(Rank, Vec<Candidate>, Option<Extra>),
    /// What is said of clusters by name.
    Given(Given),
    /// How it went to connect to the cluster of this name, in the attempt of this number.
    Reached(String, u64, Result<Reached, String>),
}

/// Holds what the sources said last, and a line to each cluster.
pub(super) struct Merger {
    registry: Registry,
    news: mpsc::UnboundedSender<News>,
    given: Given,
    slices: BTreeMap<Rank, (Vec<Arc<Candidate>>, Option<Extra>)>,
    lines: BTreeMap<String, Line>,
    /// Counts lines, so that the word of one that is no more is known.
    counter: u64,
    awaited: BTreeSet<Rank>,
    settled: watch::Sender<bool>,
    /// What was told last of each cluster.
    told: BTreeMap<String, Option<String>>,
}

/// The connection to one cluster.
struct Line {
    number: u64,
    rank: Rank,
    mark: String,
    state: Option<Result<Reached, String>>,
    /// Kept for as long as nothing has changed that it is made of: what runs on it goes on.
    cluster: Option<(Overrides, bool, Cluster)>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Merger {
    /// `argocd`: the start waits for Argo CD's Secrets too.
    pub(super) fn new(registry: Registry, news: mpsc::UnboundedSender<News>, argocd: bool) -> Self {
        Self {
            registry,
            news,
            given: Given::default(),
            slices: BTreeMap::new(),
            lines: BTreeMap::new(),
            counter: 0,
            awaited: argocd.then_some(Rank::ArgoCd).into_iter().collect(),
            settled: watch::channel(false).0,
            told: BTreeMap::new(),
        }
    }

    /// Becomes true when every source has spoken and there was a verdict on each cluster.
    pub(super) fn settled(&self) -> watch::Receiver<bool> {
        self.settled.subscribe()
    }

    /// Takes news until it is dropped.
    pub(super) async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<News>) {
        while let Some(news) = receiver.recv().await {
            self.take(news);
            // Many at once are one change of the registry.
            while let Ok(news) = receiver.try_recv() {
                self.take(news);
            }
            self.write();
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Slice(rank, candidates, extra) => {
                let candidates = candidates.into_iter().map(Arc::new).collect();
                self.slices.insert(rank, (candidates, extra));
                self.awaited.remove(&rank);
            }
            News::Given(given) => self.given = given,
            News::Reached(name, number, state) => {
                let line = self.lines.get_mut(&name);
                if let Some(line) = line.filter(|line| line.number == number) {
                    line.cluster = None;
                    line.state = Some(state);
                }
            }
        }
    }

    /// Brings the lines and the registry up to what is known.
    fn write(&mut self) {
        let slices = self.slices.iter();
        let chosen = choose(slices.map(|(rank, (candidates, _))| (*rank, candidates.as_slice())));
        self.lines
            .retain(|name, _| chosen.iter().any(|one| one.candidate.name == *name));
        let mut entries = Vec::new();
        for one in &chosen {
            self.connect(one);
            entries.push(self.entry(one));
        }
        self.tell(&entries);
        self.registry.replace(entries);
        let lines = self.lines.values();
        if self.awaited.is_empty() && lines.map(|line| &line.state).all(Option::is_some) {
            self.settled.send_replace(true);
        }
    }

    /// A line to the cluster, unless there is one of the same make.
    fn connect(&mut self, chosen: &Chosen) {
        let Chosen {
            candidate, rank, ..
        } = chosen;
        let known = self.lines.get(&candidate.name);
        if known.is_some_and(|line| line.rank == *rank && line.mark == candidate.mark) {
            return;
        }
        self.counter += 1;
        let number = self.counter;
        let (state, task) = match &candidate.way {
            Way::Made(reached) => (Some(Ok(reached.clone())), None),
            Way::Never(why) => (Some(Err(why.clone())), None),
            Way::Own | Way::Access(_) => {
                let (news, name) = (self.news.clone(), candidate.name.clone());
                let tell = move |state| {
                    // Nobody listens any more when the process ends.
                    let _ = news.send(News::Reached(name.clone(), number, state));
                };
                let task = tokio::spawn(keep_connected(candidate.clone(), tell));
                (None, Some(AbortOnDropHandle::new(task)))
            }
        };
        self.lines.insert(
            candidate.name.clone(),
            Line {
                number,
                rank: *rank,
                mark: candidate.mark.clone(),
                state,
                cluster: None,
                _task: task,
            },
        );
    }

    fn entry(&mut self, chosen: &Chosen) -> Entry {
        let Chosen {
            candidate, notes, ..
        } = chosen;
        let name = &candidate.name;
        let mut labels = candidate.labels.clone();
        let mut overrides = candidate.overrides.clone();
        let mut notes = notes.clone();
        let extras = self.slices.values().filter_map(|(_, extra)| extra.as_ref());
        for extra in extras.filter(|extra| extra.name == *name) {
            labels.extend(extra.labels.clone());
            overrides = extra.overrides.clone().or(overrides);
            notes.extend(extra.note.clone());
        }
        let (given_labels, given) = self.given.on(name);
        labels.extend(given_labels);
        let overrides = given.or(overrides);
        let line = self.lines.get_mut(name);
        let cluster = match line {
            Some(line) => line.cluster(candidate, &labels, overrides),
            None => Err("it is not connected to".to_owned()),
        };
        Entry {
            name: name.clone(),
            labels,
            cluster,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        }
    }

    /// Says what has changed, once.
    fn tell(&mut self, entries: &[Entry]) {
        let mut told = BTreeMap::new();
        for entry in entries {
            let pending = self
                .lines
                .get(&entry.name)
                .is_some_and(|line| line.state.is_none());
            let now = match &entry.cluster {
                Err(why) => Some(why.clone()),
                Ok(_) => entry.note.clone(),
            };
            let before = self.told.get(&entry.name);
            if pending {
                if let Some(before) = before {
                    told.insert(entry.name.clone(), before.clone());
                }
                continue;
            }
            if before != Some(&now) {
                match (&entry.cluster, &now) {
                    (Err(reason), _) => {
                        tracing::warn!(cluster.name = %entry.name, reason, "a cluster cannot be used");
                    }
                    (Ok(_), Some(note)) => {
                        tracing::warn!(cluster.name = %entry.name, note, "a cluster can be used, and there is something to know");
                    }
                    (Ok(_), None) => {
                        tracing::info!(cluster.name = %entry.name, "a cluster can be used");
                    }
                }
            }
            told.insert(entry.name.clone(), now);
        }
        for name in self
            .told
            .keys()
            .filter(|name| !entries.iter().any(|e| e.name == **name))
        {
            tracing::warn!(
                cluster.name = %name,
                "a cluster is gone from where it was found: its rollouts are left as they are"
            );
        }
        self.told = told;
    }
}

impl Line {
    fn cluster(
        &mut self,
        candidate: &Candidate,
        labels: &BTreeMap<String, String>,
        overrides: Overrides,
    ) -> Result<Cluster, String> {
        let reached = match &self.state {
            None => return Err("it is being connected to".to_owned()),
            Some(Err(why)) => return Err(why.clone()),
            Some(Ok(reached)) => reached,
        };
        if let Some((with, leads, cluster)) = &self.cluster
            && *with == overrides
            && *leads == candidate.leads
        {
            return Ok(cluster.clone());
        }
        let cluster = Cluster::new(ClusterSpec {
            name: candidate.name.clone(),
            // Selectors match those of the row, which can change without a new cluster.
            labels: labels.clone(),
            client: reached.client.clone(),
            clock: reached.clock.clone(),
            leads: candidate.leads,
            inside: reached.inside,
            embedded: reached.embedded,
            overrides: overrides.clone(),
        });
        self.cluster = Some((overrides, candidate.leads, cluster.clone()));
        Ok(cluster)
    }
}

/// A cluster that counts.
pub(super) struct Chosen {
    pub(super) candidate: Arc<Candidate>,
    pub(super) rank: Rank,
    pub(super) notes: Vec<String>,
}

/// Of the candidates with one name the first; the others are a note.
pub(super) fn choose<'a>(
    slices: impl Iterator<Item = (Rank, &'a [Arc<Candidate>])>,
) -> Vec<Chosen> {
    let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
    for (rank, candidates) in slices {
        for candidate in candidates {
            let name = candidate.name.clone();
            match chosen.get_mut(&name) {
                None => {
                    let one = Chosen {
                        candidate: candidate.clone(),
                        rank,
                        notes: candidate.note.clone().into_iter().collect(),
                    };
                    chosen.insert(name, one);
                }
                Some(first) => first.notes.push(format!(
                    "there are two of this name, in {} and {}; the first counts, rename the other",
                    first.candidate.origin, candidate.origin
                )),
            }
        }
    }
    chosen.into_values().collect()
}
