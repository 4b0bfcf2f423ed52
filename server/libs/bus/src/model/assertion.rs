//! What living instances say once more after the store was restarted, and what is made of it: the highest epoch wins.

use std::time::Duration;

use meridian_handoff::LEASE_TTL;
use meridian_handoff::script::{Done, Instance, Record, Refusal, Transfer};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, WorldEntityId, ZoneId};

use super::{Model, Owner};
use crate::told;

/// What an instance owns, what it gave away, and what it took out of the world.
type Asserted<'a> = (&'a [Record], &'a [Transfer], &'a [(WorldEntityId, EntityEpoch)]);

/// The zone in which an entity came into the world: its id says so.
fn minted_by(entity: WorldEntityId) -> ZoneId {
    ZoneId((entity.minter() >> 16) as u16)
}

impl Model {
    /// The lease of this generation for an instance that had one in an earlier.
    pub(super) fn assert_lease(&mut self, now: Duration, by: Instance, name: &str) -> Result<LeaseEpoch, Refusal> {
        if by.lease.generation() > self.generation {
            // It comes from a life of the store that left no trace: this one is to outrank it.
            let next = Generation(by.lease.generation().0.wrapping_add(1));
            self.restart(now, next);
        }
        let generation = self.generation;
        // Of what left the world that long ago nothing is known any more: it would be brought back.
        let said = by.lease.generation();
        if said != generation && (self.has_forgotten(now) || said < self.heard_from) {
            return Err(Refusal::Fenced);
        }
        let zone = self.zone(by.zone);
        let is_let_in = zone.fence.generation() == generation;
        let may = if by.lease.generation() == generation {
            zone.fence == by.lease
        } else if is_let_in {
            // Said once more, or after an instance that this one had replaced.
            zone.asserted.is_some_and(|asserted| asserted <= by.lease)
        } else {
            zone.fence <= by.lease
        };
        if !may {
            return Err(Refusal::Fenced);
        }
        let is_new = by.lease.generation() != generation && zone.asserted.filter(|_| is_let_in) != Some(by.lease);
        if is_new {
            let count = zone.fence.count().max(by.lease.count()).wrapping_add(1);
            zone.fence = LeaseEpoch::new(generation, count);
            zone.asserted = Some(by.lease);
        }
        zone.leased_until = Some(now + LEASE_TTL);
        name.clone_into(&mut zone.holder);
        Ok(zone.fence)
    }

    pub(super) fn assert(
        &mut self,
        now: Duration,
        by: Instance,
        lease: LeaseEpoch,
        (owned, departed, retired): Asserted<'_>,
    ) -> Done {
        let after = told::last_tick(owned);
        let kept = owned
            .iter()
            .filter_map(|record| Some((record.entity, self.assert_owned(now, by, record)?)));
        let kept: Vec<_> = kept.collect();
        for (entity, epoch) in retired {
            // It may have been asserted in this generation before its zone gave it up.
            let raised = epoch.in_generation(self.generation);
            let owner = self.owners.get(entity);
            if owner.is_none_or(|owner| owner.epoch <= raised) {
                self.events.extend(owner.map(|_| told::left(by, *entity, after)));
                self.bury(now, *entity, *epoch);
            }
        }
        for transfer in departed {
            self.assert_departed(now, transfer);
        }
        let departed = departed.iter().flat_map(|transfer| &transfer.records);
        let owned = owned.iter().chain(departed).map(|record| record.entity);
        let retired = retired.iter().map(|(entity, _)| *entity);
        self.note_spawned(by.zone, owned.chain(retired));
        Done::Asserted { lease, owned: kept }
    }

    fn is_buried(&self, record: &Record) -> bool {
        self.retired
            .get(&record.entity)
            .is_some_and(|(_, epoch)| *epoch >= record.epoch)
    }

    /// The other entities of the player, and who owns them.
    fn others_of_player(&self, record: &Record) -> Vec<(WorldEntityId, Owner)> {
        let of_player = record.player.into_iter().flat_map(|player| self.entities_of(player));
        of_player.filter(|(other, _)| *other != record.entity).collect()
    }

    /// Whether somebody has said in this generation that the player has another entity, or in one that this record's owner knows nothing of.
    fn has_another(&self, record: &Record) -> bool {
        let others = self.others_of_player(record).into_iter();
        let mut said = others.map(|(_, owner)| owner.epoch.generation());
        said.any(|said| said == self.generation || said > record.epoch.generation())
    }

    /// Whether the player has another entity. Then this one has left; what an earlier owner of it said does not count any more either.
    fn is_outdone(&mut self, now: Duration, record: &Record) -> bool {
        let is_outdone = self.has_another(record);
        let known = self.owners.get(&record.entity);
        if is_outdone && known.is_some_and(|known| known.epoch <= record.epoch) {
            self.bury(now, record.entity, record.epoch);
        }
        is_outdone
    }

    /// The epoch under which the zone has the entity now, unless it is another's.
    fn assert_owned(&mut self, now: Duration, by: Instance, record: &Record) -> Option<EntityEpoch> {
        let zone = by.zone;
        let epoch = record.epoch.in_generation(self.generation);
        let known = self.owners.get(&record.entity).copied();
        let is_theirs = known.is_some_and(|known| {
            let is_here = known.zone == zone;
            let is_said_again = is_here && !known.in_transit && known.epoch == epoch;
            known.epoch > record.epoch && !is_said_again || known.epoch == record.epoch && !is_here
        });
        if is_theirs || self.is_outdone(now, record) || self.is_buried(record) {
            return None;
        }
        // Who has said nothing yet of another entity of the player took it out of the world before this one came into it.
        for (other, known) in self.others_of_player(record) {
            self.bury(now, other, known.epoch);
        }
        if let Some(known) = known.filter(|known| known.zone != zone && !known.in_transit) {
            self.zone(known.zone).records.remove(&record.entity);
        }
        if let Some(player) = record.player {
            self.players.entry(player).or_default().insert(record.entity);
        }
        // What is said again, and was long on its way, does not open what was closed since.
        let is_said_again =
            known.is_some_and(|known| (known.zone, known.epoch, known.in_transit) == (zone, epoch, false));
        if !is_said_again {
            self.owners.insert(record.entity, Owner::new(zone, epoch, false));
        }
        if known.is_none() {
            self.events.extend(told::joined(by, record));
        }
        let records = &mut self.zone(zone).records;
        let younger = records
            .get(&record.entity)
            .filter(|known| known.after > record.after)
            .cloned();
        let record = younger.unwrap_or_else(|| record.clone());
        records.insert(record.entity, Record { epoch, ..record });
        Some(epoch)
    }

    /// Whether the entity came into the world in what the store has not lost: if it is nowhere now, it has left.
    fn was_spawned(&self, entity: WorldEntityId) -> bool {
        let minter = entity.minter();
        let zone = self.zones.get(&minted_by(entity));
        zone.is_some_and(|zone| zone.last_spawned.get(&minter) >= Some(&entity))
    }

    /// Entities that came into the world in the zone, and whose spawn may have been lost, cannot be spawned again.
    fn note_spawned(&mut self, zone: ZoneId, entities: impl Iterator<Item = WorldEntityId>) {
        let spawned = &mut self.zone(zone).last_spawned;
        for entity in entities.filter(|entity| minted_by(*entity) == zone) {
            let last = spawned.entry(entity.minter()).or_insert(entity);
            *last = entity.max(*last);
        }
    }

    /// A handover that was lost happens once more.
    fn assert_departed(&mut self, now: Duration, transfer: &Transfer) {
        let mut lost = Vec::with_capacity(transfer.records.len());
        for record in &transfer.records {
            let is_lost = match self.owners.get(&record.entity) {
                Some(known) => known.epoch < record.epoch,
                None => !self.was_spawned(record.entity),
            };
            if is_lost && !self.is_buried(record) && !self.is_outdone(now, record) {
                lost.push(record.clone());
            }
        }
        for record in &lost {
            let known = self.owners.get(&record.entity).copied();
            if let Some(known) = known.filter(|known| !known.in_transit) {
                self.zone(known.zone).records.remove(&record.entity);
            }
            if let Some(player) = record.player {
                self.players.entry(player).or_default().insert(record.entity);
            }
            let owner = Owner::new(transfer.to, record.epoch, true);
            self.owners.insert(record.entity, owner);
            self.events.push(told::handed_off(transfer, record));
        }
        if !lost.is_empty() {
            let inbox = &mut self.zone(transfer.to).inbox;
            inbox.retain(|waiting| waiting.id != transfer.id);
            inbox.push(Transfer {
                records: lost,
                ..transfer.clone()
            });
        }
    }
}

#[cfg(test)]
mod tests;
