//! What is watched of a led cluster.
//!
//! Canaries everywhere and in full. Of what they name only the metadata, and only in the namespaces where they name it: see [`index`].
//! What an object says is read when it is needed, and kept while a rollout is worked on: see [`near`]. Pods and `ReplicaSets` are watched
//! for the run in hand alone: see [`close`].

mod close;
mod index;
mod installs;
mod near;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore, mpsc};

use self::index::Index;
pub(super) use self::{
    close::{CloseUp, labels},
    near::{Near, VERIFY},
};
use crate::{
    api::{
        names,
        objects::{
            CANARY, CONTROLLER_REVISION, DEPLOYMENT, DESTINATION_RULE, GatewayApi, HTTP_ROUTE,
            Kind, METRIC_TEMPLATE, Object, ObjectExt, Ref, SCALED_OBJECT, SERVICE, VIRTUAL_SERVICE,
        },
    },
    cluster::{
        Cluster, Error,
        form::{Mark, Packed},
        watch::{Scope, Watch},
    },
    engine::objects,
};

/// What a Canary can name. All that we write is among it, or the Canary itself.
const NAMED: [Kind; 8] = [
    DEPLOYMENT,
    SERVICE,
    CONTROLLER_REVISION,
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    HTTP_ROUTE,
    SCALED_OBJECT,
    METRIC_TEMPLATE,
];
/// Canaries whose objects may be read in full at once, a dozen requests each, so that whoever takes over a cluster of a thousand is no
/// burden to its API server.
const LOOKS: usize = 8;

/// The watches of a led cluster. Cheap to clone; they end with the last clone.
#[derive(Clone)]
pub(super) struct World {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Cluster,
    /// Of the whole cluster, or one for each namespace that is led.
    canaries: Vec<(Option<String>, Watch<Packed>)>,
    index: Arc<Index>,
    /// Of each kind that is named in a namespace: by how many Canaries, and the watch if the kind is served.
    marks: Mutex<Marks>,
    looks: Semaphore,
    /// The Gateway API that the cluster has, read when its kinds are found to be served.
    gateway_api: Mutex<Option<GatewayApi>>,
}

#[derive(Default)]
struct Marks {
    served: Vec<Kind>,
    places: BTreeMap<Place, Named>,
}

/// A kind and a namespace.
type Place = (Kind, String);

struct Named {
    by: usize,
    watch: Option<Watch<Mark>>,
}

/// One Canary of the world: whom a change of its objects wakes. Its objects are watched for as long as this lives.
pub(super) struct Enrolled {
    world: World,
    wake: Arc<Notify>,
    uid: String,
    key: (String, String),
    refs: Mutex<Vec<Ref>>,
}

/// Namespace and name of the Canaries that have come, gone or changed.
pub(super) type Changes = mpsc::UnboundedReceiver<(String, String)>;

impl World {
    /// Opens the watches of the Canaries, of all namespaces or of those that are led, and waits for their first lists.
    pub(super) async fn open(
        cluster: &Cluster,
        namespaces: &[Option<&str>],
        installed: &[(String, Vec<String>)],
    ) -> (Self, Changes) {
        let index = Arc::new(Index::default());
        let (sender, changes) = mpsc::unbounded_channel();
        let watch = |namespace: Option<&str>| {
            let (told, sender) = (index.clone(), sender.clone());
            let listener = move |namespace: &str, name: &str, _: &Packed| {
                told.canary(namespace, name);
                // Nobody listens any more: then nobody drives either.
                let _ = sender.send((namespace.to_owned(), name.to_owned()));
            };
            let scope = Scope {
                namespace: namespace.map(str::to_owned),
                ..Scope::default()
            };
            let watch = cluster.watch_as(&CANARY, scope, Box::new(listener));
            (namespace.map(str::to_owned), watch)
        };
        let canaries: Vec<_> = namespaces.iter().map(|one| watch(*one)).collect();
        for (_, watch) in &canaries {
            settle(watch).await;
        }
        let marks = Marks {
            served: served(installed),
            places: BTreeMap::new(),
        };
        let shared = Shared {
            cluster: cluster.clone(),
            canaries,
            index,
            marks: Mutex::new(marks),
            looks: Semaphore::new(LOOKS),
            gateway_api: Mutex::default(),
        };
        let world = Self {
            shared: Arc::new(shared),
        };
        world.look_at_gateway_api().await;
        (world, changes)
    }

    /// Reads which Gateway API the cluster has. An upgrade is seen by the next leader.
    async fn look_at_gateway_api(&self) {
        if !self.missing().contains(&HTTP_ROUTE) && self.gateway_api().is_none() {
            *lock(&self.shared.gateway_api) = objects::gateway_api(self.cluster()).await;
        }
    }

    fn gateway_api(&self) -> Option<GatewayApi> {
        lock(&self.shared.gateway_api).clone()
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.shared.cluster
    }

    /// One Canary, as it is kept.
    pub(super) fn canary(&self, namespace: &str, name: &str) -> Option<Packed> {
        self.canaries_of(namespace)?.get(namespace, name)
    }

    fn canaries_of(&self, namespace: &str) -> Option<&Watch<Packed>> {
        let mut all = self.shared.canaries.iter();
        let found = all.find(|(of, _)| of.as_deref().is_none_or(|of| of == namespace))?;
        Some(&found.1)
    }

    /// Namespace and name of every Canary.
    pub(super) fn canaries(&self) -> Vec<(String, String)> {
        let all = self.shared.canaries.iter();
        all.flat_map(|(_, watch)| watch.keys(|_| true)).collect()
    }

    /// Takes the answer of our own write of a Canary into the cache at once.
    pub(super) fn put(&self, canary: &Object) {
        if let Some(watch) = self.canaries_of(canary.namespace()) {
            watch.put(canary);
        }
    }

    /// Whoever drives this Canary is woken from now on.
    pub(super) fn enroll(&self, namespace: &str, name: &str, uid: &str) -> Enrolled {
        let wake = Arc::new(Notify::new());
        let key = (namespace.to_owned(), name.to_owned());
        self.shared.index.enroll(&key, uid, &wake);
        // Our pins are found by their owner, so they are watched before one is named.
        self.watch(&(CONTROLLER_REVISION, key.0.clone()));
        Enrolled {
            world: self.clone(),
            wake,
            uid: uid.to_owned(),
            key,
            refs: Mutex::default(),
        }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        lock(&self.shared.marks)
    }

    /// One more names this kind in this namespace.
    fn watch(&self, place: &Place) {
        let mut marks = self.marks();
        let served = marks.served.contains(&place.0);
        let named = marks
            .places
            .entry(place.clone())
            .or_insert(Named { by: 0, watch: None });
        named.by += 1;
        if served && named.watch.is_none() {
            named.watch = Some(self.start(place));
        }
    }

    /// One less does; nobody is left for whom to watch it.
    fn unwatch(&self, place: &Place) {
        let mut marks = self.marks();
        let Some(named) = marks.places.get_mut(place) else {
            return;
        };
        named.by -= 1;
        if named.by == 0 {
            marks.places.remove(place);
        }
    }

    fn start(&self, (kind, namespace): &Place) -> Watch<Mark> {
        let (index, of) = (self.shared.index.clone(), *kind);
        let listener = move |namespace: &str, name: &str, mark: &Mark| {
            if of == CONTROLLER_REVISION {
                index.owner(mark.owner.as_deref());
            } else {
                index.named(&of, namespace, name);
            }
        };
        // Of ControllerRevisions only our pins, not every DaemonSet's history.
        let (label, value) = names::MANAGED_BY;
        let scope = Scope {
            namespace: Some(namespace.clone()),
            labels: (of == CONTROLLER_REVISION).then(|| format!("{label}={value}")),
            fields: None,
        };
        let cluster = &self.shared.cluster;
        cluster.watch_as(kind, scope, Box::new(listener))
    }

    fn watch_of(&self, kind: &Kind, namespace: &str) -> Option<Watch<Mark>> {
        let place = (*kind, namespace.to_owned());
        self.marks().places.get(&place)?.watch.clone()
    }

    fn missing(&self) -> Vec<Kind> {
        let marks = self.marks();
        let missing = NAMED.iter().filter(|kind| !marks.served.contains(kind));
        missing.copied().collect()
    }

    /// Watches what is served now and was not, wherever it is named.
    fn now_served(&self, installed: &[(String, Vec<String>)]) {
        let mut marks = self.marks();
        marks.served = served(installed);
        let Marks { served, places } = &mut *marks;
        for (place, named) in places {
            if served.contains(&place.0) && named.watch.is_none() {
                named.watch = Some(self.start(place));
            }
        }
    }
}

impl Enrolled {
    /// Returns when something of this Canary has changed since this was last awaited.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// What wakes: for watches of this Canary's own.
    pub(super) fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// The world that it is part of.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// These are the Canary's objects now. Returns once their watches have shown what there is. What cannot be watched is an error, since
    /// a change of it would not be noticed; but not with a run in hand, which must be able to go back.
    async fn names(&self, refs: &[Ref], in_hand: bool) -> Result<(), Error> {
        let old = std::mem::replace(&mut *lock(&self.refs), refs.to_vec());
        for of in refs.iter().filter(|of| !old.contains(of)) {
            self.world.shared.index.add(of, &self.wake);
            self.world.watch(&place(of));
        }
        for of in old.iter().filter(|of| !refs.contains(of)) {
            self.drop_ref(of);
        }
        let own = (CONTROLLER_REVISION, self.key.0.clone());
        for (kind, namespace) in refs.iter().map(place).chain([own]) {
            let Some(watch) = self.world.watch_of(&kind, &namespace) else {
                continue;
            };
            if let Err(why) = watch.settled().await
                && !in_hand
            {
                return Err(self.world.cluster().unwatched(&kind, &namespace, why));
            }
        }
        Ok(())
    }

    /// Names of our pins that this Canary owns.
    fn pins(&self) -> Vec<String> {
        let watch = self.world.watch_of(&CONTROLLER_REVISION, &self.key.0);
        let ours = |mark: &Mark| mark.owner.as_deref() == Some(&self.uid);
        let keys = watch.map(|watch| watch.keys(ours)).unwrap_or_default();
        keys.into_iter().map(|(_, name)| name).collect()
    }

    fn drop_ref(&self, of: &Ref) {
        self.world.shared.index.remove(of, &self.wake);
        self.world.unwatch(&place(of));
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        for of in std::mem::take(&mut *lock(&self.refs)) {
            self.drop_ref(&of);
        }
        self.world
            .unwatch(&(CONTROLLER_REVISION, self.key.0.clone()));
        self.world
            .shared
            .index
            .leave(&self.key, &self.uid, &self.wake);
    }
}

fn place(of: &Ref) -> Place {
    (of.kind, of.namespace.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the first list. What cannot be listed is waited for as well, since nothing can be decided without it; the watch says what is
/// missing.
async fn settle<T: crate::cluster::form::Form>(watch: &Watch<T>) {
    if let Err(why) = watch.settled().await {
        tracing::warn!("nothing that needs this is driven until it works: {why}");
        watch.ready().await;
    }
}

/// The kinds of [`NAMED`] that the cluster serves.
fn served(installed: &[(String, Vec<String>)]) -> Vec<Kind> {
    let has = |kind: &Kind| {
        matches!(kind.group, "" | "apps")
            || installed.iter().any(|(group, versions)| {
                group == kind.group && versions.iter().any(|v| v == kind.version)
            })
    };
    NAMED.into_iter().filter(has).collect()
}
