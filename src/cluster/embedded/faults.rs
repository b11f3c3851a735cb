//! What tests and rehearsals do to the API server: requests lost, refused, late or never answered, partitions, held writes; and a count
//! of the requests and a log of the writes.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body::Frame;
use tokio::sync::watch;

use super::status::Status;
use crate::{api::rights::Right, decide::facts::Moment};

/// One request as the faults see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: String,
    /// Resource name in the URL.
    pub plural: String,
    /// Namespace, empty when there is none in the URL.
    pub namespace: String,
    /// Name of the object, empty for a collection.
    pub name: String,
    /// `status` or `scale`; empty for the object itself.
    pub subresource: String,
    /// Field manager of a write.
    pub manager: String,
    /// `User-Agent`, as it was sent.
    pub agent: String,
    /// Body of the request.
    pub body: bytes::Bytes,
}

impl RequestInfo {
    /// It would change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        is_write(self.verb, &self.group)
    }
}

/// A review is posted and changes nothing.
fn is_write(verb: &str, group: &str) -> bool {
    matches!(
        verb,
        "create" | "update" | "patch" | "delete" | "deletecollection"
    ) && !matches!(group, "authorization.k8s.io" | "authentication.k8s.io")
}

/// `patch deployments/mcp-server/scale`.
impl fmt::Display for RequestInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.plural)?;
        for part in [&self.name, &self.subresource] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    Answered,
    /// It is carried out this much later, and answered.
    Late(Duration),
    /// Its connection breaks before anything was done.
    Lost,
    /// It is carried out, and its connection breaks before the answer.
    Unanswered,
    /// It is not carried out, and no answer ever comes.
    Ignored,
    /// It is carried out, and no answer ever comes.
    Hangs,
    /// It is not carried out; the answer says why. The seconds go into `Retry-After`, if any are given.
    Refused(Box<Status>, Option<u32>),
}

/// Decides on each request as it comes in.
type Decider = Box<dyn FnMut(&RequestInfo) -> Fate + Send>;

/// Which requests a fault is for.
pub type Matcher = Arc<dyn Fn(&RequestInfo) -> bool + Send + Sync>;

/// One write that has been answered, whether the answer arrived or not.
#[derive(Debug, Clone)]
pub struct Logged {
    /// When it was carried out, by the cluster's clock.
    pub at: Moment,
    /// The request.
    pub request: RequestInfo,
    /// HTTP status of the answer.
    pub code: u16,
    /// The cluster's revision before and after it; the same when it has changed nothing. Exact where nothing else runs meanwhile, as in
    /// a runtime of one thread.
    pub revisions: (u64, u64),
}

impl Logged {
    /// It has changed something.
    #[must_use]
    pub fn committed(&self) -> bool {
        self.revisions.0 != self.revisions.1
    }
}

/// The faults of one API server. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    drops: Vec<Matcher>,
    holds: Vec<(Matcher, watch::Sender<Stage>)>,
    counts: BTreeMap<(&'static str, String, String), u64>,
    decider: Option<Decider>,
    /// What callers may not do.
    denied: Arc<[Right]>,
    /// Partitions with their numbers.
    partitions: Vec<(u64, Matcher)>,
    /// Watches that match break; the last one, which its number tells from those before it.
    broken: Option<Matcher>,
    log: Option<Vec<Logged>>,
    /// Changes with `partitions` and `broken`.
    news: watch::Sender<News>,
}

/// Counts what open watches have to hear of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct News {
    partitions: u64,
    breaks: u64,
}

/// Nothing of what matches gets through while this lives: requests wait, and so do the lines of open watches. What waited arrives at the
/// end, as with a network that retransmits; callers have given up by then or not.
pub struct Partition {
    faults: Faults,
    number: u64,
}

impl Drop for Partition {
    fn drop(&mut self) {
        let mut inner = self.faults.lock();
        inner
            .partitions
            .retain(|(number, _)| *number != self.number);
        inner.news.send_modify(|news| news.partitions += 1);
    }
}

/// How far a held request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Armed,
    Reached,
    Released,
}

/// A fault that holds one request until it is released; released also when dropped.
#[derive(Debug)]
pub struct Held {
    stage: watch::Sender<Stage>,
}

impl Held {
    /// Waits until the request has arrived; it has done nothing yet.
    pub async fn reached(&self) {
        let mut stage = self.stage.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = stage.wait_for(|s| *s != Stage::Armed).await;
    }

    /// Lets the request go on.
    pub fn release(&self) {
        self.stage.send_replace(Stage::Released);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

impl Faults {
    /// The next request that matches is carried out, and then its connection breaks before the answer.
    pub fn drop_next_answer(&self, matcher: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static) {
        self.lock().drops.push(Arc::new(matcher));
    }

    /// The next request that matches waits before it is carried out, until the returned handle releases it.
    #[must_use = "dropping the handle releases the request"]
    pub fn hold_next(
        &self,
        matcher: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static,
    ) -> Held {
        let stage = watch::Sender::new(Stage::Armed);
        self.lock().holds.push((Arc::new(matcher), stage.clone()));
        Held { stage }
    }

    /// From now on `decider` says what becomes of each request, in the order in which they come in. It must not call these faults.
    pub fn decide(&self, decider: impl FnMut(&RequestInfo) -> Fate + Send + 'static) {
        self.lock().decider = Some(Box::new(decider));
    }

    /// Nothing decides on requests any more: all are answered.
    pub fn answer_all(&self) {
        self.lock().decider = None;
    }

    /// From now on callers may do everything but this, in every namespace: it is refused, and the reviews tell of it. Nothing denied, all
    /// is allowed.
    pub fn deny(&self, denied: &[Right]) {
        self.lock().denied = denied.into();
    }

    /// What callers may not do.
    pub(super) fn denied(&self) -> Arc<[Right]> {
        self.lock().denied.clone()
    }

    /// Cuts what matches off until the returned handle is dropped.
    #[must_use = "dropping the handle ends the partition"]
    pub fn partition(
        &self,
        matcher: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static,
    ) -> Partition {
        let mut inner = self.lock();
        inner.news.send_modify(|news| news.partitions += 1);
        let number = inner.news.borrow().partitions;
        inner.partitions.push((number, Arc::new(matcher)));
        Partition {
            faults: self.clone(),
            number,
        }
    }

    /// Breaks the open watches that match.
    pub fn break_watches(&self, matcher: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static) {
        let mut inner = self.lock();
        inner.broken = Some(Arc::new(matcher));
        inner.news.send_modify(|news| news.breaks += 1);
    }

    /// From now on every write is logged.
    pub fn keep_log(&self) {
        self.lock().log.get_or_insert_default();
    }

    /// The writes since the log was last taken, in the order in which they were carried out.
    #[must_use]
    pub fn take_log(&self) -> Vec<Logged> {
        let mut inner = self.lock();
        inner.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many requests of this verb for this resource (all groups of that name) have come in.
    #[must_use]
    pub fn count(&self, verb: &str, plural: &str) -> u64 {
        self.total(|v, _, p| v == verb && p == plural)
    }

    /// How many requests have come in that would change something, dry runs included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.total(|verb, group, _| is_write(verb, group))
    }

    /// How many requests have come in that only read: get, list and watch.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.total(|verb, _, _| matches!(verb, "get" | "list" | "watch"))
    }

    /// All counts: (verb, group, resource) and how many.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(&'static str, String, String), u64> {
        self.lock().counts.clone()
    }

    /// Forgets the counts.
    pub fn reset_counts(&self) {
        self.lock().counts.clear();
    }

    fn total(&self, which: impl Fn(&str, &str, &str) -> bool) -> u64 {
        self.lock()
            .counts
            .iter()
            .filter(|((verb, group, plural), _)| which(verb, group, plural))
            .map(|(_, n)| n)
            .sum()
    }

    /// Counts the request, waits if it is to be held or late, and says what becomes of it: never `Late`.
    pub(super) async fn arrived(&self, info: &RequestInfo) -> Fate {
        let (held, fate) = {
            let mut inner = self.lock();
            let key = (info.verb, info.group.clone(), info.plural.clone());
            *inner.counts.entry(key).or_insert(0) += 1;
            let found = inner.holds.iter().position(|(matches, _)| matches(info));
            let held = found.map(|i| inner.holds.swap_remove(i).1);
            let fate = inner.decider.as_mut().map_or(Fate::Answered, |d| d(info));
            (held, fate)
        };
        if let Some(stage) = held {
            let mut seen = stage.subscribe();
            stage.send_if_modified(|s| {
                let waits = *s == Stage::Armed;
                if waits {
                    *s = Stage::Reached;
                }
                waits
            });
            let _ = seen.wait_for(|s| *s == Stage::Released).await;
        }
        let fate = if let Fate::Late(by) = fate {
            tokio::time::sleep(by).await;
            Fate::Answered
        } else {
            fate
        };
        self.through(info).await;
        fate
    }

    /// Waits until no partition is in the way.
    async fn through(&self, info: &RequestInfo) {
        let mut news = self.lock().news.subscribe();
        while self.lock().partitions.iter().any(|(_, m)| m(info)) {
            // The sender lives in `self`, so the wait cannot fail.
            let _ = news.changed().await;
        }
    }

    /// Returns when the watch is to break, which knew of `known` breaks.
    async fn breaks(&self, info: &RequestInfo, known: &mut u64, news: &mut watch::Receiver<News>) {
        loop {
            let now = news.borrow_and_update().breaks;
            let newer = std::mem::replace(known, now) != now;
            if newer && self.lock().broken.as_ref().is_some_and(|m| m(info)) {
                return;
            }
            // The sender lives in `self`, so the wait cannot fail.
            let _ = news.changed().await;
        }
    }

    /// The lines of a watch, as far as they get through.
    pub(super) fn watched(
        &self,
        info: RequestInfo,
        frames: impl Stream<Item = Result<Frame<Bytes>, io::Error>> + Send + 'static,
    ) -> impl Stream<Item = Result<Frame<Bytes>, io::Error>> + Send + 'static {
        let news = self.lock().news.subscribe();
        let known = news.borrow().breaks;
        let state = (self.clone(), info, known, news, frames.boxed());
        futures::stream::unfold(Some(state), |state| async {
            let (faults, info, mut known, mut news, mut frames) = state?;
            let next = async {
                let line = frames.next().await;
                faults.through(&info).await;
                line
            };
            let line = tokio::select! {
                biased;
                () = faults.breaks(&info, &mut known, &mut news) => {
                    let broken = io::Error::new(io::ErrorKind::ConnectionReset, "the connection of a watch broke");
                    return Some((Err(broken), None));
                }
                line = next => line?,
            };
            Some((line, Some((faults, info, known, news, frames))))
        })
    }

    /// Logs a write that was carried out.
    pub(super) fn carried_out(&self, logged: impl FnOnce() -> Logged) {
        if let Some(log) = &mut self.lock().log {
            log.push(logged());
        }
    }

    /// Whether the answer to this request is to be lost.
    pub(super) fn loses_answer(&self, info: &RequestInfo) -> bool {
        let mut inner = self.lock();
        let found = inner.drops.iter().position(|matches| matches(info));
        found.map(|i| inner.drops.swap_remove(i)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Faults")
            .field("drops", &inner.drops.len())
            .field("holds", &inner.holds.len())
            .field("partitions", &inner.partitions.len())
            .field("decides", &inner.decider.is_some())
            .field("counts", &inner.counts)
            .finish_non_exhaustive()
    }
}
