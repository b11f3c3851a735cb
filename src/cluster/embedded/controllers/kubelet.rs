//! The one node: pods start, become ready, crash, and end.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    Again, Condition, is_deleted,
    record::{Happened, record},
    transition,
};
use crate::{
    api::objects::{self, Object, ObjectExt, POD},
    cluster::{
        clock::rfc3339,
        embedded::{discovery::VERSION, images::Behaviour, store::Store},
    },
    decide::facts::Moment,
};

/// Name of the node that every pod runs on.
pub(super) const NODE: &str = "embedded-1";
const NODE_IP: &str = "10.0.0.1";
const MANAGER: &str = "kubelet";
/// From creation to the containers' start, milliseconds.
const PULL_MS: i64 = 1_000;
/// From creation to readiness, milliseconds.
const READY_MS: i64 = 5_000;
/// How long a `-crash` container runs, milliseconds.
const CRASH_MS: i64 = 2_000;
/// From deletion to the end of the pod, milliseconds.
const GRACE_MS: i64 = 2_000;
/// Waits between a crash and the next start, milliseconds: shorter at first than a real kubelet's, the same 5 minutes at
/// most.
const BACK_OFF_MS: [i64; 8] = [
    5_000, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000,
];
/// From the first failed pull to `ImagePullBackOff`, milliseconds.
const PULL_BACK_OFF_MS: i64 = 10_000;

/// Says that the node is up, as a kubelet does first of all.
pub(super) fn register(store: &Store) {
    let at = rfc3339(store.clock().now());
    let report = json!({
        "addresses": [
            {"type": "InternalIP", "address": NODE_IP},
            {"type": "Hostname", "address": NODE},
        ],
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": at,
            "lastTransitionTime": at,
        }],
        "nodeInfo": {"kubeletVersion": VERSION, "architecture": "amd64", "operatingSystem": "linux"},
    });
    let written = store.modify_status(&objects::NODE, "", NODE, MANAGER, |node| {
        node["status"] = report;
    });
    if let Err(status) = written {
        tracing::error!(message = %status.message, "the node of an embedded cluster is not ready");
    }
}

/// What the node knows of its pods, by uid.
#[derive(Debug, Default)]
pub(super) struct Kubelet {
    pods: HashMap<String, Life>,
    addresses: u32,
}

/// One pod on the node.
#[derive(Debug, Clone)]
struct Life {
    name: (String, String),
    born: Moment,
    ip: String,
    stage: Stage,
    /// When the next stage begins.
    next: Option<Moment>,
    restarts: usize,
    /// Start of the container that runs, or ran last.
    started: Moment,
    /// End of the last container that crashed.
    crashed: Option<Moment>,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Creating,
    Running,
    Ready,
    BackOff,
    PullFailed,
    PullBackOff,
    Terminating,
}

impl Kubelet {
    pub(super) fn reconcile(&mut self, store: &Store, ns: &str, name: &str) -> Again {
        let Some(pod) = store.get(&POD, ns, name) else {
            self.pods
                .retain(|_, life| life.name.0 != ns || life.name.1 != name);
            return Ok(None);
        };
        if pod.str_at("/spec/nodeName").is_none() {
            let bind = |pod: &mut Value| pod["spec"]["nodeName"] = json!(NODE);
            store.modify(&POD, ns, name, "kube-scheduler", bind)?;
            return Ok(None);
        }
        let now = store.clock().now();
        let life = self.life(&pod, now);
        if is_deleted(&pod) && life.stage != Stage::Terminating {
            life.stage = Stage::Terminating;
            life.next = Some(now.plus(GRACE_MS));
            life.tell(store, &pod);
        }
        let behaviour = behaviour(&pod);
        while let Some(at) = life.next.filter(|at| *at <= now) {
            if life.stage == Stage::Terminating {
                self.pods.remove(pod.uid());
                store.remove(&POD, ns, name)?;
                return Ok(None);
            }
            life.advance(behaviour, at);
            life.tell(store, &pod);
        }
        let next = life.next;
        let status = life.status(&pod, now);
        let write = |object: &mut Value| object["status"] = status;
        store.modify_status(&POD, ns, name, MANAGER, write)?;
        Ok(next)
    }

    fn life(&mut self, pod: &Object, now: Moment) -> &mut Life {
        let addresses = &mut self.addresses;
        self.pods.entry(pod.uid().to_owned()).or_insert_with(|| {
            *addresses += 1;
            let [_, _, high, low] = addresses.to_be_bytes();
            Life {
                name: (pod.namespace().to_owned(), pod.name().to_owned()),
                born: now,
                ip: format!("10.244.{high}.{low}"),
                stage: Stage::Creating,
                next: Some(now.plus(PULL_MS)),
                restarts: 0,
                started: now,
                crashed: None,
            }
        })
    }
}

/// A pod behaves as the worst of its containers' images.
fn behaviour(pod: &Value) -> Behaviour {
    pod.array_at("/spec/containers")
        .iter()
        .map(|c| Behaviour::of(c["image"].as_str().unwrap_or_default()))
        .find(|b| *b != Behaviour::Healthy)
        .unwrap_or(Behaviour::Healthy)
}

/// The message of a condition that is not met.
fn unready(pod: &Value, met: bool) -> String {
    if met {
        return String::new();
    }
    let containers = pod.array_at("/spec/containers").iter();
    let names: Vec<&str> = containers.filter_map(|c| c["name"].as_str()).collect();
    format!("containers with unready status: [{}]", names.join(" "))
}

impl Life {
    /// Enters the stage that begins at `at`.
    fn advance(&mut self, behaviour: Behaviour, at: Moment) {
        let crashes = behaviour == Behaviour::Crash;
        (self.stage, self.next) = match self.stage {
            Stage::Creating if behaviour == Behaviour::Missing => {
                (Stage::PullFailed, Some(at.plus(PULL_BACK_OFF_MS)))
            }
            Stage::Creating => {
                self.started = at;
                let until = if crashes {
                    CRASH_MS
                } else {
                    READY_MS - PULL_MS
                };
                (Stage::Running, Some(at.plus(until)))
            }
            Stage::Running if crashes => {
                self.crashed = Some(at);
                let wait = BACK_OFF_MS.get(self.restarts).copied().unwrap_or(300_000);
                (Stage::BackOff, Some(at.plus(wait)))
            }
            Stage::Running => (Stage::Ready, None),
            Stage::BackOff => {
                self.restarts += 1;
                self.started = at;
                (Stage::Running, Some(at.plus(CRASH_MS)))
            }
            Stage::PullFailed => (Stage::PullBackOff, None),
            Stage::Ready | Stage::PullBackOff | Stage::Terminating => (self.stage, None),
        };
    }

    /// The events of the stage that just began.
    fn tell(&self, store: &Store, pod: &Value) {
        for container in pod.array_at("/spec/containers") {
            let name = container["name"].as_str().unwrap_or_default();
            let image = container["image"].as_str().unwrap_or_default();
            let (warning, reason, note) = match self.stage {
                Stage::Running => (false, "Started", format!("Started container {name}")),
                Stage::BackOff => (
                    true,
                    "BackOff",
                    format!(
                        "Back-off restarting failed container {name} in pod {}_{}({})",
                        pod.name(),
                        pod.namespace(),
                        pod.uid()
                    ),
                ),
                Stage::PullFailed => (
                    true,
                    "Failed",
                    format!("Failed to pull image \"{image}\": not found"),
                ),
                Stage::PullBackOff => (
                    false,
                    "BackOff",
                    format!("Back-off pulling image \"{image}\""),
                ),
                Stage::Terminating => (false, "Killing", format!("Stopping container {name}")),
                Stage::Creating | Stage::Ready => return,
            };
            let happened = Happened {
                kind: &POD,
                object: pod,
                warning,
                reason,
                note,
                by: MANAGER,
            };
            record(store, &happened);
        }
    }

    fn status(&self, pod: &Value, now: Moment) -> Value {
        let ready = self.stage == Stage::Ready;
        let up = !matches!(
            self.stage,
            Stage::Creating | Stage::PullFailed | Stage::PullBackOff
        );
        let before = pod.array_at("/status/conditions");
        let not_ready = if ready { "" } else { "ContainersNotReady" };
        let conditions: Vec<Value> = [
            ("PodScheduled", true, ""),
            ("Initialized", true, ""),
            ("ContainersReady", ready, not_ready),
            ("Ready", ready, not_ready),
        ]
        .into_iter()
        .map(|(kind, met, reason)| {
            let message = unready(pod, met);
            let condition = Condition {
                kind,
                met,
                reason,
                message,
            };
            transition(before, &condition, now)
        })
        .collect();
        let statuses: Vec<Value> = pod
            .array_at("/spec/containers")
            .iter()
            .map(|c| self.container(pod, c))
            .collect();
        let mut status = json!({
            "phase": if up { "Running" } else { "Pending" },
            "hostIP": NODE_IP,
            "startTime": rfc3339(self.born),
            "qosClass": "Burstable",
            "conditions": conditions,
            "containerStatuses": statuses,
        });
        if up {
            status["podIP"] = json!(self.ip);
            status["podIPs"] = json!([{"ip": self.ip}]);
        }
        status
    }

    fn container(&self, pod: &Value, container: &Value) -> Value {
        let image = container["image"].as_str().unwrap_or_default();
        let name = container["name"].as_str().unwrap_or_default();
        let mut status = json!({
            "name": name,
            "image": image,
            "imageID": "",
            "ready": self.stage == Stage::Ready,
            "started": matches!(self.stage, Stage::Running | Stage::Ready),
            "restartCount": self.restarts,
            "state": self.state(pod, name, image),
            "lastState": {},
        });
        if let Some(finished) = self.crashed {
            let started = finished.plus(-CRASH_MS);
            status["lastState"]["terminated"] = json!({
                "exitCode": 1,
                "reason": "Error",
                "message": "panic: config key missing",
                "startedAt": rfc3339(started),
                "finishedAt": rfc3339(finished),
            });
        }
        status
    }

    fn state(&self, pod: &Value, container: &str, image: &str) -> Value {
        let waiting = |reason: &str, message: String| json!({"waiting": {"reason": reason, "message": message}});
        match self.stage {
            Stage::Creating => json!({"waiting": {"reason": "ContainerCreating"}}),
            Stage::PullFailed => waiting(
                "ErrImagePull",
                format!(
                    "rpc error: code = NotFound desc = failed to pull and unpack image \"{image}\": not found"
                ),
            ),
            Stage::PullBackOff => waiting(
                "ImagePullBackOff",
                format!("Back-off pulling image \"{image}\""),
            ),
            Stage::BackOff => {
                let wait = BACK_OFF_MS.get(self.restarts).copied().unwrap_or(300_000) / 1_000;
                waiting(
                    "CrashLoopBackOff",
                    format!(
                        "back-off {wait}s restarting failed container={container} pod={}_{}({})",
                        pod.name(),
                        pod.namespace(),
                        pod.uid()
                    ),
                )
            }
            Stage::Running | Stage::Ready | Stage::Terminating => {
                json!({"running": {"startedAt": rfc3339(self.started)}})
            }
        }
    }
}
