//! What the Leases of one process have in common: whose turn it is at which cluster, how many it may lead, and how fast it asks for more.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::rendezvous;
use crate::api::dry_run::DryRun;

/// Between two Leases that one process asks their holders for: two hundred clusters move within minutes, and no API server sees a herd.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// At most so much is added to it, so that several who begin together do not stay in step.
const ASK_JITTER: u64 = 250;
/// By how much one rank waits longer than the one before it.
const RANK: Duration = Duration::from_secs(1);
/// Nobody waits longer than this for those before it.
const MOST_RANKS: u32 = 10;

/// The replicas of the engine, as far as this one can tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Members {
    /// There is no home cluster to see them in.
    #[default]
    NoHome,
    /// This process has just joined and has not seen the others yet.
    Joining,
    /// The home cluster does not show them, for this reason.
    Unknown(String),
    /// Those that are alive, this process among them.
    Live(BTreeSet<String>),
}

/// When a process may take a Lease that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not yet: who else is there will be known in a moment.
    Wait,
    /// Whoever comes first.
    Anybody,
    /// After so many others.
    Rank(u32),
}

impl Turn {
    /// How long the ones before it are given.
    pub(super) fn delay(self) -> Duration {
        match self {
            Self::Wait | Self::Anybody => Duration::ZERO,
            Self::Rank(rank) => RANK * rank.min(MOST_RANKS),
        }
    }
}

/// What the Leases of one process have in common. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Sharing {
    identity: Arc<str>,
    /// What this process leaves out of what it decides.
    dry_run: Option<DryRun>,
    members: watch::Receiver<Members>,
    seats: Seats,
    /// When the next Lease may be asked for, and how many were.
    pace: Arc<Mutex<(Instant, u64)>>,
}

/// How many clusters are led, and how many may be.
#[derive(Clone)]
struct Seats {
    taken: watch::Sender<usize>,
    most: usize,
}

/// One cluster that is led; no longer when dropped.
pub(super) struct Seat(watch::Sender<usize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.send_modify(|taken| *taken = taken.saturating_sub(1));
    }
}

impl Sharing {
    /// For the process of this identity, which leads at most so many clusters where it cannot see the others.
    #[must_use]
    pub fn new(identity: &str, members: watch::Receiver<Members>, most: usize) -> Self {
        Self {
            identity: identity.into(),
            dry_run: None,
            members,
            seats: Seats {
                taken: watch::Sender::new(0),
                most,
            },
            pace: Arc::new(Mutex::new((Instant::now(), 0))),
        }
    }

    /// The same for a process in a dry run: its Leases say so, and one that only observes may write nothing by them.
    #[must_use]
    pub fn in_dry_run(self, dry_run: Option<DryRun>) -> Self {
        Self { dry_run, ..self }
    }

    /// For a process that neither sees nor minds others.
    #[must_use]
    pub fn alone(identity: &str) -> Self {
        // The value of a channel whose sender is gone stays.
        Self::new(identity, watch::channel(Members::NoHome).1, usize::MAX)
    }

    pub(super) fn dry_run(&self) -> Option<DryRun> {
        self.dry_run
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    pub(super) fn most(&self) -> usize {
        self.seats.most
    }

    /// Whose turn a cluster is.
    pub(super) fn turn(&self, cluster: &str) -> Turn {
        match &*self.members.borrow() {
            Members::NoHome | Members::Unknown(_) => Turn::Anybody,
            Members::Joining => Turn::Wait,
            Members::Live(live) => {
                rendezvous::rank(live, cluster, &self.identity).map_or(Turn::Anybody, Turn::Rank)
            }
        }
    }

    /// Whether the holder of a cluster's Lease gives it to who asks for it. Both must agree on whose it is, or it would go to and fro. Who
    /// cannot see the others takes the asker's word: it lives, and it reaches the cluster.
    pub(super) fn yields(&self, cluster: &str, asker: &str) -> bool {
        asker != &*self.identity
            && match &*self.members.borrow() {
                Members::Live(live) => rendezvous::first(live, cluster) == Some(asker),
                Members::NoHome | Members::Joining | Members::Unknown(_) => true,
            }
    }

    /// A seat for one more cluster, if there is one. Who sees the others is bound by its share and not by the number.
    pub(super) fn seat(&self, turn: Turn) -> Option<Seat> {
        let bound = match turn {
            Turn::Wait | Turn::Anybody => self.seats.most,
            Turn::Rank(_) => usize::MAX,
        };
        let free = self.seats.taken.send_if_modified(|taken| {
            let free = *taken < bound;
            *taken += usize::from(free);
            free
        });
        free.then(|| Seat(self.seats.taken.clone()))
    }

    /// When one more Lease may be asked for; the moment is then taken.
    pub(super) fn reserve(&self) -> Instant {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, count) = *pace;
        let odd = rendezvous::hash(&[&self.identity, &count.to_string()]) % ASK_JITTER;
        let at = next.max(Instant::now());
        *pace = (at + ASK_EVERY + Duration::from_millis(odd), count + 1);
        at
    }

    /// Follows what `turn` depends on.
    pub(super) fn members(&self) -> watch::Receiver<Members> {
        self.members.clone()
    }

    /// Follows how many clusters are led.
    pub(super) fn seats(&self) -> watch::Receiver<usize> {
        self.seats.taken.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(names: &[&str]) -> Members {
        Members::Live(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn whose_turn_it_is_follows_from_who_is_seen() {
        let (members, seen) = watch::channel(Members::Joining);
        let sharing = Sharing::new("b", seen, 1);
        // The order of a, b and c for prod-kr is a, c, b.
        for (now, turn, to_a, to_c) in [
            (Members::Joining, Turn::Wait, true, true),
            (Members::NoHome, Turn::Anybody, true, true),
            (Members::Unknown("lost".into()), Turn::Anybody, true, true),
            (live(&["b"]), Turn::Rank(0), false, false),
            (live(&["b", "c"]), Turn::Rank(1), false, true),
            (live(&["a", "b", "c"]), Turn::Rank(2), true, false),
        ] {
            members.send_replace(now.clone());
            assert_eq!(sharing.turn("prod-kr"), turn, "{now:?}");
            assert_eq!(sharing.yields("prod-kr", "a"), to_a, "{now:?}");
            assert_eq!(sharing.yields("prod-kr", "c"), to_c, "{now:?}");
            assert!(!sharing.yields("prod-kr", "b"));
        }
        assert_eq!(Turn::Rank(0).delay(), Duration::ZERO);
        assert_eq!(Turn::Rank(2).delay(), Duration::from_secs(2));
        assert_eq!(Turn::Rank(1_000).delay(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_see_the_others_leads_only_so_many() {
        let sharing = Sharing::new("a", watch::channel(Members::NoHome).1, 2);
        let seats = [sharing.seat(Turn::Anybody), sharing.seat(Turn::Anybody)];
        assert!(seats.iter().all(Option::is_some));
        assert!(sharing.seat(Turn::Anybody).is_none());
        // Its share is its share, however many there are; and it counts.
        let third = sharing.seat(Turn::Rank(0));
        assert!(third.is_some());
        drop(seats);
        assert_eq!(*sharing.seats().borrow(), 1);
        assert!(sharing.seat(Turn::Anybody).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_for_more_than_one_in_a_second() {
        let sharing = Sharing::alone("a");
        let began = Instant::now();
        let asked: Vec<Duration> = (0..10).map(|_| sharing.reserve() - began).collect();
        assert_eq!(asked[0], Duration::ZERO);
        for pair in asked.windows(2) {
            let gap = pair[1].saturating_sub(pair[0]).as_millis();
            assert!((1_000..1_250).contains(&gap), "{asked:?}");
        }
        // A pause saves nothing up.
        tokio::time::advance(Duration::from_secs(60)).await;
        let later = [sharing.reserve(), sharing.reserve()];
        assert_eq!(later[0] - began, Duration::from_secs(60));
        assert!(later[1] - later[0] >= Duration::from_secs(1));
    }
}
