//! The clocks of two processes: how far they are apart, and what an instant of the other one is here.
//!
//! On the wire an instant is a signed number of nanoseconds on its sender's clock, which counts from when the sender's endpoint was
//! bound. Each side asks the other for its time and takes the answer that came back soonest: with offset and round trip as NTP
//! computes them (RFC 5905, section 8), the offset errs by half of that round trip at most. Never reads a clock itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Answers that the least round trip is sought among: four seconds of them. Clocks drift apart by less than 50 microseconds
/// a second, and a link that became slower is believed after this time.
const SAMPLES_MAX: usize = 16;
/// Further back than this nothing lies that a message tells of; what a peer says beyond it is cut off.
const AGE_MAX: Duration = Duration::from_secs(60);
/// An answer that took longer says nothing.
const ROUND_TRIP_MAX_NS: i64 = 10_000_000_000;

/// A process's clock: instants as numbers that can be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin }
    }

    /// An instant in nanoseconds since the origin; those before it are negative.
    pub(super) fn nanoseconds(&self, instant: Instant) -> i64 {
        let limited = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(self.origin) {
            Some(after) => limited(after),
            None => -limited(self.origin.saturating_duration_since(instant)),
        }
    }
}

/// One answer of the other side.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The other clock minus this one, in nanoseconds.
    offset: i64,
    /// In nanoseconds.
    round_trip: i64,
}

/// When a question was asked, came in there, was answered, and the answer came in here: in nanoseconds, the first and the last on the
/// own clock, the others on the other's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) asked: i64,
    pub(super) heard: i64,
    pub(super) answered: i64,
    pub(super) received: i64,
}

/// What one side of a link knows of the other's clock.
#[derive(Debug)]
pub(super) struct OtherClock {
    own: Clock,
    /// What is taken for true before the first answer.
    first: Sample,
    samples: VecDeque<Sample>,
}

impl OtherClock {
    /// From what the other side said in its hello: its clock showed `theirs` about `under_way` before `now`.
    pub(super) fn from_hello(own: Clock, theirs: i64, under_way: Duration, now: Instant) -> Self {
        let under_way = i64::try_from(under_way.as_nanos()).unwrap_or(ROUND_TRIP_MAX_NS);
        let then = own.nanoseconds(now).saturating_sub(under_way);
        let first = Sample {
            offset: theirs.saturating_sub(then),
            round_trip: under_way.saturating_mul(2),
        };
        Self {
            own,
            first,
            samples: VecDeque::with_capacity(SAMPLES_MAX),
        }
    }

    /// Takes in an answer. One that cannot be is ignored.
    pub(super) fn learn(&mut self, exchange: Exchange) {
        let Exchange {
            asked,
            heard,
            answered,
            received,
        } = exchange;
        // In 128 bits, for the other side may say anything.
        let [asked, heard, answered, received] = [asked, heard, answered, received].map(i128::from);
        let round_trip = (received - asked) - (answered - heard);
        let offset = ((heard - asked) + (answered - received)) / 2;
        let (Ok(round_trip), Ok(offset)) = (i64::try_from(round_trip), i64::try_from(offset)) else {
            return;
        };
        if !(0..=ROUND_TRIP_MAX_NS).contains(&round_trip) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { offset, round_trip });
    }

    fn best(&self) -> Sample {
        let best = self.samples.iter().min_by_key(|sample| sample.round_trip);
        best.copied().unwrap_or(self.first)
    }

    /// How far the other clock is ahead, in seconds. The clocks count from different instants, so that alone it says little; that
    /// it changes says that they drift.
    pub(super) fn offset_seconds(&self) -> f64 {
        self.best().offset as f64 * 1e-9
    }

    /// The round trip that the offset was measured with, in seconds: it errs by half of it at most.
    pub(super) fn round_trip_seconds(&self) -> f64 {
        self.best().round_trip as f64 * 1e-9
    }

    /// What an instant of the other clock is on this one: not later than `now`, for it has happened.
    pub(super) fn local(&self, theirs: i64, now: Instant) -> Instant {
        let ours = theirs.saturating_sub(self.best().offset);
        let age = self.own.nanoseconds(now).saturating_sub(ours);
        let age = Duration::from_nanos(u64::try_from(age).unwrap_or(0)).min(AGE_MAX);
        now.checked_sub(age).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both clocks, the other one ahead by `ahead_ns`, at an instant well after their origins.
    fn clocks(ahead_ns: i64) -> (Instant, Clock, Clock) {
        let origin = Instant::now() + Duration::from_secs(10);
        let other = if ahead_ns < 0 {
            origin + Duration::from_nanos(ahead_ns.unsigned_abs())
        } else {
            origin - Duration::from_nanos(ahead_ns as u64)
        };
        (origin, Clock::new(origin), Clock::new(other))
    }

    #[test]
    fn an_instant_before_the_origin_is_negative_and_comes_back() {
        let (origin, own, _) = clocks(0);
        let before = origin - Duration::from_millis(3);
        assert_eq!(own.nanoseconds(before), -3_000_000);
        let other = OtherClock::from_hello(own, 0, Duration::ZERO, origin);
        assert_eq!(other.local(-3_000_000, origin), before);
    }

    #[test]
    fn what_has_happened_is_never_later_than_now() {
        let (origin, own, _) = clocks(0);
        let other = OtherClock::from_hello(own, 0, Duration::ZERO, origin);
        assert_eq!(other.local(i64::MAX, origin), origin);
        assert_eq!(other.local(i64::MIN, origin), origin - AGE_MAX);
    }

    #[test]
    fn an_answer_that_came_back_sooner_is_believed_until_it_is_old() {
        let (origin, own, _) = clocks(0);
        let mut other = OtherClock::from_hello(own, 77, Duration::from_millis(1), origin);
        let answer = |offset: i64, there: i64, back: i64| Exchange {
            asked: 0,
            heard: there + offset,
            answered: there + offset,
            received: there + back,
        };
        other.learn(answer(5_000, 100, 100));
        other.learn(answer(5_000, 100, 40_000));
        assert_eq!(other.best().offset, 5_000);
        for _ in 0..SAMPLES_MAX {
            other.learn(answer(9_000, 300, 300));
        }
        assert_eq!(other.best().offset, 9_000);
    }

    proptest! {
        #[test]
        fn the_offset_errs_by_half_of_the_round_trip_at_most(
            ahead_ns in -9_000_000_000_i64..9_000_000_000,
            legs in proptest::collection::vec((0_u64..50_000_000, 0_u64..50_000_000, 0_u64..5_000_000), 1..40),
        ) {
            let (origin, own, theirs) = clocks(ahead_ns);
            let mut other = OtherClock::from_hello(own, 0, Duration::ZERO, origin);
            let mut now = origin;
            for (there, back, held) in legs {
                let heard = now + Duration::from_nanos(there);
                let answered = heard + Duration::from_nanos(held);
                let received = answered + Duration::from_nanos(back);
                other.learn(Exchange {
                    asked: own.nanoseconds(now),
                    heard: theirs.nanoseconds(heard),
                    answered: theirs.nanoseconds(answered),
                    received: own.nanoseconds(received),
                });
                now = received;
            }
            let error = (other.best().offset - ahead_ns).abs();
            prop_assert!(error <= other.best().round_trip / 2 + 1);
            let happened = origin + Duration::from_nanos(1_000);
            let local = other.local(theirs.nanoseconds(happened), now);
            let apart = local.max(happened) - local.min(happened);
            prop_assert!(local <= now && apart.as_nanos() <= (other.best().round_trip / 2 + 1) as u128);
        }

        #[test]
        fn no_answer_of_another_process_does_harm(asked: i64, heard: i64, answered: i64, received: i64, theirs: i64) {
            let (origin, own, _) = clocks(0);
            let mut other = OtherClock::from_hello(own, theirs, Duration::from_secs(1), origin);
            other.learn(Exchange { asked, heard, answered, received });
            let local = other.local(theirs, origin);
            prop_assert!(local <= origin && origin - local <= AGE_MAX);
        }
    }
}
