//! Events of the controllers, as `kubectl get events` and `describe` show them. Kept for an hour, like an API server does.

use serde_json::{Value, json};

use super::{moment, suffix};
use crate::{
    api::objects::{EVENT, Kind, Object, ObjectExt},
    cluster::{clock::rfc3339, embedded::store::Store},
    decide::facts::Moment,
};

/// How long an event is kept, milliseconds (the API server's `--event-ttl`).
const TTL_MS: i64 = 3_600_000;

/// What happened to an object.
pub(super) struct Happened<'a> {
    pub(super) kind: &'a Kind,
    pub(super) object: &'a Value,
    /// Worth a person's attention.
    pub(super) warning: bool,
    pub(super) reason: &'a str,
    pub(super) note: String,
    /// The controller.
    pub(super) by: &'a str,
}

/// Records an event, or counts it once more. Events are told as best as can be: a failure is logged and forgotten.
pub(super) fn record(store: &Store, happened: &Happened<'_>) {
    let now = store.clock().now();
    let object = happened.object;
    forget(store, object.namespace(), now);
    let seed = format!("{}/{}/{}", object.uid(), happened.reason, happened.note);
    let name = format!("{}.{}", object.name(), suffix(&seed, 16));
    let again = |event: &mut Value| {
        let count = event["deprecatedCount"].as_i64().unwrap_or(1);
        event["deprecatedCount"] = json!(count + 1);
        event["deprecatedLastTimestamp"] = json!(rfc3339(now));
    };
    let written = store
        .modify(&EVENT, object.namespace(), &name, happened.by, again)
        .and_then(|known| match known {
            Some(_) => Ok(()),
            None => store
                .create(&EVENT, event(happened, &name, now), happened.by)
                .map(drop),
        });
    if let Err(status) = written {
        tracing::debug!(error = %status, reason = happened.reason, "an event was refused");
    }
}

fn event(happened: &Happened<'_>, name: &str, now: Moment) -> Value {
    let object = happened.object;
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": object.namespace()},
        "eventTime": null,
        "type": if happened.warning { "Warning" } else { "Normal" },
        "reason": happened.reason,
        "note": happened.note,
        "reportingController": happened.by,
        "reportingInstance": "",
        "regarding": {
            "apiVersion": happened.kind.api_version(),
            "kind": happened.kind.kind,
            "namespace": object.namespace(),
            "name": object.name(),
            "uid": object.uid(),
        },
        "deprecatedSource": {"component": happened.by},
        "deprecatedFirstTimestamp": rfc3339(now),
        "deprecatedLastTimestamp": rfc3339(now),
        "deprecatedCount": 1,
    })
}

/// Deletes what is older than an hour.
fn forget(store: &Store, ns: &str, now: Moment) {
    for old in store.list(&EVENT, Some(ns)) {
        if last_seen(&old).is_some_and(|at| now.since(at) > TTL_MS) {
            // Gone already is as good.
            drop(store.delete(&EVENT, ns, old.name()));
        }
    }
}

fn last_seen(event: &Object) -> Option<Moment> {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["deprecatedLastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    times.into_iter().filter_map(moment).max()
}
