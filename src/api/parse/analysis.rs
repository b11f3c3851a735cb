//! `spec.analysis` without its metrics: pace, steps and thresholds.

use super::fields::Fields;
use crate::api::time;

/// Flagger: an interval that cannot be read is a minute.
const INTERVAL: i64 = 60_000;
/// Flagger: no interval is shorter.
const SHORTEST: i64 = 10_000;
/// Without a threshold: three failed checks end a run.
const THRESHOLD: i64 = 3;
/// Long enough for a mesh to have taken up a route.
const SETTLE: i64 = 10_000;
const DAY: i64 = 86_400_000;

/// What `spec.analysis` adds to a plan.
pub(super) struct Analysis {
    pub(super) interval: i64,
    pub(super) threshold: u32,
    pub(super) steps: Vec<u8>,
    pub(super) step_weight_promotion: Option<u8>,
    pub(super) settle: i64,
    pub(super) primary_ready: u8,
    pub(super) canary_ready: u8,
}

pub(super) fn analysis(f: &mut Fields<'_>) -> Analysis {
    if f.at("spec.analysis").is_none() {
        f.refuse(
            "spec.analysis",
            "the analysis is missing",
            "give interval, stepWeight, maxWeight and metrics",
        );
    }
    let interval = f
        .string("spec.analysis.interval")
        .and_then(|text| time::duration(&text))
        .unwrap_or(INTERVAL)
        .max(SHORTEST);
    let threshold = f
        .integer("spec.analysis.threshold", THRESHOLD, i64::MIN..=1_000_000)
        .max(1);
    refuse_rest(f);
    Analysis {
        interval,
        threshold: u32::try_from(threshold).unwrap_or(1),
        steps: steps(f),
        step_weight_promotion: match f.integer("spec.analysis.stepWeightPromotion", 0, 0..=1_000) {
            0 => None,
            weight => Some(percent(weight)),
        },
        settle: settle(f),
        primary_ready: percent(f.integer("spec.analysis.primaryReadyThreshold", 100, 0..=100)),
        canary_ready: percent(f.integer("spec.analysis.canaryReadyThreshold", 100, 0..=100)),
    }
}

fn settle(f: &mut Fields<'_>) -> i64 {
    let path = "spec.analysis.settle";
    let Some(text) = f.string(path) else {
        return SETTLE;
    };
    if let Some(ms) = time::duration(&text).filter(|ms| *ms <= DAY) {
        return ms;
    }
    f.refuse(
        path,
        format!("{text:?} is not a duration of at most a day"),
        "write a duration like 10s",
    );
    SETTLE
}

/// The weights in order. Flagger goes on until `maxWeight` is reached or passed: 20 up to 50 is 20, 40, 60.
fn steps(f: &mut Fields<'_>) -> Vec<u8> {
    let step = f.integer("spec.analysis.stepWeight", 0, 0..=1_000);
    let max = match f.integer("spec.analysis.maxWeight", 0, 0..=1_000) {
        0 => 100,
        max => max.min(100),
    };
    let listed = listed(f);
    let blue_green = f.integer("spec.analysis.iterations", 0, 0..=i64::MAX) > 0;
    match (step, listed.is_empty()) {
        (0, true) => {
            // With iterations the strategy itself is refused; one reason is enough.
            if f.at("spec.analysis").is_some() && !blue_green {
                f.refuse(
                    "spec.analysis.stepWeight",
                    "no step is given",
                    "give stepWeight, or stepWeights",
                );
            }
            Vec::new()
        }
        (0, false) => rising(f, &listed),
        (_, false) => {
            f.refuse(
                "spec.analysis.stepWeights",
                "stepWeight is given too",
                "keep one of the two",
            );
            Vec::new()
        }
        (step, true) => {
            let mut steps = Vec::new();
            let mut weight = 0;
            while weight < max {
                weight = (weight + step).min(100);
                steps.push(percent(weight));
            }
            steps
        }
    }
}

fn listed(f: &mut Fields<'_>) -> Vec<i64> {
    let path = "spec.analysis.stepWeights";
    let mut all = Vec::new();
    for i in 0..f.len(path) {
        all.extend(f.optional_integer(&format!("{path}[{i}]"), 1..=1_000));
    }
    all
}

fn rising(f: &mut Fields<'_>, listed: &[i64]) -> Vec<u8> {
    let steps: Vec<u8> = listed.iter().copied().map(percent).collect();
    if !steps.is_sorted_by(|a, b| a < b) {
        f.refuse(
            "spec.analysis.stepWeights",
            format!("the weights {listed:?} do not rise within 1 to 100"),
            "make each greater than the one before",
        );
    }
    steps
}

/// Flagger gives the canary at most 100.
fn percent(weight: i64) -> u8 {
    u8::try_from(weight.clamp(0, 100)).unwrap_or(100)
}

fn refuse_rest(f: &mut Fields<'_>) {
    for (field, what) in [
        ("match", "A/B testing"),
        ("sessionAffinity", "session affinity"),
        ("mirror", "mirroring"),
        ("mirrorWeight", "mirroring"),
        ("webhooks", "calling webhooks"),
        ("alerts", "sending alerts"),
        ("canaryAnalysis", "progressive mirroring"),
    ] {
        f.not_yet(&format!("spec.analysis.{field}"), what);
    }
    if f.integer("spec.analysis.iterations", 0, i64::MIN..=i64::MAX) > 0 {
        f.refuse(
            "spec.analysis.iterations",
            "iterating at one weight (A/B, blue/green) is not carried out yet",
            "take it out and give stepWeight and maxWeight",
        );
    }
}
