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
    /// Each with the time at which it was surely done; none if nobody has looked at the clock since.
    deeds: VecDeque<(Option<Duration>, Deed)>,
}

impl Memory {
    fn note(&mut self, deed: Deed) {
        if self.deeds.len() >= DEEDS_MAX {
            self.deeds.pop_front();
        }
        self.deeds.push_back((None, deed));
    }

    pub(super) fn len(&self) -> usize {
        self.deeds.len()
    }

    pub(super) fn note_departed(&mut self, transfer: Transfer) {
        self.note(Deed::Departed(transfer));
    }

    pub(super) fn note_retired(&mut self, entity: WorldEntityId, epoch: EntityEpoch) {
        self.note(Deed::Retired(entity, epoch));
    }

    /// A store that had lost them has been told of all deeds: it has done them now, and may lose them again.
    pub(super) fn said_again(&mut self) {
        self.deeds.iter_mut().for_each(|(done, _)| *done = None);
    }

    /// Forgets what is too old to be lost by a store that was there at the time `answered`. What was done before a long silence is kept:
    /// nobody knows what the store that comes after it has.
    pub(super) fn forget(&mut self, now: Duration, answered: Duration) {
        let new = self.deeds.iter_mut().rev().take_while(|(done, _)| done.is_none());
        for (done, _) in new {
            *done = Some(now);
        }
        let is_old = |(done, _): &mut (Option<Duration>, Deed)| {
            done.is_some_and(|done| answered.saturating_sub(done) > REMEMBERED)
        };
        while self.deeds.pop_front_if(is_old).is_some() {}
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
