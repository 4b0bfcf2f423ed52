//! What an audit finds: faults, and what became of them.

use std::fmt;

use meridian_ids::{EntityEpoch, Tick, WorldEntityId, ZoneId};
use serde::Serialize;

/// A zone, and the epoch under which it had an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The zone.
    pub zone: ZoneId,
    /// The entity's epoch there.
    pub epoch: EntityEpoch,
}

/// Something that an audit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// A fault: two zones simulated an entity in the same ticks. Told when it is found; it may go on.
    Duplicated {
        /// The entity.
        entity: WorldEntityId,
        /// Both zones, the one that had the entity earlier first.
        owners: [Owner; 2],
        /// The first tick that both simulated.
        first: Tick,
        /// The last one so far.
        last: Tick,
    },
    /// A duplicate that had been told has ended; `last` is the last tick that both zones simulated.
    DuplicateEnded {
        /// The entity.
        entity: WorldEntityId,
        /// Both zones.
        owners: [Owner; 2],
        /// The first tick that both simulated.
        first: Tick,
        /// The last tick that both simulated.
        last: Tick,
    },
    /// A fault: a zone began to simulate an entity after another did, but under a lower epoch.
    EpochWentBack {
        /// The entity.
        entity: WorldEntityId,
        /// Who had it under the higher epoch.
        before: Owner,
        /// Since when.
        before_from: Tick,
        /// Who had it later, under the lower one.
        after: Owner,
        /// Since when.
        after_from: Tick,
    },
    /// A fault: an entity that had not left the world was simulated by nobody for two seconds.
    Lost {
        /// The entity.
        entity: WorldEntityId,
        /// The zone that had it last, or made it.
        zone: ZoneId,
        /// Its epoch there; absent if it was made and never simulated.
        epoch: Option<EntityEpoch>,
        /// The last tick in which it was simulated, or the tick in which it was made.
        last: Tick,
    },
    /// An entity that was lost is simulated again. It stays counted as lost.
    Found {
        /// The entity.
        entity: WorldEntityId,
        /// Who simulates it.
        owner: Owner,
        /// Since when.
        from: Tick,
    },
}

impl Finding {
    /// Whether this is a fault; otherwise it says what became of one.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Duplicated { .. } | Self::EpochWentBack { .. } | Self::Lost { .. } => true,
            Self::DuplicateEnded { .. } | Self::Found { .. } => false,
        }
    }

    /// The entity.
    pub fn entity(&self) -> WorldEntityId {
        match self {
            Self::Duplicated { entity, .. }
            | Self::DuplicateEnded { entity, .. }
            | Self::EpochWentBack { entity, .. }
            | Self::Lost { entity, .. }
            | Self::Found { entity, .. } => *entity,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (epoch {})", self.zone, self.epoch.0)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicated {
                entity,
                owners: [one, other],
                first,
                last,
            } => write!(
                f,
                "duplicated: {entity} by {one} and {other} in ticks {first} to {last}"
            ),
            Self::DuplicateEnded {
                entity,
                owners: [one, other],
                first,
                last,
            } => write!(
                f,
                "duplicated no longer: {entity} by {one} and {other}, in ticks {first} to {last}"
            ),
            Self::EpochWentBack {
                entity,
                before,
                before_from,
                after,
                after_from,
            } => write!(
                f,
                "epoch went back: {entity} by {before} from tick {before_from}, then by {after} from tick {after_from}"
            ),
            Self::Lost {
                entity,
                zone,
                epoch: Some(epoch),
                last,
            } => write!(
                f,
                "lost: {entity}, last by {zone} (epoch {}) in tick {last}, nobody's since",
                epoch.0
            ),
            Self::Lost {
                entity,
                zone,
                epoch: None,
                last,
            } => write!(
                f,
                "lost: {entity}, made by {zone} in tick {last}, simulated by nobody since"
            ),
            Self::Found { entity, owner, from } => {
                write!(f, "found: {entity}, which was lost, by {owner} from tick {from}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_entity_its_zones_and_ticks() {
        let owner = |zone, epoch| Owner {
            zone: ZoneId(zone),
            epoch: EntityEpoch(epoch),
        };
        let duplicated = Finding::Duplicated {
            entity: WorldEntityId(0x1f),
            owners: [owner(0, 3), owner(2, 4)],
            first: Tick(100),
            last: Tick(107),
        };
        assert_eq!(
            duplicated.to_string(),
            "duplicated: e1f by z0 (epoch 3) and z2 (epoch 4) in ticks t100 to t107"
        );
        let lost = Finding::Lost {
            entity: WorldEntityId(5),
            zone: ZoneId(1),
            epoch: Some(EntityEpoch(7)),
            last: Tick(250),
        };
        assert_eq!(
            lost.to_string(),
            "lost: e5, last by z1 (epoch 7) in tick t250, nobody's since"
        );
        let json = serde_json::to_value(lost).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"kind": "lost", "entity": 5, "zone": 1, "epoch": 7, "last": 250})
        );
    }
}
