//! `promote`.

use std::time::Duration;

use rmcp::{
    Json, RoleServer,
    handler::server::wrapper::Parameters,
    service::RequestContext,
    {tool, tool_router},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{input, result::Head};
use crate::{
    decide::facts::Verb,
    engine::control::Wish,
    mcp::{McpServer, error::ToolError, progress::Progress},
};

/// How long a wish may take to be acted on: the engine wakes for it at once, so this is a few round trips and a Lease that changes hands.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct PromoteArgs {
    /// As `list_clusters` gives it
    cluster: String,
    namespace: String,
    /// Name of the Canary
    name: String,
    /// Promote now, without waiting for the analysis, even if checks have failed
    #[serde(default)]
    skip_analysis: bool,
    /// Why, for the event; one short sentence
    reason: Option<String>,
}

#[tool_router(router = promote_router, vis = "pub(in crate::mcp)")]
impl McpServer {
    /// Opens the gate that a rollout waits at (`waiting_for` in `get_status`), so that it goes on. With `skip_analysis` it promotes now, whatever the checks say.
    #[tool(
        title = "Promote a canary",
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn promote(
        &self,
        Parameters(args): Parameters<PromoteArgs>,
        context: RequestContext<RoleServer>,
    ) -> Result<Json<Head>, ToolError> {
        let PromoteArgs {
            cluster,
            namespace,
            name,
            skip_analysis,
            reason,
        } = args;
        let wish = Wish {
            key: input::key(&cluster, &namespace, &name)?,
            verb: Verb::Promote,
            skip: skip_analysis,
            to: None,
            reason: input::reason(reason)?,
            by: input::by(&context),
            patience: PATIENCE,
        };
        self.wish(wish, &context).await.map(Json)
    }
}

impl McpServer {
    /// Puts a wish and tells who asked what, and what became of it.
    pub(super) async fn wish(
        &self,
        wish: Wish,
        context: &RequestContext<RoleServer>,
    ) -> Result<Head, ToolError> {
        let (verb, words) = match wish.verb {
            Verb::Promote => ("promote", "promote"),
            Verb::Rollback => ("rollback", "roll back"),
            Verb::Reset => ("reset", "reset"),
        };
        let mut progress = Progress::of(context);
        progress
            .say(format!("{}: asking the engine to {words}", wish.key))
            .await;
        let still = format!("{}: waiting for the engine to act", wish.key);
        let acted = progress.during(self.control.wish(&wish), &still).await?;
        tracing::info!(
            mcp.tool = verb,
            mcp.by = wish.by.as_deref().unwrap_or("unknown"),
            rollout = %wish.key,
            outcome = ?acted.outcome,
            reason = acted.reason,
            "a tool has asked for a change"
        );
        Ok(Head::new(&wish.key, &acted))
    }
}
