//! Rollouts of several clusters, one after another: a hook of one waits for the Canary of another, or starts it when it is promoted itself.

use std::time::Duration;

use futures::future::join_all;

use super::{
    control::{Acted, Control, ControlError, Key, Start, unreachable},
    objects,
};
use crate::{api::view::RolloutView, decide::state::Phase};

/// What a rollout elsewhere has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is promoted.
    Promoted,
    /// It has failed; the reason says why.
    Failed(String),
    /// It goes on or has not begun; the text says where it is.
    Waits(String),
}

/// A start that the promotion of another Canary asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The cluster to start on.
    pub cluster: String,
    /// Namespace of the Canary there.
    pub namespace: String,
    /// Its name; without one, what the promoted Canary is called there.
    pub canary: Option<String>,
    /// The image; without one, what the promoted Canary has made live.
    pub image: Option<String>,
    /// The container to give it to; the only one when absent.
    pub container: Option<String>,
    /// The cluster of the promoted Canary; without it, the only other one that has a Canary of that name.
    pub from: Option<String>,
    /// Namespace of the promoted Canary.
    pub promoted_namespace: String,
    /// Name of the promoted Canary.
    pub promoted: String,
    /// Who asks, for events.
    pub by: Option<String>,
}

impl Control {
    /// Waits until the Canary is promoted (of `image`, where one is given) or has failed, `patience` at most.
    ///
    /// # Errors
    /// As [`Control::view`].
    pub async fn standing(
        &self,
        key: &Key,
        image: Option<&str>,
        patience: Duration,
    ) -> Result<Standing, ControlError> {
        let mut follow = self.follow(key).await?;
        let mut last = None;
        let ends = async {
            while let Some(view) = follow.next().await {
                let standing = of(&view, image);
                if !matches!(standing, Standing::Waits(_)) {
                    return Some(standing);
                }
                last = Some(standing);
            }
            None
        };
        let ended = tokio::time::timeout(patience, ends).await;
        let gone = || {
            ControlError::NotFound(format!(
                "name: cluster {} has no Canary {}/{} any more",
                key.cluster, key.namespace, key.name
            ))
        };
        match ended {
            Ok(ended) => ended.ok_or_else(gone),
            Err(_) => match last {
                Some(standing) => Ok(standing),
                None => Ok(of(&*self.view(key).await?, image)),
            },
        }
    }

    /// Starts the rollout that a promotion elsewhere asks for, as [`Control::start`] does.
    ///
    /// # Errors
    /// As [`Control::start`]; `Invalid` when it cannot be told which Canary or image is meant.
    pub async fn trigger(&self, trigger: &Trigger) -> Result<Acted, ControlError> {
        self.cluster(&trigger.cluster)?;
        let (name, image) = match (&trigger.canary, &trigger.image) {
            (Some(name), Some(image)) => (name.clone(), image.clone()),
            (name, image) => {
                let source = self.source(trigger).await?;
                let name = match name {
                    Some(name) => name.clone(),
                    None => self.namesake(trigger, &source.cluster).await?,
                };
                let image = match image {
                    Some(image) => image.clone(),
                    None => self.live_image(trigger, &source).await?,
                };
                (name, image)
            }
        };
        let key = Key {
            cluster: trigger.cluster.clone(),
            namespace: trigger.namespace.clone(),
            name,
        };
        self.start(&Start {
            key,
            image: Some(image),
            container: trigger.container.clone(),
            retry: false,
            expect_revision: None,
            by: trigger.by.clone(),
        })
        .await
    }

    /// The Canary that was promoted.
    async fn source(&self, trigger: &Trigger) -> Result<Key, ControlError> {
        let key = |cluster: &str| Key {
            cluster: cluster.to_owned(),
            namespace: trigger.promoted_namespace.clone(),
            name: trigger.promoted.clone(),
        };
        if let Some(from) = &trigger.from {
            return Ok(key(from));
        }
        let others: Vec<Key> = {
            let all = self.shared.registry.all();
            let others = all.iter().filter(|entry| entry.name != trigger.cluster);
            others.map(|entry| key(&entry.name)).collect()
        };
        let looked = join_all(others.iter().map(|key| self.is_there(key))).await;
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for (key, there) in others.into_iter().zip(looked) {
            match there {
                Ok(true) => found.push(key),
                Ok(false) => {}
                Err(_) => unknown.push(key.cluster),
            }
        }
        let which = format!("{}/{}", trigger.promoted_namespace, trigger.promoted);
        match (found.len(), unknown.is_empty()) {
            (1, true) => Ok(found.remove(0)),
            (0, true) => Err(ControlError::NotFound(format!(
                "metadata.from: no other cluster has a Canary {which}; name its cluster, or give metadata.canary and metadata.image"
            ))),
            (_, true) => Err(ControlError::Invalid(format!(
                "metadata.from: several clusters have a Canary {which}: {}; name the one that was promoted",
                found
                    .into_iter()
                    .map(|key| key.cluster)
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
            (_, false) => Err(ControlError::Unreachable(format!(
                "metadata.from: which cluster has the promoted Canary {which} cannot be told, {} cannot be read; name it",
                unknown.join(", ")
            ))),
        }
    }

    async fn is_there(&self, key: &Key) -> Result<bool, ControlError> {
        let cluster = self.cluster(&key.cluster)?;
        if !self.shared.settings.on(&cluster).covers(&key.namespace) {
            return Ok(false);
        }
        let canary = objects::canary(&cluster, &key.namespace, &key.name).await;
        Ok(canary.map_err(|e| unreachable(&e))?.is_some())
    }

    /// What the promoted Canary is called on the cluster to start on: the same, or with that cluster's name at its end instead of its own.
    async fn namesake(&self, trigger: &Trigger, from: &str) -> Result<String, ControlError> {
        let stem = trigger.promoted.strip_suffix(from);
        let stem = stem.filter(|stem| stem.ends_with('-'));
        let renamed = stem.map(|stem| format!("{stem}{}", trigger.cluster));
        let names: Vec<String> = [Some(trigger.promoted.clone()), renamed]
            .into_iter()
            .flatten()
            .collect();
        for name in &names {
            let key = Key {
                cluster: trigger.cluster.clone(),
                namespace: trigger.namespace.clone(),
                name: name.clone(),
            };
            if self.is_there(&key).await? {
                return Ok(name.clone());
            }
        }
        Err(ControlError::NotFound(format!(
            "metadata.canary: cluster {} has no Canary {} in namespace {}; name it",
            trigger.cluster,
            names.join(" or "),
            trigger.namespace
        )))
    }

    async fn live_image(&self, trigger: &Trigger, source: &Key) -> Result<String, ControlError> {
        if trigger.container.is_some() {
            return Err(ControlError::Invalid(
                "metadata.image: is needed beside metadata.container".to_owned(),
            ));
        }
        let view = self.view(source).await?;
        view.image.live.clone().ok_or_else(|| {
            ControlError::NotFound(format!(
                "metadata.image: {source} has no image that is live; give it"
            ))
        })
    }
}

/// What the rollout has come to, for `image` where one is given.
fn of(view: &RolloutView, image: Option<&str>) -> Standing {
    let phase = view.phase.name();
    let live = view.image.live.as_deref();
    let wanted = image.is_none_or(|image| live == Some(image));
    let who = format!("{} {}/{}", view.cluster, view.namespace, view.name);
    match view.phase {
        Phase::Succeeded if wanted => Standing::Promoted,
        Phase::Failed => Standing::Failed(format!(
            "{who} has failed: {}",
            view.reason.as_deref().unwrap_or("no reason is recorded")
        )),
        Phase::Succeeded => Standing::Waits(format!(
            "{who} is Succeeded with {}, not with {}",
            live.unwrap_or("no image"),
            image.unwrap_or_default()
        )),
        Phase::Initializing
        | Phase::Initialized
        | Phase::Waiting
        | Phase::Progressing
        | Phase::WaitingPromotion
        | Phase::Promoting
        | Phase::Finalising
        | Phase::Terminating
        | Phase::Terminated => Standing::Waits(format!("{who} is {phase}")),
    }
}
