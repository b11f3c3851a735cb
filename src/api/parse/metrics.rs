//! `spec.analysis.metrics`: the checks.

use super::fields::Fields;
use crate::{
    api::objects::ObjectExt,
    decide::{
        facts::Bounds,
        plan::{Check, Named, Source},
    },
};

/// The metrics that need no query, and what they are.
fn built_in() -> String {
    let further: Vec<&str> = Named::ALL.iter().map(|(name, _)| *name).collect();
    format!(
        "request-success-rate (percent without a 5xx), request-duration (99th percentile in ms), {}",
        further.join(", ")
    )
}

pub(super) fn checks(f: &mut Fields<'_>) -> Vec<Check> {
    let mut all = Vec::new();
    for i in 0..f.len("spec.analysis.metrics") {
        all.extend(metric(f, &format!("spec.analysis.metrics[{i}]")));
    }
    all
}

/// One metric is as many checks as it names sources: Flagger evaluates a built-in name, an inline query and a template each on its own.
fn metric(f: &mut Fields<'_>, path: &str) -> Vec<Check> {
    let Some(name) = f.string(&format!("{path}.name")) else {
        f.refuse(
            &format!("{path}.name"),
            "the metric has no name",
            format!("name it; built in are {}", built_in()),
        );
        return Vec::new();
    };
    let sources = sources(f, path, &name);
    let bounds = bounds(f, path, &name);
    let interval = interval(f, path);
    let variables = f.map(&format!("{path}.templateVariables"));
    let many = sources.len() > 1;
    sources
        .into_iter()
        .enumerate()
        .map(|(i, source)| Check {
            name: if many && i > 0 {
                format!("{name} ({})", label(&source))
            } else {
                name.clone()
            },
            bounds,
            source,
            interval: interval.clone(),
            variables: variables.clone(),
        })
        .collect()
}

fn label(source: &Source) -> String {
    match source {
        Source::SuccessRate | Source::Duration | Source::Named(_) => "built in".to_owned(),
        Source::Query(_) => "query".to_owned(),
        Source::Template { name, .. } => name.clone(),
    }
}

fn sources(f: &mut Fields<'_>, path: &str, name: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    match name {
        "request-success-rate" => sources.push(Source::SuccessRate),
        "request-duration" => sources.push(Source::Duration),
        _ => {}
    }
    if let Some(query) = f.string(&format!("{path}.query")) {
        sources.push(Source::Query(query));
    }
    let template = format!("{path}.templateRef");
    if f.at(&template).is_some() {
        let namespace = f
            .string(&format!("{template}.namespace"))
            .unwrap_or_else(|| f.canary.namespace().to_owned());
        let name = f.name(&format!("{template}.name"), 253);
        sources.push(Source::Template { namespace, name });
    }
    // Flagger does not know these names: with a query of its own such a metric is that query alone.
    if sources.is_empty() {
        sources.extend(Named::of(name).map(Source::Named));
    }
    if sources.is_empty() {
        f.refuse(
            &format!("{path}.name"),
            format!("there is no built-in metric {name:?}"),
            format!(
                "give a query or a templateRef, or use one of {}",
                built_in()
            ),
        );
    }
    sources
}

/// `thresholdRange`, inclusive; without one, Flagger's rule for the deprecated `threshold`: the least success rate, the most of anything else.
fn bounds(f: &mut Fields<'_>, path: &str, name: &str) -> Bounds {
    let range = format!("{path}.thresholdRange");
    let min = f.number(&format!("{range}.min"));
    let max = f.number(&format!("{range}.max"));
    let bounds = if f.at(&range).is_some() {
        Bounds { min, max }
    } else {
        match (f.number(&format!("{path}.threshold")), name) {
            (threshold, "request-success-rate") => Bounds {
                min: threshold,
                max: None,
            },
            (threshold, _) => Bounds {
                min: None,
                max: threshold,
            },
        }
    };
    match (bounds.min, bounds.max) {
        (None, None) => f.refuse(
            path,
            format!("the metric {name:?} has no bound, so that no value could fail it"),
            "give thresholdRange.min or thresholdRange.max",
        ),
        (Some(min), Some(max)) if min > max => f.refuse(
            &range,
            format!("min {min} is greater than max {max}, so that no value could pass"),
            "make min at most max",
        ),
        _ => {}
    }
    bounds
}

/// The window of the query. It is put into queries as it stands, so it is held to the characters of a duration.
fn interval(f: &mut Fields<'_>, path: &str) -> String {
    let path = format!("{path}.interval");
    let Some(text) = f.string(&path) else {
        return "1m".to_owned();
    };
    if !text
        .chars()
        .all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
        || !text.starts_with(|c: char| c.is_ascii_digit())
    {
        f.refuse(
            &path,
            format!("{text:?} is not a duration"),
            "write a duration like 1m",
        );
    }
    text
}
