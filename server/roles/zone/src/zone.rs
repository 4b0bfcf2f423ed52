//! One zone's simulation: an app without a window, stepped one tick at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy::app::App;
use bevy::ecs::entity::Entity;
use bevy::ecs::message::Messages;
use bevy::ecs::query::{QueryState, With, Without};
use bevy::prelude::MinimalPlugins;
use bevy::time::{Fixed, Time, TimeUpdateStrategy};
use bevy::transform::TransformPlugin;
use meridian_bus::Bus;
use meridian_events::{EntityPosition, Happening};
use meridian_fabric::{FabricError, GatewayMessage, PassedAction, PeerMessage, ProbeTiming, ZoneEnd, ZoneMessage};
use meridian_game::{
    ActionRegistry, CurrentTick, EntityHooks, Ghost, GhostPushed, Identity, Pose, ProtocolPlugin, ProtocolSide,
    Scenery, WorldDefinition, WorldEvent, ZoneScope,
};
use meridian_handoff::Ownership;
use meridian_handoff::script::Record;
use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, TickClock, WorldEntityId, ZoneId, ZoneMap};

use crate::audit::{self, AuditSink, Simulated};
use crate::facts::Facts;
use crate::ghosts::{GhostTable, Peer};
use crate::input_ring::InputRing;
use crate::metric_definitions::{WORLD_EVENTS, ZoneMetrics};
use crate::population::{self, Population};
use crate::rest::Rest;
use crate::snapshot::SnapshotBuilder;

mod owning;

pub use owning::HYSTERESIS_M;

/// Players one zone lets in.
pub const PLAYERS_MAX: usize = 1_000;
/// Messages one gateway may have handled in a tick; the rest waits for the next.
const MESSAGES_PER_TICK_MAX: usize = 16_384;
/// Ticks between two checkpoints: a crash costs at most half a second of movement at 60 Hz.
const CHECKPOINT_EVERY_TICKS: u64 = 30;

/// How often the positions of a zone that somebody follows are told, per second.
const POSITIONS_HZ: u32 = 20;
/// Why a player is not let in here, though perhaps elsewhere.
const ZONE_FULL: &str = "the zone is full";
/// Actions that wait for entities that came before their time.
const EARLY_ACTIONS_MAX: usize = 256;
/// Zones that an action may be passed on to, after a player who runs from one to the next.
const ACTION_HOPS_MAX: u8 = 4;

/// Adds the game to an app; called once per zone, gateway and client.
pub type GameFn = Arc<dyn Fn(&mut App) + Send + Sync>;

/// What a zone is made from.
#[derive(Clone)]
pub struct ZoneConfig {
    /// Which zone of the world.
    pub zone: ZoneId,
    /// The lease epoch before that of any zone's first instance: the ids of what stands in the world at its beginning are of it.
    pub before: LeaseEpoch,
    /// The world.
    pub world: Arc<WorldDefinition>,
    /// When its ticks are due.
    pub clock: TickClock,
    /// The game that is played in it.
    pub game: GameFn,
    /// Names the instance: while the zone's lease lasts, only one of the same name may take over from it.
    pub instance: String,
    /// Who is told what it simulates.
    pub audit: Option<Arc<dyn AuditSink>>,
}

/// What a zone is connected to.
pub struct ZoneLinks {
    /// Gateways.
    pub gateways: Vec<Arc<dyn ZoneEnd>>,
    /// The zones at its borders.
    pub peers: Vec<Peer>,
    /// Who owns what.
    pub bus: Box<dyn Bus>,
}

/// What became of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// It was simulated.
    Simulated,
    /// The zone's lease may have ended: nothing was simulated, and everybody waits.
    Paused,
    /// Another instance has the zone: this one must not simulate any more.
    Fenced,
}

type Unwritten = (With<Pose>, Without<Simulated>, Without<Ghost>);

struct Port {
    end: Arc<dyn ZoneEnd>,
    whole_next: bool,
}

/// A zone. Not `Send`, as apps are not: made on the thread that steps it.
pub struct Zone {
    app: App,
    config: ZoneConfig,
    map: ZoneMap,
    ports: Vec<Port>,
    peers: Vec<Peer>,
    facts: Facts,
    population: Population,
    ghosts: GhostTable,
    /// Players whose entity is being written down.
    joining: HashSet<PlayerId>,
    /// Entities that came before their time: the sender's clock is ahead.
    held: Vec<Record>,
    /// Actions of entities that are held.
    early_actions: Vec<PassedAction>,
    /// What has changed since the last checkpoint.
    touched: HashSet<WorldEntityId>,
    left: Vec<(WorldEntityId, EntityEpoch)>,
    snapshots: SnapshotBuilder,
    /// What the zone simulates, and where it stands.
    owned: QueryState<(&'static Simulated, &'static Pose)>,
    /// What the game made and nobody has written down yet.
    unwritten: QueryState<(Entity, &'static Identity), Unwritten>,
    probes: Vec<ProbeTiming>,
    metrics: ZoneMetrics,
    rest: Rest,
    started: Option<Instant>,
    slept: Duration,
    next: Tick,
    is_fenced: bool,
}

impl Zone {
    /// A zone whose first tick is `first`. It owns nothing before it has its lease, which it asks for in its first step.
    pub fn new(config: ZoneConfig, first: Tick, links: ZoneLinks) -> Self {
        let mut app = App::new();
        let rate = config.clock.rate();
        app.add_plugins((MinimalPlugins, TransformPlugin));
        app.add_plugins(ProtocolPlugin {
            side: ProtocolSide::Zone,
            tick_rate: rate,
        });
        app.insert_resource(TimeUpdateStrategy::ManualDuration(rate.tick_duration()));
        app.insert_resource(Time::<Fixed>::from_duration(rate.tick_duration()));
        app.insert_resource(config.world.as_ref().clone());
        app.insert_resource(Scenery::new(&config.world));
        let map = config.world.zone_map();
        app.insert_resource(ZoneScope {
            zone: config.zone,
            map: map.clone(),
        });
        audit::plugin(&mut app);
        (config.game)(&mut app);
        app.finish();
        app.cleanup();
        // The first update only starts the clock: its delta is zero, so no tick is simulated.
        app.update();
        let snapshots = SnapshotBuilder::new(app.world_mut());
        let (owned, unwritten) = (app.world_mut().query(), app.world_mut().query_filtered());
        let port = |end| Port { end, whole_next: true };
        Self {
            app,
            ports: links.gateways.into_iter().map(port).collect(),
            peers: links.peers,
            facts: Facts::new(links.bus, Ownership::new(config.zone, config.instance.clone(), rate)),
            population: Population::default(),
            ghosts: GhostTable::default(),
            joining: HashSet::new(),
            held: Vec::new(),
            early_actions: Vec::new(),
            touched: HashSet::new(),
            left: Vec::new(),
            snapshots,
            owned,
            unwritten,
            probes: Vec::new(),
            metrics: ZoneMetrics::new(&config.world, config.zone),
            rest: Rest::new(rate),
            started: None,
            slept: Duration::ZERO,
            next: first,
            is_fenced: false,
            map,
            config,
        }
    }

    /// The tick that [`Self::step`] simulates next.
    pub fn next_tick(&self) -> Tick {
        self.next
    }

    /// Which zone of the world it is.
    pub fn id(&self) -> ZoneId {
        self.config.zone
    }

    /// This instance's lease, once it has the zone.
    pub fn lease(&self) -> Option<LeaseEpoch> {
        self.facts.instance().map(|instance| instance.lease)
    }

    /// How long the machine has slept, since any time that stays the same: leases end meanwhile.
    pub fn set_slept(&mut self, slept: Duration) {
        self.slept = slept;
    }

    /// Entities and players of the zone.
    pub fn population(&self) -> (usize, usize) {
        (self.snapshots.entities(), self.population.players.len())
    }

    /// The app, for games' tests and tools.
    pub fn app_mut(&mut self) -> &mut App {
        &mut self.app
    }

    /// Leaves the ticks before `tick` out; the caller has counted them.
    pub fn skip_to(&mut self, tick: Tick) {
        self.next = self.next.max(tick);
        // Before messages are taken: what comes for these ticks is for none.
        for player in self.population.players.values_mut() {
            player.inputs.skip_to(self.next);
        }
    }

    /// Simulates the next tick, which begins at `began`, and sends its snapshot. `now` reads the clock when it is done.
    pub fn step(&mut self, began: Instant, now: impl FnOnce() -> Instant) -> Stepped {
        let tick = self.next;
        let since_start = began.saturating_duration_since(*self.started.get_or_insert(began)) + self.slept;
        self.facts.ownership.begin_tick(since_start);
        self.hear();
        if self.is_fenced {
            return Stepped::Fenced;
        }
        if !self.facts.may_simulate(since_start) {
            self.skip_to(tick.next());
            return Stepped::Paused;
        }
        self.take_messages();
        self.admit_held(tick);
        self.rest.begin_tick(&self.population);
        if !self.rest.is_resting() {
            self.simulate(tick, began);
        }
        audit::simulated(self.app.world_mut(), tick);
        self.next = tick.next();
        self.send_left();
        // The last state of what leaves is this zone's to tell.
        self.send_snapshot(tick, began, now);
        self.hand_over(tick);
        self.tell(tick, began);
        Stepped::Simulated
    }

    fn simulate(&mut self, tick: Tick, began: Instant) {
        population::set_inputs(
            &mut self.population,
            self.app.world_mut(),
            (tick, began),
            &mut self.probes,
        );
        self.app.world_mut().insert_resource(CurrentTick(tick));
        self.app.update();
        self.report_events();
        self.send_pushes();
        self.write_down_new();
    }

    /// What is told beside snapshots: to the store, to neighbours, to auditors and to operators.
    fn tell(&mut self, tick: Tick, began: Instant) {
        let Some(instance) = self.facts.instance() else { return };
        if tick.0.is_multiple_of(CHECKPOINT_EVERY_TICKS) {
            self.checkpoint(tick);
            self.population.forget_expected(began, &self.config.clock);
        }
        if tick.0.is_multiple_of(self.positions_every_ticks()) && self.facts.is_followed() {
            self.publish_positions(tick);
        }
        let world = self.app.world_mut();
        if !self.rest.is_resting() || tick.0.is_multiple_of(CHECKPOINT_EVERY_TICKS) {
            self.ghosts.send(world, &self.peers, &self.map, (instance.lease, tick));
        }
        audit::publish(
            world,
            self.config.audit.as_deref(),
            (self.config.zone, instance.lease, tick),
        );
        self.metrics.entities.set(self.snapshots.entities() as f64);
        self.metrics.players.set(self.population.players.len() as f64);
        self.metrics.ghosts.set(self.ghosts.len() as f64);
    }

    fn positions_every_ticks(&self) -> u64 {
        u64::from(self.config.clock.rate().hz() / POSITIONS_HZ).max(1)
    }

    fn publish_positions(&mut self, tick: Tick) {
        let world = self.app.world_mut();
        let positions = self.owned.iter(world).map(|(simulated, pose)| EntityPosition {
            entity: simulated.entity,
            epoch: simulated.epoch,
            position: pose.position.to_array(),
        });
        let positions = positions.collect();
        self.facts.publish_positions(tick, positions);
    }

    fn take_messages(&mut self) {
        for index in 0..self.ports.len() {
            for _ in 0..MESSAGES_PER_TICK_MAX {
                let Some(message) = self.ports[index].end.try_receive() else {
                    break;
                };
                self.rest.disturb();
                self.handle(index, message);
            }
        }
        let hooks = *self.app.world().resource::<EntityHooks>();
        let mut passed = Vec::new();
        for peer in &self.peers {
            let world = self.app.world_mut();
            let received = self.ghosts.receive(world, peer, self.facts.handoff());
            if received.is_news {
                self.rest.disturb();
            }
            for (id, velocity) in received.pushes {
                if let Some(entity) = self.population.get(id) {
                    (hooks.push)(world, entity, velocity.into());
                }
            }
            passed.extend(received.actions);
        }
        passed.append(&mut self.early_actions);
        passed.into_iter().for_each(|action| self.act(action));
    }

    fn handle(&mut self, port: usize, message: GatewayMessage) {
        match message {
            GatewayMessage::Resync => self.ports[port].whole_next = true,
            GatewayMessage::Join { player, name } => match self.join(player, &name) {
                Ok(()) => {}
                // Another zone may have room: the gateway asks around.
                Err(reason @ ZONE_FULL) => {
                    tracing::warn!(%player, zone = %self.config.zone, reason, "join refused");
                }
                Err(reason) => self.refuse_join(player, reason),
            },
            GatewayMessage::Leave { player, entity } => self.leave(player, entity),
            GatewayMessage::Inputs(batch) => self.population.insert_inputs(batch, &self.config.clock),
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

    fn refuse_join(&mut self, player: PlayerId, reason: &str) {
        tracing::warn!(%player, zone = %self.config.zone, reason, "join refused");
        for port in &self.ports {
            let refused = ZoneMessage::JoinRefused {
                player,
                reason: reason.to_owned(),
            };
            // A gateway that does not even take this in is dropping its clients itself.
            let _ = port.end.send(refused);
        }
    }

    fn join(&mut self, player: PlayerId, name: &str) -> Result<(), &'static str> {
        if let Some(known) = self.population.players.get_mut(&player) {
            // A player that comes back keeps its entity; its input starts anew.
            known.inputs = InputRing::new(self.next);
            return Ok(());
        }
        if self.population.players.len() + self.joining.len() >= PLAYERS_MAX {
            return Err(ZONE_FULL);
        }
        if self.joining.insert(player) {
            self.spawn_player(player, name).inspect_err(|_| {
                self.joining.remove(&player);
            })?;
        }
        Ok(())
    }

    fn leave(&mut self, player: PlayerId, entity: Option<(WorldEntityId, EntityEpoch)>) {
        if let Some(id) = self.population.players.get(&player).map(|player| player.id) {
            self.retire(id);
        } else if let Some((id, epoch)) = entity.filter(|(id, _)| self.facts.epoch(*id).is_none()) {
            // The gateway still has it. If it is nowhere, this zone's word that it left was lost; if it is another zone's, or on its way,
            // that one is told too.
            self.facts.ownership.retire_unknown(id, epoch);
            self.hear();
        }
    }

    /// An action of a player of the zone; that of one who has just left goes after it.
    fn act(&mut self, action: PassedAction) {
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

    fn report_events(&mut self) {
        let Some(mut events) = self.app.world_mut().get_resource_mut::<Messages<WorldEvent>>() else {
            return;
        };
        for event in events.drain() {
            let WorldEvent::Died { entity, player, tick } = event;
            metrics::counter!(WORLD_EVENTS, "event" => "died").increment(1);
            tracing::debug!(%entity, %player, %tick, "died");
            self.facts.publish(tick, Happening::Died { player, entity });
        }
    }

    /// Tells the owners of ghosts that were pushed here.
    fn send_pushes(&mut self) {
        let Some(mut pushed) = self.app.world_mut().get_resource_mut::<Messages<GhostPushed>>() else {
            return;
        };
        for GhostPushed { ghost, zone, velocity } in pushed.drain() {
            if let Some(peer) = self.peers.iter().find(|peer| peer.zone == zone) {
                let message = PeerMessage::Push {
                    entity: ghost,
                    velocity: velocity.to_array(),
                };
                // A lost push is made good by that of the next tick.
                let _ = peer.end.send(message);
            }
        }
    }

    fn send_left(&mut self) {
        // Who did not hear of it is told again: a whole snapshot takes nothing away.
        self.left.retain(|(entity, epoch)| {
            let (entity, epoch) = (*entity, *epoch);
            let refused = |port: &Port| port.end.send(ZoneMessage::Left { entity, epoch }) == Err(FabricError::Full);
            self.ports.iter().filter(|port| refused(port)).count() > 0
        });
    }

    fn send_snapshot(&mut self, tick: Tick, began: Instant, now: impl FnOnce() -> Instant) {
        let Some(instance) = self.facts.instance() else { return };
        let probes = std::mem::take(&mut self.probes);
        let header = (instance.zone, instance.lease, tick, began);
        let wants_whole = self.ports.iter().any(|port| port.whole_next);
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
        for port in &mut self.ports {
            let snapshot = match &whole {
                Some(whole) if port.whole_next => whole.clone(),
                _ => changes.clone(),
            };
            // What a full queue refused is made good by a whole snapshot as soon as it has room.
            port.whole_next = port.end.send(ZoneMessage::Snapshot(snapshot)).is_err();
        }
    }
}
