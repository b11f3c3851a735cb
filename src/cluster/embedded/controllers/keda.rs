//! KEDA: `ScaledObjects` pause, or scale their target by the largest of their triggers, as KEDA and the HPA that it makes do.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    Again, HPA, is_deleted, owner_reference,
    triggers::{self, Reading, Wants},
};
use crate::{
    api::objects::{DEPLOYMENT, Object, ObjectExt, SCALED_OBJECT},
    cluster::{
        clock::rfc3339,
        embedded::{metrics::Metrics, status::Status, store::Store},
    },
    decide::facts::Moment,
};

const MANAGER: &str = "keda-operator";
const PAUSED: &str = "autoscaling.keda.sh/paused";
const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
const PAUSED_IN: &str = "autoscaling.keda.sh/paused-scale-in";
const PAUSED_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
/// The HPA scales down only to the largest size it wanted in this time, milliseconds (Kubernetes: 300 s).
const STABILIZATION_MS: i64 = 300_000;
/// `status.lastActiveTime` is renewed no more often than this, milliseconds: an idle cluster writes nothing.
const ACTIVE_WRITE_MS: i64 = 300_000;

/// KEDA's operator and the HPAs that it makes.
#[derive(Debug)]
pub(super) struct Keda {
    metrics: Arc<Metrics>,
    /// By uid of the `ScaledObject`.
    loops: HashMap<String, Loop>,
}

/// The scaling loop of one `ScaledObject`; a paused one has none.
#[derive(Debug, Default)]
struct Loop {
    name: (String, String),
    polled: Option<Moment>,
    last_active: Option<Moment>,
    /// What was wanted lately.
    recommended: VecDeque<(Moment, i64)>,
    reading: Option<Reading>,
}

/// The bounds of a `ScaledObject`.
#[derive(Debug, Clone, Copy)]
struct Limits {
    min: i64,
    max: i64,
    cooldown_ms: i64,
    poll_ms: i64,
    idle_at_zero: bool,
    may_grow: bool,
    may_shrink: bool,
}

impl Limits {
    fn of(scaler: &Value) -> Self {
        let spec = &scaler["spec"];
        let number = |field: &str, default: i64| spec[field].as_i64().unwrap_or(default);
        let min = number("minReplicaCount", 0);
        let on = |key: &str| scaler.annotation(key).is_some_and(|v| v != "false");
        Self {
            min,
            max: number("maxReplicaCount", 100),
            cooldown_ms: number("cooldownPeriod", 300) * 1_000,
            poll_ms: number("pollingInterval", 30).max(1) * 1_000,
            idle_at_zero: min == 0 || spec["idleReplicaCount"] == json!(0),
            may_grow: !on(PAUSED_OUT),
            may_shrink: !on(PAUSED_IN),
        }
    }
}

/// How a `ScaledObject` is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    No,
    /// At the size it has.
    Here,
    /// At this size.
    At(i64),
}

impl Pause {
    /// `paused-replicas` wins over `paused`, whatever that says.
    fn of(scaler: &Value) -> Self {
        let replicas = scaler.annotation(PAUSED_REPLICAS);
        if let Some(replicas) = replicas.and_then(|r| r.parse().ok()) {
            return Self::At(replicas);
        }
        match scaler.annotation(PAUSED) {
            None | Some("false") => Self::No,
            Some(_) => Self::Here,
        }
    }
}

impl Keda {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            loops: HashMap::new(),
        }
    }

    pub(super) fn reconcile(&mut self, store: &Store, ns: &str, name: &str) -> Again {
        let Some(scaler) = store.get(&SCALED_OBJECT, ns, name) else {
            self.loops.retain(|_, l| l.name.0 != ns || l.name.1 != name);
            return Ok(None);
        };
        if is_deleted(&scaler) {
            return Ok(None);
        }
        let target = scaler
            .str_at("/spec/scaleTargetRef/name")
            .unwrap_or_default();
        let Some(target) = store.get(&DEPLOYMENT, ns, target) else {
            let message = format!(
                "ScaledObject doesn't have correct scaleTargetRef specification: deployment {ns}/{target} not found"
            );
            write_status(store, &scaler, Some(&message), None, Pause::No, None)?;
            return Ok(None);
        };
        match Pause::of(&scaler) {
            Pause::No => self.drive(store, &scaler, &target),
            pause @ (Pause::Here | Pause::At(_)) => {
                self.loops.remove(scaler.uid());
                let hpa = hpa_name(&scaler);
                if store.get(&HPA, ns, &hpa).is_some() {
                    store.delete(&HPA, ns, &hpa)?;
                }
                if let Pause::At(replicas) = pause {
                    scale(store, &target, replicas)?;
                }
                write_status(store, &scaler, None, None, pause, None)?;
                Ok(None)
            }
        }
    }

    /// One turn of the scaling loop.
    fn drive(&mut self, store: &Store, scaler: &Object, target: &Object) -> Again {
        let now = store.clock().now();
        let limits = Limits::of(scaler);
        let replicas = target.int_at("/spec/replicas").unwrap_or(1);
        let state = self.loops.entry(scaler.uid().to_owned()).or_default();
        state.name = (scaler.namespace().to_owned(), scaler.name().to_owned());
        if state.polled.is_none() {
            state.recommended.push_back((now, replicas));
        }
        let due = state
            .polled
            .is_none_or(|at| now.since(at) >= limits.poll_ms);
        if due {
            let reading = triggers::read(scaler, &self.metrics, replicas, now);
            state.polled = Some(now);
            if reading.active() {
                state.last_active = Some(now);
            }
            state.reading = Some(reading);
        }
        let size = if due {
            state.size(&limits, replicas, now)
        } else if replicas < limits.min {
            limits.min
        } else {
            replicas
        };
        scale(store, target, size)?;
        write_hpa(store, scaler, &limits, state.reading.as_ref(), size)?;
        let broken = state.reading.as_ref().and_then(|r| r.broken.clone());
        let active = state.reading.as_ref().map(Reading::active);
        let since = state.last_active;
        write_status(store, scaler, broken.as_deref(), active, Pause::No, since)?;
        Ok(state.polled.map(|at| at.plus(limits.poll_ms)))
    }
}

impl Loop {
    /// The size that KEDA (between none and one) and the HPA (from one on) give the target.
    fn size(&mut self, limits: &Limits, replicas: i64, now: Moment) -> i64 {
        let Some(reading) = &self.reading else {
            return replicas.max(limits.min);
        };
        let Some(wanted) = reading.wanted() else {
            // Nothing is known: the size stays, but not below the least.
            return replicas.max(limits.min);
        };
        if !reading.active() && limits.idle_at_zero {
            let idle = self
                .last_active
                .is_none_or(|at| now.since(at) >= limits.cooldown_ms);
            if replicas == 0 || idle && limits.may_shrink {
                return 0;
            }
        }
        if replicas == 0 {
            let one = limits.min.max(1);
            return if limits.may_grow { one } else { 0 };
        }
        let least = limits.min.max(1);
        // Growth in one step, as the HPA's default policies allow it: double, or four more.
        let wanted = wanted
            .clamp(least, limits.max.max(least))
            .min((replicas * 2).max(replicas + 4));
        self.recommended.push_back((now, wanted));
        while self
            .recommended
            .front()
            .is_some_and(|(at, _)| now.since(*at) > STABILIZATION_MS)
        {
            self.recommended.pop_front();
        }
        let lately = self.recommended.iter().map(|(_, size)| *size).max();
        let size = if wanted < replicas {
            lately.unwrap_or(wanted).min(replicas).max(least)
        } else {
            wanted
        };
        let frozen = size > replicas && !limits.may_grow || size < replicas && !limits.may_shrink;
        if frozen { replicas } else { size }
    }
}

fn hpa_name(scaler: &Value) -> String {
    let given = "/spec/advanced/horizontalPodAutoscalerConfig/name";
    scaler
        .str_at(given)
        .map_or_else(|| format!("keda-hpa-{}", scaler.name()), str::to_owned)
}

fn scale(store: &Store, target: &Object, replicas: i64) -> Result<(), Status> {
    if target.int_at("/spec/replicas").unwrap_or(1) == replicas {
        return Ok(());
    }
    let write = |object: &mut Value| object["spec"]["replicas"] = json!(replicas);
    store
        .modify(
            &DEPLOYMENT,
            target.namespace(),
            target.name(),
            MANAGER,
            write,
        )
        .map(drop)
}

/// The HPA, with what each trigger wants in its status.
fn write_hpa(
    store: &Store,
    scaler: &Value,
    limits: &Limits,
    reading: Option<&Reading>,
    size: i64,
) -> Result<(), Status> {
    let (ns, name) = (scaler.namespace(), hpa_name(scaler));
    let metrics: Vec<Value> =
        reading.map_or_else(Vec::new, |r| r.wants.iter().map(external).collect());
    let spec = json!({
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": scaler.str_at("/spec/scaleTargetRef/name"),
        },
        "minReplicas": limits.min.max(1),
        "maxReplicas": limits.max,
        "metrics": metrics,
    });
    if store.get(&HPA, ns, &name).is_none() {
        let hpa = json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {
                "name": name,
                "namespace": ns,
                "labels": {
                    "app.kubernetes.io/managed-by": MANAGER,
                    "scaledobject.keda.sh/name": scaler.name(),
                },
                "ownerReferences": [owner_reference(&SCALED_OBJECT, scaler)],
            },
            "spec": spec,
        });
        store.create(&HPA, hpa, MANAGER)?;
    } else {
        store.modify(&HPA, ns, &name, MANAGER, |hpa| hpa["spec"] = spec)?;
    }
    let status = json!({"desiredReplicas": size, "currentReplicas": size});
    let write = |hpa: &mut Value| hpa["status"] = status;
    store
        .modify_status(&HPA, ns, &name, "kube-controller-manager", write)
        .map(drop)
}

fn external(wants: &Wants) -> Value {
    json!({
        "type": "External",
        "external": {
            "metric": {"name": wants.metric},
            "target": {"type": wants.kind, "averageValue": wants.threshold.to_string()},
        },
    })
}

/// Status and conditions in KEDA's form. `broken` says why the object cannot be carried out.
fn write_status(
    store: &Store,
    scaler: &Object,
    broken: Option<&str>,
    active: Option<bool>,
    pause: Pause,
    last_active: Option<Moment>,
) -> Result<(), Status> {
    let before = scaler.str_at("/status/lastActiveTime").map(|t| json!(t));
    let types = scaler.array_at("/spec/triggers").iter();
    let types: Vec<&str> = types.filter_map(|t| t["type"].as_str()).collect();
    let names: Vec<String> = types
        .iter()
        .enumerate()
        .map(|(i, t)| format!("s{i}-{t}"))
        .collect();
    let mut status = json!({
        "scaleTargetKind": "apps/v1.Deployment",
        "scaleTargetGVKR": {"group": "apps", "version": "v1", "kind": "Deployment", "resource": "deployments"},
        "hpaName": hpa_name(scaler),
        "triggersTypes": types.join(","),
        "externalMetricNames": names,
        "conditions": conditions(broken, active, pause != Pause::No),
    });
    let shown = before.as_ref().and_then(super::moment);
    let stale = |at: Moment| shown.is_none_or(|shown| at.since(shown) >= ACTIVE_WRITE_MS);
    match last_active.filter(|at| stale(*at)) {
        Some(at) => status["lastActiveTime"] = json!(rfc3339(at)),
        None => {
            if let Some(before) = before {
                status["lastActiveTime"] = before;
            }
        }
    }
    if let Pause::At(replicas) = pause {
        status["pausedReplicaCount"] = json!(replicas);
    }
    let write = |object: &mut Value| object["status"] = status;
    store
        .modify_status(
            &SCALED_OBJECT,
            scaler.namespace(),
            scaler.name(),
            MANAGER,
            write,
        )
        .map(drop)
}

fn conditions(broken: Option<&str>, active: Option<bool>, paused: bool) -> [Value; 4] {
    let ready = match broken {
        Some(message) => ("False", "ScaledObjectCheckFailed", message),
        None => (
            "True",
            "ScaledObjectReady",
            "ScaledObject is defined correctly and is ready for scaling",
        ),
    };
    let activity = match active {
        _ if paused => ("Unknown", "UnkownState", "ScaledObject is paused"),
        Some(true) => (
            "True",
            "ScalerActive",
            "Scaling is performed because triggers are active",
        ),
        Some(false) => (
            "False",
            "ScalerNotActive",
            "Scaling is not performed because triggers are not active",
        ),
        None => ("Unknown", "UnkownState", "No trigger has been read yet"),
    };
    let pausing = if paused {
        ("True", "ScaledObjectPaused", "ScaledObject is paused")
    } else {
        (
            "False",
            "ScaledObjectUnpaused",
            "ScaledObject is not paused",
        )
    };
    let condition = |kind: &str, (status, reason, message): (&str, &str, &str)| json!({"type": kind, "status": status, "reason": reason, "message": message});
    [
        condition("Ready", ready),
        condition("Active", activity),
        condition(
            "Fallback",
            (
                "False",
                "NoFallbackFound",
                "No fallbacks are active on this scaled object",
            ),
        ),
        condition("Paused", pausing),
    ]
}
