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
use meridian_bus::{Bus, WakeFn};
use meridian_events::EntityPosition;
use meridian_fabric::desk::DeskEnd;
use meridian_fabric::{LinkSource, PassedAction, PeerMessage, ProbeTiming, ZoneEnd};
use meridian_game::{
    CurrentTick, EntityHooks, Ghost, GhostPushed, Identity, Pose, ProtocolPlugin, ProtocolSide, Scenery,
    WorldDefinition, WorldEvent, ZoneScope,
};
use meridian_handoff::Ownership;
use meridian_handoff::script::{Death, Record};
use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, TickClock, WorldEntityId, ZoneId, ZoneMap};

use crate::audit::{self, AuditSink, Simulated};
use crate::facts::Facts;
use crate::ghosts::{GhostTable, Peer};
use crate::metric_definitions::{Phases, WORLD_EVENTS, ZoneMetrics};
use crate::population::{self, Population};
use crate::positions;
use crate::rest::Rest;
use crate::snapshot::SnapshotBuilder;

mod desk;
mod gateways;
mod links;
mod owning;

pub use gateways::PLAYERS_MAX;
pub use owning::HYSTERESIS_M;

use desk::Orders;
use gateways::Ports;

/// Between two checkpoints, in milliseconds: a crash costs less than half a second of movement, with what was not written yet.
const CHECKPOINT_EVERY_MS: u32 = 400;

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
    /// Where gateways and neighbours of other processes come from.
    pub source: Option<Arc<dyn LinkSource>>,
    /// Who owns what.
    pub bus: Box<dyn Bus>,
    /// Where callers of this process hand in their orders, if there are any.
    pub desk: Option<DeskEnd>,
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

/// A zone. Not `Send`, as apps are not: made on the thread that steps it.
pub struct Zone {
    app: App,
    config: ZoneConfig,
    map: ZoneMap,
    ports: Ports,
    orders: Orders,
    peers: Vec<Peer>,
    source: Option<Arc<dyn LinkSource>>,
    facts: Facts,
    population: Population,
    ghosts: GhostTable,
    /// Players whose entity is being written down.
    joining: HashSet<PlayerId>,
    /// Entities that came before their time, for the sender's clock is ahead, or while the zone may not simulate.
    held: Vec<Record>,
    /// Actions of entities that are held.
    early_actions: Vec<PassedAction>,
    /// What has changed since the last checkpoint.
    touched: HashSet<WorldEntityId>,
    /// Who died since.
    died: Vec<Death>,
    left: Vec<(WorldEntityId, EntityEpoch)>,
    snapshots: SnapshotBuilder,
    told_positions: positions::Told,
    /// What the zone simulates, and where it stands.
    owned: QueryState<(&'static Simulated, &'static Pose)>,
    /// What the game made and nobody has written down yet.
    unwritten: QueryState<(Entity, &'static Identity), Unwritten>,
    probes: Vec<ProbeTiming>,
    metrics: ZoneMetrics,
    rest: Rest,
    started: Option<Instant>,
    slept: Duration,
    /// When the clock was looked at last, as leases count: since `started`, with what the machine has slept.
    now: Duration,
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
        let mut ports = Ports::default();
        links.gateways.into_iter().for_each(|end| ports.open(end));
        Self {
            app,
            ports,
            orders: Orders::new(links.desk),
            peers: links.peers,
            source: links.source,
            facts: Facts::new(links.bus, Ownership::new(config.zone, config.instance.clone(), rate)),
            population: Population::default(),
            ghosts: GhostTable::default(),
            joining: HashSet::new(),
            held: Vec::new(),
            early_actions: Vec::new(),
            touched: HashSet::new(),
            died: Vec::new(),
            left: Vec::new(),
            snapshots,
            told_positions: positions::Told::default(),
            owned,
            unwritten,
            probes: Vec::new(),
            metrics: ZoneMetrics::new(&config.world, config.zone),
            rest: Rest::new(rate),
            started: None,
            slept: Duration::ZERO,
            now: Duration::ZERO,
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

    /// Has `wake` called whenever something has come on the bus.
    pub fn wake_with(&mut self, wake: WakeFn) {
        self.facts.wake_with(wake);
    }

    /// Between ticks, at `now`: takes in what has come on the bus.
    pub fn receive(&mut self, now: Instant) {
        self.look_at_clock(now);
        self.hear();
    }

    fn look_at_clock(&mut self, now: Instant) {
        self.now = now.saturating_duration_since(*self.started.get_or_insert(now)) + self.slept;
    }

    /// Writes down all that has changed since the last checkpoint.
    pub fn write_all_down(&mut self) {
        self.checkpoint(self.next - 1);
        self.hear();
    }

    /// Whether the bus has not answered all that it was asked.
    pub fn is_asking(&self) -> bool {
        self.facts.ownership.is_asking_anything()
    }

    /// How long the machine has slept, since any time that stays the same: leases end meanwhile.
    pub fn set_slept(&mut self, slept: Duration) {
        self.slept = slept;
    }

    /// Ticks by which the zone is behind the world's clock.
    pub fn lag_ticks(&self) -> u32 {
        let behind = self.config.clock.tick_at(Instant::now()).since(self.next);
        u32::try_from(behind).unwrap_or(0)
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
        let mut phases = Phases::begin();
        let tick = self.next;
        self.look_at_clock(began);
        self.facts.ownership.begin_tick(self.now);
        self.hear();
        if self.is_fenced {
            self.metrics.clear();
            return Stepped::Fenced;
        }
        if !self.facts.may_simulate(self.now) {
            self.refuse_orders();
            self.skip_to(tick.next());
            return Stepped::Paused;
        }
        self.take_messages();
        self.admit_held(tick);
        self.take_orders(tick);
        phases.ended(&self.metrics.receive_seconds);
        self.rest.begin_tick(&self.population);
        if !self.rest.is_resting() {
            self.simulate(tick, began);
        }
        audit::simulated(self.app.world_mut(), tick);
        self.next = tick.next();
        self.end_grace();
        phases.ended(&self.metrics.simulate_seconds);
        self.send_left();
        // The last state of what leaves is this zone's to tell.
        let finished = self.send_snapshot(tick, began, now);
        self.answer_orders(tick, began, finished);
        phases.ended(&self.metrics.snapshot_seconds);
        self.hand_over(tick);
        phases.ended(&self.metrics.hand_over_seconds);
        self.tell(tick, began);
        phases.ended(&self.metrics.tell_seconds);
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
        let every = self.config.clock.rate().hz() * CHECKPOINT_EVERY_MS / 1_000;
        let is_checkpoint = tick.0.is_multiple_of(every.max(1).into());
        if is_checkpoint {
            self.checkpoint(tick);
            self.population.forget_expected(began, &self.config.clock);
            let joining = &self.joining;
            self.population.knocks.retain(|player, _| joining.contains(player));
        } else {
            self.write_down_deaths(tick);
        }
        self.publish_positions(tick);
        let world = self.app.world_mut();
        if !self.rest.is_resting() || is_checkpoint {
            self.ghosts.send(world, &self.peers, &self.map, (instance.lease, tick));
        }
        audit::publish(
            world,
            self.config.audit.as_deref(),
            (self.config.zone, instance.lease, tick),
        );
        self.metrics.entities.set(self.snapshots.entities() as f64);
        self.metrics.players.set(self.population.players.len() as f64);
        self.metrics.unplayed.set(self.population.unplayed() as f64);
        self.metrics.ghosts.set(self.ghosts.len() as f64);
    }

    fn publish_positions(&mut self, tick: Tick) {
        let traced = self.orders.take_shown();
        if !self.facts.is_followed() {
            return self.told_positions.forget();
        }
        let world = self.app.world_mut();
        let positions = self.owned.iter(world).map(|(simulated, pose)| EntityPosition {
            entity: simulated.entity,
            epoch: simulated.epoch,
            position: pose.position.to_array(),
        });
        let at = (tick, self.config.clock.rate());
        if let Some(moved) = self.told_positions.moved(at, positions, traced) {
            self.facts.publish_positions(tick, moved);
        }
    }

    fn take_messages(&mut self) {
        self.accept_links();
        self.hear_gateways();
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

    fn report_events(&mut self) {
        let Some(mut events) = self.app.world_mut().get_resource_mut::<Messages<WorldEvent>>() else {
            return;
        };
        for event in events.drain() {
            let WorldEvent::Died { entity, player, tick } = event;
            metrics::counter!(WORLD_EVENTS, "event" => "died").increment(1);
            tracing::debug!(%entity, %player, %tick, "died");
            // Its record is written down with it.
            self.touched.insert(entity);
            self.died.push(Death { entity, player, tick });
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
}
