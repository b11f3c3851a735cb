//! The pinned templates: `apps/v1` `ControllerRevision`s owned by the Canary.

use serde_json::{Map, Value, json};

use super::{Stamp, metadata, owned};
use crate::{
    api::{
        objects::{CONTROLLER_REVISION, Object, ObjectExt, Objects, Write},
        revision::revision,
    },
    decide::{plan::Plan, state::Run},
};

/// How many pins are kept beside those that the run names.
const KEPT: usize = 5;

/// Keeps the run's template, if the live target still has it, and drops the oldest pins that no run needs. Nothing is pinned when the
/// target has moved on: the run then restarts on what is live.
#[must_use]
pub fn pin(plan: &Plan, objects: &Objects, stamp: &Stamp, run: &Run) -> Vec<Write> {
    let mut writes = Vec::new();
    let live = objects
        .target
        .as_ref()
        .map(|target| &target["spec"]["template"]);
    if let Some(live) = live
        && pinned(objects, &run.template).is_none()
        && revision(live) == run.revision
    {
        writes.push(Write::Create(json!({
            "apiVersion": CONTROLLER_REVISION.api_version(),
            "kind": CONTROLLER_REVISION.kind,
            "metadata": metadata(plan, objects, stamp, &run.template, Map::new(), Map::new()),
            "data": live,
            "revision": run.n,
        })));
    }
    writes.extend(
        dropped(objects, run)
            .into_iter()
            .map(|from| Write::Delete { from }),
    );
    writes
}

/// The template that the pin of this name keeps.
#[must_use]
pub fn pinned<'a>(objects: &'a Objects, name: &str) -> Option<&'a Value> {
    objects
        .revisions
        .iter()
        .find(|pin| pin.name() == name)
        .map(|pin| &pin["data"])
}

/// The kept template of a revision.
#[must_use]
pub fn of_revision<'a>(objects: &'a Objects, of: &str) -> Option<&'a Value> {
    let mut all = objects.revisions.iter().map(|pin| &pin["data"]);
    all.find(|data| revision(data) == of)
}

/// The pins that no run needs, beyond the newest [`KEPT`].
fn dropped(objects: &Objects, run: &Run) -> Vec<Object> {
    let mut others: Vec<&Object> = objects
        .revisions
        .iter()
        .filter(|pin| owned(pin, &objects.canary))
        .filter(|pin| pin.name() != run.template && Some(pin.name()) != run.previous.as_deref())
        .collect();
    others.sort_by_key(|pin| {
        (
            std::cmp::Reverse(pin.int_at("/revision").unwrap_or(0)),
            pin.name().to_owned(),
        )
    });
    others.into_iter().skip(KEPT).cloned().collect()
}
