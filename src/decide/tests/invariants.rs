//! The house's invariants, written apart from `rules.rs`, over random worlds.

use proptest::prelude::*;

use super::{
    fixtures::{hook, plan, sticky, text},
    world::{Event, Health, World},
};
use crate::decide::{
    Act, Step, Wait,
    effect::{Copied, Effect, Traffic},
    facts::{Answers, HookAnswer, HookCall, Question, Slot, Verb},
    plan::{
        CanaryReplicas, Gates, Hook, HookKind, PlanStep, Router, Strategy as Kind, ThresholdMode,
    },
    rules,
    state::{Phase, Skip, Stage, State, WaitFor},
    step,
    strategy::{ab, blue_green, canary},
};

/// Steps without rest that the machine may take at one moment.
const MOST: usize = 40;

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
            Step::Ask(Question::Analysis) => {
                answers.analysis = Some(world.analysis());
                let refused = asked(world, &answers, HookKind::Rollout) == Some(false);
                if let (true, Some(found)) = (refused, &mut world.found) {
                    found.1 = Health::Bad;
                }
            }
            Step::Ask(Question::Hook(call)) => {
                let kind = world.plan.hooks[call.hook].kind;
                assert!(answers.hook(&call).is_none(), "asks twice: {trace:#?}");
                let answer = if world.says_yes(kind) {
                    HookAnswer::Ok
                } else {
                    HookAnswer::Refused("no".to_owned())
                };
                answers.hooks.push((call, answer));
            }
            Step::Act(act) => {
                check_act(world, &act, &trace);
                check_gates(world, &act, &answers, &trace);
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

/// What the hooks of a kind said in this tick: `None` when none was asked.
fn asked(world: &World, answers: &Answers, kind: HookKind) -> Option<bool> {
    let of_kind = |call: &HookCall| world.plan.hooks[call.hook].kind == kind;
    let said = answers.hooks.iter().filter(|(call, _)| of_kind(call));
    said.map(|(_, answer)| *answer == HookAnswer::Ok)
        .next_back()
}

/// What a gate or a hook holds back is not done before it is open.
fn check_gates(world: &World, act: &Act, answers: &Answers, trace: &[String]) {
    let (plan, now, next) = (&world.plan, &world.state, &act.next);
    if now.run.as_ref().map(|r| &r.id) != next.run.as_ref().map(|r| &r.id) {
        return;
    }
    let skip = next.run.as_ref().and_then(|r| r.skip.as_ref());
    let approved = world.request.as_ref().is_some_and(|r| {
        r.verb == Verb::Promote
            && !r.skip
            && now.handled_request.as_ref() != Some(&r.id)
            && next.handled_request.as_ref() == Some(&r.id)
    });
    let open = |built_in: bool, kind: HookKind| {
        let hooks = plan.hooks(kind).next().is_none() || asked(world, answers, kind) == Some(true);
        hooks && (!built_in || approved)
    };
    let queue = now.run.as_ref().and_then(|r| r.waiting.as_ref());
    let queued = queue.is_some_and(|w| w.what == WaitFor::Queue);
    if now.stage == Stage::Waiting && next.stage == Stage::Starting {
        let by_person = skip.is_some_and(Skip::by_person);
        assert!(
            queued || by_person || open(plan.gates.rollout, HookKind::ConfirmRollout),
            "the rollout gate is closed: {trace:#?}"
        );
        let full = matches!(world.slot, Slot::Queued { .. });
        assert!(!full, "the queue is full: {trace:#?}");
    }
    let more = next.traffic.serves() && next.traffic.raises(now.traffic);
    let before_copy = matches!(next.stage, Stage::Analysing);
    let weights = plan.strategy == Kind::Canary;
    if more && before_copy && plan.strategy != Kind::BlueGreen {
        let hooks = !weights || open(false, HookKind::ConfirmTrafficIncrease);
        assert!(
            hooks && (!plan.gates.traffic || approved),
            "the traffic gate is closed: {trace:#?}"
        );
    }
    let copies = next.stage == Stage::Copying && now.stage != Stage::Copying;
    let switch = more && before_copy && plan.strategy == Kind::BlueGreen;
    let asked_before = plan.strategy == Kind::BlueGreen && plan.last_weight() == 100;
    if (copies && skip.is_none() && !asked_before) || switch {
        assert!(
            open(plan.gates.promotion, HookKind::ConfirmPromotion),
            "the promotion gate is closed: {trace:#?}"
        );
    }
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
            let from = world.traffic();
            let now = world.state.traffic;
            let reach = |t: Traffic| (t.canary(), t.matches(), t.mirror());
            let mut later = world.plan.steps.iter().map(|s| s.traffic);
            let next = later.find(|t| reach(*t) > reach(now)).unwrap_or(now);
            let first = world.plan.steps[0].traffic;
            let ok = match world.state.stage {
                Stage::Starting => to == Traffic::PRIMARY || to == first,
                Stage::Analysing | Stage::Gated => {
                    to == now || to == next || to == Traffic::PRIMARY
                }
                Stage::Bootstrap | Stage::Waiting => to == Traffic::PRIMARY,
                Stage::Idle
                | Stage::Copying
                | Stage::Shifting
                | Stage::Settling
                | Stage::Reverting
                | Stage::Restoring => {
                    let less = !to.matches() && to.mirror() == 0 && to.canary() <= now.canary();
                    to == now || less || (!primary && to == Traffic::CANARY)
                }
            };
            assert!(ok, "1: {to:?} from {now:?}: {trace:#?}");
            assert!(
                !(to.raises(from) && primary && !canary),
                "2: dead canary: {trace:#?}"
            );
            assert!(
                !(to.canary() < from.canary() && canary && !primary),
                "2: dead primary: {trace:#?}"
            );
        }
        Effect::ScaleToZero | Effect::PauseScaler => {
            assert_eq!(
                world.traffic(),
                Traffic::PRIMARY,
                "3: the canary has traffic: {trace:#?}"
            );
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
        Effect::Target => {
            assert_eq!(world.state.stage, Stage::Idle, "the target: {trace:#?}");
            assert!(!world.traffic().serves(), "the target: {trace:#?}");
        }
        Effect::Pin
        | Effect::Services
        | Effect::CreatePrimaryScaler
        | Effect::Apex
        | Effect::Route
        | Effect::ResumeScaler
        | Effect::ScaleUp(_)
        | Effect::TakeOff(_)
        | Effect::Finalizer(_)
        | Effect::GiveBack
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
        let traffic = world.traffic();
        assert!(
            !(traffic.serves() && !canary && primary),
            "6: on a dead canary: {trace:#?}"
        );
        assert!(
            !(traffic.canary() < 100 && !primary && canary),
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
        !(world.traffic().serves() && !canary && primary),
        "2: a dead canary keeps traffic: {trace:#?}"
    );
    let stage = world.state.stage;
    if stage.copied() {
        assert!(
            !(world.traffic().canary() < 100 && !primary && canary),
            "2: a dead primary keeps traffic: {trace:#?}"
        );
    }
    let run = world.state.run.as_ref().map(|r| r.revision.clone());
    if stage.copied() && primary && run != Some(format!("v{}", world.target.template)) {
        assert!(
            !world.traffic().serves(),
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
        // A route that is not carried out says nothing of where the traffic is.
        Stage::Idle if world.pending => {}
        Stage::Idle if act.wait == Wait::Change && primary && !world.state.traffic.serves() => {
            assert!(
                world.target.desired == 0 && world.paused,
                "5: idle and up: {trace:#?}"
            );
            assert_eq!(world.route, Some(Traffic::PRIMARY), "5: {trace:#?}");
        }
        Stage::Idle
        | Stage::Waiting
        | Stage::Bootstrap
        | Stage::Settling
        | Stage::Reverting
        | Stage::Restoring => {}
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
    let verbs = vec![Verb::Rollback, Verb::Promote, Verb::Promote, Verb::Reset];
    let verb = prop::sample::select(verbs);
    let wish = (verb, any::<bool>(), prop::bool::weighted(0.1))
        .prop_map(|(verb, skip, stale)| Event::Wish { verb, skip, stale });
    let clock = prop::sample::select(vec![1, 5, 10, 60, 60, 60, 700]).prop_map(Event::Seconds);
    prop_oneof![
        12 => clock,
        10 => Just(Event::CanaryReady),
        10 => Just(Event::PrimaryReady),
        4 => (1_u8..5).prop_map(Event::Edit),
        3 => health.prop_map(Event::Analysis),
        3 => wish,
        3 => (hook_kinds(), any::<bool>()).prop_map(|(kind, yes)| Event::Hook(kind, yes)),
        1 => (1_u8..5, any::<bool>()).prop_map(|(template, skip)| Event::BackTo { template, skip }),
        8 => prop::sample::select(vec![
            Event::CanaryShort, Event::CanaryDies, Event::CanaryCrashes, Event::CanaryLate,
            Event::PrimaryShort, Event::PrimaryDies, Event::PrimaryCrashes, Event::PrimaryLate,
            Event::PrimaryDeleted, Event::EditBack, Event::Gates(false, false, true), Event::Gates(true, true, true),
            Event::Gates(false, true, false), Event::Gates(false, false, false),
            Event::Pending(true), Event::Pending(false), Event::Queue(Some(true)), Event::Queue(Some(false)), Event::Queue(None),
            Event::SkipAnnotation, Event::ResetAnnotation, Event::MatchByHand, Event::MirrorByHand(40),
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

fn hook_kinds() -> impl Strategy<Value = HookKind> {
    let asked = HookKind::ALL.map(|(_, kind)| kind).to_vec();
    let asked = asked.into_iter().filter(|kind| *kind != HookKind::Event);
    prop::sample::select(asked.collect::<Vec<_>>())
}

/// The steps of every strategy.
fn strategies() -> impl Strategy<Value = (Kind, Router, Vec<PlanStep>)> {
    let canary = (
        prop::sample::select(vec![vec![], vec![100], vec![10, 60]]),
        0_u32..4,
        prop::sample::select(vec![vec![5, 10, 15], vec![50, 100], vec![100]]),
        prop::collection::vec(0_u32..3, 0..3),
        0_u32..5,
        0_u32..3,
    );
    let canary = canary.prop_map(|(mirrors, mirrored, weights, pauses, iterations, hold)| {
        let steps = canary::steps(&mirrors, mirrored, &weights, &pauses, iterations, hold);
        (Kind::Canary, Router::Istio, steps)
    });
    let plain = Just((Kind::Canary, Router::Istio, plan().steps));
    let ab = (1_u32..4, 0_u32..3).prop_map(|(iterations, hold)| {
        (
            Kind::AbTesting,
            Router::GatewayApi,
            ab::steps(iterations, hold),
        )
    });
    let router = prop::sample::select(vec![Router::Istio, Router::Kubernetes]);
    let blue_green = (router, any::<bool>(), 1_u32..4, 0_u32..3);
    let blue_green = blue_green.prop_map(|(router, mirror, iterations, hold)| {
        let mirrors: &[u8] = if mirror && router == Router::Istio {
            &[20, 100]
        } else {
            &[]
        };
        let steps = blue_green::steps(router, mirrors, iterations, hold);
        (Kind::BlueGreen, router, steps)
    });
    prop_oneof![2 => plain, 3 => canary, 2 => ab, 3 => blue_green]
}

/// One hook of each of some kinds, two of one now and then.
fn hooks() -> impl Strategy<Value = Vec<Hook>> {
    let some = prop::collection::vec(hook_kinds(), 0..5);
    prop_oneof![2 => Just(Vec::new()), 3 => some].prop_map(|kinds| {
        let named = kinds.into_iter().enumerate();
        named
            .map(|(i, kind)| hook(&format!("hook-{i}"), kind))
            .collect()
    })
}

/// Plans of every strategy, with or without hooks, gates and the shift back in steps, and with a settle of zero now and then.
pub(super) fn plans() -> impl Strategy<Value = crate::decide::plan::Plan> {
    let gates = prop::sample::select(vec![
        (false, false, false),
        (false, false, true),
        (true, true, false),
    ]);
    let replicas = prop::sample::select(vec![
        None,
        None,
        Some(CanaryReplicas::Min),
        Some(CanaryReplicas::Primary),
        Some(CanaryReplicas::Weight),
    ]);
    let ways = (
        prop::option::of(1_u8..10),
        prop::bool::weighted(0.2),
        any::<bool>(),
        any::<bool>(),
    );
    (strategies(), hooks(), gates, replicas, ways).prop_map(
        |((strategy, router, steps), hooks, gates, replicas, ways)| {
            let (back, no_settle, consecutive, affinity) = ways;
            let mut plan = plan();
            (plan.strategy, plan.router, plan.steps) = (strategy, router, steps);
            plan.hooks = hooks;
            plan.gates = Gates {
                rollout: gates.0,
                traffic: gates.1,
                promotion: gates.2,
            };
            plan.canary_replicas = replicas;
            plan.step_weight_promotion = back;
            if no_settle {
                plan.settle = 0;
            }
            if consecutive {
                plan.threshold_mode = ThresholdMode::Consecutive;
            }
            if affinity && router != Router::Kubernetes {
                plan.affinity = Some(sticky());
            }
            plan
        },
    )
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
        cases: 600,
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
