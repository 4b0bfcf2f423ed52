//! The semantics of the streams, in memory: events, read by groups of services that acknowledge, and positions, of which only
//! the newest count.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use meridian_events::{Event, Positions};
use meridian_ids::ZoneId;

use crate::{EntryId, WakeFn};

/// Events that are kept in memory for groups to come and for those that are not done with them, which are in the same process: a quarter of an hour of a busy
/// world. Beyond that the oldest go.
pub const EVENTS_MAX: usize = 65_536;
/// Position entries that are kept per zone, which tells them in each tick while it is followed: two seconds at 60 Hz, one at the highest rate.
pub const POSITIONS_MAX: usize = 128;

/// Tells the readers of a group apart.
pub(crate) type ReaderId = u64;

#[derive(Debug, Default)]
struct Group {
    /// The next entry that was delivered to nobody of it.
    next: u64,
    /// Delivered and not acknowledged: to which reader, or to one that is gone.
    pending: BTreeMap<u64, Option<ReaderId>>,
}

#[derive(Default)]
struct PositionStream {
    entries: VecDeque<Arc<Positions>>,
    /// The number of the first entry kept.
    first: u64,
    readers: HashMap<ReaderId, Option<WakeFn>>,
}

/// The streams of one world.
#[derive(Default)]
pub(crate) struct Streams {
    events: VecDeque<Event>,
    /// The number of the first event kept.
    first: u64,
    groups: HashMap<String, Group>,
    positions: HashMap<ZoneId, PositionStream>,
    readers: ReaderId,
}

impl Streams {
    pub(crate) fn publish(&mut self, event: Event) {
        self.events.push_back(event);
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
            self.first += 1;
        }
    }

    /// A new reader of a group; a new group begins with what is kept.
    pub(crate) fn join(&mut self, group: &str) -> ReaderId {
        self.readers += 1;
        let first = self.first;
        let group = self.groups.entry(group.to_owned());
        group.or_insert_with(|| Group {
            next: first,
            pending: BTreeMap::new(),
        });
        self.readers
    }

    /// What the reader did not acknowledge is for the others of its group.
    pub(crate) fn leave(&mut self, group: &str, reader: ReaderId) {
        let pending = self.groups.get_mut(group).map(|group| &mut group.pending);
        for owner in pending.into_iter().flat_map(BTreeMap::values_mut) {
            owner.take_if(|owner| *owner == reader);
        }
    }

    pub(crate) fn next_event(&mut self, group: &str, reader: ReaderId) -> Option<(EntryId, Event)> {
        let first = self.first;
        let group = self.groups.get_mut(group)?;
        // What fell out of the stream can be delivered to nobody.
        group.pending.retain(|entry, _| *entry >= first);
        let abandoned = group.pending.iter_mut().find(|(_, owner)| owner.is_none());
        let entry = match abandoned {
            Some((entry, owner)) => {
                *owner = Some(reader);
                *entry
            }
            None => {
                let entry = group.next.max(first);
                if entry - first >= self.events.len() as u64 {
                    return None;
                }
                group.next = entry + 1;
                group.pending.insert(entry, Some(reader));
                entry
            }
        };
        let event = self.events.get((entry - first) as usize)?;
        Some((EntryId(entry), *event))
    }

    pub(crate) fn acknowledge(&mut self, group: &str, entry: EntryId) {
        if let Some(group) = self.groups.get_mut(group) {
            group.pending.remove(&entry.0);
        }
        // What every group is done with is kept for nobody.
        let open = |group: &Group| {
            group
                .pending
                .keys()
                .next()
                .copied()
                .unwrap_or(group.next)
                .min(group.next)
        };
        let Some(oldest) = self.groups.values().map(open).min() else {
            return;
        };
        while self.first < oldest && self.events.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Says whom to wake, once nobody is kept from reading.
    #[must_use]
    pub(crate) fn publish_positions(&mut self, positions: Positions) -> Vec<WakeFn> {
        let stream = self.positions.entry(positions.zone).or_default();
        stream.entries.push_back(Arc::new(positions));
        if stream.entries.len() > POSITIONS_MAX {
            stream.entries.pop_front();
            stream.first += 1;
        }
        stream.readers.values().flatten().cloned().collect()
    }

    /// A new reader of a zone's positions; it begins with the next ones. Says where that is.
    pub(crate) fn follow(&mut self, zone: ZoneId) -> (ReaderId, u64) {
        self.readers += 1;
        let stream = self.positions.entry(zone).or_default();
        stream.readers.insert(self.readers, None);
        (self.readers, stream.first + stream.entries.len() as u64)
    }

    pub(crate) fn wake_with(&mut self, zone: ZoneId, reader: ReaderId, wake: WakeFn) {
        let stream = self.positions.get_mut(&zone);
        if let Some(waked) = stream.and_then(|stream| stream.readers.get_mut(&reader)) {
            *waked = Some(wake);
        }
    }

    pub(crate) fn unfollow(&mut self, zone: ZoneId, reader: ReaderId) {
        if let Some(stream) = self.positions.get_mut(&zone) {
            stream.readers.remove(&reader);
        }
    }

    pub(crate) fn is_followed(&self, zone: ZoneId) -> bool {
        self.positions
            .get(&zone)
            .is_some_and(|stream| !stream.readers.is_empty())
    }

    /// The entry from `next` on that is kept, and where to go on after it.
    pub(crate) fn positions_from(&self, zone: ZoneId, next: u64) -> Option<(u64, Arc<Positions>)> {
        let stream = self.positions.get(&zone)?;
        let entry = next.max(stream.first);
        let positions = stream.entries.get((entry - stream.first) as usize)?;
        Some((entry + 1, Arc::clone(positions)))
    }
}
