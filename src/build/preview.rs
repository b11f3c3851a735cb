//! A forecast in people's words: which objects a run would write, at what weights, and what it costs in pods.

use crate::{
    api::{
        objects::{Object, ObjectExt, Objects, Write},
        preview::{PlannedChange, PlannedReplicas, PlannedStep},
        revision::{pin_name, revision},
        time::rfc3339,
    },
    build::{routes, workload},
    decide::{
        effect::{Effect, Traffic},
        facts::Moment,
        forecast::{Forecast, Milestone},
        plan::{Plan, Router},
        state::Stage,
    },
};

const SCALER: &str = "ScaledObject";

/// The image that is given to a container of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// What it has.
    pub old: String,
    /// What it gets.
    pub new: String,
}

/// Each change of phase or weight with its time.
#[must_use]
pub fn steps(forecast: &Forecast, from: Moment) -> Vec<PlannedStep> {
    let step = |milestone: &Milestone| PlannedStep {
        weight: milestone.traffic.canary(),
        phase: milestone.phase,
        after_seconds: milestone.at.since(from) / 1000,
        at: rfc3339(milestone.at),
        what: happens(milestone),
    };
    forecast.milestones.iter().map(step).collect()
}

fn happens(milestone: &Milestone) -> Option<String> {
    let traffic = milestone.traffic;
    let text = match milestone.stage {
        Stage::Waiting => {
            "a person or a webhook has to approve the rollout; reckoned with one interval"
        }
        Stage::Starting => "the canary is scaled up; its first requests follow when it is ready",
        Stage::Gated => "a person has to open the gate; reckoned with one interval",
        Stage::Copying => "the primary gets the canary's template",
        Stage::Settling => {
            "all traffic is back on the primary; the canary goes when that has settled"
        }
        Stage::Reverting | Stage::Restoring => "traffic goes back to the version before",
        Stage::Analysing if traffic.matches() => "the users that the match names go to the canary",
        Stage::Analysing if traffic.mirror() > 0 => {
            return Some(format!(
                "{}% of the requests are copied to the canary",
                traffic.mirror()
            ));
        }
        Stage::Analysing if traffic.canary() == 0 => "the canary is analysed without users",
        Stage::Bootstrap | Stage::Idle | Stage::Analysing | Stage::Shifting => return None,
    };
    Some(text.to_owned())
}

/// Every object that would be written. `objects` has the target as it would be, with the new image.
#[must_use]
pub fn changes(
    plan: &Plan,
    objects: &Objects,
    image: &NewImage,
    forecast: &Forecast,
) -> Vec<PlannedChange> {
    let mut all = vec![
        change(plan, "patch", "Deployment", &plan.target, format!("image {} to {}", image.old, image.new)),
        change(
            plan,
            "patch",
            "Canary",
            &plan.name,
            "its status at each step; every object of the run gets the annotation canary-mcp.dev/epoch of who leads".to_owned(),
        ),
    ];
    for effect in &forecast.effects {
        for next in of(plan, objects, image, forecast, *effect) {
            if !all.contains(&next) {
                all.push(next);
            }
        }
    }
    all
}

fn change(plan: &Plan, action: &str, kind: &str, name: &str, what: String) -> PlannedChange {
    PlannedChange {
        action: action.to_owned(),
        kind: kind.to_owned(),
        object: format!("{}/{name}", plan.namespace),
        what,
    }
}

/// What one effect writes, in words.
fn of(
    plan: &Plan,
    objects: &Objects,
    image: &NewImage,
    forecast: &Forecast,
    effect: Effect,
) -> Vec<PlannedChange> {
    let one = |action: &str, kind: &str, name: &str, what: &str| {
        vec![change(plan, action, kind, name, what.to_owned())]
    };
    let scaler = plan.scaler.as_ref().map_or("", |s| s.name.as_str());
    let of_primary = format!("{scaler}-primary");
    let apex = &plan.service.name;
    match effect {
        Effect::Pin => {
            let target = objects
                .target
                .as_ref()
                .map(|t| revision(&t["spec"]["template"]));
            let name = pin_name(&plan.name, target.as_deref().unwrap_or_default());
            one(
                "create",
                "ControllerRevision",
                &name,
                "keeps the template of the run; the oldest that no run needs are deleted",
            )
        }
        Effect::Services => services(plan, objects),
        Effect::Apex => vec![row(
            plan,
            objects.apex.as_ref(),
            "Service",
            apex,
            "selects the primary's pods",
        )],
        Effect::Route => routes(plan, objects),
        Effect::CreatePrimary => one("create", "Deployment", &plan.primary(), "the live version"),
        Effect::Traffic(_) => {
            let what = format!("the canary's weight: {}", weights(forecast));
            one("patch", routes::kind(plan), apex, &what)
        }
        // A forecast has no request and no annotation to act on.
        Effect::Target | Effect::TakeOff(_) => Vec::new(),
        Effect::ScaleUp(_) | Effect::ScaleToZero => {
            let up = |e: &Effect| matches!(e, Effect::ScaleUp(_));
            let what = if forecast.effects.iter().any(up) {
                let replicas = canary_replicas(plan, objects);
                format!("0 to {replicas} replicas, at the end back to 0")
            } else {
                "at the end to 0 replicas".to_owned()
            };
            one("scale", "Deployment", &plan.target, &what)
        }
        Effect::Primary(_) => {
            let what = format!(
                "the canary's template: image {} to {}",
                image_of(objects.primary.as_ref()),
                image.new
            );
            one("patch", "Deployment", &plan.primary(), &what)
        }
        Effect::CreatePrimaryScaler => one(
            "create",
            SCALER,
            &of_primary,
            "as the target's, for the primary",
        ),
        Effect::SyncPrimaryScaler => one("patch", SCALER, &of_primary, "follows the target's"),
        Effect::PauseScaler | Effect::ResumeScaler => {
            let what = if forecast.effects.contains(&Effect::ResumeScaler) {
                "annotation autoscaling.keda.sh/paused-replicas taken off, at the end set to 0"
            } else {
                "annotation autoscaling.keda.sh/paused-replicas set to 0 at the end"
            };
            one("patch", SCALER, scaler, what)
        }
    }
}

/// An object that is made where it is missing, else put right.
fn row(plan: &Plan, there: Option<&Object>, kind: &str, name: &str, what: &str) -> PlannedChange {
    let action = if there.is_some() { "patch" } else { "create" };
    change(plan, action, kind, name, what.to_owned())
}

fn services(plan: &Plan, o: &Objects) -> Vec<PlannedChange> {
    let apex = &plan.service.name;
    let (primary, canary) = (format!("{apex}-primary"), format!("{apex}-canary"));
    vec![
        row(
            plan,
            o.canary_service.as_ref(),
            "Service",
            &canary,
            "selects the canary's pods",
        ),
        row(
            plan,
            o.primary_service.as_ref(),
            "Service",
            &primary,
            "selects the primary's pods",
        ),
    ]
}

fn routes(plan: &Plan, o: &Objects) -> Vec<PlannedChange> {
    let apex = &plan.service.name;
    let (primary, canary) = (format!("{apex}-primary"), format!("{apex}-canary"));
    let splits = "splits the traffic between the primary and the canary";
    let kind = routes::kind(plan);
    match plan.router {
        Router::Istio => {}
        Router::GatewayApi => return vec![row(plan, o.http_route.as_ref(), kind, apex, splits)],
        // The apex is the route.
        Router::Kubernetes => return Vec::new(),
    }
    let name = o
        .virtual_service
        .as_ref()
        .map_or(apex.as_str(), |vs| vs.name());
    vec![
        row(plan, o.virtual_service.as_ref(), kind, name, splits),
        row(
            plan,
            o.primary_rule.as_ref(),
            "DestinationRule",
            &primary,
            "the primary's host",
        ),
        row(
            plan,
            o.canary_rule.as_ref(),
            "DestinationRule",
            &canary,
            "the canary's host",
        ),
    ]
}

/// What is written to the route, in the word that says it best.
fn said(traffic: Traffic) -> String {
    if traffic.matches() {
        "matched users".to_owned()
    } else if traffic.mirror() > 0 {
        format!("copies of {}%", traffic.mirror())
    } else {
        traffic.canary().to_string()
    }
}

/// The weights that are written, in order: `5, 10, 0`.
fn weights(forecast: &Forecast) -> String {
    let weight = |effect: &Effect| {
        if let Effect::Traffic(traffic) = effect {
            Some(said(*traffic))
        } else {
            None
        }
    };
    let all: Vec<String> = forecast.effects.iter().filter_map(weight).collect();
    all.join(", ")
}

fn image_of(workload: Option<&Object>) -> &str {
    workload
        .and_then(|w| w.str_at("/spec/template/spec/containers/0/image"))
        .unwrap_or_default()
}

/// What the canary is scaled up to; where it runs already, what it has.
#[must_use]
pub fn canary_replicas(plan: &Plan, objects: &Objects) -> i64 {
    let up = workload::scale_up(plan, objects, None);
    let scaled = up.iter().find_map(|write| match write {
        Write::Scale { replicas, .. } => Some(i64::from(*replicas)),
        Write::Create(_) | Write::Patch { .. } | Write::Merge { .. } | Write::Delete { .. } => None,
    });
    let has = || {
        objects
            .target
            .as_ref()
            .and_then(|t| t.int_at("/spec/replicas"))
    };
    scaled.or_else(has).unwrap_or(1)
}

/// What a run costs in pods beside those of now: the canary's, and those that the primary's rolling update adds while the canary is
/// still there.
#[must_use]
pub fn replicas(plan: &Plan, objects: &Objects) -> PlannedReplicas {
    let canary = canary_replicas(plan, objects);
    let now = objects
        .target
        .as_ref()
        .and_then(|t| t.int_at("/spec/replicas"))
        .unwrap_or(1);
    let max = objects
        .scaler
        .as_ref()
        .filter(|_| plan.scaler.is_some())
        // KEDA's own default.
        .map(|scaler| scaler.int_at("/spec/maxReplicaCount").unwrap_or(100));
    PlannedReplicas {
        canary,
        canary_max: max,
        peak_extra: (canary - now).max(0) + surge(objects),
    }
}

/// Pods that the primary's rolling update runs beside its own. Kubernetes: `maxSurge` is a number or a percentage, rounded up; 25% when it
/// is absent.
fn surge(objects: &Objects) -> i64 {
    let Some(primary) = &objects.primary else {
        return 0;
    };
    if primary.str_at("/spec/strategy/type") == Some("Recreate") {
        return 0;
    }
    let replicas = primary.int_at("/spec/replicas").unwrap_or(1);
    let given = &primary["spec"]["strategy"]["rollingUpdate"]["maxSurge"];
    given.as_i64().unwrap_or_else(|| {
        let percent = given.as_str().and_then(|text| text.strip_suffix('%'));
        let percent = percent
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(25);
        (replicas * percent + 99) / 100
    })
}
