//! What an instance has done of late: it says it again to a store that has lost it.

use std::collections::VecDeque;
use std::time::Duration;

use meridian_ids::{EntityEpoch, WorldEntityId};

use crate::REMEMBERED;
use crate::script::Transfer;

/// Deeds remembered at most: more than a zone does in [`REMEMBERED`] at a thousand players that all cross a border each second.
const DEEDS_MAX: usize = 16_384;

#[derive(Clone, Debug)]
enum Deed {
    Departed(Transfer),
    Retired(WorldEntityId, EntityEpoch),
}

/// Handovers and retirements that the store has confirmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    deeds: VecDeque<(Duration, Deed)>,
}

impl Memory {
    fn note(&mut self, now: Duration, deed: Deed) {
        if self.deeds.len() >= DEEDS_MAX {
            self.deeds.pop_front();
        }
        self.deeds.push_back((now, deed));
    }

    pub(super) fn note_departed(&mut self, now: Duration, transfer: Transfer) {
        self.note(now, Deed::Departed(transfer));
    }

    pub(super) fn note_retired(&mut self, now: Duration, entity: WorldEntityId, epoch: EntityEpoch) {
        self.note(now, Deed::Retired(entity, epoch));
    }

    pub(super) fn forget(&mut self, now: Duration) {
        while self
            .deeds
            .front()
            .is_some_and(|(since, _)| now.saturating_sub(*since) > REMEMBERED)
        {
            self.deeds.pop_front();
        }
    }

    /// What was handed over, oldest first.
    pub(super) fn departed(&self) -> impl Iterator<Item = &Transfer> {
        self.deeds.iter().filter_map(|(_, deed)| match deed {
            Deed::Departed(transfer) => Some(transfer),
            Deed::Retired(..) => None,
        })
    }

    /// What was taken out of the world, oldest first.
    pub(super) fn retired(&self) -> impl Iterator<Item = (WorldEntityId, EntityEpoch)> {
        self.deeds.iter().filter_map(|(_, deed)| match deed {
            Deed::Departed(_) => None,
            Deed::Retired(entity, epoch) => Some((*entity, *epoch)),
        })
    }
}
