//! From the cluster's objects to what is shown of them.

use serde_json::Value;

use super::{
    CheckView, Copies, CopyView, EventView, KeptView, Pair, RolloutRow, RolloutView, ScalerView,
    StepCheckView, StepOf, StepView, WaitingFor, WeightView, kept::kept, lost::lost_primary,
};
use crate::{
    api::{
        gate::{self, Opened},
        names,
        objects::{Object, ObjectExt, Objects},
        parse::{self, Refusal, Settings},
        revision::revision,
        route, status,
        text::clean,
        time::{moment, rfc3339},
    },
    decide::{
        facts::Moment,
        plan::Plan,
        state::{CheckResult, Phase, Queue, Stage, State, StepResult, WaitFor, Waiting},
        strategy,
    },
};

/// The newest events are enough.
const EVENTS: usize = 10;
/// Bytes of a sentence that the cluster gives.
const LONGEST: usize = 500;
/// Bytes of a query.
const LONGEST_QUERY: usize = 2000;

/// One rollout in full, as the cluster's objects have it at `now` (of the cluster's clock).
#[must_use]
pub fn view(objects: &Objects, now: Moment, settings: &Settings) -> RolloutView {
    let canary = &*objects.canary;
    let state = status::state(canary, now);
    let parsed = parse::plan(canary, settings);
    let plan = parsed.as_ref().ok();
    let step = step(&state, plan);
    RolloutView {
        cluster: objects.cluster.clone(),
        namespace: canary.namespace().to_owned(),
        name: canary.name().to_owned(),
        strategy: plan
            .map_or("canary", |plan| plan.strategy.name())
            .to_owned(),
        phase: state.phase,
        waiting_for: waiting_for(objects, &state, &parsed),
        weight: WeightView {
            written: state.weight(),
            mirrored: Some(state.traffic.mirror()).filter(|m| *m > 0),
            matched: state.traffic.matches().then_some(true),
            observed: state.evidence.share,
            observed_at: state.evidence.share_at.map(rfc3339),
        },
        run: state.run.as_ref().map(|run| run.id.clone()),
        revision: Pair {
            live: state.last_promoted.clone(),
            canary: objects
                .target
                .as_ref()
                .map(|target| revision(&target["spec"]["template"])),
        },
        image: images(objects),
        failed_checks: state.failed_checks,
        threshold: plan.map_or_else(|| raw_threshold(canary), |plan| plan.threshold),
        checks: checks(&state, plan),
        steps: state.evidence.steps.iter().map(step_view).collect(),
        steps_merged: state.evidence.merged,
        copies: Copies {
            primary: copy(objects.primary.as_ref(), objects.primary_scaler.as_ref()),
            canary: copy(objects.target.as_ref(), objects.scaler.as_ref()),
        },
        kept: kept_views(objects, &state),
        events: events(objects),
        elapsed_seconds: elapsed(&state, now),
        estimated_end: estimated_end(&state, plan, &step, now).map(rfc3339),
        next_check_at: state.next_check_at.map(rfc3339),
        reason: reason(canary, &state, parsed.as_ref().err()),
        led_by: objects.led_by.clone(),
        dry_run: objects.dry_run.map(|mode| mode.says().to_owned()),
        cursor: cursor(&state),
        step,
    }
}

/// One row of the table of rollouts.
#[must_use]
pub fn row(objects: &Objects, now: Moment) -> RolloutRow {
    let canary = &*objects.canary;
    let state = status::state(canary, now);
    let Pair { live, canary: next } = images(objects);
    RolloutRow {
        cluster: objects.cluster.clone(),
        namespace: canary.namespace().to_owned(),
        name: canary.name().to_owned(),
        phase: state.phase,
        weight: state.weight(),
        failed_checks: state.failed_checks,
        canary_image: next.filter(|next| Some(next) != live.as_ref()),
        image: live,
        since: canary["status"]["lastTransitionTime"]
            .is_string()
            .then(|| rfc3339(state.since)),
    }
}

/// The threshold of a Canary that is refused, as far as it says one.
fn raw_threshold(canary: &Value) -> u32 {
    let written = canary.int_at("/spec/analysis/threshold").unwrap_or(3);
    u32::try_from(written.max(1)).unwrap_or(1)
}

/// Changes with run, phase, traffic and interval of a step, and with nothing else.
fn cursor(state: &State) -> String {
    let run = state.run.as_ref().map_or(0, |run| run.n);
    let traffic = state.traffic;
    let more = match (traffic.matches(), traffic.mirror()) {
        (true, _) => "+match".to_owned(),
        (false, 0) => String::new(),
        (false, mirror) => format!("+mirror{mirror}"),
    };
    let nth = Some(state.iteration).filter(|n| *n > 1);
    let nth = nth.map_or(String::new(), |n| format!(":{n}"));
    format!(
        "run{run}:{}:{}{more}{nth}",
        state.phase.name(),
        traffic.canary()
    )
}

/// The current step: by weight while it is analysed, all of them from the promotion on, as many as there were after the end.
fn step(state: &State, plan: Option<&Plan>) -> StepOf {
    let of = plan.map_or(0, strategy::total) as usize;
    let past = state.evidence.steps.iter();
    let n = match state.stage {
        Stage::Bootstrap | Stage::Waiting | Stage::Starting => 0,
        Stage::Analysing | Stage::Gated => {
            plan.map_or(0, |plan| strategy::number(plan, state)) as usize
        }
        Stage::Copying | Stage::Shifting | Stage::Settling => of,
        Stage::Idle | Stage::Reverting | Stage::Restoring => {
            past.count() + state.evidence.merged as usize
        }
    };
    StepOf {
        n: i64::try_from(n.min(of)).unwrap_or(0),
        of: i64::try_from(of).unwrap_or(0),
    }
}

fn waiting_for(
    objects: &Objects,
    state: &State,
    parsed: &Result<Plan, Vec<Refusal>>,
) -> Option<WaitingFor> {
    let since = state.run.as_ref().map_or(state.since, |run| run.stage_at);
    let wait = |what: String, how: Option<String>| {
        Some(WaitingFor {
            what,
            since: Some(rfc3339(since)),
            how,
            opens: false,
        })
    };
    if let (true, Err(refusals)) = (state.phase.running(), parsed) {
        let what = "a Canary that can be carried out, it was changed in mid-run".to_owned();
        return wait(what, Some(told(refusals)));
    }
    if parsed.as_ref().is_ok_and(|plan| plan.suspend) {
        return wait("spec.suspend to be taken off".to_owned(), None);
    }
    let canary = &objects.canary;
    let busy = state.stage != Stage::Idle || state.phase == Phase::Terminating;
    if busy && objects.led_by.is_none() {
        return wait(
            "an engine: nobody holds the Lease of this cluster".to_owned(),
            Some("start canary-mcp with --lead for this cluster".to_owned()),
        );
    }
    if let Some((what, how)) = lost_primary(objects, state) {
        return wait(what, Some(how));
    }
    let pods = |copy: &str, of: Option<&Object>| {
        let view = self::copy(of, None);
        let (ready, wanted) = (view.ready, view.replicas);
        let trouble = of.and_then(|of| trouble(objects, of));
        let what = if ready < wanted {
            format!("the {copy}'s pods to become ready ({ready} of {wanted} are)")
        } else {
            // Those that are ready may still be of the version before.
            format!("the {copy}'s new pods to take over")
        };
        wait(what, trouble)
    };
    if canary.is_being_deleted() && state.phase == Phase::Terminating {
        return pods("target", objects.target.as_ref());
    }
    if let Some(waiting) = state.run.as_ref().and_then(|run| run.waiting.as_ref()) {
        return Some(held_back(objects, waiting));
    }
    let refused = || objects.http_route.as_deref().and_then(route::pending);
    let taken_up = |why: String| {
        wait(
            "the route to be accepted".to_owned(),
            Some(clean(&why, LONGEST)),
        )
    };
    let route = || {
        let settles = || wait("the mesh to take up the route".to_owned(), None);
        refused().map_or_else(settles, taken_up)
    };
    let (target, primary) = (objects.target.as_ref(), objects.primary.as_ref());
    match state.stage {
        Stage::Analysing => refused().map_or_else(|| apart(state), taken_up),
        Stage::Idle | Stage::Waiting | Stage::Shifting => None,
        Stage::Bootstrap | Stage::Copying | Stage::Restoring => pods("primary", primary),
        Stage::Starting => pods("canary", target),
        Stage::Gated => Some(held_back(
            objects,
            &Waiting {
                what: WaitFor::Promotion,
                hook: None,
                queue: None,
                since,
            },
        )),
        Stage::Settling | Stage::Reverting => route(),
    }
}

/// A gate that somebody has to open, or the runs that have to end first.
fn held_back(objects: &Objects, waiting: &Waiting) -> WaitingFor {
    let gate = match waiting.what {
        WaitFor::Rollout => "rollout",
        WaitFor::Traffic => "traffic",
        WaitFor::Promotion => "promotion",
        WaitFor::Queue => "queue",
    };
    let (what, how, opens) = match (waiting.what, &waiting.hook) {
        (WaitFor::Queue, _) => (
            queued(waiting.queue.as_ref()),
            "nothing has to be done; promote with skip_analysis does not go before them".to_owned(),
            false,
        ),
        (_, Some(hook)) => {
            let opened = gate::opened(&objects.canary, hook, &objects.cluster);
            let what = format!(
                "the webhook {} to open the {gate} gate",
                clean(hook, LONGEST)
            );
            let here = opened == Opened::Here;
            (what, how_to_open(&objects.canary, opened), here)
        }
        (_, None) => (
            format!("a person to open the {gate} gate"),
            "call promote to go on, or rollback".to_owned(),
            true,
        ),
    };
    WaitingFor {
        what,
        since: Some(rfc3339(waiting.since)),
        how: Some(how),
        opens,
    }
}

/// How the webhook that holds a run is opened, in words.
fn how_to_open(canary: &Value, opened: Opened) -> String {
    let there = match opened {
        Opened::Here => return "call promote to open it, or rollback".to_owned(),
        Opened::At(address) => format!(
            "POST {} to {} from inside the cluster",
            serde_json::json!({"name": canary.name(), "namespace": canary.namespace()}),
            clean(&address, LONGEST)
        ),
        Opened::There => "approve it where that webhook asks".to_owned(),
    };
    format!("{there}; or call rollback, or promote with skip_analysis")
}

/// What can be gone back to, while nothing goes on.
fn kept_views(objects: &Objects, state: &State) -> Vec<KeptView> {
    if state.stage != Stage::Idle {
        return Vec::new();
    }
    kept(objects, state)
        .into_iter()
        .map(|kept| KeptView {
            revision: kept.revision,
            image: image(kept.template).map(|image| clean(image, LONGEST)),
        })
        .collect()
}

/// The image of a pod template's first container that is not the mesh's.
fn image(template: &Value) -> Option<&str> {
    template
        .array_at("/spec/containers")
        .iter()
        .find(|container| container["name"] != "istio-proxy")?
        .str_at("/image")
}

fn queued(queue: Option<&Queue>) -> String {
    let Some(Queue {
        place,
        running,
        limit,
    }) = queue
    else {
        return "other runs to end, as many as may run at once are running".to_owned();
    };
    format!(
        "other runs to end: {running} go on of at most {}, place {place} in the queue",
        clean(limit, LONGEST)
    )
}

/// A step that is held because share and weight part.
fn apart(state: &State) -> Option<WaitingFor> {
    let apart = state.evidence.apart.as_ref().filter(|a| a.holds())?;
    let cause = if apart.cause.is_empty() {
        "no cause was found; clients without a sidecar are not split".to_owned()
    } else {
        clean(&apart.cause, 2 * LONGEST)
    };
    Some(WaitingFor {
        what: format!(
            "the observed share of the requests ({:.1}%) to agree with the written weight ({}%)",
            state.evidence.share.unwrap_or_default(),
            state.weight()
        ),
        since: Some(rfc3339(apart.since)),
        how: Some(cause),
        opens: false,
    })
}

/// Why pods of a workload are not ready, as their statuses say.
fn trouble(objects: &Objects, workload: &Value) -> Option<String> {
    let labels = workload
        .pointer("/spec/selector/matchLabels")?
        .as_object()?;
    let mine = |pod: &&Object| {
        labels
            .iter()
            .all(|(key, value)| pod.label(key) == value.as_str())
    };
    objects.pods.iter().filter(mine).find_map(|pod| {
        let waiting = pod
            .array_at("/status/containerStatuses")
            .iter()
            .find_map(|container| {
                let reason = container.str_at("/state/waiting/reason")?;
                let starting = ["ContainerCreating", "PodInitializing"].contains(&reason);
                (!starting).then(|| {
                    let name = container.str_at("/name").unwrap_or_default();
                    let restarts = container.int_at("/restartCount").unwrap_or(0);
                    format!(
                        "container {name} of pod {}: {reason}, {restarts} restarts",
                        pod.name()
                    )
                })
            });
        let unscheduled = || {
            pod.array_at("/status/conditions")
                .iter()
                .find(|c| c["type"] == "PodScheduled" && c["status"] == "False")
                .map(|c| {
                    let why = c.str_at("/message").unwrap_or("no reason given");
                    format!("pod {} is not scheduled: {why}", pod.name())
                })
        };
        waiting
            .or_else(unscheduled)
            .map(|text| clean(&text, LONGEST))
    })
}

fn images(objects: &Objects) -> Pair {
    let of = |workload: &Option<Object>| {
        image(&workload.as_ref()?["spec"]["template"]).map(|image| clean(image, LONGEST))
    };
    Pair {
        live: of(&objects.primary),
        canary: of(&objects.target),
    }
}

/// The plan's checks with their last results; without a plan, what is recorded.
fn checks(state: &State, plan: Option<&Plan>) -> Vec<CheckView> {
    let results = &state.evidence.checks;
    let Some(plan) = plan else {
        return results.iter().map(check_view).collect();
    };
    plan.checks
        .iter()
        .map(|check| {
            let result = results.iter().find(|result| result.name == check.name);
            result.map_or_else(
                || CheckView {
                    name: check.name.clone(),
                    value: None,
                    min: check.bounds.min,
                    max: check.bounds.max,
                    verdict: None,
                    query: None,
                    at: None,
                    error: None,
                },
                check_view,
            )
        })
        .collect()
}

/// One result of a check.
#[must_use]
pub fn check_view(result: &CheckResult) -> CheckView {
    CheckView {
        name: result.name.clone(),
        value: result.value,
        min: result.bounds.min,
        max: result.bounds.max,
        verdict: Some(result.verdict),
        query: Some(clean(&result.query, LONGEST_QUERY)),
        at: Some(rfc3339(result.at)),
        error: result.error.as_ref().map(|error| clean(error, LONGEST)),
    }
}

fn step_view(step: &StepResult) -> StepView {
    StepView {
        weight: step.traffic.canary(),
        mirrored: Some(step.traffic.mirror()).filter(|m| *m > 0),
        matched: step.traffic.matches().then_some(true),
        at: rfc3339(step.at),
        verdict: step.verdict,
        checks: step
            .checks
            .iter()
            .map(|check| StepCheckView {
                name: check.name.clone(),
                value: check.value,
                verdict: check.verdict,
            })
            .collect(),
    }
}

fn copy(workload: Option<&Object>, scaler: Option<&Object>) -> CopyView {
    let Some(workload) = workload else {
        return CopyView::default();
    };
    CopyView {
        replicas: workload.int_at("/spec/replicas").unwrap_or(1),
        ready: workload.int_at("/status/readyReplicas").unwrap_or(0),
        scaler: scaler.map(|scaler| ScalerView {
            kind: scaler.str_at("/kind").unwrap_or("ScaledObject").to_owned(),
            name: scaler.name().to_owned(),
            // KEDA's own defaults.
            min: scaler.int_at("/spec/minReplicaCount").unwrap_or(0),
            max: scaler.int_at("/spec/maxReplicaCount").unwrap_or(100),
            paused: paused(scaler),
        }),
    }
}

/// KEDA: `paused-replicas` pauses by being there, `paused` unless it says false.
fn paused(scaler: &Value) -> bool {
    scaler.annotation(names::PAUSED_REPLICAS).is_some()
        || scaler
            .annotation(names::PAUSED_PREFIX)
            .is_some_and(|text| text != "false")
}

/// The newest events, oldest first. A list comes by name; of events of one moment the one that was written first comes first.
fn events(objects: &Objects) -> Vec<EventView> {
    let written = |e: &Value| e.resource_version().parse::<u64>().unwrap_or_default();
    let mut all: Vec<(Moment, u64, EventView)> = objects
        .events
        .iter()
        .filter_map(|e| event(e).map(|(at, view)| (at, written(e), view)))
        .collect();
    all.sort_by_key(|(at, written, _)| (*at, *written));
    let skipped = all.len().saturating_sub(EVENTS);
    all.into_iter()
        .skip(skipped)
        .map(|(_, _, event)| event)
        .collect()
}

fn event(event: &Value) -> Option<(Moment, EventView)> {
    let at = [
        "/series/lastObservedTime",
        "/eventTime",
        "/deprecatedLastTimestamp",
        "/lastTimestamp",
        "/metadata/creationTimestamp",
    ]
    .iter()
    .find_map(|pointer| moment(event.str_at(pointer)?))?;
    let message = event.str_at("/note").or(event.str_at("/message"))?;
    let view = EventView {
        at: rfc3339(at),
        warning: event["type"] == "Warning",
        message: clean(message, LONGEST),
    };
    Some((at, view))
}

/// Seconds of the run: until now while it goes on, until its last change afterwards.
fn elapsed(state: &State, now: Moment) -> Option<i64> {
    let run = state.run.as_ref()?;
    let end = if state.stage == Stage::Idle {
        state.since
    } else {
        now
    };
    Some(end.since(run.started_at).max(0) / 1000)
}

/// When an analysed run ends if every check passes: the steps that are left, the way back of the traffic, and the settling.
fn estimated_end(state: &State, plan: Option<&Plan>, step: &StepOf, now: Moment) -> Option<Moment> {
    let plan = plan?;
    let left = step.of - step.n;
    let first = match state.stage {
        // The first weight is written once the canary is ready, and checked an interval later.
        Stage::Starting => now,
        Stage::Analysing => state.next_check_at?,
        Stage::Bootstrap
        | Stage::Idle
        | Stage::Waiting
        | Stage::Gated
        | Stage::Copying
        | Stage::Shifting
        | Stage::Settling
        | Stage::Reverting
        | Stage::Restoring => return None,
    };
    let shifts = plan
        .step_weight_promotion
        .map_or(0, |by| i64::from(plan.last_weight().div_ceil(by.max(1))));
    let analyses = plan.interval.saturating_mul(left + shifts);
    Some(first.plus(analyses).plus(plan.settle))
}

/// Why the run ended or is being ended; out of a run, why the Canary is refused.
fn reason(canary: &Value, state: &State, refusals: Option<&Vec<Refusal>>) -> Option<String> {
    let run = state.run.as_ref().and_then(|run| run.reason.as_deref());
    if state.phase.running() {
        return run.map(|reason| clean(reason, 4 * LONGEST));
    }
    if let Some(refusals) = refusals {
        return Some(told(refusals));
    }
    let refused = canary
        .array_at("/status/conditions")
        .iter()
        .find(|c| c["type"] == "Accepted" && c["status"] == "False")
        .and_then(|c| c.str_at("/message"));
    let failed = (state.phase == Phase::Failed).then_some("the analysis failed");
    refused
        .or(run)
        .or(failed)
        .map(|reason| clean(reason, 4 * LONGEST))
}

fn told(refusals: &[Refusal]) -> String {
    let all: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    clean(&all.join(". "), 4 * LONGEST)
}
