//! Zones, gateway and clients in one process and in virtual time: the real parts over a network in memory.
//!
//! Time is a number that [`TestWorld::run`] advances by a millisecond at a time, so a test takes as long as its work and
//! gives the same result on any machine. Sockets, threads and clocks are the only parts that are not the real ones.

#![expect(
    clippy::unwrap_used,
    reason = "a harness fails by panicking, with the line that failed"
)]

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
use meridian_fabric::{ZoneEnd, in_process, in_process_peers};
use meridian_game::demo::DemoPlugin;
use meridian_game::{Move, WorldDefinition};
use meridian_gateway::{Gateway, GatewayConfig, InterestConfig, ZoneLink};
use meridian_ids::{LeaseEpoch, PlayerId, Tick, TickClock, ZoneId, ZoneMap};
use meridian_link::{LinkConditions, MemoryNetwork};
use meridian_session::{NETCODE_PROTOCOL_ID, TokenUserData};
use meridian_zone::{AuditSink, CATCH_UP_TICKS_MAX, GHOST_REACH_M, Peer, Zone, ZoneConfig, ZoneLinks};

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
    gateway: Arc<dyn ZoneEnd>,
    peers: Vec<Peer>,
}

/// The zones of a world, one gateway and any number of clients.
pub struct TestWorld {
    /// The zones, by their ids.
    pub zones: Vec<Zone>,
    /// The gateway.
    pub gateway: Gateway,
    /// The clients, in the order in which they joined.
    pub clients: Vec<HeadlessClient>,
    /// The network between gateway and clients.
    pub network: MemoryNetwork,
    /// The zones that do not tick at present.
    pub stalled: HashSet<u16>,
    /// What zones said of what they simulate.
    pub audit: Arc<CollectedAudit>,
    /// Who owns what.
    pub bus: InProcess,
    parts: Vec<ZoneParts>,
    elapsed_us: Arc<AtomicU64>,
    clock: TickClock,
    options: TestOptions,
    world: Arc<WorldDefinition>,
    now: Instant,
}

fn gateway_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7_700))
}

fn client_address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], 1_000 + u16::try_from(index).unwrap()))
}

impl ZoneParts {
    fn start(&self, first: Tick, bus: &InProcess, wrap: &BusFn) -> Zone {
        let zone = self.config.zone;
        let links = ZoneLinks {
            gateways: vec![self.gateway.clone()],
            peers: self.peers.clone(),
            bus: wrap(zone, bus.connect(zone)),
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
        let (mut parts, mut links) = (Vec::new(), Vec::new());
        for zone in world.zone_map().ids() {
            let (gateway, end) = in_process(Arc::new(|| ()), Arc::new(|| ()));
            links.push(ZoneLink { zone, end });
            let config = ZoneConfig {
                zone,
                before: LeaseEpoch(0),
                world: world.clone(),
                clock,
                game: options.game.clone(),
                instance: "local".to_owned(),
                audit: Some(audit.clone()),
            };
            let peers = Vec::new();
            parts.push(ZoneParts { config, gateway, peers });
        }
        connect_neighbours(&world, &mut parts);
        let zones = parts
            .iter()
            .map(|parts| parts.start(options.first_tick, &bus, &options.bus))
            .collect();
        let gateway_config = GatewayConfig {
            world: world.clone(),
            clock,
            game: options.game.clone(),
            private_key: KEY,
            public_addresses: Vec::new(),
            clients_max: 100,
            interest: InterestConfig::default(),
        };
        let io = Box::new(network.open(gateway_address()));
        let mut gateway = Gateway::new(gateway_config, options.first_tick - 1, io, links);
        gateway.set_time(now);
        Self {
            zones,
            gateway,
            clients: Vec::new(),
            network,
            stalled: HashSet::new(),
            audit,
            bus,
            parts,
            elapsed_us,
            clock,
            options,
            world,
            now,
        }
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
        let player = PlayerId(100 + self.clients.len() as u64);
        self.knock(player, name)
    }

    /// Lets another client of the same player knock.
    pub fn rejoin(&mut self, client: usize) -> usize {
        self.knock(PlayerId(100 + client as u64), "again")
    }

    fn knock(&mut self, player: PlayerId, name: &str) -> usize {
        let index = self.clients.len();
        let user_data = TokenUserData::new(player.0, name).unwrap().encode();
        let token = ConnectToken::build(gateway_address(), NETCODE_PROTOCOL_ID, 1 + index as u64, KEY)
            .user_data(user_data)
            .timeout_seconds(3)
            .generate()
            .unwrap();
        let session = Session {
            token: token.try_into_bytes().unwrap().to_vec(),
            gateway: gateway_address(),
            player,
            name: name.to_owned(),
            world: self.world.clone(),
        };
        let options = HeadlessOptions {
            predict: self.options.predict,
            interpolate: self.options.interpolate,
            server_url: None,
            watch_borders: self.options.watch_borders.clone(),
            game: self.options.game.clone(),
        };
        let io = Box::new(self.network.open(client_address(index)));
        let client = HeadlessClient::new(options, &session, io, self.now).with_virtual_time();
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
        self.drive_gateway();
        self.step_clients();
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
    fn drive_gateway(&mut self) {
        let now = self.now;
        self.gateway.set_time(now);
        let patience = self.tick_duration() / 2;
        let overdue = self.clock.tick_at(now.checked_sub(patience).unwrap());
        let complete = self.gateway.take_messages();
        let tick = complete.or_else(|| (overdue > self.gateway.last_tick()).then_some(overdue));
        if let Some(tick) = tick {
            self.gateway.tick(tick);
        } else if self.network.has_due(gateway_address(), now) {
            self.gateway.receive();
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
