//! Requests: steady at a Service's host, following the routes as stored, answered by the pods that are ready.
//!
//! A route takes effect some time after its write, as in a mesh; endpoints count at once. Requests have moments of their
//! own: those that fell due before a change was noticed are served as things stood before it. The scrapes of the metrics
//! go by the same moments.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{
    controllers::{
        endpoints::backing,
        pods::{is_ready, ready_since},
    },
    counts::{Outcome, Tally},
    crowd::{Crowd, Who},
    gateway::HTTP_ROUTE,
    images::Behaviour,
    load_tester::LoadTester,
    metrics::{Hit, Metrics, Server},
    routes::{Destination, Known, Route, Sent},
    store::Store,
};
pub use super::{
    counts::Counts,
    requests::{Entry, Mix, Source, Users},
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

/// Further requests for a while, as a load tester sends them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    pub(super) source: Source,
    pub(super) from: Moment,
    pub(super) until: Moment,
    /// Every request is answered with this status.
    pub(super) fails_with: Option<u16>,
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

/// What a request got.
struct Served {
    /// Workload and image that answered.
    by: Option<(Arc<str>, Arc<str>)>,
    code: u16,
}

impl Served {
    const UNROUTED: Self = Self {
        by: None,
        code: 404,
    };
}

/// Namespace, workload and `pod-template-hash`.
type Version = (Arc<str>, Arc<str>, Arc<str>);

/// The traffic of one cluster.
pub(super) struct Traffic {
    store: Store,
    /// What the proxies know of the store.
    known: Known,
    metrics: Arc<Metrics>,
    tally: Tally,
    streams: Vec<Stream>,
    /// Endpoints of the destinations in use; empty means to be read anew.
    endpoints: HashMap<Arc<Destination>, Vec<Endpoint>>,
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
    turns: HashMap<Arc<Destination>, usize>,
    crowd: Crowd,
}

/// One request that is due.
struct Due {
    at: Moment,
    who: Who,
    /// Where it goes; `None` when no rule takes it.
    sent: Option<Sent>,
}

impl Traffic {
    pub(super) fn new(
        store: Store,
        metrics: Arc<Metrics>,
        tally: Tally,
        sources: Vec<Source>,
    ) -> Self {
        let seen = store.revision();
        let known = Known::new(store.clone());
        let clock = store.clock();
        let scrape_every = if clock.speed() < FAST { 10_000 } else { 15_000 };
        let next_scrape = clock.now().plus(scrape_every);
        let streams = sources.into_iter();
        let streams = streams.map(|source| Stream::new(&known, source));
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
            known,
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
                began: Some(from),
                until: Some(until),
                fails_with,
                ..Stream::new(&self.known, source)
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
            while let Some(due) = self.streams.get_mut(i).and_then(|s| s.next(now)) {
                self.serve(i, &due);
            }
        }
    }

    /// Answers a request of a stream, and lets the copies of it be answered.
    fn serve(&mut self, stream: usize, due: &Due) {
        let answer = due.sent.as_ref().map_or(Served::UNROUTED, |sent| {
            self.reach(stream, due.at, &sent.destination, false)
        });
        let Some(stream_of) = self.streams.get_mut(stream) else {
            return;
        };
        let by = answer.by.as_ref();
        let switched = by.and_then(|(_, image)| stream_of.crowd.answered(due.who, image));
        self.tally.add(&Outcome {
            by: by.map(|(workload, image)| (&**workload, &**image)),
            code: answer.code,
            class: stream_of.crowd.class(due.who),
            switched,
        });
        let Some(sent) = &due.sent else {
            self.metrics.record(&Hit {
                at: due.at,
                service: &Arc::from(stream_of.source.service.as_str()),
                namespace: &Arc::from(stream_of.source.namespace.as_str()),
                server: None,
                code: answer.code,
                latency_ms: 1,
                tcp: false,
            });
            return;
        };
        if by.is_some() {
            stream_of.crowd.keep(due.who, &sent.cookies, due.at);
        }
        for mirror in &sent.mirrors {
            if let Some((workload, _)) = self.reach(stream, due.at, mirror, true).by {
                self.tally.add_mirrored(&workload);
            }
        }
    }

    /// What an endpoint of the destination answers to a request of the stream, or to a copy of it.
    fn reach(
        &mut self,
        stream: usize,
        at: Moment,
        destination: &Arc<Destination>,
        copy: bool,
    ) -> Served {
        if !self.endpoints.contains_key(destination) {
            let found = self.read_endpoints(destination);
            self.endpoints.insert(Arc::clone(destination), found);
        }
        let Some(stream) = self.streams.get_mut(stream) else {
            return Served::UNROUTED;
        };
        let ready = self
            .endpoints
            .get(destination)
            .map_or(&[][..], Vec::as_slice);
        let turn = stream.turns.entry(Arc::clone(destination)).or_default();
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
        let hit = Hit {
            at,
            service: &destination.service,
            namespace: &destination.namespace,
            server: endpoint.map(|e| &e.server),
            code,
            latency_ms,
            tcp: stream.route.is_tcp(),
        };
        // The client's side does not report copies.
        if endpoint.is_some() || !copy {
            self.metrics.record(&hit);
        }
        let by = |e: &Endpoint| (Arc::clone(&e.server.workload), Arc::clone(&e.image));
        Served {
            by: endpoint.map(by),
            code,
        }
    }

    fn take_changes(&mut self, now: Moment) {
        let (mut routes, mut endpoints) = (false, false);
        if let Some(changes) = self.store.changes_since(self.seen) {
            for change in changes {
                self.seen = change.revision;
                routes |= change.resource.is(&VIRTUAL_SERVICE) || change.resource.is(&HTTP_ROUTE);
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
            self.known.refresh();
            for stream in &mut self.streams {
                stream.read_route(&self.known, self.seen, now);
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
    /// The requests of a source, from when its Service is up.
    fn new(known: &Known, source: Source) -> Self {
        Self {
            began: None,
            sent: 0,
            until: None,
            fails_with: None,
            route: Route::read(known, &source),
            coming: Vec::new(),
            turns: HashMap::new(),
            crowd: Crowd::new(&source.mix),
            source,
        }
    }

    /// The next request that fell due up to `now`: when, whose, and to what.
    fn next(&mut self, now: Moment) -> Option<Due> {
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
        let who = self.crowd.next()?;
        let route = &mut self.route;
        let sent = self.crowd.request(who, at, |request| route.next(request))?;
        Some(Due { at, who, sent })
    }

    /// The route as it is stored now takes effect one to three seconds after `now`.
    fn read_route(&mut self, known: &Known, revision: u64, now: Moment) {
        let route = Route::read(known, &self.source);
        let latest = self.coming.last().map_or(&self.route, |(_, route)| route);
        if route.same(latest) {
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

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
