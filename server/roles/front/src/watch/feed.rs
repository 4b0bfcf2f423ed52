//! The tasks that follow zones' positions, one for each zone that somebody watches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_bus::PositionReader;
use meridian_ids::{LeaseEpoch, TickClock, ZoneId};
use meridian_rpc::v1::WatchPositionsResponse;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::queue::{Place, Queue};
use super::{Batch, Filter};
use crate::context::{PositionsFn, ZoneSummary};
use crate::limits::PlayerSeat;

/// Who watches, and the zones that are followed for them. Clones share it.
#[derive(Clone)]
pub(crate) struct Watching {
    shared: Arc<Shared>,
}

struct Shared {
    positions: PositionsFn,
    clock: TickClock,
    zones: Vec<ZoneSummary>,
    patience: Duration,
    stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    feeds: HashMap<ZoneId, Feed>,
    /// Counts watchers, for telling them apart.
    watchers: u64,
}

/// A zone that is followed.
struct Feed {
    watchers: HashMap<u64, Arc<Queue>>,
    /// Something came, or the last watcher has gone.
    changed: Arc<Notify>,
}

/// One watcher, until it is dropped.
pub(crate) struct Watcher {
    watching: Watching,
    number: u64,
    queue: Arc<Queue>,
    gone: CancellationToken,
}

impl Watching {
    /// Tasks end with `stop`.
    pub(crate) fn new(
        positions: PositionsFn,
        clock: TickClock,
        zones: Vec<ZoneSummary>,
        patience: Duration,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            positions,
            clock,
            zones,
            patience,
            stop,
            state: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new watcher. From a tokio task alone: zones that nobody has watched so far get a task each.
    ///
    /// A watcher that is let go, and for as long again does not even read that, has its connection cut: nothing else ends a stream that nobody reads.
    pub(crate) fn watch(&self, filter: Filter, seat: PlayerSeat, connection: CancellationToken) -> Watcher {
        let reached = self.shared.zones.iter().filter(|zone| filter.reaches(&zone.area));
        let zones: Vec<ZoneId> = reached.map(|zone| zone.id).collect();
        let queue = Arc::new(Queue::new(filter, self.shared.patience, Place::new(seat)));
        let gone = CancellationToken::new();
        let let_go = queue.let_go.clone();
        tokio::spawn(see_off(gone.clone(), let_go, self.shared.patience, connection));
        let mut state = self.state();
        state.watchers += 1;
        let number = state.watchers;
        for zone in zones {
            let feed = state.feeds.entry(zone).or_insert_with(|| {
                let changed = Arc::new(Notify::new());
                tokio::spawn(self.clone().follow(zone, Arc::clone(&changed)));
                Feed {
                    watchers: HashMap::new(),
                    changed,
                }
            });
            feed.watchers.insert(number, Arc::clone(&queue));
        }
        drop(state);
        Watcher {
            watching: self.clone(),
            number,
            queue,
            gone,
        }
    }

    /// Follows a zone until nobody watches it any more.
    async fn follow(self, zone: ZoneId, changed: Arc<Notify>) {
        let mut reader = (self.shared.positions)(zone);
        let wake = Arc::clone(&changed);
        reader.wake_with(Arc::new(move || wake.notify_one()));
        let mut newest = LeaseEpoch::default();
        loop {
            self.pass_on(zone, reader.as_mut(), &mut newest);
            if self.ends(zone) {
                return;
            }
            tokio::select! {
                () = changed.notified() => {}
                () = self.shared.stop.cancelled() => {
                    self.state().feeds.remove(&zone);
                    return;
                }
            }
        }
    }

    /// Passes on what has come. An instance of the zone that is not the newest any more is not believed.
    fn pass_on(&self, zone: ZoneId, reader: &mut dyn PositionReader, newest: &mut LeaseEpoch) {
        while let Some(told) = reader.try_next() {
            if told.lease < *newest {
                continue;
            }
            *newest = told.lease;
            let batch = Arc::new(Batch::new(&told, self.shared.clock.due(told.tick)));
            let mut state = self.state();
            let Some(feed) = state.feeds.get_mut(&zone) else { return };
            let now = Instant::now();
            feed.watchers.retain(|_, queue| queue.put(&batch, now));
        }
    }

    /// Ends a feed that nobody watches: whoever watches after that begins another.
    fn ends(&self, zone: ZoneId) -> bool {
        let mut state = self.state();
        let is_watched = state.feeds.get(&zone).is_some_and(|feed| !feed.watchers.is_empty());
        if !is_watched {
            state.feeds.remove(&zone);
        }
        !is_watched
    }

    fn leave(&self, number: u64) {
        for feed in self.state().feeds.values_mut() {
            if feed.watchers.remove(&number).is_some() && feed.watchers.is_empty() {
                feed.changed.notify_one();
            }
        }
    }
}

impl Watcher {
    /// What the watcher is told next, when there is something. May be given up and asked again.
    ///
    /// # Errors
    /// It was let go, for it took nothing for long.
    pub(crate) async fn next(&self) -> Result<WatchPositionsResponse, Status> {
        self.queue.take().await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.gone.cancel();
        self.watching.leave(self.number);
    }
}

async fn see_off(
    gone: CancellationToken,
    let_go: CancellationToken,
    patience: Duration,
    connection: CancellationToken,
) {
    tokio::select! {
        biased;
        () = gone.cancelled() => return,
        () = let_go.cancelled() => {}
    }
    if tokio::time::timeout(patience, gone.cancelled()).await.is_err() {
        tracing::debug!("a watcher does not even read that it was let go; its connection is cut");
        connection.cancel();
    }
}
