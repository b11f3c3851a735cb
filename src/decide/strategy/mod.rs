//! What a run does next. Each strategy says its steps beforehand ([`canary`], [`ab`], [`blue_green`]); from then on all are alike: a list of
//! steps, each for a number of passed analyses.

pub mod ab;
pub mod blue_green;
pub mod canary;

use super::{
    effect::Traffic,
    plan::{Plan, Strategy},
    state::State,
};

/// Where a run is: its traffic, and which interval of that step has begun, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Where requests go.
    pub traffic: Traffic,
    /// Which interval of the step it is, from 1.
    pub iteration: u32,
}

/// Where a run begins, once its canary is ready.
#[must_use]
pub fn first(plan: &Plan) -> Option<Position> {
    let step = plan.steps.first()?;
    Some(Position {
        traffic: step.traffic,
        iteration: 1,
    })
}

/// What follows a passed analysis: another interval of the step, or the next step; `None` when the run promotes. The record decides, not a
/// place in a list that may have been edited meanwhile. Flagger: the weight is not clamped to `maxWeight`, the run promotes at the first weight
/// that reaches it.
#[must_use]
pub fn next(plan: &Plan, state: &State) -> Option<Position> {
    let now = state.traffic;
    let here = plan.steps.iter().find(|step| step.traffic == now);
    if here.is_some_and(|step| state.iteration < step.intervals) {
        return Some(Position {
            traffic: now,
            iteration: state.iteration.max(1) + 1,
        });
    }
    let mut later = plan.steps.iter();
    let step = later.find(|step| step.traffic.rank() > now.rank())?;
    Some(Position {
        traffic: step.traffic,
        iteration: 1,
    })
}

/// The most that the next write may give the canary: the next step's traffic, or what it has.
#[must_use]
pub fn most(plan: &Plan, state: &State) -> Traffic {
    next(plan, state).map_or(state.traffic, |position| position.traffic)
}

/// The weight after `weight` on the way back to the primary (`stepWeightPromotion`); 0 is the end.
#[must_use]
pub fn back(plan: &Plan, weight: u8) -> u8 {
    plan.step_weight_promotion
        .map_or(0, |step| weight.saturating_sub(step))
}

/// How many intervals of the plan have begun when the run is at `state`; 0 before the first.
#[must_use]
pub fn number(plan: &Plan, state: &State) -> u32 {
    let now = state.traffic;
    let before = plan.steps.iter().filter(|s| s.traffic.rank() < now.rank());
    let before: u32 = before.map(|step| step.intervals).sum();
    let here = plan.steps.iter().find(|step| step.traffic == now);
    before + here.map_or(0, |step| state.iteration.clamp(1, step.intervals))
}

/// How many intervals the plan has in all.
#[must_use]
pub fn total(plan: &Plan) -> u32 {
    plan.steps.iter().map(|step| step.intervals).sum()
}

/// `status.iterations` as Flagger shows it: of A/B testing and blue/green, where the switch is one more; 0 of weights.
#[must_use]
pub fn iterations(plan: &Plan, state: &State) -> u32 {
    match plan.strategy {
        Strategy::Canary => 0,
        Strategy::AbTesting | Strategy::BlueGreen if state.iteration == 0 => 0,
        Strategy::AbTesting | Strategy::BlueGreen => number(plan, state),
    }
}

/// In blue/green, the step at which all users come to the canary, if there is one.
#[must_use]
pub fn switches(plan: &Plan) -> bool {
    plan.strategy == Strategy::BlueGreen && plan.last_weight() == 100
}
