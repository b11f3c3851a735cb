//! Label and field selectors, from their query-string form.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector, SelectorExt};
use serde_json::Value;

use super::{kinds::Served, status::Status};

/// Which objects of a kind a list, a watch or a deletion is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    labels: Selector,
    fields: Vec<Field>,
}

#[derive(Debug, Clone)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

impl Filter {
    /// Parses both selectors; either may be empty.
    pub(super) fn parse(served: &Served, labels: &str, fields: &str) -> Result<Self, Status> {
        Ok(Self {
            labels: parse_labels(labels)?.into_iter().collect(),
            fields: parse_fields(served, fields)?,
        })
    }

    /// Everything matches.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.selects_all() && self.fields.is_empty()
    }

    /// Whether an object, in the form that is served, matches.
    pub(super) fn matches(&self, object: &Value) -> bool {
        self.fields.iter().all(|field| field.matches(object))
            && (self.labels.selects_all() || self.labels.matches(&labels_of(object)))
    }
}

impl Field {
    fn matches(&self, object: &Value) -> bool {
        let mut at = object;
        for part in self.path.split('.') {
            at = &at[part];
        }
        let is = match at {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                at.to_string()
            }
        };
        (is == self.value) == self.equal
    }
}

fn labels_of(object: &Value) -> BTreeMap<String, String> {
    object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// `a=b,c==d,e!=f,g in (x,y),h notin (z),k,!m`.
pub(super) fn parse_labels(text: &str) -> Result<Vec<Expression>, Status> {
    requirements(text)
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| requirement(part).ok_or_else(|| unreadable(text, part)))
        .collect()
}

fn unreadable(text: &str, part: &str) -> Status {
    Status::bad_request(format!(
        "unable to parse requirement {part:?} of the label selector {text:?}"
    ))
}

/// Splits at the commas outside parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

fn requirement(part: &str) -> Option<Expression> {
    if let Some(key) = part.strip_prefix('!') {
        return Some(Expression::DoesNotExist(key_of(key)?));
    }
    if let Some((left, set)) = part.split_once('(') {
        let values: BTreeSet<String> = set
            .strip_suffix(')')?
            .split(',')
            .map(|v| v.trim().to_owned())
            .collect();
        let mut words = left.split_whitespace();
        let (key, operator) = (key_of(words.next()?)?, words.next()?);
        return match (operator, words.next()) {
            ("in", None) => Some(Expression::In(key, values)),
            ("notin", None) => Some(Expression::NotIn(key, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Expression::NotEqual(key_of(key)?, value_of(value)?));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Expression::Equal(key_of(key)?, value_of(value)?));
    }
    Some(Expression::Exists(key_of(part)?))
}

fn key_of(text: &str) -> Option<String> {
    let text = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    (!text.is_empty() && text.chars().all(allowed)).then(|| text.to_owned())
}

fn value_of(text: &str) -> Option<String> {
    let text = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().all(allowed).then(|| text.to_owned())
}

/// The fields of a kind that can be selected by, beside name and namespace.
fn selectable(served: &Served) -> &'static [&'static str] {
    match (served.group.as_str(), served.kind.as_str()) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "Event") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "Namespace") => &["status.phase"],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("apps", "ReplicaSet") => &["status.replicas"],
        _ => &[],
    }
}

fn parse_fields(served: &Served, text: &str) -> Result<Vec<Field>, Status> {
    let own = selectable(served);
    let mut fields = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let parsed = part
            .split_once("!=")
            .map(|(k, v)| (k, v, false))
            .or_else(|| part.split_once("==").map(|(k, v)| (k, v, true)))
            .or_else(|| part.split_once('=').map(|(k, v)| (k, v, true)));
        let Some((path, value, equal)) = parsed else {
            return Err(Status::bad_request(format!(
                "invalid selector: '{text}'; can't understand '{part}'"
            )));
        };
        let known = path == "metadata.name"
            || (path == "metadata.namespace" && served.namespaced)
            || own.contains(&path);
        if !known {
            return Err(unknown_field(served, path, own));
        }
        // Core events are selected by the name of their component.
        let path = match path {
            "source" => "source.component",
            other => other,
        };
        fields.push(Field {
            path: path.to_owned(),
            value: value.to_owned(),
            equal,
        });
    }
    Ok(fields)
}

fn unknown_field(served: &Served, path: &str, own: &[&str]) -> Status {
    if !own.is_empty() || served.custom.is_some() {
        return Status::bad_request(format!("field label not supported: {path}"));
    }
    let mut known = vec!["\"metadata.name\"".to_owned()];
    if served.namespaced {
        known.push("\"metadata.namespace\"".to_owned());
    }
    Status::bad_request(format!(
        "\"{path}\" is not a known field selector: only {}",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::embedded::kinds::Catalog;

    fn served(group: &str, plural: &str) -> Served {
        (*Catalog::builtin().find(group, "v1", plural).unwrap()).clone()
    }

    #[test]
    fn label_selectors_select_as_kubernetes_does() {
        let pods = served("", "pods");
        let object = json!({"metadata": {"labels": {"app": "x", "tier": "web", "empty": ""}}});
        for (selector, expected) in [
            ("", true),
            ("app=x", true),
            ("app==x", true),
            ("app=y", false),
            ("app!=y", true),
            ("none!=y", true),
            ("app in (x,y),!foo", true),
            ("app in ( y , z )", false),
            ("app notin (y)", true),
            ("none notin (y)", true),
            ("tier", true),
            ("none", false),
            ("!none", true),
            ("!app", false),
            ("empty=", true),
            ("app=x,tier=db", false),
            ("app=x, tier in (web)", true),
        ] {
            let filter = Filter::parse(&pods, selector, "").unwrap();
            assert_eq!(filter.matches(&object), expected, "{selector}");
        }
    }

    #[test]
    fn label_selectors_that_cannot_be_read_are_bad_requests() {
        for selector in ["a in x", "a in (x", "=b", "a=b c", "a is (b)", "!"] {
            let status = parse_labels(selector).unwrap_err();
            assert_eq!(status.code, 400, "{selector}");
        }
    }

    #[test]
    fn field_selectors_know_the_fields_of_a_kind() {
        let pods = served("", "pods");
        let object = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        for (selector, expected) in [
            ("metadata.name=a", true),
            ("metadata.name!=a", false),
            ("spec.nodeName==n1,status.phase!=Pending", true),
            ("spec.nodeName=n2", false),
        ] {
            let filter = Filter::parse(&pods, "", selector).unwrap();
            assert_eq!(filter.matches(&object), expected, "{selector}");
        }
        let maps = served("", "configmaps");
        assert_eq!(
            Filter::parse(&maps, "", "data.k=v").unwrap_err().message,
            r#""data.k" is not a known field selector: only "metadata.name", "metadata.namespace""#
        );
    }
}
