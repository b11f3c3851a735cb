//! What this process's engine makes of each cluster, for the answers of its tools.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::control::Inner;
use crate::{
    api::objects::{NAMESPACE, Ref},
    cluster::{Cluster, LeaseView},
};

/// What helps where nobody leads, as far as this process can tell: what its own engine has met, a namespace that is missing, or an engine.
pub(super) async fn help(inner: &Inner, cluster: &Cluster, lease: Option<&LeaseView>) -> String {
    let name = cluster.name();
    if let Some(obstacle) = inner.leading.obstacle(name) {
        return obstacle;
    }
    let namespace = &inner.settings.lease_namespace;
    let of = Ref {
        kind: NAMESPACE,
        namespace: String::new(),
        name: namespace.clone(),
    };
    // Where there is a Lease there is its namespace; and who may not read namespaces cannot tell.
    if lease.is_none() && matches!(cluster.get(&of).await, Ok(None)) {
        return format!(
            "there is no namespace {namespace} for the Lease; make it with: kubectl --context {name} create namespace {namespace}"
        );
    }
    format!("start `canary-mcp serve` with --lead {name}")
}

/// Why this process does not lead a cluster that it may lead, for as long as something is in the way. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Leading {
    obstacles: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Leading {
    /// What is in the way of leading a cluster from here, and the command that helps.
    #[must_use]
    pub fn obstacle(&self, cluster: &str) -> Option<String> {
        let obstacles = self.obstacles.lock();
        let obstacles = obstacles.unwrap_or_else(PoisonError::into_inner);
        obstacles.get(cluster).cloned()
    }

    /// Tells it; whether that is news.
    pub(super) fn tell(&self, cluster: &str, obstacle: Option<&str>) -> bool {
        let obstacles = self.obstacles.lock();
        let mut obstacles = obstacles.unwrap_or_else(PoisonError::into_inner);
        let old = match obstacle {
            Some(obstacle) => obstacles.insert(cluster.to_owned(), obstacle.to_owned()),
            None => obstacles.remove(cluster),
        };
        old.as_deref() != obstacle
    }
}
