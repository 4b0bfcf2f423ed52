//! Player ids: unique without asking anybody, also across restarts.
//!
//! | bits | what |
//! | --- | --- |
//! | 63 | zero: the id fits a signed integer of a database |
//! | 62..22 | milliseconds since 2025-01-01 UTC: enough until 2094 |
//! | 21..0 | random |
//!
//! One minter never repeats an id, whatever the clock does: an id that is not above the last one becomes the last one plus one.
//! After a restart with the clock set back, or with two minters, two ids are equal with a chance of 1 in 4 million for each pair
//! of ids minted in the same millisecond.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const RANDOM_BITS: u32 = 22;
const TIME_BITS: u32 = 41;

/// 2025-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_735_689_600);

/// Mints the ids of this process.
#[derive(Debug, Default)]
pub(crate) struct PlayerIdMinter {
    last: AtomicU64,
}

impl PlayerIdMinter {
    /// A fresh id. `now` is the time since the Unix epoch, `random` any random bits.
    pub(crate) fn mint(&self, now: Duration, random: u64) -> u64 {
        let elapsed_ms = now.saturating_sub(EPOCH).as_millis() as u64 & ((1 << TIME_BITS) - 1);
        let candidate = (elapsed_ms << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1));
        let next = |last: u64| candidate.max(last.wrapping_add(1) & (u64::MAX >> 1));
        let last = self.last.update(Ordering::Relaxed, Ordering::Relaxed, next);
        next(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_whatever_the_clock_and_the_dice_do() {
        let minter = PlayerIdMinter::default();
        let mut last = 0;
        for (seconds, random) in [
            (1_800_000_000, 7),
            (1_800_000_000, 7),
            (1_700_000_000, u64::MAX),
            (0, 0),
            (1_800_000_001, 0),
        ] {
            let id = minter.mint(Duration::from_secs(seconds), random);
            assert!(id > last && i64::try_from(id).is_ok(), "{id} after {last}");
            last = id;
        }
    }

    #[test]
    fn a_restart_mints_above_what_was_minted_before() {
        let before = PlayerIdMinter::default().mint(Duration::from_secs(1_800_000_000), u64::MAX);
        let after = PlayerIdMinter::default().mint(Duration::from_millis(1_800_000_000_001), 0);
        assert!(after > before);
    }
}
