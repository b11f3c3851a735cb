//! The Canary's definition in a cluster: without one that keeps our fields nothing is written there.

use super::{
    Shared,
    lead::{CRD, LONGEST_LOOK_AGAIN, LOOK_AGAIN, PRUNES, definition, keeps_our_fields},
};
use crate::{
    api::objects::{CUSTOM_RESOURCE_DEFINITION, Object},
    cluster::{
        Cluster,
        watch::{Scope, Watched},
    },
};

/// The watch of it.
pub(super) struct Definition {
    cluster: Cluster,
    watched: Watched,
}

impl Definition {
    pub(super) fn watch(cluster: &Cluster) -> Self {
        let scope = Scope {
            fields: Some(format!("metadata.name={CRD}")),
            ..Scope::default()
        };
        Self {
            cluster: cluster.clone(),
            watched: cluster.watch(&CUSTOM_RESOURCE_DEFINITION, scope),
        }
    }

    /// Waits until the cluster answers and its definition keeps our fields, saying what is wrong with it until then.
    pub(super) async fn usable(shared: &Shared, cluster: &Cluster) {
        let name = cluster.name();
        if read(cluster).await.is_none() {
            shared.leading.tell(name, None);
            return;
        }
        let definition = Self::watch(cluster);
        let mut changes = definition.watched.subscribe();
        let mut pause = LOOK_AGAIN;
        loop {
            changes.mark_unchanged();
            let fault = definition.fault().await;
            let news = shared.leading.tell(name, fault.as_deref());
            let Some(why) = fault else {
                return;
            };
            if news {
                tracing::warn!(cluster = name, "read-only: {why}");
            }
            // What cannot be watched is looked at.
            tokio::select! {
                alive = changes.changed() => if alive.is_err() { return },
                () = tokio::time::sleep(pause), if definition.watched.health().is_some() => {
                    pause = (pause * 2).min(LONGEST_LOOK_AGAIN);
                }
            }
        }
    }

    /// What keeps us from writing, if anything does.
    pub(super) async fn fault(&self) -> Option<String> {
        match self.watched.settled().await {
            Ok(()) => self.shown(),
            // Without the right to watch it, the right to read it is enough to begin.
            Err(_) => read(&self.cluster).await,
        }
    }

    /// Returns why nothing can be written any more, once that is so.
    pub(super) async fn broken(&self) -> String {
        let mut changes = self.watched.subscribe();
        self.watched.ready().await;
        loop {
            changes.mark_unchanged();
            if let Some(why) = self.shown() {
                return why;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn shown(&self) -> Option<String> {
        fault_of(self.watched.get("", CRD).as_ref())
    }
}

async fn read(cluster: &Cluster) -> Option<String> {
    match cluster.get(&definition()).await {
        Ok(found) => fault_of(found.as_ref()),
        Err(error) => Some(error.report()),
    }
}

fn fault_of(definition: Option<&Object>) -> Option<String> {
    match definition {
        Some(crd) if keeps_our_fields(crd) => None,
        Some(_) => Some(PRUNES.to_owned()),
        None => Some(format!(
            "{CRD} is not installed; run: canary-mcp crds | kubectl apply -f -"
        )),
    }
}
