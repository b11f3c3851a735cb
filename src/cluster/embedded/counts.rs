//! Requests counted by what became of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Requests counted since the cluster began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// Those that reached a Service without a ready endpoint: 503s that users saw.
    pub no_endpoint_503: u64,
    /// Those that no rule of a route took: 404s that users saw.
    pub no_route_404: u64,
    /// Those that the application failed with 500.
    pub application_500: u64,
    /// By name of the workload that answered.
    pub workloads: BTreeMap<String, u64>,
    /// By image that answered.
    pub images: BTreeMap<String, u64>,
    /// By class of the users who sent them, and name of the workload that answered.
    pub classes: BTreeMap<String, BTreeMap<String, u64>>,
    /// How often each user who keeps cookies, as `CLASS/NUMBER`, was answered by another image than the time before.
    pub switches: BTreeMap<String, u64>,
    /// Copies that a mirror made, by name of the workload that got them. No user saw the answers, and no other count knows of them.
    pub mirrored: BTreeMap<String, u64>,
}

impl Counts {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let nobody = BTreeMap::new();
        let classes = self.classes.iter().map(|(class, now)| {
            let then = earlier.classes.get(class).unwrap_or(&nobody);
            (class.clone(), less(now, then))
        });
        Self {
            total: self.total - earlier.total,
            no_endpoint_503: self.no_endpoint_503 - earlier.no_endpoint_503,
            no_route_404: self.no_route_404 - earlier.no_route_404,
            application_500: self.application_500 - earlier.application_500,
            workloads: less(&self.workloads, &earlier.workloads),
            images: less(&self.images, &earlier.images),
            classes: classes.filter(|(_, counts)| !counts.is_empty()).collect(),
            switches: less(&self.switches, &earlier.switches),
            mirrored: less(&self.mirrored, &earlier.mirrored),
        }
    }

    /// Percent of all requests that `workload` answered; 0 without any request.
    #[must_use]
    pub fn share(&self, workload: &str) -> f64 {
        percent(self.workloads.get(workload), self.total)
    }

    /// Percent of the answered requests of a class of users that `workload` answered; 0 without any.
    #[must_use]
    pub fn class_share(&self, class: &str, workload: &str) -> f64 {
        let of_class = self.classes.get(class);
        let total = of_class.map_or(0, |counts| counts.values().sum());
        percent(of_class.and_then(|counts| counts.get(workload)), total)
    }
}

fn less(now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    now.iter()
        .map(|(key, n)| (key.clone(), n - then.get(key).copied().unwrap_or(0)))
        .filter(|(_, n)| *n > 0)
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn percent(part: Option<&u64>, total: u64) -> f64 {
    part.copied().unwrap_or(0) as f64 * 100.0 / total.max(1) as f64
}

/// Counts that can be read while requests go on. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Arc<Mutex<Counts>>);

/// What one request got.
pub(super) struct Outcome<'a> {
    /// Workload and image that answered.
    pub(super) by: Option<(&'a str, &'a str)>,
    pub(super) code: u16,
    /// Of the user who sent it.
    pub(super) class: &'a str,
    /// The user, who got another version than the time before.
    pub(super) switched: Option<String>,
}

impl Tally {
    pub(super) fn read(&self) -> Counts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn add(&self, outcome: &Outcome<'_>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total += 1;
        let Some((workload, image)) = outcome.by else {
            if outcome.code == 404 {
                counts.no_route_404 += 1;
            } else {
                counts.no_endpoint_503 += 1;
            }
            return;
        };
        counts.application_500 += u64::from(outcome.code >= 500);
        bump(&mut counts.workloads, workload);
        bump(&mut counts.images, image);
        if let Some(class) = counts.classes.get_mut(outcome.class) {
            bump(class, workload);
        } else {
            let first = BTreeMap::from([(workload.to_owned(), 1)]);
            counts.classes.insert(outcome.class.to_owned(), first);
        }
        if let Some(user) = &outcome.switched {
            bump(&mut counts.switches, user);
        }
    }

    pub(super) fn add_mirrored(&self, workload: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bump(&mut counts.mirrored, workload);
    }
}

fn bump(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count += 1;
    } else {
        // Looked up by &str first: this runs for every request.
        counts.insert(key.to_owned(), 1);
    }
}
