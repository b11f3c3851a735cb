//! Webhooks: what is sent, how often, and what an answer means, as Flagger does it (`pkg/controller/webhook.go`, with
//! hashicorp/go-retryablehttp below it).
//!
//! A call is a future without a task behind it: whoever drops it has ended it. Waits are real time.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use k8s_openapi::ByteString;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::template::{self, Values};
use crate::{
    api::text::clean,
    decide::facts::Moment,
    outbound::http::{HttpError, Transport},
};

/// The same on every attempt of one call, so that a receiver can leave a repetition out.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What an event's metadata says, whatever else is in it (Flagger).
pub const EVENT_KEYS: [&str; 3] = ["eventMessage", "eventType", "timestamp"];
/// The greatest status that is a yes (Flagger).
const GREATEST_YES: u16 = 202;
/// Wait before the first repetition; it doubles up to [`LONGEST_WAIT`] (go-retryablehttp).
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two attempts, unless the answer asks for another.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Longest `Retry-After` that is waited for. Who asks for more is asked again at the next interval, by a call of its own.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// What is told of an answer, in bytes.
const TOLD: usize = 300;
/// What a header's value cannot have, or would not be read as it was.
const NOT_IN_A_KEY: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The body of a call. The first five fields are Flagger's, in its order; the others are ours, and Flagger's receivers leave them out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// Name of the Canary.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Flagger's phase at this moment.
    pub phase: String,
    /// Tells what is rolled out apart: see [`checksum`].
    pub checksum: String,
    /// The hook's own `metadata`, rendered; left out when there is none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The canary's weight, percent.
    pub canary_weight: u8,
    /// The primary's weight, percent.
    pub primary_weight: u8,
    /// Intervals of the current step that have begun.
    pub iteration: u32,
    /// The canary's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Id of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// What a hook's `request` asks for instead of a POST of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The method.
    pub method: Method,
    /// Headers, all of them secret.
    pub headers: Headers,
    /// The body, rendered. Without one the payload is sent, except with GET, which has no body.
    pub body: Option<String>,
}

/// Headers of a Secret. They are shown nowhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

/// What a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the whole answer to one attempt (Flagger: 10 s).
    pub timeout: Duration,
    /// Repetitions after the first attempt (Flagger: none).
    pub retries: u32,
}

/// One attempt.
enum Outcome {
    Yes,
    /// An answer, or the lack of one, that a repetition does not change.
    No(String),
    /// Worth a repetition, after this long if the answer says so.
    Again(String, Option<Duration>),
}

/// Tells what is rolled out apart: the same in all calls of one run, another for another revision or other tracked `ConfigMaps`
/// and Secrets (`configmap/NAME` and its checksum). Flagger's own is a hash over a dump of Go's memory, which nobody else can compute.
#[must_use]
pub fn checksum<'a>(
    revision: &str,
    tracked: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let tracked: BTreeMap<&str, &str> = tracked.into_iter().collect();
    let mut text = revision.to_owned();
    for (name, sum) in tracked {
        let _ = write!(text, "\n{name}={sum}");
    }
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A hook's `metadata`, each value rendered as far as it is a template of ours.
///
/// # Errors
/// The key of a value that names what is not known at this moment.
pub fn metadata(
    given: &[(String, String)],
    values: &Values,
) -> Result<BTreeMap<String, String>, String> {
    let one = |(key, text): &(String, String)| match template::render_own(text, values) {
        Ok(text) => Ok((key.clone(), text)),
        Err(why) => Err(format!("metadata.{key}: {why}")),
    };
    given.iter().map(one).collect()
}

/// The metadata of an event: what happened, beside what the hook says itself, which cannot go before it (Flagger).
#[must_use]
pub fn of_event(
    mut own: BTreeMap<String, String>,
    message: &str,
    warning: bool,
    at: Moment,
) -> BTreeMap<String, String> {
    let kind = if warning { "Warning" } else { "Normal" };
    let told = [message.to_owned(), kind.to_owned(), at.0.to_string()];
    own.extend(EVENT_KEYS.map(str::to_owned).into_iter().zip(told));
    own
}

/// The request of a hook at `url` (as [`Route::url`](super::address::Route::url) gives it). Every attempt sends it as it is.
///
/// # Errors
/// What cannot be sent. No text holds a header's value.
pub fn request(
    url: &str,
    key: &str,
    payload: &Payload,
    own: Option<&Own>,
) -> Result<Request<Bytes>, String> {
    let method = own.map_or(Method::POST, |own| own.method.clone());
    let body = match own.and_then(|own| own.body.as_ref()) {
        Some(body) => Bytes::from(body.clone()),
        None if method == Method::GET => Bytes::new(),
        None => {
            let body = serde_json::to_vec(payload);
            Bytes::from(body.map_err(|error| format!("the payload cannot be written: {error}"))?)
        }
    };
    let mut headers = HeaderMap::new();
    if !body.is_empty() {
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
    }
    for (name, value) in own.iter().flat_map(|own| &own.headers.0) {
        headers.insert(name.clone(), value.clone());
    }
    // A hook may have any name.
    let key = utf8_percent_encode(key, NOT_IN_A_KEY).to_string();
    let key =
        HeaderValue::try_from(key).map_err(|_| "the Idempotency-Key cannot be sent".to_owned())?;
    headers.insert(IDEMPOTENCY_KEY, key);
    let mut request = Request::builder()
        .method(method)
        .uri(url)
        .body(body)
        .map_err(|error| format!("its url cannot be called: {error}"))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Calls until there is an answer that a repetition would not change, or no attempt is left. A yes is a status up to 202.
///
/// # Errors
/// The answer that was not a yes: its body, as Flagger tells it, fit to be shown; or why there is none. No text holds a header's value.
pub async fn call(
    transport: &Transport,
    request: &Request<Bytes>,
    patience: Patience,
) -> Result<(), String> {
    let Patience { timeout, retries } = patience;
    let mut attempts = 0;
    let mut wait = FIRST_WAIT;
    loop {
        attempts += 1;
        let (why, asked) = match attempt(transport, request.clone(), timeout).await {
            Outcome::Yes => return Ok(()),
            Outcome::No(why) => return Err(why),
            Outcome::Again(why, asked) => (why, asked),
        };
        if attempts > retries {
            return Err(match attempts {
                1 => why,
                _ => format!("{why}, after {attempts} attempts"),
            });
        }
        match asked {
            Some(asked) if asked > LONGEST_ASKED => {
                let asked = asked.as_secs();
                return Err(format!("{why}, and asks not to be called for {asked} s"));
            }
            Some(asked) => tokio::time::sleep(asked).await,
            None => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

async fn attempt(transport: &Transport, request: Request<Bytes>, timeout: Duration) -> Outcome {
    let secrets = secrets(&request);
    let answer = match transport.send(request, timeout).await {
        Ok(answer) => answer,
        // Flagger reads what a command has printed, however much it is, and looks at the status alone.
        Err(HttpError::TooLarge { status, .. }) if status <= GREATEST_YES => return Outcome::Yes,
        Err(error @ HttpError::TooLarge { .. }) => return Outcome::No(error.to_string()),
        Err(error @ (HttpError::Timeout { .. } | HttpError::Failed { .. })) => {
            return Outcome::Again(clean(&error.to_string(), TOLD), None);
        }
    };
    let status = answer.status().as_u16();
    if status <= GREATEST_YES {
        return Outcome::Yes;
    }
    let body = secrets.iter().fold(
        String::from_utf8_lossy(answer.body()).into_owned(),
        |body, secret| body.replace(secret.as_str(), "***"),
    );
    let body = clean(&body, TOLD);
    match status {
        429 | 500 | 502..=599 => {
            let why = match body.as_str() {
                "" => format!("answered {status}"),
                body => format!("{body} (answered {status})"),
            };
            Outcome::Again(why, asked(status, answer.headers()))
        }
        300..=399 => Outcome::No(format!("answered {status}, and no redirect is followed")),
        _ if body.is_empty() => Outcome::No(format!("answered {status}")),
        _ => Outcome::No(body),
    }
}

/// `Retry-After` in seconds or as a date, with the two statuses for which go-retryablehttp reads it.
fn asked(status: u16, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, 429 | 503) {
        return None;
    }
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?;
    let at = SystemTime::from(at.timestamp());
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The values that a receiver must not be able to have us tell.
fn secrets(request: &Request<Bytes>) -> Vec<String> {
    let values = request
        .headers()
        .values()
        .filter(|value| value.is_sensitive());
    let texts = values.filter_map(|value| value.to_str().ok());
    // Both `Bearer abc` and `abc`.
    let each = texts.flat_map(|text| {
        [
            text,
            text.split_whitespace().next_back().unwrap_or_default(),
        ]
    });
    each.filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}

// === impl Payload ===

impl Payload {
    /// What a hook's templates may name beside what queries may.
    #[must_use]
    pub fn names(&self) -> Vec<(&'static str, String)> {
        vec![
            ("phase", self.phase.clone()),
            ("checksum", self.checksum.clone()),
            ("primaryWeight", self.primary_weight.to_string()),
            ("iteration", self.iteration.to_string()),
            ("run", self.run.clone().unwrap_or_default()),
        ]
    }
}

// === impl Headers ===

impl Headers {
    /// A header for each key of the Secret.
    ///
    /// # Errors
    /// The key that is no header, or none that a hook may set. No text holds a value.
    pub fn of(secret: &Value) -> Result<Self, String> {
        let data: BTreeMap<String, ByteString> = match secret.get("data") {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(data) => serde_json::from_value(data.clone())
                .map_err(|_| "has data that is not base64".to_owned())?,
        };
        let one = |(key, ByteString(value)): (String, ByteString)| {
            let name = HeaderName::try_from(&key)
                .map_err(|_| format!("has the key {key:?}, which is no name of a header"))?;
            if !may_be_set(&name) {
                return Err(format!(
                    "has the key {key:?}, a header that no hook may set"
                ));
            }
            // `echo` ends a line where `echo -n` was meant.
            let value = value.trim_ascii_end();
            let mut value = HeaderValue::from_bytes(value)
                .map_err(|_| format!("has a value of {key:?} that no header can have"))?;
            value.set_sensitive(true);
            Ok((name, value))
        };
        data.into_iter()
            .map(one)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// An `Authorization` is among them, which the API server on the way to a Service would take for its own.
    #[must_use]
    pub fn authorize(&self) -> bool {
        self.0
            .iter()
            .any(|(name, _)| *name == header::AUTHORIZATION)
    }
}

/// Not those that frame the message or stand for somebody else at the API server on the way.
fn may_be_set(name: &HeaderName) -> bool {
    let name = name.as_str();
    !matches!(
        name,
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "idempotency-key"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) && !["impersonate-", "proxy-", "x-remote-"]
        .iter()
        .any(|begin| name.starts_with(begin))
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        f.debug_set().entries(names).finish()
    }
}
