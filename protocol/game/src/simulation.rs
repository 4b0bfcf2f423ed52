//! What a zone gives to the game it simulates, and what it asks of it.

use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::message::Message;
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::SystemSet;
use bevy::ecs::world::World;
use bevy::math::Vec3;
use meridian_ids::{EntityIdMint, PlayerId, Tick, WorldEntityId, ZoneId, ZoneMap};

use crate::input::Move;

/// The order of a zone's tick; the zone sets the inputs before and takes its snapshot after.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimulationSystems {
    /// In `FixedUpdate`: players take their steps and push what they touch. avian follows in `FixedPostUpdate`.
    Move,
    /// In `FixedLast`: what came of it is written into the components that are replicated.
    Settle,
}

/// The tick that is being simulated.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct CurrentTick(pub Tick);

/// Mints the ids of the entities that a zone makes. There once the zone has its lease, which is after start-up systems ran.
#[derive(Resource)]
pub struct EntityIds(pub EntityIdMint);

/// How the game makes an entity for a player that joins. The game's plugin inserts it.
#[derive(Resource, Clone, Copy)]
pub struct SpawnPlayer(pub fn(&mut World, WorldEntityId, PlayerId, &str) -> Entity);

/// What the game does with entities that come and go between zones. The game's plugin inserts it.
#[derive(Resource, Clone, Copy)]
pub struct EntityHooks {
    /// Makes what stands in the zone when the world begins, with ids of [`EntityIds`]: the same entities in the same order each
    /// time it is called.
    pub populate: fn(&mut World),
    /// Completes an entity of the zone that was made from its record: adds what is not part of it.
    pub embody: fn(&mut World, Entity),
    /// Completes a [`Ghost`] that was made from what its owner tells of it.
    pub embody_ghost: fn(&mut World, Entity),
    /// Simulates an entity for one tick that passed while it changed zones; a player's [`PlayerInput`] is that of the tick.
    pub catch_up: fn(&mut World, Entity),
    /// Pushes an entity of the zone, whose ghost a neighbour's player walks against, to a velocity in metres per second.
    pub push: fn(&mut World, Entity, Vec3),
}

/// An entity that a neighbouring zone owns, near the border: seen and touched here, and never changed here.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ghost {
    /// Its owner.
    pub zone: ZoneId,
}

/// A ghost was pushed: its owner is to be told.
#[derive(Message, Clone, Copy, Debug, PartialEq)]
pub struct GhostPushed {
    /// Whose ghost.
    pub ghost: WorldEntityId,
    /// Its owner.
    pub zone: ZoneId,
    /// The velocity that who pushes would give it, in metres per second.
    pub velocity: Vec3,
}

/// How far an entity that its neighbour does not take may stand beyond the border, in metres.
pub const WALL_BEYOND_M: f32 = 4.0;

/// Farther than this behind the wall nothing has come on its own: it was put there, and waits to be handed over.
const BEHIND_WALL_M: f32 = 2.0;

/// The part of the world that this zone simulates.
#[derive(Resource, Clone, Debug)]
pub struct ZoneScope {
    /// The zone.
    pub zone: ZoneId,
    /// All zones.
    pub map: ZoneMap,
}

impl ZoneScope {
    /// Whether a place belongs to the zone.
    pub fn is_mine(&self, place: Vec3) -> bool {
        self.map.zone_at([place.x, place.z]) == self.zone
    }

    /// Where an entity that has come too far into a neighbour's place must stand instead: its neighbour does not take it.
    pub fn held_at_wall(&self, place: Vec3) -> Option<Vec3> {
        let (point, area) = ([place.x, place.z], self.map.area(self.zone)?);
        let beyond_m = area.distance(point) - WALL_BEYOND_M;
        if beyond_m <= 0.0 || beyond_m > BEHIND_WALL_M || self.is_mine(place) {
            return None;
        }
        let [x, z] = area.grown(WALL_BEYOND_M).nearest(point);
        Some(Vec3::new(x, place.y, z))
    }
}

/// The input of a player for the tick that is about to be simulated; the zone writes it.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct PlayerInput {
    /// What the player does.
    pub input: Move,
    /// Whether it came for this very tick; otherwise the last walk is repeated.
    pub applied: bool,
    /// How early it came, in wire units of [`crate::OwnerState::slack`].
    pub slack: i16,
}

/// What happened in a zone that others than the players may want to know.
#[derive(Message, Clone, Copy, Debug, PartialEq)]
pub enum WorldEvent {
    /// A player fell off the world and appears anew.
    Died {
        /// The player's entity.
        entity: WorldEntityId,
        /// The player.
        player: PlayerId,
        /// When.
        tick: Tick,
    },
}
