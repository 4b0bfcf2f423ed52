//! How entities become the zone's and cease to be: each change is written down first, and then done.

use std::time::Instant;

use bevy::ecs::entity::Entity;
use meridian_fabric::desk::Answer;
use meridian_game::component::Selection;
use meridian_game::{EntityHooks, EntityIds, Identity, SpawnPlayer};
use meridian_handoff::script::{Record, Refusal};
use meridian_handoff::{Allowance, Arrival, Departure, News, NotSpawned, Wait};
use meridian_ids::{EntityEpoch, EntityIdMint, PlayerId, Tick, WorldEntityId, ZoneId};

use super::Zone;
use crate::audit::{AuditLog, Simulated};
use crate::population::Entrance;

/// How far beyond a border an entity must stand to be handed over, in metres: who walks along it is not.
pub const HYSTERESIS_M: f32 = 0.5;

impl Zone {
    /// Takes in what the durable side has done.
    pub(super) fn hear(&mut self) {
        loop {
            self.facts.pump(self.next - 1);
            let Some(news) = self.facts.next_news() else { return };
            self.take_news(news);
        }
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::Begun(records) => self.begin(&records),
            News::Waiting(wait) => {
                let why = match wait {
                    Wait::Taken => "another instance has it; this one takes over when that one's lease ends",
                    Wait::Settling => "the store was restarted, and instances that live come first",
                };
                tracing::info!(zone = %self.config.zone, why, "waiting for the zone");
            }
            News::Spawned(record) => self.spawned(&record),
            News::NotSpawned(record, why) => self.not_spawned(&record, why),
            News::Retired(entities) => self.retired(entities),
            News::NotWritten(entities) => self.touched.extend(entities),
            News::Arrived(records) => self.arrived(&records),
            News::Departed { entity, epoch, to } => {
                tracing::debug!(%entity, %to, "handed over");
                self.metrics.departed.increment(1);
                let zone = self.config.world.zone_name(self.config.zone);
                self.facts.traces.departed(entity, Some(epoch), zone);
            }
            News::Resumed(record) => {
                self.metrics.resumed.increment(1);
                let zone = self.config.world.zone_name(self.config.zone);
                self.facts.traces.departed(record.entity, None, zone);
                if let Some(player) = record.player {
                    self.orders.arrived(player);
                }
                self.admit(&record, true);
            }
            News::Disowned(entity) => {
                tracing::error!(%entity, "the entity is another zone's; dropped");
                self.forget(entity);
                self.ghosts.remove(self.app.world_mut(), entity);
            }
            News::AssertionDue => self.assert(),
            News::Asserted => self.asserted(),
            News::Fenced => self.is_fenced = true,
        }
    }

    /// The zone is this instance's: it goes on with what is written down of it.
    fn begin(&mut self, records: &[Record]) {
        let Some(instance) = self.facts.instance() else { return };
        // What players did after this is gone with the instance before.
        let of_players = records.iter().filter(|record| record.player.is_some());
        let written_until = of_players.map(|record| record.after).min();
        if let Some(tick) = written_until {
            self.metrics.claimed_after_tick.set(tick.0 as f64);
        }
        tracing::info!(zone = %self.config.zone, lease = instance.lease.0, entities = records.len(), ?written_until, "zone claimed");
        for record in records {
            self.admit(record, false);
        }
        // What stands in the world at its beginning has the same ids each time: what was written down before is not written again.
        let mint = |lease| EntityIds(EntityIdMint::new(instance.zone, lease));
        self.app.insert_resource(mint(self.config.before));
        let hooks = *self.app.world().resource::<EntityHooks>();
        (hooks.populate)(self.app.world_mut());
        self.write_down_new();
        self.app.insert_resource(mint(instance.lease));
    }

    /// The store was restarted: it is told all that the zone has.
    fn assert(&mut self) {
        tracing::warn!(zone = %self.config.zone, "the store was restarted; the zone says again what it has");
        let after = self.next - 1;
        let owned: Vec<WorldEntityId> = self.facts.handoff().owned().map(|(entity, ..)| entity).collect();
        let records = owned
            .into_iter()
            .filter_map(|entity| self.record(entity, after, Selection::Checkpointed));
        let mut records: Vec<Record> = records.collect();
        records.extend(self.held.iter().cloned());
        self.facts.ownership.assert(records);
    }

    /// What the zone owns has other epochs: everybody is told all of it once more.
    fn asserted(&mut self) {
        let Some(instance) = self.facts.instance() else { return };
        tracing::info!(zone = %self.config.zone, lease = instance.lease.0, "the store has taken in what the zone has");
        let (world, handoff) = (self.app.world_mut(), self.facts.handoff());
        let mut simulated = world.query::<&mut Simulated>();
        for mut simulated in simulated.iter_mut(world) {
            if let Some(epoch) = handoff.epoch(simulated.entity) {
                simulated.epoch = epoch;
            }
        }
        for record in &mut self.held {
            if let Some(epoch) = handoff.epoch(record.entity) {
                record.epoch = epoch;
            }
        }
        self.ports.tell_all();
        self.app.world_mut().resource_mut::<AuditLog>().tell_all();
        self.rest.disturb();
    }

    /// An owned entity's record as it is after a tick.
    fn record(&self, entity: WorldEntityId, after: Tick, selection: Selection) -> Option<Record> {
        let handoff = self.facts.handoff();
        let of = (handoff.epoch(entity)?, handoff.allowance(entity)?, after);
        self.population.record(self.app.world(), entity, of, selection)
    }

    fn retired(&mut self, entities: Vec<(WorldEntityId, EntityEpoch)>) {
        let mut log = self.app.world_mut().resource_mut::<AuditLog>();
        log.retired.extend(entities.iter().map(|(entity, _)| *entity));
        self.left.extend(entities);
    }

    fn spawned(&mut self, record: &Record) {
        self.app
            .world_mut()
            .resource_mut::<AuditLog>()
            .spawned
            .push(record.entity);
        self.admit(record, false);
        if let Some(player) = record.player {
            self.joining.remove(&player);
        }
    }

    fn not_spawned(&mut self, record: &Record, why: NotSpawned) {
        let Some(player) = record.player else { return };
        self.joining.remove(&player);
        match why {
            NotSpawned::Exists(entity, zone) => {
                tracing::debug!(%entity, %zone, "the player has its entity elsewhere");
                self.orders.not_joined(player, &Answer::Elsewhere(Some(zone)));
            }
            // The id came too late, after a younger one: the gateway asks again, and another is minted.
            NotSpawned::Refused(Refusal::NotOwner(_)) => self.orders.not_joined(player, &Answer::Elsewhere(None)),
            NotSpawned::Refused(refusal) => self.refuse_join(player, &refusal.to_string()),
        }
    }

    /// Entities that the game made are asked to be written down, and are in the world once they are.
    pub(super) fn write_down_new(&mut self) {
        let world = self.app.world_mut();
        let new: Vec<(Entity, Identity)> = self
            .unwritten
            .iter(world)
            .map(|(entity, identity)| (entity, *identity))
            .collect();
        for (entity, identity) in new {
            self.write_down(entity, identity);
        }
    }

    fn write_down(&mut self, entity: Entity, identity: Identity) {
        let world = self.app.world_mut();
        let mut state = Vec::new();
        if let Ok(entity) = world.get_entity(entity) {
            let components = world.resource::<meridian_game::WorldComponents>();
            components.encode(entity, Selection::HandedOff, &mut state);
        }
        world.despawn(entity);
        let now = self.next;
        self.facts.ownership.spawn(Record {
            entity: identity.entity,
            epoch: EntityEpoch(1),
            player: identity.player,
            after: now - 1,
            allowance: Allowance::full(now),
            state,
            inputs: Vec::new(),
        });
    }

    /// Makes an entity for a player; it is in the world once it is written down.
    pub(super) fn spawn_player(&mut self, player: PlayerId, name: &str) -> Result<(), &'static str> {
        let world = self.app.world_mut();
        let mut ids = world.get_resource_mut::<EntityIds>().ok_or("the zone has no lease")?;
        let id = ids.0.mint().ok_or("the zone ran out of entity ids")?;
        let spawn = *world
            .get_resource::<SpawnPlayer>()
            .ok_or("the game lets no players in")?;
        let entity = (spawn.0)(world, id, player, name);
        let identity = Identity {
            entity: id,
            player: Some(player),
        };
        self.write_down(entity, identity);
        self.hear();
        Ok(())
    }

    /// Takes an entity of the zone out of the world.
    pub(super) fn retire(&mut self, id: WorldEntityId) {
        let after = self.next - 1;
        // What it did to others, or died of, is not older than its leaving.
        self.checkpoint(after);
        if self.facts.ownership.retire(id, after) {
            self.forget(id);
            self.hear();
        }
    }

    fn forget(&mut self, id: WorldEntityId) {
        self.population.dismiss(self.app.world_mut(), id);
        self.rest.disturb();
        self.touched.remove(&id);
        self.held.retain(|record| record.entity != id);
    }

    /// Entities are the zone's now.
    fn arrived(&mut self, records: &[Record]) {
        self.metrics.arrived.increment(records.len() as u64);
        let now = Instant::now();
        for record in records {
            let since = now.saturating_duration_since(self.config.clock.due(record.after));
            self.metrics.handoff_seconds.record(since.as_secs_f64());
            if let Some(player) = record.player {
                self.joining.remove(&player);
                self.orders.arrived(player);
            }
            let zone = self.config.world.zone_name(self.config.zone);
            self.facts.traces.arrived(record, zone);
            self.admit(record, true);
        }
    }

    /// Entities that came early and whose time has come.
    pub(super) fn admit_held(&mut self, tick: Tick) {
        let due: Vec<Record> = self.held.extract_if(.., |record| record.after < tick).collect();
        for record in &due {
            self.admit_at(record, tick, true);
        }
    }

    /// Simulates an entity of the zone from its record on, once it is time, and once the zone may. What is read after a crash is not made up for: its
    /// ticks were simulated already. It is not to be simulated in them again either, where this machine's clock is behind.
    fn admit(&mut self, record: &Record, catch_up: bool) {
        let next = self.next;
        match Arrival::new(record.after, next) {
            Arrival::Hold(_) => self.held.push(record.clone()),
            Arrival::CatchUp(_) if catch_up && !self.facts.may_simulate(self.now) => self.held.push(record.clone()),
            _ => self.admit_at(record, next, catch_up),
        }
    }

    fn admit_at(&mut self, record: &Record, next: Tick, catch_up: bool) {
        let world = self.app.world_mut();
        self.ghosts.remove(world, record.entity);
        let entrance = Entrance {
            epoch: record.epoch,
            next,
            catch_up,
        };
        let twin = self.population.other_of_player(record);
        match self.population.admit(world, record, entrance, &self.config.clock) {
            Ok(probes) => {
                self.probes.extend(probes);
                self.population
                    .join_ties(world, record.entity, self.facts.ownership.handoff_mut());
                self.touched.insert(record.entity);
                self.rest.disturb();
                if let Some(twin) = twin {
                    self.part_twins(record.entity, twin);
                }
            }
            // Its record stays where it is: a version of the game that understands it will find it there.
            Err(error) => tracing::error!(entity = %record.entity, %error, "record not understood; the entity waits"),
        }
    }

    /// A player has one entity. Only after a zone died together with what the store had of it can there be two, of which the younger stays.
    fn part_twins(&mut self, one: WorldEntityId, other: WorldEntityId) {
        tracing::warn!(%one, %other, zone = %self.config.zone, "a player has two entities; the older leaves the world");
        let (older, younger) = (one.min(other), one.max(other));
        self.population.play_as(younger);
        if self.facts.ownership.retire(older, self.next - 1) {
            self.forget(older);
        }
    }

    /// After `tick`: what stands far enough in a neighbour's place is frozen and sent there.
    pub(super) fn hand_over(&mut self, tick: Tick) {
        let zone = self.config.zone;
        let world = self.app.world_mut();
        let map = &self.map;
        let crossing: Vec<(WorldEntityId, ZoneId)> = self
            .owned
            .iter(world)
            .filter_map(|(simulated, pose)| {
                let to = map.destination(zone, [pose.position.x, pose.position.z], HYSTERESIS_M)?;
                Some((simulated.entity, to))
            })
            .collect();
        for (entity, to) in crossing {
            if self.facts.handoff().leads(entity)
                && let Some(departure) = self.facts.ownership.cross(entity, to, tick)
            {
                self.depart(&departure);
            }
        }
        self.hear();
    }

    fn depart(&mut self, departure: &Departure) {
        let mut records = Vec::with_capacity(departure.entities.len());
        for (id, epoch, allowance) in &departure.entities {
            let of = (*epoch, *allowance, departure.after);
            records.extend(self.population.record(self.app.world(), *id, of, Selection::HandedOff));
        }
        if records.len() < departure.entities.len() {
            // One of them is owned and not simulated: none of them goes.
            tracing::error!(
                transfer = departure.number,
                "not all that is tied together is simulated here; it stays"
            );
            self.facts.ownership.stay(departure);
            return;
        }
        let is_neighbour = self.peers.iter().any(|peer| peer.zone == departure.to);
        // What others did to each other before is not older than what leaves.
        self.checkpoint(departure.after);
        for record in &records {
            self.facts.traces.departs(record);
            if let Some(player) = record.player {
                self.orders.departed(player, departure.to);
            }
            self.forget(record.entity);
            // Who is put far away, as who dies and starts again, is seen from here no longer.
            if is_neighbour {
                let (world, bytes) = (self.app.world_mut(), &record.state);
                let as_ghost = (record.entity, record.epoch);
                self.ghosts
                    .freeze(world, as_ghost, (departure.to, departure.after), bytes);
            }
        }
        self.facts.ownership.depart(departure, records);
    }

    /// Writes down who died, and as what they started again: a fact does not wait.
    pub(super) fn write_down_deaths(&mut self, tick: Tick) {
        if self.died.is_empty() {
            return;
        }
        let died = std::mem::take(&mut self.died);
        let records = died
            .iter()
            .filter_map(|death| self.record(death.entity, tick, Selection::Checkpointed));
        let records = records.collect();
        self.facts.ownership.checkpoint(records, died);
    }

    /// Writes down what has changed since the last checkpoint, as it is after `tick`, and who died.
    pub(super) fn checkpoint(&mut self, tick: Tick) {
        let touched = std::mem::take(&mut self.touched);
        let records = touched
            .into_iter()
            .filter_map(|id| self.record(id, tick, Selection::Checkpointed));
        let records = records.collect();
        self.facts.ownership.checkpoint(records, std::mem::take(&mut self.died));
    }
}
