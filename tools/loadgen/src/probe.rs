//! Follows stamped actions from the bot that wrote them to the bots that see them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use meridian_client_net::metric_definitions::CLIENT_ACTION_SECONDS;

use crate::histogram::DurationHistogram;
use crate::metric_definitions::CLIENT_OBSERVER_SECONDS;

/// A stamp or a sighting older than this is forgotten: its other half will not come any more.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Sightings that may wait for their stamp. At 400 bots that all see each other, half a second of them.
const WAITING_MAX: usize = 200_000;

/// Which action: whose, and its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeId {
    /// The acting player or its entity, by whatever number tells them apart.
    pub subject: u64,
    /// The stamp.
    pub sequence: u32,
}

/// Joins stamps, echoes and sightings into latencies. Only actions stamped within the measuring window count.
#[derive(Debug)]
pub struct ProbeBoard {
    window: (Instant, Instant),
    stamps: HashMap<ProbeId, Stamp>,
    waiting: HashMap<ProbeId, Vec<Instant>>,
    waiting_count: usize,
    swept: Instant,
    action: DurationHistogram,
    observer: DurationHistogram,
    unanswered: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stamp {
    at: Instant,
    echoed: bool,
}

impl ProbeBoard {
    /// A board that counts actions stamped from `begin` on and before `end`.
    pub fn new(begin: Instant, end: Instant) -> Self {
        Self {
            window: (begin, end),
            stamps: HashMap::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            swept: begin,
            action: DurationHistogram::default(),
            observer: DurationHistogram::default(),
            unanswered: 0,
        }
    }

    /// An action was stamped at `at`.
    pub fn stamped(&mut self, id: ProbeId, at: Instant) {
        self.sweep(at);
        let previous = self.stamps.insert(id, Stamp { at, echoed: false });
        self.count_unanswered(previous, at);
        let sightings = self.waiting.remove(&id).unwrap_or_default();
        self.waiting_count -= sightings.len();
        if self.counts(at) {
            sightings
                .iter()
                .for_each(|seen| self.record_observer(seen.saturating_duration_since(at)));
        }
    }

    /// The acting bot saw its own action applied at `seen`. Repeats are ignored.
    pub fn echoed(&mut self, id: ProbeId, seen: Instant) {
        let Some(stamp) = self.stamps.get_mut(&id).filter(|stamp| !stamp.echoed) else {
            return;
        };
        stamp.echoed = true;
        let at = stamp.at;
        if self.counts(at) {
            self.record_action(seen.saturating_duration_since(at));
        }
    }

    /// Another bot saw the action applied at `seen`. May be told before the stamp is.
    pub fn sighted(&mut self, id: ProbeId, seen: Instant) {
        match self.stamps.get(&id) {
            Some(stamp) if self.counts(stamp.at) => {
                let took = seen.saturating_duration_since(stamp.at);
                self.record_observer(took);
            }
            Some(_) => {}
            None if self.waiting_count < WAITING_MAX => {
                self.waiting.entry(id).or_default().push(seen);
                self.waiting_count += 1;
            }
            None => {}
        }
    }

    /// From stamp to echo, over all bots.
    pub fn action(&self) -> &DurationHistogram {
        &self.action
    }

    /// From stamp to sight, over all pairs of bots.
    pub fn observer(&self) -> &DurationHistogram {
        &self.observer
    }

    /// Actions stamped in the window whose echo has not come, and was given up.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// The run is over at `now`: what has no echo by then took at least so long, and counts with that.
    pub fn give_up(&mut self, now: Instant) {
        for stamp in std::mem::take(&mut self.stamps).into_values() {
            self.count_unanswered(Some(stamp), now);
        }
    }

    fn record_action(&mut self, took: Duration) {
        self.action.record(took);
        metrics::histogram!(CLIENT_ACTION_SECONDS).record(took.as_secs_f64());
    }

    fn record_observer(&mut self, took: Duration) {
        self.observer.record(took);
        metrics::histogram!(CLIENT_OBSERVER_SECONDS).record(took.as_secs_f64());
    }

    fn counts(&self, stamped: Instant) -> bool {
        (self.window.0..self.window.1).contains(&stamped)
    }

    fn count_unanswered(&mut self, stamp: Option<Stamp>, now: Instant) {
        if let Some(stamp) = stamp.filter(|stamp| !stamp.echoed && self.counts(stamp.at)) {
            self.unanswered += 1;
            self.record_action(now.saturating_duration_since(stamp.at));
        }
    }

    /// Forgets what is too old, once in a while.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < FORGET_AFTER {
            return;
        }
        self.swept = now;
        let is_old = |at: &Instant| now.saturating_duration_since(*at) > FORGET_AFTER;
        let forgotten: Vec<Stamp> = self
            .stamps
            .extract_if(|_, stamp| is_old(&stamp.at))
            .map(|(_, stamp)| stamp)
            .collect();
        forgotten
            .into_iter()
            .for_each(|stamp| self.count_unanswered(Some(stamp), now));
        self.waiting.retain(|_, sightings| {
            sightings.retain(|seen| !is_old(seen));
            !sightings.is_empty()
        });
        self.waiting_count = self.waiting.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn id(sequence: u32) -> ProbeId {
        ProbeId { subject: 7, sequence }
    }

    #[test]
    fn an_action_is_measured_by_its_bot_and_by_the_others() {
        let begin = Instant::now();
        let mut board = ProbeBoard::new(begin, begin + 1_000 * MS);
        board.stamped(id(1), begin + 5 * MS);
        board.echoed(id(1), begin + 25 * MS);
        board.echoed(id(1), begin + 95 * MS);
        board.sighted(id(1), begin + 45 * MS);
        board.give_up(begin + 1_000 * MS);
        assert_eq!((board.action().samples(), board.observer().samples()), (1, 1));
        assert!((board.action().summary_ms().max.unwrap() - 20.0).abs() < 0.1);
        assert!((board.observer().summary_ms().max.unwrap() - 40.0).abs() < 0.1);
        assert_eq!(board.unanswered(), 0);
    }

    #[test]
    fn a_sighting_may_be_told_before_its_stamp() {
        let begin = Instant::now();
        let mut board = ProbeBoard::new(begin, begin + 1_000 * MS);
        board.sighted(id(1), begin + 45 * MS);
        assert_eq!(board.observer().samples(), 0);
        board.stamped(id(1), begin + 5 * MS);
        assert!((board.observer().summary_ms().max.unwrap() - 40.0).abs() < 0.1);
    }

    #[test]
    fn what_was_stamped_outside_of_the_window_does_not_count() {
        let begin = Instant::now() + 100 * MS;
        let mut board = ProbeBoard::new(begin, begin + 100 * MS);
        board.stamped(id(1), begin - MS);
        board.stamped(id(2), begin + 100 * MS);
        for sequence in [1, 2] {
            board.echoed(id(sequence), begin + 120 * MS);
            board.sighted(id(sequence), begin + 120 * MS);
        }
        assert_eq!((board.action().samples(), board.observer().samples()), (0, 0));
    }

    #[test]
    fn an_action_without_an_echo_is_told_even_after_it_is_forgotten() {
        let begin = Instant::now();
        let mut board = ProbeBoard::new(begin, begin + 60_000 * MS);
        board.stamped(id(1), begin);
        board.sighted(id(9), begin);
        board.stamped(id(2), begin + 30_000 * MS);
        board.echoed(id(2), begin + 30_016 * MS);
        assert_eq!(board.unanswered(), 1);
        assert_eq!((board.stamps.len(), board.waiting_count), (1, 0));
    }

    #[test]
    fn an_action_that_is_never_answered_counts_with_the_time_it_had() {
        let begin = Instant::now();
        let mut board = ProbeBoard::new(begin, begin + 1_000 * MS);
        board.stamped(id(1), begin);
        board.stamped(id(2), begin + 500 * MS);
        board.echoed(id(2), begin + 516 * MS);
        board.give_up(begin + 1_500 * MS);
        assert_eq!((board.unanswered(), board.action().samples()), (1, 2));
        assert!((board.action().summary_ms().max.unwrap() - 1_500.0).abs() < 2.0);
    }
}
