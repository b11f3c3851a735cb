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

/// One pod from its creation on. Its status is refused once it is gone, which ends the life.
async fn life(client: Client, pod: Object, behaviour: Behaviour) {
    static ADDRESSES: AtomicU16 = AtomicU16::new(1);
    let [high, low] = ADDRESSES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let address = format!("10.244.{high}.{low}");
    tokio::time::sleep(READY).await;
    match behaviour {
        Behaviour::Missing => {
            let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
            let _ = tell(
                &client,
                &pod,
                "Pending",
                &container(&pod, false, 0, &waiting),
            )
            .await;
        }
        Behaviour::Crash => {
            for restarts in 0..10 {
                let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
                let mut status = container(&pod, false, restarts, &waiting);
                status["lastState"] = json!({"terminated": {
                    "exitCode": 1,
                    "reason": "Error",
                    "message": "panic: config key missing",
                }});
                if tell(&client, &pod, "Running", &status).await.is_none() {
                    return;
                }
                tokio::time::sleep(CRASH).await;
            }
        }
        Behaviour::Healthy | Behaviour::Errors | Behaviour::Slow | Behaviour::Flaky => {
            let running = json!({"running": {}});
            let status = with_address(container(&pod, true, 0, &running), &address);
            let _ = tell(&client, &pod, "Running", &status).await;
        }
    }
}

/// A container's status; what is beside it in a pod's status goes through [`tell`].
fn container(pod: &Value, ready: bool, restarts: u32, state: &Value) -> Value {
    let first = &pod["spec"]["containers"][0];
    json!({
        "name": first["name"],
        "image": first["image"],
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": restarts,
        "state": state,
    })
}

fn with_address(mut status: Value, address: &str) -> Value {
    status["address"] = address.into();
    status
}

async fn tell(client: &Client, pod: &Object, phase: &str, container: &Value) -> Option<()> {
    let mut container = container.clone();
    let address = container
        .as_object_mut()
        .and_then(|c| c.remove("address"))
        .unwrap_or_default();
    let ready = if container["ready"] == true {
        "True"
    } else {
        "False"
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let mut status = json!({
        "phase": phase,
        "conditions": [
            condition("PodScheduled", "True"),
            condition("Initialized", "True"),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": [container],
    });
    if !address.is_null() {
        status["podIP"] = address.clone();
        status["podIPs"] = json!([{"ip": address}]);
    }
    merge_status(client, &POD, pod.namespace(), pod.name(), &status).await
}
