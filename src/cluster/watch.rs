//! [`Watched`]: a cache of one kind that follows the cluster and is never older than our own last write.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    core::{ApiResource, DynamicResourceScope},
    runtime::{WatchStreamExt, watcher},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use super::{Cluster, error::report, selector::Selector, wire};
use crate::api::objects::{Kind, Object, ObjectExt, Ref};

/// Until an object that only our own write has shown is looked up, because its watch should long have shown it too.
const VERIFY: Duration = Duration::from_secs(30);
/// A watch that has been quiet for this long after an error works again: it tries at least every 30 s, and a call that hangs fails in that time.
const HEALTHY: Duration = Duration::from_secs(75);

/// What a watch covers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Label selector.
    pub labels: Option<String>,
    /// Field selector.
    pub fields: Option<String>,
}

/// A cache of one kind. Cheap to clone; the watch ends with the last clone.
#[derive(Clone)]
pub struct Watched {
    handle: Arc<Handle>,
}

struct Handle {
    state: Arc<State>,
    task: AbortHandle,
}

type Key = (String, String);

struct State {
    kind: Kind,
    scope: Scope,
    cache: Mutex<Cache>,
    revision: watch::Sender<u64>,
    /// The first list is complete.
    ready: watch::Sender<bool>,
    /// The last error, until something works again.
    health: watch::Sender<Option<String>>,
    /// Something has become unconfirmed.
    put: Notify,
}

#[derive(Default)]
struct Cache {
    objects: BTreeMap<Key, Object>,
    /// The list that is being read, until it is complete.
    list: Option<BTreeMap<Key, Object>>,
    /// Objects that only [`Watched::put`] has shown: the watch must confirm them.
    unconfirmed: BTreeMap<Key, u64>,
    /// The newest resourceVersion that the watch has shown.
    newest: u64,
}

/// An object exactly as it came, and just enough of it for kube-runtime. Reading it never fails, so one odd object stops no watch.
#[derive(Debug, Clone)]
struct Raw {
    meta: ObjectMeta,
    value: Value,
}

// === impl Watched ===

impl Watched {
    pub(super) fn start(cluster: &Cluster, kind: Kind, scope: Scope) -> Self {
        let state = Arc::new(State::new(kind, scope));
        let task = tokio::spawn(follow(cluster.clone(), Arc::clone(&state))).abort_handle();
        Self {
            handle: Arc::new(Handle { state, task }),
        }
    }

    /// One object; an empty namespace for a cluster-wide one.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Object> {
        let key = (namespace.to_owned(), name.to_owned());
        self.state().lock().objects.get(&key).cloned()
    }

    /// All objects, by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Object> {
        self.state().lock().objects.values().cloned().collect()
    }

    /// Waits until the first list is complete. For as long as the kind cannot be listed this waits: see [`Watched::settled`].
    pub async fn ready(&self) {
        let mut ready = self.state().ready.subscribe();
        // The sender lives as long as `self`.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Waits until the first list is complete (`Ok`) or has failed once, with the reason. The watch tries again in any case.
    ///
    /// # Errors
    /// Why the kind cannot be listed, in a person's words.
    pub async fn settled(&self) -> Result<(), String> {
        let mut ready = self.state().ready.subscribe();
        let mut health = self.state().health.subscribe();
        tokio::select! {
            biased;
            _ = ready.wait_for(|ready| *ready) => Ok(()),
            failed = health.wait_for(Option::is_some) => match failed.as_deref() {
                Ok(Some(reason)) => Err(reason.clone()),
                Ok(None) | Err(_) => Ok(()),
            }
        }
    }

    /// A number that grows with each change of the cache; the receiver begins as seen.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.state().revision.subscribe()
    }

    /// Takes the answer of our own write into the cache at once, so that nothing is decided on a state from before it. What the cache
    /// knows better already is kept, and so is an object outside the scope.
    pub fn put(&self, object: Object) {
        self.state().put(object);
    }

    /// The last error of the watch; `None` while it works.
    #[must_use]
    pub fn health(&self) -> Option<String> {
        self.state().health.borrow().clone()
    }

    fn state(&self) -> &State {
        &self.handle.state
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl State ===

impl State {
    fn new(kind: Kind, scope: Scope) -> Self {
        Self {
            kind,
            scope,
            cache: Mutex::default(),
            revision: watch::channel(0).0,
            ready: watch::channel(false).0,
            health: watch::channel(None).0,
            put: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn put(&self, object: Object) {
        let version = number(&object);
        let key = key_of(&object);
        let mut cache = self.lock();
        let stale = match cache.objects.get(&key) {
            Some(known) => number(known) >= version,
            // The watch shows changes in order, so what it is past and does not show is deleted again.
            None => version <= cache.newest || !self.covers(&object),
        };
        if stale {
            return;
        }
        cache.objects.insert(key.clone(), object);
        cache.unconfirmed.insert(key, version);
        drop(cache);
        self.put.notify_one();
        self.changed();
    }

    fn covers(&self, object: &Value) -> bool {
        let Scope {
            namespace,
            labels,
            fields,
        } = &self.scope;
        let in_namespace = namespace
            .as_deref()
            .is_none_or(|namespace| namespace == object.namespace());
        let by_labels = labels.as_deref().is_none_or(|labels| {
            labels
                .parse()
                .is_ok_and(|selector: Selector| selector.matches_object(object))
        });
        // Of the field selectors only the name can be told here; for any other the watch tells.
        let by_fields = fields.as_deref().is_none_or(|fields| {
            fields
                .strip_prefix("metadata.name=")
                .is_some_and(|name| name == object.name())
        });
        in_namespace && by_labels && by_fields
    }

    fn take(&self, event: watcher::Event<Raw>) {
        let mut cache = self.lock();
        let changed = match event {
            watcher::Event::Init => {
                cache.list = Some(BTreeMap::new());
                false
            }
            watcher::Event::InitApply(raw) => {
                let object = self.object(raw);
                if let Some(list) = &mut cache.list {
                    list.insert(key_of(&object), object);
                }
                false
            }
            watcher::Event::InitDone => cache.listed(),
            watcher::Event::Apply(raw) => cache.applied(self.object(raw)),
            watcher::Event::Delete(raw) => cache.deleted(&raw.value),
        };
        let complete = cache.list.is_none();
        drop(cache);
        if changed {
            self.changed();
        }
        if complete {
            self.ready
                .send_if_modified(|ready| !std::mem::replace(ready, true));
            self.well();
        }
    }

    fn failing(&self) -> bool {
        self.health.borrow().is_some() && *self.ready.borrow()
    }

    fn well(&self) {
        self.health
            .send_if_modified(|health| health.take().is_some());
    }

    fn object(&self, raw: Raw) -> Object {
        Arc::new(wire::typed(raw.value, &self.kind))
    }

    fn failed(&self, reason: String) {
        self.health.send_if_modified(|health| {
            let new = health.as_ref() != Some(&reason);
            *health = Some(reason);
            new
        });
    }
}

// === impl Cache ===

impl Cache {
    /// The list is complete: it is the truth, except for what we wrote while it was read.
    fn listed(&mut self) -> bool {
        let Some(list) = self.list.take() else {
            return false;
        };
        let newest = list.values().map(|object| number(object)).max();
        self.newest = self.newest.max(newest.unwrap_or(0));
        let old = std::mem::replace(&mut self.objects, list);
        for (key, version) in std::mem::take(&mut self.unconfirmed) {
            let listed = self.objects.get(&key).map(|object| number(object));
            if listed.is_some_and(|listed| listed >= version) {
                continue;
            }
            if let Some(own) = old.get(&key) {
                self.objects.insert(key.clone(), Arc::clone(own));
                self.unconfirmed.insert(key, version);
            }
        }
        self.objects != old
    }

    fn applied(&mut self, object: Object) -> bool {
        let version = number(&object);
        let key = key_of(&object);
        self.newest = self.newest.max(version);
        if self
            .unconfirmed
            .get(&key)
            .is_some_and(|own| *own <= version)
        {
            self.unconfirmed.remove(&key);
        }
        match self.objects.entry(key) {
            // Older than our own last write, or that write itself.
            Entry::Occupied(known) if version != 0 && number(known.get()) >= version => false,
            Entry::Occupied(mut known) => {
                known.insert(object);
                true
            }
            Entry::Vacant(place) => {
                place.insert(object);
                true
            }
        }
    }

    fn deleted(&mut self, object: &Value) -> bool {
        let version = number(object);
        let key = key_of(object);
        self.newest = self.newest.max(version);
        // Made again since, by us.
        if version != 0
            && self
                .objects
                .get(&key)
                .is_some_and(|known| number(known) > version)
        {
            return false;
        }
        self.unconfirmed.remove(&key);
        self.objects.remove(&key).is_some()
    }
}

// === the task ===

async fn follow(cluster: Cluster, state: Arc<State>) {
    let mut events = pin!(events(&cluster, &state));
    // When to look up what only our own writes have shown. A busy watch must not put it off.
    let mut verify_at: Option<Instant> = None;
    loop {
        let unconfirmed = !state.lock().unconfirmed.is_empty();
        verify_at = verify_at
            .filter(|_| unconfirmed)
            .or_else(|| unconfirmed.then(|| Instant::now() + VERIFY));
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => state.take(event),
                Some(Err(error)) => {
                    let reason = report(&error);
                    tracing::debug!(cluster.name = %cluster.name(), kind = state.kind.kind, reason, "a watch has failed and goes on");
                    state.failed(format!("cannot watch {} in cluster {}: {reason}", state.kind.plural, cluster.name()));
                }
                None => return,
            },
            () = state.put.notified(), if !unconfirmed => {}
            () = reached(verify_at), if unconfirmed => {
                verify(&cluster, &state).await;
                verify_at = None;
            }
            () = tokio::time::sleep(HEALTHY), if state.failing() => state.well(),
        }
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn events(
    cluster: &Cluster,
    state: &State,
) -> impl Stream<Item = watcher::Result<watcher::Event<Raw>>> + use<> {
    let resource = ApiResource {
        group: state.kind.group.to_owned(),
        version: state.kind.version.to_owned(),
        api_version: state.kind.api_version(),
        kind: state.kind.kind.to_owned(),
        plural: state.kind.plural.to_owned(),
    };
    let client = cluster.shared.spec.client.clone();
    let api: Api<Raw> = match &state.scope.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let config = watcher::Config {
        label_selector: state.scope.labels.clone(),
        field_selector: state.scope.fields.clone(),
        ..watcher::Config::default()
    };
    watcher(api, config).default_backoff()
}

/// Looks up what only our own writes have shown: it may have been deleted in a gap of the watch.
async fn verify(cluster: &Cluster, state: &State) {
    let unconfirmed = state.lock().unconfirmed.clone();
    for (key, version) in unconfirmed {
        let of = Ref {
            kind: state.kind,
            namespace: key.0.clone(),
            name: key.1.clone(),
        };
        let Ok(found) = cluster.get(&of).await else {
            continue;
        };
        let mut cache = state.lock();
        if cache.unconfirmed.get(&key) != Some(&version) {
            continue;
        }
        cache.unconfirmed.remove(&key);
        let changed = match found {
            Some(found) if number(&found) > version => cache.objects.insert(key, found).is_some(),
            Some(_) => false,
            None => cache.objects.remove(&key).is_some(),
        };
        drop(cache);
        if changed {
            state.changed();
        }
    }
}

fn key_of(object: &Value) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// The resourceVersion as a number, which Kubernetes 1.35 guarantees and every API server before it had; 0 when it is none.
fn number(object: &Value) -> u64 {
    object.resource_version().parse().unwrap_or(0)
}

// === impl Raw ===

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = |pointer| value.str_at(pointer).map(str::to_owned);
        let meta = ObjectMeta {
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            resource_version: text("/metadata/resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, value })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.kind.as_str().into()
    }
    fn group(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.group.as_str().into()
    }
    fn version(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.version.as_str().into()
    }
    fn api_version(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.api_version.as_str().into()
    }
    fn plural(of: &ApiResource) -> std::borrow::Cow<'_, str> {
        of.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
