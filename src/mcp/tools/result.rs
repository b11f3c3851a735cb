//! The head of every verb's result.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    api::view::{Pair, RolloutView, WeightView},
    decide::state::Phase,
    engine::control::{Acted, Key, Outcome},
    mcp::words,
};

/// What `start_canary`, `promote` and `rollback` answer: what became of the wish, and the head of the rollout as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(in crate::mcp) struct Head {
    /// applied and already: it is so. planned and refused: nothing was written. unconfirmed: not known
    pub(super) outcome: Outcome,
    /// Why
    pub(super) reason: String,
    /// One sentence for the person
    pub(super) summary: String,
    /// What to call now
    pub(super) next: String,
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) name: String,
    // Its eleven values stand in the schema of `get_status`.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weight: Option<WeightView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<Pair>,
}

impl Head {
    /// The head of what `acted` says of `key`.
    pub(super) fn new(key: &Key, acted: &Acted) -> Self {
        let Acted {
            outcome,
            reason,
            view,
        } = acted;
        let view = view.as_deref();
        Self {
            outcome: *outcome,
            reason: reason.clone(),
            summary: summary(key, *outcome, reason, view),
            next: next(key, *outcome, view),
            cluster: key.cluster.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            phase: view.map(|view| view.phase),
            weight: view.map(|view| view.weight.clone()),
            revision: view.map(|view| view.revision.clone()),
        }
    }
}

/// One sentence. A reason may carry a manifest after its first line, which is not for the sentence.
fn summary(key: &Key, outcome: Outcome, reason: &str, view: Option<&RolloutView>) -> String {
    let first = reason.lines().next().unwrap_or_default();
    let text = match (outcome, view) {
        (Outcome::Applied, Some(view)) => words::whole(view),
        (Outcome::Applied, None) => format!("{key}: {first}"),
        (Outcome::Already, _) => format!("{key}: nothing to do, {first}"),
        (Outcome::Planned, _) => format!("{key}: dry run, {first}"),
        (Outcome::Refused, _) => format!("{key}: refused, {first}"),
        (Outcome::Unconfirmed, _) => format!("{key}: not confirmed, {first}"),
    };
    words::sentence(&text)
}

fn next(key: &Key, outcome: Outcome, view: Option<&RolloutView>) -> String {
    match (outcome, view) {
        (Outcome::Applied | Outcome::Already, Some(view)) => words::next(view),
        (Outcome::Applied | Outcome::Already, None) => {
            format!("call {} to see the rollout", status_call(key))
        }
        (Outcome::Planned, _) => {
            "show the plan to the person; start_canary without dry_run does it".to_owned()
        }
        (Outcome::Refused, _) => {
            format!(
                "do what reason says; call {} for the rollout as it is",
                status_call(key)
            )
        }
        (Outcome::Unconfirmed, _) => format!(
            "call {} to see whether it was acted on, before asking again",
            status_call(key)
        ),
    }
}

/// `get_status` with the arguments that name this rollout.
pub(super) fn status_call(key: &Key) -> String {
    let Key {
        cluster,
        namespace,
        name,
    } = key;
    format!(
        "get_status {}",
        serde_json::json!({"cluster": cluster, "namespace": namespace, "name": name})
    )
}
