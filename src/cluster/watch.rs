//! [`Watched`]: a cache of one kind that follows the cluster and is never older than our own last write.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::{
    Api,
    core::ApiResource,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::Instant,
};

use super::{
    Cluster,
    cache::{Cache, key_of, number},
    error::report,
    raw::Raw,
    selector::Selector,
    wire,
};
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::objects::SERVICE;

    fn object(name: &str, version: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "a", "resourceVersion": version}})
    }

    fn raw(name: &str, version: &str) -> Raw {
        serde_json::from_value(object(name, version)).unwrap()
    }

    fn shown(state: &State) -> Vec<(String, String)> {
        let cache = state.lock();
        let objects = cache.objects.values();
        objects
            .map(|one| (one.name().to_owned(), one.resource_version().to_owned()))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = pairs
            .iter()
            .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
        owned.collect()
    }

    #[test]
    fn our_own_write_is_never_overwritten_by_what_was_before_it() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let state = State::new(SERVICE, Scope::default());
        for event in [Init, InitApply(raw("x", "9")), InitDone] {
            state.take(event);
        }
        // Versions are numbers: "10" is newer than "9".
        state.put(Arc::new(object("x", "12")));
        state.take(Apply(raw("x", "10")));
        assert_eq!(shown(&state), pairs(&[("x", "12")]));
        state.take(Delete(raw("x", "11")));
        assert_eq!(shown(&state), pairs(&[("x", "12")]));
        state.take(Apply(raw("x", "13")));
        assert_eq!(shown(&state), pairs(&[("x", "13")]));
        state.take(Delete(raw("x", "14")));
        // The answer of an earlier write that comes in late brings nothing back.
        state.put(Arc::new(object("x", "12")));
        assert_eq!(shown(&state), pairs(&[]));
    }

    #[test]
    fn a_new_list_drops_what_is_gone_and_keeps_what_we_wrote_meanwhile() {
        use watcher::Event::{Init, InitApply, InitDone};
        let state = State::new(SERVICE, Scope::default());
        for event in [
            Init,
            InitApply(raw("x", "1")),
            InitApply(raw("y", "2")),
            InitDone,
        ] {
            state.take(event);
        }
        let revision = *state.revision.borrow();
        for event in [Init, InitApply(raw("y", "2"))] {
            state.take(event);
        }
        assert_eq!(
            shown(&state),
            pairs(&[("x", "1"), ("y", "2")]),
            "whole until the new list is"
        );
        state.put(Arc::new(object("z", "5")));
        state.put(Arc::new(object("y", "6")));
        state.take(InitDone);
        assert_eq!(shown(&state), pairs(&[("y", "6"), ("z", "5")]));
        assert!(*state.revision.borrow() > revision);
    }
}
