//! The composition root: registry -> engine -> server, and a graceful end.

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    api::{crd, names, parse, rights},
    cli::Cli,
    cluster::{
        ClusterSpec, Overrides,
        clock::Clock,
        embedded::{
            fleet::{Fleet, FleetOptions, Member},
            listener,
        },
        registry::Registry,
        sources::{self, Sources},
    },
    config::{self, Auth, Config, Part},
    decide::plan::Labels,
    engine::{Engine, Limits, Settings, control::Control},
    http::{
        self,
        auth::{self, Minted, StaticTokens},
    },
    mcp::{McpServer, clients, schemas},
    outbound::http::{self as client, Transport},
    telemetry::{self, Metrics},
};

/// Where the embedded clusters listen for kubectl; taken already, any port will do.
const EMBEDDED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8090);
/// How far in the past the embedded clusters begin, milliseconds: their clock runs fast, and kubectl shows ages from the future as
/// `<invalid>`.
const HEAD_START: i64 = 7 * 24 * 3_600_000;
/// How long running calls may take to end after the process was asked to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long what is left may take at the very end.
const LAST: Duration = Duration::from_secs(2);
/// Exit code of a command line that cannot be carried out.
const USAGE: u8 = 2;

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error("cannot listen on {0}: {1}; give another address with --listen, port 0 picks one")]
    Listen(SocketAddr, io::Error),
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
    #[error("{0}")]
    Sources(#[from] sources::SourcesError),
    #[error("the embedded clusters cannot start: {0}")]
    Fleet(String),
    #[error("{0}")]
    Client(String),
    #[error("--auth-file: {0}")]
    Tokens(String),
    #[error("{0}")]
    Token(String),
    #[error("serving failed: {0}")]
    Serve(io::Error),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let config = match Config::parse(Cli::parse(), |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}\n\nFor the manual, try --help.");
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = telemetry::start_logs() {
        eprintln!("cannot start the log: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(carry_out(config));
    // A call that hangs outside of the runtime's reach (a credential plugin) must not keep the process.
    runtime.shutdown_timeout(LAST);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(config: Config) -> Result<(), Fatal> {
    match config {
        Config::Serve(config) => serve(config).await,
        Config::Engine(config) => engine(config).await,
        Config::Cluster(config) => cluster(config).await,
        Config::Crds => {
            say(&crd::yaml());
            Ok(())
        }
        Config::Rights(part) => {
            let (name, rules) = match part {
                Part::Engine => ("canary-mcp-engine", rights::engine()),
                Part::Front => ("canary-mcp-front", rights::front()),
                Part::ReadOnly => ("canary-mcp-read-only", rights::read_only()),
            };
            say(&rights::cluster_role(name, &rules));
            Ok(())
        }
        Config::Token { name, scopes } => {
            let Minted { token, line } = auth::mint(&name, &scopes).map_err(Fatal::Token)?;
            say(&format!(
                "Token, shown this once:\n  {token}\nLine for the file of --auth-file:\n  {line}\n"
            ));
            Ok(())
        }
        Config::Schemas { out: None } => {
            say(&format!("{}\n", schemas::print()));
            Ok(())
        }
        Config::Schemas { out: Some(out) } => {
            schemas::write(&out).map_err(|error| Fatal::Write(out, error))
        }
    }
}

async fn serve(config: config::Serve) -> Result<(), Fatal> {
    let config::Serve {
        listen,
        embedded,
        sources,
        engine,
        auth,
        gate_open_checks,
        allowed_host,
        driving,
    } = config;
    let tokens = match auth {
        Auth::None => None,
        Auth::StaticTokens(path) => Some(StaticTokens::load(&path).map_err(Fatal::Tokens)?),
    };
    let listener = bind(listen).await?;
    let stop = CancellationToken::new();
    let fleet = match embedded {
        Some(speed) => Some(EmbeddedFleet::start(speed, EMBEDDED, true, &stop).await?),
        None => None,
    };
    let embedded = fleet.as_ref().map(|f| specs(&f.fleet)).unwrap_or_default();
    let Parts {
        registry,
        settings,
        metrics,
        direct,
    } = parts(sources, driving, embedded, &stop).await?;
    let reach = reach(&registry, fleet.as_ref(), engine);
    let driving =
        engine.then(|| Engine::start(&registry, settings.clone(), metrics.clone(), direct.clone()));
    let draining = CancellationToken::new();
    let mut control = Control::new(registry, settings, direct);
    if let Some(driving) = &driving {
        control = control.with(driving.leading());
    }
    let gates = http::gate::Gates {
        control: control.clone(),
        open_checks: gate_open_checks,
    };
    let server = McpServer::new(control, metrics.clone(), draining.clone());
    let mut options = http::Options::new(allowed_host, ready(&draining), metrics);
    options.tokens = tokens;
    options.gates = Some(gates);
    if let Some(driving) = &driving {
        options.healthy = healthy(driving);
    }
    let address = listener.local_addr().map_err(Fatal::Serve)?;
    say(&format!(
        "{}{reach}",
        welcome(address, fleet.as_ref(), options.tokens.is_some())
    ));
    let ends = {
        let draining = draining.clone();
        async move {
            asked_to_stop().await;
            draining.cancel();
        }
    };
    let cut = options.cut.clone();
    let serving = async {
        let result = http::serve(listener, http::router(server, options), ends, DRAIN, cut).await;
        // Also where it has failed by itself.
        draining.cancel();
        result
    };
    // The Leases do not wait for the calls that still run: other replicas act on what those ask for.
    let handing_over = async {
        draining.cancelled().await;
        if let Some(driving) = driving {
            driving.stop().await;
        }
    };
    let (result, ()) = tokio::join!(serving, handing_over);
    stop.cancel();
    if let Some(fleet) = fleet {
        fleet.forget();
    }
    result.map_err(Fatal::Serve)
}

/// The engine without MCP.
async fn engine(config: config::Alone) -> Result<(), Fatal> {
    let config::Alone {
        listen,
        sources,
        driving,
    } = config;
    let listener = bind(listen).await?;
    let stop = CancellationToken::new();
    let Parts {
        registry,
        settings,
        metrics,
        direct,
    } = parts(sources, driving, Vec::new(), &stop).await?;
    let reach = reach(&registry, None, true);
    let driving = Engine::start(&registry, settings, metrics.clone(), direct);
    let draining = CancellationToken::new();
    let routes = http::probes(healthy(&driving), ready(&draining), metrics);
    let address = listener.local_addr().map_err(Fatal::Serve)?;
    say(&format!(
        "canary-mcp drives rollouts; /healthz, /readyz and /metrics are at http://{}\n{reach}",
        callable(address)
    ));
    let (served, cut) = (CancellationToken::new(), CancellationToken::new());
    let ends = served.clone().cancelled_owned();
    let serving = http::serve(listener, routes, ends, LAST, cut);
    let handing_over = async {
        asked_to_stop().await;
        draining.cancel();
        driving.stop().await;
        stop.cancel();
        // Until here it says that it is not ready.
        served.cancel();
    };
    let (result, ()) = tokio::join!(serving, handing_over);
    result.map_err(Fatal::Serve)
}

/// What every process needs that joins clusters.
struct Parts {
    registry: Registry,
    settings: Settings,
    metrics: Metrics,
    direct: Transport,
}

async fn parts(
    sources: config::Sources,
    driving: config::Driving,
    embedded: Vec<ClusterSpec>,
    stop: &CancellationToken,
) -> Result<Parts, Fatal> {
    let config::Sources {
        kubeconfig,
        context,
        in_cluster,
        argocd,
        lead,
        cluster_labels,
        clusters_file,
    } = sources;
    let config::Driving {
        mesh_provider,
        metrics_server,
        event_webhook,
        selector_labels,
        include_label_prefix,
        namespaces,
        max_concurrent,
        max_concurrent_per_namespace,
        dry_run,
        allow_hosts,
        lease_namespace,
        home,
        lead_at_most,
    } = driving;
    let sources = Sources {
        kubeconfigs: kubeconfig,
        contexts: context,
        lead,
        in_cluster,
        argocd,
        embedded,
        labels: cluster_labels,
        clusters_file,
    };
    let registry = sources::start(sources, stop).await?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), &mesh_provider);
    let settings = Settings {
        identity: identity(),
        lease_namespace,
        home,
        lead_at_most,
        metrics_server,
        event_webhook,
        allow_hosts,
        namespaces,
        limits: Limits::of(max_concurrent, max_concurrent_per_namespace),
        dry_run,
        parse: parse::Settings {
            mesh_provider,
            labels: Labels {
                selectors: selector_labels,
                prefixes: include_label_prefix,
            },
        },
    };
    let direct = Transport::Direct(client::client(false).map_err(Fatal::Client)?);
    Ok(Parts {
        registry,
        settings,
        metrics,
        direct,
    })
}

/// What this process may do on clusters that are not its own: who forgets `--lead` would wait for rollouts that nobody drives.
fn reach(registry: &Registry, own: Option<&EmbeddedFleet>, engine: bool) -> String {
    let (mut led, mut read, mut lost, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let entries = registry.all();
    for entry in entries.iter() {
        let name = entry.name.as_str();
        if let (Some(note), Ok(_)) = (&entry.note, &entry.cluster) {
            notes.push(format!("To know of {name}: {note}\n"));
        }
        match &entry.cluster {
            Ok(_) if own.is_some_and(|own| own.fleet.member(name).is_some()) => {}
            Ok(cluster) if engine && cluster.may_lead() => led.push(name),
            Ok(_) => read.push(name),
            Err(reason) => lost.push(format!("Not usable now: {name}: {reason}\n")),
        }
    }
    let line = |what: &str, names: &[&str]| match names {
        [] => String::new(),
        names => format!("{what}: {}\n", names.join(", ")),
    };
    let why = if engine {
        "Read only here, no --lead matches"
    } else {
        "Read only here, --engine is off"
    };
    let none = if entries.is_empty() {
        "There is no cluster now; one that is added to the kubeconfig or to Argo CD is taken up without a restart\n"
    } else {
        ""
    };
    [
        none.to_owned(),
        line("Rollouts are driven on", &led),
        line(why, &read),
        lost.concat(),
        notes.concat(),
    ]
    .concat()
}

/// Ready until asked to stop: what is unreachable is a row of an answer, not a reason to get no calls.
fn ready(draining: &CancellationToken) -> http::Ready {
    let draining = draining.clone();
    Arc::new(move || {
        if draining.is_cancelled() {
            return Err("this process is about to stop".to_owned());
        }
        Ok(())
    })
}

/// Healthy until what keeps the Leases has ended by a mistake of ours, which only a new process mends.
fn healthy(engine: &Engine) -> http::Ready {
    let alive = engine.alive();
    Arc::new(move || {
        if alive() {
            return Ok(());
        }
        Err("the engine has ended by itself, this process leads nothing any more".to_owned())
    })
}

async fn cluster(config: config::Fleet) -> Result<(), Fatal> {
    let stop = CancellationToken::new();
    let fleet = EmbeddedFleet::start(config.speed, config.listen, false, &stop).await?;
    say(&fleet.told());
    asked_to_stop().await;
    stop.cancel();
    fleet.forget();
    Ok(())
}

/// The embedded clusters as the registry takes them.
fn specs(fleet: &Fleet) -> Vec<ClusterSpec> {
    let spec = |member: &Member| ClusterSpec {
        name: member.name.clone(),
        labels: member.labels.clone(),
        client: member.server.client(),
        clock: member.clock.clone(),
        leads: true,
        inside: false,
        embedded: true,
        overrides: Overrides::default(),
    };
    fleet.members().iter().map(spec).collect()
}

/// The embedded clusters with their listener and their kubeconfig file.
struct EmbeddedFleet {
    fleet: Arc<Fleet>,
    address: SocketAddr,
    kubeconfig: PathBuf,
}

impl EmbeddedFleet {
    async fn start(
        speed: u32,
        listen: SocketAddr,
        any_port: bool,
        stop: &CancellationToken,
    ) -> Result<Self, Fatal> {
        let epoch = Clock::real().now().plus(-HEAD_START);
        let options = FleetOptions::new(epoch, f64::from(speed), crd::crds());
        let fleet =
            Arc::new(Fleet::start(options).map_err(|error| Fatal::Fleet(error.to_string()))?);
        let listener = match bind(listen).await {
            Err(_) if any_port => bind(SocketAddr::new(listen.ip(), 0)).await?,
            other => other?,
        };
        let address = listener.local_addr().map_err(Fatal::Serve)?;
        let kubeconfig =
            std::env::temp_dir().join(format!("canary-mcp-{}.kubeconfig", address.port()));
        listener::write_private(&kubeconfig, &listener::kubeconfig(&fleet, address))
            .map_err(|error| Fatal::Write(kubeconfig.clone(), error))?;
        let (served, stop) = (fleet.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = listener::serve(listener, &served, stop.cancelled_owned()).await {
                tracing::error!(%error, "the embedded clusters are no longer served to kubectl");
            }
        });
        Ok(Self {
            fleet,
            address,
            kubeconfig,
        })
    }

    /// The file names clusters that end with this process.
    fn forget(&self) {
        if let Err(error) = std::fs::remove_file(&self.kubeconfig) {
            tracing::debug!(%error, path = %self.kubeconfig.display(), "the kubeconfig is left behind");
        }
    }

    fn told(&self) -> String {
        format!(
            "Embedded clusters prod-kr, prod-jp and staging at http://{}/clusters/NAME\n  export KUBECONFIG={}\n  kubectl -n ai-platform get canary,deploy,pods\n",
            self.address,
            self.kubeconfig.display()
        )
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Fatal::Listen(address, error))
}

/// Unique to this process: a name that a person recognises and a UUID that nobody else has.
fn identity() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| names::MANAGER.to_owned());
    format!("{host}_{}", Uuid::new_v4())
}

/// Interrupt or termination.
async fn asked_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    let mut terminate =
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!(%error, "cannot listen for SIGTERM");
                let _ = interrupt.await;
                return;
            }
        };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
}

/// To standard output, whoever has stopped reading it.
fn say(text: &str) {
    use io::Write as _;
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "standard output is closed");
    }
}

/// Nobody can call an address that means all of them; this machine at least can call this name.
fn callable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

fn welcome(address: SocketAddr, fleet: Option<&EmbeddedFleet>, tokens: bool) -> String {
    let url = format!("http://{}/mcp", callable(address));
    let mut text = format!(
        "canary-mcp serves MCP at {url}\n\n{}\n",
        clients::client_config(&url, tokens)
    );
    if let Some(fleet) = fleet {
        text.push_str(&fleet.told());
        text.push_str(
            "\nThree things to ask your assistant:\n  \
             \"Which clusters are there, and what runs on them?\"\n  \
             \"Roll mcp-server out to registry.example/mcp-server:1.1.0 on prod-kr and follow it.\"\n  \
             \"Now try registry.example/mcp-server:1.2.0-errors on staging. What happened?\"\n",
        );
    }
    text
}
