//! A process's way to its clusters, that can be cut, held up and counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderValue, Method, Request, StatusCode};
use kube::client::Body;
use tokio::sync::{Notify, oneshot};

/// Once cut nothing sets out any more; what is on its way arrives.
#[derive(Clone)]
pub(crate) struct Line {
    agent: HeaderValue,
    cut: Arc<AtomicBool>,
    holds: Arc<Mutex<Vec<Hold>>>,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
}

type Matcher = Box<dyn Fn(&Method, &str) -> bool + Send>;

struct Hold {
    matches: Matcher,
    reached: Arc<Notify>,
    release: oneshot::Receiver<()>,
    answered: oneshot::Sender<StatusCode>,
}

/// A request that has set out and has not arrived.
pub(crate) struct Held {
    reached: Arc<Notify>,
    release: oneshot::Sender<()>,
    answered: oneshot::Receiver<StatusCode>,
}

impl Held {
    /// Waits until there is one.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets it arrive; what the API server answers.
    pub(crate) async fn release(self) -> StatusCode {
        self.release.send(()).unwrap();
        self.answered.await.unwrap()
    }
}

impl Line {
    /// A line whose requests come as `User-Agent: canary-mcp/IDENTITY`.
    pub(crate) fn new(identity: &str) -> Self {
        Self {
            agent: format!("canary-mcp/{identity}").parse().unwrap(),
            cut: Arc::default(),
            holds: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// Ends the line, as the death of its process does.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Holds up the next request whose method and path with query match. It is sent when it is released, also when its sender has died.
    pub(crate) fn hold_next(
        &self,
        matches: impl Fn(&Method, &str) -> bool + Send + 'static,
    ) -> Held {
        let reached = Arc::new(Notify::new());
        let (release, released) = oneshot::channel();
        let (answered, answer) = oneshot::channel();
        let hold = Hold {
            matches: Box::new(matches),
            reached: Arc::clone(&reached),
            release: released,
            answered,
        };
        self.holds.lock().unwrap().push(hold);
        Held {
            reached,
            release,
            answered: answer,
        }
    }

    /// Requests since the counts were reset, as `PUT leases`; a watch is a `WATCH`.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// Of these, what writes; those of Leases aside.
    pub(crate) fn writes(&self) -> u64 {
        let writes = |request: &str| {
            ["POST ", "PUT ", "PATCH ", "DELETE "]
                .iter()
                .any(|verb| request.starts_with(verb))
                && !request.ends_with(" leases")
        };
        let counts = self.counts();
        counts
            .iter()
            .filter(|(request, _)| writes(request))
            .map(|(_, n)| n)
            .sum()
    }

    pub(crate) fn reset_counts(&self) {
        self.counts.lock().unwrap().clear();
    }

    /// A client over this line.
    pub(crate) fn client(&self, inner: kube::Client) -> kube::Client {
        let line = self.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            let (inner, line) = (inner.clone(), line.clone());
            request
                .headers_mut()
                .insert(http::header::USER_AGENT, line.agent.clone());
            async move {
                if line.cut.load(Ordering::SeqCst) {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
                }
                line.count(&request);
                let hold = line.hold_of(&request);
                // A request goes on when its caller has given up or died.
                let sent = tokio::spawn(send(inner, request, hold));
                sent.await?.map_err(tower::BoxError::from)
            }
        });
        kube::Client::new(service, "default")
    }

    fn hold_of(&self, request: &Request<Body>) -> Option<Hold> {
        let target = request.uri().to_string();
        let mut holds = self.holds.lock().unwrap();
        let at = holds
            .iter()
            .position(|h| (h.matches)(request.method(), &target))?;
        Some(holds.remove(at))
    }

    fn count(&self, request: &Request<Body>) {
        let uri = request.uri();
        let watches = uri.query().is_some_and(|q| q.contains("watch=true"));
        let verb = if watches {
            "WATCH"
        } else {
            request.method().as_str()
        };
        let resource = resource(uri.path());
        let mut counts = self.counts.lock().unwrap();
        *counts.entry(format!("{verb} {resource}")).or_default() += 1;
    }
}

async fn send(
    inner: kube::Client,
    request: Request<Body>,
    hold: Option<Hold>,
) -> kube::Result<http::Response<Body>> {
    let Some(hold) = hold else {
        return inner.send(request).await;
    };
    hold.reached.notify_one();
    // Without anybody who could release it, it goes on.
    let _ = hold.release.await;
    let answer = inner.send(request).await;
    if let Ok(answer) = &answer {
        // Nobody may want to know.
        let _ = hold.answered.send(answer.status());
    }
    answer
}

/// The resource (with its subresource) of `/api/v1/[namespaces/NS/]RESOURCE[/NAME[/SUB]]` and of `/apis/GROUP/VERSION/...`; anything else as
/// it is.
fn resource(path: &str) -> String {
    let all: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (["api", _, after @ ..] | ["apis", _, _, after @ ..]) = all.as_slice() else {
        return path.to_owned();
    };
    match after {
        ["namespaces", _, resource, _, sub] => format!("{resource}/{sub}"),
        ["namespaces", _, resource, ..] | [resource, ..] => (*resource).to_owned(),
        [] => path.to_owned(),
    }
}
