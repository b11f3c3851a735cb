//! The dry run of `start_canary`: what a start would answer and do. It only reads.

use super::{
    ask,
    control::{Acted, Control, ControlError, Outcome, Planned, Start, unreachable},
    objects,
    start::{CONTAINERS, container, with_image, without_canary},
    tell::driven_by,
};
use crate::{
    api::{
        objects::{Object, ObjectExt, Objects, SERVICE, VIRTUAL_SERVICE},
        parse,
        preview::Preview,
        status, view,
    },
    build::{
        apart, check, preflight,
        preview::{self, NewImage},
        seen::{Times, seen},
    },
    cluster::Cluster,
    decide::{
        facts::Moment,
        forecast::{self, Ideal},
        plan::Plan,
        state::{Phase, State},
        verdict,
    },
};

impl Control {
    /// What [`Control::start`] would answer, and what would follow from it. Nothing is written.
    ///
    /// # Errors
    /// As [`Control::start`].
    pub async fn preview(&self, start: &Start) -> Result<Planned, ControlError> {
        let key = &start.key;
        let cluster = self.cluster(&key.cluster)?;
        let Some(objects) = objects::read_whole(&cluster, &key.namespace, &key.name)
            .await
            .map_err(|e| unreachable(&e))?
        else {
            let acted = without_canary(&cluster, key).await?;
            return Ok(Planned {
                acted,
                preview: None,
            });
        };
        let acted = match self.may_start(&cluster, start, &objects).await? {
            Ok(_) => Acted::planned(),
            Err(acted) => acted,
        };
        let preview = match acted.outcome {
            Outcome::Planned | Outcome::Refused => self.foresee(&cluster, start, objects).await?,
            Outcome::Applied | Outcome::Already | Outcome::Unconfirmed => None,
        };
        Ok(Planned {
            acted: self.seen(key, acted).await,
            preview,
        })
    }

    /// The run that would follow, also where somebody would have to do something before it; `None` where there would be none.
    async fn foresee(
        &self,
        cluster: &Cluster,
        start: &Start,
        objects: Objects,
    ) -> Result<Option<Preview>, ControlError> {
        let settings = &self.shared.settings.on(cluster);
        let now = cluster.clock().now();
        let mut state = status::state(&objects.canary, now);
        if start.retry && state.phase == Phase::Failed {
            // What has failed counts as new.
            state.last_applied = None;
        }
        let (Ok(plan), Some(target)) = (
            parse::plan(&objects.canary, &settings.parse),
            &objects.target,
        ) else {
            return Ok(None);
        };
        let undecided = state.phase == Phase::Initializing || driven_by(&objects.canary).is_some();
        if undecided || !check::check(&plan, &objects).is_empty() {
            return Ok(None);
        }
        let (index, old) = container(target, start.container.as_deref())?;
        let new = start.image.clone().unwrap_or_else(|| old.clone());
        let then = with_image(target, &format!("{CONTAINERS}/{index}/image"), &new);
        let image = NewImage { old, new };
        let around = Around::read(cluster, &plan).await;
        let live = ask::live(
            settings,
            &self.shared.direct,
            cluster,
            (&plan, &state, &objects),
        )
        .await;
        let objects = Objects {
            target: Some(Object::new(then)),
            ..objects
        };
        // Nothing is held against what has been waiting: the forecast begins as if whoever leads did so from now on.
        let times = Times {
            now,
            led_since: now,
        };
        let forecast = forecast::forecast(
            &plan,
            &state,
            &seen(&plan, &state, &objects, times),
            ideal(&plan, &objects),
        );
        if forecast.milestones.is_empty() {
            return Ok(None);
        }
        let checks = verdict::judge(&plan, &live.analysis);
        let mut warnings: Vec<String> = interrupted(&state, &objects, now).into_iter().collect();
        if !forecast.ends {
            warnings.push(
                "the run would stand still after the last of these steps: something of the Canary has to be put right first".to_owned(),
            );
        }
        warnings.extend(preflight::warnings(&plan, &objects, &live.queries));
        warnings.extend(checks.iter().filter_map(preflight::fails_live));
        warnings.extend(apart::causes(
            &plan,
            &objects,
            &around.services,
            &around.routes,
        ));
        Ok(Some(Preview {
            steps: preview::steps(&forecast, now),
            changes: preview::changes(&plan, &objects, &image, &forecast),
            checks: checks.iter().map(view::check_view).collect(),
            replicas: preview::replicas(&plan, &objects),
            warnings,
        }))
    }
}

/// What lies around a Canary and may take its traffic another way. Without the right to list it nothing is said of it.
struct Around {
    services: Vec<Object>,
    routes: Vec<Object>,
}

impl Around {
    async fn read(cluster: &Cluster, plan: &Plan) -> Self {
        let (services, routes) = futures::join!(
            cluster.list(&SERVICE, Some(&plan.namespace), None, None),
            cluster.list(&VIRTUAL_SERVICE, None, None, None),
        );
        Self {
            services: services.unwrap_or_default(),
            routes: routes.unwrap_or_default(),
        }
    }
}

fn ideal(plan: &Plan, objects: &Objects) -> Ideal {
    let target = objects.target.as_deref();
    Ideal {
        ready_after: target.map_or(0, preflight::ready_after),
        replicas: u32::try_from(preview::canary_replicas(plan, objects)).unwrap_or(1),
    }
}

/// What a start would put an end to.
fn interrupted(state: &State, objects: &Objects, now: Moment) -> Option<String> {
    if !state.phase.running() {
        return None;
    }
    let run = state.run.as_ref()?;
    let minutes = now.since(run.started_at).max(0) / 60_000;
    let copied = state.stage.copied();
    let what = if copied {
        "it is being promoted and ends first, the new image is rolled out after it"
    } else {
        "its traffic goes back to the primary, and the analysis begins anew with the new image"
    };
    Some(format!(
        "a run is going on (revision {}, phase {}, {}% of the traffic, begun {minutes} min ago; live is {}): {what}",
        run.revision,
        state.phase.name(),
        state.weight(),
        objects
            .primary
            .as_ref()
            .and_then(|p| p.str_at("/spec/template/spec/containers/0/image"))
            .unwrap_or("not known"),
    ))
}
