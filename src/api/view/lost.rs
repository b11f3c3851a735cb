//! A primary that nothing kept can be made from.

use crate::{
    api::{
        objects::{ObjectExt, Objects},
        revision::revision,
    },
    decide::state::{Stage, State},
};

/// What is missing and what a person can do about it: the primary is gone, its pin is gone, and the target no longer has that version.
/// Nothing else says what was promoted, and what nobody analysed never becomes the primary.
#[must_use]
pub fn lost_primary(objects: &Objects, state: &State) -> Option<(String, String)> {
    let target = objects.target.as_ref()?;
    let promoted = state.last_promoted.as_deref();
    let pin = state.promoted_pin();
    let kept = pin.is_some_and(|pin| objects.revisions.iter().any(|r| r.name() == pin));
    let live = revision(&target["spec"]["template"]);
    if objects.primary.is_some()
        || state.stage == Stage::Bootstrap
        || kept
        || promoted == Some(live.as_str())
    {
        return None;
    }
    let (name, namespace) = (target.name(), target.namespace());
    let what = format!(
        "Deployment {name}-primary.{namespace}, which is gone together with the ControllerRevision that kept its template"
    );
    let how = format!(
        "put the target back to the promoted revision {} (kubectl -n {namespace} rollout undo deployment/{name}): the primary is then made from it; or restore Deployment {name}-primary from a backup",
        promoted.unwrap_or("(unknown)")
    );
    Some((what, how))
}
