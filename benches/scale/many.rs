//! Two hundred clusters with five Canaries each, and twenty of them that never answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{
    Options,
    one::window,
    process::Engine,
    site::Site,
    table::{Table, millis},
};

/// Canaries of each cluster, one of them the embedded cluster's own.
const CANARIES: usize = 4;
/// The engine leads every cluster.
const LEAD: [&str; 2] = ["--lead", "*"];
/// How often `list_clusters` is asked.
const ASKED: usize = 5;

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let clusters = options.clusters;
    let site = Site::start(clusters, CANARIES).await;
    let what = format!("{clusters} clusters with {} Canaries each", CANARIES + 1);
    {
        let kubeconfig = site.kubeconfig("kubeconfig", &[]);
        let engine = Engine::start(&kubeconfig, &LEAD).await;
        table.row(
            format!("{what}, empty: first `/readyz`, first `list_clusters`"),
            format!("{}, {}", millis(engine.ready), millis(engine.listed)),
        );
        let took = site.initialized().await;
        table.row(
            format!("{what}: from an empty start to all initialized"),
            format!(
                "{:.1} s, {:.1} s of CPU, {:.0} MB resident at the end",
                took.as_secs_f64(),
                engine.cpu(),
                engine.resident()
            ),
        );
        site.quiet().await;
        listed(&engine, table, &what).await;
        if options.tells(&["clusters"]) {
            site.quiet().await;
            window(&site, &engine, options, table, &format!("{what}, idle")).await;
        }
    }
    if options.tells(&["hanging"]) {
        hanging(&site, options, table).await;
    }
}

/// A tenth of the clusters never answers: half of them take the connection, half not even that.
async fn hanging(site: &Site, options: &Options, table: &mut Table) {
    let (deaf, black) = (Deaf::start().await, BlackHole::start().await);
    let lost = options.clusters / 10;
    let mut elsewhere = vec![deaf.address; lost / 2];
    elsewhere.resize(lost, black.address);
    let kubeconfig = site.kubeconfig("hanging", &elsewhere);
    let engine = Engine::start(&kubeconfig, &LEAD).await;
    let what = format!("{} clusters of which {lost} hang", options.clusters);
    table.row(
        format!("{what}: first `/readyz`, first `list_clusters`"),
        format!("{}, {}", millis(engine.ready), millis(engine.listed)),
    );
    listed(&engine, table, &what).await;
    // The others have settled by then.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (before, lines, cpu) = (deaf.connections(), engine.logged(), engine.cpu());
    let began = Instant::now();
    tokio::time::sleep(options.window).await;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    table.row(
        format!("{what}, idle: what the dead ones cost"),
        format!(
            "{:.1} connections a minute to each that takes them; {} lines of log; {:.2}% of a core in all",
            (deaf.connections() - before) as f64 / minutes / ((lost / 2).max(1) as f64),
            engine.logged() - lines,
            (engine.cpu() - cpu) / minutes / 60.0 * 100.0
        ),
    );
}

/// How long `list_clusters` takes, what it says and how much that is.
async fn listed(engine: &Engine, table: &mut Table, what: &str) {
    let mut longest = Duration::ZERO;
    let mut last = (Value::Null, 0);
    for _ in 0..ASKED {
        let began = Instant::now();
        last = engine.call("list_clusters").await;
        longest = longest.max(began.elapsed());
    }
    let (answer, size) = last;
    let rows = answer["clusters"].as_array().map_or(&[][..], Vec::as_slice);
    let reachable = rows.iter().filter(|row| row["reachable"] == true).count();
    let counted = rows
        .iter()
        .filter(|row| row["canaries"].as_object().is_some_and(|c| !c.is_empty()))
        .count();
    table.row(
        format!("{what}: `list_clusters`, the slowest of {ASKED}"),
        format!(
            "{}; {reachable} answer, {counted} with their Canaries counted, {} do not; {:.1} kB of text",
            millis(longest),
            rows.len() - reachable,
            size as f64 / 1e3
        ),
    );
}

/// Takes every connection and never says a word.
struct Deaf {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
}

impl Deaf {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok(accepted) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                kept.push(accepted);
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Does not even take the connection: its queue is full, so that the kernel drops whoever comes.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let full = Duration::from_millis(300);
        while let Ok(connected) = tokio::time::timeout(full, TcpStream::connect(address)).await {
            queue.push(connected.unwrap());
        }
        Self {
            address,
            _listener: listener,
            _queue: queue,
        }
    }
}
