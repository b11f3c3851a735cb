//! Who may write to a cluster: one `coordination.k8s.io/v1` Lease, held by one process.
//!
//! The holder renews every 5 s and writes at most 10 s after a renewal; others take the Lease only when they have seen it unchanged for
//! its whole 15 s by their own monotonic clock, so clocks that differ between machines do no harm. All of this is real time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Cluster, Scope, Watched,
    clock::{Clock, rfc3339_micro},
    error::{Error, ErrorKind},
};
use crate::api::objects::{LEASE, Object, ObjectExt, Ref};

/// Name of the Lease.
pub const NAME: &str = "canary-mcp";
/// How long a Lease holds after a renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews it.
const RENEW: Duration = Duration::from_secs(5);
/// The last write comes at most this long after a renewal: what is then still on its way has [`DURATION`] - 10 s to arrive.
const WRITE_UNTIL: Duration = Duration::from_secs(10);
/// How soon a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long one call may take: three fit between the first failed renewal and [`WRITE_UNTIL`].
const CALL: Duration = Duration::from_millis(1_500);
/// How often one who waits looks at the Lease when its watch says nothing.
const LOOK: Duration = Duration::from_secs(5);
/// 2026-01-01T00:00:00Z in seconds: where the transitions of a new Lease count from.
const TRANSITIONS_FROM: i64 = 1_767_225_600;

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

/// The right to write, for as long as [`Held::check`] says so. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Held {
    epoch: String,
    /// When the last successful renewal was *sent*; `None` once the Lease is lost or released.
    renewed: Arc<Mutex<Option<Instant>>>,
}

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

/// The task behind a [`LeaseKeeper`].
struct Keeper {
    cluster: Cluster,
    identity: String,
    of: Ref,
    clock: Clock,
    standing: watch::Sender<Standing>,
    /// The Lease of another holder as first seen: its resourceVersion and when.
    seen: Option<(String, Instant)>,
    /// What we hold, with the Lease object of the last write.
    mine: Option<(Held, Object)>,
}

// === impl Held ===

impl Held {
    fn new(epoch: String, renewed: Instant) -> Self {
        Self {
            epoch,
            renewed: Arc::new(Mutex::new(Some(renewed))),
        }
    }

    /// `leaseTransitions` of the Lease as we hold it: the fence on every object of a running rollout.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether a write may be sent right now.
    ///
    /// # Errors
    /// [`LeaseLost`] when the Lease is lost or was renewed more than 10 s ago.
    pub fn check(&self) -> Result<(), LeaseLost> {
        match *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(renewed) if renewed.elapsed() <= WRITE_UNTIL => Ok(()),
            Some(_) | None => Err(LeaseLost),
        }
    }

    fn set(&self, renewed: Option<Instant>) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
    }
}

// === impl LeaseKeeper ===

impl LeaseKeeper {
    /// Begins to take the Lease `canary-mcp` in `namespace`. `identity` must be this process's alone (a host name and a UUID): whoever
    /// finds its own identity in the Lease takes it without waiting.
    #[must_use]
    pub fn start(cluster: &Cluster, identity: &str, namespace: &str) -> Self {
        let (sender, standing) = watch::channel(Standing::Follower { holder: None });
        let stop = CancellationToken::new();
        let keeper = Keeper {
            cluster: cluster.clone(),
            identity: identity.to_owned(),
            of: Ref {
                kind: LEASE,
                namespace: namespace.to_owned(),
                name: NAME.to_owned(),
            },
            clock: Clock::real(),
            standing: sender,
            seen: None,
            mine: None,
        };
        Self {
            standing,
            task: Some(tokio::spawn(keeper.run(stop.clone()))),
            stop,
        }
    }

    /// The right to write, if we have it now.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        match &*self.standing.borrow() {
            Standing::Held(held) if held.check().is_ok() => Some(held.clone()),
            Standing::Held(_) | Standing::Follower { .. } | Standing::Refused(_) => None,
        }
    }

    /// Follows what this process may do.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Gives the Lease back, so that another process takes it at once. Every [`Held`] ends before that.
    pub async fn release(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the Lease's task has failed");
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

// === impl Keeper ===

impl Keeper {
    async fn run(mut self, stop: CancellationToken) {
        let watched = self.watched();
        let mut changes = watched.subscribe();
        loop {
            let pause = self.step().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                // A released Lease is taken at once; what is written to our own is no news.
                Ok(()) = changes.changed(), if self.mine.is_none() => {}
            }
        }
        self.give_back().await;
    }

    fn watched(&self) -> Watched {
        let scope = Scope {
            namespace: Some(self.of.namespace.clone()),
            fields: Some(format!("metadata.name={}", self.of.name)),
            ..Scope::default()
        };
        self.cluster.watch(&LEASE, scope)
    }

    /// Renews, or tries to take; says how long to pause.
    async fn step(&mut self) -> Duration {
        match self.mine.take() {
            Some((held, lease)) => self.renew(held, lease).await,
            None => self.take().await,
        }
    }

    async fn renew(&mut self, held: Held, lease: Object) -> Duration {
        let sent = Instant::now();
        let renewed = self.lease(&lease, &self.identity, transitions(&lease), true);
        match self.cluster.replace(&self.of, &renewed, CALL).await {
            Ok(lease) => {
                held.set(Some(sent));
                self.mine = Some((held, lease));
                RENEW
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.after_conflict(held, &lease).await
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.lose(&held, "the Lease was deleted");
                RETRY
            }
            Err(error) if held.check().is_ok() => {
                tracing::warn!(cluster.name = %self.cluster.name(), error = error.report(), "the Lease could not be renewed yet");
                self.mine = Some((held, lease));
                RETRY
            }
            Err(error) => {
                self.lose(&held, &error.report());
                RETRY
            }
        }
    }

    /// Somebody wrote to our Lease: a label is no matter, another holder ends us. (Or our last renewal landed and its answer was lost.)
    async fn after_conflict(&mut self, held: Held, old: &Object) -> Duration {
        match self.cluster.get(&self.of).await {
            Ok(Some(now))
                if holder(&now) == Some(self.identity.as_str())
                    && transitions(&now) == transitions(old)
                    && held.check().is_ok() =>
            {
                self.mine = Some((held, now));
                Duration::ZERO
            }
            Err(error) if held.check().is_ok() => {
                tracing::warn!(cluster.name = %self.cluster.name(), error = error.report(), "the Lease could not be read");
                self.mine = Some((held, Arc::clone(old)));
                RETRY
            }
            Ok(_) | Err(_) => {
                self.lose(&held, "another process has taken the Lease");
                RETRY
            }
        }
    }

    async fn take(&mut self) -> Duration {
        let lease = match self.cluster.get(&self.of).await {
            Ok(lease) => lease,
            Err(error) => return self.refused(&error),
        };
        let sent = Instant::now();
        let Some(lease) = lease else {
            // A Lease that was deleted and made again must not repeat an epoch that writes on their way still carry.
            let first = (self.clock.now().0 / 1_000 - TRANSITIONS_FROM).max(1);
            let new = self.lease(&Value::Null, &self.identity, first, false);
            let made = self.cluster.post(&self.of, &new, CALL).await;
            return self.taken(made, sent);
        };
        let current = holder(&lease);
        if current.is_some_and(|current| current != self.identity) && !self.expired(&lease) {
            let holder = current.map(str::to_owned);
            self.tell(Standing::Follower { holder });
            return self.patience(&lease);
        }
        let mine = self.lease(&lease, &self.identity, transitions(&lease) + 1, false);
        let made = self.cluster.replace(&self.of, &mine, CALL).await;
        self.taken(made, sent)
    }

    fn taken(&mut self, made: Result<Object, Error>, sent: Instant) -> Duration {
        match made {
            Ok(lease) => {
                let epoch = transitions(&lease).to_string();
                let held = Held::new(epoch, sent);
                tracing::info!(cluster.name = %self.cluster.name(), epoch = held.epoch(), "this process leads the cluster");
                self.seen = None;
                self.mine = Some((held.clone(), lease));
                self.tell(Standing::Held(held));
                RENEW
            }
            // Somebody was faster: look again.
            Err(error)
                if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) =>
            {
                RETRY
            }
            Err(error) => self.refused(&error),
        }
    }

    /// We have seen this very Lease for its whole duration.
    fn expired(&mut self, lease: &Object) -> bool {
        let version = lease.resource_version();
        match &self.seen {
            Some((seen, since)) if seen == version => since.elapsed() >= duration(lease),
            Some(_) | None => {
                self.seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }

    /// Until the Lease may be taken, but never longer than [`LOOK`].
    fn patience(&self, lease: &Object) -> Duration {
        let left = self.seen.as_ref().map_or(LOOK, |(_, since)| {
            duration(lease).saturating_sub(since.elapsed())
        });
        left.min(LOOK)
    }

    fn refused(&mut self, error: &Error) -> Duration {
        let namespace = &self.of.namespace;
        let text = match error.kind() {
            ErrorKind::NotFound => format!(
                "{}; make the namespace with: kubectl --context {} create namespace {namespace}",
                error.report(),
                self.cluster.name()
            ),
            ErrorKind::Forbidden => format!(
                "{}; allow get, list, watch, create and update of leases.coordination.k8s.io in namespace {namespace}",
                error.report()
            ),
            ErrorKind::Conflict
            | ErrorKind::AlreadyExists
            | ErrorKind::LeaseLost
            | ErrorKind::Unreachable
            | ErrorKind::Unconfirmed
            | ErrorKind::Rejected => error.report(),
        };
        self.tell(Standing::Refused(text));
        LOOK
    }

    fn lose(&mut self, held: &Held, why: &str) {
        held.set(None);
        tracing::warn!(cluster.name = %self.cluster.name(), why, "this process does not lead the cluster any more");
        self.tell(Standing::Follower { holder: None });
    }

    /// Tells a change, and only a change.
    fn tell(&self, standing: Standing) {
        self.standing.send_if_modified(|old| {
            let same = match (&*old, &standing) {
                (Standing::Follower { holder: a }, Standing::Follower { holder: b }) => a == b,
                (Standing::Refused(a), Standing::Refused(b)) => a == b,
                (Standing::Held(a), Standing::Held(b)) => Arc::ptr_eq(&a.renewed, &b.renewed),
                (Standing::Held(_) | Standing::Follower { .. } | Standing::Refused(_), _) => false,
            };
            if !same {
                *old = standing;
            }
            !same
        });
    }

    async fn give_back(mut self) {
        let Some((held, lease)) = self.mine.take() else {
            return;
        };
        held.set(None);
        let free = self.lease(&lease, "", transitions(&lease), true);
        if let Err(error) = self.cluster.replace(&self.of, &free, CALL).await {
            tracing::warn!(cluster.name = %self.cluster.name(), error = error.report(), "the Lease could not be given back, it expires by itself");
        }
        self.tell(Standing::Follower { holder: None });
    }

    /// `from` (or a new Lease) with our fields. `kept` keeps the moment at which it was acquired.
    fn lease(&self, from: &Value, identity: &str, transitions: i64, kept: bool) -> Value {
        let now = rfc3339_micro(self.clock.now());
        let acquired = from
            .str_at("/spec/acquireTime")
            .filter(|_| kept)
            .unwrap_or(&now);
        let mut metadata = from["metadata"].clone();
        if metadata.is_null() {
            metadata = json!({"name": self.of.name, "namespace": self.of.namespace});
        }
        json!({
            "apiVersion": LEASE.api_version(),
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": identity,
                "leaseDurationSeconds": DURATION.as_secs(),
                "acquireTime": acquired,
                "renewTime": now,
                "leaseTransitions": transitions,
            }
        })
    }
}

pub(super) fn holder(lease: &Value) -> Option<&str> {
    lease
        .str_at("/spec/holderIdentity")
        .filter(|holder| !holder.is_empty())
}

pub(super) fn transitions(lease: &Value) -> i64 {
    lease.int_at("/spec/leaseTransitions").unwrap_or(0)
}

pub(super) fn duration(lease: &Value) -> Duration {
    lease
        .int_at("/spec/leaseDurationSeconds")
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs)
}
