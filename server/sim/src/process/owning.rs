//! How entities become the zone's and cease to be.

use std::collections::BTreeSet;

use meridian_handoff::script::{Command, Done, Record, Refusal, Ticket};
use meridian_handoff::{Allowance, Arrival, Departure, News, Standing, Wait};
use meridian_ids::{EntityEpoch, EntityIdMint, PlayerId, Tick, WorldEntityId};

use super::body::Body;
use super::{Around, Process};
use crate::coverage::Occurrence;
use crate::planted::Planted;

impl Process {
    pub(super) fn take_news(&mut self, news: News, around: &mut Around<'_>) {
        around
            .checks
            .tell(|| format!("    {} {}", self.id, crate::shown::news(&news)));
        match news {
            News::Begun(records) => self.begin(&records, around),
            News::Waiting(Wait::Taken) => around.checks.note(Occurrence::Taken),
            News::Waiting(Wait::Settling) => around.checks.note(Occurrence::Settling),
            News::Spawned(record) => {
                self.joined(&record);
                around.checks.spawned(self.id, record.entity, record.player.is_none());
                around.checks.note(Occurrence::Joined);
                self.admit(&record, false, around);
            }
            News::NotSpawned(record, _) => self.joined(&record),
            News::Retired(entities) => {
                for (entity, _) in &entities {
                    around.checks.retired(*entity, &around.store.model);
                }
                self.left.extend(entities);
            }
            News::NotWritten(_) => {}
            News::Arrived(records) => {
                for record in &records {
                    self.joined(record);
                    around.checks.confirmed(record.entity);
                    self.admit(record, true, around);
                }
            }
            News::Departed { .. } => around.checks.note(Occurrence::Handoff),
            News::Resumed(record) => {
                around.checks.note(Occurrence::Resumed);
                self.admit(&record, true, around);
            }
            News::Disowned(entity) => {
                around.checks.note(Occurrence::Disowned);
                self.forget(entity);
            }
            News::AssertionDue => self.assert(),
            News::Asserted => self.asserted(around),
            News::Fenced => {
                around.checks.note(Occurrence::Fenced);
                self.is_fenced = true;
            }
        }
    }

    fn joined(&mut self, record: &Record) {
        if let Some(player) = record.player {
            self.joining.remove(&player);
        }
    }

    /// The zone is this instance's: it goes on with what is written down of it.
    fn begin(&mut self, records: &[Record], around: &mut Around<'_>) {
        let Some(instance) = self.ownership.instance() else {
            return;
        };
        let catch_up = around.planted == Some(Planted::CatchesUpAfterCrash);
        for record in records {
            around.checks.confirmed(record.entity);
            self.admit(record, catch_up, around);
        }
        // What stands in the world at its beginning has the same ids each time.
        let mut beginning = EntityIdMint::new(instance.zone, around.scenery.before);
        for _ in 0..around.scenery.things {
            if let Some(entity) = beginning.mint() {
                self.write_down(entity, None);
            }
        }
        self.mint = Some(EntityIdMint::new(instance.zone, instance.lease));
    }

    fn write_down(&mut self, entity: WorldEntityId, player: Option<PlayerId>) {
        self.ownership.spawn(Record {
            entity,
            epoch: EntityEpoch(1),
            player,
            after: self.next - 1,
            allowance: Allowance::full(self.next),
            state: entity.0.to_le_bytes().to_vec(),
            inputs: Vec::new(),
        });
    }

    pub(super) fn spawn_player(&mut self, player: PlayerId, around: &mut Around<'_>) {
        if let Some(entity) = self.mint.as_mut().and_then(EntityIdMint::mint) {
            self.write_down(entity, Some(player));
            self.hear(around);
        }
    }

    pub(super) fn retire(&mut self, entity: WorldEntityId, around: &mut Around<'_>) {
        around.checks.condemned(entity);
        if self.ownership.retire(entity, self.next - 1) {
            self.forget(entity);
            self.hear(around);
        }
    }

    fn forget(&mut self, entity: WorldEntityId) {
        self.bodies.remove(&entity);
        self.players.retain(|_, of| *of != entity);
        self.held.retain(|record| record.entity != entity);
    }

    /// The store was restarted: it is told all that the zone has.
    fn assert(&mut self) {
        let after = self.next - 1;
        let mut records: Vec<Record> = self
            .bodies
            .keys()
            .filter_map(|entity| self.record(*entity, after))
            .collect();
        records.extend(self.held.iter().cloned());
        self.ownership.assert(records);
    }

    /// What the zone owns has other epochs.
    fn asserted(&mut self, around: &mut Around<'_>) {
        around.checks.note(Occurrence::Asserted);
        let handoff = self.ownership.handoff();
        for (entity, body) in &mut self.bodies {
            body.epoch = handoff.epoch(*entity).unwrap_or(body.epoch);
        }
        for record in &mut self.held {
            record.epoch = handoff.epoch(record.entity).unwrap_or(record.epoch);
        }
    }

    /// An owned entity's record as it is after a tick.
    fn record(&self, entity: WorldEntityId, after: Tick) -> Option<Record> {
        let handoff = self.ownership.handoff();
        let of = (handoff.epoch(entity)?, handoff.allowance(entity)?, after);
        self.bodies.get(&entity).map(|body| body.record(entity, of))
    }

    /// Entities that came early and whose time has come.
    pub(super) fn admit_held(&mut self, tick: Tick, around: &mut Around<'_>) {
        let due: Vec<Record> = self.held.extract_if(.., |record| record.after < tick).collect();
        for record in &due {
            self.admit_at(record, true, around);
        }
    }

    /// Simulates an entity of the zone from its record on, once it is time, and once the zone may. What is read after a crash is not made up
    /// for: its ticks were simulated already. It is not to be simulated in them again either, where this machine's clock is behind.
    fn admit(&mut self, record: &Record, catch_up: bool, around: &mut Around<'_>) {
        let may = self.may_simulate(around.now);
        let holds = around.planted != Some(Planted::HoldsNothing);
        match Arrival::new(record.after, self.next) {
            Arrival::Hold(_) if holds => {
                around.checks.note(Occurrence::Held);
                self.held.push(record.clone());
            }
            Arrival::CatchUp(_) if catch_up && !may => self.held.push(record.clone()),
            _ => self.admit_at(record, catch_up, around),
        }
    }

    fn admit_at(&mut self, record: &Record, catch_up: bool, around: &mut Around<'_>) {
        let entity = record.entity;
        let first = if catch_up { record.after.next() } else { self.next };
        let mut body = Body::new(record, first, !catch_up);
        body.take_inputs(&self.expected.take(entity), first, false);
        let ticks = first.0..self.next.0;
        if !ticks.is_empty() {
            around.checks.note(Occurrence::CaughtUp);
        }
        let may = self.may_simulate(around.now);
        for tick in ticks.map(Tick) {
            body.simulate(entity, tick, (self.id, may), around);
        }
        self.bodies.insert(entity, body);
        for other in around.scenery.tied_to(entity) {
            self.ownership.handoff_mut().join(entity, other);
        }
        if let Some(player) = record.player {
            self.embody_player(player, entity, around);
        }
    }

    /// A player has one entity. Only after a zone died together with what the store had of it can there be two, of which the younger stays.
    fn embody_player(&mut self, player: PlayerId, entity: WorldEntityId, around: &mut Around<'_>) {
        let known = self.players.insert(player, entity).filter(|known| *known != entity);
        if let Some(known) = known {
            let (older, younger) = (known.min(entity), known.max(entity));
            around.checks.twins(older, younger);
            around.checks.condemned(older);
            self.players.insert(player, younger);
            if self.ownership.retire(older, self.next - 1) {
                self.forget(older);
            }
        }
    }

    /// After `tick`: what stands in another zone's place is frozen and sent there.
    pub(super) fn hand_over(&mut self, tick: Tick, around: &mut Around<'_>) {
        let zone = self.machine.zone;
        let bodies: BTreeSet<WorldEntityId> = self.bodies.keys().copied().collect();
        for entity in bodies {
            if let Some(to) = around.scenery.place(entity).filter(|to| *to != zone)
                && self.ownership.handoff().leads(entity)
                && let Some(departure) = self.ownership.cross(entity, to, tick)
            {
                self.depart(&departure, around);
            }
        }
        self.hear(around);
    }

    fn depart(&mut self, departure: &Departure, around: &mut Around<'_>) {
        let records = departure.entities.iter().filter_map(|(entity, epoch, allowance)| {
            let of = (*epoch, *allowance, departure.after);
            self.bodies.get(entity).map(|body| body.record(*entity, of))
        });
        let records: Vec<Record> = records.collect();
        if records.len() < departure.entities.len() {
            self.ownership.stay(departure);
            return;
        }
        if records.len() > 1 {
            around.checks.note(Occurrence::GroupHandoff);
        }
        // What others did to each other before is not older than what leaves.
        self.checkpoint(departure.after);
        records.iter().for_each(|record| self.forget(record.entity));
        self.ownership.depart(departure, records);
    }

    /// Writes down everything as it is after `tick`.
    pub(super) fn checkpoint(&mut self, tick: Tick) {
        let owned = self.bodies.keys().filter(|entity| {
            let standing = self.ownership.handoff().standing(**entity);
            standing == Some(Standing::Simulated)
        });
        let records: Vec<Record> = owned.filter_map(|entity| self.record(*entity, tick)).collect();
        self.ownership.checkpoint(records, Vec::new());
    }

    /// What a process with a planted fault asks instead.
    pub(super) fn planted_command(&mut self, ticket: Ticket, mut command: Command, around: &mut Around<'_>) -> Command {
        if let Command::Settle { .. } = command {
            around.checks.note(Occurrence::Settled);
        }
        match (&mut command, around.planted) {
            (Command::Transfer(_), Some(Planted::ResumesOnUnknown)) => {
                self.transfers.insert(ticket);
            }
            (
                Command::Assert {
                    owned,
                    departed,
                    retired,
                    ..
                },
                Some(Planted::AssertsNothing),
            ) => {
                owned.clear();
                departed.clear();
                retired.clear();
            }
            _ => {}
        }
        command
    }

    /// What a process with a planted fault makes of an answer.
    pub(super) fn planted_answer(
        &mut self,
        ticket: Ticket,
        answer: Option<Result<Done, Refusal>>,
        around: &mut Around<'_>,
    ) -> Option<Result<Done, Refusal>> {
        let is_transfer = self.transfers.remove(&ticket);
        match (answer, around.planted) {
            (None, Some(Planted::ResumesOnUnknown)) if is_transfer => Some(Ok(Done::Kept)),
            (answer, _) => answer,
        }
    }
}
