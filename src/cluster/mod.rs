//! Kubernetes I/O and nothing else: [`Cluster`] reads, writes, watches and calls into one cluster.
//!
//! Objects are raw JSON, so no field of a newer Kubernetes is dropped. All waiting here is real time, embedded clusters included.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::Client;
use serde_json::Value;

pub mod access;
mod cache;
pub mod clock;
pub mod embedded;
pub mod error;
mod events;
pub mod form;
pub mod lease;
mod lease_view;
pub mod membership;
mod prepare;
mod proof;
pub mod proxy_address;
mod raw;
pub mod registry;
mod rendezvous;
pub mod selector;
mod service;
pub mod sharing;
pub mod sources;
mod unwatched;
pub mod watch;
mod wire;
mod write;

pub use clock::Clock;
pub use error::{Error, ErrorKind};
pub use lease::{Held, LeaseKeeper, LeaseLost, Standing, Taken};
pub use lease_view::LeaseView;
pub use membership::Membership;
pub use registry::Registry;
pub use service::ServiceCall;
pub use sharing::{Members, Sharing};
pub use watch::{Scope, Watched};

use crate::api::objects::{Kind, LEASE, Object, ObjectExt, Ref};
use error::{Cause, Context};
use wire::{Answer, Call};

/// A read may take this long, in real time.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Objects in one page of a list (as client-go).
const PAGE: &str = "500";
/// Times that a list begins again when its pages have expired under it.
const LIST_ATTEMPTS: usize = 3;
/// Times that a read is repeated when the API server asks for patience (429).
const PATIENT_READS: u32 = 2;

/// What a [`Cluster`] is made of.
#[derive(Clone)]
pub struct ClusterSpec {
    /// Name that people and tools use.
    pub name: String,
    /// Labels that selectors match.
    pub labels: BTreeMap<String, String>,
    /// The client. Its own retries must be off: a fenced write must not be sent again later than it was checked.
    pub client: Client,
    /// The cluster's clock.
    pub clock: Clock,
    /// The engine may lead this cluster: embedded, in-cluster, or named by `--lead`.
    pub leads: bool,
    /// This process runs inside this cluster.
    pub inside: bool,
    /// The cluster is an embedded one.
    pub embedded: bool,
    /// What is different here from the installation's settings.
    pub overrides: Overrides,
}

/// What a cluster's own settings put in the place of the installation's; `None` changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Who routes traffic where a Canary names nobody (`--mesh-provider`).
    pub mesh_provider: Option<String>,
    /// Prometheus, as seen from inside the cluster (`--metrics-server`).
    pub metrics_server: Option<String>,
    /// Labels that tell a target's pods (`--selector-labels`).
    pub selector_labels: Option<Vec<String>>,
    /// Beginnings of the labels that a primary takes over (`--include-label-prefix`).
    pub include_label_prefix: Option<Vec<String>>,
    /// The only namespaces that are led and shown (`--namespace`); empty is all of them.
    pub namespaces: Option<Vec<String>>,
    /// Runs at the same time in the cluster (`--max-concurrent`); 0 is without limit.
    pub max_concurrent: Option<u32>,
    /// The same in each of its namespaces (`--max-concurrent-per-namespace`).
    pub max_concurrent_per_namespace: Option<u32>,
}

impl Overrides {
    /// These, and what the others say where these say nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let Self {
            mesh_provider,
            metrics_server,
            selector_labels,
            include_label_prefix,
            namespaces,
            max_concurrent,
            max_concurrent_per_namespace,
        } = self;
        Self {
            mesh_provider: mesh_provider.or(others.mesh_provider),
            metrics_server: metrics_server.or(others.metrics_server),
            selector_labels: selector_labels.or(others.selector_labels),
            include_label_prefix: include_label_prefix.or(others.include_label_prefix),
            namespaces: namespaces.or(others.namespaces),
            max_concurrent: max_concurrent.or(others.max_concurrent),
            max_concurrent_per_namespace: max_concurrent_per_namespace
                .or(others.max_concurrent_per_namespace),
        }
    }
}

/// One cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    spec: ClusterSpec,
    events: events::Repeats,
}

// === impl Cluster ===

impl Cluster {
    /// A cluster; nothing is sent.
    #[must_use]
    pub fn new(spec: ClusterSpec) -> Self {
        Self {
            shared: Arc::new(Shared {
                spec,
                events: events::Repeats::default(),
            }),
        }
    }

    /// Name that people and tools use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.spec.name
    }

    /// Labels that selectors match.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.shared.spec.labels
    }

    /// The cluster's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.spec.clock
    }

    /// What is different here from the installation's settings.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.shared.spec.overrides
    }

    /// Whether this is a clone of the other, not one made anew (with other credentials, say).
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The engine may lead this cluster: embedded, in-cluster, or named by `--lead`. Writing also takes the Lease.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        self.shared.spec.leads
    }

    /// This process runs inside this cluster, so its Services are reached directly.
    #[must_use]
    pub fn inside(&self) -> bool {
        self.shared.spec.inside
    }

    /// The cluster is an embedded one.
    #[must_use]
    pub fn embedded(&self) -> bool {
        self.shared.spec.embedded
    }

    /// One object, read now; `None` when there is none (or its kind or namespace is not there).
    ///
    /// # Errors
    /// `Forbidden`, `Unreachable`, `Rejected`.
    pub async fn get(&self, of: &Ref) -> Result<Option<Object>, Error> {
        let answer = match wire::item(of) {
            Ok(path) => self.read(path, READ_WITHIN).await,
            Err(cause) => Err(cause),
        };
        match answer {
            Ok(answer) => Ok(Some(Arc::new(wire::typed(answer.body, &of.kind)))),
            Err(Cause::Status { code: 404, .. }) => Ok(None),
            Err(cause) => Err(self.error("get", of, cause)),
        }
    }

    /// All objects of a kind, in a namespace or in all of them, that match the label and field selectors.
    ///
    /// # Errors
    /// `NotFound` when the kind is not served; `Forbidden`, `Unreachable`, `Rejected`.
    pub async fn list(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Vec<Object>, Error> {
        let path = wire::collection(kind, namespace);
        for attempt in 1.. {
            match self.pages(kind, &path, labels, fields).await {
                // The pages' snapshot is gone (410): the list begins again.
                Err(Cause::Status { code: 410, .. }) if attempt < LIST_ATTEMPTS => {}
                Err(cause) => return Err(self.list_error(kind, namespace, cause)),
                Ok(objects) => return Ok(objects),
            }
        }
        Ok(Vec::new())
    }

    /// A cache of one kind that follows the cluster for as long as a clone of it is held.
    #[must_use]
    pub fn watch(&self, kind: &Kind, scope: Scope) -> Watched {
        Watched::start(self, *kind, scope, None)
    }

    /// The same in any form, with somebody who is told of each object that changes.
    #[must_use]
    pub fn watch_as<T: form::Form>(
        &self,
        kind: &Kind,
        scope: Scope,
        listener: watch::Listener<T>,
    ) -> watch::Watch<T> {
        watch::Watch::start(self, *kind, scope, Some(listener))
    }

    /// The API server's version, as `v1.33.1`.
    ///
    /// # Errors
    /// `Forbidden`, `Unreachable`, `Rejected`.
    pub async fn version(&self) -> Result<String, Error> {
        let answer = self.read("/version".to_owned(), READ_WITHIN).await;
        let answer = answer.map_err(|cause| self.plain_error("the version", "/version", cause))?;
        Ok(answer
            .body
            .str_at("/gitVersion")
            .unwrap_or("unknown")
            .to_owned())
    }

    /// The API groups that are served, with their versions, the preferred one first. The core group is not among them.
    ///
    /// # Errors
    /// `Forbidden`, `Unreachable`, `Rejected`.
    pub async fn installed(&self) -> Result<Vec<(String, Vec<String>)>, Error> {
        let answer = self.read("/apis".to_owned(), READ_WITHIN).await;
        let answer = answer.map_err(|cause| self.plain_error("the API groups", "/apis", cause))?;
        Ok(answer
            .body
            .array_at("/groups")
            .iter()
            .map(|group| {
                let versions = group.array_at("/versions").iter();
                let mut versions: Vec<String> = versions
                    .filter_map(|version| version.str_at("/version"))
                    .map(str::to_owned)
                    .collect();
                let preferred = group.str_at("/preferredVersion/version");
                versions.sort_by_key(|version| Some(version.as_str()) != preferred);
                let name = group.str_at("/name").unwrap_or_default();
                (name.to_owned(), versions)
            })
            .collect())
    }

    /// Who leads the cluster, judged by the clock of the API server that gave the answer (its `Date` header), else by our own.
    ///
    /// # Errors
    /// `Forbidden`, `Unreachable`, `Rejected`.
    pub async fn lease_view(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<LeaseView>, Error> {
        let of = Ref {
            kind: LEASE,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let answer = match wire::item(&of) {
            Ok(path) => self.read(path, READ_WITHIN).await,
            Err(cause) => Err(cause),
        };
        match answer {
            Ok(answer) => Ok(Some(lease_view::view(&answer.body, &answer.headers))),
            Err(Cause::Status { code: 404, .. }) => Ok(None),
            Err(cause) => Err(self.error("get", &of, cause)),
        }
    }

    async fn pages(
        &self,
        kind: &Kind,
        path: &str,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Vec<Object>, Cause> {
        let mut objects = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let query = [
                ("labelSelector", labels),
                ("fieldSelector", fields),
                ("limit", Some(PAGE)),
                ("continue", next.as_deref()),
            ];
            let mut answer = self
                .read(wire::with_query(path, &query), READ_WITHIN)
                .await?;
            let items = answer.body.get_mut("items").map(Value::take);
            let Some(Value::Array(items)) = items else {
                return Err(Cause::Body("a list without items".to_owned()));
            };
            objects.extend(
                items
                    .into_iter()
                    .map(|item| Arc::new(wire::typed(item, kind))),
            );
            next = answer
                .body
                .str_at("/metadata/continue")
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            if next.is_none() {
                return Ok(objects);
            }
        }
    }

    /// A read, repeated when the API server asks for patience: it was not carried out, so nothing is done twice.
    async fn read(&self, path: String, within: Duration) -> Result<Answer, Cause> {
        let mut attempt = 0;
        loop {
            let answer = self.send(Call::get(path.clone(), within)).await;
            if !matches!(answer, Err(Cause::Status { code: 429, .. })) || attempt == PATIENT_READS {
                return answer;
            }
            attempt += 1;
            tokio::time::sleep(Duration::from_millis(500) * attempt).await;
        }
    }

    async fn send(&self, call: Call) -> Result<Answer, Cause> {
        wire::send(&self.shared.spec.client, call).await
    }

    fn error(&self, operation: &'static str, of: &Ref, cause: Cause) -> Error {
        self.error_of(operation, of, |context| Error::new(context, cause))
    }

    fn error_of(
        &self,
        operation: &'static str,
        of: &Ref,
        make: impl FnOnce(Context<'_>) -> Error,
    ) -> Error {
        make(Context {
            cluster: self.name(),
            operation,
            object: &of.to_string(),
            resource: &wire::resource(&of.kind),
            namespace: &of.namespace,
        })
    }

    fn list_error(&self, kind: &Kind, namespace: Option<&str>, cause: Cause) -> Error {
        let object = match namespace {
            Some(namespace) => format!("{} of namespace {namespace}", kind.plural),
            None => format!("{} of all namespaces", kind.plural),
        };
        let context = Context {
            cluster: self.name(),
            operation: "list",
            object: &object,
            resource: &wire::resource(kind),
            namespace: namespace.unwrap_or_default(),
        };
        Error::new(context, cause)
    }

    /// The error of what needs a watch that does not work, for this reason.
    #[must_use]
    pub fn unwatched(&self, kind: &Kind, namespace: &str, why: String) -> Error {
        let context = Context {
            cluster: self.name(),
            operation: "watch",
            object: &format!("{} of namespace {namespace}", kind.plural),
            resource: &wire::resource(kind),
            namespace,
        };
        Error::of_kind(ErrorKind::Rejected, context, Some(Cause::Own(why)))
    }

    fn plain_error(&self, object: &str, path: &str, cause: Cause) -> Error {
        let context = Context {
            cluster: self.name(),
            operation: "get",
            object,
            resource: path,
            namespace: "",
        };
        Error::new(context, cause)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.name()).finish()
    }
}
