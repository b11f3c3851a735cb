//! Table of the end of a Canary that gives its target back.

use super::fixtures::*;
use crate::decide::{
    Act, Wait, deletion,
    effect::Effect,
    facts::{Moment, Seen, Workload},
    plan::Plan,
    state::{Phase, State},
};

fn reverting() -> Plan {
    Plan {
        revert_on_deletion: true,
        ..plan()
    }
}

/// At rest, the target at zero and its autoscaler paused.
fn world() -> Seen {
    let copy = |desired: u32| Workload {
        desired,
        updated: desired,
        replicas: desired,
        available: desired,
        observed: true,
        endpoints: desired,
        ..Workload::default()
    };
    Seen {
        target: Some(copy(0)),
        primary: Some(copy(3)),
        scaler_paused: Some(true),
        finalizer: true,
        given_back: false,
        ..seen()
    }
}

fn terminating() -> State {
    State {
        phase: Phase::Terminating,
        ..State::new(at(0))
    }
}

fn decided(plan: &Plan, state: &State, seen: &Seen) -> (Vec<Effect>, Wait, Option<Moment>) {
    let Act {
        effects,
        next,
        wait,
        ..
    } = deletion::step(plan, state, seen);
    (effects, wait, next.next_check_at)
}

#[test]
fn the_target_comes_up_before_anything_leads_to_it_and_the_finalizer_goes_last() {
    let (plan, mut state, mut seen) = (reverting(), State::new(at(0)), world());
    let first = deletion::step(&plan, &state, &seen);
    assert_eq!(first.effects, []);
    assert_eq!(first.next.phase, Phase::Terminating);
    assert_eq!(first.tell[0].message, "Terminating canary mcp.ai");
    state.phase = Phase::Terminating;

    let up = vec![Effect::ResumeScaler, Effect::ScaleUp(Some(3))];
    assert_eq!(decided(&plan, &state, &seen).0, up);
    seen.scaler_paused = Some(false);
    let target = seen.target.as_mut().unwrap();
    (target.desired, target.updated, target.replicas) = (3, 3, 3);
    // Not ready: nothing is given back, however long it takes.
    assert_eq!(
        decided(&plan, &state, &seen),
        (Vec::new(), Wait::Change, None)
    );
    let target = seen.target.as_mut().unwrap();
    (target.available, target.endpoints) = (3, 3);
    let back = (vec![Effect::GiveBack], Wait::Again, None);
    assert_eq!(decided(&plan, &state, &seen), back);

    seen.given_back = true;
    let settled = seen.now.plus(10_000);
    let settles = Some(settled);
    let recorded = (Vec::new(), Wait::Again, settles);
    assert_eq!(decided(&plan, &state, &seen), recorded);
    state.next_check_at = settles;
    seen.now = seen.now.plus(9_999);
    let waits = (Vec::new(), Wait::Until(settled), settles);
    assert_eq!(decided(&plan, &state, &seen), waits);
    // Somebody takes the route again meanwhile.
    seen.given_back = false;
    assert_eq!(decided(&plan, &state, &seen), back);
    seen.given_back = true;
    seen.now = seen.now.plus(1);
    let last = deletion::step(&plan, &state, &seen);
    assert_eq!(last.effects, [Effect::Finalizer(false)]);
    assert_eq!(last.next, state);
    assert_eq!(last.tell[0].message, "Terminated canary mcp.ai");
}

#[test]
fn without_an_autoscaler_the_target_gets_as_many_replicas_as_the_primary_has() {
    let mut seen = world();
    seen.scaler_paused = None;
    seen.target.as_mut().unwrap().desired = 2;
    let alone = Plan {
        scaler: None,
        ..reverting()
    };
    let up = |plan: &Plan| decided(plan, &terminating(), &seen).0;
    assert_eq!(up(&alone), [Effect::ScaleUp(Some(3))]);
    // An autoscaler has sized it.
    assert_eq!(up(&reverting()), []);
}

#[test]
fn a_target_that_is_gone_holds_nothing_up() {
    let mut seen = world();
    seen.target = None;
    let (plan, state) = (reverting(), terminating());
    assert_eq!(decided(&plan, &state, &seen).0, [Effect::GiveBack]);
}

#[test]
fn who_no_longer_wants_it_back_is_not_held() {
    let kept = plan();
    assert_eq!(
        decided(&kept, &State::new(at(0)), &world()).0,
        [Effect::Finalizer(false)]
    );
}
