//! Calls to Services through the API server.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use serde_json::Value;

use super::{
    Cluster, Error,
    error::{self, Cause, Context},
    proxy_address, wire,
};

/// What a Service may answer.
const MOST_BYTES: usize = 1 << 20;

/// A request to a Service inside the cluster.
#[derive(Debug, Clone)]
pub struct ServiceCall {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Its port, a number or a name.
    pub port: String,
    /// What to send. Of its URI only the path, the query and the scheme (`https`) count.
    pub request: http::Request<Bytes>,
    /// Real time until the whole answer must be there.
    pub within: Duration,
}

impl Cluster {
    /// Sends a request to a Service through the API server's `services/proxy`. Any answer of the Service is `Ok`, 5xx included; what the
    /// API server itself answers (no such Service, no endpoints, not allowed) is an error. At most 1 MiB.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`, `Rejected` (no endpoint answers; an Authorization or Impersonate header, which the API server would take for
    /// its own), `Unreachable`.
    pub async fn service_call(&self, call: ServiceCall) -> Result<http::Response<Bytes>, Error> {
        let ServiceCall {
            namespace,
            service,
            port,
            mut request,
            within,
        } = call;
        let object = format!("Service {namespace}/{service}:{port}");
        let context = Context {
            cluster: self.name(),
            operation: "reach",
            object: &object,
            resource: "services/proxy",
            namespace: &namespace,
        };
        if let Some(header) = request
            .headers()
            .keys()
            .find(|name| is_for_the_api_server(name))
        {
            let cause = Cause::Own(format!(
                "the header {header} cannot pass through the API server, which takes it for its own; give an address outside the cluster, or \
                 run this server inside the cluster"
            ));
            return Err(Error::new(context, cause));
        }
        let path = proxy_address::path(&namespace, &service, &port, request.uri());
        let uri = match path.parse() {
            Ok(uri) => uri,
            Err(error) => {
                let cause = Cause::Own(format!("{path} is no path: {error}"));
                return Err(Error::new(context, cause));
            }
        };
        *request.uri_mut() = uri;
        request.headers_mut().remove(header::HOST);
        let client = &self.shared.spec.client;
        let answer = wire::exchange(client, request, within, MOST_BYTES).await;
        let (status, headers, body) = answer.map_err(|cause| Error::new(context, cause))?;
        if !status.is_success() && is_kubernetes_status(&body) {
            return Err(Error::new(context, error::cause_of_answer(status, &body)));
        }
        let mut answer = http::Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// It says who calls the API server: with our credentials nobody else's words do that.
fn is_for_the_api_server(name: &http::HeaderName) -> bool {
    *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-")
}

/// The API server's own answer, not the Service's.
fn is_kubernetes_status(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body)
        .is_ok_and(|body| body["kind"] == "Status" && body["apiVersion"] == "v1")
}
