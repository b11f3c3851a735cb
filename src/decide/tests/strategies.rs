//! Whole runs of every strategy in the model of a cluster, as people are told of them; and small plans in every small world.

use std::collections::BTreeSet;

use super::{
    fixtures::{hook, plan, sticky},
    invariants::{initialized, rest},
    world::{Event, Health, World},
};
use crate::decide::{
    Step, Wait,
    effect::{Effect, Traffic},
    facts::{Answers, HookAnswer, Question, Slot, Verb},
    plan::{CanaryReplicas, Gates, Hook, HookKind, Plan, Router, Strategy, ThresholdMode},
    step,
    strategy::{ab, blue_green, canary},
};

/// A run of v2 in a world where pods come up at once, told line by line: `seconds  what`. Traffic that is written is a line of its own.
fn told(world: &mut World) -> Vec<String> {
    world.happen(&Event::Edit(2));
    let from = world.now;
    let mut lines = Vec::new();
    for _ in 0..200 {
        let wait = tick(world, from, &mut lines);
        match wait {
            Wait::Until(at) => world.now = at,
            Wait::Change | Wait::Again => {
                if world.state.run.as_ref().is_some_and(|r| r.n > 0) && !world.state.phase.running()
                {
                    return lines;
                }
                world.happen(&Event::Seconds(5));
            }
        }
    }
    panic!("no end: {lines:#?}");
}

fn tick(world: &mut World, from: crate::decide::facts::Moment, lines: &mut Vec<String>) -> Wait {
    let mut answers = Answers::default();
    loop {
        let at = world.now.since(from) / 1000;
        match step(&world.plan, &world.state, &world.seen(), &answers) {
            Step::Ask(Question::Analysis) => answers.analysis = Some(world.analysis()),
            Step::Ask(Question::Hook(call)) => {
                let hook = &world.plan.hooks[call.hook];
                let yes = world.says_yes(hook.kind);
                let said = if yes { "yes" } else { "no" };
                lines.push(format!("{at}  {} ({:?}) {said}", hook.name, call.phase));
                let answer = if yes {
                    HookAnswer::Ok
                } else {
                    HookAnswer::Refused("not now".to_owned())
                };
                answers.hooks.push((call, answer));
            }
            Step::Act(act) => {
                for effect in &act.effects {
                    if let Effect::Traffic(t) = effect {
                        let more = match (t.matches(), t.mirror()) {
                            (true, _) => " and matched users".to_owned(),
                            (false, 0) => String::new(),
                            (false, share) => format!(" and copies of {share}%"),
                        };
                        lines.push(format!("{at}  -> {}/{}{more}", t.primary(), t.canary()));
                    }
                    if let Effect::ScaleUp(Some(n)) = effect {
                        lines.push(format!("{at}  -> {n} replicas"));
                    }
                    world.apply(*effect);
                    world.happen(&Event::CanaryReady);
                    world.happen(&Event::PrimaryReady);
                }
                lines.extend(act.tell.iter().map(|t| format!("{at}  {}", t.message)));
                world.state = act.next;
                answers = Answers::default();
                if act.wait != Wait::Again {
                    return act.wait;
                }
            }
        }
    }
}

fn run(plan: Plan) -> Vec<String> {
    told(&mut initialized(plan))
}

fn with_hooks(kinds: &[HookKind]) -> Vec<Hook> {
    kinds.iter().map(|kind| hook(kind.name(), *kind)).collect()
}

fn a_b() -> Plan {
    Plan {
        strategy: Strategy::AbTesting,
        steps: ab::steps(2, 0),
        ..plan()
    }
}

fn green(router: Router, mirrors: &[u8], iterations: u32, hold: u32) -> Plan {
    Plan {
        strategy: Strategy::BlueGreen,
        router,
        steps: blue_green::steps(router, mirrors, iterations, hold),
        ..plan()
    }
}

/// The lines from the copy on are the same for all.
const END: [&str; 4] = [
    "Copying srv.ai template spec to srv-primary.ai",
    "-> 100/0",
    "Routing all traffic to primary",
    "Promotion completed! Scaling down srv.ai",
];

fn assert_run(got: &[String], until_copy: &[&str], copied_at: i64) {
    // The primary's pods are looked at 5 s after it was given the template; the route settles for 10 s.
    let end = END.map(|line| {
        let later = match line {
            "-> 100/0" | "Routing all traffic to primary" => 5,
            "Promotion completed! Scaling down srv.ai" => 15,
            _ => 0,
        };
        format!("{}  {line}", copied_at + later)
    });
    let want: Vec<String> = until_copy
        .iter()
        .map(|l| (*l).to_owned())
        .chain(end)
        .collect();
    assert_eq!(got, want);
}

#[test]
fn a_b_testing_sends_the_users_of_the_match() {
    assert_run(
        &run(a_b()),
        &[
            "0  New revision detected! Scaling up srv.ai",
            "0  -> 100/0 and matched users",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary iteration 1/2",
            "60  Advance mcp.ai canary iteration 2/2",
        ],
        120,
    );
}

#[test]
fn blue_green_switches_once_and_analyses_that_too() {
    assert_run(
        &run(green(Router::Istio, &[], 2, 0)),
        &[
            "0  New revision detected! Scaling up srv.ai",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary iteration 1/3",
            "60  Advance mcp.ai canary iteration 2/3",
            "120  -> 0/100",
            "120  Routing all traffic to canary",
        ],
        180,
    );
}

#[test]
fn blue_green_on_copies_stops_them_at_the_switch() {
    assert_run(
        &run(green(Router::Istio, &[10, 55, 100], 4, 1)),
        &[
            "0  New revision detected! Scaling up srv.ai",
            "0  -> 100/0 and copies of 10%",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary iteration 1/6",
            "60  -> 100/0 and copies of 55%",
            "60  Advance mcp.ai canary iteration 2/6",
            "120  -> 100/0 and copies of 100%",
            "120  Advance mcp.ai canary iteration 3/6",
            "180  Advance mcp.ai canary iteration 4/6",
            "240  -> 0/100",
            "240  Stop traffic mirroring and route all traffic to canary",
            "300  Advance mcp.ai canary iteration 6/6",
        ],
        360,
    );
}

#[test]
fn without_a_mesh_users_stay_on_the_primary_until_it_has_the_revision() {
    let lines = run(green(Router::Kubernetes, &[], 2, 0));
    assert_eq!(
        lines,
        [
            "0  New revision detected! Scaling up srv.ai",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary iteration 1/2",
            "60  Advance mcp.ai canary iteration 2/2",
            "120  Copying srv.ai template spec to srv-primary.ai",
            "125  Routing all traffic to primary",
            "135  Promotion completed! Scaling down srv.ai",
        ]
    );
    assert_run(
        &run(green(Router::Kubernetes, &[], 1, 1)),
        &[
            "0  New revision detected! Scaling up srv.ai",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary iteration 1/2",
            "60  -> 0/100",
            "60  Routing all traffic to canary",
        ],
        120,
    );
}

#[test]
fn copies_before_weights_then_a_climb_that_is_held() {
    let plan = Plan {
        steps: canary::steps(&[100], 2, &[20, 40], &[1], 4, 1),
        ..plan()
    };
    assert_run(
        &run(plan),
        &[
            "0  New revision detected! Scaling up srv.ai",
            "0  -> 100/0 and copies of 100%",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary weight 0, mirroring 100%",
            "60  Advance mcp.ai canary weight 0, mirroring 100%",
            "120  -> 80/20",
            "120  Advance mcp.ai canary weight 20",
            "180  Advance mcp.ai canary iteration 4/7",
            "240  -> 60/40",
            "240  Advance mcp.ai canary weight 40",
            "300  Advance mcp.ai canary iteration 6/7",
            "360  Advance mcp.ai canary iteration 7/7",
        ],
        420,
    );
}

#[test]
fn a_canary_is_as_large_as_its_next_weight_wants() {
    let plan = Plan {
        steps: canary::steps(&[], 0, &[50, 100], &[], 0, 0),
        canary_replicas: Some(CanaryReplicas::Weight),
        delay: 90_000,
        ..plan()
    };
    assert_run(
        &run(plan),
        &[
            "0  New revision detected! Scaling up srv.ai",
            "0  -> 1 replicas",
            "0  -> 50/50",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary weight 50",
            "0  -> 2 replicas",
            "90  -> 0/100",
            "90  Advance mcp.ai canary weight 100",
        ],
        150,
    );
}

#[test]
fn hooks_are_called_in_their_place_and_with_flaggers_phases() {
    let kinds = HookKind::ALL.map(|(_, kind)| kind);
    let mut plan = plan();
    plan.steps = canary::steps(&[], 0, &[5, 10], &[], 0, 0);
    plan.hooks = with_hooks(&kinds);
    let lines = run(plan);
    assert_eq!(
        lines,
        [
            "0  rollback (Progressing) no",
            "0  confirm-rollout (Progressing) yes",
            "0  New revision detected! Scaling up srv.ai",
            "0  rollback (Progressing) no",
            "0  pre-rollout (Progressing) yes",
            "0  confirm-traffic-increase (Progressing) yes",
            "0  -> 95/5",
            "0  Starting canary analysis for srv.ai",
            "0  Advance mcp.ai canary weight 5",
            "60  rollback (Progressing) no",
            "60  rollout (Progressing) yes",
            "60  confirm-traffic-increase (Progressing) yes",
            "60  -> 90/10",
            "60  Advance mcp.ai canary weight 10",
            "120  rollback (Progressing) no",
            "120  rollout (Progressing) yes",
            "120  confirm-promotion (Progressing) yes",
            "120  Copying srv.ai template spec to srv-primary.ai",
            "125  -> 100/0",
            "125  Routing all traffic to primary",
            "135  post-rollout (Succeeded) yes",
            "135  Post-rollout check post-rollout passed",
            "135  Promotion completed! Scaling down srv.ai",
        ]
    );
}

/// One hook that says no, and what becomes of the run within five minutes.
fn refused(kind: HookKind) -> (String, u8, u32, Option<String>) {
    let mut plan = plan();
    plan.hooks = with_hooks(&[kind]);
    let mut world = initialized(plan);
    world.happen(&Event::Hook(kind, false));
    world.happen(&Event::Edit(2));
    for _ in 0..30 {
        for event in [Event::CanaryReady, Event::PrimaryReady, Event::Seconds(10)] {
            world.happen(&event);
            rest(&mut world);
        }
    }
    let run = world.state.run.as_ref().unwrap();
    let waiting = run.waiting.as_ref().map(|w| format!("{:?}", w.what));
    (
        world.state.phase.name().to_owned(),
        world.state.weight(),
        world.state.failed_checks,
        waiting,
    )
}

#[test]
fn what_the_no_of_a_hook_does() {
    let some = |what: &str| Some(what.to_owned());
    for (kind, phase, weight, failed, waiting) in [
        (HookKind::ConfirmRollout, "Waiting", 0, 0, some("Rollout")),
        (HookKind::PreRollout, "Failed", 0, 3, None),
        (HookKind::Rollout, "Failed", 0, 3, None),
        (
            HookKind::ConfirmTrafficIncrease,
            "Progressing",
            0,
            0,
            some("Traffic"),
        ),
        (
            HookKind::ConfirmPromotion,
            "WaitingPromotion",
            15,
            0,
            some("Promotion"),
        ),
        // After the end nothing can be changed by it, and no rollback hook asks for one.
        (HookKind::PostRollout, "Succeeded", 0, 0, None),
        (HookKind::Event, "Succeeded", 0, 0, None),
    ] {
        assert_eq!(
            refused(kind),
            (phase.to_owned(), weight, failed, waiting),
            "{kind:?}"
        );
    }
}

/// The yes of a rollback hook ends the run wherever it is, also while it waits (Flagger: not in Waiting).
#[test]
fn a_rollback_hook_is_heard_while_the_run_waits() {
    for held in [
        HookKind::ConfirmRollout,
        HookKind::ConfirmTrafficIncrease,
        HookKind::ConfirmPromotion,
    ] {
        let mut plan = plan();
        plan.hooks = with_hooks(&[held, HookKind::Rollback]);
        let mut world = initialized(plan);
        world.happen(&Event::Hook(held, false));
        world.happen(&Event::Edit(2));
        let mut pass = |world: &mut World| {
            for event in [Event::CanaryReady, Event::PrimaryReady, Event::Seconds(10)] {
                world.happen(&event);
                rest(world);
            }
        };
        for _ in 0..30 {
            pass(&mut world);
        }
        assert!(world.state.phase.running(), "{held:?}");
        world.happen(&Event::Hook(HookKind::Rollback, true));
        for _ in 0..12 {
            pass(&mut world);
        }
        let run = world.state.run.as_ref().unwrap();
        assert_eq!(world.state.phase.name(), "Failed", "{held:?}");
        assert_eq!(
            run.reason.as_deref(),
            Some("a rollback webhook asked for it")
        );
        assert_eq!(world.route, Some(Traffic::PRIMARY));
    }
}

/// In blue/green the gate stands before the switch, and once.
#[test]
fn people_open_one_gate_after_the_other() {
    let gates = Gates {
        rollout: true,
        traffic: true,
        promotion: true,
    };
    for (plan, approvals) in [
        (Plan { gates, ..plan() }, 5),
        (Plan { gates, ..a_b() }, 3),
        (
            Plan {
                gates,
                ..green(Router::Istio, &[], 2, 0)
            },
            2,
        ),
        (
            Plan {
                gates,
                ..green(Router::Kubernetes, &[], 2, 0)
            },
            2,
        ),
    ] {
        let strategy = plan.strategy;
        let mut world = initialized(plan);
        world.happen(&Event::Edit(2));
        let mut given = 0;
        for _ in 0..200 {
            for event in [Event::CanaryReady, Event::PrimaryReady, Event::Seconds(15)] {
                world.happen(&event);
                rest(&mut world);
            }
            let run = world.state.run.as_ref().unwrap();
            if run.waiting.is_some() {
                given += 1;
                world.happen(&Event::Wish {
                    verb: Verb::Promote,
                    skip: false,
                    stale: false,
                });
                rest(&mut world);
                let run = world.state.run.as_ref().unwrap();
                assert_eq!(run.waiting, None, "{strategy:?}: {:?}", world.state);
            }
        }
        assert_eq!(world.state.phase.name(), "Succeeded", "{strategy:?}");
        assert_eq!(given, approvals, "{strategy:?}");
    }
}

#[test]
fn a_pass_forgives_where_only_failures_in_a_row_count() {
    for (mode, phase) in [
        (ThresholdMode::Cumulative, "Failed"),
        (ThresholdMode::Consecutive, "Succeeded"),
    ] {
        let mut world = initialized(Plan {
            threshold_mode: mode,
            threshold: 2,
            ..plan()
        });
        for event in [Event::Edit(2), Event::CanaryReady, Event::PrimaryReady] {
            world.happen(&event);
            rest(&mut world);
        }
        for health in [
            Health::Bad,
            Health::Good,
            Health::Bad,
            Health::Good,
            Health::Good,
        ] {
            world.happen(&Event::Analysis(health));
            world.happen(&Event::Seconds(60));
            rest(&mut world);
        }
        for event in [Event::PrimaryReady, Event::Seconds(10), Event::Seconds(10)] {
            world.happen(&event);
            rest(&mut world);
        }
        assert_eq!(world.state.phase.name(), phase, "{mode:?}");
    }
}

#[test]
fn a_run_has_a_cookie_of_its_own_which_is_taken_back_at_its_end() {
    let mut plan = plan();
    plan.affinity = Some(sticky());
    let mut world = initialized(plan);
    let mut seen = Vec::new();
    for template in [2, 3] {
        world.happen(&Event::Edit(template));
        rest(&mut world);
        seen.push(world.state.cookies.clone());
        for _ in 0..60 {
            for event in [Event::CanaryReady, Event::PrimaryReady, Event::Seconds(10)] {
                world.happen(&event);
                rest(&mut world);
            }
        }
        assert_eq!(world.state.phase.name(), "Succeeded");
        seen.push(world.state.cookies.clone());
    }
    let text = |cookie: &Option<String>| cookie.clone().unwrap_or_default();
    let all: Vec<[String; 3]> = seen
        .iter()
        .map(|c| [text(&c.canary), text(&c.primary), text(&c.previous)])
        .collect();
    let (first, second, primary) = (&all[0][0], &all[2][0], &all[0][1]);
    assert!(
        first.starts_with("canary=") && first.len() == "canary=".len() + 10,
        "{first}"
    );
    assert!(primary.starts_with("primary="), "{primary}");
    assert_ne!(first, second);
    let none = String::new;
    assert_eq!(all[1], [none(), primary.clone(), first.clone()]);
    assert_eq!(all[2], [second.clone(), primary.clone(), first.clone()]);
    assert_eq!(all[3], [none(), primary.clone(), second.clone()]);
}

#[test]
fn the_queue_lets_one_after_the_other_go_on() {
    let mut world = initialized(plan());
    world.slot = Slot::Held;
    world.happen(&Event::Queue(Some(true)));
    world.happen(&Event::Edit(2));
    rest(&mut world);
    assert_eq!(world.state.phase.name(), "Waiting");
    assert_eq!(world.target.desired, 0);
    world.happen(&Event::Queue(Some(false)));
    rest(&mut world);
    assert_eq!(world.state.phase.name(), "Progressing");
    assert_eq!(world.target.desired, 2);
}

#[test]
fn a_kept_revision_is_written_to_the_target_and_rolled_out() {
    for skip in [false, true] {
        let mut world = initialized(plan());
        let pass = |world: &mut World, seconds: i64| {
            for event in [
                Event::CanaryReady,
                Event::PrimaryReady,
                Event::Seconds(seconds),
            ] {
                world.happen(&event);
                rest(world);
            }
        };
        world.happen(&Event::Edit(2));
        (0..30).for_each(|_| pass(&mut world, 20));
        assert_eq!(world.state.last_promoted.as_deref(), Some("v2"));
        world.happen(&Event::BackTo { template: 1, skip });
        rest(&mut world);
        let run = world.state.run.as_ref().unwrap();
        assert_eq!((run.n, run.revision.as_str()), (2, "v1"));
        assert_eq!(run.skip.is_some(), skip);
        assert_eq!(world.state.weight(), 0);
        (0..3).for_each(|_| pass(&mut world, 10));
        let early = world.state.phase.name().to_owned();
        assert_eq!(early, if skip { "Succeeded" } else { "Progressing" });
        (0..30).for_each(|_| pass(&mut world, 20));
        assert_eq!(world.state.last_promoted.as_deref(), Some("v1"));
        assert_eq!(world.primary.as_ref().unwrap().template, 1);
    }
}

/// Everything that can happen, one after the other to this depth, from the start of a run of each small plan: the invariants hold in every
/// world that can be reached. Worlds that are alike are walked once.
#[test]
fn small_plans_in_every_small_world() {
    let promote = Event::Wish {
        verb: Verb::Promote,
        skip: false,
        stale: false,
    };
    let rollback = Event::Wish {
        verb: Verb::Rollback,
        skip: false,
        stale: false,
    };
    let events = [
        Event::Seconds(60),
        Event::CanaryReady,
        Event::CanaryDies,
        Event::PrimaryDies,
        Event::PrimaryReady,
        Event::Analysis(Health::Bad),
        Event::Hook(HookKind::Rollout, false),
        Event::Edit(3),
        Event::RouteByHand(100),
        Event::Pending(true),
        promote,
        rollback,
    ];
    let gates = Gates {
        promotion: true,
        ..Gates::default()
    };
    let hooks = with_hooks(&[HookKind::Rollout]);
    let weights = |weights: &[u8]| canary::steps(&[], 0, weights, &[], 0, 0);
    let plans = [
        Plan {
            steps: weights(&[50]),
            hooks: hooks.clone(),
            ..plan()
        },
        Plan {
            steps: weights(&[100]),
            gates,
            ..plan()
        },
        Plan {
            steps: canary::steps(&[100], 0, &[30], &[], 0, 0),
            ..plan()
        },
        Plan {
            steps: ab::steps(1, 0),
            hooks,
            ..a_b()
        },
        Plan {
            gates,
            ..green(Router::Istio, &[], 1, 0)
        },
        green(Router::Kubernetes, &[], 1, 1),
    ];
    let mut walked = 0;
    for plan in plans {
        let threshold = Plan {
            threshold: 1,
            ..plan
        };
        let mut world = initialized(threshold);
        world.happen(&Event::Edit(2));
        rest(&mut world);
        let mut worlds = vec![world];
        for _ in 0..4 {
            let mut known = BTreeSet::new();
            let mut next = Vec::new();
            for world in &worlds {
                for event in &events {
                    let mut world = world.clone();
                    world.happen(event);
                    rest(&mut world);
                    walked += 1;
                    if known.insert(format!("{world:?}")) {
                        next.push(world);
                    }
                }
            }
            worlds = next;
        }
    }
    assert!(walked > 20_000, "{walked}");
}
