//! What each choice does.

use std::time::Duration;

use meridian_ids::{WorldEntityId, ZoneId};

use super::Simulation;
use crate::choice::{Choice, MACHINES_PER_ZONE};
use crate::coverage::Occurrence;
use crate::gateway::Gateway;
use crate::process::Process;

impl Simulation {
    pub(super) fn happen(&mut self, choice: Choice) {
        match choice {
            Choice::Beat { turn } => self.beat(turn),
            Choice::Pass { quarters } => self.now += self.setup.rate.tick_duration() * u32::from(quarters) / 4,
            Choice::Run { party } => self.run(party),
            Choice::Walk { entity, zone } => self.walk(entity, zone),
            Choice::Tie { one, other } => self.tie(one, other),
            Choice::Part { entity } => self.part(entity),
            Choice::Destroy { entity } => {
                let entity = self.entity(entity);
                self.scenery.doomed.extend(entity);
            }
            Choice::Quit { player } => self.player(player, None),
            Choice::Return { player, gateway } => self.player(player, Some(gateway)),
            Choice::Straggle { which } => self.store.straggle(which, self.now, &mut self.checks),
            Choice::Vanish { which } => self.store.vanish(which),
            Choice::StoreAway { ticks } => {
                self.checks.note(Occurrence::StoreAway);
                self.store.goes_away(self.now + self.ticks(ticks));
            }
            Choice::Sync => self.store.sync(self.now, &mut self.checks),
            Choice::StoreRestart { loses, ticks } => self.restart_store(loses, ticks),
            Choice::Crash {
                machine,
                elsewhere,
                held_up,
                ticks,
            } => self.crash(machine, elsewhere, held_up, ticks),
            Choice::Start { machine } => {
                let (index, now) = (self.index(machine), self.now);
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.starts_at.get_or_insert(now);
                }
            }
            Choice::Link {
                link,
                fate,
                count,
                ticks,
            } => {
                self.wires.trouble(link, fate, count.max(1), self.ticks(ticks));
            }
            Choice::GatewayRestart { gateway } => self.restart_gateway(gateway),
            Choice::Skew { machine, quarters } => self.skew(machine, quarters),
            Choice::Sleep { seconds } => {
                self.checks.note(Occurrence::Slept);
                self.store.sync(self.now, &mut self.checks);
                self.now += Duration::from_secs(u64::from(seconds));
            }
            Choice::Slow { machine, .. }
            | Choice::LoseAnswer { machine }
            | Choice::HoldUp { machine, .. }
            | Choice::Refuse { machine }
            | Choice::TellAgain { machine }
            | Choice::Break { machine, .. }
            | Choice::Pause { machine, .. } => self.trouble(machine, choice),
        }
    }

    /// Something happens to a process or to its connection.
    fn trouble(&mut self, machine: u8, choice: Choice) {
        let (index, now) = (self.index(machine), self.now);
        let until = |ticks: u8| now + self.ticks(ticks);
        let (brief, long, answers) = match choice {
            Choice::Slow { commands, answers, .. } => (self.ticks(commands), now, self.ticks(answers)),
            Choice::Break { ticks, .. } | Choice::Pause { ticks, .. } => (Duration::ZERO, until(ticks), Duration::ZERO),
            _ => (Duration::ZERO, now, Duration::ZERO),
        };
        let Some(process) = self.slots.get_mut(index).and_then(|slot| slot.process.as_mut()) else {
            return;
        };
        let Process { connection, .. } = process;
        match choice {
            Choice::Slow { .. } => connection.slow(brief, answers),
            Choice::LoseAnswer { .. } => connection.lose_answer(),
            Choice::HoldUp { transfer, .. } => connection.hold_up(transfer),
            Choice::Refuse { .. } => connection.refuse(),
            Choice::TellAgain { .. } => connection.tell_again(now, &mut self.checks),
            Choice::Break { held_up, .. } => connection.breaks(now, long, held_up, &mut self.store, &mut self.checks),
            Choice::Pause { mid_tick, .. } => process.pauses(now, long, mid_tick),
            _ => {}
        }
    }

    fn index(&self, machine: u8) -> usize {
        usize::from(machine) % self.slots.len().max(1)
    }

    fn entity(&self, entity: u8) -> Option<WorldEntityId> {
        let entities = self.entities();
        let index = usize::from(entity).checked_rem(entities.len())?;
        entities.get(index).map(|(entity, _)| *entity)
    }

    /// One party runs, if it has something to do.
    fn run(&mut self, party: u8) {
        let slots = self.slots.len();
        let index = usize::from(party) % (slots + self.gateways.len()).max(1);
        match index.checked_sub(slots) {
            Some(gateway) => self.run_gateway(gateway),
            None => self.run_process(index),
        }
    }

    fn walk(&mut self, entity: u8, zone: u8) {
        if let Some(entity) = self.entity(entity) {
            let zone = ZoneId(u16::from(zone % self.setup.zones.max(1)));
            self.checks.tell(|| format!("    {entity} walks to {zone}"));
            self.scenery.places.insert(entity, zone);
        }
    }

    /// Two entities are tied if one zone simulates both.
    fn tie(&mut self, one: u8, other: u8) {
        let Some(one) = self.entity(one) else { return };
        let processes = self.slots.iter_mut().filter_map(|slot| slot.process.as_mut());
        for process in processes.filter(|process| process.is_running() && process.simulates(one)) {
            let all: Vec<WorldEntityId> = process.entities().filter(|entity| *entity != one).collect();
            let index = usize::from(other).checked_rem(all.len());
            if let Some(other) = index.and_then(|index| all.get(index)) {
                self.checks.note(Occurrence::Tied);
                self.checks.tell(|| format!("    {one} and {other} are tied"));
                self.scenery.ties.insert((one, *other));
                process.ownership.handoff_mut().join(one, *other);
            }
        }
    }

    fn part(&mut self, entity: u8) {
        let Some(entity) = self.entity(entity) else { return };
        self.scenery
            .ties
            .retain(|(one, other)| *one != entity && *other != entity);
        let processes = self.slots.iter_mut().filter_map(|slot| slot.process.as_mut());
        processes.for_each(|process| process.ownership.handoff_mut().part(entity));
    }

    /// A player comes, through a gateway, or goes.
    fn player(&mut self, player: u8, gateway: Option<u8>) {
        let index = usize::from(player) % self.clients.len().max(1);
        let gateways = self.setup.gateways.max(1);
        if let Some(client) = self.clients.get_mut(index) {
            client.is_playing = gateway.is_some();
            client.gateway = gateway.map_or(client.gateway, |gateway| gateway % gateways);
        }
    }

    fn restart_store(&mut self, loses: bool, ticks: u8) {
        let (now, back) = (self.now, self.now + self.ticks(ticks));
        for slot in &mut self.slots {
            if let Some(process) = &mut slot.process {
                process
                    .connection
                    .breaks(now, back, 0, &mut self.store, &mut self.checks);
            }
        }
        self.store.ends(back, loses);
    }

    fn crash(&mut self, machine: u8, elsewhere: bool, held_up: u8, ticks: u8) {
        let (index, starts_at) = (self.index(machine), self.now + self.ticks(ticks.max(1)));
        if self.slots.get(index).is_none_or(|slot| slot.process.is_none()) {
            return;
        }
        self.checks.note(Occurrence::Crash);
        self.end(index, held_up);
        let next = if elsewhere {
            index ^ usize::from(MACHINES_PER_ZONE - 1)
        } else {
            index
        };
        if let Some(slot) = self.slots.get_mut(next) {
            slot.starts_at.get_or_insert(starts_at);
        }
    }

    fn restart_gateway(&mut self, gateway: u8) {
        let (count, tick) = (self.gateways.len().max(1), self.tick());
        let index = usize::from(gateway) % count;
        if let Some(restarted) = self.gateways.get_mut(index) {
            self.checks.note(Occurrence::GatewayCrash);
            *restarted = Gateway::new(index as u8, self.setup.rate, tick);
            self.wires.gateway_ended(index as u8);
            self.checks.gateway_restarted(index as u8);
        }
    }

    /// A clock is corrected. One that is being read by a process is slewed, and so is never put back.
    fn skew(&mut self, machine: u8, quarters: i8) {
        let index = self.index(machine);
        self.checks.note(Occurrence::Skewed);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.machine.skew = quarters;
            if let Some(process) = &mut slot.process {
                process.machine.skew = quarters;
            }
        }
    }
}
