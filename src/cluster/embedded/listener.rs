//! The embedded clusters on a socket, for kubectl and for a `serve` in another process.

use std::{future::Future, io, net::SocketAddr, path::Path, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    serve::ListenerExt as _,
};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    exposition,
    fleet::{Fleet, Member},
};
use crate::{cluster::clock::rfc3339_micro, decide::facts::Moment};

/// Largest request body, as a Kubernetes API server has it (3 MiB).
const MAX_BODY: usize = 3 << 20;

struct Shared {
    epoch: Moment,
    members: Vec<Member>,
    /// Ends the watches when the listener ends.
    closing: CancellationToken,
}

/// Serves every cluster of the fleet at `/clusters/NAME/...`, its clock at `/clusters/NAME/clock` and what its workloads measure at
/// `/clusters/NAME/metrics`, until `shutdown` is ready; open watches end then, other requests are finished. The future holds nothing of the fleet but its servers.
///
/// # Errors
/// When the listener fails.
pub fn serve<F>(
    listener: TcpListener,
    fleet: &Fleet,
    shutdown: F,
) -> impl Future<Output = io::Result<()>> + Send + use<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    let closing = CancellationToken::new();
    let routes = router(fleet, closing.clone());
    // Watch events are small and must not wait for more of them.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let stop = async move {
        shutdown.await;
        closing.cancel();
    };
    async move {
        axum::serve(listener, routes)
            .with_graceful_shutdown(stop)
            .await
    }
}

/// What [`serve`] answers with, for a caller with a listener of its own. Cancelling `closing` ends open watches.
pub fn router(fleet: &Fleet, closing: CancellationToken) -> Router {
    let shared = Arc::new(Shared {
        epoch: fleet.epoch(),
        members: fleet.members().to_vec(),
        closing,
    });
    Router::new().fallback(answer).with_state(shared)
}

/// A web page must not reach the clusters through its visitor's browser: neither as an origin of its own nor under another name for this
/// address. kubectl and scripts send no Origin.
fn refused(request: &Request) -> Option<Response> {
    let headers = request.headers();
    let host = headers
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
        .unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
        .map_or(host, |(name, _)| name);
    let near = matches!(name, "localhost" | "127.0.0.1" | "[::1]" | "");
    (!near || headers.contains_key(header::ORIGIN)).then(|| {
        let text = "embedded clusters answer programs on this machine only, not web pages\n";
        (StatusCode::FORBIDDEN, text).into_response()
    })
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if let Some(refused) = refused(&request) {
        return refused;
    }
    let path = request.uri().path();
    let Some((name, rest)) = path.strip_prefix("/clusters/").map(split) else {
        return missing(&shared);
    };
    let Some(member) = shared.members.iter().find(|m| m.name == name) else {
        return missing(&shared);
    };
    match rest {
        "/clock" => return clock(shared.epoch, member),
        "/metrics" => return metrics(member),
        _ => {}
    }
    let uri = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let Ok(uri) = uri.parse::<Uri>() else {
        return (StatusCode::BAD_REQUEST, "the path is not a valid URI\n").into_response();
    };
    let (mut parts, body) = request.into_parts();
    parts.uri = uri;
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let text = format!("the request's body could not be read: {error}\n");
            return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
    };
    let response = member
        .server
        .handle(http::Request::from_parts(parts, body))
        .await;
    let (parts, body) = response.into_parts();
    let closing = shared.closing.clone().cancelled_owned();
    let stream = body.into_data_stream().take_until(Box::pin(closing));
    Response::from_parts(
        parts,
        Body::from_stream(stream.map(|chunk: Result<Bytes, _>| chunk)),
    )
}

/// `NAME` and `/the/rest` of `NAME/the/rest`.
fn split(path: &str) -> (&str, &str) {
    match path.find('/') {
        Some(at) => path.split_at(at),
        None => (path, "/"),
    }
}

fn missing(shared: &Shared) -> Response {
    let names: Vec<&str> = shared.members.iter().map(|m| m.name.as_str()).collect();
    let text = format!(
        "there is no such cluster here: ask /clusters/NAME/..., NAME one of {}\n",
        names.join(", ")
    );
    (StatusCode::NOT_FOUND, text).into_response()
}

fn clock(epoch: Moment, member: &Member) -> Response {
    let body = json!({
        "epoch": rfc3339_micro(epoch),
        "now": rfc3339_micro(member.clock.now()),
        "speed": member.clock.speed(),
    });
    axum::Json(body).into_response()
}

fn metrics(member: &Member) -> Response {
    let content_type = [(header::CONTENT_TYPE, exposition::CONTENT_TYPE)];
    (content_type, member.metrics().exposition()).into_response()
}

/// A kubeconfig for the clusters of `fleet` served at `address`: one context for each, the first current. Its extension
/// `canary-mcp.dev/embedded` says where the clock of a cluster is published.
#[must_use]
pub fn kubeconfig(fleet: &Fleet, address: SocketAddr) -> String {
    let url = |m: &Member| format!("http://{address}/clusters/{}", m.name);
    let members = fleet.members();
    let clusters = members.iter().map(|m| {
        json!({"name": m.name, "cluster": {
            "server": url(m),
            "extensions": [{
                "name": "canary-mcp.dev/embedded",
                "extension": {"clock": format!("{}/clock", url(m)), "labels": m.labels},
            }],
        }})
    });
    let contexts = members
        .iter()
        .map(|m| json!({"name": m.name, "context": {"cluster": m.name, "user": "embedded"}}));
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": members.first().map(|m| &m.name),
        "clusters": clusters.collect::<Vec<_>>(),
        "contexts": contexts.collect::<Vec<_>>(),
        "users": [{"name": "embedded", "user": {}}],
    });
    // A tree of maps, lists, texts and numbers has no YAML that could fail; JSON, which is YAML too, stands by.
    serde_saphyr::to_string(&config).unwrap_or_else(|_| config.to_string())
}

/// Writes a kubeconfig that only its owner can read (mode 0600), whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let beside = path.with_extension(format!("tmp-{}", std::process::id()));
    // What lies there already may be anybody's, with anybody's rights: it goes, and the file is made anew.
    if let Err(error) = std::fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let moved = written.and_then(|()| std::fs::rename(&beside, path));
    if moved.is_err() {
        // The rest of a write that failed; the failure itself is what is told.
        drop(std::fs::remove_file(&beside));
    }
    moved
}
