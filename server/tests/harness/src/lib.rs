//! Zones, gateways and clients in one process and in virtual time: the real parts over a network in memory.
//!
//! Time is a number that [`TestWorld::run`] advances by a millisecond at a time, so a test takes as long as its work and
//! gives the same result on any machine. Sockets, threads and clocks are the only parts that are not the real ones.

#![expect(
    clippy::unwrap_used,
    reason = "a harness fails by panicking, with the line that failed"
)]

mod sessions;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lightyear::netcode::ConnectToken;
use meridian_bus::{Bus, InProcess};
use meridian_client_net::{ConnectionState, GameFn, HeadlessClient, HeadlessOptions, Session};
use meridian_events::AuditLine;
use meridian_fabric::desk::{Desk, DeskEnd, desk};
use meridian_fabric::{ZoneEnd, in_process, in_process_peers};
use meridian_game::demo::DemoPlugin;
use meridian_game::{Move, WorldDefinition};
use meridian_gateway::{Gateway, GatewayConfig, InterestConfig, ZoneLink};
use meridian_ids::{LeaseEpoch, PlayerId, Tick, TickClock, ZoneId, ZoneMap};
use meridian_link::{LinkConditions, MemoryNetwork};
use meridian_session::{NETCODE_PROTOCOL_ID, TokenUserData};
use meridian_zone::{AuditSink, CATCH_UP_TICKS_MAX, GHOST_REACH_M, Peer, Zone, ZoneConfig, ZoneLinks};
use sessions::{SERVER_URL, TestSessions};

/// The demo world, as the repository has it.
pub const DEMO_WORLD: &str = include_str!("../../../../assets/data/world.toml");

const KEY: [u8; 32] = [7; 32];
const STEP: Duration = Duration::from_millis(1);

/// How a test world is made.
#[derive(Clone)]
pub struct TestOptions {
    /// The world file's text.
    pub world: String,
    /// The world's first tick.
    pub first_tick: Tick,
    /// What the network does to packets.
    pub conditions: LinkConditions,
    /// Seed of the network.
    pub seed: u64,
    /// Whether clients predict their players.
    pub predict: bool,
    /// Whether clients interpolate the others.
    pub interpolate: bool,
    /// The zones at whose borders clients watch the others.
    pub watch_borders: Option<ZoneMap>,
    /// How many gateways there are.
    pub gateways: usize,
    /// Whether clients may ask for another session when they lose their gateway; otherwise a connection that broke stays so.
    pub reconnects: bool,
    /// The game.
    pub game: GameFn,
    /// What stands between zones and the durable side, for faults of it.
    pub bus: BusFn,
}

/// Puts something between a zone and the durable side.
pub type BusFn = Arc<dyn Fn(ZoneId, Box<dyn Bus>) -> Box<dyn Bus>>;

impl Default for TestOptions {
    fn default() -> Self {
        Self {
            world: DEMO_WORLD.to_owned(),
            first_tick: Tick(1_000),
            conditions: LinkConditions::default(),
            seed: 1,
            predict: true,
            interpolate: true,
            watch_borders: None,
            gateways: 1,
            reconnects: false,
            game: demo_game(),
            bus: Arc::new(|_, bus| bus),
        }
    }
}

/// The demo game as a game function.
pub fn demo_game() -> GameFn {
    Arc::new(|app| {
        app.add_plugins(DemoPlugin);
    })
}

/// What zones said of what they simulate.
#[derive(Default)]
pub struct CollectedAudit(Mutex<Vec<AuditLine>>);

impl AuditSink for CollectedAudit {
    fn listeners(&self) -> Option<u64> {
        Some(1)
    }

    fn publish(&self, line: AuditLine) {
        self.0.lock().unwrap().push(line);
    }
}

impl CollectedAudit {
    /// Takes the lines since the last time, in the order in which they were said.
    pub fn take(&self) -> Vec<AuditLine> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// What a zone's instances share.
struct ZoneParts {
    config: ZoneConfig,
    gateways: Vec<Arc<dyn ZoneEnd>>,
    peers: Vec<Peer>,
    desk: (Desk, DeskEnd),
}

/// The zones of a world, its gateways and any number of clients.
pub struct TestWorld {
    /// The zones, by their ids.
    pub zones: Vec<Zone>,
    /// The gateways, in their order; those that were killed are gone.
    pub gateways: Vec<Option<Gateway>>,
    /// The clients, in the order in which they joined.
    pub clients: Vec<HeadlessClient>,
    /// The network between gateways and clients.
    pub network: MemoryNetwork,
    /// The zones that do not tick at present.
    pub stalled: HashSet<u16>,
    /// The gateways that stand still at present, by their places.
    pub paused: HashSet<usize>,
    /// What zones said of what they simulate.
    pub audit: Arc<CollectedAudit>,
    /// Who owns what.
    pub bus: InProcess,
    sessions: Arc<TestSessions>,
    parts: Vec<ZoneParts>,
    elapsed_us: Arc<AtomicU64>,
    clock: TickClock,
    options: TestOptions,
    world: Arc<WorldDefinition>,
    now: Instant,
}

/// Where clients reach a gateway.
pub fn gateway_address(gateway: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7_700 + u16::try_from(gateway).unwrap()))
}

fn client_address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], 1_000 + u16::try_from(index).unwrap()))
}

impl ZoneParts {
    fn start(&self, first: Tick, bus: &InProcess, wrap: &BusFn) -> Zone {
        let zone = self.config.zone;
        let links = ZoneLinks {
            gateways: self.gateways.clone(),
            peers: self.peers.clone(),
            source: None,
            bus: wrap(zone, bus.connect(zone)),
            desk: Some(self.desk.1.clone()),
        };
        Zone::new(self.config.clone(), first, links)
    }
}

fn connect_neighbours(world: &WorldDefinition, parts: &mut [ZoneParts]) {
    let map = world.zone_map();
    for one in 0..parts.len() {
        for other in one + 1..parts.len() {
            let (zone, other_zone) = (parts[one].config.zone, parts[other].config.zone);
            let apart = map.area(zone).unwrap().distance_to(map.area(other_zone).unwrap());
            if apart <= GHOST_REACH_M {
                let (end, other_end) = in_process_peers();
                parts[one].peers.push(Peer { zone: other_zone, end });
                parts[other].peers.push(Peer { zone, end: other_end });
            }
        }
    }
}

impl TestWorld {
    /// A world without players.
    pub fn new(options: TestOptions) -> Self {
        let now = Instant::now();
        let world = Arc::new(WorldDefinition::parse(&options.world, "world.toml").unwrap());
        let clock = TickClock::new(now, options.first_tick, world.tick_rate_hz);
        let network = MemoryNetwork::new(options.conditions, options.seed);
        let elapsed_us = Arc::new(AtomicU64::new(0));
        let elapsed = Arc::clone(&elapsed_us);
        let since_start = move || Duration::from_micros(elapsed.load(Ordering::Relaxed));
        let bus = meridian_bus::in_process(LeaseEpoch(0), Arc::new(since_start));
        let audit = Arc::<CollectedAudit>::default();
        let mut parts = Vec::new();
        for zone in world.zone_map().ids() {
            let config = ZoneConfig {
                zone,
                before: LeaseEpoch(0),
                world: world.clone(),
                clock,
                game: options.game.clone(),
                instance: "local".to_owned(),
                audit: Some(audit.clone()),
            };
            let (gateways, peers) = (Vec::new(), Vec::new());
            parts.push(ZoneParts {
                config,
                gateways,
                peers,
                desk: desk(),
            });
        }
        connect_neighbours(&world, &mut parts);
        let zones = parts
            .iter()
            .map(|parts| parts.start(options.first_tick, &bus, &options.bus))
            .collect();
        let gateways = options.gateways;
        let mut made = Self {
            sessions: Arc::new(TestSessions::new(KEY, world.clone())),
            zones,
            gateways: Vec::new(),
            clients: Vec::new(),
            network,
            stalled: HashSet::new(),
            paused: HashSet::new(),
            audit,
            bus,
            parts,
            elapsed_us,
            clock,
            options,
            world,
            now,
        };
        for _ in 0..gateways {
            made.start_gateway();
        }
        made
    }

    /// Where orders to a zone are handed in.
    pub fn desk(&self, zone: usize) -> Desk {
        self.parts[zone].desk.0.clone()
    }

    /// Starts another gateway, and lets auth name it; returns its place.
    pub fn start_gateway(&mut self) -> usize {
        let index = self.gateways.len();
        let connect = |(parts, zone): (&mut ZoneParts, &mut Zone)| {
            let (gateway, end) = in_process(Arc::new(|| ()), Arc::new(|| ()));
            parts.gateways.push(gateway.clone());
            zone.add_gateway(gateway);
            let zone = parts.config.zone;
            ZoneLink { zone, end }
        };
        let links = self.parts.iter_mut().zip(&mut self.zones).map(connect).collect();
        let config = GatewayConfig {
            world: self.world.clone(),
            clock: self.clock,
            game: self.options.game.clone(),
            private_key: KEY,
            public_addresses: Vec::new(),
            clients_max: 100,
            interest: InterestConfig::default(),
            id: index as u64,
        };
        let io = Box::new(self.network.open(gateway_address(index)));
        let before = self.clock.tick_at(self.now).max(self.options.first_tick) - 1;
        let mut gateway = Gateway::new(config, before, io, links);
        gateway.set_time(self.now);
        self.gateways.push(Some(gateway));
        self.sessions.add_gateway(gateway_address(index));
        index
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The length of a tick.
    pub fn tick_duration(&self) -> Duration {
        self.clock.rate().tick_duration()
    }

    /// Lets a client with a good token knock; [`Self::run`] for it to get in.
    pub fn join(&mut self, name: &str) -> usize {
        self.join_at(0, name)
    }

    /// The same at another gateway than the first.
    pub fn join_at(&mut self, gateway: usize, name: &str) -> usize {
        let player = PlayerId(100 + self.clients.len() as u64);
        self.knock(gateway, player, name)
    }

    /// Lets another client of the same player knock.
    pub fn rejoin(&mut self, client: usize) -> usize {
        self.rejoin_at(0, client)
    }

    /// The same at another gateway than the first.
    pub fn rejoin_at(&mut self, gateway: usize, client: usize) -> usize {
        self.knock(gateway, PlayerId(100 + client as u64), "again")
    }

    fn knock(&mut self, gateway: usize, player: PlayerId, name: &str) -> usize {
        let index = self.clients.len();
        let user_data = TokenUserData::new(player.0, name).unwrap();
        let token = ConnectToken::build(gateway_address(gateway), NETCODE_PROTOCOL_ID, 1 + index as u64, KEY)
            .user_data(user_data.encode())
            .timeout_seconds(3)
            .generate()
            .unwrap();
        let session = Session {
            token: token.try_into_bytes().unwrap().to_vec(),
            gateway: gateway_address(gateway),
            player,
            name: name.to_owned(),
            world: self.world.clone(),
            world_hash: sessions::world_hash(),
            resume: Some(sessions::resume(KEY, &user_data)),
        };
        let options = HeadlessOptions {
            predict: self.options.predict,
            interpolate: self.options.interpolate,
            server_url: self.options.reconnects.then(|| SERVER_URL.to_owned()),
            watch_borders: self.options.watch_borders.clone(),
            game: self.options.game.clone(),
        };
        let io = Box::new(self.network.open(client_address(index)));
        let client = HeadlessClient::new(options, &session, io, self.now);
        let client = client.with_virtual_time().with_sessions(self.sessions.clone());
        self.clients.push(client);
        index
    }

    /// Lets `count` clients join and runs until all of them are in the world.
    pub fn join_all(&mut self, count: usize) {
        for index in 0..count {
            self.join(&format!("player {index}"));
        }
        self.run_until(Duration::from_secs(10), "everybody is in", |world| {
            world.clients.iter_mut().all(|client| client.own_pose().is_some())
        });
    }

    /// Sets the input of a client.
    pub fn walk(&mut self, client: usize, x: f32, z: f32, jump: bool) {
        let (input, _) = Move::new(bevy::math::Vec2::new(x, z), 0.0, jump);
        self.clients[client].set_input(input);
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step();
        }
    }

    /// Lets ticks pass.
    pub fn run_ticks(&mut self, ticks: u32) {
        self.run(self.tick_duration() * ticks);
    }

    /// Lets time pass until `condition` holds; fails with `what` after `limit`.
    pub fn run_until(&mut self, limit: Duration, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !condition(self) {
            assert!(
                self.now < end,
                "after {limit:?} not yet: {what}; the clients are {:?}",
                self.states()
            );
            self.step();
        }
    }

    fn step(&mut self) {
        self.pass_time();
        let (now, mut died) = (self.now, Vec::new());
        for zone in &mut self.zones {
            if self.stalled.contains(&zone.id().0) {
                continue;
            }
            let behind = self.clock.tick_at(now).since(zone.next_tick());
            if behind > CATCH_UP_TICKS_MAX as i64 {
                zone.skip_to(self.clock.tick_at(now));
            }
            while self.clock.due(zone.next_tick()) <= now {
                // As the server does: a zone that panics is started again from its records.
                if catch_unwind(AssertUnwindSafe(|| zone.step(now, || now))).is_err() {
                    died.push(zone.id().0);
                    break;
                }
            }
        }
        died.into_iter().for_each(|zone| self.restart(zone));
        (0..self.gateways.len()).for_each(|gateway| self.drive_gateway(gateway));
        self.step_clients();
    }

    /// Ends a gateway without a goodbye, as when its machine loses power: its zones find its ends closed.
    pub fn kill_gateway(&mut self, gateway: usize) {
        self.gateways[gateway] = None;
    }

    /// A gateway that was not killed.
    pub fn gateway(&mut self, gateway: usize) -> &mut Gateway {
        self.gateways[gateway].as_mut().unwrap()
    }

    fn pass_time(&mut self) {
        self.now += STEP;
        self.elapsed_us.fetch_add(STEP.as_micros() as u64, Ordering::Relaxed);
    }

    /// Puts a new instance in the place of a zone that died: what it had not written down is gone.
    pub fn restart(&mut self, zone: u16) {
        let first = self.clock.tick_at(self.now).next();
        let zone = usize::from(zone);
        self.zones[zone] = self.parts[zone].start(first, &self.bus, &self.options.bus);
    }

    /// Lets no zone tick.
    pub fn stall_all(&mut self) {
        self.stalled = self.zones.iter().map(|zone| zone.id().0).collect();
    }

    /// The zone at a place.
    pub fn zone_at(&mut self, x: f32, z: f32) -> &mut Zone {
        let zone = self.world.zone_map().zone_at([x, z]);
        &mut self.zones[usize::from(zone.0)]
    }

    /// Lets time pass for the clients alone, as if the servers' machine were gone.
    pub fn run_clients(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.pass_time();
            self.step_clients();
        }
    }

    fn step_clients(&mut self) {
        let now = self.now;
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.next_wake() <= now || self.network.has_due(client_address(index), now) {
                client.update(now);
            }
        }
    }

    /// What `meridian_gateway::run` does, on the time of the test.
    fn drive_gateway(&mut self, index: usize) {
        let (now, patience) = (self.now, self.tick_duration() / 2);
        let Some(gateway) = self.gateways[index].as_mut().filter(|_| !self.paused.contains(&index)) else {
            return;
        };
        gateway.set_time(now);
        let overdue = self.clock.tick_at(now.checked_sub(patience).unwrap());
        let complete = gateway.take_messages();
        let tick = complete.or_else(|| (overdue > gateway.last_tick()).then_some(overdue));
        if let Some(tick) = tick {
            gateway.tick(tick);
        } else if self.network.has_due(gateway_address(index), now) {
            gateway.receive();
        }
    }

    /// What the clients' connections are doing.
    pub fn states(&self) -> Vec<ConnectionState> {
        self.clients.iter().map(|client| client.state().clone()).collect()
    }

    /// Whether every client is in the world.
    pub fn all_playing(&self) -> bool {
        self.clients
            .iter()
            .all(|client| *client.state() == ConnectionState::Playing)
    }
}
