//! The state of one embedded cluster and the rules of its writes. Synchronous: one mutex, never held across an await.
//!
//! Revisions are one counter for the whole cluster. A write, its entry in the log and the notice to the watchers happen
//! under one lock, so that no watcher can miss one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    crd, gc,
    kinds::{Served, storage_key},
    state::State,
    status::Status,
    write::{self, Writer},
};
use crate::{
    api::objects::{Kind, NAMESPACE, Object, ObjectExt},
    cluster::clock::{Clock, rfc3339},
    decide::facts::Moment,
};

/// How many changes are remembered for watchers that resume; one that is further behind has to list again. Some minutes of
/// a busy cluster, and at some ten kilobytes each a few tens of megabytes.
const HISTORY: usize = 2048;

/// One resource, all versions of it together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// API group, empty for the core group. Events of the core group are kept under `events.k8s.io`.
    pub group: String,
    /// Resource name in the URL.
    pub plural: String,
}

impl ResourceKey {
    /// The objects of `kind` are stored here.
    #[must_use]
    pub fn is(&self, kind: &Kind) -> bool {
        *self == storage_key(kind.group, kind.plural)
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It has another content.
    Modified,
    /// It is gone.
    Deleted,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub struct Change {
    /// The revision that the change made, also `metadata.resourceVersion` of `object`.
    pub revision: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// To which resource.
    pub resource: ResourceKey,
    /// The object after the change, in its storage form; of a deleted one the last state, with the deletion's revision.
    pub object: Object,
    /// The object before the change; none when it is new.
    pub previous: Option<Object>,
    /// Field manager of the writer that it came with; empty for a deletion and what follows from one.
    pub manager: Arc<str>,
    /// When, by the cluster's clock.
    pub at: Moment,
}

/// The objects of one cluster. Cheap to clone; all clones share the state.
///
/// The methods here are for what lives inside the cluster (controllers, kubelets); everybody else goes through
/// [`super::server::ApiServer`]. Both follow the same rules. Objects are given and taken in the version that the `Kind`
/// names; events are kept as `events.k8s.io/v1`.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    clock: Clock,
}

impl Store {
    /// An empty cluster: the namespaces that every cluster has, and nothing else.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::seeded(clock, Uuid::new_v4())
    }

    /// As [`Store::new`], with uids and made-up names that follow from the seed: the same requests leave the same objects.
    #[must_use]
    pub fn seeded(clock: Clock, seed: Uuid) -> Self {
        let state = State::new(HISTORY, seed);
        let store = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                revision: watch::Sender::new(0),
                clock,
            }),
        };
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({"metadata": {"name": name}});
            let created = store.create(&NAMESPACE, namespace, "kube-apiserver");
            debug_assert!(created.is_ok(), "a namespace of a new cluster");
        }
        store
    }

    /// The object, or `None` when there is no such object or kind. `ns` is ignored for cluster-wide kinds.
    #[must_use]
    pub fn get(&self, kind: &Kind, ns: &str, name: &str) -> Option<Object> {
        let state = self.lock();
        let served = state.catalog.of(kind)?;
        let object = state.object(&served.key(), scope(&served, ns), name)?;
        Some(in_version(object, &served))
    }

    /// All objects of a kind, in one namespace or in all, ordered by namespace and name.
    #[must_use]
    pub fn list(&self, kind: &Kind, ns: Option<&str>) -> Vec<Object> {
        let state = self.lock();
        let Some(served) = state.catalog.of(kind) else {
            return Vec::new();
        };
        let Some(table) = state.tables.get(&served.key()) else {
            return Vec::new();
        };
        table
            .iter()
            .filter(|((namespace, _), _)| ns.is_none_or(|ns| ns == namespace))
            .map(|(_, object)| in_version(object, &served))
            .collect()
    }

    /// Creates an object; its namespace is the one in its metadata. A status in it is dropped where the kind has a status
    /// subresource (write it with [`Self::modify_status`]).
    ///
    /// # Errors
    /// What the API server answers: 404 for an unknown kind or namespace, 409 when the name is taken, 422 when the object is
    /// wrong.
    pub fn create(&self, kind: &Kind, object: Value, manager: &str) -> Result<Object, Status> {
        let served = self.served(kind)?;
        let namespace = object.namespace().to_owned();
        self.create_as(&served, &namespace, object, &Writer::of(manager))
            .map(|object| in_version(&object, &served))
    }

    /// Changes an object as a PUT of the object itself would: status is left alone where the kind has a status subresource,
    /// generation and managed fields follow. A change to nothing writes nothing. `Ok(None)`: no such object. `f` runs under
    /// the store's lock and must not call the store.
    ///
    /// # Errors
    /// What the API server answers to a wrong object.
    pub fn modify(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        manager: &str,
        f: impl FnOnce(&mut Value),
    ) -> Result<Option<Object>, Status> {
        self.modify_as(kind, ns, name, &Writer::of(manager), f)
    }

    /// Changes an object as a PUT of its status subresource would: only `status` is taken. `Ok(None)`: no such object. `f`
    /// runs under the store's lock and must not call the store.
    ///
    /// # Errors
    /// What the API server answers to a wrong object; 404 when the kind has no status subresource.
    pub fn modify_status(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        manager: &str,
        f: impl FnOnce(&mut Value),
    ) -> Result<Option<Object>, Status> {
        self.modify_as(kind, ns, name, &Writer::of(manager).on("status"), f)
    }

    fn modify_as(
        &self,
        kind: &Kind,
        ns: &str,
        name: &str,
        writer: &Writer,
        f: impl FnOnce(&mut Value),
    ) -> Result<Option<Object>, Status> {
        let served = self.served(kind)?;
        if writer.subresource == Some("status") && !served.status {
            return Err(Status::unknown_resource());
        }
        if self.get(kind, ns, name).is_none() {
            return Ok(None);
        }
        let result = self.update_as(&served, ns, name, writer, |object| {
            let mut object = object.clone();
            f(&mut object);
            Ok(object)
        });
        match result {
            Ok(object) => Ok(Some(in_version(&object, &served))),
            // Deleted between the two locks.
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Deletes an object as DELETE does: with finalizers it is only marked, and so is a pod that is on a node; what it owns
    /// goes in the background. A pod that is marked already is removed for good: that is the kubelet's last word.
    ///
    /// # Errors
    /// 404 when there is no such object or kind.
    pub fn delete(&self, kind: &Kind, ns: &str, name: &str) -> Result<(), Status> {
        let marked = self
            .get(kind, ns, name)
            .is_some_and(|o| o.str_at("/metadata/deletionTimestamp").is_some());
        let options = gc::DeleteOptions {
            grace_seconds: marked.then_some(0),
            ..gc::DeleteOptions::default()
        };
        let served = self.served(kind)?;
        self.delete_as(&served, ns, name, &options).map(drop)
    }

    /// Deletes an object without the grace that a pod on a node has.
    ///
    /// # Errors
    /// 404 when there is no such object or kind.
    pub fn remove(&self, kind: &Kind, ns: &str, name: &str) -> Result<(), Status> {
        let options = gc::DeleteOptions {
            grace_seconds: Some(0),
            ..gc::DeleteOptions::default()
        };
        let served = self.served(kind)?;
        self.delete_as(&served, ns, name, &options).map(drop)
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Shows the latest revision, and wakes at each new one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// The changes after `revision`, oldest first; `None` when the log does not go back so far: list again.
    #[must_use]
    pub fn changes_since(&self, revision: u64) -> Option<Vec<Change>> {
        self.lock().changes_since(revision)
    }

    /// How many changes are remembered from now on; older ones are forgotten at once.
    pub fn keep_history(&self, changes: usize) {
        self.lock().keep_history(changes);
    }

    /// The cluster's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    // === For the server ===

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves whole objects behind: every write is built aside and put in at the end.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self, kind: &Kind) -> Result<Arc<Served>, Status> {
        self.lock()
            .catalog
            .of(kind)
            .ok_or_else(Status::unknown_resource)
    }

    /// Creates in the storage form and answers in it.
    pub(super) fn create_as(
        &self,
        served: &Served,
        ns: &str,
        object: Value,
        writer: &Writer,
    ) -> Result<Object, Status> {
        let now = self.shared.clock.now();
        self.create_in(&mut self.lock(), served, ns, object, writer, now)
    }

    fn create_in(
        &self,
        state: &mut State,
        served: &Served,
        ns: &str,
        object: Value,
        writer: &Writer,
        now: Moment,
    ) -> Result<Object, Status> {
        state.author = (Arc::from(writer.manager.as_str()), now);
        let object = write::create(state, served, ns, object, writer, &rfc3339(now))?;
        if writer.dry_run {
            return Ok(Arc::new(object));
        }
        let created = state.put(served, ChangeKind::Added, object);
        self.follow_up(state, served, &created);
        gc::after_create(state, served, &created, now);
        self.publish(state);
        Ok(created)
    }

    /// Changes the object to what `f` makes of the current one (in the served version), by the rules of the writer's
    /// subresource. Answers in the storage form.
    pub(super) fn update_as(
        &self,
        served: &Served,
        ns: &str,
        name: &str,
        writer: &Writer,
        f: impl FnOnce(&Value) -> Result<Value, Status>,
    ) -> Result<Object, Status> {
        let now = self.shared.clock.now();
        self.update_in(&mut self.lock(), served, ns, name, writer, now, f)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "those of update_as, and what a lock guards"
    )]
    fn update_in(
        &self,
        state: &mut State,
        served: &Served,
        ns: &str,
        name: &str,
        writer: &Writer,
        now: Moment,
        f: impl FnOnce(&Value) -> Result<Value, Status>,
    ) -> Result<Object, Status> {
        let ns = scope(served, ns);
        let old = state
            .object(&served.key(), ns, name)
            .cloned()
            .ok_or_else(|| Status::not_found(served, name))?;
        let wanted = f(&in_version(&old, served))?;
        let Some(object) = write::update(served, &old, wanted, writer, &rfc3339(now))? else {
            return Ok(old);
        };
        if writer.dry_run {
            return Ok(Arc::new(object));
        }
        state.author = (Arc::from(writer.manager.as_str()), now);
        let last_finalizer_gone = object.str_at("/metadata/deletionTimestamp").is_some()
            && object.array_at("/metadata/finalizers").is_empty()
            && !old.array_at("/metadata/finalizers").is_empty();
        // What goes with its last finalizer is not told as changed before. A namespace may still wait for its content.
        if last_finalizer_gone && !served.is("", "Namespace") {
            let last = Arc::new(object);
            gc::finish(state, served, &last, now);
            self.publish(state);
            return Ok(last);
        }
        let written = state.put(served, ChangeKind::Modified, object);
        self.follow_up(state, served, &written);
        if last_finalizer_gone {
            gc::finish(state, served, &written, now);
        }
        self.publish(state);
        Ok(written)
    }

    /// Changes the object to what `f` makes of it at this moment, or creates what `f` makes of nothing. Answers in the storage
    /// form, and whether the object is new.
    pub(super) fn apply_as(
        &self,
        served: &Served,
        ns: &str,
        name: &str,
        writer: &Writer,
        f: impl FnOnce(Option<&Value>, &str) -> Result<Value, Status>,
    ) -> Result<(bool, Object), Status> {
        let now = self.shared.clock.now();
        let moment = rfc3339(now);
        let mut state = self.lock();
        if state
            .object(&served.key(), scope(served, ns), name)
            .is_some()
        {
            let f = |current: &Value| f(Some(current), &moment);
            let object = self.update_in(&mut state, served, ns, name, writer, now, f)?;
            Ok((false, object))
        } else {
            let object = f(None, &moment)?;
            let object = self.create_in(&mut state, served, ns, object, writer, now)?;
            Ok((true, object))
        }
    }

    /// Deletes; the object as it was left when it is only marked, else its last state.
    pub(super) fn delete_as(
        &self,
        served: &Served,
        ns: &str,
        name: &str,
        options: &gc::DeleteOptions,
    ) -> Result<gc::Deleted, Status> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        state.author = (Arc::from(""), now);
        let deleted = gc::delete(&mut state, served, scope(served, ns), name, options, now)?;
        self.publish(&state);
        Ok(deleted)
    }

    /// What the control plane does at once after a write.
    fn follow_up(&self, state: &mut State, served: &Served, written: &Object) {
        if served.is("apiextensions.k8s.io", "CustomResourceDefinition") {
            crd::establish(state, served, written, &rfc3339(self.shared.clock.now()));
        }
    }

    fn publish(&self, state: &State) {
        let revision = state.revision;
        self.shared.revision.send_if_modified(|last| {
            let newer = *last != revision;
            *last = revision;
            newer
        });
    }
}

/// The namespace part of an object's place.
pub(super) fn scope<'a>(served: &Served, ns: &'a str) -> &'a str {
    if served.namespaced { ns } else { "" }
}

/// The object as `served` shows it: versions of a custom resource differ in `apiVersion` alone.
pub(super) fn in_version(object: &Object, served: &Served) -> Object {
    if served.is_event() || object.str_at("/apiVersion") == Some(&served.api_version()) {
        return Arc::clone(object);
    }
    let mut object = (**object).clone();
    object["apiVersion"] = json!(served.api_version());
    Arc::new(object)
}
