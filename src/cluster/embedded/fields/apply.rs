//! What a write does to the fields' owners, and what an applied configuration makes of an object.
//!
//! As sigs.k8s.io/structured-merge-diff `merge/update.go` and apimachinery's `util/managedfields` do it. An Update takes
//! over every field that it changes; the others stay with their owners. An Apply owns the fields of its configuration,
//! shares those where another has the same value, takes away what it applied last time and nobody else owns, and is refused
//! where it would change another's field, unless it is forced.

use serde_json::Value;

use super::{
    managers::{Manager, Operation, cap},
    merge::{merge, remove},
    set::{FieldSet, Step, text},
    shape::Shape,
    walk::{compare, equal, fields_of},
};
use crate::{
    api::objects::ObjectExt,
    cluster::embedded::status::{Cause, Status},
};

/// Who writes, and to what.
#[derive(Debug)]
pub(in crate::cluster::embedded) struct Author<'a> {
    pub(in crate::cluster::embedded) manager: &'a str,
    pub(in crate::cluster::embedded) api_version: &'a str,
    /// `status`, `scale`, or none for the object itself.
    pub(in crate::cluster::embedded) subresource: Option<&'a str>,
    /// RFC 3339.
    pub(in crate::cluster::embedded) time: &'a str,
    pub(in crate::cluster::embedded) shape: &'a Shape,
    /// A built-in kind: Go's struct holds fields that are not in the JSON.
    pub(in crate::cluster::embedded) typed: bool,
    /// Fields that such a write does not touch, whatever it says.
    pub(in crate::cluster::embedded) ignored: &'a FieldSet,
}

/// One field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conflict {
    manager: Manager,
    path: Vec<Step>,
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager whose conflicts with its own client-side apply are none.
const KUBECTL: &str = "kubectl";

/// What nobody owns: the server sets it.
fn server_set() -> FieldSet {
    FieldSet::of(&[
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
}

impl Author<'_> {
    fn as_manager(&self, operation: Operation, fields: FieldSet) -> Manager {
        let name = if self.manager.is_empty() {
            "unknown"
        } else {
            self.manager
        };
        Manager {
            name: name.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.map(str::to_owned),
            time: None,
            fields,
        }
    }
}

// === Update ===

/// The managers after the author turned `old` (an empty object, at creation) into `new`.
pub(in crate::cluster::embedded) fn after_update(
    mut managers: Vec<Manager>,
    old: &Value,
    new: &Value,
    author: &Author<'_>,
) -> Vec<Manager> {
    // What was reset stays so, until somebody applies.
    if managers.is_empty() && !old.uid().is_empty() {
        return managers;
    }
    let mut own = update_as(&mut managers, old, new, author, author.manager);
    own.time = Some(author.time.to_owned());
    if !own.fields.is_empty() {
        match managers.iter_mut().find(|m| m.is(&own)) {
            Some(earlier) => {
                earlier.fields.extend(&own.fields);
                earlier.time = own.time;
            }
            None => managers.push(own),
        }
    }
    cap(&mut managers);
    managers
}

/// Takes the changed fields from all managers, and answers the one that changed them.
fn update_as(
    managers: &mut Vec<Manager>,
    old: &Value,
    new: &Value,
    author: &Author<'_>,
    name: &str,
) -> Manager {
    let difference = compare(author.shape, &unmanaged(old), &unmanaged(new), author.typed);
    let changed = difference.set.without(author.ignored);
    let removed = difference.removed.without(author.ignored);
    for manager in managers.iter_mut() {
        manager.fields = manager.fields.difference(&changed).difference(&removed);
    }
    managers.retain(|m| !m.fields.is_empty());
    let mut own = author.as_manager(Operation::Update, changed.difference(&server_set()));
    if !name.is_empty() {
        name.clone_into(&mut own.name);
    }
    own
}

/// The object without what is never tracked.
fn unmanaged(object: &Value) -> Value {
    let mut object = object.clone();
    let meta = object.pointer_mut("/metadata");
    if let Some(meta) = meta.and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    object
}

// === Apply ===

/// The object that `config` makes of `live` (an empty object, where there is none), and the managers after that.
///
/// # Errors
/// 409 where it would change fields that others own, and `force` is not set.
pub(in crate::cluster::embedded) fn apply(
    managers: Vec<Manager>,
    live: &Value,
    config: &Value,
    author: &Author<'_>,
    force: bool,
) -> Result<(Value, Vec<Manager>), Status> {
    let live = unmanaged(live);
    let mut managers = managers;
    if managers.is_empty() {
        // What was there before the first apply belongs to somebody, too.
        let empty = Value::Object(serde_json::Map::new());
        let mut before = update_as(&mut managers, &empty, &live, author, "before-first-apply");
        before.time = Some(author.time.to_owned());
        if !before.fields.is_empty() {
            managers.push(before);
        }
    }
    let attempt = |force: bool| try_apply(managers.clone(), &live, config, author, force);
    let applied = match attempt(force) {
        Err(conflicts) if author.manager == KUBECTL => match upgrade(&live, author, conflicts) {
            conflicts if conflicts.is_empty() => attempt(true),
            conflicts => Err(conflicts),
        },
        other => other,
    };
    let (mut object, managers) = applied.map_err(|conflicts| refused(&conflicts))?;
    if author.manager == KUBECTL {
        renew_last_applied(&mut object, config);
    }
    Ok((object, managers))
}

fn try_apply(
    mut managers: Vec<Manager>,
    live: &Value,
    config: &Value,
    author: &Author<'_>,
    force: bool,
) -> Result<(Value, Vec<Manager>), Vec<Conflict>> {
    let merged = merge(author.shape, live, config);
    let set = fields_of(author.shape, config).without(author.ignored);
    let mut own = author.as_manager(Operation::Apply, set);
    let last = managers.iter().position(|m| m.is(&own));
    let last = last.map(|at| managers.remove(at));
    own.time = last.as_ref().and_then(|last| last.time.clone());
    let new = match &last {
        Some(last) => {
            let mut owned = own.fields.clone();
            for manager in &managers {
                owned.extend(&manager.fields);
            }
            prune(author.shape, &merged, &last.fields, &owned)
        }
        None => merged,
    };
    let difference = compare(author.shape, live, &new, author.typed);
    let changed = difference.set.without(author.ignored);
    let removed = difference.removed.without(author.ignored);
    let mut conflicts = Vec::new();
    for manager in &mut managers {
        let taken = manager.fields.intersection(&changed);
        if !force {
            conflicts.extend(taken.paths().into_iter().map(|path| Conflict {
                manager: manager.clone(),
                path,
            }));
        }
        manager.fields = manager.fields.difference(&taken).difference(&removed);
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    managers.retain(|m| !m.fields.is_empty());
    own.fields = own.fields.difference(&server_set());
    if !equal(live, &new) {
        own.time = Some(author.time.to_owned());
    }
    if !own.fields.is_empty() {
        managers.push(own);
    }
    Ok((new, managers))
}

/// `merged` without what the manager applied last time, nobody owns now, and it does not apply any more.
fn prune(shape: &Shape, merged: &Value, last: &FieldSet, owned: &FieldSet) -> Value {
    let empty = || Value::Object(serde_json::Map::new());
    let last = last.with_named(shape);
    let all = fields_of(shape, merged).with_named(shape);
    let without = |set: &FieldSet| remove(shape, merged, set).unwrap_or_else(empty);
    // Back with what others own, also where it is below something that was taken away.
    let pruned = without(&last);
    let kept = fields_of(shape, &pruned)
        .with_named(shape)
        .union(&owned.with_named(shape));
    let pruned = without(&all.difference(&kept));
    // And back with what nobody owns and this manager did not apply either.
    let kept = fields_of(shape, &pruned).with_named(shape);
    without(&all.difference(&kept).intersection(&last))
}

// === Conflicts ===

/// As Kubernetes words them, by manager.
fn refused(conflicts: &[Conflict]) -> Status {
    let mut sorted: Vec<&Conflict> = conflicts.iter().collect();
    sorted.sort_by_key(|c| {
        (
            c.manager.name.clone(),
            c.manager.operation,
            c.manager.subresource.clone(),
        )
    });
    let message = match sorted.as_slice() {
        [one] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager.title(),
            text(&one.path)
        ),
        all => {
            let mut lines = Vec::new();
            let mut last = String::new();
            for conflict in all {
                let title = conflict.manager.title();
                if title != last {
                    lines.push(format!("conflicts with {title}:"));
                    last = title;
                }
                lines.push(format!("- {}", text(&conflict.path)));
            }
            format!(
                "Apply failed with {} conflicts: {}",
                all.len(),
                lines.join("\n")
            )
        }
    };
    let causes = sorted.iter().map(|conflict| Cause {
        reason: "FieldManagerConflict",
        message: format!("conflict with {}", conflict.manager.title()),
        field: text(&conflict.path),
    });
    Status::apply_conflict(message, causes.collect())
}

// === From kubectl's client-side apply ===

/// The conflicts that are left where fields that kubectl applied from the client are its own.
fn upgrade(live: &Value, author: &Author<'_>, conflicts: Vec<Conflict>) -> Vec<Conflict> {
    let Some(last) = last_applied(live).and_then(|text| serde_json::from_str::<Value>(text).ok())
    else {
        return conflicts;
    };
    if last["apiVersion"] != author.api_version {
        return conflicts;
    }
    let difference = compare(author.shape, &last, live, false);
    let allowed = fields_of(author.shape, &last)
        .difference(&difference.set)
        .difference(&difference.removed);
    conflicts
        .into_iter()
        .filter(|conflict| !allowed.has(&conflict.path))
        .collect()
}

fn last_applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .filter(|text| !text.is_empty())
}

/// Keeps the annotation of a client-side apply up to date, so that one can go back to it.
fn renew_last_applied(object: &mut Value, config: &Value) {
    if last_applied(object).is_none() {
        return;
    }
    let mut config = config.clone();
    let annotations = config.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    object["metadata"]["annotations"][LAST_APPLIED] = Value::String(format!("{config}\n"));
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
