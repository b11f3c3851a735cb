//! The controllers of an embedded cluster: Deployments become `ReplicaSets` and pods, pods become ready, Services get
//! endpoints, `ScaledObjects` scale.
//!
//! One task for each cluster. It sleeps until the store changes or a timer is due, and then works off a queue of keys,
//! each of which is reconciled from the store's objects alone.

mod deployment;
pub(super) mod endpoints;
mod gateways;
mod keda;
mod kubelet;
pub(super) mod pods;
mod record;
mod rollout;
mod triggers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    gateway::{Acceptance, GATEWAY, GATEWAY_CLASS, HTTP_ROUTE, REFERENCE_GRANT},
    metrics::Metrics,
    status::Status,
    store::{Change, ResourceKey, Store},
};
use crate::{
    api::objects::{DEPLOYMENT, Kind, Object, ObjectExt, POD, REPLICA_SET, SCALED_OBJECT, SERVICE},
    cluster::clock::rfc3339,
    decide::facts::Moment,
};

/// `discovery.k8s.io/v1` `EndpointSlice`.
pub(super) const ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
};
/// Core Endpoints.
pub(super) const ENDPOINTS: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
};
/// `autoscaling/v2` `HorizontalPodAutoscaler`.
pub(super) const HPA: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
};

/// The field manager of everything that Kubernetes' own controllers write.
const MANAGER: &str = "kube-controller-manager";
/// After an error of the API server, milliseconds.
const RETRY_MS: i64 = 1_000;
/// Keys worked off before other tasks get their turn.
const TURN: usize = 256;

/// One thing to reconcile. The order of the variants is the order of work: what a Deployment reads of its `ReplicaSets`, and
/// these of their pods, is up to date when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Pod(String, String),
    ReplicaSet(String, String),
    Deployment(String, String),
    Service(String, String),
    ScaledObject(String, String),
    GatewayClass(String, String),
    HttpRoute(String, String),
    Gateway(String, String),
}

/// When to look at a key again without a change; `None` is never.
type Again = Result<Option<Moment>, Status>;

/// The controllers of one cluster.
pub(super) struct Controllers {
    store: Store,
    kubelet: kubelet::Kubelet,
    keda: keda::Keda,
    gateways: gateways::Gateways,
    /// Numbers the pods of this cluster.
    pods: u64,
    seen: u64,
    queue: BTreeSet<Key>,
    timers: BTreeMap<Key, Moment>,
}

impl Controllers {
    pub(super) fn new(store: Store, metrics: Arc<Metrics>, acceptance: Acceptance) -> Self {
        Self {
            gateways: gateways::Gateways::new(acceptance),
            kubelet: kubelet::Kubelet::default(),
            keda: keda::Keda::new(metrics),
            pods: 0,
            seen: 0,
            queue: BTreeSet::new(),
            timers: BTreeMap::new(),
            store,
        }
    }

    /// Runs until the store is gone, which is never: end it by ending its task.
    pub(super) async fn run(mut self) {
        kubelet::register(&self.store);
        let mut revisions = self.store.subscribe();
        self.relist();
        loop {
            revisions.borrow_and_update();
            if self.work() {
                tokio::task::yield_now().await;
                continue;
            }
            let clock = self.store.clock().clone();
            match self.timers.values().min().copied() {
                Some(due) => tokio::select! {
                    changed = revisions.changed() => if changed.is_err() { return },
                    () = clock.sleep_until(due) => {}
                },
                None => {
                    if revisions.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Works off one turn of the queue; `true` when there may be more.
    fn work(&mut self) -> bool {
        for _ in 0..TURN {
            self.take_changes();
            let now = self.store.clock().now();
            let due = self.timers.iter().filter(|(_, at)| **at <= now);
            self.queue.extend(due.map(|(key, _)| key.clone()));
            let Some(key) = self.queue.pop_first() else {
                return false;
            };
            self.timers.remove(&key);
            let again = self.reconcile(&key).unwrap_or_else(|status| {
                tracing::warn!(?key, error = %status, "an embedded controller's write was refused");
                Some(now.plus(RETRY_MS))
            });
            if let Some(at) = again {
                self.timers.insert(key, at);
            }
        }
        true
    }

    fn reconcile(&mut self, key: &Key) -> Again {
        let store = &self.store;
        match key {
            Key::Pod(ns, name) => self.kubelet.reconcile(store, ns, name),
            Key::ReplicaSet(ns, name) => pods::reconcile(store, ns, name, &mut self.pods),
            Key::Deployment(ns, name) => deployment::reconcile(store, ns, name),
            Key::Service(ns, name) => endpoints::reconcile(store, ns, name),
            Key::ScaledObject(ns, name) => self.keda.reconcile(store, ns, name),
            Key::GatewayClass(_, name) => gateways::reconcile_class(store, name),
            Key::HttpRoute(ns, name) => self.gateways.reconcile(store, ns, name),
            Key::Gateway(ns, name) => gateways::reconcile_gateway(store, ns, name),
        }
    }

    fn take_changes(&mut self) {
        match self.store.changes_since(self.seen) {
            Some(changes) => {
                for change in changes {
                    self.seen = change.revision;
                    self.notice(&change);
                }
            }
            None => self.relist(),
        }
    }

    /// Everything there is, after which the log is followed again.
    fn relist(&mut self) {
        self.seen = self.store.revision();
        for (kind, key) in [
            (POD, Key::Pod as fn(String, String) -> Key),
            (REPLICA_SET, Key::ReplicaSet),
            (DEPLOYMENT, Key::Deployment),
            (SERVICE, Key::Service),
            (SCALED_OBJECT, Key::ScaledObject),
            (GATEWAY_CLASS, Key::GatewayClass),
            (HTTP_ROUTE, Key::HttpRoute),
            (GATEWAY, Key::Gateway),
        ] {
            let objects = self.store.list(&kind, None);
            self.queue.extend(objects.iter().map(|o| of(o, key)));
        }
    }

    /// Queues what a change concerns.
    fn notice(&mut self, change: &Change) {
        let (resource, object) = (&change.resource, &change.object);
        if resource.is(&POD) {
            self.queue.insert(of(object, Key::Pod));
            self.queue.extend(
                owner(object, "ReplicaSet")
                    .map(|name| Key::ReplicaSet(object.namespace().to_owned(), name.to_owned())),
            );
            self.notice_services(change);
        } else if resource.is(&REPLICA_SET) {
            self.queue.insert(of(object, Key::ReplicaSet));
            self.queue.extend(
                owner(object, "Deployment")
                    .map(|name| Key::Deployment(object.namespace().to_owned(), name.to_owned())),
            );
        } else if resource.is(&DEPLOYMENT) {
            self.queue.insert(of(object, Key::Deployment));
            self.notice_scalers(object);
        } else if resource.is(&SERVICE) {
            self.queue.insert(of(object, Key::Service));
            self.notice_routes();
        } else if resource.is(&SCALED_OBJECT) {
            self.queue.insert(of(object, Key::ScaledObject));
        } else if resource.is(&HTTP_ROUTE) {
            self.queue.insert(of(object, Key::HttpRoute));
            // Gateways count their routes.
            self.notice_all(&GATEWAY, Key::Gateway);
        } else if resource.is(&GATEWAY) {
            self.queue.insert(of(object, Key::Gateway));
            self.notice_routes();
        } else if resource.is(&GATEWAY_CLASS) {
            self.queue.insert(of(object, Key::GatewayClass));
            self.notice_all(&GATEWAY, Key::Gateway);
            self.notice_routes();
        } else if resource.is(&REFERENCE_GRANT) {
            self.notice_routes();
        } else if is_endpoints(resource) {
            let service = object.label(endpoints::SERVICE_NAME);
            let name = service.unwrap_or(object.name());
            self.queue
                .insert(Key::Service(object.namespace().to_owned(), name.to_owned()));
        }
    }

    /// What a route refers to has changed: whether it is accepted may have, too.
    fn notice_routes(&mut self) {
        self.notice_all(&HTTP_ROUTE, Key::HttpRoute);
    }

    fn notice_all(&mut self, kind: &Kind, key: fn(String, String) -> Key) {
        let objects = self.store.list(kind, None);
        self.queue.extend(objects.iter().map(|o| of(o, key)));
    }

    fn notice_services(&mut self, change: &Change) {
        let pod = &change.object;
        for service in self.store.list(&SERVICE, Some(pod.namespace())) {
            let selector = &service["spec"]["selector"];
            let before = change.previous.as_ref();
            if endpoints::selects(selector, pod)
                || before.is_some_and(|before| endpoints::selects(selector, before))
            {
                self.queue.insert(of(&service, Key::Service));
            }
        }
    }

    fn notice_scalers(&mut self, deployment: &Object) {
        for scaler in self
            .store
            .list(&SCALED_OBJECT, Some(deployment.namespace()))
        {
            if scaler.str_at("/spec/scaleTargetRef/name") == Some(deployment.name()) {
                self.queue.insert(of(&scaler, Key::ScaledObject));
            }
        }
    }
}

fn is_endpoints(resource: &ResourceKey) -> bool {
    resource.is(&ENDPOINT_SLICE) || resource.is(&ENDPOINTS)
}

fn of(object: &Object, key: impl Fn(String, String) -> Key) -> Key {
    key(object.namespace().to_owned(), object.name().to_owned())
}

/// Name of the controlling owner, if it is of `kind`.
pub(super) fn owner<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    object
        .array_at("/metadata/ownerReferences")
        .iter()
        .find(|o| o["controller"] == json!(true) && o["kind"] == json!(kind))
        .and_then(|o| o["name"].as_str())
}

/// The objects of `kind` that `owner` controls.
fn owned(store: &Store, kind: &Kind, owner: &Value) -> Vec<Object> {
    let mut objects = store.list(kind, Some(owner.namespace()));
    objects.retain(|object| {
        object
            .array_at("/metadata/ownerReferences")
            .iter()
            .any(|o| o["controller"] == json!(true) && o["uid"] == json!(owner.uid()))
    });
    objects
}

fn owner_reference(kind: &Kind, owner: &Value) -> Value {
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "name": owner.name(),
        "uid": owner.uid(),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn is_deleted(object: &Value) -> bool {
    object.str_at("/metadata/deletionTimestamp").is_some()
}

/// One condition of a status.
pub(super) struct Condition<'a> {
    kind: &'a str,
    met: bool,
    reason: &'a str,
    message: String,
}

/// `condition` as JSON; the time of its last transition stays that of `before` while its status is the same.
fn transition(before: &[Value], condition: &Condition<'_>, now: Moment) -> Value {
    let status = if condition.met { "True" } else { "False" };
    let last = before
        .iter()
        .find(|c| c["type"] == json!(condition.kind) && c["status"] == json!(status))
        .and_then(|c| c["lastTransitionTime"].as_str());
    let mut out = json!({
        "type": condition.kind,
        "status": status,
        "lastTransitionTime": last.map_or_else(|| rfc3339(now), str::to_owned),
    });
    if !condition.reason.is_empty() {
        out["reason"] = json!(condition.reason);
    }
    if !condition.message.is_empty() {
        out["message"] = json!(condition.message);
    }
    out
}

/// The moment that a timestamp of Kubernetes names.
fn moment(value: &Value) -> Option<Moment> {
    let at: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(Moment(at.as_millisecond()))
}

/// `length` characters of Kubernetes' own alphabet of generated names (no vowels, no look-alikes), the same for the same
/// `seed`.
fn suffix(seed: &str, length: usize) -> String {
    use sha2::Digest as _;
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = sha2::Sha256::digest(seed.as_bytes());
    let letters = digest.iter().map(|b| usize::from(*b) % ALPHABET.len());
    letters
        .filter_map(|i| ALPHABET.get(i))
        .map(|b| char::from(*b))
        .take(length)
        .collect()
}
