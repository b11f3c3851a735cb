//! The figures that the project is judged by, printed: `cargo bench --bench figures`.
//!
//! API requests of an idle minute, of one analysis and of a whole rollout; milliseconds of a whole rollout on the paused clock and of one
//! decision's inputs. Nothing is asserted here: what must hold is in `tests/`.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs)]

use std::time::Instant;

use canary_mcp::{api::objects::ObjectExt, decide::state::Phase};

#[path = "../tests/it/support/mod.rs"]
mod support;

use support::Rig;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(figures());
}

async fn figures() {
    let began = Instant::now();
    let rig = Rig::new();
    rig.until_phase(Phase::Initialized).await;
    println!(
        "bootstrap: {} ms of real time, {}",
        began.elapsed().as_millis(),
        requests(&rig)
    );

    rig.pass(120).await;
    rig.member().server.faults().reset_counts();
    rig.pass(60).await;
    println!("one idle minute: {}", requests(&rig));

    rig.member().server.faults().reset_counts();
    let began = Instant::now();
    rig.set_image("1.1.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    println!("detection, scale-up, 5%, one analysis: {}", requests(&rig));

    rig.member().server.faults().reset_counts();
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    println!("one analysis and its step: {}", requests(&rig));

    rig.until_phase(Phase::Succeeded).await;
    println!(
        "a whole rollout: {} ms of real time",
        began.elapsed().as_millis()
    );

    rig.member().server.faults().reset_counts();
    let began = Instant::now();
    rig.view().await;
    println!(
        "one get_status: {} us of real time, {}",
        began.elapsed().as_micros(),
        requests(&rig)
    );
}

/// What the API server was asked, by verb and resource.
fn requests(rig: &Rig) -> String {
    let faults = rig.member().server.faults();
    let each: Vec<String> = faults
        .counts()
        .iter()
        .map(|((verb, _, plural), n)| format!("{n} {verb} {plural}"))
        .collect();
    format!(
        "{} writes, {} reads ({})",
        faults.writes(),
        faults.reads(),
        each.join(", ")
    )
}
