//! A leader died between its route write and its record: what the next one does. Rows as in `before_copy.rs`.

use super::fixtures::{at, fail, pass, plan, seen, state, text};
use crate::decide::{
    facts::{Answers, Seen},
    state::State,
    step,
};

fn check(rows: &[(&str, State, Seen, Answers, &str)]) {
    for (what, state, seen, answers, want) in rows {
        assert_eq!(&text(&step(&plan(), state, seen, answers)), want, "{what}");
    }
}

#[test]
fn a_check_that_is_due_goes_before_a_repair() {
    let due = |weight: u8| seen().canary_ready().at(160).weight(weight);
    check(&[
        (
            "traffic was taken away: it is not given back unasked",
            state().analysing(15),
            due(0),
            Answers::default(),
            "ask Analysis",
        ),
        (
            "the third failure again",
            state().analysing(15).failures(2),
            due(0),
            fail(),
            "Reverting Progressing 0% failed 3 |  | ! Halt mcp.ai advancement success rate 90.00% < 99.5%; ! Rolling back mcp.ai failed checks threshold reached 3 | again",
        ),
        (
            "it was somebody else's doing: the weight for another interval, which is recorded before the route is put right",
            state().analysing(15),
            due(0),
            pass(),
            "Analysing Progressing 15% failed 0 |  |  | again",
        ),
        (
            "the next weight was written: it stays",
            state().analysing(10),
            due(15),
            pass(),
            "Analysing Progressing 15% failed 0 |  | Advance mcp.ai canary weight 15 | until 220",
        ),
        (
            "the next weight was written, and the analysis fails now",
            state().analysing(10),
            due(15),
            fail(),
            "Analysing Progressing 10% failed 1 | 90/10 | ! Halt mcp.ai advancement success rate 90.00% < 99.5% | until 220",
        ),
        (
            "more than any leader wrote is taken back first",
            state().analysing(15),
            due(50),
            Answers::default(),
            "Analysing Progressing 15% failed 0 | 85/15 |  | again",
        ),
        (
            "between the checks a route by hand is put right",
            state().analysing(15),
            seen().canary_ready().weight(0).at(90),
            Answers::default(),
            "Analysing Progressing 15% failed 0 | 85/15 |  | again",
        ),
    ]);
}

#[test]
fn what_was_before_this_leader_is_not_held_against_the_canary() {
    let short = |led_since: i64| {
        let short = seen().canary_short().weight(15).at(4_000);
        short.with(|s| s.led_since = at(led_since))
    };
    check(&[
        (
            "led all the time, and not ready for the progress deadline",
            state().analysing(15),
            short(0),
            Answers::default(),
            "Reverting Progressing 0% failed 0 | 100/0 | ! canary deployment srv.ai not ready: not ready for 600 s | again",
        ),
        (
            "nobody led for an hour: the deadline counts from here",
            state().analysing(15),
            short(3_990),
            Answers::default(),
            "Analysing Progressing 15% failed 0 |  |  | until 4590",
        ),
    ]);
}

#[test]
fn from_the_copy_on_the_canary_is_given_nothing_back() {
    let none = Answers::default;
    check(&[
        (
            "all traffic was moved to the promoted primary",
            state().copying(30),
            seen().canary_ready().weight(0).copied(),
            none(),
            "Settling Finalising 0% failed 0 |  | Routing all traffic to primary | again",
        ),
        (
            "the primary is being restored and serves",
            state().restoring(30),
            seen().canary_ready().weight(0).copied(),
            none(),
            "Restoring Promoting 30% failed 0 | Previous |  | until 600",
        ),
        (
            "a primary that cannot serve: the canary does",
            state().copying(30),
            seen().canary_ready().weight(0).copied().primary_dead(),
            none(),
            "Copying Promoting 100% failed 0 | 0/100 |  | again",
        ),
    ]);
}
