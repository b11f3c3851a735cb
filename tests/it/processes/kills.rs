//! `serve` is killed at every point of a rollout and started again: the same sequence of weights, the same end, and no request lost.
//!
//! A Lease changes hands 15 real seconds after its holder was killed, so several rollouts go on side by side, each in a cluster and with
//! a `serve` of its own.

use std::path::PathBuf;

use canary_mcp::api::objects::{
    CANARY, DEPLOYMENT, LEASE, ObjectExt, SCALED_OBJECT, VIRTUAL_SERVICE,
};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{
    child::{Clusters, Dir, PATIENCE, Serve},
    kubernetes::{Kubectl, NAME, Watch, raw},
};
use crate::support::image;

/// Virtual seconds for each real one: an interval takes two real seconds.
const SPEED: &str = "30";

/// Where `serve` is killed: as soon as this is recorded.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// The run is pinned, nothing has moved yet.
    Pinned,
    /// The canary has got this weight.
    Weight(i64),
    /// The primary is about to get the template.
    Copying,
    /// The primary has got the template and is not ready yet.
    Copied,
    /// The traffic is back on the promoted primary, the canary still there.
    Settling,
    /// The traffic is back on the old primary, the canary still there.
    Reverting,
}

/// One rollout.
struct Lane {
    cluster: &'static str,
    tag: &'static str,
    kills: &'static [Point],
}

const LANES: [[Lane; 3]; 2] = [
    [
        Lane {
            cluster: "prod-kr",
            tag: "1.1.0",
            kills: &[Point::Pinned, Point::Weight(20)],
        },
        Lane {
            cluster: "prod-jp",
            tag: "1.1.0",
            kills: &[Point::Weight(5), Point::Weight(25)],
        },
        Lane {
            cluster: "staging",
            tag: "1.1.0",
            kills: &[Point::Weight(10), Point::Weight(30)],
        },
    ],
    [
        Lane {
            cluster: "prod-kr",
            tag: "1.1.0",
            kills: &[Point::Weight(15), Point::Copying],
        },
        Lane {
            cluster: "prod-jp",
            tag: "1.1.0",
            kills: &[Point::Copied, Point::Settling],
        },
        Lane {
            cluster: "staging",
            tag: "1.2.0-errors",
            kills: &[Point::Weight(5), Point::Reverting],
        },
    ],
];

pub(super) const PROMOTED: &[(&str, i64)] = &[
    ("Initialized", 0),
    ("Progressing", 0),
    ("Progressing", 5),
    ("Progressing", 10),
    ("Progressing", 15),
    ("Progressing", 20),
    ("Progressing", 25),
    ("Progressing", 30),
    ("Promoting", 30),
    ("Finalising", 0),
    ("Succeeded", 0),
];

const ROLLED_BACK: &[(&str, i64)] = &[
    ("Initialized", 0),
    ("Progressing", 0),
    ("Progressing", 5),
    ("Progressing", 0),
    ("Failed", 0),
];

#[tokio::test]
async fn a_killed_serve_leaves_no_trace_in_the_rollout() {
    let fleets = [Clusters::start(SPEED).await, Clusters::start(SPEED).await];
    let dir = Dir::new();
    let mut lanes = Vec::new();
    for (n, (clusters, of)) in fleets.iter().zip(&LANES).enumerate() {
        for lane in of {
            let kubeconfig = only(
                clusters,
                lane.cluster,
                dir.path(&format!("{n}-{}", lane.cluster)),
            );
            lanes.push(run(lane, kubeconfig));
        }
    }
    join_all(lanes).await;
}

/// A kubeconfig with one context of the fleet.
pub(super) fn only(clusters: &Clusters, cluster: &str, path: PathBuf) -> PathBuf {
    let text = std::fs::read_to_string(&clusters.kubeconfig).unwrap();
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    for list in ["clusters", "contexts"] {
        let entries = config[list].as_array_mut().unwrap();
        entries.retain(|entry| entry["name"] == cluster);
        assert_eq!(entries.len(), 1);
    }
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

async fn run(lane: &Lane, kubeconfig: PathBuf) {
    let kubectl = Kubectl::new(&kubeconfig, lane.cluster).await;
    // While nobody leads, 450 seconds of the cluster's clock go by: no deadline of this rollout may be as short.
    let patient = json!({"spec": {"progressDeadlineSeconds": 3600}});
    kubectl.merge(&CANARY, NAME, patient).await;
    let mut serve = Serve::joining(&kubeconfig).await;
    let mut canary = kubectl.watch_canary().await;
    canary.until_phase("Initialized").await;
    let first_term = term(&kubectl).await;

    kubectl.set_image(&image(lane.tag)).await;
    let mut seen = Vec::new();
    for point in lane.kills {
        reach(*point, lane, &kubectl, &mut canary, &mut seen).await;
        serve.process.kill();
        serve = Serve::joining(&kubeconfig).await;
    }
    let is_over = |c: &Value| matches!(phase(c), "Succeeded" | "Failed");
    follow(&mut canary, &mut seen, is_over).await;

    let healthy = lane.tag == "1.1.0";
    let (sequence, live) = if healthy {
        (PROMOTED, "1.1.0")
    } else {
        (ROLLED_BACK, "1.0.0")
    };
    let seen: Vec<(&str, i64)> = seen.iter().map(|(p, w)| (p.as_str(), *w)).collect();
    assert_eq!(seen, sequence, "{:?}", lane.kills);
    // On a machine that is too busy for the clusters' clock an analysis of a healthy version may find no data yet and hold the weight;
    // three of them would have ended the run. A bad version is judged three times, whoever judges.
    let failed = canary.object.int_at("/status/failedChecks").unwrap();
    assert!(if healthy { failed < 3 } else { failed == 3 }, "{failed}");
    let terms = i64::try_from(lane.kills.len()).unwrap();
    assert_eq!(
        term(&kubectl).await,
        first_term + terms,
        "each serve has led"
    );
    assert_idle(&kubectl, live).await;
    assert_nobody_noticed(&kubectl).await;
}

/// How often the Lease has changed hands.
async fn term(kubectl: &Kubectl) -> i64 {
    let leases = kubectl.api(&LEASE, "canary-mcp-system");
    let lease = raw(&leases.get("canary-mcp").await.unwrap());
    lease.int_at("/spec/leaseTransitions").unwrap()
}

fn phase(canary: &Value) -> &str {
    canary.str_at("/status/phase").unwrap_or_default()
}

fn stage(canary: &Value) -> &str {
    canary.str_at("/status/run/stage").unwrap_or_default()
}

pub(super) fn weight(canary: &Value) -> i64 {
    canary.int_at("/status/canaryWeight").unwrap_or(0)
}

/// Waits until the rollout is at the point.
async fn reach(
    point: Point,
    lane: &Lane,
    kubectl: &Kubectl,
    canary: &mut Watch,
    seen: &mut Vec<(String, i64)>,
) {
    match point {
        Point::Pinned => follow(canary, seen, |c| stage(c) == "starting").await,
        Point::Weight(wanted) => {
            let at = |c: &Value| stage(c) == "analysing" && weight(c) == wanted;
            follow(canary, seen, at).await;
        }
        Point::Copying => follow(canary, seen, |c| stage(c) == "copying").await,
        Point::Copied => {
            follow(canary, seen, |c| stage(c) == "copying").await;
            let mut primary = kubectl.watch(&DEPLOYMENT, "mcp-server-primary").await;
            primary.until(|p| image_of(p) == image(lane.tag)).await;
        }
        Point::Settling => follow(canary, seen, |c| stage(c) == "settling").await,
        Point::Reverting => follow(canary, seen, |c| stage(c) == "reverting").await,
    }
}

/// Follows the Canary until it is as wanted, and keeps each change of phase and weight.
pub(super) async fn follow(
    canary: &mut Watch,
    seen: &mut Vec<(String, i64)>,
    wanted: impl Fn(&Value) -> bool,
) {
    let found = async {
        loop {
            let at = (phase(&canary.object).to_owned(), weight(&canary.object));
            if seen.last() != Some(&at) {
                seen.push(at);
            }
            if wanted(&canary.object) {
                return;
            }
            canary.next().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    assert!(
        found.is_ok(),
        "seen {seen:?}, then nothing more: {:#}",
        canary.object
    );
}

fn image_of(deployment: &Value) -> &str {
    deployment
        .str_at("/spec/template/spec/containers/0/image")
        .unwrap()
}

/// All traffic on the primary, the target at zero, its autoscaler paused.
pub(super) async fn assert_idle(kubectl: &Kubectl, live: &str) {
    let primary = kubectl.get(&DEPLOYMENT, "mcp-server-primary").await;
    assert_eq!(image_of(&primary), image(live));
    let target = kubectl.get(&DEPLOYMENT, NAME).await;
    assert_eq!(target.int_at("/spec/replicas"), Some(0));
    let scaler = kubectl.get(&SCALED_OBJECT, NAME).await;
    let paused = scaler.annotation("autoscaling.keda.sh/paused-replicas");
    assert_eq!(paused, Some("0"));
    let route = kubectl.get(&VIRTUAL_SERVICE, NAME).await;
    let weights: Vec<_> = route
        .array_at("/spec/http/0/route")
        .iter()
        .map(|r| {
            (
                r.str_at("/destination/host").unwrap(),
                r.int_at("/weight").unwrap(),
            )
        })
        .collect();
    assert_eq!(
        weights,
        [("mcp-server-primary", 100), ("mcp-server-canary", 0)]
    );
}

/// Thousands of requests, and not one that met nobody.
pub(super) async fn assert_nobody_noticed(kubectl: &Kubectl) {
    let answered = "sum(max_over_time(istio_requests_total{reporter=\"destination\"}[2h]))";
    let answered = kubectl.query(answered).await;
    assert!(answered > 5000.0, "{answered} requests");
    let lost = "sum(max_over_time(istio_requests_total{response_flags=\"UH\"}[2h]))";
    assert!(kubectl.query(lost).await.abs() < 0.5);
}
