//! The world's tick: one global count of simulation steps, and the clock that says which one is due.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ClockSteering;

/// Slowest tick rate a world may have, in Hz.
pub const TICK_RATE_HZ_MIN: u32 = 20;
/// Fastest tick rate a world may have, in Hz.
pub const TICK_RATE_HZ_MAX: u32 = 128;
/// Tick rate of a world that names none, in Hz.
pub const TICK_RATE_HZ_DEFAULT: u32 = 60;

/// A simulation step of the world, counted from the world's epoch and shared by all zones. Never repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Signed distance `self - earlier`, in ticks.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }
}

impl Add<u64> for Tick {
    type Output = Self;
    fn add(self, ticks: u64) -> Self {
        Self(self.0 + ticks)
    }
}

impl Sub<u64> for Tick {
    type Output = Self;
    fn sub(self, ticks: u64) -> Self {
        Self(self.0.saturating_sub(ticks))
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// A tick rate outside of [`TICK_RATE_HZ_MIN`]`..=`[`TICK_RATE_HZ_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tick rate {0} Hz is outside of {TICK_RATE_HZ_MIN}..={TICK_RATE_HZ_MAX} Hz")]
pub struct TickRateError(pub u32);

/// A validated tick rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TickRate(u32);

impl TickRate {
    /// A rate in Hz, or an error that names the allowed range.
    pub const fn new(hz: u32) -> Result<Self, TickRateError> {
        if hz < TICK_RATE_HZ_MIN || hz > TICK_RATE_HZ_MAX {
            Err(TickRateError(hz))
        } else {
            Ok(Self(hz))
        }
    }

    /// Ticks per second.
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// Length of one tick, rounded down to a nanosecond.
    pub const fn tick_duration(self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.0 as u64)
    }

    /// Length of one tick in seconds.
    pub fn delta_seconds(self) -> f32 {
        1.0 / self.0 as f32
    }
}

impl Default for TickRate {
    fn default() -> Self {
        Self(TICK_RATE_HZ_DEFAULT)
    }
}

impl TryFrom<u32> for TickRate {
    type Error = TickRateError;
    fn try_from(hz: u32) -> Result<Self, TickRateError> {
        Self::new(hz)
    }
}

impl From<TickRate> for u32 {
    fn from(rate: TickRate) -> u32 {
        rate.0
    }
}

/// Says when each tick of the world is due on this process's monotonic clock.
///
/// `origin` is the instant at which `first` is due; every other tick follows at the exact rate, computed from the
/// count rather than accumulated, so rounding never drifts. Where processes share a world, the clock is steered to the time that
/// they share ([`Self::steered`]): all its copies follow.
#[derive(Clone, Copy, Debug)]
pub struct TickClock {
    origin: Instant,
    first: Tick,
    rate: TickRate,
    steering: Option<ClockSteering>,
}

impl TickClock {
    /// A clock on which `first` is due at `origin`.
    pub const fn new(origin: Instant, first: Tick, rate: TickRate) -> Self {
        Self {
            origin,
            first,
            rate,
            steering: None,
        }
    }

    /// A clock that is `unix_now` into the world whose epoch is the Unix epoch: a restart skips ahead, so a tick number
    /// never repeats. `unix_now` is the time since the Unix epoch at the instant `now`.
    pub fn from_unix_time(now: Instant, unix_now: Duration, rate: TickRate) -> Self {
        let nanos = unix_now.as_nanos();
        let first = nanos * u128::from(rate.hz()) / 1_000_000_000;
        // To the nanosecond, not to the tick: the clocks of two processes differ by what their readings of the time do.
        let into_first = nanos - first * 1_000_000_000 / u128::from(rate.hz());
        let into_first = Duration::from_nanos(u64::try_from(into_first).unwrap_or(0));
        let origin = now.checked_sub(into_first).unwrap_or(now);
        Self::new(origin, Tick(u64::try_from(first).unwrap_or(u64::MAX / 2)), rate)
    }

    /// The same clock, to be corrected while it runs.
    pub fn steered(self) -> (Self, ClockSteering) {
        let steering = ClockSteering::new(self.origin);
        let steered = Self {
            steering: Some(steering),
            ..self
        };
        (steered, steering)
    }

    /// The world's rate.
    pub const fn rate(&self) -> TickRate {
        self.rate
    }

    /// The instant at which `tick` is due; ticks before the clock's first are due at its origin.
    pub fn due(&self, tick: Tick) -> Instant {
        let ticks = u128::from(tick.0.saturating_sub(self.first.0));
        let nanos = ticks * 1_000_000_000 / u128::from(self.rate.hz());
        let world = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        match self.steering {
            None => self.origin + world,
            Some(steering) => self.origin + steering.slew().elapsed_at(world),
        }
    }

    /// The last tick that is due at `now`.
    pub fn tick_at(&self, now: Instant) -> Tick {
        let nanos = self.world_time(now).as_nanos() + 1;
        let ticks = nanos * u128::from(self.rate.hz()) / 1_000_000_000;
        let tick = self.first + u64::try_from(ticks).unwrap_or(0);
        if self.due(tick) > now {
            tick - 1
        } else if self.steering.is_some() && self.due(tick.next()) <= now {
            tick.next()
        } else {
            tick
        }
    }

    /// The time of the world at `now`, since the clock's first tick.
    fn world_time(&self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.origin);
        match self.steering {
            None => elapsed,
            Some(steering) => steering.slew().world_at(elapsed),
        }
    }

    #[cfg(test)]
    pub(crate) fn world_time_for_test(&self, now: Instant) -> Duration {
        self.world_time(now)
    }

    /// The time since the Unix epoch at `now` by this clock, if it is one [`Self::from_unix_time`].
    pub fn unix_time(&self, now: Instant) -> Duration {
        let nanos = u128::from(self.first.0) * 1_000_000_000 / u128::from(self.rate.hz());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) + self.world_time(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_due_exactly_when_the_clock_says_it_is() {
        let origin = Instant::now();
        for hz in [20, 60, 75, 128] {
            let clock = TickClock::new(origin, Tick(1 << 40), TickRate::new(hz).unwrap());
            for tick in (0..100_000).step_by(997) {
                let tick = Tick((1 << 40) + tick);
                assert_eq!(clock.tick_at(clock.due(tick)), tick);
                assert_eq!(clock.tick_at(clock.due(tick.next()) - Duration::from_nanos(1)), tick);
            }
        }
    }

    #[test]
    fn clocks_that_were_read_at_different_times_agree_on_every_tick() {
        let now = Instant::now();
        let rate = TickRate::default();
        let one = TickClock::from_unix_time(now, Duration::from_nanos(1_700_000_000_123_456_789), rate);
        let later = Duration::from_nanos(77_777_777);
        let other = TickClock::from_unix_time(
            now + later,
            Duration::from_nanos(1_700_000_000_123_456_789) + later,
            rate,
        );
        let tick = one.tick_at(now + Duration::from_secs(1));
        let (due, other_due) = (one.due(tick), other.due(tick));
        assert!(due.max(other_due) - due.min(other_due) <= Duration::from_nanos(20));
        assert_eq!(one.unix_time(now).as_micros(), 1_700_000_000_123_456);
    }

    #[test]
    fn a_day_of_ticks_does_not_drift() {
        let origin = Instant::now();
        let clock = TickClock::new(origin, Tick(0), TickRate::default());
        let day = Duration::from_secs(86_400);
        assert_eq!(clock.tick_at(origin + day), Tick(86_400 * 60));
    }

    #[test]
    fn rates_outside_of_the_range_are_refused() {
        assert!(TickRate::new(19).is_err());
        assert!(TickRate::new(129).is_err());
        assert_eq!(TickRate::try_from(64).map(u32::from), Ok(64));
    }
}
