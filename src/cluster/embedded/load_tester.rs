//! The load tester of an embedded cluster: what answers at `http://flagger-loadtester.NAMESPACE/`, as Flagger's own does
//! (github.com/fluxcd/flagger, `pkg/loadtester`).
//!
//! There is no shell here. Of `cmd` only `hey` does something: it sends real requests of the cluster's traffic. A `bash` command is answered by
//! a table: a few words, URLs of the cluster's Services, and what a test has put into it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::Value;

use super::{
    controllers::{endpoints::backing, pods::is_ready},
    server::ProxyCall,
    store::Store,
    traffic::{Load, Source},
};
use crate::api::objects::{ObjectExt, SERVICE};

/// Name of its Service and Deployment, in whatever namespace they are.
pub(super) const NAME: &str = "flagger-loadtester";
/// Requests a second of one worker of hey that is given no rate.
const UNLIMITED: f64 = 10.0;
/// Most requests a second of one command: this is one process.
const MOST: f64 = 500.0;
/// hey's own defaults: workers, and requests where no duration is given.
const WORKERS: f64 = 50.0;
const REQUESTS: f64 = 200.0;

/// One cluster's load tester. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct LoadTester {
    store: Store,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Open gates, by name and namespace; those of rollbacks begin with `rollback.`.
    gates: BTreeMap<String, bool>,
    /// Commands that go on, each once: Flagger's rule.
    running: BTreeMap<String, crate::decide::facts::Moment>,
    /// Loads that the traffic has not taken up yet.
    coming: Vec<Load>,
    /// Answers to bash commands that contain a text, the newest first.
    table: Vec<(String, u16, String)>,
}

impl LoadTester {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            inner: Arc::default(),
        }
    }

    /// From now on a bash command that contains `text` is answered so.
    pub fn answers(&self, text: &str, code: u16, output: &str) {
        let row = (text.to_owned(), code, output.to_owned());
        self.lock().table.insert(0, row);
    }

    /// What has been asked for since the last call.
    pub(super) fn take(&self) -> Vec<Load> {
        std::mem::take(&mut self.lock().coming)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a call; `None` when it is for another Service, or there is no load tester in that namespace.
    pub(super) fn answer(&self, call: &ProxyCall) -> Option<Response<Bytes>> {
        let there =
            call.service == NAME && self.store.get(&SERVICE, &call.namespace, NAME).is_some();
        if !there {
            return None;
        }
        let path = call.request.uri().path().trim_end_matches('/');
        if path == "/healthz" {
            return Some(text(StatusCode::OK, "OK"));
        }
        if call.request.method() != Method::POST {
            return Some(text(StatusCode::METHOD_NOT_ALLOWED, "use POST"));
        }
        let Ok(payload) = serde_json::from_slice::<Value>(call.request.body()) else {
            return Some(text(StatusCode::BAD_REQUEST, "the body is no JSON"));
        };
        let who = format!(
            "{}.{}",
            payload.str_at("/name").unwrap_or_default(),
            payload.str_at("/namespace").unwrap_or_default()
        );
        Some(match path {
            "" => self.run(&who, &payload, &call.namespace),
            "/gate/approve" => text(StatusCode::OK, "OK"),
            "/gate/halt" => text(StatusCode::FORBIDDEN, "Forbidden"),
            "/gate/open" | "/gate/close" => self.set(&who, path == "/gate/open"),
            "/gate/check" => self.check(&who),
            "/rollback/open" | "/rollback/close" => {
                self.set(&format!("rollback.{who}"), path == "/rollback/open")
            }
            "/rollback/check" => self.check(&format!("rollback.{who}")),
            _ => text(StatusCode::NOT_FOUND, "404 page not found"),
        })
    }

    fn set(&self, gate: &str, open: bool) -> Response<Bytes> {
        self.lock().gates.insert(gate.to_owned(), open);
        text(StatusCode::ACCEPTED, "")
    }

    /// Gates are closed at first.
    fn check(&self, gate: &str) -> Response<Bytes> {
        if self.lock().gates.get(gate) == Some(&true) {
            text(StatusCode::OK, "Approved")
        } else {
            text(StatusCode::FORBIDDEN, "Forbidden")
        }
    }

    fn run(&self, who: &str, payload: &Value, home: &str) -> Response<Bytes> {
        let metadata = &payload["metadata"];
        let Some(cmd) = metadata.str_at("/cmd").filter(|cmd| !cmd.trim().is_empty()) else {
            return text(StatusCode::BAD_REQUEST, "metadata.cmd is missing");
        };
        match metadata.str_at("/type").unwrap_or("cmd") {
            "" | "cmd" => self.hey(who, cmd, home),
            "bash" => self.bash(cmd, home),
            kind => text(
                StatusCode::BAD_REQUEST,
                &format!("the load tester of an embedded cluster runs cmd and bash, not {kind}"),
            ),
        }
    }

    /// Accepted at once, as Flagger's is: whether the command works is not told.
    fn hey(&self, who: &str, cmd: &str, home: &str) -> Response<Bytes> {
        let Some(hey) = Hey::parse(&words(cmd)) else {
            return text(
                StatusCode::BAD_REQUEST,
                "the load tester of an embedded cluster runs hey URL with -z, -n, -q, -c, -m, -d, -T, -H; nothing else",
            );
        };
        let now = self.store.clock().now();
        let until = now.plus(hey.milliseconds());
        let (service, namespace) = service_of(&hey.url, home);
        let there = self.store.get(&SERVICE, &namespace, &service).is_some();
        let mut inner = self.lock();
        inner.running.retain(|_, end| *end > now);
        let again = inner.running.insert(format!("{who} {cmd}"), until);
        if let Some(end) = again {
            // The same command runs once at a time.
            inner.running.insert(format!("{who} {cmd}"), end);
        } else if there {
            inner.coming.push(Load {
                source: Source {
                    namespace,
                    service,
                    per_second: hey.per_second(),
                },
                from: now,
                until,
                fails_with: hey.injected,
            });
        }
        text(StatusCode::ACCEPTED, "")
    }

    fn bash(&self, cmd: &str, home: &str) -> Response<Bytes> {
        let answer = |code: u16, output: &str| {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            text(code, output)
        };
        let known = self
            .lock()
            .table
            .iter()
            .find(|(t, _, _)| cmd.contains(t.as_str()))
            .cloned();
        if let Some((_, code, output)) = known {
            return answer(code, &output);
        }
        if let Some(url) = words(cmd)
            .into_iter()
            .find(|word| word.starts_with("http://"))
        {
            let (service, namespace) = service_of(&url, home);
            let ready = self
                .store
                .get(&SERVICE, &namespace, &service)
                .is_some_and(|service| {
                    backing(&self.store, &service)
                        .iter()
                        .any(|pod| is_ready(pod))
                });
            return if ready {
                answer(200, "")
            } else {
                answer(
                    500,
                    &format!("curl: (7) Failed to connect to {service}.{namespace}"),
                )
            };
        }
        match words(cmd)
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice()
        {
            ["true" | ":" | "echo", ..] | ["exit", "0"] => answer(200, ""),
            ["false"] | ["exit", _] => answer(500, "exit status 1"),
            [program, ..] => answer(500, &format!("bash: {program}: command not found")),
            [] => answer(500, ""),
        }
    }
}

/// Service and namespace of a URL, as a pod in namespace `home` resolves it.
fn service_of(url: &str, home: &str) -> (String, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    let mut parts = host.split('.');
    let service = parts.next().unwrap_or_default().to_owned();
    let namespace = parts.next().unwrap_or(home).to_owned();
    match parts.next() {
        None | Some("svc") => (service, namespace),
        // Further labels: a host outside of the cluster.
        Some(_) => (host.to_owned(), namespace),
    }
}

/// The words of a command, with quotes taken off.
fn words(cmd: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in cmd.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

/// A call of hey (github.com/rakyll/hey).
#[derive(Debug, PartialEq)]
struct Hey {
    url: String,
    seconds: Option<f64>,
    requests: f64,
    /// Of one worker.
    rate: f64,
    workers: f64,
    /// Header `X-Inject-Failure`: every request is answered so.
    injected: Option<u16>,
}

impl Hey {
    fn parse(words: &[String]) -> Option<Self> {
        let mut words = words.iter().map(String::as_str);
        if words.next() != Some("hey") {
            return None;
        }
        let mut hey = Self {
            url: String::new(),
            seconds: None,
            requests: REQUESTS,
            rate: UNLIMITED,
            workers: WORKERS,
            injected: None,
        };
        while let Some(word) = words.next() {
            match word {
                "-z" => {
                    let ms = crate::api::time::duration(words.next()?)?;
                    hey.seconds = Some(f64::from(u32::try_from(ms).ok()?) / 1000.0);
                }
                "-n" => hey.requests = positive(words.next()?)?,
                "-q" => hey.rate = positive(words.next()?)?,
                "-c" => hey.workers = positive(words.next()?)?,
                "-H" => {
                    let (name, value) = words.next()?.split_once(':')?;
                    if name.trim().eq_ignore_ascii_case("x-inject-failure") {
                        hey.injected = value.trim().parse().ok();
                    }
                }
                "-m" | "-d" | "-T" | "-host" | "-t" | "-a" | "-A" => {
                    words.next()?;
                }
                "-h2" | "-disable-keepalive" | "-disable-compression" => {}
                url if !url.starts_with('-') => url.clone_into(&mut hey.url),
                _ => return None,
            }
        }
        (!hey.url.is_empty()).then_some(hey)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and MOST"
    )]
    fn per_second(&self) -> u32 {
        (self.rate * self.workers).clamp(1.0, MOST) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    fn milliseconds(&self) -> i64 {
        let seconds = self
            .seconds
            .unwrap_or(self.requests / f64::from(self.per_second()));
        (seconds * 1000.0) as i64
    }
}

fn positive(text: &str) -> Option<f64> {
    text.parse()
        .ok()
        .filter(|n: &f64| *n > 0.0 && n.is_finite())
}

fn text(code: StatusCode, body: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_owned()));
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hey_as_guides_write_it() {
        for (cmd, url, per_second, milliseconds, injected) in [
            (
                "hey -z 1m -q 10 -c 2 http://podinfo-canary.test:9898/",
                "http://podinfo-canary.test:9898/",
                20,
                60_000,
                None,
            ),
            (
                "hey -z 2m -q 50 -c 10 -H 'Authorization: Bearer test' https://api.example.com/v1/payments",
                "https://api.example.com/v1/payments",
                500,
                120_000,
                None,
            ),
            (
                "hey -z 30s -q 5 -c 1 -H \"X-Inject-Failure: 500\" http://a/",
                "http://a/",
                5,
                30_000,
                Some(500),
            ),
            ("hey -n 100 -c 1 http://a/", "http://a/", 10, 10_000, None),
        ] {
            let hey = Hey::parse(&words(cmd)).unwrap();
            assert_eq!(
                (
                    hey.url.as_str(),
                    hey.per_second(),
                    hey.milliseconds(),
                    hey.injected
                ),
                (url, per_second, milliseconds, injected),
                "{cmd}"
            );
        }
        for cmd in [
            "",
            "ghz -z 1m http://a/",
            "hey",
            "hey -z soon http://a/",
            "hey -x http://a/",
        ] {
            assert_eq!(Hey::parse(&words(cmd)), None, "{cmd}");
        }
    }

    #[test]
    fn a_url_names_a_service() {
        for (url, service, namespace) in [
            (
                "http://podinfo-canary.test:9898/token",
                "podinfo-canary",
                "test",
            ),
            ("http://podinfo:9898/", "podinfo", "home"),
            ("http://a.b.svc.cluster.local", "a", "b"),
            ("https://api.example.com/v1", "api.example.com", "example"),
        ] {
            assert_eq!(
                service_of(url, "home"),
                (service.to_owned(), namespace.to_owned()),
                "{url}"
            );
        }
    }
}
