//! A world, and what happens to it step by step.

use std::time::Duration;

use meridian_handoff::{LEASE_TTL, SETTLING};
use meridian_ids::{EntityEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

use crate::checks::{Checks, Invariant, ProcessId, Violation};
use crate::choice::{Choice, MACHINES_PER_ZONE, Setup};
use crate::coverage::Coverage;
use crate::gateway::{Client, Gateway, Outside};
use crate::history::History;
use crate::planted::Planted;
use crate::process::{Around, Machine, Process};
use crate::scenery::Scenery;
use crate::store::Store;
use crate::wires::Wires;

mod faults;
mod settling;

/// When histories begin: late enough that no clock shows less than nothing.
const BEGINNING: Duration = Duration::from_secs(100);
/// A zone whose process was told that another has it is started again after so many ticks.
const RESTARTED_AFTER_TICKS: u32 = 20;

/// A machine, and the process on it.
#[derive(Debug)]
struct Slot {
    machine: Machine,
    process: Option<Process>,
    starts_at: Option<Duration>,
}

/// A world: zones, gateways, clients and the store, with everything between them.
#[derive(Debug)]
pub struct Simulation {
    setup: Setup,
    now: Duration,
    store: Store,
    slots: Vec<Slot>,
    gateways: Vec<Gateway>,
    clients: Vec<Client>,
    wires: Wires,
    scenery: Scenery,
    checks: Checks,
    processes: u32,
    /// Until when the store waits for what lives.
    settled_at: Duration,
    is_settling: bool,
    planted: Option<Planted>,
}

impl Simulation {
    /// A world at its beginning: each zone has a process on its first machine, and nobody has a lease.
    pub fn new(setup: Setup) -> Self {
        let base = Tick(BEGINNING.as_nanos() as u64 / setup.rate.tick_duration().as_nanos() as u64);
        let machines = setup.zones * MACHINES_PER_ZONE;
        let machine = |index: u8| Machine {
            index,
            zone: ZoneId(u16::from(index / MACHINES_PER_ZONE)),
            rate: setup.rate,
            skew: setup.skews.get(usize::from(index)).copied().unwrap_or(0),
            drift: setup.drifts.get(usize::from(index)).copied().unwrap_or(0),
            last: base - 8,
        };
        let slots = (0..machines).map(|index| Slot {
            machine: machine(index),
            process: None,
            starts_at: index.is_multiple_of(MACHINES_PER_ZONE).then_some(BEGINNING),
        });
        let client = |player: u8| Client {
            player: PlayerId(u64::from(player)),
            gateway: player % setup.gateways.max(1),
            is_playing: true,
        };
        Self {
            now: BEGINNING,
            store: Store::new(setup.before),
            slots: slots.collect(),
            gateways: (0..setup.gateways)
                .map(|index| Gateway::new(index, setup.rate, base))
                .collect(),
            clients: (0..setup.players).map(client).collect(),
            wires: Wires::new(machines, setup.gateways),
            scenery: Scenery {
                things: setup.things,
                before: setup.before,
                ..Scenery::default()
            },
            checks: Checks::new(BEGINNING, base - 8),
            processes: 0,
            settled_at: Duration::ZERO,
            is_settling: false,
            planted: None,
            setup,
        }
    }

    /// Puts a fault in.
    #[must_use]
    pub fn planted(mut self, planted: Option<Planted>) -> Self {
        (self.planted, self.store.planted) = (planted, planted);
        self
    }

    /// Keeps account of what the store is asked, and answers.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.store.history = Some(History {
            before: self.setup.before,
            ..History::default()
        });
        self
    }

    /// Writes down in words what happens.
    #[must_use]
    pub fn telling(mut self) -> Self {
        self.checks.trace = Some(Vec::new());
        self
    }

    /// What happened, in words, oldest first.
    pub fn trace(&self) -> &[String] {
        self.checks.trace.as_deref().unwrap_or_default()
    }

    /// What happened, and how often.
    pub fn coverage(&self) -> &Coverage {
        &self.checks.coverage
    }

    /// What the store was asked, and answered.
    pub fn into_history(self) -> History {
        let mut history = self.store.history.unwrap_or_default();
        history.outcome = self.store.model;
        history
    }

    /// Does one step.
    ///
    /// # Errors
    ///
    /// The first [`Violation`] of what must hold after every step.
    pub fn step(&mut self, choice: Choice) -> Result<(), Violation> {
        self.checks.now = self.now;
        self.checks.tell(|| choice.to_string());
        self.happen(choice);
        self.checks.now = self.now;
        self.tend();
        self.check_leases();
        match &self.checks.violation {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// The entities that there are, by the store, with their owners; in the order of their ids.
    pub fn entities(&self) -> Vec<(WorldEntityId, ZoneId)> {
        let owners = self.store.model.owners().into_iter();
        owners.map(|(entity, zone, ..)| (entity, zone)).collect()
    }

    /// When an entity changed its owner, since the world's beginning.
    pub fn handovers(&self, entity: WorldEntityId) -> Vec<Duration> {
        let handovers = self.checks.handovers(entity).iter();
        handovers.map(|at| *at - BEGINNING).collect()
    }

    /// The zone and the epoch in which a gateway shows an entity, if it does.
    pub fn shown(&self, gateway: u8, entity: WorldEntityId) -> Option<(ZoneId, EntityEpoch)> {
        self.gateways.get(usize::from(gateway))?.sight.owner(entity)
    }

    /// The world's present tick.
    pub fn tick(&self) -> Tick {
        Tick(self.now.as_nanos() as u64 / self.setup.rate.tick_duration().as_nanos() as u64)
    }

    fn ticks(&self, count: u8) -> Duration {
        self.setup.rate.tick_duration() * u32::from(count)
    }

    /// What happens by itself: the store comes back, processes are started, and those end that were told to.
    fn tend(&mut self) {
        let alive: Vec<ProcessId> = self
            .slots
            .iter()
            .filter_map(|slot| Some(slot.process.as_ref()?.id))
            .collect();
        let generation = self.store.model.generation();
        self.store.writes(self.now, &mut self.checks);
        self.store
            .comes_back(self.now, &mut self.checks, |process| alive.contains(&process));
        if self.store.model.generation() != generation {
            self.settled_at = self.now + SETTLING;
            self.is_settling = true;
        }
        if self.is_settling && self.now >= self.settled_at {
            self.is_settling = false;
            self.checks.settled();
        }
        for index in 0..self.slots.len() {
            let is_fenced = |slot: &Slot| slot.process.as_ref().is_some_and(|process| process.is_fenced);
            if self.slots.get(index).is_some_and(is_fenced) {
                self.end(index, 0);
                let starts_at = self.now + self.setup.rate.tick_duration() * RESTARTED_AFTER_TICKS;
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.starts_at = Some(starts_at);
                }
            }
            self.start(index);
        }
    }

    fn start(&mut self, index: usize) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.starts_at.take_if(|at| now >= *at).is_some() && slot.process.is_none() {
            self.processes += 1;
            let id = ProcessId(self.processes);
            self.checks
                .tell(|| format!("    {id} starts for {} as machine-{index}", slot.machine.zone));
            slot.process = Some(Process::new(id, slot.machine, now));
        }
    }

    /// A process is gone; some of its commands are held up.
    fn end(&mut self, index: usize, held_up: u8) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(process) = slot.process.take() else { return };
        slot.machine = process.machine;
        let id = process.id;
        self.checks.tell(|| format!("    {id} ends"));
        process
            .connection
            .ends(self.now, held_up, &mut self.store, &mut self.checks);
        self.wires.zone_ended(slot.machine.index);
        self.checks.spoke(id, true, &self.store.model);
    }

    fn beat(&mut self, turn: u8) {
        self.now += self.setup.rate.tick_duration();
        self.checks.now = self.now;
        self.tend();
        let gateways_first = turn & 1 == 1;
        if gateways_first {
            (0..self.gateways.len()).for_each(|index| self.run_gateway(index));
        }
        let count = self.slots.len();
        for nth in 0..count {
            self.run_process((nth + usize::from(turn / 2)) % count.max(1));
        }
        if !gateways_first {
            (0..self.gateways.len()).for_each(|index| self.run_gateway(index));
        }
    }

    fn run_process(&mut self, index: usize) {
        let Some(process) = self.slots.get_mut(index).and_then(|slot| slot.process.as_mut()) else {
            return;
        };
        process.run(&mut Around {
            now: self.now,
            store: &mut self.store,
            wires: &mut self.wires,
            scenery: &self.scenery,
            checks: &mut self.checks,
            planted: self.planted,
        });
    }

    fn run_gateway(&mut self, index: usize) {
        let tick = self.tick();
        let Some(gateway) = self.gateways.get_mut(index) else {
            return;
        };
        gateway.run(&mut Outside {
            now: self.now,
            tick,
            zones: self.setup.zones,
            clients: &self.clients,
            wires: &mut self.wires,
            scenery: &self.scenery,
            checks: &mut self.checks,
            planted: self.planted,
        });
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.slots.iter().filter_map(|slot| slot.process.as_ref())
    }

    /// Nobody may simulate while another may, or has been given the lease.
    fn check_leases(&mut self) {
        let now = self.now;
        let mut faults = Vec::new();
        let mut allowed: Vec<(ZoneId, ProcessId)> = Vec::new();
        for process in self.processes().filter(|process| process.may_simulate(now)) {
            let (zone, id) = (process.machine.zone, process.id);
            if let Some((_, other)) = allowed.iter().find(|(of, _)| *of == zone) {
                faults.push(format!("{id} and {other} both may simulate {zone}"));
            }
            allowed.push((zone, id));
            let held = process.ownership.instance().map(|instance| instance.lease);
            // While the store settles, those of the former generation may go on until their leases end.
            let newer = self.store.model.lease(zone);
            if let Some((newest, until)) = newer.filter(|(_, until)| now < *until && now >= self.settled_at)
                && held < Some(newest)
                && let Some(holder) = self.checks.holder(zone, newest)
                && holder != id
                && self.processes().any(|process| process.id == holder)
            {
                let left = until - now;
                faults.push(format!(
                    "{id} may simulate {zone}, whose lease {holder} has for {left:?}"
                ));
            }
        }
        for fault in faults {
            self.checks.fail(Invariant::OneInstance, || fault);
        }
    }
}

/// How long a world needs at most to come right: leases end, the store settles, and what nobody tells of goes out of sight.
fn patience() -> Duration {
    LEASE_TTL * 3 + SETTLING * 2 + Duration::from_secs(20)
}
