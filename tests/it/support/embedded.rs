//! The embedded world: on tokio's paused clock, with traffic that is counted.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use canary_mcp::{
    api::{
        crd,
        objects::{CANARY, Kind, Object, ObjectExt, POD},
    },
    cluster::{
        Clock, ClusterSpec,
        embedded::{
            fleet::{Fleet, FleetOptions, Member},
            store::Store,
            traffic::Counts,
        },
    },
    decide::state::Phase,
    engine::Settings,
    outbound::http::Transport,
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

use super::{EPOCH, NAME, NAMESPACE, Rig, World, direct, spec};

/// One weight that the canary had, and its share of the requests while that was in effect.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) weight: i64,
    pub(crate) percent: f64,
    pub(crate) requests: u64,
}

/// From the status write to the route in effect everywhere: at most 3 s, and a look of the traffic at what is due.
const IN_EFFECT: Duration = Duration::from_secs(4);

/// One embedded cluster.
pub(crate) struct Embedded {
    pub(crate) fleet: Fleet,
    sabotage: Mutex<JoinSet<()>>,
}

impl Embedded {
    pub(super) fn start(change: impl FnOnce(&mut FleetOptions)) -> Self {
        let mut options = FleetOptions::new(EPOCH, 1.0, crd::crds());
        options.clusters.retain(|(name, _)| name == "prod-kr");
        change(&mut options);
        Self {
            fleet: Fleet::start(options).unwrap(),
            sabotage: Mutex::default(),
        }
    }

    pub(crate) fn member(&self) -> &Member {
        self.fleet.member("prod-kr").unwrap()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.fleet.counters("prod-kr")
    }

    /// Writes that have come in, those of Leases aside.
    pub(crate) fn writes(&self) -> u64 {
        let faults = self.member().server.faults();
        let leases = |verb: &str| faults.count(verb, "leases");
        faults.writes() - leases("create") - leases("update") - leases("patch")
    }

    fn store(&self) -> &Store {
        self.member().server.store()
    }
}

impl World for Embedded {
    const AFTERMATH: u64 = 120;
    const AT_ONCE: i64 = 1_000;
    type Watch = Watch;

    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn clock(&self) -> &Clock {
        &self.member().clock
    }

    fn client(&self) -> kube::Client {
        self.member().server.client()
    }

    fn spec(&self, client: kube::Client, leads: bool) -> ClusterSpec {
        ClusterSpec {
            client,
            ..spec(self.member(), leads)
        }
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }

    fn transport(&self) -> Transport {
        direct()
    }

    fn get(&self, kind: &Kind, name: &str) -> Option<Object> {
        self.store().get(kind, NAMESPACE, name)
    }

    fn list(&self, kind: &Kind) -> Vec<Object> {
        self.store().list(kind, Some(NAMESPACE))
    }

    fn create(&self, kind: &Kind, object: Value) {
        self.store().create(kind, object, "kubectl").unwrap();
    }

    fn modify(&self, kind: &Kind, name: &str, manager: &str, change: impl Fn(&mut Value)) {
        self.store()
            .modify(kind, NAMESPACE, name, manager, change)
            .unwrap()
            .unwrap();
    }

    fn modify_status(&self, kind: &Kind, name: &str, manager: &str, change: impl Fn(&mut Value)) {
        self.store()
            .modify_status(kind, NAMESPACE, name, manager, change)
            .unwrap()
            .unwrap();
    }

    fn delete(&self, kind: &Kind, name: &str) {
        self.store().remove(kind, NAMESPACE, name).unwrap();
    }

    fn sabotage(&self, image: &str) {
        let mut tasks = self.sabotage.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(crash_primary(self.store().clone(), image.to_owned()));
    }

    fn repair(&self) {
        let mut tasks = self.sabotage.lock().unwrap_or_else(PoisonError::into_inner);
        *tasks = JoinSet::new();
    }

    fn watch(&self) -> Watch {
        Watch {
            store: self.store().clone(),
            changes: self.store().subscribe(),
            begun: false,
        }
    }

    async fn acted(&self) {}

    async fn shares(rig: &Rig<Self>, end: Phase) -> Option<Vec<Share>> {
        let ended = |c: &Value| c.str_at("/status/phase") == Some(end.name());
        let weight = || rig.canary().int_at("/status/canaryWeight").unwrap_or(0);
        let mut shares = Vec::new();
        loop {
            let at = weight();
            let leaves =
                |c: &Value| ended(c) || c.int_at("/status/canaryWeight").unwrap_or(0) != at;
            let passing = tokio::time::timeout(IN_EFFECT, rig.until(leaves)).await;
            if passing.is_err() {
                let from = rig.counts();
                rig.until(leaves).await;
                let counts = rig.counts().since(&from);
                shares.push(Share {
                    weight: at,
                    percent: counts.share(NAME),
                    requests: counts.total,
                });
            }
            if ended(&rig.canary()) {
                return Some(shares);
            }
        }
    }

    async fn assert_served_by(rig: &Rig<Self>, workload: &str, seconds: u64) {
        let from = rig.counts();
        rig.pass(seconds).await;
        let counts = rig.counts().since(&from);
        assert_eq!(counts.no_endpoint_503, 0, "{counts:?}");
        assert!(counts.share(workload) > 99.9, "{counts:?}");
    }

    fn lost(&self) -> u64 {
        let counts = self.counts();
        assert!(counts.total > 2_000, "{counts:?}");
        counts.no_endpoint_503
    }
}

/// The version fails as a primary and only there: the image of each new pod of the primary is exchanged for one that crashes.
async fn crash_primary(store: Store, healthy: String) {
    let broken = format!("{healthy}-crash");
    let mut changes = store.subscribe();
    loop {
        for pod in store.list(&POD, Some(NAMESPACE)) {
            let new = pod.str_at("/spec/containers/0/image") == Some(healthy.as_str());
            if new && pod.name().starts_with("mcp-server-primary-") {
                let change = |p: &mut Value| {
                    p["spec"]["containers"][0]["image"] = broken.as_str().into();
                };
                store
                    .modify(&POD, NAMESPACE, pod.name(), "test", change)
                    .unwrap();
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Follows the store.
pub(crate) struct Watch {
    store: Store,
    changes: watch::Receiver<u64>,
    begun: bool,
}

impl super::Watch for Watch {
    async fn status(&mut self) -> Object {
        if self.begun {
            self.change().await;
        }
        self.begun = true;
        self.store.get(&CANARY, NAMESPACE, NAME).unwrap()
    }

    async fn change(&mut self) {
        self.changes.changed().await.unwrap();
    }
}
