//! Leads one cluster while its Lease is held: watches it, and keeps a task for each of its Canaries.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Shared, rollout::Rollout, tell::Teller, world::World};
use crate::{
    api::objects::{CUSTOM_RESOURCE_DEFINITION, Object, ObjectExt, Ref},
    cluster::{
        Cluster,
        lease::{Held, LeaseKeeper, Standing},
    },
    decide::state::Phase,
};

/// Wait before a cluster is looked at again whose CRDs are missing or do not keep our fields, or that did not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The CRD that must keep our status fields.
const CRD: &str = "canaries.flagger.app";
/// Why nobody can lead a cluster with Flagger's own CRD, and what helps.
pub(super) const PRUNES: &str =
    "the installed Canary CRD drops our status fields; run: canary-mcp crds | kubectl apply -f -";

/// Leads the cluster until stopped: takes the Lease, drives while it is held, gives it back.
pub(super) async fn lead(shared: Arc<Shared>, cluster: Cluster, stop: CancellationToken) {
    let name = cluster.name().to_owned();
    if !until(&stop, usable(&cluster)).await {
        return;
    }
    let keeper = LeaseKeeper::start(
        &cluster,
        &shared.settings.identity,
        &shared.settings.lease_namespace,
    );
    let mut standing = keeper.watch();
    loop {
        let now = standing.borrow_and_update().clone();
        match now {
            Standing::Held(held) => {
                let term = drive(&shared, &cluster, &held);
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = lost(&mut standing, held.epoch()) => tracing::warn!(cluster = name, "no longer leading"),
                    () = term => {}
                }
                continue;
            }
            Standing::Follower { holder: None } => {}
            Standing::Follower {
                holder: Some(holder),
            } => tracing::info!(cluster = name, holder, "not leading"),
            Standing::Refused(why) => tracing::warn!(cluster = name, "read-only: {why}"),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = standing.changed() => if changed.is_err() { break },
        }
    }
    keeper.release().await;
}

/// Runs a future unless stopped before; whether it ended by itself.
async fn until(stop: &CancellationToken, future: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = future => true,
    }
}

/// Returns when the standing is no longer that of this term.
async fn lost(standing: &mut tokio::sync::watch::Receiver<Standing>, epoch: &str) {
    let other = |s: &Standing| !matches!(s, Standing::Held(h) if h.epoch() == epoch);
    // A keeper that has ended holds nothing either.
    let _ = standing.wait_for(other).await;
}

/// Waits until the cluster answers and its Canary CRD keeps our fields; without that nothing is written there.
async fn usable(cluster: &Cluster) {
    let mut said = None;
    loop {
        let why = match cluster.get(&definition()).await {
            Ok(Some(crd)) if keeps_our_fields(&crd) => return,
            Ok(Some(_)) => PRUNES.to_owned(),
            Ok(None) => {
                format!("{CRD} is not installed; run: canary-mcp crds | kubectl apply -f -")
            }
            Err(error) => error.report(),
        };
        if said.as_ref() != Some(&why) {
            tracing::warn!(cluster = cluster.name(), "read-only: {why}");
            said = Some(why);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The definition of the Canary.
pub(super) fn definition() -> Ref {
    Ref {
        kind: CUSTOM_RESOURCE_DEFINITION,
        namespace: String::new(),
        name: CRD.to_owned(),
    }
}

/// The served schema has `status.run`, or prunes nothing.
pub(super) fn keeps_our_fields(crd: &Value) -> bool {
    crd.array_at("/spec/versions").iter().any(|version| {
        let status = version.pointer("/schema/openAPIV3Schema/properties/status");
        version.str_at("/name") == Some("v1beta1")
            && status.is_some_and(|s| {
                s.pointer("/properties/run").is_some()
                    || s["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true)
            })
    })
}

/// Watches the cluster and keeps one task for each Canary, until dropped. Returns when a kind was installed that was missing, for the
/// watches to be opened anew.
async fn drive(shared: &Arc<Shared>, cluster: &Cluster, held: &Held) {
    let installed = loop {
        match cluster.installed().await {
            Ok(installed) => break installed,
            Err(error) => tracing::warn!(
                cluster = cluster.name(),
                error = error.report(),
                "cannot see what is installed"
            ),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let world = World::open(cluster, &installed).await;
    let teller = Teller::start(cluster.clone(), held.clone());
    let mut tasks = JoinSet::new();
    let mut driven: BTreeMap<(String, String, String), AbortHandle> = BTreeMap::new();
    let mut changes = world.subscribe();
    let mut counts = Counts::of(shared, cluster);
    let mut left = Left::of(cluster);
    let completed = world.completed();
    tokio::pin!(completed);
    loop {
        changes.mark_unchanged();
        let mut canaries = world.canaries();
        canaries.retain(|canary| shared.settings.covers(canary.namespace()));
        let keys: BTreeSet<_> = canaries.iter().map(key).collect();
        driven.retain(|key, task| {
            let keep = keys.contains(key) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for canary in &canaries {
            driven.entry(key(canary)).or_insert_with(|| {
                let rollout = Rollout::new(
                    shared.clone(),
                    world.clone(),
                    held.clone(),
                    teller.clone(),
                    canary,
                );
                tasks.spawn(rollout.run())
            });
        }
        counts.tell(&canaries);
        left.tell(&canaries);
        tokio::select! {
            () = &mut completed => return,
            news = changes.changed() => if news.is_err() { return },
            // A task ends only when its Canary is gone, or by a panic; either way the list is looked at again.
            Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                tracing::error!(cluster = cluster.name(), "a rollout's task has panicked and is started again");
                tokio::time::sleep(LOOK_AGAIN).await;
            },
        }
    }
}

/// A Canary that was deleted and made again is another one.
fn key(canary: &Object) -> (String, String, String) {
    (
        canary.namespace().to_owned(),
        canary.name().to_owned(),
        canary.uid().to_owned(),
    )
}

/// Says at the end of a term which rollouts were under way: nothing is done to them, and whoever leads next goes on.
struct Left {
    cluster: String,
    running: Vec<String>,
}

impl Left {
    fn of(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.name().to_owned(),
            running: Vec::new(),
        }
    }

    fn tell(&mut self, canaries: &[Object]) {
        let running = |canary: &&Object| {
            let phase = canary.str_at("/status/phase");
            Phase::ALL
                .iter()
                .any(|one| one.running() && Some(one.name()) == phase)
        };
        self.running = canaries
            .iter()
            .filter(running)
            .map(|canary| format!("{}/{}", canary.namespace(), canary.name()))
            .collect();
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        if !self.running.is_empty() {
            tracing::warn!(
                cluster = self.cluster,
                rollouts = self.running.join(", "),
                "no longer driven from here; these rollouts are left as they are"
            );
        }
    }
}

/// How many Canaries each namespace has, for the metrics; none once the cluster is no longer led.
struct Counts {
    shared: Arc<Shared>,
    cluster: String,
    shown: BTreeMap<String, i64>,
}

impl Counts {
    fn of(shared: &Arc<Shared>, cluster: &Cluster) -> Self {
        Self {
            shared: shared.clone(),
            cluster: cluster.name().to_owned(),
            shown: BTreeMap::new(),
        }
    }

    fn tell(&mut self, canaries: &[Object]) {
        self.shown.values_mut().for_each(|count| *count = 0);
        for canary in canaries {
            *self.shown.entry(canary.namespace().to_owned()).or_default() += 1;
        }
        self.show();
    }

    fn show(&self) {
        for (namespace, count) in &self.shown {
            self.shared
                .metrics
                .canaries(&self.cluster, namespace, *count);
        }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.tell(&[]);
    }
}
