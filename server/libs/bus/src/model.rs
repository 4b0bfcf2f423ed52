//! The semantics of the durable side, in memory: what each script does, atomically.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_events::Event;
use meridian_handoff::script::{Command, Death, Done, Instance, Record, Refusal, Transfer, TransferId};
use meridian_handoff::{LEASE_TTL, SETTLING};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

use crate::told;

mod assertion;
mod planted;

/// Transfers that may wait in one zone's inbox.
pub const INBOX_MAX: usize = 1_024;
/// How long it is remembered that an entity left the world: longer than any instance remembers that it handed the entity over
/// ([`meridian_handoff::REMEMBERED`]), or that could bring it back. After a restart nothing is forgotten for as long, and then
/// assertions are not heard any more.
pub const TOMBSTONE_KEPT: Duration = Duration::from_secs(60);

/// Where an entity's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    zone: ZoneId,
    epoch: EntityEpoch,
    in_transit: bool,
    /// The owner's transfers up to this one will not happen any more. Each instance counts its own.
    closed: (LeaseEpoch, u64),
}

impl Owner {
    fn new(zone: ZoneId, epoch: EntityEpoch, in_transit: bool) -> Self {
        Self {
            zone,
            epoch,
            in_transit,
            closed: (LeaseEpoch::default(), 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Zone {
    /// The newest instance; never forgotten.
    fence: LeaseEpoch,
    /// The lease of an earlier generation that the newest instance asserted, if that is how it got its own.
    asserted: Option<LeaseEpoch>,
    /// Until when its lease lasts, if anybody has it.
    leased_until: Option<Duration>,
    /// Who has it, or had it last.
    holder: String,
    records: BTreeMap<WorldEntityId, Record>,
    inbox: Vec<Transfer>,
    /// The last entity that was spawned here by each minter of ids: one that is not younger is a repetition.
    last_spawned: BTreeMap<u64, WorldEntityId>,
}

/// The durable side of one world. Times count from any origin.
#[derive(Clone, Debug, Default)]
pub struct Model {
    zones: BTreeMap<ZoneId, Zone>,
    owners: BTreeMap<WorldEntityId, Owner>,
    /// The entity of each player. After a restart that has lost a tail, several may have been said to be a player's, until it is said which have left.
    players: BTreeMap<PlayerId, BTreeSet<WorldEntityId>>,
    /// What left the world of late: when, and under which epoch.
    retired: BTreeMap<WorldEntityId, (Duration, EntityEpoch)>,
    /// The lease epoch before that of each zone's first instance.
    before: LeaseEpoch,
    generation: Generation,
    /// Until when no new instance gets a zone.
    settled_at: Duration,
    /// Assertions of instances of earlier generations are not heard any more.
    heard_from: Generation,
    /// The last death that was told of each entity in the world.
    died: BTreeMap<WorldEntityId, Tick>,
    /// What happened and was not taken.
    events: Vec<Event>,
}

impl Model {
    /// A world without entities, in which each zone's first instance gets the lease epoch after `before`.
    pub fn new(before: LeaseEpoch) -> Self {
        Self {
            before,
            generation: before.generation(),
            ..Self::default()
        }
    }

    /// The store comes back from a restart, perhaps as it was some time ago, in a generation later than it ever was in.
    pub fn restart(&mut self, now: Duration, generation: Generation) {
        // Who said nothing while this one settled may have a player that was let in again since, and the word of that may be lost now.
        if now >= self.settled_at {
            self.heard_from = self.generation;
        }
        self.generation = generation;
        self.settled_at = now + SETTLING;
    }

    /// Whether it may have forgotten what left the world before this generation began.
    fn has_forgotten(&self, now: Duration) -> bool {
        now >= self.settled_at + TOMBSTONE_KEPT
    }

    /// The generation that it is in.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Does a command, or nothing at all.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why nothing was done.
    pub fn execute(&mut self, now: Duration, command: &Command) -> Result<Done, Refusal> {
        match command {
            Command::ClaimZone { zone, name, held } => self.claim(now, *zone, name, *held),
            Command::Assert {
                by,
                name,
                owned,
                departed,
                retired,
            } => {
                let lease = self.assert_lease(now, *by, name)?;
                Ok(self.assert(now, *by, lease, (owned, departed, retired)))
            }
            Command::Recall { by } => self.recall(now, *by),
            Command::Spawn { by, record } => self.spawn(now, *by, record),
            Command::Retire { by, entities, after } => self.retire(now, *by, entities, *after),
            Command::Checkpoint { by, records, died } => self.checkpoint(*by, records, died),
            Command::Transfer(transfer) => self.transfer(now, transfer),
            Command::Settle { id, entities } => self.settle(*id, entities),
            Command::Accept { by, id, entities } => self.accept(*by, *id, entities),
        }
    }

    /// What happened since it was last asked, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What waits for a zone.
    pub fn inbox(&self, zone: ZoneId) -> &[Transfer] {
        self.zones.get(&zone).map_or(&[], |zone| &zone.inbox)
    }

    /// Every place in which an entity's record stands: more or fewer than one is a fault.
    pub fn places(&self, entity: WorldEntityId) -> Vec<(ZoneId, EntityEpoch)> {
        let in_zones = self.zones.iter().filter_map(|(id, zone)| {
            let record = zone.records.get(&entity)?;
            Some((*id, record.epoch))
        });
        let in_inboxes = self.zones.iter().flat_map(|(id, zone)| {
            let records = zone.inbox.iter().flat_map(|transfer| &transfer.records);
            records
                .filter(|record| record.entity == entity && self.is_expected(*id, record))
                .map(|record| (*id, record.epoch))
        });
        in_zones.chain(in_inboxes).collect()
    }

    /// Every entity that there is, with its owner and epoch and whether it is on its way there, in the order of their ids.
    pub fn owners(&self) -> Vec<(WorldEntityId, ZoneId, EntityEpoch, bool)> {
        let owners = self.owners.iter();
        let mut owners: Vec<_> = owners
            .map(|(entity, owner)| (*entity, owner.zone, owner.epoch, owner.in_transit))
            .collect();
        owners.sort_unstable();
        owners
    }

    /// Who owns an entity, under which epoch, and whether it is on its way there; nobody if it is not in the world.
    pub fn owner(&self, entity: WorldEntityId) -> Option<(ZoneId, EntityEpoch, bool)> {
        let owner = self.owners.get(&entity)?;
        Some((owner.zone, owner.epoch, owner.in_transit))
    }

    /// The newest instance of a zone, and until when its lease lasts.
    pub fn lease(&self, zone: ZoneId) -> Option<(LeaseEpoch, Duration)> {
        let zone = self.zones.get(&zone)?;
        Some((zone.fence, zone.leased_until?))
    }

    /// A zone's durable records, in the order of their ids.
    pub fn records(&self, zone: ZoneId) -> impl Iterator<Item = &Record> {
        self.zones.get(&zone).into_iter().flat_map(|zone| zone.records.values())
    }

    /// Whether what an inbox holds is still on its way there: in a new generation it may have gone elsewhere.
    fn is_expected(&self, zone: ZoneId, record: &Record) -> bool {
        self.owners
            .get(&record.entity)
            .is_some_and(|owner| owner.in_transit && (owner.zone, owner.epoch) == (zone, record.epoch))
    }

    fn zone(&mut self, zone: ZoneId) -> &mut Zone {
        let fence = self.before;
        self.zones.entry(zone).or_insert_with(|| Zone {
            fence,
            ..Zone::default()
        })
    }

    /// Whether the asker is of this generation.
    fn current(&self, by: Instance) -> Result<(), Refusal> {
        if by.lease.generation() == self.generation {
            Ok(())
        } else {
            Err(Refusal::NewGeneration(self.generation))
        }
    }

    fn fenced(&mut self, by: Instance) -> Result<&mut Zone, Refusal> {
        self.current(by)?;
        let zone = self.zone(by.zone);
        if zone.fence == by.lease {
            Ok(zone)
        } else {
            Err(Refusal::Fenced)
        }
    }

    /// Whether the zone has the entity, under this epoch.
    fn owned(&self, by: Instance, entity: WorldEntityId, epoch: EntityEpoch) -> Result<(), Refusal> {
        let owned = self
            .owners
            .get(&entity)
            .is_some_and(|owner| (owner.zone, owner.epoch, owner.in_transit) == (by.zone, epoch, false));
        if owned { Ok(()) } else { Err(Refusal::NotOwner(entity)) }
    }

    fn claim(&mut self, now: Duration, zone: ZoneId, name: &str, held: Option<LeaseEpoch>) -> Result<Done, Refusal> {
        if let Some(lease) = held {
            let by = Instance { zone, lease };
            self.fenced(by)?.leased_until = Some(now + LEASE_TTL);
            let (records, inbox) = (Vec::new(), Vec::new());
            return Ok(Done::Claimed { lease, records, inbox });
        }
        if now < self.settled_at {
            return Err(Refusal::Settling);
        }
        let generation = self.generation;
        let claimed = self.zone(zone);
        if claimed.leased_until.is_some_and(|until| now < until) && claimed.holder != name {
            return Err(Refusal::Taken);
        }
        claimed.fence = LeaseEpoch::new(generation, claimed.fence.count().wrapping_add(1));
        claimed.asserted = None;
        claimed.leased_until = Some(now + LEASE_TTL);
        name.clone_into(&mut claimed.holder);
        let (lease, inbox) = (claimed.fence, claimed.inbox.clone());
        let records = self.raise(zone);
        Ok(Done::Claimed { lease, records, inbox })
    }

    /// What the zone has is its in this generation, whatever was said in earlier ones.
    fn raise(&mut self, zone: ZoneId) -> Vec<Record> {
        let generation = self.generation;
        let records = self.zones.get_mut(&zone).map(|zone| &mut zone.records);
        let mut raised = Vec::new();
        for record in records.into_iter().flat_map(BTreeMap::values_mut) {
            record.epoch = record.epoch.in_generation(generation);
            if let Some(owner) = self.owners.get_mut(&record.entity) {
                owner.epoch = record.epoch;
            }
            raised.push(record.clone());
        }
        raised
    }

    fn recall(&mut self, now: Duration, by: Instance) -> Result<Done, Refusal> {
        self.fenced(by)?;
        if now < self.settled_at {
            return Err(Refusal::Settling);
        }
        let records = self.raise(by.zone);
        Ok(Done::Recalled { records })
    }

    fn spawn(&mut self, now: Duration, by: Instance, record: &Record) -> Result<Done, Refusal> {
        self.fenced(by)?;
        let epoch = record.epoch.in_generation(self.generation);
        if let Some(known) = self.owners.get(&record.entity) {
            // The same spawn once more; ids are never minted twice.
            let same = self.owned(by, record.entity, epoch).is_ok();
            let epoch = known.epoch;
            return same
                .then_some(Done::Spawned { epoch })
                .ok_or(Refusal::NotOwner(record.entity));
        }
        let minter = record.entity.minter();
        let was_retired = self.retired.contains_key(&record.entity);
        if was_retired || self.fenced(by)?.last_spawned.get(&minter) >= Some(&record.entity) {
            return Err(Refusal::NotOwner(record.entity));
        }
        if let Some(player) = record.player {
            // A living instance may have an entity of the player, and not have had the time to say so.
            if now < self.settled_at {
                return Err(Refusal::Settling);
            }
            let known = self.entities_of(player).next();
            if let Some((entity, owner)) = known {
                // The same command once more, long on its way, must not make what nobody waits for.
                self.fenced(by)?.last_spawned.insert(minter, record.entity);
                let zone = owner.zone;
                return Ok(Done::Exists { entity, zone });
            }
            self.players.entry(player).or_default().insert(record.entity);
        }
        let owner = Owner::new(by.zone, epoch, false);
        self.owners.insert(record.entity, owner);
        self.events.extend(told::joined(by, record));
        let zone = self.fenced(by)?;
        zone.last_spawned.insert(minter, record.entity);
        zone.records.insert(
            record.entity,
            Record {
                epoch,
                ..record.clone()
            },
        );
        Ok(Done::Spawned { epoch })
    }

    fn retire(
        &mut self,
        now: Duration,
        by: Instance,
        entities: &[(WorldEntityId, EntityEpoch)],
        after: Tick,
    ) -> Result<Done, Refusal> {
        self.fenced(by)?;
        for (entity, epoch) in entities {
            // One that is nowhere is out of the world already.
            if self.owners.contains_key(entity) {
                self.owned(by, *entity, *epoch)?;
            }
        }
        for (entity, epoch) in entities {
            if self.owners.contains_key(entity) {
                self.events.push(told::left(by, *entity, after));
            }
            self.bury(now, *entity, *epoch);
        }
        Ok(Done::Retired)
    }

    /// The entities of a player that are in the world, in the order of their ids.
    fn entities_of(&self, player: PlayerId) -> impl Iterator<Item = (WorldEntityId, Owner)> {
        let known = self.players.get(&player).into_iter().flatten();
        known.filter_map(|entity| Some((*entity, *self.owners.get(entity)?)))
    }

    /// Takes an entity out of the world, wherever it is, and remembers that.
    fn bury(&mut self, now: Duration, entity: WorldEntityId, epoch: EntityEpoch) {
        // After a restart, instances say again what they did before it: nothing is forgotten that they could contradict.
        if self.has_forgotten(now) {
            self.retired
                .retain(|_, (since, _)| now.saturating_sub(*since) < TOMBSTONE_KEPT);
        }
        let (_, known) = self.retired.get(&entity).copied().unwrap_or_default();
        self.retired.insert(entity, (now, epoch.max(known)));
        if let Some(owner) = self.owners.remove(&entity)
            && !owner.in_transit
        {
            self.zone(owner.zone).records.remove(&entity);
        }
        self.players.retain(|_, known| {
            known.remove(&entity);
            !known.is_empty()
        });
        self.died.remove(&entity);
    }

    fn checkpoint(&mut self, by: Instance, records: &[Record], died: &[Death]) -> Result<Done, Refusal> {
        self.fenced(by)?;
        for record in records {
            let is_owned = self.owned(by, record.entity, record.epoch).is_ok();
            let known = self.fenced(by)?.records.get_mut(&record.entity);
            // A state that was long on its way does not undo a younger one.
            if let Some(known) = known.filter(|known| is_owned && known.after <= record.after) {
                *known = record.clone();
            }
        }
        for death in died {
            let is_told = self.died.get(&death.entity).is_some_and(|told| *told >= death.tick);
            if self.owners.contains_key(&death.entity) && !is_told {
                self.died.insert(death.entity, death.tick);
                self.events.push(told::died(by, death));
            }
        }
        Ok(Done::Checkpointed)
    }

    fn transfer(&mut self, now: Duration, transfer: &Transfer) -> Result<Done, Refusal> {
        let from = transfer.id.from;
        self.current(from)?;
        if self.has_happened(&transfer.entities()) {
            return Ok(Done::Transferred);
        }
        self.fenced(from)?;
        for record in &transfer.records {
            let here = EntityEpoch(record.epoch.0.wrapping_sub(1));
            self.owned(from, record.entity, here)?;
            let owner = self.owners.get(&record.entity);
            if owner.is_some_and(|owner| (from.lease, transfer.id.number) <= owner.closed) {
                return Ok(Done::Kept);
            }
        }
        let receiver = self.zone(transfer.to);
        if receiver.leased_until.is_none_or(|until| now >= until) {
            return Err(Refusal::NoReceiver);
        }
        if receiver.inbox.len() >= INBOX_MAX {
            return Err(Refusal::InboxFull);
        }
        receiver.inbox.push(transfer.clone());
        for record in &transfer.records {
            self.fenced(from)?.records.remove(&record.entity);
            let owner = Owner::new(transfer.to, record.epoch, true);
            self.owners.insert(record.entity, owner);
            self.events.push(told::handed_off(transfer, record));
        }
        Ok(Done::Transferred)
    }

    /// Whether a transfer of these is in an inbox, or was: nothing else raises an epoch within a generation.
    fn has_happened(&self, entities: &[(WorldEntityId, EntityEpoch)]) -> bool {
        let reached = |(entity, epoch): &(WorldEntityId, EntityEpoch)| {
            self.owners.get(entity).is_some_and(|owner| owner.epoch >= *epoch)
        };
        !entities.is_empty() && entities.iter().any(reached)
    }

    fn settle(&mut self, id: TransferId, entities: &[(WorldEntityId, EntityEpoch)]) -> Result<Done, Refusal> {
        self.current(id.from)?;
        // One that is nowhere was taken out of the world by who received it: its sender could not.
        let is_gone = entities.iter().any(|(entity, _)| !self.owners.contains_key(entity));
        if is_gone || self.has_happened(entities) {
            return Ok(Done::Transferred);
        }
        self.fenced(id.from)?;
        for (entity, _) in entities {
            if let Some(owner) = self.owners.get_mut(entity) {
                owner.closed = owner.closed.max((id.from.lease, id.number));
            }
        }
        Ok(Done::Kept)
    }

    fn accept(
        &mut self,
        by: Instance,
        id: TransferId,
        entities: &[(WorldEntityId, EntityEpoch)],
    ) -> Result<Done, Refusal> {
        let generation = self.generation;
        let zone = self.fenced(by)?;
        let Some(found) = zone.inbox.iter().position(|transfer| transfer.id == id) else {
            // It was accepted before, or there never was one.
            let raised = entities
                .iter()
                .map(|(entity, epoch)| (*entity, epoch.in_generation(generation)));
            let owned: Vec<_> = raised
                .filter(|(entity, epoch)| self.owned(by, *entity, *epoch).is_ok())
                .collect();
            return if owned.is_empty() {
                Err(Refusal::NoTransfer)
            } else {
                Ok(Done::Accepted { owned })
            };
        };
        let transfer = zone.inbox.remove(found);
        let mut owned = Vec::with_capacity(transfer.records.len());
        for record in transfer.records {
            if self.is_expected(by.zone, &record) {
                let epoch = record.epoch.in_generation(generation);
                self.owners.insert(record.entity, Owner::new(by.zone, epoch, false));
                owned.push((record.entity, epoch));
                self.fenced(by)?
                    .records
                    .insert(record.entity, Record { epoch, ..record });
            }
        }
        Ok(Done::Accepted { owned })
    }
}

#[cfg(test)]
mod tests;
