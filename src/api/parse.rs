//! The one way from a Canary to a [`Plan`]: Flagger's defaults and clamps, every mistake at once, each with its field.
//!
//! What Flagger accepts keeps Flagger's meaning. A field that is not carried out is refused by name, never ignored.

mod analysis;
mod fields;
mod hooks;
mod metrics;
mod service;
mod strategy;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

use self::fields::Fields;
use super::{names, objects::ObjectExt};
use crate::decide::{
    facts::Request,
    plan::{Gates, Labels, Plan, Router, Scaler},
};

/// Settings of the installation that a Canary's own fields go before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Routing provider of a Canary without `spec.provider` (`--mesh-provider`).
    pub mesh_provider: String,
    /// Which labels of a target count (`--selector-labels`, `--include-label-prefix`).
    pub labels: Labels,
}

/// Flagger's defaults.
impl Default for Labels {
    fn default() -> Self {
        Self {
            selectors: names::SELECTOR_LABELS.map(str::to_owned).to_vec(),
            prefixes: Vec::new(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mesh_provider: "istio".to_owned(),
            labels: Labels::default(),
        }
    }
}

/// Why a Canary is not carried out. One for each mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The field or object, as a path from the Canary's root: `spec.analysis.metrics[0].name`.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do next.
    pub fix: String,
}

impl Refusal {
    /// A refusal of the field at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason, fix } = self;
        write!(f, "{path}: {reason}; {fix}")
    }
}

/// Reads what a Canary asks for.
///
/// # Errors
/// Every mistake of the Canary, in the order of its fields.
pub fn plan(canary: &Value, settings: &Settings) -> Result<Plan, Vec<Refusal>> {
    let mut f = Fields::new(canary);
    let router = router(&mut f, settings);
    let target = target(&mut f);
    let scaler = scaler(&mut f);
    refuse_references(&mut f);
    let service = service::service(&mut f, router, &target);
    let progress_deadline = f.integer("spec.progressDeadlineSeconds", 600, 1..=31_536_000);
    let skip_analysis = f.boolean("spec.skipAnalysis");
    let revert_on_deletion = f.boolean("spec.revertOnDeletion");
    let suspend = f.boolean("spec.suspend");
    let gates = gates(&mut f);
    let analysis = analysis::analysis(&mut f, router);
    let checks = metrics::checks(&mut f);
    let hooks = hooks::hooks(&mut f);
    let metrics_server = f.string("spec.metricsServer");
    let plan = Plan {
        namespace: canary.namespace().to_owned(),
        name: canary.name().to_owned(),
        target,
        router,
        service,
        scaler,
        interval: analysis.interval,
        delay: analysis.delay,
        threshold: analysis.threshold,
        threshold_mode: analysis.threshold_mode,
        strategy: analysis.strategy,
        steps: analysis.steps,
        affinity: analysis.affinity,
        canary_replicas: analysis.canary_replicas,
        step_weight_promotion: analysis.step_weight_promotion,
        settle: analysis.settle,
        progress_deadline: progress_deadline.saturating_mul(1000),
        primary_ready: analysis.primary_ready,
        canary_ready: analysis.canary_ready,
        skip_analysis,
        suspend,
        rehearsal: false,
        gates,
        hooks,
        revert_on_deletion,
        checks,
        metrics_server,
        labels: settings.labels.clone(),
    };
    f.finish(plan)
}

/// The wish in annotation [`names::REQUEST`]: `None` without one.
///
/// The inner error says what is wrong with the annotation's text.
#[must_use]
pub fn request(canary: &Value) -> Option<Result<Request, String>> {
    let text = canary.annotation(names::REQUEST)?;
    Some(serde_json::from_str::<Request>(text).map_err(|error| {
        format!(
            "annotation {} of Canary {}/{} is not a request: {error}; write JSON with id, verb (promote, rollback or reset) and run, or use a tool",
            names::REQUEST,
            canary.namespace(),
            canary.name()
        )
    }))
}

/// Whether the Canary may be taken over from another controller (annotation [`names::ADOPT`] is `"true"`).
#[must_use]
pub fn adopt(canary: &Value) -> bool {
    canary.annotation(names::ADOPT) == Some("true")
}

/// Whether a routing provider of this name is carried out.
#[must_use]
pub fn routes_by(provider: &str) -> bool {
    router_of(provider).is_some()
}

/// Flagger: a prefix of the name is enough for the versions of the Gateway API.
fn router_of(provider: &str) -> Option<Router> {
    match provider {
        "istio" => Some(Router::Istio),
        "kubernetes" => Some(Router::Kubernetes),
        name if name.starts_with("gatewayapi:v1") => Some(Router::GatewayApi),
        _ => None,
    }
}

/// Flagger takes a name that it does not know for istio; here it is refused.
fn router(f: &mut Fields<'_>, settings: &Settings) -> Router {
    let given = f.string("spec.provider");
    let given = given.unwrap_or_else(|| settings.mesh_provider.clone());
    if let Some(router) = router_of(&given) {
        return router;
    }
    let (reason, fix) = match given.as_str() {
        "gatewayapi" => (
            "the routing provider \"gatewayapi\" has no version".to_owned(),
            "set gatewayapi:v1",
        ),
        "linkerd" => (
            "the routing provider \"linkerd\" (TrafficSplit) is not carried out".to_owned(),
            "set gatewayapi:v1 and service.gatewayRefs to the Service itself (group core, kind Service), as Linkerd from 2.13 on wants it",
        ),
        other => (
            format!("the routing provider {other:?} is not carried out yet"),
            "set one of istio, gatewayapi:v1, kubernetes",
        ),
    };
    f.refuse("spec.provider", reason, fix);
    Router::Istio
}

fn target(f: &mut Fields<'_>) -> String {
    if f.at("spec.targetRef").is_none() {
        f.refuse(
            "spec.targetRef",
            "the target is missing",
            "name the Deployment: {apiVersion: apps/v1, kind: Deployment, name: ...}",
        );
        return String::new();
    }
    let kind = f.string("spec.targetRef.kind").unwrap_or_default();
    let api = f.string("spec.targetRef.apiVersion").unwrap_or_default();
    if kind != "Deployment" || api != "apps/v1" {
        f.refuse(
            "spec.targetRef",
            format!("targets of kind {kind:?} in {api:?} are not carried out yet"),
            "name a Deployment of apps/v1",
        );
    }
    f.name("spec.targetRef.name", 253 - "-primary".len())
}

fn scaler(f: &mut Fields<'_>) -> Option<Scaler> {
    f.at("spec.autoscalerRef")?;
    let kind = f.string("spec.autoscalerRef.kind").unwrap_or_default();
    let api = f
        .string("spec.autoscalerRef.apiVersion")
        .unwrap_or_default();
    if kind != "ScaledObject" || !api.starts_with("keda.sh/") {
        f.refuse(
            "spec.autoscalerRef",
            format!("autoscalers of kind {kind:?} in {api:?} are not carried out yet"),
            "name a ScaledObject of keda.sh/v1alpha1, or leave autoscalerRef out",
        );
    }
    for field in ["canaryScalerQueries", "canaryScalerReplicas"] {
        f.not_yet(
            &format!("spec.autoscalerRef.{field}"),
            "another scaling of the canary",
        );
    }
    let replicas = "spec.autoscalerRef.primaryScalerReplicas";
    let min = f.optional_integer(&format!("{replicas}.minReplicas"), 1..=1_000_000);
    let max = f.optional_integer(&format!("{replicas}.maxReplicas"), 1..=1_000_000);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        f.refuse(
            replicas,
            format!("minReplicas {min} is greater than maxReplicas {max}"),
            "make it at most maxReplicas",
        );
    }
    Some(Scaler {
        name: f.name("spec.autoscalerRef.name", 253 - "-primary".len()),
        primary_queries: f.map("spec.autoscalerRef.primaryScalerQueries"),
        primary_min: min.and_then(|n| u32::try_from(n).ok()),
        primary_max: max.and_then(|n| u32::try_from(n).ok()),
    })
}

fn refuse_references(f: &mut Fields<'_>) {
    for (field, what) in [
        ("ingressRef", "routing through an Ingress"),
        ("routeRef", "routing through an ApisixRoute"),
        ("upstreamRef", "routing through a Gloo Upstream"),
    ] {
        f.not_yet(&format!("spec.{field}"), what);
    }
}

/// Annotation [`names::GATE`]: the gates that a person opens.
fn gates(f: &mut Fields<'_>) -> Gates {
    let path = format!("metadata.annotations[{}]", names::GATE);
    let text = f.canary.annotation(names::GATE).unwrap_or_default();
    let mut gates = Gates::default();
    for gate in text
        .split(',')
        .map(str::trim)
        .filter(|gate| !gate.is_empty())
    {
        match gate {
            "rollout" => gates.rollout = true,
            "traffic" => gates.traffic = true,
            "promotion" => gates.promotion = true,
            other => f.refuse(
                &path,
                format!("there is no gate {other:?}"),
                "write some of rollout, traffic, promotion, or take the annotation off",
            ),
        }
    }
    gates
}
