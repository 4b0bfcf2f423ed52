//! The end of a history: nothing goes wrong any more, and everything has to come right.

use meridian_ids::{Tick, WorldEntityId, ZoneId};

use super::{Simulation, patience};
use crate::checks::{Invariant, Violation};
use crate::choice::{Choice, MACHINES_PER_ZONE};
use crate::process::Process;

/// Ticks between two looks at whether everything has come right.
const LOOKED_AT_EVERY: u64 = 5;
/// Ticks for which all inputs must have arrived.
const INPUT_TICKS: u64 = 10;
/// Ticks for which it has to stay right.
const STAYS_RIGHT: u64 = 5;

impl Simulation {
    /// Ends all faults, and runs on until everything is as it has to be.
    ///
    /// # Errors
    ///
    /// The first [`Violation`]; of [`Invariant::Liveness`] if it takes too long.
    pub fn settle(&mut self) -> Result<(), Violation> {
        self.checks.tell(|| "no more faults".to_owned());
        self.heal();
        let ticks = patience().as_nanos() / self.setup.rate.tick_duration().as_nanos();
        let mut right = 0;
        for tick in 1..=ticks as u64 {
            self.step(Choice::Beat { turn: 0 })?;
            if right > 0 {
                right += 1;
            }
            if right > STAYS_RIGHT || tick.is_multiple_of(LOOKED_AT_EVERY) && self.wrong().is_none() {
                right += 1;
                if right > STAYS_RIGHT && self.wrong().is_none() {
                    return Ok(());
                }
            }
        }
        let wrong = self.wrong().unwrap_or_else(|| "nothing stays right".to_owned());
        self.checks.fail(Invariant::Liveness, || wrong);
        match self.checks.violation.clone() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }

    fn heal(&mut self) {
        self.store.heal(self.now);
        self.tend();
        self.store.all_straggle(self.now, &mut self.checks);
        self.wires.heal();
        for slot in &mut self.slots {
            if let Some(process) = &mut slot.process {
                process.connection.heal();
                process.wakes_now(self.now);
            }
        }
        for zone in 0..usize::from(self.setup.zones) {
            let first = zone * usize::from(MACHINES_PER_ZONE);
            let machines = first..first + usize::from(MACHINES_PER_ZONE);
            let is_cared_for = machines.into_iter().any(|index| {
                let slot = self.slots.get(index);
                slot.is_some_and(|slot| slot.process.is_some() || slot.starts_at.is_some())
            });
            if let Some(slot) = self.slots.get_mut(first).filter(|_| !is_cared_for) {
                slot.starts_at = Some(self.now);
            }
        }
    }

    /// The first thing that is not as it has to be.
    fn wrong(&self) -> Option<String> {
        self.wrong_entity()
            .or_else(|| self.wrong_process())
            .or_else(|| self.wrong_sight())
            .or_else(|| self.wrong_player())
    }

    fn holder(&self, zone: ZoneId) -> Option<&Process> {
        let mut may = self.processes().filter(|process| process.machine.zone == zone);
        may.find(|process| process.may_simulate(self.now))
    }

    fn wrong_entity(&self) -> Option<String> {
        for (entity, is_there) in self.checks.expected() {
            if self.store.model.owner(entity).is_some() != is_there {
                let wanted = if is_there { "was lost" } else { "is back" };
                return Some(format!("{entity} {wanted}"));
            }
        }
        for (entity, zone, _, in_transit) in self.store.model.owners() {
            if in_transit {
                return Some(format!("{entity} is on its way to {zone} for ever"));
            }
            let Some(process) = self.holder(zone) else {
                return Some(format!("nobody has {zone}"));
            };
            let last = process.last_tick();
            if self.checks.simulator(entity, last) != Some(process.id) {
                return Some(format!(
                    "{entity} of {zone} is not simulated by {} in {last}",
                    process.id
                ));
            }
            let simulating = self
                .processes()
                .filter(|process| process.simulates(entity) && process.may_simulate(self.now));
            if simulating.count() != 1 {
                return Some(format!("{entity} is simulated by several"));
            }
            let place = self.scenery.place(entity).unwrap_or(zone);
            if place != zone && !self.is_bound(entity) {
                return Some(format!(
                    "{entity} stands in the place of {place}, and {zone} still has it"
                ));
            }
        }
        None
    }

    /// Whether an entity is tied to another: where they want to go may differ.
    fn is_bound(&self, entity: WorldEntityId) -> bool {
        self.scenery.tied_to(entity).next().is_some()
    }

    fn wrong_process(&self) -> Option<String> {
        for process in self.processes().filter(|process| process.may_simulate(self.now)) {
            let backlog = process.ownership.backlog();
            if backlog.transfers > 0 || process.ownership.handoff().leaving().next().is_some() {
                return Some(format!("{} has handovers under way for ever", process.id));
            }
            for (entity, ..) in process.ownership.handoff().owned() {
                if !process.simulates(entity) {
                    return Some(format!("{} owns {entity} and does not simulate it", process.id));
                }
                if self.store.model.owner(entity).is_none() {
                    return Some(format!("{} owns {entity}, which is nowhere", process.id));
                }
            }
        }
        None
    }

    fn wrong_sight(&self) -> Option<String> {
        for (index, gateway) in self.gateways.iter().enumerate() {
            for (entity, zone, epoch, _) in self.store.model.owners() {
                if gateway.sight.owner(entity) != Some((zone, epoch)) {
                    let seen = gateway.sight.owner(entity);
                    return Some(format!(
                        "gateway {index} sees {entity} as {seen:?}, not in {zone} at {epoch:?}"
                    ));
                }
            }
            for (entity, ..) in gateway.sight.entities() {
                if self.store.model.owner(entity).is_none() && !self.checks.is_doubtful(entity) {
                    return Some(format!("gateway {index} still shows {entity}"));
                }
            }
        }
        None
    }

    fn wrong_player(&self) -> Option<String> {
        let owners = self.store.model.owners();
        for client in &self.clients {
            let player = client.player;
            let of_player = owners.iter().filter(|(entity, zone, ..)| {
                let mut records = self.store.model.records(*zone);
                records.any(|record| record.entity == *entity && record.player == Some(player))
            });
            let (doubtful, certain): (Vec<bool>, Vec<bool>) = of_player
                .map(|(entity, ..)| self.checks.is_doubtful(*entity))
                .partition(|is_doubtful| *is_doubtful);
            let (count, wanted) = (certain.len(), usize::from(client.is_playing));
            if count > wanted || count + doubtful.len() < wanted {
                return Some(format!(
                    "{player} has {count} entities, and plays: {}",
                    client.is_playing
                ));
            }
            let until = self
                .slots
                .iter()
                .filter_map(|slot| Some(slot.process.as_ref()?.last_tick()))
                .min();
            let until = until.unwrap_or(Tick(0));
            let recent = (until - INPUT_TICKS).0..=until.0;
            if client.is_playing
                && let Some(tick) = recent.map(Tick).find(|tick| !self.checks.is_applied(player, *tick))
            {
                return Some(format!("the input of {player} for {tick} does not arrive"));
            }
        }
        None
    }
}
