//! Whole rollouts with webhooks, answered by the embedded load tester: what is called, when and with what, and what the answers do.

mod asked;
mod events;
mod gates;
mod interrupted;

use canary_mcp::{
    api::objects::ObjectExt,
    cluster::embedded::load_tester::{Call, Script},
    decide::state::Phase,
};
use serde_json::{Value, json};

use crate::support::Rig;

/// Two steps of 15%, one each 30 s; the second failed check rolls back.
fn short(spec: &mut Value) {
    let analysis = &mut spec["analysis"];
    analysis["interval"] = "30s".into();
    analysis["threshold"] = 2.into();
    analysis["stepWeight"] = 15.into();
    for metric in analysis["metrics"].as_array_mut().unwrap() {
        metric["interval"] = "30s".into();
    }
}

/// A hook of this type, which has a path of its own.
fn hook(kind: &str) -> Value {
    json!({"name": kind, "type": kind, "url": format!("http://flagger-loadtester.test/{kind}")})
}

/// A cluster whose Canary has these hooks, initialized. All of them say yes but rollback hooks.
async fn rig(hooks: &[Value]) -> Rig {
    let rig = Rig::without_engine(true);
    rig.edit_spec(|spec| {
        short(spec);
        spec["analysis"]["webhooks"] = hooks.into();
    });
    says(&rig, "", 200, "");
    says(&rig, "/rollback", 403, "Forbidden");
    let rig = rig.initialize().await;
    // What is told of that has arrived.
    rig.pass(5).await;
    rig
}

/// From now on this path is answered so.
fn says(rig: &Rig, path: &str, code: u16, body: &str) {
    rig.member()
        .load_tester()
        .script(Script::answer(path, code, body));
}

/// From now on this path is answered with this status, so much later.
fn says_late(rig: &Rig, path: &str, code: u16, seconds: i64) {
    rig.member().load_tester().script(Script {
        after_ms: seconds * 1_000,
        ..Script::answer(path, code, "late")
    });
}

/// The calls so far that are no events.
fn calls(rig: &Rig) -> Vec<Call> {
    let mut calls = rig.member().load_tester().calls();
    calls.retain(|call| !call.path.starts_with("/event"));
    calls
}

/// Paths with the phase and the weight that they were told, without repeats in a row.
fn told(rig: &Rig) -> Vec<String> {
    let mut told: Vec<String> = calls(rig)
        .iter()
        .map(|call| {
            format!(
                "{} {} {}",
                call.path,
                call.payload.str_at("/phase").unwrap(),
                call.payload.int_at("/canaryWeight").unwrap()
            )
        })
        .collect();
    told.dedup();
    told
}

/// How often a path was called.
fn count(rig: &Rig, path: &str) -> usize {
    calls(rig).iter().filter(|call| call.path == path).count()
}

/// Warnings about hooks, oldest first.
fn warnings(rig: &Rig) -> Vec<String> {
    let events = rig.events().into_iter();
    let warnings = events.filter(|(kind, _)| kind == "Warning");
    warnings.map(|(_, note)| note).collect()
}

async fn until_phase(rig: &Rig, phase: Phase) {
    rig.until_phase(phase).await;
}
