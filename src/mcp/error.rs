//! What a tool answers when it has no result: `isError` with a text that a model can act on.

use rmcp::{
    ErrorData,
    handler::server::tool::IntoCallToolResult,
    model::{CallToolResponse, CallToolResult, ContentBlock},
};

use crate::engine::control::ControlError;

/// Why a tool has no result. A wish that is refused is a result, not an error.
#[derive(Debug, thiserror::Error)]
pub(in crate::mcp) enum ToolError {
    /// An argument that cannot be.
    #[error("{field}: {text}")]
    Invalid {
        /// The argument.
        field: &'static str,
        /// What is wrong with it and what would be right.
        text: String,
    },
    /// The control's own answer, which names the object, the cause and what to do next.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl IntoCallToolResult for ToolError {
    fn into_call_tool_result(self) -> Result<CallToolResponse, ErrorData> {
        Ok(failure(self.to_string()).into())
    }
}

/// A result with `isError` and `text`.
pub(in crate::mcp) fn failure(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}
