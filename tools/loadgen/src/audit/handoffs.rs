//! Counts of handoffs.

use std::collections::BTreeMap;

use meridian_ids::Tick;
use serde::Serialize;

/// Gaps of more ticks than this count as this many: one bucket for all that no player would call a gap.
const MISSING_TICKS_MAX: u64 = 10_000;

/// Handoffs between zones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HandoffCounts {
    /// How often an entity began in another zone under a higher epoch.
    pub total: u64,
    /// The most handoffs of one entity within any second of ticks.
    pub per_entity_per_second_max: u64,
    /// How many handoffs left out how many ticks between the old and the new owner. None is missing in a perfect one.
    pub missing_ticks: BTreeMap<u64, u64>,
    /// Handoffs whose old owner did not tell its last tick.
    pub gap_unknown: u64,
}

/// How many ticks nobody simulated between two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    Ticks(u64),
    Unknown,
}

impl HandoffCounts {
    /// The most ticks that a handoff left out; absent where no handoff's are known.
    pub fn missing_ticks_max(&self) -> Option<u64> {
        self.missing_ticks.keys().next_back().copied()
    }

    pub(super) fn record_gap(&mut self, gap: Gap) {
        match gap {
            Gap::Ticks(ticks) => *self.missing_ticks.entry(ticks.min(MISSING_TICKS_MAX)).or_default() += 1,
            Gap::Unknown => self.gap_unknown += 1,
        }
    }

    /// The owners of an entity have become one more: it had changed its zone `before` times, and now has at `ticks`. What lies
    /// through tick `since` is not in the window that is counted; a second has `span` ticks.
    pub(super) fn record(&mut self, before: usize, ticks: &mut [Tick], since: Tick, span: u64) {
        let grown = ticks.len() as u64;
        // Not a sum of differences: an owner that is heard of late may show that two that seemed neighbours are not.
        self.total = (self.total + grown).saturating_sub(before as u64);
        ticks.sort_unstable();
        let in_window = &ticks[ticks.partition_point(|tick| *tick <= since)..];
        // One that is told late may lie before the window in which it counts.
        let most = most_within(in_window, span).max(u64::from(ticks.len() > before));
        self.per_entity_per_second_max = self.per_entity_per_second_max.max(most);
    }
}

/// The most of the ascending `ticks` that lie within any `span` consecutive ticks.
fn most_within(ticks: &[Tick], span: u64) -> u64 {
    let within = |(index, first): (usize, &Tick)| {
        let end = Tick(first.0.saturating_add(span));
        ticks[index..].partition_point(|tick| *tick < end)
    };
    ticks.iter().enumerate().map(within).max().unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_as_many_ticks_as_a_second_has() {
        let ticks = [0, 59, 60, 61, 119, 120].map(Tick);
        assert_eq!(most_within(&ticks, 60), 3, "60 to 119");
        assert_eq!(most_within(&ticks[..3], 60), 2, "0 and 60 are a second apart");
        assert_eq!(most_within(&[], 60), 0);
    }

    #[test]
    fn gaps_are_counted_by_their_length() {
        let mut counts = HandoffCounts::default();
        assert_eq!(counts.missing_ticks_max(), None);
        for gap in [Gap::Ticks(0), Gap::Ticks(3), Gap::Ticks(0), Gap::Unknown] {
            counts.record_gap(gap);
        }
        assert_eq!(counts.missing_ticks, BTreeMap::from([(0, 2), (3, 1)]));
        assert_eq!((counts.missing_ticks_max(), counts.gap_unknown), (Some(3), 1));
    }
}
