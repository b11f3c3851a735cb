//! What a run is going to do, beside timelines that people have written down.

use super::fixtures::{plan, seen, state, weights};
use crate::decide::{
    facts::{Moment, Seen},
    forecast::{Forecast, forecast},
    plan::Plan,
    pretend::Ideal,
    state::State,
};

/// Pods that take a minute to come up.
const MINUTE: Ideal = Ideal {
    ready_after: 60_000,
    replicas: 2,
};
/// Pods that are ready at once.
const AT_ONCE: Ideal = Ideal {
    ready_after: 0,
    replicas: 2,
};

/// `5, 10, ... max`, an analysis each `interval` seconds.
fn steps_of(step: u8, max: u8, interval: i64) -> Plan {
    Plan {
        steps: weights(&(step..=max).step_by(usize::from(step)).collect::<Vec<_>>()),
        interval: interval * 1000,
        ..plan()
    }
}

/// Each change as `seconds since the start, phase, weight`.
fn course(forecast: &Forecast, from: Moment) -> Vec<(i64, &'static str, u8)> {
    let row = |m: &crate::decide::forecast::Milestone| {
        (m.at.since(from) / 1000, m.phase.name(), m.traffic.canary())
    };
    forecast.milestones.iter().map(row).collect()
}

fn of(plan: &Plan, state: &State, seen: &Seen, ideal: Ideal) -> Vec<(i64, &'static str, u8)> {
    let forecast = forecast(plan, state, seen, ideal);
    assert!(forecast.ends, "{forecast:?}");
    course(&forecast, seen.now)
}

/// A common example: stepWeight 5, maxWeight 50, interval 1m, "total time ~12 minutes": a minute until the canary is ready, 5% from 1 to 2 min,
/// 10% from 2 to 3 min, ... 50% from 10 to 11 min, promotion from 11 to 12 min.
#[test]
fn the_twelve_minute_canary() {
    let course = of(&steps_of(5, 50, 60), &state(), &seen().edited("v2"), MINUTE);
    assert_eq!(
        course,
        [
            (0, "Progressing", 0),
            (60, "Progressing", 5),
            (120, "Progressing", 10),
            (180, "Progressing", 15),
            (240, "Progressing", 20),
            (300, "Progressing", 25),
            (360, "Progressing", 30),
            (420, "Progressing", 35),
            (480, "Progressing", 40),
            (540, "Progressing", 45),
            (600, "Progressing", 50),
            (660, "Promoting", 50),
            (720, "Finalising", 0),
            (730, "Succeeded", 0),
        ]
    );
}

/// A payment service: stepWeight 5, maxWeight 50, interval 2m, a manual gate: 5% at 2 min, 10% at 4, 15% at 6, ... 50% at 20, the gate at
/// 22, promotion at 24 min. That counts an interval before the first weight; here the canary gets it when its pods are ready.
#[test]
fn the_payment_service_with_its_gate() {
    let plan = steps_of(5, 50, 120).gated();
    let course = of(&plan, &state(), &seen().edited("v2"), MINUTE);
    assert_eq!(
        course,
        [
            (0, "Progressing", 0),
            (60, "Progressing", 5),
            (180, "Progressing", 10),
            (300, "Progressing", 15),
            (420, "Progressing", 20),
            (540, "Progressing", 25),
            (660, "Progressing", 30),
            (780, "Progressing", 35),
            (900, "Progressing", 40),
            (1020, "Progressing", 45),
            (1140, "Progressing", 50),
            (1260, "WaitingPromotion", 50),
            (1380, "Promoting", 50),
            (1440, "Finalising", 0),
            (1450, "Succeeded", 0),
        ]
    );
    let written = [(120, 5), (240, 10), (360, 15), (1200, 50)];
    for (at, weight) in written {
        let (is, _, _) = course.iter().find(|(_, _, w)| *w == weight).unwrap();
        assert!((at - is).abs() <= 120, "{weight}% at {is} s, not {at} s");
    }
}

#[test]
fn pods_that_are_ready_at_once_and_traffic_that_returns_in_steps() {
    let plan = steps_of(10, 30, 60).returning_by(20);
    assert_eq!(
        of(&plan, &state(), &seen().edited("v2"), AT_ONCE),
        [
            (0, "Progressing", 0),
            (0, "Progressing", 10),
            (60, "Progressing", 20),
            (120, "Progressing", 30),
            (180, "Promoting", 30),
            (180, "Promoting", 10),
            (240, "Finalising", 0),
            (250, "Succeeded", 0),
        ]
    );
}

#[test]
fn without_analysis_the_copy_follows_at_once() {
    assert_eq!(
        of(&plan().skipping(), &state(), &seen().edited("v2"), MINUTE),
        [
            (0, "Progressing", 0),
            (60, "Promoting", 0),
            // The traffic never left the primary, so nothing has to settle.
            (120, "Finalising", 0),
            (120, "Succeeded", 0),
        ]
    );
}

/// Another image while one is analysed at 10%: traffic goes back first, then everything begins anew.
#[test]
fn a_run_that_is_interrupted() {
    let (state, seen) = (
        state().analysing(10),
        seen().canary_ready().weight(10).edited("v3"),
    );
    let forecast = forecast(&plan(), &state, &seen, MINUTE);
    assert_eq!(
        course(&forecast, seen.now),
        [
            (0, "Progressing", 0),
            (60, "Progressing", 5),
            (120, "Progressing", 10),
            (180, "Progressing", 15),
            (240, "Promoting", 15),
            (300, "Finalising", 0),
            (310, "Succeeded", 0),
        ]
    );
    assert_eq!(
        forecast.effects[0],
        crate::decide::effect::Effect::Traffic(crate::decide::effect::Traffic::PRIMARY)
    );
}

/// From the copy on the run that goes on is finished first; the new one begins after it.
#[test]
fn a_run_that_is_past_its_copy_ends_first() {
    let (state, seen) = (
        state().copying(15),
        seen().canary_ready().weight(15).edited("v3"),
    );
    assert_eq!(
        of(&plan(), &state, &seen, AT_ONCE),
        [
            (0, "Promoting", 0),
            (0, "Finalising", 0),
            (10, "Succeeded", 0),
            (10, "Progressing", 0),
            (10, "Progressing", 5),
            (70, "Progressing", 10),
            (130, "Progressing", 15),
            (190, "Promoting", 15),
            (190, "Finalising", 0),
            (200, "Succeeded", 0),
        ]
    );
}

#[test]
fn what_is_live_is_not_rolled_out() {
    for state in [state(), state().failed()] {
        let nothing = forecast(&plan(), &state, &seen(), MINUTE);
        assert_eq!((nothing.milestones, nothing.ends), (Vec::new(), false));
    }
}
