//! What people are told: Kubernetes events and log lines, queued, bounded, never awaited by a tick.

use std::collections::VecDeque;

use serde_json::Value;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    api::{
        names,
        objects::{Object, ObjectExt},
        parse,
    },
    cluster::{Cluster, lease::Held},
    decide::effect::Tell,
};

/// Events that may wait to be sent; more than that are dropped, the log still has them.
const QUEUE: usize = 256;
/// Messages remembered to leave repeats out.
const REMEMBERED: usize = 8;
/// Flagger: every event has this reason.
const REASON: &str = "Synced";

/// The queue of one cluster. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    queue: mpsc::Sender<(Object, Tell)>,
}

impl Teller {
    /// Starts the task that sends while the Lease is held; it ends with the last clone.
    pub(super) fn start(cluster: Cluster, held: Held) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(Object, Tell)>(QUEUE);
        tokio::spawn(async move {
            while let Some((canary, tell)) = waiting.recv().await {
                if held.check().is_err() {
                    return;
                }
                if let Err(error) = cluster
                    .event(&canary, tell.warning, REASON, &tell.message)
                    .await
                {
                    tracing::warn!(
                        cluster = cluster.name(),
                        error = error.report(),
                        "unable to write an event"
                    );
                }
            }
        });
        Self { queue }
    }

    /// Logs the sentence and queues the event.
    pub(super) fn send(&self, cluster: &str, canary: &Object, tell: Tell) {
        log(cluster, canary, &tell);
        let (namespace, name) = (canary.namespace(), canary.name());
        // Closed: the Lease is lost, and whoever holds it now tells what happens from here on.
        if let Err(TrySendError::Full(_)) = self.queue.try_send((canary.clone(), tell)) {
            tracing::warn!(
                cluster,
                canary.namespace = namespace,
                canary.name = name,
                "event dropped: the queue is full"
            );
        }
    }
}

/// The sentence as a line of the log.
pub(super) fn log(cluster: &str, canary: &Object, tell: &Tell) {
    let (namespace, name) = (canary.namespace(), canary.name());
    if tell.warning {
        tracing::warn!(
            cluster,
            canary.namespace = namespace,
            canary.name = name,
            "{}",
            tell.message
        );
    } else {
        tracing::info!(
            cluster,
            canary.namespace = namespace,
            canary.name = name,
            "{}",
            tell.message
        );
    }
}

/// Leaves out what was said already and is still so.
#[derive(Default)]
pub(super) struct Said {
    last: VecDeque<String>,
}

impl Said {
    /// The message is news.
    pub(super) fn is_new(&mut self, message: &str) -> bool {
        if self.last.iter().any(|m| m == message) {
            return false;
        }
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(message.to_owned());
        true
    }
}

/// Another controller that drives this Canary: whoever wrote its status last, unless we are told to take over.
pub(super) fn driven_by(canary: &Object) -> Option<&str> {
    foreign_writer(canary).filter(|_| !parse::adopt(canary))
}

/// What keeps us from driving a Canary that another controller drives, and what to do about it.
pub(super) fn not_ours(other: &str) -> String {
    format!(
        "the status was last written by {other}; stop it and set the annotation {}: \"true\" to take over",
        names::ADOPT
    )
}

/// Who wrote the status last, if it was not us. The times are whole seconds, and entries of one second are in the order of the alphabet,
/// which says nothing. Then the status itself does: whatever we record of a run is in `status.run`, and Flagger, which writes its own fields
/// and no others, leaves none of it.
fn foreign_writer(canary: &Value) -> Option<&str> {
    let entries = canary.array_at("/metadata/managedFields").iter();
    let mut last: Vec<&Value> = entries
        .filter(|e| e.str_at("/subresource") == Some("status"))
        .collect();
    let time = |e: &Value| e.str_at("/time").unwrap_or_default().to_owned();
    let newest = last.iter().map(|e| time(e)).max()?;
    last.retain(|e| time(e) == newest);
    let by = |e: &&Value| e.str_at("/manager") == Some(names::MANAGER);
    let ours = last.iter().any(by) && canary.str_at("/status/run/id").is_some();
    let other = last.into_iter().find(|e| !by(e) && !ours)?;
    other.str_at("/manager")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_wrote_within_the_same_second_is_told_by_what_is_written() {
        let (early, late) = ("2026-11-21T00:00:00Z", "2026-11-21T00:00:01Z");
        let with_run = json!({"phase": "Progressing", "run": {"id": "r"}});
        let without = json!({"phase": "Progressing"});
        for (other, ours, theirs, status, expected) in [
            ("flagger", late, early, &without, None),
            ("flagger", early, late, &with_run, Some("flagger")),
            ("flagger", late, late, &with_run, None),
            ("flagger", late, late, &without, Some("flagger")),
            // Before us in the alphabet.
            ("a-flagger", late, late, &with_run, None),
            ("a-flagger", late, late, &without, Some("a-flagger")),
        ] {
            let entry = |manager: &str, time: &str| json!({"manager": manager, "time": time, "subresource": "status"});
            let mut entries = vec![entry("canary-mcp", ours), entry(other, theirs)];
            entries.sort_by_key(|e| (e["time"].to_string(), e["manager"].to_string()));
            entries.push(json!({"manager": "kubectl", "time": "2026-11-21T00:00:09Z"}));
            let canary = json!({"metadata": {"managedFields": entries}, "status": status});
            assert_eq!(
                foreign_writer(&canary),
                expected,
                "{other} {ours} {theirs} {status}"
            );
        }
        let alone = json!({"metadata": {"managedFields": [{"manager": "canary-mcp", "time": early, "subresource": "status"}]}});
        assert_eq!(foreign_writer(&alone), None);
        assert_eq!(foreign_writer(&json!({"metadata": {}})), None);
    }
}
