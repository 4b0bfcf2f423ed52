//! One instance of a zone against the durable side: its lease, what it asks, what it makes of the answers.
//!
//! Pure: answers and times go in ([`Ownership::answered`], [`Ownership::begin_tick`]), commands and news come out ([`Ownership::next_command`],
//! [`Ownership::next_news`]). It never guesses: what was not answered is asked again or settled, and nothing counts as the zone's before the
//! store has said so.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, TickRate, WorldEntityId, ZoneId};

use crate::machine::{Handoff, TransferNumber, Verdict};
use crate::script::{Command, Death, Done, Instance, Record, Refusal, Ticket, Transfer, TransferId};
use crate::{Departure, Lease};

mod answers;
mod memory;

use memory::Memory;

/// What an answer is the answer to.
#[derive(Clone, Debug)]
enum Asked {
    Claim {
        sent: Duration,
    },
    Assert {
        sent: Duration,
        command: Box<Command>,
    },
    Recall,
    Spawn(Box<Record>),
    Retire(Vec<(WorldEntityId, EntityEpoch)>, Tick),
    /// Of an entity that was not the zone's when it asked.
    RetireUnknown(Vec<(WorldEntityId, EntityEpoch)>, Tick),
    Checkpoint(Vec<Record>, Vec<Death>),
    Transfer(Box<Transfer>),
    Settle(TransferNumber),
    Accept(Box<Transfer>),
}

/// Why an instance without a zone does not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// An instance of another name has it.
    Taken,
    /// The store was restarted, and waits for what lives.
    Settling,
}

/// What the zone has to know, or to do.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The zone is this instance's, with these records.
    Begun(Vec<Record>),
    /// Not yet: somebody else is first. Told once per reason.
    Waiting(Wait),
    /// An entity is written down: it may be seen. Under the record's epoch.
    Spawned(Record),
    /// It is not: the player has one already, or the store refuses.
    NotSpawned(Record, NotSpawned),
    /// Entities are out of the world.
    Retired(Vec<(WorldEntityId, EntityEpoch)>),
    /// It is not known whether states of these entities were written down.
    NotWritten(Vec<WorldEntityId>),
    /// Entities are the zone's from now on: they came from another zone, or the store had them.
    Arrived(Vec<Record>),
    /// An entity is another zone's now.
    Departed {
        /// The entity.
        entity: WorldEntityId,
        /// Its epoch there.
        epoch: EntityEpoch,
        /// Where.
        to: ZoneId,
    },
    /// An entity that was to leave stays, as it is in its record.
    Resumed(Record),
    /// An entity is not the zone's any more, and it is not known whose: it is to be dropped.
    Disowned(WorldEntityId),
    /// The store was restarted: [`Ownership::assert`] is to be called with all that the zone simulates.
    AssertionDue,
    /// What was asserted counts in the new generation: everything that the zone owns has another epoch.
    Asserted,
    /// Another instance has the zone: this one must not simulate any more.
    Fenced,
}

/// Why an entity was not written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSpawned {
    /// The player has this entity, in this zone.
    Exists(WorldEntityId, ZoneId),
    /// The store says no.
    Refused(Refusal),
}

/// How much is under way: it must not grow while nothing is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Commands without an answer, and those to be asked once more.
    pub asked: usize,
    /// Transfers out of and into the zone whose outcome is not known.
    pub transfers: usize,
    /// Deeds remembered, to be said again to a store that was restarted.
    pub remembered: usize,
}

/// What a zone's instance owns, and what it is waiting for.
#[derive(Clone, Debug)]
pub struct Ownership {
    zone: ZoneId,
    name: String,
    lease: Lease,
    held: Option<LeaseEpoch>,
    handoff: Handoff,
    /// Transfers whose outcome is not known.
    departing: BTreeMap<TransferNumber, Transfer>,
    accepting: HashSet<TransferId>,
    memory: Memory,
    asked: BTreeMap<Ticket, Asked>,
    next_ticket: u64,
    outgoing: VecDeque<(Ticket, Command)>,
    /// What is asked once more in the next tick: nobody knows whether it was done, and doing it twice is doing it once.
    again: Vec<Asked>,
    /// What is asked once more when the store has settled: when [`Command::Recall`] is not refused any more.
    when_settled: Vec<Asked>,
    news: VecDeque<News>,
    waiting: Option<Wait>,
    /// The store was restarted, and has not answered yet to what the instance asserts.
    is_asserting: bool,
    /// After an assertion: the store may know of more that is the zone's.
    recall_due: bool,
    now: Duration,
}

impl Ownership {
    /// An instance called `name` that has nothing yet; it claims its zone in the first [`Self::begin_tick`].
    pub fn new(zone: ZoneId, name: impl Into<String>, rate: TickRate) -> Self {
        Self {
            zone,
            name: name.into(),
            lease: Lease::default(),
            held: None,
            handoff: Handoff::new(rate),
            departing: BTreeMap::new(),
            accepting: HashSet::new(),
            memory: Memory::default(),
            asked: BTreeMap::new(),
            next_ticket: 0,
            outgoing: VecDeque::new(),
            again: Vec::new(),
            when_settled: Vec::new(),
            news: VecDeque::new(),
            waiting: None,
            is_asserting: false,
            recall_due: false,
            now: Duration::ZERO,
        }
    }

    /// This instance of the zone, once it has the lease.
    pub fn instance(&self) -> Option<Instance> {
        let zone = self.zone;
        self.held.map(|lease| Instance { zone, lease })
    }

    /// Whether nobody else can have the zone. `now` is on the clock of [`Self::begin_tick`].
    pub fn may_simulate(&self, now: Duration) -> bool {
        self.held.is_some() && self.lease.may_simulate(now)
    }

    /// What the zone owns, and where it goes.
    pub fn handoff(&self) -> &Handoff {
        &self.handoff
    }

    /// Ties of what the zone owns.
    pub fn handoff_mut(&mut self) -> &mut Handoff {
        &mut self.handoff
    }

    /// How much is under way.
    pub fn backlog(&self) -> Backlog {
        Backlog {
            asked: self.asked.len() + self.again.len() + self.when_settled.len(),
            transfers: self.departing.len() + self.accepting.len(),
            remembered: self.memory.len(),
        }
    }

    /// What is to be asked next, in order; each with the ticket that its answer comes with.
    pub fn next_command(&mut self) -> Option<(Ticket, Command)> {
        self.outgoing.pop_front()
    }

    /// What has happened, in order.
    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Once a tick, before anything else: asks for the lease when it is time to, and again for what is not known. `now` counts from
    /// any origin, on a clock that goes on while the machine sleeps.
    pub fn begin_tick(&mut self, now: Duration) {
        self.now = now;
        self.memory.forget(now, self.lease.last_renewed().unwrap_or_default());
        let is_due = self.lease.is_renewal_due(now);
        if self.is_asserting {
            if is_due && !self.is_asking(|asked| matches!(asked, Asked::Assert { .. })) {
                self.news.push_back(News::AssertionDue);
            }
            return;
        }
        for asked in std::mem::take(&mut self.again) {
            self.ask(asked);
        }
        // Each claim of a new instance ends the one before: there is one at a time.
        let is_claiming = self.is_asking(|asked| matches!(asked, Asked::Claim { .. }));
        if is_due && (self.held.is_some() || !is_claiming) {
            self.ask(Asked::Claim { sent: now });
            if std::mem::take(&mut self.recall_due) {
                self.ask(Asked::Recall);
            }
        }
    }

    /// Writes down a new entity: [`News::Spawned`] says when it may be seen.
    pub fn spawn(&mut self, record: Record) {
        self.ask(Asked::Spawn(Box::new(record)));
    }

    /// Takes an entity of the zone out of the world after a tick, unless it is about to leave the zone; says whether.
    pub fn retire(&mut self, entity: WorldEntityId, after: Tick) -> bool {
        let Some(epoch) = self.handoff.retire(entity) else {
            return false;
        };
        self.ask(Asked::Retire(vec![(entity, epoch)], after));
        true
    }

    /// Asks whether an entity that somebody still sees is in the world at all; if not, [`News::Retired`] says it once more.
    pub fn retire_unknown(&mut self, entity: WorldEntityId, epoch: EntityEpoch, after: Tick) {
        self.ask(Asked::RetireUnknown(vec![(entity, epoch)], after));
    }

    /// Writes down states of entities that the zone owns, and who died.
    pub fn checkpoint(&mut self, records: Vec<Record>, died: Vec<Death>) {
        if !records.is_empty() || !died.is_empty() {
            self.ask(Asked::Checkpoint(records, died));
        }
    }

    /// After tick `after`, an owned entity stands so far in the place of zone `to` that it should go there. What comes back is frozen from
    /// now on, and [`Self::depart`] or [`Self::stay`] follows.
    pub fn cross(&mut self, entity: WorldEntityId, to: ZoneId, after: Tick) -> Option<Departure> {
        // What is asserted must not leave before the store has answered.
        if self.is_asserting {
            return None;
        }
        match self.handoff.cross(entity, to, after) {
            Verdict::Leave(departure) => Some(departure),
            Verdict::Stay => None,
        }
    }

    /// Sends the entities of a departure, as they are after its tick, under the epochs that they have at the receiver.
    pub fn depart(&mut self, departure: &Departure, records: Vec<Record>) {
        let Some(from) = self.instance() else { return };
        let number = departure.number;
        let id = TransferId { from, number };
        let to = departure.to;
        let transfer = Transfer { id, to, records };
        self.departing.insert(number, transfer.clone());
        self.ask(Asked::Transfer(Box::new(transfer)));
    }

    /// The entities of a departure cannot be sent: they are the zone's still, as if it had never been begun.
    pub fn stay(&mut self, departure: &Departure) {
        self.handoff
            .answered(departure.number, Some(Ok(Done::Kept)), departure.after);
    }

    /// A transfer is in the zone's inbox. May be told more than once.
    pub fn inbox(&mut self, transfer: Transfer) {
        // Before the zone is claimed nothing can be accepted; it is told again to the instance that may.
        if self.held.is_some() && self.accepting.insert(transfer.id) {
            self.ask(Asked::Accept(Box::new(transfer)));
        }
    }

    /// Says to a store that was restarted what the zone owns: `records` are those of all that it simulates or holds.
    pub fn assert(&mut self, records: Vec<Record>) {
        let Some(by) = self.instance().filter(|_| self.is_asserting) else {
            return;
        };
        // Whether these have left is not known, and who received them may simulate them: they are not claimed.
        let leaving = self.departing.values().cloned();
        let command = Command::Assert {
            by,
            name: self.name.clone(),
            owned: records,
            departed: self.memory.departed().cloned().chain(leaving).collect(),
            retired: self.memory.retired().chain(self.retiring()).collect(),
        };
        let (sent, command) = (self.now, Box::new(command));
        self.ask(Asked::Assert { sent, command });
    }

    /// Whether anything was asked and not answered.
    pub fn is_asking_anything(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What the zone has given up and the store has not confirmed: nobody else may take it for living.
    fn retiring(&self) -> impl Iterator<Item = (WorldEntityId, EntityEpoch)> {
        let asked = self.asked.values().chain(&self.again);
        let entities = asked.filter_map(|asked| match asked {
            Asked::Retire(entities, _) => Some(entities),
            _ => None,
        });
        entities.flatten().copied()
    }

    fn is_asking(&self, what: impl Fn(&Asked) -> bool) -> bool {
        self.asked.values().any(what)
    }

    fn ask(&mut self, asked: Asked) {
        if self.is_asserting && !matches!(asked, Asked::Assert { .. }) {
            self.put_off(asked);
            return;
        }
        let Some(command) = self.command_for(&asked) else {
            return;
        };
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.asked.insert(ticket, asked);
        self.outgoing.push_back((ticket, command));
    }

    /// What to submit, under the lease of now; nothing for what has become pointless.
    fn command_for(&self, asked: &Asked) -> Option<Command> {
        if let Asked::Claim { .. } = asked {
            return Some(Command::ClaimZone {
                zone: self.zone,
                name: self.name.clone(),
                held: self.held,
            });
        }
        let by = self.instance()?;
        Some(match asked {
            Asked::Claim { .. } => return None,
            Asked::Assert { command, .. } => command.as_ref().clone(),
            Asked::Recall => Command::Recall { by },
            Asked::Spawn(record) => Command::Spawn {
                by,
                record: record.as_ref().clone(),
            },
            // What is asked once more in a new generation may have been asserted in it before.
            Asked::Retire(entities, after) => Command::Retire {
                by,
                after: *after,
                entities: entities
                    .iter()
                    .map(|(entity, epoch)| (*entity, epoch.in_generation(by.lease.generation())))
                    .collect(),
            },
            Asked::RetireUnknown(entities, after) => Command::Retire {
                by,
                entities: entities.clone(),
                after: *after,
            },
            Asked::Checkpoint(records, died) => Command::Checkpoint {
                by,
                records: records.clone(),
                died: died.clone(),
            },
            Asked::Transfer(transfer) => {
                self.departing.get(&transfer.id.number)?;
                Command::Transfer(transfer.as_ref().clone())
            }
            Asked::Settle(number) => {
                let transfer = self.departing.get(number)?;
                Command::Settle {
                    id: transfer.id,
                    entities: transfer.entities(),
                }
            }
            Asked::Accept(transfer) => Command::Accept {
                by,
                id: transfer.id,
                entities: transfer.entities(),
            },
        })
    }
}

#[cfg(test)]
mod tests;
