//! What a Meridian game is made of: its components and how each crosses the wire, its inputs and actions, the movement
//! step that zone and client share, and the world file.
//!
//! A game is a Bevy plugin that registers components ([`AppWorldExt::world_component`]) and actions
//! ([`AppWorldExt::world_action`]); zones, gateways and clients add the same plugin and need no change for a new one.
//! Nothing here opens a socket, reads a clock or knows who owns an entity.

pub mod action;
pub mod component;
pub mod components;
pub mod demo;
pub mod input;
pub mod movement;
pub mod protocol;
pub mod quantise;
pub mod scenery;
pub mod simulation;
pub mod world;

mod metric_definitions;

pub use bevy::app::App;

pub use action::{ActionMessage, ActionReceived, ActionRegistry, WorldAction};
pub use component::{
    AppWorldExt, Audience, ComponentSpec, NotOwner, OwnerOnly, WireComponent, WireError, WireReader, WorldComponentId,
    WorldComponents,
};
pub use components::{Body, BodyKind, DisplayName, Frozen, Identity, Orientation, OwnerState, Pose, ProbeEcho, Tied};
pub use input::{Move, Sanitised};
pub use protocol::{
    ActionChannel, OwnerZone, ProbeReport, ProtocolPlugin, ProtocolSide, TimingChannel, Welcome, WelcomeChannel,
};
pub use scenery::{Scenery, SurroundingCrate};
pub use simulation::{
    CurrentTick, EntityHooks, EntityIds, Ghost, GhostPushed, PlayerInput, SimulationSystems, SpawnPlayer, WorldEvent,
    ZoneScope,
};
pub use world::{WorldDefinition, WorldError, ZoneArea};
