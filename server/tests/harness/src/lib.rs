//! Zone, gateway and clients in one process and in virtual time: the real parts over a network in memory.
//!
//! Time is a number that [`TestWorld::run`] advances by a millisecond at a time, so a test takes as long as its work and
//! gives the same result on any machine. Sockets, threads and clocks are the only parts that are not the real ones.

#![expect(
    clippy::unwrap_used,
    reason = "a harness fails by panicking, with the line that failed"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lightyear::netcode::ConnectToken;
use meridian_client_net::{ConnectionState, GameFn, HeadlessClient, HeadlessOptions, Session};
use meridian_fabric::in_process;
use meridian_game::demo::DemoPlugin;
use meridian_game::{Move, WorldDefinition};
use meridian_gateway::{Gateway, GatewayConfig, InterestConfig};
use meridian_ids::{LeaseEpoch, PlayerId, Tick, TickClock, ZoneId, ZoneMap};
use meridian_link::{LinkConditions, MemoryNetwork};
use meridian_session::{NETCODE_PROTOCOL_ID, TokenUserData};
use meridian_zone::{Zone, ZoneConfig};

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
}

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
        }
    }
}

/// The demo game as a game function.
pub fn demo_game() -> GameFn {
    Arc::new(|app| {
        app.add_plugins(DemoPlugin);
    })
}

/// One zone, one gateway and any number of clients.
pub struct TestWorld {
    /// The zone.
    pub zone: Zone,
    /// The gateway.
    pub gateway: Gateway,
    /// The clients, in the order in which they joined.
    pub clients: Vec<HeadlessClient>,
    /// The network between gateway and clients.
    pub network: MemoryNetwork,
    /// While set, the zone does not tick.
    pub zone_stalled: bool,
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

impl TestWorld {
    /// A world without players.
    pub fn new(options: TestOptions) -> Self {
        let now = Instant::now();
        let world = Arc::new(WorldDefinition::parse(&options.world, "world.toml").unwrap());
        let clock = TickClock::new(now, options.first_tick, world.tick_rate_hz);
        let network = MemoryNetwork::new(options.conditions, options.seed);
        let (zone_end, gateway_end) = in_process(Arc::new(|| ()), Arc::new(|| ()));
        let zone_config = ZoneConfig {
            zone: ZoneId(0),
            lease: LeaseEpoch(1),
            world: world.clone(),
            clock,
            game: options.game.clone(),
        };
        let zone = Zone::new(zone_config, options.first_tick, vec![zone_end]);
        let gateway_config = GatewayConfig {
            clock,
            game: options.game.clone(),
            private_key: KEY,
            public_addresses: Vec::new(),
            clients_max: 100,
            interest: InterestConfig::default(),
        };
        let io = Box::new(network.open(gateway_address()));
        let mut gateway = Gateway::new(gateway_config, options.first_tick - 1, io, vec![gateway_end]);
        gateway.set_time(now);
        Self {
            zone,
            gateway,
            clients: Vec::new(),
            network,
            zone_stalled: false,
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
        let index = self.clients.len();
        let player = PlayerId(100 + index as u64);
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
        self.now += STEP;
        let now = self.now;
        while !self.zone_stalled && self.clock.due(self.zone.next_tick()) <= now {
            self.zone.step(now, || now);
        }
        self.drive_gateway();
        self.step_clients();
    }

    /// Lets time pass for the clients alone, as if the servers' machine were gone.
    pub fn run_clients(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += STEP;
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
