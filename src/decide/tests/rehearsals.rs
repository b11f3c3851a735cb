//! Dry runs: a run that promotes nothing, and a world that is only pretended beside the real one.

use super::fixtures::{act, at, pass, plan, seen, state, text};
use crate::decide::{
    Step,
    effect::{Copied, Effect, Traffic},
    facts::{Answers, Seen, Slot, Workload},
    plan::Plan,
    pretend::{Ideal, Pretended},
    state::{Queue, Stage, State, WaitFor, Waiting},
    step,
};

fn rehearsing() -> Plan {
    Plan {
        rehearsal: true,
        ..plan()
    }
}

fn rehearsed(state: State) -> State {
    state.with(|s| s.run.as_mut().unwrap().rehearsal = true)
}

#[test]
fn a_rehearsal_ends_with_what_would_be_promoted() {
    let due = seen().canary_ready().weight(15).at(200);
    let last = rehearsed(state().analysing(15));
    let decided = act(&rehearsing(), &last, &due, &pass());
    assert_eq!(
        text(&Step::Act(decided.clone())),
        "Reverting Progressing 0% failed 0 | 100/0 | \
         mcp.ai would be promoted now, its analysis has passed; no route was written, and nothing is promoted | again"
    );
    let reason = decided.next.run.as_ref().unwrap().reason.clone();
    assert_eq!(reason.as_deref(), Some("it would have been promoted"));
    // In earnest the same is promoted.
    let decided = act(&plan(), &state().analysing(15), &due, &pass());
    assert_eq!(decided.next.stage, Stage::Copying);
    // At the end it is not called a failure.
    let over = rehearsed(state().reverting().settled(150)).with(|s| {
        s.run.as_mut().unwrap().reason = Some("it would have been promoted".to_owned());
    });
    let decided = act(
        &rehearsing(),
        &over,
        &seen().canary_ready().at(200),
        &pass(),
    );
    assert_eq!(
        decided.tell.last().unwrap().message,
        "The rehearsal of mcp.ai is over, it would have been promoted; scaling down"
    );
}

#[test]
fn what_was_begun_in_a_dry_run_gets_no_traffic_in_earnest() {
    let stored = seen().canary_ready().weight(0).at(130);
    let decided = step(
        &plan(),
        &rehearsed(state().analysing(15)),
        &stored,
        &Answers::default(),
    );
    assert_eq!(
        text(&decided),
        "Reverting Progressing 0% failed 0 |  | ! Ending the rehearsal of mcp.ai: runs are no longer rehearsed here | again"
    );
    let going_on = step(
        &rehearsing(),
        &rehearsed(state().analysing(15)),
        &stored.clone().weight(15),
        &Answers::default(),
    );
    assert_eq!(text(&going_on), "ask Analysis");
}

#[test]
fn a_run_in_the_queue_records_its_place_and_goes_on_when_it_has_a_slot() {
    let waiting = |queue| {
        state().starting().with(|s| {
            s.stage = Stage::Waiting;
            s.run.as_mut().unwrap().waiting = Some(Waiting {
                what: WaitFor::Queue,
                hook: None,
                queue,
                since: at(40),
            });
        })
    };
    let queue = Queue {
        place: 2,
        running: 3,
        limit: "3 in the cluster".to_owned(),
    };
    let queued = seen()
        .edited("v2")
        .with(|s| s.slot = Slot::Queued(queue.clone()));
    let decided = act(&plan(), &waiting(None), &queued, &Answers::default());
    assert_eq!(
        text(&Step::Act(decided.clone())),
        "Waiting Waiting 0% failed 0 |  | \
         ! Halt mcp.ai advancement waiting for other runs to end: 3 go on of at most 3 in the cluster, place 2 in the queue | again"
    );
    // Looked at again it is at rest, and writes nothing.
    let again = act(&plan(), &decided.next, &queued, &Answers::default());
    assert_eq!((again.next, again.tell), (decided.next.clone(), Vec::new()));
    let free = seen().edited("v2").with(|s| s.slot = Slot::Held);
    let decided = act(&plan(), &decided.next, &free, &Answers::default());
    assert_eq!(decided.next.stage, Stage::Starting);
    assert_eq!(decided.next.run.unwrap().waiting, None);
}

/// Pods come up in half a minute, two of them.
fn pretended(seen: Seen) -> Pretended {
    let ideal = Ideal {
        ready_after: 30_000,
        replicas: 2,
    };
    Pretended::new(seen, ideal)
}

fn copy(of: Option<&Workload>) -> (String, u32, u32, u32) {
    let of = of.unwrap();
    (of.revision.clone(), of.desired, of.available, of.endpoints)
}

/// As in a cluster that no engine has ever led.
fn untouched() -> Seen {
    let mut live = seen().canary_ready();
    live.primary = None;
    live.traffic = None;
    live.services_ready = false;
    live.apex_on_primary = false;
    live.route_ready = false;
    live.pinned = false;
    live
}

#[test]
fn a_target_is_pretended_as_it_stands() {
    let live = untouched();
    let mut world = pretended(live.clone());
    world.apply(None, Effect::ScaleToZero);
    world.refresh(&live);
    assert_eq!(copy(world.seen.target.as_ref()), ("v2".into(), 0, 0, 0));
    // A new version, which comes up in the real cluster: one pod of two is available.
    let mut rolling = untouched().edited("v3").at(200);
    let target = rolling.target.as_mut().unwrap();
    (target.updated, target.available) = (1, 1);
    world.refresh(&rolling);
    assert_eq!(copy(world.seen.target.as_ref()), ("v3".into(), 0, 0, 0));
    world.apply(None, Effect::ScaleUp(Some(3)));
    world.refresh(&rolling);
    assert_eq!(copy(world.seen.target.as_ref()), ("v3".into(), 3, 1, 1));
    let up = untouched().edited("v3").at(210);
    world.refresh(&up);
    assert_eq!(copy(world.seen.target.as_ref()), ("v3".into(), 3, 3, 3));
    // What crashes there crashes here.
    world.refresh(&up.clone().canary_crashed());
    assert!(world.seen.target.as_ref().unwrap().crash.is_some());
    // Of one that somebody keeps at zero, the pods come up as nobody's.
    let mut world = pretended(seen().edited("v2"));
    world.apply(None, Effect::ScaleUp(None));
    assert_eq!(world.next(), Some(at(130)));
    world.refresh(&seen().edited("v2").at(129));
    assert_eq!(copy(world.seen.target.as_ref()), ("v2".into(), 2, 0, 0));
    world.refresh(&seen().edited("v2").at(130));
    assert_eq!(copy(world.seen.target.as_ref()), ("v2".into(), 2, 2, 2));
    assert_eq!(world.next(), None);
}

#[test]
fn what_is_pretended_stays_and_wishes_are_left_to_others() {
    let live = untouched().at(300);
    let run = state().with(|s| {
        let run = s.run.as_mut().unwrap();
        (run.revision, run.previous) = ("v2".to_owned(), None);
    });
    let mut world = pretended(untouched());
    for effect in [
        Effect::Pin,
        Effect::Services,
        Effect::CreatePrimary,
        Effect::Apex,
        Effect::Route,
        Effect::Traffic(Traffic::to_canary(10)),
    ] {
        world.apply(run.run.as_ref(), effect);
    }
    world.refresh(
        &live
            .clone()
            .asks(crate::decide::facts::Verb::Rollback, false),
    );
    let seen = &world.seen;
    assert!(seen.pinned && seen.services_ready && seen.apex_on_primary && seen.route_ready);
    assert_eq!(seen.traffic, Some(Traffic::to_canary(10)));
    assert_eq!(seen.request, None);
    assert_eq!((seen.now, seen.target_equals_primary), (at(300), true));
    assert_eq!(copy(seen.primary.as_ref()), ("v2".into(), 2, 2, 2));
    // The next version is another one until it is copied, and again when that is taken back.
    let edited = live.edited("v3");
    world.refresh(&edited);
    assert!(!world.seen.target_equals_primary);
    let next = state().with(|s| s.run.as_mut().unwrap().revision = "v3".to_owned());
    world.apply(next.run.as_ref(), Effect::Primary(Copied::Promoted));
    world.refresh(&edited);
    assert!(world.seen.target_equals_primary && world.seen.primary_has_run);
    world.apply(next.run.as_ref(), Effect::Primary(Copied::Previous));
    world.refresh(&edited);
    assert!(!world.seen.target_equals_primary && world.seen.primary_has_previous);
}
