//! A server on loopback, a client, and a handler that misbehaves, on the very stack of the product.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use canary_mcp::{
    http::{Options, router},
    mcp::guarded,
    telemetry::Metrics,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
        ServerConfig,
    },
    service::RequestContext,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};

/// No test waits longer for anything; one that gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A tool for each thing that a tool must not do.
#[derive(Clone)]
pub(super) struct Misbehaving {
    /// Lets `silent` answer.
    pub(super) release: Arc<Notify>,
    /// Says what happened to a call.
    pub(super) events: mpsc::UnboundedSender<&'static str>,
}

impl ServerHandler for Misbehaving {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text =
            |text: String| Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into());
        guarded(&request.name, Duration::from_secs(60), async {
            match request.name.as_ref() {
                "panics" => panic!("a mistake of ours"),
                // Says nothing until it is released.
                "silent" => {
                    self.events.send("running").unwrap();
                    self.release.notified().await;
                    text("done".to_owned())
                }
                // Ends only when its caller goes.
                "waits" => {
                    self.events.send("running").unwrap();
                    context.ct.cancelled().await;
                    self.events.send("cancelled").unwrap();
                    text("cancelled".to_owned())
                }
                // What a tool can see of the request.
                "headers" => {
                    let parts = context.extensions.get::<http::request::Parts>().unwrap();
                    let mut names: Vec<_> =
                        parts.headers.keys().map(http::HeaderName::as_str).collect();
                    names.sort_unstable();
                    text(names.join(" "))
                }
                _ => Err(ErrorData::invalid_params("tool not found", None)),
            }
        })
        .await
    }
}

/// What the misbehaving handler shares with a test.
pub(super) struct Strings {
    pub(super) release: Arc<Notify>,
    pub(super) events: mpsc::UnboundedReceiver<&'static str>,
}

impl Strings {
    /// The next event of a tool.
    pub(super) async fn event(&mut self) -> &'static str {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

pub(super) fn misbehaving() -> (Misbehaving, Strings) {
    let (sender, events) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    (
        Misbehaving {
            release: Arc::clone(&release),
            events: sender,
        },
        Strings { release, events },
    )
}

pub(super) fn options() -> Options {
    Options::new(
        vec!["mcp.example.com".to_owned()],
        Arc::new(|| Ok(())),
        Metrics::new("test", "istio"),
    )
}

/// A server and the way to it. It ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) origin: String,
    pub(crate) client: reqwest::Client,
}

pub(crate) fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another test of this binary may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(super) async fn serve<H>(handler: H, options: Options) -> Server
where
    H: ServerHandler + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let cut = options.cut.clone();
    tokio::spawn(canary_mcp::http::serve(
        listener,
        router(handler, options),
        std::future::pending(),
        Duration::ZERO,
        cut,
    ));
    Server {
        origin,
        client: client(),
    }
}

/// Which protocol a request speaks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Era {
    Modern,
    Legacy(&'static str),
}

impl Server {
    /// A request of `era`, complete but for what a test adds.
    pub(crate) fn post(&self, era: Era, method: &str, params: Value) -> reqwest::RequestBuilder {
        let mut params = params;
        let mut request = self
            .client
            .post(format!("{}/mcp", self.origin))
            .timeout(PATIENCE)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        match era {
            Era::Modern => {
                let name = params["name"].as_str().map(str::to_owned);
                let meta = params["_meta"].take();
                params["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                });
                if let Value::Object(meta) = meta {
                    params["_meta"].as_object_mut().unwrap().extend(meta);
                }
                request = request
                    .header("mcp-protocol-version", "2026-07-28")
                    .header("mcp-method", method);
                if let Some(name) = name {
                    request = request.header("mcp-name", name);
                }
            }
            Era::Legacy(version) if method != "initialize" => {
                request = request.header("mcp-protocol-version", version);
            }
            Era::Legacy(_) => {}
        }
        let body = if method.starts_with("notifications/") {
            json!({"jsonrpc": "2.0", "method": method, "params": params})
        } else {
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        };
        request.body(body.to_string())
    }

    /// Status and all messages of the answer.
    pub(crate) async fn ask(&self, era: Era, method: &str, params: Value) -> (u16, Vec<Value>) {
        let response = self.post(era, method, params).send().await.unwrap();
        let status = response.status().as_u16();
        (status, messages(&response.text().await.unwrap()))
    }

    /// The last message's result.
    pub(crate) async fn result(&self, era: Era, method: &str, params: Value) -> Value {
        let (status, messages) = self.ask(era, method, params).await;
        assert_eq!(status, 200, "{messages:?}");
        let mut last = messages.last().unwrap().clone();
        assert!(last.get("result").is_some(), "{last}");
        last["result"].take()
    }
}

/// The messages of an answer, a stream of events or one document.
pub(crate) fn messages(text: &str) -> Vec<Value> {
    if let Ok(message) = serde_json::from_str(text) {
        return vec![message];
    }
    text.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim)
        .filter(|data| !data.is_empty())
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}
