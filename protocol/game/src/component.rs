//! One registration per component: to whom it is replicated, how it is quantised, whether it is handed off and
//! checkpointed. Zone, gateway and client read the same registry, so a new component touches the game crate alone.

use std::marker::PhantomData;

use bevy::app::App;
use bevy::ecs::change_detection::Tick as ChangeTick;
use bevy::ecs::component::{Component, Mutable};
use bevy::ecs::entity::Entity;
use bevy::ecs::resource::Resource;
use bevy::ecs::world::{EntityRef, EntityWorldMut};
use bevy_replicon::bytes::{Buf, Bytes};
use bevy_replicon::prelude::{AppRuleExt, AppVisibilityExt, RuleFns, ScopeLifetime, SingleComponent, VisibilityFilter};
use bevy_replicon::server::visibility::registry::FilterRegistry;
use bevy_replicon::shared::replication::registry::ReplicationRegistry;
use bevy_replicon::shared::replication::registry::ctx::{SerializeCtx, WriteCtx};
use lightyear::prelude::{AppComponentExt, RemoteId};

use crate::action::{ActionRegistry, WorldAction};

/// Components a game may register: the wire spends one byte on their id.
pub const COMPONENTS_MAX: usize = 256;
/// Bytes one component may encode to.
pub const COMPONENT_BYTES_MAX: usize = u16::MAX as usize;

/// Who receives a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every client that sees the entity.
    Everyone,
    /// Only the client whose player the entity is.
    Owner,
    /// Every client that sees the entity, but for its owner (who predicts it).
    Others,
    /// No client: zones alone know it.
    Nobody,
}

/// What a component's registration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentSpec {
    /// A stable name, for logs, tools and checkpoints.
    pub name: &'static str,
    /// To whom gateways replicate it.
    pub audience: Audience,
    /// Whether it travels with an entity that changes its zone.
    pub handed_off: bool,
    /// Whether it is part of an entity's durable record.
    pub checkpointed: bool,
}

impl ComponentSpec {
    /// A component that everyone receives, that travels with its entity and is checkpointed.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            audience: Audience::Everyone,
            handed_off: true,
            checkpointed: true,
        }
    }

    /// Changes who receives it.
    pub const fn audience(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }

    /// Travels with its entity, but is no part of the durable record: nobody misses it after a crash.
    pub const fn volatile(self) -> Self {
        Self {
            checkpointed: false,
            ..self
        }
    }

    /// Derived each tick: neither handed off nor checkpointed.
    pub const fn transient(self) -> Self {
        Self {
            handed_off: false,
            checkpointed: false,
            ..self
        }
    }
}

/// Why bytes are not the component they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than the value needs.
    #[error("truncated value")]
    Truncated,
    /// A value outside of its range.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// A component id that no registration has.
    #[error("unknown component id {0}; do both sides run the same version of the game?")]
    UnknownComponent(u8),
}

/// Reads a component's bytes; never past their end.
#[derive(Debug)]
pub struct WireReader<'a> {
    rest: &'a [u8],
}

impl<'a> WireReader<'a> {
    /// A reader over all of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next `length` bytes.
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next four bytes as a finite number, little-endian.
    pub fn f32(&mut self) -> Result<f32, WireError> {
        let value = self.array().map(f32::from_le_bytes)?;
        value.is_finite().then_some(value).ok_or(WireError::Invalid("number"))
    }
}

/// A component that crosses the wire. Encoding is where it is quantised.
pub trait WireComponent: Component<Mutability = Mutable> + Clone + PartialEq {
    /// Appends the value's bytes; at most [`COMPONENT_BYTES_MAX`].
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads a value. Untrusted bytes: every input gives a value or an error.
    fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError>;
}

/// A component's number on the wire between zone and gateway: its place in the order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorldComponentId(pub u8);

struct Registered {
    spec: ComponentSpec,
    changed: fn(EntityRef<'_>, ChangeTick, ChangeTick) -> bool,
    encode: fn(EntityRef<'_>, &mut Vec<u8>) -> bool,
    apply: fn(&mut EntityWorldMut<'_>, &mut WireReader<'_>) -> Result<(), WireError>,
    set_owner: fn(&mut EntityWorldMut<'_>, Entity),
}

/// Which components of an entity to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that a client may see: an entity that a gateway sees for the first time.
    All,
    /// Those of them that changed after the first tick and up to the second.
    ChangedSince(ChangeTick, ChangeTick),
    /// Those that travel with an entity that changes its zone.
    HandedOff,
    /// Those of the durable record.
    Checkpointed,
    /// What a neighbouring zone needs to know of an entity near the border: all but what only its owner receives.
    Ghost,
}

/// Every registered component, in the order of registration.
#[derive(Resource, Default)]
pub struct WorldComponents {
    registered: Vec<Registered>,
}

impl WorldComponents {
    /// The specifications in the order of their ids.
    pub fn specs(&self) -> impl Iterator<Item = (WorldComponentId, &ComponentSpec)> {
        self.registered
            .iter()
            .enumerate()
            .map(|(id, registered)| (WorldComponentId(id as u8), &registered.spec))
    }

    /// Appends the selected components of an entity as `id (1) | length (2) | bytes` each; says whether there were any.
    pub fn encode(&self, entity: EntityRef<'_>, selection: Selection, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        for (id, registered) in self.registered.iter().enumerate() {
            let spec = &registered.spec;
            let selected = match selection {
                Selection::All => spec.audience != Audience::Nobody,
                Selection::ChangedSince(last, this) => {
                    spec.audience != Audience::Nobody && (registered.changed)(entity, last, this)
                }
                Selection::HandedOff => spec.handed_off,
                Selection::Checkpointed => spec.checkpointed,
                Selection::Ghost => spec.audience != Audience::Owner,
            };
            if !selected {
                continue;
            }
            let header = out.len();
            out.extend([id as u8, 0, 0]);
            if !(registered.encode)(entity, out) {
                out.truncate(header);
                continue;
            }
            let length = (out.len() - header - 3).min(COMPONENT_BYTES_MAX) as u16;
            out[header + 1..header + 3].copy_from_slice(&length.to_le_bytes());
        }
        out.len() > start
    }

    /// Writes encoded components onto an entity; a value that is equal is not marked as changed.
    pub fn apply(&self, entity: &mut EntityWorldMut<'_>, bytes: &[u8]) -> Result<(), WireError> {
        let mut reader = WireReader::new(bytes);
        while reader.remaining() > 0 {
            let id = reader.u8()?;
            let length = usize::from(reader.u16()?);
            let value = reader.slice(length)?;
            let registered = self
                .registered
                .get(usize::from(id))
                .ok_or(WireError::UnknownComponent(id))?;
            (registered.apply)(entity, &mut WireReader::new(value))?;
        }
        Ok(())
    }

    /// Tells the audience filters of a mirrored entity which client link owns it ([`Entity::PLACEHOLDER`] for none).
    pub fn set_owner(&self, entity: &mut EntityWorldMut<'_>, link: Entity) {
        for registered in &self.registered {
            (registered.set_owner)(entity, link);
        }
    }
}

/// Shows component `C` only to the link that owns the entity.
#[derive(Component)]
#[component(immutable)]
pub struct OwnerOnly<C: Component> {
    link: Entity,
    marker: PhantomData<fn() -> C>,
}

/// Hides component `C` from the link that owns the entity.
#[derive(Component)]
#[component(immutable)]
pub struct NotOwner<C: Component> {
    link: Entity,
    marker: PhantomData<fn() -> C>,
}

impl<C: WireComponent> VisibilityFilter for OwnerOnly<C> {
    type ClientComponent = RemoteId;
    type Scope = SingleComponent<C>;
    const LIFETIME: ScopeLifetime = ScopeLifetime::WhileVisible;

    fn is_visible(&self, client: Entity, remote: Option<&RemoteId>) -> bool {
        remote.is_some() && client == self.link
    }
}

impl<C: WireComponent> VisibilityFilter for NotOwner<C> {
    type ClientComponent = RemoteId;
    type Scope = SingleComponent<C>;
    const LIFETIME: ScopeLifetime = ScopeLifetime::WhileVisible;

    fn is_visible(&self, client: Entity, remote: Option<&RemoteId>) -> bool {
        remote.is_some() && client != self.link
    }
}

/// Registration of the world's components and actions, for any app: a zone's, a gateway's or a client's.
pub trait AppWorldExt {
    /// Registers component `C`. Zone, gateway and client must register the same components in the same order.
    ///
    /// # Panics
    ///
    /// On more than [`COMPONENTS_MAX`] components: a mistake in the game's code, found at start.
    fn world_component<C: WireComponent>(&mut self, spec: ComponentSpec) -> &mut Self;
    /// Registers action `A`. Zone and client must register the same actions in the same order.
    fn world_action<A: WorldAction>(&mut self) -> &mut Self;
}

impl AppWorldExt for App {
    fn world_action<A: WorldAction>(&mut self) -> &mut Self {
        ActionRegistry::register::<A>(self);
        self
    }

    fn world_component<C: WireComponent>(&mut self, spec: ComponentSpec) -> &mut Self {
        self.init_resource::<WorldComponents>();
        let mut components = self.world_mut().resource_mut::<WorldComponents>();
        assert!(
            components.registered.len() < COMPONENTS_MAX,
            "more than {COMPONENTS_MAX} components registered"
        );
        components.registered.push(Registered {
            spec,
            changed: changed::<C>,
            encode: encode::<C>,
            apply: apply::<C>,
            set_owner: match spec.audience {
                Audience::Everyone | Audience::Nobody => |_, _| (),
                Audience::Owner => set_owner_only::<C>,
                Audience::Others => set_not_owner::<C>,
            },
        });
        if spec.audience != Audience::Nobody && self.world().contains_resource::<ReplicationRegistry>() {
            self.component::<C>();
            self.replicate_with(RuleFns::new(serialize_wire::<C>, deserialize_wire::<C>));
            let server = self.world().contains_resource::<FilterRegistry>();
            match spec.audience {
                Audience::Owner if server => drop(self.add_visibility_filter::<OwnerOnly<C>>()),
                Audience::Others if server => drop(self.add_visibility_filter::<NotOwner<C>>()),
                _ => {}
            }
        }
        self
    }
}

fn changed<C: WireComponent>(entity: EntityRef<'_>, last: ChangeTick, this: ChangeTick) -> bool {
    entity
        .get_change_ticks::<C>()
        .is_some_and(|ticks| ticks.is_changed(last, this))
}

fn encode<C: WireComponent>(entity: EntityRef<'_>, out: &mut Vec<u8>) -> bool {
    entity.get::<C>().map(|component| component.encode(out)).is_some()
}

fn apply<C: WireComponent>(entity: &mut EntityWorldMut<'_>, reader: &mut WireReader<'_>) -> Result<(), WireError> {
    let value = C::decode(reader)?;
    match entity.get_mut::<C>() {
        Some(current) if *current == value => {}
        Some(mut current) => *current = value,
        None => drop(entity.insert(value)),
    }
    Ok(())
}

fn set_owner_only<C: Component>(entity: &mut EntityWorldMut<'_>, link: Entity) {
    entity.insert(OwnerOnly::<C> {
        link,
        marker: PhantomData,
    });
}

fn set_not_owner<C: Component>(entity: &mut EntityWorldMut<'_>, link: Entity) {
    entity.insert(NotOwner::<C> {
        link,
        marker: PhantomData,
    });
}

fn serialize_wire<C: WireComponent>(
    _ctx: &mut SerializeCtx<'_>,
    component: &C,
    message: &mut Vec<u8>,
) -> bevy::ecs::error::Result<()> {
    component.encode(message);
    Ok(())
}

fn deserialize_wire<C: WireComponent>(_ctx: &mut WriteCtx<'_>, message: &mut Bytes) -> bevy::ecs::error::Result<C> {
    let mut reader = WireReader::new(message);
    let value = C::decode(&mut reader)?;
    let read = message.len() - reader.remaining();
    message.advance(read);
    Ok(value)
}
