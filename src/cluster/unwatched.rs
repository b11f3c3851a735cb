//! Why a watch does not work, for people.

use kube::runtime::watcher::Error;

use super::{error::report, watch::Scope, wire};
use crate::api::objects::Kind;

/// The reason, and where a right is missing which one and how to check it.
pub(super) fn reason(cluster: &str, kind: &Kind, scope: &Scope, error: &Error) -> String {
    let right = match refused(error) {
        Some(401 | 403) => {
            let resource = wire::resource(kind);
            let place = match &scope.namespace {
                Some(namespace) => format!("-n {namespace}"),
                None => "--all-namespaces".to_owned(),
            };
            format!(
                "; give our service account get, list and watch, then check with: kubectl auth can-i watch {resource} {place}"
            )
        }
        Some(_) | None => String::new(),
    };
    format!(
        "cannot watch {} in cluster {cluster}: {}{right}",
        kind.plural,
        report(error)
    )
}

/// The HTTP status of an API server that has answered and refuses. An expired watch (410) begins anew by itself, and an API server that is
/// overloaded or restarts answers again.
pub(super) fn refused(error: &Error) -> Option<u16> {
    let status = match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => status,
        Error::InitialListFailed(_)
        | Error::WatchStartFailed(_)
        | Error::WatchFailed(_)
        | Error::NoResourceVersion => return None,
    };
    Some(status.code).filter(|code| !matches!(code, 410 | 429 | 500..))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::api::objects::{CANARY, SERVICE};

    fn failed(code: u16, message: &str) -> Error {
        let status = Status::failure(message, "Reason").with_code(code);
        Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_missing_right_is_named_with_the_command_that_checks_it() {
        let of_one = Scope {
            namespace: Some("a".to_owned()),
            ..Scope::default()
        };
        let forbidden = failed(403, "no");
        let told = reason("prod-kr", &SERVICE, &of_one, &forbidden);
        assert!(
            told.starts_with(
                "cannot watch services in cluster prod-kr: failed to perform initial object list"
            ),
            "{told}"
        );
        assert!(
            told.ends_with("; give our service account get, list and watch, then check with: kubectl auth can-i watch services -n a"),
            "{told}"
        );
        let of_all = reason("prod-kr", &CANARY, &Scope::default(), &forbidden);
        assert!(
            of_all.ends_with("kubectl auth can-i watch canaries.flagger.app --all-namespaces"),
            "{of_all}"
        );
        let missing = reason("prod-kr", &CANARY, &Scope::default(), &failed(404, "none"));
        assert!(!missing.contains("service account"), "{missing}");
    }

    #[test]
    fn a_refusal_is_told_from_an_api_server_that_will_answer_again() {
        for (code, refusal) in [
            (401, true),
            (403, true),
            (404, true),
            (410, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(refused(&failed(code, "m")).is_some(), refusal, "{code}");
        }
        assert_eq!(refused(&Error::NoResourceVersion), None);
    }
}
