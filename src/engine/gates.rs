//! The gates that HTTP endpoints of ours answer for, as Flagger's load tester does; and `promote` and `rollback` on a Canary that another
//! controller drives, which is asked through them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::{
    control::{Acted, Control, ControlError, Key, Outcome, Wish, unreachable},
    objects,
    tell::{driven_by, not_ours},
    verify::{annotation, write_failed},
};
use crate::{
    api::{
        gate::{Bound, Change, Gate, GateState, HookRef, hooks},
        names,
        objects::{Object, ObjectExt},
        time::rfc3339,
    },
    cluster::{Cluster, Error, ErrorKind},
    decide::facts::Verb,
};

/// What stays as it is in one segment of a path (RFC 3986, unreserved).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// How often a change is tried anew that came between somebody else's reading and writing.
const TRIES: u32 = 3;

impl Control {
    /// There is such a cluster, reachable or not.
    #[must_use]
    pub fn knows(&self, cluster: &str) -> bool {
        let all = self.shared.registry.all();
        all.iter().any(|entry| entry.name == cluster)
    }

    /// Whether this gate of the Canary is open for where its rollout is now. One read.
    ///
    /// # Errors
    /// As [`Control::view`], in few words: whoever asks need not have proved who it is.
    pub async fn gate(&self, key: &Key, gate: Gate) -> Result<bool, ControlError> {
        let (_, canary) = self.gated(key).await?;
        Ok(GateState::of(&canary).is_open(gate, &canary))
    }

    /// Opens a gate until it is closed, or closes it. `by` is who asks, where that is known.
    ///
    /// # Errors
    /// As [`Control::gate`]; a write that is refused or lost is `Ok` with that outcome.
    pub async fn set_gate(
        &self,
        key: &Key,
        gate: Gate,
        change: Change,
        by: Option<&str>,
    ) -> Result<Acted, ControlError> {
        let (cluster, mut canary) = self.gated(key).await?;
        for _ in 1..TRIES {
            match put(&cluster, &canary, gate, change.clone(), by).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    (_, canary) = self.gated(key).await?;
                }
                other => return Ok(other.unwrap_or_else(|error| write_failed(&error))),
            }
        }
        let last = put(&cluster, &canary, gate, change, by).await;
        Ok(last.unwrap_or_else(|error| write_failed(&error)))
    }

    async fn gated(&self, key: &Key) -> Result<(Cluster, Object), ControlError> {
        let cluster = self.cluster(&key.cluster)?;
        let shown = self.shared.settings.on(&cluster).covers(&key.namespace);
        let canary = if shown {
            objects::canary(&cluster, &key.namespace, &key.name)
                .await
                .map_err(|e| unreachable(&e))?
        } else {
            None
        };
        match canary {
            Some(canary) => Ok((cluster, canary)),
            None => Err(ControlError::NotFound(format!(
                "name: cluster {} has no Canary {}/{}",
                key.cluster, key.namespace, key.name
            ))),
        }
    }

    /// A wish for a Canary that another controller drives: that one asks our gates, where the Canary's hooks name them. `None` when
    /// nobody else drives it.
    pub(super) async fn ask_driver(
        &self,
        wish: &Wish,
        cluster: &Cluster,
        canary: &Object,
    ) -> Option<Acted> {
        let other = driven_by(canary)?;
        let (gate, hook) = match way(wish, cluster.name(), other, canary) {
            Ok(way) => way,
            Err(why) => return Some(why),
        };
        let bound = Bound::of(gate, canary);
        let by = wish.by.as_deref();
        let acted = put(cluster, canary, gate, Change::OpenFor(bound), by)
            .await
            .unwrap_or_else(|error| write_failed(&error));
        Some(match acted.outcome {
            Outcome::Applied => Acted::applied(told(gate, other, &hook, "opened")),
            Outcome::Already => Acted::already(told(gate, other, &hook, "open already")),
            Outcome::Planned | Outcome::Refused | Outcome::Unconfirmed => acted,
        })
    }
}

impl Control {
    /// Opens the gate of ours that a webhook of a Canary asks which this engine drives.
    pub(super) async fn open_here(
        &self,
        wish: &Wish,
        cluster: &Cluster,
        canary: &Object,
        hook: &str,
    ) -> Acted {
        let change = Change::OpenFor(Bound::of(Gate::Advance, canary));
        let acted = put(cluster, canary, Gate::Advance, change, wish.by.as_deref())
            .await
            .unwrap_or_else(|error| write_failed(&error));
        let told = |how| told(Gate::Advance, "the engine", hook, how);
        match acted.outcome {
            Outcome::Applied => Acted::applied(told("opened")),
            Outcome::Already => Acted::already(told("open already")),
            Outcome::Planned | Outcome::Refused | Outcome::Unconfirmed => acted,
        }
    }
}

/// The gate of ours that the other controller asks now, and the name of the hook by which it does.
fn way(wish: &Wish, cluster: &str, other: &str, canary: &Object) -> Result<(Gate, String), Acted> {
    let phase = canary.str_at("/status/phase").unwrap_or("none");
    let foreign = format!("this Canary is not ours to drive: {}", not_ours(other));
    let (gate, hook_type) = match (wish.verb, phase) {
        (Verb::Promote, _) if wish.skip => return Err(Acted::refused(foreign)),
        (Verb::Rollback, _) if wish.to.is_some() => return Err(Acted::refused(foreign)),
        (Verb::Promote, "Waiting") => (Gate::Advance, "confirm-rollout"),
        (Verb::Promote, "Progressing") => (Gate::Advance, "confirm-traffic-increase"),
        (Verb::Promote, "WaitingPromotion") => (Gate::Advance, "confirm-promotion"),
        // Flagger asks its rollback hooks in these two phases and in no other.
        (Verb::Rollback, "Progressing" | "WaitingPromotion") => (Gate::Rollback, "rollback"),
        (Verb::Promote | Verb::Rollback, _) => {
            return Err(Acted::refused(format!(
                "{foreign}; it asks nobody now (phase {phase})"
            )));
        }
        (Verb::Reset, _) => return Err(Acted::refused(foreign)),
    };
    let hooks = hooks(canary, hook_type, gate, cluster);
    match hooks.iter().find(|hook| hook.ours) {
        Some(HookRef { name, .. }) => Ok((gate, (*name).to_owned())),
        None if phase == "Progressing" && gate == Gate::Advance && hooks.is_empty() => {
            Err(Acted::refused(format!(
                "{foreign}; nothing waits for approval (phase {phase})"
            )))
        }
        None => Err(Acted::refused(format!(
            "{foreign}; to have it ask here instead, add to spec.analysis.webhooks {{type: {hook_type}, name: {}, url: \
             http://THIS-SERVER/{}/{}/check}}",
            if gate == Gate::Rollback {
                "rollback"
            } else {
                "approve"
            },
            gate.segment(),
            encoded(cluster),
        ))),
    }
}

fn told(gate: Gate, other: &str, hook: &str, how: &str) -> String {
    match gate {
        Gate::Advance => format!(
            "gate {how}, for what waits now and no further; {other} asks it at its next interval (webhook {hook})"
        ),
        Gate::Rollback => format!(
            "rollback gate {how}, for this run; {other} asks it at its next interval (webhook {hook}) and then rolls back"
        ),
    }
}

/// A cluster's name as a part of a path: some have slashes.
fn encoded(cluster: &str) -> PercentEncode<'_> {
    utf8_percent_encode(cluster, UNRESERVED)
}

async fn put(
    cluster: &Cluster,
    canary: &Object,
    gate: Gate,
    change: Change,
    by: Option<&str>,
) -> Result<Acted, Error> {
    let state = GateState::of(canary);
    if state.is(gate, &change) {
        return Ok(Acted::already("the gate is so already"));
    }
    let open = change != Change::Close;
    let at = rfc3339(cluster.clock().now());
    let state = state.changed(gate, change, by, at);
    let text = serde_json::to_string(&state).unwrap_or_default();
    let write = annotation(canary, names::GATE_STATE, &text);
    cluster.write(&write, None).await?;
    Ok(Acted::applied(if open {
        "the gate is open"
    } else {
        "the gate is closed"
    }))
}
