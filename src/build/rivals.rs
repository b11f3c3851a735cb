//! Two Canaries that claim one object: one keeps it, the other one is refused.
//!
//! Whoever made something of it keeps it, so that no new Canary and no edit of another one stands in the way of what works. Where neither
//! did, the older one is carried out, and of two of the same second the first by name.

use serde_json::Value;

use super::controller;
use crate::api::{
    claim::{Claim, Clash},
    objects::{Object, ObjectExt, Objects},
    parse::Refusal,
};

/// One refusal for each Canary that keeps what this one claims too.
#[must_use]
pub fn refusals(objects: &Objects) -> Vec<Refusal> {
    let own = Claim::of(&objects.canary);
    let each = objects.rivals.iter().filter_map(|rival| {
        let clash = own.clash(rival)?;
        let why = keeps(objects, &own, rival)?;
        Some(refusal(&own, rival, &clash, why))
    });
    each.collect()
}

/// The object belongs to a Canary that claims it too.
pub(super) fn rival(object: &Value, objects: &Objects) -> bool {
    let owner = controller(object).and_then(|owner| owner.str_at("/uid"));
    objects
        .rivals
        .iter()
        .any(|rival| owner == Some(rival.uid.as_str()))
}

/// Why the other one keeps it; `None` when this one does.
fn keeps(objects: &Objects, own: &Claim, rival: &Claim) -> Option<&'static str> {
    let made: [&Option<Object>; 10] = [
        &objects.target,
        &objects.primary,
        &objects.apex,
        &objects.primary_service,
        &objects.canary_service,
        &objects.virtual_service,
        &objects.primary_rule,
        &objects.canary_rule,
        &objects.scaler,
        &objects.primary_scaler,
    ];
    let made_by = |uid: &str| {
        let mut made = made.iter().copied().flatten();
        made.any(|object| controller(object).and_then(|owner| owner.str_at("/uid")) == Some(uid))
    };
    if made_by(&rival.uid) {
        return Some("which works on it already");
    }
    if made_by(&own.uid) {
        return None;
    }
    match (&rival.created, &rival.name).cmp(&(&own.created, &own.name)) {
        std::cmp::Ordering::Less if rival.created == own.created => {
            Some("which is of the same second and comes first by name")
        }
        std::cmp::Ordering::Less => Some("which is older"),
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => None,
    }
}

fn refusal(own: &Claim, rival: &Claim, clash: &Clash, why: &str) -> Refusal {
    let Clash {
        path,
        object,
        ours,
        theirs,
    } = clash;
    Refusal::new(
        *path,
        format!(
            "{object} is {ours} of Canary {} and {theirs} of Canary {}, {why}",
            own.name, rival.name
        ),
        format!("delete one of the two, or change {path} of one of them"),
    )
}
