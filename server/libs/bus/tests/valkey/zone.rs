//! A zone that asks and waits, and the world that it is in.

use std::time::{Duration, Instant};

use meridian_bus::valkey::{ValkeyError, ValkeyOptions, ValkeyWorld};
use meridian_bus::{Bus, Heard};
use meridian_events::{Event, Happening};
use meridian_handoff::Allowance;
use meridian_handoff::script::{Command, Done, Instance, Record, Refusal, Ticket, Transfer, TransferId};
use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};
use tokio::runtime::Runtime;

use crate::server::{self, Server};

pub const WEST: ZoneId = ZoneId(0);
pub const EAST: ZoneId = ZoneId(1);
/// What takes longer does not come.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub type Answer = Option<Result<Done, Refusal>>;

/// A world, and the runtime that it works on.
pub struct World {
    pub world: ValkeyWorld,
    pub options: ValkeyOptions,
    pub runtime: Runtime,
}

impl World {
    pub fn new(server: &Server) -> Self {
        Self::connect(Self::options(server)).unwrap()
    }

    /// A world that settles at once when it begins: nothing lived in it before.
    pub fn options(server: &Server) -> ValkeyOptions {
        ValkeyOptions {
            settling: Duration::ZERO,
            ..ValkeyOptions::new(server.url(), server::world_name())
        }
    }

    pub fn connect(options: ValkeyOptions) -> Result<Self, ValkeyError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let world = runtime.block_on(ValkeyWorld::connect(&options, runtime.handle()))?;
        Ok(Self {
            world,
            options,
            runtime,
        })
    }
}

/// An instance of a zone.
pub struct Zone {
    pub bus: Box<dyn Bus>,
    pub instance: Instance,
    tickets: u64,
    pub inbox: Vec<Transfer>,
}

impl Zone {
    /// One that has no lease.
    pub fn unclaimed(world: &ValkeyWorld, zone: ZoneId) -> Self {
        let lease = LeaseEpoch::default();
        Self {
            bus: world.connect_zone(zone),
            instance: Instance { zone, lease },
            tickets: 0,
            inbox: Vec::new(),
        }
    }

    /// Claims a zone, as soon as it may.
    pub fn claim(world: &ValkeyWorld, zone: ZoneId) -> Self {
        let mut claimed = Self::unclaimed(world, zone);
        let claim = claimed.claim_command(None);
        let gives_up_at = Instant::now() + PATIENCE;
        loop {
            match claimed.ask(claim.clone()) {
                Some(Ok(Done::Claimed { lease, .. })) => {
                    claimed.instance.lease = lease;
                    return claimed;
                }
                Some(Err(Refusal::Settling)) | None => {}
                other => panic!("a claim is answered by the lease, not by {other:?}"),
            }
            assert!(Instant::now() < gives_up_at, "the zone is not to be had");
        }
    }

    pub fn claim_command(&self, held: Option<LeaseEpoch>) -> Command {
        let (zone, name) = (self.instance.zone, "one".to_owned());
        Command::ClaimZone { zone, name, held }
    }

    pub fn generation(&self) -> Generation {
        self.instance.lease.generation()
    }

    pub fn submit(&mut self, command: Command) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.bus.submit(ticket, command);
        ticket
    }

    /// The answer to a ticket, the oldest that is not answered.
    pub fn await_answer(&mut self, ticket: Ticket) -> Answer {
        let gives_up_at = Instant::now() + PATIENCE;
        loop {
            match self.bus.try_receive() {
                Some(Heard::Answer(answered, answer)) => {
                    assert_eq!(answered, ticket, "answers come in the order of the questions");
                    return answer;
                }
                Some(Heard::Inbox(transfer)) => self.inbox.push(transfer),
                None => assert!(Instant::now() < gives_up_at, "no answer"),
            }
            std::thread::yield_now();
        }
    }

    pub fn ask(&mut self, command: Command) -> Answer {
        let ticket = self.submit(command);
        self.await_answer(ticket)
    }

    pub fn renewal(&self) -> Command {
        self.claim_command(Some(self.instance.lease))
    }

    /// Renews until there is an answer.
    pub fn renew_until_answered(&mut self) -> Result<Done, Refusal> {
        let gives_up_at = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.ask(self.renewal()) {
                return answer;
            }
            assert!(Instant::now() < gives_up_at, "the store does not come back");
        }
    }

    pub fn record(&self, entity: u64) -> Record {
        Record {
            entity: WorldEntityId(entity),
            epoch: EntityEpoch(1).in_generation(self.generation()),
            player: None,
            after: Tick(100),
            allowance: Allowance::full(Tick(0)),
            state: vec![1, 2, 3],
            inputs: vec![(Tick(101), 7)],
        }
    }

    pub fn spawn(&mut self, entity: u64) -> Answer {
        let (by, record) = (self.instance, self.record(entity));
        self.ask(Command::Spawn { by, record })
    }

    /// Has services told of something: a player comes.
    pub fn tell(&mut self, entity: u64) -> Answer {
        let (by, record) = (self.instance, self.of_player(entity));
        self.ask(Command::Spawn { by, record })
    }

    /// The record of a player's entity; both have the same number.
    pub fn of_player(&self, entity: u64) -> Record {
        let player = Some(PlayerId(entity));
        Record {
            player,
            ..self.record(entity)
        }
    }

    pub fn spawned(&self) -> Answer {
        let epoch = EntityEpoch(1).in_generation(self.generation());
        Some(Ok(Done::Spawned { epoch }))
    }

    /// A transfer of a record, under the epoch at the receiver.
    pub fn transfer(&self, number: u64, to: ZoneId, record: Record) -> Transfer {
        let from = self.instance;
        let epoch = record.epoch.next();
        Transfer {
            id: TransferId { from, number },
            to,
            records: vec![Record { epoch, ..record }],
        }
    }

    pub fn accept(&mut self, transfer: &Transfer) -> Answer {
        let (by, id, entities) = (self.instance, transfer.id, transfer.entities());
        self.ask(Command::Accept { by, id, entities })
    }

    /// The next transfer that comes in.
    pub fn await_transfer(&mut self) -> Transfer {
        let gives_up_at = Instant::now() + PATIENCE;
        while self.inbox.is_empty() {
            match self.bus.try_receive() {
                Some(Heard::Inbox(transfer)) => self.inbox.push(transfer),
                Some(Heard::Answer(..)) => panic!("an answer to no question"),
                None => assert!(Instant::now() < gives_up_at, "nothing comes in"),
            }
            std::thread::yield_now();
        }
        self.inbox.remove(0)
    }
}

/// The entity that an event is about.
pub fn entity_of(event: &Event) -> u64 {
    match event.what {
        Happening::Joined { entity, .. }
        | Happening::Left { entity }
        | Happening::Died { entity, .. }
        | Happening::HandedOff { entity, .. } => entity.0,
    }
}

/// Waits until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let gives_up_at = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < gives_up_at, "it does not come to pass that {what}");
        std::thread::yield_now();
    }
}
