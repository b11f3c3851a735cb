//! What was promoted is lost: the primary, and what it could be made from.

use canary_mcp::{
    api::objects::{CONTROLLER_REVISION, DEPLOYMENT, ObjectExt},
    decide::state::Phase,
};

use crate::support::{Rig, image};

/// The count of ticks so far, of all Canaries.
fn ticks(rig: &Rig) -> u64 {
    let text = rig.metrics.encode().unwrap();
    let name = "flagger_canary_duration_seconds_count{";
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test(start_paused = true)]
async fn a_primary_without_a_pin_waits_for_a_person_who_is_told_what_to_do() {
    let mut rig = Rig::initialized(|_| {}).await;
    let before = rig.image_of("mcp-server");
    rig.crash_engine();
    let store = rig.member().server.store();
    store
        .remove(&DEPLOYMENT, "ai-platform", "mcp-server-primary")
        .unwrap();
    for pin in store.list(&CONTROLLER_REVISION, Some("ai-platform")) {
        store
            .remove(&CONTROLLER_REVISION, "ai-platform", pin.name())
            .unwrap();
    }
    rig.set_image("1.1.0");
    rig.start_engine("second");
    rig.pass(60).await;

    // Nothing is made from what nobody analysed, nothing is written, and nobody runs in circles.
    assert!(rig.object(&DEPLOYMENT, "mcp-server-primary").is_none());
    let (writes, done) = (rig.writes(), ticks(&rig));
    assert!(done > 0);
    rig.pass(60).await;
    assert_eq!(rig.writes(), writes);
    assert!(ticks(&rig) - done <= 2, "{} ticks", ticks(&rig) - done);

    let promoted = rig.canary();
    let promoted = promoted.str_at("/status/lastPromotedSpec").unwrap();
    let waiting = rig.view().await.waiting_for.unwrap();
    assert_eq!(
        waiting.what,
        "Deployment mcp-server-primary.ai-platform, which is gone together with the ControllerRevision that kept its template"
    );
    assert_eq!(
        waiting.how.unwrap(),
        format!(
            "put the target back to the promoted revision {promoted} (kubectl -n ai-platform rollout undo deployment/mcp-server): the primary is then made from it; or restore Deployment mcp-server-primary from a backup"
        )
    );
    assert_eq!(
        rig.warnings("Waiting for Deployment mcp-server-primary.ai-platform, which is gone"),
        1
    );

    // The person does so.
    assert_eq!(before, image("1.0.0"));
    rig.set_image("1.0.0");
    rig.pass(120).await;
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    assert_eq!(rig.view().await.waiting_for, None);
    assert_eq!(
        rig.canary().str_at("/status/phase"),
        Some(Phase::Initialized.name())
    );
    rig.assert_idle();
    // From here on everybody is served again.
    let lost = rig.counts().no_endpoint_503;
    rig.pass(60).await;
    assert_eq!(rig.counts().no_endpoint_503, lost);
}
