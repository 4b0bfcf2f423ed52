//! Corrections of a clock that runs: small ones, a little at a time, never a step.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Share of the time that a correction may take or give: a tick of 16.7 ms is then off by 0.17 ms, less than machines jitter by.
const SLEW_SHARE: i128 = 100;

/// Steers a [`TickClock`](crate::TickClock) and all its copies.
#[derive(Clone, Copy, Debug)]
pub struct ClockSteering {
    origin: Instant,
    slew: &'static RwLock<Slew>,
}

impl ClockSteering {
    /// A process steers the one clock of its world, for as long as it runs: what that takes is given back at its end.
    pub(crate) fn new(origin: Instant) -> Self {
        let slew = Box::leak(Box::new(RwLock::new(Slew::default())));
        Self { origin, slew }
    }

    pub(crate) fn slew(&self) -> Slew {
        *self.slew.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// At `now` the clock is behind the world's time by so many nanoseconds, or ahead if it is negative. It is made good at no more
    /// than a hundredth of the time that passes.
    pub fn correct(&self, now: Instant, behind_ns: i64) {
        let elapsed = now.saturating_duration_since(self.origin);
        let mut slew = self.slew.write().unwrap_or_else(PoisonError::into_inner);
        let offset = slew.offset_at(elapsed.as_nanos() as i128);
        *slew = Slew {
            since: elapsed.as_nanos() as i128,
            from: offset,
            to: offset + i128::from(behind_ns),
        };
    }
}

/// What is added to the time that has passed: `from` before `since`, then nearing `to`. In nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slew {
    since: i128,
    from: i128,
    to: i128,
}

impl Slew {
    fn offset_at(&self, elapsed: i128) -> i128 {
        let most = (elapsed - self.since).max(0) / SLEW_SHARE;
        self.from + (self.to - self.from).clamp(-most, most)
    }

    /// The world's time when `elapsed` has passed on the machine's clock, both since the origin.
    pub(crate) fn world_at(&self, elapsed: Duration) -> Duration {
        let elapsed = elapsed.as_nanos() as i128;
        duration(elapsed + self.offset_at(elapsed))
    }

    /// What has passed on the machine's clock when it is `world` in the world.
    pub(crate) fn elapsed_at(&self, world: Duration) -> Duration {
        let world = world.as_nanos() as i128;
        let into = world - (self.since + self.from);
        if into <= 0 {
            return duration(world - self.from);
        }
        let left = self.to - self.from;
        let share = SLEW_SHARE + left.signum();
        let passed = (into * SLEW_SHARE + share - 1) / share;
        if passed / SLEW_SHARE >= left.abs() {
            duration(world - self.to)
        } else {
            duration(self.since + passed)
        }
    }
}

fn duration(nanos: i128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use crate::{Tick, TickClock, TickRate};

    use super::*;

    #[test]
    fn a_clock_is_never_stepped_and_no_tick_is_left_out_or_comes_twice() {
        let origin = Instant::now();
        for behind_ms in [40, -40, 7, 0, -3] {
            let (clock, steering) = TickClock::new(origin, Tick(500), TickRate::default()).steered();
            let copy = clock;
            steering.correct(origin + Duration::from_millis(300), behind_ms * 1_000_000);
            let mut last = clock.due(Tick(500));
            for tick in (501..1_400).map(Tick) {
                let due = copy.due(tick);
                let took = (due - last).as_nanos() as f64 / 16_666_666.7;
                assert!((0.989..1.011).contains(&took), "{tick} takes {took} ticks");
                assert_eq!(clock.tick_at(due), tick);
                assert_eq!(clock.tick_at(due - Duration::from_nanos(1_000)), tick - 1);
                last = due;
            }
            // After fifteen seconds all of it is made good.
            let end = origin + Duration::from_secs(15);
            let world = clock.world_time_for_test(end).as_nanos() as i128 - 15_000_000_000;
            assert!((world - i128::from(behind_ms) * 1_000_000).abs() <= 2, "{world} ns");
        }
    }

    #[test]
    fn a_correction_in_the_middle_of_another_goes_on_from_where_that_was() {
        let origin = Instant::now();
        let (clock, steering) = TickClock::new(origin, Tick(0), TickRate::default()).steered();
        steering.correct(origin, 50_000_000);
        let middle = origin + Duration::from_secs(2);
        assert_eq!(clock.world_time_for_test(middle), Duration::from_millis(2_020));
        steering.correct(middle, -20_000_000);
        assert_eq!(clock.world_time_for_test(middle), Duration::from_millis(2_020));
        assert_eq!(
            clock.world_time_for_test(middle + Duration::from_secs(2)),
            Duration::from_secs(4)
        );
    }
}
