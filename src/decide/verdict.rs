//! Samples against bounds: [`judge`], once, for every metric.

use super::{
    facts::{Analysis, Bounds, Moment, Reading, Sample},
    plan::{Check, Plan, Source},
    state::{CheckResult, StepCheck, Verdict},
};

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
        Reading::Value(_) | Reading::NoData => (None, Some("no values found".to_owned())),
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

/// Flagger's sentence for a check that did not pass; `None` for one that did.
#[must_use]
pub fn halt(plan: &Plan, check: &CheckResult) -> Option<String> {
    let who = format!("{}.{}", plan.name, plan.namespace);
    if check.verdict == Verdict::Pass {
        return None;
    }
    let Some(value) = check.value else {
        let error = check.error.as_deref().filter(|e| *e != "no values found");
        return Some(match error {
            Some(e) => format!(
                "Halt {who} advancement metric query failed for {}: {e}",
                check.name
            ),
            None => format!(
                "Halt advancement no values found for metric {} probably {}.{} is not receiving traffic",
                check.name, plan.target, plan.namespace
            ),
        });
    };
    let (sign, bound) = match (check.bounds.min, check.bounds.max) {
        (Some(min), _) if value < min => ('<', min),
        (_, Some(max)) => ('>', max),
        (min, None) => ('<', min.unwrap_or_default()),
    };
    let source = plan
        .checks
        .iter()
        .find(|c| c.name == check.name)
        .map(|c| &c.source);
    let said = match source {
        Some(Source::SuccessRate) => format!("success rate {value:.2}% {sign} {bound}%"),
        Some(Source::Duration) => format!("request duration {value:.0}ms {sign} {bound}ms"),
        Some(Source::Query(_) | Source::Template { .. }) | None => {
            format!("{} {value:.2} {sign} {bound}", check.name)
        }
    };
    Some(format!("Halt {who} advancement {said}"))
}
