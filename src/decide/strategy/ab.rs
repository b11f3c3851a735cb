//! A/B testing: the users that the match names, for a number of analyses.

use crate::decide::{effect::Traffic, plan::PlanStep};

/// The steps of an A/B run: one, of `iterations` analyses and `hold` more.
#[must_use]
pub fn steps(iterations: u32, hold: u32) -> Vec<PlanStep> {
    vec![PlanStep {
        traffic: Traffic::MATCHED,
        intervals: iterations.max(1).saturating_add(hold),
    }]
}
