//! Following a rollout on a paused clock.

use std::sync::Mutex;

use tokio::{
    sync::watch::{self, Sender},
    time::sleep,
};

use super::*;
use crate::{
    api::view::{Copies, CopyView, Pair, StepOf, WaitingFor, WeightView},
    decide::state::Phase,
};

/// A rollout at `step` of 6 with `weight` percent to the canary.
pub(in crate::mcp) fn rollout(phase: Phase, weight: u8, step: i64) -> RolloutView {
    RolloutView {
        cluster: "prod-kr".to_owned(),
        namespace: "ai-platform".to_owned(),
        name: "mcp-server".to_owned(),
        strategy: "canary".to_owned(),
        phase,
        waiting_for: None,
        weight: WeightView {
            written: weight,
            mirrored: None,
            matched: None,
            observed: None,
            observed_at: None,
        },
        step: StepOf { n: step, of: 6 },
        run: Some("run-1".to_owned()),
        revision: Pair {
            live: None,
            canary: None,
        },
        image: Pair {
            live: None,
            canary: None,
        },
        failed_checks: 0,
        threshold: 3,
        checks: Vec::new(),
        steps: Vec::new(),
        steps_merged: 0,
        copies: Copies {
            primary: CopyView::default(),
            canary: CopyView::default(),
        },
        kept: Vec::new(),
        events: Vec::new(),
        elapsed_seconds: None,
        estimated_end: None,
        next_check_at: None,
        reason: None,
        led_by: None,
        cursor: format!("run-1:{}:{weight}", phase.name()),
    }
}

type Heard = Arc<Mutex<Vec<(f64, String)>>>;

/// A rollout that the test moves, and what the caller hears of it.
struct Scene {
    world: Sender<Option<Arc<RolloutView>>>,
    follow: Follow,
    progress: Progress,
    heard: Heard,
    limits: Limits,
}

fn scene(patience: Duration) -> Scene {
    let (world, receiver) = watch::channel(None);
    let heard = Heard::default();
    let ear = Arc::clone(&heard);
    Scene {
        world,
        follow: Follow {
            receiver,
            task: tokio::spawn(std::future::pending()),
        },
        progress: Progress::to(Box::new(move |progress, message| {
            ear.lock().unwrap().push((progress, message));
            std::future::ready(()).boxed()
        })),
        heard,
        limits: Limits {
            patience,
            cancelled: CancellationToken::new(),
            draining: CancellationToken::new(),
        },
    }
}

fn ended(view: &RolloutView) -> bool {
    !view.phase.running()
}

#[tokio::test(start_paused = true)]
async fn each_step_is_told_once_and_silence_is_filled() {
    let mut scene = scene(LONGEST_WAIT);
    let world = scene.world.clone();
    tokio::spawn(async move {
        let script = [
            rollout(Phase::Progressing, 5, 1),
            // The same step with another value of a check: no news.
            RolloutView {
                elapsed_seconds: Some(9),
                ..rollout(Phase::Progressing, 5, 1)
            },
            RolloutView {
                next_check_at: Some("2026-11-21T00:03:00Z".to_owned()),
                ..rollout(Phase::Progressing, 10, 2)
            },
            rollout(Phase::Succeeded, 0, 6),
        ];
        for view in script {
            world.send(Some(Arc::new(view))).unwrap();
            sleep(Duration::from_secs(20)).await;
        }
    });
    let mut last = None;
    let end = follow(
        &mut scene.follow,
        &mut last,
        ended,
        &scene.limits,
        &mut scene.progress,
    )
    .await;
    assert_eq!(end, Ended::Reached);
    assert_eq!(last.unwrap().phase, Phase::Succeeded);
    let said = |view: RolloutView| told(&view);
    let five = said(rollout(Phase::Progressing, 5, 1));
    let ten = said(rollout(Phase::Progressing, 10, 2));
    let heard = scene.heard.lock().unwrap().clone();
    assert_eq!(
        heard,
        [
            (0.0, five.clone()),
            (1.0, format!("still {five}")),
            (2.0, format!("still {five}")),
            (3.0, ten.clone()),
            (
                4.0,
                format!("still {ten}, next check at 2026-11-21T00:03:00Z")
            ),
            (5.0, said(rollout(Phase::Succeeded, 0, 6))),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn time_cancellation_drain_and_loss_end_it() {
    for (act, expected) in [
        (None, Ended::TimeUp),
        (Some("cancel"), Ended::Cancelled),
        (Some("drain"), Ended::Draining),
        (Some("lose"), Ended::Lost),
    ] {
        let scene = scene(Duration::from_secs(50));
        let Scene {
            world,
            mut follow,
            mut progress,
            limits,
            ..
        } = scene;
        world
            .send(Some(Arc::new(rollout(Phase::Progressing, 5, 1))))
            .unwrap();
        let (cancelled, draining) = (limits.cancelled.clone(), limits.draining.clone());
        let began = Instant::now();
        tokio::spawn(async move {
            sleep(Duration::from_secs(7)).await;
            match act {
                Some("cancel") => cancelled.cancel(),
                Some("drain") => draining.cancel(),
                Some(_) => drop(world),
                // Keeps the rollout there.
                None => {
                    sleep(LONGEST_WAIT).await;
                    drop(world);
                }
            }
        });
        let mut last = None;
        let end = super::follow(&mut follow, &mut last, ended, &limits, &mut progress).await;
        assert_eq!(end, expected);
        let seconds = if act.is_none() { 50 } else { 7 };
        assert_eq!(began.elapsed(), Duration::from_secs(seconds), "{act:?}");
        assert_eq!(last.unwrap().weight.written, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_reached_already_is_not_waited_for() {
    let mut scene = scene(LONGEST_WAIT);
    let mut last = Some(Arc::new(rollout(Phase::Failed, 0, 2)));
    let end = follow(
        &mut scene.follow,
        &mut last,
        ended,
        &scene.limits,
        &mut scene.progress,
    )
    .await;
    assert_eq!(end, Ended::Reached);
    assert_eq!(*scene.heard.lock().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn slow_work_gives_signs_of_life() {
    let mut scene = scene(LONGEST_WAIT);
    let done = scene
        .progress
        .during(
            async {
                sleep(Duration::from_secs(31)).await;
                7
            },
            "still at it",
        )
        .await;
    assert_eq!(done, 7);
    assert_eq!(
        *scene.heard.lock().unwrap(),
        [
            (0.0, "still at it".to_owned()),
            (1.0, "still at it".to_owned())
        ]
    );
}

#[test]
fn a_person_hears_of_steps_failures_and_waits() {
    let view = rollout(Phase::Progressing, 10, 2);
    for (other, news) in [
        (view.clone(), false),
        (rollout(Phase::Progressing, 15, 3), true),
        (rollout(Phase::Promoting, 10, 2), true),
        (
            RolloutView {
                failed_checks: 1,
                ..view.clone()
            },
            true,
        ),
        (
            RolloutView {
                waiting_for: Some(WaitingFor {
                    what: "the gate".to_owned(),
                    since: None,
                    how: None,
                    opens: false,
                }),
                ..view.clone()
            },
            true,
        ),
        (
            RolloutView {
                run: Some("run-2".to_owned()),
                ..view.clone()
            },
            true,
        ),
    ] {
        assert_eq!(differ(&view, &other), news, "{other:?}");
    }
}

#[test]
fn only_known_clients_are_kept_waiting() {
    for (heard, client, seconds) in [
        (true, Some("claude-code"), 3600),
        (false, Some("claude-code"), 50),
        (true, Some("cursor"), 50),
        (true, None, 50),
    ] {
        assert_eq!(
            default_patience(heard, client),
            Duration::from_secs(seconds),
            "{client:?}"
        );
    }
}
