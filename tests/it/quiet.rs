//! What a rollout costs an API server: nothing at rest, little at work, and nothing at all where nobody leads.

use std::collections::BTreeMap;

use canary_mcp::{
    api::objects::{DEPLOYMENT, ObjectExt},
    cluster::registry::{Entry, Registry},
    decide::{facts::Verb, state::Phase},
    engine::control::{Control, Filter, Outcome, Wish},
};

use crate::support::{Rig, spec};

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
    let all = requests(&rig);
    println!("REQUESTS idle {all:?}");
    assert_eq!(rig.writes(), 0, "{all:?}");
    let reads: Vec<&String> = all
        .keys()
        .filter(|k| !k.starts_with("watch ") && !k.ends_with(" leases"))
        .collect();
    assert_eq!(reads, Vec::<&String>::new(), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn an_analysis_asks_prometheus_and_writes_route_status_and_event() {
    let rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    let at =
        |weight: i64| move |c: &serde_json::Value| c.int_at("/status/canaryWeight") == Some(weight);
    rig.until(at(10)).await;
    rig.pass(5).await;
    rig.member().server.faults().reset_counts();
    rig.until(at(15)).await;
    rig.pass(5).await;
    let all = requests(&rig);
    println!("REQUESTS analysis {all:?}");
    assert_eq!(rig.writes(), 3, "{all:?}");
}
