//! Kubernetes events (`events.k8s.io/v1`): what happened to an object, for `kubectl describe` and people.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{Cluster, Error, ErrorKind, clock::rfc3339_micro};
use crate::{
    api::{
        names::MANAGER,
        objects::{EVENT, ObjectExt, Ref},
    },
    decide::facts::Moment,
};

/// One event's call may take this long, in real time: nobody waits for it.
const EVENT_WITHIN: Duration = Duration::from_secs(5);
/// The API server's limit of `note`, in bytes.
const MOST_NOTE: usize = 1024;
/// A repeat belongs to a series for this long after the last one, in milliseconds of the cluster's clock (as client-go).
const SERIES_FOR: i64 = 6 * 60 * 1000;
/// Objects whose last event is remembered.
const MOST_REMEMBERED: usize = 1024;

/// The last event on each object, by uid.
#[derive(Default)]
pub(super) struct Repeats {
    last: Mutex<HashMap<String, Last>>,
}

#[derive(Clone)]
struct Last {
    of: Ref,
    warning: bool,
    reason: String,
    note: String,
    count: u32,
    at: Moment,
}

impl Cluster {
    /// Tells that something happened to `regarding`: a Warning or a Normal event with `reason` (Flagger: `Synced`). When the last event
    /// on the object said the same, within six minutes, that one becomes a series instead.
    ///
    /// # Errors
    /// `NotFound` (the namespace is gone), `Forbidden`, `Unreachable`, `Rejected`. Nothing may depend on an event.
    pub async fn event(
        &self,
        regarding: &Value,
        warning: bool,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        let now = self.clock().now();
        let note = shortened(message);
        let repeat = self
            .shared
            .events
            .repeat(regarding.uid(), warning, reason, note, now);
        if let Some(last) = repeat {
            let series = json!({"series": {"count": last.count + 1, "lastObservedTime": rfc3339_micro(now)}});
            match self.merge(&last.of, &series, EVENT_WITHIN).await {
                Ok(_) => {
                    let count = last.count + 1;
                    let next = Last {
                        count,
                        at: now,
                        ..last
                    };
                    self.shared.events.remember(regarding.uid(), next);
                    return Ok(());
                }
                // Events expire: it begins anew.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let last = Last {
            of: reference(regarding, now),
            warning,
            reason: reason.to_owned(),
            note: note.to_owned(),
            count: 1,
            at: now,
        };
        let event = event(regarding, &last);
        self.post(&last.of, &event, EVENT_WITHIN).await?;
        self.shared.events.remember(regarding.uid(), last);
        Ok(())
    }
}

impl Repeats {
    fn repeat(
        &self,
        uid: &str,
        warning: bool,
        reason: &str,
        note: &str,
        now: Moment,
    ) -> Option<Last> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(uid)
            .filter(|last| {
                last.warning == warning
                    && last.reason == reason
                    && last.note == note
                    && now.since(last.at) < SERIES_FOR
            })
            .cloned()
    }

    fn remember(&self, uid: &str, event: Last) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MOST_REMEMBERED {
            last.clear();
        }
        last.insert(uid.to_owned(), event);
    }
}

/// As client-go names them: the object, and the moment in hexadecimal, so that a list comes in the order of what happened. `kubectl describe`
/// relies on it: it sorts by a timestamp that events of this version do not have. What makes the name unique comes last.
fn reference(regarding: &Value, now: Moment) -> Ref {
    /// Orders what one process tells within a millisecond.
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let namespace = match regarding.namespace() {
        "" => "default",
        namespace => namespace,
    };
    // The name of an object may have 253 characters.
    let name: String = regarding.name().chars().take(200).collect();
    let told = TOLD.fetch_add(1, Ordering::Relaxed);
    let unique = uuid::Uuid::new_v4().as_fields().0;
    Ref {
        kind: EVENT,
        namespace: namespace.to_owned(),
        name: format!("{name}.{:012x}{told:08x}{unique:08x}", now.0),
    }
}

fn event(regarding: &Value, last: &Last) -> Value {
    json!({
        "apiVersion": EVENT.api_version(),
        "kind": EVENT.kind,
        "metadata": {"name": last.of.name, "namespace": last.of.namespace},
        "eventTime": rfc3339_micro(last.at),
        "reportingController": MANAGER,
        "reportingInstance": MANAGER,
        "action": last.reason,
        "reason": last.reason,
        "type": if last.warning { "Warning" } else { "Normal" },
        "note": last.note,
        "regarding": {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "namespace": regarding["metadata"]["namespace"],
            "name": regarding["metadata"]["name"],
            "uid": regarding["metadata"]["uid"],
            "resourceVersion": regarding["metadata"]["resourceVersion"],
        },
    })
}

/// At most [`MOST_NOTE`] bytes of whole characters.
fn shortened(message: &str) -> &str {
    let end = (0..=MOST_NOTE.min(message.len()))
        .rev()
        .find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_in_the_order_of_what_happened() {
        let canary = json!({"metadata": {"name": "web", "namespace": "test"}});
        let moments = [1_800_000_000_000, 1_800_000_000_000, 1_800_000_000_001];
        let names = moments.map(|at| reference(&canary, Moment(at)).name);
        assert!(names.is_sorted(), "{names:?}");
        assert!(names[0].starts_with("web.01a3185c5000"), "{names:?}");
        assert_eq!(names[0].len(), "web.".len() + 28);
    }

    #[test]
    fn a_note_ends_at_a_character() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(600);
        assert_eq!(shortened(&long).len(), 1024);
        let odd = format!("x{long}");
        assert_eq!(shortened(&odd).len(), 1023);
    }

    #[test]
    fn an_event_names_its_object() {
        let canary = json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "mcp-server", "namespace": "ai-platform", "uid": "u1", "resourceVersion": "7"},
        });
        let last = Last {
            of: Ref {
                kind: EVENT,
                namespace: "ai-platform".to_owned(),
                name: "mcp-server.1".to_owned(),
            },
            warning: true,
            reason: "Synced".to_owned(),
            note: "Rolling back".to_owned(),
            count: 1,
            at: Moment(1_795_219_200_000),
        };
        assert_eq!(
            event(&canary, &last),
            json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": "mcp-server.1", "namespace": "ai-platform"},
                "eventTime": "2026-11-21T00:00:00.000000Z",
                "reportingController": "canary-mcp",
                "reportingInstance": "canary-mcp",
                "action": "Synced",
                "reason": "Synced",
                "type": "Warning",
                "note": "Rolling back",
                "regarding": {
                    "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "namespace": "ai-platform", "name": "mcp-server",
                    "uid": "u1", "resourceVersion": "7",
                },
            })
        );
    }

    #[test]
    fn only_the_last_event_repeats_and_only_for_a_while() {
        let repeats = Repeats::default();
        let last = Last {
            of: Ref {
                kind: EVENT,
                namespace: "a".to_owned(),
                name: "e".to_owned(),
            },
            warning: false,
            reason: "Synced".to_owned(),
            note: "n".to_owned(),
            count: 1,
            at: Moment(0),
        };
        repeats.remember("u", last);
        let table = [
            ("u", false, "n", 359_999, true),
            ("u", false, "n", 360_000, false),
            ("u", true, "n", 1, false),
            ("u", false, "other", 1, false),
            ("v", false, "n", 1, false),
        ];
        for (uid, warning, note, at, is_repeat) in table {
            let found = repeats.repeat(uid, warning, "Synced", note, Moment(at));
            assert_eq!(found.is_some(), is_repeat, "{uid} {warning} {note} {at}");
        }
    }
}
