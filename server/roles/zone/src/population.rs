//! The entities that the zone owns: made from their records, and written into records again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bevy::ecs::entity::Entity;
use bevy::ecs::world::World;
use meridian_fabric::{InputBatch, ProbeTiming};
use meridian_game::component::Selection;
use meridian_game::{EntityHooks, Identity, Move, PlayerInput, Tied, WireError, WorldComponents};
use meridian_handoff::script::Record;
use meridian_handoff::{Allowance, Handoff};
use meridian_ids::{EntityEpoch, PlayerId, Tick, TickClock, WorldEntityId};

use crate::audit::Simulated;
use crate::custody::{Custody, PortId};
use crate::input_ring::{AppliedProbe, INPUT_LOOKAHEAD_TICKS, InputRing};

/// Entities whose inputs are kept before they have come: as many players as a zone may have.
const EXPECTED_MAX: usize = crate::PLAYERS_MAX;
/// Batches kept for each: as many ticks as an input may be ahead.
const EXPECTED_BATCHES_MAX: usize = INPUT_LOOKAHEAD_TICKS as usize;

/// A player's entity, its inputs, and who plays it.
pub(crate) struct Player {
    pub(crate) entity: Entity,
    pub(crate) id: WorldEntityId,
    pub(crate) inputs: InputRing,
    pub(crate) custody: Custody,
}

/// Inputs of an entity that has not come yet, and the gateway that sent the last of them.
struct Expected {
    port: PortId,
    batches: VecDeque<InputBatch>,
}

/// What the zone simulates, by its ids.
#[derive(Default)]
pub(crate) struct Population {
    entities: HashMap<WorldEntityId, Entity>,
    pub(crate) players: HashMap<PlayerId, Player>,
    owners: HashMap<WorldEntityId, PlayerId>,
    /// Inputs of entities that have not come yet, if they ever will: gateways send them to both zones near a border.
    expected: HashMap<WorldEntityId, Expected>,
    /// The gateways of players whose entities are being written down.
    pub(crate) knocks: HashMap<PlayerId, PortId>,
}

/// How an entity is taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrance {
    /// Under which epoch.
    pub(crate) epoch: EntityEpoch,
    /// The tick that the zone simulates next.
    pub(crate) next: Tick,
    /// Whether the ticks since its state are made up for; a record that was read after a crash is taken as it is.
    pub(crate) catch_up: bool,
}

impl Population {
    pub(crate) fn get(&self, id: WorldEntityId) -> Option<Entity> {
        self.entities.get(&id).copied()
    }

    pub(crate) fn player_of(&mut self, id: WorldEntityId) -> Option<&mut Player> {
        let owner = self.owners.get(&id)?;
        self.players.get_mut(owner)
    }

    /// Takes in inputs that a gateway sent: of a player of the zone, or of one that may come.
    pub(crate) fn insert_inputs(&mut self, port: PortId, batch: InputBatch, clock: &TickClock) {
        if let Some(player) = self.player_of(batch.entity) {
            player.custody.heard(port);
            player.inputs.insert(&batch, clock);
            return;
        }
        if self.expected.len() >= EXPECTED_MAX && !self.expected.contains_key(&batch.entity) {
            return;
        }
        let batches = VecDeque::new();
        let expected = self.expected.entry(batch.entity).or_insert(Expected { port, batches });
        expected.port = port;
        if expected.batches.len() >= EXPECTED_BATCHES_MAX {
            expected.batches.pop_front();
        }
        expected.batches.push_back(batch);
    }

    /// A tick was simulated: the players whom no gateway has played for so long that they leave the world.
    pub(crate) fn count_grace(&mut self, is_open: impl Fn(PortId, u32) -> bool) -> Vec<WorldEntityId> {
        let players = self.players.values_mut();
        let over = players.filter_map(|player| player.custody.tick(&is_open).then_some(player.id));
        over.collect()
    }

    /// Players whom no gateway plays.
    pub(crate) fn unplayed(&self) -> usize {
        let players = self.players.values();
        players.filter(|player| !player.custody.is_played()).count()
    }

    /// Forgets inputs of entities that did not come.
    pub(crate) fn forget_expected(&mut self, now: Instant, clock: &TickClock) {
        let longest = clock.rate().tick_duration() * INPUT_LOOKAHEAD_TICKS as u32;
        self.expected.retain(|_, expected| {
            let last = expected.batches.back().map(|batch| batch.forwarded);
            last.is_some_and(|last| now.saturating_duration_since(last) < longest)
        });
    }

    /// Makes an entity from its record, simulated from the tick after the record's on.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the record's bytes are not those of this version of the game; nothing is made then.
    pub(crate) fn admit(
        &mut self,
        world: &mut World,
        record: &Record,
        entrance: Entrance,
        clock: &TickClock,
    ) -> Result<Vec<ProbeTiming>, WireError> {
        let entity = world.spawn_empty().id();
        let applied = world.resource_scope(|world, components: bevy::ecs::change_detection::Mut<WorldComponents>| {
            components.apply(&mut world.entity_mut(entity), &record.state)
        });
        if let Err(error) = applied {
            world.despawn(entity);
            return Err(error);
        }
        let hooks = *world.resource::<EntityHooks>();
        (hooks.embody)(world, entity);
        let after = if entrance.catch_up {
            record.after
        } else {
            entrance.next - 1
        };
        self.entities.insert(record.entity, entity);
        let mut probes = Vec::new();
        if let Some(player) = record.player {
            let expected = self.expected.get(&record.entity).map(|expected| expected.port);
            let port = self.knocks.remove(&player).or(expected);
            let mut inputs = self.inputs_of(record, after, clock);
            if entrance.catch_up {
                catch_up_player(
                    world,
                    (entity, record.entity),
                    &mut inputs,
                    (after, entrance.next),
                    clock,
                    &mut probes,
                );
            }
            self.owners.insert(record.entity, player);
            let played = Player {
                entity,
                id: record.entity,
                inputs,
                custody: Custody::new(clock.rate(), port),
            };
            self.players.insert(player, played);
        } else if entrance.catch_up {
            let behind = entrance.next.0.saturating_sub(after.0 + 1).min(INPUT_LOOKAHEAD_TICKS);
            (0..behind).for_each(|_| (hooks.catch_up)(world, entity));
        }
        world.entity_mut(entity).insert(Simulated {
            entity: record.entity,
            epoch: entrance.epoch,
            from: after.next(),
        });
        Ok(probes)
    }

    /// The inputs for the ticks after `after`: those that came before the entity did, and those that its record brought.
    fn inputs_of(&mut self, record: &Record, after: Tick, clock: &TickClock) -> InputRing {
        let last = record.inputs.iter().rev().find(|(tick, _)| *tick <= record.after);
        let Some((_, last)) = last else {
            return InputRing::new(after.next());
        };
        let mut ring = InputRing::resumed(after.next(), Move::unpack(*last).sanitise().0);
        // First those that came here: they know when.
        let came = self.expected.remove(&record.entity);
        if came.is_none() {
            // Nobody plays it, or by orders, which came with it.
            ring.expect_none();
        }
        for batch in came.into_iter().flat_map(|expected| expected.batches) {
            ring.insert(&batch, clock);
        }
        for (tick, packed) in record.inputs.iter().filter(|(tick, _)| *tick > record.after) {
            ring.insert_handed_over(*tick, *packed, clock);
        }
        ring
    }

    /// An entity's record as it is after `after`.
    pub(crate) fn record(
        &self,
        world: &World,
        id: WorldEntityId,
        (epoch, allowance, after): (EntityEpoch, Allowance, Tick),
        selection: Selection,
    ) -> Option<Record> {
        let entity = world.get_entity(self.get(id)?).ok()?;
        let mut state = Vec::new();
        world
            .resource::<WorldComponents>()
            .encode(entity, selection, &mut state);
        let player = entity.get::<Identity>().and_then(|identity| identity.player);
        let inputs = player.and_then(|player| self.players.get(&player));
        Some(Record {
            entity: id,
            epoch,
            player,
            after,
            allowance,
            state,
            inputs: inputs.map_or_else(Vec::new, |player| player.inputs.handed_over(after)),
        })
    }

    /// The entity that the record's player has already, where it is another one.
    pub(crate) fn other_of_player(&self, record: &Record) -> Option<WorldEntityId> {
        let known = self.players.get(&record.player?)?.id;
        Some(known).filter(|known| *known != record.entity)
    }

    /// Of several entities of its player, this one is played.
    pub(crate) fn play_as(&mut self, id: WorldEntityId) {
        let entity = self.get(id);
        if let (Some(player), Some(entity)) = (self.player_of(id), entity) {
            (player.id, player.entity) = (id, entity);
        }
    }

    /// Takes an entity out of the simulation.
    pub(crate) fn dismiss(&mut self, world: &mut World, id: WorldEntityId) {
        if let Some(player) = self.owners.remove(&id)
            && let Entry::Occupied(played) = self.players.entry(player)
            && played.get().id == id
        {
            played.remove();
        }
        if let Some(entity) = self.entities.remove(&id) {
            world.despawn(entity);
        }
    }

    /// Tells the handoff what an entity is tied to.
    pub(crate) fn join_ties(&self, world: &World, id: WorldEntityId, handoff: &mut Handoff) {
        let tied = self.get(id).and_then(|entity| world.get::<Tied>(entity));
        for other in tied.iter().flat_map(|tied| &tied.to) {
            handoff.join(id, *other);
        }
    }
}

/// Simulates the ticks that passed while a player changed zones, each with its input.
fn catch_up_player(
    world: &mut World,
    (entity, id): (Entity, WorldEntityId),
    inputs: &mut InputRing,
    (after, next): (Tick, Tick),
    clock: &TickClock,
    probes: &mut Vec<ProbeTiming>,
) {
    let hooks = *world.resource::<EntityHooks>();
    let first = after.next().max(next - INPUT_LOOKAHEAD_TICKS);
    for tick in (first.0..next.0).map(Tick) {
        let applied = clock.due(tick);
        let (input, probe) = inputs.take(tick, applied);
        world.entity_mut(entity).insert(input);
        (hooks.catch_up)(world, entity);
        probes.extend(probe.map(|probe| timing(id, probe, applied)));
    }
}

/// What is told of a probed action that was applied in a tick that began at `applied`.
pub(crate) fn timing(entity: WorldEntityId, probe: AppliedProbe, applied: Instant) -> ProbeTiming {
    ProbeTiming {
        entity,
        sequence: probe.sequence,
        received: probe.received,
        forwarded: probe.forwarded,
        applied,
    }
}

/// Sets each player's input of the tick that begins at `began`.
pub(crate) fn set_inputs(
    population: &mut Population,
    world: &mut World,
    (tick, began): (Tick, Instant),
    probes: &mut Vec<ProbeTiming>,
) {
    for player in population.players.values_mut() {
        let (input, probe) = player.inputs.take(tick, began);
        if let Some(mut current) = world.get_mut::<PlayerInput>(player.entity) {
            *current = input;
        }
        probes.extend(probe.map(|probe| timing(player.id, probe, began)));
    }
}
