//! `status` of a Canary: [`State`] as it is recorded, and read back.
//!
//! Flagger's fields keep Flagger's names and meaning; what is ours beside them (`run`, `canaryAnalysis`, `nextCheckAt`,
//! `handledRequest`) makes the record complete, so that any replica can go on from it.

mod conditions;
mod evidence;
mod read;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use self::read::state;
use super::{objects::ObjectExt, parse::Refusal, time::rfc3339};
use crate::decide::{
    facts::Moment,
    state::{Run, Stage, State},
};

/// What a status needs beside the [`State`].
#[derive(Debug, Clone, Copy)]
pub struct Extra<'a> {
    /// The Canary as it is stored: its conditions are carried on, and its generation is told.
    pub canary: &'a Value,
    /// Now, for new conditions.
    pub now: Moment,
    /// Kind of the target, for the conditions' texts.
    pub kind: &'a str,
    /// Why the Canary is not carried out; empty when it is.
    pub refusals: &'a [Refusal],
    /// `status.iterations` as Flagger counts them (`decide::strategy::iterations`).
    pub iterations: u32,
    /// The rights that the engine lacks to carry it out, in a sentence.
    pub missing_rights: Option<&'a str>,
}

/// The whole status object. Equal to the stored one when nothing has changed, so that nothing needs to be written.
///
/// `lastTransitionTime` is when phase or weight changed last (Flagger: the last write, which comes to nearly the same).
#[must_use]
pub fn status(state: &State, extra: &Extra<'_>) -> Value {
    let held = held(state);
    let mut status = json!({
        "phase": state.phase.name(),
        "canaryWeight": state.weight(),
        "failedChecks": state.failed_checks,
        "iterations": extra.iterations,
        "trackedConfigs": {},
        "lastTransitionTime": rfc3339(state.since),
        "conditions": conditions::conditions(Some((state.phase, held.as_deref())), extra),
    });
    let fields = object(&mut status);
    put(fields, "lastAppliedSpec", state.last_applied.as_ref());
    put(fields, "lastPromotedSpec", state.last_promoted.as_ref());
    put(fields, "nextCheckAt", state.next_check_at.map(rfc3339));
    put(fields, "handledRequest", state.handled_request.as_ref());
    let cookies = &state.cookies;
    put(fields, "sessionAffinityCookie", cookies.canary.as_ref());
    put(
        fields,
        "primarySessionAffinityCookie",
        cookies.primary.as_ref(),
    );
    put(
        fields,
        "previousSessionAffinityCookie",
        cookies.previous.as_ref(),
    );
    put(
        fields,
        "run",
        state.run.as_ref().map(|run| run_json(run, state)),
    );
    put(fields, "canaryAnalysis", evidence::write(&state.evidence));
    status
}

/// The status of a Canary that is not carried out: as it was, but for condition `Accepted`.
#[must_use]
pub fn refused(extra: &Extra<'_>) -> Value {
    let mut status = json!({});
    if let Some(stored) = extra.canary["status"].as_object() {
        status = Value::Object(stored.clone());
    }
    let conditions = conditions::conditions(None, extra);
    object(&mut status).insert("conditions".to_owned(), conditions);
    status
}

/// Whether this refusal has been told already: condition `Accepted` is False for the Canary's current generation. One Warning event
/// for each generation is enough.
#[must_use]
pub fn refusal_told(canary: &Value) -> bool {
    conditions::find(canary, conditions::ACCEPTED).is_some_and(|condition| {
        condition["status"] == "False"
            && condition["reason"] != conditions::MISSING_RIGHTS
            && condition["observedGeneration"] == canary["metadata"]["generation"]
    })
}

/// The rights that the engine lacks to begin a run of this Canary, as it has found last, with what to do about it.
#[must_use]
pub fn missing_rights(canary: &Value) -> Option<&str> {
    conditions::find(canary, conditions::ACCEPTED)
        .filter(|condition| {
            condition["status"] == "False" && condition["reason"] == conditions::MISSING_RIGHTS
        })?
        .str_at("/message")
}

/// Whether exactly these missing rights have been told already, for the Canary's current generation.
#[must_use]
pub fn missing_rights_told(canary: &Value, missing: &str) -> bool {
    let generation = conditions::find(canary, conditions::ACCEPTED)
        .map(|condition| &condition["observedGeneration"]);
    missing_rights(canary) == Some(conditions::message(missing).as_str())
        && generation == Some(&canary["metadata"]["generation"])
}

/// Whether the Canary is refused as it stands, of whatever generation.
#[must_use]
pub fn refusal_stands(canary: &Value) -> bool {
    conditions::find(canary, conditions::ACCEPTED)
        .is_some_and(|condition| condition["status"] == "False")
}

/// Why the step is held, if it is, in one sentence.
#[must_use]
pub fn held(state: &State) -> Option<String> {
    let apart = state.evidence.apart.as_ref();
    let apart = apart.filter(|apart| state.stage == Stage::Analysing && apart.holds())?;
    let share = state.evidence.share.unwrap_or_default();
    Some(format!(
        "{share:.1}% of the requests reach the canary, its weight is {}%{}{}",
        state.weight(),
        if apart.cause.is_empty() { "" } else { ": " },
        apart.cause
    ))
}

fn run_json(run: &Run, state: &State) -> Value {
    let mut json = json!({
        "id": run.id,
        "n": run.n,
        "revision": run.revision,
        "template": run.template,
        "startedAt": rfc3339(run.started_at),
        "stage": state.stage,
        "stageAt": rfc3339(run.stage_at),
    });
    let fields = object(&mut json);
    put(fields, "previous", run.previous.as_ref());
    put(fields, "routeWrittenAt", run.route_written_at.map(rfc3339));
    put(fields, "skip", run.skip.as_ref());
    put(fields, "reason", run.reason.as_ref());
    put(fields, "outcome", run.outcome);
    put(fields, "reset", run.reset.then_some(true));
    put(fields, "rehearsal", run.rehearsal.then_some(true));
    // Beside canaryWeight: what a weight does not say, and which interval of the step it is, where a step can have several.
    let traffic = state.traffic;
    put(fields, "matched", traffic.matches().then_some(true));
    put(fields, "mirror", Some(traffic.mirror()).filter(|m| *m > 0));
    put(
        fields,
        "iteration",
        Some(state.iteration).filter(|n| *n > 1),
    );
    let waiting = run.waiting.as_ref().map(|waiting| {
        let mut json = serde_json::to_value(waiting).unwrap_or_default();
        json["since"] = json!(rfc3339(waiting.since));
        json
    });
    put(fields, "waiting", waiting);
    json
}

/// Adds a field that is there; an absent one stays out of the JSON.
fn put<T: serde::Serialize>(fields: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value.and_then(|value| serde_json::to_value(value).ok()) {
        fields.insert(key.to_owned(), value);
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("json! must have made a map")
}
