//! The syntax of names, labels, annotations and owner references.

use serde_json::{Value, json};

use super::{kinds::Served, status::Cause};
use crate::api::objects::ObjectExt;

/// The mistakes of the metadata.
pub(super) fn check(served: &Served, object: &Value, causes: &mut Vec<Cause>) {
    let name = object.name();
    let why = match served.kind.as_str() {
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => {
            (name == "." || name == ".." || name.contains(['/', '%']))
                .then_some("may not be '.', '..' or contain '/' or '%'")
        }
        "Namespace" => (!is_label(name)).then_some(DNS_LABEL),
        "Service" => {
            (!is_label(name) || name.starts_with(|c: char| c.is_ascii_digit())).then_some(DNS_1035)
        }
        _ => (!is_subdomain(name)).then_some(DNS_SUBDOMAIN),
    };
    if let Some(why) = why {
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    let labels = object["metadata"]["labels"].as_object();
    for (key, value) in labels.into_iter().flatten() {
        if !is_qualified(key) {
            causes.push(Cause::invalid("metadata.labels", &json!(key), QUALIFIED));
        }
        let text = value.as_str().unwrap_or_default();
        if !text.is_empty() && !is_name(text) {
            causes.push(Cause::invalid("metadata.labels", &json!(text), LABEL_VALUE));
        }
    }
    for key in object["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k)
    {
        if !is_qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid(
                "metadata.annotations",
                &json!(key),
                QUALIFIED,
            ));
        }
    }
    let finalizers = object.array_at("/metadata/finalizers").iter();
    for (at, finalizer) in finalizers.enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        let standard = matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
        // Of custom resources any name will do, such as Flagger's `finalizer.flagger.app`.
        if served.custom.is_none() && !standard && !name.contains('/') {
            let field = format!("metadata.finalizers[{at}]");
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(field, finalizer, why));
        }
    }
    for owner in object.array_at("/metadata/ownerReferences") {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner[key].as_str().is_none_or(str::is_empty) {
                let field = format!("metadata.ownerReferences.{key}");
                causes.push(Cause::invalid(field, &json!(""), "must not be empty"));
            }
        }
    }
}

/// What a label is, in the words of the API server.
pub(super) const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// A lowercase RFC 1123 label.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && is_label(&part.replace('-', "a")) && is_edge_free(part);
    text.len() <= 253 && text.split('.').all(|p| p.len() > 63 || part(p)) && !text.is_empty()
}

fn is_edge_free(part: &str) -> bool {
    !part.starts_with('-') && !part.ends_with('-')
}

/// `[PREFIX/]NAME`.
fn is_qualified(key: &str) -> bool {
    let name = match key.split_once('/') {
        Some((prefix, name)) if is_subdomain(prefix) => name,
        Some(_) => return false,
        None => key,
    };
    is_name(name)
}

/// A label's value, and the part of a key after its prefix.
fn is_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 63
        && edge(name.chars().next())
        && edge(name.chars().last())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels() {
        for (name, good) in [
            ("a", true),
            ("a.b-c", true),
            ("canary-mcp.dev", true),
            ("", false),
            ("A", false),
            ("-a", false),
            ("a.", false),
            ("a_b", false),
        ] {
            assert_eq!(is_subdomain(name), good, "{name}");
        }
        for (key, good) in [
            ("app", true),
            ("app.kubernetes.io/name", true),
            ("kubectl.kubernetes.io/last-applied-configuration", true),
            ("a/b/c", false),
            ("a b", false),
            ("/x", false),
        ] {
            assert_eq!(is_qualified(key), good, "{key}");
        }
    }
}
