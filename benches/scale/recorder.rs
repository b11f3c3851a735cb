//! What the API servers see of the engine: requests, bytes, open watches, and the moments of its writes.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
    serve::Listener,
};
use canary_mcp::cluster::embedded::faults::RequestInfo;
use futures::StreamExt as _;
use http::{Method, Uri};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// One write of the engine, as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) at: Instant,
    pub(crate) plural: String,
    pub(crate) name: String,
}

/// All that is counted. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Inner>);

#[derive(Default)]
struct Inner {
    requests: Mutex<BTreeMap<String, u64>>,
    writes: Mutex<Vec<Write>>,
    /// Canaries whose success rate is bad, and when that was answered first.
    failing: Mutex<HashMap<String, Option<Instant>>>,
    received: AtomicU64,
    sent: AtomicU64,
    connections: AtomicU64,
    watches: AtomicU64,
    watched: AtomicU64,
}

/// What came and went in a while.
pub(crate) struct Counted {
    /// Requests, `VERB RESOURCE`.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Bytes of bodies and headers, both ways.
    pub(crate) bytes: u64,
    /// Bytes that open watches got.
    pub(crate) watched: u64,
}

impl Counted {
    pub(crate) fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// `12 update leases, 3 watch canaries`, the most frequent first.
    pub(crate) fn told(&self) -> String {
        let mut each: Vec<_> = self.requests.iter().collect();
        each.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let each = each.iter().map(|(request, n)| format!("{n} {request}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

impl Recorder {
    /// Forgets what was counted and written so far.
    pub(crate) fn reset(&self) {
        lock(&self.0.requests).clear();
        lock(&self.0.writes).clear();
        for counter in [&self.0.received, &self.0.sent, &self.0.watched] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn counted(&self) -> Counted {
        Counted {
            requests: lock(&self.0.requests).clone(),
            bytes: load(&self.0.received) + load(&self.0.sent),
            watched: load(&self.0.watched),
        }
    }

    /// Watches that are open now.
    pub(crate) fn watches(&self) -> u64 {
        load(&self.0.watches)
    }

    /// Connections that are open now.
    pub(crate) fn connections(&self) -> u64 {
        load(&self.0.connections)
    }

    /// The first write since `since` that `which` is true of.
    pub(crate) fn written(
        &self,
        since: Instant,
        which: impl Fn(&Write) -> bool,
    ) -> Option<Instant> {
        let writes = lock(&self.0.writes);
        writes
            .iter()
            .find(|w| w.at >= since && which(w))
            .map(|w| w.at)
    }

    /// Takes down one write.
    pub(crate) fn write(&self, info: &RequestInfo) {
        if !info.is_write() || info.plural == "leases" || info.plural == "events" {
            return;
        }
        let name = if info.name.is_empty() {
            let body: serde_json::Value = serde_json::from_slice(&info.body).unwrap_or_default();
            body["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        } else {
            info.name.clone()
        };
        lock(&self.0.writes).push(Write {
            at: Instant::now(),
            plural: info.plural.clone(),
            name,
        });
    }

    /// From now on the success rate of this Canary is bad.
    pub(crate) fn fail(&self, canary: &str) {
        lock(&self.0.failing).insert(canary.to_owned(), None);
    }

    /// The success rate of all is good again.
    pub(crate) fn all_well(&self) {
        lock(&self.0.failing).clear();
    }

    /// When the bad success rate of this Canary was answered first.
    pub(crate) fn failed(&self, canary: &str) -> Option<Instant> {
        lock(&self.0.failing).get(canary).copied().flatten()
    }

    /// The success rate of this Canary, which is being asked for.
    pub(crate) fn success_rate(&self, canary: &str) -> &'static str {
        match lock(&self.0.failing).get_mut(canary) {
            Some(first) => {
                first.get_or_insert_with(Instant::now);
                "42"
            }
            None => "100",
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

// === requests ===

/// Counts each request, and what each watch gets.
pub(crate) async fn count(
    State(recorder): State<Recorder>,
    request: Request,
    next: Next,
) -> Response {
    let (name, watches) = named(request.method(), request.uri());
    *lock(&recorder.0.requests).entry(name).or_default() += 1;
    let response = next.run(request).await;
    if !watches {
        return response;
    }
    let open = Open::of(&recorder);
    response.map(|body| {
        Body::from_stream(
            body.into_data_stream()
                .inspect(move |chunk| open.got(chunk.as_ref().map_or(0, Bytes::len))),
        )
    })
}

/// One open watch.
struct Open(Recorder);

impl Open {
    fn of(recorder: &Recorder) -> Self {
        recorder.0.watches.fetch_add(1, Ordering::Relaxed);
        Self(recorder.clone())
    }

    fn got(&self, bytes: usize) {
        add(&self.0.0.watched, bytes);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `update leases` of `/clusters/NAME/apis/GROUP/VERSION/namespaces/NS/leases/X`, and whether it is a watch.
fn named(method: &Method, uri: &Uri) -> (String, bool) {
    let mut words = uri.path().split('/').skip(3).peekable();
    let skipped = match words.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => {
            return (
                format!("{method} {}", uri.path().rsplit('/').next().unwrap()),
                false,
            );
        }
    };
    let mut words: Vec<&str> = words.skip(skipped).collect();
    if let ["namespaces", _, _, ..] = words.as_slice() {
        words.drain(..2);
    }
    let watches = uri.query().is_some_and(|q| q.contains("watch=true"));
    let verb = match (method.as_str(), words.len()) {
        ("GET", _) if watches => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        (other, _) => other,
    };
    let resource = match words.as_slice() {
        [plural, _, subresource, ..] => format!("{plural}/{subresource}"),
        [plural, ..] => (*plural).to_owned(),
        [] => "discovery".to_owned(),
    };
    (format!("{verb} {resource}"), watches)
}

// === connections ===

/// A listener whose connections are counted, and what they carry.
pub(crate) struct Counting {
    pub(crate) listener: TcpListener,
    pub(crate) recorder: Recorder,
}

impl Listener for Counting {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            if let Ok((socket, peer)) = self.listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let recorder = self.recorder.clone();
                recorder.0.connections.fetch_add(1, Ordering::Relaxed);
                return (Connection { socket, recorder }, peer);
            }
            // Out of sockets, most likely: some may be closed soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection of the engine.
pub(crate) struct Connection {
    socket: TcpStream,
    recorder: Recorder,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.recorder.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        add(&self.recorder.0.received, buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = &written {
            add(&self.recorder.0.sent, *n);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
