//! One cluster, the engine and the tools' control in one process. The cluster is either world: the embedded one, over real
//! `kube::Client`s without a socket, or a genuine one, where the integration tests bring it.

pub(crate) mod embedded;
pub(crate) mod line;
mod world;

use std::{ops::Deref, time::Duration};

use canary_mcp::{
    api::{
        objects::{
            CANARY, DEPLOYMENT, EVENT, Kind, Object, ObjectExt, POD, SCALED_OBJECT, VIRTUAL_SERVICE,
        },
        view::RolloutView,
    },
    cluster::{
        Cluster, ClusterSpec, Overrides,
        embedded::fleet::{FleetOptions, Member},
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

use embedded::{Embedded, Share};
use line::{Held, Line};
pub(crate) use world::{Watch, World};

/// 2026-11-21T00:00:00Z.
pub(crate) const EPOCH: Moment = Moment(1_795_219_200_000);
const NAMESPACE: &str = "ai-platform";
pub(crate) const NAME: &str = "mcp-server";

/// A control that knows no cluster.
pub(crate) fn no_clusters() -> Control {
    Control::new(Registry::default(), Settings::default(), direct())
}

fn direct() -> Transport {
    Transport::Direct(outbound::client(false).unwrap())
}

/// One cluster, led by one engine.
pub(crate) struct Rig<W = Embedded> {
    pub(crate) registry: Registry,
    pub(crate) control: Control,
    pub(crate) metrics: Metrics,
    leads: bool,
    engine: Option<Process>,
    world: W,
}

/// An engine and its line.
pub(crate) struct Process {
    engine: Engine,
    line: Line,
    /// What it knows of clusters.
    pub(crate) registry: Registry,
}

impl Process {
    /// Ends it as SIGKILL does: nothing is handed over, the Lease neither.
    pub(crate) fn kill(self) {
        self.line.cut();
        drop(self.engine);
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.engine.stop().await;
    }

    pub(crate) fn line(&self) -> Line {
        self.line.clone()
    }
}

/// What only its world can do.
impl<W> Deref for Rig<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.world
    }
}

const PAUSED: &str = "autoscaling.keda.sh/paused-replicas";

impl Rig {
    /// A cluster whose Canary is about to be initialized by an engine.
    pub(crate) fn new() -> Self {
        let mut rig = Self::without_engine(true);
        rig.start_engine("first");
        rig
    }

    /// An initialized cluster, whose Canary has a spec of its own.
    pub(crate) async fn initialized(change: impl Fn(&mut Value)) -> Self {
        let rig = Self::without_engine(true);
        rig.edit_spec(change);
        rig.initialize().await
    }

    /// A cluster that nobody drives yet. `leads`: an engine may.
    pub(crate) fn without_engine(leads: bool) -> Self {
        Self::of(Embedded::start(|_| {}), leads)
    }

    /// A cluster of a fleet with options of its own.
    pub(crate) fn with_fleet(change: impl FnOnce(&mut FleetOptions)) -> Self {
        Self::of(Embedded::start(change), true)
    }

    pub(crate) fn key() -> Key {
        key(NAMESPACE)
    }
}

impl<W: World> Rig<W> {
    /// A cluster that nobody drives yet. `leads`: an engine may.
    pub(crate) fn of(world: W, leads: bool) -> Self {
        let registry = registry(&world, leads);
        let control = Control::new(registry.clone(), world.settings(), world.transport());
        Self {
            registry,
            control,
            metrics: Metrics::new("test", "istio"),
            leads,
            engine: None,
            world,
        }
    }

    /// Starts an engine and lets it initialize the Canary.
    pub(crate) async fn initialize(mut self) -> Self {
        self.start_engine("first");
        self.until_phase(Phase::Initialized).await;
        self
    }

    /// From now on nobody here may lead, as with a kubeconfig without `--lead`.
    pub(crate) fn only_read(&mut self) {
        self.crash_engine();
        self.leads = false;
        self.registry = registry(&self.world, false);
        self.control = Control::new(
            self.registry.clone(),
            self.world.settings(),
            self.world.transport(),
        );
    }

    /// Starts an engine under this identity, with a line of its own.
    pub(crate) fn start_engine(&mut self, identity: &str) {
        self.engine = Some(self.process(identity));
    }

    /// An engine under this identity that the caller keeps; its requests come as `User-Agent: canary-mcp/IDENTITY`.
    pub(crate) fn process(&self, identity: &str) -> Process {
        self.process_with(identity, |_| {})
    }

    /// The same with settings of its own.
    pub(crate) fn process_with(
        &self,
        identity: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Process {
        let line = Line::new(identity);
        let client = line.client(self.world.engine_client());
        let cluster = Cluster::new(self.world.spec(client, self.leads));
        let mut settings = Settings {
            identity: identity.to_owned(),
            ..self.world.settings()
        };
        change(&mut settings);
        let transport = self.world.transport();
        let registry = Registry::of(vec![Entry::known(cluster)]);
        let engine = Engine::start(&registry, settings, self.metrics.clone(), transport);
        Process {
            engine,
            line,
            registry,
        }
    }

    /// Ends the engine as SIGKILL does: nothing is handed over, the Lease neither.
    pub(crate) fn crash_engine(&mut self) {
        if let Some(process) = self.engine.take() {
            process.kill();
        }
    }

    /// The line of the engine that runs.
    pub(crate) fn line(&self) -> &Line {
        &self.engine.as_ref().expect("an engine must run").line
    }

    /// Waits for the held request, but not for ever.
    pub(crate) async fn reached(&self, held: &Held) {
        tokio::select! {
            () = held.reached() => {}
            () = self.world.clock().sleep(3_600_000) => panic!("the request must come within a virtual hour"),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.world.clock().now()
    }

    pub(crate) fn object(&self, kind: &Kind, name: &str) -> Option<Object> {
        self.world.get(kind, name)
    }

    pub(crate) fn canary(&self) -> Object {
        self.object(&CANARY, NAME).unwrap()
    }

    /// Changes an object as kubectl would.
    pub(crate) fn edit(&self, kind: &Kind, name: &str, change: impl Fn(&mut Value)) {
        self.world.modify(kind, name, "kubectl-edit", change);
    }

    /// Changes the Canary's spec as kubectl would.
    pub(crate) fn edit_spec(&self, change: impl Fn(&mut Value)) {
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
        let pods = self.world.list(&POD);
        let of_copy = |pod: &Object| {
            let of_primary = pod.name().starts_with("mcp-server-primary-");
            pod.name().starts_with(copy) && of_primary == copy.ends_with("-primary")
        };
        pods.into_iter().filter(of_copy).collect()
    }

    /// Messages of the Canary's events, with their type, oldest first.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let mut events = self.world.list(&EVENT);
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

    /// The Canary, as tools name it.
    pub(crate) fn rollout(&self) -> Key {
        key(self.world.namespace())
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
            key: self.rollout(),
            image: Some(image(tag)),
            container: None,
            retry: false,
            expect_revision: None,
            by: Some("test".to_owned()),
        };
        change(&mut start);
        let acted = self.control.start(&start).await;
        self.world.acted().await;
        acted
    }

    pub(crate) async fn wish(&self, verb: Verb, skip: bool) -> Acted {
        let wish = Wish {
            key: self.rollout(),
            verb,
            skip,
            to: None,
            reason: Some("because".to_owned()),
            by: Some("test".to_owned()),
            patience: Duration::from_secs(30),
        };
        let acted = self.control.wish(&wish).await.unwrap();
        self.world.acted().await;
        acted
    }

    pub(crate) async fn view(&self) -> RolloutView {
        self.control
            .view(&self.rollout())
            .await
            .unwrap()
            .as_ref()
            .clone()
    }

    /// Waits until the Canary is as `wanted` says; every status on the way, as (phase, weight), without repeats.
    pub(crate) async fn until(&self, wanted: impl Fn(&Value) -> bool) -> Vec<(String, i64)> {
        let mut watch = self.world.watch();
        let mut seen: Vec<(String, i64)> = Vec::new();
        let limit = self.now().plus(3 * 3_600_000);
        loop {
            let canary = watch.status().await;
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
        }
    }

    pub(crate) async fn until_phase(&self, phase: Phase) -> Vec<(String, i64)> {
        self.until(|c| c.str_at("/status/phase") == Some(phase.name()))
            .await
    }

    /// As [`Rig::until_phase`], and the shares of the requests on the way where there are any.
    pub(crate) async fn until_phase_with_shares(
        &self,
        phase: Phase,
    ) -> (Vec<(String, i64)>, Option<Vec<Share>>) {
        tokio::join!(self.until_phase(phase), W::shares(self, phase))
    }

    /// Waits until the stored objects are as `wanted` says.
    pub(crate) async fn until_stored(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let mut watch = self.world.watch();
        let limit = self.now().plus(3 * 3_600_000);
        while !wanted(self) {
            assert!(self.now() < limit, "not within three virtual hours: {what}");
            watch.change().await;
        }
        self.world.acted().await;
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
        self.pass(W::AFTERMATH).await;
        assert_eq!(self.canary().str_at("/status/phase"), Some(phase.name()));
        self.assert_idle();
        assert_eq!(self.image_of("mcp-server-primary"), image(primary));
        assert_eq!(self.world.lost(), 0);
    }

    /// Lets the cluster's clock go on.
    pub(crate) async fn pass(&self, seconds: u64) {
        let ms = i64::try_from(seconds * 1_000).unwrap();
        self.world.clock().sleep(ms).await;
        self.world.acted().await;
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

fn key(namespace: &str) -> Key {
    Key {
        cluster: "prod-kr".to_owned(),
        namespace: namespace.to_owned(),
        name: NAME.to_owned(),
    }
}

fn registry(world: &impl World, leads: bool) -> Registry {
    Registry::of(vec![Entry::of(world.spec(world.client(), leads))])
}

/// What an embedded cluster is made of.
pub(crate) fn spec(member: &Member, leads: bool) -> ClusterSpec {
    ClusterSpec {
        name: member.name.clone(),
        labels: member.labels.clone(),
        client: member.server.client(),
        clock: member.clock.clone(),
        leads,
        inside: false,
        embedded: true,
        overrides: Overrides::default(),
    }
}
