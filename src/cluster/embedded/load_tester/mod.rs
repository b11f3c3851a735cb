//! The load tester of an embedded cluster: what answers at `http://flagger-loadtester.NAMESPACE/`, as Flagger's own does
//! (github.com/fluxcd/flagger, `pkg/loadtester`).
//!
//! There is no shell here. Of `cmd` only `hey` does something: it sends real requests of the cluster's traffic. Commands that are waited for
//! are answered by a table: a few words of bash, URLs of the cluster's Services, and what a test has put into it.

mod hey;
mod script;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::{
    controllers::{endpoints::backing, pods::is_ready},
    server::ProxyCall,
    store::Store,
    traffic::Load,
};
use crate::{
    api::objects::{ObjectExt, SERVICE},
    decide::facts::Moment,
};
use hey::{Hey, service_of, words};
pub use script::{Call, Script};

/// Name of its Service and Deployment, in whatever namespace they are.
pub(super) const NAME: &str = "flagger-loadtester";

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
    running: BTreeMap<String, Moment>,
    /// Loads that the traffic has not taken up yet.
    coming: Vec<Load>,
    /// Answers to commands that contain a text, the newest first.
    table: Vec<(String, u16, String)>,
    /// The newest first.
    scripts: Vec<Script>,
    calls: Vec<Call>,
}

impl LoadTester {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            inner: Arc::default(),
        }
    }

    /// From now on a command that is waited for (`bash`, `helm`, `helmv3`, `kubectl`, `concord`) and contains `text` is answered so.
    pub fn answers(&self, text: &str, code: u16, output: &str) {
        let row = (text.to_owned(), code, output.to_owned());
        self.lock().table.insert(0, row);
    }

    /// From now on calls are answered as this says; a later script goes before an earlier one.
    pub fn script(&self, script: Script) {
        self.lock().scripts.insert(0, script);
    }

    /// Nothing is scripted any more.
    pub fn clear_scripts(&self) {
        self.lock().scripts.clear();
    }

    /// The calls so far, in the order in which they came in.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Whether the gate of a Canary (`NAME.NAMESPACE`, for that of rollbacks with `rollback.` before it) is open.
    #[must_use]
    pub fn is_open(&self, gate: &str) -> bool {
        self.lock().gates.get(gate) == Some(&true)
    }

    /// What has been asked for since the last call.
    pub(super) fn take(&self) -> Vec<Load> {
        std::mem::take(&mut self.lock().coming)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a call, and how many virtual milliseconds later it comes; `None` when it is for another Service, or there is no load
    /// tester in that namespace. `answered` is to be called with the number once it has come.
    pub(super) fn answer(&self, call: &ProxyCall) -> Option<Pending> {
        let there =
            call.service == NAME && self.store.get(&SERVICE, &call.namespace, NAME).is_some();
        if !there {
            return None;
        }
        let path = call.request.uri().path();
        let scripted = {
            let mut inner = self.lock();
            let at = self.store.clock().now();
            inner.calls.push(Call::of(&call.request, at));
            let script = inner.scripts.iter_mut().find(|s| s.takes(path));
            script.map(|script| {
                script.times = script.times.map(|left| left - 1);
                script.clone()
            })
        };
        let number = self.lock().calls.len() - 1;
        let after_ms = scripted.as_ref().map_or(0, |s| s.after_ms);
        let response = match scripted.and_then(|s| s.answer) {
            Some((code, body)) => text(Script::status(code), &body),
            None => self.handle(path.trim_end_matches('/'), call),
        };
        Some(Pending {
            number,
            after_ms,
            response,
        })
    }

    /// Notes what a call was answered.
    pub(super) fn answered(&self, number: usize, code: StatusCode) {
        if let Some(call) = self.lock().calls.get_mut(number) {
            call.code = Some(code.as_u16());
        }
    }

    /// Whatever the method is, as Flagger's does; a path that is not known is the root's.
    fn handle(&self, path: &str, call: &ProxyCall) -> Response<Bytes> {
        match path {
            "/healthz" | "/gate/approve" => return text(StatusCode::OK, "OK"),
            "/metrics" => return text(StatusCode::OK, ""),
            "/gate/halt" => return text(StatusCode::FORBIDDEN, "Forbidden"),
            _ => {}
        }
        let Ok(payload) = serde_json::from_slice::<Value>(call.request.body()) else {
            return text(StatusCode::BAD_REQUEST, "");
        };
        let who = format!(
            "{}.{}",
            payload.str_at("/name").unwrap_or_default(),
            payload.str_at("/namespace").unwrap_or_default()
        );
        let rollback = || format!("rollback.{who}");
        match path {
            "/gate/open" | "/gate/close" => self.set(&who, path == "/gate/open"),
            "/gate/check" => self.check(&who),
            "/rollback/open" | "/rollback/close" => self.set(&rollback(), path == "/rollback/open"),
            "/rollback/check" => self.check(&rollback()),
            _ => self.run(&who, &payload, &call.namespace),
        }
    }

    fn set(&self, gate: &str, open: bool) -> Response<Bytes> {
        self.lock().gates.insert(gate.to_owned(), open);
        text(StatusCode::ACCEPTED, "")
    }

    /// Gates are closed at first.
    fn check(&self, gate: &str) -> Response<Bytes> {
        if self.is_open(gate) {
            text(StatusCode::OK, "Approved")
        } else {
            text(StatusCode::FORBIDDEN, "Forbidden")
        }
    }

    fn run(&self, who: &str, payload: &Value, home: &str) -> Response<Bytes> {
        let metadata = &payload["metadata"];
        if metadata.as_object().is_none_or(serde_json::Map::is_empty) {
            return text(StatusCode::BAD_REQUEST, "metadata not found in payload");
        }
        let cmd = metadata.str_at("/cmd").unwrap_or_default();
        match metadata.str_at("/type").unwrap_or("cmd") {
            "cmd" if cmd.is_empty() => text(StatusCode::BAD_REQUEST, "cmd not found in metadata"),
            "cmd" => self.hey(who, cmd, home),
            // Asynchronous too; nothing of it shows.
            "ngrinder" => text(StatusCode::ACCEPTED, ""),
            "bash" => {
                let (code, output) = self.bash(cmd, home);
                let shown = code != 200 || metadata.str_at("/returnCmdOutput") == Some("true");
                text(Script::status(code), if shown { &output } else { "" })
            }
            program @ ("helm" | "helmv3" | "kubectl" | "concord") => {
                let missing = || {
                    (
                        500,
                        format!("exec: \"{program}\": executable file not found in $PATH"),
                    )
                };
                let (code, output) = self.known(cmd).unwrap_or_else(missing);
                let shown = if code == 200 { "" } else { &output };
                text(Script::status(code), shown)
            }
            kind => text(
                StatusCode::BAD_REQUEST,
                &format!("unknown task type {kind}"),
            ),
        }
    }

    /// What a test has put into the table for this command.
    fn known(&self, cmd: &str) -> Option<(u16, String)> {
        let inner = self.lock();
        let row = inner
            .table
            .iter()
            .find(|(t, _, _)| cmd.contains(t.as_str()));
        row.map(|(_, code, output)| (*code, output.clone()))
    }

    /// Accepted at once, as Flagger's is: whether the command works, or is hey at all, is not told.
    fn hey(&self, who: &str, cmd: &str, home: &str) -> Response<Bytes> {
        let Some(hey) = Hey::parse(&words(cmd)) else {
            return text(StatusCode::ACCEPTED, "");
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
                source: hey.source(&namespace, &service),
                from: now,
                until,
                fails_with: hey.injected,
            });
        }
        text(StatusCode::ACCEPTED, "")
    }

    fn bash(&self, cmd: &str, home: &str) -> (u16, String) {
        let answer = |code: u16, output: &str| (code, output.to_owned());
        if let Some(known) = self.known(cmd) {
            return known;
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

/// An answer that may be on its way.
pub(super) struct Pending {
    /// Which call it is the answer to.
    pub(super) number: usize,
    pub(super) after_ms: i64,
    pub(super) response: Response<Bytes>,
}

fn text(code: StatusCode, body: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_owned()));
    *response.status_mut() = code;
    response
}
