//! The house's invariants, written apart from `rules.rs`, over random worlds.

use proptest::prelude::*;

use super::{
    fixtures::{plan, text},
    world::{Event, Health, World},
};
use crate::decide::{
    Act, Step, Wait,
    effect::{Copied, Effect, Traffic},
    facts::{Answers, Question, Verb},
    rules,
    state::{Phase, Stage, State},
    step,
};

/// Steps without rest that the machine may take at one moment.
const MOST: usize = 20;

/// Steps until the machine rests, with every invariant asserted on the way; the last wait.
pub(super) fn rest(world: &mut World) -> Wait {
    run(world, true)
}

fn run(world: &mut World, crashes: bool) -> Wait {
    let mut answers = Answers::default();
    let mut trace = Vec::new();
    for _ in 0..MOST {
        let decided = step(&world.plan, &world.state, &world.seen(), &answers);
        trace.push(text(&decided));
        match decided {
            Step::Ask(Question::Analysis) => answers.analysis = Some(world.analysis()),
            Step::Ask(Question::Hook(_)) => unreachable!("no hooks"),
            Step::Act(act) => {
                check_act(world, &act, &trace);
                let before = world.clone();
                carry_out(world, &act, act.effects.len(), &trace);
                world.state = act.next.clone();
                if crashes && !act.effects.is_empty() {
                    check_crash(&before, &act, world, &trace);
                }
                answers = Answers::default();
                if act.wait != Wait::Again {
                    check_rest(world, &trace);
                    return act.wait;
                }
            }
        }
    }
    panic!("no rest after {MOST} steps: {trace:#?}");
}

/// Applies the first `count` effects, with what holds for each one.
fn carry_out(world: &mut World, act: &Act, count: usize, trace: &[String]) {
    for effect in &act.effects[..count] {
        check_effect(world, *effect, trace);
        world.apply(*effect);
        if let (Effect::CreatePrimary | Effect::Primary(_), Some(primary)) =
            (effect, &world.primary)
        {
            world.allowed.insert(primary.template);
        }
    }
}

/// Invariants 1 to 4 for one effect on the world that it meets.
fn check_effect(world: &World, effect: Effect, trace: &[String]) {
    let (primary, canary) = (world.primary_endpoints() > 0, world.target.endpoints() > 0);
    match effect {
        Effect::Traffic(to) => {
            let from = world.share();
            let next = world.plan.steps.iter().find(|s| **s > world.state.weight());
            let most = match world.state.stage {
                Stage::Starting | Stage::Analysing | Stage::Gated => {
                    *next.unwrap_or(&world.state.weight())
                }
                Stage::Bootstrap => 0,
                Stage::Idle
                | Stage::Copying
                | Stage::Shifting
                | Stage::Settling
                | Stage::Reverting
                | Stage::Restoring => {
                    if primary {
                        world.state.weight
                    } else {
                        100
                    }
                }
            };
            assert!(
                to.canary() <= most,
                "1: {} > {most}: {trace:#?}",
                to.canary()
            );
            assert!(
                !(to.canary() > from && primary && !canary),
                "2: dead canary: {trace:#?}"
            );
            assert!(
                !(to.canary() < from && canary && !primary),
                "2: dead primary: {trace:#?}"
            );
        }
        Effect::ScaleToZero | Effect::PauseScaler => {
            assert_eq!(world.share(), 0, "3: the canary has traffic: {trace:#?}");
            let quiet = world.quiet_since.map(|at| world.now.since(at));
            assert!(
                quiet >= Some(world.plan.settle),
                "3: {quiet:?} ms: {trace:#?}"
            );
        }
        Effect::Primary(Copied::Promoted) => {
            let run = world.state.run.as_ref().unwrap();
            let passed = world.found == Some((run.id.clone(), Health::Good));
            assert!(passed || run.skip.is_some(), "4: not analysed: {trace:#?}");
        }
        Effect::Primary(Copied::Previous) => {
            let name = world
                .state
                .run
                .as_ref()
                .and_then(|r| r.previous.clone())
                .unwrap();
            let template = world.pins[&name];
            assert!(
                world.allowed.contains(&template),
                "4: never promoted: {trace:#?}"
            );
        }
        Effect::CreatePrimary => {
            let promoted = world
                .state
                .promoted_pin()
                .and_then(|p| world.pins.get(&p).copied());
            let template = promoted.unwrap_or(world.target.template);
            let allowed = world.allowed.contains(&template);
            assert!(
                allowed || world.state.stage == Stage::Bootstrap,
                "4: made new: {trace:#?}"
            );
        }
        Effect::Pin
        | Effect::Services
        | Effect::CreatePrimaryScaler
        | Effect::Apex
        | Effect::Route
        | Effect::ResumeScaler
        | Effect::ScaleUp(_)
        | Effect::Target
        | Effect::TakeOff(_)
        | Effect::SyncPrimaryScaler => {}
    }
}

/// The rules that production checks, and what an act as a whole must hold.
fn check_act(world: &World, act: &Act, trace: &[String]) {
    let broken = rules::broken(&world.plan, &world.state, &world.seen(), act);
    assert!(broken.is_empty(), "{broken:?}: {trace:#?}");
    let told_twice = act.effects.is_empty() && act.next == world.state && !act.tell.is_empty();
    assert!(
        !told_twice,
        "7: told without a record, so told at each step: {trace:#?}"
    );
    if act.next.stage == Stage::Copying && world.state.stage != Stage::Copying {
        let run = act.next.run.as_ref().unwrap();
        let passed = world.found == Some((run.id.clone(), Health::Good));
        let under = act.next.failed_checks < world.plan.threshold;
        assert!(
            run.skip.is_some() || (passed && under),
            "4: promotes: {trace:#?}"
        );
        assert_eq!(
            run.revision,
            format!("v{}", world.target.template),
            "4: {trace:#?}"
        );
    }
    let ends = act.next.stage == Stage::Idle && world.state.stage != Stage::Idle;
    if ends && !world.plan.suspend {
        let (primary, canary) = (world.primary_endpoints() > 0, world.target.endpoints() > 0);
        let share = world.share();
        assert!(
            !(share > 0 && !canary && primary),
            "6: on a dead canary: {trace:#?}"
        );
        assert!(
            !(share < 100 && !primary && canary),
            "6: on a dead primary: {trace:#?}"
        );
    }
}

/// Invariants 2, 5 and 8 where the machine rests.
fn check_rest(world: &World, trace: &[String]) {
    let again = step(
        &world.plan,
        &world.state,
        &world.seen(),
        &Answers::default(),
    );
    let Step::Act(act) = &again else {
        panic!("8: asks after it rested: {trace:#?}");
    };
    assert!(
        act.effects.is_empty() && act.next == world.state && act.tell.is_empty(),
        "8: goes on with {}: {trace:#?}",
        text(&again)
    );
    if world.plan.suspend {
        return;
    }
    let (primary, canary) = (world.primary_endpoints() > 0, world.target.endpoints() > 0);
    assert!(
        !(world.share() > 0 && !canary && primary),
        "2: a dead canary keeps traffic: {trace:#?}"
    );
    let stage = world.state.stage;
    if stage.copied() {
        assert!(
            !(world.share() < 100 && !primary && canary),
            "2: a dead primary keeps traffic: {trace:#?}"
        );
    }
    let run = world.state.run.as_ref().map(|r| r.revision.clone());
    if stage.copied() && primary && run != Some(format!("v{}", world.target.template)) {
        assert_eq!(
            world.share(),
            0,
            "4: traffic to what nobody analysed: {trace:#?}"
        );
    }
    match stage {
        Stage::Starting | Stage::Analysing | Stage::Gated | Stage::Copying | Stage::Shifting => {
            assert!(
                world.target.desired > 0 && !world.paused,
                "5: running at zero: {trace:#?}"
            );
        }
        Stage::Idle if act.wait == Wait::Change && primary && world.state.weight() == 0 => {
            assert!(
                world.target.desired == 0 && world.paused,
                "5: idle and up: {trace:#?}"
            );
            assert_eq!(world.route, Some(Traffic::PRIMARY), "5: {trace:#?}");
        }
        Stage::Idle | Stage::Bootstrap | Stage::Settling | Stage::Reverting | Stage::Restoring => {}
    }
}

/// For every prefix of the effects: the old state on that world reaches what the whole act reaches.
fn check_crash(before: &World, act: &Act, after: &World, trace: &[String]) {
    let mut whole = after.clone();
    if act.wait == Wait::Again {
        run(&mut whole, false);
    }
    for count in 0..=act.effects.len() {
        let mut crashed = before.clone();
        carry_out(&mut crashed, act, count, trace);
        run(&mut crashed, false);
        let (left, right) = (end(&crashed), end(&whole));
        assert_eq!(
            left, right,
            "8: crash after {count} of the effects: {trace:#?}"
        );
    }
}

/// All that two histories must agree on.
fn end(world: &World) -> (State, impl PartialEq + std::fmt::Debug) {
    let objects = (
        world.target.clone(),
        world.primary.clone(),
        world.pins.clone(),
        world.route,
        world.paused,
        (
            world.services,
            world.apex,
            world.primary_scaler,
            world.synced,
        ),
    );
    (world.state.clone(), objects)
}

fn event() -> impl Strategy<Value = Event> {
    let health = prop_oneof![
        3 => Just(Health::Good),
        1 => Just(Health::Bad),
        1 => Just(Health::Silent)
    ];
    let wish = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(rollback, skip, stale)| Event::Wish {
            verb: if rollback {
                Verb::Rollback
            } else {
                Verb::Promote
            },
            skip,
            stale,
        },
    );
    let clock = prop::sample::select(vec![1, 5, 10, 60, 60, 60, 700]).prop_map(Event::Seconds);
    prop_oneof![
        12 => clock,
        10 => Just(Event::CanaryReady),
        10 => Just(Event::PrimaryReady),
        4 => (1_u8..5).prop_map(Event::Edit),
        3 => health.prop_map(Event::Analysis),
        3 => wish,
        8 => prop::sample::select(vec![
            Event::CanaryShort, Event::CanaryDies, Event::CanaryCrashes, Event::CanaryLate,
            Event::PrimaryShort, Event::PrimaryDies, Event::PrimaryCrashes, Event::PrimaryLate,
            Event::PrimaryDeleted, Event::EditBack, Event::Gate(true), Event::Gate(false),
            Event::Suspend(true), Event::Suspend(false), Event::Suspend(false),
            Event::Parted(true), Event::Parted(false), Event::SkipAnalysis(true), Event::SkipAnalysis(false), Event::Threshold(1),
            Event::Threshold(3), Event::Steps(20), Event::Steps(10), Event::RouteByHand(0),
            Event::RouteByHand(50), Event::RouteByHand(100), Event::RouteDeleted,
            Event::ApexByHand, Event::Unpaused, Event::Paused, Event::PinDeleted,
        ]),
    ]
}

pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..60)
}

/// A plan with or without the shift back in steps, and with a settle of zero now and then.
pub(super) fn plans() -> impl Strategy<Value = crate::decide::plan::Plan> {
    (prop::option::of(1_u8..10), prop::bool::weighted(0.2)).prop_map(|(back, no_settle)| {
        let mut plan = plan();
        plan.step_weight_promotion = back;
        if no_settle {
            plan.settle = 0;
        }
        plan
    })
}

/// Bootstrapped with template 1 and at rest.
pub(super) fn initialized(plan: crate::decide::plan::Plan) -> World {
    let mut world = World::new(plan);
    rest(&mut world);
    for event in [Event::PrimaryReady, Event::Seconds(10)] {
        world.happen(&event);
        rest(&mut world);
    }
    assert_eq!(world.state.phase, Phase::Initialized);
    world
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn invariants_hold_from_bootstrap_on(plan in plans(), events in events()) {
        let mut world = World::new(plan);
        rest(&mut world);
        for event in &events {
            world.happen(event);
            rest(&mut world);
        }
    }

    #[test]
    fn invariants_hold_once_initialized(plan in plans(), events in events()) {
        let mut world = initialized(plan);
        world.happen(&Event::Edit(2));
        rest(&mut world);
        for event in &events {
            world.happen(event);
            rest(&mut world);
        }
    }
}

/// The route set back by hand while the Canary is suspended and a check comes due: what passes then had no traffic, and a crash after the
/// repair must not make it a pass of the weight.
#[test]
fn a_route_set_back_while_suspended() {
    for back in [None, Some(5)] {
        let mut plan = plan();
        plan.step_weight_promotion = back;
        let mut world = initialized(plan);
        world.happen(&Event::Edit(2));
        rest(&mut world);
        for event in [
            Event::CanaryReady,
            Event::Suspend(true),
            Event::RouteByHand(0),
            Event::Seconds(60),
            Event::Suspend(false),
        ] {
            world.happen(&event);
            rest(&mut world);
        }
    }
}
