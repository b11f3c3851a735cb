//! What goes wrong from the copy on: a promotion that fails, and a rollback of one that is under way.

use canary_mcp::{
    api::objects::{DEPLOYMENT, ObjectExt, POD},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::Value;

use crate::{
    genuine::on_both,
    support::{Rig, World, image, sequence},
};

on_both!(
    a_promotion_that_fails_gives_the_primary_its_previous_template_back,
    a_rollback_while_promoting_restores_the_previous_template,
    a_rollback_while_finalising_restores_the_previous_template,
    a_primary_that_cannot_come_back_leaves_the_traffic_on_the_canary,
);

async fn a_promotion_that_fails_gives_the_primary_its_previous_template_back<W: World>(
    rig: Rig<W>,
) {
    let rig = rig.initialize().await;
    rig.sabotage(&image("1.1.0"));
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Promoting).await;
    rig.until_stored("the copy", |r| {
        r.image_of("mcp-server-primary") == image("1.1.0")
    })
    .await;
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(
        seen,
        sequence(&[("Promoting", 30), ("Promoting", 0), ("Failed", 0)])
    );
    let reason = rig.view().await.reason.unwrap();
    assert!(
        reason.starts_with("promotion failed, primary not ready: "),
        "{reason}"
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    let again = rig.start("1.1.0").await;
    assert_eq!(again.outcome, Outcome::Refused, "{}", again.reason);
}

/// A rollback once the Canary is as `when` says.
async fn rolled_back<W: World>(rig: Rig<W>, when: impl Fn(&Value) -> bool) -> Vec<(String, i64)> {
    let rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Promoting).await;
    rig.until(when).await;
    rig.until_stored("the copy", |r| {
        r.image_of("mcp-server-primary") == image("1.1.0")
    })
    .await;
    let acted = rig.wish(Verb::Rollback, false).await;
    assert_eq!(acted.outcome, Outcome::Applied, "{}", acted.reason);
    let seen = rig.until_phase(Phase::Failed).await;
    assert_eq!(
        rig.view().await.reason.as_deref(),
        Some("rollback requested by test: because")
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
    seen
}

async fn a_rollback_while_promoting_restores_the_previous_template<W: World>(rig: Rig<W>) {
    let seen = rolled_back(rig, |c| c.str_at("/status/phase") == Some("Promoting")).await;
    assert_eq!(
        seen,
        sequence(&[("Promoting", 30), ("Promoting", 0), ("Failed", 0)])
    );
}

async fn a_rollback_while_finalising_restores_the_previous_template<W: World>(rig: Rig<W>) {
    let seen = rolled_back(rig, |c| c.str_at("/status/phase") == Some("Finalising")).await;
    assert_eq!(seen, sequence(&[("Finalising", 0), ("Failed", 0)]));
}

/// While the primary is given the new template, its pods are exchanged a few at a time and at least one always serves.
#[tokio::test(start_paused = true)]
async fn the_primary_is_rolled_without_a_gap() {
    let rig = Rig::initialized(|_| {}).await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Promoting).await;
    let from = rig.counts();
    let done = |c: &Value| c.str_at("/status/phase") == Some("Finalising");
    let never_empty = |r: &Rig| {
        let ready = r
            .object(&DEPLOYMENT, "mcp-server-primary")
            .and_then(|p| p.int_at("/status/readyReplicas"));
        assert!(ready >= Some(1), "{ready:?}");
        assert_eq!(r.weights().0 + r.weights().1, 100);
        done(&r.canary())
    };
    rig.until_stored("the end of the copy", never_empty).await;
    let counts = rig.counts().since(&from);
    assert!(counts.images.contains_key(&image("1.0.0")), "{counts:?}");
    assert!(counts.images.contains_key(&image("1.1.0")), "{counts:?}");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// Neither template comes up on the primary: all traffic stays on the canary, and comes back when the primary is repaired.
async fn a_primary_that_cannot_come_back_leaves_the_traffic_on_the_canary<W: World>(rig: Rig<W>) {
    let rig = rig.initialize().await;
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Promoting).await;
    rig.sabotage(&image("1.1.0"));
    rig.sabotage(&image("1.0.0"));
    for pod in rig.pods_of("mcp-server-primary") {
        rig.delete(&POD, pod.name());
    }
    rig.until_stored("all traffic to the canary", |r| r.weights() == (0, 100))
        .await;
    rig.until_phase(Phase::Failed).await;
    assert_eq!(rig.weights(), (0, 100));
    assert!(rig.replicas_of("mcp-server") > 0);
    let failed = format!(
        "Rollback of mcp-server.{} failed, primary not ready",
        rig.namespace()
    );
    rig.until_stored("the failure is told", |r| r.warnings(&failed) == 1)
        .await;
    rig.pass(10).await;
    W::assert_served_by(&rig, "mcp-server", 120).await;
    let refused = rig.start("1.2.0").await;
    assert_eq!(refused.outcome, Outcome::Refused);
    assert!(
        refused.reason.contains("left all traffic on the canary"),
        "{}",
        refused.reason
    );
    rig.repair();
    let lost = rig.lost();
    for pod in rig.pods_of("mcp-server-primary") {
        rig.delete(&POD, pod.name());
    }
    rig.until_stored("all traffic to the primary", |r| {
        r.weights() == (100, 0) && r.replicas_of("mcp-server") == 0
    })
    .await;
    rig.pass(10).await;
    W::assert_served_by(&rig, "mcp-server-primary", 50).await;
    assert_eq!(rig.lost(), lost);
    rig.assert_idle();
    assert_eq!(rig.canary().str_at("/status/phase"), Some("Failed"));
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
}
