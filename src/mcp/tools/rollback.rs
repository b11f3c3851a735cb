//! `rollback`.

use rmcp::{
    Json, RoleServer,
    handler::server::wrapper::Parameters,
    service::RequestContext,
    {tool, tool_router},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{input, promote::PATIENCE, result::Head};
use crate::{
    decide::facts::Verb,
    engine::control::Wish,
    mcp::{McpServer, error::ToolError},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct RollbackArgs {
    /// As `list_clusters` gives it
    cluster: String,
    namespace: String,
    /// Name of the Canary
    name: String,
    /// Between runs: the revision under `kept` in `get_status` to go back to, or its first 8 digits; it is rolled out as any other
    to_revision: Option<String>,
    /// With `to_revision`: without its analysis
    #[serde(default)]
    skip_analysis: bool,
    /// Why, for the event; one short sentence
    reason: Option<String>,
}

#[tool_router(router = rollback_router, vis = "pub(in crate::mcp)")]
impl McpServer {
    /// Ends a rollout on the version before it, in every phase: traffic goes back first. When none goes on, `to_revision` goes back to an earlier version.
    #[tool(
        title = "Roll back a canary",
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn rollback(
        &self,
        Parameters(args): Parameters<RollbackArgs>,
        context: RequestContext<RoleServer>,
    ) -> Result<Json<Head>, ToolError> {
        let RollbackArgs {
            cluster,
            namespace,
            name,
            to_revision,
            skip_analysis,
            reason,
        } = args;
        let to = input::revision("to_revision", to_revision)?;
        if skip_analysis && to.is_none() {
            return Err(input::invalid(
                "skip_analysis",
                "a rollback of a run that goes on has no analysis; it is for to_revision",
            ));
        }
        let wish = Wish {
            key: input::key(&cluster, &namespace, &name)?,
            verb: Verb::Rollback,
            skip: skip_analysis,
            to,
            reason: input::reason(reason)?,
            by: input::by(&context),
            patience: PATIENCE,
        };
        self.wish(wish, &context).await.map(Json)
    }
}
