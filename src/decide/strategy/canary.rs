//! Weighted steps.

use crate::decide::plan::Plan;

/// The weight after `weight`, or `None` when the run has reached its last step and promotes.
/// Flagger: the weight is not clamped to `maxWeight`, the run promotes at the first weight that reaches it.
#[must_use]
pub fn next(plan: &Plan, weight: u8) -> Option<u8> {
    plan.steps.iter().copied().find(|step| *step > weight)
}

/// The weight after `weight` on the way back to the primary (`stepWeightPromotion`); 0 is the end.
#[must_use]
pub fn back(plan: &Plan, weight: u8) -> u8 {
    plan.step_weight_promotion
        .map_or(0, |step| weight.saturating_sub(step))
}

/// Which step a weight is, from 1; 0 before the first.
#[must_use]
pub fn number(plan: &Plan, weight: u8) -> usize {
    plan.steps
        .iter()
        .take_while(|step| **step <= weight)
        .count()
}
