//! `status.conditions`: Flagger's `Promoted`, and our `Accepted`.

use serde_json::{Value, json};

use super::Extra;
use crate::{
    api::{
        objects::ObjectExt,
        text,
        time::{moment, rfc3339},
    },
    decide::state::Phase,
};

/// Whether the Canary is carried out as it is written.
pub(super) const ACCEPTED: &str = "Accepted";
/// The reason of `Accepted` while the engine lacks rights.
pub(super) const MISSING_RIGHTS: &str = "MissingRights";
/// Flagger's one condition; scripts wait for it.
const PROMOTED: &str = "Promoted";
/// How the message of `Promoted` begins while a step is held.
const HELD: &str = "The step is held: ";
/// Kubernetes takes 32 KiB; a person reads less.
const LONGEST_MESSAGE: usize = 4096;

/// The condition of a type that the Canary has.
pub(super) fn find<'a>(canary: &'a Value, kind: &str) -> Option<&'a Value> {
    canary
        .array_at("/status/conditions")
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// All conditions; without a phase `Promoted` stays as it is. Conditions of others stay.
pub(super) fn conditions(phase: Option<(Phase, Option<&str>)>, extra: &Extra<'_>) -> Value {
    let mut all: Vec<Value> = match phase {
        Some((phase, held)) => {
            let mut says = promoted(phase, extra.kind);
            if let Some(held) = held {
                says.message = text::clean(&format!("{HELD}{held}"), LONGEST_MESSAGE);
            }
            vec![next(PROMOTED, &says, extra)]
        }
        None => find(extra.canary, PROMOTED).cloned().into_iter().collect(),
    };
    let mut accepted = next(ACCEPTED, &accepted(extra), extra);
    if let Some(generation) = extra.canary.generation() {
        accepted["observedGeneration"] = json!(generation);
    }
    all.push(accepted);
    let known = [PROMOTED, ACCEPTED];
    all.extend(
        extra
            .canary
            .array_at("/status/conditions")
            .iter()
            .filter(|condition| !known.iter().any(|kind| condition["type"] == *kind))
            .cloned(),
    );
    Value::Array(all)
}

/// Status, reason and message of a condition.
struct Says {
    status: &'static str,
    reason: String,
    message: String,
}

/// Flagger: replaced only when status or reason change; `lastTransitionTime` moves only with the status. The message of ours may change
/// alone, since it names what is wrong.
fn next(kind: &str, says: &Says, extra: &Extra<'_>) -> Value {
    let old = find(extra.canary, kind);
    let is = |key: &str, value: &str| old.is_some_and(|old| old[key] == value);
    let same_status = is("status", says.status);
    if let Some(old) = old
        && same_status
        && is("reason", &says.reason)
        && (is("message", &says.message)
            || (kind == PROMOTED && !held(old) && !says.message.starts_with(HELD)))
    {
        return old.clone();
    }
    let now = rfc3339(extra.now);
    let since = old
        .filter(|_| same_status)
        .and_then(|old| old.str_at("/lastTransitionTime"))
        .filter(|text| moment(text).is_some())
        .map_or_else(|| now.clone(), str::to_owned);
    json!({
        "type": kind,
        "status": says.status,
        "reason": says.reason,
        "message": says.message,
        "lastUpdateTime": now,
        "lastTransitionTime": since,
    })
}

/// The condition tells of a held step.
fn held(condition: &Value) -> bool {
    condition
        .str_at("/message")
        .is_some_and(|message| message.starts_with(HELD))
}

/// Flagger's texts.
fn promoted(phase: Phase, kind: &str) -> Says {
    let (status, message) = match phase {
        Phase::Initializing | Phase::Terminating | Phase::Terminated => (
            "Unknown",
            format!("New {kind} detected, starting initialization."),
        ),
        Phase::Initialized => ("True", format!("{kind} initialization completed.")),
        Phase::Waiting | Phase::WaitingPromotion => ("Unknown", "Waiting for approval.".to_owned()),
        Phase::Progressing => (
            "Unknown",
            "New revision detected, progressing canary analysis.".to_owned(),
        ),
        Phase::Promoting => (
            "Unknown",
            "Canary analysis completed, starting primary rolling update.".to_owned(),
        ),
        Phase::Finalising => (
            "Unknown",
            "Canary analysis completed, routing all traffic to primary.".to_owned(),
        ),
        Phase::Succeeded => (
            "True",
            "Canary analysis completed successfully, promotion finished.".to_owned(),
        ),
        Phase::Failed => (
            "False",
            format!("Canary analysis failed, {kind} scaled to zero."),
        ),
    };
    Says {
        status,
        reason: phase.name().to_owned(),
        message,
    }
}

fn accepted(extra: &Extra<'_>) -> Says {
    if let (Some(missing), true) = (extra.missing_rights, extra.refusals.is_empty()) {
        return Says {
            status: "False",
            reason: MISSING_RIGHTS.to_owned(),
            message: message(missing),
        };
    }
    if extra.refusals.is_empty() {
        return Says {
            status: "True",
            reason: "Accepted".to_owned(),
            message: "The Canary is carried out as it is written.".to_owned(),
        };
    }
    let all: Vec<String> = extra.refusals.iter().map(ToString::to_string).collect();
    Says {
        status: "False",
        reason: "Refused".to_owned(),
        message: message(&all.join(". ")),
    }
}

/// A text as a condition tells it.
pub(super) fn message(text: &str) -> String {
    text::clean(text, LONGEST_MESSAGE)
}
