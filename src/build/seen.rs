//! What the machine sees of the objects: [`seen`] turns raw JSON into facts.
//!
//! A fact of the form "is as we want it" asks the builder itself: a builder that has nothing to write is the definition of right.

use serde_json::Value;

use super::{pin, routes, scaler, services, workload};
use crate::{
    api::{
        names,
        objects::{Object, ObjectExt, Objects},
        parse,
        revision::{pin_name, revision, run_id},
        time::moment,
    },
    decide::{
        facts::{Crash, Moment, NextRun, Seen, Slot, Workload},
        plan::Plan,
        state::State,
    },
};

/// Restarts after which a container in `CrashLoopBackOff` counts as crashed.
const CRASH_RESTARTS: i64 = 3;
/// Restarts after which a container that cannot even be started counts as crashed.
const START_FAILURES: i64 = 2;
/// Age of a pod, in milliseconds, at which a container that cannot be created counts as tried twice: no restart may be counted of one
/// that never was.
const CREATED_TWICE: i64 = 30_000;

/// When the facts are seen.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Now, by the cluster's clock.
    pub now: Moment,
    /// Since when this process leads the cluster.
    pub led_since: Moment,
}

/// The facts of one Canary at one moment.
#[must_use]
pub fn seen(plan: &Plan, state: &State, objects: &Objects, times: Times) -> Seen {
    let Times { now, led_since } = times;
    let target = objects.target.as_ref();
    let run = state.run.as_ref();
    let pinned = run.and_then(|r| pin::pinned(objects, &r.template));
    let previous = run
        .and_then(|r| r.previous.as_deref())
        .and_then(|name| pin::pinned(objects, name));
    let request = parse::request(&objects.canary).and_then(Result::ok);
    let primary_has = |template: Option<&Value>| matches!((template, &objects.primary), (Some(t), Some(p)) if workload::primary_has(&plan.labels, p, t));
    Seen {
        now,
        led_since,
        next_run: target.map(|t| next_run(plan, state, objects, t)),
        target: target.map(|t| copy(t, objects, objects.canary_service.as_ref(), now)),
        primary: objects
            .primary
            .as_ref()
            .map(|p| copy(p, objects, objects.primary_service.as_ref(), now)),
        target_equals_primary: primary_has(target.and_then(|t| t.pointer("/spec/template"))),
        services_ready: services::roles_ready(plan, objects),
        apex_on_primary: services::apex_on_primary(plan, objects, state.traffic),
        route_ready: routes::ready(plan, objects, &state.cookies),
        traffic: routes::read(plan, objects),
        route_pending: routes::pending(plan, objects),
        route_writer: routes::writer(plan, objects),
        // Only whoever leads knows the other runs.
        slot: Slot::Unlimited,
        scaler_paused: scaler::paused(plan, objects),
        primary_scaler_ready: plan.scaler.is_none() || objects.primary_scaler.is_some(),
        primary_scaler_synced: scaler::sync_primary(plan, objects).is_empty(),
        pinned: pinned.is_some(),
        promoted_pinned: state
            .promoted_pin()
            .is_some_and(|name| pin::pinned(objects, &name).is_some()),
        primary_has_run: primary_has(pinned),
        primary_has_previous: primary_has(previous),
        requested_kept: request
            .as_ref()
            .and_then(|r| r.to.as_deref())
            .is_some_and(|to| pin::of_revision(objects, to).is_some()),
        request,
        skip_annotation: set_by(objects, names::SKIP_ANALYSIS),
        reset_annotation: set_by(objects, names::RESET),
        target_writer: target.and_then(|t| template_writer(t)),
    }
}

/// Who set an annotation of the Canary to true: its field manager, or `unknown` where managedFields do not say. kubectl gives no person's name.
fn set_by(objects: &Objects, key: &str) -> Option<String> {
    let canary = &objects.canary;
    canary.annotation(key).filter(|value| *value == "true")?;
    let field = format!("f:{key}");
    let owns = |entry: &&Value| {
        let annotations = entry.pointer("/fieldsV1/f:metadata/f:annotations");
        annotations.is_some_and(|all| all.get(&field).is_some())
    };
    let owner = canary.array_at("/metadata/managedFields").iter().find(owns);
    let owner = owner.and_then(|entry| entry.str_at("/manager"));
    Some(owner.unwrap_or("unknown").to_owned())
}

fn next_run(plan: &Plan, state: &State, objects: &Objects, target: &Value) -> NextRun {
    let revision = revision(&target["spec"]["template"]);
    let n = state.run.as_ref().map_or(0, |r| r.n + 1);
    NextRun {
        id: run_id(objects.canary.uid(), &revision, n),
        n,
        template: pin_name(&plan.name, &revision),
    }
}

/// One workload copy. Its endpoints are read from pods; where pods are not watched (no rollout is active), from its status.
fn copy(deployment: &Value, objects: &Objects, service: Option<&Object>, now: Moment) -> Workload {
    let count = |pointer: &str| u32::try_from(deployment.int_at(pointer).unwrap_or(0)).unwrap_or(0);
    let observed = deployment.int_at("/status/observedGeneration") >= deployment.generation();
    let sets: Vec<&Object> = objects
        .replica_sets
        .iter()
        .filter(|s| s.owned_by(deployment.uid()))
        .collect();
    let pods: Vec<&Object> = objects
        .pods
        .iter()
        .filter(|p| sets.iter().any(|s| p.owned_by(s.uid())) && !p.is_being_deleted())
        .collect();
    let unwatched = objects.pods.is_empty() && objects.replica_sets.is_empty();
    let endpoints = if unwatched {
        count("/status/readyReplicas")
    } else {
        let behind = pods
            .iter()
            .filter(|p| is_ready(p) && selected(p, service))
            .count();
        u32::try_from(behind).unwrap_or(u32::MAX)
    };
    let current = current_set(deployment, &sets);
    let of_current = |p: &&&Object| observed && current.is_some_and(|uid| p.owned_by(uid));
    Workload {
        revision: revision(&deployment["spec"]["template"]),
        desired: u32::try_from(deployment.int_at("/spec/replicas").unwrap_or(1)).unwrap_or(0),
        updated: count("/status/updatedReplicas"),
        replicas: count("/status/replicas"),
        available: count("/status/availableReplicas"),
        observed,
        deadline_exceeded: condition(deployment, "Progressing")
            .is_some_and(|c| c.str_at("/reason") == Some("ProgressDeadlineExceeded")),
        endpoints,
        crash: pods.iter().filter(of_current).find_map(|p| crash(p, now)),
    }
}

/// uid of the `ReplicaSet` that runs the Deployment's current template: the one of its revision.
fn current_set<'a>(deployment: &Value, sets: &[&'a Object]) -> Option<&'a str> {
    const REVISION: &str = "deployment.kubernetes.io/revision";
    let revision = deployment.annotation(REVISION)?;
    sets.iter()
        .find(|s| s.annotation(REVISION) == Some(revision))
        .map(|s| s.uid())
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object
        .array_at("/status/conditions")
        .iter()
        .find(|c| c.str_at("/type") == Some(name))
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.str_at("/status") == Some("True"))
}

/// The Service selects the pod; without a Service (before bootstrap) every ready pod of the copy counts.
fn selected(pod: &Value, service: Option<&Object>) -> bool {
    let Some(selector) = service
        .and_then(|s| s.pointer("/spec/selector"))
        .and_then(Value::as_object)
    else {
        return service.is_none();
    };
    selector
        .iter()
        .all(|(key, value)| pod.label(key) == value.as_str())
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.array_at("/status/initContainerStatuses")
        .iter()
        .chain(pod.array_at("/status/containerStatuses"))
}

fn crash(pod: &Value, now: Moment) -> Option<Crash> {
    let created = pod.str_at("/metadata/creationTimestamp").and_then(moment);
    let old = created.is_some_and(|at| now.since(at) >= CREATED_TWICE);
    containers(pod).find_map(|status| {
        let restarts = status.int_at("/restartCount").unwrap_or(0);
        let waiting = status.str_at("/state/waiting/reason").unwrap_or_default();
        let ended = status
            .pointer("/lastState/terminated")
            .or_else(|| status.pointer("/state/terminated"));
        let last = ended.and_then(|t| t.str_at("/reason")).unwrap_or_default();
        let looping = waiting == "CrashLoopBackOff" && restarts >= CRASH_RESTARTS;
        let unstartable = last == "StartError" && restarts >= START_FAILURES;
        let uncreatable = matches!(waiting, "CreateContainerError" | "RunContainerError")
            && (restarts >= START_FAILURES || old);
        (looping || unstartable || uncreatable).then(|| Crash {
            container: status.str_at("/name").unwrap_or_default().to_owned(),
            restarts: u32::try_from(restarts).unwrap_or(0),
            reason: ended.map_or_else(|| waiting.to_owned(), termination),
        })
    })
}

fn termination(ended: &Value) -> String {
    let reason = ended.str_at("/reason").unwrap_or("Error");
    let code = ended.int_at("/exitCode").unwrap_or(0);
    match ended.str_at("/message").filter(|m| !m.is_empty()) {
        Some(message) => format!("{reason} (exit code {code}): {message}"),
        None => format!("{reason} (exit code {code})"),
    }
}

/// The manager that wrote the template last, by its managedFields entry; `None` when two did within the same second, which is all that the
/// entries tell: nobody is to be blamed by the order of the alphabet.
fn template_writer(target: &Value) -> Option<String> {
    let entries = target.array_at("/metadata/managedFields").iter();
    let mut last: Vec<&Value> = entries
        .filter(|e| e.pointer("/fieldsV1/f:spec/f:template").is_some())
        .collect();
    let time = last.iter().filter_map(|e| e.str_at("/time")).max()?;
    last.retain(|e| e.str_at("/time") == Some(time));
    match last[..] {
        [one] => one.str_at("/manager").map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_two_writers_within_a_second_none_is_named() {
        let entry = |manager: &str, time: &str| json!({"manager": manager, "time": time, "fieldsV1": {"f:spec": {"f:template": {}}}});
        let (early, late) = ("2026-11-21T00:00:00Z", "2026-11-21T00:00:01Z");
        for (first, second, expected) in [
            (early, late, Some("kim")),
            (late, early, Some("ci")),
            (late, late, None),
        ] {
            let target = json!({"metadata": {"managedFields": [
                entry("ci", first),
                entry("kim", second),
                {"manager": "kubelet", "time": "2026-11-21T00:00:09Z", "fieldsV1": {"f:status": {}}},
            ]}});
            assert_eq!(
                template_writer(&target).as_deref(),
                expected,
                "{first} {second}"
            );
        }
    }

    #[test]
    fn a_container_that_will_not_come_up_is_told_from_one_that_may() {
        let pod = |restarts: i64, waiting: &str, ended: &str| {
            json!({
                "metadata": {"name": "p", "creationTimestamp": "2026-11-21T00:00:00Z"},
                "status": {"containerStatuses": [{
                    "name": "server", "restartCount": restarts,
                    "state": {"waiting": {"reason": waiting}},
                    "lastState": if ended.is_empty() { json!({}) } else { json!({"terminated": {"reason": ended, "exitCode": 1}}) },
                }]},
            })
        };
        let begin = moment("2026-11-21T00:00:00Z").unwrap();
        for (pod, seconds, expected) in [
            (pod(2, "CrashLoopBackOff", "Error"), 60, None),
            (
                pod(3, "CrashLoopBackOff", "Error"),
                60,
                Some("Error (exit code 1)"),
            ),
            (pod(1, "CrashLoopBackOff", "StartError"), 60, None),
            (
                pod(2, "CrashLoopBackOff", "StartError"),
                60,
                Some("StartError (exit code 1)"),
            ),
            (pod(0, "CreateContainerError", ""), 29, None),
            (
                pod(0, "CreateContainerError", ""),
                30,
                Some("CreateContainerError"),
            ),
            (pod(0, "ImagePullBackOff", ""), 600, None),
            (pod(0, "ContainerCreating", ""), 600, None),
        ] {
            let crash = crash(&pod, begin.plus(seconds * 1000));
            assert_eq!(crash.map(|c| c.reason).as_deref(), expected, "{pod}");
        }
    }
}
