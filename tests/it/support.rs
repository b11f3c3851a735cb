//! The embedded fleet, the engine and the tools' control in one process: over real `kube::Client`s, without a socket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use canary_mcp::{
    api::{
        crd,
        objects::{
            CANARY, DEPLOYMENT, EVENT, Kind, Object, ObjectExt, POD, SCALED_OBJECT, VIRTUAL_SERVICE,
        },
        view::RolloutView,
    },
    cluster::{
        Cluster, ClusterSpec,
        embedded::{
            fleet::{Fleet, FleetOptions, Member},
            traffic::{Counts, Source},
        },
        registry::{Entry, Registry},
    },
    decide::{
        facts::{Moment, Verb},
        state::Phase,
    },
    engine::{
        Engine, Settings,
        control::{Acted, Control, ControlError, Key, Start, Wish},
    },
    outbound::http::{self as outbound, Transport},
    telemetry::Metrics,
};
use serde_json::{Value, json};

/// 2026-11-21T00:00:00Z.
pub(crate) const EPOCH: Moment = Moment(1_795_219_200_000);
const NAMESPACE: &str = "ai-platform";
const NAME: &str = "mcp-server";

/// A control that knows no cluster.
pub(crate) fn no_clusters() -> Control {
    Control::new(Registry::default(), Settings::default(), direct())
}

fn direct() -> Transport {
    Transport::Direct(outbound::client(false).unwrap())
}

/// One embedded cluster, led by one engine.
pub(crate) struct Rig {
    pub(crate) fleet: Fleet,
    pub(crate) registry: Registry,
    pub(crate) control: Control,
    pub(crate) metrics: Metrics,
    leads: bool,
    engine: Option<(Engine, Line)>,
}

/// A process's way to its clusters. Once cut nothing sets out any more; what is on its way arrives.
#[derive(Clone, Default)]
struct Line(Arc<AtomicBool>);

/// One weight that the canary had, and its share of the requests while that was in effect.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) weight: i64,
    pub(crate) percent: f64,
    pub(crate) requests: u64,
}

/// From the status write to the route in effect everywhere: at most 3 s, and a look of the traffic at what is due.
const IN_EFFECT: Duration = Duration::from_secs(4);
const PAUSED: &str = "autoscaling.keda.sh/paused-replicas";

impl Rig {
    /// A cluster whose Canary is about to be initialized by an engine.
    pub(crate) fn new() -> Self {
        let mut rig = Self::without_engine(true);
        rig.start_engine("first");
        rig
    }

    /// An initialized cluster, whose Canary has a spec of its own.
    pub(crate) async fn initialized(change: impl FnOnce(&mut Value)) -> Self {
        let mut rig = Self::without_engine(true);
        rig.edit_spec(change);
        rig.start_engine("first");
        rig.until_phase(Phase::Initialized).await;
        rig
    }

    /// A cluster that nobody drives yet. `leads`: an engine may.
    pub(crate) fn without_engine(leads: bool) -> Self {
        Self::with_traffic(leads, &[(NAME, 20)])
    }

    /// The same, with so many requests a second to each of these Services as soon as it is there.
    pub(crate) fn with_traffic(leads: bool, sources: &[(&str, u32)]) -> Self {
        let mut options = FleetOptions::new(EPOCH, 1.0, crd::crds());
        let source = |(service, per_second): &(&str, u32)| Source {
            namespace: NAMESPACE.to_owned(),
            service: (*service).to_owned(),
            per_second: *per_second,
        };
        options.traffic = sources.iter().map(source).collect();
        options.clusters.retain(|(name, _)| name == "prod-kr");
        let fleet = Fleet::start(options).unwrap();
        let registry = registry(&fleet, leads);
        let control = Control::new(registry.clone(), Settings::default(), direct());
        Self {
            fleet,
            registry,
            control,
            metrics: Metrics::new("test", "istio"),
            leads,
            engine: None,
        }
    }

    /// From now on nobody here may lead, as with a kubeconfig without `--lead`.
    pub(crate) fn only_read(&mut self) {
        self.crash_engine();
        self.leads = false;
        self.registry = registry(&self.fleet, false);
        self.control = Control::new(self.registry.clone(), Settings::default(), direct());
    }

    /// Starts an engine under this identity, with a line of its own.
    pub(crate) fn start_engine(&mut self, identity: &str) {
        let line = Line::default();
        let cluster = |member| {
            Cluster::new(ClusterSpec {
                client: line.client(member),
                ..spec(member, self.leads)
            })
        };
        let clusters: Vec<_> = self.fleet.members().iter().map(cluster).collect();
        let settings = Settings {
            identity: identity.to_owned(),
            ..Settings::default()
        };
        let engine = Engine::start(&clusters, settings, self.metrics.clone(), direct());
        self.engine = Some((engine, line));
    }

    /// Ends the engine as SIGKILL does: nothing is handed over, the Lease neither.
    pub(crate) fn crash_engine(&mut self) {
        if let Some((engine, line)) = self.engine.take() {
            line.0.store(true, Ordering::SeqCst);
            drop(engine);
        }
    }

    pub(crate) fn key() -> Key {
        Key {
            cluster: "prod-kr".to_owned(),
            namespace: NAMESPACE.to_owned(),
            name: NAME.to_owned(),
        }
    }

    pub(crate) fn member(&self) -> &Member {
        self.fleet.member("prod-kr").unwrap()
    }

    pub(crate) fn now(&self) -> Moment {
        self.member().clock.now()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.fleet.counters("prod-kr")
    }

    pub(crate) fn object(&self, kind: &Kind, name: &str) -> Option<Object> {
        self.member().server.store().get(kind, NAMESPACE, name)
    }

    pub(crate) fn canary(&self) -> Object {
        self.object(&CANARY, NAME).unwrap()
    }

    /// Changes an object as kubectl would.
    pub(crate) fn edit(&self, kind: &Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let store = self.member().server.store();
        store
            .modify(kind, NAMESPACE, name, "kubectl-edit", change)
            .unwrap()
            .unwrap();
    }

    /// Changes the Canary's spec as kubectl would.
    pub(crate) fn edit_spec(&self, change: impl FnOnce(&mut Value)) {
        self.edit(&CANARY, NAME, |c| change(&mut c["spec"]));
    }

    /// Sets an annotation as `kubectl annotate` does.
    pub(crate) fn annotate(&self, kind: &Kind, name: &str, key: &str, value: &str) {
        self.edit(kind, name, |o| {
            if !o["metadata"]["annotations"].is_object() {
                o["metadata"]["annotations"] = json!({});
            }
            o["metadata"]["annotations"][key] = value.into();
        });
    }

    /// The pods of one copy, by the prefix that its name gives them.
    pub(crate) fn pods_of(&self, copy: &str) -> Vec<Object> {
        let pods = self.member().server.store().list(&POD, Some(NAMESPACE));
        let of_copy = |pod: &Object| {
            let of_primary = pod.name().starts_with("mcp-server-primary-");
            pod.name().starts_with(copy) && of_primary == copy.ends_with("-primary")
        };
        pods.into_iter().filter(of_copy).collect()
    }

    /// Messages of the Canary's events, with their type, oldest first.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let mut events = self.member().server.store().list(&EVENT, Some(NAMESPACE));
        events.retain(|e| e.str_at("/regarding/kind") == Some("Canary"));
        events.sort_by_key(|e| e.str_at("/eventTime").unwrap_or_default().to_owned());
        let text = |e: &Object, at: &str| e.str_at(at).unwrap_or_default().to_owned();
        events
            .iter()
            .map(|e| (text(e, "/type"), text(e, "/note")))
            .collect()
    }

    pub(crate) fn warnings(&self, beginning: &str) -> usize {
        let events = self.events();
        events
            .iter()
            .filter(|(kind, note)| kind == "Warning" && note.starts_with(beginning))
            .count()
    }

    /// One condition of the Canary.
    pub(crate) fn condition(&self, kind: &str) -> Option<Value> {
        let canary = self.canary();
        let all = canary.array_at("/status/conditions");
        all.iter().find(|c| c["type"] == kind).cloned()
    }

    /// Sets the target's image as `kubectl set image` does.
    pub(crate) fn set_image(&self, tag: &str) {
        self.edit(&DEPLOYMENT, NAME, |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = image(tag).into();
        });
    }

    pub(crate) async fn start(&self, tag: &str) -> Acted {
        self.start_with(tag, |_| {}).await.unwrap()
    }

    pub(crate) async fn start_with(
        &self,
        tag: &str,
        change: impl FnOnce(&mut Start),
    ) -> Result<Acted, ControlError> {
        let mut start = Start {
            key: Self::key(),
            image: image(tag),
            container: None,
            expect_revision: None,
            by: Some("test".to_owned()),
        };
        change(&mut start);
        self.control.start(&start).await
    }

    /// Writes that have come in, those of Leases aside.
    pub(crate) fn writes(&self) -> u64 {
        let faults = self.member().server.faults();
        let leases = |verb: &str| faults.count(verb, "leases");
        faults.writes() - leases("create") - leases("update") - leases("patch")
    }

    pub(crate) async fn wish(&self, verb: Verb, skip: bool) -> Acted {
        let wish = Wish {
            key: Self::key(),
            verb,
            skip,
            reason: Some("because".to_owned()),
            by: Some("test".to_owned()),
            patience: Duration::from_secs(30),
        };
        self.control.wish(&wish).await.unwrap()
    }

    pub(crate) async fn view(&self) -> RolloutView {
        self.control
            .view(&Self::key())
            .await
            .unwrap()
            .as_ref()
            .clone()
    }

    /// Waits until the Canary is as `wanted` says; every status on the way, as (phase, weight), without repeats.
    pub(crate) async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Vec<(String, i64)> {
        let store = self.member().server.store();
        let mut changes = store.subscribe();
        let mut seen: Vec<(String, i64)> = Vec::new();
        let limit = self.now().plus(3 * 3_600_000);
        loop {
            let canary = self.canary();
            let at = (
                canary
                    .str_at("/status/phase")
                    .unwrap_or_default()
                    .to_owned(),
                canary.int_at("/status/canaryWeight").unwrap_or(0),
            );
            if seen.last() != Some(&at) {
                seen.push(at);
            }
            self.assert_primary_scales();
            if wanted(&canary) {
                return seen;
            }
            assert!(
                self.now() < limit,
                "not reached within three virtual hours; seen: {seen:?}; {canary:#}"
            );
            changes.changed().await.unwrap();
        }
    }

    pub(crate) async fn until_phase(&self, phase: Phase) -> Vec<(String, i64)> {
        self.until(|c| c.str_at("/status/phase") == Some(phase.name()))
            .await
    }

    /// Waits until the stored objects are as `wanted` says.
    pub(crate) async fn until_stored(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let mut changes = self.member().server.store().subscribe();
        let limit = self.now().plus(3 * 3_600_000);
        while !wanted(self) {
            assert!(self.now() < limit, "not within three virtual hours: {what}");
            changes.changed().await.unwrap();
        }
    }

    /// Until `wanted`: each weight of the canary on the way, and its share of the requests from the moment the route had taken effect.
    pub(crate) async fn shares(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Share> {
        let weight = || self.canary().int_at("/status/canaryWeight").unwrap_or(0);
        let mut shares = Vec::new();
        loop {
            let at = weight();
            let leaves =
                |c: &Value| wanted(c) || c.int_at("/status/canaryWeight").unwrap_or(0) != at;
            let passing = tokio::time::timeout(IN_EFFECT, self.until(leaves)).await;
            if passing.is_err() {
                let from = self.counts();
                self.until(leaves).await;
                let counts = self.counts().since(&from);
                shares.push(Share {
                    weight: at,
                    percent: counts.share(NAME),
                    requests: counts.total,
                });
            }
            if wanted(&self.canary()) {
                return shares;
            }
        }
    }

    /// No pause is ever copied to the primary's autoscaler.
    fn assert_primary_scales(&self) {
        if let Some(scaler) = self.object(&SCALED_OBJECT, "mcp-server-primary") {
            let paused = scaler["metadata"]["annotations"]
                .as_object()
                .is_some_and(|a| {
                    a.keys()
                        .any(|k| k.starts_with("autoscaling.keda.sh/paused"))
                });
            assert!(!paused, "{scaler:#}");
        }
    }

    /// The end of every run: the idle shape, this image on the primary, and not one request lost since the cluster's first, also some
    /// time after the end.
    pub(crate) async fn assert_ended(&self, phase: Phase, primary: &str) {
        self.pass(120).await;
        assert_eq!(self.canary().str_at("/status/phase"), Some(phase.name()));
        self.assert_idle();
        assert_eq!(self.image_of("mcp-server-primary"), image(primary));
        let counts = self.counts();
        assert_eq!(counts.no_endpoint_503, 0, "{counts:?}");
        assert!(counts.total > 2_000, "{counts:?}");
    }

    /// Lets the cluster's clock go on.
    pub(crate) async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// The image that a Deployment runs.
    pub(crate) fn image_of(&self, name: &str) -> String {
        let deployment = self.object(&DEPLOYMENT, name).unwrap();
        deployment
            .str_at("/spec/template/spec/containers/0/image")
            .unwrap()
            .to_owned()
    }

    pub(crate) fn replicas_of(&self, name: &str) -> i64 {
        self.object(&DEPLOYMENT, name)
            .unwrap()
            .int_at("/spec/replicas")
            .unwrap()
    }

    /// Weights of the stored route: (primary, canary).
    pub(crate) fn weights(&self) -> (i64, i64) {
        let route = self.object(&VIRTUAL_SERVICE, NAME).unwrap();
        let of = |host: &str| {
            let routes = route.array_at("/spec/http/0/route");
            routes
                .iter()
                .find(|r| r.str_at("/destination/host") == Some(host))
                .map_or(0, |r| r.int_at("/weight").unwrap())
        };
        (of("mcp-server-primary"), of("mcp-server-canary"))
    }

    /// The idle shape: traffic on the primary, the target at zero, its autoscaler paused, the primary's not.
    pub(crate) fn assert_idle(&self) {
        assert_eq!(self.weights(), (100, 0));
        assert_eq!(self.replicas_of(NAME), 0);
        let scaler = self.object(&SCALED_OBJECT, NAME).unwrap();
        assert_eq!(scaler.annotation(PAUSED), Some("0"));
        assert!(self.object(&SCALED_OBJECT, "mcp-server-primary").is_some());
        self.assert_primary_scales();
    }
}

/// Phases and weights as a test writes them down.
pub(crate) fn sequence(steps: &[(&str, i64)]) -> Vec<(String, i64)> {
    steps.iter().map(|(p, w)| ((*p).to_owned(), *w)).collect()
}

pub(crate) fn image(tag: &str) -> String {
    format!("registry.example/mcp-server:{tag}")
}

impl Line {
    fn client(&self, member: &Member) -> kube::Client {
        let (server, cut) = (member.server.clone(), self.0.clone());
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (client, cut) = (server.client(), cut.load(Ordering::SeqCst));
            async move {
                if cut {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
                }
                // A request goes on when its caller has given up or died.
                let sent = tokio::spawn(async move { client.send(request).await });
                sent.await?.map_err(tower::BoxError::from)
            }
        });
        kube::Client::new(service, "default")
    }
}

fn registry(fleet: &Fleet, leads: bool) -> Registry {
    let entries = fleet.members().iter().map(|m| Entry::of(spec(m, leads)));
    Registry::of(entries.collect())
}

pub(crate) fn spec(member: &Member, leads: bool) -> ClusterSpec {
    ClusterSpec {
        name: member.name.clone(),
        labels: member.labels.clone(),
        client: member.server.client(),
        clock: member.clock.clone(),
        leads,
        inside: false,
        embedded: true,
    }
}
