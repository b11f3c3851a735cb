//! Whose fields a write touches: field ownership for the kinds that are served.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    fields::{
        apply::{self, Author},
        fit,
        managers::{self, Manager},
        set::{FieldSet, Step},
        shape::Shape,
    },
    kinds::{Scale, Served},
    scale,
    status::{Cause, Status},
    write::{Writer, metadata, status_keeps},
};
use crate::api::objects::ObjectExt;

const ENTRIES: &str = "/metadata/managedFields";

/// The entries after an Update turned `old` (nothing, at creation) into `new`. `given` are the entries that the writer sent:
/// it may edit them.
pub(super) fn updated(
    served: &Served,
    old: Option<&Value>,
    new: &Value,
    given: Option<&Value>,
    writer: &Writer,
    now: &str,
) -> Vec<Value> {
    let ignored = ignored(served, writer.subresource);
    let shape = shape(served);
    let author = Author {
        manager: &writer.manager,
        api_version: &served.api_version(),
        subresource: writer.subresource,
        time: now,
        shape: &shape,
        typed: served.custom.is_none(),
        ignored: &ignored,
    };
    let live = old.map_or(&[] as &[Value], |old| old.array_at(ENTRIES));
    let live = managers::parse(live).unwrap_or_default();
    let given = given
        .and_then(Value::as_array)
        .filter(|_| writer.subresource.is_none());
    let base = match given.map(Vec::as_slice) {
        None => live,
        // So a client resets them.
        Some([]) => Vec::new(),
        Some([one]) if one.as_object().is_some_and(serde_json::Map::is_empty) => Vec::new(),
        Some(entries) => managers::parse(entries).unwrap_or(live),
    };
    let empty = json!({});
    let known = base.clone();
    let mut after = apply::after_update(base, old.unwrap_or(&empty), new, &author);
    if writer.subresource == Some("scale") {
        scale_times(&known, &mut after);
    }
    managers::entries(&after)
}

/// A write of a scale leaves the times alone, and a new entry of one has none: so it is in Kubernetes.
fn scale_times(before: &[Manager], after: &mut [Manager]) {
    for manager in after {
        let known = before.iter().find(|m| m.is(manager));
        manager.time = known.and_then(|m| m.time.clone());
    }
}

/// The object that an applied configuration makes of `live` (of nothing, where there is none), with its entries.
///
/// # Errors
/// 400 for a configuration that is not one of this kind, 409 for conflicts with other managers, 500 (as in Kubernetes) for
/// one that does not have the kind's schema.
pub(super) fn applied(
    served: &Served,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer,
    force: bool,
    now: &str,
) -> Result<Value, Status> {
    let shape = shape(served);
    check(&served.api_version(), &served.kind, &shape, config)?;
    let ignored = ignored(served, writer.subresource);
    let author = Author {
        manager: &writer.manager,
        api_version: &served.api_version(),
        subresource: writer.subresource,
        time: now,
        shape: &shape,
        typed: served.custom.is_none(),
        ignored: &ignored,
    };
    let empty = json!({});
    let live = live.unwrap_or(&empty);
    check_uid(served, live, config)?;
    let before = managers::parse(live.array_at(ENTRIES)).unwrap_or_default();
    let (mut object, after) = apply::apply(before, live, config, &author, force)?;
    set_entries(&mut object, managers::entries(&after));
    Ok(object)
}

/// The object with the replicas of an applied Scale, and its entries.
///
/// # Errors
/// As [`applied`].
pub(super) fn applied_scale(
    served: &Served,
    scale: &Scale,
    live: &Value,
    config: &Value,
    writer: &Writer,
    force: bool,
    now: &str,
) -> Result<Value, Status> {
    let shape = Shape::of_kind("autoscaling", "v1", "Scale");
    check("autoscaling/v1", "Scale", &shape, config)?;
    let author = Author {
        manager: &writer.manager,
        api_version: "autoscaling/v1",
        subresource: Some("scale"),
        time: now,
        shape: &shape,
        typed: true,
        ignored: &FieldSet::of(&["status"]),
    };
    let before = managers::parse(live.array_at(ENTRIES)).unwrap_or_default();
    let path: Vec<Step> = scale
        .spec_replicas
        .split('/')
        .skip(1)
        .map(Step::field)
        .collect();
    let in_scale = FieldSet::of(&["spec.replicas"]);
    let owners: Vec<Manager> = before
        .iter()
        .filter(|m| m.fields.has(&path))
        .map(|m| Manager {
            api_version: "autoscaling/v1".to_owned(),
            fields: in_scale.clone(),
            ..m.clone()
        })
        .collect();
    let current = scale::read(scale, live);
    let (wanted, owners) = apply::apply(owners, &current, config, &author, force)?;
    let mut replicas = FieldSet::default();
    replicas.insert(&path);
    // Back from the Scale's version; an owner that was none before has no time, as in Kubernetes.
    let owners: Vec<Manager> = owners
        .into_iter()
        .filter(|owner| owner.fields == in_scale)
        .map(|owner| Manager {
            api_version: served.api_version(),
            fields: replicas.clone(),
            time: None,
            ..owner
        })
        .collect();
    let mut after = before;
    for manager in &mut after {
        if !owners.iter().any(|owner| owner.is(manager)) {
            manager.fields = manager.fields.difference(&replicas);
        }
    }
    for owner in owners {
        if !after.iter().any(|m| m.is(&owner)) {
            after.push(owner);
        }
    }
    let mut object = scale::write(served, scale, live, &wanted)?;
    set_entries(&mut object, managers::entries(&after));
    Ok(object)
}

/// Are the entries of the two objects the same but for their times?
pub(super) fn same_entries(old: &Value, new: &Value) -> bool {
    managers::same_but_time(old.array_at(ENTRIES), new.array_at(ENTRIES))
}

/// Puts the entries into the object; none is no field.
pub(super) fn set_entries(object: &mut Value, entries: Vec<Value>) {
    let meta = metadata(object);
    if entries.is_empty() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

fn shape(served: &Served) -> Arc<Shape> {
    match &served.custom {
        Some(custom) => Arc::clone(&custom.shape),
        None => Shape::of_kind(&served.group, &served.version, &served.kind),
    }
}

/// What a write to the object, or to its subresource, leaves as it is.
fn ignored(served: &Served, subresource: Option<&str>) -> FieldSet {
    match subresource {
        Some("status") => FieldSet::of(status_keeps(served)),
        None if served.status => FieldSet::of(&["status"]),
        Some(_) | None => FieldSet::default(),
    }
}

/// A uid that is not that of the object.
fn check_uid(served: &Served, live: &Value, config: &Value) -> Result<(), Status> {
    if config.uid().is_empty() || live.uid().is_empty() || config.uid() == live.uid() {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.uid", &json!(config.uid()), "field is immutable");
    let mut status = Status::invalid(served, live.name(), vec![cause.clone()]);
    // Kubernetes checks it twice, says it once, and lists it twice.
    if let Some(details) = &mut status.details {
        details.causes.push(cause);
    }
    Err(status)
}

fn check(api_version: &str, kind: &str, shape: &Shape, config: &Value) -> Result<(), Status> {
    let given = (
        config["apiVersion"].as_str().unwrap_or_default(),
        config["kind"].as_str().unwrap_or_default(),
    );
    let full = |(api_version, kind): (&str, &str)| match api_version.split_once('/') {
        Some(_) => format!("{api_version}, Kind={kind}"),
        None => format!("/{api_version}, Kind={kind}"),
    };
    if given != (api_version, kind) {
        let why = format!("invalid object type: {}", full(given));
        return Err(Status::bad_request(why));
    }
    if !config["metadata"]["managedFields"].is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let mistakes = fit::mistakes(shape, config);
    let why = match mistakes.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    Err(Status::internal(format!(
        "failed to create typed patch object ({}/{}; {}): {why}",
        config.namespace(),
        config.name(),
        full(given)
    )))
}
