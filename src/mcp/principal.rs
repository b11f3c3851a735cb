//! Who calls, and what they may: [`Principal`], put beside the request by whoever has made sure of it, and what each tool asks for.

use rmcp::{RoleServer, service::RequestContext};
use serde_json::Value;

/// What a caller may do. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Look: `list_clusters`, `get_status`, and `start_canary` with `dry_run`.
    Read,
    /// Roll out and back: `start_canary`, `promote`, `rollback`.
    Write,
    /// Promote what no analysis has passed: `promote` and `rollback` with `skip_analysis`.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "rollouts:read",
            Self::Write => "rollouts:write",
            Self::Admin => "rollouts:admin",
        }
    }
}

/// A caller that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name that is told in requests and events.
    pub name: String,
    /// The most that it may do.
    pub scope: Scope,
}

impl Principal {
    /// Why a call that takes `required` is not for this caller, and what to do.
    #[must_use]
    pub fn lacks(&self, required: Scope) -> String {
        format!(
            "{} may not do this: its token has no scope {}; ask who runs this server for one that has",
            self.name,
            required.name()
        )
    }
}

/// What a call of `tool` with these arguments takes. A tool that is not known takes what the strongest one does.
#[must_use]
pub fn required(tool: &str, arguments: Option<&Value>) -> Scope {
    let is = |name: &str| arguments.is_some_and(|all| all[name] == Value::Bool(true));
    match tool {
        "list_clusters" | "get_status" => Scope::Read,
        "start_canary" if is("dry_run") => Scope::Read,
        "start_canary" => Scope::Write,
        "promote" | "rollback" if !is("skip_analysis") => Scope::Write,
        _ => Scope::Admin,
    }
}

/// The caller of a request; `None` where nobody has to prove anything.
pub(in crate::mcp) fn of(context: &RequestContext<RoleServer>) -> Option<&Principal> {
    let parts = context.extensions.get::<http::request::Parts>()?;
    parts.extensions.get::<Principal>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::schemas;

    #[test]
    fn each_tool_takes_its_scope() {
        let plain = schemas::NAMES.map(|tool| (tool, required(tool, None)));
        assert_eq!(
            plain,
            [
                ("get_status", Scope::Read),
                ("list_clusters", Scope::Read),
                ("promote", Scope::Write),
                ("rollback", Scope::Write),
                ("start_canary", Scope::Write),
            ]
        );
        for (tool, arguments, scope) in [
            ("start_canary", json!({"dry_run": true}), Scope::Read),
            ("start_canary", json!({"dry_run": "true"}), Scope::Write),
            ("start_canary", json!({"dry_run": false}), Scope::Write),
            ("promote", json!({"skip_analysis": true}), Scope::Admin),
            ("promote", json!({"skip_analysis": false}), Scope::Write),
            (
                "rollback",
                json!({"to_revision": "v1-0123abcd"}),
                Scope::Write,
            ),
            ("rollback", json!({"skip_analysis": true}), Scope::Admin),
            ("start_canary", json!({"retry": true}), Scope::Write),
            ("reset", json!({}), Scope::Admin),
        ] {
            assert_eq!(
                required(tool, Some(&arguments)),
                scope,
                "{tool} {arguments}"
            );
        }
    }
}
