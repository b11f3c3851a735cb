//! Two engines: the first is cut off while one of its writes is in flight, loses its Lease, and comes back with that write when the
//! second leads.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use canary_mcp::cluster::embedded::faults::{Fate, Partition, RequestInfo};
use tokio::sync::Notify;

use super::{LONG, assert_at_rest, cluster, end, stories};
use crate::support::Rig;

/// When the first engine's network works again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Back {
    /// With the second engine's first write: it is about to set its fence.
    AtTheFirstWrite,
    /// When the second has recorded something of its own: its fence stands.
    WhenRecorded,
}

fn writes(request: &RequestInfo, identity: &str) -> bool {
    let agent = request.agent.strip_prefix("canary-mcp/");
    agent == Some(identity) && request.is_write() && request.plural != "leases"
}

/// What the decider and the partition share.
#[derive(Clone, Default)]
struct Cut {
    frozen: Arc<AtomicBool>,
    frozen_now: Arc<Notify>,
    back: Arc<Notify>,
    written: Arc<Mutex<usize>>,
}

impl Cut {
    /// Freezes the first engine at its write number `at`, and says when it may come back.
    fn arm(&self, rig: &Rig, at: usize, back: Back) {
        let cut = self.clone();
        rig.member().server.faults().decide(move |request| {
            if writes(request, "first") {
                let mut written = cut.written.lock().unwrap();
                *written += 1;
                if *written == at {
                    cut.frozen.store(true, Ordering::SeqCst);
                    cut.frozen_now.notify_one();
                }
            } else if writes(request, "second")
                && (back == Back::AtTheFirstWrite || request.subresource == "status")
            {
                cut.back.notify_one();
            }
            Fate::Answered
        });
    }

    fn partition(&self, rig: &Rig) -> Partition {
        let frozen = self.frozen.clone();
        rig.member()
            .server
            .faults()
            .partition(move |r| r.agent == "canary-mcp/first" && frozen.load(Ordering::SeqCst))
    }
}

/// The story with the first engine's write number `at` held; what is left, and which of its writes came about after it was back.
async fn told(
    story: impl AsyncFn(&Rig, &dyn Fn()),
    at: usize,
    back: Back,
) -> (Vec<String>, Vec<String>) {
    let name = format!("write {at}, back {back:?}");
    let rig = cluster();
    let _first = rig.process("first");
    let cut = Cut::default();
    let partition = cut.partition(&rig);
    let log = rig.member().server.faults();
    let all = async {
        story(&rig, &|| cut.arm(&rig, at, back)).await;
        assert_at_rest(&rig, &name).await;
        let late = log.take_log().into_iter().filter(|l| {
            l.committed() && writes(&l.request, "first") && l.request.plural != "events"
        });
        (end(&rig), late.map(|l| l.request.to_string()).collect())
    };
    let supervised = async {
        cut.frozen_now.notified().await;
        let _second = rig.process("second");
        // The second may find everything done: then there is nothing that it would write.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(90), cut.back.notified()).await;
        log.keep_log();
        drop(partition);
        std::future::pending::<()>().await;
    };
    let limited = tokio::time::timeout(LONG, async {
        tokio::select! {
            biased;
            () = supervised => None,
            told = all => Some(told),
        }
    });
    let told = limited.await.unwrap_or_else(|_| panic!("no end, {name}"));
    told.unwrap()
}

/// Each of the story's first `count` writes comes too late; the end is that of the undisturbed story.
async fn every_write(
    story: impl AsyncFn(&Rig, &dyn Fn()),
    count: usize,
    back: Back,
    left: &[&str],
) {
    let mut wrong = Vec::new();
    for at in 1..=count {
        let (now_left, late) = told(&story, at, back).await;
        if now_left != left {
            wrong.push(format!("write {at} of {count}: {now_left:#?}"));
        }
        if back == Back::WhenRecorded && !late.is_empty() {
            wrong.push(format!("write {at} of {count} came about late: {late:?}"));
        }
    }
    assert!(wrong.is_empty(), "expected {left:#?}; {}", wrong.join("\n"));
}

const GOOD: [&str; 6] = [
    "weights [0, 15, 30, 0]",
    "phases Initializing Initialized Progressing Promoting Finalising Succeeded",
    "primary 1.0.0 1.1.0",
    "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded",
    "run 1 idle skip - handled -",
    "replicas primary 2 target 0 paused 0",
];

#[tokio::test(start_paused = true)]
async fn each_write_of_a_good_rollout_before_the_fence() {
    every_write(stories::good, 21, Back::AtTheFirstWrite, &GOOD).await;
}

#[tokio::test(start_paused = true)]
async fn each_write_of_a_good_rollout_behind_the_fence() {
    every_write(stories::good, 21, Back::WhenRecorded, &GOOD).await;
}

/// The writes of `/scale` carry no epoch: their resourceVersion is the fence.
#[tokio::test(start_paused = true)]
async fn each_write_of_a_good_rollout_without_an_autoscaler() {
    let left = [
        "weights [0, 15, 30, 0]",
        "phases Initializing Initialized Progressing Promoting Finalising Succeeded",
        "primary 1.0.0 1.1.0",
        "status Succeeded weight 0 failed 0 applied v1-378d promoted v1-378d condition Succeeded",
        "run 1 idle skip - handled -",
        "replicas primary 2 target 0 paused no",
    ];
    let story = stories::good_without_an_autoscaler;
    every_write(story, 21, Back::WhenRecorded, &left).await;
}

#[tokio::test(start_paused = true)]
async fn each_write_of_a_rollback_after_the_copy() {
    let left = [
        "weights [0, 15, 30, 0]",
        "phases Initializing Initialized Progressing Promoting Failed",
        "primary 1.0.0 1.1.0 1.0.0",
        "status Failed weight 0 failed 0 applied v1-378d promoted v1-1373 condition Failed",
        "run 1 idle skip - handled rollback-1",
        "replicas primary 2 target 0 paused 0",
        "reason rollback requested by test: because",
    ];
    let story = stories::rolled_back_while_copied;
    every_write(story, 10, Back::WhenRecorded, &left).await;
}
