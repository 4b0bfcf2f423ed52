//! How often an entity may change its owner: a token bucket that travels with it.

use meridian_ids::{Tick, TickRate};
use serde::{Deserialize, Serialize};

/// Handoffs in the long run, per second.
pub const HANDOFFS_PER_SECOND: u64 = 2;
/// Handoffs in a row after a quiet time. With the refill it makes at most five in any second.
pub const HANDOFFS_BURST_MAX: u64 = 3;

/// The handoffs an entity may make: a bucket of tokens, one per handoff, filled by ticks.
///
/// It is part of the entity's record: two zones that had a bucket each would let it through twice as often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// The tick at which the bucket is full, if nothing is taken.
    full_at: Tick,
}

impl Allowance {
    /// A full bucket.
    pub fn full(now: Tick) -> Self {
        Self { full_at: now }
    }

    /// Takes one handoff's token, unless there is none.
    pub fn take(&mut self, now: Tick, rate: TickRate) -> bool {
        let ticks_per_token = u64::from(rate.hz()).div_ceil(HANDOFFS_PER_SECOND);
        let full_at = self.full_at.max(now) + ticks_per_token;
        let granted = full_at.since(now) <= (ticks_per_token * HANDOFFS_BURST_MAX) as i64;
        if granted {
            self.full_at = full_at;
        }
        granted
    }

    /// Gives back the token of a handoff that was refused.
    pub fn give_back(&mut self, rate: TickRate) {
        self.full_at = self.full_at - u64::from(rate.hz()).div_ceil(HANDOFFS_PER_SECOND);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn after_a_quiet_time_a_burst_passes_and_then_two_a_second() {
        let rate = TickRate::default();
        let mut allowance = Allowance::full(Tick(1_000));
        let granted = |allowance: &mut Allowance, from: u64, ticks: u64| {
            (from..from + ticks)
                .filter(|tick| allowance.take(Tick(*tick), rate))
                .count()
        };
        assert_eq!(granted(&mut allowance, 1_000, 1), 1);
        assert_eq!(granted(&mut allowance, 1_001, 59), 3);
        assert_eq!(granted(&mut allowance, 1_060, 600), 20);
    }

    proptest! {
        #[test]
        fn no_second_sees_more_than_five(hz in 20u32..=128, tries in proptest::collection::vec(0u64..20, 1..400)) {
            let rate = TickRate::new(hz).unwrap();
            let mut allowance = Allowance::full(Tick(0));
            let (mut tick, mut granted) = (0, Vec::new());
            for pause in tries {
                tick += pause;
                if allowance.take(Tick(tick), rate) {
                    granted.push(tick);
                }
            }
            let second = u64::from(hz);
            for (index, first) in granted.iter().enumerate() {
                let within = granted[index..].iter().take_while(|tick| **tick < first + second).count();
                prop_assert!(within <= 5, "{within} handoffs from tick {first}");
            }
        }
    }
}
