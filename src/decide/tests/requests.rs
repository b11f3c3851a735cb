//! Every wish in every stage. Rows as in `before_copy.rs`.

use super::fixtures::{act, at, fail, pass, plan, seen, state, text};
use crate::decide::{
    facts::{Answers, Seen, Verb},
    plan::Plan,
    state::{SkipSource, State, Verdict},
    step,
};

fn check(rows: &[(&str, Plan, State, Seen, &str)]) {
    for (what, plan, state, seen, want) in rows {
        let got = text(&step(plan, state, seen, &Answers::default()));
        assert_eq!(&got, want, "{what}");
    }
}

fn ready(weight: u8) -> Seen {
    seen().canary_ready().weight(weight)
}

fn rollback(seen: Seen) -> Seen {
    seen.asks(Verb::Rollback, false)
}

fn promote(seen: Seen) -> Seen {
    seen.asks(Verb::Promote, false)
}

fn promote_now(seen: Seen) -> Seen {
    seen.asks(Verb::Promote, true)
}

#[test]
fn rollback_in_every_stage() {
    let idle = |mut seen: Seen| {
        seen.request.as_mut().unwrap().run = None;
        seen
    };
    let told = "! Rolling back mcp.ai rollback requested by kim: looks fine";
    let rows = [
        (
            "starting",
            state().starting(),
            seen().canary_coming(),
            format!("Reverting Progressing 0% failed 0 |  | {told} | again"),
        ),
        (
            "analysing",
            state().analysing(5),
            ready(5),
            format!("Reverting Progressing 0% failed 0 | 100/0 | {told} | again"),
        ),
        (
            "gated",
            state().waiting(),
            ready(15),
            format!("Reverting WaitingPromotion 0% failed 0 | 100/0 | {told} | again"),
        ),
        (
            "copying",
            state().copying(15),
            ready(15).copied(),
            format!("Restoring Promoting 15% failed 0 |  | {told} | again"),
        ),
        (
            "shifting",
            state().shifting(5),
            ready(5).copied(),
            format!("Restoring Promoting 5% failed 0 |  | {told} | again"),
        ),
        (
            "settling",
            state().settling(),
            ready(0).copied(),
            format!("Restoring Finalising 0% failed 0 |  | {told} | again"),
        ),
        (
            "restoring",
            state().restoring(15),
            ready(15).copied(),
            "Restoring Promoting 15% failed 0 |  | ! Rollback of mcp.ai is under way already | again".to_owned(),
        ),
        (
            "reverting",
            state().reverting(),
            ready(0),
            "Reverting Progressing 0% failed 0 |  | ! Rollback of mcp.ai is under way already | again".to_owned(),
        ),
    ];
    for (what, state, seen, want) in &rows {
        check(&[(what, plan(), state.clone(), rollback(seen.clone()), want)]);
    }
    check(&[
        (
            "idle",
            plan(),
            state(),
            idle(rollback(seen())),
            "Idle Succeeded 0% failed 0 |  | ! Nothing to roll back for mcp.ai | again",
        ),
        (
            "a primary that cannot serve gets nothing from a canary that can",
            plan(),
            state().analysing(5),
            rollback(ready(5).primary_dead()),
            "Reverting Progressing 5% failed 0 |  | ! Rolling back mcp.ai rollback requested by kim: looks fine | again",
        ),
    ]);
}

#[test]
fn promote_opens_the_gate_and_nothing_else() {
    let approved = "Promotion of mcp.ai approved by kim: looks fine; Copying srv.ai template spec to srv-primary.ai";
    check(&[
        (
            "the gate waits",
            plan().gated(),
            state().waiting(),
            promote(ready(15).at(50)),
            &format!("Copying Promoting 15% failed 0 |  | {approved} | again"),
        ),
        (
            "the last analysis failed: the wish waits for the next",
            plan().gated(),
            state().waiting().judged(Verdict::Fail),
            promote(ready(15).at(50)),
            "Gated WaitingPromotion 15% failed 0 |  |  | until 100",
        ),
        (
            "a canary that is short: the wish waits",
            plan().gated(),
            state().waiting(),
            promote(seen().canary_short().weight(15).at(50)),
            "Gated WaitingPromotion 15% failed 0 |  |  | until 100",
        ),
        (
            "a primary that cannot serve: the wish waits",
            plan().gated(),
            state().waiting(),
            promote(ready(15).primary_dead().at(50)),
            "Gated WaitingPromotion 15% failed 0 |  |  | until 100",
        ),
        (
            "a newer revision comes first",
            plan().gated(),
            state().waiting(),
            promote(ready(15).edited("v3").at(50)),
            "Starting Progressing 0% failed 0 | 100/0 | New revision detected! Restarting analysis for srv.ai | again",
        ),
        (
            "no gate",
            plan(),
            state().analysing(5),
            promote(ready(5)),
            "Analysing Progressing 5% failed 0 |  | ! No gate of mcp.ai waits for approval | again",
        ),
    ]);
    let waiting = state().waiting().judged(Verdict::Fail);
    let passed = act(&plan().gated(), &waiting, &promote(ready(15)), &pass());
    assert_eq!(
        text(&crate::decide::Step::Act(passed.clone())),
        format!("Copying Promoting 15% failed 0 |  | {approved} | again"),
        "the analysis that the wish waited for"
    );
    assert_eq!(passed.next.handled_request.as_deref(), Some("wish"));
    let failed = act(&plan().gated(), &waiting, &promote(ready(15)), &fail());
    assert_eq!(failed.next.handled_request, None);
}

#[test]
fn promote_now_skips_the_analysis_and_says_who() {
    let skipped = "! Analysis of mcp.ai skipped by kim: looks fine";
    let copied = "Copying srv.ai template spec to srv-primary.ai";
    check(&[
        (
            "starting: once the canary is ready",
            plan(),
            state().starting(),
            promote_now(seen().canary_coming()),
            &format!("Starting Progressing 0% failed 0 |  | {skipped} | again"),
        ),
        (
            "analysing",
            plan(),
            state().analysing(5),
            promote_now(ready(5)),
            &format!("Copying Promoting 5% failed 0 |  | {skipped}; {copied} | again"),
        ),
        (
            "gated, after a failed analysis",
            plan().gated(),
            state().waiting().judged(Verdict::Fail),
            promote_now(ready(15)),
            &format!("Copying Promoting 15% failed 0 |  | {skipped}; {copied} | again"),
        ),
        (
            "a canary that is short: the wish waits",
            plan(),
            state().analysing(5),
            promote_now(seen().canary_short().weight(5).at(50)),
            "Analysing Progressing 5% failed 0 |  |  | until 100",
        ),
        (
            "a crash comes first",
            plan(),
            state().analysing(5),
            promote_now(ready(5).canary_crashed()),
            "Reverting Progressing 0% failed 0 | 100/0 | ! canary deployment srv.ai not ready: container srv does not start \
             (3 restarts): Error (exit code 1) | again",
        ),
        (
            "copying: it is under way",
            plan(),
            state().copying(5),
            promote_now(ready(5)),
            "Copying Promoting 5% failed 0 |  | ! Nothing to promote for mcp.ai | again",
        ),
    ]);
    let next = act(
        &plan(),
        &state().analysing(5),
        &promote_now(ready(5)),
        &Answers::default(),
    )
    .next;
    let skip = next.run.unwrap().skip.unwrap();
    assert_eq!(
        (skip.source, skip.by.as_deref()),
        (SkipSource::Person, Some("kim"))
    );
    assert_eq!(next.next_check_at, None);
}

#[test]
fn a_wish_is_handled_once_and_for_its_run() {
    let other = |mut seen: Seen| {
        seen.request.as_mut().unwrap().run = Some("run-1".to_owned());
        seen
    };
    check(&[
        (
            "for another run",
            plan(),
            state().analysing(5),
            other(rollback(ready(5))),
            "Analysing Progressing 5% failed 0 |  | ! Request wish is for another run and was not acted on | again",
        ),
        (
            "handled already",
            plan(),
            state()
                .analysing(5)
                .with(|s| s.handled_request = Some("wish".to_owned())),
            rollback(ready(5).at(50)),
            "Analysing Progressing 5% failed 0 |  |  | until 100",
        ),
        (
            "the analysis anew",
            plan(),
            state().analysing(5),
            ready(5).asks(Verb::Reset, false),
            "Starting Progressing 0% failed 0 | 100/0 | ! Restarting analysis for srv.ai: reset by kim: looks fine | again",
        ),
    ]);
    let next = act(
        &plan(),
        &state().analysing(5),
        &other(rollback(ready(5))),
        &Answers::default(),
    )
    .next;
    assert_eq!(next.handled_request.as_deref(), Some("wish"));
}

#[test]
fn times_follow_from_what_changed() {
    let next = act(&plan(), &state().analysing(5), &ready(5), &pass()).next;
    assert_eq!(next.since, at(100), "the weight changed");
    assert_eq!(next.next_check_at, Some(at(160)));
    assert_eq!(next.run.unwrap().stage_at, at(0), "the stage did not");
    let next = act(&plan(), &state().analysing(5), &ready(5), &fail()).next;
    assert_eq!(next.since, at(0), "neither phase nor weight changed");
    let next = act(&plan(), &state(), &seen().edited("v2"), &Answers::default()).next;
    let run = next.run.unwrap();
    assert_eq!(
        (run.id.as_str(), run.n, run.revision.as_str()),
        ("run-2", 2, "v2")
    );
    assert_eq!(run.template, "pin-v2");
    assert_eq!(
        run.previous.as_deref(),
        Some("pin-v1"),
        "what the primary goes back to"
    );
    assert_eq!((run.started_at, run.stage_at), (at(100), at(100)));
    assert_eq!(next.last_applied.as_deref(), Some("v2"));
    assert_eq!(next.last_promoted.as_deref(), Some("v1"));
}

#[test]
fn the_time_to_come_up_counts_from_the_scale_up_unless_that_came_at_once() {
    for (now, counts_from) in [(at(0).plus(999), at(0)), (at(1), at(1)), (at(100), at(100))] {
        let seen = seen().edited("v2").unpinned().with(|s| s.now = now);
        let next = act(&plan(), &state().starting(), &seen, &Answers::default()).next;
        assert_eq!(next.run.unwrap().stage_at, counts_from);
    }
}

#[test]
fn a_restart_forgets_the_analysis_and_keeps_what_the_primary_had() {
    let before = state().analysing(10).judged(Verdict::Pass).failures(2);
    let next = act(
        &plan(),
        &before,
        &ready(10).edited("v3"),
        &Answers::default(),
    )
    .next;
    assert_eq!(next.failed_checks, 0);
    assert!(next.evidence.steps.is_empty());
    let run = next.run.unwrap();
    assert_eq!(run.previous.as_deref(), Some("pin-v1"));
    assert_eq!(
        run.route_written_at, None,
        "the canary had traffic a moment ago"
    );
}
