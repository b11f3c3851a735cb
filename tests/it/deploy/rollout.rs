//! Whole rollouts on a genuine control plane in which our processes have exactly the rights of the chart.

use std::sync::Arc;

use canary_mcp::{
    api::objects::ObjectExt,
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};

use super::install::{apply, only_rights, release};
use crate::{
    control_plane::ControlPlane,
    genuine::{Accounts, Real, real_as},
    support::Rig,
    tools,
};

/// The accounts of a release with these values, in the test's namespace.
async fn accounts(
    control_plane: &Arc<ControlPlane>,
    namespace: &str,
    values: &str,
    [front, engine]: [&str; 2],
) -> Accounts {
    let objects = release(values, namespace, &[]).expect("helm has been found");
    apply(control_plane, &only_rights(&objects));
    Accounts {
        front: control_plane.client_as(namespace, front).await,
        engine: control_plane.client_as(namespace, engine).await,
    }
}

async fn rig(scenario: &str, values: &str, who: [&str; 2]) -> Option<Rig<Real>> {
    tools::need("helm")?;
    let as_the_chart_says = async |control_plane: &Arc<ControlPlane>, namespace: &str| {
        accounts(control_plane, namespace, values, who).await
    };
    real_as(scenario, as_the_chart_says).await
}

/// Good and bad images, all in one: the account of the one Deployment does both halves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_of_all_in_one_are_enough() {
    let who = ["canary-mcp"; 2];
    let Some(rig) = rig("rights-all-in-one", "all-in-one.yaml", who).await else {
        return;
    };
    let rig = rig.initialize().await;
    let begun = rig.start("1.1.0").await;
    assert_eq!(begun.outcome, Outcome::Applied, "{}", begun.reason);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
    rig.start("1.2.0-errors").await;
    rig.until_phase(Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.1.0").await;
}

/// The front starts, rolls back and promotes with two patches; the engine, by its own account, does the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_of_front_and_engine_are_enough() {
    let who = ["canary-mcp", "canary-mcp-engine"];
    let Some(rig) = rig("rights-split", "split.yaml", who).await else {
        return;
    };
    let rig = rig.initialize().await;
    let begun = rig.start("1.1.0").await;
    assert_eq!(begun.outcome, Outcome::Applied, "{}", begun.reason);
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let rolled_back = rig.wish(Verb::Rollback, false).await;
    assert_eq!(
        rolled_back.outcome,
        Outcome::Applied,
        "{}",
        rolled_back.reason
    );
    rig.until_phase(Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    rig.start("1.1.1").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(5))
        .await;
    let promoted = rig.wish(Verb::Promote, true).await;
    assert_eq!(promoted.outcome, Outcome::Applied, "{}", promoted.reason);
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.1").await;
    assert_eq!(rig.view().await.phase, Phase::Succeeded);
}
