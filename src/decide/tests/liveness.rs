//! Every run ends, and ends right, once the world lets it.

use proptest::prelude::*;

use super::{
    fixtures::plan,
    invariants::{events, initialized, plans, rest},
    world::{Event, Health, World},
};
use crate::decide::{
    effect::Traffic,
    state::{Phase, Stage},
};

/// Everybody who is asked says yes, and nobody has to wait for others.
fn open_all(world: &mut World) {
    world.refusing.clear();
    for event in [
        Event::Gates(false, false, false),
        Event::Pending(false),
        Event::Queue(None),
    ] {
        world.happen(&event);
        rest(world);
    }
}

/// Lets pods come up and time pass until nothing goes on.
fn let_it_end(world: &mut World) {
    for _ in 0..400 {
        for event in [Event::CanaryReady, Event::PrimaryReady, Event::Seconds(30)] {
            world.happen(&event);
            rest(world);
        }
    }
}

fn assert_idle_shape(world: &World) {
    assert_eq!(world.state.stage, Stage::Idle, "{:?}", world.state);
    assert_eq!(world.state.weight(), 0);
    assert_eq!(world.route, Some(Traffic::PRIMARY));
    assert_eq!(world.target.desired, 0);
    assert!(world.paused);
}

fn started(plan: crate::decide::plan::Plan, health: Health) -> World {
    let mut world = initialized(plan);
    world.happen(&Event::Analysis(health));
    world.happen(&Event::Edit(2));
    rest(&mut world);
    world
}

#[test]
fn a_good_version_is_promoted() {
    for plan in [plan(), plan().returning_by(4), plan().skipping()] {
        let mut world = started(plan, Health::Good);
        let_it_end(&mut world);
        assert_idle_shape(&world);
        assert_eq!(world.state.phase, Phase::Succeeded);
        assert_eq!(world.primary.as_ref().unwrap().template, 2);
        assert_eq!(world.state.last_promoted.as_deref(), Some("v2"));
        assert_eq!(world.state.failed_checks, 0);
    }
}

#[test]
fn a_bad_version_is_rolled_back_and_never_reaches_the_primary() {
    for health in [Health::Bad, Health::Silent] {
        let mut world = started(plan(), health);
        let_it_end(&mut world);
        assert_idle_shape(&world);
        assert_eq!(world.state.phase, Phase::Failed);
        assert_eq!(world.primary.as_ref().unwrap().template, 1);
        assert_eq!(world.allowed.iter().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(world.state.last_promoted.as_deref(), Some("v1"));
        assert_eq!(world.state.failed_checks, 3);
    }
}

#[test]
fn a_closed_gate_holds_the_last_weight_for_ever() {
    let mut world = started(plan().gated(), Health::Good);
    let_it_end(&mut world);
    assert_eq!(world.state.phase, Phase::WaitingPromotion);
    assert_eq!(world.route, Some(Traffic::to_canary(15)));
    assert_eq!(world.primary.as_ref().unwrap().template, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened before: once the world is healthy and nobody interferes, everything comes to rest on the primary.
    #[test]
    fn everything_ends_in_a_healthy_world(plan in plans(), events in events()) {
        let mut world = initialized(plan);
        for event in &events {
            world.happen(event);
            rest(&mut world);
        }
        for event in [
            Event::Suspend(false), Event::Gates(false, false, false), Event::Threshold(1000), Event::Analysis(Health::Good),
        ] {
            world.happen(&event);
            rest(&mut world);
        }
        open_all(&mut world);
        let_it_end(&mut world);
        assert_idle_shape(&world);
        prop_assert!(!world.state.phase.running());
        let live = format!("v{}", world.target.template);
        if world.state.phase == Phase::Succeeded {
            let primary = world.primary.as_ref().unwrap().template;
            prop_assert_eq!(world.state.last_promoted.clone(), Some(format!("v{primary}")));
        }
        prop_assert_eq!(world.state.last_applied.as_deref(), Some(live.as_str()));
    }

    /// The same with a version that never passes: the primary keeps what it had.
    #[test]
    fn a_failing_analysis_ends_failed(plan in plans(), seconds in 1_i64..90, silent in any::<bool>()) {
        let mut world = started(plan, if silent { Health::Silent } else { Health::Bad });
        open_all(&mut world);
        for _ in 0..600 {
            for event in [Event::CanaryReady, Event::Seconds(seconds)] {
                world.happen(&event);
                rest(&mut world);
            }
        }
        assert_idle_shape(&world);
        prop_assert_eq!(world.state.phase, Phase::Failed);
        prop_assert_eq!(world.primary.as_ref().unwrap().template, 1);
    }
}
