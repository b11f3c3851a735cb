//! The custom resource definitions of `flagger.app/v1beta1`, a superset of Flagger's own.
//!
//! They are wider everywhere: what Flagger's schemas leave to an enum or a pattern is judged by `api::parse`, with a reason and a fix.
//! What is copied into Istio's objects as it is keeps every field.

#[cfg(test)]
mod tests;

use serde_json::Value;

const CANARY: &str = include_str!("crds/canary.yaml");
const METRIC_TEMPLATE: &str = include_str!("crds/metric_template.yaml");
const ALERT_PROVIDER: &str = include_str!("crds/alert_provider.yaml");

/// The three `CustomResourceDefinition`s: Canary, `MetricTemplate`, `AlertProvider`.
///
/// # Panics
/// Never: the definitions are part of this program, and a test reads them.
#[must_use]
pub fn crds() -> Vec<Value> {
    [CANARY, METRIC_TEMPLATE, ALERT_PROVIDER]
        .into_iter()
        .map(|yaml| serde_saphyr::from_str(yaml).expect("a definition must be YAML"))
        .collect()
}

/// The same as YAML, for `kubectl apply -f -`.
#[must_use]
pub fn yaml() -> String {
    [CANARY, METRIC_TEMPLATE, ALERT_PROVIDER].join("---\n")
}
