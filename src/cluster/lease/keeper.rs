//! The task that keeps one Lease: it follows the Lease while another holds it, takes it in its turn, renews it, and gives it back.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    CALL, Held, NAME, RENEW, RETRY, Standing, Taken,
    object::{self, Change, asked_by, duration, holder, transitions},
};
use crate::{
    api::{
        dry_run::DryRun,
        objects::{LEASE, Object, Ref},
    },
    cluster::{
        Cluster, Scope, Watched,
        clock::Clock,
        error::{Cause, Error, ErrorKind},
        rendezvous,
        sharing::{Seat, Sharing, Turn},
    },
};

/// How often a Lease is read that cannot be watched.
const LOOK: Duration = Duration::from_secs(5);
/// Longest pause before a cluster is asked again that refuses the Lease or does not answer.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// A Lease that was asked for is not given to the next one who asks within this time: it must not go to and fro.
const SETTLED: Duration = Duration::from_secs(60);
/// Who has just given a Lease back leaves it for so long to whoever asked for it.
const COURTESY: Duration = Duration::from_secs(5);
/// 2026-01-01T00:00:00Z in seconds: where the transitions of a new Lease count from.
const TRANSITIONS_FROM: i64 = 1_767_225_600;
/// Times that a Lease is given back when somebody else writes to it meanwhile.
const GIVE_BACK: u32 = 3;

/// The task behind a [`super::LeaseKeeper`].
pub(super) struct Keeper {
    cluster: Cluster,
    sharing: Sharing,
    of: Ref,
    clock: Clock,
    standing: watch::Sender<Standing>,
    /// While we do not hold the Lease. Who holds it knows it from its own writes.
    watch: Option<(Watched, watch::Receiver<u64>)>,
    /// The Lease of another holder, or its lack, as first seen: its spec and when. (What else changes is no renewal.)
    seen: Option<(Value, Instant)>,
    /// When the Lease may be asked for.
    asks: Option<Instant>,
    /// When we gave it back.
    given: Option<Instant>,
    /// How often in a row the cluster has refused us.
    refusals: u32,
    /// The Lease was left because this process leads enough.
    full: bool,
    stop: CancellationToken,
    mine: Option<Mine>,
}

/// What we hold.
struct Mine {
    held: Held,
    /// As we wrote it last.
    lease: Object,
    since: Instant,
    /// Of the process's share.
    _seat: Seat,
}

impl Keeper {
    pub(super) fn new(
        cluster: &Cluster,
        namespace: &str,
        sharing: Sharing,
        standing: watch::Sender<Standing>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            sharing,
            of: Ref {
                kind: LEASE,
                namespace: namespace.to_owned(),
                name: NAME.to_owned(),
            },
            clock: Clock::real(),
            standing,
            watch: None,
            seen: None,
            asks: None,
            given: None,
            refusals: 0,
            full: false,
            stop,
            mine: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut members = self.sharing.members();
        let mut seats = self.sharing.seats();
        loop {
            let pause = match self.mine.take() {
                Some(mine) => self.hold(mine).await,
                None => self.follow().await,
            };
            let follows = self.mine.is_none();
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                // A Lease that is given back is taken at once.
                () = changed(&mut self.watch) => {}
                Ok(()) = members.changed(), if follows => {}
                Ok(()) = seats.changed(), if self.full => {}
            }
        }
        if let Some(mine) = self.mine.take() {
            self.give_back(mine).await;
        }
    }

    // --- while another holds it

    /// Looks at the Lease and takes it in its turn; says how long to pause.
    async fn follow(&mut self) -> Duration {
        self.full = false;
        let stop = self.stop.clone();
        let (lease, watched) = tokio::select! {
            biased;
            // A cluster that does not answer must not hold up the end of the process.
            () = stop.cancelled() => return Duration::ZERO,
            looked = self.look() => match looked {
                Ok(looked) => looked,
                Err(error) => return self.refused(&error),
            },
        };
        let turn = self.sharing.turn(self.cluster.name());
        let holder = lease.as_deref().and_then(holder);
        let own = holder == Some(self.sharing.identity());
        let foreign = holder.filter(|_| !own).map(str::to_owned);
        let lasts = match (&lease, &foreign) {
            (Some(lease), Some(_)) => duration(lease),
            _ => Duration::ZERO,
        };
        let since = self.since(lease.as_deref());
        let due = if own {
            since
        } else {
            self.due(since + lasts, turn)
        };
        let now = Instant::now();
        if turn == Turn::Wait && !own {
            self.tell(Standing::Follower { holder: foreign });
            return LOOK;
        }
        if now < due {
            let asks = match (&lease, &foreign) {
                (Some(lease), Some(_)) => self.ask(lease, turn).await,
                _ => None,
            };
            self.refusals = 0;
            self.tell(Standing::Follower { holder: foreign });
            let next = asks.map_or(due, |at| at.min(due));
            let pause = next.saturating_duration_since(Instant::now());
            return if watched { pause } else { pause.min(LOOK) };
        }
        let lease = if foreign.is_some() && watched {
            // A watch that hangs shows an old Lease.
            match self.read().await {
                Ok(Some(read)) if Some(&read["spec"]) == lease.as_ref().map(|l| &l["spec"]) => {
                    Some(read)
                }
                Ok(_) => return Duration::ZERO,
                Err(error) => return self.refused(&error),
            }
        } else {
            lease
        };
        self.take(lease, foreign.is_some(), turn).await
    }

    /// The Lease as the watch shows it, or read where that does not work; and whether the watch works.
    async fn look(&mut self) -> Result<(Option<Object>, bool), Error> {
        let (cluster, of) = (&self.cluster, &self.of);
        let (watched, changes) = self.watch.get_or_insert_with(|| {
            let scope = Scope {
                namespace: Some(of.namespace.clone()),
                fields: Some(format!("metadata.name={}", of.name)),
                ..Scope::default()
            };
            let watched = cluster.watch(&LEASE, scope);
            let changes = watched.subscribe();
            (watched, changes)
        });
        let settled = tokio::time::timeout(CALL, watched.settled()).await;
        changes.mark_unchanged();
        if settled == Ok(Ok(())) && watched.health().is_none() {
            return Ok((watched.get(&of.namespace, &of.name), true));
        }
        Ok((self.read().await?, false))
    }

    /// The Lease, read now; the watch knows it from then on.
    async fn read(&self) -> Result<Option<Object>, Error> {
        let lease = tokio::time::timeout(CALL, self.cluster.get(&self.of));
        let lease = match lease.await {
            Ok(lease) => lease?,
            Err(_) => return Err(self.cluster.error("get", &self.of, Cause::Timeout(CALL))),
        };
        if let (Some(lease), Some((watched, _))) = (&lease, &self.watch) {
            watched.put(lease);
        }
        Ok(lease)
    }

    /// Since when the Lease (or its lack) has been seen as it is.
    fn since(&mut self, lease: Option<&Value>) -> Instant {
        let spec = lease.map_or(&Value::Null, |lease| &lease["spec"]);
        match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            Some(_) | None => {
                let now = Instant::now();
                self.seen = Some((spec.clone(), now));
                now
            }
        }
    }

    /// When the Lease may be taken that is free from `free` on.
    fn due(&self, free: Instant, turn: Turn) -> Instant {
        let due = free + turn.delay();
        self.given.map_or(due, |given| due.max(given + COURTESY))
    }

    /// Asks the holder for the Lease that should be ours; says when, if that is later.
    async fn ask(&mut self, lease: &Object, turn: Turn) -> Option<Instant> {
        if turn != Turn::Rank(0) || asked_by(lease) == Some(self.sharing.identity()) {
            self.asks = None;
            return None;
        }
        let at = *self.asks.get_or_insert_with(|| self.sharing.reserve());
        if Instant::now() < at {
            return Some(at);
        }
        self.asks = None;
        let asking = object::asked(lease, self.sharing.identity());
        match self.cluster.replace(&self.of, &asking, CALL).await {
            Ok(lease) => {
                tracing::info!(cluster.name = %self.cluster.name(), "this process asks for the cluster, which is its share");
                if let Some((watched, _)) = &self.watch {
                    watched.put(&lease);
                }
                None
            }
            // The holder has just renewed it, or it cannot be written from here: later again.
            Err(error) => {
                tracing::debug!(cluster.name = %self.cluster.name(), error = error.report(), "the Lease could not be asked for");
                Some(*self.asks.insert(self.sharing.reserve()))
            }
        }
    }

    /// Takes the Lease as it was seen, or makes it.
    async fn take(&mut self, lease: Option<Object>, expired: bool, turn: Turn) -> Duration {
        let Some(place) = self.sharing.seat(turn) else {
            self.full = true;
            self.tell(Standing::Refused(format!(
                "this process leads its {} clusters already (--lead-at-most): start another replica, or raise the number",
                self.sharing.most()
            )));
            return LONGEST_LOOK;
        };
        let sent = Instant::now();
        let (made, taken) = match &lease {
            None => {
                // A Lease that was deleted and made again must not repeat an epoch that writes on their way still carry.
                let first = (self.clock.now().0 / 1_000 - TRANSITIONS_FROM).max(1);
                let new = self.lease(&Value::Null, Change::Taken(first));
                (self.cluster.post(&self.of, &new, CALL).await, Taken::New)
            }
            Some(lease) => {
                let ours = self.lease(lease, Change::Taken(transitions(lease) + 1));
                let taken = match asked_by(lease) {
                    _ if expired => Taken::Expired,
                    Some(asker) if asker == self.sharing.identity() => Taken::Asked,
                    Some(_) | None => Taken::Free,
                };
                (self.cluster.replace(&self.of, &ours, CALL).await, taken)
            }
        };
        match made {
            Ok(lease) => {
                let epoch = transitions(&lease).to_string();
                let writes = self.sharing.dry_run() != Some(DryRun::Observe);
                let held = Held::new(epoch, (taken, writes), sent);
                tracing::info!(cluster.name = %self.cluster.name(), epoch = held.epoch(), lease = taken.word(), "this process leads the cluster");
                (self.seen, self.asks, self.given, self.watch) = (None, None, None, None);
                self.refusals = 0;
                self.mine = Some(Mine {
                    held: held.clone(),
                    lease,
                    since: Instant::now(),
                    _seat: place,
                });
                self.tell(Standing::Held(held));
                // Not all the Leases of one process in the same moment.
                RENEW / 5 + self.odd(RENEW * 4 / 5)
            }
            // Somebody was faster: look again.
            Err(error)
                if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) =>
            {
                // Read it now: the watch may not have shown it yet.
                if let Err(error) = self.read().await {
                    return self.refused(&error);
                }
                Duration::ZERO
            }
            Err(error) => self.refused(&error),
        }
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
                "{}; allow get, list, watch, create and update of leases.coordination.k8s.io in namespace {namespace} with: kubectl --context {} apply -k deploy/kustomize/rights",
                error.report(),
                self.cluster.name()
            ),
            ErrorKind::Conflict
            | ErrorKind::AlreadyExists
            | ErrorKind::LeaseLost
            | ErrorKind::Unreachable
            | ErrorKind::Unconfirmed
            | ErrorKind::Rejected => error.report(),
        };
        self.tell(Standing::Refused(text));
        let pause = (LOOK * (1 << self.refusals.min(3))).min(LONGEST_LOOK);
        self.refusals += 1;
        pause * 3 / 4 + self.odd(pause / 4)
    }

    // --- while we hold it

    /// Gives the Lease to who asks for it and should have it, or else renews it; says how long to pause.
    async fn hold(&mut self, mine: Mine) -> Duration {
        let settled = mine.held.taken() != Taken::Asked || mine.since.elapsed() >= SETTLED;
        if let Some(asker) = asked_by(&mine.lease)
            && settled
            && self.sharing.yields(self.cluster.name(), asker)
        {
            tracing::info!(cluster.name = %self.cluster.name(), asker, "this process gives the cluster to the one whose share it is");
            self.give_back(mine).await;
            self.given = Some(Instant::now());
            return Duration::ZERO;
        }
        self.renew(mine).await
    }

    async fn renew(&mut self, mut mine: Mine) -> Duration {
        let sent = Instant::now();
        let renewed = self.lease(&mine.lease, Change::Renewed);
        match self.cluster.replace(&self.of, &renewed, CALL).await {
            Ok(lease) => {
                mine.held.set(Some(sent));
                mine.lease = lease;
                self.mine = Some(mine);
                RENEW
            }
            Err(error) if error.kind() == ErrorKind::Conflict => self.after_conflict(mine).await,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.lose(&mine.held, "the Lease was deleted");
                RETRY
            }
            Err(error) if mine.held.is_fresh() => {
                tracing::warn!(cluster.name = %self.cluster.name(), error = error.report(), "the Lease could not be renewed yet");
                self.mine = Some(mine);
                RETRY
            }
            Err(error) => {
                self.lose(&mine.held, &error.report());
                RETRY
            }
        }
    }

    /// Somebody wrote to our Lease: who asks for it and a label do not end us, another holder does. (Or our last renewal landed and its
    /// answer was lost.)
    async fn after_conflict(&mut self, mut mine: Mine) -> Duration {
        match self.read().await {
            Ok(Some(now)) if self.is_ours(&now, &mine) && mine.held.is_fresh() => {
                mine.lease = now;
                self.mine = Some(mine);
                Duration::ZERO
            }
            Err(error) if mine.held.is_fresh() => {
                tracing::warn!(cluster.name = %self.cluster.name(), error = error.report(), "the Lease could not be read");
                self.mine = Some(mine);
                RETRY
            }
            Ok(_) | Err(_) => {
                self.lose(&mine.held, "another process has taken the Lease");
                RETRY
            }
        }
    }

    fn is_ours(&self, lease: &Value, mine: &Mine) -> bool {
        holder(lease) == Some(self.sharing.identity())
            && transitions(lease) == transitions(&mine.lease)
    }

    fn lose(&mut self, held: &Held, why: &str) {
        held.set(None);
        tracing::warn!(cluster.name = %self.cluster.name(), why, "this process does not lead the cluster any more");
        self.tell(Standing::Follower { holder: None });
    }

    /// Lets the writes in hand end and gives the Lease back. If that fails it expires by itself.
    async fn give_back(&mut self, mut mine: Mine) {
        mine.held.close().await;
        self.tell(Standing::Follower { holder: None });
        for attempt in 1.. {
            let free = self.lease(&mine.lease, Change::GivenBack);
            let error = match self.cluster.replace(&self.of, &free, CALL).await {
                Ok(lease) => {
                    if let Some((watched, _)) = &self.watch {
                        watched.put(&lease);
                    }
                    return;
                }
                Err(error) => error,
            };
            // Somebody has just asked for it.
            if error.kind() == ErrorKind::Conflict
                && attempt < GIVE_BACK
                && let Ok(Some(now)) = self.read().await
                && self.is_ours(&now, &mine)
            {
                mine.lease = now;
                continue;
            }
            tracing::warn!(cluster.name = %self.cluster.name(), error = error.report(), "the Lease could not be given back, it expires by itself");
            return;
        }
    }

    // --- both

    /// `from` (or a new Lease) as we write it.
    fn lease(&self, from: &Value, change: Change) -> Value {
        let identity = self.sharing.identity();
        let lease = object::lease(&self.of, from, identity, self.clock.now(), change);
        object::marked(lease, self.sharing.dry_run())
    }

    /// Some time below `most`, another one for each process and cluster, always the same.
    fn odd(&self, most: Duration) -> Duration {
        let share = rendezvous::hash(&[self.cluster.name(), self.sharing.identity()]) % 1_000;
        most * u32::try_from(share).unwrap_or(0) / 1_000
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
}

/// Returns when the watch, if there is one, has something new.
async fn changed(watch: &mut Option<(Watched, watch::Receiver<u64>)>) {
    if let Some((_, changes)) = watch
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
