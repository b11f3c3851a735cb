//! The clock of a cluster: the system's for a real one, a faster one of its own for an embedded one.
//!
//! Virtual time is `epoch + elapsed x speed`, where elapsed is what tokio's `Instant` says: under tokio's paused clock it
//! stands still with it.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use tokio::time::Instant;

use crate::decide::facts::Moment;

/// A cluster's clock. Cheap to clone; all clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch: Moment,
    origin: Instant,
    speed: f64,
}

impl Clock {
    /// The system's time: the wall clock read once, now, and tokio's monotonic clock from then on, at speed 1.
    #[must_use]
    pub fn real() -> Self {
        Self::fast(Moment(Timestamp::now().as_millisecond()), 1.0)
    }

    /// A clock that shows `epoch` now and runs `speed` times as fast as real time. A speed that is not a positive number
    /// counts as 1: a clock never stands still or runs backwards.
    #[must_use]
    pub fn fast(epoch: Moment, speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 {
            speed
        } else {
            1.0
        };
        Self {
            epoch,
            origin: Instant::now(),
            speed,
        }
    }

    /// The moment it shows.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds since 1970 fit i64, and a float cast saturates"
    )]
    pub fn now(&self) -> Moment {
        let elapsed = self.origin.elapsed().as_secs_f64() * 1000.0 * self.speed;
        // Half a microsecond of slack: a wait of n virtual milliseconds ends at n, not at n - 1 by rounding.
        self.epoch.plus((elapsed + 0.0005).floor() as i64)
    }

    /// Virtual seconds per real second.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Waits for `ms` virtual milliseconds; not at all when `ms` is not positive.
    pub async fn sleep(&self, ms: i64) {
        self.sleep_until(self.now().plus(ms)).await;
    }

    /// Waits until the clock shows `at` or later.
    pub async fn sleep_until(&self, at: Moment) {
        loop {
            let missing = at.since(self.now());
            if missing <= 0 {
                return;
            }
            tokio::time::sleep(self.real_duration(missing)).await;
        }
    }

    /// How long `ms` virtual milliseconds take in real time, rounded up to nanoseconds; zero when `ms` is not positive.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "durations of interest are far below 2^52 milliseconds"
    )]
    pub fn real_duration(&self, ms: i64) -> Duration {
        if ms <= 0 {
            return Duration::ZERO;
        }
        let seconds = ms as f64 / 1000.0 / self.speed;
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(Duration::MAX)
            .saturating_add(Duration::from_nanos(1))
    }
}

/// `2026-11-21T00:00:00Z`: the form of `metav1.Time`, whole seconds, the rest cut off.
#[must_use]
pub fn rfc3339(at: Moment) -> String {
    format!("{:.0}", whole(at, Unit::Second))
}

/// `2026-11-21T00:00:00.000000Z`: the form of `metav1.MicroTime`, as Leases and events have it.
#[must_use]
pub fn rfc3339_micro(at: Moment) -> String {
    format!("{:.6}", whole(at, Unit::Microsecond))
}

/// Cut to `unit`; a moment outside jiff's range (years -9999 to 9999) is shown as the nearest end of it.
fn whole(at: Moment, unit: Unit) -> Timestamp {
    let exact = Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    });
    let cut = jiff::TimestampRound::new()
        .smallest(unit)
        .mode(jiff::RoundMode::Floor);
    exact.round(cut).unwrap_or(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Moment = Moment(1_795_219_200_000);

    #[test]
    fn timestamps_have_kubernetes_forms() {
        assert_eq!(rfc3339(EPOCH), "2026-11-21T00:00:00Z");
        assert_eq!(rfc3339(EPOCH.plus(1_999)), "2026-11-21T00:00:01Z");
        assert_eq!(rfc3339_micro(EPOCH), "2026-11-21T00:00:00.000000Z");
        assert_eq!(rfc3339_micro(EPOCH.plus(7)), "2026-11-21T00:00:00.007000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_time_is_real_time_times_speed() {
        let clock = Clock::fast(EPOCH, 20.0);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(clock.now(), EPOCH.plus(60_000));
        let before = Instant::now();
        clock.sleep(60_000).await;
        assert_eq!(clock.now().since(EPOCH.plus(120_000)).abs() / 21, 0);
        assert_eq!(before.elapsed().as_millis() / 10, 300);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_never_ends_early() {
        let clock = Clock::fast(EPOCH, 600.0);
        for ms in [1, 7, 599, 600, 601, 12_345] {
            let end = clock.now().plus(ms);
            clock.sleep(ms).await;
            assert!(clock.now() >= end, "{ms}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_speed_that_makes_no_sense_is_one() {
        for speed in [0.0, -3.0, f64::NAN, f64::INFINITY] {
            assert!((Clock::fast(EPOCH, speed).speed() - 1.0).abs() < f64::EPSILON);
        }
    }
}
