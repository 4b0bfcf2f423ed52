//! Zones that are away: what they had stays where it is, marked as [`Frozen`], until they come back or another one tells of it.
//!
//! Silence of a zone takes nothing away. Only a zone that came back, under a new lease or over a new link, and does not know an entity any
//! more does, and not at once, for the entity may be on its way into another zone.

use std::time::Duration;

use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::query::{With, Without};
use bevy::ecs::resource::Resource;
use bevy::ecs::world::World;
use bevy::platform::collections::HashMap;
use meridian_fabric::Snapshot;
use meridian_game::Frozen;
use meridian_ids::{LeaseEpoch, Tick, TickRate, WorldEntityId, ZoneId};

use crate::gateway::Zones;
use crate::metric_definitions::GATEWAY_ZONES_AWAY;
use crate::mirror::{self, Mirror, OwnedBy};

/// A zone that has told nothing for so long is away. A zone that rests says so in each tick, and after a stall it catches up at most
/// eight ticks at once.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// What is known of each zone.
#[derive(Resource, Default)]
pub(crate) struct ZoneViews {
    views: HashMap<ZoneId, ZoneView>,
}

#[derive(Default)]
struct ZoneView {
    /// The newest instance that was heard.
    lease: LeaseEpoch,
    /// Ticks of the gateway since the zone was heard. Not ticks of the world: a gateway that stood still has heard nobody.
    silent_ticks: u32,
    is_away: bool,
    /// Another instance than before speaks, and has not told everything yet.
    is_new: bool,
}

/// An entity that its zone's next instance did not know.
#[derive(Component, Clone, Copy, Debug)]
struct Unlisted;

fn ticks(rate: TickRate, duration: Duration) -> u64 {
    (duration.as_secs_f64() * f64::from(rate.hz())) as u64
}

/// A snapshot of a zone's newest instance is about to be mirrored.
pub(crate) fn hear(world: &mut World, snapshot: &Snapshot) {
    let mut views = world.resource_mut::<ZoneViews>();
    let view = views.views.entry(snapshot.zone).or_default();
    view.is_new |= view.lease != LeaseEpoch::default() && snapshot.lease > view.lease;
    view.lease = snapshot.lease;
    view.silent_ticks = 0;
}

/// A snapshot was mirrored: what stood still while its zone was away goes on.
pub(crate) fn heard(world: &mut World, snapshot: &Snapshot) {
    let mut views = world.resource_mut::<ZoneViews>();
    let Some(view) = views.views.get_mut(&snapshot.zone) else {
        return;
    };
    // A new instance has to say first what of it there still is.
    if view.is_new && !snapshot.whole {
        return;
    }
    let (is_new, was_away) = (view.is_new, view.is_away);
    (view.is_new, view.is_away) = (false, false);
    if snapshot.whole {
        let unlisted = world.resource_mut::<Mirror>().unlisted(snapshot);
        // So does one whose link had broken: what left meanwhile was told to nobody.
        if is_new || was_away {
            set_aside(world, snapshot.zone, unlisted);
        }
    }
    if was_away {
        thaw(world, snapshot.zone);
    }
}

/// An entity was told of by a zone: it is not still any more.
pub(crate) fn told(world: &mut World, entity: Entity) {
    if let Ok(mut entity) = world.get_entity_mut(entity)
        && entity.contains::<Frozen>()
    {
        entity.remove::<(Frozen, Unlisted)>();
    }
}

/// Whether an entity is one that its zone does not know any more.
pub(crate) fn is_unlisted(world: &World, entity: Entity) -> bool {
    world.get::<Unlisted>(entity).is_some()
}

fn set_aside(world: &mut World, zone: ZoneId, unlisted: Vec<(WorldEntityId, Entity)>) {
    for (id, entity) in unlisted {
        tracing::warn!(entity = %id, %zone, "the zone does not know the entity any more; it waits");
        if let Ok(mut entity) = world.get_entity_mut(entity) {
            entity.insert((Frozen, Unlisted));
        }
    }
}

fn thaw(world: &mut World, zone: ZoneId) {
    let mut frozen = world.query_filtered::<(Entity, &OwnedBy), (With<Frozen>, Without<Unlisted>)>();
    let frozen: Vec<Entity> = frozen
        .iter(world)
        .filter(|(_, owned)| owned.zone == zone)
        .map(|(entity, _)| entity)
        .collect();
    tracing::info!(%zone, entities = frozen.len(), "the zone is back");
    for entity in frozen {
        world.entity_mut(entity).remove::<Frozen>();
    }
}

/// Once a tick: finds out which zones are away, and lets go of what nobody told of in time.
pub(crate) fn judge(world: &mut World, tick: Tick) {
    let zones = world.resource::<Zones>();
    let rate = zones.clock.rate();
    let connected = zones.connected();
    let mut views = world.resource_mut::<ZoneViews>();
    let mut went = Vec::new();
    for (zone, is_connected) in connected {
        // Of a zone that was never heard there is nothing that could stand still.
        let Some(view) = views.views.get_mut(&zone) else {
            continue;
        };
        view.silent_ticks = view.silent_ticks.saturating_add(1);
        let is_silent = u64::from(view.silent_ticks) > ticks(rate, SILENCE_MAX);
        if !view.is_away && (is_silent || !is_connected) {
            view.is_away = true;
            went.push(zone);
        }
    }
    let away = views.views.values().filter(|view| view.is_away).count();
    metrics::gauge!(GATEWAY_ZONES_AWAY).set(away as f64);
    for zone in went {
        let entities = mirror::entities_of(world, zone);
        tracing::warn!(%zone, entities = entities.len(), "the zone is away; what it has stands still");
        for (_, entity) in entities {
            if let Ok(mut entity) = world.get_entity_mut(entity) {
                entity.insert(Frozen);
            }
        }
    }
    mirror::drop_unlisted(world, tick);
}
