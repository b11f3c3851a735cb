//! The revisions of a Canary that are kept, and can be gone back to.

use serde_json::Value;

use crate::{
    api::{
        objects::{ObjectExt, Objects},
        revision::revision,
    },
    decide::state::{Phase, State},
};

/// One kept revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept<'a> {
    /// The revision.
    pub revision: String,
    /// Name of the `ControllerRevision` that keeps it.
    pub name: &'a str,
    /// Its template.
    pub template: &'a Value,
}

/// The kept revisions that a rollback can go back to, newest first: neither what is live nor what the last run has failed with.
#[must_use]
pub fn kept<'a>(objects: &'a Objects, state: &State) -> Vec<Kept<'a>> {
    let uid = objects.canary.uid();
    let mut pins: Vec<_> = objects
        .revisions
        .iter()
        .filter(|pin| pin.owned_by(uid))
        .collect();
    pins.sort_by_key(|pin| std::cmp::Reverse(pin.int_at("/revision").unwrap_or(0)));
    let failed = state.run.as_ref().filter(|_| state.phase == Phase::Failed);
    let failed = failed.map(|run| run.revision.as_str());
    let mut all: Vec<Kept<'a>> = Vec::new();
    for pin in pins {
        let template = &pin["data"];
        let revision = revision(template);
        let live = state.last_promoted.as_deref() == Some(revision.as_str());
        let known = all.iter().any(|kept| kept.revision == revision);
        if !live && !known && failed != Some(revision.as_str()) {
            all.push(Kept {
                revision,
                name: pin.name(),
                template,
            });
        }
    }
    all
}
