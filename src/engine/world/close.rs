//! The pods and `ReplicaSets` of both copies, watched in full for as long as a rollout is worked on.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use tokio::sync::Notify;

use super::World;
use crate::{
    api::objects::{Object, ObjectExt, Objects, POD, REPLICA_SET},
    build::Selector,
    cluster::{
        form::Form,
        watch::{Scope, Watched},
    },
    decide::plan::Labels,
};

/// Watches of what a rollout needs while it is worked on.
pub(in crate::engine) struct CloseUp {
    labels: Option<String>,
    pods: Watched,
    replica_sets: Watched,
}

impl CloseUp {
    /// Opens the watches and waits for their first lists.
    pub(in crate::engine) async fn open(
        world: &World,
        namespace: &str,
        labels: Option<String>,
        wake: &Arc<Notify>,
    ) -> Self {
        let open = |kind| {
            let scope = Scope {
                namespace: Some(namespace.to_owned()),
                labels: labels.clone(),
                fields: None,
            };
            let wake = wake.clone();
            let listener = move |_: &str, _: &str, _: &Object| wake.notify_one();
            world.cluster().watch_as(kind, scope, Box::new(listener))
        };
        let (pods, replica_sets) = (open(&POD), open(&REPLICA_SET));
        super::settle(&pods).await;
        super::settle(&replica_sets).await;
        Self {
            labels,
            pods,
            replica_sets,
        }
    }

    /// Whether the watches are by this selector.
    pub(in crate::engine) fn is_by(&self, labels: Option<&str>) -> bool {
        self.labels.as_deref() == labels
    }

    /// Adds both copies' `ReplicaSets`, and their pods.
    pub(super) fn add_to(&self, objects: &mut Objects) {
        let ours = |set: &Object| {
            let copies = [&objects.target, &objects.primary];
            copies
                .into_iter()
                .flatten()
                .any(|copy| set.owned_by(copy.uid()))
        };
        let sets: Vec<Object> = self.replica_sets.list().into_iter().filter(ours).collect();
        let of_ours = |pod: &Object| sets.iter().any(|set| pod.owned_by(set.uid()));
        objects.pods = self.pods.list().into_iter().filter(of_ours).collect();
        objects.replica_sets = sets;
    }

    /// A number that changes with any object.
    pub(in crate::engine) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for object in self.pods.list().iter().chain(&self.replica_sets.list()) {
            (object.uid(), Form::version(object)).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// The selector of both copies' pods, from the Deployments' own: they carry one label with different values. `None`, that is all pods of
/// the namespace, when the Deployments do not tell.
pub(in crate::engine) fn labels(selectors: &Labels, objects: &Objects) -> Option<String> {
    let selector = Selector::of_copies(selectors, objects)?;
    let primary = selector.primary();
    let Selector { key, value } = selector;
    Some(format!("{key} in ({value},{primary})"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(label: &str, value: &str) -> Object {
        let selector = json!({"matchLabels": {label: value, "tier": "web"}});
        Object::new(json!({"spec": {"selector": selector}}))
    }

    #[test]
    fn both_copies_are_selected_by_the_one_label_in_which_they_differ() {
        let both = Objects {
            target: Some(deployment("app", "x")),
            primary: Some(deployment("app", "x-primary")),
            ..Objects::default()
        };
        assert_eq!(
            labels(&Labels::default(), &both).as_deref(),
            Some("app in (x,x-primary)")
        );
        let target = Objects {
            target: Some(deployment("app.kubernetes.io/name", "x")),
            ..Objects::default()
        };
        assert_eq!(
            labels(&Labels::default(), &target).as_deref(),
            Some("app.kubernetes.io/name in (x,x-primary)")
        );
        let primary = Objects {
            primary: Some(deployment("app", "x-primary")),
            ..Objects::default()
        };
        assert_eq!(
            labels(&Labels::default(), &primary).as_deref(),
            Some("app in (x,x-primary)")
        );
        assert_eq!(labels(&Labels::default(), &Objects::default()), None);
    }
}
