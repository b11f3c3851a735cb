//! The raw command line becomes a [`Config`], or a list of every mistake in it with what would be right.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::{
    api::dry_run::DryRun,
    cli::{
        AloneArgs, Cli, ClusterArgs, Command, EngineArgs, RightsArgs, SchemasArgs, ServeArgs,
        SourceArgs, TokenArgs,
    },
    cluster::sources::{
        ArgoCd,
        given::{self, Rule},
    },
};

/// Set in every pod by the kubelet: there is a cluster around us.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// What to do, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// `canary-mcp serve`.
    Serve(Serve),
    /// `canary-mcp engine`.
    Engine(Alone),
    /// `canary-mcp cluster`.
    Cluster(Fleet),
    /// `canary-mcp crds`.
    Crds,
    /// `canary-mcp rights`.
    Rights(Part),
    /// `canary-mcp token`.
    Token {
        /// Who has it.
        name: String,
        /// What it may do.
        scopes: String,
    },
    /// `canary-mcp schemas`.
    Schemas {
        /// Directory to write to; `None` prints.
        out: Option<PathBuf>,
    },
}

/// What a process does, for the rights that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Leads clusters.
    Engine,
    /// Serves the tools.
    Front,
    /// Serves the tools that change nothing.
    ReadOnly,
}

/// `canary-mcp serve`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serve {
    /// Where to listen; loopback unless callers prove who they are, or `--insecure` was given.
    pub listen: SocketAddr,
    /// The speed of the embedded clusters, 1 to 600; `None` without them.
    pub embedded: Option<u32>,
    /// Where clusters come from.
    pub sources: Sources,
    /// Whether this process drives rollouts.
    pub engine: bool,
    /// How callers prove who they are.
    pub auth: Auth,
    /// The webhooks that only say whether a gate is open are for everybody.
    pub gate_open_checks: bool,
    /// Host headers to accept beside the loopback names.
    pub allowed_host: Vec<String>,
    /// How rollouts are driven.
    pub driving: Driving,
}

/// How callers prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// By a token whose hash is in this file.
    StaticTokens(PathBuf),
}

/// `canary-mcp engine`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// Where to listen, anywhere: nothing is taken there that does anything.
    pub listen: SocketAddr,
    /// Where clusters come from.
    pub sources: Sources,
    /// How rollouts are driven.
    pub driving: Driving,
}

/// Where clusters come from, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Kubeconfig files, each of which could be opened.
    pub kubeconfig: Vec<PathBuf>,
    /// Globs of the contexts to take; empty takes all.
    pub context: Vec<String>,
    /// We run inside a cluster, which is a source of its own: its name.
    pub in_cluster: Option<String>,
    /// Argo CD's cluster Secrets.
    pub argocd: Option<ArgoCd>,
    /// Globs of the clusters to lead.
    pub lead: Vec<String>,
    /// Labels by cluster.
    pub cluster_labels: Vec<Rule>,
    /// The file of labels and settings by cluster, which could be opened.
    pub clusters_file: Option<PathBuf>,
}

/// How rollouts are driven, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driving {
    /// `istio`.
    pub mesh_provider: String,
    /// `http` or `https` URL without a trailing slash.
    pub metrics_server: String,
    /// `http` or `https` URL of what is told events.
    pub event_webhook: Option<String>,
    /// Labels that tell a target's pods, at least one.
    pub selector_labels: Vec<String>,
    /// Beginnings of the labels that a primary takes over.
    pub include_label_prefix: Vec<String>,
    /// The only namespaces that are led and shown; empty is all of them.
    pub namespaces: Vec<String>,
    /// Runs at the same time in a cluster; 0 is without limit.
    pub max_concurrent: u32,
    /// The same in each of its namespaces.
    pub max_concurrent_per_namespace: u32,
    /// What is left out of all that is decided.
    pub dry_run: Option<DryRun>,
    /// Globs of the hosts that manifests may name.
    pub allow_hosts: Vec<String>,
    /// Namespace of the Leases.
    pub lease_namespace: String,
    /// The cluster in which the replicas see each other; `None` takes the one around this pod, if any.
    pub home: Option<String>,
    /// Clusters to lead at most without a home.
    pub lead_at_most: usize,
}

/// `canary-mcp cluster`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Where to listen, on loopback.
    pub listen: SocketAddr,
    /// The speed of the clock, 1 to 600.
    pub speed: u32,
}

/// Every mistake of a command line; at least one. The caller prints it and exits with 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(Vec<String>);

impl Config {
    /// Judges the whole command line. `env` reads one environment variable.
    ///
    /// # Errors
    /// All mistakes, one line each, in the order of the flags.
    pub fn parse(cli: Cli, env: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let Cli { command } = cli;
        let mut judge = Judge::default();
        let config = match command {
            Command::Serve(args) => judge.serve(*args, &env).map(Self::Serve),
            Command::Engine(args) => judge.alone(*args, &env).map(Self::Engine),
            Command::Cluster(args) => judge.fleet(args).map(Self::Cluster),
            Command::Crds => Some(Self::Crds),
            Command::Rights(args) => judge.part(args).map(Self::Rights),
            Command::Token(args) => {
                let TokenArgs { name, scopes } = args;
                Some(Self::Token { name, scopes })
            }
            Command::Schemas(args) => judge.schemas(args),
        };
        match config {
            Some(config) if judge.mistakes.is_empty() => Ok(config),
            Some(_) | None => Err(Mistakes(judge.mistakes)),
        }
    }
}

/// Collects mistakes. Each method gives `None` exactly when it has recorded one.
#[derive(Default)]
struct Judge {
    mistakes: Vec<String>,
}

impl Judge {
    fn wrong<T>(&mut self, flag: &str, text: impl std::fmt::Display) -> Option<T> {
        self.mistakes.push(format!("{flag}: {text}"));
        None
    }

    fn serve(&mut self, args: ServeArgs, env: &impl Fn(&str) -> Option<String>) -> Option<Serve> {
        let ServeArgs {
            listen,
            embedded,
            embedded_speed,
            sources,
            engine,
            allowed_host,
            auth,
            auth_file,
            gate_open_checks,
            insecure,
            driving,
        } = args;
        let insecure = self.boolean("--insecure", &insecure);
        let open = insecure.unwrap_or(true) || auth != "none";
        let auth = self.auth(&auth, auth_file);
        let gate_open_checks = self.boolean("--gate-open-checks", &gate_open_checks);
        let listen = self.listen(&listen, open, true);
        let embedded = self.boolean("--embedded", &embedded);
        let speed = self.speed("--embedded-speed", &embedded_speed);
        let missing = (embedded == Some(false)).then_some(
            "there is no cluster to serve: give --embedded (three clusters in memory) or --kubeconfig PATH, or run in a pod of a cluster",
        );
        let sources = self.sources(sources, env, missing);
        let engine = match engine.as_str() {
            "on" => Some(true),
            "off" => Some(false),
            other => self.wrong("--engine", format_args!("{other:?} is neither on nor off")),
        };
        let allowed_host = self.hosts(allowed_host);
        let driving = self.driving(driving);
        Some(Serve {
            listen: listen?,
            auth: auth?,
            gate_open_checks: gate_open_checks?,
            embedded: embedded?.then_some(speed?),
            sources,
            engine: engine?,
            allowed_host,
            driving: driving?,
        })
    }

    fn alone(&mut self, args: AloneArgs, env: &impl Fn(&str) -> Option<String>) -> Option<Alone> {
        let AloneArgs {
            listen,
            sources,
            driving,
        } = args;
        let listen = self.listen(&listen, true, true);
        let missing = "there is no cluster to drive rollouts on: give --kubeconfig PATH and --lead GLOB, or run in a pod of a cluster";
        let sources = self.sources(sources, env, Some(missing));
        let driving = self.driving(driving);
        Some(Alone {
            listen: listen?,
            sources,
            driving: driving?,
        })
    }

    /// `missing` is the mistake of naming no source at all, where that is one.
    fn sources(
        &mut self,
        args: SourceArgs,
        env: &impl Fn(&str) -> Option<String>,
        missing: Option<&str>,
    ) -> Sources {
        let SourceArgs {
            kubeconfig,
            context,
            in_cluster_name,
            argocd_namespace,
            argocd_context,
            lead,
            cluster_labels,
            clusters_file,
        } = args;
        let in_cluster = env(IN_CLUSTER).is_some_and(|host| !host.is_empty());
        let kubeconfig: Vec<String> = kubeconfig.iter().flat_map(|list| path_list(list)).collect();
        if let Some(missing) = missing
            && kubeconfig.is_empty()
            && !in_cluster
        {
            self.mistakes.push(missing.to_owned());
        }
        let kubeconfig = self.files("--kubeconfig", "a kubeconfig", kubeconfig);
        let context = self.globs("--context", context, "the name of a context, or prod-*");
        if in_cluster_name.trim().is_empty() {
            self.mistakes
                .push("--in-cluster-name: is empty; give the cluster a name".to_owned());
        }
        let in_cluster = in_cluster.then_some(in_cluster_name);
        let argocd = self.argocd(argocd_namespace, argocd_context, in_cluster.as_deref());
        let lead = self.globs("--lead", lead, "the name of a context, or prod-*");
        let rules = cluster_labels
            .iter()
            .map(|text| given::cluster_labels(text));
        let rules: Vec<_> = rules.collect();
        let cluster_labels = rules
            .into_iter()
            .filter_map(|rule| self.judged("--cluster-labels", rule))
            .collect();
        let clusters_file = self.files(
            "--clusters-file",
            "a file of clusters",
            clusters_file.into_iter().collect(),
        );
        Sources {
            kubeconfig,
            context,
            in_cluster,
            argocd,
            lead,
            cluster_labels,
            clusters_file: clusters_file.into_iter().next(),
        }
    }

    /// Argo CD's Secrets are in the cluster of a context, or in the one around this pod.
    fn argocd(
        &mut self,
        namespace: Option<String>,
        context: Option<String>,
        in_cluster: Option<&str>,
    ) -> Option<ArgoCd> {
        let Some(namespace) = namespace else {
            if context.is_some() {
                return self.wrong(
                    "--argocd-context",
                    "says where Argo CD is; give its namespace too, as in --argocd-namespace argocd",
                );
            }
            return None;
        };
        let namespace = self.judged("--argocd-namespace", given::namespace(&namespace));
        let home = context.or(in_cluster.map(str::to_owned));
        match home {
            Some(home) if home.is_empty() => {
                self.wrong("--argocd-context", "is empty; give the name of a context")
            }
            Some(home) => Some(ArgoCd {
                home,
                namespace: namespace?,
            }),
            None => self.wrong(
                "--argocd-namespace",
                "there is no cluster around this process; say with --argocd-context where Argo CD runs",
            ),
        }
    }

    fn judged<T>(&mut self, flag: &str, judged: Result<T, String>) -> Option<T> {
        match judged {
            Ok(value) => Some(value),
            Err(why) => self.wrong(flag, why),
        }
    }

    fn driving(&mut self, args: EngineArgs) -> Option<Driving> {
        let EngineArgs {
            mesh_provider,
            metrics_server,
            event_webhook,
            selector_labels,
            include_label_prefix,
            namespace,
            max_concurrent,
            max_concurrent_per_namespace,
            dry_run,
            allow_hosts,
            lease_namespace,
            home,
            lead_at_most,
        } = args;
        let mesh_provider = self.judged("--mesh-provider", given::mesh_provider(&mesh_provider));
        let metrics_server =
            self.judged("--metrics-server", given::metrics_server(&metrics_server));
        // Flagger: an empty one is none.
        let event_webhook = event_webhook.filter(|url| !url.is_empty());
        let event_webhook = match event_webhook
            .map(|url| given::event_webhook(&url))
            .transpose()
        {
            Ok(url) => Some(url),
            Err(why) => self.wrong("--event-webhook", why),
        };
        let selector_labels =
            self.judged("--selector-labels", given::selector_labels(selector_labels));
        let include_label_prefix = self.judged(
            "--include-label-prefix",
            given::label_prefixes(include_label_prefix),
        );
        let namespaces = self.judged("--namespace", given::namespaces(namespace));
        let max_concurrent = self.judged("--max-concurrent", given::limit(&max_concurrent));
        let max_concurrent_per_namespace = self.judged(
            "--max-concurrent-per-namespace",
            given::limit(&max_concurrent_per_namespace),
        );
        let dry_run = self.dry_run(&dry_run);
        let allow_hosts = self.globs("--allow-hosts", allow_hosts, "*.example.com");
        let lease_namespace = self.judged("--lease-namespace", given::namespace(&lease_namespace));
        let home = match home {
            Some(home) if home.is_empty() => {
                self.wrong("--home", "is empty; give the name of a cluster")
            }
            home => Some(home),
        };
        let lead_at_most = match lead_at_most.parse() {
            Ok(most) if most >= 1 => Some(most),
            Ok(_) | Err(_) => self.wrong(
                "--lead-at-most",
                format_args!("{lead_at_most:?} is not a whole number from 1"),
            ),
        };
        Some(Driving {
            mesh_provider: mesh_provider?,
            metrics_server: metrics_server?,
            event_webhook: event_webhook?,
            selector_labels: selector_labels?,
            include_label_prefix: include_label_prefix?,
            namespaces: namespaces?,
            max_concurrent: max_concurrent?,
            max_concurrent_per_namespace: max_concurrent_per_namespace?,
            dry_run,
            allow_hosts,
            lease_namespace: lease_namespace?,
            home: home?,
            lead_at_most: lead_at_most?,
        })
    }

    /// A mistake is recorded, and what it gives then counts for nothing.
    fn dry_run(&mut self, value: &str) -> Option<DryRun> {
        match value {
            "true" | "1" | "yes" | "on" => Some(DryRun::Observe),
            "false" | "0" | "no" | "off" | "" => None,
            name => DryRun::of(name).or_else(|| {
                let none = format_args!("{name:?} is none of observe, routes and off");
                self.wrong("--dry-run", none)
            }),
        }
    }

    fn fleet(&mut self, args: ClusterArgs) -> Option<Fleet> {
        let ClusterArgs { listen, speed } = args;
        let listen = self.listen(&listen, false, false);
        let speed = self.speed("--speed", &speed);
        Some(Fleet {
            listen: listen?,
            speed: speed?,
        })
    }

    fn auth(&mut self, auth: &str, file: Option<String>) -> Option<Auth> {
        match (auth, file.filter(|file| !file.is_empty())) {
            ("none", None) => Some(Auth::None),
            ("none", Some(_)) => self.wrong(
                "--auth-file",
                "nothing reads it without --auth static-tokens; add that",
            ),
            ("static-tokens", Some(file)) => Some(Auth::StaticTokens(PathBuf::from(file))),
            ("static-tokens", None) => self.wrong(
                "--auth",
                "static-tokens needs --auth-file PATH, a file of lines that canary-mcp token prints",
            ),
            (other, _) => self.wrong(
                "--auth",
                format_args!("{other:?} is neither none nor static-tokens"),
            ),
        }
    }

    fn part(&mut self, args: RightsArgs) -> Option<Part> {
        let RightsArgs { of } = args;
        match of.as_str() {
            "engine" => Some(Part::Engine),
            "front" => Some(Part::Front),
            "read-only" => Some(Part::ReadOnly),
            other => self.wrong(
                "rights",
                format_args!("{other:?} is none of engine, front and read-only"),
            ),
        }
    }

    fn schemas(&mut self, args: SchemasArgs) -> Option<Config> {
        let SchemasArgs { out } = args;
        match out {
            Some(out) if out.is_empty() => self.wrong("--out", "is empty; give a directory"),
            out => Some(Config::Schemas {
                out: out.map(PathBuf::from),
            }),
        }
    }

    fn boolean(&mut self, flag: &str, value: &str) -> Option<bool> {
        match value {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" | "" => Some(false),
            other => self.wrong(flag, format_args!("{other:?} is neither true nor false")),
        }
    }

    fn listen(&mut self, value: &str, insecure: bool, may: bool) -> Option<SocketAddr> {
        // The one name that needs no resolver.
        let parsed = match value.strip_prefix("localhost:") {
            Some(port) => port
                .parse()
                .ok()
                .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
            None => value.parse().ok(),
        };
        let Some(address) = parsed else {
            return self.wrong(
                "--listen",
                format_args!("{value:?} is not an address and a port, as in 127.0.0.1:8080"),
            );
        };
        if insecure || address.ip().is_loopback() {
            Some(address)
        } else if may {
            self.wrong(
                "--listen",
                format_args!(
                    "{value} is not loopback, and there is no authentication: listen on 127.0.0.1, or add --auth static-tokens (or --insecure where only trusted clients can reach it)"
                ),
            )
        } else {
            self.wrong(
                "--listen",
                format_args!(
                    "{value} is not loopback, and the embedded clusters take any request: listen on 127.0.0.1"
                ),
            )
        }
    }

    fn speed(&mut self, flag: &str, value: &str) -> Option<u32> {
        match value.parse() {
            Ok(speed) if (1..=600).contains(&speed) => Some(speed),
            Ok(_) | Err(_) => self.wrong(
                flag,
                format_args!("{value:?} is not a whole number from 1 to 600"),
            ),
        }
    }

    fn files(&mut self, flag: &str, what: &str, paths: Vec<String>) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for path in paths {
            let opened = File::open(&path).and_then(|file| file.metadata());
            match opened {
                Ok(metadata) if metadata.is_file() => files.push(PathBuf::from(path)),
                Ok(_) => {
                    self.mistakes.push(format!(
                        "{flag}: {path:?} is not a file; give the path of {what}"
                    ));
                }
                Err(error) => self.mistakes.push(format!(
                    "{flag}: {path:?} cannot be read ({error}); give the path of {what}"
                )),
            }
        }
        files
    }

    fn globs(&mut self, flag: &str, globs: Vec<String>, example: &str) -> Vec<String> {
        for glob in &globs {
            if glob.is_empty() || glob.contains(char::is_whitespace) {
                self.mistakes
                    .push(format!("{flag}: {glob:?} is not a glob, as in {example}"));
            }
        }
        globs
    }

    fn hosts(&mut self, hosts: Vec<String>) -> Vec<String> {
        for host in &hosts {
            if host.parse::<http::uri::Authority>().is_err() || host.contains('@') {
                self.mistakes.push(format!(
                    "--allowed-host: {host:?} is not a host name, as in mcp.example.com or mcp.example.com:8443"
                ));
            }
        }
        hosts
    }
}

/// A list with colons, as in `$KUBECONFIG`; empty parts count for nothing.
fn path_list(list: &str) -> Vec<String> {
    if list.is_empty() {
        // Which is a mistake, and told as one.
        return vec![String::new()];
    }
    list.split(':')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect()
}
