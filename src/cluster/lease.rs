//! Who may write to a cluster: one `coordination.k8s.io/v1` Lease, held by one process.
//!
//! The holder renews every 5 s and writes at most 10 s after a renewal; others take the Lease only when they have seen it unchanged for
//! its whole 15 s by their own monotonic clock, so clocks that differ between machines do no harm. All of this is real time.
//!
//! Whose turn it is to take a Lease says [`Sharing`]: the second in line waits a second longer, and so on. The first in line who does not hold
//! it asks for it by an annotation on the Lease, which proves that it reaches the cluster and may write there; the holder lets the writes in
//! hand end and gives the Lease back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Cluster, sharing::Sharing};

mod keeper;
mod object;

pub(super) use object::{Change, dry_run, duration, holder, lease, transitions};

/// Name of the Lease.
pub const NAME: &str = "canary-mcp";
/// How long a Lease holds after a renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews it.
pub(super) const RENEW: Duration = Duration::from_secs(5);
/// The last write comes at most this long after a renewal: what is then still on its way has [`DURATION`] - 10 s to arrive.
const WRITE_UNTIL: Duration = Duration::from_secs(10);
/// How soon a failed renewal is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How long one call may take: three fit between the first failed renewal and [`WRITE_UNTIL`].
pub(super) const CALL: Duration = Duration::from_millis(1_500);
/// How long all of it may take: the writes in hand, and a call.
const RELEASE: Duration = Duration::from_millis(2_750);
/// How long the writes in hand may take to end before a Lease is given back; what is still on its way then meets the fence.
const FINISH: Duration = Duration::from_secs(1);

/// What this process may do in a cluster.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It holds the Lease and may write.
    Held(Held),
    /// Another process does, or nobody yet.
    Follower {
        /// Who holds it, if known.
        holder: Option<String>,
    },
    /// The Lease cannot be had; the text says why and the command that fixes it.
    Refused(String),
}

/// How this process came by a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// There was none.
    New,
    /// Its holder had given it back.
    Free,
    /// Its holder gave it back because this process had asked for it.
    Asked,
    /// Its holder had not renewed it.
    Expired,
}

impl Taken {
    /// In one word, for metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Free => "free",
            Self::Asked => "asked",
            Self::Expired => "expired",
        }
    }
}

/// The right to write, for as long as [`Held::check`] says so. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Held {
    epoch: String,
    taken: Taken,
    /// When the last successful renewal was *sent*; `None` once the Lease is lost or released.
    renewed: Arc<Mutex<Option<Instant>>>,
    /// Whether it may be used to write at all: not by whoever only observes (`--dry-run`).
    writes: bool,
    /// A permit for whoever is in the middle of writes that belong together.
    writing: Arc<Semaphore>,
}

/// As many as will ever write at once.
const WRITERS: u32 = 1 << 20;

/// The Lease is lost, or its last renewal is too long ago. Nothing may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Lease was not renewed within the last {WRITE_UNTIL:?}")]
pub struct LeaseLost;

/// Takes a cluster's Lease and keeps it until released or dropped.
pub struct LeaseKeeper {
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

// === impl Held ===

impl Held {
    fn new(epoch: String, (taken, writes): (Taken, bool), renewed: Instant) -> Self {
        Self {
            epoch,
            taken,
            writes,
            renewed: Arc::new(Mutex::new(Some(renewed))),
            writing: Arc::new(Semaphore::new(WRITERS as usize)),
        }
    }

    /// `leaseTransitions` of the Lease as we hold it: the fence on every object of a running rollout.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// How this process came by it.
    #[must_use]
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// Whether a write may be sent right now.
    ///
    /// # Errors
    /// [`LeaseLost`] when the Lease is lost or was renewed more than 10 s ago, and always for whoever only observes.
    pub fn check(&self) -> Result<(), LeaseLost> {
        if self.writes && self.is_fresh() {
            Ok(())
        } else {
            Err(LeaseLost)
        }
    }

    /// It was renewed within the last 10 s and is not lost.
    fn is_fresh(&self) -> bool {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.is_some_and(|renewed| renewed.elapsed() <= WRITE_UNTIL)
    }

    /// Begins writes that belong together: the Lease is given back only when they have ended (or take too long). Once it is about to be given
    /// back none begin any more: then this waits, until its task is ended.
    pub async fn writing(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.writing).acquire_owned().await {
            Ok(permit) => permit,
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Lets the writes in hand end, for a second at most; no others begin, and after it none is sent.
    async fn close(&self) {
        // Who comes later waits behind this, and is then turned away.
        let all = tokio::time::timeout(FINISH, self.writing.acquire_many(WRITERS)).await;
        self.writing.close();
        drop(all);
        self.set(None);
    }

    fn set(&self, renewed: Option<Instant>) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
    }
}

// === impl LeaseKeeper ===

impl LeaseKeeper {
    /// Begins to take the Lease `canary-mcp` in `namespace`, as if there were no other replicas to share with. `identity` must be this
    /// process's alone (a host name and a UUID): whoever finds its own identity in the Lease takes it without waiting.
    #[must_use]
    pub fn start(cluster: &Cluster, identity: &str, namespace: &str) -> Self {
        Self::sharing(cluster, namespace, Sharing::alone(identity))
    }

    /// Begins to take the Lease `canary-mcp` in `namespace` when it is this process's turn.
    #[must_use]
    pub fn sharing(cluster: &Cluster, namespace: &str, sharing: Sharing) -> Self {
        let (sender, standing) = watch::channel(Standing::Follower { holder: None });
        let stop = CancellationToken::new();
        let keeper = keeper::Keeper::new(cluster, namespace, sharing, sender, stop.clone());
        Self {
            standing,
            task: Some(tokio::spawn(keeper.run())),
            stop,
        }
    }

    /// The right to write, if we have it now.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        match &*self.standing.borrow() {
            Standing::Held(held) if held.is_fresh() => Some(held.clone()),
            Standing::Held(_) | Standing::Follower { .. } | Standing::Refused(_) => None,
        }
    }

    /// Follows what this process may do.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Begins to give the Lease back: the writes in hand end, then the standing is no longer [`Standing::Held`].
    pub fn give_up(&self) {
        self.stop.cancel();
    }

    /// Gives the Lease back, so that another process takes it at once. Every [`Held`] ends before that. A cluster that does not answer is
    /// not waited for: there the Lease runs out.
    pub async fn release(mut self) {
        self.give_up();
        let Some(task) = self.task.take() else { return };
        let stop = task.abort_handle();
        match tokio::time::timeout(RELEASE, task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the Lease's task has failed"),
            Err(_) => stop.abort(),
        }
    }
}

impl Drop for LeaseKeeper {
    /// Without `release` the task still gives the Lease back, if the runtime lives long enough.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Standing::Held(held) = &*self.standing.borrow() {
            held.set(None);
        }
    }
}
