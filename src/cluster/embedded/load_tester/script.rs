//! What tests see of the calls to a load tester, and how they let it answer otherwise.

use std::collections::BTreeMap;

use http::{Request, StatusCode};
use serde_json::Value;

use crate::decide::facts::Moment;

/// One call, as it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// When it came in.
    pub at: Moment,
    /// HTTP method.
    pub method: String,
    /// Path, with the query if there is one.
    pub path: String,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body; null where it is no JSON.
    pub payload: Value,
    /// HTTP status of the answer; `None` as long as there is none, also when the caller has not waited for it.
    pub code: Option<u16>,
}

impl Call {
    pub(super) fn of<B: AsRef<[u8]>>(request: &Request<B>, at: Moment) -> Self {
        let headers = request.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let path = request.uri().path_and_query();
        Self {
            at,
            method: request.method().to_string(),
            path: path.map_or("/", |p| p.as_str()).to_owned(),
            headers: headers.collect(),
            payload: serde_json::from_slice(request.body().as_ref()).unwrap_or_default(),
            code: None,
        }
    }

    /// A header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// How calls to one path are answered instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The path, without a query; empty for every path.
    pub path: String,
    /// So many calls; `None`: all of them.
    pub times: Option<u32>,
    /// The answer comes so many virtual milliseconds later.
    pub after_ms: i64,
    /// Status and body; `None`: what would have been answered anyway.
    pub answer: Option<(u16, String)>,
}

impl Script {
    /// Every call to `path` is answered so.
    #[must_use]
    pub fn answer(path: &str, code: u16, body: &str) -> Self {
        Self {
            path: path.to_owned(),
            times: None,
            after_ms: 0,
            answer: Some((code, body.to_owned())),
        }
    }

    /// Every call to `path` is answered as ever, so much later.
    #[must_use]
    pub fn slow(path: &str, ms: i64) -> Self {
        Self {
            path: path.to_owned(),
            times: None,
            after_ms: ms,
            answer: None,
        }
    }

    /// The same for so many calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    pub(super) fn takes(&self, path: &str) -> bool {
        self.times != Some(0)
            && (self.path.is_empty()
                || self.path.trim_end_matches('/') == path.trim_end_matches('/'))
    }

    pub(super) fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
