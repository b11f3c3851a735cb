//! `get_status`.

use std::{sync::Arc, time::Duration};

use rmcp::{
    Json, RoleServer,
    handler::server::wrapper::Parameters,
    service::RequestContext,
    {tool, tool_router},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::input;
use crate::{
    api::view::{RolloutRow, RolloutView},
    engine::control::{Filter, Key, Table},
    mcp::{
        McpServer,
        error::ToolError,
        progress::{self, Ended, Limits, Progress},
        words,
    },
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct GetStatusArgs {
    /// As in `list_clusters`
    selector: Option<String>,
    /// Only this cluster
    cluster: Option<String>,
    /// Only this namespace
    namespace: Option<String>,
    /// Only this Canary
    name: Option<String>,
    /// Wait for the next change of phase or weight, at most this long; for one rollout
    #[schemars(range(min = 0, max = 3600))]
    wait_seconds: Option<i64>,
    /// cursor of an earlier answer: with `wait_seconds`, returns at once if it differs by now
    since: Option<String>,
}

/// One rollout in full, or a table.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp) struct Status {
    /// When exactly one matches
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<RolloutView>,
    /// When none or several match
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<RolloutRow>>,
    /// One sentence for the person
    summary: String,
    /// What to call now
    next: String,
}

#[tool_router(router = get_status_router, vis = "pub(in crate::mcp)")]
impl McpServer {
    /// Shows one rollout in full (when exactly one matches) or a table of all that match. With `wait_seconds` it returns at the next change of phase or weight.
    #[tool(
        title = "Get the status of rollouts",
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn get_status(
        &self,
        Parameters(args): Parameters<GetStatusArgs>,
        context: RequestContext<RoleServer>,
    ) -> Result<Json<Status>, ToolError> {
        let GetStatusArgs {
            selector,
            cluster,
            namespace,
            name,
            wait_seconds,
            since,
        } = args;
        if let Some(cluster) = &cluster {
            input::check_cluster(cluster)?;
        }
        if let Some(namespace) = &namespace {
            input::check_label("namespace", namespace)?;
        }
        if let Some(name) = &name {
            input::check_name(name)?;
        }
        let patience = input::wait(wait_seconds)?.unwrap_or_default();
        let filter = Filter {
            selector,
            cluster,
            namespace,
            name,
        };
        let (key, unreachable) = match self.sole(&filter).await? {
            Ok(found) => found,
            Err(table) => return Ok(Json(tabled(table, !patience.is_zero()))),
        };
        let mut progress = Progress::of(&context);
        let view = self.control.view(&key).await?;
        let limits = Limits {
            patience,
            cancelled: context.ct.clone(),
            draining: self.draining.clone(),
        };
        let (view, ended) = self
            .await_change(&key, view, since, &limits, &mut progress)
            .await?;
        Ok(Json(shown(&view, ended, patience, &unreachable)))
    }
}

impl McpServer {
    /// The one rollout that matches (with the clusters that could not be asked), or the table of none or several.
    async fn sole(&self, filter: &Filter) -> Result<Result<(Key, Vec<String>), Table>, ToolError> {
        if let Filter {
            selector: None,
            cluster: Some(cluster),
            namespace: Some(namespace),
            name: Some(name),
        } = filter
        {
            return Ok(Ok((input::key(cluster, namespace, name)?, Vec::new())));
        }
        let table = self.control.table(filter).await?;
        Ok(match &table.rows[..] {
            [row] => Ok((
                Key {
                    cluster: row.cluster.clone(),
                    namespace: row.namespace.clone(),
                    name: row.name.clone(),
                },
                table.unreachable,
            )),
            _ => Err(table),
        })
    }

    /// The next state after `since` (after `view`, without one), or what there is when the time is up.
    async fn await_change(
        &self,
        key: &Key,
        view: Arc<RolloutView>,
        since: Option<String>,
        limits: &Limits,
        progress: &mut Progress,
    ) -> Result<(Arc<RolloutView>, Option<Ended>), ToolError> {
        let cursor = since.unwrap_or_else(|| view.cursor.clone());
        if limits.patience.is_zero() || view.cursor != cursor {
            return Ok((view, None));
        }
        progress.say(words::told(&view)).await;
        let mut follow = self.control.follow(key).await?;
        let mut last = Some(Arc::clone(&view));
        let ended = progress::follow(
            &mut follow,
            &mut last,
            |view| view.cursor != cursor,
            limits,
            progress,
        )
        .await;
        Ok((last.unwrap_or(view), Some(ended)))
    }
}

fn shown(
    view: &RolloutView,
    ended: Option<Ended>,
    waited: Duration,
    unreachable: &[String],
) -> Status {
    let now = words::whole(view);
    let summary = match ended {
        None | Some(Ended::Reached | Ended::Cancelled) => now,
        Some(Ended::TimeUp) => format!("no change within {} s: {now}", waited.as_secs()),
        Some(Ended::Draining) => {
            format!("this server is about to stop, so it did not wait: {now}")
        }
        Some(Ended::Lost) => {
            format!("the Canary is gone or cannot be watched any more; last seen: {now}")
        }
    };
    let summary = with_unreachable(&summary, unreachable);
    Status {
        rollout: Some(view.clone()),
        rows: None,
        summary,
        next: words::next(view),
    }
}

fn tabled(table: Table, wanted_to_wait: bool) -> Status {
    let Table {
        rows,
        count,
        running,
        unreachable,
    } = table;
    let shown = rows.len();
    let summary = match count {
        0 => "no rollout matches".to_owned(),
        1 => format!(
            "1 rollout, {}going on",
            if running == 1 { "" } else { "not " }
        ),
        _ if shown == count => format!("{count} rollouts, {running} of them going on"),
        _ => format!(
            "{count} rollouts, {running} of them going on; {shown} are shown, first those that go on"
        ),
    };
    let summary = with_unreachable(&summary, &unreachable);
    let next = match (count, wanted_to_wait) {
        (0, _) => "call list_clusters, or get_status with fewer arguments",
        (_, true) => {
            "waiting needs one rollout: call get_status with cluster, namespace and name of a row"
        }
        (_, false) => "call get_status with cluster, namespace and name of a row to see it in full",
    };
    Status {
        rollout: None,
        rows: Some(rows),
        summary,
        next: next.to_owned(),
    }
}

/// What could not be read is part of the answer: a table without it would look complete.
fn with_unreachable(summary: &str, unreachable: &[String]) -> String {
    let summary = words::sentence(summary);
    if unreachable.is_empty() {
        summary
    } else {
        let lost = words::sentence(&unreachable.join("; "));
        format!("{summary} Not readable: {lost}")
    }
}

#[cfg(test)]
mod tests;
