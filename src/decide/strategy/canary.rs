//! Growing weights, after copies of requests where those are wanted.

use crate::decide::{effect::Traffic, plan::PlanStep};

/// The steps of a canary run.
///
/// `mirrors` come before the first weight, one analysis each and `mirrored` in all. Each weight takes one analysis and as many more as `pauses` says
/// of it; the last one is held until `iterations` analyses of weights are done in all (the guide: climb, then hold), and for `hold` more.
#[must_use]
pub fn steps(
    mirrors: &[u8],
    mirrored: u32,
    weights: &[u8],
    pauses: &[u32],
    iterations: u32,
    hold: u32,
) -> Vec<PlanStep> {
    let one = |traffic| PlanStep {
        traffic,
        intervals: 1,
    };
    let mut steps: Vec<PlanStep> = mirrors.iter().map(|m| one(Traffic::mirrored(*m))).collect();
    lengthen(&mut steps, mirrored);
    let mut weights: Vec<PlanStep> = weights
        .iter()
        .map(|w| one(Traffic::to_canary(*w)))
        .collect();
    for (step, pause) in weights.iter_mut().zip(pauses) {
        step.intervals = step.intervals.saturating_add(*pause);
    }
    lengthen(&mut weights, iterations);
    if let Some(last) = weights.last_mut() {
        last.intervals = last.intervals.saturating_add(hold);
    }
    steps.extend(weights);
    steps
}

/// The last step lasts until there are `all` analyses.
fn lengthen(steps: &mut [PlanStep], all: u32) {
    let so_far: u32 = steps.iter().map(|step| step.intervals).sum();
    if let Some(last) = steps.last_mut() {
        last.intervals = last.intervals.saturating_add(all.saturating_sub(so_far));
    }
}
