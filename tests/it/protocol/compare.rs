//! What of two answers is compared, and how a difference is told.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The headers that are compared. The others belong to the connection (`date`, `content-length`, ...) or name a request in logs that the embedded server
/// does not have (`audit-id`, `x-kubernetes-pf-...`).
const HEADERS: [&str; 5] = [
    "content-type",
    "cache-control",
    "warning",
    "retry-after",
    "allow",
];

/// What is made up by each server for itself. It is not left out: each value gets a name by its kind and its first appearance in the scenario, so that
/// what is the same in two answers of one server has to be the same in those of the other.
const NUMBERED: [(&str, &str); 2] = [
    ("uid", "made up at random"),
    (
        "resourceVersion",
        "the revision of a whole cluster in which others write too",
    ),
];

/// What is not compared, as a path in the body and the reason. `*` is any one part of the path, `**` any number of them.
const NOT_COMPARED: [(&str, &str); 1] = [(
    "**/metadata/managedFields/**",
    "only where a scenario asks for it: Scenario::with_owners",
)];

/// Who writes to the genuine server in its own time: its entries of `managedFields` are left out.
const CONTROLLERS: &str = "kube-controller-manager";

/// What the embedded server does not imitate: scenario, path, reason.
const NOT_IMITATED: [(&str, &str, &str); 6] = [
    (
        "containers of a Deployment",
        "status/**",
        "its controller's",
    ),
    (
        "containers of a Deployment",
        "metadata/resourceVersion",
        "its controller writes it too",
    ),
    ("changes of a Deployment", "status/**", "its controller's"),
    (
        "changes of a Deployment",
        "metadata/resourceVersion",
        "its controller writes it too",
    ),
    ("scale of a Deployment", "status/**", "its controller's"),
    (
        "scale of a Deployment",
        "metadata/resourceVersion",
        "its controller writes it too",
    ),
];

/// A body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Json(Value),
    Text(String),
    Events(Vec<Value>),
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(document) => Self::Json(document),
            Err(_) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
        }
    }

    fn document(&self) -> Value {
        match self {
            Self::Json(document) => document.clone(),
            Self::Text(text) => json!(text),
            Self::Events(events) => json!(events),
        }
    }
}

/// An answer in a form that two servers can agree on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) code: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

/// The names that one server's own values have got so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    uids: Vec<String>,
    versions: Vec<String>,
}

impl Names {
    /// The answer with names in the place of the server's own values.
    pub(super) fn answer(
        &mut self,
        code: u16,
        mut headers: BTreeMap<String, String>,
        body: &Content,
    ) -> Answer {
        headers.retain(|name, _| HEADERS.contains(&name.as_str()));
        let mut body = body.document();
        self.note(&body);
        self.rename(&mut body);
        Answer {
            code,
            headers,
            body,
        }
    }

    fn note(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(uid) = fields.get("uid").and_then(Value::as_str)
                    && !uid.is_empty()
                    && !self.uids.iter().any(|known| known == uid)
                {
                    self.uids.push(uid.to_owned());
                }
                fields.values().for_each(|child| self.note(child));
            }
            Value::Array(items) => items.iter().for_each(|item| self.note(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rename(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // Lists and bookmarks have no name.
                let of_object = fields.contains_key("name") || fields.contains_key("uid");
                if let Some(name) = made_up_name(fields) {
                    fields.insert("name".to_owned(), json!(name));
                }
                // An owner is told apart by its uid, also in a key of `fieldsV1`.
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, child)| (self.without_uids(key), child))
                    .collect();
                for (key, child) in fields.iter_mut() {
                    match (key.as_str(), &mut *child) {
                        ("managedFields", Value::Array(entries)) => {
                            entries.retain(|entry| entry["manager"] != CONTROLLERS);
                            // They come by time, and two servers need not do two writes within one second.
                            entries.sort_by_key(|entry| {
                                ["operation", "manager", "subresource"]
                                    .map(|key| entry[key].to_string())
                            });
                            for entry in entries.iter_mut() {
                                self.rename(entry);
                            }
                        }
                        ("resourceVersion", Value::String(version)) if !version.is_empty() => {
                            *child = json!(self.version(version, of_object));
                        }
                        ("continue", Value::String(_)) => *child = json!("<continue>"),
                        _ => self.rename(child),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.rename(item)),
            Value::String(text) => *text = self.text(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// That of an object is told apart; that of a list is the cluster's, which others write to as well.
    fn version(&mut self, version: &str, of_object: bool) -> String {
        if !of_object {
            return "<revision of the cluster>".to_owned();
        }
        let at = self.versions.iter().position(|known| known == version);
        let at = at.unwrap_or_else(|| {
            self.versions.push(version.to_owned());
            self.versions.len() - 1
        });
        format!("<resourceVersion {}>", at + 1)
    }

    fn text(&self, text: &str) -> String {
        if text.parse::<jiff::Timestamp>().is_ok() {
            let form = if text.contains('.') { "micro" } else { "" };
            return format!("<{form}time>");
        }
        self.without_uids(text.to_owned())
    }

    fn without_uids(&self, mut text: String) -> String {
        for (at, uid) in self.uids.iter().enumerate() {
            text = text.replace(uid, &format!("<uid {}>", at + 1));
        }
        text
    }
}

/// What `generateName` gave: five characters are the server's own.
fn made_up_name(meta: &Map<String, Value>) -> Option<String> {
    let prefix = meta.get("generateName")?.as_str()?;
    let suffix = meta.get("name")?.as_str()?.strip_prefix(prefix)?;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (suffix.len() == 5 && suffix.chars().all(good)).then(|| format!("{prefix}<suffix>"))
}

/// Each difference of two answers as text.
pub(super) fn difference(
    scenario: &str,
    owners: bool,
    ours: &Answer,
    theirs: &Answer,
) -> Vec<String> {
    let mut all = Vec::new();
    if ours.code != theirs.code {
        all.push(format!("code: {} / {}", ours.code, theirs.code));
    }
    for header in HEADERS {
        let (our, their) = (ours.headers.get(header), theirs.headers.get(header));
        if our != their {
            all.push(format!("{header}: {our:?} / {their:?}"));
        }
    }
    let mut path = Vec::new();
    compare(
        &ours.body,
        &theirs.body,
        &mut path,
        &mut |path, our, their| {
            let at = path.join("/");
            let left_out = !owners && NOT_COMPARED.iter().any(|(pattern, _)| fits(pattern, path))
                || NOT_IMITATED
                    .iter()
                    .any(|(name, pattern, _)| *name == scenario && fits(pattern, path));
            if !left_out {
                all.push(format!("/{at}: {} / {}", shown(our), shown(their)));
            }
        },
    );
    all
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "-".to_owned(), Value::to_string)
}

type Tell<'a> = &'a mut dyn FnMut(&[String], Option<&Value>, Option<&Value>);

fn compare(ours: &Value, theirs: &Value, path: &mut Vec<String>, tell: Tell<'_>) {
    match (ours, theirs) {
        (Value::Object(our), Value::Object(their)) => {
            let mut keys: Vec<&String> = our.keys().chain(their.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                path.push(key.clone());
                match (our.get(key), their.get(key)) {
                    (Some(a), Some(b)) => compare(a, b, path, tell),
                    (a, b) => tell(path, a, b),
                }
                path.pop();
            }
        }
        (Value::Array(our), Value::Array(their)) => {
            for at in 0..our.len().max(their.len()) {
                path.push(at.to_string());
                match (our.get(at), their.get(at)) {
                    (Some(a), Some(b)) => compare(a, b, path, tell),
                    (a, b) => tell(path, a, b),
                }
                path.pop();
            }
        }
        _ if ours == theirs => {}
        _ => tell(path, Some(ours), Some(theirs)),
    }
}

fn fits(pattern: &str, path: &[String]) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    fits_from(&pattern, path)
}

fn fits_from(pattern: &[&str], path: &[String]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skip| fits_from(rest, &path[skip..])),
        (["*", rest @ ..], [_, path @ ..]) => fits_from(rest, path),
        ([part, rest @ ..], [first, path @ ..]) => part == first && fits_from(rest, path),
        _ => false,
    }
}

#[test]
fn every_exception_has_a_reason() {
    for reason in NUMBERED
        .iter()
        .chain(&NOT_COMPARED)
        .map(|(_, reason)| reason)
    {
        assert!(!reason.is_empty());
    }
}
