//! Scenarios and how they run: each request to the embedded server and to the genuine one, each pair of answers compared.

use std::{collections::BTreeMap, time::Duration};

use canary_mcp::{
    api::objects::{Kind, NAMESPACE},
    cluster::{
        clock::Clock,
        embedded::{server::ApiServer, store::Store},
    },
};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    compare::{Answer, Content, Names, OLDER, difference},
    definitions,
};
use crate::control_plane::{ControlPlane, Feature};

/// How long a condition may take to come true, and an event to arrive, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A name and requests in order.
pub(crate) struct Scenario {
    name: &'static str,
    needs: Vec<Feature>,
    steps: Vec<Step>,
}

impl Scenario {
    /// The requests see their own namespace as `{ns}`.
    pub(crate) fn new(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            name,
            needs: Vec::new(),
            steps: steps.into_iter().collect(),
        }
    }

    /// What an old API server may lack.
    pub(crate) fn needs(mut self, feature: Feature) -> Self {
        self.needs.push(feature);
        self
    }
}

/// One request, and what becomes of its answer.
#[derive(Clone)]
pub(crate) struct Step {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
    saves: Vec<(&'static str, &'static str)>,
    reads: Reads,
    until: Option<u16>,
    until_there: Option<&'static str>,
    needs: Option<Feature>,
    apart: Vec<&'static str>,
    only: Option<(&'static str, &'static str, Vec<&'static str>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Reads {
    /// The body as one document.
    Whole,
    /// So many lines of a watch; it is closed after them.
    Events(usize),
    /// A watch to its end.
    ToEnd,
    /// Nothing yet: the watch stays open under this name.
    Open(&'static str),
    /// So many lines of the watch that was opened under this name. No request of its own.
    More(&'static str, usize),
}

fn step(method: &'static str, path: &str) -> Step {
    Step {
        method,
        path: path.to_owned(),
        headers: vec![
            ("accept", "application/json".to_owned()),
            ("user-agent", "protocol/1.0".to_owned()),
        ],
        body: None,
        saves: Vec::new(),
        reads: Reads::Whole,
        until: None,
        until_there: None,
        needs: None,
        apart: Vec::new(),
        only: None,
    }
}

/// GET.
pub(crate) fn get(path: &str) -> Step {
    step("GET", path)
}

/// DELETE.
pub(crate) fn delete(path: &str) -> Step {
    step("DELETE", path)
}

/// POST of JSON.
pub(crate) fn post(path: &str, body: &Value) -> Step {
    step("POST", path).json(body)
}

/// PUT of JSON.
pub(crate) fn put(path: &str, body: &Value) -> Step {
    step("PUT", path).json(body)
}

/// PATCH: `json`, `merge`, `strategic` or `apply`.
pub(crate) fn patch(format: &str, path: &str, body: &Value) -> Step {
    let media = match format {
        "json" => "application/json-patch+json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "apply" => "application/apply-patch+yaml",
        other => panic!("{other} is no patch format"),
    };
    step("PATCH", path).json(body).header("content-type", media)
}

/// Any method.
pub(crate) fn call(method: &'static str, path: &str) -> Step {
    step(method, path)
}

/// The next events of the watch that was opened as `name`.
pub(crate) fn more(name: &'static str, events: usize) -> Step {
    let mut step = step("", name);
    step.reads = Reads::More(name, events);
    step
}

impl Step {
    /// The body, with its usual `Content-Type`.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.text("application/json", &body.to_string())
    }

    /// A body of any kind.
    pub(crate) fn text(mut self, media: &str, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self.header("content-type", media)
    }

    /// A header in the place of what it is by default.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Later requests see what is at the pointer as `{name}`, in their path and body.
    pub(crate) fn save(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.saves.push((name, pointer));
        self
    }

    /// A watch, of which so many events are read.
    pub(crate) fn events(mut self, count: usize) -> Self {
        self.reads = Reads::Events(count);
        self
    }

    /// A watch, read to its end.
    pub(crate) fn until_it_ends(mut self) -> Self {
        self.reads = Reads::ToEnd;
        self
    }

    /// A watch that stays open; see [`more`].
    pub(crate) fn open(mut self, name: &'static str) -> Self {
        self.reads = Reads::Open(name);
        self
    }

    /// Asked again until the answer has this code: for what controllers do in their own time.
    pub(crate) fn until(mut self, code: u16) -> Self {
        self.until = Some(code);
        self
    }

    /// Asked again until there is something at the pointer.
    pub(crate) fn until_there(mut self, pointer: &'static str) -> Self {
        self.until = Some(200);
        self.until_there = Some(pointer);
        self
    }

    /// Of a list in the answer only those items whose field (or the name in it) is one of these.
    pub(crate) fn only(
        mut self,
        list: &'static str,
        field: &'static str,
        names: &[&'static str],
    ) -> Self {
        self.only = Some((list, field, names.to_vec()));
        self
    }

    /// Where this lacks the request is made, and its answer not compared.
    pub(crate) fn needs(mut self, feature: Feature) -> Self {
        self.needs = Some(feature);
        self
    }

    /// What of the answer is not imitated, by its name in the list of that.
    pub(crate) fn apart(mut self, name: &'static str) -> Self {
        self.apart.push(name);
        self
    }
}

/// Runs the scenario on both servers; where their answers differ it panics with each difference.
pub(crate) async fn check(scenario: Scenario) {
    let Some(control_plane) = ControlPlane::shared().await else {
        return;
    };
    let lacks = |feature: &Feature| control_plane.lacks(*feature).is_some();
    if scenario.needs.iter().any(lacks) {
        eprintln!("skipped: {}", scenario.name);
        return;
    }
    let mut older: Vec<&str> = Vec::new();
    for (_, paths) in OLDER.iter().filter(|(feature, _)| lacks(feature)) {
        eprintln!("not compared in {}: {}", scenario.name, paths.join(", "));
        older.extend(*paths);
    }
    install_once(&control_plane).await;
    let namespace = control_plane.namespace("protocol").await;
    let store = Store::new(Clock::real());
    for (kind, object) in own_world(namespace.name()) {
        store.create(&kind, object, "protocol").unwrap();
    }
    let embedded = ApiServer::new("protocol", store).client();
    let mut ours = Side::new("embedded", embedded, namespace.name());
    let mut theirs = Side::new("genuine", control_plane.plain_client(), namespace.name());
    let mut differences = Vec::new();
    for (at, step) in scenario.steps.iter().enumerate() {
        let (our, their) = (ours.run(step).await, theirs.run(step).await);
        if step.needs.as_ref().is_some_and(lacks) {
            let (number, method, path) = (at + 1, step.method, &step.path);
            eprintln!(
                "not compared in {}: {number}. {method} {path}",
                scenario.name
            );
            continue;
        }
        for difference in difference(&step.apart, &older, &our, &their) {
            differences.push(format!(
                "  {}. {} {}\n     {difference}",
                at + 1,
                step.method,
                step.path
            ));
        }
    }
    drop(theirs);
    namespace.finish().await;
    assert!(
        differences.is_empty(),
        "{}: the embedded server / the genuine one:\n{}",
        scenario.name,
        differences.join("\n")
    );
}

/// What the embedded server has to begin with: the scenario's namespace, and the definitions.
fn own_world(namespace: &str) -> Vec<(Kind, Value)> {
    let definitions = definitions::all().map(|definition| (DEFINITION, definition));
    let namespace = json!({"metadata": {"name": namespace}});
    [(NAMESPACE, namespace)]
        .into_iter()
        .chain(definitions)
        .collect()
}

const DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};

async fn install_once(control_plane: &ControlPlane) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let install = || async { control_plane.install(&definitions::all()).await };
    INSTALLED.get_or_init(install).await;
}

/// One of the two servers, as the scenario goes along.
struct Side {
    title: &'static str,
    client: Client,
    saved: BTreeMap<&'static str, String>,
    names: Names,
    watches: BTreeMap<&'static str, Lines>,
}

impl Side {
    fn new(title: &'static str, client: Client, namespace: &str) -> Self {
        Self {
            title,
            client,
            saved: BTreeMap::from([("ns", namespace.to_owned())]),
            names: Names::default(),
            watches: BTreeMap::new(),
        }
    }

    async fn run(&mut self, step: &Step) -> Answer {
        let (code, headers, mut raw) = match step.until {
            None => self.ask(step).await,
            Some(code) => {
                let wait = async {
                    loop {
                        let answer = self.ask(step).await;
                        let is_there = |pointer| answer.2.document().pointer(pointer).is_some();
                        if answer.0 == code && step.until_there.is_none_or(is_there) {
                            return answer;
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                let met = tokio::time::timeout(PATIENCE, wait).await;
                met.unwrap_or_else(|_| {
                    panic!(
                        "{}: {} {} never answered {code}",
                        self.title, step.method, step.path
                    )
                })
            }
        };
        for (name, pointer) in &step.saves {
            let document = match &raw {
                Content::Json(document) => document,
                Content::Events(lines) => lines.last().unwrap(),
                Content::Text(text) => panic!("{}: {text}", self.title),
            };
            let found = document.pointer(pointer);
            let found = found
                .unwrap_or_else(|| panic!("{}: nothing at {pointer} of {document}", self.title));
            let text = found
                .as_str()
                .map_or_else(|| found.to_string(), str::to_owned);
            self.saved.insert(name, text);
        }
        if let (Content::Json(document), Some((list, field, names))) = (&mut raw, &step.only) {
            let named = |item: &Value| {
                let name = item[field]["name"].as_str().or(item[field].as_str());
                name.is_some_and(|name| names.contains(&name))
            };
            document[list].as_array_mut().unwrap().retain(named);
        }
        self.names.answer(code, headers, &raw)
    }

    async fn ask(&mut self, step: &Step) -> (u16, BTreeMap<String, String>, Content) {
        if let Reads::More(name, count) = step.reads {
            let mut lines = self.watches.remove(name).unwrap();
            let events = self.events(&mut lines, step, Some(count)).await;
            self.watches.insert(name, lines);
            return (200, BTreeMap::new(), Content::Events(events));
        }
        let fill = |text: &str| {
            self.saved
                .iter()
                .fold(text.to_owned(), |text, (name, value)| {
                    text.replace(&format!("{{{name}}}"), value)
                })
        };
        let mut request = http::Request::builder()
            .method(step.method)
            .uri(fill(&step.path));
        for (name, value) in &step.headers {
            request = request.header(*name, value);
        }
        let body = fill(step.body.as_deref().unwrap_or_default()).into_bytes();
        let request = request.body(kube::client::Body::from(body)).unwrap();
        let response = self.client.send(request).await.unwrap_or_else(|error| {
            panic!("{}: {} {}: {error}", self.title, step.method, step.path)
        });
        let code = response.status().as_u16();
        let headers = response
            .headers()
            .keys()
            .map(|name| {
                let values = response.headers().get_all(name).iter();
                let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
                (name.to_string(), values.join(", "))
            })
            .collect();
        if step.reads == Reads::Whole || code != 200 {
            let whole = response.into_body().collect_bytes();
            let content = match tokio::time::timeout(PATIENCE, whole).await {
                Ok(bytes) => Content::of(&bytes.unwrap()),
                Err(_) => Content::Text("an answer without an end".to_owned()),
            };
            return (code, headers, content);
        }
        let mut lines = Lines {
            body: response.into_body(),
            read: Vec::new(),
        };
        let events = match step.reads {
            Reads::Events(count) => self.events(&mut lines, step, Some(count)).await,
            Reads::ToEnd => self.events(&mut lines, step, None).await,
            Reads::Open(name) => {
                self.watches.insert(name, lines);
                Vec::new()
            }
            Reads::Whole | Reads::More(..) => unreachable!("handled above"),
        };
        (code, headers, Content::Events(events))
    }

    async fn events(&self, lines: &mut Lines, step: &Step, count: Option<usize>) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        while count.is_none_or(|count| events.len() < count) {
            let next = tokio::time::timeout(PATIENCE, lines.next()).await;
            let next = next
                .unwrap_or_else(|_| panic!("{}: {} told only {events:?}", self.title, step.path));
            match next {
                Some(event) => events.push(event),
                None => break,
            }
        }
        events
    }
}

/// A body that goes on, line by line.
struct Lines {
    body: Body,
    read: Vec<u8>,
}

impl Lines {
    /// The next line; none at the end of the body.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.read.extend(frame.into_data().unwrap_or_default());
        }
    }
}
