//! Every request of two whole rollouts, as a table: what an engine costs an API server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use canary_mcp::{
    cluster::{Cluster, ClusterSpec, Registry, embedded::fleet::Member, registry::Entry},
    decide::{facts::Moment, state::Phase},
    engine::{Engine, Settings},
    outbound::http::{self as outbound, Transport},
};

use crate::support::{Rig, spec};

/// What an engine has sent, each request with its moment.
type Log = Arc<Mutex<Vec<(Moment, String)>>>;
type Request = http::Request<kube::client::Body>;

fn listened_to(member: &Member, log: &Log, named: fn(&Request) -> String) -> Cluster {
    let (client, clock, log) = (member.server.client(), member.clock.clone(), log.clone());
    let service = tower::service_fn(move |request: Request| {
        let sent = (clock.now(), named(&request));
        log.lock().unwrap().push(sent);
        let client = client.clone();
        async move {
            let answer = client.send(request).await;
            // The paused clock goes on when nobody has anything to do: whoever reacts to a write has done so when its answer arrives.
            // Otherwise it would be by chance who scales the canary, KEDA or the engine.
            tokio::time::sleep(Duration::from_millis(1)).await;
            answer.map_err(tower::BoxError::from)
        }
    });
    Cluster::new(ClusterSpec {
        client: kube::Client::new(service, "default"),
        ..spec(member, true)
    })
}

/// A request as `verb resource` or `verb resource/subresource`.
fn named(request: &Request) -> String {
    let (method, uri) = (request.method(), request.uri());
    let mut words = uri.path().split('/').skip(1).peekable();
    // /api/v1 or /apis/GROUP/VERSION
    let skipped = if words.next() == Some("apis") { 2 } else { 1 };
    let mut words: Vec<&str> = words.skip(skipped).collect();
    if let ["namespaces", _, _, ..] = words.as_slice() {
        words.drain(..2);
    }
    let watches = uri.query().is_some_and(|q| q.contains("watch=true"));
    let verb = match (method.as_str(), words.len()) {
        ("GET", _) if watches => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        (other, _) => other,
    };
    match words.as_slice() {
        [plural, _, subresource, ..] => format!("{verb} {plural}/{subresource}"),
        [plural, ..] => format!("{verb} {plural}"),
        [] => format!("{verb} /"),
    }
}

/// An engine that is listened to.
pub(super) struct Listened {
    pub(super) rig: Rig,
    log: Log,
    _engine: Engine,
}

impl Listened {
    /// One that leads an initialized cluster.
    async fn start() -> Self {
        let listened = Self::on(Rig::without_engine(true), named);
        listened.rig.until_phase(Phase::Initialized).await;
        listened.rig.pass(120).await;
        listened
    }

    /// One that begins to lead.
    pub(super) fn on(rig: Rig, named: fn(&Request) -> String) -> Self {
        let log = Log::default();
        let settings = Settings {
            identity: "listened-to".to_owned(),
            ..Settings::default()
        };
        let direct = Transport::Direct(outbound::client(false).unwrap());
        let cluster = listened_to(rig.member(), &log, named);
        let registry = Registry::of(vec![Entry::known(cluster)]);
        let engine = Engine::start(&registry, settings, rig.metrics.clone(), direct);
        Self {
            rig,
            log,
            _engine: engine,
        }
    }

    /// What is sent while this many seconds pass, each with how often.
    pub(super) async fn sent_in(&self, seconds: u64) -> Counts {
        self.log.lock().unwrap().clear();
        self.rig.pass(seconds).await;
        let mut counts = Counts::new();
        for (_, request) in self.log.lock().unwrap().iter() {
            *counts.entry(request.clone()).or_default() += 1;
        }
        counts
    }

    /// Requests from a new image to one minute after the end of its run.
    async fn rollout(&self, tag: &str, end: Phase) -> Requests {
        self.log.lock().unwrap().clear();
        let from = self.rig.now();
        self.rig.set_image(tag);
        self.rig.until_phase(end).await;
        self.rig.pass(60).await;
        self.heard(from)
    }

    fn heard(&self, from: Moment) -> Requests {
        let mut heard = Requests::default();
        for (at, request) in self.log.lock().unwrap().iter() {
            let standing = request.ends_with(" leases")
                || STANDING.iter().any(|s| request == &format!("watch {s}"));
            let counts = if standing {
                &mut heard.standing
            } else {
                heard.rows.entry(at.since(from) / 1_000).or_default()
            };
            *counts.entry(request.clone()).or_default() += 1;
        }
        heard
    }
}

/// What an engine watches in a cluster that it leads, at rest too: the Canaries and their definition, and of what a Canary names the
/// metadata. Such a watch is asked for anew after 290 seconds.
const STANDING: [&str; 9] = [
    "canaries",
    "controllerrevisions",
    "customresourcedefinitions",
    "deployments",
    "destinationrules",
    "metrictemplates",
    "scaledobjects",
    "services",
    "virtualservices",
];

pub(super) type Counts = BTreeMap<String, u64>;

#[derive(Default)]
struct Requests {
    /// By whole seconds after the beginning.
    rows: BTreeMap<i64, Counts>,
    /// What goes on whether there is a run or not: the Lease and [`STANDING`].
    standing: Counts,
}

impl Requests {
    /// `renewed`: writes of the Lease. `watched`: how often each of [`STANDING`] and the Lease was watched anew.
    fn assert(&self, rows: &[(i64, &[&str])], renewed: u64, watched: u64) {
        let said = |counts: &Counts| -> Vec<String> {
            let each = counts.iter().map(|(request, n)| match n {
                1 => request.clone(),
                n => format!("{request} x{n}"),
            });
            each.collect()
        };
        let heard = self.rows.iter().map(|(at, counts)| (*at, said(counts)));
        let wanted = rows
            .iter()
            .map(|(at, all)| (*at, all.iter().map(|r| (*r).to_owned()).collect()));
        assert_eq!(heard.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        let all = STANDING.iter().map(|s| (format!("watch {s}"), watched));
        let lease = ("update leases".to_owned(), renewed);
        assert_eq!(self.standing, all.chain([lease]).collect());
    }
}

/// The mark of the target has changed, and everything that the Canary names is read: both Deployments, both autoscalers, three Services, the
/// route with its two rules, the metric template, and the pin of what is promoted. It is pinned, and KEDA is let scale it up, which the
/// versions of the Deployment and its autoscaler show. The pods of a run are watched while it runs.
const BEGIN: (i64, &[&str]) = (
    0,
    &[
        "create controllerrevisions",
        "create events",
        // In the namespaces of the Canary, of its MetricTemplate and of Prometheus.
        "create selfsubjectrulesreviews x3",
        "get controllerrevisions",
        "get deployments x3",
        "get destinationrules x2",
        "get metrictemplates",
        "get scaledobjects x3",
        "get services x3",
        "get virtualservices",
        "list pods",
        "list replicasets",
        "patch scaledobjects",
        "update canaries/status",
        "watch pods",
        "watch replicasets",
    ],
);
/// Its status says that it is ready, and it gets its first 5 %.
const FIRST: (i64, &[&str]) = (
    5,
    &[
        "create events x2",
        "get deployments",
        "patch virtualservices",
        "update canaries/status",
    ],
);
/// KEDA has written to the status of the target's autoscaler: only its version tells, so it is read.
const TOUCHED: &[&str] = &["get scaledobjects"];
/// Both checks and the canary's share; more of the traffic.
const STEP: &[&str] = &[
    "create events",
    "get services/proxy x3",
    "patch virtualservices",
    "update canaries/status",
];

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_good_rollout() {
    let heard = Listened::start().await;
    let heard = heard.rollout("1.1.0", Phase::Succeeded).await;
    heard.assert(
        &[
            BEGIN,
            FIRST,
            (30, TOUCHED),
            (65, STEP),
            (125, STEP),
            (185, STEP),
            (195, TOUCHED),
            (245, STEP),
            // After 290 seconds a watch is asked for anew.
            (290, &["watch pods", "watch replicasets"]),
            (305, STEP),
            (330, TOUCHED),
            // The last analysis; the primary gets the template.
            (
                365,
                &[
                    "create events",
                    "get deployments",
                    "get services/proxy x3",
                    "patch deployments",
                    "update canaries/status",
                ],
            ),
            // Its new pods come up.
            (370, &["get deployments"]),
            // The primary is ready: the traffic goes back, and when that is seen is written down.
            (
                375,
                &[
                    "create events",
                    "get deployments",
                    "patch virtualservices",
                    "update canaries/status x2",
                ],
            ),
            // It has settled: the canary goes.
            (
                385,
                &[
                    "create events",
                    "get deployments",
                    "get scaledobjects",
                    "patch scaledobjects",
                    "update canaries/status",
                ],
            ),
        ],
        89,
        2,
    );
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_bad_rollout() {
    let heard = Listened::start().await;
    let heard = heard.rollout("1.2.0-errors", Phase::Failed).await;
    // A failed check moves nothing.
    let failed: &[&str] = &[
        "create events",
        "get services/proxy x3",
        "update canaries/status",
    ];
    heard.assert(
        &[
            BEGIN,
            FIRST,
            (30, TOUCHED),
            (65, failed),
            (125, failed),
            // The third: the traffic goes back, and when that is seen is written down.
            (
                185,
                &[
                    "create events",
                    "get services/proxy x3",
                    "patch events",
                    "patch virtualservices",
                    "update canaries/status x2",
                ],
            ),
            // It has settled: the canary goes.
            (
                195,
                &[
                    "create events",
                    "get deployments",
                    "get scaledobjects x2",
                    "patch scaledobjects",
                    "update canaries/status",
                ],
            ),
        ],
        51,
        1,
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_canary_costs_no_request() {
    let heard = Listened::start().await;
    heard.log.lock().unwrap().clear();
    let from = heard.rig.now();
    heard.rig.pass(600).await;
    // The Lease each five seconds.
    heard.heard(from).assert(&[], 120, 2);
}
