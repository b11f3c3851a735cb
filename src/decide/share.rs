//! Whether the observed share of the requests is the written one: [`apart`].
//!
//! A mesh that does not split as the route says makes every check of a canary a check of something else: nothing reached it, or far more
//! than anybody wanted. The rule leaves room for what is no sign of that: few requests, a route that takes effect during the interval, and
//! clients with a habit of their own.

use super::{
    plan::{Plan, Strategy},
    state::{Apart, Evidence, State},
};

/// Fewer requests than this in an interval say nothing.
const LEAST: f64 = 100.0;
/// Percent points that are always allowed.
const SLACK: f64 = 2.0;
/// Part of the step, and of the smaller side of the split, that is allowed beside.
const PART: f64 = 0.25;
/// Standard deviations of a sample of that size that are allowed.
const DEVIATIONS: f64 = 4.0;
/// Intervals in a row, parted in which a step is held.
pub const HOLDS_AFTER: u32 = 2;

/// A weight says which share of the requests the canary should get: not one that only some users are sent to, or that keeps its users.
#[must_use]
pub fn told(plan: &Plan, state: &State) -> bool {
    let weighted = plan.strategy == Strategy::Canary && plan.affinity.is_none();
    weighted && state.traffic.canary() > 0
}

/// The shares part, unless there were too few requests to say so: whether it is worth asking how many there were. `before` is the weight
/// that the canary had when the interval began.
#[must_use]
pub fn suspicious(written: u8, before: u8, share: f64) -> bool {
    let (written, before) = (f64::from(written), f64::from(before));
    let smaller = written.min(100.0 - written);
    let allowed = SLACK + PART * (written - before).abs() + PART * smaller;
    (share - written).abs() > allowed
}

/// The observed share, of so many requests, is not the written one.
#[must_use]
pub fn apart(written: u8, before: u8, share: f64, requests: f64) -> bool {
    let p = f64::from(written) / 100.0;
    let deviation = 100.0 * (p * (1.0 - p) / requests.max(1.0)).sqrt();
    requests >= LEAST
        && suspicious(written, before, share)
        && (share - f64::from(written)).abs() > DEVIATIONS * deviation
}

/// The weight that the canary had when the interval began that ends now: the step before, until this one has been analysed once.
#[must_use]
pub fn before(evidence: &Evidence) -> u8 {
    match evidence.steps.as_slice() {
        [.., last] if last.verdict.is_some() => last.traffic.canary(),
        [.., before, _] => before.traffic.canary(),
        [_] | [] => 0,
    }
}

impl Apart {
    /// It has lasted long enough to hold the step.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.intervals >= HOLDS_AFTER
    }
}
