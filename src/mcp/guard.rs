//! What no tool may do to its caller: panic or never end.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use rmcp::{ErrorData, model::CallToolResponse};

use super::error::failure;

/// Runs the call of `tool`, and turns a panic or an expired `deadline` into a result with `isError`. Without it a panic leaves the client
/// waiting for ever: rmcp runs the handler in a task of its own, which nobody joins.
///
/// # Errors
/// The call's own protocol errors.
pub async fn guarded(
    tool: &str,
    deadline: Duration,
    call: impl Future<Output = Result<CallToolResponse, ErrorData>>,
) -> Result<CallToolResponse, ErrorData> {
    let call = AssertUnwindSafe(call).catch_unwind();
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            tracing::error!(mcp.tool = tool, "a tool has panicked");
            Ok(failure(format!(
                "{tool}: internal error, the server's log says more; whether anything was done is not known: call get_status"
            ))
            .into())
        }
        Err(_) => {
            tracing::error!(mcp.tool = tool, "a tool has run into its deadline");
            Ok(failure(format!(
                "{tool}: no answer within {} s; whether anything was done is not known: call get_status",
                deadline.as_secs()
            ))
            .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: Result<CallToolResponse, ErrorData>) -> String {
        let Ok(CallToolResponse::Complete(result)) = answer else {
            panic!("the guard answers with a result");
        };
        assert_eq!(result.is_error, Some(true));
        serde_json::json!(result.content[0])["text"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_panic_nor_eternity_reaches_the_caller() {
        let panics = guarded("promote", Duration::from_secs(120), async {
            panic!("a mistake of ours")
        });
        assert_eq!(
            text(panics.await),
            "promote: internal error, the server's log says more; whether anything was done is not known: call get_status"
        );
        let hangs = guarded("promote", Duration::from_secs(120), std::future::pending());
        assert_eq!(
            text(hangs.await),
            "promote: no answer within 120 s; whether anything was done is not known: call get_status"
        );
    }
}
