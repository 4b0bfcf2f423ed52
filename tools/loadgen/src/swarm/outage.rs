//! Times in which a bot could not act: its actions were not seen applied, whatever was the cause.

use std::time::{Duration, Instant};

use crate::histogram::DurationHistogram;
use crate::report::Outages;

/// What a bot may wait for the echo of an action, beyond the time between two, before it counts as an outage: no healthy link needs as long.
const PATIENCE: Duration = Duration::from_millis(300);

/// When one bot acted last.
#[derive(Debug, Default)]
pub(super) struct Acting {
    last: Option<Instant>,
}

impl Acting {
    /// An action was seen applied at `now`; says how long none was before, if that is an outage.
    pub(super) fn acted(&mut self, now: Instant, probe_every: Duration) -> Option<Duration> {
        let before = self.last.replace(now)?;
        let waited = now.saturating_duration_since(before);
        (waited > probe_every + PATIENCE).then_some(waited)
    }

    /// Whether no action has been seen applied for too long at `now`; one that never acted is out too.
    pub(super) fn is_out(&self, now: Instant, probe_every: Duration) -> bool {
        self.last
            .is_none_or(|last| now.saturating_duration_since(last) > probe_every + PATIENCE)
    }
}

/// The outages of all bots in the measuring window.
#[derive(Default)]
pub(super) struct OutageFigures {
    lengths: DurationHistogram,
}

impl OutageFigures {
    pub(super) fn record(&mut self, length: Duration) {
        self.lengths.record(length);
    }

    /// With the count of bots that could not act at the window's end.
    pub(super) fn outages(&self, still_out: u64) -> Outages {
        Outages {
            lengths_ms: self.lengths.summary_ms(),
            still_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_outage_lasts_from_the_last_action_that_was_seen_to_the_next() {
        let (start, every) = (Instant::now(), 100 * MS);
        let mut acting = Acting::default();
        assert!(acting.is_out(start, every), "it never acted");
        assert_eq!(acting.acted(start, every), None);
        assert_eq!(acting.acted(start + 390 * MS, every), None);
        assert!(!acting.is_out(start + 790 * MS, every));
        assert!(acting.is_out(start + 791 * MS, every));
        assert_eq!(acting.acted(start + 1_390 * MS, every), Some(1_000 * MS));
    }
}
