//! Engines that share clusters: a rollout goes on while its cluster goes from one to another, and what the one before still had on its way
//! changes nothing. The cluster is its own home. The order of first, second and third for prod-kr is first, second, third.

use std::time::Duration;

use canary_mcp::{
    api::objects::{CANARY, ObjectExt, VIRTUAL_SERVICE},
    decide::state::Phase,
};
use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    genuine::on_both,
    support::{Process, Rig, World, sequence},
};

on_both!(
    a_cluster_is_given_to_the_one_that_asks_in_the_middle_of_a_run,
    a_clean_shutdown_hands_over_in_the_middle_of_a_run,
    a_late_route_write_of_the_one_that_gave_it_away_changes_nothing,
);

const GOOD: [(&str, i64); 10] = [
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

/// An engine whose home is the cluster itself.
fn at_home<W: World>(rig: &Rig<W>, identity: &str) -> Process {
    rig.process_with(identity, |settings| {
        settings.home = Some("prod-kr".to_owned());
    })
}

async fn holder<W: World>(rig: &Rig<W>) -> String {
    let lease = lease(rig).await;
    let holder = lease.str_at("/spec/holderIdentity");
    holder.unwrap_or_default().to_owned()
}

/// The Lease as it is stored.
async fn lease<W: World>(rig: &Rig<W>) -> Value {
    let namespace = rig.settings().lease_namespace;
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/canary-mcp");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let found: kube::Result<Value> = rig.client().request(request).await;
    found.unwrap_or_default()
}

/// Waits until this one holds the Lease; how long it took.
async fn held_by<W: World>(rig: &Rig<W>, identity: &str) -> Duration {
    let began = Instant::now();
    while holder(rig).await != identity {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{identity} must lead within a minute"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

/// A run that is at 10 %, led by the second in line.
async fn running<W: World>(rig: &Rig<W>) -> (Process, Vec<(String, i64)>) {
    let second = at_home(rig, "second");
    rig.until_phase(Phase::Initialized).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    (second, before)
}

async fn goes_on<W: World>(rig: &Rig<W>, mut before: Vec<(String, i64)>) {
    before.extend(rig.until_phase(Phase::Succeeded).await);
    before.dedup();
    assert_eq!(before, sequence(&GOOD));
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

async fn a_cluster_is_given_to_the_one_that_asks_in_the_middle_of_a_run<W: World>(rig: Rig<W>) {
    let (second, before) = running(&rig).await;
    let first = at_home(&rig, "first");
    // The next renewal is at most 5 s away, the writes in hand take at most one.
    let took = held_by(&rig, "first").await;
    assert!(took < Duration::from_secs(8), "{took:?}");
    goes_on(&rig, before).await;
    assert_eq!(holder(&rig).await, "first");
    drop((first, second));
}

async fn a_clean_shutdown_hands_over_in_the_middle_of_a_run<W: World>(rig: Rig<W>) {
    let first = at_home(&rig, "first");
    held_by(&rig, "first").await;
    let second = at_home(&rig, "second");
    rig.until_phase(Phase::Initialized).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    let (took, ()) = tokio::join!(held_by(&rig, "second"), first.stop());
    assert!(took < Duration::from_secs(3), "{took:?}");
    goes_on(&rig, before).await;
    drop(second);
}

async fn a_late_route_write_of_the_one_that_gave_it_away_changes_nothing<W: World>(rig: Rig<W>) {
    let (second, before) = running(&rig).await;
    let held = second.line().hold_next(|method, target| {
        method == Method::PATCH && target.contains("/virtualservices/mcp-server?")
    });
    rig.reached(&held).await;
    let _first = at_home(&rig, "first");
    held_by(&rig, "first").await;
    let between = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(20))
        .await;
    let revision = |kind| {
        let object = rig.object(kind, "mcp-server");
        object.map(|o| o.resource_version().to_owned())
    };
    let stored = || (revision(&VIRTUAL_SERVICE), revision(&CANARY));
    let there = stored();
    let answer = held.release().await;
    assert!(answer.is_client_error(), "{answer}");
    assert_eq!(stored(), there);
    goes_on(&rig, [before, between].concat()).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_hands_over_within_the_leases_time() {
    let rig = Rig::without_engine(true);
    let first = at_home(&rig, "first");
    held_by(&rig, "first").await;
    let _second = at_home(&rig, "second");
    let _third = at_home(&rig, "third");
    rig.until_phase(Phase::Initialized).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Progressing).await;
    let before = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    first.kill();
    // The last renewal was up to 5 s ago; who comes second waits one second more than 15.
    let took = held_by(&rig, "second").await;
    assert!(
        took >= Duration::from_secs(11) && took <= Duration::from_millis(16_500),
        "{took:?}"
    );
    goes_on(&rig, before).await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_cut_off_from_the_cluster_writes_nothing_when_it_is_back() {
    let rig = Rig::without_engine(true);
    let (_second, before) = running(&rig).await;
    let faults = rig.member().server.faults();
    // It asks nobody and hears of nobody; what it writes waits on the line.
    let partition = faults.partition(|request| request.agent == "canary-mcp/second");
    let _first = at_home(&rig, "first");
    let took = held_by(&rig, "first").await;
    assert!(
        took >= Duration::from_secs(10) && took <= Duration::from_millis(16_500),
        "{took:?}"
    );
    let between = rig
        .until(|c| c.int_at("/status/canaryWeight") == Some(20))
        .await;
    faults.keep_log();
    drop(partition);
    rig.pass(30).await;
    let late = faults.take_log().into_iter().filter(|logged| {
        let request = &logged.request;
        let by_second = request.agent == "canary-mcp/second";
        by_second && logged.committed() && !matches!(request.plural.as_str(), "events" | "leases")
    });
    let late: Vec<String> = late.map(|logged| logged.request.to_string()).collect();
    assert_eq!(late, Vec::<String>::new());
    goes_on(&rig, [before, between].concat()).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_the_asker_no_longer_knows_goes_back() {
    let rig = Rig::without_engine(true);
    let (_second, before) = running(&rig).await;
    let first = at_home(&rig, "first");
    while lease(&rig).await["metadata"]["annotations"]["canary-mcp.dev/asked-by"] != "first" {
        assert_eq!(holder(&rig).await, "second");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // To the others it still lives for a while, and what it has asked for is given back; but it does not know the cluster any more.
    let known = first.registry.all().to_vec();
    first.registry.replace(Vec::new());
    let mut free = false;
    let began = Instant::now();
    while !free || holder(&rig).await != "second" {
        free |= holder(&rig).await.is_empty();
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it must lead again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Known again it asks again and has it.
    first.registry.replace(known);
    held_by(&rig, "first").await;
    goes_on(&rig, before).await;
}
