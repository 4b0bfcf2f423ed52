//! What stands near a border: told to the neighbour each tick, and shown here as read-only copies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bevy::ecs::entity::Entity;
use bevy::ecs::query::QueryState;
use bevy::ecs::world::{EntityRef, World};
use meridian_fabric::{EntitySnapshot, Ghosts, PassedAction, PeerEnd, PeerMessage};
use meridian_game::component::Selection;
use meridian_game::{EntityHooks, Ghost, Pose, WorldComponents};
use meridian_handoff::Handoff;
use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId, ZoneId, ZoneMap};

use crate::audit::Simulated;

/// How near to a neighbour's place an entity must stand for the neighbour to be told of it, in metres.
pub const GHOST_REACH_M: f32 = 8.0;
/// Ticks that the copy of an entity that was handed over waits for its new owner to tell of it.
const UNTOLD_TICKS_MAX: u64 = 60;
/// Messages of one neighbour handled in a tick.
const MESSAGES_PER_TICK_MAX: usize = 512;

/// A neighbouring zone.
#[derive(Clone)]
pub struct Peer {
    /// Which.
    pub zone: ZoneId,
    /// The connection to it.
    pub end: Arc<dyn PeerEnd>,
}

struct Shown {
    copy: Entity,
    zone: ZoneId,
    epoch: EntityEpoch,
    /// The tick in which it was handed over, until its new owner has told of it.
    untold_since: Option<Tick>,
}

/// What a neighbour wants of the zone's own entities.
#[derive(Default)]
pub(crate) struct Received {
    /// Velocities that pushes ask for, in metres per second.
    pub(crate) pushes: Vec<(WorldEntityId, [f32; 3])>,
    pub(crate) actions: Vec<PassedAction>,
    /// Whether any of it, or any ghost, is new.
    pub(crate) is_news: bool,
}

/// The copies of neighbours' entities.
#[derive(Default)]
pub(crate) struct GhostTable {
    shown: HashMap<WorldEntityId, Shown>,
    leases: HashMap<ZoneId, LeaseEpoch>,
    /// What each neighbour told last.
    told: HashMap<ZoneId, Arc<Ghosts>>,
    /// What the neighbours are told of.
    owned: Option<QueryState<Owned>>,
}

type Owned = (EntityRef<'static>, &'static Simulated, &'static Pose);

impl GhostTable {
    pub(crate) fn len(&self) -> usize {
        self.shown.len()
    }

    /// The entity is nobody else's any more, or gone.
    pub(crate) fn remove(&mut self, world: &mut World, entity: WorldEntityId) {
        if let Some(shown) = self.shown.remove(&entity) {
            world.despawn(shown.copy);
        }
    }

    /// The entity was handed over: until its new owner tells of it, it stands as it was.
    pub(crate) fn freeze(
        &mut self,
        world: &mut World,
        (entity, epoch): (WorldEntityId, EntityEpoch),
        (zone, tick): (ZoneId, Tick),
        bytes: &[u8],
    ) {
        self.show(world, (entity, epoch), zone, bytes);
        if let Some(shown) = self.shown.get_mut(&entity) {
            shown.untold_since = Some(tick);
        }
    }

    /// Who has the entity, as far as the zone was told.
    pub(crate) fn owner(&self, entity: WorldEntityId) -> Option<ZoneId> {
        self.shown.get(&entity).map(|shown| shown.zone)
    }

    /// Takes in what a neighbour told.
    pub(crate) fn receive(&mut self, world: &mut World, peer: &Peer, handoff: &Handoff) -> Received {
        let mut received = Received::default();
        let mut newest = None;
        for _ in 0..MESSAGES_PER_TICK_MAX {
            match peer.end.try_receive() {
                // Each is whole: only the last counts.
                Some(PeerMessage::Ghosts(ghosts)) => newest = Some(ghosts),
                Some(PeerMessage::Push { entity, velocity }) => received.pushes.push((entity, velocity)),
                Some(PeerMessage::Action(action)) => received.actions.push(action),
                None => break,
            }
        }
        received.is_news = !received.pushes.is_empty() || !received.actions.is_empty();
        if let Some(ghosts) = newest {
            self.take(world, peer.zone, &ghosts, handoff);
            let last = self.told.insert(peer.zone, Arc::clone(&ghosts));
            received.is_news |= last.is_none_or(|last| last.entities != ghosts.entities || last.bytes != ghosts.bytes);
        }
        received
    }

    fn take(&mut self, world: &mut World, zone: ZoneId, ghosts: &Ghosts, handoff: &Handoff) {
        let lease = self.leases.entry(zone).or_default();
        if ghosts.lease < *lease {
            return;
        }
        *lease = ghosts.lease;
        let mut listed = HashSet::with_capacity(ghosts.entities.len());
        for entry in &ghosts.entities {
            let is_older = self
                .shown
                .get(&entry.entity)
                .is_some_and(|shown| shown.epoch > entry.epoch);
            // What is the zone's own is nobody's ghost, whatever a neighbour that has not heard of it yet may say.
            if is_older || handoff.epoch(entry.entity).is_some() {
                continue;
            }
            listed.insert(entry.entity);
            self.show(world, (entry.entity, entry.epoch), zone, ghosts.bytes_of(entry));
        }
        let gone = self.shown.iter().filter(|(entity, shown)| {
            let is_awaited = shown
                .untold_since
                .is_some_and(|since| ghosts.tick.since(since) < UNTOLD_TICKS_MAX as i64);
            shown.zone == zone && !listed.contains(*entity) && !is_awaited
        });
        let gone: Vec<WorldEntityId> = gone.map(|(entity, _)| *entity).collect();
        gone.into_iter().for_each(|entity| self.remove(world, entity));
    }

    fn show(&mut self, world: &mut World, (entity, epoch): (WorldEntityId, EntityEpoch), zone: ZoneId, bytes: &[u8]) {
        let known = self.shown.get(&entity).map(|shown| shown.copy);
        let copy = known.unwrap_or_else(|| world.spawn_empty().id());
        let applied = world.resource_scope(|world, components: bevy::ecs::change_detection::Mut<WorldComponents>| {
            let mut copy = world.entity_mut(copy);
            copy.insert(Ghost { zone });
            components.apply(&mut copy, bytes)
        });
        let shown = Shown {
            copy,
            zone,
            epoch,
            untold_since: None,
        };
        self.shown.insert(entity, shown);
        match applied {
            Ok(()) if known.is_none() => {
                let hooks = *world.resource::<EntityHooks>();
                (hooks.embody_ghost)(world, copy);
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%entity, %zone, %error, "a neighbour's entity is not understood");
                self.remove(world, entity);
            }
        }
    }

    /// Tells each neighbour what stands near the border to it.
    pub(crate) fn send(&mut self, world: &mut World, peers: &[Peer], map: &ZoneMap, (lease, tick): (LeaseEpoch, Tick)) {
        if peers.is_empty() {
            return;
        }
        let mut told: Vec<Ghosts> = peers.iter().map(|_| empty(lease, tick)).collect();
        let owned = self.owned.get_or_insert_with(|| world.query());
        owned.update_archetypes(world);
        let components = world.resource::<WorldComponents>();
        for (entity, simulated, pose) in owned.iter_manual(world) {
            let point = [pose.position.x, pose.position.z];
            for (peer, ghosts) in peers.iter().zip(&mut told) {
                let is_near = map
                    .area(peer.zone)
                    .is_some_and(|area| area.distance(point) <= GHOST_REACH_M);
                if is_near {
                    append(ghosts, components, entity, simulated);
                }
            }
        }
        for (peer, ghosts) in peers.iter().zip(told) {
            // A neighbour that does not keep up misses ticks, and nothing else: each message is whole.
            let _ = peer.end.send(PeerMessage::Ghosts(Arc::new(ghosts)));
        }
    }
}

fn empty(lease: LeaseEpoch, tick: Tick) -> Ghosts {
    Ghosts {
        lease,
        tick,
        entities: Vec::new(),
        bytes: Vec::new(),
    }
}

fn append(ghosts: &mut Ghosts, components: &WorldComponents, entity: EntityRef<'_>, simulated: &Simulated) {
    let start = ghosts.bytes.len() as u32;
    components.encode(entity, Selection::Ghost, &mut ghosts.bytes);
    ghosts.entities.push(EntitySnapshot {
        entity: simulated.entity,
        epoch: simulated.epoch,
        whole: true,
        range: start..ghosts.bytes.len() as u32,
    });
}
