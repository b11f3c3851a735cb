//! Leads one cluster while its Lease is held: watches it, and keeps a task for each of its Canaries.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    definition::Definition,
    rollout::Rollout,
    slots::{Recorded, Slots},
    tell::{Teller, driven_by},
    world::{Changes, World},
};
use crate::{
    api::{
        objects::{CUSTOM_RESOURCE_DEFINITION, ObjectExt, Ref},
        status,
    },
    cluster::{
        Cluster,
        lease::{Held, LeaseKeeper, Standing},
    },
    decide::{facts::Moment, state::Stage},
};

/// Wait before a cluster is looked at again whose CRDs are missing or do not keep our fields, or that did not answer.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The longest such wait: a cluster that is down, or whose CRDs nobody installs, costs next to nothing.
pub(super) const LONGEST_LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The CRD that must keep our status fields.
pub(super) const CRD: &str = "canaries.flagger.app";
/// Why nobody can lead a cluster with Flagger's own CRD, and what helps.
pub(super) const PRUNES: &str =
    "the installed Canary CRD drops our status fields; run: canary-mcp crds | kubectl apply -f -";

/// Why a term ends that nothing in the cluster has ended.
const ENDED: &str = "its watches have ended by themselves, and are opened anew";

/// Leads the cluster until stopped: takes the Lease in its turn, drives while it is held, gives it back.
pub(super) async fn lead(shared: Arc<Shared>, cluster: Cluster, stop: CancellationToken) {
    shared.metrics.leading(cluster.name(), Some(false));
    while until(&stop, Definition::usable(&shared, &cluster)).await
        && lead_usable(&shared, &cluster, &stop).await
    {}
}

/// Leads for as long as the Canary's definition keeps our fields; false when stopped.
async fn lead_usable(shared: &Arc<Shared>, cluster: &Cluster, stop: &CancellationToken) -> bool {
    let name = cluster.name();
    let keeper = LeaseKeeper::sharing(
        cluster,
        &shared.settings.lease_namespace,
        shared.sharing.clone(),
    );
    let mut standing = keeper.watch();
    let stopped = loop {
        let now = standing.borrow_and_update().clone();
        let obstacle = match &now {
            Standing::Refused(why) => Some(why.as_str()),
            Standing::Held(_) | Standing::Follower { .. } => None,
        };
        if shared.leading.tell(name, obstacle)
            && let Some(why) = obstacle
        {
            tracing::warn!(cluster = name, "read-only: {why}");
        }
        match now {
            Standing::Held(held) => {
                shared.metrics.handover(name, held.taken().word());
                shared.metrics.leading(name, Some(true));
                let give_up = give_up(&keeper, stop);
                let broken = tokio::select! {
                    () = give_up => false,
                    () = lost(&mut standing, held.epoch()) => {
                        tracing::info!(cluster = name, "no longer leading");
                        false
                    }
                    why = drive(shared, cluster, &held) => {
                        tracing::warn!(cluster = name, "no longer leading: {why}");
                        true
                    }
                };
                shared.metrics.leading(name, Some(false));
                if broken || stop.is_cancelled() {
                    break !broken;
                }
                continue;
            }
            Standing::Follower {
                holder: Some(holder),
            } => tracing::info!(cluster = name, holder, "not leading"),
            Standing::Follower { holder: None } | Standing::Refused(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => break true,
            changed = standing.changed() => if changed.is_err() { break true },
        }
    };
    keeper.release().await;
    !stopped
}

/// Once asked to stop gives the Lease back, and never returns: driving ends when the keeper has let the writes in hand end.
async fn give_up(keeper: &LeaseKeeper, stop: &CancellationToken) {
    stop.cancelled().await;
    keeper.give_up();
    std::future::pending::<()>().await;
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

/// Watches the cluster and keeps one task for each Canary, until dropped. Returns why it cannot go on: the Canary's definition no longer keeps
/// our fields, most of all.
async fn drive(shared: &Arc<Shared>, cluster: &Cluster, held: &Held) -> String {
    let definition = Definition::watch(cluster);
    if let Some(why) = definition.fault().await {
        return why;
    }
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
    let (world, changes) = World::open(cluster, &shared.settings.lists(), &installed).await;
    let driver = Driver {
        teller: Teller::start(cluster.clone(), held.clone()),
        counts: Counts::of(shared, cluster),
        slots: Arc::new(Slots::new(shared.settings.limits)),
        shared: shared.clone(),
        world: world.clone(),
        held: held.clone(),
        driven: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    tokio::select! {
        why = definition.broken() => why,
        () = world.follow_installs() => ENDED.to_owned(),
        () = driver.run(changes) => ENDED.to_owned(),
    }
}

/// The tasks of a cluster's Canaries.
struct Driver {
    shared: Arc<Shared>,
    world: World,
    held: Held,
    teller: Teller,
    counts: Counts,
    slots: Arc<Slots>,
    driven: BTreeMap<(String, String), Driven>,
    tasks: JoinSet<()>,
}

/// The task of one Canary. One that was deleted and made again is another one.
struct Driven {
    uid: String,
    task: AbortHandle,
}

impl Driver {
    async fn run(mut self, mut changes: Changes) {
        // Whoever is driven first must know of the others.
        for (namespace, name) in self.world.canaries() {
            self.world.claim(&namespace, &name);
            self.know(namespace, name);
        }
        for (namespace, name) in self.unfinished_first() {
            self.drive(namespace, name);
        }
        self.counts.tell(self.driven.keys());
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some((namespace, name)) => {
                        self.world.claim(&namespace, &name);
                        self.drive(namespace, name);
                    }
                    None => return,
                },
                // A task ends only when its Canary is gone, or by a panic; either way the list is looked at again.
                Some(ended) = self.tasks.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!(cluster = self.world.cluster().name(), "a rollout's task has panicked and is started again");
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    for (namespace, name) in self.world.canaries() {
                        self.drive(namespace, name);
                    }
                }
            }
            self.counts.tell(self.driven.keys());
        }
    }

    /// The Canaries with a run before those that rest: they cannot wait.
    fn unfinished_first(&self) -> Vec<(String, String)> {
        let mut keys = self.world.canaries();
        keys.sort_by_cached_key(|(namespace, name)| {
            let canary = self.world.canary(namespace, name).map(|c| c.object());
            canary.is_none_or(|c| status::state(&c, Moment(0)).stage == Stage::Idle)
        });
        keys
    }

    /// Its run has a slot, or a place among those that wait, before anybody's turn comes.
    fn know(&self, namespace: String, name: String) {
        let Some(canary) = self.world.canary(&namespace, &name) else {
            return;
        };
        let canary = canary.object();
        if driven_by(&canary).is_none() {
            let recorded = Recorded::of_state(&status::state(&canary, Moment(0)));
            self.slots.note(&(namespace, name), recorded);
        }
    }

    /// Sees to it that this Canary has a task if it is there, and none if it is not.
    fn drive(&mut self, namespace: String, name: String) {
        let canary = self.world.canary(&namespace, &name);
        let key = (namespace, name);
        if let Some(driven) = self.driven.get(&key) {
            let same = canary.as_ref().is_some_and(|c| c.uid() == driven.uid);
            if same && !driven.task.is_finished() {
                return;
            }
            driven.task.abort();
            self.driven.remove(&key);
            for (namespace, name) in self.slots.note(&key, Recorded::None) {
                self.world.wake(&namespace, &name);
            }
        }
        let Some(canary) = canary else { return };
        let (namespace, name) = key.clone();
        let rollout = Rollout::new(
            self.shared.clone(),
            &self.world,
            self.held.clone(),
            (self.teller.clone(), self.slots.clone()),
            (namespace, name, canary.uid()),
        );
        let driven = Driven {
            uid: canary.uid().to_owned(),
            task: self.tasks.spawn(rollout.run()),
        };
        self.driven.insert(key, driven);
    }
}

/// Says at the end of a term which rollouts were under way: nothing is done to them, and whoever leads next goes on.
impl Drop for Driver {
    fn drop(&mut self) {
        let running = |(namespace, name): &(String, String)| {
            let canary = self.world.canary(namespace, name)?.object();
            let state = status::state(&canary, Moment(0));
            state.phase.running().then(|| format!("{namespace}/{name}"))
        };
        let running: Vec<String> = self.world.canaries().iter().filter_map(running).collect();
        if !running.is_empty() {
            tracing::warn!(
                cluster = self.world.cluster().name(),
                rollouts = running.join(", "),
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

    fn tell<'a>(&mut self, canaries: impl IntoIterator<Item = &'a (String, String)>) {
        self.shown.values_mut().for_each(|count| *count = 0);
        for (namespace, _) in canaries {
            *self.shown.entry(namespace.clone()).or_default() += 1;
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
        self.tell([]);
    }
}
