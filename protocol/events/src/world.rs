//! What happens in the world, and where everything is: the entries of the bus's streams.

use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};
use serde::{Deserialize, Serialize};

/// Something that happened in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The zone.
    pub zone: ZoneId,
    /// Which instance of it.
    pub lease: LeaseEpoch,
    /// The tick after which it is told.
    pub tick: Tick,
    /// What happened.
    pub what: Happening,
}

/// What can happen.
// Tagged from outside: bincode cannot read a tag that stands within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// A player came into the world.
    Joined {
        /// The player.
        player: PlayerId,
        /// Its entity.
        entity: WorldEntityId,
    },
    /// An entity left the world.
    Left {
        /// The entity.
        entity: WorldEntityId,
    },
    /// A player died, and started again.
    Died {
        /// The player.
        player: PlayerId,
        /// Its entity.
        entity: WorldEntityId,
    },
    /// An entity was handed over to another zone.
    HandedOff {
        /// The entity.
        entity: WorldEntityId,
        /// Its epoch there.
        epoch: EntityEpoch,
        /// The zone that has it now.
        to: ZoneId,
    },
}

/// Traced moves that one tick tells of at most: traces are for those who look for something, and one of them is enough to see it.
pub const TRACED_MAX: usize = 16;

/// Where entities of a zone stood after a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// The zone.
    pub zone: ZoneId,
    /// Which instance of it.
    pub lease: LeaseEpoch,
    /// The tick.
    pub tick: Tick,
    /// Whether these are all entities of the zone, or only those that moved since the last positions.
    pub is_whole: bool,
    /// The entities whose traced moves these positions show for the first time, and the moves' W3C `traceparent`; at most [`TRACED_MAX`].
    pub traced: Vec<(WorldEntityId, String)>,
    /// The entities.
    pub entities: Vec<EntityPosition>,
}

/// Where an entity stood.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityPosition {
    /// The entity.
    pub entity: WorldEntityId,
    /// How many owners it has had.
    pub epoch: EntityEpoch,
    /// x, y and z in metres.
    pub position: [f32; 3],
}
