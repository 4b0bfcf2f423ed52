//! A group's readers in this process: they share one consumer of the stream of events, whose entries they take in their order.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meridian_events::Event;
use tokio::sync::Notify;

use crate::{EntryId, EventReader};

/// Entries that are read before anybody asks for them.
pub(super) const READ_AHEAD_MAX: usize = 256;
/// Entries that are not acknowledged; at more than that, no more are read.
const OPEN_MAX: usize = 4_096;

#[derive(Debug)]
struct Entry {
    /// What the store calls it.
    name: String,
    event: Event,
    /// The reader that took it, if one did.
    taken_by: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// All that is not acknowledged, under numbers that rise with their order here.
    open: BTreeMap<u64, Entry>,
    /// Those that nobody has taken, in order.
    ready: VecDeque<u64>,
    next_entry: u64,
    known: HashSet<String>,
    acknowledged: Vec<String>,
    readers: usize,
    next_reader: u64,
    is_closed: bool,
}

/// Shared between the readers and the task that speaks with the store.
#[derive(Debug, Default)]
pub(super) struct Group {
    state: Mutex<State>,
    /// There is room, or something to acknowledge, or nobody there any more.
    pub(super) changed: Notify,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new reader; none if the last one has just left and the group ends.
    pub(super) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state();
        if state.is_closed {
            return None;
        }
        state.readers += 1;
        state.next_reader += 1;
        let (id, group) = (state.next_reader, Arc::clone(self));
        Some(Reader { id, group })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// How many entries there is room for.
    pub(super) fn room(&self) -> usize {
        let state = self.state();
        let read_ahead = READ_AHEAD_MAX.saturating_sub(state.ready.len());
        read_ahead.min(OPEN_MAX.saturating_sub(state.open.len()))
    }

    /// Whether the entry is open here, or acknowledged and the store does not know it yet.
    pub(super) fn knows(&self, name: &str) -> bool {
        let state = self.state();
        state.known.contains(name) || state.acknowledged.iter().any(|acknowledged| acknowledged == name)
    }

    pub(super) fn add(&self, name: String, event: Event) {
        let mut state = self.state();
        if !state.known.insert(name.clone()) {
            return;
        }
        let number = state.next_entry;
        state.next_entry += 1;
        let taken_by = None;
        state.open.insert(number, Entry { name, event, taken_by });
        state.ready.push_back(number);
    }

    /// All that is open here.
    pub(super) fn open(&self) -> Vec<String> {
        self.state().open.values().map(|entry| entry.name.clone()).collect()
    }

    /// Others have got these: who has not taken them does not get them any more.
    pub(super) fn lose(&self, names: &[String]) {
        let mut state = self.state();
        let lost: HashSet<&str> = names.iter().map(String::as_str).collect();
        let gone: Vec<u64> = state
            .open
            .iter()
            .filter(|(_, entry)| entry.taken_by.is_none() && lost.contains(entry.name.as_str()))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            state.ready.retain(|ready| *ready != number);
            if let Some(entry) = state.open.remove(&number) {
                state.known.remove(&entry.name);
            }
        }
    }

    pub(super) fn acknowledged(&self) -> Vec<String> {
        self.state().acknowledged.clone()
    }

    /// The store knows that these are acknowledged.
    pub(super) fn forget_acknowledged(&self, count: usize) {
        let mut state = self.state();
        let count = count.min(state.acknowledged.len());
        state.acknowledged.drain(..count);
    }
}

/// One reader of the group.
pub(super) struct Reader {
    id: u64,
    group: Arc<Group>,
}

impl EventReader for Reader {
    fn try_next(&mut self) -> Option<(EntryId, Event)> {
        let mut state = self.group.state();
        let number = state.ready.pop_front()?;
        let entry = state.open.get_mut(&number)?;
        entry.taken_by = Some(self.id);
        let event = entry.event;
        if state.ready.len() == READ_AHEAD_MAX / 2 {
            self.group.changed.notify_one();
        }
        Some((EntryId(number), event))
    }

    fn acknowledge(&mut self, entry: EntryId) {
        let mut state = self.group.state();
        if let Some(entry) = state.open.remove(&entry.0) {
            state.known.remove(&entry.name);
            state.acknowledged.push(entry.name);
            drop(state);
            self.group.changed.notify_one();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.group.state();
        let left: Vec<u64> = state
            .open
            .iter_mut()
            .filter(|(_, entry)| entry.taken_by == Some(self.id))
            .map(|(number, entry)| {
                entry.taken_by = None;
                *number
            })
            .collect();
        // What it left comes before everything that nobody has taken.
        for number in left.into_iter().rev() {
            state.ready.push_front(number);
        }
        state.readers -= 1;
        state.is_closed = state.readers == 0;
        self.group.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use meridian_events::Happening;
    use meridian_ids::{LeaseEpoch, Tick, WorldEntityId, ZoneId};

    use super::*;

    fn add(group: &Group, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            let entity = WorldEntityId(number);
            let event = Event {
                zone: ZoneId(0),
                lease: LeaseEpoch(1),
                tick: Tick(number),
                what: Happening::Left { entity },
            };
            group.add(format!("{number}-0"), event);
        }
    }

    fn next(reader: &mut Reader) -> Option<u64> {
        reader.try_next().map(|(_, event)| event.tick.0)
    }

    #[test]
    fn readers_share_entries_in_order_and_what_one_leaves_comes_first() {
        let group = Arc::new(Group::default());
        let (mut first, mut second) = (group.join().unwrap(), group.join().unwrap());
        add(&group, 1..=4);
        add(&group, 2..=3);
        assert_eq!(
            (next(&mut first), next(&mut second), next(&mut first)),
            (Some(1), Some(2), Some(3))
        );
        drop(first);
        assert_eq!(
            [
                next(&mut second),
                next(&mut second),
                next(&mut second),
                next(&mut second)
            ],
            [Some(1), Some(3), Some(4), None]
        );
        drop(second);
        assert!(group.is_closed() && group.join().is_none());
    }

    #[test]
    fn what_is_acknowledged_is_open_no_more_but_known_until_the_store_knows() {
        let group = Arc::new(Group::default());
        let mut reader = group.join().unwrap();
        add(&group, 1..=2);
        let (entry, _) = reader.try_next().unwrap();
        reader.acknowledge(entry);
        reader.acknowledge(entry);
        assert_eq!(group.acknowledged(), ["1-0"]);
        assert_eq!(group.open(), ["2-0"]);
        assert!(group.knows("1-0") && group.knows("2-0"));
        group.forget_acknowledged(1);
        assert!(!group.knows("1-0"));
    }

    #[test]
    fn what_others_have_got_is_not_taken_but_what_was_taken_stays() {
        let group = Arc::new(Group::default());
        let mut reader = group.join().unwrap();
        add(&group, 1..=3);
        assert_eq!(next(&mut reader), Some(1));
        group.lose(&["1-0".to_owned(), "2-0".to_owned()]);
        assert_eq!((next(&mut reader), next(&mut reader)), (Some(3), None));
        assert_eq!(group.open(), ["1-0", "3-0"]);
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let group = Arc::new(Group::default());
        let mut reader = group.join().unwrap();
        assert_eq!(group.room(), READ_AHEAD_MAX);
        add(&group, 1..=READ_AHEAD_MAX as u64);
        assert_eq!(group.room(), 0);
        for _ in 0..READ_AHEAD_MAX {
            assert!(reader.try_next().is_some());
        }
        assert_eq!(
            group.room(),
            READ_AHEAD_MAX,
            "taken is not acknowledged, but there may be many of these"
        );
    }
}
