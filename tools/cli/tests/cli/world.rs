//! A small world behind the real API: a tick at a steady rate, players that walk, and everything that a server may answer.

mod api;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use meridian_rpc::v1::game_server_server::GameServerServer;
use meridian_rpc::v1::*;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, oneshot};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::auth::{self, Sessions};

use api::Api;

/// Ticks in a second.
pub const TICK_RATE_HZ: u32 = 60;
/// Metres in a second.
pub const WALK_SPEED_MPS: f32 = 5.0;
/// The ticks that a watcher may be behind.
const WATCH_QUEUE: usize = 64;

/// What the server does that it should not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It says that another has the entity: that is at this address.
    OwnerElsewhere(SocketAddr),
    /// It refuses moves.
    ZoneAway,
    /// It never answers a move.
    Silent,
    /// It answers without a position.
    NoPosition,
    /// It says that a tick takes a second, and simulates as ever.
    TellsSlowTicks,
    /// It ends streams at once.
    EndsStreams,
}

/// Somebody in the world.
pub struct Player {
    entity: u64,
    /// Metres eastward.
    pub x: f32,
    /// Metres southward.
    pub z: f32,
    /// Direction and last tick of the move that is walked.
    walk: Option<(f32, f32, u64)>,
    /// The move that the next tick begins: its `traceparent`, when it came, and who waits for its answer.
    waiting: Option<(MoveRequest, String, Instant, oneshot::Sender<MoveResponse>)>,
    /// Ticks in which it moved.
    pub ticks_walked: u64,
}

impl Player {
    /// Whether a move of it is not over yet.
    pub fn is_walking(&self) -> bool {
        self.walk.is_some()
    }
}

/// The world that is simulated.
pub struct World {
    players: HashMap<u64, Player>,
    tick: u64,
    /// What goes wrong.
    pub fault: Fault,
    /// `traceparent` of each call, by method.
    pub traces: Vec<(&'static str, String)>,
    told: broadcast::Sender<Told>,
}

/// What a tick tells those who watch.
#[derive(Clone)]
struct Told {
    positions: Vec<Position>,
    /// The moves that began with it.
    traced: Vec<TracedMove>,
}

impl World {
    /// The tick that was simulated last.
    pub fn tick(&self) -> u64 {
        self.tick
    }

    /// A player that has joined.
    pub fn player(&self, player: u64) -> Option<Player> {
        self.players.get(&player).map(|player| Player {
            waiting: None,
            ..*player
        })
    }

    fn simulate(&mut self) {
        self.tick += 1;
        let tick = self.tick;
        let (mut positions, mut traced) = (Vec::new(), Vec::new());
        for player in self.players.values_mut() {
            let began = player.waiting.take().map(|(request, traceparent, asked, answer)| {
                player.walk = Some((request.dx, request.dz, tick + u64::from(request.ticks) - 1));
                traced.push(TracedMove {
                    entity_id: player.entity,
                    traceparent,
                });
                (asked, answer)
            });
            if let Some((dx, dz, last_tick)) = player.walk {
                let metres = WALK_SPEED_MPS / TICK_RATE_HZ as f32;
                player.x += dx * metres;
                player.z += dz * metres;
                player.ticks_walked += 1;
                player.walk = (tick < last_tick).then_some((dx, dz, last_tick));
                if let Some((asked, answer)) = began {
                    let wait = asked.elapsed().as_micros() as u32;
                    let timing = MoveTiming {
                        route_us: 10,
                        tick_wait_us: wait,
                        simulate_us: 20,
                    };
                    let position = Some(position(player, tick));
                    let _ = answer.send(MoveResponse {
                        position,
                        last_tick,
                        timing: Some(timing),
                    });
                }
            }
            positions.push(position(player, tick));
        }
        let _ = self.told.send(Told { positions, traced });
    }
}

fn position(player: &Player, tick: u64) -> Position {
    Position {
        entity_id: player.entity,
        zone_id: u32::from(player.x >= 0.0),
        epoch: 1,
        tick,
        position: Some(Vector3 {
            x: player.x,
            y: 0.9,
            z: player.z,
        }),
    }
}

/// A server and an auth that run until they are dropped.
pub struct TestServer {
    /// Where the gRPC API is.
    pub address: SocketAddr,
    /// Where auth is.
    pub auth: SocketAddr,
    /// What is simulated.
    pub world: Arc<Mutex<World>>,
    /// The sessions of auth.
    pub sessions: Arc<Mutex<Sessions>>,
    runtime: Option<Runtime>,
}

impl TestServer {
    /// A world of its own, and an auth.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    /// The same at this address.
    pub fn start_at(address: SocketAddr) -> Self {
        let sessions = Arc::new(Mutex::new(Sessions::new()));
        let (told, _) = broadcast::channel(WATCH_QUEUE);
        let world = World {
            players: HashMap::new(),
            tick: 1_000,
            fault: Fault::None,
            traces: Vec::new(),
            told,
        };
        let auth = auth::start(Arc::clone(&sessions));
        Self::serve(address, auth, Arc::new(Mutex::new(world)), sessions, true)
    }

    /// Another server of the same world.
    pub fn another(&self) -> Self {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        Self::serve(
            anywhere,
            self.auth,
            Arc::clone(&self.world),
            Arc::clone(&self.sessions),
            false,
        )
    }

    fn serve(
        listen: SocketAddr,
        auth: SocketAddr,
        world: Arc<Mutex<World>>,
        sessions: Arc<Mutex<Sessions>>,
        simulates: bool,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let incoming = TcpIncoming::bind(listen).unwrap();
        let address = incoming.local_addr().unwrap();
        let (reporter, health) = tonic_health::server::health_reporter();
        let api = Api {
            world: Arc::clone(&world),
            sessions: Arc::clone(&sessions),
            address,
        };
        drop(entered);
        runtime.spawn(async move {
            reporter.set_serving::<GameServerServer<Api>>().await;
            let router = Server::builder()
                .add_service(health)
                .add_service(GameServerServer::new(api));
            router
                .serve_with_incoming(incoming.with_nodelay(Some(true)))
                .await
                .unwrap();
        });
        if simulates {
            let world = Arc::clone(&world);
            runtime.spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / TICK_RATE_HZ);
                loop {
                    ticks.tick().await;
                    world.lock().unwrap().simulate();
                }
            });
        }
        Self {
            address,
            auth,
            world,
            sessions,
            runtime: Some(runtime),
        }
    }

    /// The world as it is now.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The server is gone at once, as if its process had been killed.
    pub fn vanish(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.vanish();
    }
}
