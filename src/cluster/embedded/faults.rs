//! What tests and rehearsals do to the API server: lost answers, held writes, and a count of the requests.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

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
    /// Body of the request.
    pub body: bytes::Bytes,
}

impl RequestInfo {
    /// It would change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(
            self.verb,
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }
}

/// Which requests a fault is for.
pub type Matcher = Arc<dyn Fn(&RequestInfo) -> bool + Send + Sync>;

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

    /// How many requests of this verb for this resource (all groups of that name) have come in.
    #[must_use]
    pub fn count(&self, verb: &str, plural: &str) -> u64 {
        self.total(|v, _, p| v == verb && p == plural)
    }

    /// How many requests have come in that would change something, dry runs included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.total(|verb, _, _| {
            matches!(
                verb,
                "create" | "update" | "patch" | "delete" | "deletecollection"
            )
        })
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

    /// Counts the request, and waits if it is to be held.
    pub(super) async fn arrived(&self, info: &RequestInfo) {
        let held = {
            let mut inner = self.lock();
            let key = (info.verb, info.group.clone(), info.plural.clone());
            *inner.counts.entry(key).or_insert(0) += 1;
            let found = inner.holds.iter().position(|(matches, _)| matches(info));
            found.map(|i| inner.holds.swap_remove(i).1)
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
            .field("counts", &inner.counts)
            .finish()
    }
}
