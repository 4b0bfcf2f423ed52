//! Identities and clocks that every process of a world agrees on: entities, players, zones, epochs and ticks.
//!
//! Nothing here knows Bevy, a network or a database; every other crate may depend on this one.

mod tick;
mod zone_map;

pub use tick::{TICK_RATE_HZ_DEFAULT, TICK_RATE_HZ_MAX, TICK_RATE_HZ_MIN, Tick, TickClock, TickRate, TickRateError};

pub use zone_map::{Rectangle, ZONES_MAX, ZoneMap, ZoneMapError};

use std::fmt;

use serde::{Deserialize, Serialize};

/// An entity of the world: minted once, never reused, the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorldEntityId(pub u64);

impl WorldEntityId {
    /// What all ids of one [`EntityIdMint`] have in common. Later ones of the same mint are higher.
    pub const fn minter(self) -> u64 {
        self.0 >> 32
    }
}

/// A player's account or guest identity. One player controls at most one entity at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlayerId(pub u64);

/// A zone's index in the world file, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ZoneId(pub u16);

/// Counts the owners an entity has had; each handoff raises it by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityEpoch(pub u64);

/// Counts the instances a zone has had; each process that claims the zone raises it by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseEpoch(pub u64);

impl fmt::Display for WorldEntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{:x}", self.0)
    }
}

impl fmt::Display for PlayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:x}", self.0)
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "z{}", self.0)
    }
}

/// Mints [`WorldEntityId`]s that no other minter of the world repeats.
///
/// The id is `zone (16 bits) | lease epoch (16 bits) | counter (32 bits)`. An instance of a zone is alone in its
/// (zone, lease epoch), so its counter needs no coordination.
#[derive(Debug)]
pub struct EntityIdMint {
    prefix: u64,
    next: u32,
}

impl EntityIdMint {
    /// A mint for one instance of one zone. Only the low 16 bits of the lease epoch enter the id.
    pub fn new(zone: ZoneId, lease: LeaseEpoch) -> Self {
        let prefix = (u64::from(zone.0) << 48) | ((lease.0 & 0xffff) << 32);
        Self { prefix, next: 1 }
    }

    /// The next id, or `None` after 2^32 - 1 of them: the zone must then be restarted under a new lease.
    pub fn mint(&mut self) -> Option<WorldEntityId> {
        let id = WorldEntityId(self.prefix | u64::from(self.next));
        self.next = self.next.checked_add(1)?;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_two_zones_and_two_leases_never_meet() {
        let mut seen = std::collections::HashSet::new();
        for zone in 0..4 {
            for lease in 0..4 {
                let mut mint = EntityIdMint::new(ZoneId(zone), LeaseEpoch(lease));
                for _ in 0..100 {
                    assert!(seen.insert(mint.mint().unwrap()));
                }
            }
        }
    }

    #[test]
    fn an_exhausted_mint_says_so_instead_of_repeating() {
        let mut mint = EntityIdMint {
            prefix: 0,
            next: u32::MAX,
        };
        assert_eq!(mint.mint(), None);
        assert_eq!(mint.mint(), None);
    }
}
