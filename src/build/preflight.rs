//! What a person should know before a run, beside what is refused: [`warnings`].

use serde_json::Value;

use crate::{
    api::objects::{ObjectExt, Objects},
    decide::plan::Plan,
};

/// Said of an analysis without a check, before a run and when one begins.
pub const NO_CHECKS: &str = "spec.analysis.metrics is empty: nothing is checked, and any version whose pods are ready is promoted; \
                             add a metric, request-success-rate for one";

/// Findings on the plan and its objects. `queries` are the checks' names and queries, as they would be sent for the canary.
#[must_use]
pub fn warnings(plan: &Plan, objects: &Objects, queries: &[(String, String)]) -> Vec<String> {
    let mut all = Vec::new();
    if plan.skip_analysis {
        all.push(
            "spec.skipAnalysis is true: the image is promoted as soon as its pods are ready, without any traffic or check before"
                .to_owned(),
        );
    } else if plan.checks.is_empty() {
        all.push(NO_CHECKS.to_owned());
    }
    if objects.canary["spec"]["analysis"]["threshold"].is_null() {
        all.push(format!(
            "spec.analysis.threshold is not given: {} failed analyses end the run",
            plan.threshold
        ));
    }
    let gates = plan.gates;
    for (gate, name) in [
        (gates.rollout, "rollout"),
        (gates.traffic, "traffic"),
        (gates.promotion, "promotion"),
    ] {
        if gate {
            all.push(format!("a person has to open the {name} gate (promote); the steps reckon with one interval for that"));
        }
    }
    all.extend(
        queries
            .iter()
            .filter_map(|(name, query)| misnamed(plan, &format!("check {name}"), query)),
    );
    let triggers = objects
        .scaler
        .iter()
        .flat_map(|scaler| scaler.array_at("/spec/triggers"));
    for trigger in triggers {
        let name = trigger
            .str_at("/name")
            .or(trigger.str_at("/type"))
            .unwrap_or_default();
        let query = trigger.str_at("/metadata/query").unwrap_or_default();
        let what = format!("trigger {name} of the ScaledObject");
        all.extend(misnamed(plan, &what, query));
    }
    all
}

/// A query that names what many guides name and nobody makes: a workload `T-canary`, or pods with `version="canary"`. The canary is the
/// target itself.
fn misnamed(plan: &Plan, what: &str, query: &str) -> Option<String> {
    let target = &plan.target;
    let named = format!("{target}-canary");
    // The Service S-canary is there: a label that names Services or hosts may name it.
    let of_service = |label: &str| {
        ["service", "host", "authority", "cluster_name"]
            .iter()
            .any(|part| label.contains(part))
    };
    for (label, value) in matchers(query) {
        if value.contains(&named) && !of_service(label) {
            return Some(format!(
                "the query of {what} asks for {label} {named}: there is no such workload, the canary is {target} itself"
            ));
        }
        if label == "version" && value == "canary" {
            return Some(format!(
                "the query of {what} asks for version=\"canary\": no pod has that label, the canary is {target} itself"
            ));
        }
    }
    None
}

/// The label matchers of a `PromQL` text: each label with its value.
fn matchers(query: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(open) = rest.find('"') {
        let (before, after) = (&rest[..open], &rest[open + 1..]);
        let Some(close) = after.find('"') else { break };
        let label = before
            .trim_end()
            .trim_end_matches(['=', '~', '!'])
            .trim_end();
        let start = label
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| at + 1);
        if let Some(label) = label.get(start..).filter(|label| !label.is_empty()) {
            found.push((label, &after[..close]));
        }
        rest = &after[close + 1..];
    }
    found
}

/// A sentence for a check that the live version itself does not pass.
#[must_use]
pub fn fails_live(check: &crate::decide::state::CheckResult) -> Option<String> {
    use crate::decide::state::Verdict;
    let name = &check.name;
    match (check.verdict, check.value) {
        (Verdict::Pass, _) => None,
        (Verdict::Fail, Some(value)) => Some(format!(
            "check {name} fails on the live version now ({value:.2}): a canary that is as good would be rolled back; look at its bounds"
        )),
        (Verdict::Fail | Verdict::NoData, _) => Some(format!(
            "check {name} has no value for the live version now ({}): no data counts as failed",
            check.error.as_deref().unwrap_or("no values found")
        )),
    }
}

/// How long the pods of a Deployment are reckoned to take until they are ready, in milliseconds, by its own fields.
#[must_use]
pub fn ready_after(target: &Value) -> i64 {
    /// Scheduling, pulling and starting, where nothing says more.
    const START: i64 = 10;
    let delays = target
        .array_at("/spec/template/spec/containers")
        .iter()
        .map(|c| c.int_at("/readinessProbe/initialDelaySeconds").unwrap_or(0));
    let delay = delays.max().unwrap_or(0);
    let steady = target.int_at("/spec/minReadySeconds").unwrap_or(0);
    (START + delay + steady).saturating_mul(1000)
}
