//! One zone's simulation: an app without a window, stepped one tick at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bevy::app::App;
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Remove;
use bevy::ecs::message::Messages;
use bevy::ecs::observer::On;
use bevy::ecs::resource::Resource;
use bevy::ecs::system::{Query, ResMut};
use bevy::prelude::MinimalPlugins;
use bevy::time::{Fixed, Time, TimeUpdateStrategy};
use bevy::transform::TransformPlugin;
use meridian_fabric::{GatewayMessage, InputBatch, ProbeTiming, ZoneEnd, ZoneMessage};
use meridian_game::{
    ActionRegistry, CurrentTick, EntityIds, Identity, PlayerInput, ProtocolPlugin, ProtocolSide, Scenery, SpawnPlayer,
    WorldDefinition, WorldEvent,
};
use meridian_ids::{EntityEpoch, EntityIdMint, LeaseEpoch, PlayerId, Tick, TickClock, WorldEntityId, ZoneId};

use crate::input_ring::InputRing;
use crate::metric_definitions::{WORLD_EVENTS, ZONE_ENTITIES, ZONE_PLAYERS};
use crate::snapshot::SnapshotBuilder;

/// Players one zone lets in.
pub const PLAYERS_MAX: usize = 1_000;
/// Messages one gateway may have handled in a tick; the rest waits for the next.
const MESSAGES_PER_TICK_MAX: usize = 16_384;

/// Adds the game to an app; called once per zone, gateway and client.
pub type GameFn = Arc<dyn Fn(&mut App) + Send + Sync>;

/// What a zone is made from.
#[derive(Clone)]
pub struct ZoneConfig {
    /// Which zone of the world.
    pub zone: ZoneId,
    /// Which instance of it.
    pub lease: LeaseEpoch,
    /// The world.
    pub world: Arc<WorldDefinition>,
    /// When its ticks are due.
    pub clock: TickClock,
    /// The game that is played in it.
    pub game: GameFn,
}

/// Entities that left the world since the last snapshot.
#[derive(Resource, Default)]
struct Left(Vec<WorldEntityId>);

struct Port {
    end: Box<dyn ZoneEnd>,
    whole_next: bool,
}

struct Player {
    entity: Entity,
    id: WorldEntityId,
    inputs: InputRing,
}

/// A zone. Not `Send`, as apps are not: made on the thread that steps it.
pub struct Zone {
    app: App,
    config: ZoneConfig,
    ports: Vec<Port>,
    players: HashMap<PlayerId, Player>,
    owners: HashMap<WorldEntityId, PlayerId>,
    snapshots: SnapshotBuilder,
    probes: Vec<ProbeTiming>,
    next: Tick,
}

impl Zone {
    /// A zone whose first tick is `first`, connected to gateways by `ports`.
    pub fn new(config: ZoneConfig, first: Tick, ports: Vec<Box<dyn ZoneEnd>>) -> Self {
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
        app.insert_resource(EntityIds(EntityIdMint::new(config.zone, config.lease)));
        app.init_resource::<Left>();
        app.add_observer(note_left);
        (config.game)(&mut app);
        app.finish();
        app.cleanup();
        // The first update only starts the clock: its delta is zero, so no tick is simulated.
        app.update();
        let snapshots = SnapshotBuilder::new(app.world_mut());
        Self {
            app,
            config,
            ports: ports.into_iter().map(|end| Port { end, whole_next: true }).collect(),
            players: HashMap::new(),
            owners: HashMap::new(),
            snapshots,
            probes: Vec::new(),
            next: first,
        }
    }

    /// The tick that [`Self::step`] simulates next.
    pub fn next_tick(&self) -> Tick {
        self.next
    }

    /// The app, for games' tests and tools.
    pub fn app_mut(&mut self) -> &mut App {
        &mut self.app
    }

    /// Leaves the ticks before `tick` out; the caller has counted them.
    pub fn skip_to(&mut self, tick: Tick) {
        self.next = self.next.max(tick);
    }

    /// Simulates the next tick, which begins at `began`, and sends its snapshot. `now` reads the clock when it is done.
    pub fn step(&mut self, began: Instant, now: impl FnOnce() -> Instant) {
        let tick = self.next;
        self.next = tick.next();
        self.take_messages();
        self.set_inputs(tick, began);
        self.app.world_mut().insert_resource(CurrentTick(tick));
        self.app.update();
        self.report_events();
        self.send_left();
        self.send_snapshot(tick, began, now);
        metrics::gauge!(ZONE_ENTITIES, "zone" => self.config.zone.to_string()).set(self.snapshots.entities() as f64);
        metrics::gauge!(ZONE_PLAYERS, "zone" => self.config.zone.to_string()).set(self.players.len() as f64);
    }

    fn take_messages(&mut self) {
        for index in 0..self.ports.len() {
            for _ in 0..MESSAGES_PER_TICK_MAX {
                let Some(message) = self.ports[index].end.try_receive() else {
                    break;
                };
                self.handle(index, message);
            }
        }
    }

    fn handle(&mut self, port: usize, message: GatewayMessage) {
        match message {
            GatewayMessage::Resync => self.ports[port].whole_next = true,
            GatewayMessage::Join { player, name } => {
                if let Err(reason) = self.join(player, &name) {
                    tracing::warn!(%player, zone = %self.config.zone, reason, "join refused");
                    let refused = ZoneMessage::JoinRefused {
                        player,
                        reason: reason.to_owned(),
                    };
                    // A gateway that does not even take this in is dropping its clients itself.
                    let _ = self.ports[port].end.send(refused);
                }
            }
            GatewayMessage::Leave { player } => self.leave(player),
            GatewayMessage::Inputs(batch) => self.insert_inputs(&batch),
            GatewayMessage::Action { entity, kind, payload } => self.act(entity, kind, &payload),
        }
    }

    fn join(&mut self, player: PlayerId, name: &str) -> Result<(), &'static str> {
        if let Some(known) = self.players.get_mut(&player) {
            // A player that comes back keeps its entity; its input starts anew.
            known.inputs = InputRing::new(self.next);
            return Ok(());
        }
        if self.players.len() >= PLAYERS_MAX {
            return Err("the zone is full");
        }
        let world = self.app.world_mut();
        let id = world
            .resource_mut::<EntityIds>()
            .0
            .mint()
            .ok_or("the zone ran out of entity ids")?;
        let spawn = *world
            .get_resource::<SpawnPlayer>()
            .ok_or("the game lets no players in")?;
        let entity = (spawn.0)(world, id, player, name);
        self.players.insert(
            player,
            Player {
                entity,
                id,
                inputs: InputRing::new(self.next),
            },
        );
        self.owners.insert(id, player);
        tracing::debug!(%player, entity = %id, "joined");
        Ok(())
    }

    fn leave(&mut self, player: PlayerId) {
        let Some(gone) = self.players.remove(&player) else {
            return;
        };
        self.owners.remove(&gone.id);
        self.app.world_mut().despawn(gone.entity);
        tracing::debug!(%player, entity = %gone.id, "left");
    }

    fn insert_inputs(&mut self, batch: &InputBatch) {
        let owner = self.owners.get(&batch.entity);
        if let Some(player) = owner.and_then(|player| self.players.get_mut(player)) {
            player.inputs.insert(batch, &self.config.clock);
        }
    }

    fn act(&mut self, entity: WorldEntityId, kind: u16, payload: &[u8]) {
        let owner = self.owners.get(&entity);
        let Some(player) = owner.and_then(|player| self.players.get(player)) else {
            return;
        };
        if let Err(error) = ActionRegistry::trigger(self.app.world_mut(), player.entity, kind, payload) {
            tracing::debug!(%entity, %error, "action refused");
        }
    }

    fn set_inputs(&mut self, tick: Tick, began: Instant) {
        let world = self.app.world_mut();
        for player in self.players.values_mut() {
            let (input, probe) = player.inputs.take(tick, began);
            if let Some(mut current) = world.get_mut::<PlayerInput>(player.entity) {
                *current = input;
            }
            if let Some(probe) = probe {
                let (received, forwarded) = (probe.received, probe.forwarded);
                let sequence = probe.sequence;
                self.probes.push(ProbeTiming {
                    entity: player.id,
                    sequence,
                    received,
                    forwarded,
                    applied: began,
                });
            }
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
        }
    }

    fn send_left(&mut self) {
        let left = std::mem::take(&mut self.app.world_mut().resource_mut::<Left>().0);
        for entity in left {
            for port in &mut self.ports {
                let message = ZoneMessage::Left {
                    entity,
                    epoch: EntityEpoch::default(),
                };
                port.whole_next |= port.end.send(message).is_err();
            }
        }
    }

    fn send_snapshot(&mut self, tick: Tick, began: Instant, now: impl FnOnce() -> Instant) {
        let probes = std::mem::take(&mut self.probes);
        let header = (self.config.zone, self.config.lease, tick, began);
        let wants_whole = self.ports.iter().any(|port| port.whole_next);
        let built = self.snapshots.build(self.app.world_mut(), header, probes, wants_whole);
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

fn note_left(removed: On<Remove, Identity>, identities: Query<&Identity>, mut left: ResMut<Left>) {
    if let Ok(identity) = identities.get(removed.entity) {
        left.0.push(identity.entity);
    }
}
