//! What a rollout costs an API server: nothing at rest, little at work, and nothing at all where nobody leads.

mod requests;
mod watches;

use std::collections::BTreeMap;

use canary_mcp::{
    api::objects::ObjectExt,
    decide::facts::Verb,
    engine::control::{Filter, Outcome},
};
use serde_json::Value;

use crate::{
    genuine::on_both,
    support::{Rig, World, image},
};

on_both!(three_idle_intervals_ask_for_nothing);

/// By the engine's own line: nothing but the Lease, and no watch begins anew.
async fn three_idle_intervals_ask_for_nothing<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.pass(120).await;
    rig.line().reset_counts();
    rig.pass(180).await;
    let mut all = rig.line().counts();
    assert!(all.remove("PUT leases").is_some(), "{all:?}");
    all.retain(|request, _| !request.starts_with("WATCH "));
    assert_eq!(all, BTreeMap::new());
}

/// Requests since the counts were reset, by verb and resource.
fn requests(rig: &Rig) -> BTreeMap<String, u64> {
    let counts = rig.member().server.faults().counts();
    counts
        .into_iter()
        .map(|((verb, _, plural), n)| (format!("{verb} {plural}"), n))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn three_idle_intervals_cost_nothing_but_the_lease() {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(60).await;
    rig.member().server.faults().reset_counts();
    rig.pass(180).await;
    let mut all = requests(&rig);
    assert_eq!(all.remove("update leases"), Some(36));
    all.retain(|request, _| !request.starts_with("watch "));
    assert_eq!(all, BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn an_analysis_asks_prometheus_and_writes_route_status_and_event() {
    let rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    let at = |weight: i64| move |c: &Value| c.int_at("/status/canaryWeight") == Some(weight);
    rig.until(at(10)).await;
    rig.pass(5).await;
    rig.member().server.faults().reset_counts();
    rig.until(at(15)).await;
    rig.pass(5).await;
    let mut all = requests(&rig);
    assert_eq!(all.remove("update leases"), Some(12));
    all.retain(|request, _| !request.starts_with("watch "));
    let expected = [
        ("create events", 1),
        ("patch virtualservices", 1),
        // Two checks and the canary's share.
        ("proxy services", 3),
        ("update canaries", 1),
    ];
    let expected = expected.map(|(request, n)| (request.to_owned(), n));
    assert_eq!(all, BTreeMap::from(expected));
}

/// Calls every operation of the five tools that writes where somebody leads; each refuses.
async fn call_everything(rig: &Rig) {
    let clusters = rig.control.clusters(None).await.unwrap();
    assert!(clusters[0].reachable, "{clusters:?}");
    let table = rig.control.table(&Filter::default()).await.unwrap();
    assert_eq!(table.rows.len(), 1);
    rig.view().await;
    let mut follow = rig.control.follow(&Rig::key()).await.unwrap();
    assert!(follow.next().await.is_some());
    for acted in [
        rig.start("1.5.0").await,
        rig.wish(Verb::Promote, false).await,
        rig.wish(Verb::Promote, true).await,
        rig.wish(Verb::Rollback, false).await,
    ] {
        assert_eq!(acted.outcome, Outcome::Refused, "{}", acted.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_nobody_may_lead_to_an_uninitialized_canary() {
    let mut rig = Rig::without_engine(false);
    rig.start_engine("reader");
    call_everything(&rig).await;
    rig.pass(180).await;
    call_everything(&rig).await;
    assert_eq!(rig.member().server.faults().writes(), 0);
    assert_eq!(rig.canary()["status"], Value::Null);
    assert_eq!(rig.image_of("mcp-server"), image("1.0.0"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_nobody_may_lead_to_a_canary_with_a_new_image() {
    let mut rig = Rig::initialized(|_| {}).await;
    rig.pass(60).await;
    rig.only_read();
    rig.set_image("1.1.0");
    // The Lease of the one who led is over.
    rig.pass(60).await;
    rig.member().server.faults().reset_counts();
    rig.start_engine("reader");
    call_everything(&rig).await;
    rig.pass(180).await;
    call_everything(&rig).await;
    assert_eq!(rig.member().server.faults().writes(), 0);
    assert_eq!(rig.canary().str_at("/status/phase"), Some("Initialized"));
    rig.assert_idle();
    assert_eq!(rig.image_of("mcp-server"), image("1.1.0"));
}
