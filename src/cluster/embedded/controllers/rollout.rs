//! How many replicas each `ReplicaSet` of a Deployment may have: the arithmetic of `RollingUpdate` and `Recreate`, pure.

use serde_json::Value;

use crate::api::objects::ObjectExt;

/// What a Deployment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) replicas: i64,
    pub(super) max_surge: i64,
    pub(super) max_unavailable: i64,
    pub(super) recreate: bool,
    pub(super) paused: bool,
}

/// One `ReplicaSet`, as far as a rollout looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Set {
    /// `spec.replicas`.
    pub(super) spec: i64,
    /// Pods that are there.
    pub(super) actual: i64,
    /// Pods that are available.
    pub(super) available: i64,
}

impl Wanted {
    pub(super) fn of(deployment: &Value) -> Self {
        let spec = &deployment["spec"];
        let replicas = spec["replicas"].as_i64().unwrap_or(1);
        let rolling = &spec["strategy"]["rollingUpdate"];
        let max_surge = int_or_percent(&rolling["maxSurge"], replicas, true);
        let max_unavailable = int_or_percent(&rolling["maxUnavailable"], replicas, false);
        Self {
            replicas,
            max_surge,
            // Both zero could never move: Kubernetes then lets one pod be missing.
            max_unavailable: if max_surge == 0 && max_unavailable == 0 {
                1
            } else {
                max_unavailable
            },
            recreate: spec.str_at("/strategy/type") == Some("Recreate"),
            paused: spec["paused"].as_bool().unwrap_or(false),
        }
    }

    /// Pods that have to be available at any moment.
    pub(super) fn min_available(&self) -> i64 {
        if self.recreate {
            0
        } else {
            (self.replicas - self.max_unavailable).max(0)
        }
    }

    /// The next size of the current `ReplicaSet`.
    pub(super) fn current(&self, current: Set, old: &[Set]) -> i64 {
        let others: i64 = old.iter().map(|s| s.spec).sum();
        if current.spec >= self.replicas || self.paused && others == 0 {
            return self.replicas;
        }
        if self.paused {
            return current.spec;
        }
        if self.recreate {
            let gone = old.iter().all(|s| s.spec == 0 && s.actual == 0);
            return if gone { self.replicas } else { current.spec };
        }
        let room = self.replicas + self.max_surge - others - current.spec;
        current.spec + room.clamp(0, self.replicas - current.spec)
    }

    /// The next sizes of the old `ReplicaSets`, oldest first, given the current one.
    pub(super) fn old(&self, current: Set, old: &[Set]) -> Vec<i64> {
        let mut sizes: Vec<i64> = old.iter().map(|s| s.spec).collect();
        if self.paused {
            return sizes;
        }
        if self.recreate {
            return vec![0; sizes.len()];
        }
        let all: i64 = sizes.iter().sum::<i64>() + current.spec;
        let missing = (current.spec - current.available).max(0);
        let mut budget = all - self.min_available() - missing;
        // What is not available serves nobody: it goes first.
        for (size, set) in sizes.iter_mut().zip(old) {
            let down = (*size - set.available).clamp(0, budget.max(0));
            *size -= down;
            budget -= down;
        }
        let available: i64 = old.iter().map(|s| s.available).sum::<i64>() + current.available;
        let mut spare = (available - self.min_available()).min(budget).max(0);
        for size in &mut sizes {
            let down = (*size).clamp(0, spare);
            *size -= down;
            spare -= down;
        }
        sizes
    }
}

/// `intstr.IntOrString` of a rolling update; 25% when it is absent.
fn int_or_percent(value: &Value, total: i64, round_up: bool) -> i64 {
    if let Some(count) = value.as_i64() {
        return count.max(0);
    }
    let text = value.as_str().unwrap_or("25%");
    let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(25);
    // What nobody means must not overflow either.
    let hundredths = percent.clamp(0, i64::from(i32::MAX)) * total;
    if round_up {
        (hundredths + 99) / 100
    } else {
        hundredths / 100
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(spec: i64, available: i64) -> Set {
        Set {
            spec,
            actual: spec,
            available,
        }
    }

    fn wanted(replicas: i64, max_surge: i64, max_unavailable: i64) -> Wanted {
        Wanted {
            replicas,
            max_surge,
            max_unavailable,
            recreate: false,
            paused: false,
        }
    }

    #[test]
    fn percentages_round_as_kubernetes_rounds() {
        let deployment = |replicas: i64| json!({"spec": {"replicas": replicas}});
        for (replicas, surge, unavailable) in
            [(0, 0, 1), (1, 1, 0), (2, 1, 0), (4, 1, 1), (10, 3, 2)]
        {
            assert_eq!(
                Wanted::of(&deployment(replicas)),
                wanted(replicas, surge, unavailable),
                "{replicas}"
            );
        }
    }

    #[test]
    fn a_percentage_that_nobody_means_is_bounded() {
        let rolling = json!({"maxSurge": "9223372036854775807%", "maxUnavailable": 0});
        let deployment = json!({"spec": {"replicas": 2, "strategy": {"rollingUpdate": rolling}}});
        let wanted = Wanted::of(&deployment);
        assert_eq!(wanted.current(set(0, 0), &[set(2, 2)]), 2);
    }

    #[test]
    fn sizes_of_a_rolling_update() {
        // wanted, current, old -> size of the current set, sizes of the old ones
        for (name, wanted, current, old, expected) in [
            ("first", wanted(2, 1, 0), set(0, 0), vec![], (2, vec![])),
            (
                "surge",
                wanted(2, 1, 0),
                set(0, 0),
                vec![set(2, 2)],
                (1, vec![2]),
            ),
            (
                "wait",
                wanted(2, 1, 0),
                set(1, 0),
                vec![set(2, 2)],
                (1, vec![2]),
            ),
            (
                "down",
                wanted(2, 1, 0),
                set(1, 1),
                vec![set(2, 2)],
                (1, vec![1]),
            ),
            (
                "up",
                wanted(2, 1, 0),
                set(1, 1),
                vec![set(1, 1)],
                (2, vec![1]),
            ),
            (
                "end",
                wanted(2, 1, 0),
                set(2, 2),
                vec![set(1, 1)],
                (2, vec![0]),
            ),
            (
                "broken old goes first",
                wanted(2, 1, 0),
                set(1, 0),
                vec![set(1, 0), set(2, 2)],
                (1, vec![0, 2]),
            ),
            (
                "to zero",
                wanted(0, 0, 1),
                set(2, 2),
                vec![set(1, 1)],
                (0, vec![0]),
            ),
            ("shrink", wanted(1, 1, 0), set(3, 3), vec![], (1, vec![])),
        ] {
            let next = wanted.current(current, &old);
            assert_eq!((next, wanted.old(current, &old)), expected, "{name}");
        }
    }

    #[test]
    fn recreate_waits_for_the_old_pods_to_be_gone() {
        let wanted = Wanted {
            recreate: true,
            ..wanted(2, 1, 0)
        };
        assert_eq!(wanted.current(set(0, 0), &[set(2, 2)]), 0);
        assert_eq!(wanted.old(set(0, 0), &[set(2, 2)]), [0]);
        let leaving = Set {
            spec: 0,
            actual: 1,
            available: 0,
        };
        assert_eq!(wanted.current(set(0, 0), &[leaving]), 0);
        assert_eq!(wanted.current(set(0, 0), &[set(0, 0)]), 2);
    }
}
