//! When nobody has to look at the statuses of a Canary's workloads.

use super::fixtures::{plan, seen, state};
use crate::decide::{
    effect::Traffic,
    facts::Seen,
    plan::Plan,
    state::{Phase, State},
    still::still,
};

#[test]
fn only_what_no_status_could_move_is_still() {
    let suspended = Plan {
        suspend: true,
        ..plan()
    };
    let up = || seen().with(|s| s.target.as_mut().unwrap().desired = 1);
    let rows: [(&str, Plan, State, Seen, bool); 12] = [
        ("everything in place", plan(), state(), seen(), true),
        (
            "a dead primary beside a target at zero: nothing can be done",
            plan(),
            state(),
            seen().primary_dead(),
            true,
        ),
        (
            "the failed one waits for another revision",
            plan(),
            state().with(|s| s.phase = Phase::Failed),
            seen(),
            true,
        ),
        (
            "nothing is done while suspended",
            suspended.clone(),
            state().with(|s| s.run.as_mut().unwrap().route_written_at = None),
            up(),
            true,
        ),
        (
            "but that what was settled no longer is, which is recorded",
            suspended,
            state(),
            up(),
            false,
        ),
        (
            "a target that is up would serve if the primary died",
            plan(),
            state(),
            up(),
            false,
        ),
        (
            "the same with a dead primary: it becomes ready",
            plan(),
            state(),
            up().primary_dead(),
            false,
        ),
        (
            "the apex moves when the primary is ready",
            plan(),
            state(),
            seen().primary_dead().with(|s| s.apex_on_primary = false),
            false,
        ),
        (
            "a new revision begins a run",
            plan(),
            state(),
            seen().edited("v2"),
            false,
        ),
        (
            "drift is repaired",
            plan(),
            state(),
            seen().with(|s| s.route_ready = false),
            false,
        ),
        ("a run", plan(), state().starting(), seen(), false),
        (
            "traffic on the canary",
            plan(),
            state().with(|s| s.traffic = Traffic::CANARY),
            seen().weight(100),
            false,
        ),
    ];
    for (what, plan, state, seen, expected) in rows {
        assert_eq!(still(&plan, &state, &seen), expected, "{what}");
    }
}
