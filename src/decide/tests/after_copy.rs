//! Every decision from the copy on: copying, shifting, settling, restoring, reverting. Rows as in `before_copy.rs`.

use super::fixtures::{plan, seen, state, text};
use crate::decide::{
    facts::{Answers, Seen},
    plan::Plan,
    state::{Phase, State},
    step,
};

fn check(rows: &[(&str, Plan, State, Seen, &str)]) {
    for (what, plan, state, seen, want) in rows {
        let got = text(&step(plan, state, seen, &Answers::default()));
        assert_eq!(&got, want, "{what}");
    }
}

/// The canary is ready at this weight; the primary still has the template before the run.
fn ready(weight: u8) -> Seen {
    seen().canary_ready().weight(weight)
}

#[test]
fn copying_writes_the_pin_and_waits_for_the_primary() {
    check(&[
        (
            "the pinned template, then the autoscaler",
            plan(),
            state().copying(15),
            ready(15).with(|s| s.primary_scaler_synced = false),
            "Copying Promoting 15% failed 0 | Promoted, SyncPrimaryScaler |  | change",
        ),
        (
            "the primary rolls: the weight holds",
            plan(),
            state().copying(15),
            ready(15).copied().primary_short(),
            "Copying Promoting 15% failed 0 |  |  | change",
        ),
        (
            "a primary without endpoints: the canary serves",
            plan(),
            state().copying(15),
            ready(15).copied().primary_dead(),
            "Copying Promoting 100% failed 0 | 0/100 |  | again",
        ),
        (
            "a canary without endpoints: the primary serves",
            plan(),
            state().copying(15),
            seen().canary_coming().weight(15).copied(),
            "Copying Promoting 0% failed 0 | 100/0 |  | again",
        ),
        (
            "the target was edited: what nobody analysed gets nothing",
            plan(),
            state().copying(15),
            ready(15).edited("v3").copied(),
            "Copying Promoting 0% failed 0 | 100/0 |  | again",
        ),
        (
            "the canary is kept up",
            plan(),
            state().copying(15),
            ready(15)
                .copied()
                .primary_short()
                .with(|s| s.scaler_paused = Some(true)),
            "Copying Promoting 15% failed 0 | ResumeScaler |  | again",
        ),
        (
            "ready: all traffic at once",
            plan(),
            state().copying(15),
            ready(15).copied(),
            "Settling Finalising 0% failed 0 | 100/0 | Routing all traffic to primary | again",
        ),
        (
            "ready: in steps",
            plan().returning_by(10),
            state().copying(15),
            ready(15).copied(),
            "Shifting Promoting 15% failed 0 |  |  | again",
        ),
        (
            "nothing to shift after skipAnalysis",
            plan().returning_by(10),
            state().copying(0).skipped(),
            ready(0).copied(),
            "Settling Finalising 0% failed 0 |  | Routing all traffic to primary | again",
        ),
        (
            "a crash of the new primary",
            plan(),
            state().copying(15),
            ready(15).copied().primary_crashed(),
            "Restoring Promoting 15% failed 0 |  | ! Promotion of srv.ai failed, primary not ready: container srv does not start \
             (3 restarts): Error (exit code 1) | again",
        ),
        (
            "its deadline",
            plan(),
            state().copying(15),
            ready(15).copied().primary_late(),
            "Restoring Promoting 15% failed 0 |  | ! Promotion of srv.ai failed, primary not ready: its progress deadline was exceeded \
             | again",
        ),
        (
            "a deadline condition this early is the one of the template before",
            plan(),
            state().copying(15),
            ready(15).copied().primary_late().at(5),
            "Copying Promoting 15% failed 0 |  |  | until 10",
        ),
        (
            "the pin is gone, and the target is no longer what it kept",
            plan(),
            state().copying(15),
            ready(15).unpinned().edited("v3"),
            "Restoring Promoting 15% failed 0 |  | ! Promotion of srv.ai failed, its pinned template is gone | again",
        ),
        (
            "the pin is gone, and the target still has it",
            plan(),
            state().copying(15),
            ready(15).unpinned(),
            "Copying Promoting 15% failed 0 | Pin |  | again",
        ),
    ]);
}

#[test]
fn shifting_returns_traffic_by_the_interval() {
    let shift = || plan().returning_by(10);
    check(&[
        (
            "not due",
            shift(),
            state().shifting(15),
            ready(15).copied().at(99),
            "Shifting Promoting 15% failed 0 |  |  | until 100",
        ),
        (
            "due",
            shift(),
            state().shifting(15),
            ready(15).copied(),
            "Shifting Promoting 5% failed 0 | 95/5 | Advance mcp.ai primary weight 95 | until 160",
        ),
        (
            "the last share",
            shift(),
            state().shifting(5),
            ready(5).copied(),
            "Settling Finalising 0% failed 0 | 100/0 | Routing all traffic to primary | again",
        ),
        (
            "a primary that is short holds it",
            shift(),
            state().shifting(15),
            ready(15).copied().primary_short(),
            "Shifting Promoting 15% failed 0 |  |  | change",
        ),
        (
            "a canary that died, whose traffic is already gone, gets nothing back",
            shift(),
            state().shifting(15),
            seen().canary_coming().copied(),
            "Shifting Promoting 0% failed 0 |  |  | again",
        ),
        (
            "a primary that crashes",
            shift(),
            state().shifting(15),
            ready(15).copied().primary_crashed(),
            "Restoring Promoting 15% failed 0 |  | ! Promotion of srv.ai failed, primary not ready: container srv does not start \
             (3 restarts): Error (exit code 1) | again",
        ),
        (
            "a primary that somebody edited",
            shift(),
            state().shifting(15),
            ready(15),
            "Shifting Promoting 15% failed 0 | Promoted |  | change",
        ),
    ]);
}

#[test]
fn settling_scales_down_only_what_has_no_traffic() {
    check(&[
        (
            "the moment is recorded",
            plan(),
            state().settling(),
            ready(0).copied(),
            "Settling Finalising 0% failed 0 |  |  | again",
        ),
        (
            "it settles",
            plan(),
            state().settling().settled(95),
            ready(0).copied(),
            "Settling Finalising 0% failed 0 |  |  | until 105",
        ),
        (
            "then the canary goes",
            plan(),
            state().settling().settled(90),
            ready(0).copied(),
            "Idle Succeeded 0% failed 0 | PauseScaler, ScaleToZero | Promotion completed! Scaling down srv.ai | again",
        ),
        (
            "after skipAnalysis",
            plan(),
            state().settling().settled(90).skipped(),
            ready(0).copied(),
            "Idle Succeeded 0% failed 0 | PauseScaler, ScaleToZero | Promotion completed! Canary analysis was skipped for srv.ai | again",
        ),
        (
            "not while the primary is short",
            plan(),
            state().settling().settled(90),
            ready(0).copied().primary_short(),
            "Settling Finalising 0% failed 0 |  |  | change",
        ),
        (
            "a route that was moved: forgotten first",
            plan(),
            state().settling().settled(90),
            ready(50).copied(),
            "Settling Finalising 0% failed 0 |  |  | again",
        ),
        (
            "then put back",
            plan(),
            state().settling(),
            ready(50).copied(),
            "Settling Finalising 0% failed 0 | 100/0 |  | again",
        ),
        (
            "a primary that lost its endpoints: the canary serves",
            plan(),
            state().settling().settled(90),
            ready(0).copied().primary_dead(),
            "Settling Finalising 100% failed 0 | 0/100 |  | again",
        ),
        (
            "a primary that crashes",
            plan(),
            state().settling().settled(90),
            ready(0).copied().primary_crashed(),
            "Restoring Finalising 0% failed 0 |  | ! Promotion of srv.ai failed, primary not ready: container srv does not start \
             (3 restarts): Error (exit code 1) | again",
        ),
    ]);
}

#[test]
fn restoring_gives_the_primary_its_previous_template() {
    let unknown = |mut state: State| {
        state.run.as_mut().unwrap().previous = None;
        state
    };
    check(&[
        (
            "the template before",
            plan(),
            state().restoring(15),
            ready(15).copied(),
            "Restoring Promoting 15% failed 0 | Previous |  | until 600",
        ),
        (
            "traffic is where it can be served",
            plan(),
            state().restoring(15),
            ready(15).copied().primary_dead(),
            "Restoring Promoting 100% failed 0 | 0/100, Previous |  | again",
        ),
        (
            "the primary comes up",
            plan(),
            state().restoring(15),
            ready(15).primary_short(),
            "Restoring Promoting 15% failed 0 |  |  | change",
        ),
        (
            "and is ready: as any failed run",
            plan(),
            state().restoring(15),
            ready(15),
            "Reverting Promoting 15% failed 0 |  |  | again",
        ),
        (
            "a deadline condition this early is the one of the run's template",
            plan(),
            state().restoring(15),
            ready(15).primary_late().at(5),
            "Restoring Promoting 15% failed 0 |  |  | until 10",
        ),
        (
            "it does not come up either, and the canary serves",
            plan(),
            state().restoring(100),
            ready(100)
                .primary_dead()
                .with(|s| s.primary.as_mut().unwrap().deadline_exceeded = true),
            "Idle Failed 100% failed 0 |  | ! Rollback of srv.ai failed, primary not ready with its previous template: its progress \
             deadline was exceeded; the canary keeps 100% of the traffic | again",
        ),
        (
            "both can serve: the weight stays",
            plan(),
            state().restoring(15),
            ready(15).primary_crashed(),
            "Idle Failed 15% failed 0 |  | ! Rollback of srv.ai failed, primary not ready with its previous template: container srv \
             does not start (3 restarts): Error (exit code 1); the canary keeps 15% of the traffic | again",
        ),
        (
            "no template before is known",
            plan(),
            unknown(state().restoring(15)),
            ready(15).copied(),
            "Idle Failed 15% failed 0 |  | ! Rollback of srv.ai failed, primary not ready with its previous template: no previous \
             template is known; the canary keeps 15% of the traffic | again",
        ),
        (
            "nor needed, as nothing was copied yet",
            plan(),
            unknown(state().restoring(15)),
            ready(15),
            "Reverting Promoting 15% failed 0 |  |  | again",
        ),
        (
            "its pin was deleted: not waited for forever",
            plan(),
            state().restoring(15),
            ready(15).copied().at(600),
            "Idle Failed 15% failed 0 |  | ! Rollback of srv.ai failed, primary not ready with its previous template: its previous \
             template could not be written, its pin may be gone; the canary keeps 15% of the traffic | again",
        ),
    ]);
}

#[test]
fn reverting_moves_traffic_first() {
    let after_copy = |mut state: State| {
        state.phase = Phase::Promoting;
        state
    };
    check(&[
        (
            "traffic",
            plan(),
            state().reverting(),
            ready(5),
            "Reverting Progressing 0% failed 0 | 100/0 |  | again",
        ),
        (
            "the moment is recorded",
            plan(),
            state().reverting(),
            ready(0),
            "Reverting Progressing 0% failed 0 |  |  | again",
        ),
        (
            "it settles",
            plan(),
            state().reverting().settled(95),
            ready(0),
            "Reverting Progressing 0% failed 0 |  |  | until 105",
        ),
        (
            "then the canary goes",
            plan(),
            state().reverting().settled(90).failures(3),
            ready(0),
            "Idle Failed 0% failed 3 | PauseScaler, ScaleToZero | ! Canary failed! Scaling down mcp.ai | again",
        ),
        (
            "the target is gone: nothing to scale",
            plan(),
            state().reverting().settled(90),
            ready(0).with(|s| s.target = None),
            "Idle Failed 0% failed 0 | PauseScaler | ! Canary failed! Scaling down mcp.ai | again",
        ),
        (
            "a primary that cannot serve: a canary that failed keeps what it has, and no more",
            plan(),
            state().reverting(),
            ready(5).primary_dead(),
            "Reverting Progressing 0% failed 0 |  |  | change",
        ),
        (
            "a canary that was promoted before serves instead",
            plan(),
            after_copy(state().reverting()),
            ready(0).primary_dead(),
            "Reverting Promoting 100% failed 0 | 0/100 |  | again",
        ),
        (
            "neither can serve: the canary goes",
            plan(),
            state().reverting().settled(90),
            seen().canary_coming().primary_dead(),
            "Idle Failed 0% failed 0 | PauseScaler, ScaleToZero | ! Canary failed! Scaling down mcp.ai | again",
        ),
    ]);
}
