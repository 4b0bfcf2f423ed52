//! What living instances say once more after the store was restarted, and what is made of it: the highest epoch wins.

use std::time::Duration;

use meridian_handoff::LEASE_TTL;
use meridian_handoff::script::{Done, Instance, Record, Refusal, Transfer};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, WorldEntityId, ZoneId};

use super::{Model, Owner};

/// What an instance owns, what it gave away, and what it took out of the world.
type Asserted<'a> = (&'a [Record], &'a [Transfer], &'a [(WorldEntityId, EntityEpoch)]);

impl Model {
    /// The lease of this generation for an instance that had one in an earlier.
    pub(super) fn assert_lease(&mut self, now: Duration, by: Instance, name: &str) -> Result<LeaseEpoch, Refusal> {
        if by.lease.generation() > self.generation {
            // It comes from a life of the store that left no trace: this one is to outrank it.
            let next = Generation(by.lease.generation().0.wrapping_add(1));
            self.restart(now, next);
        }
        let generation = self.generation;
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
        zone: ZoneId,
        lease: LeaseEpoch,
        (owned, departed, retired): Asserted<'_>,
    ) -> Done {
        let kept = owned
            .iter()
            .filter_map(|record| Some((record.entity, self.assert_owned(zone, record)?)));
        let kept = kept.collect();
        for transfer in departed {
            self.assert_departed(transfer);
        }
        for (entity, epoch) in retired {
            if self.owners.get(entity).is_none_or(|owner| owner.epoch <= *epoch) {
                self.bury(now, *entity, *epoch);
            }
        }
        Done::Asserted { lease, owned: kept }
    }

    fn is_buried(&self, record: &Record) -> bool {
        self.retired
            .get(&record.entity)
            .is_some_and(|(_, epoch)| *epoch >= record.epoch)
    }

    /// The epoch under which the zone has the entity now, unless it is another's.
    fn assert_owned(&mut self, zone: ZoneId, record: &Record) -> Option<EntityEpoch> {
        let epoch = record.epoch.in_generation(self.generation);
        let known = self.owners.get(&record.entity).copied();
        let is_theirs = known.is_some_and(|known| {
            let is_here = known.zone == zone;
            let is_said_again = is_here && !known.in_transit && known.epoch == epoch;
            known.epoch > record.epoch && !is_said_again || known.epoch == record.epoch && !is_here
        });
        let has_another = record.player.is_some_and(|player| {
            let entity = self.players.get(&player);
            entity.is_some_and(|entity| *entity != record.entity && self.owners.contains_key(entity))
        });
        if is_theirs || has_another || self.is_buried(record) {
            return None;
        }
        if let Some(known) = known.filter(|known| known.zone != zone && !known.in_transit) {
            self.zone(known.zone).records.remove(&record.entity);
        }
        if let Some(player) = record.player {
            self.players.insert(player, record.entity);
        }
        self.owners.insert(record.entity, Owner::new(zone, epoch, false));
        let records = &mut self.zone(zone).records;
        let younger = records
            .get(&record.entity)
            .filter(|known| known.after > record.after)
            .cloned();
        let record = younger.unwrap_or_else(|| record.clone());
        records.insert(record.entity, Record { epoch, ..record });
        Some(epoch)
    }

    /// A handover that was lost happens once more.
    fn assert_departed(&mut self, transfer: &Transfer) {
        let is_lost = |record: &&Record| {
            let known = self.owners.get(&record.entity);
            known.is_none_or(|known| known.epoch < record.epoch) && !self.is_buried(record)
        };
        let lost: Vec<Record> = transfer.records.iter().filter(is_lost).cloned().collect();
        for record in &lost {
            if let Some(known) = self.owners.get(&record.entity).copied()
                && !known.in_transit
            {
                self.zone(known.zone).records.remove(&record.entity);
            }
            if let Some(player) = record.player {
                self.players.insert(player, record.entity);
            }
            let owner = Owner::new(transfer.to, record.epoch, true);
            self.owners.insert(record.entity, owner);
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
