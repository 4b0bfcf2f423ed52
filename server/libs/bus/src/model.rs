//! The semantics of the durable side, in memory: what each script does, atomically.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use meridian_handoff::script::{Command, Done, Instance, Record, Refusal, Transfer, TransferId};
use meridian_handoff::{LEASE_TTL, SETTLING};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, PlayerId, WorldEntityId, ZoneId};

mod assertion;

/// Transfers that may wait in one zone's inbox.
pub const INBOX_MAX: usize = 1_024;
/// How long it is remembered that an entity left the world: longer than any instance remembers that it handed the entity over
/// ([`meridian_handoff::REMEMBERED`]), or that could bring it back.
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
    last_spawned: HashMap<u64, WorldEntityId>,
}

/// The durable side of one world. Times count from any origin.
#[derive(Clone, Debug, Default)]
pub struct Model {
    zones: HashMap<ZoneId, Zone>,
    owners: HashMap<WorldEntityId, Owner>,
    players: HashMap<PlayerId, WorldEntityId>,
    /// What left the world of late: when, and under which epoch.
    retired: HashMap<WorldEntityId, (Duration, EntityEpoch)>,
    /// The lease epoch before that of each zone's first instance.
    before: LeaseEpoch,
    generation: Generation,
    /// Until when no new instance gets a zone.
    settled_at: Duration,
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
        self.generation = generation;
        self.settled_at = now + SETTLING;
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
                Ok(self.assert(now, by.zone, lease, (owned, departed, retired)))
            }
            Command::Recall { by } => self.recall(now, *by),
            Command::Spawn { by, record } => self.spawn(*by, record),
            Command::Retire { by, entities } => self.retire(now, *by, entities),
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

    fn spawn(&mut self, by: Instance, record: &Record) -> Result<Done, Refusal> {
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
        let owner = Owner::new(by.zone, epoch, false);
        self.owners.insert(record.entity, owner);
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
    ) -> Result<Done, Refusal> {
        self.fenced(by)?;
        for (entity, epoch) in entities {
            // One that is nowhere is out of the world already.
            if self.owners.contains_key(entity) {
                self.owned(by, *entity, *epoch)?;
            }
        }
        for (entity, epoch) in entities {
            self.bury(now, *entity, *epoch);
        }
        Ok(Done::Retired)
    }

    /// Takes an entity out of the world, wherever it is, and remembers that.
    fn bury(&mut self, now: Duration, entity: WorldEntityId, epoch: EntityEpoch) {
        self.retired
            .retain(|_, (since, _)| now.saturating_sub(*since) < TOMBSTONE_KEPT);
        self.retired.insert(entity, (now, epoch));
        if let Some(owner) = self.owners.remove(&entity)
            && !owner.in_transit
        {
            self.zone(owner.zone).records.remove(&entity);
        }
        self.players.retain(|_, known| *known != entity);
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
mod tests {
    use meridian_handoff::Allowance;
    use meridian_ids::Tick;

    use super::*;

    const ENTITY: WorldEntityId = WorldEntityId(7);
    const EAST: ZoneId = ZoneId(1);
    const SPAWNED: Result<Done, Refusal> = Ok(Done::Spawned { epoch: EntityEpoch(1) });

    fn claim(model: &mut Model, zone: ZoneId) -> Instance {
        let claim = Command::ClaimZone {
            zone,
            name: "one".to_owned(),
            held: None,
        };
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
        assert_eq!(execute(spawn(first)), SPAWNED);
        assert_eq!(execute(spawn(wrapped)), SPAWNED, "a minter of its own");
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
        assert_eq!(execute(spawn), SPAWNED);
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
