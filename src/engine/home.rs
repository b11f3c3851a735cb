//! The home cluster, in which the replicas of the engine see each other, as the registry has it.

use std::time::Duration;

use tokio::sync::watch;

use super::Settings;
use crate::cluster::{Cluster, Members, Membership, registry::Entry};

/// How long the others may take to be told that we leave; the Leases wait for it.
const LEAVE_WITHIN: Duration = Duration::from_millis(250);

/// This process's place among the replicas.
pub(super) struct Home {
    /// `--home`; without it the cluster around this process.
    name: Option<String>,
    identity: String,
    namespace: String,
    members: watch::Sender<Members>,
    joined: Option<(Cluster, Membership)>,
}

impl Home {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            name: settings.home.clone(),
            identity: settings.identity.clone(),
            namespace: settings.lease_namespace.clone(),
            members: watch::Sender::new(Members::NoHome),
            joined: None,
        }
    }

    /// Follows who the members are.
    pub(super) fn members(&self) -> watch::Receiver<Members> {
        self.members.subscribe()
    }

    /// Joins the home cluster that is in the registry now, if it is another than before.
    pub(super) fn follow(&mut self, entries: &[Entry]) {
        let home = match self.wanted(entries) {
            Ok(home) => home,
            Err(why) => {
                self.joined = None;
                self.members.send_if_modified(|members| {
                    let unknown = Members::Unknown(why.clone());
                    let new = *members != unknown;
                    if new {
                        tracing::warn!("the other replicas cannot be seen, so everybody keeps what it leads: {why}");
                        *members = unknown;
                    }
                    new
                });
                return;
            }
        };
        let Some(home) = home else {
            self.joined = None;
            self.members.send_replace(Members::NoHome);
            return;
        };
        if !self.joined.as_ref().is_some_and(|(old, _)| old.is(&home)) {
            // What was there before ends without a farewell: it is still the same member.
            self.joined = None;
            let membership =
                Membership::join(&home, &self.identity, &self.namespace, &self.members);
            self.joined = Some((home, membership));
        }
    }

    /// The home cluster, if there is to be one, or why it cannot be used.
    fn wanted(&self, entries: &[Entry]) -> Result<Option<Cluster>, String> {
        let Some(name) = &self.name else {
            let mut usable = entries.iter().filter_map(|e| e.cluster.as_ref().ok());
            return Ok(usable.find(|cluster| cluster.inside()).cloned());
        };
        match entries.iter().find(|entry| entry.name == *name) {
            Some(entry) => match &entry.cluster {
                Ok(cluster) => Ok(Some(cluster.clone())),
                Err(why) => Err(format!("the home cluster {name} cannot be used: {why}")),
            },
            None => Err(format!("there is no cluster {name}, which --home names")),
        }
    }

    /// Leaves the others, so that they share out what this process leads.
    pub(super) async fn leave(&mut self) {
        let Some((home, membership)) = self.joined.take() else {
            return;
        };
        let left = tokio::time::timeout(LEAVE_WITHIN, membership.leave()).await;
        if left.is_err() {
            tracing::warn!(
                cluster = home.name(),
                "the other replicas could not be told in time that this one leaves"
            );
        }
    }
}
