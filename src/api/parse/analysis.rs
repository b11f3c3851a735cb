//! `spec.analysis` without its metrics, steps and webhooks: pace, thresholds, and what is kept for users.

use super::{
    fields::Fields,
    strategy::{self, percent},
};
use crate::{
    api::time,
    decide::plan::{Affinity, CanaryReplicas, PlanStep, Router, Strategy, ThresholdMode},
};

/// Flagger: an interval that cannot be read is a minute.
const INTERVAL: i64 = 60_000;
/// Flagger: no interval is shorter.
const SHORTEST: i64 = 10_000;
/// Without a threshold: three failed checks end a run.
const THRESHOLD: i64 = 3;
/// Long enough for a mesh to have taken up a route.
const SETTLE: i64 = 10_000;
const DAY: i64 = 86_400_000;

/// Flagger: a cookie lives for a day.
const MAX_AGE: i64 = 86_400;

/// What `spec.analysis` adds to a plan.
pub(super) struct Analysis {
    pub(super) interval: i64,
    pub(super) delay: i64,
    pub(super) threshold: u32,
    pub(super) threshold_mode: ThresholdMode,
    pub(super) strategy: Strategy,
    pub(super) steps: Vec<PlanStep>,
    pub(super) step_weight_promotion: Option<u8>,
    pub(super) settle: i64,
    pub(super) primary_ready: u8,
    pub(super) canary_ready: u8,
    pub(super) affinity: Option<Affinity>,
    pub(super) canary_replicas: Option<CanaryReplicas>,
}

pub(super) fn analysis(f: &mut Fields<'_>, router: Router) -> Analysis {
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
    f.not_yet("spec.analysis.alerts", "sending alerts");
    let (strategy, steps) = strategy::steps(f, router, interval);
    Analysis {
        interval,
        delay: within_a_day(f, "spec.analysis.delay", 0),
        threshold: u32::try_from(threshold).unwrap_or(1),
        threshold_mode: threshold_mode(f),
        strategy,
        steps,
        step_weight_promotion: match f.integer("spec.analysis.stepWeightPromotion", 0, 0..=1_000) {
            0 => None,
            weight => Some(percent(weight)),
        },
        settle: within_a_day(f, "spec.analysis.settle", SETTLE),
        primary_ready: percent(f.integer("spec.analysis.primaryReadyThreshold", 100, 0..=100)),
        canary_ready: percent(f.integer("spec.analysis.canaryReadyThreshold", 100, 0..=100)),
        affinity: affinity(f, router, interval),
        canary_replicas: canary_replicas(f),
    }
}

fn threshold_mode(f: &mut Fields<'_>) -> ThresholdMode {
    let path = "spec.analysis.thresholdMode";
    match f.string(path).as_deref() {
        None | Some("cumulative") => ThresholdMode::Cumulative,
        Some("consecutive") => ThresholdMode::Consecutive,
        Some(other) => {
            f.refuse(
                path,
                format!("there is no way {other:?} of counting failed checks"),
                "use cumulative (they add up) or consecutive (a pass sets them back)",
            );
            ThresholdMode::Cumulative
        }
    }
}

fn canary_replicas(f: &mut Fields<'_>) -> Option<CanaryReplicas> {
    let path = "spec.analysis.canaryReplicas";
    let text = f.string(path)?;
    if f.at("spec.autoscalerRef").is_some() {
        f.refuse(
            path,
            "the canary has an autoscaler, which decides how many replicas it has",
            "take canaryReplicas out, or autoscalerRef",
        );
    }
    match text.as_str() {
        "min" => Some(CanaryReplicas::Min),
        "primary" => Some(CanaryReplicas::Primary),
        "weight" => Some(CanaryReplicas::Weight),
        other => {
            f.refuse(
                path,
                format!("there is no way {other:?} of sizing a canary"),
                "use min (one), primary (as many as the primary) or weight (the primary's by the next weight)",
            );
            None
        }
    }
}

fn affinity(f: &mut Fields<'_>, router: Router, interval: i64) -> Option<Affinity> {
    let path = "spec.analysis.sessionAffinity";
    f.at(path)?;
    if router == Router::Kubernetes {
        f.refuse(
            path,
            "provider kubernetes has no mesh, so it cannot keep users on a version",
            "take sessionAffinity out, or use another provider",
        );
    }
    let cookie = cookie_name(f, &format!("{path}.cookieName"));
    if cookie.is_none() {
        f.refuse(
            &format!("{path}.cookieName"),
            "the cookie has no name",
            "name it",
        );
    }
    let primary_cookie = cookie_name(f, &format!("{path}.primaryCookieName"));
    if primary_cookie.is_some() && primary_cookie == cookie {
        f.refuse(
            &format!("{path}.primaryCookieName"),
            "both copies would keep users by the same cookie",
            "give the primary's cookie another name",
        );
    }
    let max_age = match f.integer(&format!("{path}.maxAge"), MAX_AGE, 0..=i64::from(i32::MAX)) {
        0 => MAX_AGE,
        seconds => seconds,
    };
    Some(Affinity {
        cookie: cookie.unwrap_or_default(),
        primary_cookie,
        max_age: u32::try_from(max_age).unwrap_or(0),
        primary_max_age: u32::try_from(interval / 1000).unwrap_or(0),
        attributes: attributes(f, path),
    })
}

/// The attributes of both cookies, in Flagger's order.
fn attributes(f: &mut Fields<'_>, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let text = |f: &mut Fields<'_>, field: &str, name: &str| {
        let at = format!("{path}.{field}");
        let value = f.string(&at)?;
        if value
            .chars()
            .any(|c| c.is_control() || c == ';' || c == '"')
        {
            f.refuse(
                &at,
                format!("{value:?} cannot stand in a cookie"),
                "take control characters, quotes and semicolons out",
            );
        }
        Some(format!("{name}={value}"))
    };
    let domain = text(f, "domain", "Domain");
    let of_path = text(f, "path", "Path");
    let same_site = text(f, "sameSite", "SameSite");
    let mut flag = |field: &str, name: &str| {
        f.boolean(&format!("{path}.{field}"))
            .then(|| name.to_owned())
    };
    let (http_only, partitioned, secure) = (
        flag("httpOnly", "HttpOnly"),
        flag("partitioned", "Partitioned"),
        flag("secure", "Secure"),
    );
    all.extend(domain);
    all.extend(http_only);
    all.extend(partitioned);
    all.extend(of_path);
    all.extend(same_site);
    all.extend(secure);
    all
}

/// A cookie's name: it stands in a header and in a regular expression as it is.
fn cookie_name(f: &mut Fields<'_>, path: &str) -> Option<String> {
    let name = f.string(path)?;
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.chars().all(token) {
        f.refuse(
            path,
            format!("{name:?} is not a cookie's name"),
            "use letters, digits, dashes and underscores",
        );
    }
    Some(name)
}

fn within_a_day(f: &mut Fields<'_>, path: &str, default: i64) -> i64 {
    let Some(text) = f.string(path) else {
        return default;
    };
    if let Some(ms) = time::duration(&text).filter(|ms| *ms <= DAY) {
        return ms;
    }
    f.refuse(
        path,
        format!("{text:?} is not a duration of at most a day"),
        "write a duration like 10s",
    );
    default
}
