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
use meridian_fabric::{GatewayEnd, GatewayMessage, InputBatch, Snapshot, ZoneMessage};
use meridian_game::{ProtocolPlugin, ProtocolSide, WorldDefinition};
use meridian_handoff::receivers;
use meridian_ids::{PlayerId, Tick, TickClock, ZoneId, ZoneMap};
use meridian_link::{LinkCounters, LinkEndpoint, LinkPlugin, PacketIo};
use meridian_session::NETCODE_PROTOCOL_ID;

use crate::admission::Admission;
use crate::interest::InterestConfig;
use crate::mirror::Mirror;
use crate::{inputs, interest, mirror, probes, sessions, stillness, traces};

/// Adds the game to an app; called once per zone, gateway and client.
pub type GameFn = Arc<dyn Fn(&mut App) + Send + Sync>;

/// Messages of one zone handled in a row; the rest waits for the next pass.
const MESSAGES_PER_PASS_MAX: usize = 4_096;
/// Ticks by which a zone may be behind the others before they are replicated without waiting for it.
const LAG_TICKS_MAX: i64 = 1;
/// How far ahead of this gateway's clock a zone's ticks may be, in seconds: clocks of a cluster differ by less than a tick, and one snapshot
/// must not make a gateway run more ticks at once than these.
const TICKS_AHEAD_SECONDS_MAX: i64 = 10;
/// How near to another zone a player must stand for that zone to get its inputs too, in metres: half a second's walk and more.
const INPUT_REACH_M: f32 = 6.0;

/// What a gateway is made from.
#[derive(Clone)]
pub struct GatewayConfig {
    /// The world.
    pub world: Arc<WorldDefinition>,
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
    /// Tells the gateway apart from all others, and from what it was before its last start.
    pub id: u64,
}

/// The zones, and how ticks are counted.
#[derive(Resource)]
pub(crate) struct Zones {
    links: Vec<ZoneLink>,
    world: Arc<WorldDefinition>,
    map: ZoneMap,
    /// The zones in which players start, by their places in `links`.
    entrances: Vec<usize>,
    /// The world's tick at lightyear's tick 0.
    pub(crate) base: Tick,
    pub(crate) clock: TickClock,
    /// Tells this gateway apart from all others.
    pub(crate) gateway: u64,
    /// The time of this pass in a test's virtual time.
    manual_time: Option<Instant>,
}

impl Zones {
    /// The time; that of the pass where time is virtual.
    pub(crate) fn now(&self) -> Instant {
        self.manual_time.unwrap_or_else(Instant::now)
    }

    /// Sends to a zone.
    pub(crate) fn send_to(&self, zone: ZoneId, message: GatewayMessage) {
        if let Some(link) = self.links.iter().find(|link| link.zone == zone) {
            // A full queue is counted by the fabric; what must not be lost is sent again (see `sessions`).
            let _ = link.end.send(message);
        }
    }

    /// The zones, and whether each is there at all.
    pub(crate) fn connected(&self) -> Vec<(ZoneId, bool)> {
        let links = self.links.iter();
        links.map(|link| (link.zone, link.end.is_connected())).collect()
    }

    /// Sends to every zone.
    pub(crate) fn send_to_all(&self, message: &GatewayMessage) {
        for link in &self.links {
            let _ = link.end.send(message.clone());
        }
    }

    /// Sends inputs to the zone that has their entity, and to those that it may be about to go to.
    pub(crate) fn send_inputs(&self, owner: ZoneId, point: [f32; 2], batch: InputBatch) {
        for zone in receivers(owner, self.map.near(owner, point, INPUT_REACH_M)) {
            self.send_to(zone, GatewayMessage::Inputs(batch.clone()));
        }
    }

    /// Asks a zone to let a player in; another one each time, for the last may not answer.
    pub(crate) fn join(&self, player: PlayerId, name: &str, attempt: u64) {
        let nth = player.0.wrapping_add(attempt) % (self.entrances.len() as u64).max(1);
        if let Some(link) = self
            .entrances
            .get(nth as usize)
            .and_then(|index| self.links.get(*index))
        {
            let name = name.to_owned();
            let _ = link.end.send(GatewayMessage::Join { player, name });
        }
    }
}

/// A zone that the gateway mirrors.
pub struct ZoneLink {
    /// Which.
    pub zone: ZoneId,
    /// The connection to it.
    pub end: Box<dyn GatewayEnd>,
}

/// The zones, of those connected, in whose part of the spawn area players can appear; all of them if there is none.
fn entrances(world: &WorldDefinition, links: &[ZoneLink]) -> Vec<usize> {
    let entrances = world.entrances();
    let all = 0..links.len();
    let touching: Vec<usize> = all
        .clone()
        .filter(|index| entrances.contains(&links[*index].zone))
        .collect();
    if touching.is_empty() { all.collect() } else { touching }
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
    /// A gateway whose first tick is the one after `before`, with packets from `io`, mirroring the zones of `links`.
    pub fn new(config: GatewayConfig, before: Tick, io: Box<dyn PacketIo>, links: Vec<ZoneLink>) -> Self {
        let mut app = App::new();
        app.add_plugins(MinimalPlugins);
        app.add_plugins(ProtocolPlugin {
            side: ProtocolSide::Gateway,
            tick_rate: config.clock.rate(),
        });
        app.add_plugins(LinkPlugin { accepts: true });
        (config.game)(&mut app);
        inputs::count_from_zero();
        // Ticks come from the world, not from this app's time; timeouts and resends run on real time.
        app.world_mut().resource_mut::<Time<Virtual>>().pause();
        let (zones, map) = (links.len(), config.world.zone_map());
        app.insert_resource(Mirror::new(config.clock.rate()));
        app.insert_resource(Zones {
            entrances: entrances(&config.world, &links),
            links,
            world: config.world,
            map,
            base: before,
            clock: config.clock,
            gateway: config.id,
            manual_time: None,
        });
        app.insert_resource(config.interest);
        app.add_plugins((
            sessions::plugin,
            inputs::plugin,
            interest::plugin,
            probes::plugin,
            mirror::plugin,
            traces::plugin,
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
        let admission = Admission::new(config.private_key);
        let admits = move |peer: SocketAddr, request: &[u8]| admission.admit(peer, request);
        app.insert_resource(LinkEndpoint::server(io, server, Box::new(admits)));
        app.world_mut().trigger(Start { entity: server });
        app.world_mut().resource::<Zones>().send_to_all(&GatewayMessage::Resync);
        Self {
            app,
            server,
            pending: Vec::new(),
            newest: vec![None; zones],
            ticked: before,
        }
    }

    /// Mirrors another zone from now on.
    pub fn add_zone(&mut self, link: ZoneLink) {
        let mut zones = self.app.world_mut().resource_mut::<Zones>();
        zones.links.push(link);
        zones.entrances = entrances(&zones.world, &zones.links);
        self.newest.push(None);
        self.ask_for_everything(self.newest.len() - 1);
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

    /// Takes in what zones have sent, and says which tick all of them have delivered, if it is a new one. A zone that is far
    /// behind the others is not waited for.
    pub fn take_messages(&mut self) -> Option<Tick> {
        for zone in 0..self.newest.len() {
            for _ in 0..MESSAGES_PER_PASS_MAX {
                let Some(message) = self.app.world().resource::<Zones>().links[zone].end.try_receive() else {
                    break;
                };
                match message {
                    ZoneMessage::Snapshot(snapshot) if self.is_implausible(snapshot.tick) => {
                        mirror::ignore("implausible_tick");
                    }
                    ZoneMessage::Snapshot(snapshot) => {
                        self.newest[zone] = self.newest[zone].max(Some(snapshot.tick));
                        self.pending.push(snapshot);
                    }
                    ZoneMessage::Gap => self.ask_for_everything(zone),
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
        let newest = self.newest.iter().flatten().max()?;
        let keeps_up = |tick: &Tick| newest.since(*tick) <= LAG_TICKS_MAX;
        let complete = self.newest.iter().flatten().copied().filter(keeps_up).min()?;
        (complete > self.ticked).then_some(complete)
    }

    /// Whether a tick is so far ahead of this gateway's clock that following it would stop it for long: each tick up to there is made up for.
    fn is_implausible(&self, tick: Tick) -> bool {
        let zones = self.app.world().resource::<Zones>();
        let ahead = tick.since(zones.clock.tick_at(zones.now()));
        ahead > i64::from(zones.clock.rate().hz()) * TICKS_AHEAD_SECONDS_MAX
    }

    fn ask_for_everything(&self, zone: usize) {
        if let Some(link) = self.app.world().resource::<Zones>().links.get(zone) {
            // A link that does not even take this has lost more, and says so again.
            let _ = link.end.send(GatewayMessage::Resync);
        }
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
            mirror::apply(self.app.world_mut(), &snapshot);
        }
    }

    /// Mirrors what is pending, advances to `tick` and replicates. Ticks never go back.
    pub fn tick(&mut self, tick: Tick) {
        let advance = u32::try_from(tick.since(self.ticked)).unwrap_or(0);
        if advance == 0 {
            return;
        }
        self.ticked = tick;
        let began = self.app.world().resource::<Zones>().now();
        self.app.world_mut().resource_mut::<traces::TickBegan>().0 = began;
        self.apply_pending();
        stillness::judge(self.app.world_mut(), tick);
        sessions::repeat(self.app.world_mut(), tick);
        interest::update(self.app.world_mut());
        let mut fixed = self.app.world_mut().resource_mut::<Time<Fixed>>();
        let step = fixed.timestep();
        fixed.accumulate_overstep(step * advance);
        self.app.update();
    }

    /// Whether packets wait to be received.
    pub fn has_packets(&self) -> bool {
        self.app.world().resource::<LinkEndpoint>().has_received()
    }

    /// Receives packets between ticks: inputs are forwarded, nothing is sent.
    pub fn receive(&mut self) {
        let world = self.app.world_mut();
        world.run_schedule(First);
        world.run_schedule(PreUpdate);
    }

    /// Says goodbye to every client. Their players stay in the world until another gateway plays them, or for as long as zones keep them.
    pub fn stop(&mut self) {
        let mut sessions = self.app.world_mut().resource_mut::<sessions::Sessions>();
        sessions.is_stopping = true;
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
