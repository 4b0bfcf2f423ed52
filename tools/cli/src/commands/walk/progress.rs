//! How far a walk of several moves has come, and when its next move is to be sent.

use std::time::{Duration, Instant};

use meridian_rpc::MOVE_TICKS_MAX;

use super::Moved;

/// Most moves of one walk beyond those that its length needs: only a server that answers nonsense cuts off so many.
const EXTRA_MOVES_MAX: u64 = 100;
/// Longest wait for one move to end, in ticks of it: a server whose last tick is later than that answers nonsense.
const WAIT_TICKS_MAX: u64 = 2 * MOVE_TICKS_MAX as u64;

/// How many ticks of a walk are still to be walked, by what the server answered.
pub(super) struct Progress {
    left: u64,
    parts: u64,
    parts_max: u64,
    last_tick: Option<u64>,
}

impl Progress {
    /// A walk of so many ticks.
    pub(super) fn new(ticks: u64) -> Self {
        Self {
            left: ticks,
            parts: 0,
            parts_max: ticks.div_ceil(u64::from(MOVE_TICKS_MAX)) + EXTRA_MOVES_MAX,
            last_tick: None,
        }
    }

    /// Ticks that no move was asked for yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Moves that were answered.
    pub(super) fn parts(&self) -> u64 {
        self.parts
    }

    /// Whether the walk has taken more moves than it can need.
    pub(super) fn is_endless(&self) -> bool {
        self.parts >= self.parts_max
    }

    /// How many ticks the next move has.
    pub(super) fn next_ticks(&self) -> u32 {
        self.left.clamp(1, MOVE_TICKS_MAX.into()) as u32
    }

    /// A move of `asked` ticks began at `first`, and ends with `last`. What it cut off the one before is still to be walked.
    pub(super) fn walked(&mut self, first: u64, last: u64, asked: u32) {
        let asked = u64::from(asked);
        let end_before = self.last_tick.map_or(0, |before| before.saturating_add(1));
        let cut_off = end_before.saturating_sub(first).min(MOVE_TICKS_MAX.into());
        self.left = self.left + cut_off - asked.min(self.left);
        self.last_tick = Some(last.min(first.saturating_add(asked - 1)));
        self.parts += 1;
    }
}

/// Where the zone's ticks are by this process's clock, as far as one answer tells.
pub(super) struct TickClock {
    /// When the first tick of the move was done.
    first_done: Instant,
    first_tick: u64,
    tick: Duration,
    /// How long a call takes until the zone has it.
    way: Duration,
}

impl TickClock {
    /// What an answer that came at `answered` tells.
    pub(super) fn new(moved: &Moved, answered: Instant, tick_rate_hz: Option<u32>) -> Self {
        let rate = tick_rate_hz.unwrap_or(meridian_ids::TICK_RATE_HZ_DEFAULT).max(1);
        // The way there takes as long as the way back, as far as one can know. Both numbers are 0 to 2^32 microseconds.
        let one_way = Duration::from_secs_f64(moved.network_ms / 2_000.0);
        Self {
            first_done: answered.checked_sub(one_way).unwrap_or(answered),
            first_tick: moved.place.tick,
            tick: Duration::from_secs(1) / rate,
            way: one_way + Duration::from_secs_f64(moved.route_ms / 1_000.0),
        }
    }

    fn done(&self, tick: u64) -> Instant {
        let ticks = tick.saturating_sub(self.first_tick).min(WAIT_TICKS_MAX) as u32;
        self.first_done + self.tick * ticks
    }

    /// Until what is sent now reaches the zone half a tick after `last_tick`: neither does it cut that off, nor does the next tick miss it.
    pub(super) async fn wait_to_follow(&self, last_tick: u64) {
        let arrival = self.done(last_tick) + self.tick / 2;
        tokio::time::sleep_until(arrival.checked_sub(self.way).unwrap_or(arrival).into()).await;
    }

    /// Until half a tick after `last_tick`: what is told then does not cut it off, even if the answer was as late as half a tick.
    pub(super) async fn wait_for_end_of(&self, last_tick: u64) {
        tokio::time::sleep_until((self.done(last_tick) + self.tick / 2).into()).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_move_cuts_off_is_walked_by_the_next() {
        let mut progress = Progress::new(100);
        progress.walked(10, 69, progress.next_ticks());
        assert_eq!((progress.left(), progress.next_ticks()), (40, 40));
        // Three ticks early: it walks ticks 67 to 69 in place of the first move.
        progress.walked(67, 106, 40);
        assert_eq!(progress.left(), 3);
        // Late: the player stood still for a while, and nothing is lost.
        progress.walked(120, 122, 3);
        assert_eq!((progress.left(), progress.parts()), (0, 3));
    }

    proptest! {
        /// A zone that begins each move when it likes walks as many ticks as were asked for, however early or late that is.
        #[test]
        fn a_walk_is_as_long_as_it_was_asked_to_be(ticks in 1_u64..2_000, offsets in prop::collection::vec(-8_i64..9, 100)) {
            let mut progress = Progress::new(ticks);
            let (mut walked, mut current) = (0, None::<(u64, u64)>);
            for offset in offsets.into_iter().chain(std::iter::repeat(0)) {
                if progress.left() == 0 {
                    break;
                }
                prop_assert!(!progress.is_endless());
                let asked = progress.next_ticks();
                let first = match current {
                    Some((began, last)) => (last as i64 + 1 + offset).max(began as i64 + 1) as u64,
                    None => 1_000,
                };
                if let Some((began, last)) = current {
                    walked += last.min(first - 1) - began + 1;
                }
                let last = first + u64::from(asked) - 1;
                progress.walked(first, last, asked);
                current = Some((first, last));
            }
            let (began, last) = current.unwrap();
            prop_assert_eq!(walked + last - began + 1, ticks);
        }

        #[test]
        fn no_answer_breaks_the_count(ticks in 1_u64..2_000, answers in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50)) {
            let mut progress = Progress::new(ticks);
            for (first, last) in answers {
                progress.walked(first, last.max(first), progress.next_ticks());
                prop_assert!(progress.left() <= ticks + u64::from(MOVE_TICKS_MAX) * progress.parts());
            }
        }
    }
}
