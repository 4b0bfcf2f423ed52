//! A zone and its gateways: who plays in it, what they ask for, and what all of them are told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use meridian_fabric::desk::Answer;
use meridian_fabric::{FabricError, GatewayMessage, PassedAction, PeerMessage, ZoneEnd, ZoneMessage};
use meridian_game::ActionRegistry;
use meridian_ids::{EntityEpoch, PlayerId, Tick, WorldEntityId};

use super::{Zone, desk};
use crate::custody::PortId;
use crate::input_ring::InputRing;
use crate::snapshot::SnapshotBuilder;
use crate::traces;

/// Players one zone lets in.
pub const PLAYERS_MAX: usize = 1_000;
/// Messages one gateway may have handled in a tick; the rest waits for the next.
const MESSAGES_PER_TICK_MAX: usize = 16_384;
/// Why a player is not let in here, though perhaps elsewhere.
pub(super) const ZONE_FULL: &str = "the zone is full";
/// What who ordered a join is told that the durable side refuses; the log says why.
const REFUSED: &str = "the player cannot be let in now";
/// What left the world and waits for a gateway to be told of: more is found out by whole snapshots, later.
const LEFT_WAITING_MAX: usize = 1_024;
/// Actions that wait for entities that came before their time.
const EARLY_ACTIONS_MAX: usize = 256;
/// Zones that an action may be passed on to, after a player who runs from one to the next.
const ACTION_HOPS_MAX: u8 = 4;

/// A connection to one gateway.
pub(super) struct Port {
    id: PortId,
    end: Arc<dyn ZoneEnd>,
    whole_next: bool,
    /// What left the world and was refused by a full queue. What is too much is found out by whole snapshots.
    left: VecDeque<(WorldEntityId, EntityEpoch)>,
    /// It is told once that not everything fits into what the link carries.
    is_told_too_large: bool,
}

/// The connections to gateways, in the order in which they came.
#[derive(Default)]
pub(super) struct Ports {
    open: Vec<Port>,
    opened: u64,
}

impl Ports {
    pub(super) fn open(&mut self, end: Arc<dyn ZoneEnd>) {
        self.opened += 1;
        self.open.push(Port {
            id: PortId(self.opened),
            end,
            whole_next: true,
            left: VecDeque::new(),
            is_told_too_large: false,
        });
    }

    /// Every gateway is told everything with the next tick.
    pub(super) fn tell_all(&mut self) {
        self.open.iter_mut().for_each(|port| port.whole_next = true);
    }

    fn get(&self, id: PortId) -> Option<&Port> {
        self.open.iter().find(|port| port.id == id)
    }

    /// Drops what is closed; says how many that were.
    fn close(&mut self) -> usize {
        let before = self.open.len();
        self.open.retain(|port| !port.end.is_closed());
        before - self.open.len()
    }
}

impl Zone {
    /// Connects another gateway. It is told everything with the next tick; one whose end is closed is dropped by itself.
    pub fn add_gateway(&mut self, end: Arc<dyn ZoneEnd>) {
        self.ports.open(end);
        self.rest.disturb();
    }

    /// Takes in what gateways say.
    pub(super) fn hear_gateways(&mut self) {
        for index in 0..self.ports.open.len() {
            for _ in 0..MESSAGES_PER_TICK_MAX {
                let port = &self.ports.open[index];
                let (id, Some(message)) = (port.id, port.end.try_receive()) else {
                    break;
                };
                self.rest.disturb();
                self.handle(id, message);
            }
        }
        let closed = self.ports.close();
        if closed > 0 {
            tracing::info!(zone = %self.config.zone, closed, "gateways gone; their players wait for another");
        }
    }

    fn handle(&mut self, port: PortId, message: GatewayMessage) {
        match message {
            GatewayMessage::Resync => {
                if let Some(port) = self.ports.open.iter_mut().find(|open| open.id == port) {
                    port.whole_next = true;
                }
            }
            GatewayMessage::Join { player, name } => match self.join(port, player, &name) {
                Ok(()) => {}
                // Another zone may have room: the gateway asks around.
                Err(reason @ ZONE_FULL) => {
                    tracing::warn!(%player, zone = %self.config.zone, reason, "join refused");
                }
                Err(reason) => self.refuse_join(player, reason),
            },
            GatewayMessage::Leave { player, entity } => self.leave(port, player, entity),
            GatewayMessage::Inputs(batch) => self.population.insert_inputs(port, batch, &self.config.clock),
            GatewayMessage::Action { entity, kind, payload } => {
                self.act(PassedAction {
                    entity,
                    kind,
                    payload,
                    hops: 0,
                });
            }
        }
    }

    /// Tells the gateway that asked last for the player that it cannot be let in.
    pub(super) fn refuse_join(&mut self, player: PlayerId, reason: &str) {
        tracing::warn!(%player, zone = %self.config.zone, reason, "join refused");
        self.orders.not_joined(player, &Answer::Refused(REFUSED));
        let knocked = self.population.knocks.remove(&player);
        if let Some(port) = knocked.and_then(|port| self.ports.get(port)) {
            let refused = ZoneMessage::JoinRefused {
                player,
                reason: reason.to_owned(),
            };
            // A gateway that does not even take this in is dropping its clients itself.
            let _ = port.end.send(refused);
        }
    }

    pub(super) fn join(&mut self, port: PortId, player: PlayerId, name: &str) -> Result<(), &'static str> {
        if let Some(known) = self.population.players.get_mut(&player) {
            // A player that comes back keeps its entity; its input starts anew.
            known.inputs = InputRing::new(self.next);
            known.custody.heard(port);
            return Ok(());
        }
        if self.population.players.len() + self.joining.len() >= PLAYERS_MAX {
            return Err(ZONE_FULL);
        }
        self.population.knocks.insert(player, port);
        if self.joining.insert(player) {
            self.spawn_player(player, name).inspect_err(|_| {
                self.joining.remove(&player);
            })?;
        }
        Ok(())
    }

    fn leave(&mut self, port: PortId, player: PlayerId, entity: Option<(WorldEntityId, EntityEpoch)>) {
        if let Some(known) = self.population.players.get_mut(&player) {
            let id = known.id;
            if known.custody.let_go(port) {
                self.retire(id);
            }
        } else if let Some((id, epoch)) = entity.filter(|(id, _)| self.facts.epoch(*id).is_none()) {
            // The gateway still has it. If it is nowhere, this zone's word that it left was lost; if it is another zone's, or on its way,
            // that one is told too.
            self.facts.ownership.retire_unknown(id, epoch, self.next - 1);
            self.hear();
        }
    }

    /// Players whom no gateway has played for too long leave the world.
    pub(super) fn end_grace(&mut self) {
        let (ports, rate) = (&self.ports, self.config.clock.rate());
        let over = self.population.count_grace(|port, ticks_ago| {
            if port == desk::DESK {
                desk::is_open(rate.tick_duration() * ticks_ago)
            } else {
                ports.get(port).is_some()
            }
        });
        for id in over {
            tracing::info!(entity = %id, zone = %self.config.zone, "no gateway plays the player; it leaves the world");
            self.retire(id);
        }
    }

    /// An action of a player of the zone; that of one who has just left goes after it.
    pub(super) fn act(&mut self, action: PassedAction) {
        let id = action.entity;
        if let Some(player) = self.population.player_of(id) {
            let (world, entity) = (self.app.world_mut(), player.entity);
            if let Err(error) = ActionRegistry::trigger(world, entity, action.kind, &action.payload) {
                tracing::debug!(entity = %id, %error, "action refused");
            }
            return;
        }
        if self.held.iter().any(|record| record.entity == id) {
            // Its time has not come yet; as many actions as a player may send in that.
            if self.early_actions.len() < EARLY_ACTIONS_MAX {
                self.early_actions.push(action);
            }
            return;
        }
        let owner = self.ghosts.owner(id);
        let peer = owner.and_then(|owner| self.peers.iter().find(|peer| peer.zone == owner));
        if let Some(peer) = peer.filter(|_| action.hops < ACTION_HOPS_MAX) {
            let hops = action.hops + 1;
            // The fabric counts what a neighbour that takes in nothing loses.
            let _ = peer.end.send(PeerMessage::Action(PassedAction { hops, ..action }));
        }
    }

    /// Tells every gateway what left the world, and those that did not keep up what they were not told.
    pub(super) fn send_left(&mut self) {
        for port in &mut self.ports.open {
            port.left.extend(&self.left);
            while let Some((entity, epoch)) = port.left.front().copied() {
                if port.end.send(ZoneMessage::Left { entity, epoch }) == Err(FabricError::Full) {
                    break;
                }
                port.left.pop_front();
            }
            let too_many = port.left.len().saturating_sub(LEFT_WAITING_MAX);
            port.whole_next |= too_many > 0;
            port.left.drain(..too_many);
        }
        self.left.clear();
    }

    /// Tells every gateway what changed in `tick`, and everything to those that ask for it. Returns when the tick was done.
    pub(super) fn send_snapshot(&mut self, tick: Tick, began: Instant, now: impl FnOnce() -> Instant) -> Instant {
        let Some(instance) = self.facts.instance() else {
            return now();
        };
        let probes = std::mem::take(&mut self.probes);
        let header = (instance.zone, instance.lease, tick, began);
        let wants_whole = self.ports.open.iter().any(|port| port.whole_next);
        let built = if self.rest.is_resting() && !wants_whole {
            SnapshotBuilder::nothing(header)
        } else {
            self.snapshots.build(self.app.world_mut(), header, probes, wants_whole)
        };
        self.touched.extend(built.changed());
        if built.changed().next().is_some() {
            self.rest.disturb();
        }
        let finished = now();
        let (changes, whole) = built.finish(finished);
        let zone = self.config.world.zone_name(instance.zone);
        changes
            .probes
            .iter()
            .for_each(|probe| traces::applied(probe, tick, finished, zone));
        for port in &mut self.ports.open {
            let snapshot = match &whole {
                Some(whole) if port.whole_next => whole.clone(),
                _ => changes.clone(),
            };
            // What a full queue refused is made good by a whole snapshot as soon as it has room.
            let sent = port.end.send(ZoneMessage::Snapshot(snapshot));
            port.whole_next = sent.is_err();
            if sent == Err(FabricError::TooLarge) && !std::mem::replace(&mut port.is_told_too_large, true) {
                tracing::error!(zone = %instance.zone, "the zone has more entities than a snapshot carries to a gateway, which sees none of them; cut the world into smaller zones");
            }
        }
        finished
    }
}
