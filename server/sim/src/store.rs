//! The store: the real model, with what can happen to a machine and its disk.

use std::time::Duration;

use meridian_bus::Model;
use meridian_handoff::SETTLING;
use meridian_handoff::script::{Command, Done, Instance, Record, Refusal, Transfer};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, WorldEntityId};

use crate::checks::{Checks, ProcessId};
use crate::coverage::Occurrence;
use crate::history::{Entry, History};
use crate::planted::Planted;

/// Stragglers that are kept; the oldest vanish.
const STRAGGLERS_MAX: usize = 64;

/// A store loses no more than this: it writes to its disk by itself. An instance remembers its deeds for twice as long.
const TAIL_MAX: Duration = Duration::from_secs(5);

/// The durable side, and what is on its way to it without anybody waiting for the answer.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) model: Model,
    synced: Model,
    synced_at: Duration,
    generation: Generation,
    away_until: Duration,
    /// It is down, and comes back then; whether it has lost its tail.
    restart: Option<(Duration, bool)>,
    stragglers: Vec<(ProcessId, Command)>,
    pub(crate) history: Option<History>,
    pub(crate) planted: Option<Planted>,
}

impl Store {
    pub(crate) fn new(before: LeaseEpoch) -> Self {
        let model = Model::new(before);
        Self {
            synced: model.clone(),
            synced_at: Duration::ZERO,
            generation: model.generation(),
            model,
            away_until: Duration::ZERO,
            restart: None,
            stragglers: Vec::new(),
            history: None,
            planted: None,
        }
    }

    /// Whether it takes commands now.
    pub(crate) fn is_there(&self, now: Duration) -> bool {
        now >= self.away_until && self.restart.is_none()
    }

    pub(crate) fn goes_away(&mut self, until: Duration) {
        self.away_until = self.away_until.max(until);
    }

    /// It is there, or comes back now.
    pub(crate) fn heal(&mut self, now: Duration) {
        self.away_until = now;
        if let Some((until, _)) = &mut self.restart {
            *until = now;
        }
    }

    /// What was written down long enough ago is safe by itself.
    pub(crate) fn writes(&mut self, now: Duration, checks: &mut Checks) {
        if now.saturating_sub(self.synced_at) >= TAIL_MAX {
            self.sync(now, checks);
        }
    }

    pub(crate) fn sync(&mut self, now: Duration, checks: &mut Checks) {
        if self.restart.is_none() {
            self.synced_at = now;
            self.synced.clone_from(&self.model);
            self.record(Entry::Synced);
            checks.synced();
        }
    }

    /// It ends, and comes back then. What was on its way to it is gone with its sockets.
    pub(crate) fn ends(&mut self, until: Duration, loses: bool) {
        if self.restart.is_none() {
            self.restart = Some((until, loses));
            self.stragglers.clear();
        }
    }

    /// Comes back if it is time to.
    pub(crate) fn comes_back(&mut self, now: Duration, checks: &mut Checks, is_alive: impl Fn(ProcessId) -> bool) {
        let Some((_, loses)) = self.restart.take_if(|(until, _)| now >= *until) else {
            return;
        };
        if loses {
            self.model.clone_from(&self.synced);
        }
        self.generation = Generation(self.generation.0.max(self.model.generation().0) + 1);
        let generation = self.generation;
        let since = match self.planted {
            Some(Planted::LetsInWithoutSettling) => now.saturating_sub(SETTLING),
            _ => now,
        };
        self.model.restart(since, generation);
        self.synced.clone_from(&self.model);
        self.synced_at = now;
        self.record(Entry::Restarted { now, generation, loses });
        checks.tell(|| format!("the store is back in generation {}, tail lost: {loses}", generation.0));
        checks.store_restarted(loses, is_alive, &self.model);
        checks.synced();
    }

    /// A command that nobody waits for any more may come later.
    pub(crate) fn hold_up(&mut self, by: ProcessId, command: Command, checks: &mut Checks) {
        checks.note(Occurrence::HeldUp);
        checks.tell(|| format!("    held up: {by} {}", crate::shown::command(&command)));
        if self.stragglers.len() >= STRAGGLERS_MAX {
            self.stragglers.remove(0);
        }
        self.stragglers.push((by, command));
    }

    /// A straggler comes.
    pub(crate) fn straggle(&mut self, which: u8, now: Duration, checks: &mut Checks) {
        if let Some((by, command)) = self.straggler(which).filter(|_| self.is_there(now)) {
            checks.note(Occurrence::Straggler);
            if self.execute(now, by, &command, checks).is_ok() {
                checks.note(Occurrence::StragglerDone);
            }
        }
    }

    /// A straggler never comes.
    pub(crate) fn vanish(&mut self, which: u8) {
        self.straggler(which);
    }

    /// All stragglers come, in order.
    pub(crate) fn all_straggle(&mut self, now: Duration, checks: &mut Checks) {
        while !self.stragglers.is_empty() {
            self.straggle(0, now, checks);
        }
    }

    fn straggler(&mut self, which: u8) -> Option<(ProcessId, Command)> {
        let index = usize::from(which).checked_rem(self.stragglers.len())?;
        Some(self.stragglers.remove(index))
    }

    /// Whether it would hear what this instance asks.
    pub(crate) fn is_newest(&self, instance: Instance) -> bool {
        let newest = self.model.lease(instance.zone);
        instance.lease.generation() == self.model.generation()
            && newest.is_some_and(|(lease, _)| lease == instance.lease)
    }

    /// Does a command.
    pub(crate) fn execute(
        &mut self,
        now: Duration,
        by: ProcessId,
        command: &Command,
        checks: &mut Checks,
    ) -> Result<Done, Refusal> {
        let answer = match self.planted {
            None => self.model.execute(now, command),
            Some(planted) => self.execute_planted(now, command, planted),
        };
        if self.history.is_some() {
            self.record(Entry::Executed {
                now,
                command: Box::new(command.clone()),
                answer: Box::new(answer.clone()),
            });
        }
        checks.tell(|| {
            format!(
                "    {by} {} -> {}",
                crate::shown::command(command),
                crate::shown::answer(&answer)
            )
        });
        checks.executed(by, command, &answer, &self.model);
        // A new instance is told of its lease only when that is safe: an older one that lives may not be the newest again.
        if let (Command::ClaimZone { held: None, .. }, Ok(_)) = (command, &answer) {
            self.sync(now, checks);
        }
        answer
    }

    fn record(&mut self, entry: Entry) {
        if let Some(history) = &mut self.history {
            history.entries.push(entry);
        }
    }

    fn execute_planted(&mut self, now: Duration, command: &Command, planted: Planted) -> Result<Done, Refusal> {
        match (planted, command) {
            (Planted::StoreIgnoresEpochs, _) => {
                let command = self.with_known_epochs(command.clone());
                self.model.execute(now, &command)
            }
            (Planted::StoreIgnoresLeases, _) => {
                let command = self.with_known_leases(command.clone());
                self.model.execute(now, &command)
            }
            (Planted::AcceptsTwice, Command::Accept { entities, .. }) => {
                let answer = self.model.execute(now, command);
                let owned = entities.clone();
                match answer {
                    Err(Refusal::NoTransfer) => Ok(Done::Accepted { owned }),
                    answer => answer,
                }
            }
            (Planted::ClaimForgetsInbox, Command::ClaimZone { zone, held: None, .. }) => {
                let answer = self.model.execute(now, command);
                if answer.is_ok() {
                    self.model.plant_empty_inbox(*zone);
                }
                answer
            }
            (Planted::TransferKeepsRecord, Command::Transfer(transfer)) => {
                let from = transfer.id.from.zone;
                let records: Vec<Record> = self.model.records(from).cloned().collect();
                let answer = self.model.execute(now, command);
                let is_sent = |record: &Record| transfer.records.iter().any(|sent| sent.entity == record.entity);
                for record in records.into_iter().filter(is_sent) {
                    self.model.plant_record(from, record);
                }
                answer
            }
            _ => self.model.execute(now, command),
        }
    }

    /// The command as it had to be for the epochs that the store knows.
    fn with_known_epochs(&self, mut command: Command) -> Command {
        let known = |entity: WorldEntityId| self.model.owner(entity).map(|(_, epoch, _)| epoch);
        let raise = |(entity, epoch): &mut (WorldEntityId, EntityEpoch)| *epoch = known(*entity).unwrap_or(*epoch);
        match &mut command {
            Command::Retire { entities, .. } | Command::Accept { entities, .. } => entities.iter_mut().for_each(raise),
            Command::Checkpoint { records, .. } => {
                for record in records {
                    record.epoch = known(record.entity).unwrap_or(record.epoch);
                }
            }
            Command::Transfer(Transfer { records, .. }) => {
                for record in records {
                    record.epoch = known(record.entity).map_or(record.epoch, EntityEpoch::next);
                }
            }
            _ => {}
        }
        command
    }

    /// The command as the newest instance of its zone would have given it.
    fn with_known_leases(&self, mut command: Command) -> Command {
        let raise = |by: &mut Instance| {
            if let Some((lease, _)) = self.model.lease(by.zone) {
                by.lease = lease;
            }
        };
        match &mut command {
            Command::ClaimZone { zone, held, .. } => {
                let newest = self.model.lease(*zone).map(|(lease, _)| lease);
                *held = held.and(newest);
            }
            Command::Assert { .. } => {}
            Command::Recall { by }
            | Command::Spawn { by, .. }
            | Command::Retire { by, .. }
            | Command::Checkpoint { by, .. }
            | Command::Accept { by, .. } => raise(by),
            Command::Transfer(Transfer { id, .. }) | Command::Settle { id, .. } => raise(&mut id.from),
        }
        command
    }
}
