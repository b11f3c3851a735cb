//! Whether anything that only a status shows could make a Canary that rests act.

use super::{
    Step, Wait,
    facts::{Answers, Seen, Workload},
    plan::Plan,
    state::{Stage, State},
    step,
};

/// It rests between runs, and whatever becomes of the pods of either copy, it rests on: only a change of what people and tools write can
/// end that. Nobody has to look at the workloads' statuses meanwhile.
#[must_use]
pub fn still(plan: &Plan, state: &State, seen: &Seen) -> bool {
    if state.stage != Stage::Idle || state.traffic.serves() {
        return false;
    }
    let either: [fn(&Workload) -> Workload; 2] = [up, down];
    either.iter().all(|primary| {
        either.iter().all(|target| {
            let other = Seen {
                primary: seen.primary.as_ref().map(primary),
                target: seen.target.as_ref().map(target),
                ..seen.clone()
            };
            match step(plan, state, &other, &Answers::default()) {
                Step::Act(act) => {
                    act.effects.is_empty()
                        && act.tell.is_empty()
                        && act.next == *state
                        && act.wait == Wait::Change
                }
                Step::Ask(_) => false,
            }
        })
    })
}

/// All that its spec asks for is there; of none at least its last pod still is.
fn up(workload: &Workload) -> Workload {
    let there = workload.desired.max(1);
    Workload {
        updated: there,
        replicas: there,
        available: there,
        observed: true,
        deadline_exceeded: false,
        endpoints: there,
        crash: None,
        ..workload.clone()
    }
}

/// Nothing of it is there.
fn down(workload: &Workload) -> Workload {
    Workload {
        updated: 0,
        replicas: 0,
        available: 0,
        observed: true,
        deadline_exceeded: true,
        endpoints: 0,
        crash: None,
        ..workload.clone()
    }
}
