//! How what a manifest or a flag names is reached from here: a Service of the cluster through its API server, unless we run inside of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};

use super::Settings;
use crate::{
    cluster::{Cluster, ServiceCall},
    outbound::{
        address::{self, Route},
        http::Transport,
    },
};

/// Beyond what the caller waits for: who has waited long enough says so, not the way.
const GRACE: Duration = Duration::from_secs(1);

/// Who names an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namer<'a> {
    /// An object of this namespace.
    Manifest(&'a str),
    /// The installation.
    Flag,
}

/// A way to an address.
pub(super) struct Way {
    /// What to put into the request.
    pub(super) url: String,
    /// What takes it there.
    pub(super) transport: Transport,
}

/// Where an address leads.
///
/// # Errors
/// Why it is refused, and what to write instead.
pub(super) fn route(settings: &Settings, address: &str, namer: Namer<'_>) -> Result<Route, String> {
    let (namespace, from_flag) = match namer {
        Namer::Manifest(namespace) => (namespace, false),
        Namer::Flag => ("default", true),
    };
    address::route(address, namespace, &settings.allow_hosts, from_flag)
}

/// The way along a route, for a caller who waits for `within`. `direct` takes what does not go through the API server.
pub(super) fn way(cluster: &Cluster, direct: &Transport, route: &Route, within: Duration) -> Way {
    let url = route.url();
    let transport = match route {
        Route::Service {
            namespace,
            service,
            port,
            ..
        } if !cluster.inside() => {
            let (cluster, namespace, service) =
                (cluster.clone(), namespace.clone(), service.clone());
            let port = port.to_string();
            Transport::Through(Arc::new(move |request: Request<Bytes>| {
                let call = ServiceCall {
                    namespace: namespace.clone(),
                    service: service.clone(),
                    port: port.clone(),
                    request,
                    within: within + GRACE,
                };
                let cluster = cluster.clone();
                Box::pin(async move {
                    let answer: Result<Response<Bytes>, _> = cluster.service_call(call).await;
                    answer.map_err(|error| error.report())
                })
            }))
        }
        Route::Service { .. } | Route::Direct(_) => direct.clone(),
    };
    Way { url, transport }
}
