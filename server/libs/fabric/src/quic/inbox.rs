//! What came over a link and was not received yet. The link's task puts messages in; a thread that ticks takes them out and never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::carried::{Carried, Class};
use super::outbox::count_dropped;
use crate::WakeFn;
use crate::in_process::DROPPABLE_QUEUE_MAX;

/// Bytes of droppable messages that may wait: a second and a half of large snapshots of a gateway that stands still.
const DROPPABLE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages that wait to be received. They outlive the connection that they came over.
pub(super) struct Inbox<T: Carried> {
    state: Mutex<State<T>>,
    /// Told when there is room for reliable messages again.
    room: Notify,
    wake: WakeFn,
}

struct State<T> {
    /// The order in which messages came, over all queues.
    came: u64,
    reliable: VecDeque<(u64, T)>,
    droppable: VecDeque<(u64, T)>,
    droppable_bytes: usize,
    newest: Option<(u64, T)>,
    /// Messages of the sequence were lost before the next that waits.
    is_lost: bool,
}

impl<T: Carried> Inbox<T> {
    pub(super) fn new(wake: WakeFn) -> Self {
        let state = State {
            came: 0,
            reliable: VecDeque::new(),
            droppable: VecDeque::new(),
            droppable_bytes: 0,
            newest: None,
            is_lost: false,
        };
        Self {
            state: Mutex::new(state),
            room: Notify::new(),
            wake,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in. Of what is droppable the oldest makes room; who puts reliable ones in looks for room before.
    pub(super) fn put(&self, message: T) {
        {
            let mut state = self.lock();
            let came = state.came;
            state.came += 1;
            match message.class() {
                Class::Reliable => state.reliable.push_back((came, message)),
                Class::Loose | Class::Snapshot => state.put_droppable(came, message),
                Class::Ghosts => {
                    if state.newest.replace((came, message)).is_some() {
                        count_dropped::<T>(Class::Ghosts);
                    }
                }
            }
        }
        (self.wake)();
    }

    /// Whether a reliable message may be put in.
    pub(super) fn has_room(&self) -> bool {
        self.lock().reliable.len() < T::RELIABLE_MAX
    }

    /// Waits until there may be room again.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// The next message, in the order in which they came.
    pub(super) fn try_receive(&self) -> Option<T> {
        let mut state = self.lock();
        let was_full = state.reliable.len() >= T::RELIABLE_MAX;
        let message = state.pop();
        let has_room = state.reliable.len() < T::RELIABLE_MAX;
        drop(state);
        if was_full && has_room {
            self.room.notify_one();
        }
        message
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        let state = self.lock();
        state.reliable.len() + state.droppable.len() + usize::from(state.newest.is_some())
    }
}

impl<T: Carried> State<T> {
    fn put_droppable(&mut self, came: u64, message: T) {
        self.droppable_bytes += message.footprint();
        self.droppable.push_back((came, message));
        let is_over = |state: &Self| {
            state.droppable.len() > DROPPABLE_QUEUE_MAX
                || (state.droppable_bytes > DROPPABLE_BYTES_MAX && state.droppable.len() > 1)
        };
        while is_over(self) {
            let Some((_, oldest)) = self.droppable.pop_front() else {
                break;
            };
            self.droppable_bytes -= oldest.footprint();
            self.is_lost |= oldest.class() == Class::Snapshot;
            count_dropped::<T>(oldest.class());
        }
    }

    fn pop(&mut self) -> Option<T> {
        let came = |front: Option<&(u64, T)>| front.map_or(u64::MAX, |(came, _)| *came);
        let reliable = came(self.reliable.front());
        let droppable = came(self.droppable.front());
        let newest = came(self.newest.as_ref());
        if reliable < droppable.min(newest) {
            return self.reliable.pop_front().map(|(_, message)| message);
        }
        if newest < droppable {
            return self.newest.take().map(|(_, message)| message);
        }
        let (_, next) = self.droppable.front()?;
        let is_lost = std::mem::take(&mut self.is_lost) && !next.makes_good();
        if let Some(lost) = T::lost().filter(|_| is_lost) {
            return Some(lost);
        }
        let (_, message) = self.droppable.pop_front()?;
        self.droppable_bytes -= message.footprint();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId, ZoneId};

    use super::*;
    use crate::{PeerMessage, Snapshot, ZoneMessage};

    fn inbox<T: Carried>() -> Inbox<T> {
        Inbox::new(Arc::new(|| ()))
    }

    fn snapshot(tick: u64, whole: bool) -> ZoneMessage {
        let now = Instant::now();
        ZoneMessage::Snapshot(Arc::new(Snapshot {
            zone: ZoneId(0),
            lease: LeaseEpoch(1),
            tick: Tick(tick),
            whole,
            entities: vec![],
            bytes: vec![],
            probes: vec![],
            began: now,
            finished: now,
        }))
    }

    fn left() -> ZoneMessage {
        ZoneMessage::Left {
            entity: WorldEntityId(1),
            epoch: EntityEpoch(1),
        }
    }

    fn told(inbox: &Inbox<ZoneMessage>) -> Vec<String> {
        let tell = |message| match message {
            ZoneMessage::Snapshot(snapshot) => snapshot.tick.to_string(),
            ZoneMessage::Gap => "gap".to_owned(),
            _ => "left".to_owned(),
        };
        std::iter::from_fn(|| inbox.try_receive()).map(tell).collect()
    }

    #[test]
    fn messages_of_all_classes_are_received_in_the_order_in_which_they_came() {
        let inbox = inbox();
        for message in [snapshot(1, false), left(), snapshot(2, false), ZoneMessage::Gap, left()] {
            inbox.put(message);
        }
        assert_eq!(told(&inbox), ["t1", "left", "t2", "gap", "left"]);
    }

    #[test]
    fn an_end_that_does_not_receive_loses_the_oldest_snapshots_and_is_told() {
        let inbox = inbox();
        inbox.put(left());
        for tick in 0..DROPPABLE_QUEUE_MAX as u64 + 5 {
            inbox.put(snapshot(tick, false));
        }
        let told = told(&inbox);
        assert_eq!(told[..3], ["left", "gap", "t5"]);
        assert_eq!(told.len(), DROPPABLE_QUEUE_MAX + 2);
    }

    #[test]
    fn a_whole_snapshot_makes_good_what_was_lost_before_it() {
        let inbox = inbox();
        inbox.put(snapshot(0, false));
        for tick in 1..=DROPPABLE_QUEUE_MAX as u64 {
            inbox.put(snapshot(tick, tick == 1));
        }
        assert_eq!(told(&inbox)[..2], ["t1", "t2"]);
    }

    #[tokio::test]
    async fn room_for_reliable_messages_is_told_when_there_is_some() {
        let inbox = inbox();
        while inbox.has_room() {
            inbox.put(PeerMessage::Action(crate::PassedAction {
                entity: WorldEntityId(1),
                kind: 0,
                payload: vec![],
                hops: 0,
            }));
        }
        assert_eq!(inbox.len(), PeerMessage::RELIABLE_MAX);
        inbox.try_receive();
        inbox.room().await;
        assert!(inbox.has_room());
    }
}
