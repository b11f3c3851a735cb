//! The command line. `--help` is the manual: every flag with its default, its unit and its environment variable.
//!
//! Values are taken as they are typed and judged in [`crate::config`], so that every mistake is told at once.

use clap::{Args, Parser, Subcommand};

/// An MCP server that runs canary rollouts on many Kubernetes clusters, with one engine of its own.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "canary-mcp",
    version,
    after_help = "Logs go to stderr; RUST_LOG sets their level (default info,rmcp=warn,hyper=warn,kube=warn,kube_client=off). Lists in environment variables are separated by commas."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve the MCP tools at /mcp, and drive rollouts on the clusters that are led from here
    Serve(Box<ServeArgs>),
    /// Drive rollouts only, without the MCP tools: for replicas that are always on beside a `serve --engine off` that may scale to zero
    Engine(Box<AloneArgs>),
    /// Run the embedded clusters as a process of their own, for a `serve` that joins them with --kubeconfig
    Cluster(ClusterArgs),
    /// Print the custom resource definitions as YAML, for kubectl apply -f -
    Crds,
    /// Print the role (RBAC, YAML) that a process needs on every cluster, each rule with what it is for
    Rights(RightsArgs),
    /// Print a new token for --auth static-tokens, once, and the line for the file that lets it in
    Token(TokenArgs),
    /// Print the schemas of the MCP tools as JSON, or write one file for each
    Schemas(SchemasArgs),
}

/// `canary-mcp serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 picks one and prints it. Anything but loopback needs --auth, or --insecure
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CANARY_MCP_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,
    /// Start three clusters in memory, with traffic and metrics: no Kubernetes needed. They are always led
    #[arg(
        long,
        value_name = "true|false",
        env = "CANARY_MCP_EMBEDDED",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub embedded: String,
    /// How many times faster than real time the clock of the embedded clusters runs, 1 to 600
    #[arg(
        long,
        value_name = "N",
        env = "CANARY_MCP_EMBEDDED_SPEED",
        default_value = "20"
    )]
    pub embedded_speed: String,
    /// Where clusters come from.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Whether this process drives rollouts at all; `off` serves the tools only
    #[arg(
        long,
        value_name = "on|off",
        env = "CANARY_MCP_ENGINE",
        default_value = "on"
    )]
    pub engine: String,
    /// Host header to accept at /mcp beside localhost, 127.0.0.1 and `::1`, with or without a port; repeatable
    #[arg(
        long,
        value_name = "NAME",
        env = "CANARY_MCP_ALLOWED_HOST",
        value_delimiter = ','
    )]
    pub allowed_host: Vec<String>,
    /// How callers of /mcp prove who they are: none, or static-tokens (Authorization: Bearer TOKEN)
    #[arg(
        long,
        value_name = "none|static-tokens",
        env = "CANARY_MCP_AUTH",
        default_value = "none"
    )]
    pub auth: String,
    /// File of the tokens' hashes, one line for each caller, as `canary-mcp token` prints it; read again when it changes
    #[arg(long, value_name = "PATH", env = "CANARY_MCP_AUTH_FILE")]
    pub auth_file: Option<String>,
    /// Leave the webhooks that only say whether a gate is open (/gate/CLUSTER/check, approve and halt, /rollback/CLUSTER/check) open to
    /// everybody under --auth too, for hooks that cannot send a token
    #[arg(
        long,
        value_name = "true|false",
        env = "CANARY_MCP_GATE_OPEN_CHECKS",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub gate_open_checks: String,
    /// Allow listening on an address that is not loopback without --auth: whoever reaches it can roll out
    #[arg(
        long,
        value_name = "true|false",
        env = "CANARY_MCP_INSECURE",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub insecure: String,
    /// How rollouts are driven.
    #[command(flatten)]
    pub driving: EngineArgs,
}

/// `canary-mcp engine`.
#[derive(Debug, Clone, Args)]
pub struct AloneArgs {
    /// Address and port of /healthz, /readyz and /metrics, and of nothing else; port 0 picks one and prints it
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CANARY_MCP_LISTEN",
        default_value = "127.0.0.1:8081"
    )]
    pub listen: String,
    /// Where clusters come from.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// How rollouts are driven.
    #[command(flatten)]
    pub driving: EngineArgs,
}

/// Where clusters come from, for every process that joins clusters.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Kubeconfig file whose contexts become clusters; repeatable, and a list with colons. Several are merged as kubectl does, the first
    /// that names a thing counts. Followed as they change. $KUBECONFIG is never read
    #[arg(
        long,
        value_name = "PATH",
        env = "CANARY_MCP_KUBECONFIG",
        value_delimiter = ','
    )]
    pub kubeconfig: Vec<String>,
    /// Contexts of the kubeconfig that become clusters, a glob; repeatable. Without it all of them
    #[arg(
        long,
        value_name = "GLOB",
        env = "CANARY_MCP_CONTEXT",
        value_delimiter = ','
    )]
    pub context: Vec<String>,
    /// Name of the cluster around this pod
    #[arg(
        long,
        value_name = "NAME",
        env = "CANARY_MCP_IN_CLUSTER_NAME",
        default_value = "in-cluster"
    )]
    pub in_cluster_name: String,
    /// Namespace of Argo CD, whose cluster Secrets become clusters as they come, change and go. Needs get, list and watch of its secrets
    #[arg(long, value_name = "NAMESPACE", env = "CANARY_MCP_ARGOCD_NAMESPACE")]
    pub argocd_namespace: Option<String>,
    /// Context of the cluster that Argo CD runs in; without it the one around this pod
    #[arg(long, value_name = "CONTEXT", env = "CANARY_MCP_ARGOCD_CONTEXT")]
    pub argocd_context: Option<String>,
    /// Labels of a cluster (a name or a glob), as in prod-kr=env=production,region=kr; repeatable, in the environment with semicolons
    #[arg(
        long,
        value_name = "CLUSTER=LABELS",
        env = "CANARY_MCP_CLUSTER_LABELS",
        value_delimiter = ';'
    )]
    pub cluster_labels: Vec<String>,
    /// YAML file with labels and settings by cluster (a name or a glob): {prod-*: {labels: {env: production}, meshProvider, metricsServer,
    /// selectorLabels, includeLabelPrefix, namespaces, maxConcurrent, maxConcurrentPerNamespace}}. Followed as it changes
    #[arg(long, value_name = "PATH", env = "CANARY_MCP_CLUSTERS_FILE")]
    pub clusters_file: Option<String>,
    /// Clusters (names of contexts and of Argo CD's clusters) whose rollouts the engine drives, a glob; repeatable. Without it only the embedded ones and the one around this pod
    #[arg(
        long,
        value_name = "GLOB",
        env = "CANARY_MCP_LEAD",
        value_delimiter = ','
    )]
    pub lead: Vec<String>,
}

/// How rollouts are driven, for the engines and for the tools, which judge a Canary by the same settings.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Who routes traffic where a Canary does not name its provider
    #[arg(
        long,
        value_name = "PROVIDER",
        env = "CANARY_MCP_MESH_PROVIDER",
        default_value = "istio"
    )]
    pub mesh_provider: String,
    /// Prometheus of each cluster, as seen from inside it; Service names are reached through the API server
    #[arg(
        long,
        value_name = "URL",
        env = "CANARY_MCP_METRICS_SERVER",
        default_value = "http://prometheus.istio-system:9090"
    )]
    pub metrics_server: String,
    /// Webhook that is told the events of each Canary without event hooks of its own; Service names are reached through the API server. As
    /// Flagger's -event-webhook
    #[arg(
        long,
        value_name = "URL",
        env = "EVENT_WEBHOOK_URL",
        hide_env_values = true
    )]
    pub event_webhook: Option<String>,
    /// Labels that tell the pods of a Canary's target; the first that its selector has is taken. As Flagger's -selector-labels
    #[arg(
        long,
        value_name = "LABEL",
        env = "CANARY_MCP_SELECTOR_LABELS",
        value_delimiter = ',',
        default_value = "app,name,app.kubernetes.io/name"
    )]
    pub selector_labels: Vec<String>,
    /// Beginning of the labels that a primary takes over from its target, * for all; repeatable. As Flagger's -include-label-prefix
    #[arg(
        long,
        value_name = "PREFIX",
        env = "CANARY_MCP_INCLUDE_LABEL_PREFIX",
        value_delimiter = ','
    )]
    pub include_label_prefix: Vec<String>,
    /// Namespace whose Canaries are led and shown; repeatable. Without it all of them. As Flagger's -namespace
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "CANARY_MCP_NAMESPACE",
        value_delimiter = ','
    )]
    pub namespace: Vec<String>,
    /// Runs that go on at the same time in a cluster, at most; the next ones wait for their turn. 0 is without limit
    #[arg(
        long,
        value_name = "N",
        env = "CANARY_MCP_MAX_CONCURRENT",
        default_value = "0"
    )]
    pub max_concurrent: String,
    /// The same in each namespace of a cluster
    #[arg(
        long,
        value_name = "N",
        env = "CANARY_MCP_MAX_CONCURRENT_PER_NAMESPACE",
        default_value = "0"
    )]
    pub max_concurrent_per_namespace: String,
    /// Decide, log and promote nothing: observe writes nothing but the Lease and judges the target as it stands; routes writes workloads and statuses,
    /// and no route
    #[arg(
        long,
        value_name = "observe|routes",
        env = "CANARY_MCP_DRY_RUN",
        default_value = "off",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "observe"
    )]
    pub dry_run: String,
    /// Hosts outside a cluster that a manifest may make the engine call, a glob; repeatable
    #[arg(
        long,
        value_name = "GLOB",
        env = "CANARY_MCP_ALLOW_HOSTS",
        value_delimiter = ','
    )]
    pub allow_hosts: Vec<String>,
    /// Namespace of the Lease that says who drives a cluster
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "CANARY_MCP_LEASE_NAMESPACE",
        default_value = "canary-mcp-system"
    )]
    pub lease_namespace: String,
    /// Cluster in which the replicas of the engine see each other and share the clusters out; without it the one around this pod, if any
    #[arg(long, value_name = "CLUSTER", env = "CANARY_MCP_HOME")]
    pub home: Option<String>,
    /// Clusters that this process leads at most where there is no home: the rest is left to other replicas
    #[arg(
        long,
        value_name = "N",
        env = "CANARY_MCP_LEAD_AT_MOST",
        default_value = "200"
    )]
    pub lead_at_most: String,
}

/// `canary-mcp cluster`.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Loopback address and port of the embedded API servers; port 0 picks one and prints it
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "CANARY_MCP_CLUSTER_LISTEN",
        default_value = "127.0.0.1:8090"
    )]
    pub listen: String,
    /// How many times faster than real time the clock of the clusters runs, 1 to 600
    #[arg(long, value_name = "N", env = "CANARY_MCP_SPEED", default_value = "20")]
    pub speed: String,
}

/// `canary-mcp rights`.
#[derive(Debug, Clone, Args)]
pub struct RightsArgs {
    /// What the process does: lead clusters, serve the tools, or serve those that change nothing
    #[arg(value_name = "engine|front|read-only", default_value = "engine")]
    pub of: String,
}

/// `canary-mcp token`.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// Who has it, as requests and events tell it: letters, digits and any of -_.@/
    #[arg(long, value_name = "NAME", default_value = "somebody")]
    pub name: String,
    /// What it may do, separated by commas: rollouts:read looks, rollouts:write rolls out and back, rollouts:admin also promotes what no analysis has passed. Each includes those before it
    #[arg(long, value_name = "SCOPE", default_value = "rollouts:write")]
    pub scopes: String,
}

/// `canary-mcp schemas`.
#[derive(Debug, Clone, Args)]
pub struct SchemasArgs {
    /// Directory to write NAME.json files to; without it they are printed
    #[arg(long, value_name = "DIR", env = "CANARY_MCP_OUT")]
    pub out: Option<String>,
}
