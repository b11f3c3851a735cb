//! The engine dies before and after each of its writes; another goes on, and the end is the same, the sequence of weights too.
//!
//! The literals are those of the undisturbed story: no point leaves anything else behind. What a crash may repeat is an analysis, whose
//! weight stays where it was or is where it goes: no weight comes twice.

use std::sync::{Arc, Mutex};

use canary_mcp::{
    api::objects::ObjectExt,
    cluster::embedded::faults::{Fate, RequestInfo},
};
use serde_json::Value;
use tokio::sync::Notify;

use super::{LONG, assert_at_rest, cluster, end, stories};
use crate::support::{Rig, line::Line};

/// Where the first engine dies.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// Which of its writes, from 1.
    write: usize,
    /// Before it, or after it and before its answer.
    before: bool,
}

/// Counts the first engine's writes from the moment a story says, and kills it at one of them.
struct Killer {
    line: Line,
    point: Option<Point>,
    killed: Arc<Notify>,
    writes: Arc<Mutex<Vec<String>>>,
}

impl Killer {
    fn arm(&self, rig: &Rig) {
        let Self {
            line,
            point,
            killed,
            writes,
        } = self;
        let (line, point, killed, writes) = (line.clone(), *point, killed.clone(), writes.clone());
        rig.member().server.faults().decide(move |request| {
            if !of_first(request) {
                return Fate::Answered;
            }
            let mut writes = writes.lock().unwrap();
            writes.push(name(request));
            match point {
                Some(point) if point.write == writes.len() => {
                    line.cut();
                    killed.notify_one();
                    if point.before {
                        Fate::Lost
                    } else {
                        Fate::Unanswered
                    }
                }
                Some(_) | None => Fate::Answered,
            }
        });
    }
}

fn of_first(request: &RequestInfo) -> bool {
    request.agent == "canary-mcp/first" && request.is_write() && request.plural != "leases"
}

/// Events and pins have made-up names.
fn name(request: &RequestInfo) -> String {
    let verb = request.verb;
    match request.plural.as_str() {
        "events" => format!("{verb} event"),
        "controllerrevisions" => format!("{verb} pin"),
        _ if verb == "create" => {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            format!("create {}/{}", request.plural, body.name())
        }
        _ => request.to_string(),
    }
}

/// One telling of a story: the writes of the first engine, and what is left.
async fn told(
    story: impl AsyncFn(&Rig, &dyn Fn()),
    point: Option<Point>,
) -> (Vec<String>, Vec<String>) {
    let at = match point {
        None => "undisturbed".to_owned(),
        Some(point) => format!("{point:?}"),
    };
    let rig = cluster();
    let first = rig.process("first");
    let killer = Killer {
        line: first.line(),
        point,
        killed: Arc::default(),
        writes: Arc::default(),
    };
    let all = async {
        story(&rig, &|| killer.arm(&rig)).await;
        assert_at_rest(&rig, &at).await;
        (killer.writes.lock().unwrap().clone(), end(&rig))
    };
    let mut engine = Some(first);
    let supervised = async {
        killer.killed.notified().await;
        if let Some(first) = engine.take() {
            first.kill();
        }
        engine = Some(rig.process("second"));
        std::future::pending::<()>().await;
    };
    let limited = tokio::time::timeout(LONG, async {
        tokio::select! {
            biased;
            () = supervised => None,
            told = all => Some(told),
        }
    });
    let told = limited.await.unwrap_or_else(|_| panic!("no end, {at}"));
    told.unwrap()
}

/// The writes in their order, but for events: those are told from a queue of their own, beside whatever else is written, so only their
/// number is certain.
fn in_order<S: AsRef<str>>(writes: &[S]) -> (Vec<&str>, usize) {
    let (events, others): (Vec<&str>, Vec<&str>) = writes
        .iter()
        .map(AsRef::as_ref)
        .partition(|write| write.ends_with(" event"));
    (others, events.len())
}

/// Tells the story undisturbed, and then once for each point.
async fn every_point(story: impl AsyncFn(&Rig, &dyn Fn()), writes: &[&str], left: &[&str]) {
    let (first_writes, first_left) = told(&story, None).await;
    assert_eq!(in_order(&first_writes), in_order(writes));
    assert_eq!(first_left, left);
    let mut wrong = Vec::new();
    for write in 1..=writes.len() {
        for before in [true, false] {
            let (_, now_left) = told(&story, Some(Point { write, before })).await;
            let differs: Vec<&String> = now_left
                .iter()
                .filter(|line| !left.contains(&line.as_str()))
                .collect();
            if now_left != left {
                let when = if before { "before" } else { "after" };
                let (name, of) = (writes[write - 1], writes.len());
                wrong.push(format!(
                    "write {write} of {of}, {when}: {name}: {differs:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "expected {left:#?}; {}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn of_a_bootstrap() {
    every_point(stories::bootstrap, &["patch deployments/mcp-server", "patch services/mcp-server", "patch scaledobjects/mcp-server", "patch canaries/mcp-server", "update canaries/mcp-server/status", "create pin", "create event", "create services/mcp-server-canary", "create services/mcp-server-primary", "create deployments/mcp-server-primary", "create scaledobjects/mcp-server-primary", "patch services/mcp-server", "create destinationrules/mcp-server-primary", "create destinationrules/mcp-server-canary", "create virtualservices/mcp-server", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event",], &["weights [0]", "phases Initializing Initialized", "primary 1.0.0", "status Initialized weight 0 failed 0 applied v1-1373 promoted v1-1373 condition Initialized", "run 0 idle skip initial handled -", "replicas primary 2 target 0 paused 0",])
.await;
}

#[tokio::test(start_paused = true)]
async fn of_a_good_rollout() {
    every_point(stories::good, &["update canaries/mcp-server/status", "create event", "create pin", "patch scaledobjects/mcp-server", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "create event", "create event", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "create event", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "create event", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "create event", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event",], &["weights [0, 15, 30, 0]", "phases Initializing Initialized Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip - handled -", "replicas primary 2 target 0 paused 0",])
.await;
}

#[tokio::test(start_paused = true)]
async fn of_a_failing_rollout() {
    every_point(
        stories::failing,
        &[
            "update canaries/mcp-server/status",
            "create event",
            "create pin",
            "patch scaledobjects/mcp-server",
            "patch virtualservices/mcp-server",
            "update canaries/mcp-server/status",
            "create event",
            "create event",
            "update canaries/mcp-server/status",
            "create event",
            "patch virtualservices/mcp-server",
            "update canaries/mcp-server/status",
            "update canaries/mcp-server/status",
            "create event",
            "create event",
            "patch scaledobjects/mcp-server",
            "update canaries/mcp-server/status",
            "create event",
        ],
        &[
            "weights [0, 15, 0]",
            "phases Initializing Initialized Progressing Failed",
            "primary 1.0.0",
            "status Failed weight 0 failed 2 applied v1-b6db promoted v1-1373 condition Failed",
            "run 1 idle skip - handled -",
            "replicas primary 2 target 0 paused 0",
            "reason failed checks threshold reached 2",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_rollout_whose_spec_skips_the_analysis() {
    every_point(stories::skipped_by_spec, &["update canaries/mcp-server/status", "create event", "create pin", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "create event", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "create event", "update canaries/mcp-server/status", "create event",], &["weights [0]", "phases Initializing Initialized Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip spec handled -", "replicas primary 2 target 0 paused 0",])
.await;
}

#[tokio::test(start_paused = true)]
async fn of_a_rollout_whose_analysis_a_person_skips() {
    every_point(stories::skipped_by_person, &["update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "create event", "create event", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "create event", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event",], &["weights [0, 15, 0]", "phases Initializing Initialized Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip person handled promote-1", "replicas primary 2 target 0 paused 0",])
.await;
}

#[tokio::test(start_paused = true)]
async fn of_a_rollback_before_the_first_weight() {
    every_point(
        stories::rolled_back_before_the_first_weight,
        &[
            "update canaries/mcp-server/status",
            "patch scaledobjects/mcp-server",
            "create event",
            "update canaries/mcp-server/status",
            "create event",
        ],
        &[
            "weights [0]",
            "phases Initializing Initialized Progressing Failed",
            "primary 1.0.0",
            "status Failed weight 0 failed 0 applied v1-378d promoted v1-1373 condition Failed",
            "run 1 idle skip - handled rollback-1",
            "replicas primary 2 target 0 paused 0",
            "reason rollback requested by test: because",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_rollback_at_a_weight() {
    every_point(
        stories::rolled_back_at_a_weight,
        &[
            "patch virtualservices/mcp-server",
            "update canaries/mcp-server/status",
            "update canaries/mcp-server/status",
            "create event",
            "patch scaledobjects/mcp-server",
            "update canaries/mcp-server/status",
            "create event",
        ],
        &[
            "weights [0, 15, 30, 0]",
            "phases Initializing Initialized Progressing Failed",
            "primary 1.0.0",
            "status Failed weight 0 failed 0 applied v1-378d promoted v1-1373 condition Failed",
            "run 1 idle skip - handled rollback-1",
            "replicas primary 2 target 0 paused 0",
            "reason rollback requested by test: because",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_rollback_at_a_gate() {
    every_point(
        stories::rolled_back_at_a_gate,
        &[
            "patch virtualservices/mcp-server",
            "update canaries/mcp-server/status",
            "update canaries/mcp-server/status",
            "create event",
            "patch scaledobjects/mcp-server",
            "update canaries/mcp-server/status",
            "create event",
        ],
        &[
            "weights [0, 15, 30, 0]",
            "phases Initializing Initialized Progressing WaitingPromotion Failed",
            "primary 1.0.0",
            "status Failed weight 0 failed 0 applied v1-378d promoted v1-1373 condition Failed",
            "run 1 idle skip - handled rollback-1",
            "replicas primary 2 target 0 paused 0",
            "reason rollback requested by test: because",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_promotion_at_a_gate() {
    every_point(stories::promoted_at_a_gate, &["update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "create event", "create event", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "create event", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event",], &["weights [0, 15, 30, 0]", "phases Initializing Initialized Progressing WaitingPromotion Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip - handled promote-1", "replicas primary 2 target 0 paused 0",])
.await;
}

#[tokio::test(start_paused = true)]
async fn of_a_rollback_while_the_primary_is_copied() {
    every_point(
        stories::rolled_back_while_copied,
        &[
            "update canaries/mcp-server/status",
            "patch deployments/mcp-server-primary",
            "create event",
            "update canaries/mcp-server/status",
            "patch virtualservices/mcp-server",
            "update canaries/mcp-server/status",
            "update canaries/mcp-server/status",
            "patch scaledobjects/mcp-server",
            "update canaries/mcp-server/status",
            "create event",
        ],
        &[
            "weights [0, 15, 30, 0]",
            "phases Initializing Initialized Progressing Promoting Failed",
            "primary 1.0.0 1.1.0 1.0.0",
            "status Failed weight 0 failed 0 applied v1-378d promoted v1-1373 condition Failed",
            "run 1 idle skip - handled rollback-1",
            "replicas primary 2 target 0 paused 0",
            "reason rollback requested by test: because",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_rollback_before_the_canary_goes() {
    every_point(
        stories::rolled_back_before_the_canary_goes,
        &[
            "update canaries/mcp-server/status",
            "patch deployments/mcp-server-primary",
            "create event",
            "update canaries/mcp-server/status",
            "patch scaledobjects/mcp-server",
            "update canaries/mcp-server/status",
            "create event",
        ],
        &[
            "weights [0, 15, 30, 0]",
            "phases Initializing Initialized Progressing Promoting Finalising Failed",
            "primary 1.0.0 1.1.0 1.0.0",
            "status Failed weight 0 failed 0 applied v1-378d promoted v1-1373 condition Failed",
            "run 1 idle skip - handled rollback-1",
            "replicas primary 2 target 0 paused 0",
            "reason rollback requested by test: because",
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_good_rollout_without_an_autoscaler() {
    every_point(stories::good_without_an_autoscaler, &["update canaries/mcp-server/status", "create event", "create pin", "update deployments/mcp-server/scale", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "create event", "create event", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "create event", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "create event", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "create event", "update deployments/mcp-server/scale", "update canaries/mcp-server/status", "create event",], &["weights [0, 15, 30, 0]", "phases Initializing Initialized Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip - handled -", "replicas primary 2 target 0 paused no",])
.await;
}

#[tokio::test(start_paused = true)]
async fn of_a_b_testing() {
    every_point(stories::a_b_testing, &["update canaries/mcp-server/status", "create pin", "patch scaledobjects/mcp-server", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event", "create event", "create event", "create event", "create event", "create event", "create event"], &["weights [0, 100, 0]", "phases Initializing Initialized Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip - handled -", "replicas primary 1 target 0 paused 0"]).await;
}

#[tokio::test(start_paused = true)]
async fn of_blue_green_on_copies() {
    every_point(stories::blue_green_on_copies, &["update canaries/mcp-server/status", "create pin", "patch scaledobjects/mcp-server", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event"], &["weights [0, 100, 0]", "phases Initializing Initialized Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip - handled -", "replicas primary 1 target 0 paused 0"]).await;
}

#[tokio::test(start_paused = true)]
async fn of_weights_with_cookies() {
    every_point(stories::weights_with_cookies, &["update canaries/mcp-server/status", "create pin", "patch virtualservices/mcp-server", "patch scaledobjects/mcp-server", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "update canaries/mcp-server/status", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event"], &["weights [0, 100, 0]", "phases Initializing Initialized Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip - handled -", "replicas primary 1 target 0 paused 0"]).await;
}

#[tokio::test(start_paused = true)]
async fn of_gates_that_are_opened_one_by_one() {
    every_point(stories::opened_gate_by_gate, &["update canaries/mcp-server/status", "create pin", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event"], &["weights [0, 20, 0]", "phases Initializing Initialized Progressing Waiting Progressing WaitingPromotion Promoting Finalising Succeeded", "primary 1.0.0 1.1.0", "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded", "run 1 idle skip - handled promotion", "replicas primary 2 target 0 paused 0"]).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_retry_and_of_going_back() {
    every_point(stories::retried_and_gone_back, &["update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "patch deployments/mcp-server", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch deployments/mcp-server-primary", "patch virtualservices/mcp-server", "update canaries/mcp-server/status", "update canaries/mcp-server/status", "patch scaledobjects/mcp-server", "update canaries/mcp-server/status", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event", "create event"], &["weights [0, 20, 0, 20, 0, 20, 0]", "phases Initializing Initialized Progressing Failed Progressing Promoting Finalising Succeeded Progressing Promoting Finalising Succeeded", "primary 1.0.0 1.1.0 1.0.0", "status Succeeded weight 0 failed 0 applied v1-1373 promoted v1-1373 condition Succeeded", "run 3 idle skip - handled back", "replicas primary 1 target 0 paused 0"]).await;
}
