//! The invariants: everybody tells what they do, and here it is compared.
//!
//! Never part of what is simulated: nobody acts on what is known here.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use meridian_bus::Model;
use meridian_handoff::script::{Command, Done, Refusal, Transfer};
use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

use crate::coverage::{Coverage, Occurrence};

mod invariant;
mod life;
mod tails;

pub use invariant::{Invariant, Violation};

use life::Life;
use tails::Tails;

/// Commands and entities under way in one process beyond which its queues count as growing without end.
const BACKLOG_MAX: usize = 400;

/// Tells the processes of a history apart: each start is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u32);

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One tick of one entity, simulated.
pub(crate) struct Simulated {
    pub(crate) by: ProcessId,
    pub(crate) entity: WorldEntityId,
    pub(crate) player: Option<PlayerId>,
    pub(crate) tick: Tick,
    /// The state before; none if it was read after a crash and is not claimed to be the last one.
    pub(crate) before: Option<u64>,
    pub(crate) after: u64,
    pub(crate) has_input: bool,
}

/// An entity of a snapshot that a gateway believes.
pub(crate) struct Accepted {
    pub(crate) gateway: u8,
    pub(crate) by: ProcessId,
    pub(crate) zone: ZoneId,
    pub(crate) lease: LeaseEpoch,
    pub(crate) entity: WorldEntityId,
    pub(crate) epoch: EntityEpoch,
    pub(crate) tick: Tick,
    pub(crate) state: u64,
}

/// What everybody did so far.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) coverage: Coverage,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) now: Duration,
    began: Duration,
    base: Tick,
    lives: BTreeMap<WorldEntityId, Life>,
    tails: Tails,
    /// The highest lease that each zone was given, ever.
    leases: BTreeMap<ZoneId, LeaseEpoch>,
    grants: BTreeMap<(ZoneId, LeaseEpoch), ProcessId>,
    /// Under which name each zone was claimed last.
    names: BTreeMap<ZoneId, String>,
    inputs: BTreeMap<(PlayerId, Tick), (WorldEntityId, ProcessId)>,
    sighted: BTreeMap<(u8, WorldEntityId), EntityEpoch>,
    heard: BTreeMap<(u8, ZoneId), LeaseEpoch>,
}

impl Checks {
    pub(crate) fn new(began: Duration, base: Tick) -> Self {
        Self {
            coverage: Coverage::default(),
            violation: None,
            trace: None,
            now: began,
            began,
            base,
            lives: BTreeMap::new(),
            tails: Tails::default(),
            leases: BTreeMap::new(),
            grants: BTreeMap::new(),
            names: BTreeMap::new(),
            inputs: BTreeMap::new(),
            sighted: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, what: Occurrence) {
        self.coverage.note(what);
    }

    /// Writes a line of the history, if anybody reads it.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let seconds = (self.now - self.began).as_secs_f64();
            trace.push(format!("{seconds:9.4} s  {}", line()));
        }
    }

    pub(crate) fn fail(&mut self, invariant: Invariant, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let (what, at) = (what(), self.now - self.began);
            self.violation = Some(Violation { invariant, what, at });
        }
    }

    fn life(&mut self, entity: WorldEntityId) -> &mut Life {
        self.lives.entry(entity).or_default()
    }

    /// A zone was told that an entity is written down.
    pub(crate) fn confirmed(&mut self, entity: WorldEntityId) {
        self.life(entity).is_confirmed = true;
    }

    /// A zone was told that an entity that it made is in the world.
    pub(crate) fn spawned(&mut self, by: ProcessId, entity: WorldEntityId, is_thing: bool) {
        self.confirmed(entity);
        let before = self.life(entity).spawned_by.replace(by);
        if let Some(before) = before.filter(|_| !is_thing) {
            self.fail(Invariant::IdsOnce, || {
                format!("{entity} is made by {by} after {before} had made it")
            });
        }
    }

    /// Somebody wants an entity to leave the world: from now on it may.
    pub(crate) fn condemned(&mut self, entity: WorldEntityId) {
        self.life(entity).is_condemned = true;
    }

    /// A zone has two entities of one player.
    pub(crate) fn twins(&mut self, one: WorldEntityId, other: WorldEntityId) {
        let certain = [one, other].map(|entity| !self.life(entity).may_be_nowhere());
        if certain == [true, true] {
            self.fail(Invariant::OneEntity, || format!("{one} and {other} are in one zone"));
        }
    }

    /// A zone was told that an entity is out of the world.
    pub(crate) fn retired(&mut self, entity: WorldEntityId, model: &Model) {
        let life = self.life(entity);
        (life.is_condemned, life.is_retired) = (true, true);
        self.note(Occurrence::Retired);
        self.place(entity, model);
    }

    /// The store has done what a process asked it to, or not.
    pub(crate) fn executed(&mut self, by: ProcessId, command: &Command, answer: &Result<Done, Refusal>, model: &Model) {
        let Ok(done) = answer else { return };
        match (command, done) {
            (Command::ClaimZone { zone, name, held: None }, Done::Claimed { lease, records, .. }) => {
                self.granted(by, *zone, *lease);
                match self.names.insert(*zone, name.clone()) {
                    Some(before) if before == *name => self.note(Occurrence::Reclaimed),
                    Some(_) => self.note(Occurrence::TakenOver),
                    None => {}
                }
                records.iter().for_each(|record| self.changed(record.entity, model));
            }
            (
                Command::Assert {
                    by: of,
                    owned,
                    departed,
                    retired,
                    ..
                },
                Done::Asserted { lease, .. },
            ) => {
                self.granted(by, of.zone, *lease);
                let departed = departed.iter().flat_map(|transfer| &transfer.records);
                let owned = owned.iter().chain(departed).map(|record| record.entity);
                let retired = retired.iter().map(|(entity, _)| *entity);
                let said: Vec<WorldEntityId> = owned.chain(retired).collect();
                self.acted(by, said, model);
                self.spoke(by, false, model);
            }
            (Command::Recall { .. }, Done::Recalled { records }) => {
                records.iter().for_each(|record| self.changed(record.entity, model));
            }
            (Command::Spawn { record, .. }, Done::Spawned { .. }) => self.acted(by, [record.entity], model),
            (Command::Retire { entities, .. }, _) => {
                entities.iter().for_each(|(entity, _)| self.condemned(*entity));
                self.acted(by, entities.iter().map(|(entity, _)| *entity), model);
            }
            (Command::Transfer(Transfer { records, .. }), Done::Transferred) => {
                self.acted(by, records.iter().map(|record| record.entity), model);
            }
            (Command::Accept { .. }, Done::Accepted { owned }) => {
                self.acted(by, owned.iter().map(|(entity, _)| *entity), model);
            }
            _ => {}
        }
    }

    fn granted(&mut self, by: ProcessId, zone: ZoneId, lease: LeaseEpoch) {
        if self.grants.get(&(zone, lease)) == Some(&by) {
            return;
        }
        let highest = self.leases.entry(zone).or_insert(LeaseEpoch(0));
        if lease <= *highest {
            let highest = *highest;
            self.fail(Invariant::EpochsGrow, || {
                format!("{zone} is given lease {lease:?} after {highest:?}")
            });
        }
        self.leases.insert(zone, lease);
        self.grants.insert((zone, lease), by);
    }

    /// Whose lease it is.
    pub(crate) fn holder(&self, zone: ZoneId, lease: LeaseEpoch) -> Option<ProcessId> {
        self.grants.get(&(zone, lease)).copied()
    }

    fn acted(&mut self, by: ProcessId, entities: impl IntoIterator<Item = WorldEntityId>, model: &Model) {
        for entity in entities {
            self.tails.acted(entity, by);
            self.changed(entity, model);
        }
    }

    fn changed(&mut self, entity: WorldEntityId, model: &Model) {
        self.place(entity, model);
        let Some((_, epoch, _)) = model.owner(entity) else {
            return;
        };
        let now = self.now;
        let life = self.life(entity);
        let known = std::mem::replace(&mut life.epoch, epoch);
        if epoch == known.next() {
            life.handovers.push(now);
        }
        if epoch < known {
            self.fail(Invariant::EpochsGrow, || {
                format!(
                    "{entity} has epoch {} in the store after {}",
                    shown(epoch),
                    shown(known)
                )
            });
        }
    }

    fn place(&mut self, entity: WorldEntityId, model: &Model) {
        let places = model.places(entity);
        let is_known = model.owner(entity).is_some();
        let is_open = self.tails.is_open(entity);
        let life = self.life(entity);
        let count = places.len();
        let is_right = match count {
            0 => !is_known && (is_open || life.may_be_nowhere()),
            1 => is_known && (is_open || life.is_doubtful || !life.is_retired),
            _ => false,
        };
        if !is_right {
            let what = life.text();
            let places: Vec<String> = places
                .iter()
                .map(|(zone, epoch)| format!("{zone} at {}", shown(*epoch)))
                .collect();
            self.fail(Invariant::OnePlace, || format!("{entity} ({what}) is in {places:?}"));
        }
    }

    /// All that the store has is safe.
    pub(crate) fn synced(&mut self) {
        self.tails.synced();
    }

    /// The store was restarted, perhaps without its tail.
    pub(crate) fn store_restarted(&mut self, loses: bool, is_alive: impl Fn(ProcessId) -> bool, model: &Model) {
        if loses {
            let lost = self.tails.lost(is_alive);
            self.coverage.note(Occurrence::TailLost);
            for (entity, dead) in lost {
                self.coverage.note(Occurrence::EntitiesInTail);
                self.buried_with(entity, dead);
            }
            // What was lost counts from before once more, but for those to whom it was told.
            for (entity, life) in &mut self.lives {
                life.epoch = model.owner(*entity).map_or(EntityEpoch(0), |(_, epoch, _)| epoch);
            }
        } else {
            self.coverage.note(Occurrence::RestartWhole);
        }
        self.close(model);
        let entities: Vec<WorldEntityId> = self.lives.keys().copied().collect();
        entities.into_iter().for_each(|entity| self.place(entity, model));
    }

    /// A process has said what it knows to the store that was restarted, or has died and never will.
    pub(crate) fn spoke(&mut self, process: ProcessId, is_dead: bool, model: &Model) {
        for entity in self.tails.heard(process) {
            if is_dead {
                self.buried_with(entity, vec![process]);
            }
        }
        self.close(model);
    }

    /// The store that was restarted has waited long enough: who has said nothing since is as good as dead.
    pub(crate) fn settled(&mut self) {
        for (entity, late) in self.tails.late() {
            self.buried_with(entity, late);
        }
    }

    fn buried_with(&mut self, entity: WorldEntityId, dead: Vec<ProcessId>) {
        if !dead.is_empty() {
            self.note(Occurrence::DoubleFault);
            self.tails.doubled(entity);
            self.life(entity).dead.extend(dead);
        }
    }

    /// All have spoken who had acted on an entity in a lost tail.
    fn close(&mut self, model: &Model) {
        for (entity, is_doubled) in self.tails.closed() {
            let is_there = model.owner(entity).is_some();
            if is_doubled {
                self.life(entity).accept_that(is_there);
                self.tell(|| format!("    {entity} was in the lost tail, and who knew of it died"));
            }
            self.place(entity, model);
        }
    }

    /// A zone simulates a tick of an entity, under a lease that is valid now.
    pub(crate) fn simulated(&mut self, what: &Simulated) {
        let base = self.base;
        let life = self.lives.entry(what.entity).or_default();
        let (entity, tick, by) = (what.entity, what.tick, what.by);
        if let Some(first) = life.simulated(tick.since(base), by, what.after) {
            self.fail(Invariant::OneSimulator, || {
                format!("{tick} of {entity} is simulated by {first} and by {by}")
            });
            return;
        }
        if let Some(before) = what.before
            && let Some((other, state)) = life.state(tick.since(base) - 1)
            && state != before
            && !life.dead.contains(&other)
        {
            self.fail(Invariant::OneState, || {
                format!("{by} simulates {tick} of {entity}, but not from the state in which {other} left it")
            });
        }
        let Some(player) = what.player.filter(|_| what.has_input) else {
            return;
        };
        if let Some((before, first)) = self.inputs.insert((player, tick), (entity, by)) {
            let excused = [before, entity]
                .iter()
                .any(|entity| !self.life(*entity).dead.is_empty());
            if !excused {
                self.fail(Invariant::InputsOnce, || {
                    format!(
                        "the input of {player} for {tick} is applied to {before} by {first} and to {entity} by {by}"
                    )
                });
            }
        }
    }

    /// A gateway believes a zone's result.
    pub(crate) fn accepted(&mut self, what: &Accepted) {
        self.believed(what);
        let (entity, tick, by, epoch) = (what.entity, what.tick, what.by, what.epoch);
        let base = self.base;
        if let Some(first) = self.life(entity).accepted(tick.since(base), by, what.state) {
            self.fail(Invariant::OneResult, || {
                format!("{tick} of {entity} is accepted from {first} and from {by}")
            });
        }
        let known = self.sighted.insert((what.gateway, entity), epoch).unwrap_or_default();
        if known > epoch {
            let gateway = what.gateway;
            self.fail(Invariant::EpochsGrow, || {
                format!(
                    "gateway {gateway} believes {} of {entity} after {}",
                    shown(epoch),
                    shown(known)
                )
            });
        }
    }

    fn believed(&mut self, what: &Accepted) {
        let (gateway, zone, lease) = (what.gateway, what.zone, what.lease);
        let known = self.heard.insert((gateway, zone), lease).unwrap_or_default();
        if known > lease {
            self.fail(Invariant::EpochsGrow, || {
                format!("gateway {gateway} believes {lease:?} of {zone} after {known:?}")
            });
        }
    }

    /// A gateway begins anew.
    pub(crate) fn gateway_restarted(&mut self, gateway: u8) {
        self.sighted.retain(|(seen, _), _| *seen != gateway);
        self.heard.retain(|(heard, _), _| *heard != gateway);
    }

    /// How much a process has under way.
    pub(crate) fn backlog(&mut self, process: ProcessId, backlog: usize) {
        if backlog > BACKLOG_MAX {
            self.fail(Invariant::Bounded, || {
                format!("{process} has {backlog} things under way")
            });
        }
    }

    /// Entities that must be in the world, and those that must not.
    pub(crate) fn expected(&self) -> impl Iterator<Item = (WorldEntityId, bool)> {
        let lives = self.lives.iter();
        lives.filter_map(|(entity, life)| {
            let is_certain = life.is_retired && !life.is_doubtful || !life.may_be_nowhere();
            is_certain.then_some((*entity, !life.is_retired))
        })
    }

    /// What was in a lost tail and had its zone die: gateways may show it for a while, and it may be back beside another of its player.
    pub(crate) fn is_doubtful(&self, entity: WorldEntityId) -> bool {
        self.lives.get(&entity).is_some_and(|life| life.is_doubtful)
    }

    /// When an entity changed its owner.
    pub(crate) fn handovers(&self, entity: WorldEntityId) -> &[Duration] {
        self.lives.get(&entity).map_or(&[], |life| &life.handovers)
    }

    /// Who has simulated a tick of an entity.
    pub(crate) fn simulator(&self, entity: WorldEntityId, tick: Tick) -> Option<ProcessId> {
        let life = self.lives.get(&entity)?;
        life.state(tick.since(self.base)).map(|(by, _)| by)
    }

    /// Whether a player's input for a tick was applied.
    pub(crate) fn is_applied(&self, player: PlayerId, tick: Tick) -> bool {
        self.inputs.contains_key(&(player, tick))
    }
}

/// An epoch as one reads it: its generation and its count.
pub(crate) fn shown(epoch: EntityEpoch) -> String {
    format!("{}.{}", epoch.generation().0, epoch.0 & 0xffff_ffff)
}
