//! Writes of the tools, each verified: precondition, the change, read back until it is seen to be acted on.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    control::{Acted, Control, ControlError, Key, LEASE, Outcome, scope, unreachable},
    lead, leading,
};
use crate::{
    api::{
        dry_run::DryRun,
        objects::{CANARY, Object, ObjectExt, Write},
    },
    cluster::{Cluster, Error, ErrorKind, LeaseView},
};

impl Acted {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused,
            reason: reason.into(),
            view: None,
        }
    }

    pub(super) fn already(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Already,
            reason: reason.into(),
            view: None,
        }
    }

    pub(super) fn applied(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Applied,
            reason: reason.into(),
            view: None,
        }
    }

    pub(super) fn planned() -> Self {
        Self {
            outcome: Outcome::Planned,
            reason: "nothing was written; start_canary without dry_run does it".to_owned(),
            view: None,
        }
    }

    pub(super) fn unconfirmed(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Unconfirmed,
            reason: reason.into(),
            view: None,
        }
    }
}

impl Control {
    /// Adds the rollout as it is now.
    pub(super) async fn seen(&self, key: &Key, mut acted: Acted) -> Acted {
        acted.view = self.view(key).await.ok();
        let dry_run = acted.view.as_ref().and_then(|view| view.dry_run.as_deref());
        if let (Outcome::Planned, Some(dry_run)) = (acted.outcome, dry_run) {
            acted.reason = format!("{}; {dry_run}", acted.reason);
        }
        acted
    }

    /// Why nothing is written to this cluster from here, or nobody would act on it, because of a dry run that only observes.
    pub(super) fn observed(&self, cluster: &Cluster, lease: Option<&LeaseView>) -> Option<String> {
        let observes = |mode: Option<DryRun>| mode == Some(DryRun::Observe);
        if observes(self.shared.settings.dry_run) {
            return Some(
                "this server is in dry-run (observe) and writes nothing; start it without --dry-run"
                    .to_owned(),
            );
        }
        let lease = lease.filter(|lease| lease.fresh && observes(lease.dry_run))?;
        Some(format!(
            "{} leads cluster {} in dry-run (observe) and would carry nothing out; start it without --dry-run",
            lease.holder.as_deref().unwrap_or("somebody"),
            cluster.name()
        ))
    }

    /// The same, by the Lease as it is now.
    pub(super) async fn observed_now(
        &self,
        cluster: &Cluster,
    ) -> Result<Option<String>, ControlError> {
        let namespace = &self.shared.settings.lease_namespace;
        let lease = cluster.lease_view(namespace, LEASE).await;
        let lease = lease.map_err(|e| unreachable(&e))?;
        Ok(self.observed(cluster, lease.as_ref()))
    }

    /// Why nothing would act on a wish in this cluster, if nothing would: no fresh Lease.
    pub(super) async fn leaderless(
        &self,
        cluster: &Cluster,
    ) -> Result<Option<String>, ControlError> {
        let namespace = &self.shared.settings.lease_namespace;
        let lease = cluster
            .lease_view(namespace, LEASE)
            .await
            .map_err(|e| unreachable(&e))?;
        if let Some(why) = self.observed(cluster, lease.as_ref()) {
            return Ok(Some(why));
        }
        if lease.as_ref().is_some_and(|lease| lease.fresh) {
            return Ok(None);
        }
        let start = match cluster.get(&lead::definition()).await {
            // To start one would not help.
            Ok(Some(crd)) if !lead::keeps_our_fields(&crd) => lead::PRUNES.to_owned(),
            _ => leading::help(&self.shared, cluster, lease.as_ref()).await,
        };
        Ok(match lease {
            Some(lease) => {
                let since = crate::api::time::rfc3339(lease.renewed);
                let holder = lease.holder.unwrap_or_else(|| "its last holder".to_owned());
                Some(format!(
                    "nobody leads cluster {} ({holder} was last seen {since}); {start}",
                    cluster.name()
                ))
            }
            None => Some(format!(
                "nobody has ever led cluster {}; {start}",
                cluster.name()
            )),
        })
    }
}

/// An annotation of an object, set only if the value that we read is still there.
pub(super) fn annotation(object: &Object, key: &str, text: &str) -> Write {
    let all = "/metadata/annotations";
    let path = format!("{all}/{}", key.replace('~', "~0").replace('/', "~1"));
    let mut ops = Vec::new();
    match object.annotation(key) {
        Some(old) => ops.push(json!({"op": "test", "path": path, "value": old})),
        None if !object["metadata"]["annotations"].is_object() => {
            ops.push(json!({"op": "test", "path": all, "value": null}));
            ops.push(json!({"op": "add", "path": all, "value": {}}));
        }
        // Null is what the API server finds where nothing is.
        None => ops.push(json!({"op": "test", "path": path, "value": null})),
    }
    ops.push(json!({"op": "add", "path": path, "value": text}));
    Write::Patch {
        from: object.clone(),
        ops,
    }
}

/// A refused or lost write, as an outcome.
pub(super) fn write_failed(error: &Error) -> Acted {
    match error.kind() {
        ErrorKind::Unconfirmed => Acted::unconfirmed(format!(
            "{}; call get_status to see what became of it",
            error.report()
        )),
        ErrorKind::Conflict => {
            Acted::refused(format!("{}; call get_status and try again", error.report()))
        }
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Forbidden
        | ErrorKind::LeaseLost
        | ErrorKind::Unreachable
        | ErrorKind::Rejected => Acted::refused(error.report()),
    }
}

/// Watches the Canary until `done` or until patience ends; the Canary as it then is.
pub(super) async fn until(
    cluster: &Cluster,
    key: &Key,
    patience: Duration,
    done: impl Fn(&Value) -> bool,
) -> Option<Object> {
    let watched = cluster.watch(&CANARY, scope(key));
    let mut changes = watched.subscribe();
    let wait = async {
        watched.ready().await;
        loop {
            changes.mark_unchanged();
            let canary = watched.get(&key.namespace, &key.name)?;
            if done(&canary) {
                return Some(canary);
            }
            changes.changed().await.ok()?;
        }
    };
    tokio::time::timeout(patience, wait).await.ok().flatten()
}
