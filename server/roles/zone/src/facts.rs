//! The zone's side of the bus: what it asks to be written down, and what it does once that is.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use meridian_bus::{Bus, Heard, Ticket};
use meridian_events::{EntityPosition, Event, Happening, Positions};
use meridian_handoff::Lease;
use meridian_handoff::script::{Command, Done, Instance, Record, Refusal, Transfer, TransferId};
use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId, ZoneId};

/// Answers and arrivals handled in a tick; the rest waits for the next.
const HEARD_PER_TICK_MAX: usize = 4_096;

/// What an answer is the answer to.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Claim { sent: Duration },
    Spawn(Box<Record>),
    Retire(Vec<(WorldEntityId, EntityEpoch)>),
    Checkpoint(Vec<WorldEntityId>),
    Transfer(u64),
    Accept(Box<Transfer>),
}

/// What the zone has to do about what it heard.
#[derive(Debug)]
pub(crate) enum Told {
    /// The zone is this instance's, with these records.
    Begin(Vec<Record>),
    /// The answer to a command other than the lease's.
    Answer(Asked, Option<Result<Done, Refusal>>),
    /// Another instance has the zone.
    Fenced,
}

/// The connection to the durable side, and what is under way on it.
pub(crate) struct Facts {
    bus: Box<dyn Bus>,
    zone: ZoneId,
    lease: Lease,
    held: Option<LeaseEpoch>,
    asked: HashMap<Ticket, Asked>,
    accepting: HashSet<TransferId>,
    /// What is asked once more in the next tick: nobody knows whether it was done, and doing it twice is doing it once.
    again: Vec<(Command, Asked)>,
}

impl Facts {
    pub(crate) fn new(bus: Box<dyn Bus>, zone: ZoneId) -> Self {
        Self {
            bus,
            zone,
            lease: Lease::default(),
            held: None,
            asked: HashMap::new(),
            accepting: HashSet::new(),
            again: Vec::new(),
        }
    }

    /// This instance of the zone, once it has the lease.
    pub(crate) fn instance(&self) -> Option<Instance> {
        let zone = self.zone;
        self.held.map(|lease| Instance { zone, lease })
    }

    /// Whether nobody else can have the zone.
    pub(crate) fn may_simulate(&self, now: Duration) -> bool {
        self.held.is_some() && self.lease.may_simulate(now)
    }

    /// Once a tick: asks for the lease when it is time to, and again for what is not known.
    pub(crate) fn begin_tick(&mut self, now: Duration) {
        for (command, asked) in std::mem::take(&mut self.again) {
            self.ask(command, asked);
        }
        // Each claim of a new instance ends the one before: there is one at a time.
        let is_claiming = || self.asked.values().any(|asked| matches!(asked, Asked::Claim { .. }));
        if (self.held.is_some() || !is_claiming()) && self.lease.is_renewal_due(now) {
            let claim = Command::ClaimZone {
                zone: self.zone,
                held: self.held,
            };
            self.ask(claim, Asked::Claim { sent: now });
        }
    }

    pub(crate) fn ask(&mut self, command: Command, asked: Asked) {
        let ticket = self.bus.submit(command);
        self.asked.insert(ticket, asked);
    }

    /// Takes in what has come.
    pub(crate) fn hear(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        for _ in 0..HEARD_PER_TICK_MAX {
            match self.bus.try_receive() {
                Some(Heard::Answer(ticket, answer)) => {
                    let asked = self.asked.remove(&ticket);
                    told.extend(asked.and_then(|asked| self.answered(asked, answer)));
                }
                Some(Heard::Inbox(transfer)) => self.accept(transfer),
                None => break,
            }
        }
        told
    }

    fn answered(&mut self, asked: Asked, answer: Option<Result<Done, Refusal>>) -> Option<Told> {
        if answer == Some(Err(Refusal::Fenced)) {
            self.lease.lost();
            return Some(Told::Fenced);
        }
        match (asked, answer) {
            (Asked::Claim { sent }, Some(Ok(Done::Claimed { lease, records, .. }))) => {
                self.lease.renewed(sent);
                // What is in the inbox is told by the bus as well.
                self.held.replace(lease).is_none().then_some(Told::Begin(records))
            }
            // It is asked for again soon.
            (Asked::Claim { .. }, _) => None,
            (Asked::Accept(transfer), Some(answer)) => {
                self.accepting.remove(&transfer.id);
                Some(Told::Answer(Asked::Accept(transfer), Some(answer)))
            }
            (asked, None) => {
                let command = self.command_for(&asked);
                match command {
                    Some(command) => {
                        self.again.push((command, asked));
                        None
                    }
                    None => Some(Told::Answer(asked, None)),
                }
            }
            (asked, answer) => Some(Told::Answer(asked, answer)),
        }
    }

    /// What to ask once more when there was no answer; transfers are settled instead, and checkpoints made anew.
    fn command_for(&self, asked: &Asked) -> Option<Command> {
        let by = self.instance()?;
        match asked {
            Asked::Accept(transfer) => Some(Command::Accept {
                by,
                id: transfer.id,
                entities: transfer.entities(),
            }),
            Asked::Spawn(record) => Some(Command::Spawn {
                by,
                record: record.as_ref().clone(),
            }),
            Asked::Retire(entities) => Some(Command::Retire {
                by,
                entities: entities.clone(),
            }),
            Asked::Claim { .. } | Asked::Checkpoint(_) | Asked::Transfer(_) => None,
        }
    }

    fn accept(&mut self, transfer: Transfer) {
        // Before the zone is claimed nothing can be accepted; the bus tells of it again to the instance that may.
        let Some(by) = self.instance() else { return };
        if self.accepting.insert(transfer.id) {
            let (id, entities) = (transfer.id, transfer.entities());
            self.ask(Command::Accept { by, id, entities }, Asked::Accept(Box::new(transfer)));
        }
    }

    /// Tells every service what happened in the zone, up to the end of a tick.
    pub(crate) fn publish(&mut self, tick: Tick, what: Happening) {
        if let Some(Instance { zone, lease }) = self.instance() {
            self.bus.publish(Event {
                zone,
                lease,
                tick,
                what,
            });
        }
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.bus.is_followed()
    }

    pub(crate) fn publish_positions(&mut self, tick: Tick, entities: Vec<EntityPosition>) {
        if let Some(Instance { zone, lease }) = self.instance() {
            self.bus.publish_positions(Positions {
                zone,
                lease,
                tick,
                entities,
            });
        }
    }

    pub(crate) fn spawn(&mut self, record: Record) {
        if let Some(by) = self.instance() {
            let asked = Asked::Spawn(Box::new(record.clone()));
            self.ask(Command::Spawn { by, record }, asked);
        }
    }

    pub(crate) fn retire(&mut self, entities: Vec<(WorldEntityId, EntityEpoch)>) {
        if let Some(by) = self.instance() {
            let asked = Asked::Retire(entities.clone());
            self.ask(Command::Retire { by, entities }, asked);
        }
    }

    pub(crate) fn checkpoint(&mut self, records: Vec<Record>) {
        if let Some(by) = self.instance().filter(|_| !records.is_empty()) {
            let ids = records.iter().map(|record| record.entity).collect();
            self.ask(Command::Checkpoint { by, records }, Asked::Checkpoint(ids));
        }
    }

    pub(crate) fn transfer(&mut self, number: u64, to: ZoneId, records: Vec<Record>) {
        if let Some(from) = self.instance() {
            let id = TransferId { from, number };
            self.ask(Command::Transfer(Transfer { id, to, records }), Asked::Transfer(number));
        }
    }

    pub(crate) fn settle(&mut self, number: u64, entities: Vec<(WorldEntityId, EntityEpoch)>) {
        if let Some(from) = self.instance() {
            let id = TransferId { from, number };
            self.again
                .push((Command::Settle { id, entities }, Asked::Transfer(number)));
        }
    }
}
