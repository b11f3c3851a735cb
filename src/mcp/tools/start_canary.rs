//! `start_canary`.

use std::{sync::Arc, time::Duration};

use rmcp::{
    Json, RoleServer,
    handler::server::wrapper::Parameters,
    service::RequestContext,
    {tool, tool_router},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    input,
    result::{Head, status_call},
};
use crate::{
    api::{
        preview::Preview,
        view::{RolloutView, StepView},
    },
    decide::state::Phase,
    engine::control::{Acted, Key, Outcome, Planned, Start},
    mcp::{
        McpServer,
        error::ToolError,
        progress::{self, Ended, Limits, Progress},
        words,
    },
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct StartCanaryArgs {
    /// As `list_clusters` gives it
    cluster: String,
    namespace: String,
    /// Name of the Canary
    name: String,
    /// Image to roll out; not needed with `retry`
    image: Option<String>,
    /// Container that gets it; needed when the pod has several
    container: Option<String>,
    /// Refuse unless the revision of the canary in `get_status` begins with this
    expect_revision: Option<String>,
    /// Try the revision that has failed once more
    #[serde(default)]
    retry: bool,
    /// How long to follow the rollout; it goes on afterwards. Default: 50, or until it ends for clients known to wait
    #[schemars(range(min = 0, max = 3600))]
    wait_seconds: Option<i64>,
    /// Write nothing; answer what would be done, and when
    #[serde(default)]
    dry_run: bool,
}

/// What `start_canary` answers.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp) struct Started {
    #[serde(flatten)]
    head: Head,
    /// The weights of this run so far
    steps: Vec<StepView>,
    /// With `dry_run`: steps with times, changes of objects, checks on the live version, replicas, warnings
    // Its schema in full would cost every client a tenth of all schemas.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Preview>,
}

#[tool_router(router = start_canary_router, vis = "pub(in crate::mcp)")]
impl McpServer {
    /// Sets the image and follows the rollout (with `dry_run` only tells what it would do): more traffic step by step while the checks pass, rolled back by itself when they fail. The rollout goes on when this call ends or is cancelled. Without a Canary for the Deployment, the answer has a manifest for one.
    #[tool(
        title = "Start a canary rollout",
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn start_canary(
        &self,
        Parameters(args): Parameters<StartCanaryArgs>,
        context: RequestContext<RoleServer>,
    ) -> Result<Json<Started>, ToolError> {
        let StartCanaryArgs {
            cluster,
            namespace,
            name,
            image,
            container,
            expect_revision,
            retry,
            wait_seconds,
            dry_run,
        } = args;
        let key = input::key(&cluster, &namespace, &name)?;
        match &image {
            Some(image) => input::check_image(image)?,
            None if retry => {}
            None => {
                let text = "is needed, unless retry tries the one that has failed";
                return Err(input::invalid("image", text));
            }
        }
        if let Some(container) = &container {
            input::check_label("container", container)?;
        }
        let start = Start {
            key,
            image,
            container,
            retry,
            expect_revision: input::revision("expect_revision", expect_revision)?,
            by: input::by(&context),
        };
        let patience = progress::patience(input::wait(wait_seconds)?, &context);

        let mut progress = Progress::of(&context);
        if dry_run {
            let still = format!("{}: reading, nothing is written", start.key);
            // In a box: it is large, and most calls do not rehearse.
            let planned = Box::pin(self.control.preview(&start));
            let planned = progress.during(planned, &still).await?;
            return Ok(Json(foreseen(&start.key, planned)));
        }
        let image = start.image.as_deref().unwrap_or("what has failed");
        progress
            .say(format!(
                "{}: asking the engine to roll {image} out",
                start.key
            ))
            .await;
        let still = format!("{}: waiting for the engine to begin", start.key);
        let acted = progress.during(self.control.start(&start), &still).await?;
        tracing::info!(
            mcp.tool = "start_canary",
            mcp.by = start.by.as_deref().unwrap_or("unknown"),
            rollout = %start.key,
            image,
            outcome = ?acted.outcome,
            reason = acted.reason,
            "a tool has asked for a change"
        );
        let limits = Limits {
            patience,
            cancelled: context.ct.clone(),
            draining: self.draining.clone(),
        };
        Ok(Json(
            self.pursue(&start.key, acted, &limits, &mut progress).await,
        ))
    }
}

impl McpServer {
    /// Follows what was begun, as long as the caller wants to.
    async fn pursue(
        &self,
        key: &Key,
        mut acted: Acted,
        limits: &Limits,
        progress: &mut Progress,
    ) -> Started {
        let begun = match acted.outcome {
            Outcome::Applied | Outcome::Already => acted.view.clone(),
            Outcome::Planned | Outcome::Refused | Outcome::Unconfirmed => None,
        };
        let Some(begun) = begun.filter(|view| !over(view, None)) else {
            return started(key, &acted, None);
        };
        if limits.patience.is_zero() {
            return started(key, &acted, Some(how_to_go_on(key, &begun, None)));
        }
        let mut follow = match self.control.follow(key).await {
            Ok(follow) => follow,
            // The run has begun, which is what was asked for; only following it does not work from here.
            Err(error) => {
                return started(
                    key,
                    &acted,
                    Some(format!(
                        "the rollout goes on, but cannot be followed ({error}): call {}",
                        status_call(key)
                    )),
                );
            }
        };
        progress.say(words::told(&begun)).await;
        let run = begun.run.clone();
        let ended = progress::follow(
            &mut follow,
            &mut acted.view,
            |view| over(view, run.as_deref()),
            limits,
            progress,
        )
        .await;
        let view = acted.view.clone().unwrap_or(begun);
        if let Some(end) = how_it_ended(&view, run.as_deref()) {
            acted.reason = end;
        }
        let next = next_after(ended, key, &view, limits.patience);
        if let (Some(next), Ended::TimeUp | Ended::Draining) = (&next, ended) {
            progress.say(next.clone()).await;
        }
        started(key, &acted, next)
    }
}

/// There is nothing to follow (any more): no run is going on, or it waits for a person, whom only the end of this call lets the assistant
/// ask. `run` is the id of the one that was begun; another one means that a newer revision took its place.
fn over(view: &RolloutView, run: Option<&str>) -> bool {
    let another = run.is_some() && view.run.as_deref() != run;
    another
        || match view.phase {
            Phase::Initialized
            | Phase::Waiting
            | Phase::WaitingPromotion
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Terminating
            | Phase::Terminated => true,
            Phase::Initializing | Phase::Progressing | Phase::Promoting | Phase::Finalising => {
                false
            }
        }
}

/// What became of the run that was begun, once it has ended.
fn how_it_ended(view: &RolloutView, run: Option<&str>) -> Option<String> {
    if view.run.as_deref() != run {
        return None;
    }
    let why = view.reason.as_deref().unwrap_or("no reason is recorded");
    match view.phase {
        Phase::Succeeded => Some("the image was rolled out and promoted".to_owned()),
        Phase::Failed => Some(format!(
            "the image was set, and its run was rolled back: {why}"
        )),
        Phase::Initializing
        | Phase::Initialized
        | Phase::Waiting
        | Phase::Progressing
        | Phase::WaitingPromotion
        | Phase::Promoting
        | Phase::Finalising
        | Phase::Terminating
        | Phase::Terminated => None,
    }
}

fn next_after(ended: Ended, key: &Key, view: &RolloutView, waited: Duration) -> Option<String> {
    match ended {
        Ended::Reached => None,
        Ended::TimeUp | Ended::Cancelled => Some(how_to_go_on(key, view, Some(waited))),
        Ended::Draining => Some(format!(
            "this server is about to stop, the rollout goes on: call {} again",
            status_call(key)
        )),
        Ended::Lost => Some(format!(
            "the Canary is gone or cannot be watched any more: call {}",
            status_call(key)
        )),
    }
}

fn how_to_go_on(key: &Key, view: &RolloutView, waited: Option<Duration>) -> String {
    let arguments = serde_json::json!({
        "cluster": key.cluster,
        "namespace": key.namespace,
        "name": key.name,
        "wait_seconds": 50,
        "since": view.cursor,
    });
    let why = waited.map_or_else(String::new, |waited| {
        format!("this call ends after {} s, ", waited.as_secs())
    });
    format!(
        "{why}the rollout goes on: call get_status {arguments} for the next change, or rollback to end it"
    )
}

fn started(key: &Key, acted: &Acted, next: Option<String>) -> Started {
    let mut head = Head::new(key, acted);
    if let Some(next) = next {
        head.next = next;
    }
    let steps = acted
        .view
        .as_ref()
        .map(Arc::as_ref)
        .map_or_else(Vec::new, |view| view.steps.clone());
    Started {
        head,
        steps,
        plan: None,
    }
}

/// What a dry run answers.
fn foreseen(key: &Key, planned: Planned) -> Started {
    let Planned { acted, preview } = planned;
    let mut started = started(key, &acted, None);
    if let (Outcome::Planned, Some(preview)) = (acted.outcome, &preview) {
        started.head.summary = words::sentence(&format!("{key}: dry run, {}", course(preview)));
    }
    started.plan = preview;
    started
}

/// A plan in one line.
fn course(plan: &Preview) -> String {
    let weights = plan.steps.iter().map(|step| step.weight).max().unwrap_or(0);
    let minutes = plan.steps.last().map_or(0, |s| (s.after_seconds + 30) / 60);
    let warned = match plan.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        n => format!(", {n} warnings"),
    };
    let extra = plan.replicas.peak_extra;
    format!(
        "up to {weights}% of the traffic, done after about {minutes} min if every check passes, at most {extra} pods more than now{warned}; nothing was written"
    )
}

#[cfg(test)]
mod tests;
