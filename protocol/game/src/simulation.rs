//! What a zone gives to the game it simulates, and what it asks of it.

use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::message::Message;
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::SystemSet;
use bevy::ecs::world::World;
use meridian_ids::{EntityIdMint, PlayerId, Tick, WorldEntityId};

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

/// Mints the ids of the entities that a zone makes. Inserted before the game's start-up systems run.
#[derive(Resource)]
pub struct EntityIds(pub EntityIdMint);

/// How the game makes an entity for a player that joins. The game's plugin inserts it.
#[derive(Resource, Clone, Copy)]
pub struct SpawnPlayer(pub fn(&mut World, WorldEntityId, PlayerId, &str) -> Entity);

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
