//! What the mesh and the MCP servers of an embedded cluster measure: counters in plain Rust, read into a time
//! series store like a scrape does, and asked in `PromQL`.
//!
//! Names, labels and bucket bounds are Istio's (`istio_*`, istio.io/latest/docs/reference/config/metrics) and, for
//! `mcp_*`, what our example manifests ask for.

mod readings;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::mesh::Mesh;
use crate::decide::facts::Moment;
use readings::{HTTP_BOUNDS, ISTIO_BOUNDS, LINKERD_BOUNDS, MCP_BOUNDS};

/// A counter that has not moved for so long is no longer scraped: its pods are gone.
const FORGET_AFTER_MS: i64 = 300_000;

/// Who answered a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Namespace of the workload.
    pub namespace: Arc<str>,
    /// Name of the workload (the Deployment).
    pub workload: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// The pod's `pod-template-hash`.
    pub version: Arc<str>,
}

/// One request, after its end.
#[derive(Debug, Clone)]
pub struct Hit<'a> {
    /// When it arrived.
    pub at: Moment,
    /// The Service that its route named.
    pub service: &'a Arc<str>,
    /// Namespace of that Service.
    pub namespace: &'a Arc<str>,
    /// Who answered; `None` when the Service had no ready endpoint (503, flag `UH`).
    pub server: Option<&'a Server>,
    /// HTTP status.
    pub code: u16,
    /// Duration in milliseconds.
    pub latency_ms: u32,
    /// It was a connection, not a request: a mesh that routes TCP sees no more of it.
    pub tcp: bool,
}

/// One scraped value.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Metric name.
    pub name: &'static str,
    /// Labels without the name.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Labels of one series of a query's result.
pub type Labels = BTreeMap<String, String>;

/// The result of a query, in the four shapes of Prometheus.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// One value for each series.
    Vector(Vec<(Labels, f64)>),
    /// Values over time for each series.
    Matrix(Vec<(Labels, Vec<(Moment, f64)>)>),
}

/// Why a query has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The binary was built without the cargo feature `embedded-metrics`.
    #[error(
        "this binary was built without the cargo feature embedded-metrics: embedded clusters have no prometheus; build with default features"
    )]
    Disabled,
    /// The query does not parse or does not type-check.
    #[error("invalid parameter \"query\": {0}")]
    Bad(String),
    /// The query is valid and could not be evaluated.
    #[error("{0}")]
    Execution(String),
}

/// Size of what the history holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Stores, at most two.
    pub stores: usize,
    /// Series, summed over the stores.
    pub series: usize,
    /// Samples, summed over the stores.
    pub samples: usize,
}

/// The metrics of one embedded cluster.
#[derive(Debug)]
pub struct Metrics {
    counters: Mutex<Counters>,
    #[cfg(feature = "embedded-metrics")]
    history: Mutex<super::promql::History>,
}

impl Metrics {
    /// Empty metrics of a cluster with Istio whose clock begins at `epoch`.
    #[must_use]
    pub fn new(epoch: Moment) -> Self {
        Self::of(epoch, Mesh::Istio)
    }

    /// The same of a cluster with this mesh.
    #[must_use]
    pub fn of(epoch: Moment, mesh: Mesh) -> Self {
        Self {
            counters: Mutex::new(Counters {
                mesh,
                ticked_at: epoch,
                ..Counters::default()
            }),
            #[cfg(feature = "embedded-metrics")]
            history: Mutex::new(super::promql::History::new(epoch)),
        }
    }

    /// Counts one request.
    pub fn record(&self, hit: &Hit<'_>) {
        lock(&self.counters).record(hit);
    }

    /// From now on so many requests wait at a workload beside those that are being answered, as behind a slow dependency; 0 ends it.
    pub fn set_queue(&self, namespace: &str, workload: &str, waiting: u32) {
        let key = (Arc::from(namespace), Arc::from(workload));
        lock(&self.counters).queues.insert(key, waiting);
    }

    /// Reads all counters into the history, as of `now`.
    pub fn scrape(&self, now: Moment) {
        let readings = {
            let mut counters = lock(&self.counters);
            counters.tick(now);
            counters.read()
        };
        #[cfg(feature = "embedded-metrics")]
        lock(&self.history).write(now, &readings);
        #[cfg(not(feature = "embedded-metrics"))]
        drop(readings);
    }

    /// What a Prometheus that scrapes the cluster now gets to read.
    #[must_use]
    pub fn exposition(&self) -> String {
        super::exposition::text(&lock(&self.counters).read())
    }

    /// Evaluates `query` at one moment.
    ///
    /// # Errors
    /// When the query is wrong, cannot be evaluated, or this binary has no query engine.
    #[cfg(feature = "embedded-metrics")]
    pub fn instant(&self, query: &str, at: Moment) -> Result<Answer, QueryError> {
        let storage = lock(&self.history).storage()?;
        super::promql::instant(storage, query, at)
    }

    /// Evaluates `query` at one moment.
    ///
    /// # Errors
    /// Always: this binary has no query engine.
    #[cfg(not(feature = "embedded-metrics"))]
    pub fn instant(&self, _query: &str, _at: Moment) -> Result<Answer, QueryError> {
        Err(QueryError::Disabled)
    }

    /// Evaluates `query` from `start` to `end`, both included, each `step_ms` milliseconds.
    ///
    /// # Errors
    /// When the query is wrong, cannot be evaluated, or this binary has no query engine.
    #[cfg(feature = "embedded-metrics")]
    pub fn range(
        &self,
        query: &str,
        start: Moment,
        end: Moment,
        step_ms: i64,
    ) -> Result<Answer, QueryError> {
        let storage = lock(&self.history).storage()?;
        super::promql::range(storage, query, start, end, step_ms)
    }

    /// Evaluates `query` over a range.
    ///
    /// # Errors
    /// Always: this binary has no query engine.
    #[cfg(not(feature = "embedded-metrics"))]
    pub fn range(
        &self,
        _query: &str,
        _start: Moment,
        _end: Moment,
        _step_ms: i64,
    ) -> Result<Answer, QueryError> {
        Err(QueryError::Disabled)
    }

    /// How much the history holds.
    #[must_use]
    pub fn held(&self) -> Held {
        #[cfg(feature = "embedded-metrics")]
        return lock(&self.history).held();
        #[cfg(not(feature = "embedded-metrics"))]
        Held::default()
    }
}

/// A counter is right even after a panic elsewhere, so a poisoned lock is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Counters {
    mesh: Mesh,
    routes: BTreeMap<RouteKey, Histogram<19>>,
    pods: BTreeMap<PodKey, PodCounters>,
    /// Requests that wait at a workload (by namespace and name), beside those that its pods work on.
    queues: BTreeMap<(Arc<str>, Arc<str>), u32>,
    ticked_at: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RouteKey {
    service: Arc<str>,
    namespace: Arc<str>,
    workload: Option<(Arc<str>, Arc<str>)>,
    code: u16,
    tcp: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PodKey {
    namespace: Arc<str>,
    pod: Arc<str>,
    workload: Arc<str>,
    version: Arc<str>,
}

#[derive(Debug, Default)]
struct PodCounters {
    duration: Histogram<9>,
    /// Seconds of requests by status, as the server tells them outside of Istio.
    http: BTreeMap<u16, Histogram<11>>,
    /// Milliseconds of requests by status, as Linkerd's proxy measures them.
    proxy: BTreeMap<u16, Histogram<26>>,
    success: u64,
    error: u64,
    /// Milliseconds of work that arrived since the last tick.
    busy_ms: u64,
    /// Requests at work, over the time between the last two ticks.
    depth: f64,
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    /// Requests in each bucket alone; beyond the last bound only in `count`.
    buckets: [u64; N],
    count: u64,
    sum: f64,
    touched: Moment,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: [0; N],
            count: 0,
            sum: 0.0,
            touched: Moment::default(),
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&mut self, value: f64, at: Moment, bounds: &[(f64, &str); N]) {
        let bound = bounds.iter().position(|(bound, _)| value <= *bound);
        if let Some(bucket) = bound.and_then(|i| self.buckets.get_mut(i)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value;
        self.touched = at;
    }

    fn read(
        &self,
        names: [&'static str; 3],
        labels: &[(&'static str, String)],
        bounds: &[(f64, &str); N],
        out: &mut Vec<Reading>,
    ) {
        let [bucket, sum, count] = names;
        let below = self
            .buckets
            .iter()
            .zip(bounds)
            .scan(0, |below, (n, (_, le))| {
                *below += n;
                Some((*below, *le))
            });
        for (below, le) in below.chain([(self.count, "+Inf")]) {
            let mut labels = labels.to_vec();
            labels.push(("le", le.to_owned()));
            out.push(readings::reading(bucket, labels, float(below)));
        }
        out.push(readings::reading(sum, labels.to_vec(), self.sum));
        out.push(readings::reading(count, labels.to_vec(), float(self.count)));
    }
}

impl Counters {
    fn record(&mut self, hit: &Hit<'_>) {
        let route = RouteKey {
            service: Arc::clone(hit.service),
            namespace: Arc::clone(hit.namespace),
            workload: hit
                .server
                .map(|s| (Arc::clone(&s.workload), Arc::clone(&s.namespace))),
            code: hit.code,
            tcp: hit.tcp,
        };
        let latency = f64::from(hit.latency_ms);
        if self.mesh == Mesh::Istio {
            let route = self.routes.entry(route).or_default();
            route.add(latency, hit.at, &ISTIO_BOUNDS);
        }
        let Some(server) = hit.server else { return };
        let pod = self
            .pods
            .entry(PodKey {
                namespace: Arc::clone(&server.namespace),
                pod: Arc::clone(&server.pod),
                workload: Arc::clone(&server.workload),
                version: Arc::clone(&server.version),
            })
            .or_default();
        pod.duration.add(latency / 1_000.0, hit.at, &MCP_BOUNDS);
        if self.mesh != Mesh::Istio {
            let http = pod.http.entry(hit.code).or_default();
            http.add(latency / 1_000.0, hit.at, &HTTP_BOUNDS);
        }
        if self.mesh == Mesh::Gamma {
            let proxy = pod.proxy.entry(hit.code).or_default();
            proxy.add(latency, hit.at, &LINKERD_BOUNDS);
        }
        pod.busy_ms += u64::from(hit.latency_ms);
        if hit.code < 500 {
            pod.success += 1;
        } else {
            pod.error += 1;
        }
    }

    /// Forgets what is gone and measures what is measured over the time since the last tick.
    fn tick(&mut self, now: Moment) {
        let fresh = |touched: Moment| now.since(touched) < FORGET_AFTER_MS;
        self.routes.retain(|_, route| fresh(route.touched));
        self.pods.retain(|_, pod| fresh(pod.duration.touched));
        let elapsed_ms = now.since(self.ticked_at).max(1);
        self.ticked_at = now;
        let mut queues = self.queues.clone();
        for (key, pod) in &mut self.pods {
            // A workload's queue is counted once, at one of its pods.
            let of = (Arc::clone(&key.namespace), Arc::clone(&key.workload));
            let waiting = queues.remove(&of).unwrap_or(0);
            // Little's law: requests in the house = work that arrived per unit of time.
            let answering =
                float(std::mem::take(&mut pod.busy_ms)) / float(elapsed_ms.unsigned_abs());
            pod.depth = answering + f64::from(waiting);
        }
    }

    fn read(&self) -> Vec<Reading> {
        let mut out = Vec::new();
        for (key, route) in &self.routes {
            readings::of_route(key, route, &mut out);
        }
        for (key, pod) in &self.pods {
            readings::of_pod(key, pod, &mut out);
        }
        out
    }
}

/// Counts stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}
