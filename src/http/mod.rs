//! The listener: MCP at `/mcp`, webhooks of ours beside it ([`gate`]), and what a cluster asks of every server (`/healthz`, `/readyz`, `/metrics`).
//!
//! The stack is the same for every MCP handler, so that the tests drive handlers that panic or never answer through the very layers that
//! serve the product.

pub mod auth;
mod call;
mod cancel;
mod early;
pub mod gate;
mod refusal;

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
    serve::{Listener, ListenerExt},
};
use rmcp::{
    ServerHandler,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::telemetry::{CONTENT_TYPE, Metrics};

/// Names that a client on this machine may call us by; rmcp's own defaults.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// No request of MCP is nearly as long.
const BODY_LIMIT: usize = 1024 * 1024;

/// Says whether this process is ready to serve, or why it is not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the router is told beside its handler.
#[derive(Clone)]
pub struct Options {
    /// Host headers to accept at `/mcp` beside the loopback names, with or without a port.
    pub allowed_hosts: Vec<String>,
    /// Who may call `/mcp`; `None`: whoever reaches it.
    pub tokens: Option<auth::StaticTokens>,
    /// The webhooks, under the same tokens; `None`: there are none.
    pub gates: Option<gate::Gates>,
    /// Answers `/readyz`.
    pub ready: Ready,
    /// Answers `/healthz`: what only a new process can mend.
    pub healthy: Ready,
    /// Shown at `/metrics`.
    pub metrics: Metrics,
    /// How long a call may be silent before its head is sent. A head cannot be taken back, so what fails at once must fit in here.
    pub grace: Duration,
    /// How often a silent stream gets a comment.
    pub keep_alive: Duration,
    /// Cancelling it cuts every stream; [`serve`] does so when draining has taken too long.
    pub cut: CancellationToken,
}

impl Options {
    /// The options of the product: half a second of grace, and a comment every 15 s, under the shortest idle timeout that is known.
    #[must_use]
    pub fn new(allowed_hosts: Vec<String>, ready: Ready, metrics: Metrics) -> Self {
        Self {
            allowed_hosts,
            tokens: None,
            gates: None,
            ready,
            healthy: Arc::new(|| Ok(())),
            metrics,
            grace: Duration::from_millis(500),
            keep_alive: Duration::from_secs(15),
            cut: CancellationToken::new(),
        }
    }
}

/// The routes, with `handler` at `/mcp`.
pub fn router<H>(handler: H, options: Options) -> Router
where
    H: ServerHandler + Clone + Send + Sync + 'static,
{
    let Options {
        allowed_hosts,
        tokens,
        gates,
        ready,
        healthy,
        metrics,
        grace,
        keep_alive,
        cut,
    } = options;
    let hosts = LOOPBACK
        .iter()
        .map(|name| (*name).to_owned())
        .chain(allowed_hosts);
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .enforce_origin_validation()
        .with_allowed_hosts(hosts)
        .with_sse_keep_alive(Some(keep_alive))
        .with_sse_retry(None)
        .with_max_request_body_bytes(BODY_LIMIT)
        .with_cancellation_token(cut);
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let early = early::Early { grace, keep_alive };
    // The last layer is the outermost: a request proves who it is from and loses its credentials, is told why it is refused, is read, may be
    // one that its caller may not make, may be cancelled, and gets its head in time.
    let mcp = Router::new()
        .route_service("/mcp", service)
        .layer(from_fn_with_state(early, early::answer))
        .layer(from_fn_with_state(cancel::Calls::default(), cancel::listen))
        .layer(from_fn(auth::authorise))
        .layer(from_fn(call::read))
        .layer(from_fn(refusal::explain))
        .layer(from_fn_with_state(tokens.clone(), auth::authenticate));
    let hooks = gates.map_or_else(Router::new, |gates| gate::routes(gates, tokens.as_ref()));
    probes(healthy, ready, metrics)
        .merge(mcp)
        .merge(hooks)
        .layer(CatchPanicLayer::new())
}

/// The routes of a process without MCP, and of every other: `/healthz`, `/readyz` and `/metrics`.
pub fn probes(healthy: Ready, ready: Ready, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(judged).with_state(healthy))
        .route("/readyz", get(judged).with_state(ready))
        .route("/metrics", get(exposition).with_state(metrics))
}

async fn judged(State(judge): State<Ready>) -> Response {
    match judge() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn exposition(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot encode the metrics: {error}\n"),
        )
            .into_response(),
    }
}

/// Connections of `listener` without Nagle's delay, which holds each event of a stream back for 40 ms. A connection that cannot be
/// switched works all the same.
pub fn prompt(
    listener: TcpListener,
) -> impl Listener<Io = tokio::net::TcpStream, Addr = std::net::SocketAddr> {
    listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch Nagle's delay off");
        }
    })
}

/// Serves until `shutdown`, then takes no new connections and lets the running calls end. After `drain` the rest is cut through `cut`,
/// the token of [`Options`].
///
/// # Errors
/// The listener's own.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
    cut: CancellationToken,
) -> io::Result<()> {
    /// How long what has been cut may take to notice.
    const LAST: Duration = Duration::from_secs(1);
    let stopping = CancellationToken::new();
    let stop = stopping.clone();
    let server = axum::serve(prompt(listener), router).with_graceful_shutdown(async move {
        shutdown.await;
        stop.cancel();
    });
    tokio::select! {
        ended = server => ended,
        () = async {
            stopping.cancelled().await;
            tokio::time::sleep(drain).await;
            tracing::warn!(seconds = drain.as_secs(), "calls have outlived the drain and are cut");
            cut.cancel();
            tokio::time::sleep(LAST).await;
        } => Ok(()),
    }
}
