//! A process that runs a zone: the real [`Ownership`], around a simulation that is thin enough to be checked.
//!
//! What it does and in which order is what `server/roles/zone` does. It knows nothing that a process could not know.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use meridian_bus::Heard;
use meridian_handoff::Ownership;
use meridian_handoff::script::{Record, Ticket};
use meridian_ids::{EntityEpoch, EntityIdMint, PlayerId, Tick, TickRate, WorldEntityId, ZoneId};

use crate::checks::{Checks, ProcessId};
use crate::connection::{Connection, Whose};
use crate::coverage::Occurrence;
use crate::planted::Planted;
use crate::scenery::Scenery;
use crate::store::Store;
use crate::wires::{Snapshot, ToGateway, ToZone, Told, Wires};

mod body;
mod owning;

pub(crate) use body::input_of;
use body::{Body, Expected};

/// A longer stall is not caught up: the ticks are left out, as the zone's runner does.
const CAUGHT_UP_TICKS_MAX: i64 = 8;
/// Answers and arrivals handled in a tick; the rest waits for the next.
const HEARD_PER_TICK_MAX: usize = 4_096;

/// What a process can reach.
pub(crate) struct Around<'a> {
    pub(crate) now: Duration,
    pub(crate) store: &'a mut Store,
    pub(crate) wires: &'a mut Wires,
    pub(crate) scenery: &'a Scenery,
    pub(crate) checks: &'a mut Checks,
    pub(crate) planted: Option<Planted>,
}

/// A machine that a process runs on, and its clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) index: u8,
    pub(crate) zone: ZoneId,
    pub(crate) rate: TickRate,
    /// How far its clock is off the world's, in quarters of a tick.
    pub(crate) skew: i8,
    /// How far its boot-time clock is off, in thousandths.
    pub(crate) drift: i8,
    /// The last tick that was simulated or left out on it: a clock never goes back.
    pub(crate) last: Tick,
}

impl Machine {
    /// The last tick that is due on its clock.
    pub(crate) fn tick_at(&self, now: Duration) -> Tick {
        let tick = self.rate.tick_duration().as_nanos() as i64;
        let shown = now.as_nanos() as i64 + i64::from(self.skew) * tick / 4;
        Tick(shown.div_euclid(tick).unsigned_abs()).max(self.last)
    }

    fn name(&self) -> String {
        format!("machine-{}", self.index)
    }
}

/// A process that is paused.
#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Duration,
    until: Duration,
    /// It had looked at the clock, and was about to simulate.
    is_in_tick: bool,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pub(crate) machine: Machine,
    booted: Duration,
    pub(crate) ownership: Ownership,
    pub(crate) connection: Connection,
    next: Tick,
    bodies: BTreeMap<WorldEntityId, Body>,
    /// What came before its time.
    held: Vec<Record>,
    expected: Expected,
    players: BTreeMap<PlayerId, WorldEntityId>,
    joining: BTreeSet<PlayerId>,
    mint: Option<EntityIdMint>,
    left: Vec<(WorldEntityId, EntityEpoch)>,
    pause: Option<Pause>,
    pub(crate) is_fenced: bool,
    /// Transfers under way, for a planted fault.
    transfers: BTreeSet<Ticket>,
}

impl Process {
    pub(crate) fn new(id: ProcessId, machine: Machine, now: Duration) -> Self {
        let zone = machine.zone;
        Self {
            id,
            machine,
            booted: now,
            ownership: Ownership::new(zone, machine.name(), machine.rate),
            connection: Connection::new(Whose { process: id, zone }),
            next: machine.tick_at(now).next(),
            bodies: BTreeMap::new(),
            held: Vec::new(),
            expected: Expected::default(),
            players: BTreeMap::new(),
            joining: BTreeSet::new(),
            mint: None,
            left: Vec::new(),
            pause: None,
            is_fenced: false,
            transfers: BTreeSet::new(),
        }
    }

    /// What its boot-time clock shows.
    pub(crate) fn boot_time(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.booted).as_nanos() as i64;
        Duration::from_nanos((passed + passed / 1_000 * i64::from(self.machine.drift)).unsigned_abs())
    }

    /// Whether its [`Ownership`] says at this time that it may simulate.
    pub(crate) fn may_simulate(&self, now: Duration) -> bool {
        self.ownership.may_simulate(self.boot_time(now))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.pause.is_none() && !self.is_fenced
    }

    /// Whether it simulates the entity.
    pub(crate) fn simulates(&self, entity: WorldEntityId) -> bool {
        self.bodies.contains_key(&entity)
    }

    /// What it simulates, in the order of the ids.
    pub(crate) fn entities(&self) -> impl Iterator<Item = WorldEntityId> {
        self.bodies.keys().copied()
    }

    /// The last tick that it simulated or left out.
    pub(crate) fn last_tick(&self) -> Tick {
        self.next - 1
    }

    pub(crate) fn pauses(&mut self, now: Duration, until: Duration, is_mid_tick: bool) {
        if self.pause.is_none() {
            self.pause = Some(Pause {
                since: now,
                until,
                is_in_tick: is_mid_tick && self.may_simulate(now) && self.mint.is_some(),
            });
        }
    }

    pub(crate) fn wakes_now(&mut self, now: Duration) {
        if let Some(pause) = &mut self.pause {
            pause.until = now;
        }
    }

    /// Runs the ticks that are due.
    pub(crate) fn run(&mut self, around: &mut Around<'_>) {
        self.connection.work(around.now, around.store, around.checks);
        if let Some(pause) = self.pause {
            if around.now < pause.until {
                return;
            }
            self.pause = None;
            self.wake(pause, around);
        }
        let due = self.machine.tick_at(around.now);
        if due.since(self.next) > CAUGHT_UP_TICKS_MAX {
            around.checks.note(Occurrence::Skipped);
            self.skip_to(due);
        }
        while self.next <= due && !self.is_fenced {
            self.step(around);
            self.machine.last = self.machine.last.max(self.next - 1);
        }
        let backlog = self.ownership.backlog();
        around.checks.backlog(self.id, backlog.asked + backlog.transfers);
    }

    /// Goes on where it was paused: within a tick, it does not look at the clock again before the next.
    fn wake(&mut self, pause: Pause, around: &mut Around<'_>) {
        around.checks.tell(|| format!("    {} goes on", self.id));
        if !self.may_simulate(around.now) && self.mint.is_some() {
            around.checks.note(Occurrence::Zombie);
            if pause.is_in_tick {
                around.checks.note(Occurrence::ZombieMidTick);
            }
        }
        if pause.is_in_tick {
            let read = self.boot_time(pause.since);
            self.simulate_tick(read, around);
        }
    }

    fn skip_to(&mut self, tick: Tick) {
        self.next = self.next.max(tick);
        self.bodies.values_mut().for_each(|body| body.skip_to(tick));
    }

    fn step(&mut self, around: &mut Around<'_>) {
        let read = self.boot_time(around.now);
        self.ownership.begin_tick(read);
        self.hear(around);
        if self.is_fenced {
            return;
        }
        let may = match around.planted {
            Some(Planted::IgnoresItsLease) => self.ownership.instance().is_some(),
            _ => self.ownership.may_simulate(read),
        };
        if may {
            self.simulate_tick(read, around);
        } else {
            if self.mint.is_some() {
                around.checks.note(Occurrence::Stopped);
            }
            self.skip_to(self.next.next());
        }
    }

    /// Simulates the next tick, having made sure at the boot time `read` that it may.
    fn simulate_tick(&mut self, read: Duration, around: &mut Around<'_>) {
        let tick = self.next;
        for message in around.wires.zone_hears(self.machine.index, around.now) {
            self.take_message(message, around);
        }
        self.admit_held(tick, around);
        let doomed = around
            .scenery
            .doomed
            .iter()
            .filter(|entity| self.bodies.contains_key(entity));
        for entity in doomed.copied().collect::<Vec<_>>() {
            self.retire(entity, around);
        }
        let may = self.ownership.may_simulate(read) && self.may_simulate(around.now);
        for (entity, body) in &mut self.bodies {
            body.simulate(*entity, tick, (self.id, may), around);
        }
        self.next = tick.next();
        self.tell(tick, around);
        self.hand_over(tick, around);
        if tick.0.is_multiple_of(u64::from(self.machine.rate.hz()) / 2) {
            self.checkpoint(tick);
            self.submit(around);
        }
    }

    fn take_message(&mut self, message: ToZone, around: &mut Around<'_>) {
        match message {
            ToZone::Join(player) => {
                if self.players.contains_key(&player) {
                    around.checks.note(Occurrence::JoinedTwice);
                } else if self.joining.insert(player) {
                    self.spawn_player(player, around);
                }
            }
            ToZone::Leave(player, entity, epoch) => {
                if let Some(own) = self.players.get(&player).copied() {
                    self.retire(own, around);
                } else if self.ownership.handoff().epoch(entity).is_none() {
                    around.checks.condemned(entity);
                    self.ownership.retire_unknown(entity, epoch, self.next - 1);
                    self.hear(around);
                }
            }
            ToZone::Inputs(entity, inputs) => {
                let next = self.next;
                let late = around.planted == Some(Planted::AppliesLateInputs);
                match self.bodies.get_mut(&entity) {
                    Some(body) => body.take_inputs(&inputs, next, late),
                    None => self.expected.expect(entity, &inputs),
                }
            }
        }
    }

    /// What left comes first: the last state of what leaves is another's to tell.
    fn tell(&mut self, tick: Tick, around: &mut Around<'_>) {
        let Some(instance) = self.ownership.instance() else {
            return;
        };
        let machine = self.machine.index;
        for (entity, epoch) in std::mem::take(&mut self.left) {
            let left = ToGateway::Left(entity, epoch);
            around.wires.tell_gateways(machine, around.now, &left, around.checks);
        }
        let told = self.bodies.iter().map(|(entity, body)| Told {
            entity: *entity,
            epoch: body.epoch,
            player: body.player,
            state: body.state,
        });
        let snapshot = ToGateway::Snapshot(Rc::new(Snapshot {
            by: self.id,
            zone: instance.zone,
            lease: instance.lease,
            tick,
            entities: told.collect(),
        }));
        around
            .wires
            .tell_gateways(machine, around.now, &snapshot, around.checks);
    }

    /// Submits what is to be asked, and takes in what has come.
    fn hear(&mut self, around: &mut Around<'_>) {
        loop {
            self.pump(around);
            let Some(news) = self.ownership.next_news() else { return };
            self.take_news(news, around);
        }
    }

    fn pump(&mut self, around: &mut Around<'_>) {
        self.submit(around);
        let last = self.next - 1;
        for _ in 0..HEARD_PER_TICK_MAX {
            match self.connection.try_receive(around.now, around.store, around.checks) {
                Some(Heard::Answer(ticket, answer)) => {
                    let answer = self.planted_answer(ticket, answer, around);
                    self.ownership.answered(ticket, answer, last);
                }
                Some(Heard::Inbox(transfer)) => self.ownership.inbox(transfer),
                None => break,
            }
            self.submit(around);
        }
    }

    fn submit(&mut self, around: &mut Around<'_>) {
        while let Some((ticket, command)) = self.ownership.next_command() {
            let command = self.planted_command(ticket, command, around);
            self.connection
                .submit(around.now, ticket, command, around.store, around.checks);
        }
    }
}
