//! What a store has lost, and who still knows it.
//!
//! What is only in the store's newest writes is not lost as long as one lives who had done it: it says so again. Only if that one dies
//! too, an entity may be as it was before, or gone. This keeps account of exactly those.

use std::collections::{BTreeMap, BTreeSet};

use meridian_ids::WorldEntityId;

use super::ProcessId;

#[derive(Debug, Default)]
struct Open {
    /// Who had acted on it, and has not said so again.
    unheard: BTreeSet<ProcessId>,
    /// One of them is dead.
    is_doubled: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tails {
    /// Who has acted on what since the store was synced.
    unsynced: BTreeMap<WorldEntityId, BTreeSet<ProcessId>>,
    open: BTreeMap<WorldEntityId, Open>,
}

impl Tails {
    pub(super) fn acted(&mut self, entity: WorldEntityId, by: ProcessId) {
        self.unsynced.entry(entity).or_default().insert(by);
    }

    pub(super) fn synced(&mut self) {
        self.unsynced.clear();
    }

    /// The tail is lost: names what was in it, each with those of its actors that are dead already.
    pub(super) fn lost(&mut self, is_alive: impl Fn(ProcessId) -> bool) -> Vec<(WorldEntityId, Vec<ProcessId>)> {
        let mut lost = Vec::new();
        for (entity, actors) in std::mem::take(&mut self.unsynced) {
            let (alive, dead): (Vec<_>, Vec<_>) = actors.into_iter().partition(|actor| is_alive(*actor));
            self.open.entry(entity).or_default().unheard.extend(alive);
            lost.push((entity, dead));
        }
        lost
    }

    /// Whether it is not known yet where the entity is.
    pub(super) fn is_open(&self, entity: WorldEntityId) -> bool {
        self.open.contains_key(&entity)
    }

    pub(super) fn doubled(&mut self, entity: WorldEntityId) {
        if let Some(open) = self.open.get_mut(&entity) {
            open.is_doubled = true;
        }
    }

    /// A process will say nothing more of what was lost; names what it had acted on.
    pub(super) fn heard(&mut self, process: ProcessId) -> Vec<WorldEntityId> {
        let open = self.open.iter_mut();
        let had_acted = open.filter_map(|(entity, open)| open.unheard.remove(&process).then_some(*entity));
        had_acted.collect()
    }

    /// The store has settled: who has not spoken by now speaks too late to be counted on. Names them, with what they had acted on.
    pub(super) fn late(&self) -> Vec<(WorldEntityId, Vec<ProcessId>)> {
        let open = self.open.iter();
        open.map(|(entity, open)| (*entity, open.unheard.iter().copied().collect()))
            .collect()
    }

    /// What nobody more will speak of, each with whether one of those who could have is dead.
    pub(super) fn closed(&mut self) -> Vec<(WorldEntityId, bool)> {
        let mut closed = Vec::new();
        self.open.retain(|entity, open| {
            if open.unheard.is_empty() {
                closed.push((*entity, open.is_doubled));
            }
            !open.unheard.is_empty()
        });
        closed
    }
}
