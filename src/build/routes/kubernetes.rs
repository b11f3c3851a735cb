//! No mesh: the apex Service selects the pods of one copy or of the other, so all requests go to one of them.

use crate::{
    api::{
        objects::{Objects, Write},
        parse::Refusal,
    },
    build::{Selector, services},
    decide::{effect::Traffic, plan::Plan},
};

/// Fields of `spec.service` that say what is done to single requests.
const OF_REQUESTS: [&str; 12] = [
    "hosts",
    "gateways",
    "gatewayRefs",
    "delegation",
    "match",
    "rewrite",
    "timeout",
    "retries",
    "headers",
    "corsPolicy",
    "mirror",
    "trafficPolicy",
];

/// Lets the apex select the pods of the copy that gets all requests. Nothing where it is so already, or where there is no apex.
pub(super) fn set(plan: &Plan, objects: &Objects, traffic: Traffic) -> Vec<Write> {
    let selector = Selector::of_copies(&plan.labels, objects);
    let (Some(selector), Some(there)) = (selector, &objects.apex) else {
        return Vec::new();
    };
    let value = if plan.possible(traffic) == Traffic::CANARY {
        selector.value.clone()
    } else {
        selector.primary()
    };
    let op = services::selector_op(there, &selector.key, &value);
    let ops: Vec<_> = op.into_iter().collect();
    super::patch(there, ops).into_iter().collect()
}

/// The copy that the apex selects; `None` when it selects something else.
pub(super) fn read(plan: &Plan, objects: &Objects) -> Option<Traffic> {
    let selector = Selector::of_copies(&plan.labels, objects)?;
    let there = objects.apex.as_ref()?;
    let selects = |value: &str| services::selector_op(there, &selector.key, value).is_none();
    if selects(&selector.primary()) {
        Some(Traffic::PRIMARY)
    } else {
        selects(&selector.value).then_some(Traffic::CANARY)
    }
}

/// What needs a mesh or a Gateway.
pub(super) fn check(objects: &Objects) -> Vec<Refusal> {
    let service = &objects.canary["spec"]["service"];
    let said = |key: &&&str| {
        let value = &service[**key];
        let empty = value.as_array().is_some_and(Vec::is_empty);
        !(value.is_null() || *value == false || *value == "" || empty)
    };
    let refuse = |key: &&str| {
        Refusal::new(
            format!("spec.service.{key}"),
            "provider kubernetes has no mesh, and a Service knows no single requests",
            "take it out, or use another provider",
        )
    };
    OF_REQUESTS.iter().filter(said).map(refuse).collect()
}
