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
    /// Why, for the event; one short sentence
    reason: Option<String>,
}

#[tool_router(router = rollback_router, vis = "pub(in crate::mcp)")]
impl McpServer {
    /// Ends a rollout on the version before it, in every phase: traffic goes back first. Refused when there is nothing to roll back.
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
            reason,
        } = args;
        let wish = Wish {
            key: input::key(&cluster, &namespace, &name)?,
            verb: Verb::Rollback,
            skip: false,
            reason: input::reason(reason)?,
            by: input::by(&context),
            patience: PATIENCE,
        };
        self.wish(wish, &context).await.map(Json)
    }
}
