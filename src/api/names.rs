//! Names of annotations, labels and managers: Flagger's where Flagger has one, ours otherwise.

/// Labels that tell a target's pods, in the order in which they are looked for. Flagger: `-selector-labels`.
pub const SELECTOR_LABELS: [&str; 3] = ["app", "name", "app.kubernetes.io/name"];
/// Our field manager, event source and the holder of the Canary's status.
pub const MANAGER: &str = "canary-mcp";
/// The wish of a person or a tool, JSON (`decide::facts::Request`). Never deleted.
pub const REQUEST: &str = "canary-mcp.dev/request";
/// Built-in gates, comma-separated: `rollout`, `traffic`, `promotion`.
pub const GATE: &str = "canary-mcp.dev/gate";
/// `"true"` promotes one run without analysis; taken off by the engine. The guide's.
pub const SKIP_ANALYSIS: &str = "flagger.app/skip-analysis";
/// `"true"` analyses the revision anew; taken off by the engine. The guide's.
pub const RESET: &str = "flagger.app/reset";
/// State of the gates that our HTTP endpoints answer for, JSON (`api::gate::GateState`).
pub const GATE_STATE: &str = "canary-mcp.dev/gate-state";
/// `"true"` lets us take over a Canary whose status another controller wrote last.
pub const ADOPT: &str = "canary-mcp.dev/adopt";
/// The `leaseTransitions` of the holder that an object belongs to: the fence.
pub const EPOCH: &str = "canary-mcp.dev/epoch";
/// On a cluster's Lease: what its holder leaves out, `observe` or `routes` ([`DryRun`](super::dry_run::DryRun)).
pub const DRY_RUN: &str = "canary-mcp.dev/dry-run";
/// On a cluster's Lease: the process that asks its holder for it.
pub const ASKED_BY: &str = "canary-mcp.dev/asked-by";
/// Label, `"true"`, of the Leases by which the replicas of the engine see each other.
pub const MEMBER: &str = "canary-mcp.dev/member";
/// Where the original spec of a taken-over `VirtualService` is kept. Flagger.
pub const ORIGINAL: &str = "flagger.kubernetes.io/original-configuration";
/// On a Canary with `revertOnDeletion`: it is held until its target is given back. Flagger.
pub const FINALIZER: &str = "finalizer.flagger.app";
/// The run id on the primary's pods: forces its rollout at each promotion. Flagger.
pub const FLAGGER_ID: &str = "flagger-id";
/// KEDA: scale to this many replicas and pause.
pub const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
/// Prefix of KEDA's pause annotations, none of which is ever copied.
pub const PAUSED_PREFIX: &str = "autoscaling.keda.sh/paused";
/// Keys with this in them belong to Flux and are never copied. Flagger.
pub const TOOLKIT: &str = "toolkit.fluxcd.io";
/// On every object that we create.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "flagger");
/// On generated Services and routes, so that Flux leaves them alone. Flagger.
pub const FLUX_RECONCILE: (&str, &str) = ("kustomize.toolkit.fluxcd.io/reconcile", "disabled");
/// On generated Services and routes, so that Flux leaves them alone. Flagger.
pub const FLUX_DRIFT: (&str, &str) = ("helm.toolkit.fluxcd.io/driftDetection", "disabled");
