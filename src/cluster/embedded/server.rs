//! The HTTP face of a [`Store`]: what `kube::Client` and kubectl talk to.

use std::{
    convert::Infallible,
    io,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

use super::{
    discovery,
    faults::{Fate, Faults, Logged, RequestInfo},
    present::Form,
    rest::{self, Call, Reply, Verb},
    rights::Asked,
    route::{Query, Route, Target},
    status::Status,
    store::Store,
};
use crate::cluster::clock::Clock;

/// Body of an answer: whole, or a watch that goes on.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One call through `services/proxy`.
#[derive(Debug)]
pub struct ProxyCall {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Port, by number or name, as it was given; empty when it was not.
    pub port: String,
    /// The request with the path that follows `/proxy`.
    pub request: Request<Bytes>,
}

/// What answers calls to the cluster's Services.
pub type ServiceProxy = Arc<dyn Fn(ProxyCall) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// The API server of one embedded cluster. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    store: Store,
    faults: Faults,
    proxy: Mutex<Option<ServiceProxy>>,
    wall: Clock,
}

/// Marks an answer that must not arrive.
#[derive(Debug, Clone, Copy)]
struct Lost;

impl ApiServer {
    /// The server of the cluster `name`.
    #[must_use]
    pub fn new(name: &str, store: Store) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                store,
                faults: Faults::default(),
                proxy: Mutex::new(None),
                wall: Clock::real(),
            }),
        }
    }

    /// Name of the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its state.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Its faults and counters.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Sets what answers `services/proxy`; without it they answer 503.
    pub fn on_service_proxy(&self, proxy: ServiceProxy) {
        *self
            .inner
            .proxy
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(proxy);
    }

    /// A client in process: every byte takes the path it takes in production, but for the socket. Has to be called within a
    /// tokio runtime.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                // A task of its own: a server goes on with a request whose client has given up.
                let request = Request::from_parts(parts, body);
                let response = tokio::spawn(async move { server.handle(request).await }).await?;
                if response.extensions().get::<Lost>().is_some() {
                    let lost = io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the connection broke before the answer",
                    );
                    return Err(lost.into());
                }
                Ok::<_, tower::BoxError>(response)
            }
        });
        kube::Client::new(service, "default")
    }

    /// Answers one request. Never fails: what goes wrong is a `Status`, and an answer that a fault loses is a body that
    /// breaks off.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Body> {
        let headless = request.method() == http::Method::HEAD;
        let mut response = self.respond(request).await;
        if headless {
            *response.body_mut() = whole(Bytes::new());
        }
        let headers = response.headers_mut();
        headers
            .entry(http::header::CACHE_CONTROL)
            .or_insert(http::HeaderValue::from_static("no-cache, private"));
        if let Ok(date) = http::HeaderValue::from_str(&self.date()) {
            response.headers_mut().insert(http::header::DATE, date);
        }
        response
    }

    async fn respond(&self, request: Request<Bytes>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let header = |name| text_of(&parts, name);
        let accept = header(http::header::ACCEPT);
        let target = match Route::parse(parts.uri.path()) {
            Route::Resource(target) => target,
            route @ (Route::Health
            | Route::Version
            | Route::Core
            | Route::Groups
            | Route::Group(_)
            | Route::GroupVersion(..)
            | Route::OpenApiV2
            | Route::OpenApi
            | Route::OpenApiOf(..)
            | Route::Unknown) => {
                if parts.method != http::Method::GET && route != Route::Unknown {
                    return status_answer(&Status::method_not_allowed());
                }
                return discovery::answer(&self.inner.store, &route, &accept);
            }
        };
        if !rest::is_served(&self.inner.store, &target, &parts.method) {
            return discovery::no_page();
        }
        let Some(verb) = Verb::of(&parts.method, &target, &query) else {
            return status_answer(&rest::no_verb(&target));
        };
        let manager = match query.get("fieldManager") {
            "" => agent(&header(http::header::USER_AGENT)),
            manager => manager.to_owned(),
        };
        let info = RequestInfo {
            manager: manager.clone(),
            agent: header(http::header::USER_AGENT),
            body: body.clone(),
            ..asked_of(verb, &target)
        };
        let fate = self.inner.faults.arrived(&info).await;
        let denied = self.inner.faults.denied();
        let asked = Asked {
            verb: method_verb(verb, &parts.method),
            target: &target,
        };
        if asked.is_among(&denied) {
            return status_answer(&asked.refusal());
        }
        let done = match &fate {
            Fate::Lost => return lost_answer(),
            Fate::Ignored => std::future::pending().await,
            Fate::Refused(status, retry_after) => return refused(verb, status, *retry_after),
            Fate::Answered | Fate::Late(_) => true,
            Fate::Unanswered | Fate::Hangs => false,
        };
        let before = self.inner.store.revision();
        let response = if verb == Verb::Proxy {
            self.proxy(&target, parts, body).await
        } else {
            let form = match Form::accepted(&accept) {
                Ok(form) => form,
                Err(status) => return status_answer(&status),
            };
            let call = Call {
                form,
                content_type: header(http::header::CONTENT_TYPE),
                target,
                query,
                manager,
                body,
                warnings: Rc::default(),
                denied,
            };
            let mut response = match rest::answer(&self.inner.store, verb, &call) {
                Ok(Reply::Json(code, body)) => json_answer(code, &body),
                Ok(Reply::Watch(watch)) => {
                    watch_answer(self.inner.faults.watched(info.clone(), watch.into_frames()))
                }
                Err(status) => status_answer(&status),
            };
            warn(&mut response, &call.warnings.borrow());
            response
        };
        if info.is_write() {
            self.inner.faults.carried_out(|| Logged {
                at: self.inner.store.clock().now(),
                request: info.clone(),
                code: response.status().as_u16(),
                revisions: (before, self.inner.store.revision()),
            });
        }
        if fate == Fate::Hangs {
            std::future::pending::<()>().await;
        }
        if !done || self.inner.faults.loses_answer(&info) {
            return lost_answer();
        }
        response
    }

    async fn proxy(
        &self,
        target: &Target,
        parts: http::request::Parts,
        body: Bytes,
    ) -> Response<Body> {
        if target.plural != "services" || !target.group.is_empty() {
            return status_answer(&Status::unknown_resource());
        }
        let proxy = self
            .inner
            .proxy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(proxy) = proxy else {
            return status_answer(&Status::unavailable(format!(
                "no endpoints available for service {:?}: nothing answers for the services of cluster {:?}",
                target.name, self.inner.name
            )));
        };
        // [SCHEME:]NAME[:PORT]
        let words: Vec<&str> = target.name.split(':').collect();
        let (service, port) = match words.as_slice() {
            [name] => (*name, ""),
            [name, port] | ["http" | "https" | "", name, port] => (*name, *port),
            _ => {
                return status_answer(&Status::bad_request(format!(
                    "invalid service request {:?}: it must be [SCHEME:]NAME[:PORT]",
                    target.name
                )));
            }
        };
        let mut request = Request::from_parts(parts, body);
        let path = match request.uri().query() {
            Some(query) => format!("{}?{query}", target.rest),
            None => target.rest.clone(),
        };
        match path.parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => {
                return status_answer(&Status::bad_request(format!(
                    "the path {path:?} cannot be passed on to service {service:?}: {error}"
                )));
            }
        }
        let call = ProxyCall {
            namespace: target.namespace.clone(),
            service: service.to_owned(),
            port: port.to_owned(),
            request,
        };
        proxy(call).await.map(whole)
    }

    /// The wall clock, for the `Date` header: Leases are real time whatever the cluster's clock shows.
    fn date(&self) -> String {
        jiff::Timestamp::from_millisecond(self.inner.wall.now().0)
            .ok()
            .and_then(|now| {
                jiff::fmt::rfc2822::DateTimePrinter::new()
                    .timestamp_to_rfc9110_string(&now)
                    .ok()
            })
            .unwrap_or_default()
    }
}

/// What a request is about.
fn asked_of(verb: Verb, target: &Target) -> RequestInfo {
    RequestInfo {
        verb: verb.name(),
        group: target.group.clone(),
        plural: target.plural.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        subresource: target.subresource.clone(),
        manager: String::new(),
        agent: String::new(),
        body: Bytes::new(),
    }
}

/// The verb that RBAC knows: a call through a proxy is what its method says.
fn method_verb(verb: Verb, method: &http::Method) -> &'static str {
    match (verb, method.as_str()) {
        (Verb::Proxy, "POST") => "create",
        (Verb::Proxy, "PUT") => "update",
        (Verb::Proxy, "PATCH") => "patch",
        (Verb::Proxy, "DELETE") => "delete",
        (Verb::Proxy, _) => "get",
        (other, _) => other.name(),
    }
}

fn text_of(parts: &http::request::Parts, name: http::HeaderName) -> String {
    parts
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// The field manager of a writer that names none: its User-Agent up to the slash.
fn agent(user_agent: &str) -> String {
    match user_agent.split('/').next() {
        None | Some("") => "unknown".to_owned(),
        Some(agent) => agent.to_owned(),
    }
}

fn whole(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// The answer that says what went wrong.
pub(super) fn status_answer(status: &Status) -> Response<Body> {
    let mut response = json_answer(status.code, &status.body());
    let retry_after = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry_after > 0 {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, retry_after.into());
    }
    response
}

/// Says what is amiss with a request that was carried out, as kubectl prints it.
fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        // The text of the header is quoted.
        let text = format!("299 - {warning:?}");
        if let Ok(text) = http::HeaderValue::from_str(&text) {
            response.headers_mut().append(http::header::WARNING, text);
        }
    }
}

/// A JSON answer.
pub(super) fn json_answer(code: u16, body: &Value) -> Response<Body> {
    typed_answer(code, "application/json", Bytes::from(body.to_string()))
}

/// An answer of some media type.
pub(super) fn typed_answer(code: u16, media: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(whole(body));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(media),
    );
    response
}

/// A refusal that a fault makes up. A watch is told of a version that is too old by an event.
fn refused(verb: Verb, status: &Status, retry_after: Option<u32>) -> Response<Body> {
    if verb == Verb::Watch && status.code == 410 {
        let line = format!("{}\n", json!({"type": "ERROR", "object": status.body()}));
        return typed_answer(200, "application/json", Bytes::from(line));
    }
    let mut response = status_answer(status);
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

fn watch_answer(
    frames: impl Stream<Item = Result<http_body::Frame<Bytes>, io::Error>> + Send + 'static,
) -> Response<Body> {
    let body = http_body_util::StreamBody::new(frames).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// A connection that breaks: in process the call fails, over a socket the body breaks off.
fn lost_answer() -> Response<Body> {
    let broken = || {
        io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the connection broke before the answer",
        )
    };
    let body = http_body_util::StreamBody::new(futures::stream::once(async move { Err(broken()) }));
    let mut response = Response::new(body.boxed_unsync());
    response.extensions_mut().insert(Lost);
    response
}
