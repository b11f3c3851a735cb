//! [`Slots`]: how many runs of a cluster go on at the same time (`--max-concurrent`, `--max-concurrent-per-namespace`), and whose turn is
//! next.
//!
//! Who waits is served in the order in which the runs began. A namespace that is full holds up nobody of another one. What is recorded
//! decides: a run that is under way has its slot, also above a limit that was lowered meanwhile, and whoever takes over a cluster learns of
//! all of them before anybody's turn comes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::rollout::Rollout;
use crate::decide::{
    facts::{Moment, Slot},
    plan::Plan,
    state::{self, Stage, State, WaitFor},
};

/// Runs at the same time, at most; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// In a cluster.
    pub cluster: Option<u32>,
    /// In each of its namespaces.
    pub namespace: Option<u32>,
}

impl Limits {
    /// As the flags say them, where 0 is without limit.
    #[must_use]
    pub fn of(cluster: u32, namespace: u32) -> Self {
        Self {
            cluster: Self::most(cluster),
            namespace: Self::most(namespace),
        }
    }

    pub(super) fn most(flag: u32) -> Option<u32> {
        (flag > 0).then_some(flag)
    }

    fn are_none(self) -> bool {
        self == Self::default()
    }
}

/// Namespace and name of a Canary.
type Key = (String, String);

/// Which limit holds a run up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Cluster,
    Namespace,
}

/// Whether a run may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is a slot for it.
    Free,
    /// It waits.
    Held {
        /// What is full.
        scope: Scope,
        /// Runs that go on there.
        running: u32,
        /// As many as may.
        limit: u32,
        /// Its place among those that wait for the same, from 1.
        place: u32,
    },
}

/// What is recorded of a run, as far as it matters here: [`Recorded::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// It is under way, and has a slot.
    Running,
    /// It waits for one since this moment.
    Waiting(Moment),
    /// There is none, or it waits for something else.
    None,
}

impl Recorded {
    /// One that is suspended before it begins lets the others go first.
    pub(super) fn of(plan: &Plan, state: &State) -> Self {
        let recorded = Self::of_state(state);
        if plan.suspend && matches!(recorded, Self::Waiting(_)) {
            Self::None
        } else {
            recorded
        }
    }

    pub(super) fn of_state(state: &State) -> Self {
        let run = state.run.as_ref().filter(|_| state.phase.running());
        let Some(run) = run else {
            return Self::None;
        };
        let waiting = run.waiting.as_ref();
        let queues = waiting.is_some_and(|waiting| waiting.what == WaitFor::Queue);
        match (state.stage, queues) {
            (Stage::Waiting, true) => Self::Waiting(run.started_at),
            (Stage::Waiting, false) => Self::None,
            (_, _) => Self::Running,
        }
    }
}

/// The slots of one cluster, for one term of whoever leads it. Without a limit it remembers nothing.
pub(super) struct Slots {
    limits: Limits,
    /// Those that are under way or wait.
    runs: Mutex<BTreeMap<Key, Run>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Running,
    Waiting(Moment),
}

impl Slots {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            runs: Mutex::default(),
        }
    }

    /// What is recorded of this Canary's run. Those whose turn has come by it.
    pub(super) fn note(&self, key: &Key, recorded: Recorded) -> Vec<Key> {
        if self.limits.are_none() {
            return Vec::new();
        }
        let mut runs = self.lock();
        let run = match recorded {
            Recorded::Running => Some(Run::Running),
            Recorded::Waiting(since) => Some(Run::Waiting(since)),
            Recorded::None => None,
        };
        let old = match run {
            Some(run) => runs.insert(key.clone(), run),
            None => runs.remove(key),
        };
        if old == run || old.is_none() {
            return Vec::new();
        }
        let turns = Turns::of(&runs, self.limits);
        let next = turns.standings.into_iter();
        next.filter(|(_, standing)| *standing == Standing::Free)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// What the machine has to know of this Canary's run: one that waits and whose turn it is has its slot from here on: of two that ask at
    /// the same time only one gets it.
    fn slot(&self, key: &Key, recorded: Recorded) -> Slot {
        if self.limits.are_none() {
            return Slot::Unlimited;
        }
        let Recorded::Waiting(since) = recorded else {
            return Slot::Held;
        };
        let mut runs = self.lock();
        match standing(&runs, self.limits, key, since) {
            Standing::Free => {
                runs.insert(key.clone(), Run::Running);
                Slot::Held
            }
            Standing::Held {
                scope,
                running,
                limit,
                place,
            } => Slot::Queued(state::Queue {
                place,
                running,
                limit: match scope {
                    Scope::Cluster => format!("{limit} in the cluster"),
                    Scope::Namespace => format!("{limit} in the namespace"),
                },
            }),
        }
    }

    /// Its turn has come, while it waits.
    fn is_next(&self, key: &Key, recorded: Recorded) -> bool {
        match recorded {
            Recorded::Waiting(since) => {
                let runs = self.lock();
                let waits = matches!(runs.get(key), Some(Run::Waiting(_)));
                waits && standing(&runs, self.limits, key, since) == Standing::Free
            }
            Recorded::Running | Recorded::None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One Canary among the others.
pub(super) struct Queue {
    slots: Arc<Slots>,
    key: Key,
    recorded: Recorded,
}

impl Queue {
    pub(super) fn new(slots: Arc<Slots>, key: Key) -> Self {
        Self {
            slots,
            key,
            recorded: Recorded::None,
        }
    }

    /// What is recorded of its run now; those whose turn has come by it.
    pub(super) fn stands(&mut self, recorded: Recorded) -> Vec<Key> {
        self.recorded = recorded;
        self.slots.note(&self.key, recorded)
    }

    /// For the machine, by what is recorded.
    pub(super) fn slot(&self) -> Slot {
        self.slots.slot(&self.key, self.recorded)
    }

    /// It waits, and its turn has come.
    pub(super) fn has_moved(&self) -> bool {
        self.slots.is_next(&self.key, self.recorded)
    }
}

impl Rollout {
    /// What is recorded of the run now: whose turn comes by it is woken.
    pub(super) fn stands(&mut self, recorded: Recorded) {
        let world = self.ctx.near.enrolled().world();
        for (namespace, name) in self.queue.stands(recorded) {
            world.wake(&namespace, &name);
        }
    }
}

/// Where a run of this Canary stands that waits since this moment, whether it is known to wait or not.
fn standing(runs: &BTreeMap<Key, Run>, limits: Limits, key: &Key, since: Moment) -> Standing {
    if runs.get(key) == Some(&Run::Running) {
        return Standing::Free;
    }
    let mut asked = runs.clone();
    asked.insert(key.clone(), Run::Waiting(since));
    let turns = Turns::of(&asked, limits);
    let found = turns.standings.into_iter().find(|(of, _)| *of == key);
    found.map_or(Standing::Free, |(_, standing)| standing)
}

/// Whose turn it is.
struct Turns<'a> {
    /// Of those that wait, in their order.
    standings: Vec<(&'a Key, Standing)>,
}

impl<'a> Turns<'a> {
    /// Gives the free slots away in the order of those that wait.
    fn of(runs: &'a BTreeMap<Key, Run>, limits: Limits) -> Self {
        let mut all = Full::new(limits.cluster);
        let mut each: BTreeMap<&str, Full> = BTreeMap::new();
        let mut waiting: Vec<(Moment, &Key)> = Vec::new();
        for (key, run) in runs {
            match run {
                Run::Waiting(since) => waiting.push((*since, key)),
                Run::Running => {
                    all.running += 1;
                    let namespace = each.entry(&key.0);
                    namespace.or_insert(Full::new(limits.namespace)).running += 1;
                }
            }
        }
        waiting.sort_unstable();
        let give = |(_, key): (Moment, &'a Key)| {
            let namespace = each.entry(&key.0).or_insert(Full::new(limits.namespace));
            let held = namespace
                .hold(Scope::Namespace)
                .or_else(|| all.hold(Scope::Cluster));
            if held.is_none() {
                namespace.given += 1;
                all.given += 1;
            }
            (key, held.unwrap_or(Standing::Free))
        };
        Self {
            standings: waiting.into_iter().map(give).collect(),
        }
    }
}

/// How full a cluster or a namespace is.
#[derive(Clone, Copy)]
struct Full {
    limit: Option<u32>,
    running: u32,
    /// Slots that go to those whose turn it is.
    given: u32,
    /// Those that wait.
    waiting: u32,
}

impl Full {
    fn new(limit: Option<u32>) -> Self {
        Self {
            limit,
            running: 0,
            given: 0,
            waiting: 0,
        }
    }

    /// One more waits here, unless there is a slot.
    fn hold(&mut self, scope: Scope) -> Option<Standing> {
        let limit = self.limit.filter(|l| self.running + self.given >= *l)?;
        self.waiting += 1;
        Some(Standing::Held {
            scope,
            running: self.running,
            limit,
            // Those whose turn it is and who have not begun yet are before it.
            place: self.given + self.waiting,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        let (namespace, name) = name.split_once('/').unwrap();
        (namespace.to_owned(), name.to_owned())
    }

    fn slots(cluster: Option<u32>, namespace: Option<u32>, rows: &[(&str, Recorded)]) -> Slots {
        let slots = Slots::new(Limits { cluster, namespace });
        for (name, recorded) in rows {
            slots.note(&key(name), *recorded);
        }
        slots
    }

    fn held(scope: Scope, running: u32, limit: u32, place: u32) -> Standing {
        Standing::Held {
            scope,
            running,
            limit,
            place,
        }
    }

    use Recorded::{None as Nothing, Running, Waiting};
    use Scope::{Cluster, Namespace};

    fn stands(slots: &Slots, key: &Key, since: Moment) -> Standing {
        standing(&slots.lock(), slots.limits, key, since)
    }

    /// Since `n`.
    fn waits(n: i64) -> Recorded {
        Waiting(Moment(n))
    }

    #[test]
    fn who_waits_is_served_in_the_order_in_which_the_runs_began() {
        let rows = [
            ("a/1", Running),
            ("a/2", waits(30)),
            ("b/1", waits(10)),
            ("b/2", waits(20)),
            ("b/0", waits(20)),
        ];
        let slots = slots(Some(2), None, &rows);
        let standings = [
            ("b/1", 10, Standing::Free),
            ("b/0", 20, held(Cluster, 1, 2, 2)),
            ("b/2", 20, held(Cluster, 1, 2, 3)),
            ("a/2", 30, held(Cluster, 1, 2, 4)),
            // One that nobody knew of yet.
            ("c/1", 5, Standing::Free),
            ("c/1", 25, held(Cluster, 1, 2, 4)),
            // One that is under way.
            ("a/1", 0, Standing::Free),
        ];
        for (name, since, expected) in standings {
            let standing = stands(&slots, &key(name), Moment(since));
            assert_eq!(standing, expected, "{name} since {since}");
        }
    }

    #[test]
    fn a_slot_is_taken_once_and_its_end_wakes_the_next_one_alone() {
        let rows = [("a/1", Running), ("a/2", waits(2)), ("a/3", waits(3))];
        let slots = slots(Some(1), None, &rows);
        let queued = |place, limit: &str| {
            Slot::Queued(state::Queue {
                place,
                running: 1,
                limit: limit.to_owned(),
            })
        };
        let slot = |name: &str, since| slots.slot(&key(name), waits(since));
        assert_eq!(slot("a/2", 2), queued(1, "1 in the cluster"));
        assert_eq!(slots.note(&key("a/1"), Nothing), [key("a/2")]);
        assert!(slots.is_next(&key("a/2"), waits(2)));
        assert!(!slots.is_next(&key("a/3"), waits(3)));
        assert_eq!(slot("a/2", 2), Slot::Held);
        assert_eq!(slot("a/3", 3), queued(1, "1 in the cluster"));
        let standing = stands(&slots, &key("a/3"), Moment(3));
        assert_eq!(standing, held(Cluster, 1, 1, 1));
        // What is recorded then is what was taken.
        assert_eq!(slots.note(&key("a/2"), Running), []);
        // It could not be recorded: it waits again, and is the first.
        assert_eq!(slots.note(&key("a/2"), waits(2)), [key("a/2")]);
        assert_eq!(slots.note(&key("a/2"), Nothing), [key("a/3")]);
        assert_eq!(slots.note(&key("a/3"), Nothing), []);
    }

    #[test]
    fn a_full_namespace_holds_up_nobody_of_another_one() {
        let rows = [
            ("a/1", Running),
            ("a/2", waits(1)),
            ("a/3", waits(2)),
            ("b/1", waits(3)),
            ("b/2", waits(4)),
            ("c/1", waits(5)),
        ];
        let slots = slots(Some(2), Some(1), &rows);
        let standings = [
            ("a/2", 1, held(Namespace, 1, 1, 1)),
            ("a/3", 2, held(Namespace, 1, 1, 2)),
            ("b/1", 3, Standing::Free),
            ("b/2", 4, held(Namespace, 0, 1, 2)),
            ("c/1", 5, held(Cluster, 1, 2, 2)),
        ];
        for (name, since, expected) in standings {
            let standing = stands(&slots, &key(name), Moment(since));
            assert_eq!(standing, expected, "{name} since {since}");
        }
        assert_eq!(slots.slot(&key("b/1"), waits(3)), Slot::Held);
        // The one that has waited longest is first again.
        assert_eq!(slots.note(&key("a/1"), Nothing), [key("a/2")]);
    }

    #[test]
    fn runs_beyond_the_limit_keep_their_slots_and_nobody_follows_before_they_are_fewer() {
        let rows = [
            ("a/1", Running),
            ("a/2", Running),
            ("a/3", Running),
            ("a/4", waits(1)),
        ];
        let slots = slots(Some(2), None, &rows);
        assert_eq!(stands(&slots, &key("a/3"), Moment(0)), Standing::Free);
        let standing = stands(&slots, &key("a/4"), Moment(1));
        assert_eq!(standing, held(Cluster, 3, 2, 1));
        assert_eq!(slots.note(&key("a/1"), Nothing), []);
        assert_eq!(slots.note(&key("a/2"), Nothing), [key("a/4")]);
    }

    #[test]
    fn without_a_limit_everybody_goes_on_and_nothing_is_remembered() {
        let slots = slots(None, None, &[("a/1", Running), ("a/2", Running)]);
        assert_eq!(slots.slot(&key("a/3"), waits(3)), Slot::Unlimited);
        assert_eq!(slots.note(&key("a/1"), Nothing), []);
        assert!(slots.lock().is_empty());
    }
}
