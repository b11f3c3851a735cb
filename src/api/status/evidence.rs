//! `status.canaryAnalysis`: what the analysis found, within bounds.

use serde_json::{Map, Value, json};

use super::put;
use crate::{
    api::{
        objects::ObjectExt,
        text::clean,
        time::{moment, rfc3339},
    },
    decide::{
        effect::Traffic,
        facts::{Bounds, Moment},
        state::{Apart, CheckResult, Evidence, StepCheck, StepResult, Verdict},
    },
};

/// The record's size on the wire, beyond which its oldest steps give way.
pub(super) const LARGEST: usize = 16 * 1024;
/// Bytes of the causes why share and weight part.
const LONGEST_CAUSE: usize = 1000;

/// The record, or nothing before the first step. Over [`LARGEST`] bytes the oldest steps lose their values, then merge into a count.
pub(super) fn write(evidence: &Evidence) -> Option<Value> {
    if *evidence == Evidence::default() {
        return None;
    }
    let mut kept = evidence.clone();
    loop {
        let json = evidence_json(&kept);
        let excess = json.to_string().len().saturating_sub(LARGEST);
        if excess == 0 || kept.steps.len() <= 1 {
            return Some(json);
        }
        make_room(&mut kept, excess);
    }
}

/// Takes about `excess` bytes off, at least one step's worth. The last step is the current one: it stays whole.
fn make_room(evidence: &mut Evidence, excess: usize) {
    let size = |step: &StepResult| step_json(step).to_string().len();
    let past = evidence.steps.len() - 1;
    let mut saved = 0;
    for step in &mut evidence.steps[..past] {
        if saved < excess && !step.checks.is_empty() {
            let before = size(step);
            step.checks.clear();
            saved += before - size(step);
        }
    }
    if saved > 0 {
        return;
    }
    let mut gone = 0;
    while saved < excess && gone < past {
        saved += size(&evidence.steps[gone]);
        gone += 1;
    }
    evidence.steps.drain(..gone);
    evidence.merged = evidence
        .merged
        .saturating_add(u32::try_from(gone).unwrap_or(u32::MAX));
}

fn evidence_json(evidence: &Evidence) -> Value {
    let mut fields = Map::new();
    fields.insert(
        "checks".to_owned(),
        evidence.checks.iter().map(check_json).collect(),
    );
    fields.insert(
        "steps".to_owned(),
        evidence.steps.iter().map(step_json).collect(),
    );
    put(
        &mut fields,
        "merged",
        (evidence.merged > 0).then_some(evidence.merged),
    );
    put(&mut fields, "share", finite(evidence.share));
    put(&mut fields, "shareAt", evidence.share_at.map(rfc3339));
    let apart = evidence.apart.as_ref().map(|apart| {
        json!({
            "intervals": apart.intervals,
            "since": rfc3339(apart.since),
            "cause": clean(&apart.cause, LONGEST_CAUSE),
        })
    });
    put(&mut fields, "apart", apart);
    Value::Object(fields)
}

fn check_json(check: &CheckResult) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "name", Some(&check.name));
    put(&mut fields, "value", finite(check.value));
    put(&mut fields, "min", finite(check.bounds.min));
    put(&mut fields, "max", finite(check.bounds.max));
    put(&mut fields, "verdict", Some(check.verdict));
    put(&mut fields, "query", Some(&check.query));
    put(&mut fields, "at", Some(rfc3339(check.at)));
    put(&mut fields, "error", check.error.as_ref());
    Value::Object(fields)
}

fn step_json(step: &StepResult) -> Value {
    let traffic = step.traffic;
    let mut json = json!({"weight": traffic.canary(), "at": rfc3339(step.at)});
    let fields = super::object(&mut json);
    put(fields, "matched", traffic.matches().then_some(true));
    put(fields, "mirror", Some(traffic.mirror()).filter(|m| *m > 0));
    put(fields, "verdict", step.verdict);
    if !step.checks.is_empty() {
        fields.insert(
            "checks".to_owned(),
            step.checks.iter().map(step_check_json).collect(),
        );
    }
    json
}

fn step_check_json(check: &StepCheck) -> Value {
    let mut fields = Map::new();
    put(&mut fields, "name", Some(&check.name));
    put(&mut fields, "value", finite(check.value));
    put(&mut fields, "verdict", Some(check.verdict));
    Value::Object(fields)
}

/// JSON has no infinity: such a value is left out, the verdict says what it meant.
fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

/// Reads the record back; what cannot be read is left out.
pub(super) fn read(status: &Value) -> Evidence {
    let json = &status["canaryAnalysis"];
    Evidence {
        checks: json
            .array_at("/checks")
            .iter()
            .filter_map(read_check)
            .collect(),
        steps: json
            .array_at("/steps")
            .iter()
            .filter_map(read_step)
            .collect(),
        merged: json["merged"]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        share: json["share"].as_f64(),
        share_at: at(&json["shareAt"]),
        apart: read_apart(&json["apart"]),
    }
}

fn read_apart(json: &Value) -> Option<Apart> {
    Some(Apart {
        intervals: u32::try_from(json["intervals"].as_u64()?).ok()?,
        since: at(&json["since"])?,
        cause: json["cause"].as_str().unwrap_or_default().to_owned(),
    })
}

fn read_check(json: &Value) -> Option<CheckResult> {
    Some(CheckResult {
        name: json["name"].as_str()?.to_owned(),
        value: json["value"].as_f64(),
        bounds: Bounds {
            min: json["min"].as_f64(),
            max: json["max"].as_f64(),
        },
        verdict: verdict(&json["verdict"])?,
        query: json["query"].as_str().unwrap_or_default().to_owned(),
        at: at(&json["at"]).unwrap_or_default(),
        error: json["error"].as_str().map(str::to_owned),
    })
}

fn read_step(json: &Value) -> Option<StepResult> {
    Some(StepResult {
        traffic: Traffic::stored(
            u8::try_from(json["weight"].as_u64()?).ok()?,
            json["matched"] == true,
            u8::try_from(json["mirror"].as_u64().unwrap_or(0)).ok()?,
        ),
        at: at(&json["at"])?,
        verdict: verdict(&json["verdict"]),
        checks: json
            .array_at("/checks")
            .iter()
            .filter_map(|check| {
                Some(StepCheck {
                    name: check["name"].as_str()?.to_owned(),
                    value: check["value"].as_f64(),
                    verdict: verdict(&check["verdict"])?,
                })
            })
            .collect(),
    })
}

fn verdict(json: &Value) -> Option<Verdict> {
    serde_json::from_value(json.clone()).ok()
}

fn at(json: &Value) -> Option<Moment> {
    moment(json.as_str()?)
}
