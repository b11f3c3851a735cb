//! What an engine asks of Prometheus, listened to on its way to the API server.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use canary_mcp::{
    cluster::{Cluster, ClusterSpec, embedded::fleet::Member},
    decide::facts::Moment,
};
use http_body_util::BodyExt as _;

use crate::support::spec;

/// One query, as it was answered.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// When, on the cluster's clock: the moment that it was evaluated at.
    pub(super) at: Moment,
    pub(super) query: String,
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Everything asked so far, in the order of the answers.
pub(super) type Log = Arc<Mutex<Vec<Asked>>>;

/// A cluster as an engine is given it, whose queries are written down.
pub(super) fn listened_to(member: &Member, log: &Log) -> Cluster {
    let (client, clock, log) = (member.server.client(), member.clock.clone(), log.clone());
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (client, clock, log) = (client.clone(), clock.clone(), log.clone());
        async move {
            let Some(query) = query(request.uri()) else {
                return client.send(request).await.map_err(tower::BoxError::from);
            };
            let at = clock.now();
            let (parts, body) = client.send(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            log.lock().unwrap().push(Asked {
                at,
                query,
                status: parts.status.as_u16(),
                body: body.clone(),
            });
            let body = kube::client::Body::from(body.to_vec());
            Ok(http::Response::from_parts(parts, body))
        }
    });
    Cluster::new(ClusterSpec {
        client: kube::Client::new(service, "default"),
        ..spec(member, true)
    })
}

/// The query in a call of Prometheus through the API server.
fn query(uri: &http::Uri) -> Option<String> {
    if !uri.path().ends_with("/proxy/api/v1/query") {
        return None;
    }
    let pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    let query = pairs.into_iter().find(|(name, _)| name == "query")?.1;
    Some(query.into_owned())
}
