//! A rollout in a person's words.

use serde_json::json;

use super::{CheckView, RolloutView, WeightView};
use crate::decide::state::{Phase, Verdict};

/// One rollout in one line, without a full stop:
/// `prod-kr ai-platform/mcp-server: 15% to canary, success 99.9% (min 99.5), p99 182 ms (max 2000), step 3 of 6`.
#[must_use]
pub fn line(view: &RolloutView) -> String {
    let RolloutView {
        cluster,
        namespace,
        name,
        ..
    } = view;
    format!("{cluster} {namespace}/{name}: {}", state(view))
}

/// The same as a sentence, with what it waits for.
#[must_use]
pub fn summary(view: &RolloutView) -> String {
    let line = line(view);
    let Some(waiting) = &view.waiting_for else {
        return line + ".";
    };
    let how = waiting
        .how
        .as_ref()
        .map_or(String::new(), |how| format!(" ({how})"));
    format!("{line}; waits for {}{how}.", waiting.what)
}

/// The lines of the steps that a run has taken between two looks and that the newer one's own line does not tell: who follows hears of
/// every step, however fast they came.
#[must_use]
pub fn between(last: &RolloutView, view: &RolloutView) -> Vec<String> {
    let told = if last.run == view.run { last.step.n } else { 0 };
    let analysed = matches!(view.phase, Phase::Progressing | Phase::WaitingPromotion);
    let tells_its_own = analysed && view.step.n > 0 && view.reason.is_none();
    let until = if tells_its_own {
        view.step.n - 1
    } else {
        view.step.n
    };
    (told + 1..=until).filter_map(|n| step(view, n)).collect()
}

/// The line of one past step, as it was when its weight was written; `None` when it is no longer in the record.
fn step(view: &RolloutView, n: i64) -> Option<String> {
    let index = usize::try_from(n - 1 - i64::from(view.steps_merged)).ok()?;
    let step = view.steps.get(index)?;
    let before = index.checked_sub(1).and_then(|i| view.steps.get(i));
    let mut then = view.clone();
    then.phase = Phase::Progressing;
    then.reason = None;
    then.failed_checks = 0;
    then.weight.written = step.weight;
    then.weight.mirrored = step.mirrored;
    then.weight.matched = step.matched;
    then.step.n = n;
    for check in &mut then.checks {
        let was = before.and_then(|s| s.checks.iter().find(|c| c.name == check.name));
        check.value = was.and_then(|c| c.value);
        check.verdict = was.map(|c| c.verdict);
        check.error = None;
    }
    Some(line(&then))
}

/// What to call now, for an assistant.
#[must_use]
pub fn next(view: &RolloutView) -> String {
    let of = json!({"cluster": view.cluster, "namespace": view.namespace, "name": view.name});
    let mut follow = of.clone();
    follow["wait_seconds"] = json!(50);
    follow["since"] = json!(view.cursor);
    let follow = format!("call get_status {follow} for the next change");
    if view.led_by.is_none() {
        return "nobody leads this cluster: start canary-mcp with --lead for it, then call get_status again".to_owned();
    }
    match view.phase {
        Phase::Waiting | Phase::Progressing | Phase::WaitingPromotion
            if view.reason.is_none() && opens(view) =>
        {
            format!("call promote {of} to open the gate, or rollback {of}; or {follow}")
        }
        Phase::Initializing
        | Phase::Waiting
        | Phase::WaitingPromotion
        | Phase::Progressing
        | Phase::Promoting
        | Phase::Finalising
        | Phase::Terminating => follow,
        Phase::Initialized | Phase::Succeeded => {
            "nothing to do; start_canary with a new image rolls it out".to_owned()
        }
        Phase::Failed if view.weight.written > 0 => {
            "look at reason and events and repair the primary; the traffic then returns to it by itself, and start_canary works again"
                .to_owned()
        }
        Phase::Failed => {
            "look at reason, checks and events, then start_canary with an image that mends it, or with retry to try this one once more"
                .to_owned()
        }
        Phase::Terminated => "nothing to do".to_owned(),
    }
}

/// `promote` opens what the rollout waits for.
fn opens(view: &RolloutView) -> bool {
    view.waiting_for.as_ref().is_some_and(|w| w.opens)
}

fn state(view: &RolloutView) -> String {
    let weight = view.weight.written;
    let live = view.image.live.as_deref().unwrap_or("an unknown image");
    let canary = view.image.canary.as_deref().unwrap_or("an unknown image");
    let why = || {
        view.reason
            .as_ref()
            .map_or(String::new(), |reason| format!(": {reason}"))
    };
    // A run that goes on has a reason only when it is being ended.
    if let (true, Some(reason)) = (view.phase.running(), &view.reason) {
        return format!("rolling back: {reason}; {weight}% to canary");
    }
    match view.phase {
        Phase::Initializing => format!("being set up{}", why()),
        Phase::Initialized => format!("ready for a first rollout, {live} is live"),
        Phase::Waiting => format!("{canary} waits for approval"),
        Phase::Progressing if view.step.n == 0 => {
            format!("{canary} starts, no traffic yet{}", failed(view))
        }
        Phase::Progressing => split(view),
        Phase::WaitingPromotion => format!("{}, promotion gate closed", split(view)),
        Phase::Promoting => format!("promoting {canary}, {weight}% still to canary"),
        Phase::Finalising => format!("{live} promoted, all traffic on the primary"),
        Phase::Succeeded => format!("succeeded, {live} is live"),
        Phase::Failed if weight == 0 => format!("failed{}; {live} is live", why()),
        Phase::Failed => format!("failed{}; {weight}% to canary ({canary})", why()),
        Phase::Terminating | Phase::Terminated => "being deleted".to_owned(),
    }
}

/// Weight, checks and step of a run that is analysed.
fn split(view: &RolloutView) -> String {
    let mut parts = vec![to_canary(&view.weight)];
    parts.extend(view.checks.iter().filter_map(check));
    parts.push(format!("step {} of {}", view.step.n, view.step.of));
    parts.join(", ") + &failed(view)
}

/// What of the requests the canary gets.
fn to_canary(weight: &WeightView) -> String {
    match (weight.matched, weight.mirrored) {
        (Some(true), _) => "matched users to canary".to_owned(),
        (_, Some(percent)) => format!("{percent}% mirrored to canary"),
        (_, None) => format!("{}% to canary", weight.written),
    }
}

fn failed(view: &RolloutView) -> String {
    match view.failed_checks {
        0 => String::new(),
        n => format!(", failed checks {n} of {}", view.threshold),
    }
}

/// `success 99.9% (min 99.5)`; nothing before the first analysis.
fn check(check: &CheckView) -> Option<String> {
    let verdict = check.verdict?;
    let (label, unit) = words(check);
    let value = match check.value {
        Some(value) => format!("{}{unit}", number(value)),
        None if check.error.is_some() => "not read".to_owned(),
        None => "no data".to_owned(),
    };
    let bounds: Vec<String> = [("min", check.min), ("max", check.max)]
        .into_iter()
        .filter_map(|(word, bound)| Some(format!("{word} {}", bound?)))
        .collect();
    let mark = match verdict {
        Verdict::Fail => " FAILED",
        Verdict::Pass | Verdict::NoData => "",
    };
    Some(format!("{label} {value} ({}){mark}", bounds.join(", ")))
}

/// What a metric is called and counted in: known for the built-in ones; of others only what name and query say.
fn words(check: &CheckView) -> (String, &'static str) {
    match check.name.as_str() {
        "request-success-rate" => return ("success".to_owned(), "%"),
        "request-duration" => return ("p99".to_owned(), " ms"),
        _ => {}
    }
    let query: String = check
        .query
        .as_deref()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let timed = ["latency", "duration"]
        .iter()
        .any(|word| check.name.contains(word));
    if !timed {
        return (check.name.clone(), "");
    }
    let quantile = ["0.99", "0.95", "0.9", "0.5"]
        .into_iter()
        .zip(["p99", "p95", "p90", "p50"])
        .find(|(q, _)| query.contains(&format!("histogram_quantile({q},")))
        .map_or_else(|| check.name.clone(), |(_, label)| label.to_owned());
    let milliseconds = ["milliseconds", "_ms", "*1000"]
        .iter()
        .any(|unit| query.contains(unit));
    (quantile, if milliseconds { " ms" } else { "" })
}

/// At most two decimals, none from 100 on.
fn number(value: f64) -> String {
    let text = if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
