//! Deletion, and what follows from it: finalizers, graceful pods, owned objects, the content of a namespace, the objects of
//! a custom resource whose definition goes. All of it happens within the one write, so that a test sees the end at once.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    kinds::Served,
    state::{Place, State},
    status::Status,
    store::{ChangeKind, ResourceKey, in_version},
};
use crate::{
    api::objects::{Object, ObjectExt},
    cluster::clock::rfc3339,
    decide::facts::Moment,
};

/// How long a pod on a node may take to end, unless it says otherwise. Kubernetes' default, seconds.
const GRACE_SECONDS: i64 = 30;
/// The finalizer of a deletion that waits for what the object owns.
const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that leaves behind what the object owns.
const ORPHAN: &str = "orphan";

/// The body and parameters of a DELETE.
#[derive(Debug, Clone, Default)]
pub(super) struct DeleteOptions {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) propagation: Propagation,
    pub(super) grace_seconds: Option<i64>,
    pub(super) dry_run: bool,
}

/// What happens to the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Propagation {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// The outcome of a DELETE.
#[derive(Debug, Clone)]
pub(super) enum Deleted {
    /// It is only marked: finalizers or the kubelet have the last word.
    Marked(Object),
    /// It is gone; its last state.
    Gone(Object),
}

/// Deletes one object.
pub(super) fn delete(
    state: &mut State,
    served: &Served,
    ns: &str,
    name: &str,
    options: &DeleteOptions,
    now: Moment,
) -> Result<Deleted, Status> {
    let object = state
        .object(&served.key(), ns, name)
        .cloned()
        .ok_or_else(|| Status::not_found(served, name))?;
    check_preconditions(served, &object, options)?;
    if options.dry_run {
        return Ok(Deleted::Gone(object));
    }
    let object = match options.propagation {
        Propagation::Background => object,
        Propagation::Foreground => with_finalizer(state, served, object, FOREGROUND),
        Propagation::Orphan => {
            return Ok(Deleted::Marked(leave_orphans(state, served, &object, now)));
        }
    };
    let deleted = mark_or_remove(state, served, &object, options.grace_seconds, now);
    if options.propagation == Propagation::Foreground {
        collect(state, object.uid(), now);
        settle_foreground(state, now);
    }
    Ok(match state.object(&served.key(), ns, name) {
        Some(left) => Deleted::Marked(Arc::clone(left)),
        None => match deleted {
            Deleted::Marked(object) | Deleted::Gone(object) => Deleted::Gone(object),
        },
    })
}

fn check_preconditions(
    served: &Served,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Status> {
    for (what, wanted, is, happened) in [
        (
            "UID",
            &options.uid,
            object.uid(),
            "deleted and then recreated",
        ),
        (
            "ResourceVersion",
            &options.resource_version,
            object.resource_version(),
            "modified",
        ),
    ] {
        if let Some(wanted) = wanted.as_deref().filter(|w| !w.is_empty() && *w != is) {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {happened}"
            );
            return Err(Status::other_object(served, object.name(), &why));
        }
    }
    if served.is("", "Namespace")
        && matches!(object.name(), "default" | "kube-system" | "kube-public")
    {
        return Err(Status::forbidden(
            served,
            object.name(),
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

/// Marks an object that has to wait, removes one that has not.
fn mark_or_remove(
    state: &mut State,
    served: &Served,
    object: &Object,
    grace: Option<i64>,
    now: Moment,
) -> Deleted {
    let on_node = served.is("", "Pod") && object.str_at("/spec/nodeName").is_some();
    let grace = if on_node {
        grace.unwrap_or_else(|| {
            object
                .int_at("/spec/terminationGracePeriodSeconds")
                .unwrap_or(GRACE_SECONDS)
        })
    } else {
        0
    };
    let waits = !object.array_at("/metadata/finalizers").is_empty() || grace > 0;
    let object = if waits || served.is("", "Namespace") {
        mark(state, served, object, grace, now)
    } else {
        Arc::clone(object)
    };
    if served.is("", "Namespace") {
        empty_namespace(state, object.name(), now);
    }
    if waits {
        return Deleted::Marked(object);
    }
    finish(state, served, &object, now);
    Deleted::Gone(object)
}

/// Sets `deletionTimestamp`; an object that has one already stays as it is.
fn mark(state: &mut State, served: &Served, object: &Object, grace: i64, now: Moment) -> Object {
    if object.str_at("/metadata/deletionTimestamp").is_some() {
        return Arc::clone(object);
    }
    let mut marked = (**object).clone();
    let meta = super::write::metadata(&mut marked);
    let at = rfc3339(now.plus(grace.saturating_mul(1000)));
    meta.insert("deletionTimestamp".to_owned(), json!(at));
    if !served.is("", "Namespace") {
        meta.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    }
    if let Some(generation) = object.generation() {
        meta.insert("generation".to_owned(), json!(generation + 1));
    }
    if served.is("", "Namespace") {
        marked["status"]["phase"] = json!("Terminating");
    }
    state.put(served, ChangeKind::Modified, marked)
}

/// Removes an object for good, and then what depends on it. A namespace goes only when it is empty.
pub(super) fn finish(state: &mut State, served: &Served, object: &Object, now: Moment) {
    if served.is("", "Namespace") && !is_empty_namespace(state, object.name()) {
        return;
    }
    if state
        .object(&served.key(), object.namespace(), object.name())
        .is_none()
    {
        return;
    }
    if served.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        remove_custom(state, object, now);
    }
    state.put(served, ChangeKind::Deleted, (**object).clone());
    collect(state, object.uid(), now);
    settle_foreground(state, now);
    settle_namespace(state, object.namespace(), now);
}

/// Removes or releases the objects that name `uid` as an owner.
fn collect(state: &mut State, uid: &str, now: Moment) {
    for (key, object) in dependents(state, uid) {
        let Some(served) = state.catalog.stored(&key) else {
            continue;
        };
        let alive = |owner: &Value| {
            owner["uid"]
                .as_str()
                .is_some_and(|o| o != uid && state.uids.contains_key(o))
        };
        let others = object
            .array_at("/metadata/ownerReferences")
            .iter()
            .any(alive);
        let current = state
            .object(&key, object.namespace(), object.name())
            .cloned();
        let Some(current) = current else { continue };
        if others {
            if !state.uids.contains_key(uid) {
                drop_owner(state, &served, &current, uid);
            }
        } else {
            mark_or_remove(state, &served, &current, None, now);
        }
    }
}

/// The uids of an object's owners.
pub(super) fn owner_uids(object: &Value) -> impl Iterator<Item = &str> {
    object
        .array_at("/metadata/ownerReferences")
        .iter()
        .filter_map(|owner| owner["uid"].as_str())
}

/// The object is deleted in the foreground: it goes after what it owns.
pub(super) fn waits_for_owned(object: &Value) -> bool {
    object.str_at("/metadata/deletionTimestamp").is_some()
        && object
            .array_at("/metadata/finalizers")
            .iter()
            .any(|f| f == FOREGROUND)
}

/// Every object that names `uid` as an owner.
fn dependents(state: &State, uid: &str) -> Vec<(ResourceKey, Object)> {
    at(state, state.owned.get(uid).into_iter().flatten())
}

fn at<'a>(state: &State, places: impl Iterator<Item = &'a Place>) -> Vec<(ResourceKey, Object)> {
    places
        .filter_map(|(key, ns, name)| {
            let object = state.object(key, ns, name)?;
            Some((key.clone(), Arc::clone(object)))
        })
        .collect()
}

fn drop_owner(state: &mut State, served: &Served, object: &Object, uid: &str) {
    let mut left = (**object).clone();
    if let Some(owners) = left
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut)
    {
        owners.retain(|owner| owner["uid"] != uid);
        if owners.is_empty() {
            super::write::metadata(&mut left).remove("ownerReferences");
        }
    }
    state.put(served, ChangeKind::Modified, left);
}

fn orphan_dependents(state: &mut State, uid: &str) {
    for (key, object) in dependents(state, uid) {
        if let Some(served) = state.catalog.stored(&key) {
            drop_owner(state, &served, &object, uid);
        }
    }
}

/// Deletes an object without what it owns. It is answered as the garbage collector finds it: marked, with a finalizer.
fn leave_orphans(state: &mut State, served: &Served, object: &Object, now: Moment) -> Object {
    let held = with_finalizer(state, served, Arc::clone(object), ORPHAN);
    let marked = mark(state, served, &held, 0, now);
    orphan_dependents(state, object.uid());
    let mut left = (*marked).clone();
    let others = without(&left, ORPHAN);
    if others.is_empty() {
        super::write::metadata(&mut left).remove("finalizers");
        finish(state, served, &Arc::new(left), now);
    } else {
        super::write::metadata(&mut left).insert("finalizers".to_owned(), Value::Array(others));
        state.put(served, ChangeKind::Modified, left);
    }
    marked
}

fn without(object: &Value, finalizer: &str) -> Vec<Value> {
    let mut finalizers = object.array_at("/metadata/finalizers").to_vec();
    finalizers.retain(|other| other != finalizer);
    finalizers
}

/// The object with one more finalizer. It is stored here only where the deletion, which stores it, has been asked for before.
fn with_finalizer(state: &mut State, served: &Served, object: Object, name: &str) -> Object {
    let finalizers = object.array_at("/metadata/finalizers");
    if finalizers.iter().any(|f| f == name) {
        return object;
    }
    let mut with = (*object).clone();
    let mut all = finalizers.to_vec();
    all.push(json!(name));
    super::write::metadata(&mut with).insert("finalizers".to_owned(), Value::Array(all));
    if object.str_at("/metadata/deletionTimestamp").is_some() {
        state.put(served, ChangeKind::Modified, with)
    } else {
        Arc::new(with)
    }
}

/// Ends the foreground deletions whose last blocking dependent is gone.
fn settle_foreground(state: &mut State, now: Moment) {
    let waiting = at(state, state.foreground.iter());
    for (key, object) in waiting {
        if !dependents(state, object.uid()).is_empty() {
            continue;
        }
        let Some(served) = state.catalog.stored(&key) else {
            continue;
        };
        let mut left = (*object).clone();
        let meta = super::write::metadata(&mut left);
        let rest: Vec<Value> = object
            .array_at("/metadata/finalizers")
            .iter()
            .filter(|f| *f != FOREGROUND && *f != ORPHAN)
            .cloned()
            .collect();
        if rest.is_empty() {
            meta.remove("finalizers");
        } else {
            meta.insert("finalizers".to_owned(), Value::Array(rest.clone()));
        }
        let object = state.put(&served, ChangeKind::Modified, left);
        if rest.is_empty() {
            finish(state, &served, &object, now);
        }
    }
}

fn content(state: &State, ns: &str) -> Vec<(ResourceKey, Object)> {
    state
        .tables
        .iter()
        .flat_map(|(key, table)| {
            table
                .values()
                .filter(|object| object.namespace() == ns)
                .map(|object| (key.clone(), Arc::clone(object)))
        })
        .collect()
}

fn empty_namespace(state: &mut State, ns: &str, now: Moment) {
    for (key, object) in content(state, ns) {
        let current = state
            .object(&key, object.namespace(), object.name())
            .cloned();
        if let (Some(served), Some(current)) = (state.catalog.stored(&key), current) {
            // The kubelet of a namespace that goes is not waited for.
            mark_or_remove(state, &served, &current, Some(0), now);
        }
    }
}

fn is_empty_namespace(state: &State, ns: &str) -> bool {
    content(state, ns).is_empty()
}

/// A namespace that waits for its content goes with the last object in it.
fn settle_namespace(state: &mut State, ns: &str, now: Moment) {
    if ns.is_empty() {
        return;
    }
    let key = super::kinds::storage_key("", "namespaces");
    let Some(namespace) = state.object(&key, "", ns).cloned() else {
        return;
    };
    let terminating = namespace.str_at("/metadata/deletionTimestamp").is_some()
        && namespace.array_at("/metadata/finalizers").is_empty();
    if let (true, Some(served)) = (terminating, state.catalog.stored(&key)) {
        finish(state, &served, &namespace, now);
    }
}

/// The objects of a definition that goes are removed whatever their finalizers say: nobody could take those off any more.
fn remove_custom(state: &mut State, definition: &Value, now: Moment) {
    let key = super::crd::key(definition);
    if let Some(served) = state.catalog.stored(&key) {
        let objects: Vec<Object> = state
            .tables
            .get(&key)
            .map(|table| table.values().cloned().collect())
            .unwrap_or_default();
        for object in objects {
            // One that another one of them owned is gone already.
            if !state.uids.contains_key(object.uid()) {
                continue;
            }
            let shown = in_version(&object, &served);
            state.put(&served, ChangeKind::Deleted, (*shown).clone());
            collect(state, object.uid(), now);
        }
    }
    state.catalog.replace_custom(&key, Vec::new());
}

/// What follows from a creation: an object whose owners are all gone goes after them.
pub(super) fn after_create(state: &mut State, served: &Served, object: &Object, now: Moment) {
    let owners = object.array_at("/metadata/ownerReferences");
    let known = |owner: &Value| {
        owner["uid"]
            .as_str()
            .is_some_and(|uid| state.uids.contains_key(uid))
    };
    if !owners.is_empty() && !owners.iter().any(known) {
        mark_or_remove(state, served, object, Some(0), now);
    }
}
