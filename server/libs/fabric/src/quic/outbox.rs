//! What waits to be sent over one link. Threads that tick put messages in and never wait; the link's task takes them out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::carried::{Carried, Class};
use crate::FabricError;
use crate::in_process::DROPPABLE_QUEUE_MAX;
use crate::metric_definitions::FABRIC_DROPPED;

/// Bytes of reliable messages that may wait: what the most that may wait have in them on average, 512 each.
const RELIABLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Snapshots under way: a quarter of a second of ticks. A gateway that is further behind is better off with a whole one.
pub(super) const SNAPSHOTS_UNDER_WAY_MAX: usize = 16;
/// Ghosts under way: only the newest counts, so that more of them would only slow it down.
const GHOSTS_UNDER_WAY_MAX: usize = 4;
/// Bytes of snapshots or ghosts under way; one of any size may go if there is no other.
const UNDER_WAY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the link's task sends next of what is not reliable.
pub(super) enum Fast<T: Carried> {
    Loose(T),
    Sequenced(Sequenced<T>),
}

/// A message with its place in the sequence. It counts as under way until its charge is dropped.
pub(super) struct Sequenced<T: Carried> {
    pub(super) sequence: u64,
    pub(super) message: T,
    pub(super) charge: Charge<T>,
}

/// A message under way.
pub(super) struct Charge<T: Carried> {
    outbox: Arc<Outbox<T>>,
    bytes: usize,
    connection: u64,
}

impl<T: Carried> Drop for Charge<T> {
    fn drop(&mut self) {
        let mut state = self.outbox.lock();
        // What was under way when a connection ended is not counted on the next.
        if state.connection == self.connection {
            state.under_way -= 1;
            state.under_way_bytes -= self.bytes;
        }
    }
}

/// Messages that wait to be sent over a link; those of an end that reconnects are gone with each connection.
pub(super) struct Outbox<T: Carried> {
    state: Mutex<State<T>>,
    reliable_waits: Notify,
    fast_waits: Notify,
}

/// A reliable message, and the sequence after which it may be delivered.
type Reliable<T> = (u64, T);

struct State<T> {
    is_open: bool,
    /// No more is taken in; what is reliable is still sent.
    is_ending: bool,
    /// Counts the connections.
    connection: u64,
    reliable: VecDeque<Reliable<T>>,
    reliable_bytes: usize,
    loose: VecDeque<T>,
    sequenced: VecDeque<(u64, T)>,
    /// The sequence of the last snapshot or ghosts.
    sequence: u64,
    /// Snapshots or ghosts that wait, or were sent by stream and are not acknowledged.
    under_way: usize,
    under_way_bytes: usize,
}

impl<T> State<T> {
    fn new() -> Self {
        Self {
            is_open: false,
            is_ending: false,
            connection: 0,
            reliable: VecDeque::new(),
            reliable_bytes: 0,
            loose: VecDeque::new(),
            sequenced: VecDeque::new(),
            sequence: 0,
            under_way: 0,
            under_way_bytes: 0,
        }
    }
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) reliable: usize,
    pub(super) loose: usize,
    pub(super) under_way: usize,
}

impl<T: Carried> Outbox<T> {
    pub(super) fn new() -> Self {
        // An increase from nothing at all is none to who watches.
        for class in Class::ALL {
            metrics::counter!(FABRIC_DROPPED, "direction" => T::DIRECTION, "class" => class.label()).increment(0);
        }
        Self {
            state: Mutex::new(State::new()),
            reliable_waits: Notify::new(),
            fast_waits: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a connection: messages are taken in.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        let (connection, is_ending) = (state.connection + 1, state.is_ending);
        *state = State {
            connection,
            is_open: true,
            is_ending,
            ..State::new()
        };
    }

    /// There is no connection any more. What waits is dropped: who has sent it is told by [`FabricError::Closed`] from now on, and
    /// says again what must not be lost.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        let (connection, is_ending) = (state.connection + 1, state.is_ending);
        *state = State {
            connection,
            is_ending,
            ..State::new()
        };
    }

    /// Takes nothing in any more, for good.
    pub(super) fn end(&self) {
        self.lock().is_ending = true;
        self.reliable_waits.notify_one();
    }

    /// Whether messages are taken in.
    pub(super) fn is_open(&self) -> bool {
        let state = self.lock();
        state.is_open && !state.is_ending
    }

    pub(super) fn waiting(&self) -> Waiting {
        let state = self.lock();
        Waiting {
            reliable: state.reliable.len(),
            loose: state.loose.len(),
            under_way: state.under_way,
        }
    }

    /// Takes a message in, or says why not.
    pub(super) fn send(&self, message: T) -> Result<(), FabricError> {
        let class = message.class();
        let result = message.check().and_then(|()| self.queue(class, message));
        match result {
            Ok(()) if class == Class::Reliable => self.reliable_waits.notify_one(),
            Ok(()) => self.fast_waits.notify_one(),
            Err(_) => count_dropped::<T>(class),
        }
        result
    }

    fn queue(&self, class: Class, message: T) -> Result<(), FabricError> {
        let mut state = self.lock();
        if !state.is_open || state.is_ending {
            return Err(FabricError::Closed);
        }
        match class {
            Class::Reliable => state.queue_reliable(message),
            Class::Loose => {
                if state.loose.len() >= DROPPABLE_QUEUE_MAX {
                    // What has waited longest is worth least: the message itself is taken in.
                    state.loose.pop_front();
                    count_dropped::<T>(class);
                }
                state.loose.push_back(message);
                Ok(())
            }
            Class::Snapshot => state.queue_sequenced(message, SNAPSHOTS_UNDER_WAY_MAX),
            Class::Ghosts => state.queue_newest(message),
        }
    }

    /// The next reliable message with the sequence it follows, or none when the outbox ends and all was taken.
    pub(super) async fn next_reliable(&self) -> Option<Reliable<T>> {
        loop {
            if let Some(reliable) = self.try_next_reliable() {
                return Some(reliable);
            }
            if self.lock().is_ending {
                return None;
            }
            self.reliable_waits.notified().await;
        }
    }

    /// The next reliable message, if one waits.
    pub(super) fn try_next_reliable(&self) -> Option<Reliable<T>> {
        let mut state = self.lock();
        let (after, message) = state.reliable.pop_front()?;
        state.reliable_bytes -= message.footprint();
        Some((after, message))
    }

    /// The next message that is not reliable. Inputs go first: they are small, and of no use when they are late.
    pub(super) async fn next_fast(self: &Arc<Self>) -> Fast<T> {
        loop {
            if let Some(fast) = self.pop_fast() {
                return fast;
            }
            self.fast_waits.notified().await;
        }
    }

    fn pop_fast(self: &Arc<Self>) -> Option<Fast<T>> {
        let mut state = self.lock();
        if let Some(message) = state.loose.pop_front() {
            return Some(Fast::Loose(message));
        }
        let (sequence, message) = state.sequenced.pop_front()?;
        let charge = Charge {
            outbox: Arc::clone(self),
            bytes: message.footprint(),
            connection: state.connection,
        };
        Some(Fast::Sequenced(Sequenced {
            sequence,
            message,
            charge,
        }))
    }
}

impl<T: Carried> State<T> {
    fn queue_reliable(&mut self, message: T) -> Result<(), FabricError> {
        let bytes = self.reliable_bytes + message.footprint();
        if self.reliable.len() >= T::RELIABLE_MAX || bytes > RELIABLE_BYTES_MAX {
            return Err(FabricError::Full);
        }
        let after = if message.follows_sequence() { self.sequence } else { 0 };
        self.reliable_bytes = bytes;
        self.reliable.push_back((after, message));
        Ok(())
    }

    fn queue_sequenced(&mut self, message: T, under_way_max: usize) -> Result<(), FabricError> {
        let bytes = self.under_way_bytes + message.footprint();
        if self.under_way >= under_way_max || (self.under_way > 0 && bytes > UNDER_WAY_BYTES_MAX) {
            return Err(FabricError::Full);
        }
        self.under_way += 1;
        self.under_way_bytes = bytes;
        self.sequence += 1;
        self.sequenced.push_back((self.sequence, message));
        Ok(())
    }

    /// What still waits is replaced: it would be out of date when it came.
    fn queue_newest(&mut self, message: T) -> Result<(), FabricError> {
        let Some((_, waiting)) = self.sequenced.back_mut() else {
            return self.queue_sequenced(message, GHOSTS_UNDER_WAY_MAX);
        };
        count_dropped::<T>(Class::Ghosts);
        self.under_way_bytes = self.under_way_bytes - waiting.footprint() + message.footprint();
        *waiting = message;
        Ok(())
    }
}

/// Counts a message that was not sent or not delivered.
pub(super) fn count_dropped<T: Carried>(class: Class) {
    metrics::counter!(FABRIC_DROPPED, "direction" => T::DIRECTION, "class" => class.label()).increment(1);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

    use super::*;
    use crate::{GatewayMessage, Ghosts, InputBatch, PeerMessage, RELIABLE_QUEUE_MAX, Snapshot, ZoneMessage};

    fn open<T: Carried>() -> Arc<Outbox<T>> {
        let outbox = Arc::new(Outbox::new());
        outbox.open();
        outbox
    }

    fn snapshot(bytes: usize) -> ZoneMessage {
        let now = Instant::now();
        ZoneMessage::Snapshot(Arc::new(Snapshot {
            zone: ZoneId(0),
            lease: LeaseEpoch(1),
            tick: Tick(1),
            whole: false,
            entities: vec![],
            bytes: vec![0; bytes],
            probes: vec![],
            began: now,
            finished: now,
        }))
    }

    fn sequence(fast: Option<Fast<ZoneMessage>>) -> Sequenced<ZoneMessage> {
        match fast {
            Some(Fast::Sequenced(sequenced)) => sequenced,
            _ => panic!("no snapshot waits"),
        }
    }

    #[test]
    fn without_a_connection_every_message_is_refused() {
        let outbox = Arc::new(Outbox::new());
        assert_eq!(outbox.send(GatewayMessage::Resync), Err(FabricError::Closed));
        outbox.open();
        assert_eq!(outbox.send(GatewayMessage::Resync), Ok(()));
        outbox.close();
        assert_eq!(outbox.send(GatewayMessage::Resync), Err(FabricError::Closed));
        outbox.open();
        assert_eq!(outbox.waiting(), Waiting::default());
    }

    #[test]
    fn a_full_queue_drops_the_oldest_inputs_and_refuses_joins_last() {
        let outbox = open();
        let now = Instant::now();
        for entity in 0..2 * DROPPABLE_QUEUE_MAX as u64 {
            let batch = InputBatch {
                entity: WorldEntityId(entity),
                inputs: vec![],
                received: now,
                forwarded: now,
            };
            assert_eq!(outbox.send(GatewayMessage::Inputs(batch)), Ok(()));
        }
        let join = || GatewayMessage::Join {
            player: PlayerId(7),
            name: "late".to_owned(),
        };
        let taken = (0..2 * RELIABLE_QUEUE_MAX)
            .take_while(|_| outbox.send(join()).is_ok())
            .count();
        assert_eq!(taken, RELIABLE_QUEUE_MAX);
        assert_eq!(outbox.send(join()), Err(FabricError::Full));
        assert_eq!(outbox.waiting().loose, DROPPABLE_QUEUE_MAX);
        match outbox.pop_fast() {
            Some(Fast::Loose(GatewayMessage::Inputs(batch))) => {
                assert_eq!(batch.entity.0, DROPPABLE_QUEUE_MAX as u64);
            }
            _ => panic!("inputs wait"),
        }
    }

    #[test]
    fn snapshots_under_way_are_bounded_in_number_and_bytes_until_they_have_arrived() {
        let outbox = open();
        let taken = (0..100).take_while(|_| outbox.send(snapshot(10)).is_ok()).count();
        assert_eq!(taken, SNAPSHOTS_UNDER_WAY_MAX);
        let first = sequence(outbox.pop_fast());
        assert_eq!(first.sequence, 1);
        assert_eq!(outbox.send(snapshot(10)), Err(FabricError::Full));
        drop(first);
        assert_eq!(outbox.send(snapshot(10)), Ok(()));

        let outbox = open();
        let large = UNDER_WAY_BYTES_MAX / 2;
        assert_eq!(
            (outbox.send(snapshot(large)), outbox.send(snapshot(large))),
            (Ok(()), Ok(()))
        );
        assert_eq!(outbox.send(snapshot(1)), Err(FabricError::Full));
        // What was refused has no place in the sequence: nothing seems lost.
        drop((outbox.pop_fast(), outbox.pop_fast()));
        assert_eq!(outbox.send(snapshot(1)), Ok(()));
        assert_eq!(sequence(outbox.pop_fast()).sequence, 3);
    }

    #[test]
    fn what_was_under_way_on_a_former_connection_is_not_counted_on_the_next() {
        let outbox = open();
        outbox.send(snapshot(10)).unwrap();
        let before = outbox.pop_fast();
        outbox.close();
        outbox.open();
        outbox.send(snapshot(10)).unwrap();
        drop(before);
        assert_eq!(outbox.waiting().under_way, 1);
        assert_eq!(sequence(outbox.pop_fast()).sequence, 1);
    }

    #[test]
    fn what_is_too_large_is_refused_as_such() {
        let outbox = open();
        let too_large = snapshot(super::super::wire::SNAPSHOT_BYTES_MAX + 1);
        assert_eq!(outbox.send(too_large), Err(FabricError::TooLarge));
    }

    #[tokio::test]
    async fn a_leave_names_the_snapshot_that_was_sent_before_it() {
        let outbox = open();
        let left = ZoneMessage::Left {
            entity: WorldEntityId(1),
            epoch: EntityEpoch(1),
        };
        let refused = ZoneMessage::JoinRefused {
            player: PlayerId(1),
            reason: "full".to_owned(),
        };
        outbox.send(snapshot(1)).unwrap();
        outbox.send(snapshot(1)).unwrap();
        outbox.send(left).unwrap();
        outbox.send(refused).unwrap();
        outbox.end();
        assert!(matches!(
            outbox.next_reliable().await,
            Some((2, ZoneMessage::Left { .. }))
        ));
        assert!(matches!(
            outbox.next_reliable().await,
            Some((0, ZoneMessage::JoinRefused { .. }))
        ));
        assert!(outbox.next_reliable().await.is_none());
    }

    #[test]
    fn of_ghosts_that_wait_the_newest_alone_is_sent() {
        let outbox = open();
        for tick in 1..=3 {
            let ghosts = Ghosts {
                lease: LeaseEpoch(1),
                tick: Tick(tick),
                entities: vec![],
                bytes: vec![],
            };
            outbox.send(PeerMessage::Ghosts(Arc::new(ghosts))).unwrap();
        }
        let waiting = outbox.pop_fast();
        assert!(matches!(&waiting, Some(Fast::Sequenced(sequenced))
            if matches!(&sequenced.message, PeerMessage::Ghosts(ghosts) if ghosts.tick == Tick(3))));
        assert!(outbox.pop_fast().is_none());
    }
}
