//! What the Gateway API cannot carry out, found before a run.

use serde_json::Value;

use super::maps;
use crate::{
    api::{
        objects::{GatewayApi, ObjectExt, Objects},
        parse::Refusal,
        time,
    },
    build::owned,
    decide::plan::{Plan, Strategy},
};

/// The API's own limit of a rule.
const MOST_MATCHES: usize = 64;

/// Everything of the plan that its objects, the API, or the installed version of it do not allow.
#[must_use]
pub(in crate::build) fn check(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    let service = &objects.canary["spec"]["service"];
    let mut all = Vec::new();
    for (key, what) in [
        (
            "gateways",
            "Istio's gateways; service.gatewayRefs names its own",
        ),
        ("delegation", "delegates"),
        ("trafficPolicy", "traffic policies"),
        ("retries", "retries"),
    ] {
        let value = &service[key];
        let empty =
            value.is_null() || *value == false || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            all.push(refusal(
                &format!("spec.service.{key}"),
                &format!("has no {what}"),
                "take it out, or set provider istio",
            ));
        }
    }
    for (path, of_service) in [("service", true), ("analysis", false)] {
        // Of an analysis that is none of A/B testing the parser says so.
        if of_service || plan.strategy == Strategy::AbTesting {
            let entries = objects.canary.array_at(&format!("/spec/{path}/match"));
            for (i, entry) in entries.iter().enumerate() {
                all.extend(matched(
                    &format!("spec.{path}.match[{i}]"),
                    entry,
                    of_service,
                ));
            }
        }
    }
    all.extend(many(plan, objects));
    all.extend(rewrite(plan, objects));
    all.extend(durations(service));
    all.extend(versions(plan, objects));
    all.extend(theirs(objects));
    all
}

fn refusal(path: &str, what: &str, fix: &str) -> Refusal {
    Refusal::new(path, format!("provider gatewayapi:v1 {what}"), fix)
}

/// A match that would say something else without the part that the API does not know.
fn matched(path: &str, entry: &Value, of_service: bool) -> Vec<Refusal> {
    let mut all = Vec::new();
    for (key, value) in entry.as_object().into_iter().flatten() {
        let at = format!("{path}.{key}");
        match (key.as_str(), of_service) {
            ("headers" | "queryParams", _) => {
                for (name, condition) in value.as_object().into_iter().flatten() {
                    if !says(condition, &["exact", "regex"]) {
                        all.push(refusal(
                            &format!("{at}.{name}"),
                            &format!("cannot match {condition}"),
                            "give one of exact, regex",
                        ));
                    }
                }
            }
            ("uri", true) if says(value, &["exact", "prefix", "regex"]) => {}
            ("method", true) if says(value, &["exact"]) => {}
            ("uri", true) => all.push(refusal(
                &at,
                &format!("cannot match {value}"),
                "give one of exact, prefix, regex",
            )),
            ("method", true) => {
                all.push(refusal(&at, &format!("cannot match {value}"), "give exact"));
            }
            ("name", _) => {}
            (_, true) => all.push(refusal(
                &at,
                &format!("cannot match requests by {key}"),
                "take it out",
            )),
            (_, false) => all.push(refusal(
                &at,
                &format!("tells users by headers and queryParams in A/B testing, not by {key}"),
                "take it out",
            )),
        }
    }
    all
}

/// It says exactly one of these, and something.
fn says(condition: &Value, known: &[&str]) -> bool {
    let said: Vec<_> = condition.as_object().into_iter().flatten().collect();
    matches!(said[..], [(key, Value::String(text))] if known.contains(&key.as_str()) && !text.is_empty())
}

fn many(plan: &Plan, objects: &Objects) -> Option<Refusal> {
    let of = |pointer: &str| objects.canary.array_at(pointer).len().max(1);
    let tests = plan.strategy == Strategy::AbTesting;
    let rule = of("/spec/service/match") * if tests { of("/spec/analysis/match") } else { 1 };
    (rule > MOST_MATCHES).then(|| {
        refusal(
            "spec.service.match",
            &format!("takes at most {MOST_MATCHES} matches in a rule, and these with those of the analysis make {rule}"),
            "give fewer",
        )
    })
}

/// The API: the prefix that is replaced must be the only match of its rule.
fn rewrite(plan: &Plan, objects: &Objects) -> Option<Refusal> {
    if !maps::replaces_prefix(&objects.canary["spec"]["service"]["rewrite"]) {
        return None;
    }
    let service = objects.canary.array_at("/spec/service/match");
    let tests = plan.strategy == Strategy::AbTesting;
    let several =
        service.len() > 1 || (tests && objects.canary.array_at("/spec/analysis/match").len() > 1);
    let other = service
        .iter()
        .any(|m| m["uri"]["exact"].is_string() || m["uri"]["regex"].is_string());
    (several || other).then(|| {
        refusal(
            "spec.service.rewrite.type",
            "replaces a prefix only in a rule with one match, of that prefix",
            "leave one match with uri.prefix, or take the type out",
        )
    })
}

fn durations(service: &Value) -> Vec<Refusal> {
    let mut all = Vec::new();
    let mut read = Vec::new();
    for key in ["timeout", "backendTimeout"] {
        let Some(text) = service[key].as_str().filter(|text| !text.is_empty()) else {
            continue;
        };
        // The API's own form: up to four numbers of five digits, each with its unit.
        let form = text
            .split_inclusive(|c: char| c.is_ascii_alphabetic())
            .count();
        let plain = text
            .chars()
            .all(|c| c.is_ascii_digit() || "hms".contains(c));
        match time::duration(text).filter(|_| plain && form <= 8) {
            Some(ms) => read.push(ms),
            None => all.push(refusal(
                &format!("spec.service.{key}"),
                &format!("cannot read the duration {text:?}"),
                "write one like 15s or 1m30s",
            )),
        }
    }
    if let [request, backend] = read[..]
        && backend > request
        && request > 0
    {
        all.push(refusal(
            "spec.service.backendTimeout",
            "allows no try that is longer than the request",
            "make it at most service.timeout",
        ));
    }
    all
}

/// What only newer versions of the API have; an API server drops it from a route without a word.
fn versions(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    let mut all = Vec::new();
    let api = objects.gateway_api.as_ref();
    let installed = api.map_or("is not known".to_owned(), |api| {
        format!("is {}", api.version)
    });
    let part = plan
        .steps
        .iter()
        .find(|step| (1..100).contains(&step.traffic.mirror()));
    if let Some(step) = part
        && !api.is_some_and(GatewayApi::copies_a_part)
    {
        all.push(Refusal::new(
            "spec.analysis.mirrorWeight",
            format!(
                "provider gatewayapi:v1 copies a part of the requests ({}%) from version v1.3.0 of the Gateway API on, and the installed one {installed}",
                step.traffic.mirror()
            ),
            "copy all of them (mirrorWeight 100), or install a newer version",
        ));
    }
    let policy = &objects.canary["spec"]["service"]["corsPolicy"];
    if !policy.is_null() {
        if !api.is_some_and(GatewayApi::has_cors) {
            all.push(Refusal::new(
                "spec.service.corsPolicy",
                format!("provider gatewayapi:v1 has CORS from version v1.5.0 of the Gateway API on, or in its experimental channel, and the installed one {installed}"),
                "take it out, or install a newer version",
            ));
        }
        let exact = |origin: &Value| says(origin, &["exact"]);
        if !policy.array_at("/allowOrigins").iter().all(exact) {
            all.push(refusal(
                "spec.service.corsPolicy.allowOrigins",
                "knows exact origins only",
                "give exact, or allowOrigin",
            ));
        }
    }
    all
}

fn theirs(objects: &Objects) -> Option<Refusal> {
    let there = objects.http_route.as_ref()?;
    (!owned(there, &objects.canary)).then(|| {
        Refusal::new(
            "spec.service.name",
            format!("HTTPRoute {} exists and is not owned by this Canary", there.name()),
            "delete it, it is made anew with the hosts and gatewayRefs of spec.service, or use another name",
        )
    })
}
