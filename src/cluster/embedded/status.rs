//! Kubernetes' error answer.

use serde_json::{Value, json};

use super::kinds::Served;

/// A failure as Kubernetes answers it (`kind: Status`). `message` says what was done to which object and why it failed,
/// in the words of the real API server where there are such words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP code of the answer.
    pub code: u16,
    /// Machine-readable, `NotFound` for example: what clients decide by.
    pub reason: &'static str,
    /// Human-readable.
    pub message: String,
    /// Which object, and the causes.
    pub details: Option<Box<Details>>,
    /// With what to go on with a list whose revision is forgotten; empty for everything else.
    pub next: String,
}

/// `details` of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// Its API group.
    pub group: String,
    /// Its kind or resource.
    pub kind: String,
    /// One for each mistake.
    pub causes: Vec<Cause>,
    /// When to ask again; 0: never.
    pub retry_after_seconds: u32,
}

/// One mistake of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, ...
    pub reason: &'static str,
    /// What is wrong, without the field's name.
    pub message: String,
    /// Path of the field, `spec.containers[0].image`.
    pub field: String,
}

impl Cause {
    /// A field that has to be there.
    pub(super) fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Self {
            reason: "FieldValueRequired",
            message,
            field: field.into(),
        }
    }

    /// A value that is not allowed.
    pub(super) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {why}"),
            field: field.into(),
        }
    }

    /// A value that is not one of the allowed ones.
    pub(super) fn unsupported(field: impl Into<String>, value: &Value, allowed: &[Value]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        Self {
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {value}: supported values: {}",
                allowed.join(", ")
            ),
            field: field.into(),
        }
    }

    /// A value of the wrong type.
    pub(super) fn wrong_type(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self {
            reason: "FieldValueTypeInvalid",
            message: format!("Invalid value: {}: {why}", quoted(type_name(value))),
            field: field.into(),
        }
    }
}

/// The name that the API server gives a JSON type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            next: String::new(),
        }
    }

    fn about(mut self, served: &Served, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: served.group.clone(),
            kind: served.plural.clone(),
            ..Details::default()
        }));
        self
    }

    /// With details that say nothing, as Kubernetes answers where no object is meant.
    pub(super) fn about_nothing(mut self) -> Self {
        self.details = Some(Box::default());
        self
    }

    /// No such object.
    pub(super) fn not_found(served: &Served, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", served.qualified()),
        )
        .about(served, name)
    }

    /// No such kind.
    pub(super) fn unknown_resource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .about_nothing()
    }

    /// The name is taken, maybe by one that is on its way out.
    pub(super) fn already_exists(served: &Served, name: &str, is_going: bool) -> Self {
        let going = if is_going {
            "object is being deleted: "
        } else {
            ""
        };
        Self::new(
            409,
            "AlreadyExists",
            format!("{going}{} \"{name}\" already exists", served.qualified()),
        )
        .about(served, name)
    }

    /// Somebody else wrote in between.
    pub(super) fn stale(served: &Served, name: &str) -> Self {
        Self::conflict(
            served,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Others own, with other values, what was applied; one cause for each field.
    pub(super) fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        let mut status = Self::new(409, "Conflict", message);
        status.details = Some(Box::new(Details {
            causes,
            ..Details::default()
        }));
        status
    }

    /// Options of a request that make no sense; one cause.
    pub(super) fn invalid_options(kind: &str, cause: Cause) -> Self {
        let message = format!(
            "{kind}.meta.k8s.io \"\" is invalid: {}: {}",
            cause.field, cause.message
        );
        let mut status = Self::new(422, "Invalid", message);
        status.details = Some(Box::new(Details {
            group: "meta.k8s.io".to_owned(),
            kind: kind.to_owned(),
            causes: vec![cause],
            ..Details::default()
        }));
        status
    }

    /// What Kubernetes answers with where an error has no code of its own.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// A precondition does not hold.
    pub(super) fn conflict(served: &Served, name: &str, why: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} \"{name}\": {why}",
                served.qualified()
            ),
        )
        .about(served, name)
    }

    /// The object is wrong; one cause for each mistake.
    pub(super) fn invalid(served: &Served, name: &str, causes: Vec<Cause>) -> Self {
        let texts: Vec<String> = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            _ => format!("[{}]", texts.join(", ")),
        };
        let kind = if served.group.is_empty() {
            served.kind.clone()
        } else {
            format!("{}.{}", served.kind, served.group)
        };
        let mut status = Self::new(
            422,
            "Invalid",
            format!("{kind} \"{name}\" is invalid: {text}"),
        );
        status.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: served.group.clone(),
            kind: served.kind.clone(),
            causes,
            ..Details::default()
        }));
        status
    }

    /// The request makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Not allowed in this state.
    pub(super) fn forbidden(served: &Served, name: &str, why: &str) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!("{} \"{name}\" is forbidden: {why}", served.qualified()),
        )
        .about(served, name)
    }

    /// The caller may not do this.
    pub(super) fn not_allowed(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let qualified = match group {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        // A collection has no name, and no quotes around it.
        let object = match name {
            "" => qualified,
            name => format!("{qualified} \"{name}\""),
        };
        let mut status = Self::new(403, "Forbidden", format!("{object} is forbidden: {why}"));
        status.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: plural.to_owned(),
            ..Details::default()
        }));
        status
    }

    /// Nothing new may be made in a namespace that goes.
    pub(super) fn namespace_terminating(served: &Served, name: &str, ns: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {ns} because it is being terminated"
        );
        let mut status = Self::forbidden(served, name, &why);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating",
                message: format!("namespace {ns} is being terminated"),
                field: "metadata.namespace".to_owned(),
            });
        }
        status
    }

    /// The object is wrong in a way that the storage finds: it speaks of the resource, not of the kind.
    pub(super) fn invalid_resource(served: &Served, name: &str, cause: Cause) -> Self {
        let mut status = Self::invalid(served, name, Vec::new());
        status.message = format!(
            "{} \"{name}\" is invalid: {}: {}",
            served.qualified(),
            cause.field,
            cause.message
        );
        if let Some(details) = &mut status.details {
            details.kind.clone_from(&served.plural);
            details.causes.push(cause);
        }
        status
    }

    /// The verb is not offered here.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .about_nothing()
    }

    /// The body's type is not understood.
    pub(super) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// The history does not go back so far.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The revision of a list's first page is forgotten; `next` goes on at the newest one.
    pub(super) fn expired_page(next: String) -> Self {
        let mut status = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue \
             parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided \
             token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
             returned and now may show up in the list.",
        );
        status.next = next;
        status
    }

    /// Nothing to pass the request on to.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// A deletion of another object than this one.
    pub(super) fn other_object(served: &Served, name: &str, why: &str) -> Self {
        let mut status = Self::conflict(served, name, why);
        status.message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            served.kind
        );
        if let Some(details) = &mut status.details {
            details.kind.clone_from(&served.kind);
        }
        status
    }

    /// None of the forms that the client accepts is offered.
    pub(super) fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    }

    /// A revision that has not been reached in time.
    pub(super) fn too_large_version(asked: u64, current: u64) -> Self {
        let mut status = Self::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        );
        status.details = Some(Box::new(Details {
            causes: vec![Cause {
                reason: "ResourceVersionTooLarge",
                message: "Too large resource version".to_owned(),
                field: String::new(),
            }],
            retry_after_seconds: 1,
            ..Details::default()
        }));
        status
    }

    /// The `kind: Status` object.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.next.is_empty() {
            body["metadata"]["continue"] = json!(self.next);
        }
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            let mut out = json!({});
            if details.retry_after_seconds > 0 {
                out["retryAfterSeconds"] = json!(details.retry_after_seconds);
            }
            for (key, value) in [
                ("name", &details.name),
                ("group", &details.group),
                ("kind", &details.kind),
            ] {
                if !value.is_empty() {
                    out[key] = json!(value);
                }
            }
            if !details.causes.is_empty() {
                out["causes"] = details
                    .causes
                    .iter()
                    .map(|c| {
                        let mut cause = json!({"reason": c.reason, "message": c.message});
                        if !c.field.is_empty() {
                            cause["field"] = json!(c.field);
                        }
                        cause
                    })
                    .collect();
            }
            body["details"] = out;
        }
        body
    }
}
