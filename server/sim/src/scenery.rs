//! Where everything stands, who is tied to whom, and what is to be destroyed: the game, as far as handoffs see it.

use std::collections::{BTreeMap, BTreeSet};

use meridian_ids::{LeaseEpoch, WorldEntityId, ZoneId};

#[derive(Debug, Default)]
pub(crate) struct Scenery {
    /// The zone in whose place each entity stands; those that never walked stand in that of their owner.
    pub(crate) places: BTreeMap<WorldEntityId, ZoneId>,
    pub(crate) ties: BTreeSet<(WorldEntityId, WorldEntityId)>,
    pub(crate) doomed: BTreeSet<WorldEntityId>,
    /// Things that each zone begins with.
    pub(crate) things: u8,
    /// Under which lease the things' ids are minted.
    pub(crate) before: LeaseEpoch,
}

impl Scenery {
    pub(crate) fn place(&self, entity: WorldEntityId) -> Option<ZoneId> {
        self.places.get(&entity).copied()
    }

    pub(crate) fn tied_to(&self, entity: WorldEntityId) -> impl Iterator<Item = WorldEntityId> {
        self.ties.iter().filter_map(move |(one, other)| {
            if *one == entity {
                Some(*other)
            } else {
                (*other == entity).then_some(*one)
            }
        })
    }
}
