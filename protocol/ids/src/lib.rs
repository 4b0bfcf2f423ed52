//! Identities and clocks that every process of a world agrees on: entities, players, zones, epochs and ticks.
//!
//! Nothing here knows Bevy, a network or a database; every other crate may depend on this one.

pub mod probe_sequence;
mod steering;
mod tick;
mod zone_map;

pub use steering::ClockSteering;
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

/// Counts the lives of a world's durable side: one that came back without its newest writes begins another. The high part of every epoch, so
/// that what is said in a later life outranks all that was said before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

/// Counts the owners an entity has had; each handoff raises it by one. The high 32 bits are the [`Generation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityEpoch(pub u64);

/// Counts the instances a zone has had; each process that claims the zone raises it by one. The high 32 bits are the [`Generation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseEpoch(pub u64);

impl EntityEpoch {
    /// The generation in which it was given.
    pub const fn generation(self) -> Generation {
        Generation((self.0 >> 32) as u32)
    }

    /// The same count in another generation.
    pub const fn in_generation(self, generation: Generation) -> Self {
        Self((generation.0 as u64) << 32 | self.0 & 0xffff_ffff)
    }

    /// The epoch at the next owner.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LeaseEpoch {
    /// The generation in which it was given.
    pub const fn generation(self) -> Generation {
        Generation((self.0 >> 32) as u32)
    }

    /// The count within all generations: it goes on from one to the next.
    pub const fn count(self) -> u32 {
        self.0 as u32
    }

    /// A generation's lease of this count.
    pub const fn new(generation: Generation, count: u32) -> Self {
        Self((generation.0 as u64) << 32 | count as u64)
    }
}

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

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
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
    fn a_later_generation_outranks_every_count_of_an_earlier_one() {
        let (first, second) = (Generation(1), Generation(2));
        let epoch = EntityEpoch(7).in_generation(first);
        assert!(epoch.next() > epoch);
        assert!(EntityEpoch(1).in_generation(second) > epoch.next());
        assert_eq!(epoch.in_generation(second).generation(), second);
        assert_eq!(epoch.in_generation(second), EntityEpoch(2 << 32 | 7));
        assert_eq!(LeaseEpoch::new(second, 9).count(), 9);
        assert!(LeaseEpoch::new(second, 1) > LeaseEpoch::new(first, u32::MAX));
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
