//! `flagger.app/skip-analysis` and `flagger.app/reset`, set as kubectl sets them (the guide, 826-828 and 2252-2257).

use canary_mcp::{
    api::objects::{CANARY, ObjectExt},
    decide::state::Phase,
};
use serde_json::json;

use crate::support::{NAME, Rig};

const SKIP: &str = "flagger.app/skip-analysis";
const RESET: &str = "flagger.app/reset";

fn failed_checks(rig: &Rig) -> i64 {
    rig.canary().int_at("/status/failedChecks").unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn the_skip_counts_for_one_run_and_says_what_it_promotes() {
    let rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.2.0-errors");
    rig.until(|c| c.int_at("/status/failedChecks") == Some(1))
        .await;
    rig.annotate(&CANARY, NAME, SKIP, "true");
    rig.until_phase(Phase::Succeeded).await;
    rig.pass(120).await;
    assert_eq!(rig.canary().annotation(SKIP), None);
    assert_eq!(
        rig.warnings(
            "Analysis of mcp-server.ai-platform skipped by the annotation flagger.app/skip-analysis set by kubectl-edit, which promotes a revision with 1 failed checks"
        ),
        1,
        "{:?}",
        rig.events()
    );
    assert_eq!(
        rig.canary()["status"]["run"]["skip"],
        json!({"source": "annotation", "by": "kubectl-edit"})
    );
    // The next run is analysed.
    rig.set_image("1.2.1-errors");
    rig.until_phase(Phase::Progressing).await;
    rig.until_phase(Phase::Failed).await;
    assert_eq!(failed_checks(&rig), 3);
}

#[tokio::test(start_paused = true)]
async fn the_reset_begins_a_run_anew_and_tries_what_has_failed_once_more() {
    let rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.2.0-errors");
    rig.until(|c| c.int_at("/status/failedChecks") == Some(2))
        .await;
    let first = rig.canary()["status"]["run"]["id"].clone();
    rig.annotate(&CANARY, NAME, RESET, "true");
    rig.until(|c| c["status"]["run"]["id"] != first).await;
    assert_eq!((failed_checks(&rig), rig.weights()), (0, (100, 0)));
    rig.until_phase(Phase::Failed).await;
    rig.pass(120).await;
    assert_eq!(rig.canary().annotation(RESET), None);
    let told = "Restarting analysis for mcp-server.ai-platform: annotation flagger.app/reset set by kubectl-edit";
    assert_eq!(rig.warnings(told), 1, "{:?}", rig.events());

    let second = rig.canary()["status"]["run"]["n"].as_i64().unwrap();
    rig.annotate(&CANARY, NAME, RESET, "true");
    rig.until_phase(Phase::Progressing).await;
    rig.until_phase(Phase::Failed).await;
    rig.pass(120).await;
    assert_eq!(rig.canary().annotation(RESET), None);
    // One run, and not two.
    assert_eq!(rig.canary()["status"]["run"]["n"], second + 1);
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}
