//! Requests: steady at a Service's host, following the routes as stored, answered by the pods that are ready.
//!
//! A route takes effect some time after its write, as in a mesh; endpoints count at once. Requests have moments of their
//! own: those that fell due before a change was noticed are served as things stood before it. The scrapes of the metrics
//! go by the same moments.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use super::{
    controllers::{
        endpoints::backing,
        pods::{is_ready, ready_since},
    },
    images::Behaviour,
    load_tester::LoadTester,
    metrics::{Hit, Metrics, Server},
    routes::{Destination, Lookup, Route},
    store::Store,
};
use crate::{
    api::objects::{DESTINATION_RULE, Object, ObjectExt, POD, SERVICE, VIRTUAL_SERVICE},
    decide::facts::Moment,
};

/// Time between two looks at what is due, virtual milliseconds.
const TICK_MS: i64 = 250;
/// The least real time between two ticks, milliseconds: the timer's own grain.
const LEAST_TICK_MS: f64 = 4.0;

/// Below this speed metrics are scraped each 10 virtual seconds, from it on each 15: still four samples a minute.
const FAST: f64 = 100.0;

/// Steady requests to one Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service; requests go to this host.
    pub service: String,
    /// Requests for each virtual second.
    pub per_second: u32,
}

/// Further requests for a while, as a load tester sends them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    pub(super) source: Source,
    pub(super) from: Moment,
    pub(super) until: Moment,
    /// Every request is answered with this status.
    pub(super) fails_with: Option<u16>,
}

/// Requests counted since the cluster began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// Those that reached a Service without a ready endpoint: 503s that users saw.
    pub no_endpoint_503: u64,
    /// Those that the application failed with 500.
    pub application_500: u64,
    /// By name of the workload that answered.
    pub workloads: BTreeMap<String, u64>,
    /// By image that answered.
    pub images: BTreeMap<String, u64>,
}

impl Counts {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            now.iter()
                .map(|(key, n)| (key.clone(), n - then.get(key).copied().unwrap_or(0)))
                .filter(|(_, n)| *n > 0)
                .collect()
        };
        Self {
            total: self.total - earlier.total,
            no_endpoint_503: self.no_endpoint_503 - earlier.no_endpoint_503,
            application_500: self.application_500 - earlier.application_500,
            workloads: less(&self.workloads, &earlier.workloads),
            images: less(&self.images, &earlier.images),
        }
    }

    /// Percent of all requests that `workload` answered; 0 without any request.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn share(&self, workload: &str) -> f64 {
        let answered = self.workloads.get(workload).copied().unwrap_or(0);
        answered as f64 * 100.0 / self.total.max(1) as f64
    }
}

/// Counts that can be read while requests go on. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(Arc<Mutex<Counts>>);

impl Tally {
    pub(super) fn read(&self) -> Counts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, endpoint: Option<&Endpoint>, code: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total += 1;
        let Some(endpoint) = endpoint else {
            counts.no_endpoint_503 += 1;
            return;
        };
        counts.application_500 += u64::from(code >= 500);
        bump(&mut counts.workloads, &endpoint.server.workload);
        bump(&mut counts.images, &endpoint.image);
    }
}

fn bump(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count += 1;
    } else {
        // Looked up by &str first: this runs for every request.
        counts.insert(key.to_owned(), 1);
    }
}

/// One pod that answers.
#[derive(Debug, Clone)]
struct Endpoint {
    server: Server,
    image: Arc<str>,
    behaviour: Behaviour,
    /// When the pod's version was first ready.
    version_ready: Moment,
}

/// Namespace, workload and `pod-template-hash`.
type Version = (Arc<str>, Arc<str>, Arc<str>);

/// The traffic of one cluster.
pub(super) struct Traffic {
    store: Store,
    metrics: Arc<Metrics>,
    tally: Tally,
    streams: Vec<Stream>,
    /// Endpoints of the destinations in use; empty means to be read anew.
    endpoints: HashMap<Destination, Vec<Endpoint>>,
    /// Requests so far, by workload and version: what decides which ones fail.
    answered: HashMap<Version, u64>,
    /// When each version of each workload was first ready.
    first_ready: HashMap<Version, Moment>,
    seen: u64,
    next_scrape: Moment,
    scrape_every: i64,
    load_tester: Option<LoadTester>,
}

/// One source and where its requests go.
struct Stream {
    source: Source,
    /// When the Service had its first ready endpoint: nobody uses what has never been up.
    began: Option<Moment>,
    sent: i64,
    /// When it ends, if it does.
    until: Option<Moment>,
    /// Every request is answered with this status.
    fails_with: Option<u16>,
    route: Route,
    /// Stored, and not yet in effect.
    coming: Vec<(Moment, Route)>,
    /// For the turn among the endpoints of a destination.
    turns: HashMap<Destination, usize>,
}

impl Traffic {
    pub(super) fn new(
        store: Store,
        metrics: Arc<Metrics>,
        tally: Tally,
        sources: Vec<Source>,
    ) -> Self {
        let seen = store.revision();
        let clock = store.clock();
        let scrape_every = if clock.speed() < FAST { 10_000 } else { 15_000 };
        let next_scrape = clock.now().plus(scrape_every);
        let streams = sources.into_iter().map(|source| Stream {
            route: Route::read(&store, &source.namespace, &source.service),
            source,
            began: None,
            sent: 0,
            until: None,
            fails_with: None,
            coming: Vec::new(),
            turns: HashMap::new(),
        });
        Self {
            streams: streams.collect(),
            endpoints: HashMap::new(),
            answered: HashMap::new(),
            first_ready: HashMap::new(),
            seen,
            next_scrape,
            scrape_every,
            metrics,
            tally,
            store,
            load_tester: None,
        }
    }

    /// The same, with the requests that this load tester is asked for.
    pub(super) fn with(mut self, load_tester: LoadTester) -> Self {
        self.load_tester = Some(load_tester);
        self
    }

    /// Takes up the loads that were asked for, and drops those that have ended.
    fn take_loads(&mut self, now: Moment) {
        self.streams.retain(|s| s.until.is_none_or(|end| end > now));
        let Some(tester) = &self.load_tester else {
            return;
        };
        for load in tester.take() {
            let Load {
                source,
                from,
                until,
                fails_with,
            } = load;
            self.streams.push(Stream {
                route: Route::read(&self.store, &source.namespace, &source.service),
                source,
                began: Some(from),
                sent: 0,
                until: Some(until),
                fails_with,
                coming: Vec::new(),
                turns: HashMap::new(),
            });
        }
    }

    /// Sends requests until the store is gone, which is never: end it by ending its task.
    pub(super) async fn run(mut self) {
        let mut revisions = self.store.subscribe();
        let clock = self.store.clock().clone();
        let tick = tick_ms(clock.speed());
        self.begin(clock.now());
        let mut next = clock.now().plus(tick);
        loop {
            let changed = tokio::select! {
                biased;
                changed = revisions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    revisions.borrow_and_update();
                    true
                }
                () = clock.sleep_until(next.min(self.next_scrape)) => false,
            };
            let now = clock.now();
            self.serve_until(now);
            self.take_loads(now);
            if changed {
                self.take_changes(now);
            } else if now >= next {
                next = now.plus(tick);
            }
        }
    }

    /// Serves every request that fell due up to `now`, and scrapes in between at its own moments: when the machine was too busy to look
    /// for a while, there is no hole in the samples.
    fn serve_until(&mut self, now: Moment) {
        while self.next_scrape <= now {
            let at = self.next_scrape;
            self.serve_due(at);
            self.metrics.scrape(at);
            self.next_scrape = at.plus(self.scrape_every);
        }
        self.serve_due(now);
    }

    fn serve_due(&mut self, now: Moment) {
        for i in 0..self.streams.len() {
            while let Some((at, destination)) = self.streams.get_mut(i).and_then(|s| s.next(now)) {
                self.serve(i, at, &destination);
            }
        }
    }

    fn serve(&mut self, stream: usize, at: Moment, destination: &Destination) {
        if !self.endpoints.contains_key(destination) {
            let found = self.read_endpoints(destination);
            self.endpoints.insert(destination.clone(), found);
        }
        let Some(stream) = self.streams.get_mut(stream) else {
            return;
        };
        let ready = self
            .endpoints
            .get(destination)
            .map_or(&[][..], Vec::as_slice);
        let turn = stream.turns.entry(destination.clone()).or_default();
        *turn = turn.wrapping_add(1);
        let endpoint = ready.get(*turn % ready.len().max(1));
        let fails_with = stream.fails_with;
        let (code, latency_ms) = match endpoint {
            None => (503, 1),
            Some(endpoint) => {
                let n = self
                    .answered
                    .entry(version_of(&endpoint.server))
                    .or_default();
                let answer = endpoint
                    .behaviour
                    .answer(*n, at.since(endpoint.version_ready));
                *n += 1;
                (fails_with.unwrap_or(answer.code), answer.latency_ms)
            }
        };
        self.tally.add(endpoint, code);
        self.metrics.record(&Hit {
            at,
            service: &destination.service,
            namespace: &destination.namespace,
            server: endpoint.map(|e| &e.server),
            code,
            latency_ms,
        });
    }

    fn take_changes(&mut self, now: Moment) {
        let (mut routes, mut endpoints) = (false, false);
        if let Some(changes) = self.store.changes_since(self.seen) {
            for change in changes {
                self.seen = change.revision;
                routes |= change.resource.is(&VIRTUAL_SERVICE);
                endpoints |= change.resource.is(&POD)
                    || change.resource.is(&SERVICE)
                    || change.resource.is(&DESTINATION_RULE);
            }
        } else {
            self.seen = self.store.revision();
            (routes, endpoints) = (true, true);
        }
        if endpoints {
            self.endpoints.clear();
            self.begin(now);
        }
        if routes {
            for stream in &mut self.streams {
                stream.read_route(&self.store, self.seen, now);
            }
        }
    }

    /// Starts the streams whose Service now has a ready endpoint, and ends those whose Service is gone: its name no longer resolves.
    fn begin(&mut self, now: Moment) {
        for stream in self.streams.iter_mut().filter(|s| s.began.is_some()) {
            let Source {
                namespace, service, ..
            } = &stream.source;
            if self.store.get(&SERVICE, namespace, service).is_none() {
                stream.began = None;
                stream.sent = 0;
            }
        }
        for stream in self.streams.iter_mut().filter(|s| s.began.is_none()) {
            let Source {
                namespace, service, ..
            } = &stream.source;
            let up = self
                .store
                .get(&SERVICE, namespace, service)
                .is_some_and(|service| {
                    backing(&self.store, &service)
                        .iter()
                        .any(|pod| is_ready(pod))
                });
            stream.began = up.then_some(now);
        }
    }

    fn read_endpoints(&mut self, destination: &Destination) -> Vec<Endpoint> {
        let (ns, name) = (&destination.namespace, &destination.service);
        let Some(service) = self.store.get(&SERVICE, ns, name) else {
            return Vec::new();
        };
        let mut pods = backing(&self.store, &service);
        pods.retain(|pod| is_ready(pod) && destination.takes(pod));
        let found = pods.iter().map(|pod| self.endpoint(pod));
        found.collect()
    }

    fn endpoint(&mut self, pod: &Object) -> Endpoint {
        let version = pod.label("pod-template-hash").unwrap_or_default();
        let set = super::controllers::owner(pod, "ReplicaSet").unwrap_or(pod.name());
        let workload = set.strip_suffix(&format!("-{version}")).unwrap_or(set);
        let server = Server {
            namespace: Arc::from(pod.namespace()),
            workload: Arc::from(workload),
            pod: Arc::from(pod.name()),
            version: Arc::from(version),
        };
        let key = version_of(&server);
        let ready = ready_since(pod).unwrap_or_else(|| self.store.clock().now());
        let version_ready = *self.first_ready.entry(key).or_insert(ready);
        let image = image(pod);
        Endpoint {
            server,
            behaviour: Behaviour::of(image),
            image: Arc::from(image),
            version_ready,
        }
    }
}

fn version_of(server: &Server) -> Version {
    (
        Arc::clone(&server.namespace),
        Arc::clone(&server.workload),
        Arc::clone(&server.version),
    )
}

fn image(pod: &Value) -> &str {
    pod.str_at("/spec/containers/0/image").unwrap_or_default()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 600 times four milliseconds"
)]
fn tick_ms(speed: f64) -> i64 {
    TICK_MS.max((speed * LEAST_TICK_MS) as i64)
}

impl Stream {
    /// The next request that fell due up to `now`: when, and to what.
    fn next(&mut self, now: Moment) -> Option<(Moment, Destination)> {
        let per_second = i64::from(self.source.per_second);
        if per_second == 0 {
            return None;
        }
        let at = self.began?.plus((self.sent + 1) * 1_000 / per_second);
        if at > now || self.until.is_some_and(|end| at > end) {
            return None;
        }
        self.sent += 1;
        while self
            .coming
            .first()
            .is_some_and(|(effective, _)| *effective <= at)
        {
            self.route = self.coming.remove(0).1;
        }
        Some((at, self.route.next()))
    }

    /// The route as it is stored now takes effect one to three seconds after `now`.
    fn read_route(&mut self, store: &Store, revision: u64, now: Moment) {
        let route = Route::read(store, &self.source.namespace, &self.source.service);
        let latest = self.coming.last().map_or(&self.route, |(_, route)| route);
        if route.same_split(latest) {
            return;
        }
        let after = self.coming.last().map_or(now, |(at, _)| *at);
        let effective = now.plus(delay_ms(revision)).max(after);
        self.coming.push((effective, route));
    }
}

/// 1000 to 3000 milliseconds, another for each write: the golden ratio's multiples spread evenly.
fn delay_ms(revision: u64) -> i64 {
    let spread = revision.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    1_000 + i64::try_from(spread % 2_001).unwrap_or_default()
}

impl Lookup for Store {
    fn virtual_services(&self) -> Vec<Object> {
        self.list(&VIRTUAL_SERVICE, None)
    }

    fn destination_rules(&self, namespace: &str) -> Vec<Object> {
        self.list(&DESTINATION_RULE, Some(namespace))
    }
}
