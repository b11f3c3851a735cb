//! Stands in for the nodes of a cluster without any: pods become ready, crash or cannot be pulled, as their image tags say.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use canary_mcp::{
    api::objects::{Object, ObjectExt, POD},
    cluster::embedded::images::Behaviour,
};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};

use super::calls::{follow, merge_status};

/// From creation to readiness, in real time: long enough for a copy without endpoints to be seen.
const READY: Duration = Duration::from_millis(400);
/// Between two starts of a container that crashes, in real time.
const CRASH: Duration = Duration::from_millis(250);
/// The images whose pods crash on the primary.
pub(super) type Sabotaged = Arc<Mutex<BTreeSet<String>>>;

/// The nodes of one namespace, until dropped.
pub(super) struct StandIn {
    task: AbortHandle,
    pub(super) sabotaged: Sabotaged,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StandIn {
    pub(super) fn start(client: Client, namespace: String) -> Self {
        let sabotaged = Sabotaged::default();
        let task = tokio::spawn(nodes(client, namespace, Arc::clone(&sabotaged)));
        Self {
            task: task.abort_handle(),
            sabotaged,
        }
    }
}

async fn nodes(client: Client, namespace: String, sabotaged: Sabotaged) {
    let mut lives = JoinSet::new();
    let mut known = HashSet::new();
    let see = |pod: Object| {
        if known.insert(pod.uid().to_owned()) {
            let image = pod.str_at("/spec/containers/0/image").unwrap_or_default();
            let of_primary = pod.name().starts_with("mcp-server-primary-");
            let sabotaged = of_primary && sabotaged.lock().unwrap().contains(image);
            let behaviour = if sabotaged {
                Behaviour::Crash
            } else {
                Behaviour::of(image)
            };
            lives.spawn(life(client.clone(), pod, behaviour));
        }
    };
    follow(client.clone(), POD, namespace, String::new(), see).await;
}

/// What the kubelet says of a pod's only container, and so of the pod.
struct Told<'a> {
    phase: &'a str,
    /// The pod's address; a pod without one is not ready.
    ready_at: Option<&'a str>,
    restarts: u32,
    state: Value,
    last_state: Value,
}

/// One pod from its creation on.
async fn life(client: Client, pod: Object, behaviour: Behaviour) {
    static ADDRESSES: AtomicU16 = AtomicU16::new(1);
    let [high, low] = ADDRESSES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let address = format!("10.244.{high}.{low}");
    tokio::time::sleep(READY).await;
    match behaviour {
        Behaviour::Missing => {
            let told = Told {
                phase: "Pending",
                ready_at: None,
                restarts: 0,
                state: json!({"waiting": {"reason": "ImagePullBackOff"}}),
                last_state: json!({}),
            };
            told.write(&client, &pod).await;
        }
        Behaviour::Crash => {
            for restarts in 0..10 {
                let told = Told {
                    phase: "Running",
                    ready_at: None,
                    restarts,
                    state: json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                    last_state: json!({"terminated": {
                        "exitCode": 1,
                        "reason": "Error",
                        "message": "panic: config key missing",
                    }}),
                };
                told.write(&client, &pod).await;
                tokio::time::sleep(CRASH).await;
            }
        }
        Behaviour::Healthy | Behaviour::Errors | Behaviour::Slow | Behaviour::Flaky => {
            let told = Told {
                phase: "Running",
                ready_at: Some(&address),
                restarts: 0,
                state: json!({"running": {}}),
                last_state: json!({}),
            };
            told.write(&client, &pod).await;
        }
    }
}

impl Told<'_> {
    /// Nothing once the pod is gone.
    async fn write(&self, client: &Client, pod: &Object) {
        let ready = self.ready_at.is_some();
        let conditions = [
            ("PodScheduled", true),
            ("Initialized", true),
            ("ContainersReady", ready),
            ("Ready", ready),
        ];
        let conditions = conditions.map(|(kind, met)| {
            let status = if met { "True" } else { "False" };
            json!({"type": kind, "status": status})
        });
        let container = &pod["spec"]["containers"][0];
        let mut status = json!({
            "phase": self.phase,
            "conditions": conditions,
            "containerStatuses": [{
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "started": ready,
                "restartCount": self.restarts,
                "state": self.state,
                "lastState": self.last_state,
            }],
        });
        if let Some(address) = self.ready_at {
            status["podIP"] = address.into();
            status["podIPs"] = json!([{"ip": address}]);
        }
        merge_status(client, &POD, pod.namespace(), pod.name(), &status).await;
    }
}
