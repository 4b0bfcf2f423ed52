//! How entities become the zone's and cease to be: each change is written down first, and then done.

use bevy::ecs::entity::Entity;
use meridian_events::Happening;
use meridian_game::component::Selection;
use meridian_game::{EntityHooks, EntityIds, Identity, SpawnPlayer};
use meridian_handoff::script::{Done, Record, Refusal, Transfer};
use meridian_handoff::{Allowance, Arrival, Departure, Step, Verdict};
use meridian_ids::{EntityEpoch, EntityIdMint, PlayerId, Tick, WorldEntityId, ZoneId};

use super::Zone;
use crate::audit::AuditLog;
use crate::facts::{Asked, Told};
use crate::population::Entrance;

/// How far beyond a border an entity must stand to be handed over, in metres: who walks along it is not.
pub const HYSTERESIS_M: f32 = 0.5;

impl Zone {
    /// Takes in what the durable side has done.
    pub(super) fn hear(&mut self) {
        for told in self.facts.hear() {
            match told {
                Told::Begin(records) => self.begin(&records),
                Told::Answer(asked, answer) => self.answered(asked, answer),
                Told::Fenced => self.is_fenced = true,
            }
        }
    }

    /// The zone is this instance's: it goes on with what is written down of it.
    fn begin(&mut self, records: &[Record]) {
        let Some(instance) = self.facts.instance() else { return };
        tracing::info!(zone = %self.config.zone, lease = instance.lease.0, entities = records.len(), "zone claimed");
        for record in records {
            self.handoff.own(record.entity, record.epoch, record.allowance);
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

    fn answered(&mut self, asked: Asked, answer: Option<Result<Done, Refusal>>) {
        match asked {
            Asked::Spawn(record) => self.spawned(&record, answer),
            Asked::Retire(entities) if answer == Some(Ok(Done::Retired)) => {
                let mut log = self.app.world_mut().resource_mut::<AuditLog>();
                log.retired.extend(entities.iter().map(|(entity, _)| *entity));
                for (entity, _) in &entities {
                    let entity = *entity;
                    self.facts.publish(self.next - 1, Happening::Left { entity });
                }
                self.left.extend(entities);
            }
            Asked::Transfer(number) => {
                let steps = self.handoff.answered(number, answer, self.next - 1);
                steps.into_iter().for_each(|step| self.take_step(number, step));
                if !self.handoff.leaving().any(|departure| departure.number == number) {
                    self.departing.remove(&number);
                }
            }
            Asked::Accept(transfer) => match answer {
                Some(Ok(Done::Accepted)) => self.arrived(&transfer),
                other => tracing::warn!(transfer = %transfer.id, answer = ?other, "transfer not accepted"),
            },
            // Nobody knows whether it is written down: it is written down again.
            Asked::Checkpoint(entities) if answer.is_none() => self.touched.extend(entities),
            Asked::Retire(_) | Asked::Checkpoint(_) | Asked::Claim { .. } => {}
        }
    }

    fn spawned(&mut self, record: &Record, answer: Option<Result<Done, Refusal>>) {
        if let Some(player) = record.player {
            self.joining.remove(&player);
        }
        match answer {
            // At a restart the same is asked again for what is known already.
            Some(Ok(Done::Spawned)) if self.handoff.epoch(record.entity).is_none() => {
                self.app
                    .world_mut()
                    .resource_mut::<AuditLog>()
                    .spawned
                    .push(record.entity);
                self.handoff.own(record.entity, record.epoch, record.allowance);
                self.admit(record, false);
                if let Some(player) = record.player {
                    let entity = record.entity;
                    self.facts.publish(self.next - 1, Happening::Joined { player, entity });
                }
            }
            Some(Ok(Done::Exists { entity, zone })) => {
                tracing::debug!(%entity, %zone, "the player has its entity elsewhere");
            }
            // The id came too late, after a younger one: the gateway asks again, and another is minted.
            Some(Err(Refusal::NotOwner(_))) => {}
            Some(Err(refusal)) => {
                if let Some(player) = record.player {
                    self.refuse_join(player, &refusal.to_string());
                }
            }
            _ => {}
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
        self.facts.spawn(Record {
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
        let Some(epoch) = self.handoff.retire(id) else { return };
        self.forget(id);
        self.facts.retire(vec![(id, epoch)]);
        self.hear();
    }

    fn forget(&mut self, id: WorldEntityId) {
        self.population.dismiss(self.app.world_mut(), id);
        self.rest.disturb();
        self.touched.remove(&id);
        self.held.retain(|record| record.entity != id);
    }

    /// Entities are the zone's now.
    fn arrived(&mut self, transfer: &Transfer) {
        self.metrics.arrived.increment(transfer.records.len() as u64);
        for record in &transfer.records {
            if self
                .handoff
                .epoch(record.entity)
                .is_none_or(|known| known < record.epoch)
            {
                self.handoff.own(record.entity, record.epoch, record.allowance);
                self.admit(record, true);
            }
        }
    }

    /// Entities that came early and whose time has come.
    pub(super) fn admit_held(&mut self, tick: Tick) {
        let due: Vec<Record> = self.held.extract_if(.., |record| record.after < tick).collect();
        for record in &due {
            self.admit_at(record, tick, true);
        }
    }

    /// Simulates an entity of the zone from its record on, once it is time.
    fn admit(&mut self, record: &Record, catch_up: bool) {
        let next = self.next;
        match Arrival::new(record.after, next) {
            Arrival::Hold(_) if catch_up => self.held.push(record.clone()),
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
        match self.population.admit(world, record, entrance, &self.config.clock) {
            Ok(probes) => {
                self.probes.extend(probes);
                self.population.join_ties(world, record.entity, &mut self.handoff);
                self.touched.insert(record.entity);
                self.rest.disturb();
            }
            // Its record stays where it is: a version of the game that understands it will find it there.
            Err(error) => tracing::error!(entity = %record.entity, %error, "record not understood; the entity waits"),
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
            if self.handoff.leads(entity)
                && let Verdict::Leave(departure) = self.handoff.cross(entity, to, tick)
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
            self.handoff
                .answered(departure.number, Some(Ok(Done::Kept)), departure.after);
            return;
        }
        let is_neighbour = self.peers.iter().any(|peer| peer.zone == departure.to);
        // What others did to each other before is not older than what leaves.
        self.checkpoint(departure.after);
        for record in &records {
            self.forget(record.entity);
            // Who is put far away, as who dies and starts again, is seen from here no longer.
            if is_neighbour {
                let (world, bytes) = (self.app.world_mut(), &record.state);
                let as_ghost = (record.entity, record.epoch);
                self.ghosts
                    .freeze(world, as_ghost, (departure.to, departure.after), bytes);
            }
        }
        self.departing.insert(departure.number, records.clone());
        self.facts.transfer(departure.number, departure.to, records);
    }

    fn take_step(&mut self, number: u64, step: Step) {
        match step {
            Step::Departed { entity, epoch, to } => {
                tracing::debug!(%entity, %to, "handed over");
                self.facts
                    .publish(self.next - 1, Happening::HandedOff { entity, epoch, to });
                self.metrics.departed.increment(1);
            }
            Step::Resume { entity, .. } => {
                self.metrics.resumed.increment(1);
                let records = self.departing.get(&number);
                let record = records.and_then(|records| records.iter().find(|record| record.entity == entity));
                if let Some(record) = record.cloned() {
                    // It never left: it has the epoch that it had.
                    let epoch = self.handoff.epoch(entity).unwrap_or(record.epoch);
                    self.admit(&Record { epoch, ..record }, true);
                }
            }
            Step::Settle(number) => {
                let departure = self.handoff.leaving().find(|departure| departure.number == number);
                let entities = departure.into_iter().flat_map(|departure| &departure.entities);
                let entities = entities.map(|(entity, epoch, _)| (*entity, *epoch)).collect();
                self.facts.settle(number, entities);
            }
            Step::Disowned(entity) => {
                tracing::error!(%entity, "the entity is another zone's; dropped");
                self.forget(entity);
                self.ghosts.remove(self.app.world_mut(), entity);
            }
            Step::Stop => self.is_fenced = true,
        }
    }

    /// Writes down what has changed since the last checkpoint, as it is after `tick`.
    pub(super) fn checkpoint(&mut self, tick: Tick) {
        let touched = std::mem::take(&mut self.touched);
        let records = touched.into_iter().filter_map(|id| {
            let (epoch, allowance) = (self.handoff.epoch(id)?, self.handoff.allowance(id)?);
            let of = (epoch, allowance, tick);
            self.population
                .record(self.app.world(), id, of, Selection::Checkpointed)
        });
        let records = records.collect();
        self.facts.checkpoint(records);
    }
}
