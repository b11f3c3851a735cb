//! Blue/green: analyses without users, then all of them at once.

use crate::decide::{
    effect::Traffic,
    plan::{PlanStep, Router},
};

/// The steps of a blue/green run.
///
/// `iterations` analyses with no users, on copies of requests for `mirrors` (each growing share one analysis, the last one for the rest); then all
/// users on the canary for one more (Flagger: N + 1 analyses) and for `hold` more. Without a mesh users stay on the primary until it has the
/// new revision (Flagger), unless a hold is wanted: then the apex selects the canary for that long.
#[must_use]
pub fn steps(router: Router, mirrors: &[u8], iterations: u32, hold: u32) -> Vec<PlanStep> {
    let one = |traffic| PlanStep {
        traffic,
        intervals: 1,
    };
    let mut steps: Vec<PlanStep> = mirrors.iter().map(|m| one(Traffic::mirrored(*m))).collect();
    if steps.is_empty() {
        steps.push(one(Traffic::PRIMARY));
    }
    let begun = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    if let Some(last) = steps.last_mut() {
        last.intervals += iterations.saturating_sub(begun);
    }
    let switch = match router {
        Router::Istio | Router::GatewayApi => hold.saturating_add(1),
        Router::Kubernetes => hold,
    };
    if switch > 0 {
        steps.push(PlanStep {
            traffic: Traffic::CANARY,
            intervals: switch,
        });
    }
    steps
}
