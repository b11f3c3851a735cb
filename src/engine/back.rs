//! After a promotion, back to a revision that is kept.

use super::control::Acted;
use crate::{
    api::{
        objects::{ObjectExt, Objects},
        view::{Kept, kept},
    },
    build::git,
    decide::state::{Stage, State},
};

/// The kept revision that `to` names, in full or by its first digits; or why there is no going back to it.
pub(super) fn kept_revision(to: &str, objects: &Objects, state: &State) -> Result<String, Acted> {
    let phase = state.phase.name();
    match state.stage {
        Stage::Idle => {}
        Stage::Bootstrap => {
            return Err(Acted::refused(format!(
                "the Canary is still being initialized (phase {phase}), there is nothing to go back to"
            )));
        }
        Stage::Waiting
        | Stage::Starting
        | Stage::Analysing
        | Stage::Gated
        | Stage::Copying
        | Stage::Shifting
        | Stage::Settling
        | Stage::Reverting
        | Stage::Restoring => {
            return Err(Acted::refused(format!(
                "a run is going on (phase {phase}): call rollback without to_revision to end it, and again with it when its phase is Failed"
            )));
        }
    }
    if state.traffic.serves() {
        return Err(Acted::refused(
            "the last rollback left all traffic on the canary; repair the primary first, traffic then returns by itself",
        ));
    }
    let hex = |revision: &str| revision.trim_start_matches("v1-").to_owned();
    let named = |revision: &str| hex(revision).starts_with(&hex(to));
    if let Some(live) = state.last_promoted.as_deref().filter(|live| named(live)) {
        return Err(Acted::already(format!("revision {live} is what is live")));
    }
    let all = kept(objects, state);
    let mut found = all.iter().filter(|kept| named(&kept.revision));
    let found = match (found.next(), found.next()) {
        (Some(found), None) => found,
        (Some(_), Some(_)) => {
            return Err(Acted::refused(format!(
                "to_revision {to} names several of those that are kept: {}",
                listed(&all)
            )));
        }
        (None, _) => {
            return Err(Acted::refused(format!(
                "no revision {to} is kept that could be gone back to; kept are: {}",
                listed(&all)
            )));
        }
    };
    match owned_by_git(objects, found) {
        Some(why) => Err(Acted::refused(why)),
        None => Ok(found.revision.clone()),
    }
}

fn listed(all: &[Kept<'_>]) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    let all: Vec<String> = all
        .iter()
        .map(|kept| match images(kept).first() {
            Some((_, image)) => format!("{} ({image})", kept.revision),
            None => kept.revision.clone(),
        })
        .collect();
    all.join(", ")
}

/// Containers and their images.
fn images<'a>(kept: &Kept<'a>) -> Vec<(&'a str, &'a str)> {
    let containers = kept.template.array_at("/spec/containers").iter();
    containers
        .filter_map(|c| Some((c.str_at("/name")?, c.str_at("/image")?)))
        .collect()
}

/// What to change in git, where a change of ours would be undone.
fn owned_by_git(objects: &Objects, kept: &Kept<'_>) -> Option<String> {
    let target = objects.target.as_ref()?;
    let owner = git::git_owner(target)?;
    let images: Vec<String> = images(kept)
        .into_iter()
        .map(|(name, image)| format!("{name} {image}"))
        .collect();
    Some(format!(
        "Deployment {}/{} is owned by {owner}; put the template of revision {} back in git (images: {}; all of it: kubectl -n {} get controllerrevision {} -o yaml), \
         the rollout begins when that is synced",
        target.namespace(),
        target.name(),
        kept.revision,
        images.join(", "),
        target.namespace(),
        kept.name
    ))
}
