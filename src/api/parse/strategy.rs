//! What kind of run `spec.analysis` asks for, and its steps; refused where the router cannot carry it out.

use super::fields::Fields;
use crate::{
    api::time,
    decide::{
        plan::{PlanStep, Router, Strategy},
        strategy::{ab, blue_green, canary},
    },
};

/// The most analyses of a step: a week of minutes, and then some.
const MOST: i64 = 100_000;
/// The longest pause of a step.
const LONGEST_PAUSE: i64 = 30 * 86_400_000;

/// The strategy and its steps. `interval` is the analysis interval in milliseconds.
pub(super) fn steps(
    f: &mut Fields<'_>,
    router: Router,
    interval: i64,
) -> (Strategy, Vec<PlanStep>) {
    let iterations = count(f, "iterations");
    let hold = count(f, "hold");
    let listed = f.len("spec.analysis.match") > 0;
    let weighted = weighted(f);
    let mirrors = mirrors(f, router);
    let strategy = match (listed, iterations > 0, weighted) {
        (true, true, false) => Strategy::AbTesting,
        (false, true, false) => Strategy::BlueGreen,
        (_, _, _) => Strategy::Canary,
    };
    if listed && strategy != Strategy::AbTesting {
        refuse_match(f, weighted);
    }
    let intervals = u32::try_from(iterations).unwrap_or(0);
    let hold = u32::try_from(hold).unwrap_or(0);
    let steps = match strategy {
        Strategy::AbTesting => {
            matches(f, router);
            if !mirrors.is_empty() {
                f.refuse(
                    "spec.analysis.mirror",
                    "A/B testing sends users, not copies of their requests",
                    "take mirror out, or match",
                );
            }
            ab::steps(intervals, hold)
        }
        Strategy::BlueGreen => blue_green::steps(router, &mirrors, intervals, hold),
        Strategy::Canary => {
            if router == Router::Kubernetes && f.at("spec.analysis").is_some() {
                f.refuse(
                    if weighted {
                        "spec.analysis.stepWeight"
                    } else {
                        "spec.analysis.iterations"
                    },
                    "provider kubernetes has no mesh, so it cannot split requests by weight",
                    "give iterations instead (blue/green), or another provider",
                );
            }
            let weights = weights(f);
            let pauses = pauses(f, weights.len(), interval);
            let mirrored = count(f, "mirrorIterations");
            let mirrored = u32::try_from(mirrored).unwrap_or(0);
            canary::steps(&mirrors, mirrored, &weights, &pauses, intervals, hold)
        }
    };
    (strategy, steps)
}

fn count(f: &mut Fields<'_>, field: &str) -> i64 {
    let path = format!("spec.analysis.{field}");
    f.integer(&path, 0, i64::MIN..=MOST).max(0)
}

fn weighted(f: &mut Fields<'_>) -> bool {
    let step = f.integer("spec.analysis.stepWeight", 0, 0..=1_000);
    step > 0 || f.len("spec.analysis.stepWeights") > 0
}

fn refuse_match(f: &mut Fields<'_>, weighted: bool) {
    let reason = if weighted {
        "a match sends certain users to the canary, a step weight a share of all"
    } else {
        "A/B testing needs a number of analyses"
    };
    let fix = if weighted {
        "keep match with iterations (A/B testing), or the weights"
    } else {
        "give iterations"
    };
    f.refuse("spec.analysis.match", reason, fix);
}

/// Each must name some users: one that names none would send all of them.
fn matches(f: &mut Fields<'_>, router: Router) {
    if router == Router::Kubernetes {
        f.refuse(
            "spec.analysis.match",
            "provider kubernetes has no mesh, so it cannot tell users apart (A/B testing)",
            "take match out (blue/green), or use another provider",
        );
    }
    for i in 0..f.len("spec.analysis.match") {
        let path = format!("spec.analysis.match[{i}]");
        let keys = ["headers", "queryParams", "sourceLabels"];
        let some = keys.iter().any(|key| {
            let value = f.at(&format!("{path}.{key}"));
            value.is_some_and(|v| v.as_object().is_some_and(|map| !map.is_empty()))
        });
        if !some {
            f.refuse(
                &path,
                "it names no header, query parameter or source label, so every user would go to the canary",
                "name what tells the users",
            );
        }
    }
}

/// The growing shares of the requests that are copied; none without `mirror`. `mirrorStepWeight` and `maxMirrorWeight` are ours, and the guide's
/// `canaryAnalysis.{stepWeightPromotion, maxMirrorWeight}` is read as them.
fn mirrors(f: &mut Fields<'_>, router: Router) -> Vec<u8> {
    let start = f.integer("spec.analysis.mirrorWeight", 0, 0..=100);
    let mut either = |own: &str, guide: &str| {
        let own = f.integer(&format!("spec.analysis.{own}"), 0, 0..=100);
        let guide = f.integer(&format!("spec.analysis.canaryAnalysis.{guide}"), 0, 0..=100);
        if own > 0 { own } else { guide }
    };
    let step = either("mirrorStepWeight", "stepWeightPromotion");
    let most = either("maxMirrorWeight", "maxMirrorWeight");
    if f.at("spec.analysis.canaryAnalysis.templateVariables")
        .is_some()
    {
        f.refuse(
            "spec.analysis.canaryAnalysis.templateVariables",
            "changing the canary's pods is not carried out yet",
            "take the field out",
        );
    }
    if !f.boolean("spec.analysis.mirror") {
        return Vec::new();
    }
    if router == Router::Kubernetes {
        f.refuse(
            "spec.analysis.mirror",
            "provider kubernetes has no mesh, so it cannot copy requests",
            "take mirror out, or use another provider",
        );
    }
    let most = if most == 0 { 100 } else { most };
    // Flagger: without a weight every request is copied.
    let mut share = if start > 0 {
        start
    } else if step > 0 {
        step
    } else {
        100
    };
    let mut all = vec![share];
    while step > 0 && share < most {
        share = (share + step).min(most);
        all.push(share);
    }
    all.into_iter().map(percent).collect()
}

/// The weights in order. Flagger goes on until `maxWeight` is reached or passed: 20 up to 50 is 20, 40, 60.
fn weights(f: &mut Fields<'_>) -> Vec<u8> {
    let step = f.integer("spec.analysis.stepWeight", 0, 0..=1_000);
    let max = match f.integer("spec.analysis.maxWeight", 0, 0..=1_000) {
        0 => 100,
        max => max.min(100),
    };
    let listed = listed(f);
    match (step, listed.is_empty()) {
        (0, true) => {
            if f.at("spec.analysis").is_some() && f.len("spec.analysis.match") == 0 {
                f.refuse(
                    "spec.analysis.stepWeight",
                    "no step is given",
                    "give stepWeight, or stepWeights; or iterations, for blue/green",
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

/// `stepPauses`: how much longer each step lasts, as further analyses: a pause ends with one.
fn pauses(f: &mut Fields<'_>, steps: usize, interval: i64) -> Vec<u32> {
    let path = "spec.analysis.stepPauses";
    let mut all = Vec::new();
    for i in 0..f.len(path) {
        let at = format!("{path}[{i}]");
        let text = f.string(&at).unwrap_or_default();
        let Some(ms) = time::duration(&text).filter(|ms| *ms <= LONGEST_PAUSE) else {
            f.refuse(
                &at,
                format!("{text:?} is not a duration of at most 30 days"),
                "write a duration like 10m, or 0s for none",
            );
            continue;
        };
        let further = ms.saturating_add(interval - 1) / interval;
        all.push(u32::try_from(further).unwrap_or(0));
    }
    if all.len() > steps {
        f.refuse(
            path,
            format!("it has {} pauses for {steps} steps", all.len()),
            "give one for each step at most",
        );
    }
    all
}

/// Flagger gives the canary at most 100.
pub(super) fn percent(weight: i64) -> u8 {
    u8::try_from(weight.clamp(0, 100)).unwrap_or(100)
}
