//! What of two answers is compared, and how a difference is told.
//!
//! What each server makes up for itself is not left out but replaced:
//!
//! - uids and the resourceVersions of objects by numbers in the order of their first appearance in the scenario, so that what is the same in two answers of
//!   one server has to be the same in those of the other;
//! - the resourceVersion of a list, and revisions in messages, by a word: others write to the genuine cluster as well;
//! - continue tokens, which only their server reads;
//! - times, by whether they have a fraction, and ages in the cells of tables;
//! - cluster IPs, and the five characters of a generated name.
//!
//! Of Deployments status, its managed fields, and the resourceVersion are left out: their controller writes on the genuine server, in its own time.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::control_plane::Feature;

/// The headers that are compared. The others belong to the connection (`date`, `content-length`, ...) or name a request in logs that the embedded server
/// does not have (`audit-id`, `x-kubernetes-pf-...`).
const HEADERS: [&str; 5] = [
    "content-type",
    "cache-control",
    "warning",
    "retry-after",
    "allow",
];

/// What is not compared anywhere, as a path in the body, and the reason. `*` is any one part of the path, `**` any number of them.
const NOT_COMPARED: [(&str, &str); 2] = [
    (
        "**/columnDefinitions/*/description",
        "prose, which differs from version to version",
    ),
    (
        "**/storageVersionHash",
        "of use to a migration of the storage alone",
    ),
];

/// What the embedded server does not imitate: the name by which a request refers to it, paths, the reason.
const NOT_IMITATED: [(&str, &[&str], &str); 14] = [
    (
        "words of Go's decoder",
        &["message"],
        "they name Go types and positions; code and reason are the same",
    ),
    (
        "words of the selector's parser",
        &["message"],
        "they tell its tokens; code and reason are the same",
    ),
    (
        "a patch that makes no object",
        &["code", "message", "reason", "details"],
        "the genuine one answers 422 or 500 with a dump of the patch; here it is the 400 that a POST of the same object has",
    ),
    (
        "a mistake answered as a server error",
        &["code", "message", "reason", "details"],
        "the genuine one answers 500 to a request that is wrong; here that is a 400",
    ),
    (
        "empty structs",
        &["**/spec", "**/conditions"],
        "a struct of Go that is not given is an empty object there; nothing reads it",
    ),
    (
        "events of both APIs",
        &["**"],
        "fields of the other API are told as null or empty there; nothing reads them",
    ),
    (
        "numbers of a scale that cannot be",
        &["code", "reason", "message", "details"],
        "Scale is no kind of its own here: the mistake is told of the scaled object",
    ),
    (
        "words of a definition's validation",
        &["message", "details"],
        "they show Go structs, and what follows from the first mistake",
    ),
    (
        "why a JSON patch does not apply",
        &["details"],
        "here they say it, there they are empty",
    ),
    (
        "owners of some fields",
        &["**/managedFields"],
        "a namespace's finalizers have an owner here, and so has the reference of an orphan; nobody applies those",
    ),
    (
        "words of the storage",
        &["message"],
        "they name the key in etcd; code and reason are the same",
    ),
    (
        "mistakes told twice",
        &["message", "details"],
        "two layers of the genuine server check the same",
    ),
    (
        "definitions go at once",
        &["**"],
        "a definition is established, and goes with its objects, in the one write; there controllers do both later",
    ),
    (
        "words of a schema's validation",
        &["message", "details"],
        "the library repeats a mistake without the field's name, or under another name",
    ),
];

/// What an older Kubernetes, which lacks the feature, tells otherwise in any answer: paths that are not compared there.
pub(super) const OLDER: [(Feature, &[&str]); 5] = [
    (Feature::ManagedFieldsSubresource, &["**/managedFields"]),
    (Feature::FieldValidation, &["headers/warning"]),
    (Feature::SingularNames, &["**/singularName"]),
    (
        Feature::NoNullTimestamps,
        &["**/template/metadata/creationTimestamp"],
    ),
    (Feature::NewestWords, &["message", "details/causes"]),
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

    pub(super) fn document(&self) -> Value {
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
        without_controllers(&mut body);
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
                // The keys of lists in managed fields.
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, child)| (self.uids_in(&key), child))
                    .collect();
                for (key, child) in fields.iter_mut() {
                    match (key.as_str(), &mut *child) {
                        ("resourceVersion", Value::String(version)) if !version.is_empty() => {
                            *child = json!(self.version(version, of_object));
                        }
                        ("managedFields", Value::Array(entries)) => {
                            // They come by time, and two servers need not do two writes within one second.
                            entries.sort_by_key(|entry| {
                                ["operation", "manager", "subresource"]
                                    .map(|key| entry[key].to_string())
                            });
                            for entry in entries.iter_mut() {
                                self.rename(entry);
                            }
                        }
                        // Those of one manager come in the order of the fields, the managers in that of a map of Go's, which is by chance.
                        ("causes", Value::Array(causes)) if are_conflicts(causes) => {
                            causes.sort_by_key(|cause| cause["message"].to_string());
                        }
                        ("continue", Value::String(token)) if !token.is_empty() => {
                            *child = json!("<continue>");
                        }
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

    fn uids_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (at, uid) in self.uids.iter().enumerate() {
            text = text.replace(uid, &format!("<uid {}>", at + 1));
        }
        text
    }

    fn text(&self, text: &str) -> String {
        if text.parse::<jiff::Timestamp>().is_ok() {
            let form = if text.contains('.') {
                "fraction"
            } else {
                "second"
            };
            return format!("<time to the {form}>");
        }
        let mut text = self.uids_in(text);
        for (form, name) in FORMS.iter() {
            text = form.replace_all(&text, *name).into_owned();
        }
        text
    }
}

/// Forms of text that are replaced wherever they are found.
static FORMS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"^\d+s$", "<age>"),
        (r"\b10\.96\.\d+\.\d+\b", "<cluster IP>"),
        (r"current: \d+", "current: <revision>"),
        (
            r"ResourceVersion in the precondition \(\d+\) does not match the ResourceVersion in record \(\d+\)",
            "ResourceVersion in the precondition (<revision>) does not match the ResourceVersion in record (<revision>)",
        ),
    ]
    .into_iter()
    .map(|(form, name)| (Regex::new(form).unwrap(), name))
    .collect()
});

/// The controller of Deployments writes their status in its own time, on the genuine server alone.
fn without_controllers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("kind") == Some(&json!("Deployment")) && fields.contains_key("metadata") {
                fields.remove("status");
                let meta = &mut fields["metadata"];
                meta["resourceVersion"] = Value::Null;
                if let Some(entries) = meta["managedFields"].as_array_mut() {
                    entries.retain(|entry| entry["subresource"] != "status");
                }
            }
            fields.values_mut().for_each(without_controllers);
        }
        Value::Array(items) => items.iter_mut().for_each(without_controllers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether these causes say who else owns a field that has been applied.
fn are_conflicts(causes: &[Value]) -> bool {
    let is_conflict = |cause: &Value| cause["reason"] == "FieldManagerConflict";
    causes.iter().all(is_conflict)
}

/// What `generateName` gave: five characters are the server's own.
fn made_up_name(meta: &Map<String, Value>) -> Option<String> {
    let prefix = meta.get("generateName")?.as_str()?;
    let suffix = meta.get("name")?.as_str()?.strip_prefix(prefix)?;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (suffix.len() == 5 && suffix.chars().all(good)).then(|| format!("{prefix}<suffix>"))
}

/// Each difference of two answers as text. `apart` names what of them is not imitated; what is named without need is a difference too, unless the
/// server is older than the one that is imitated: then `older` has the paths of [`OLDER`] that are not compared.
pub(super) fn difference(
    apart: &[&'static str],
    older: &[&str],
    ours: &Answer,
    theirs: &Answer,
) -> Vec<String> {
    let exceptions: Vec<_> = apart.iter().map(|name| exception(name)).collect();
    let mut needed = vec![false; exceptions.len()];
    let mut all = Vec::new();
    let mut tell = |path: &[String], our: Option<&Value>, their: Option<&Value>| {
        let covers = |pattern: &str| fits(pattern, path) || fits(&format!("{pattern}/**"), path);
        let mut left_out = NOT_COMPARED.iter().any(|(pattern, _)| fits(pattern, path));
        left_out |= older.iter().any(|pattern| covers(pattern));
        for ((_, patterns, _), needed) in exceptions.iter().zip(&mut needed) {
            let is_excepted = patterns.iter().any(|pattern| covers(pattern));
            *needed |= is_excepted;
            left_out |= is_excepted;
        }
        if !left_out {
            all.push(format!(
                "/{}: {} / {}",
                path.join("/"),
                shown(our),
                shown(their)
            ));
        }
    };
    if ours.code != theirs.code {
        let (our, their) = (json!(ours.code), json!(theirs.code));
        tell(&["code".to_owned()], Some(&our), Some(&their));
    }
    for header in HEADERS {
        let of = |answer: &Answer| answer.headers.get(header).map(|value| json!(value));
        let (our, their) = (of(ours), of(theirs));
        if our != their {
            let path = ["headers".to_owned(), header.to_owned()];
            tell(&path, our.as_ref(), their.as_ref());
        }
    }
    compare(&ours.body, &theirs.body, &mut Vec::new(), &mut tell);
    let unneeded = exceptions.iter().zip(needed).filter(|(_, needed)| !needed);
    for ((name, ..), _) in unneeded.filter(|_| older.is_empty()) {
        all.push(format!("{name:?} does not differ: it is imitated"));
    }
    all
}

fn exception(name: &str) -> &'static (&'static str, &'static [&'static str], &'static str) {
    let found = NOT_IMITATED.iter().find(|(known, ..)| *known == name);
    found.unwrap_or_else(|| panic!("{name:?} is not in the list of what is not imitated"))
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
