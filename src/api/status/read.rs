//! Status to [`State`], tolerant of what another writer, Flagger above all, has left.

use serde_json::Value;

use super::evidence;
use crate::{
    api::{objects::ObjectExt, time::moment},
    decide::{
        effect::Traffic,
        facts::Moment,
        state::{Cookies, Phase, Run, Stage, State, Waiting},
    },
};

/// What is recorded of a Canary; `now` stands in for times that are not.
///
/// A status that Flagger wrote has no `run`: its phase then implies the stage. An unknown phase is none, as a Canary that nobody has
/// driven yet has none.
#[must_use]
pub fn state(canary: &Value, now: Moment) -> State {
    let status = &canary["status"];
    let Some(phase) = read_phase(status) else {
        return State {
            handled_request: text(status, "/handledRequest"),
            ..State::new(now)
        };
    };
    let since = time(status, "/lastTransitionTime").unwrap_or(now);
    let run = read_run(&status["run"], since);
    let stage = run
        .as_ref()
        .and_then(|_| serde_json::from_value(status["run"]["stage"].clone()).ok());
    let weight = status.int_at("/canaryWeight").unwrap_or(0).clamp(0, 100);
    let stage = stage.unwrap_or_else(|| implied(phase, weight));
    State {
        phase,
        stage,
        traffic: traffic(&status["run"], weight),
        iteration: iteration(&status["run"], stage, weight),
        failed_checks: count(status, "/failedChecks"),
        last_applied: text(status, "/lastAppliedSpec"),
        last_promoted: text(status, "/lastPromotedSpec"),
        run,
        next_check_at: time(status, "/nextCheckAt"),
        cookies: Cookies {
            canary: text(status, "/sessionAffinityCookie"),
            primary: text(status, "/primarySessionAffinityCookie"),
            previous: text(status, "/previousSessionAffinityCookie"),
        },
        handled_request: text(status, "/handledRequest"),
        evidence: evidence::read(status),
        since,
    }
}

fn traffic(run: &Value, weight: i64) -> Traffic {
    let percent = |n: i64| u8::try_from(n.clamp(0, 100)).unwrap_or(0);
    Traffic::stored(
        percent(weight),
        run["matched"] == true,
        percent(run.int_at("/mirror").unwrap_or(0)),
    )
}

/// The first interval of a step is not written; before the first step there is none.
fn iteration(run: &Value, stage: Stage, weight: i64) -> u32 {
    let before = matches!(
        stage,
        Stage::Bootstrap
            | Stage::Idle
            | Stage::Waiting
            | Stage::Starting
            | Stage::Settling
            | Stage::Reverting
    );
    match count(run, "/iteration") {
        0 if before && weight == 0 => 0,
        0 => 1,
        n => n,
    }
}

fn read_phase(status: &Value) -> Option<Phase> {
    serde_json::from_value(status["phase"].clone()).ok()
}

/// Where a Canary without a record of ours is.
fn implied(phase: Phase, weight: i64) -> Stage {
    match phase {
        Phase::Initializing => Stage::Bootstrap,
        // In Waiting Flagger has recorded no run yet: the new revision is found again.
        Phase::Initialized
        | Phase::Waiting
        | Phase::Succeeded
        | Phase::Failed
        | Phase::Terminating
        | Phase::Terminated => Stage::Idle,
        Phase::Progressing if weight == 0 => Stage::Starting,
        Phase::Progressing => Stage::Analysing,
        Phase::WaitingPromotion => Stage::Gated,
        Phase::Promoting => Stage::Copying,
        Phase::Finalising => Stage::Settling,
    }
}

/// A run without id, revision or pin cannot be gone on with: it is none.
fn read_run(json: &Value, since: Moment) -> Option<Run> {
    Some(Run {
        id: text(json, "/id")?,
        n: count(json, "/n"),
        revision: text(json, "/revision")?,
        template: text(json, "/template")?,
        previous: text(json, "/previous"),
        started_at: time(json, "/startedAt").unwrap_or(since),
        stage_at: time(json, "/stageAt").unwrap_or(since),
        route_written_at: time(json, "/routeWrittenAt"),
        skip: serde_json::from_value(json["skip"].clone()).ok(),
        reason: text(json, "/reason"),
        outcome: serde_json::from_value(json["outcome"].clone()).ok(),
        waiting: read_waiting(&json["waiting"], since),
        reset: json["reset"] == true,
        rehearsal: json["rehearsal"] == true,
    })
}

fn read_waiting(json: &Value, since: Moment) -> Option<Waiting> {
    let waiting: Waiting = serde_json::from_value(json.clone()).ok()?;
    Some(Waiting {
        since: time(json, "/since").unwrap_or(since),
        ..waiting
    })
}

fn text(json: &Value, pointer: &str) -> Option<String> {
    json.str_at(pointer)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn time(json: &Value, pointer: &str) -> Option<Moment> {
    moment(json.str_at(pointer)?)
}

/// A count; a negative one, which Flagger writes for some gates, is none.
fn count(json: &Value, pointer: &str) -> u32 {
    u32::try_from(json.int_at(pointer).unwrap_or(0).max(0)).unwrap_or(u32::MAX)
}
