//! [`Error`]: why a call to a cluster failed, in a form that callers branch on and people can act on.

use std::{error::Error as StdError, time::Duration};

use http::StatusCode;

/// A failed call. `Display` names the operation, the object and the cluster, says what kind of failure it was and what to do next; the
/// cause is the `source`. [`Error::report`] joins them for people.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object} in cluster {cluster}: {kind}{next}")]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    object: String,
    cluster: String,
    next: NextStep,
    #[source]
    cause: Option<Box<Cause>>,
}

/// What callers branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ErrorKind {
    /// 404: no such object, namespace or kind.
    #[error("not found")]
    NotFound,
    /// 409 or a failed test of a JSON Patch: the object is not what the change was made for. Nothing was written; read it again.
    #[error("it has changed in the meantime")]
    Conflict,
    /// 409 `AlreadyExists` of a create.
    #[error("it exists already")]
    AlreadyExists,
    /// 401 or 403.
    #[error("not allowed")]
    Forbidden,
    /// The write was fenced and this process may no longer write to the cluster. Nothing was written.
    #[error("this process does not hold the cluster's Lease any more")]
    LeaseLost,
    /// No answer, and nothing was written: the call did not reach the API server, or was a read.
    #[error("the API server does not answer")]
    Unreachable,
    /// The answer to a write was lost and the object does not show its result: it may still come about.
    #[error("unconfirmed, the answer to the write was lost")]
    Unconfirmed,
    /// Any other refusal of the API server: invalid, too large, not supported, overloaded.
    #[error("refused by the API server")]
    Rejected,
}

/// The cause of an [`Error`].
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// What the API server answered.
    #[error("{message} ({code} {reason})")]
    Status {
        /// HTTP status.
        code: u16,
        /// The machine-readable reason of the Kubernetes Status, or the HTTP phrase.
        reason: String,
        /// The sentence of the Kubernetes Status, or the beginning of the body.
        message: String,
    },
    /// The call failed on its way.
    #[error("the call failed")]
    Client(#[source] kube::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer could not be read.
    #[error("the answer cannot be read: {0}")]
    Body(String),
    /// A reason of our own.
    #[error("{0}")]
    Own(String),
}

/// What to do next, as the end of the error's text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NextStep(Option<String>);

impl std::fmt::Display for NextStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |text| write!(f, "; {text}"))
    }
}

/// Which call failed, for the text of its error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) cluster: &'a str,
    /// A verb of the Kubernetes API, as `kubectl auth can-i` takes it.
    pub(crate) operation: &'static str,
    pub(crate) object: &'a str,
    /// `plural.group` for the next step of a refusal.
    pub(crate) resource: &'a str,
    /// Namespace of the object; empty when it has none.
    pub(crate) namespace: &'a str,
}

// === impl Error ===

impl Error {
    /// What happened, for branching.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the API server said, where it answered.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_deref()
    }

    /// The error and its causes in one line, for people.
    #[must_use]
    pub fn report(&self) -> String {
        report(self)
    }

    pub(crate) fn new(context: Context<'_>, cause: Cause) -> Self {
        let kind = kind_of(&cause);
        Self::of_kind(kind, context, Some(cause))
    }

    pub(crate) fn of_kind(kind: ErrorKind, context: Context<'_>, cause: Option<Cause>) -> Self {
        Self {
            kind,
            operation: context.operation,
            object: context.object.to_owned(),
            cluster: context.cluster.to_owned(),
            next: NextStep(next_step(kind, context, cause.as_ref())),
            cause: cause.map(Box::new),
        }
    }
}

/// An error and its causes in one line; a cause that its parent has already told in full is left out.
#[must_use]
pub fn report(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

fn kind_of(cause: &Cause) -> ErrorKind {
    match cause {
        Cause::Status { code, reason, .. } => match (*code, reason.as_str()) {
            (404, _) => ErrorKind::NotFound,
            (409, "AlreadyExists") => ErrorKind::AlreadyExists,
            (409, _) => ErrorKind::Conflict,
            (401 | 403, _) => ErrorKind::Forbidden,
            _ => ErrorKind::Rejected,
        },
        Cause::Client(_) | Cause::Timeout(_) | Cause::Body(_) => ErrorKind::Unreachable,
        Cause::Own(_) => ErrorKind::Rejected,
    }
}

fn next_step(kind: ErrorKind, context: Context<'_>, cause: Option<&Cause>) -> Option<String> {
    let Context {
        cluster,
        operation,
        object,
        resource,
        namespace,
    } = context;
    let in_namespace = if namespace.is_empty() {
        String::new()
    } else {
        format!(" -n {namespace}")
    };
    match kind {
        ErrorKind::Forbidden => {
            if matches!(cause, Some(Cause::Status { code: 401, .. })) {
                return Some(format!(
                    "renew the credentials of context {cluster} in its kubeconfig"
                ));
            }
            Some(format!(
                "give our service account the verb, then check with: kubectl auth can-i {operation} {resource}{in_namespace}"
            ))
        }
        ErrorKind::Unreachable => Some(format!(
            "check with: kubectl --context {cluster} get --raw /readyz"
        )),
        ErrorKind::Unconfirmed => Some(format!("look at {object} before you try again")),
        ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::AlreadyExists
        | ErrorKind::LeaseLost
        | ErrorKind::Rejected => None,
    }
}

/// The cause in an answer that is not a success: the Kubernetes Status in it, or the beginning of its text.
pub(crate) fn cause_of_answer(status: StatusCode, body: &[u8]) -> Cause {
    /// Enough of a proxy's HTML page to recognise it.
    const TOLD: usize = 200;
    let parsed: Option<kube::core::Status> = serde_json::from_slice(body).ok();
    if let Some(told) = parsed.filter(|told| !told.message.is_empty() || !told.reason.is_empty()) {
        return Cause::Status {
            code: status.as_u16(),
            reason: told.reason,
            message: told.message,
        };
    }
    Cause::Status {
        code: status.as_u16(),
        reason: status.canonical_reason().unwrap_or("unknown").to_owned(),
        message: String::from_utf8_lossy(body)
            .trim()
            .chars()
            .take(TOLD)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context<'static> {
        Context {
            cluster: "prod-kr",
            operation: "patch",
            object: "Deployment ai-platform/mcp-server",
            resource: "deployments.apps",
            namespace: "ai-platform",
        }
    }

    #[test]
    fn kinds_follow_code_and_reason() {
        let table = [
            (404, "NotFound", ErrorKind::NotFound),
            (409, "Conflict", ErrorKind::Conflict),
            (409, "AlreadyExists", ErrorKind::AlreadyExists),
            (401, "Unauthorized", ErrorKind::Forbidden),
            (403, "Forbidden", ErrorKind::Forbidden),
            (422, "Invalid", ErrorKind::Rejected),
            (415, "UnsupportedMediaType", ErrorKind::Rejected),
            (429, "TooManyRequests", ErrorKind::Rejected),
            (500, "InternalError", ErrorKind::Rejected),
        ];
        for (code, reason, kind) in table {
            let cause = Cause::Status {
                code,
                reason: reason.to_owned(),
                message: "m".to_owned(),
            };
            assert_eq!(kind_of(&cause), kind, "{code} {reason}");
        }
    }

    #[test]
    fn a_refusal_says_how_to_be_allowed() {
        let body = br#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,
            "message":"deployments.apps \"mcp-server\" is forbidden: no"}"#;
        let error = Error::new(context(), cause_of_answer(StatusCode::FORBIDDEN, body));
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert_eq!(
            error.to_string(),
            "cannot patch Deployment ai-platform/mcp-server in cluster prod-kr: not allowed; give our service account the verb, \
             then check with: kubectl auth can-i patch deployments.apps -n ai-platform"
        );
        assert_eq!(
            error.source().map(ToString::to_string).as_deref(),
            Some("deployments.apps \"mcp-server\" is forbidden: no (403 Forbidden)")
        );
    }

    #[test]
    fn a_proxys_page_is_told_in_short() {
        let cause = cause_of_answer(StatusCode::BAD_GATEWAY, b"<html>bad gateway</html>\n");
        assert_eq!(
            cause.to_string(),
            "<html>bad gateway</html> (502 Bad Gateway)"
        );
    }

    #[test]
    fn a_report_has_every_cause_once() {
        let error = Error::new(context(), Cause::Timeout(Duration::from_secs(5)));
        assert_eq!(
            error.report(),
            "cannot patch Deployment ai-platform/mcp-server in cluster prod-kr: the API server does not answer; check with: kubectl \
             --context prod-kr get --raw /readyz: no answer within 5s"
        );
    }
}
