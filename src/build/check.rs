//! What the builders could not carry out, found before a run begins.
//!
//! A refusal keeps a run from beginning. One that is under way is not held up by it: its route and its rollback do not depend on what is
//! checked here, and a builder that lacks something gives no write.

use serde_json::Value;

use super::{
    Selector, owned, rivals, routes,
    scaler::{self, Queries},
};
use crate::{
    api::{
        metric_template::MetricTemplate,
        objects::{Object, ObjectExt, Objects},
        parse::Refusal,
    },
    decide::plan::{Plan, PortRef, Scaler, Source},
};

/// Kubernetes: the longest value of a label.
const LONGEST_LABEL: usize = 63;

/// Everything that keeps this plan from being carried out on these objects, at once.
#[must_use]
pub fn check(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    let mut all = rivals::refusals(objects);
    match &objects.target {
        None => all.push(Refusal::new(
            "spec.targetRef.name",
            format!(
                "there is no Deployment {} in {}",
                plan.target, plan.namespace
            ),
            "apply it, or name another one",
        )),
        Some(target) => {
            all.extend(rollout(target));
            all.extend(selector(plan, objects, target));
            all.extend(port(plan, target));
        }
    }
    all.extend(ours("Deployment", objects.primary.as_ref(), objects));
    all.extend(services(objects));
    if let Some(wanted) = &plan.scaler {
        all.extend(scaling(plan, objects, wanted));
    }
    all.extend(route(plan, objects));
    all.extend(sources(plan, objects));
    all
}

/// The metric templates that the checks name: each must be there, and its provider one that is carried out.
fn sources(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    let named = plan.checks.iter().filter_map(|check| match &check.source {
        Source::Template { namespace, name } => Some((check, namespace.clone(), name.clone())),
        Source::SuccessRate | Source::Duration | Source::Named(_) | Source::Query(_) => None,
    });
    named
        .filter_map(|(check, namespace, name)| {
            let path = format!("spec.analysis.metrics[{}].templateRef", check.name);
            let Some(template) = objects.templates.get(&(namespace.clone(), name.clone())) else {
                return Some(Refusal::new(
                    path,
                    format!("there is no MetricTemplate {name} in {namespace}"),
                    "apply it, or name another one",
                ));
            };
            MetricTemplate::read(template).err().map(|reason| {
                Refusal::new(
                    path,
                    reason,
                    "change the MetricTemplate, or name another one",
                )
            })
        })
        .collect()
}

fn rollout(target: &Value) -> Option<Refusal> {
    let owner = target
        .array_at("/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["kind"] == "Rollout" && owner["controller"] == true)
        .and_then(|owner| owner.str_at("/name"));
    let name = owner.or(target.annotation("argo-rollouts.argoproj.io/managed-by-rollouts"))?;
    Some(Refusal::new(
        "spec.targetRef.name",
        format!("the Deployment is driven by the Argo Rollout {name}"),
        "delete the Rollout, or take the Canary away",
    ))
}

fn selector(plan: &Plan, objects: &Objects, target: &Value) -> Option<Refusal> {
    let Some(selector) = Selector::of(&plan.labels, target) else {
        return Some(Refusal::new(
            "spec.targetRef",
            format!(
                "the Deployment's spec.selector.matchLabels has none of {}",
                plan.labels.selectors.join(", ")
            ),
            "select its pods by one of them",
        ));
    };
    if selector.primary().len() > LONGEST_LABEL {
        return Some(Refusal::new(
            "spec.targetRef",
            format!(
                "the value of label {} leaves no room for the suffix -primary",
                selector.key
            ),
            format!(
                "use one of at most {} characters",
                LONGEST_LABEL - "-primary".len()
            ),
        ));
    }
    let primary = objects.primary.as_ref()?;
    let selects = &primary["spec"]["selector"]["matchLabels"][&selector.key];
    (*selects != selector.primary()).then(|| {
        Refusal::new(
            "spec.targetRef",
            format!(
                "Deployment {} does not select its pods by {}={}, and a selector cannot be changed",
                primary.name(),
                selector.key,
                selector.primary()
            ),
            "delete that Deployment once its traffic can be spared; it is made anew",
        )
    })
}

/// An apex that others made would lose its endpoints with a wrong port, so a number must be declared too where any is.
fn port(plan: &Plan, target: &Value) -> Option<Refusal> {
    let declared: Vec<&Value> = target
        .array_at("/spec/template/spec/containers")
        .iter()
        .flat_map(|container| container.array_at("/ports"))
        .collect();
    let wanted = &plan.service.target_port;
    let found = match wanted {
        PortRef::Number(number) => {
            declared.is_empty() || declared.iter().any(|port| port["containerPort"] == *number)
        }
        PortRef::Name(name) => declared.iter().any(|port| port["name"] == name.as_str()),
    };
    (!found).then(|| {
        let (what, which) = match wanted {
            PortRef::Number(number) => ("number", number.to_string()),
            PortRef::Name(name) => ("name", name.clone()),
        };
        let all: Vec<String> = declared
            .iter()
            .map(|port| match port.str_at("/name") {
                Some(name) => format!("{} ({name})", port["containerPort"]),
                None => port["containerPort"].to_string(),
            })
            .collect();
        Refusal::new(
            "spec.service.targetPort",
            format!(
                "no container of Deployment {} has a port of {what} {which}",
                plan.target
            ),
            if all.is_empty() {
                "declare the container's port with that name, or give its number".to_owned()
            } else {
                format!(
                    "use one of {}, or declare it in the container",
                    all.join(", ")
                )
            },
        )
    })
}

/// An object that we would write must not be somebody else's.
fn ours(kind: &str, object: Option<&Object>, objects: &Objects) -> Option<Refusal> {
    // What another Canary made is not told as somebody's who could spare it.
    let object = object
        .filter(|object| !owned(object, &objects.canary) && !rivals::rival(object, objects))?;
    Some(Refusal::new(
        "spec.targetRef.name",
        format!(
            "{kind} {} exists and is not owned by this Canary",
            object.name()
        ),
        "delete it, or rename it; it is made anew",
    ))
}

fn services(objects: &Objects) -> Vec<Refusal> {
    let mut all: Vec<Refusal> = Vec::new();
    for there in [
        &objects.apex,
        &objects.primary_service,
        &objects.canary_service,
    ] {
        let Some(there) = there else { continue };
        all.extend(other_canary("Service", there, objects));
        if there["spec"]["type"] == "ExternalName" {
            all.push(Refusal::new(
                "spec.service.name",
                format!(
                    "Service {} is of type ExternalName and selects no pods",
                    there.name()
                ),
                "use another name, or change its type",
            ));
        }
    }
    all
}

fn other_canary(kind: &str, there: &Value, objects: &Objects) -> Option<Refusal> {
    let owner = there
        .array_at("/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["controller"] == true && owner["kind"] == "Canary")?;
    let foreign = owner.str_at("/uid") != Some(objects.canary.uid());
    (foreign && !rivals::rival(there, objects)).then(|| {
        Refusal::new(
            "spec.service.name",
            format!(
                "{kind} {} belongs to the Canary {}",
                there.name(),
                owner.str_at("/name").unwrap_or("of another uid")
            ),
            "give service.name another name, or delete that Canary",
        )
    })
}

fn scaling(plan: &Plan, objects: &Objects, wanted: &Scaler) -> Vec<Refusal> {
    let path = "spec.autoscalerRef";
    let Some(source) = &objects.scaler else {
        return vec![Refusal::new(
            format!("{path}.name"),
            format!(
                "there is no ScaledObject {} in {}",
                wanted.name, plan.namespace
            ),
            "apply it, or take autoscalerRef out",
        )];
    };
    let mut all = Vec::new();
    let target = &source["spec"]["scaleTargetRef"];
    let kind = target.str_at("/kind").unwrap_or("Deployment");
    if kind != "Deployment" || target.str_at("/name") != Some(plan.target.as_str()) {
        all.push(Refusal::new(
            format!("{path}.name"),
            format!(
                "ScaledObject {} scales {kind} {}",
                wanted.name,
                target.str_at("/name").unwrap_or("without a name")
            ),
            format!(
                "let it scale Deployment {}, or name another one",
                plan.target
            ),
        ));
    }
    let least = source.int_at("/spec/minReplicaCount").unwrap_or(0);
    if least < 1 || !source["spec"]["idleReplicaCount"].is_null() {
        all.push(Refusal::new(
            format!("{path}.name"),
            format!("ScaledObject {} may scale to zero, and KEDA would take the canary away before it has traffic", wanted.name),
            "set its minReplicaCount to 1 or more and take idleReplicaCount out",
        ));
    }
    if let Queries::Unmatched(keys) = scaler::queries(plan, wanted, source) {
        all.push(unmatched(wanted, source, &keys));
    }
    all.extend(hpa_name(wanted, source));
    all.extend(ours(
        "ScaledObject",
        objects.primary_scaler.as_ref(),
        objects,
    ));
    all
}

fn unmatched(wanted: &Scaler, source: &Value, keys: &[String]) -> Refusal {
    let triggers: Vec<&str> = source
        .array_at("/spec/triggers")
        .iter()
        .map(|trigger| trigger.str_at("/name").unwrap_or("(without a name)"))
        .collect();
    Refusal::new(
        "spec.autoscalerRef.primaryScalerQueries",
        format!(
            "no trigger of ScaledObject {} is named {}; its triggers are {}",
            wanted.name,
            keys.join(", "),
            if triggers.is_empty() {
                "none".to_owned()
            } else {
                triggers.join(", ")
            }
        ),
        "use the triggers' names as keys, and give each trigger one (beside its type)",
    )
}

/// KEDA calls the HPA `keda-hpa-` and the object's name unless it is told a name.
fn hpa_name(wanted: &Scaler, source: &Value) -> Option<Refusal> {
    let given = source
        .str_at("/spec/advanced/horizontalPodAutoscalerConfig/name")
        .filter(|name| !name.is_empty());
    let name = match given {
        Some(name) => format!("{name}-primary"),
        None => format!("keda-hpa-{}-primary", wanted.name),
    };
    (name.len() > LONGEST_LABEL).then(|| {
        Refusal::new(
            "spec.autoscalerRef.name",
            format!("the primary's HPA would be called {name}, which is longer than {LONGEST_LABEL} characters"),
            "set advanced.horizontalPodAutoscalerConfig.name to a shorter one",
        )
    })
}

fn route(plan: &Plan, objects: &Objects) -> Vec<Refusal> {
    let mut all = Vec::new();
    for (kind, there) in [
        ("VirtualService", &objects.virtual_service),
        ("DestinationRule", &objects.primary_rule),
        ("DestinationRule", &objects.canary_rule),
    ] {
        if let Some(there) = there {
            all.extend(other_canary(kind, there, objects));
        }
    }
    all.extend(routes::check(plan, objects));
    all
}
