//! Every decision between runs: bootstrap and idle.
//!
//! A row is a situation and the decision as text: stage, phase, weight and failed checks that are recorded; effects in order; what is told
//! (`!` is a Warning); when to step again.

use super::fixtures::{at, plan, seen, state, text};
use crate::decide::{
    effect::Traffic,
    facts::{Answers, Seen},
    plan::Plan,
    state::{Phase, Stage, State},
    step,
};

fn expect(what: &str, plan: &Plan, state: &State, seen: &Seen, answers: &Answers, want: &str) {
    assert_eq!(text(&step(plan, state, seen, answers)), want, "{what}");
}

fn none() -> Answers {
    Answers::default()
}

/// Nothing of ours exists yet.
fn bare() -> Seen {
    seen().canary_ready().no_primary().unpinned().with(|s| {
        s.services_ready = false;
        s.apex_on_primary = false;
        s.route_ready = false;
        s.traffic = None;
        s.primary_scaler_ready = false;
        s.target_equals_primary = false;
    })
}

/// Run 0 of v2 is recorded, nothing else is done.
fn begun() -> State {
    let mut state = state().starting();
    state.stage = Stage::Bootstrap;
    state.phase = Phase::Initializing;
    state.last_applied = None;
    state.last_promoted = None;
    let run = state.run.as_mut().unwrap();
    run.previous = None;
    run.route_written_at = None;
    state.skipped()
}

#[test]
fn bootstrap_serves_from_the_target_until_the_primary_can() {
    let made = seen().canary_ready().copied();
    let rows: [(&str, State, Seen, &str); 9] = [
        (
            "what is live is recorded as run 0 first",
            State::new(at(0)),
            bare(),
            "Bootstrap Initializing 0% failed 0 |  | New Deployment detected, starting initialization. | again",
        ),
        (
            "everything but what moves traffic",
            begun(),
            bare(),
            "Bootstrap Initializing 0% failed 0 | Pin, Services, CreatePrimary, CreatePrimaryScaler |  | again",
        ),
        (
            "the primary comes up",
            begun(),
            bare().with(|s| {
                *s = made.clone().primary_dead().with(|s| {
                    s.apex_on_primary = false;
                    s.route_ready = false;
                    s.traffic = None;
                });
            }),
            "Bootstrap Initializing 0% failed 0 |  |  | change",
        ),
        (
            "the primary can serve: the apex moves",
            begun(),
            made.clone().with(|s| s.apex_on_primary = false),
            "Bootstrap Initializing 0% failed 0 | Apex |  | again",
        ),
        (
            "then the route",
            begun(),
            made.clone().with(|s| {
                s.route_ready = false;
                s.traffic = None;
            }),
            "Bootstrap Initializing 0% failed 0 | Route, 100/0 |  | again",
        ),
        (
            "the moment is recorded",
            begun(),
            made.clone(),
            "Bootstrap Initializing 0% failed 0 |  |  | again",
        ),
        (
            "it settles",
            begun().settled(95),
            made.clone(),
            "Bootstrap Initializing 0% failed 0 |  |  | until 105",
        ),
        (
            "then the target goes",
            begun().settled(90),
            made.clone(),
            "Idle Initialized 0% failed 0 | PauseScaler, ScaleToZero | Initialization done! mcp.ai | again",
        ),
        (
            "a first version that crashes is said",
            begun(),
            made.with(|s| {
                *s = s.clone().primary_crashed();
                s.apex_on_primary = true;
            }),
            "Bootstrap Initializing 0% failed 0 |  | ! Initialization of mcp.ai waits, primary not ready: container srv does not start \
             (3 restarts): Error (exit code 1) | again",
        ),
    ];
    for (what, state, seen, want) in rows {
        expect(what, &plan(), &state, &seen, &none(), want);
    }
}

#[test]
fn an_edit_repairs_a_first_version_that_does_not_come_up() {
    let dead = seen()
        .canary_ready()
        .primary_dead()
        .with(|s| s.apex_on_primary = false);
    let edited = dead
        .clone()
        .with(|s| s.target.as_mut().unwrap().revision = "v3".to_owned());
    expect(
        "what is live now is recorded",
        &plan(),
        &begun(),
        &edited,
        &none(),
        "Bootstrap Initializing 0% failed 0 |  | New Deployment detected, starting initialization. | again",
    );
    expect(
        "and the primary, which serves nobody, gets it",
        &plan(),
        &begun(),
        &dead,
        &none(),
        "Bootstrap Initializing 0% failed 0 | Promoted |  | change",
    );
}

#[test]
fn a_primary_from_an_earlier_life_is_not_taken_for_the_target() {
    let seen = seen().canary_ready();
    let act = super::fixtures::act(&plan(), &begun().settled(0), &seen, &none());
    assert_eq!(act.next.last_promoted, None);
    assert_eq!(act.next.run, None);
    let mut idle = seen.clone();
    idle.scaler_paused = Some(true);
    idle.target.as_mut().unwrap().desired = 0;
    expect(
        "so the target is analysed",
        &plan(),
        &act.next,
        &idle,
        &none(),
        "Starting Progressing 0% failed 0 |  | New revision detected! Scaling up srv.ai | again",
    );
}

#[test]
fn idle_finds_revisions_and_keeps_its_shape() {
    let by_hand = |s: &mut Seen| {
        let target = s.target.as_mut().unwrap();
        (target.desired, target.endpoints) = (1, 1);
    };
    let rows: [(&str, State, Seen, &str); 16] = [
        (
            "nothing to do",
            state(),
            seen(),
            "Idle Succeeded 0% failed 0 |  |  | change",
        ),
        (
            "a new revision",
            state(),
            seen().edited("v2"),
            "Starting Progressing 0% failed 0 |  | New revision detected! Scaling up srv.ai | again",
        ),
        (
            "the revision that failed triggers nothing",
            state().failed(),
            seen().edited("v2"),
            "Idle Failed 0% failed 0 |  |  | change",
        ),
        (
            "put back to what is promoted: the failed one may be tried again",
            state().failed(),
            seen(),
            "Idle Failed 0% failed 0 |  |  | again",
        ),
        (
            "no primary: nothing is begun, and it is made from its pin",
            state(),
            seen().edited("v2").no_primary(),
            "Idle Succeeded 0% failed 0 | CreatePrimary |  | again",
        ),
        (
            "no primary, no pin, and the target has moved on: it is not made from what nobody analysed, and nothing is tried without end",
            state(),
            seen()
                .edited("v2")
                .no_primary()
                .unpinned()
                .with(|s| s.promoted_pinned = false),
            "Idle Succeeded 0% failed 0 |  |  | change",
        ),
        (
            "the target is put back to what was promoted: it is made from that",
            state(),
            seen().no_primary().unpinned().with(|s| {
                s.promoted_pinned = false;
                s.target_equals_primary = false;
            }),
            "Idle Succeeded 0% failed 0 | Pin, CreatePrimary |  | again",
        ),
        (
            "a scaler that was unpaused",
            state(),
            seen().with(|s| s.scaler_paused = Some(false)),
            "Idle Succeeded 0% failed 0 | PauseScaler |  | again",
        ),
        (
            "a target that was scaled up",
            state(),
            seen().with(by_hand),
            "Idle Succeeded 0% failed 0 | ScaleToZero |  | again",
        ),
        (
            "a route that was moved: what was settled is forgotten first",
            state(),
            seen().weight(50),
            "Idle Succeeded 0% failed 0 |  |  | again",
        ),
        (
            "then the route is put back",
            state().with(|s| s.run.as_mut().unwrap().route_written_at = None),
            seen().weight(50).with(by_hand),
            "Idle Succeeded 0% failed 0 | 100/0 |  | again",
        ),
        (
            "and the target goes when that has settled",
            state().settled(95),
            seen().with(by_hand),
            "Idle Succeeded 0% failed 0 |  |  | until 105",
        ),
        (
            "services, apex and route that were lost",
            state().with(|s| s.run.as_mut().unwrap().route_written_at = None),
            seen().with(|s| {
                s.services_ready = false;
                s.apex_on_primary = false;
                s.route_ready = false;
                s.traffic = None;
            }),
            "Idle Succeeded 0% failed 0 | Services, Apex, Route, 100/0 |  | again",
        ),
        (
            "a primary that cannot serve keeps a target that can",
            state(),
            seen().primary_dead().with(by_hand),
            "Idle Succeeded 100% failed 0 | ResumeScaler, 0/100 |  | again",
        ),
        (
            "traffic returns with the primary",
            state().failed().with(|s| s.traffic = Traffic::CANARY),
            seen().edited("v2").weight(100).with(|s| {
                by_hand(s);
                s.scaler_paused = Some(false);
            }),
            "Idle Failed 100% failed 0 |  |  | again",
        ),
        (
            "which the machine does as it reverts",
            state().failed().with(|s| {
                s.traffic = Traffic::CANARY;
                s.run.as_mut().unwrap().route_written_at = None;
            }),
            seen().edited("v2").weight(100).with(by_hand),
            "Reverting Failed 100% failed 0 |  |  | again",
        ),
    ];
    for (what, state, seen, want) in rows {
        expect(what, &plan(), &state, &seen, &none(), want);
    }
}

#[test]
fn a_failed_promotion_of_flaggers_gives_the_traffic_back_without_a_run() {
    let theirs = state().failed().with(|s| {
        s.traffic = Traffic::CANARY;
        s.run = None;
    });
    let rows = [
        (
            "the primary cannot serve",
            seen()
                .edited("v2")
                .canary_ready()
                .weight(100)
                .primary_dead(),
            "Idle Failed 100% failed 0 |  |  | change",
        ),
        (
            "it can again",
            seen().edited("v2").canary_ready().weight(100),
            "Idle Failed 0% failed 0 | 100/0 |  | again",
        ),
    ];
    for (what, seen, want) in rows {
        expect(what, &plan(), &theirs, &seen, &none(), want);
    }
}

#[test]
fn a_canary_of_flaggers_is_pinned_when_it_is_taken_over() {
    let mut theirs = state();
    theirs.run = None;
    let act = super::fixtures::act(&plan(), &theirs, &seen().unpinned(), &none());
    let run = act.next.run.unwrap();
    assert_eq!((run.n, run.revision.as_str()), (2, "v1"));
    assert_eq!(run.previous.as_deref(), Some("pin-v2"));
    let source = run.skip.unwrap().source;
    assert_eq!(source, crate::decide::state::SkipSource::Adopted);
}
