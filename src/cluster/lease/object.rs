//! The Lease as an object: what is read of it, and what we write.

use std::time::Duration;

use serde_json::{Value, json};

use super::{super::clock::rfc3339_micro, DURATION};
use crate::{
    api::{
        dry_run::DryRun,
        names::{ASKED_BY, DRY_RUN},
        objects::{LEASE, ObjectExt, Ref},
    },
    decide::facts::Moment,
};

/// Who holds it; nobody when it was given back.
pub(in crate::cluster) fn holder(lease: &Value) -> Option<&str> {
    lease
        .str_at("/spec/holderIdentity")
        .filter(|holder| !holder.is_empty())
}

/// How often the holder has changed.
pub(in crate::cluster) fn transitions(lease: &Value) -> i64 {
    lease.int_at("/spec/leaseTransitions").unwrap_or(0)
}

/// How long it holds after a renewal, as its holder says.
pub(in crate::cluster) fn duration(lease: &Value) -> Duration {
    lease
        .int_at("/spec/leaseDurationSeconds")
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs)
}

/// Who asks its holder for it.
pub(super) fn asked_by(lease: &Value) -> Option<&str> {
    lease.annotation(ASKED_BY)
}

/// How a Lease changes when we write it.
#[derive(Clone, Copy)]
pub(in crate::cluster) enum Change {
    /// A new holder: acquired now, with this many transitions, and nobody has asked it for anything.
    Taken(i64),
    /// The same holder.
    Renewed,
    /// No holder. Who asked for it stays on it.
    GivenBack,
}

/// `from` (null for a new Lease) as `identity` writes it.
pub(in crate::cluster) fn lease(
    of: &Ref,
    from: &Value,
    identity: &str,
    now: Moment,
    change: Change,
) -> Value {
    let now = rfc3339_micro(now);
    let mut metadata = from["metadata"].clone();
    if metadata.is_null() {
        metadata = json!({"name": of.name, "namespace": of.namespace});
    }
    let (identity, transitions) = match change {
        Change::Taken(transitions) => (identity, transitions),
        Change::Renewed => (identity, transitions(from)),
        Change::GivenBack => ("", transitions(from)),
    };
    let acquired = match change {
        Change::Taken(_) => None,
        Change::Renewed | Change::GivenBack => from.str_at("/spec/acquireTime"),
    };
    if let (Change::Taken(_), Some(annotations)) = (change, metadata["annotations"].as_object_mut())
    {
        annotations.remove(ASKED_BY);
    }
    json!({
        "apiVersion": LEASE.api_version(),
        "kind": LEASE.kind,
        "metadata": metadata,
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": acquired.unwrap_or(&now),
            "renewTime": now,
            "leaseTransitions": transitions,
        }
    })
}

/// The Lease says what its holder leaves out.
pub(super) fn marked(mut lease: Value, dry_run: Option<DryRun>) -> Value {
    let annotations = &mut lease["metadata"]["annotations"];
    match dry_run {
        Some(mode) => annotations[DRY_RUN] = mode.name().into(),
        None => {
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.remove(DRY_RUN);
            }
        }
    }
    lease
}

/// What the holder of a Lease leaves out.
pub(in crate::cluster) fn dry_run(lease: &Value) -> Option<DryRun> {
    lease.annotation(DRY_RUN).and_then(DryRun::of)
}

/// Another's Lease as it is, and who asks for it.
pub(super) fn asked(from: &Value, identity: &str) -> Value {
    let mut lease = from.clone();
    if !lease["metadata"]["annotations"].is_object() {
        lease["metadata"]["annotations"] = json!({});
    }
    lease["metadata"]["annotations"][ASKED_BY] = identity.into();
    lease
}
