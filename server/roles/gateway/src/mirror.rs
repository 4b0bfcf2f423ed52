//! The mirror of the zones' entities: what they publish, on entities that lightyear replicates.

use bevy::app::App;
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Remove;
use bevy::ecs::observer::On;
use bevy::ecs::resource::Resource;
use bevy::ecs::system::Commands;
use bevy::ecs::world::World;
use bevy::platform::collections::{HashMap, HashSet};
use lightyear::prelude::{ControlledBy, Lifetime, MessageSender, NetworkTarget, Replicate};
use lightyear_replication::control::ControlledSend;
use meridian_fabric::{EntitySnapshot, GatewayMessage, ProbeTiming, Snapshot};
use meridian_game::{Identity, OwnerZone, Welcome, WelcomeChannel, WorldComponents};
use meridian_handoff::{Sight, Sighting};
use meridian_ids::{EntityEpoch, PlayerId, Tick, TickRate, WorldEntityId, ZoneId};

use crate::gateway::Zones;
use crate::metric_definitions::{GATEWAY_ENTITIES, GATEWAY_SWITCHES, MIRROR_IGNORED};
use crate::sessions::{Presence, Sessions};
use crate::{inputs, interest, stillness};

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<PendingProbes>();
    app.init_resource::<stillness::ZoneViews>();
    app.add_observer(end_control);
}

/// The link that controlled an entity is gone, and with it the filter that told nobody else of it: were the mark left, every client that
/// sees the entity would take it for its own player until it leaves the world.
fn end_control(removed: On<Remove, ControlledBy>, mut commands: Commands) {
    commands.entity(removed.entity).try_remove::<ControlledSend>();
}

/// The mirrored entities, by their id in the world.
#[derive(Resource)]
pub(crate) struct Mirror {
    entities: HashMap<WorldEntityId, Entity>,
    /// What is believed of what zones tell.
    sight: Sight,
}

impl Mirror {
    /// Of a gateway that was told nothing yet.
    pub(crate) fn new(rate: TickRate) -> Self {
        Self {
            entities: HashMap::default(),
            sight: Sight::new(rate),
        }
    }

    /// A whole snapshot was mirrored: the entities that its zone does not know any more.
    pub(crate) fn unlisted(&mut self, snapshot: &Snapshot) -> Vec<(WorldEntityId, Entity)> {
        let listed: HashSet<WorldEntityId> = snapshot.entities.iter().map(|entry| entry.entity).collect();
        let of = (snapshot.zone, snapshot.tick);
        self.sight.whole(of, |id| listed.contains(&id), snapshot.tick);
        let unlisted = self
            .sight
            .entities()
            .filter(|(id, zone, _)| *zone == snapshot.zone && self.sight.is_unlisted(*id));
        unlisted
            .filter_map(|(id, ..)| Some((id, *self.entities.get(&id)?)))
            .collect()
    }
}

/// Whose the entity is, as far as the gateway was told.
#[derive(Component, Clone, Copy, Debug)]
pub(crate) struct OwnedBy {
    pub(crate) zone: ZoneId,
    /// How many owners it has had.
    pub(crate) epoch: EntityEpoch,
}

/// Probed actions whose echo is about to be replicated.
#[derive(Resource, Default)]
pub(crate) struct PendingProbes {
    pub(crate) probes: Vec<(Entity, ProbeTiming, std::time::Instant)>,
}

/// Writes a snapshot onto the mirror.
pub(crate) fn apply(world: &mut World, snapshot: &Snapshot) {
    if !world
        .resource_mut::<Mirror>()
        .sight
        .snapshot(snapshot.zone, snapshot.lease)
    {
        return ignore("stale_lease");
    }
    stillness::hear(world, snapshot);
    let mut lost = false;
    for entry in &snapshot.entities {
        lost |= apply_entity(world, snapshot, entry).is_err();
    }
    stillness::heard(world, snapshot);
    if lost {
        // Changes of an entity that was never seen whole: a snapshot was lost on the way.
        world.resource::<Zones>().send_to(snapshot.zone, GatewayMessage::Resync);
    }
    for probe in &snapshot.probes {
        let entity = world.resource::<Mirror>().entities.get(&probe.entity).copied();
        let owner = entity
            .and_then(|entity| world.get::<ControlledBy>(entity))
            .map(|controlled| controlled.owner);
        if let Some(link) = owner {
            world
                .resource_mut::<PendingProbes>()
                .probes
                .push((link, *probe, snapshot.finished));
        }
    }
    let count = world.resource::<Mirror>().entities.len();
    metrics::gauge!(GATEWAY_ENTITIES).set(count as f64);
}

/// The entity was never seen whole.
struct Unknown;

fn apply_entity(world: &mut World, snapshot: &Snapshot, entry: &EntitySnapshot) -> Result<(), Unknown> {
    let mut mirror = world.resource_mut::<Mirror>();
    let known = mirror.entities.get(&entry.entity).copied();
    if known.is_none() && !entry.whole {
        // What has left the world does not have to be seen.
        let has_left = mirror.sight.has_left(entry.entity, entry.epoch);
        return if has_left { Ok(()) } else { Err(Unknown) };
    }
    let of = (snapshot.zone, snapshot.tick);
    let sighting = mirror.sight.entity(of, entry.entity, entry.epoch);
    if sighting == Sighting::Ignore {
        ignore("stale_epoch");
        return Ok(());
    }
    let entity = known.unwrap_or_else(|| world.spawn_empty().id());
    if sighting != Sighting::Same {
        world.entity_mut(entity).insert(OwnedBy {
            zone: snapshot.zone,
            epoch: entry.epoch,
        });
    }
    let bytes = snapshot.bytes_of(entry);
    let applied = world.resource_scope(|world, components: bevy::ecs::change_detection::Mut<WorldComponents>| {
        let mut entity = world.entity_mut(entity);
        components.apply(&mut entity, bytes)?;
        if known.is_none() {
            components.set_owner(&mut entity, Entity::PLACEHOLDER);
        }
        Ok::<(), meridian_game::WireError>(())
    });
    match applied {
        Ok(()) => stillness::told(world, entity),
        Err(error) => {
            tracing::warn!(entity = %entry.entity, %error, "snapshot entry not understood");
            ignore("malformed");
        }
    }
    if known.is_none() {
        world.resource_mut::<Mirror>().entities.insert(entry.entity, entity);
        world
            .entity_mut(entity)
            .insert(Replicate::to_clients(NetworkTarget::All));
        interest::hide_new(world, entity);
    }
    if sighting == Sighting::ChangedHands {
        metrics::counter!(GATEWAY_SWITCHES).increment(1);
        inputs::send_held(world, entity, snapshot.tick);
        tell_owner_zone(world, entity);
    }
    if entry.whole {
        give_to_owner(world, entity);
    }
    Ok(())
}

/// Connects a player's entity with the link of that player, and welcomes the client.
pub(crate) fn give_to_owner(world: &mut World, entity: Entity) {
    let Some(identity) = world.get::<Identity>(entity).copied() else {
        return;
    };
    let Some(player) = identity.player else { return };
    let Some(link) = world.resource::<Sessions>().links.get(&player).copied() else {
        return;
    };
    if world
        .get::<ControlledBy>(entity)
        .is_some_and(|controlled| controlled.owner == link)
    {
        return;
    }
    world.resource_scope(|world, components: bevy::ecs::change_detection::Mut<WorldComponents>| {
        let mut entity = world.entity_mut(entity);
        components.set_owner(&mut entity, link);
        entity.insert(ControlledBy {
            owner: link,
            lifetime: Lifetime::Persistent,
        });
    });
    if let Some(mut presence) = world.get_mut::<Presence>(link) {
        presence.is_in = true;
    }
    interest::show_own(world, entity, link);
    welcome(world, link, player, identity.entity);
    tell_owner_zone(world, entity);
}

/// The mirrored entity of a player; the youngest, where zones have not parted several yet.
pub(crate) fn entity_of(world: &mut World, player: PlayerId) -> Option<Entity> {
    let mut mirrored = world.query::<(Entity, &Identity)>();
    let mirrored = mirrored.iter(world);
    mirrored
        .filter(|(_, identity)| identity.player == Some(player))
        .max_by_key(|(_, identity)| identity.entity)
        .map(|(entity, _)| entity)
}

/// The mirrored entities whose owner is `zone`.
pub(crate) fn entities_of(world: &World, zone: ZoneId) -> Vec<(WorldEntityId, Entity)> {
    let mirrored = world.resource::<Mirror>().entities.iter();
    mirrored
        .filter(|(_, entity)| world.get::<OwnedBy>(**entity).is_some_and(|owned| owned.zone == zone))
        .map(|(id, entity)| (*id, *entity))
        .collect()
}

fn welcome(world: &mut World, link: Entity, player: PlayerId, entity: WorldEntityId) {
    let zones = world.resource::<Zones>();
    let welcome = Welcome {
        base_tick: zones.base,
        tick_rate: zones.clock.rate(),
        player,
        entity,
        gateway: zones.gateway,
    };
    if let Some(mut sender) = world.get_mut::<MessageSender<Welcome>>(link) {
        sender.send::<WelcomeChannel>(welcome);
    }
}

/// Tells the client whose own player the entity is, if it is any's, which zone has it.
fn tell_owner_zone(world: &mut World, entity: Entity) {
    let (Some(controlled), Some(owned)) = (world.get::<ControlledBy>(entity), world.get::<OwnedBy>(entity)) else {
        return;
    };
    let (link, OwnedBy { zone, epoch }) = (controlled.owner, *owned);
    if let Some(mut sender) = world.get_mut::<MessageSender<OwnerZone>>(link) {
        sender.send::<WelcomeChannel>(OwnerZone { zone, epoch });
    }
}

/// Takes an entity that left the world out of the mirror, unless it is known under a higher epoch.
pub(crate) fn remove(world: &mut World, id: WorldEntityId, epoch: EntityEpoch) {
    let zones = world.resource::<Zones>();
    let now = zones.clock.tick_at(zones.now());
    let mut mirror = world.resource_mut::<Mirror>();
    if mirror.sight.left(id, epoch, now) {
        forget(world, id);
    } else if mirror.entities.contains_key(&id) {
        ignore("stale_leave");
    }
}

/// Takes out of the mirror what no zone has told of for long.
pub(crate) fn drop_unlisted(world: &mut World, tick: Tick) {
    for id in world.resource_mut::<Mirror>().sight.forget(tick) {
        tracing::warn!(entity = %id, "no zone knows the entity; it is dropped");
        forget(world, id);
    }
}

fn forget(world: &mut World, id: WorldEntityId) {
    let Some(entity) = world.resource_mut::<Mirror>().entities.remove(&id) else {
        return;
    };
    let owner = world.get::<ControlledBy>(entity).map(|controlled| controlled.owner);
    if let Some(mut presence) = owner.and_then(|link| world.get_mut::<Presence>(link)) {
        presence.lost();
    }
    interest::forget(world, entity);
    world.despawn(entity);
}

/// Counts something that a zone told and that is of no account.
pub(crate) fn ignore(reason: &'static str) {
    metrics::counter!(MIRROR_IGNORED, "reason" => reason).increment(1);
}
