//! What a request is compared with.

use regex::Regex;

use crate::cluster::embedded::requests::{Request, under};

/// A text that a part of a request is compared with.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// It is there.
    Any,
    Exact(String),
    Prefix(String),
    /// A prefix of whole path segments.
    Segments(String),
    /// The whole of it.
    Regex(Regex),
    /// Whatever it is: the rule's expression does not compile.
    Never,
}

impl Pattern {
    /// The expression has to match the whole text, as with RE2 in Envoy. One that does not compile matches nothing.
    pub(super) fn regex(expression: &str) -> Self {
        Regex::new(&format!("^(?:{expression})$")).map_or(Self::Never, Self::Regex)
    }

    /// The same for texts in any case.
    pub(super) fn in_any_case(self) -> Self {
        let insensitive = |text: &str| Self::regex(&format!("(?i){text}"));
        match &self {
            Self::Exact(text) => insensitive(&regex::escape(text)),
            Self::Prefix(text) => insensitive(&format!("{}.*", regex::escape(text))),
            Self::Any | Self::Segments(_) | Self::Regex(_) | Self::Never => self,
        }
    }

    pub(super) fn takes(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Segments(folder) => under(text, folder),
            Self::Regex(regex) => regex.is_match(text),
            Self::Never => false,
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) | (Self::Never, Self::Never) => true,
            (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Segments(a), Self::Segments(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// One thing that a request has to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Method(Pattern),
    Path(Pattern),
    /// By its name in lower case.
    Header(String, Pattern),
    WithoutHeader(String, Pattern),
    Query(String, Pattern),
    /// Never so for requests of this source.
    Never,
}

impl Test {
    pub(super) fn holds(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Method(pattern) => pattern.takes(request.method),
            Self::Path(pattern) => pattern.takes(request.path),
            Self::Header(name, pattern) => request
                .header(name)
                .is_some_and(|value| pattern.takes(value)),
            Self::WithoutHeader(name, pattern) => !request
                .header(name)
                .is_some_and(|value| pattern.takes(value)),
            Self::Query(name, pattern) => request
                .parameter(name)
                .is_some_and(|value| pattern.takes(&value)),
            Self::Never => false,
        }
    }
}
