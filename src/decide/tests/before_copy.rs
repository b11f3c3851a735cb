//! Every decision before the copy: starting, analysing, gated.
//!
//! A row is a situation and the decision as text: stage, phase, weight and failed checks that are recorded; effects in order; what is told
//! (`!` is a Warning); when to step again.

use super::fixtures::{answer, fail, pass, plan, seen, state, text, weights};
use crate::decide::{
    facts::{Answers, Reading, Seen},
    plan::Plan,
    state::{State, Verdict},
    step,
};

fn expect(what: &str, plan: &Plan, state: &State, seen: &Seen, answers: &Answers, want: &str) {
    assert_eq!(text(&step(plan, state, seen, answers)), want, "{what}");
}

fn none() -> Answers {
    Answers::default()
}

#[test]
fn starting_waits_for_a_ready_canary() {
    let rows: [(&str, Plan, State, Seen, &str); 12] = [
        (
            "the pin comes first, then the canary",
            plan(),
            state().starting(),
            seen().edited("v2").unpinned(),
            "Starting Progressing 0% failed 0 | Pin, ResumeScaler, ScaleUp |  | again",
        ),
        (
            "it comes up, for at most the progress deadline",
            plan(),
            state().starting(),
            seen().canary_coming(),
            "Starting Progressing 0% failed 0 |  |  | until 600",
        ),
        (
            "part of it is not enough",
            plan(),
            state().starting(),
            seen().canary_short(),
            "Starting Progressing 0% failed 0 |  |  | until 600",
        ),
        (
            "a primary that cannot serve holds everything",
            plan(),
            state().starting(),
            seen().canary_ready().primary_dead(),
            "Starting Progressing 0% failed 0 |  |  | change",
        ),
        (
            "the first weight as soon as it is ready",
            plan(),
            state().starting(),
            seen().canary_ready(),
            "Analysing Progressing 5% failed 0 | 95/5 | Starting canary analysis for srv.ai; Advance mcp.ai canary weight 5 | until 160",
        ),
        (
            "skipAnalysis",
            plan().skipping(),
            state().starting(),
            seen().canary_ready(),
            "Copying Promoting 0% failed 0 |  | Copying srv.ai template spec to srv-primary.ai | again",
        ),
        (
            "a crash ends it at once",
            plan(),
            state().starting(),
            seen().canary_coming().canary_crashed(),
            "Reverting Progressing 0% failed 0 |  | ! canary deployment srv.ai not ready: container srv does not start (3 restarts): \
             Error (exit code 1) | again",
        ),
        (
            "so does the Deployment's deadline",
            plan(),
            state().starting(),
            seen().canary_coming().canary_late(),
            "Reverting Progressing 0% failed 0 |  | ! canary deployment srv.ai not ready: its progress deadline was exceeded | again",
        ),
        (
            "and our own, where the Deployment has none",
            plan(),
            state().starting(),
            seen().canary_coming().at(600),
            "Reverting Progressing 0% failed 0 |  | ! canary deployment srv.ai not ready: not ready for 600 s | again",
        ),
        (
            "a newer revision restarts it",
            plan(),
            state().starting(),
            seen().canary_coming().edited("v3"),
            "Starting Progressing 0% failed 0 |  | New revision detected! Restarting analysis for srv.ai | again",
        ),
        (
            "the promoted one ends it",
            plan(),
            state().starting(),
            seen().canary_coming().edited("v1"),
            "Reverting Progressing 0% failed 0 |  | ! Rolling back mcp.ai reverted by kubectl-set | again",
        ),
        (
            "a route that was moved is put back",
            plan(),
            state()
                .starting()
                .with(|s| s.run.as_mut().unwrap().route_written_at = None),
            seen().canary_coming().weight(50),
            "Starting Progressing 0% failed 0 | 100/0 |  | again",
        ),
    ];
    for (what, plan, state, seen, want) in rows {
        expect(what, &plan, &state, &seen, &none(), want);
    }
}

#[test]
fn analysing_goes_by_the_interval_and_the_checks() {
    let ready = || seen().canary_ready().weight(5);
    let rows: [(&str, Plan, State, Seen, Answers, &str); 11] = [
        (
            "not due",
            plan(),
            state().analysing(5),
            ready().at(99),
            none(),
            "Analysing Progressing 5% failed 0 |  |  | until 100",
        ),
        (
            "due",
            plan(),
            state().analysing(5),
            ready(),
            none(),
            "ask Analysis",
        ),
        (
            "passed: the next weight",
            plan(),
            state().analysing(5),
            ready(),
            pass(),
            "Analysing Progressing 10% failed 0 | 90/10 | Advance mcp.ai canary weight 10 | until 160",
        ),
        (
            "failed: the weight holds",
            plan(),
            state().analysing(5),
            ready(),
            fail(),
            "Analysing Progressing 5% failed 1 |  | ! Halt mcp.ai advancement success rate 90.00% < 99.5% | until 160",
        ),
        (
            "no data is a failed check",
            plan(),
            state().analysing(5).failures(1),
            ready(),
            answer(Reading::NoData),
            "Analysing Progressing 5% failed 2 |  | ! Halt advancement no values found for istio metric request-success-rate probably srv.ai \
             is not receiving traffic | until 160",
        ),
        (
            "a pass resets nothing",
            plan(),
            state().analysing(5).failures(2),
            ready(),
            pass(),
            "Analysing Progressing 10% failed 2 | 90/10 | Advance mcp.ai canary weight 10 | until 160",
        ),
        (
            "the threshold ends it at once",
            plan(),
            state().analysing(5).failures(2),
            ready(),
            fail(),
            "Reverting Progressing 0% failed 3 | 100/0 | ! Halt mcp.ai advancement success rate 90.00% < 99.5%; \
             ! Rolling back mcp.ai failed checks threshold reached 3 | again",
        ),
        (
            "a threshold that was lowered",
            Plan {
                threshold: 2,
                ..plan()
            },
            state().analysing(5).failures(2),
            ready(),
            none(),
            "Reverting Progressing 0% failed 2 | 100/0 | ! Rolling back mcp.ai failed checks threshold reached 2 | again",
        ),
        (
            "passed at the last step: the copy",
            plan(),
            state().analysing(15),
            ready().weight(15),
            pass(),
            "Copying Promoting 15% failed 0 |  | Copying srv.ai template spec to srv-primary.ai | again",
        ),
        (
            "passed at the last step with a gate",
            plan().gated(),
            state().analysing(15),
            ready().weight(15),
            pass(),
            "Gated WaitingPromotion 15% failed 0 |  | ! Halt mcp.ai advancement waiting for promotion approval | until 160",
        ),
        (
            "skipAnalysis during a run",
            plan().skipping(),
            state().analysing(5),
            ready().at(50),
            none(),
            "Copying Promoting 5% failed 0 |  | Copying srv.ai template spec to srv-primary.ai | again",
        ),
    ];
    for (what, plan, state, seen, answers, want) in rows {
        expect(what, &plan, &state, &seen, &answers, want);
    }
}

#[test]
fn analysing_meets_a_world_that_changes() {
    let ready = || seen().canary_ready().weight(5);
    let rows: [(&str, Seen, &str); 13] = [
        (
            "short of replicas: the weight holds, nothing is asked",
            seen().canary_short().weight(5),
            "Analysing Progressing 5% failed 0 |  |  | until 700",
        ),
        (
            "for at most the progress deadline",
            seen().canary_short().weight(5).at(700),
            "Reverting Progressing 0% failed 0 | 100/0 | ! canary deployment srv.ai not ready: not ready for 600 s | again",
        ),
        (
            "a canary without endpoints loses its traffic at once",
            seen().canary_coming().weight(5).at(50),
            "Reverting Progressing 0% failed 0 | 100/0 | ! Rolling back mcp.ai the canary has traffic and no ready endpoint | again",
        ),
        (
            "a crash",
            ready().canary_crashed().at(50),
            "Reverting Progressing 0% failed 0 | 100/0 | ! canary deployment srv.ai not ready: container srv does not start \
             (3 restarts): Error (exit code 1) | again",
        ),
        (
            "a primary that lost its endpoints pulls nothing to the canary",
            ready().primary_dead(),
            "Analysing Progressing 5% failed 0 |  |  | change",
        ),
        (
            "a primary that will not come back: the run ends, the canary keeps what it has",
            ready()
                .primary_dead()
                .with(|s| s.primary.as_mut().unwrap().deadline_exceeded = true),
            "Reverting Progressing 5% failed 0 |  | ! srv-primary.ai not ready: its progress deadline was exceeded | again",
        ),
        (
            "a newer revision restarts, traffic first",
            ready().edited("v3"),
            "Starting Progressing 0% failed 0 | 100/0 | New revision detected! Restarting analysis for srv.ai | again",
        ),
        (
            "but gives nothing to a primary that cannot serve, nor to the new revision",
            ready().edited("v3").primary_dead(),
            "Starting Progressing 0% failed 0 |  | New revision detected! Restarting analysis for srv.ai | again",
        ),
        (
            "the promoted revision ends the run",
            ready().edited("v1"),
            "Reverting Progressing 0% failed 0 | 100/0 | ! Rolling back mcp.ai reverted by kubectl-set | again",
        ),
        (
            "the target is gone",
            ready().with(|s| s.target = None),
            "Reverting Progressing 0% failed 0 | 100/0 |  | again",
        ),
        (
            "a route that was moved is put back before anything is asked",
            ready().weight(80),
            "Analysing Progressing 5% failed 0 | 95/5 |  | again",
        ),
        (
            "a scaler that was paused",
            ready().with(|s| s.scaler_paused = Some(true)),
            "Analysing Progressing 5% failed 0 | ResumeScaler |  | again",
        ),
        (
            "a pin and a primary that were deleted",
            ready().no_primary().unpinned(),
            "Analysing Progressing 5% failed 0 | Pin, CreatePrimary |  | again",
        ),
    ];
    for (what, seen, want) in rows {
        expect(what, &plan(), &state().analysing(5), &seen, &none(), want);
    }
}

#[test]
fn a_gate_holds_and_the_analysis_goes_on() {
    let ready = || seen().canary_ready().weight(15);
    let waiting = || state().waiting();
    let rows: [(&str, Plan, State, Seen, Answers, &str); 6] = [
        (
            "passes again",
            plan().gated(),
            waiting(),
            ready(),
            pass(),
            "Gated WaitingPromotion 15% failed 0 |  |  | until 160",
        ),
        (
            "fails",
            plan().gated(),
            waiting(),
            ready(),
            fail(),
            "Gated WaitingPromotion 15% failed 1 |  | ! Halt mcp.ai advancement success rate 90.00% < 99.5% | until 160",
        ),
        (
            "fails too often",
            plan().gated(),
            waiting().failures(2),
            ready(),
            fail(),
            "Reverting WaitingPromotion 0% failed 3 | 100/0 | ! Halt mcp.ai advancement success rate 90.00% < 99.5%; \
             ! Rolling back mcp.ai failed checks threshold reached 3 | again",
        ),
        (
            "the gate is taken away",
            plan(),
            waiting(),
            ready().at(50),
            none(),
            "Copying Promoting 15% failed 0 |  | Copying srv.ai template spec to srv-primary.ai | again",
        ),
        (
            "the gate is taken away after a failed analysis: the next one decides",
            plan(),
            waiting().judged(Verdict::Fail),
            ready().at(50),
            none(),
            "Gated WaitingPromotion 15% failed 0 |  |  | until 100",
        ),
        (
            "the plan has got more steps",
            Plan {
                steps: weights(&[15, 30]),
                ..plan().gated()
            },
            waiting(),
            ready(),
            pass(),
            "Analysing Progressing 30% failed 0 | 70/30 | Advance mcp.ai canary weight 30 | until 160",
        ),
    ];
    for (what, plan, state, seen, answers, want) in rows {
        expect(what, &plan, &state, &seen, &answers, want);
    }
}

#[test]
fn a_suspended_canary_is_left_alone() {
    let suspended = Plan {
        suspend: true,
        ..plan()
    };
    let broken = seen().canary_coming().canary_crashed().weight(50).at(5000);
    expect(
        "whatever happens",
        &suspended,
        &state().analysing(5),
        &broken,
        &none(),
        "Analysing Progressing 5% failed 0 |  |  | change",
    );
    let act = super::fixtures::act(&suspended, &state(), &seen(), &none());
    assert_eq!(
        act.next.run.unwrap().route_written_at,
        None,
        "nobody watches the route"
    );
}
