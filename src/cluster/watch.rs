//! [`Watch`]: a cache of one kind that follows the cluster and is never older than our own last write.

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
    cache::{Cache, News, key_of, number},
    form::Form,
    raw::Raw,
    selector::Selector,
    unwatched, wire,
};
use crate::api::objects::{Kind, Object, ObjectExt, Ref};

/// Until an object that only our own write has shown is looked up, because its watch should long have shown it too.
const VERIFY: Duration = Duration::from_secs(30);
/// A watch that has been quiet for this long after an error works again: it tries at least every 30 s, and a call that hangs fails in that time.
const HEALTHY: Duration = Duration::from_secs(75);
/// A list that has shown nothing for this long is begun anew: kube waits for minutes, and the API server may long answer again.
const SILENT: Duration = Duration::from_secs(30);

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

/// A cache of one kind, of objects in the form `T`. Cheap to clone; the watch ends with the last clone.
pub struct Watch<T: Form> {
    handle: Arc<Handle<T>>,
}

/// A cache of whole objects.
pub type Watched = Watch<Object>;

/// Is told the key of each object that has changed, as it is now or as it was when it is gone, when the cache shows it. It must not block.
pub type Listener<T> = Box<dyn Fn(&str, &str, &T) + Send + Sync>;

struct Handle<T: Form> {
    state: Arc<State<T>>,
    task: AbortHandle,
}

struct State<T> {
    kind: Kind,
    scope: Scope,
    listener: Option<Listener<T>>,
    cache: Mutex<Cache<T>>,
    revision: watch::Sender<u64>,
    /// The first list is complete.
    ready: watch::Sender<bool>,
    /// The last error, until something works again.
    health: watch::Sender<Option<String>>,
    /// Something has become unconfirmed.
    put: Notify,
}

// === impl Watch ===

impl<T: Form> Clone for Watch<T> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<T: Form> Watch<T> {
    pub(super) fn start(
        cluster: &Cluster,
        kind: Kind,
        scope: Scope,
        listener: Option<Listener<T>>,
    ) -> Self {
        let state = Arc::new(State::new(kind, scope, listener));
        let task = tokio::spawn(follow(cluster.clone(), Arc::clone(&state))).abort_handle();
        Self {
            handle: Arc::new(Handle { state, task }),
        }
    }

    /// One object; an empty namespace for a cluster-wide one.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<T> {
        let key = (namespace.to_owned(), name.to_owned());
        self.state().lock().objects.get(&key).cloned()
    }

    /// All objects, by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<T> {
        self.state().lock().objects.values().cloned().collect()
    }

    /// Namespace and name of every object of which this is so.
    #[must_use]
    pub fn keys(&self, wanted: impl Fn(&T) -> bool) -> Vec<(String, String)> {
        let cache = self.state().lock();
        let wanted = cache.objects.iter().filter(|(_, object)| wanted(object));
        wanted.map(|(key, _)| key.clone()).collect()
    }

    /// The newest resourceVersion that the watch has shown, as a number. What is not there and is older is deleted; what is newer the
    /// watch has not come to yet.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.state().lock().newest
    }

    /// Waits until the first list is complete. For as long as the kind cannot be listed this waits: see [`Watch::settled`].
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
    pub fn put(&self, object: &Object) {
        self.state().put(object);
    }

    /// The last error of the watch; `None` while it works.
    #[must_use]
    pub fn health(&self) -> Option<String> {
        self.state().health.borrow().clone()
    }

    fn state(&self) -> &State<T> {
        &self.handle.state
    }
}

impl<T: Form> Drop for Handle<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl State ===

impl<T: Form> State<T> {
    fn new(kind: Kind, scope: Scope, listener: Option<Listener<T>>) -> Self {
        Self {
            kind,
            scope,
            listener,
            cache: Mutex::default(),
            revision: watch::channel(0).0,
            ready: watch::channel(false).0,
            health: watch::channel(None).0,
            put: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache<T>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: impl IntoIterator<Item = News<T>>) {
        let mut changed = false;
        for ((namespace, name), object) in news {
            changed = true;
            if let Some(listener) = &self.listener {
                listener(&namespace, &name, &object);
            }
        }
        if changed {
            self.revision.send_modify(|revision| *revision += 1);
        }
    }

    fn put(&self, object: &Object) {
        let version = number(object);
        let key = key_of(object);
        let mut cache = self.lock();
        let stale = match cache.objects.get(&key) {
            Some(known) => known.version() >= version,
            // The watch shows changes in order, so what it is past and does not show is deleted again.
            None => version <= cache.newest || !self.covers(object),
        };
        if stale {
            return;
        }
        let kept = T::of(object.as_ref().clone());
        cache.objects.insert(key.clone(), kept.clone());
        cache.unconfirmed.insert(key.clone(), version);
        drop(cache);
        self.put.notify_one();
        self.tell([(key, kept)]);
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

    fn take<const METADATA_ONLY: bool>(&self, event: watcher::Event<Raw<METADATA_ONLY>>) {
        let kept = |raw: Raw<METADATA_ONLY>| {
            let key = key_of(&raw.value);
            (key, T::of(wire::typed(raw.value, &self.kind)))
        };
        let mut cache = self.lock();
        let news = match event {
            watcher::Event::Init => {
                cache.list = Some(BTreeMap::new());
                Vec::new()
            }
            watcher::Event::InitApply(raw) => {
                if let Some(list) = &mut cache.list {
                    list.extend([kept(raw)]);
                }
                Vec::new()
            }
            watcher::Event::InitDone => cache.listed(),
            watcher::Event::Apply(raw) => {
                let (key, object) = kept(raw);
                Vec::from_iter(cache.applied(key, object))
            }
            watcher::Event::Delete(raw) => {
                Vec::from_iter(cache.deleted(key_of(&raw.value), number(&raw.value)))
            }
        };
        let complete = cache.list.is_none();
        drop(cache);
        self.tell(news);
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

    fn failed(&self, cluster: &str, error: &watcher::Error) {
        let reason = unwatched::reason(cluster, &self.kind, &self.scope, error);
        let begins = self.health.borrow().is_none();
        if begins && unwatched::refused(error).is_some() {
            tracing::warn!(
                cluster.name = cluster,
                kind = self.kind.kind,
                "{reason}; what changes is not seen until this works"
            );
        } else {
            // An API server that does not answer is seen by its Lease, once and not by each of its watches.
            tracing::debug!(
                cluster.name = cluster,
                kind = self.kind.kind,
                reason,
                "a watch has failed and goes on"
            );
        }
        self.unwell(reason);
    }

    fn unwell(&self, reason: String) {
        self.health.send_if_modified(|health| {
            let new = health.as_ref() != Some(&reason);
            *health = Some(reason);
            new
        });
    }

    /// A list is on its way.
    fn listing(&self) -> bool {
        !*self.ready.borrow() || self.lock().list.is_some()
    }
}

// === the task ===

async fn follow<T: Form>(cluster: Cluster, state: Arc<State<T>>) {
    if T::METADATA_ONLY {
        follow_as::<T, true>(&cluster, &state).await;
    } else {
        follow_as::<T, false>(&cluster, &state).await;
    }
}

async fn follow_as<T: Form, const METADATA_ONLY: bool>(cluster: &Cluster, state: &State<T>) {
    let mut stream = pin!(events::<T, METADATA_ONLY>(cluster, state));
    // When to look up what only our own writes have shown. A busy watch must not put it off.
    let mut verify_at: Option<Instant> = None;
    let mut silent_at = Instant::now() + SILENT;
    loop {
        let unconfirmed = !state.lock().unconfirmed.is_empty();
        verify_at = verify_at
            .filter(|_| unconfirmed)
            .or_else(|| unconfirmed.then(|| Instant::now() + VERIFY));
        tokio::select! {
            event = stream.next() => {
                silent_at = Instant::now() + SILENT;
                match event {
                    Some(Ok(event)) => state.take(event),
                    Some(Err(error)) => state.failed(cluster.name(), &error),
                    None => return,
                }
            }
            () = tokio::time::sleep_until(silent_at), if state.listing() => {
                state.unwell(format!("cannot list {} of cluster {}: no answer within {SILENT:?}", state.kind.plural, cluster.name()));
                stream.set(events::<T, METADATA_ONLY>(cluster, state));
                silent_at = Instant::now() + SILENT;
            }
            () = state.put.notified(), if !unconfirmed => {}
            () = reached(verify_at), if unconfirmed => {
                Box::pin(verify(cluster, state)).await;
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

fn events<T: Form, const METADATA_ONLY: bool>(
    cluster: &Cluster,
    state: &State<T>,
) -> impl Stream<Item = watcher::Result<watcher::Event<Raw<METADATA_ONLY>>>> + use<T, METADATA_ONLY>
{
    let resource = ApiResource {
        group: state.kind.group.to_owned(),
        version: state.kind.version.to_owned(),
        api_version: state.kind.api_version(),
        kind: state.kind.kind.to_owned(),
        plural: state.kind.plural.to_owned(),
    };
    let client = cluster.shared.spec.client.clone();
    let api = match &state.scope.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let config = watcher::Config {
        label_selector: state.scope.labels.clone(),
        field_selector: state.scope.fields.clone(),
        page_size: Some(T::PAGE),
        ..watcher::Config::default()
    };
    watcher(api, config).default_backoff()
}

/// Looks up what only our own writes have shown: it may have been deleted in a gap of the watch.
async fn verify<T: Form>(cluster: &Cluster, state: &State<T>) {
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
        let news = match found {
            Some(found) if number(&found) > version => {
                let found = T::of(found.as_ref().clone());
                cache.objects.insert(key.clone(), found.clone());
                Some((key, found))
            }
            Some(_) => None,
            None => cache.objects.remove(&key).map(|gone| (key, gone)),
        };
        drop(cache);
        state.tell(news);
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

    fn raw(name: &str, version: &str) -> Raw<false> {
        serde_json::from_value(object(name, version)).unwrap()
    }

    fn shown(state: &State<Object>) -> Vec<(String, String)> {
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
        let state = State::new(SERVICE, Scope::default(), None);
        for event in [Init, InitApply(raw("x", "9")), InitDone] {
            state.take(event);
        }
        // Versions are numbers: "10" is newer than "9".
        state.put(&Arc::new(object("x", "12")));
        state.take(Apply(raw("x", "10")));
        assert_eq!(shown(&state), pairs(&[("x", "12")]));
        state.take(Delete(raw("x", "11")));
        assert_eq!(shown(&state), pairs(&[("x", "12")]));
        state.take(Apply(raw("x", "13")));
        assert_eq!(shown(&state), pairs(&[("x", "13")]));
        state.take(Delete(raw("x", "14")));
        // The answer of an earlier write that comes in late brings nothing back.
        state.put(&Arc::new(object("x", "12")));
        assert_eq!(shown(&state), pairs(&[]));
    }

    #[test]
    fn a_new_list_drops_what_is_gone_and_keeps_what_we_wrote_meanwhile() {
        use watcher::Event::{Init, InitApply, InitDone};
        let state = State::new(SERVICE, Scope::default(), None);
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
        state.put(&Arc::new(object("z", "5")));
        state.put(&Arc::new(object("y", "6")));
        state.take::<false>(InitDone);
        assert_eq!(shown(&state), pairs(&[("y", "6"), ("z", "5")]));
        assert!(*state.revision.borrow() > revision);
    }
}
