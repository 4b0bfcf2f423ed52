//! The semantics of the durable side, in memory: what each script does, atomically.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use meridian_handoff::LEASE_TTL;
use meridian_handoff::script::{Command, Done, Instance, Record, Refusal, Transfer, TransferId};
use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, WorldEntityId, ZoneId};

/// Transfers that may wait in one zone's inbox.
pub const INBOX_MAX: usize = 1_024;

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
    /// Until when its lease lasts, if anybody has it.
    leased_until: Option<Duration>,
    records: BTreeMap<WorldEntityId, Record>,
    inbox: Vec<Transfer>,
    /// The last entity that was spawned here by each minter of ids: one that is not younger is a repetition.
    last_spawned: HashMap<u64, WorldEntityId>,
}

/// The durable side of one world. Times count from any origin.
#[derive(Clone, Debug, Default)]
pub struct Model {
    zones: HashMap<ZoneId, Zone>,
    owners: HashMap<WorldEntityId, Owner>,
    players: HashMap<PlayerId, WorldEntityId>,
    /// The lease epoch before that of each zone's first instance.
    before: LeaseEpoch,
}

impl Model {
    /// A world without entities, in which each zone's first instance gets the lease epoch after `before`.
    pub fn new(before: LeaseEpoch) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Does a command, or nothing at all.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] says why nothing was done.
    pub fn execute(&mut self, now: Duration, command: &Command) -> Result<Done, Refusal> {
        match command {
            Command::ClaimZone { zone, held } => self.claim(now, *zone, *held),
            Command::Spawn { by, record } => self.spawn(*by, record),
            Command::Retire { by, entities } => self.retire(*by, entities),
            Command::Checkpoint { by, records } => self.checkpoint(*by, records),
            Command::Transfer(transfer) => self.transfer(now, transfer),
            Command::Settle { id, entities } => self.settle(*id, entities),
            Command::Accept { by, id, entities } => self.accept(*by, *id, entities),
        }
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
                .filter(|record| record.entity == entity)
                .map(|record| (*id, record.epoch))
        });
        in_zones.chain(in_inboxes).collect()
    }

    fn zone(&mut self, zone: ZoneId) -> &mut Zone {
        let fence = self.before;
        self.zones.entry(zone).or_insert_with(|| Zone {
            fence,
            ..Zone::default()
        })
    }

    fn fenced(&mut self, by: Instance) -> Result<&mut Zone, Refusal> {
        let zone = self.zone(by.zone);
        if zone.fence == by.lease {
            Ok(zone)
        } else {
            Err(Refusal::Fenced)
        }
    }

    /// The asker owns the entity under the epoch that it names.
    fn owned(&self, by: Instance, entity: WorldEntityId, epoch: EntityEpoch) -> Result<(), Refusal> {
        let owner = self.owners.get(&entity);
        let owned = owner.is_some_and(|owner| owner.zone == by.zone && owner.epoch == epoch && !owner.in_transit);
        owned.then_some(()).ok_or(Refusal::NotOwner(entity))
    }

    fn claim(&mut self, now: Duration, zone: ZoneId, held: Option<LeaseEpoch>) -> Result<Done, Refusal> {
        let zone = self.zone(zone);
        match held {
            Some(held) if held != zone.fence => return Err(Refusal::Fenced),
            Some(_) => {}
            None => zone.fence = LeaseEpoch(zone.fence.0 + 1),
        }
        zone.leased_until = Some(now + LEASE_TTL);
        let (records, inbox) = match held {
            Some(_) => (Vec::new(), Vec::new()),
            None => (zone.records.values().cloned().collect(), zone.inbox.clone()),
        };
        Ok(Done::Claimed {
            lease: zone.fence,
            records,
            inbox,
        })
    }

    fn spawn(&mut self, by: Instance, record: &Record) -> Result<Done, Refusal> {
        self.fenced(by)?;
        if let Some(known) = self.owners.get(&record.entity) {
            // The same spawn once more; ids are never minted twice.
            let same = known.zone == by.zone && known.epoch == record.epoch;
            return same.then_some(Done::Spawned).ok_or(Refusal::NotOwner(record.entity));
        }
        let minter = record.entity.minter();
        if self.fenced(by)?.last_spawned.get(&minter) >= Some(&record.entity) {
            return Err(Refusal::NotOwner(record.entity));
        }
        if let Some(player) = record.player {
            if let Some(entity) = self.players.get(&player)
                && let Some(owner) = self.owners.get(entity)
            {
                return Ok(Done::Exists {
                    entity: *entity,
                    zone: owner.zone,
                });
            }
            self.players.insert(player, record.entity);
        }
        let owner = Owner::new(by.zone, record.epoch, false);
        self.owners.insert(record.entity, owner);
        let zone = self.fenced(by)?;
        zone.last_spawned.insert(minter, record.entity);
        zone.records.insert(record.entity, record.clone());
        Ok(Done::Spawned)
    }

    fn retire(&mut self, by: Instance, entities: &[(WorldEntityId, EntityEpoch)]) -> Result<Done, Refusal> {
        self.fenced(by)?;
        for (entity, epoch) in entities {
            // One that is nowhere is out of the world already.
            if self.owners.contains_key(entity) {
                self.owned(by, *entity, *epoch)?;
            }
        }
        for (entity, _) in entities {
            self.owners.remove(entity);
            let record = self.fenced(by)?.records.remove(entity);
            if let Some(player) = record.and_then(|record| record.player) {
                self.players.remove(&player);
            }
        }
        Ok(Done::Retired)
    }

    fn checkpoint(&mut self, by: Instance, records: &[Record]) -> Result<Done, Refusal> {
        self.fenced(by)?;
        for record in records {
            let is_owned = self.owned(by, record.entity, record.epoch).is_ok();
            let known = self.fenced(by)?.records.get_mut(&record.entity);
            // A state that was long on its way does not undo a younger one.
            if let Some(known) = known.filter(|known| is_owned && known.after <= record.after) {
                *known = record.clone();
            }
        }
        Ok(Done::Checkpointed)
    }

    fn transfer(&mut self, now: Duration, transfer: &Transfer) -> Result<Done, Refusal> {
        let from = transfer.id.from;
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
        }
        Ok(Done::Transferred)
    }

    /// Whether a transfer of these is in an inbox, or was: nothing else raises an epoch.
    fn has_happened(&self, entities: &[(WorldEntityId, EntityEpoch)]) -> bool {
        let reached = |(entity, epoch): &(WorldEntityId, EntityEpoch)| {
            self.owners.get(entity).is_some_and(|owner| owner.epoch >= *epoch)
        };
        !entities.is_empty() && entities.iter().any(reached)
    }

    fn settle(&mut self, id: TransferId, entities: &[(WorldEntityId, EntityEpoch)]) -> Result<Done, Refusal> {
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
        let zone = self.fenced(by)?;
        let Some(found) = zone.inbox.iter().position(|transfer| transfer.id == id) else {
            // It was accepted before, or there never was one.
            let is_accepted = !entities.is_empty()
                && entities
                    .iter()
                    .all(|(entity, epoch)| self.owned(by, *entity, *epoch).is_ok());
            return if is_accepted {
                Ok(Done::Accepted)
            } else {
                Err(Refusal::NoTransfer)
            };
        };
        let transfer = zone.inbox.remove(found);
        for record in transfer.records {
            let owner = Owner::new(by.zone, record.epoch, false);
            self.owners.insert(record.entity, owner);
            self.fenced(by)?.records.insert(record.entity, record);
        }
        Ok(Done::Accepted)
    }
}

#[cfg(test)]
mod tests {
    use meridian_handoff::Allowance;
    use meridian_ids::Tick;

    use super::*;

    const ENTITY: WorldEntityId = WorldEntityId(7);
    const EAST: ZoneId = ZoneId(1);

    fn claim(model: &mut Model, zone: ZoneId) -> Instance {
        let claim = Command::ClaimZone { zone, held: None };
        let claimed = model.execute(Duration::ZERO, &claim);
        let Ok(Done::Claimed { lease, .. }) = claimed else {
            unreachable!("a new instance is never refused, not even with {claimed:?}");
        };
        Instance { zone, lease }
    }

    fn record(epoch: u64) -> Record {
        Record {
            entity: ENTITY,
            epoch: EntityEpoch(epoch),
            player: None,
            after: Tick(1),
            allowance: Allowance::full(Tick(0)),
            state: Vec::new(),
            inputs: Vec::new(),
        }
    }

    fn transfer(from: Instance, number: u64) -> Transfer {
        Transfer {
            id: TransferId { from, number },
            to: EAST,
            records: vec![record(2)],
        }
    }

    fn settle(transfer: &Transfer) -> Command {
        Command::Settle {
            id: transfer.id,
            entities: transfer.entities(),
        }
    }

    #[test]
    fn ids_of_a_later_minter_do_not_bring_back_what_left_nor_do_those_of_an_earlier_one_stand_in_their_way() {
        let mut model = Model::default();
        let west = claim(&mut model, ZoneId(0));
        let spawn = |entity: u64| Command::Spawn {
            by: west,
            record: Record {
                entity: WorldEntityId(entity),
                ..record(1)
            },
        };
        let mut execute = |command: Command| model.execute(Duration::ZERO, &command);
        let (first, wrapped) = (9 << 32 | 1, 1);
        assert_eq!(execute(spawn(first)), Ok(Done::Spawned));
        assert_eq!(execute(spawn(wrapped)), Ok(Done::Spawned), "a minter of its own");
        let retire = Command::Retire {
            by: west,
            entities: vec![(WorldEntityId(first), EntityEpoch(1))],
        };
        assert_eq!(execute(retire), Ok(Done::Retired));
        assert_eq!(execute(spawn(first)), Err(Refusal::NotOwner(WorldEntityId(first))));
    }

    #[test]
    fn what_is_closed_never_happens_but_later_transfers_do_also_those_of_a_new_instance() {
        let mut model = Model::default();
        let (west, _) = (claim(&mut model, ZoneId(0)), claim(&mut model, EAST));
        let mut execute = |command: Command| model.execute(Duration::ZERO, &command);
        let spawn = Command::Spawn {
            by: west,
            record: record(1),
        };
        assert_eq!(execute(spawn), Ok(Done::Spawned));
        let unknown = transfer(west, 5);
        assert_eq!(execute(settle(&unknown)), Ok(Done::Kept));
        assert_eq!(execute(Command::Transfer(unknown)), Ok(Done::Kept), "closed");
        let west = claim(&mut model, ZoneId(0));
        // A new instance counts from 1.
        let first = Command::Transfer(transfer(west, 1));
        assert_eq!(model.execute(Duration::ZERO, &first), Ok(Done::Transferred));
        assert_eq!(model.places(ENTITY), [(EAST, EntityEpoch(2))]);
    }
}
