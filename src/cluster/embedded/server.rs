//! The HTTP face of a [`Store`]: what `kube::Client` and kubectl talk to.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::Value;

use super::{faults::Faults, status::Status, store::Store};

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
                let response = server.handle(Request::from_parts(parts, body)).await;
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

    /// Answers one request.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Body> {
        let _ = request;
        status_answer(&Status::unknown_resource())
    }
}

fn status_answer(status: &Status) -> Response<Body> {
    json_answer(status.code, &status.body())
}

fn json_answer(code: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
