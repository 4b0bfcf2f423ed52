//! When a run's bots join, when measuring begins and when it ends.

use std::time::{Duration, Instant};

/// Bots join at this interval: forty within a second, so that no tick has to greet all of them.
pub const JOIN_INTERVAL: Duration = Duration::from_millis(25);

/// Bots stay for this long after the window: an action that was stamped at its end must be able to take long, or the
/// slowest would not be counted.
const GRACE: Duration = Duration::from_millis(500);

/// A run's moments.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// When the first bot joins.
    pub start: Instant,
    /// When the measuring window begins.
    pub measure_from: Instant,
    /// When it ends.
    pub until: Instant,
    /// When the bots leave.
    pub stop: Instant,
}

/// What a moment of a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Bots join and settle.
    Joining,
    /// What happens counts.
    Measuring,
    /// What was begun may end.
    Ending,
    /// The bots leave.
    Over,
}

impl Timing {
    /// A run that starts now: bots join one after the other, settle for `warmup`, and are then measured.
    pub fn start(bots: usize, warmup: Duration, measure: Duration) -> Self {
        let start = Instant::now();
        let joined = start + JOIN_INTERVAL * u32::try_from(bots).unwrap_or(u32::MAX);
        let measure_from = joined + warmup;
        let until = measure_from + measure;
        Self {
            start,
            measure_from,
            until,
            stop: until + GRACE,
        }
    }

    /// When bot number `index` joins.
    pub fn joins(&self, index: usize) -> Instant {
        self.start + JOIN_INTERVAL * u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// What the moment `now` is for.
    pub fn phase(&self, now: Instant) -> Phase {
        match now {
            now if now < self.measure_from => Phase::Joining,
            now if now < self.until => Phase::Measuring,
            now if now < self.stop => Phase::Ending,
            _ => Phase::Over,
        }
    }

    /// When the phase after that of `now` begins.
    pub fn next_phase(&self, now: Instant) -> Instant {
        match self.phase(now) {
            Phase::Joining => self.measure_from,
            Phase::Measuring => self.until,
            Phase::Ending | Phase::Over => self.stop,
        }
    }

    /// Whether `now` lies in the measuring window.
    pub fn measures(&self, now: Instant) -> bool {
        self.phase(now) == Phase::Measuring
    }

    /// Sleeps until `instant`; not at all when it has passed.
    pub fn sleep_until(&self, instant: Instant) {
        std::thread::sleep(instant.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bots_have_joined_before_the_warm_up_begins() {
        let timing = Timing::start(40, Duration::from_secs(3), Duration::from_secs(20));
        assert_eq!(timing.joins(40) - timing.start, Duration::from_secs(1));
        assert_eq!(timing.measure_from - timing.joins(40), Duration::from_secs(3));
        assert!(!timing.measures(timing.joins(39)) && timing.measures(timing.measure_from));
        assert_eq!(
            (timing.phase(timing.until), timing.phase(timing.stop)),
            (Phase::Ending, Phase::Over)
        );
        assert_eq!(timing.next_phase(timing.until), timing.stop);
    }
}
