//! Lists: a snapshot at one revision, filtered, cut into pages.
//!
//! All pages of a list show the revision of the first: the log is played backwards to it. A watch that starts at that
//! revision misses nothing.

use std::sync::Arc;

use serde_json::Value;

use super::{
    events,
    kinds::Served,
    route::Query,
    selector::Filter,
    state::State,
    status::{Cause, Status},
    store::{ChangeKind, in_version},
};
use crate::api::objects::{Object, ObjectExt};

/// One page of a list, in the served version.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Object>,
    pub(super) revision: u64,
    /// What to ask for the next page with; none on the last one.
    pub(super) next: Option<String>,
    /// How many items follow this page, where that is known without filtering.
    pub(super) remaining: Option<usize>,
}

/// The page that `query` asks for.
pub(super) fn page(
    state: &State,
    served: &Served,
    ns: &str,
    filter: &Filter,
    query: &Query,
) -> Result<Page, Status> {
    check(query)?;
    let (revision, after) = match query.get("continue") {
        "" => (revision_of(state, query)?, None),
        token => {
            let (revision, place) = parse_token(token)?;
            (revision, Some(place))
        }
    };
    let items = items_at(state, served, ns, revision).ok_or_else(|| {
        if after.is_some() {
            Status::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You must start a new list without the continue parameter.",
            )
        } else {
            too_old(revision, state)
        }
    })?;
    let mut items: Vec<Object> = items
        .into_iter()
        .filter(|o| {
            after
                .as_ref()
                .is_none_or(|(ns, name)| (o.namespace(), o.name()) > (ns.as_str(), name.as_str()))
        })
        .map(|object| shown(served, &object))
        .filter(|object| filter.matches(object))
        .collect();
    let limit = query
        .number("limit")
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0);
    let rest = limit.map_or(0, |limit| items.len().saturating_sub(limit));
    items.truncate(items.len() - rest);
    let next = items
        .last()
        .filter(|_| rest > 0)
        .map(|last| format!("{revision}:{}/{}", last.namespace(), last.name()));
    Ok(Page {
        items,
        revision,
        remaining: next.as_ref().filter(|_| filter.is_empty()).map(|_| rest),
        next,
    })
}

/// An object as it is served: in the version, and for core events under the names of the request's group.
pub(super) fn shown(served: &Served, object: &Object) -> Object {
    if served.is_core_event() {
        Arc::new(events::to_core(object))
    } else {
        in_version(object, served)
    }
}

fn revision_of(state: &State, query: &Query) -> Result<u64, Status> {
    let asked = match query.get("resourceVersion") {
        "" => 0,
        text => text.parse().map_err(|_| invalid_version(text))?,
    };
    if asked > state.revision {
        return Err(too_large(asked, state.revision));
    }
    match query.get("resourceVersionMatch") {
        "Exact" if asked > 0 => Ok(asked),
        _ => Ok(state.revision),
    }
}

/// The mistakes of a list's parameters.
fn check(query: &Query) -> Result<(), Status> {
    if !query.get("continue").is_empty() && !query.get("resourceVersion").is_empty() {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    if query.is("sendInitialEvents") {
        let why = "sendInitialEvents is forbidden for list";
        return Err(forbidden_option("sendInitialEvents", why));
    }
    let field = "resourceVersionMatch";
    match (query.get(field), query.get("resourceVersion")) {
        ("", _) => Ok(()),
        (_, "") => Err(forbidden_option(
            field,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        ("Exact", "0") => Err(forbidden_option(
            field,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        ("Exact" | "NotOlderThan", _) => Ok(()),
        (other, _) => {
            let allowed = ["Exact", "NotOlderThan", ""].map(Value::from);
            let cause = Cause::unsupported(field, &Value::from(other), &allowed);
            Err(Status::invalid_options("ListOptions", cause))
        }
    }
}

/// A parameter of a list or a watch that does not go with the others.
pub(super) fn forbidden_option(field: &str, why: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueForbidden",
        message: format!("Forbidden: {why}"),
        field: field.to_owned(),
    };
    Status::invalid_options("ListOptions", cause)
}

/// A resourceVersion that is no number.
pub(super) fn invalid_version(text: &str) -> Status {
    Status::bad_request(format!(
        "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
    ))
}

/// A resourceVersion from the future.
pub(super) fn too_large(asked: u64, current: u64) -> Status {
    Status::too_large_version(asked, current)
}

/// A resourceVersion that the log has forgotten.
pub(super) fn too_old(asked: u64, state: &State) -> Status {
    Status::expired(format!(
        "too old resource version: {asked} ({})",
        state.floor()
    ))
}

fn parse_token(token: &str) -> Result<(u64, (String, String)), Status> {
    let parsed = token.split_once(':').and_then(|(revision, place)| {
        let (ns, name) = place.split_once('/')?;
        Some((revision.parse().ok()?, (ns.to_owned(), name.to_owned())))
    });
    parsed.ok_or_else(|| {
        Status::bad_request(format!(
            "continue key is not valid: {token:?}: give back what the last page had"
        ))
    })
}

/// The stored objects of one kind as they were at `revision`, in order; `None` when the log does not go back so far.
fn items_at(state: &State, served: &Served, ns: &str, revision: u64) -> Option<Vec<Object>> {
    let key = served.key();
    let in_scope = |namespace: &str| ns.is_empty() || ns == namespace;
    if revision == state.revision {
        let table = state.tables.get(&key);
        return Some(
            table
                .into_iter()
                .flatten()
                .filter(|((namespace, _), _)| in_scope(namespace))
                .map(|(_, object)| Arc::clone(object))
                .collect(),
        );
    }
    let mut table = state.tables.get(&key).cloned().unwrap_or_default();
    for change in state.changes_since(revision)?.into_iter().rev() {
        if change.resource != key {
            continue;
        }
        let object = &change.object;
        let place = (object.namespace().to_owned(), object.name().to_owned());
        match (change.kind, change.previous) {
            (ChangeKind::Modified | ChangeKind::Deleted, Some(previous)) => {
                table.insert(place, previous);
            }
            (ChangeKind::Added | ChangeKind::Modified | ChangeKind::Deleted, _) => {
                table.remove(&place);
            }
        }
    }
    Some(
        table
            .into_iter()
            .filter(|((namespace, _), _)| in_scope(namespace))
            .map(|(_, object)| object)
            .collect(),
    )
}
