//! A gateway and its clients: what it believes of what zones tell, and what it sends them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use meridian_handoff::{HeldInputs, Sight, Sighting, receivers};
use meridian_ids::{PlayerId, Tick, TickRate, WorldEntityId, ZoneId};

use crate::checks::{Accepted, Checks};
use crate::choice::MACHINES_PER_ZONE;
use crate::coverage::Occurrence;
use crate::planted::Planted;
use crate::process::input_of;
use crate::scenery::Scenery;
use crate::wires::{Snapshot, ToGateway, ToZone, Wires};

/// How early clients send their inputs, in ticks: clocks are up to two ticks off.
const INPUT_LEAD: u64 = 6;
/// Inputs in a message beyond the new ones: a lost one costs nothing.
const INPUTS_REPEATED: u64 = 3;

/// A player's client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) player: PlayerId,
    pub(crate) gateway: u8,
    pub(crate) is_playing: bool,
}

/// What a gateway can reach.
pub(crate) struct Outside<'a> {
    pub(crate) now: Duration,
    pub(crate) tick: Tick,
    pub(crate) zones: u8,
    pub(crate) clients: &'a [Client],
    pub(crate) wires: &'a mut Wires,
    pub(crate) scenery: &'a Scenery,
    pub(crate) checks: &'a mut Checks,
    pub(crate) planted: Option<Planted>,
}

#[derive(Debug)]
pub(crate) struct Gateway {
    index: u8,
    rate: TickRate,
    pub(crate) sight: Sight,
    players: BTreeMap<WorldEntityId, PlayerId>,
    held: BTreeMap<PlayerId, HeldInputs<u64>>,
    /// When each player's join or leave was sent last, and how often.
    asked: BTreeMap<PlayerId, (Tick, u64)>,
    ran: Tick,
}

impl Gateway {
    pub(crate) fn new(index: u8, rate: TickRate, now: Tick) -> Self {
        Self {
            index,
            rate,
            sight: Sight::new(rate),
            players: BTreeMap::new(),
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            ran: now,
        }
    }

    pub(crate) fn run(&mut self, outside: &mut Outside<'_>) {
        for message in outside.wires.gateway_hears(self.index, outside.now) {
            match message {
                ToGateway::Snapshot(snapshot) => self.take_snapshot(&snapshot, outside),
                ToGateway::Left(entity, epoch) => {
                    if self.sight.left(entity, epoch, outside.tick) {
                        self.players.remove(&entity);
                    }
                }
            }
        }
        if outside.tick > self.ran {
            for entity in self.sight.forget(outside.tick) {
                self.players.remove(&entity);
            }
            let clients = outside.clients.iter();
            for client in clients
                .filter(|client| client.gateway == self.index)
                .copied()
                .collect::<Vec<_>>()
            {
                self.serve(client, outside);
            }
            self.ran = outside.tick;
        }
    }

    fn take_snapshot(&mut self, snapshot: &Snapshot, outside: &mut Outside<'_>) {
        let counts = self.sight.snapshot(snapshot.zone, snapshot.lease);
        if !counts {
            outside.checks.note(Occurrence::StaleLease);
            if outside.planted != Some(Planted::GatewayIgnoresLeases) {
                return;
            }
        }
        for told in &snapshot.entities {
            let sighting = self
                .sight
                .entity((snapshot.zone, snapshot.tick), told.entity, told.epoch);
            if sighting == Sighting::Ignore {
                outside.checks.note(Occurrence::StaleEpoch);
                if outside.planted != Some(Planted::GatewayIgnoresEpochs) {
                    continue;
                }
            }
            outside.checks.accepted(&Accepted {
                gateway: self.index,
                by: snapshot.by,
                entity: told.entity,
                epoch: told.epoch,
                tick: snapshot.tick,
                state: told.state,
                lease: snapshot.lease,
                zone: snapshot.zone,
            });
            if let Some(player) = told.player {
                self.players.insert(told.entity, player);
                if sighting == Sighting::ChangedHands {
                    self.send_held(player, told.entity, snapshot, outside);
                }
            }
        }
        let listed = |entity| {
            let found = snapshot.entities.binary_search_by_key(&entity, |told| told.entity);
            found.is_ok()
        };
        self.sight.whole((snapshot.zone, snapshot.tick), listed, outside.tick);
    }

    /// The new owner of a player is sent the inputs for the ticks after its state.
    fn send_held(&self, player: PlayerId, entity: WorldEntityId, snapshot: &Snapshot, outside: &mut Outside<'_>) {
        let Some(held) = self.held.get(&player) else { return };
        let later: Rc<[(Tick, u64)]> = held.since(snapshot.tick).map(|(tick, input)| (tick, *input)).collect();
        if !later.is_empty() {
            outside.checks.note(Occurrence::InputsResent);
            self.send(snapshot.zone, &ToZone::Inputs(entity, later), outside);
        }
    }

    fn send(&self, zone: ZoneId, message: &ToZone, outside: &mut Outside<'_>) {
        let first = zone.0 as u8 * MACHINES_PER_ZONE;
        for machine in first..first + MACHINES_PER_ZONE {
            let ends = (machine, self.index);
            outside
                .wires
                .tell_zone(ends, outside.now, message.clone(), outside.checks);
        }
    }

    /// The entity of a player, as far as the gateway sees it.
    fn entity_of(&self, player: PlayerId) -> Option<(WorldEntityId, ZoneId)> {
        let mut of_player = self.players.iter().rev().filter(|(_, of)| **of == player);
        let (entity, _) = of_player.next()?;
        self.sight.owner(*entity).map(|(zone, _)| (*entity, zone))
    }

    fn serve(&mut self, client: Client, outside: &mut Outside<'_>) {
        let player = client.player;
        let seen = self.entity_of(player);
        if client.is_playing {
            self.play(player, seen, outside);
        }
        let is_settled = client.is_playing == seen.is_some();
        let (asked, attempts) = self.asked.get(&player).copied().unwrap_or_default();
        let second = i64::from(self.rate.hz());
        if is_settled || attempts > 0 && outside.tick.since(asked) < second {
            return;
        }
        self.asked.insert(player, (outside.tick, attempts + 1));
        if let Some((entity, zone)) = seen {
            if let Some((_, epoch)) = self.sight.owner(entity) {
                self.send(zone, &ToZone::Leave(player, entity, epoch), outside);
            }
        } else {
            let zone = (player.0 + attempts) % u64::from(outside.zones);
            self.send(ZoneId(zone as u16), &ToZone::Join(player), outside);
        }
    }

    /// A client's inputs of the ticks since the last time, which are sent on at once.
    fn play(&mut self, player: PlayerId, seen: Option<(WorldEntityId, ZoneId)>, outside: &mut Outside<'_>) {
        let held = self.held.entry(player).or_default();
        let first = self.ran.next().max(outside.tick - 60);
        for tick in first.0..=outside.tick.0 {
            let tick = Tick(tick + INPUT_LEAD);
            held.hold(tick, input_of(player, tick));
        }
        let Some((entity, owner)) = seen else { return };
        let inputs: Rc<[(Tick, u64)]> = held
            .since(first + INPUT_LEAD - 1 - INPUTS_REPEATED)
            .map(|(tick, input)| (tick, *input))
            .collect();
        let message = ToZone::Inputs(entity, inputs);
        for zone in receivers(owner, outside.scenery.place(entity)) {
            self.send(zone, &message, outside);
        }
    }
}
