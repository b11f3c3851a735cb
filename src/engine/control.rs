//! What tools call: list, view, request, follow. The same with the engine off.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::view::{ClusterRow, RolloutRow, RolloutView};

/// Names one Canary of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Cluster name.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the Canary.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.cluster, self.namespace, self.name)
    }
}

/// How a tool's wish ended. Every write is verified before it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Written, read back and acted on.
    Applied,
    /// It was so already; nothing was written.
    Already,
    /// Not done, and nothing was written; the reason says why.
    Refused,
    /// Written or perhaps written, but not seen to be acted on; the reason says what to look at.
    Unconfirmed,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq)]
pub struct Acted {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, in one sentence, with the field or object and what to do next.
    pub reason: String,
    /// The rollout as it is now, where it could be read.
    pub view: Option<Arc<RolloutView>>,
}

/// Why a read gave nothing. The text names the operation, the object and the cluster, the cause and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such cluster, namespace or Canary, or an ambiguous name.
    #[error("{0}")]
    NotFound(String),
    /// An argument that cannot be; the text begins with the field's name.
    #[error("{0}")]
    Invalid(String),
    /// The cluster did not answer.
    #[error("{0}")]
    Unreachable(String),
}

/// What `start_canary` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The Canary (or the Deployment without one).
    pub key: Key,
    /// The new image.
    pub image: String,
    /// The container to give it to; the only one when absent.
    pub container: Option<String>,
    /// Refuse when the target's live revision does not begin with this (at least 8 hex digits).
    pub expect_revision: Option<String>,
    /// Who asks, for events.
    pub by: Option<String>,
}

/// A rollout as it changes. Dropping it stops the watch and nothing else.
pub struct Follow {
    pub(crate) receiver: tokio::sync::watch::Receiver<Option<Arc<RolloutView>>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Follow {
    /// The next state of the rollout: at once the first time, then whenever anything that the view shows has changed. `None` when the
    /// Canary is gone or the watch has ended for good.
    pub async fn next(&mut self) -> Option<Arc<RolloutView>> {
        loop {
            if self.receiver.changed().await.is_err() {
                return None;
            }
            if let Some(view) = self.receiver.borrow_and_update().clone() {
                return Some(view);
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which rollouts a table shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this cluster.
    pub cluster: Option<String>,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this name.
    pub name: Option<String>,
}

/// The verbs of a request that tools put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The Canary.
    pub key: Key,
    /// Promote or roll back.
    pub verb: crate::decide::facts::Verb,
    /// With promote: without waiting for the analysis.
    pub skip: bool,
    /// Why, for the event.
    pub reason: Option<String>,
    /// Who asks.
    pub by: Option<String>,
    /// How long to wait until it was acted on.
    pub patience: Duration,
}

/// Rows of a table and what could not be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The rollouts.
    pub rows: Vec<RolloutRow>,
    /// Clusters that could not be read, with the reason.
    pub unreachable: Vec<String>,
}

/// Reads and wishes over all clusters that the registry knows. Cheap to clone.
#[derive(Clone, Default)]
pub struct Control {}

impl Control {
    /// Every cluster that `selector` (Kubernetes label-selector syntax) matches, the unreachable ones too, with the reason.
    ///
    /// # Errors
    /// `Invalid` when the selector cannot be parsed.
    #[expect(clippy::unused_async, reason = "the skeleton")]
    pub async fn clusters(&self, selector: Option<&str>) -> Result<Vec<ClusterRow>, ControlError> {
        let _ = selector;
        Ok(Vec::new())
    }

    /// One rollout in full, read now.
    ///
    /// # Errors
    /// `NotFound` names the clusters or Canaries that there are; `Unreachable` gives the cause.
    #[expect(clippy::unused_async, reason = "the skeleton")]
    pub async fn view(&self, key: &Key) -> Result<Arc<RolloutView>, ControlError> {
        Err(ControlError::NotFound(key.to_string()))
    }

    /// A table of all rollouts that match.
    ///
    /// # Errors
    /// `NotFound` when the filter names a cluster that there is not.
    #[expect(clippy::unused_async, reason = "the skeleton")]
    pub async fn table(&self, filter: &Filter) -> Result<Table, ControlError> {
        let _ = filter;
        Ok(Table::default())
    }

    /// Sets the target's image and waits until the engine has begun the run (or has said why not), a few seconds at most.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` and `Unreachable` as everywhere; a wish that is not done for a reason of the rollout's own is `Ok` with
    /// `Outcome::Refused`.
    #[expect(clippy::unused_async, reason = "the skeleton")]
    pub async fn start(&self, start: &Start) -> Result<Acted, ControlError> {
        Err(ControlError::NotFound(start.key.to_string()))
    }

    /// Puts a request on the Canary and waits until it was acted on.
    ///
    /// # Errors
    /// As [`Control::start`].
    #[expect(clippy::unused_async, reason = "the skeleton")]
    pub async fn wish(&self, wish: &Wish) -> Result<Acted, ControlError> {
        Err(ControlError::NotFound(wish.key.to_string()))
    }

    /// Watches one rollout for the length of a call.
    ///
    /// # Errors
    /// As [`Control::view`].
    #[expect(clippy::unused_async, reason = "the skeleton")]
    pub async fn follow(&self, key: &Key) -> Result<Follow, ControlError> {
        Err(ControlError::NotFound(key.to_string()))
    }
}
