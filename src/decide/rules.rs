//! The invariants, as predicates over a decision. Property tests hold [`step`](super::step) to them; in production a decision that breaks
//! one is not carried out, and that is said.

use super::{
    Act,
    effect::{Copied, Effect, Traffic},
    facts::Seen,
    plan::Plan,
    state::{Phase, Stage, State, Verdict},
    strategy,
};

/// Whether a decision keeps a rule.
type Rule = fn(&Plan, &State, &Seen, &Act) -> bool;

/// The rules that `act` breaks, in words; empty for every decision that the machine makes.
#[must_use]
pub fn broken(plan: &Plan, state: &State, seen: &Seen, act: &Act) -> Vec<&'static str> {
    let rules: [(Rule, &'static str); 8] = [
        (
            traffic_within_plan,
            "a route write gives the canary at most what the next planned step does",
        ),
        (
            no_share_to_the_dead,
            "no write raises the share of a copy without a ready endpoint while the other has one",
        ),
        (
            traffic_before_scale_down,
            "scale-down comes after the route write was observed and has settled",
        ),
        (
            only_analysed_templates,
            "the primary's template is only ever a pinned one whose analysis passed or whose skip is recorded",
        ),
        (
            pin_before_copy,
            "the decision to copy is recorded before the primary is touched",
        ),
        (
            legal_transition,
            "stages follow each other as the table says",
        ),
        (
            target_only_at_rest,
            "the target's template is written between runs only, with traffic on the primary",
        ),
        (
            primary_untouched_before_copy,
            "before the copy the primary's template is not written",
        ),
    ];
    rules
        .iter()
        .filter(|(rule, _)| !rule(plan, state, seen, act))
        .map(|(_, text)| *text)
        .collect()
}

fn written(act: &Act) -> impl Iterator<Item = Traffic> {
    act.effects.iter().filter_map(|e| {
        if let Effect::Traffic(w) = e {
            Some(*w)
        } else {
            None
        }
    })
}

fn endpoints(seen: &Seen) -> (bool, bool) {
    let up = |w: &Option<super::facts::Workload>| w.as_ref().is_some_and(|w| w.endpoints > 0);
    (up(&seen.primary), up(&seen.target))
}

/// Rule 1. Before the copy never more than the next step; after it never more than the record, unless the primary has no endpoint. Users are
/// sent by a match, and requests copied, only where the plan has that.
fn traffic_within_plan(plan: &Plan, state: &State, seen: &Seen, act: &Act) -> bool {
    let recorded = state.traffic;
    let limit = match state.stage {
        Stage::Starting | Stage::Analysing | Stage::Gated => strategy::most(plan, state),
        Stage::Copying
        | Stage::Shifting
        | Stage::Settling
        | Stage::Restoring
        | Stage::Idle
        | Stage::Reverting => {
            if endpoints(seen).0 {
                recorded
            } else {
                Traffic::CANARY
            }
        }
        Stage::Bootstrap | Stage::Waiting => Traffic::PRIMARY,
    };
    let planned = |traffic: Traffic| {
        let known = traffic == recorded || plan.steps.iter().any(|s| s.traffic == traffic);
        known || !(traffic.matches() || traffic.mirror() > 0)
    };
    written(act).all(|after| {
        let within = after == limit || !after.raises(limit) || !after.raises(recorded);
        within && planned(after)
    })
}

/// Rule 2.
fn no_share_to_the_dead(_: &Plan, _: &State, seen: &Seen, act: &Act) -> bool {
    let before = seen.traffic.unwrap_or(Traffic::PRIMARY);
    let (primary, canary) = endpoints(seen);
    written(act).all(|after| {
        let to_dead_canary = after.raises(before) && !canary && primary;
        let to_dead_primary = after.primary() > before.primary() && !primary && canary;
        !to_dead_canary && !to_dead_primary
    })
}

/// Rule 3. An autoscaler paused at zero scales down too.
fn traffic_before_scale_down(plan: &Plan, state: &State, seen: &Seen, act: &Act) -> bool {
    let shrinks = |e: &Effect| matches!(e, Effect::ScaleToZero | Effect::PauseScaler);
    if !act.effects.iter().any(shrinks) {
        return true;
    }
    let written = state.run.as_ref().and_then(|r| r.route_written_at);
    let settled = written.is_some_and(|at| seen.now >= at.plus(plan.settle));
    seen.traffic == Some(Traffic::PRIMARY) && settled
}

/// Rule 4. The copy is entered only with a last analysis that passed, or a skip on record.
fn only_analysed_templates(plan: &Plan, state: &State, _: &Seen, act: &Act) -> bool {
    if act.next.stage != Stage::Copying || state.stage == Stage::Copying {
        return true;
    }
    let skipped = act.next.run.as_ref().is_some_and(|r| r.skip.is_some());
    let passed = act
        .next
        .evidence
        .steps
        .last()
        .is_some_and(|s| s.verdict == Some(Verdict::Pass));
    skipped || (passed && act.next.failed_checks < plan.threshold)
}

/// What makes the copy repeatable is recorded first. At bootstrap a primary that cannot serve follows the live target.
fn pin_before_copy(_: &Plan, state: &State, seen: &Seen, act: &Act) -> bool {
    act.effects.iter().all(|e| match e {
        Effect::Primary(Copied::Promoted) => match state.stage {
            Stage::Copying | Stage::Shifting | Stage::Settling => true,
            Stage::Bootstrap => state.run.is_some() && !endpoints(seen).0,
            Stage::Idle
            | Stage::Waiting
            | Stage::Starting
            | Stage::Analysing
            | Stage::Gated
            | Stage::Reverting
            | Stage::Restoring => false,
        },
        Effect::Primary(Copied::Previous) => state.stage == Stage::Restoring,
        Effect::Pin
        | Effect::Services
        | Effect::CreatePrimary
        | Effect::CreatePrimaryScaler
        | Effect::Apex
        | Effect::Route
        | Effect::Traffic(_)
        | Effect::PauseScaler
        | Effect::ResumeScaler
        | Effect::ScaleUp(_)
        | Effect::ScaleToZero
        | Effect::Target
        | Effect::TakeOff(_)
        | Effect::SyncPrimaryScaler => true,
    })
}

fn legal_transition(_: &Plan, state: &State, _: &Seen, act: &Act) -> bool {
    let terminal = act.next.stage == Stage::Idle && state.stage != Stage::Idle;
    let phase_fits = !terminal
        || matches!(
            act.next.phase,
            Phase::Initialized | Phase::Succeeded | Phase::Failed
        );
    state.stage.may_become().contains(&act.next.stage) && phase_fits
}

fn primary_untouched_before_copy(_: &Plan, state: &State, seen: &Seen, act: &Act) -> bool {
    let touches = act
        .effects
        .iter()
        .any(|e| matches!(e, Effect::Primary(_) | Effect::SyncPrimaryScaler));
    let bootstrap = state.stage == Stage::Bootstrap && !endpoints(seen).0;
    !touches || state.stage.copied() || bootstrap
}

/// In a run the target is what is analysed, and it serves.
fn target_only_at_rest(_: &Plan, state: &State, seen: &Seen, act: &Act) -> bool {
    let touches = act.effects.contains(&Effect::Target);
    let serves = state.traffic.serves() || seen.traffic.is_some_and(Traffic::serves);
    !touches || (state.stage == Stage::Idle && !serves)
}
