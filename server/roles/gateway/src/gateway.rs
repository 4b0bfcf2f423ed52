//! One gateway: an app that mirrors zones and replicates to clients, driven tick by tick and packet by packet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bevy::app::{App, First, PostUpdate, PreUpdate};
use bevy::ecs::entity::Entity;
use bevy::ecs::resource::Resource;
use bevy::prelude::MinimalPlugins;
use bevy::time::{Fixed, Time, TimeUpdateStrategy, Virtual};
use lightyear::prelude::server::{NetcodeConfig, NetcodeServer, Start};
use lightyear::prelude::{Linked, LocalAddr};
use meridian_fabric::{GatewayEnd, GatewayMessage, Snapshot, ZoneMessage};
use meridian_game::{ProtocolPlugin, ProtocolSide};
use meridian_ids::{Tick, TickClock};
use meridian_link::{LinkCounters, LinkEndpoint, LinkPlugin, PacketIo};
use meridian_session::NETCODE_PROTOCOL_ID;

use crate::interest::InterestConfig;
use crate::{admission, inputs, interest, mirror, probes, sessions};

/// Adds the game to an app; called once per zone, gateway and client.
pub type GameFn = Arc<dyn Fn(&mut App) + Send + Sync>;

/// Messages of one zone handled in a row; the rest waits for the next pass.
const MESSAGES_PER_PASS_MAX: usize = 4_096;

/// What a gateway is made from.
#[derive(Clone)]
pub struct GatewayConfig {
    /// When the world's ticks are due.
    pub clock: TickClock,
    /// The game that is played.
    pub game: GameFn,
    /// The key that connect tokens are sealed with; only auth and gateways know it.
    pub private_key: [u8; 32],
    /// Addresses under which clients reach it, other than the one it is bound to.
    pub public_addresses: Vec<SocketAddr>,
    /// Clients it lets in.
    pub clients_max: usize,
    /// Which entities a client is told of.
    pub interest: InterestConfig,
}

/// The zones, and how ticks are counted.
#[derive(Resource)]
pub(crate) struct Zones {
    pub(crate) ends: Vec<Box<dyn GatewayEnd>>,
    /// The world's tick at lightyear's tick 0.
    pub(crate) base: Tick,
    pub(crate) clock: TickClock,
    /// The time of this pass in a test's virtual time.
    manual_time: Option<Instant>,
}

impl Zones {
    /// The time; that of the pass where time is virtual.
    pub(crate) fn now(&self) -> Instant {
        self.manual_time.unwrap_or_else(Instant::now)
    }

    /// Sends to every zone; with one zone that is the owner.
    pub(crate) fn send(&self, message: GatewayMessage) {
        for end in &self.ends {
            // A full queue is counted by the fabric; what must not be lost is sent again (see `mirror`).
            let _ = end.send(message.clone());
        }
    }
}

/// A gateway. Not `Send`, as apps are not: made on the thread that drives it.
pub struct Gateway {
    app: App,
    server: Entity,
    pending: Vec<Arc<Snapshot>>,
    newest: Vec<Option<Tick>>,
    ticked: Tick,
}

impl Gateway {
    /// A gateway whose first tick is the one after `before`, with packets from `io`, mirroring the zones of `ends`.
    pub fn new(config: GatewayConfig, before: Tick, io: Box<dyn PacketIo>, ends: Vec<Box<dyn GatewayEnd>>) -> Self {
        let mut app = App::new();
        app.add_plugins(MinimalPlugins);
        app.add_plugins(ProtocolPlugin {
            side: ProtocolSide::Gateway,
            tick_rate: config.clock.rate(),
        });
        app.add_plugins(LinkPlugin { accepts: true });
        (config.game)(&mut app);
        // Ticks come from the world, not from this app's time; timeouts and resends run on real time.
        app.world_mut().resource_mut::<Time<Virtual>>().pause();
        let zones = ends.len();
        app.insert_resource(Zones {
            ends,
            base: before,
            clock: config.clock,
            manual_time: None,
        });
        app.insert_resource(config.interest);
        app.add_plugins((
            sessions::plugin,
            inputs::plugin,
            interest::plugin,
            probes::plugin,
            mirror::plugin,
        ));
        app.finish();
        app.cleanup();
        let netcode = NetcodeServer::new(NetcodeConfig {
            max_clients: config.clients_max,
            protocol_id: NETCODE_PROTOCOL_ID,
            private_key: config.private_key,
            additional_expected_addresses: config.public_addresses,
            ..NetcodeConfig::default()
        });
        let server = app
            .world_mut()
            .spawn((netcode, LocalAddr(io.local_addr()), Linked))
            .id();
        let key = config.private_key;
        let admits = move |request: &[u8]| admission::is_sealed(request, &key);
        app.insert_resource(LinkEndpoint::server(io, server, Box::new(admits)));
        app.world_mut().trigger(Start { entity: server });
        app.world_mut().resource::<Zones>().send(GatewayMessage::Resync);
        Self {
            app,
            server,
            pending: Vec::new(),
            newest: vec![None; zones],
            ticked: before,
        }
    }

    /// Counts of what went through its socket.
    pub fn counters(&self) -> LinkCounters {
        self.app.world().resource::<LinkEndpoint>().counters()
    }

    /// The address clients are to send to.
    pub fn local_addr(&self) -> SocketAddr {
        self.app.world().resource::<LinkEndpoint>().local_addr()
    }

    /// The app, for games' tests and tools.
    pub fn app_mut(&mut self) -> &mut App {
        &mut self.app
    }

    /// Whether the server entity still runs; a gateway that does not is of no use.
    pub fn is_running(&self) -> bool {
        self.app.world().get_entity(self.server).is_ok()
    }

    /// Sets the time of this pass, for tests in virtual time; without it, time is the system's.
    pub fn set_time(&mut self, now: Instant) {
        self.app.insert_resource(TimeUpdateStrategy::ManualInstant(now));
        self.app.world_mut().resource_mut::<Zones>().manual_time = Some(now);
    }

    /// The last tick that was replicated.
    pub fn last_tick(&self) -> Tick {
        self.ticked
    }

    /// Takes in what zones have sent, and says which tick all of them have delivered, if it is a new one.
    pub fn take_messages(&mut self) -> Option<Tick> {
        for zone in 0..self.newest.len() {
            for _ in 0..MESSAGES_PER_PASS_MAX {
                let Some(message) = self.app.world().resource::<Zones>().ends[zone].try_receive() else {
                    break;
                };
                match message {
                    ZoneMessage::Snapshot(snapshot) => {
                        self.newest[zone] = self.newest[zone].max(Some(snapshot.tick));
                        self.pending.push(snapshot);
                    }
                    ZoneMessage::Left { entity, epoch } => {
                        // What was said of it before is older than its leave.
                        self.apply_pending();
                        mirror::remove(self.app.world_mut(), entity, epoch);
                    }
                    ZoneMessage::JoinRefused { player, reason } => {
                        sessions::refuse(self.app.world_mut(), player, &reason);
                    }
                }
            }
        }
        let complete = self.newest.iter().copied().min().flatten()?;
        (complete > self.ticked).then_some(complete)
    }

    /// The newest tick that any zone has delivered, if it was not replicated yet.
    pub fn newest_tick(&self) -> Option<Tick> {
        self.newest
            .iter()
            .copied()
            .max()
            .flatten()
            .filter(|tick| *tick > self.ticked)
    }

    fn apply_pending(&mut self) {
        for snapshot in std::mem::take(&mut self.pending) {
            mirror::apply(self.app.world_mut(), zone_index(&snapshot), &snapshot);
        }
    }

    /// Mirrors what is pending, advances to `tick` and replicates. Ticks never go back.
    pub fn tick(&mut self, tick: Tick) {
        let advance = u32::try_from(tick.since(self.ticked)).unwrap_or(0);
        if advance == 0 {
            return;
        }
        self.ticked = tick;
        self.apply_pending();
        interest::update(self.app.world_mut());
        let mut fixed = self.app.world_mut().resource_mut::<Time<Fixed>>();
        let step = fixed.timestep();
        fixed.accumulate_overstep(step * advance);
        self.app.update();
    }

    /// Receives packets between ticks: inputs are forwarded, nothing is sent.
    pub fn receive(&mut self) {
        let world = self.app.world_mut();
        world.run_schedule(First);
        world.run_schedule(PreUpdate);
    }

    /// Says goodbye to every client.
    pub fn stop(&mut self) {
        self.app
            .world_mut()
            .trigger(lightyear::prelude::server::Stop { entity: self.server });
        // The goodbyes lie on the links, which the next receive pass takes down.
        self.app.world_mut().flush();
        self.app.world_mut().run_schedule(PostUpdate);
        self.app.update();
        self.app.update();
    }
}

/// With one zone there is one index; several zones are told apart by their place in the world file.
fn zone_index(snapshot: &Snapshot) -> usize {
    usize::from(snapshot.zone.0)
}
