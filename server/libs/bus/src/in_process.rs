//! The carrier for zones of one process: the model behind a lock.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meridian_events::{Event, Positions};
use meridian_handoff::script::{Command, Done, Ticket, Transfer, TransferId};
use meridian_ids::{LeaseEpoch, ZoneId};

use crate::streams::{ReaderId, Streams};
use crate::{Bus, EntryId, EventReader, Heard, Model, PositionReader, WakeFn};

/// The durable side of a world that lives in one process. Records live as long as it: a zone that dies finds them again, a
/// process that dies does not.
#[derive(Clone)]
pub struct InProcess {
    model: Arc<Mutex<Model>>,
    streams: Arc<Mutex<Streams>>,
    now: NowFn,
}

/// The time since any origin.
pub type NowFn = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A world without entities, whose zones' leases are counted from `before` on and end by the clock `now`.
pub fn in_process(before: LeaseEpoch, now: NowFn) -> InProcess {
    InProcess {
        model: Arc::new(Mutex::new(Model::new(before))),
        streams: Arc::default(),
        now,
    }
}

impl InProcess {
    /// A zone's connection.
    pub fn connect(&self, zone: ZoneId) -> Box<dyn Bus> {
        Box::new(Connection {
            shared: self.clone(),
            zone,
            heard: VecDeque::new(),
            told: HashSet::new(),
        })
    }

    /// A reader of a group of services.
    pub fn events(&self, group: &str) -> Box<dyn EventReader> {
        Box::new(Events {
            reader: self.with_streams(|streams| streams.join(group)),
            shared: self.clone(),
            group: group.to_owned(),
        })
    }

    /// Follows a zone's positions.
    pub fn positions(&self, zone: ZoneId) -> Box<dyn PositionReader> {
        let (reader, next) = self.with_streams(|streams| streams.follow(zone));
        Box::new(Follower {
            shared: self.clone(),
            zone,
            reader,
            next,
        })
    }

    /// The model, for audits and tests.
    pub fn model(&self) -> Arc<Mutex<Model>> {
        Arc::clone(&self.model)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Model, Duration) -> T) -> T {
        // A zone that panicked in here has changed nothing by halves: a command checks first, then writes.
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut model, (self.now)())
    }

    fn with_streams<T>(&self, work: impl FnOnce(&mut Streams) -> T) -> T {
        work(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Events {
    shared: InProcess,
    group: String,
    reader: ReaderId,
}

impl EventReader for Events {
    fn try_next(&mut self) -> Option<(EntryId, Event)> {
        self.shared
            .with_streams(|streams| streams.next_event(&self.group, self.reader))
    }

    fn acknowledge(&mut self, entry: EntryId) {
        self.shared
            .with_streams(|streams| streams.acknowledge(&self.group, entry));
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared
            .with_streams(|streams| streams.leave(&self.group, self.reader));
    }
}

struct Follower {
    shared: InProcess,
    zone: ZoneId,
    reader: ReaderId,
    next: u64,
}

impl PositionReader for Follower {
    fn wake_with(&mut self, wake: WakeFn) {
        self.shared
            .with_streams(|streams| streams.wake_with(self.zone, self.reader, wake));
    }

    fn try_next(&mut self) -> Option<Arc<Positions>> {
        let (next, positions) = self
            .shared
            .with_streams(|streams| streams.positions_from(self.zone, self.next))?;
        self.next = next;
        Some(positions)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared
            .with_streams(|streams| streams.unfollow(self.zone, self.reader));
    }
}

struct Connection {
    shared: InProcess,
    zone: ZoneId,
    heard: VecDeque<Heard>,
    told: HashSet<TransferId>,
}

impl Bus for Connection {
    fn submit(&mut self, ticket: Ticket, command: Command) {
        let answer = self.shared.with(|model, now| {
            let answer = model.execute(now, &command);
            // In the order in which it happened: nobody else's command comes between.
            let streams = &self.shared.streams;
            for event in model.take_events() {
                streams.lock().unwrap_or_else(PoisonError::into_inner).publish(event);
            }
            answer
        });
        if let (Command::Accept { id, .. }, Ok(Done::Accepted { .. })) = (&command, &answer) {
            self.told.remove(id);
        }
        self.heard.push_back(Heard::Answer(ticket, Some(answer)));
    }

    fn is_followed(&self) -> bool {
        self.shared.with_streams(|streams| streams.is_followed(self.zone))
    }

    fn publish_positions(&mut self, positions: Positions) {
        let waked = self.shared.with_streams(|streams| streams.publish_positions(positions));
        waked.iter().for_each(|wake| wake());
    }

    fn try_receive(&mut self) -> Option<Heard> {
        if let Some(heard) = self.heard.pop_front() {
            return Some(heard);
        }
        let (zone, told) = (self.zone, &self.told);
        let new: Option<Transfer> = self.shared.with(|model, _| {
            let waiting = model.inbox(zone).iter();
            waiting
                .into_iter()
                .find(|transfer| !told.contains(&transfer.id))
                .cloned()
        });
        let transfer = new?;
        self.told.insert(transfer.id);
        Some(Heard::Inbox(transfer))
    }
}
