//! The rules of a create and of an update: metadata, status, generation, managed fields.

use std::{cell::RefCell, rc::Rc};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    addresses::{allocate_ip, keep_ip},
    defaults,
    kinds::Served,
    ownership::{same_entries, set_entries, updated},
    schema,
    state::State,
    status::{Cause, Status},
    store::scope,
    typed, validate,
};
use crate::api::objects::{NAMESPACE, ObjectExt};

/// Who writes, and how.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer {
    /// Field manager.
    pub(super) manager: String,
    /// `status` or `scale`; none for the object itself.
    pub(super) subresource: Option<&'static str>,
    /// Everything but the commit.
    pub(super) dry_run: bool,
    /// Unknown fields are an error, not just dropped.
    pub(super) strict: bool,
    pub(super) way: Way,
    /// What the client is told beside the answer. Shared with the request.
    pub(super) warnings: Rc<RefCell<Vec<String>>>,
}

/// How the object that is wanted came about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// By a POST or a patch.
    #[default]
    Change,
    /// By a PUT: the resourceVersion is required where the kind wants one.
    Replace,
    /// By an applied configuration: the object has its managed fields already.
    Apply,
}

impl Writer {
    pub(super) fn of(manager: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn on(mut self, subresource: &'static str) -> Self {
        self.subresource = Some(subresource);
        self
    }
}

/// The object that a create stores.
pub(super) fn create(
    state: &mut State,
    served: &Served,
    ns: &str,
    mut object: Value,
    writer: &Writer,
    now: &str,
) -> Result<Value, Status> {
    identify(served, ns, &mut object)?;
    if served.namespaced {
        let given = match object.name() {
            "" => object.str_at("/metadata/generateName").unwrap_or_default(),
            name => name,
        };
        check_namespace(state, served, object.namespace(), given)?;
    }
    name_it(state, served, &mut object)?;
    let name = object.name().to_owned();
    if !object.resource_version().is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if served.status {
        match defaults::initial_status(served) {
            Some(status) => object["status"] = status,
            None => remove(&mut object, "status"),
        }
    }
    let meta = metadata(&mut object);
    let given = meta.remove("managedFields");
    for key in [
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        meta.remove(key);
    }
    shape(served, &mut object, writer)?;
    let entries = match &given {
        Some(Value::Array(entries)) if writer.way == Way::Apply => entries.clone(),
        given => updated(served, None, &object, given.as_ref(), writer, now),
    };
    if served.is("", "Service") {
        allocate_ip(state, &mut object);
    }
    let causes = mistakes(served, None, &object);
    if !causes.is_empty() {
        return Err(Status::invalid(served, &name, causes));
    }
    let meta = metadata(&mut object);
    meta.insert("uid".to_owned(), json!(state.new_uid().to_string()));
    meta.insert("creationTimestamp".to_owned(), json!(now));
    if served.generation {
        meta.insert("generation".to_owned(), json!(1));
    }
    let place = scope(served, object.namespace());
    if let Some(there) = state.object(&served.key(), place, &name) {
        let is_going = there.str_at("/metadata/deletionTimestamp").is_some();
        return Err(Status::already_exists(served, &name, is_going));
    }
    set_entries(&mut object, entries);
    Ok(object)
}

/// The object that an update stores; `None` when it changes nothing.
pub(super) fn update(
    served: &Served,
    old: &Value,
    mut wanted: Value,
    writer: &Writer,
    now: &str,
) -> Result<Option<Value>, Status> {
    let name = old.name();
    identify(served, old.namespace(), &mut wanted)?;
    if wanted.name() != name {
        let given = wanted.name();
        return Err(Status::bad_request(if given.is_empty() {
            format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )
        } else {
            format!("the name of the object ({given}) does not match the name on the URL ({name})")
        }));
    }
    check_preconditions(served, old, &wanted, writer)?;
    let given = wanted["metadata"].get("managedFields").cloned();
    let mut new = if writer.subresource == Some("status") {
        status_write(served, old, wanted)
    } else {
        if served.status {
            keep(old, &mut wanted, "status");
        }
        wanted
    };
    restore_metadata(old, &mut new);
    check_finalizers(served, old, &new)?;
    if served.is("", "Service") {
        keep_ip(old, &mut new);
    }
    shape(served, &mut new, writer)?;
    let entries = match &given {
        Some(Value::Array(entries)) if writer.way == Way::Apply => entries.clone(),
        given => updated(served, Some(old), &new, given.as_ref(), writer, now),
    };
    new["apiVersion"] = old["apiVersion"].clone();
    if *old == new {
        // A moment is no change.
        set_entries(&mut new, entries);
        return Ok((!same_entries(old, &new)).then_some(new));
    }
    let causes = new_mistakes(served, old, &new);
    if !causes.is_empty() {
        return Err(Status::invalid(served, name, causes));
    }
    if let Some(generation) = old.generation() {
        let new_state =
            writer.subresource != Some("status") && is_new_generation(served, old, &new);
        let next = generation + i64::from(new_state);
        new["metadata"]["generation"] = json!(next);
    }
    set_entries(&mut new, entries);
    Ok(Some(new))
}

/// Unknown fields off (an error where the writer is strict), defaults on.
fn shape(served: &Served, object: &mut Value, writer: &Writer) -> Result<(), Status> {
    // As Go's omitempty does: an empty list of finalizers is none.
    metadata(object).retain(|_, value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    });
    let unknown = match &served.custom {
        Some(custom) => schema::prune(&custom.schema, object),
        None => typed::prune(served, object).map_err(|why| {
            Status::bad_request(format!(
                "{0} in version {1:?} cannot be handled as a {0}: {why}",
                served.kind, served.version
            ))
        })?,
    };
    if writer.strict && !unknown.is_empty() {
        let fields: Vec<String> = unknown
            .iter()
            .map(|field| format!("unknown field {field:?}"))
            .collect();
        return Err(Status::bad_request(format!(
            "{0} in version {1:?} cannot be handled as a {0}: strict decoding error: {2}",
            served.kind,
            served.version,
            fields.join(", ")
        )));
    }
    writer.warnings.borrow_mut().extend(
        unknown
            .iter()
            .map(|field| format!("unknown field {field:?}")),
    );
    match &served.custom {
        Some(custom) => schema::fill_defaults(&custom.schema, object),
        None => defaults::fill(served, object),
    }
    Ok(())
}

fn mistakes(served: &Served, old: Option<&Value>, object: &Value) -> Vec<Cause> {
    let mut causes = validate::mistakes(served, old, object);
    if let Some(custom) = &served.custom {
        causes.extend(schema::validate(&custom.schema, object));
    }
    causes
}

/// The mistakes that the update makes: those that the object had already do not stand in the way of another change.
fn new_mistakes(served: &Served, old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = mistakes(served, Some(old), new);
    if !causes.is_empty() && served.custom.is_some() {
        let before = mistakes(served, None, old);
        causes.retain(|cause| !before.contains(cause));
    }
    causes
}

/// `apiVersion`, `kind` and namespace: filled in where absent, refused where they contradict the URL.
fn identify(served: &Served, ns: &str, object: &mut Value) -> Result<(), Status> {
    if !object.is_object() {
        return Err(Status::bad_request(format!(
            "the body of a {} must be a JSON object",
            served.kind
        )));
    }
    for (key, expected) in [
        ("apiVersion", served.api_version()),
        ("kind", served.kind.clone()),
    ] {
        let given = object[key].as_str().unwrap_or_default();
        if !given.is_empty() && given != expected {
            return Err(Status::bad_request(format!(
                "the {key} in the data ({given}) does not match the expected {key} ({expected})"
            )));
        }
        object[key] = json!(expected);
    }
    let meta = metadata(object);
    if !served.namespaced {
        meta.remove("namespace");
        return Ok(());
    }
    let given = meta.get("namespace").and_then(Value::as_str).unwrap_or("");
    if !given.is_empty() && given != ns {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if ns.is_empty() {
        return Err(Status::bad_request(format!(
            "an empty namespace may not be set on a {}",
            served.kind
        )));
    }
    meta.insert("namespace".to_owned(), json!(ns));
    Ok(())
}

/// Makes up a name where only `generateName` is given.
fn name_it(state: &mut State, served: &Served, object: &mut Value) -> Result<(), Status> {
    if !object.name().is_empty() {
        return Ok(());
    }
    let Some(prefix) = object
        .str_at("/metadata/generateName")
        .filter(|p| !p.is_empty())
    else {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(Status::invalid(served, "", vec![cause]));
    };
    // 253 is the longest name; the suffix is kept whole.
    let prefix: String = prefix.chars().take(248).collect();
    object["metadata"]["name"] = json!(format!("{prefix}{}", suffix(state.new_uid())));
    Ok(())
}

/// Five characters that make no words, as Kubernetes appends them.
fn suffix(from: Uuid) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    from.as_bytes()
        .iter()
        .take(5)
        .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()))
        .map(|letter| char::from(*letter))
        .collect()
}

fn check_namespace(state: &State, served: &Served, ns: &str, name: &str) -> Result<(), Status> {
    let namespaces = super::kinds::storage_key(NAMESPACE.group, NAMESPACE.plural);
    match state.object(&namespaces, "", ns) {
        None => match state.catalog.of(&NAMESPACE) {
            Some(kind) => Err(Status::not_found(&kind, ns)),
            None => Err(Status::unknown_resource()),
        },
        Some(namespace) if namespace.str_at("/metadata/deletionTimestamp").is_some() => {
            Err(Status::namespace_terminating(served, name, ns))
        }
        Some(_) => Ok(()),
    }
}

/// uid and resourceVersion that the writer names have to be the current ones.
fn check_preconditions(
    served: &Served,
    old: &Value,
    wanted: &Value,
    writer: &Writer,
) -> Result<(), Status> {
    let name = old.name();
    if !wanted.uid().is_empty() && wanted.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            wanted.uid(),
            old.uid()
        );
        if writer.way == Way::Replace {
            return Err(Status::conflict(served, name, &why));
        }
        let cause = Cause::invalid("metadata.uid", &json!(wanted.uid()), "field is immutable");
        return Err(Status::invalid(served, name, vec![cause]));
    }
    let version = wanted.resource_version();
    if version.is_empty() {
        let wants_one = served.custom.is_some()
            || matches!(served.kind.as_str(), "Lease" | "CustomResourceDefinition");
        if writer.way == Way::Replace && wants_one {
            let cause = Cause {
                reason: "FieldValueInvalid",
                message: "Invalid value: 0: must be specified for an update".to_owned(),
                field: "metadata.resourceVersion".to_owned(),
            };
            return Err(Status::invalid_resource(served, name, cause));
        }
        return Ok(());
    }
    if version == old.resource_version() {
        Ok(())
    } else {
        Err(Status::stale(served, name))
    }
}

/// What a write of the status subresource leaves: the old object with the new status, and of a built-in kind with the new
/// metadata but for what [`status_keeps`] names.
fn status_write(served: &Served, old: &Value, mut wanted: Value) -> Value {
    let mut new = old.clone();
    match wanted.get_mut("status").map(Value::take) {
        Some(status) => new["status"] = status,
        None => remove(&mut new, "status"),
    }
    let kept = status_keeps(served);
    if !kept.contains(&"metadata") {
        new["metadata"] = wanted["metadata"].take();
        for path in kept {
            if let Some(key) = path.strip_prefix("metadata.") {
                keep(&old["metadata"], &mut new["metadata"], key);
            }
        }
    }
    new
}

/// What a write of the status does not touch (the `GetResetFields` of Kubernetes' strategies).
pub(super) fn status_keeps(served: &Served) -> &'static [&'static str] {
    match served.kind.as_str() {
        _ if served.custom.is_some() => &["metadata", "spec"],
        "CustomResourceDefinition" => &["metadata", "spec"],
        "Deployment" => &["spec", "metadata.labels"],
        "Pod" => &[
            "spec",
            "metadata.deletionTimestamp",
            "metadata.ownerReferences",
        ],
        _ => &["spec"],
    }
}

/// The metadata that no writer changes.
fn restore_metadata(old: &Value, new: &mut Value) {
    let meta = metadata(new);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "managedFields",
        "selfLink",
    ] {
        match old["metadata"].get(key) {
            Some(value) => meta.insert(key.to_owned(), value.clone()),
            None => meta.remove(key),
        };
    }
}

fn check_finalizers(served: &Served, old: &Value, new: &Value) -> Result<(), Status> {
    if old.str_at("/metadata/deletionTimestamp").is_none() {
        return Ok(());
    }
    let before = old.array_at("/metadata/finalizers");
    let added: Vec<String> = new
        .array_at("/metadata/finalizers")
        .iter()
        .filter(|f| !before.contains(f))
        .map(Value::to_string)
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let cause = Cause {
        reason: "FieldValueForbidden",
        message: format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        ),
        field: "metadata.finalizers".to_owned(),
    };
    Err(Status::invalid(served, old.name(), vec![cause]))
}

/// Whether the change is one of the desired state: the spec, or for a Deployment also an annotation, or of a custom
/// resource anything but metadata and a status that has a subresource. Verified against a real API server.
fn is_new_generation(served: &Served, old: &Value, new: &Value) -> bool {
    if served.custom.is_some() {
        let differs = |key: &str| old.get(key) != new.get(key);
        let keys = |o: &Value| -> Vec<String> {
            o.as_object()
                .map(|m| m.keys().cloned().collect())
                .unwrap_or_default()
        };
        return keys(old)
            .into_iter()
            .chain(keys(new))
            .filter(|key| key != "metadata" && !(served.status && key == "status"))
            .any(|key| differs(&key));
    }
    if served.is("apps", "Deployment")
        && old["metadata"].get("annotations") != new["metadata"].get("annotations")
    {
        return true;
    }
    if served.is("discovery.k8s.io", "EndpointSlice") {
        return old.get("endpoints") != new.get("endpoints")
            || old.get("ports") != new.get("ports");
    }
    old.get("spec") != new.get("spec")
}

/// `metadata` as a map, made if need be.
pub(super) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]
        .as_object_mut()
        .expect("metadata must be the object that was just put there")
}

pub(super) fn keep(old: &Value, new: &mut Value, key: &str) {
    match old.get(key) {
        Some(value) => new[key] = value.clone(),
        None => remove(new, key),
    }
}

fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}
