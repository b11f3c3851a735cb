//! Each rule catches the decision that breaks it.

use super::fixtures::{act, plan, seen, state};
use crate::decide::{
    effect::{Copied, Effect, Traffic},
    facts::{Answers, Seen},
    rules::broken,
    state::{Phase, Stage, State, Verdict},
};

const WEIGHT: &str = "a route write gives the canary at most what the next planned step does";
const DEAD: &str =
    "no write raises the share of a copy without a ready endpoint while the other has one";
const SETTLED: &str = "scale-down comes after the route write was observed and has settled";
const ANALYSED: &str = "the primary's template is only ever a pinned one whose analysis passed or whose skip is recorded";
const RECORDED: &str = "the decision to copy is recorded before the primary is touched";
const STAGES: &str = "stages follow each other as the table says";
const UNTOUCHED: &str = "before the copy the primary's template is not written";

/// The rules that these effects break in this situation, where nothing else is decided.
fn with(state: &State, seen: &Seen, effects: &[Effect]) -> Vec<&'static str> {
    let mut act = act(
        &plan(),
        &super::fixtures::state(),
        &super::fixtures::seen(),
        &Answers::default(),
    );
    act.next = state.clone();
    act.effects = effects.to_vec();
    broken(&plan(), state, seen, &act)
}

/// The rules that this record breaks, without an effect.
fn becoming(state: &State, change: impl FnOnce(&mut State)) -> Vec<&'static str> {
    let mut act = act(
        &plan(),
        &super::fixtures::state(),
        &seen(),
        &Answers::default(),
    );
    act.next = state.clone();
    change(&mut act.next);
    broken(&plan(), state, &seen().canary_ready(), &act)
}

#[test]
fn wrong_effects_are_caught() {
    let to = |canary| Effect::Traffic(Traffic::to_canary(canary));
    let ready = || seen().canary_ready();
    let none: [&str; 0] = [];
    let rows: [(&str, State, Seen, Effect, &[&str]); 17] = [
        (
            "the next weight",
            state().analysing(5),
            ready().weight(5),
            to(10),
            &none,
        ),
        (
            "one too many",
            state().analysing(5),
            ready().weight(5),
            to(11),
            &[WEIGHT],
        ),
        (
            "traffic at bootstrap",
            State {
                stage: Stage::Bootstrap,
                ..state()
            },
            ready(),
            to(1),
            &[WEIGHT],
        ),
        (
            "more after the copy",
            state().copying(10),
            ready().weight(10),
            to(11),
            &[WEIGHT],
        ),
        (
            "all to the only copy that serves",
            state().copying(10),
            ready().primary_dead().weight(10),
            to(100),
            &none,
        ),
        (
            "a dead canary",
            state().analysing(5),
            seen().canary_coming().weight(5),
            to(10),
            &[DEAD],
        ),
        (
            "a dead primary",
            state().analysing(5),
            ready().primary_dead().weight(5),
            to(0),
            &[DEAD],
        ),
        (
            "both dead",
            state().analysing(5),
            seen().canary_coming().primary_dead().weight(5),
            to(0),
            &none,
        ),
        (
            "settled",
            state().reverting().settled(90),
            ready(),
            Effect::ScaleToZero,
            &none,
        ),
        (
            "not settled",
            state().reverting().settled(91),
            ready(),
            Effect::ScaleToZero,
            &[SETTLED],
        ),
        (
            "a pause is a scale-down",
            state().reverting().settled(91),
            ready(),
            Effect::PauseScaler,
            &[SETTLED],
        ),
        (
            "never settled",
            state().reverting(),
            ready(),
            Effect::ScaleToZero,
            &[SETTLED],
        ),
        (
            "with traffic",
            state().reverting().settled(90),
            ready().weight(5),
            Effect::ScaleToZero,
            &[SETTLED],
        ),
        (
            "the copy",
            state().copying(10),
            ready().weight(10),
            Effect::Primary(Copied::Promoted),
            &none,
        ),
        (
            "the copy, not recorded",
            state().analysing(15),
            ready().weight(15),
            Effect::Primary(Copied::Promoted),
            &[RECORDED, UNTOUCHED],
        ),
        (
            "the way back, not recorded",
            state().copying(10),
            ready().weight(10),
            Effect::Primary(Copied::Previous),
            &[RECORDED],
        ),
        (
            "its autoscaler",
            state().analysing(5),
            ready().weight(5),
            Effect::SyncPrimaryScaler,
            &[UNTOUCHED],
        ),
    ];
    for (what, state, seen, effect, want) in rows {
        assert_eq!(with(&state, &seen, &[effect]), want, "{what}");
    }
}

#[test]
fn wrong_records_are_caught() {
    let none: [&str; 0] = [];
    let copy = |s: &mut State| s.stage = Stage::Copying;
    let last = || state().analysing(15);
    assert_eq!(becoming(&last().judged(Verdict::Pass), copy), none);
    assert_eq!(becoming(&last().judged(Verdict::Fail), copy), [ANALYSED]);
    assert_eq!(becoming(&last(), copy), [ANALYSED]);
    assert_eq!(
        becoming(&last().judged(Verdict::Pass).failures(3), copy),
        [ANALYSED]
    );
    assert_eq!(becoming(&last().skipped(), copy), none);
    assert_eq!(becoming(&last(), |s| s.stage = Stage::Settling), [STAGES]);
    assert_eq!(becoming(&last(), |s| s.stage = Stage::Idle), [STAGES]);
    assert_eq!(
        becoming(&state().settling(), |s| s.stage = Stage::Idle),
        [STAGES],
        "the phase has to be a final one"
    );
    let succeeded = becoming(&state().settling(), |s| {
        s.stage = Stage::Idle;
        s.phase = Phase::Succeeded;
    });
    assert_eq!(succeeded, none);
}
