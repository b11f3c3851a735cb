//! `ReplicaSets`: as many pods as asked for, and how many of them are ready.

use serde_json::{Value, json};

use super::{Again, MANAGER, is_deleted, kubelet, moment, owned, owner_reference, suffix};
use crate::{
    api::objects::{Object, ObjectExt, POD, REPLICA_SET},
    cluster::embedded::{status::Status, store::Store},
    decide::facts::Moment,
};

/// The pod serves: its condition Ready is true and nobody has deleted it.
pub(in crate::cluster::embedded) fn is_ready(pod: &Value) -> bool {
    !is_deleted(pod) && ready_since(pod).is_some()
}

/// Since when its condition Ready is true.
pub(in crate::cluster::embedded) fn ready_since(pod: &Value) -> Option<Moment> {
    let conditions = pod.array_at("/status/conditions");
    let ready = conditions
        .iter()
        .find(|c| c["type"] == json!("Ready") && c["status"] == json!("True"))?;
    moment(&ready["lastTransitionTime"])
}

pub(super) fn reconcile(store: &Store, ns: &str, name: &str, numbered: &mut u64) -> Again {
    let Some(set) = store.get(&REPLICA_SET, ns, name) else {
        return Ok(None);
    };
    if is_deleted(&set) {
        return Ok(None);
    }
    let mut pods = owned(store, &POD, &set);
    pods.retain(|pod| !is_deleted(pod));
    let wanted = usize::try_from(set.int_at("/spec/replicas").unwrap_or(1)).unwrap_or(0);
    for _ in pods.len()..wanted {
        pods.push(create(store, &set, numbered)?);
    }
    if pods.len() > wanted {
        pods.sort_by_key(worth);
        let excess = pods.len() - wanted;
        for pod in pods.drain(..excess) {
            store.delete(&POD, pod.namespace(), pod.name())?;
        }
    }
    report(store, &set, &pods)
}

/// What to keep: ready pods before others, older ones before younger.
fn worth(
    pod: &Object,
) -> (
    bool,
    std::cmp::Reverse<Option<Moment>>,
    std::cmp::Reverse<String>,
) {
    let ready = is_ready(pod);
    let since = ready_since(pod).or_else(|| moment(&pod["metadata"]["creationTimestamp"]));
    let name = pod.name().to_owned();
    (ready, std::cmp::Reverse(since), std::cmp::Reverse(name))
}

fn create(store: &Store, set: &Value, numbered: &mut u64) -> Result<Object, Status> {
    loop {
        *numbered += 1;
        let name = format!(
            "{}-{}",
            set.name(),
            suffix(&format!("{}/{numbered}", set.name()), 5)
        );
        let template = &set["spec"]["template"];
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"],
            "spec": template["spec"],
        });
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["generateName"] = json!(format!("{}-", set.name()));
        pod["metadata"]["namespace"] = json!(set.namespace());
        pod["metadata"]["ownerReferences"] = json!([owner_reference(&REPLICA_SET, set)]);
        // There is one node, so the scheduler has nothing to choose.
        pod["spec"]["nodeName"] = json!(kubelet::NODE);
        match store.create(&POD, pod, MANAGER) {
            Err(status) if status.reason == "AlreadyExists" => {}
            other => return other,
        }
    }
}

fn report(store: &Store, set: &Value, pods: &[Object]) -> Again {
    let now = store.clock().now();
    let min_ready = set.int_at("/spec/minReadySeconds").unwrap_or(0) * 1_000;
    let ready: Vec<Moment> = pods.iter().filter_map(|pod| ready_since(pod)).collect();
    let available = ready
        .iter()
        .filter(|at| now.since(**at) >= min_ready)
        .count();
    let mut status = json!({
        "replicas": pods.len(),
        "observedGeneration": set.generation(),
    });
    for (field, count) in [
        ("fullyLabeledReplicas", pods.len()),
        ("readyReplicas", ready.len()),
        ("availableReplicas", available),
    ] {
        if count > 0 {
            status[field] = json!(count);
        }
    }
    let write = |object: &mut Value| object["status"] = status;
    store.modify_status(&REPLICA_SET, set.namespace(), set.name(), MANAGER, write)?;
    let pending = ready.iter().map(|at| at.plus(min_ready));
    Ok(pending.filter(|at| *at > now).min())
}
