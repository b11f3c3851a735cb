//! Samples against bounds: [`judge`], once, for every metric.

use super::{
    facts::{Analysis, Bounds, Moment, Reading, Sample},
    plan::{Check, Plan, Source},
    state::{CheckResult, StepCheck, Verdict},
};

/// The error of a check without data.
const NO_VALUES: &str = "no values found";

/// What one reading means. Flagger: bounds are inclusive, and no data is a failed check.
#[must_use]
pub fn verdict(bounds: Bounds, reading: &Reading) -> Verdict {
    match reading {
        Reading::Value(value) if value.is_nan() => Verdict::NoData,
        Reading::Value(value) => {
            let below = bounds.min.is_some_and(|min| *value < min);
            let above = bounds.max.is_some_and(|max| *value > max);
            if below || above {
                Verdict::Fail
            } else {
                Verdict::Pass
            }
        }
        Reading::NoData | Reading::Error(_) => Verdict::NoData,
    }
}

/// Every check of the plan with its sample; a sample that is missing is no data.
#[must_use]
pub fn judge(plan: &Plan, analysis: &Analysis) -> Vec<CheckResult> {
    plan.checks
        .iter()
        .enumerate()
        .map(|(i, check)| result(check, analysis.samples.get(i), analysis.at))
        .collect()
}

fn result(check: &Check, sample: Option<&Sample>, at: Moment) -> CheckResult {
    let reading = sample.map_or(&Reading::NoData, |s| &s.value);
    let (value, error) = match reading {
        Reading::Value(v) if !v.is_nan() => (Some(*v), None),
        Reading::Value(_) | Reading::NoData => (None, Some(NO_VALUES.to_owned())),
        Reading::Error(e) => (None, Some(e.clone())),
    };
    CheckResult {
        name: check.name.clone(),
        value,
        bounds: check.bounds,
        verdict: verdict(check.bounds, reading),
        query: sample.map(|s| s.query.clone()).unwrap_or_default(),
        at,
        error,
    }
}

/// The verdict of an analysis: it passes when every check does.
#[must_use]
pub fn overall(checks: &[CheckResult]) -> Verdict {
    let any = |v: Verdict| checks.iter().any(|c| c.verdict == v);
    if any(Verdict::Fail) {
        Verdict::Fail
    } else if any(Verdict::NoData) {
        Verdict::NoData
    } else {
        Verdict::Pass
    }
}

/// What a step keeps of its checks.
#[must_use]
pub fn step_checks(checks: &[CheckResult]) -> Vec<StepCheck> {
    checks
        .iter()
        .map(|c| StepCheck {
            name: c.name.clone(),
            value: c.value,
            verdict: c.verdict,
        })
        .collect()
}

/// The provider in Flagger's sentence about a built-in metric: the only one that is carried out so far.
const PROVIDER: &str = "istio";

/// Flagger's sentence for a check that did not pass; `None` for one that did.
#[must_use]
pub fn halt(plan: &Plan, check: &CheckResult) -> Option<String> {
    let who = format!("{}.{}", plan.name, plan.namespace);
    if check.verdict == Verdict::Pass {
        return None;
    }
    let source = plan
        .checks
        .iter()
        .find(|c| c.name == check.name)
        .map(|c| &c.source);
    let Some(value) = check.value else {
        let error = check.error.as_deref().filter(|e| *e != NO_VALUES);
        return Some(missing(plan, &check.name, source, error));
    };
    let (sign, bound) = match (check.bounds.min, check.bounds.max) {
        (Some(min), _) if value < min => ('<', min),
        (_, Some(max)) => ('>', max),
        (min, None) => ('<', min.unwrap_or_default()),
    };
    let said = match source {
        Some(Source::SuccessRate) => format!("success rate {value:.2}% {sign} {bound}%"),
        Some(Source::Duration) => {
            format!(
                "request duration {} {sign} {}",
                duration(value),
                duration(bound)
            )
        }
        Some(Source::Named(_) | Source::Query(_) | Source::Template { .. }) | None => {
            format!("{} {value:.2} {sign} {bound}", check.name)
        }
    };
    Some(format!("Halt {who} advancement {said}"))
}

/// The sentence for a check without a value.
fn missing(plan: &Plan, name: &str, source: Option<&Source>, error: Option<&str>) -> String {
    match (source, error) {
        (Some(Source::SuccessRate | Source::Duration), Some(error)) => {
            format!("Prometheus query failed: {error}")
        }
        (
            Some(Source::Named(_) | Source::Query(_) | Source::Template { .. }) | None,
            Some(error),
        ) => {
            format!("Metric query failed for {name}: {error}")
        }
        (Some(Source::SuccessRate | Source::Duration | Source::Named(_)), None) => format!(
            "Halt advancement no values found for {PROVIDER} metric {name} probably {}.{} is not receiving traffic",
            plan.target, plan.namespace
        ),
        (Some(Source::Template { .. }), None) => {
            format!("Halt advancement no values found for custom metric: {name}")
        }
        (Some(Source::Query(_)) | None, None) => {
            format!("Halt advancement no values found for metric: {name}")
        }
    }
}

/// Whole milliseconds as Go prints a duration, which is what Flagger's sentence has: `700ms`, `1.5s`, `2m3s`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float cast saturates, and Flagger cuts off the fraction too"
)]
fn duration(ms: f64) -> String {
    let ms = ms as i64;
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms.abs() < 1000 {
        return format!("{ms}ms");
    }
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{point}{fraction}s", rest / 1000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}
