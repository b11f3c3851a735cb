//! What goes wrong from the copy on: a promotion that fails, and a rollback of one that is under way.

use canary_mcp::{
    api::objects::{ObjectExt, POD},
    decide::{facts::Verb, state::Phase},
    engine::control::Outcome,
};
use serde_json::Value;

use crate::support::{Rig, image, sequence};

/// The version fails as a primary and only there: no pod of the primary with this image comes up, until dropped.
struct Sabotage(tokio::task::JoinHandle<()>);

impl Sabotage {
    fn of(rig: &Rig, tag: &str) -> Self {
        let store = rig.member().server.store().clone();
        let (healthy, broken) = (image(tag), image(&format!("{tag}-crash")));
        let mut changes = store.subscribe();
        Self(tokio::spawn(async move {
            loop {
                for pod in store.list(&POD, Some("ai-platform")) {
                    let at = "/spec/containers/0/image";
                    let new = pod.str_at(at) == Some(healthy.as_str());
                    if new && pod.name().starts_with("mcp-server-primary-") {
                        let change = |p: &mut Value| {
                            p["spec"]["containers"][0]["image"] = broken.as_str().into();
                        };
                        store
                            .modify(&POD, "ai-platform", pod.name(), "test", change)
                            .unwrap();
                    }
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }))
    }
}

impl Drop for Sabotage {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_fails_gives_the_primary_its_previous_template_back() {
    let rig = Rig::initialized(|_| {}).await;
    let _sabotage = Sabotage::of(&rig, "1.1.0");
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
async fn rolled_back(when: impl Fn(&Value) -> bool) -> Vec<(String, i64)> {
    let rig = Rig::initialized(|_| {}).await;
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

#[tokio::test(start_paused = true)]
async fn a_rollback_while_promoting_restores_the_previous_template() {
    let seen = rolled_back(|c| c.str_at("/status/phase") == Some("Promoting")).await;
    assert_eq!(
        seen,
        sequence(&[("Promoting", 30), ("Promoting", 0), ("Failed", 0)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_rollback_while_finalising_restores_the_previous_template() {
    let seen = rolled_back(|c| c.str_at("/status/phase") == Some("Finalising")).await;
    assert_eq!(seen, sequence(&[("Finalising", 0), ("Failed", 0)]));
}
