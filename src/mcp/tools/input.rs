//! Arguments, judged before anything else is done. Every complaint begins with the argument's name.

use std::time::Duration;

use rmcp::{RoleServer, service::RequestContext};

use crate::{
    engine::control::Key,
    mcp::principal,
    mcp::{error::ToolError, progress::LONGEST_WAIT},
};

/// Longest free text that ends in an annotation or an event.
const TEXT: usize = 500;
/// Longest reference that any registry takes, tag and digest included, and some more.
const IMAGE: usize = 1024;

pub(super) fn invalid(field: &'static str, text: impl Into<String>) -> ToolError {
    ToolError::Invalid {
        field,
        text: text.into(),
    }
}

/// Which Canary: the three names that every verb takes.
pub(super) fn key(cluster: &str, namespace: &str, name: &str) -> Result<Key, ToolError> {
    check_cluster(cluster)?;
    check_label("namespace", namespace)?;
    check_name(name)?;
    Ok(Key {
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// A cluster's name is the name of a kubeconfig context, which may be nearly anything.
pub(super) fn check_cluster(cluster: &str) -> Result<(), ToolError> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if cluster.is_empty() || cluster.len() > 253 || cluster.contains(odd) {
        return Err(invalid(
            "cluster",
            format!("{cluster:?} is not the name of a cluster; list_clusters gives the names"),
        ));
    }
    Ok(())
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(alphanumeric);
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
}

/// A DNS-1123 label: namespaces and containers.
pub(super) fn check_label(field: &'static str, text: &str) -> Result<(), ToolError> {
    if is_label(text) {
        Ok(())
    } else {
        Err(invalid(
            field,
            format!(
                "{text:?} is not a DNS-1123 label: at most 63 lower-case letters, digits and dashes"
            ),
        ))
    }
}

/// A DNS-1123 subdomain: the name of a Canary or a Deployment.
pub(super) fn check_name(name: &str) -> Result<(), ToolError> {
    let subdomain = name.len() <= 253 && name.split('.').all(is_label);
    if subdomain {
        Ok(())
    } else {
        Err(invalid(
            "name",
            format!(
                "{name:?} is not a DNS-1123 name: at most 253 lower-case letters, digits, dashes and dots"
            ),
        ))
    }
}

/// An image reference, as far as we need to know: the cluster knows the rest.
pub(super) fn check_image(image: &str) -> Result<(), ToolError> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if image.is_empty() || image.len() > IMAGE || image.contains(odd) {
        return Err(invalid(
            "image",
            format!(
                "{image:?} is not an image reference, as in registry.example/mcp-server:1.1.0: not empty, without spaces, at most {IMAGE} bytes"
            ),
        ));
    }
    Ok(())
}

/// A revision as `get_status` shows it (`v1-` and hexadecimal digits), or its first eight digits and more, with or without the `v1-`.
/// Comes back with it.
pub(super) fn revision(
    field: &'static str,
    given: Option<String>,
) -> Result<Option<String>, ToolError> {
    let Some(given) = given else { return Ok(None) };
    let digits = given.strip_prefix("v1-").unwrap_or(&given);
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if (8..=64).contains(&digits.len()) && digits.bytes().all(hex) {
        Ok(Some(format!("v1-{digits}")))
    } else {
        Err(invalid(
            field,
            format!(
                "{given:?} is not a revision as get_status shows it: v1- and at least 8 hexadecimal digits"
            ),
        ))
    }
}

/// How long to wait.
pub(super) fn wait(seconds: Option<i64>) -> Result<Option<Duration>, ToolError> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    match u64::try_from(seconds).map(Duration::from_secs) {
        Ok(wait) if wait <= LONGEST_WAIT => Ok(Some(wait)),
        Ok(_) | Err(_) => Err(invalid(
            "wait_seconds",
            format!("{seconds} is not between 0 and {}", LONGEST_WAIT.as_secs()),
        )),
    }
}

/// Free text for an annotation and an event.
pub(super) fn reason(reason: Option<String>) -> Result<Option<String>, ToolError> {
    match reason {
        Some(text) if text.len() > TEXT || text.contains(char::is_control) => Err(invalid(
            "reason",
            format!("is longer than {TEXT} bytes or has line breaks; give one short sentence"),
        )),
        reason => Ok(reason.filter(|text| !text.trim().is_empty())),
    }
}

/// Who asks: the caller that has proved its name, or what the client says of itself, which is told and never relied on. Reduced to what
/// cannot disturb an annotation, an event or a log line.
pub(super) fn by(context: &RequestContext<RoleServer>) -> Option<String> {
    if let Some(caller) = principal::of(context) {
        return Some(caller.name.clone());
    }
    let info = context.meta.client_info()?;
    sanitised(&format!("{}/{}", info.name, info.version))
}

fn sanitised(client: &str) -> Option<String> {
    let text: String = client
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_./+ ".contains(*c))
        .take(64)
        .collect();
    Some(text.trim_matches([' ', '/']).to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(result: Result<T, ToolError>) -> String {
        match result {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_are_judged_with_the_name_of_the_argument() {
        for (cluster, namespace, name, expected) in [
            ("prod-kr", "ai-platform", "mcp-server", "fine"),
            ("arn:aws:eks:eu-west-1:1:cluster/a", "a", "a.b-c.d", "fine"),
            (
                "",
                "ai-platform",
                "mcp-server",
                r#"cluster: "" is not the name of a cluster; list_clusters gives the names"#,
            ),
            (
                "prod kr",
                "ai-platform",
                "mcp-server",
                r#"cluster: "prod kr" is not the name of a cluster; list_clusters gives the names"#,
            ),
            (
                "prod-kr",
                "AI",
                "mcp-server",
                r#"namespace: "AI" is not a DNS-1123 label: at most 63 lower-case letters, digits and dashes"#,
            ),
            (
                "prod-kr",
                "a.b",
                "mcp-server",
                r#"namespace: "a.b" is not a DNS-1123 label: at most 63 lower-case letters, digits and dashes"#,
            ),
            (
                "prod-kr",
                "ai-platform",
                "--server=https://attacker",
                r#"name: "--server=https://attacker" is not a DNS-1123 name: at most 253 lower-case letters, digits, dashes and dots"#,
            ),
            (
                "prod-kr",
                "ai-platform",
                "../secrets",
                r#"name: "../secrets" is not a DNS-1123 name: at most 253 lower-case letters, digits, dashes and dots"#,
            ),
        ] {
            assert_eq!(said(key(cluster, namespace, name)), expected);
        }
    }

    #[test]
    fn an_image_has_no_spaces() {
        assert_eq!(
            said(check_image(
                "registry.example:5000/a/b:1@sha256:0123456789abcdef"
            )),
            "fine"
        );
        for image in ["", "a b", "a\n"] {
            assert!(said(check_image(image)).starts_with("image: "), "{image:?}");
        }
    }

    #[test]
    fn a_revision_is_completed_to_what_get_status_shows() {
        for (given, taken) in [
            ("v1-0123abcd", Some("v1-0123abcd")),
            ("0123abcd", Some("v1-0123abcd")),
            ("0123abc", None),
            ("0123ABCD", None),
            ("v2-0123abcd", None),
            ("", None),
        ] {
            assert_eq!(
                revision("to_revision", Some(given.to_owned()))
                    .ok()
                    .flatten()
                    .as_deref(),
                taken,
                "{given}"
            );
        }
        assert_eq!(
            said(revision("expect_revision", Some("abc".to_owned()))),
            r#"expect_revision: "abc" is not a revision as get_status shows it: v1- and at least 8 hexadecimal digits"#
        );
    }

    #[test]
    fn waits_are_bounded() {
        assert_eq!(wait(None).unwrap(), None);
        assert_eq!(wait(Some(0)).unwrap(), Some(Duration::ZERO));
        assert_eq!(wait(Some(3600)).unwrap(), Some(Duration::from_secs(3600)));
        assert_eq!(
            said(wait(Some(3601))),
            "wait_seconds: 3601 is not between 0 and 3600"
        );
        assert_eq!(
            said(wait(Some(-1))),
            "wait_seconds: -1 is not between 0 and 3600"
        );
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(reason(Some(" ".to_owned())).unwrap(), None);
        assert_eq!(
            reason(Some("p99 looks odd".to_owned())).unwrap().as_deref(),
            Some("p99 looks odd")
        );
        assert_eq!(
            said(reason(Some("a\nb".to_owned()))),
            "reason: is longer than 500 bytes or has line breaks; give one short sentence"
        );
    }

    #[test]
    fn the_client_cannot_disturb_an_event() {
        assert_eq!(
            sanitised("claude-code/2.1.319"),
            Some("claude-code/2.1.319".to_owned())
        );
        assert_eq!(
            sanitised("evil\n\"{}<b>\u{202e}/1"),
            Some("evilb/1".to_owned())
        );
        assert_eq!(sanitised("\n/"), None);
        assert_eq!(sanitised(&"x".repeat(100)).unwrap().len(), 64);
    }
}
