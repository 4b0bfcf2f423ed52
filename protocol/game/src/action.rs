//! Actions: what a player does beyond moving. Registered once; the zone triggers an event at the player's entity.

use bevy::app::App;
use bevy::ecs::entity::{Entity, EntityMapper, MapEntities};
use bevy::ecs::event::EntityEvent;
use bevy::ecs::resource::Resource;
use bevy::ecs::world::World;
use serde::{Deserialize, Serialize};

use crate::component::{WireError, WireReader};
use crate::metric_definitions::ACTIONS_REFUSED;

/// Bytes an action's payload may have.
pub const ACTION_BYTES_MAX: usize = 256;

/// Something a player can do, sent reliably and applied by the zone that owns the player's entity.
pub trait WorldAction: Send + Sync + Sized + 'static {
    /// A stable name, for logs and tools.
    const NAME: &'static str;
    /// Appends the action's bytes; at most [`ACTION_BYTES_MAX`].
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads an action. Untrusted bytes: every input gives an action or an error.
    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError>;
}

/// Triggered in the zone, at the acting player's entity.
#[derive(EntityEvent, Debug)]
pub struct ActionReceived<A: WorldAction> {
    /// The acting player's entity.
    pub entity: Entity,
    /// What it does.
    pub action: A,
}

/// An action on its way from a client to the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionMessage {
    /// The action's place in the order of registration.
    pub kind: u16,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl MapEntities for ActionMessage {
    fn map_entities<E: EntityMapper>(&mut self, _mapper: &mut E) {}
}

/// Why an action was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// Nothing is registered under the kind.
    #[error("unknown action kind {0}; do both sides run the same version of the game?")]
    UnknownKind(u16),
    /// The action's type was never registered.
    #[error("action {0} is not registered; call app.world_action::<..>() in the game's plugin")]
    NotRegistered(&'static str),
    /// More than [`ACTION_BYTES_MAX`] bytes.
    #[error("payload of {0} bytes; at most {ACTION_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The payload is not such an action.
    #[error(transparent)]
    Wire(#[from] WireError),
}

struct Registered {
    name: &'static str,
    type_id: std::any::TypeId,
    trigger: fn(&mut World, Entity, &[u8]) -> Result<(), WireError>,
}

/// Every registered action, in the order of registration.
#[derive(Resource, Default)]
pub struct ActionRegistry {
    registered: Vec<Registered>,
}

impl ActionRegistry {
    /// Registers `A`. Client and zone must register the same actions in the same order.
    pub fn register<A: WorldAction>(app: &mut App) {
        app.init_resource::<Self>();
        app.world_mut().resource_mut::<Self>().registered.push(Registered {
            name: A::NAME,
            type_id: std::any::TypeId::of::<A>(),
            trigger: trigger::<A>,
        });
    }

    /// The message that asks the zone for `action`.
    pub fn message<A: WorldAction>(&self, action: &A) -> Result<ActionMessage, ActionError> {
        let kind = self
            .registered
            .iter()
            .position(|registered| registered.type_id == std::any::TypeId::of::<A>());
        let kind = kind.ok_or(ActionError::NotRegistered(A::NAME))? as u16;
        let mut payload = Vec::new();
        action.encode(&mut payload);
        if payload.len() > ACTION_BYTES_MAX {
            return Err(ActionError::TooLong(payload.len()));
        }
        Ok(ActionMessage { kind, payload })
    }

    /// Triggers the [`ActionReceived`] that `kind` and `payload` say at `entity`, or says why not.
    pub fn trigger(world: &mut World, entity: Entity, kind: u16, payload: &[u8]) -> Result<(), ActionError> {
        let refuse = |error: ActionError| {
            metrics::counter!(ACTIONS_REFUSED).increment(1);
            error
        };
        if payload.len() > ACTION_BYTES_MAX {
            return Err(refuse(ActionError::TooLong(payload.len())));
        }
        let registered = world
            .get_resource::<Self>()
            .and_then(|registry| registry.registered.get(usize::from(kind)));
        let (name, trigger) = registered
            .map(|found| (found.name, found.trigger))
            .ok_or_else(|| refuse(ActionError::UnknownKind(kind)))?;
        tracing::trace!(?entity, name, "action");
        trigger(world, entity, payload).map_err(|error| refuse(error.into()))
    }
}

fn trigger<A: WorldAction>(world: &mut World, entity: Entity, payload: &[u8]) -> Result<(), WireError> {
    let action = A::decode(&mut WireReader::new(payload))?;
    world.trigger(ActionReceived { entity, action });
    Ok(())
}
