//! Effects carried out: effect -> builder -> one write after another, fenced, in the given order.

use serde_json::json;

use super::ctx::Ctx;
use crate::{
    api::{
        names,
        objects::{Kind, Object, ObjectExt, Objects, Write},
        parse,
        revision::revision,
    },
    build::{Stamp, pin, routes, scaler, services, workload},
    cluster::{Error, lease::Held},
    decide::{
        effect::{Annotation, Copied, Effect},
        plan::Plan,
        state::State,
    },
};

/// Carries out every effect. `state` is the one that the effects were decided from.
pub(super) async fn apply_all(
    ctx: &Ctx,
    plan: &Plan,
    state: &State,
    effects: &[Effect],
) -> Result<(), Error> {
    for effect in effects {
        // Each effect is built on what the one before it left, and what others have made of that.
        let Some(objects) = ctx.refreshed().await? else {
            return Ok(());
        };
        for write in writes(plan, state, &objects, *effect, &stamp(ctx.held())) {
            ctx.write(&write).await?;
        }
    }
    Ok(())
}

fn stamp(held: &Held) -> Stamp {
    Stamp {
        epoch: held.epoch().to_owned(),
    }
}

fn writes(
    plan: &Plan,
    state: &State,
    objects: &Objects,
    effect: Effect,
    stamp: &Stamp,
) -> Vec<Write> {
    let run = state.run.as_ref();
    match effect {
        Effect::Pin => run
            .map(|r| pin::pin(plan, objects, stamp, r))
            .unwrap_or_default(),
        Effect::Services => services::roles(plan, objects, stamp),
        Effect::CreatePrimary => create_primary(plan, state, objects, stamp),
        Effect::CreatePrimaryScaler => scaler::create_primary(plan, objects, stamp),
        Effect::Apex => services::apex(plan, objects, state.traffic, stamp),
        Effect::Route => routes::ensure(plan, objects, &state.cookies, stamp),
        Effect::Traffic(traffic) => routes::set(plan, objects, &state.cookies, traffic),
        Effect::Target => requested(objects)
            .and_then(|to| pin::of_revision(objects, &to))
            .map(|template| workload::retarget(objects, template))
            .unwrap_or_default(),
        Effect::TakeOff(annotation) => take_off(&objects.canary, annotation),
        Effect::PauseScaler => scaler::pause(plan, objects),
        Effect::ResumeScaler => scaler::resume(plan, objects),
        Effect::ScaleUp(wanted) => workload::scale_up(plan, objects, wanted),
        Effect::ScaleToZero => workload::scale_to_zero(objects),
        Effect::Primary(copied) => {
            let pin = run.and_then(|r| match copied {
                Copied::Promoted => Some(r.template.as_str()),
                Copied::Previous => r.previous.as_deref(),
            });
            let template = pin.and_then(|name| pin::pinned(objects, name));
            match (template, run) {
                (Some(template), Some(run)) => {
                    workload::copy_template(&plan.labels, objects, template, &run.id)
                }
                _ => Vec::new(),
            }
        }
        Effect::SyncPrimaryScaler => scaler::sync_primary(plan, objects),
    }
}

/// The kept revision that the request on the Canary names.
fn requested(objects: &Objects) -> Option<String> {
    parse::request(&objects.canary)?.ok()?.to
}

fn take_off(canary: &Object, annotation: Annotation) -> Vec<Write> {
    let key = match annotation {
        Annotation::SkipAnalysis => names::SKIP_ANALYSIS,
        Annotation::Reset => names::RESET,
    };
    if canary.annotation(key).is_none() {
        return Vec::new();
    }
    vec![Write::Merge {
        from: canary.clone(),
        patch: json!({"metadata": {"annotations": {key: null}}}),
    }]
}

/// A primary is made from what is promoted, when a pin of that is kept; never from an edit that nobody analysed. A pin that is gone is
/// made up for by a target that still has the promoted revision, and by nothing else.
fn create_primary(plan: &Plan, state: &State, objects: &Objects, stamp: &Stamp) -> Vec<Write> {
    let run_id = state.run.as_ref().map_or("", |r| r.id.as_str());
    let Some(target) = &objects.target else {
        return Vec::new();
    };
    let Some(name) = state.promoted_pin() else {
        return workload::create_primary(plan, objects, stamp, run_id);
    };
    let Some(template) = pin::pinned(objects, &name) else {
        let live = revision(&target["spec"]["template"]);
        return if state.last_promoted.as_ref() == Some(&live) {
            workload::create_primary(plan, objects, stamp, run_id)
        } else {
            Vec::new()
        };
    };
    let mut source = target.as_ref().clone();
    source["spec"]["template"] = template.clone();
    let objects = Objects {
        target: Some(Object::new(source)),
        ..objects.clone()
    };
    workload::create_primary(plan, &objects, stamp, run_id)
}

/// Sets the fence on every object of a running rollout: from then on any write of an older holder fails.
pub(super) async fn stamp_all(ctx: &Ctx, objects: &Objects) -> Result<(), Error> {
    let all = [
        &objects.target,
        &objects.primary,
        &objects.apex,
        &objects.primary_service,
        &objects.canary_service,
        &objects.virtual_service,
        &objects.http_route,
        &objects.primary_rule,
        &objects.canary_rule,
        &objects.scaler,
        &objects.primary_scaler,
    ];
    let epoch = Some(ctx.held().epoch());
    let older = |object: &&Object| object.annotation(names::EPOCH) != epoch;
    let objects: Vec<Object> = all
        .into_iter()
        .flatten()
        .chain([&objects.canary])
        .filter(older)
        .cloned()
        .collect();
    for object in objects {
        ctx.stamp(&object).await?;
    }
    Ok(())
}

/// The kind that an object says it is of, among those that we write.
pub(super) fn kind_of(object: &Object) -> Option<Kind> {
    use crate::api::objects as o;
    let kinds = [
        o::CANARY,
        o::DEPLOYMENT,
        o::SERVICE,
        o::VIRTUAL_SERVICE,
        o::HTTP_ROUTE,
        o::DESTINATION_RULE,
        o::SCALED_OBJECT,
        o::CONTROLLER_REVISION,
    ];
    kinds
        .into_iter()
        .find(|k| object.str_at("/kind") == Some(k.kind))
}
