//! The real world: a genuine control plane, whose API server and controllers are Kubernetes' own. Nodes, metrics and time are played: pods
//! become ready by a stand-in, a scripted Prometheus answers for the image tags, and the cluster's clock runs fast. Leases and everything
//! that waits for an answer stay in real time. There is no traffic, so shares and lost requests are the embedded world's to judge.

mod calls;
mod history;
mod prometheus;
mod stand_in;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use canary_mcp::{
    api::objects::{CANARY, DEPLOYMENT, Kind, Object, ObjectExt, VIRTUAL_SERVICE},
    cluster::{Clock, ClusterSpec, Overrides},
    decide::{facts::Moment, state::Phase},
    engine::Settings,
    outbound::http::Transport,
};
use http::Method;
use kube::Client;
use serde_json::Value;
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{
    control_plane::{ControlPlane, Namespace},
    support::{self, NAME, Rig, World, embedded::Share},
};
use calls::{call, client, follow, get, narrowed, path, post};
use history::History;
use prometheus::Live;
use stand_in::StandIn;

/// Virtual seconds for each real one: an interval of the analysis is two seconds.
const SPEED: f64 = 30.0;
/// How often the stored objects are looked at, in real time.
const LOOK: Duration = Duration::from_millis(50);
/// The manifests that a person applies.
const MANIFESTS: [&str; 4] = [
    include_str!("../../../examples/mcp-server.yaml"),
    include_str!("../../../examples/scaled-object.yaml"),
    include_str!("../../../examples/metric-template.yaml"),
    include_str!("../../../examples/canary.yaml"),
];

/// Registers whole rollouts that are the same on both worlds: `embedded::NAME` on the paused clock, `real::NAME` on a genuine control plane.
/// Those after `real only:` say why they have no meaning on the embedded one.
macro_rules! on_both {
    ($($name:ident),+ $(,)? $(; real only: $($only:ident),+ $(,)?)?) => {
        mod embedded {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name($crate::support::Rig::without_engine(true)).await;
            })+
        }

        mod real {
            $($crate::genuine::on_real!($name);)+
            $($($crate::genuine::on_real!($only);)+)?
        }
    };
}
pub(crate) use on_both;

/// Registers one on a genuine control plane.
macro_rules! on_real {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if let Some(rig) = $crate::genuine::real(stringify!($name)).await {
                super::$name(rig).await;
            }
        }
    };
}
pub(crate) use on_real;

/// One namespace of a genuine control plane, with the example in it.
pub(crate) struct Real {
    client: Client,
    clock: Clock,
    history: Arc<History>,
    stand_in: StandIn,
    follows: AbortHandle,
    accounts: Option<Accounts>,
    namespace: Namespace,
    control_plane: Arc<ControlPlane>,
}

/// The accounts of our processes, where they are not the cluster's admin.
#[derive(Clone)]
pub(crate) struct Accounts {
    /// Serves the tools.
    pub(crate) front: Client,
    /// Drives the rollouts.
    pub(crate) engine: Client,
}

/// A namespace of its own for this scenario. `None` where there is no control plane.
pub(crate) async fn real(scenario: &str) -> Option<Rig<Real>> {
    Some(Rig::of(world(scenario).await?, true))
}

/// The same, in which our processes are these accounts of the namespace and nobody else.
pub(crate) async fn real_as(
    scenario: &str,
    accounts: impl AsyncFnOnce(&Arc<ControlPlane>, &str) -> Accounts,
) -> Option<Rig<Real>> {
    let mut world = world(scenario).await?;
    let accounts = accounts(&world.control_plane, world.namespace.name()).await;
    world.accounts = Some(accounts);
    Some(Rig::of(world, true))
}

async fn world(scenario: &str) -> Option<Real> {
    let control_plane = ControlPlane::shared().await?;
    if !control_plane.supported() {
        return None;
    }
    control_plane.install_crds().await;
    let prefix: String = scenario.replace('_', "-").chars().take(40).collect();
    let namespace = control_plane.namespace(prefix.trim_end_matches('-')).await;
    let client = client(control_plane.kubeconfig()).await;
    for manifest in manifests(namespace.name()) {
        let kind = kind_of(&manifest);
        post(&client, &kind, namespace.name(), &manifest).await;
    }
    let history = Arc::<History>::default();
    let told = Arc::clone(&history);
    let follows = tokio::spawn(follow(
        client.clone(),
        CANARY,
        namespace.name().to_owned(),
        format!("&fieldSelector=metadata.name%3D{NAME}"),
        move |canary| told.push(canary),
    ));
    let world = Real {
        stand_in: StandIn::start(client.clone(), namespace.name().to_owned()),
        clock: Clock::fast(Moment(jiff::Timestamp::now().as_millisecond()), SPEED),
        follows: follows.abort_handle(),
        history,
        client,
        accounts: None,
        namespace,
        control_plane,
    };
    world.acted().await;
    Some(world)
}

/// The example in this namespace. Its metrics come from the installation's Prometheus, because no Service answers here, and the traffic
/// settles for two real seconds, in which a test can look.
fn manifests(namespace: &str) -> Vec<Value> {
    let text = MANIFESTS.join("\n---\n");
    let mut all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    for manifest in &mut all {
        manifest["metadata"]["namespace"] = namespace.into();
        match manifest["kind"].as_str().unwrap() {
            // Where there are nodes, pods stay the stand-in's.
            "Deployment" => {
                manifest["spec"]["template"]["spec"]["schedulerName"] = "stand-in".into();
            }
            "MetricTemplate" => {
                let provider = manifest["spec"]["provider"].as_object_mut().unwrap();
                provider.remove("address").unwrap();
            }
            "Canary" => {
                let analysis = &mut manifest["spec"]["analysis"];
                analysis["settle"] = "60s".into();
                analysis["metrics"][1]["templateRef"]["namespace"] = namespace.into();
            }
            _ => {}
        }
    }
    all
}

fn kind_of(manifest: &Value) -> Kind {
    use canary_mcp::api::objects as o;
    let kinds = [
        DEPLOYMENT,
        o::SERVICE,
        o::SCALED_OBJECT,
        o::METRIC_TEMPLATE,
        CANARY,
    ];
    let kind = kinds.into_iter().find(|k| manifest["kind"] == k.kind);
    kind.unwrap()
}

impl Drop for Real {
    fn drop(&mut self) {
        self.follows.abort();
    }
}

impl World for Real {
    const AFTERMATH: u64 = 45;
    const AT_ONCE: i64 = 30_000;
    type Watch = Watch;

    fn namespace(&self) -> &str {
        self.namespace.name()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn client(&self) -> Client {
        let front = self.accounts.as_ref().map_or(&self.client, |a| &a.front);
        narrowed(front.clone(), self.namespace().to_owned())
    }

    fn engine_client(&self) -> Client {
        let engine = self.accounts.as_ref().map_or(&self.client, |a| &a.engine);
        narrowed(engine.clone(), self.namespace().to_owned())
    }

    fn spec(&self, client: Client, leads: bool) -> ClusterSpec {
        ClusterSpec {
            name: "prod-kr".to_owned(),
            labels: BTreeMap::new(),
            client,
            clock: self.clock.clone(),
            leads,
            inside: false,
            embedded: false,
            overrides: Overrides::default(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            lease_namespace: self.namespace().to_owned(),
            // From a flag, so it may be anywhere; the transport takes it.
            metrics_server: "http://127.0.0.1:9090".to_owned(),
            ..Settings::default()
        }
    }

    fn transport(&self) -> Transport {
        let (client, namespace) = (self.client.clone(), self.namespace().to_owned());
        prometheus::transport(move || live(client.clone(), namespace.clone()))
    }

    fn get(&self, kind: &Kind, name: &str) -> Option<Object> {
        now(get(&self.client, kind, self.namespace(), name))
    }

    fn list(&self, kind: &Kind) -> Vec<Object> {
        let listed = now(call(
            &self.client,
            Method::GET,
            &path(kind, self.namespace(), ""),
            None,
        ));
        let items = listed.unwrap()["items"].take();
        let items: Vec<Value> = serde_json::from_value(items).unwrap();
        items.into_iter().map(Object::new).collect()
    }

    fn create(&self, kind: &Kind, object: Value) {
        now(post(&self.client, kind, self.namespace(), &object));
    }

    fn modify(&self, kind: &Kind, name: &str, manager: &str, change: impl Fn(&mut Value)) {
        now(self.put(kind, name, "", manager, change));
    }

    fn modify_status(&self, kind: &Kind, name: &str, manager: &str, change: impl Fn(&mut Value)) {
        now(self.put(kind, name, "/status", manager, change));
    }

    fn delete(&self, kind: &Kind, name: &str) {
        let path = path(kind, self.namespace(), name);
        now(call(&self.client, Method::DELETE, &path, None)).unwrap();
    }

    fn sabotage(&self, image: &str) {
        self.stand_in
            .sabotaged
            .lock()
            .unwrap()
            .insert(image.to_owned());
    }

    fn repair(&self) {
        self.stand_in.sabotaged.lock().unwrap().clear();
    }

    fn watch(&self) -> Watch {
        Watch {
            history: Arc::clone(&self.history),
            next: self.history.cursor.load(Ordering::SeqCst),
        }
    }

    /// Time has gone on meanwhile, which it does not on a paused clock: on to the first state of the run and of the request that there are
    /// now, and to the last state if they are those from before.
    async fn acted(&self) {
        let last = get(&self.client, &CANARY, self.namespace(), NAME)
            .await
            .unwrap();
        let end = self.history.place_of(last.resource_version()).await;
        let of = |canary: &Value| {
            let status = &canary["status"];
            (
                status["run"]["id"].clone(),
                status["handledRequest"].clone(),
            )
        };
        let mut place = self.history.cursor.load(Ordering::SeqCst).min(end);
        if of(&*self.history.at(place).await) == of(&last) {
            place = end;
        }
        while of(&*self.history.at(place).await) != of(&last) {
            place += 1;
        }
        self.history.cursor.store(place, Ordering::SeqCst);
    }

    async fn shares(_rig: &Rig<Self>, _end: Phase) -> Option<Vec<Share>> {
        None
    }

    async fn assert_served_by(rig: &Rig<Self>, _workload: &str, seconds: u64) {
        rig.pass(seconds).await;
    }

    /// There is no traffic.
    fn lost(&self) -> u64 {
        0
    }
}

impl Real {
    pub(crate) fn control_plane(&self) -> &Arc<ControlPlane> {
        &self.control_plane
    }

    /// Reads, changes and PUTs; anew when somebody else was faster, as a person with an editor does.
    async fn put(
        &self,
        kind: &Kind,
        name: &str,
        subresource: &str,
        manager: &str,
        change: impl Fn(&mut Value),
    ) {
        let at = path(kind, self.namespace(), name);
        let at = format!("{at}{subresource}?fieldManager={manager}");
        for _ in 0..20 {
            let there = get(&self.client, kind, self.namespace(), name).await;
            let mut object = Value::clone(&there.unwrap());
            change(&mut object);
            match call(&self.client, Method::PUT, &at, Some(&object)).await {
                Err(409) => {}
                other => return drop(other.unwrap()),
            }
        }
        panic!("{} {name} changes faster than it can be edited", kind.kind);
    }
}

/// Follows the Canary's history.
pub(crate) struct Watch {
    history: Arc<History>,
    next: usize,
}

impl support::Watch for Watch {
    async fn status(&mut self) -> Object {
        let state = self.history.at(self.next).await;
        self.history.cursor.store(self.next, Ordering::SeqCst);
        self.next += 1;
        state
    }

    async fn change(&mut self) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for an answer where a test is not async. The runtime must have several threads.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| Handle::current().block_on(future))
}

/// What the scripted Prometheus goes by.
async fn live(client: Client, namespace: String) -> Live {
    let target = get(&client, &DEPLOYMENT, &namespace, NAME).await;
    let route = get(&client, &VIRTUAL_SERVICE, &namespace, NAME).await;
    let image = target
        .as_ref()
        .and_then(|t| t.str_at("/spec/template/spec/containers/0/image"));
    let rules = route.as_ref().map_or(&[][..], |r| r.array_at("/spec/http"));
    let canary = rules
        .iter()
        .flat_map(|rule| rule.array_at("/route"))
        .find(|r| r.str_at("/destination/host") == Some("mcp-server-canary"));
    Live {
        image: image.unwrap_or_default().to_owned(),
        weight: canary.and_then(|c| c.int_at("/weight")).unwrap_or(0),
    }
}
