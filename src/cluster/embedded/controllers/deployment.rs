//! Deployments: one `ReplicaSet` for each template, the sizes of a rolling update, and the status that kubectl, Flagger
//! and Argo CD read. Reasons and messages are those of Kubernetes' deployment controller.

use serde_json::{Value, json};

use super::{
    Again, MANAGER, is_deleted, moment, owned, owner_reference,
    record::{Happened, record},
    rollout::{Set, Wanted},
    suffix,
};
use crate::{
    api::objects::{DEPLOYMENT, Object, ObjectExt, POD, REPLICA_SET},
    cluster::{
        clock::rfc3339,
        embedded::{status::Status, store::Store},
    },
    decide::facts::Moment,
};

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn reconcile(store: &Store, ns: &str, name: &str) -> Again {
    let Some(deployment) = store.get(&DEPLOYMENT, ns, name) else {
        return Ok(None);
    };
    if is_deleted(&deployment) {
        return Ok(None);
    }
    let wanted = Wanted::of(&deployment);
    let mut sets = owned(store, &REPLICA_SET, &deployment);
    sets.sort_by_key(|set| revision(set));
    let current = match sets.iter().position(|set| is_current(set, &deployment)) {
        Some(i) => sets.remove(i),
        None if wanted.paused => return report(store, &deployment, None, &sets, &wanted),
        None => create(store, &deployment, &sets, &wanted)?,
    };
    let (current, deployment) = number(store, &deployment, current, &sets)?;
    resize(store, &deployment, &current, &sets, &wanted)?;
    forget(store, &deployment, &sets)?;
    // Read again: what was written above is part of what is reported.
    let mut sets = owned(store, &REPLICA_SET, &deployment);
    sets.sort_by_key(|set| revision(set));
    let at = sets.iter().position(|set| set.uid() == current.uid());
    let current = at.map(|i| sets.remove(i));
    report(store, &deployment, current.as_ref(), &sets, &wanted)
}

fn revision(object: &Value) -> i64 {
    let text = object.annotation(REVISION);
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// The `ReplicaSet`'s template is the Deployment's, but for the hash label.
fn is_current(set: &Value, deployment: &Value) -> bool {
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH);
    }
    template == deployment["spec"]["template"]
}

/// The `ReplicaSet` as a rollout sees it; pods on their way out count as still there.
fn set_of(store: &Store, set: &Value) -> Set {
    let pods = owned(store, &POD, set).len();
    Set {
        spec: set.int_at("/spec/replicas").unwrap_or(0),
        actual: i64::try_from(pods).unwrap_or(i64::MAX),
        available: set.int_at("/status/availableReplicas").unwrap_or(0),
    }
}

fn sets_of(store: &Store, sets: &[Object]) -> Vec<Set> {
    sets.iter().map(|set| set_of(store, set)).collect()
}

fn create(
    store: &Store,
    deployment: &Value,
    old: &[Object],
    wanted: &Wanted,
) -> Result<Object, Status> {
    let template = &deployment["spec"]["template"];
    let hash = suffix(&template.to_string(), 10);
    let name = format!("{}-{hash}", deployment.name());
    let mut labels = template["metadata"]["labels"].clone();
    labels[HASH] = json!(hash);
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"][HASH] = json!(hash);
    let mut template = template.clone();
    template["metadata"]["labels"] = labels.clone();
    let mut annotations = deployment["metadata"]["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.remove(LAST_APPLIED);
        annotations.remove(REVISION);
    }
    let replicas = wanted.current(Set::default(), &sets_of(store, old));
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": deployment.namespace(),
            "labels": labels,
            "annotations": if annotations.is_null() { json!({}) } else { annotations },
            "ownerReferences": [owner_reference(&DEPLOYMENT, deployment)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment["spec"]["minReadySeconds"].as_i64().unwrap_or(0),
            "selector": selector,
            "template": template,
        },
    });
    let set = store.create(&REPLICA_SET, set, MANAGER)?;
    if replicas > 0 {
        tell_scaling(store, deployment, set.name(), 0, replicas);
    }
    Ok(set)
}

/// Gives the current `ReplicaSet` the highest revision, and the Deployment that number.
fn number(
    store: &Store,
    deployment: &Object,
    current: Object,
    old: &[Object],
) -> Result<(Object, Object), Status> {
    let highest = old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let number = if revision(&current) > highest {
        revision(&current)
    } else {
        highest + 1
    };
    let write = |object: &mut Value| {
        if object["metadata"]["annotations"].is_null() {
            object["metadata"]["annotations"] = json!({});
        }
        object["metadata"]["annotations"][REVISION] = json!(number.to_string());
    };
    let current = if revision(&current) == number {
        current
    } else {
        let (ns, name) = (current.namespace(), current.name());
        let written = store.modify(&REPLICA_SET, ns, name, MANAGER, write)?;
        written.unwrap_or(current)
    };
    let deployment = if revision(deployment) == number {
        deployment.clone()
    } else {
        let (ns, name) = (deployment.namespace(), deployment.name());
        let written = store.modify(&DEPLOYMENT, ns, name, MANAGER, write)?;
        written.unwrap_or_else(|| deployment.clone())
    };
    Ok((current, deployment))
}

fn resize(
    store: &Store,
    deployment: &Value,
    current: &Object,
    old: &[Object],
    wanted: &Wanted,
) -> Result<(), Status> {
    let olds = sets_of(store, old);
    let mut now = set_of(store, current);
    let next = wanted.current(now, &olds);
    scale(store, deployment, current, next)?;
    now.spec = next;
    for (set, size) in old.iter().zip(wanted.old(now, &olds)) {
        scale(store, deployment, set, size)?;
    }
    Ok(())
}

fn scale(store: &Store, deployment: &Value, set: &Object, size: i64) -> Result<(), Status> {
    let before = set.int_at("/spec/replicas").unwrap_or(0);
    if before == size {
        return Ok(());
    }
    let resized = |object: &mut Value| object["spec"]["replicas"] = json!(size);
    let (ns, name) = (set.namespace(), set.name());
    store.modify(&REPLICA_SET, ns, name, MANAGER, resized)?;
    tell_scaling(store, deployment, name, before, size);
    Ok(())
}

fn tell_scaling(store: &Store, deployment: &Value, set: &str, from: i64, to: i64) {
    let way = if to > from { "up" } else { "down" };
    let happened = Happened {
        kind: &DEPLOYMENT,
        object: deployment,
        warning: false,
        reason: "ScalingReplicaSet",
        note: format!("Scaled {way} replica set {set} from {from} to {to}"),
        by: "deployment-controller",
    };
    record(store, &happened);
}

/// Deletes the oldest empty `ReplicaSets` beyond `revisionHistoryLimit`.
fn forget(store: &Store, deployment: &Value, old: &[Object]) -> Result<(), Status> {
    let limit = deployment
        .int_at("/spec/revisionHistoryLimit")
        .unwrap_or(10);
    let empty = old.iter().filter(|set| {
        set.int_at("/spec/replicas") == Some(0) && set.int_at("/status/replicas").unwrap_or(0) == 0
    });
    let excess = i64::try_from(old.len()).unwrap_or(i64::MAX) - limit;
    for set in empty.take(usize::try_from(excess).unwrap_or(0)) {
        store.delete(&REPLICA_SET, set.namespace(), set.name())?;
    }
    Ok(())
}

/// What the status says in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
}

impl Counts {
    fn of(current: Option<&Object>, old: &[Object]) -> Self {
        let sum = |field: &str| {
            let pointer = format!("/status/{field}");
            let all = old.iter().chain(current);
            all.map(|set| set.int_at(&pointer).unwrap_or(0)).sum()
        };
        Self {
            replicas: sum("replicas"),
            updated: current
                .and_then(|set| set.int_at("/status/replicas"))
                .unwrap_or(0),
            ready: sum("readyReplicas"),
            available: sum("availableReplicas"),
        }
    }

    fn of_status(status: &Value) -> Self {
        let field = |name: &str| status[name].as_i64().unwrap_or(0);
        Self {
            replicas: field("replicas"),
            updated: field("updatedReplicas"),
            ready: field("readyReplicas"),
            available: field("availableReplicas"),
        }
    }

    /// Something moved towards the wanted state.
    fn progressed_from(&self, before: &Self) -> bool {
        self.updated > before.updated
            || self.replicas - self.updated < before.replicas - before.updated
            || self.ready > before.ready
            || self.available > before.available
    }

    fn complete(&self, wanted: &Wanted) -> bool {
        self.updated == wanted.replicas
            && self.replicas == wanted.replicas
            && self.available == wanted.replicas
    }
}

fn report(
    store: &Store,
    deployment: &Object,
    current: Option<&Object>,
    old: &[Object],
    wanted: &Wanted,
) -> Again {
    let now = store.clock().now();
    let counts = Counts::of(current, old);
    let mut status = json!({"observedGeneration": deployment.generation()});
    // Kubernetes leaves zeros out.
    for (field, value) in [
        ("replicas", counts.replicas),
        ("updatedReplicas", counts.updated),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
        ("unavailableReplicas", counts.replicas - counts.available),
    ] {
        if value > 0 {
            status[field] = json!(value);
        }
    }
    let mut conditions = vec![available(deployment, &counts, wanted, now)];
    let (progressing, again) = progressing(deployment, current, &counts, wanted, now);
    conditions.extend(progressing);
    status["conditions"] = json!(conditions);
    let (ns, name) = (deployment.namespace(), deployment.name());
    let write = |object: &mut Value| object["status"] = status;
    store.modify_status(&DEPLOYMENT, ns, name, MANAGER, write)?;
    Ok(again)
}

fn condition<'a>(deployment: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = deployment.array_at("/status/conditions");
    conditions.iter().find(|c| c["type"] == json!(kind))
}

fn available(deployment: &Value, counts: &Counts, wanted: &Wanted, now: Moment) -> Value {
    let before = condition(deployment, "Available");
    if counts.available >= wanted.min_available() {
        let says = (
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        );
        renewed(before, "Available", "True", says, false, now)
    } else {
        let says = (
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        );
        renewed(before, "Available", "False", says, false, now)
    }
}

/// Condition Progressing, and when its deadline has to be looked at.
fn progressing(
    deployment: &Value,
    current: Option<&Object>,
    counts: &Counts,
    wanted: &Wanted,
    now: Moment,
) -> (Option<Value>, Option<Moment>) {
    let before = condition(deployment, "Progressing");
    let Some(set) = current.map(|set| set.name()) else {
        return (before.cloned(), None);
    };
    let reason = before
        .and_then(|c| c["reason"].as_str())
        .unwrap_or_default();
    let last = Counts::of_status(&deployment["status"]);
    let renew = |status: &str, reason: &str, message: &str, moved: bool| {
        let (verb, says) = (reason, message.to_owned());
        Some(renewed(
            before,
            "Progressing",
            status,
            (verb, &says),
            moved,
            now,
        ))
    };
    let is_new = !before.is_some_and(|c| {
        let message = c["message"].as_str().unwrap_or_default();
        message.contains(&format!("\"{set}\""))
    });
    if counts.complete(wanted) && !is_new {
        let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
        return (
            renew("True", "NewReplicaSetAvailable", &message, false),
            None,
        );
    }
    if is_new {
        let created = current.and_then(|set| moment(&set["metadata"]["creationTimestamp"]));
        let condition = if created.is_some_and(|at| now.since(at) < 1_000) {
            let message = format!("Created new replica set \"{set}\"");
            renew("True", "NewReplicaSetCreated", &message, true)
        } else {
            let message = format!("Found new replica set \"{set}\"");
            renew("True", "FoundNewReplicaSet", &message, true)
        };
        return (condition, Some(deadline(deployment, now)));
    }
    // Once complete, a Deployment that is only scaled has no deadline: as in Kubernetes.
    if reason == "NewReplicaSetAvailable" && counts.replicas == counts.updated {
        return (before.cloned(), None);
    }
    if counts.progressed_from(&last) {
        let message = format!("ReplicaSet \"{set}\" is progressing.");
        let condition = renew("True", "ReplicaSetUpdated", &message, true);
        return (condition, Some(deadline(deployment, now)));
    }
    let since = before
        .and_then(|c| moment(&c["lastUpdateTime"]))
        .unwrap_or(now);
    let at = deadline(deployment, since);
    let overdue = at <= now || reason == "ProgressDeadlineExceeded";
    if overdue && !wanted.paused {
        let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
        return (
            renew("False", "ProgressDeadlineExceeded", &message, false),
            None,
        );
    }
    (before.cloned(), Some(at))
}

/// When the deadline that began at `since` is over; a second late, because timestamps are cut to whole seconds.
fn deadline(deployment: &Value, since: Moment) -> Moment {
    let seconds = deployment
        .int_at("/spec/progressDeadlineSeconds")
        .unwrap_or(600);
    since.plus(seconds.saturating_mul(1_000).saturating_add(1_000))
}

/// The condition with new words; its times move as Kubernetes moves them.
fn renewed(
    before: Option<&Value>,
    kind: &str,
    status: &str,
    (reason, message): (&str, &str),
    moved: bool,
    now: Moment,
) -> Value {
    let same_status = before.filter(|c| c["status"] == json!(status));
    let same = same_status.filter(|c| c["reason"] == json!(reason) && !moved);
    let time = |kept: Option<&Value>, field: &str| {
        let kept = kept.and_then(|c| c[field].as_str());
        kept.map_or_else(|| rfc3339(now), str::to_owned)
    };
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": time(same_status, "lastTransitionTime"),
        "lastUpdateTime": time(same, "lastUpdateTime"),
    })
}
