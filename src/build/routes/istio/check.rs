//! What Istio cannot carry out, found before a run.

use serde_json::Value;

use super::{
    other_name,
    rules::TELLS,
    stored::{Stored, Unsplit, protocol},
};
use crate::{
    api::{
        objects::{ObjectExt, Objects},
        parse::Refusal,
    },
    decide::plan::{Plan, Strategy},
};

/// Everything of the plan that its objects and Istio do not allow.
#[must_use]
pub(in crate::build) fn check(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    let mut all = Vec::new();
    if protocol(plan) == "tcp" {
        all.extend(tcp(plan, objects));
    }
    if plan.strategy == Strategy::AbTesting {
        all.extend(matches(objects));
    }
    all.extend(virtual_service(plan, objects));
    all
}

/// TCP has connections and no requests: they can only be weighed.
fn tcp(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    let spec = &objects.canary["spec"];
    let mut wants = Vec::new();
    if plan.steps.iter().any(|step| step.traffic.mirror() > 0) {
        wants.push(("spec.analysis.mirror", "requests that could be copied"));
    }
    if plan.strategy == Strategy::AbTesting {
        wants.push((
            "spec.analysis.match",
            "headers to tell users by (A/B testing)",
        ));
    }
    if plan.affinity.is_some() {
        wants.push(("spec.analysis.sessionAffinity", "cookies to keep users by"));
    }
    for (path, key) in [
        ("spec.service.timeout", "timeout"),
        ("spec.service.retries", "retries"),
        ("spec.service.corsPolicy", "corsPolicy"),
        ("spec.service.headers", "headers"),
        ("spec.service.rewrite", "rewrite"),
    ] {
        if !spec["service"][key].is_null() {
            wants.push((path, "requests that this could be done to"));
        }
    }
    let refuse = |(path, what): (&str, &str)| {
        Refusal::new(
            path,
            format!("service.appProtocol is tcp, and TCP has no {what}"),
            "take it out, or give the port an HTTP protocol",
        )
    };
    wants.into_iter().map(refuse).collect()
}

/// What tells users in A/B testing must be what Istio can match; a condition that says nothing is one of everybody with that header.
fn matches(objects: &Objects) -> Vec<Refusal> {
    let mut all = Vec::new();
    for (i, entry) in objects
        .canary
        .array_at("/spec/analysis/match")
        .iter()
        .enumerate()
    {
        for (key, value) in entry.as_object().into_iter().flatten() {
            let path = format!("spec.analysis.match[{i}].{key}");
            if !TELLS.contains(&key.as_str()) {
                all.push(Refusal::new(
                    path,
                    format!(
                        "A/B testing tells users by {}, not by {key}",
                        TELLS.join(", ")
                    ),
                    "take it out, or put it into service.match, which holds for all requests",
                ));
            } else if key != "sourceLabels" {
                all.extend(strings(&path, value));
            }
        }
    }
    all
}

fn strings(path: &str, conditions: &Value) -> Vec<Refusal> {
    let known = |condition: &Value| {
        let keys: Vec<_> = condition.as_object().into_iter().flatten().collect();
        matches!(keys[..], [(key, Value::String(text))] if ["exact", "prefix", "regex"].contains(&key.as_str()) && !text.is_empty())
    };
    let entries = conditions.as_object().into_iter().flatten();
    entries
        .filter(|(_, condition)| !known(condition))
        .map(|(name, condition)| {
            Refusal::new(
                format!("{path}.{name}"),
                format!("provider istio cannot match {condition}"),
                "give one of exact, prefix, regex",
            )
        })
        .collect()
}

/// A `VirtualService` of others must have the one rule that is to be split.
fn virtual_service(plan: &Plan, objects: &Objects) -> Option<Refusal> {
    let named = other_name(objects);
    let Some((stored, unsplit)) = Stored::of(plan, objects) else {
        let name = named?;
        return Some(Refusal::new(
            "spec.service.virtualService.name",
            format!("there is no VirtualService {name} in {}", plan.namespace),
            "apply it, or take the field out, and one is made",
        ));
    };
    let protocol = stored.protocol;
    let rules = format!("{protocol} routes");
    let reason = match unsplit? {
        Unsplit::None => format!("none of its {rules} leads to the app and nowhere else"),
        Unsplit::Many(n) => {
            format!("{n} of its {rules} lead to the app, and only one can be split")
        }
        Unsplit::Named(route) => {
            format!("none of its {rules} is named {route} and leads to the app and nowhere else")
        }
        Unsplit::Other => format!(
            "one of its {rules} leads to {0}-primary or {0}-canary and is not among service.virtualService.routes",
            plan.service.name
        ),
    };
    let fix = if named.is_some() {
        format!(
            "name those that lead to host {} in service.virtualService.routes",
            plan.service.name
        )
    } else {
        format!(
            "leave one {protocol} route to host {} in it, name the one that is meant in service.virtualService, or delete it so that it is made anew",
            plan.service.name
        )
    };
    Some(Refusal::new(
        "spec.service",
        format!(
            "VirtualService {} is not ours, and {reason}",
            stored.object.name()
        ),
        fix,
    ))
}
