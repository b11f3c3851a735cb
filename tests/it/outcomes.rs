//! `applied | already | refused | unconfirmed`: what the tools answer, and what they have written then.

use canary_mcp::{
    api::objects::{CANARY, DEPLOYMENT, ObjectExt, SERVICE},
    decide::{facts::Verb, state::Phase},
    engine::control::{Acted, ControlError, Outcome},
};
use serde_json::{Value, json};

use crate::support::{Rig, image, sequence};

fn assert_outcome(acted: &Acted, outcome: Outcome, reason: &str) {
    assert_eq!(acted.outcome, outcome, "{}", acted.reason);
    assert!(acted.reason.contains(reason), "{}", acted.reason);
}

/// Refused for this reason, and nothing was written.
async fn assert_refused(rig: &Rig, acted: impl Future<Output = Acted>, reason: &str) {
    let before = rig.writes();
    let acted = acted.await;
    assert_outcome(&acted, Outcome::Refused, reason);
    assert_eq!(rig.writes(), before, "{}", acted.reason);
}

async fn idle() -> Rig {
    let rig = Rig::initialized(|_| {}).await;
    rig.pass(10).await;
    rig
}

async fn at_weight(weight: i64) -> Rig {
    let rig = idle().await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(weight))
        .await;
    rig
}

async fn gated() -> Rig {
    let mut rig = Rig::without_engine(true);
    rig.annotate(&CANARY, "mcp-server", "canary-mcp.dev/gate", "promotion");
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.1.0").await;
    rig.until_phase(Phase::WaitingPromotion).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn start_is_applied_or_already_so() {
    let rig = idle().await;
    let live = rig.start("1.0.0").await;
    assert_outcome(&live, Outcome::Already, "1.0.0 is what is live");
    let revision = rig.view().await.revision.live.unwrap();
    let expecting = |start: &mut canary_mcp::engine::control::Start| {
        start.expect_revision = Some(revision[..11].to_owned());
        start.container = Some("mcp-server".to_owned());
    };
    let begun = rig.start_with("1.1.0", expecting).await.unwrap();
    assert_outcome(
        &begun,
        Outcome::Applied,
        "the engine has taken the revision up",
    );
    assert_eq!(begun.view.unwrap().phase, Phase::Progressing);
    let again = rig.start("1.1.0").await;
    assert_outcome(&again, Outcome::Already, "1.1.0 is going on");
    rig.until_phase(Phase::Succeeded).await;
    let done = rig.start("1.1.0").await;
    assert_outcome(&done, Outcome::Already, "1.1.0 is what is live");
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_answer_is_lost_is_read_back() {
    let rig = idle().await;
    let faults = rig.member().server.faults();
    faults.drop_next_answer(|r| r.plural == "deployments" && r.is_write());
    assert_outcome(&rig.start("1.1.0").await, Outcome::Applied, "");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_engine_does_not_take_up_is_unconfirmed() {
    let mut rig = idle().await;
    rig.crash_engine();
    let begun = rig.start("1.1.0").await;
    assert_outcome(
        &begun,
        Outcome::Unconfirmed,
        "the engine has not begun within 15 s",
    );
    assert_eq!(rig.image_of("mcp-server"), image("1.1.0"));
    rig.start_engine("second");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_promote_that_nobody_acts_on_is_unconfirmed() {
    let mut rig = gated().await;
    rig.crash_engine();
    let acted = rig.wish(Verb::Promote, false).await;
    assert_outcome(&acted, Outcome::Unconfirmed, "not acted on within 30 s");
    let second = rig.wish(Verb::Promote, false).await;
    assert_outcome(&second, Outcome::Refused, "waits to be acted on");
    rig.start_engine("second");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_without_a_leader_is_left_for_the_next_one() {
    let mut rig = at_weight(10).await;
    rig.crash_engine();
    let fresh = rig.wish(Verb::Rollback, false).await;
    assert_outcome(&fresh, Outcome::Unconfirmed, "not acted on within 30 s");
    rig.pass(60).await;
    let stale = rig.wish(Verb::Rollback, false).await;
    assert_outcome(
        &stale,
        Outcome::Unconfirmed,
        "start `canary-mcp serve` with --lead prod-kr",
    );
    assert_eq!(rig.weights(), (90, 10));
    rig.start_engine("second");
    assert_eq!(
        rig.until_phase(Phase::Failed).await,
        sequence(&[("Progressing", 10), ("Progressing", 0), ("Failed", 0)])
    );
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

#[tokio::test(start_paused = true)]
async fn promote_and_rollback_are_applied_once() {
    let rig = gated().await;
    let acted = rig.wish(Verb::Promote, false).await;
    assert_outcome(&acted, Outcome::Applied, "the run is being promoted");
    let again = rig.wish(Verb::Promote, false).await;
    assert_outcome(&again, Outcome::Already, "being promoted");
    rig.until_phase(Phase::Succeeded).await;
    let after = rig.wish(Verb::Promote, false).await;
    assert_outcome(&after, Outcome::Already, "promoted already");
    assert_refused(
        &rig,
        rig.wish(Verb::Rollback, false),
        "there is nothing to roll back",
    )
    .await;
    rig.start("1.2.0").await;
    let back = rig.wish(Verb::Rollback, false).await;
    assert_outcome(&back, Outcome::Applied, "rolled back");
    rig.until_phase(Phase::Failed).await;
    let twice = rig.wish(Verb::Rollback, false).await;
    assert_outcome(&twice, Outcome::Already, "rolled back already");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_under_way_is_already_so() {
    let rig = at_weight(10).await;
    rig.wish(Verb::Rollback, false).await;
    let again = rig.wish(Verb::Rollback, false).await;
    assert_outcome(&again, Outcome::Already, "the run is being rolled back");
    assert_eq!(rig.canary().str_at("/status/run/stage"), Some("reverting"));
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_that_nobody_would_drive() {
    let mut rig = Rig::without_engine(true);
    rig.pass(10).await;
    assert_refused(
        &rig,
        rig.start("1.1.0"),
        "nobody has ever led cluster prod-kr",
    )
    .await;
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.pass(10).await;
    rig.crash_engine();
    rig.pass(60).await;
    assert_refused(&rig, rig.start("1.1.0"), "nobody leads cluster prod-kr").await;
    assert_eq!(rig.image_of("mcp-server"), image("1.0.0"));
}

#[tokio::test(start_paused = true)]
async fn a_promote_without_a_leader_is_refused() {
    let mut rig = gated().await;
    rig.crash_engine();
    rig.pass(60).await;
    assert_refused(
        &rig,
        rig.wish(Verb::Promote, false),
        "nobody leads cluster prod-kr",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_is_refused_before_anything_is_written() {
    let rig = idle().await;
    let stale = async {
        let other = |s: &mut canary_mcp::engine::control::Start| {
            s.expect_revision = Some("00000000".to_owned());
        };
        rig.start_with("1.1.0", other).await.unwrap()
    };
    assert_refused(&rig, stale, "not 00000000; call get_status").await;
    rig.edit_spec(|spec| spec["suspend"] = true.into());
    rig.pass(5).await;
    assert_refused(&rig, rig.start("1.1.0"), "suspended").await;
    rig.edit_spec(|spec| spec["suspend"] = false.into());
    rig.pass(5).await;
    let before = rig.writes();
    let unknown = rig
        .start_with("1.1.0", |s| s.container = Some("nginx".to_owned()))
        .await;
    let Err(ControlError::Invalid(why)) = unknown else {
        panic!("{unknown:?}");
    };
    assert_eq!(
        why,
        "container: there is no container nginx; name one of: mcp-server"
    );
    let nowhere = rig
        .start_with("1.1.0", |s| s.key.name = "no-such".to_owned())
        .await;
    assert!(
        matches!(&nowhere, Err(ControlError::NotFound(why)) if why.starts_with("name: ")),
        "{nowhere:?}"
    );
    assert_eq!(rig.writes(), before);
    assert_eq!(rig.image_of("mcp-server"), image("1.0.0"));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_git_owns_is_left_to_git() {
    let rig = idle().await;
    rig.annotate(
        &DEPLOYMENT,
        "mcp-server",
        "argocd.argoproj.io/tracking-id",
        "mcp:apps/Deployment:ai-platform/mcp-server",
    );
    rig.pass(5).await;
    assert_refused(
        &rig,
        rig.start("1.1.0"),
        "is owned by Argo CD application mcp; change the image of container mcp-server to registry.example/mcp-server:1.1.0 in git",
    )
    .await;
    rig.edit(&DEPLOYMENT, "mcp-server", |d| {
        let metadata = &mut d["metadata"];
        metadata["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("argocd.argoproj.io/tracking-id");
        metadata["labels"]["kustomize.toolkit.fluxcd.io/name"] = "apps".into();
        metadata["labels"]["kustomize.toolkit.fluxcd.io/namespace"] = "flux-system".into();
    });
    rig.pass(5).await;
    assert_refused(
        &rig,
        rig.start("1.1.0"),
        "is owned by Flux Kustomization flux-system/apps",
    )
    .await;
    // What is synced from git begins a run by itself.
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_failed_is_not_started_again_until_the_live_one_was_back() {
    let rig = idle().await;
    rig.start("1.2.0-errors").await;
    rig.until_phase(Phase::Failed).await;
    rig.pass(10).await;
    assert_refused(
        &rig,
        rig.start("1.2.0-errors"),
        "was rolled back (failed checks threshold reached 3)",
    )
    .await;
    rig.set_image("1.0.0");
    rig.pass(5).await;
    let again = rig.start("1.2.0-errors").await;
    assert_outcome(&again, Outcome::Applied, "");
    rig.until_phase(Phase::Failed).await;
    rig.assert_ended(Phase::Failed, "1.0.0").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_to_promote_and_nothing_to_roll_back_is_said() {
    let rig = idle().await;
    let promote = rig.wish(Verb::Promote, false);
    assert_refused(
        &rig,
        promote,
        "there is nothing to promote (phase Initialized)",
    )
    .await;
    let rollback = rig.wish(Verb::Rollback, false);
    assert_refused(&rig, rollback, "no run is going on (phase Initialized)").await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(10))
        .await;
    rig.pass(10).await;
    let promote = rig.wish(Verb::Promote, false);
    assert_refused(
        &rig,
        promote,
        "nothing waits for approval (phase Progressing)",
    )
    .await;
    rig.edit_spec(|spec| spec["suspend"] = true.into());
    rig.pass(5).await;
    assert_refused(&rig, rig.wish(Verb::Promote, true), "suspended").await;
    assert_refused(&rig, rig.wish(Verb::Rollback, false), "suspended").await;
}

/// A Deployment of its own with a Service, under another name.
fn plain(rig: &Rig) {
    let store = rig.member().server.store();
    let copy = |kind, change: fn(&mut Value)| {
        let there = store.get(&kind, "ai-platform", "mcp-server").unwrap();
        let labels = json!({"app": "plain"});
        let mut object = json!({"spec": there["spec"]});
        object["metadata"] = json!({"name": "plain", "namespace": "ai-platform", "labels": labels});
        change(&mut object);
        store.create(&kind, object, "kubectl").unwrap();
    };
    copy(DEPLOYMENT, |d| {
        d["spec"]["selector"]["matchLabels"] = json!({"app": "plain"});
        d["spec"]["template"]["metadata"]["labels"] = json!({"app": "plain"});
    });
    copy(SERVICE, |s| {
        let spec = s["spec"].as_object_mut().unwrap();
        spec.retain(|key, _| key == "ports");
        spec.insert("selector".to_owned(), json!({"app": "plain"}));
    });
}

#[tokio::test(start_paused = true)]
async fn a_deployment_without_a_canary_is_answered_with_one_that_works() {
    let rig = Rig::without_engine(true);
    plain(&rig);
    rig.pass(10).await;
    let before = rig.writes();
    let acted = rig
        .start_with("1.1.0", |s| s.key.name = "plain".to_owned())
        .await
        .unwrap();
    assert_outcome(
        &acted,
        Outcome::Refused,
        "Deployment ai-platform/plain has no Canary",
    );
    assert_eq!(rig.writes(), before);
    let (_, manifest) = acted.reason.split_once(":\n").unwrap();
    let canary: Value = serde_saphyr::from_str(manifest).unwrap();
    let store = rig.member().server.store();
    store.create(&CANARY, canary, "kubectl").unwrap();
    let mut rig = rig;
    rig.start_engine("first");
    rig.until_stored("the new Canary", |r| {
        let canary = r.object(&CANARY, "plain").unwrap();
        canary.str_at("/status/phase") == Some("Initialized")
    })
    .await;
    assert_eq!(rig.image_of("plain-primary"), image("1.0.0"));
}
