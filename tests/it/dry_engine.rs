//! The dry run of the whole engine (`--dry-run`): it decides, and changes nothing, or everything but routes and promotions.

use canary_mcp::{
    api::{
        dry_run::DryRun,
        objects::{DEPLOYMENT, LEASE, ObjectExt, SERVICE, VIRTUAL_SERVICE},
    },
    cluster::embedded::traffic::Source,
    decide::{facts::Verb, state::Phase},
    engine::control::{Outcome, Start},
};
use serde_json::{Value, json};

use crate::support::{NAME, Process, Rig, image};

fn engine(rig: &Rig, identity: &str, dry_run: Option<DryRun>) -> Process {
    rig.process_with(identity, |settings| settings.dry_run = dry_run)
}

/// What the metrics show of the rollout: Flagger's status (0 goes on, 1 is well, 2 has failed), and the weight.
fn shown(rig: &Rig) -> Option<(i64, i64)> {
    let text = rig.metrics.encode().unwrap();
    let value = |name: &str| -> Option<i64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit_once(' ')?.1.parse().ok()
    };
    Some((
        value("flagger_canary_status{")?,
        value("flagger_canary_weight{workload=\"mcp-server\",")?,
    ))
}

/// Follows what is shown until it is so; without repeats.
async fn follow(rig: &Rig, end: (i64, i64)) -> Vec<(i64, i64)> {
    let mut seen = Vec::new();
    for _ in 0..3_600 {
        if let Some(now) = shown(rig)
            && seen.last() != Some(&now)
        {
            seen.push(now);
            if now == end {
                return seen;
            }
        }
        rig.pass(1).await;
    }
    panic!("not {end:?} within an hour: {seen:?}");
}

fn start(rig: &Rig, tag: &str) -> Start {
    Start {
        key: rig.rollout(),
        image: Some(image(tag)),
        container: None,
        retry: false,
        expect_revision: None,
        by: None,
    }
}

#[tokio::test(start_paused = true)]
async fn observing_whole_rollouts_are_decided_and_nothing_is_written() {
    let rig = Rig::without_engine(true);
    rig.pass(120).await;
    let _observer = engine(&rig, "observer", Some(DryRun::Observe));
    rig.pass(120).await;
    assert_eq!(shown(&rig), Some((1, 0)));
    rig.set_image("1.1.0");
    follow(&rig, (0, 5)).await;
    // The target gets what it has always got; the weight is in nobody's route.
    let from = rig.counts();
    assert_eq!(
        follow(&rig, (1, 0)).await,
        [
            (0, 5),
            (0, 10),
            (0, 15),
            (0, 20),
            (0, 25),
            (0, 30),
            // The primary is promoted, then it has everything again.
            (1, 30),
            (1, 0)
        ]
    );
    assert!(rig.counts().since(&from).share(NAME) > 99.9);
    // A good version after it, and a bad one.
    rig.pass(60).await;
    rig.set_image("1.2.0");
    follow(&rig, (0, 30)).await;
    follow(&rig, (1, 0)).await;
    rig.pass(60).await;
    rig.set_image("1.3.0-errors");
    follow(&rig, (2, 0)).await;

    assert_eq!(
        rig.writes(),
        0,
        "{:?}",
        rig.member().server.faults().counts()
    );
    assert_eq!(rig.canary()["status"], Value::Null);
    assert_eq!(rig.events(), []);
    assert_eq!(rig.replicas_of(NAME), 2);
    assert_eq!(rig.object(&DEPLOYMENT, "mcp-server-primary"), None);
    assert_eq!(rig.object(&VIRTUAL_SERVICE, NAME), None);
    let apex = rig.object(&SERVICE, NAME).unwrap();
    assert_eq!(apex["spec"]["selector"], json!({"app": "mcp-server"}));
}

#[tokio::test(start_paused = true)]
async fn who_only_observes_says_so_and_its_tools_write_nothing() {
    let rig = Rig::without_engine(true);
    let _observer = engine(&rig, "observer", Some(DryRun::Observe));
    rig.pass(120).await;
    let store = rig.member().server.store();
    let lease = store
        .get(&LEASE, "canary-mcp-system", "canary-mcp")
        .unwrap();
    assert_eq!(lease.annotation("canary-mcp.dev/dry-run"), Some("observe"));

    let view = rig.view().await;
    assert_eq!(
        view.dry_run.as_deref(),
        Some(
            "the engine is in dry-run (observe): it decides and logs and writes nothing; its numbers are of the target as it stands, \
             with the traffic that it has, not of a canary under its weight"
        )
    );
    let clusters = rig.control.clusters(None).await.unwrap();
    assert_eq!(clusters[0].reason, view.dry_run);
    let why = "observer leads cluster prod-kr in dry-run (observe) and would carry nothing out; start it without --dry-run";
    for acted in [
        rig.control.start(&start(&rig, "1.1.0")).await.unwrap(),
        rig.wish(Verb::Promote, true).await,
        rig.wish(Verb::Rollback, false).await,
    ] {
        assert_eq!(acted.outcome, Outcome::Refused, "{}", acted.reason);
    }
    let acted = rig.control.start(&start(&rig, "1.1.0")).await.unwrap();
    assert!(acted.reason.contains(why), "{}", acted.reason);
    assert_eq!(rig.writes(), 0);
    assert_eq!(rig.image_of(NAME), image("1.0.0"));
}

/// Whoever takes over from one that observed begins from what is there, and the Lease no longer says so.
#[tokio::test(start_paused = true)]
async fn after_an_observer_another_engine_rolls_out() {
    let mut rig = Rig::without_engine(true);
    let observer = engine(&rig, "observer", Some(DryRun::Observe));
    rig.pass(120).await;
    observer.stop().await;
    rig.start_engine("earnest");
    rig.until_phase(Phase::Initialized).await;
    assert_eq!(rig.view().await.dry_run, None);
    // Its Lease is not fresh to this test's control, whose clock has gone on by itself; to the engine it is.
    rig.set_image("1.1.0");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_ended(Phase::Succeeded, "1.1.0").await;
}

/// A cluster where the canary's own Service is called too, as a load test does.
fn with_load() -> Rig {
    Rig::with_fleet(|options| {
        let load = Source::new("ai-platform", "mcp-server-canary", 10);
        options.traffic.push(load);
    })
}

#[tokio::test(start_paused = true)]
async fn without_routes_a_good_version_is_analysed_and_not_promoted() {
    let rig = with_load();
    let _rehearses = engine(&rig, "rehearses", Some(DryRun::Routes));
    rig.until_phase(Phase::Initialized).await;
    assert_eq!(rig.start("1.1.0").await.outcome, Outcome::Applied);
    let seen = rig.until_phase(Phase::Failed).await;
    let weights: Vec<i64> = seen.iter().map(|(_, weight)| *weight).collect();
    assert_eq!(weights, [0, 5, 10, 15, 20, 25, 30, 0, 0], "{seen:?}");
    let canary = rig.canary();
    assert_eq!(
        canary.str_at("/status/run/reason"),
        Some("it would have been promoted")
    );
    assert_eq!(canary["status"]["run"]["rehearsal"], true);
    rig.pass(30).await;
    let said: Vec<String> = rig.events().into_iter().map(|(_, note)| note).collect();
    let promoted = "dry-run: mcp-server.ai-platform would be promoted now, its analysis has passed; no route was written, and nothing is promoted";
    assert!(said.iter().any(|note| note == promoted), "{said:?}");
    assert!(
        said.iter().all(|note| note.starts_with("dry-run: ")),
        "{said:?}"
    );
    assert_eq!(rig.object(&VIRTUAL_SERVICE, NAME), None);
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
    assert_eq!(rig.replicas_of(NAME), 0);
    let view = rig.view().await;
    assert_eq!(view.dry_run.as_deref(), Some(DryRun::Routes.says()));
}

#[tokio::test(start_paused = true)]
async fn without_routes_a_bad_version_fails_by_its_own_checks() {
    let rig = with_load();
    let _rehearses = engine(&rig, "rehearses", Some(DryRun::Routes));
    rig.until_phase(Phase::Initialized).await;
    assert_eq!(rig.start("1.2.0-errors").await.outcome, Outcome::Applied);
    rig.until_phase(Phase::Failed).await;
    assert_eq!(
        rig.canary().str_at("/status/run/reason"),
        Some("failed checks threshold reached 3")
    );
    assert_eq!(rig.object(&VIRTUAL_SERVICE, NAME), None);
    assert_eq!(rig.image_of("mcp-server-primary"), image("1.0.0"));
}

#[tokio::test(start_paused = true)]
async fn a_run_of_one_kind_of_engine_is_not_gone_on_with_by_the_other() {
    let mut rig = with_load();
    let rehearses = engine(&rig, "rehearses", Some(DryRun::Routes));
    rig.until_phase(Phase::Initialized).await;
    rig.start("1.1.0").await;
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    rehearses.kill();
    // Its canary never had traffic: 15% of it would be the first.
    rig.start_engine("earnest");
    rig.until_phase(Phase::Failed).await;
    assert_eq!(
        rig.canary().str_at("/status/run/reason"),
        Some("it was begun in a dry run, and runs are no longer rehearsed")
    );
    rig.until_stored("the route is made", |rig| {
        rig.object(&VIRTUAL_SERVICE, NAME).is_some()
    })
    .await;
    assert_eq!(rig.weights(), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_real_run_is_left_alone_by_engines_in_dry_run() {
    let mut rig = Rig::without_engine(true);
    rig.start_engine("first");
    rig.until_phase(Phase::Initialized).await;
    rig.set_image("1.2.0");
    rig.until(|c| c.int_at("/status/canaryWeight") == Some(15))
        .await;
    rig.crash_engine();
    for (identity, mode) in [("observer", DryRun::Observe), ("rehearses", DryRun::Routes)] {
        let dry = engine(&rig, identity, Some(mode));
        rig.pass(600).await;
        assert_eq!(rig.weights(), (85, 15), "{identity}");
        assert_eq!(
            rig.canary().int_at("/status/canaryWeight"),
            Some(15),
            "{identity}"
        );
        dry.stop().await;
    }
    rig.start_engine("earnest");
    rig.until_phase(Phase::Succeeded).await;
    rig.assert_idle();
}
