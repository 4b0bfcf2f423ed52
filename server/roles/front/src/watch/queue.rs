//! What waits for one watcher.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_rpc::v1::WatchPositionsResponse;
use meridian_rpc::{ErrorWord, refusal};
use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Batch, Filter};
use crate::limits::PlayerSeat;
use crate::metric_definitions::{RPC_POSITIONS_MISSED, RPC_WATCHERS};

/// Answers that wait for a watcher at most: a second of a world of 60 Hz.
pub(crate) const WAITING_MAX: usize = 64;

/// What zones told that a watcher has not taken yet.
pub(crate) struct Queue {
    filter: Filter,
    patience: Duration,
    state: Mutex<State>,
    /// Something waits, or it has ended.
    changed: Notify,
    /// The watcher is let go.
    pub(super) let_go: CancellationToken,
}

/// A watcher's place among those that there is room for, until it is dropped: with the watcher, or before, when that is let go.
pub(super) struct Place {
    _seat: PlayerSeat,
}

impl Place {
    pub(super) fn new(seat: PlayerSeat) -> Self {
        gauge!(RPC_WATCHERS).increment(1);
        Self { _seat: seat }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!(RPC_WATCHERS).decrement(1);
    }
}

struct State {
    place: Option<Place>,
    waiting: VecDeque<Arc<Batch>>,
    missed: u64,
    /// Since when something waits and nothing was taken.
    untaken_since: Option<Instant>,
    is_slow: bool,
}

impl Queue {
    pub(super) fn new(filter: Filter, patience: Duration, place: Place) -> Self {
        let state = State {
            place: Some(place),
            waiting: VecDeque::new(),
            missed: 0,
            untaken_since: None,
            is_slow: false,
        };
        Self {
            filter,
            patience,
            state: Mutex::new(state),
            changed: Notify::new(),
            let_go: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A zone told something. Never waits: of too much the oldest goes. False if the watcher is let go: then it need not be told of anything any more,
    /// and its place is free, whether or not it ever reads why.
    pub(super) fn put(&self, batch: &Arc<Batch>, now: Instant) -> bool {
        if !batch.is_wanted(&self.filter) {
            return true;
        }
        let mut state = self.state();
        if state.is_slow {
            return false;
        }
        let since = *state.untaken_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.patience {
            state.is_slow = true;
            let dropped = std::mem::take(&mut state.waiting).len() as u64;
            state.missed += dropped;
            counter!(RPC_POSITIONS_MISSED).increment(dropped);
            state.place = None;
            self.let_go.cancel();
        } else {
            if state.waiting.len() >= WAITING_MAX {
                state.waiting.pop_front();
                state.missed += 1;
                counter!(RPC_POSITIONS_MISSED).increment(1);
            }
            state.waiting.push_back(Arc::clone(batch));
        }
        let is_slow = state.is_slow;
        drop(state);
        self.changed.notify_one();
        !is_slow
    }

    /// What the watcher is told next, when there is something. May be given up and asked again.
    ///
    /// # Errors
    /// It was let go, for it took nothing for long.
    pub(super) async fn take(&self) -> Result<WatchPositionsResponse, Status> {
        loop {
            let changed = self.changed.notified();
            if let Some(taken) = self.try_take(Instant::now()) {
                return taken;
            }
            changed.await;
        }
    }

    fn try_take(&self, now: Instant) -> Option<Result<WatchPositionsResponse, Status>> {
        let mut state = self.state();
        if state.is_slow {
            let message = format!(
                "nothing was read for {} s, and {} answers were missed: watch again, and read",
                self.patience.as_secs(),
                state.missed
            );
            return Some(Err(refusal(ErrorWord::Slow, message)));
        }
        let batch = state.waiting.pop_front()?;
        state.untaken_since = (!state.waiting.is_empty()).then_some(now);
        let missed = std::mem::take(&mut state.missed);
        drop(state);
        let told = batch.told(&self.filter);
        Some(Ok(WatchPositionsResponse {
            positions: told.positions,
            missed,
            age_us: u64::try_from(now.saturating_duration_since(batch.due()).as_micros()).unwrap_or(u64::MAX),
            traced: told.traced,
        }))
    }
}

#[cfg(test)]
mod tests {
    use meridian_events::{EntityPosition, Positions};
    use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

    use super::*;
    use crate::limits::PlayerSeats;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn queue_for(filter: Filter) -> Queue {
        let seat = PlayerSeats::new(1, "watchers").take(PlayerId(1)).unwrap();
        Queue::new(filter, PATIENCE, Place::new(seat))
    }

    fn batch(tick: u64, due: Instant) -> Arc<Batch> {
        let entity = EntityPosition {
            entity: WorldEntityId(1),
            epoch: EntityEpoch(1),
            position: [0.0; 3],
        };
        let told = Positions {
            zone: ZoneId(0),
            lease: LeaseEpoch(1),
            tick: Tick(tick),
            is_whole: true,
            traced: Vec::new(),
            entities: vec![entity],
        };
        Arc::new(Batch::new(&told, due))
    }

    #[test]
    fn of_too_much_the_oldest_goes_and_is_counted_once() {
        let (queue, now) = (queue_for(Filter::Everything), Instant::now());
        for tick in 0..WAITING_MAX as u64 + 10 {
            queue.put(&batch(tick, now), now);
        }
        let later = now + Duration::from_millis(5);
        let first = queue.try_take(later).unwrap().unwrap();
        assert_eq!((first.positions[0].tick, first.missed, first.age_us), (10, 10, 5_000));
        let rest: Vec<WatchPositionsResponse> = std::iter::from_fn(|| queue.try_take(later))
            .map(Result::unwrap)
            .collect();
        assert_eq!(rest.len(), WAITING_MAX - 1);
        assert!(rest.iter().all(|response| response.missed == 0));
    }

    #[test]
    fn who_takes_nothing_for_long_is_let_go_and_who_takes_something_is_not() {
        let (queue, now) = (queue_for(Filter::Everything), Instant::now());
        let mut at = now;
        // It is always behind, and takes one all the same.
        for tick in 0..100 {
            queue.put(&batch(tick, at), at);
            queue.put(&batch(tick, at), at);
            at += PATIENCE / 2;
            assert!(queue.try_take(at).unwrap().is_ok());
        }
        assert!(queue.put(&batch(100, at), at + PATIENCE / 2));
        assert!(queue.state().place.is_some() && !queue.let_go.is_cancelled());
        assert!(!queue.put(&batch(100, at), at + PATIENCE * 2), "it is let go");
        assert!(queue.state().place.is_none() && queue.let_go.is_cancelled());
        let slow = queue.try_take(at + PATIENCE * 2).unwrap().unwrap_err();
        assert_eq!(ErrorWord::of(&slow), Some(ErrorWord::Slow));
        assert!(queue.state().waiting.is_empty(), "nothing is kept for it");
        assert!(!queue.put(&batch(101, at), at + PATIENCE * 2));
        assert!(queue.state().waiting.is_empty());
    }

    #[test]
    fn who_took_all_may_wait_for_the_next_as_long_as_it_takes() {
        let (queue, now) = (queue_for(Filter::Everything), Instant::now());
        queue.put(&batch(1, now), now);
        assert!(queue.try_take(now).unwrap().is_ok());
        queue.put(&batch(2, now), now + PATIENCE * 9);
        assert!(queue.try_take(now + PATIENCE * 9).unwrap().is_ok());
        assert!(queue.try_take(now + PATIENCE * 9).is_none());
        queue.put(&batch(3, now), now + PATIENCE * 18);
        let age = queue.try_take(now).unwrap().unwrap().age_us;
        assert_eq!(age, 0, "a clock that is behind makes nothing younger than new");
    }

    #[test]
    fn what_a_watcher_did_not_ask_for_takes_no_room() {
        let queue = queue_for(Filter::Entities([2].into()));
        queue.put(&batch(1, Instant::now()), Instant::now());
        assert!(queue.state().waiting.is_empty());
    }
}
