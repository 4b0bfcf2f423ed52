//! A small world behind the real API: a tick at a steady rate, players that walk, and everything that a server may answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use meridian_rpc::v1::game_server_server::{GameServer, GameServerServer};
use meridian_rpc::v1::play_response::Outcome;
use meridian_rpc::v1::watch_positions_request::Filter;
use meridian_rpc::v1::*;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, oneshot};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::auth::{self, Sessions};

/// Ticks in a second.
pub const TICK_RATE_HZ: u32 = 60;
/// Metres in a second.
pub const WALK_SPEED_MPS: f32 = 5.0;
/// The ticks that a watcher may be behind.
const WATCH_QUEUE: usize = 64;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

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
    waiting: Option<(MoveRequest, Instant, oneshot::Sender<MoveResponse>)>,
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
    positions: broadcast::Sender<Vec<Position>>,
}

impl World {
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
        let mut positions = Vec::new();
        for player in self.players.values_mut() {
            let began = player.waiting.take().map(|(request, asked, answer)| {
                player.walk = Some((request.dx, request.dz, tick + u64::from(request.ticks) - 1));
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
        let _ = self.positions.send(positions);
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
        let (positions, _) = broadcast::channel(WATCH_QUEUE);
        let world = World {
            players: HashMap::new(),
            tick: 1_000,
            fault: Fault::None,
            traces: Vec::new(),
            positions,
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

struct Api {
    world: Arc<Mutex<World>>,
    sessions: Arc<Mutex<Sessions>>,
    address: SocketAddr,
}

fn refuse(code: Code, word: &'static str, message: &str) -> Status {
    let mut status = Status::new(code, message);
    status
        .metadata_mut()
        .insert(meridian_rpc::ERROR, MetadataValue::from_static(word));
    status
}

impl Api {
    /// Who calls, and the world. Each call has to have a token and a trace.
    fn enter(
        &self,
        method: &'static str,
        metadata: &MetadataMap,
    ) -> Result<(u64, String, MutexGuard<'_, World>), Status> {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let token = text(meridian_rpc::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let known = token.and_then(|token| self.sessions.lock().unwrap().player(token));
        let (player, name) = known.ok_or_else(|| refuse(Code::Unauthenticated, "token", "the token is not good"))?;
        let mut world = self.world.lock().unwrap();
        world
            .traces
            .push((method, text(meridian_rpc::TRACEPARENT).unwrap_or_default().to_owned()));
        Ok((player, name, world))
    }

    fn check_owner(&self, world: &World) -> Result<(), Status> {
        match world.fault {
            Fault::OwnerElsewhere(owner) if owner != self.address => {
                let mut status = refuse(Code::Unavailable, "owner_elsewhere", "another server has the entity");
                let address = owner.to_string().parse().unwrap();
                status.metadata_mut().insert(meridian_rpc::OWNER_ADDRESS, address);
                Err(status)
            }
            _ => Ok(()),
        }
    }

    fn begin_move(
        &self,
        world: &mut World,
        player: u64,
        request: MoveRequest,
    ) -> Result<oneshot::Receiver<MoveResponse>, Status> {
        self.check_owner(world)?;
        if world.fault == Fault::ZoneAway {
            return Err(refuse(Code::Unavailable, "zone_away", "no zone has the entity now"));
        }
        if !(1..=meridian_rpc::MOVE_TICKS_MAX).contains(&request.ticks) || request.dx.hypot(request.dz) > 1.0 {
            return Err(refuse(
                Code::InvalidArgument,
                "argument",
                "ticks: 1 to 60; dx, dz: at most 1 long",
            ));
        }
        let player = world.players.get_mut(&player);
        let player =
            player.ok_or_else(|| refuse(Code::FailedPrecondition, "not_joined", "the player has no entity"))?;
        let (answer, answered) = oneshot::channel();
        player.waiting = Some((request, Instant::now(), answer));
        Ok(answered)
    }
}

#[tonic::async_trait]
impl GameServer for Api {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let (player_id, name, mut world) = self.enter("Join", request.metadata())?;
        let (tick, entity) = (world.tick, 0x1_0001_0000_0000 + player_id);
        let player = world.players.entry(player_id).or_insert_with(|| Player {
            entity,
            x: 0.0,
            z: 0.0,
            walk: None,
            waiting: None,
            ticks_walked: 0,
        });
        let position = Some(position(player, tick));
        Ok(Response::new(JoinResponse {
            player_id,
            name,
            position: position.filter(|_| world.fault != Fault::NoPosition),
            tick_rate_hz: if world.fault == Fault::TellsSlowTicks {
                1
            } else {
                TICK_RATE_HZ
            },
            walk_speed_mps: WALK_SPEED_MPS,
        }))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let (player, _, mut world) = self.enter("Leave", request.metadata())?;
        let left = world.players.remove(&player);
        left.ok_or_else(|| refuse(Code::FailedPrecondition, "not_joined", "the player has no entity"))?;
        Ok(Response::new(LeaveResponse {}))
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<MoveResponse>, Status> {
        let answered = {
            let (player, _, mut world) = self.enter("Move", request.metadata())?;
            match world.fault {
                Fault::Silent => None,
                _ => Some(self.begin_move(&mut world, player, request.into_inner())?),
            }
        };
        match answered {
            Some(answered) => answered
                .await
                .map(Response::new)
                .map_err(|_| Status::cancelled("replaced")),
            None => std::future::pending().await,
        }
    }

    type PlayStream = Answers<PlayResponse>;

    async fn play(&self, request: Request<Streaming<PlayRequest>>) -> Result<Response<Self::PlayStream>, Status> {
        let (player, _, world) = self.enter("Play", request.metadata())?;
        self.check_owner(&world)?;
        drop(world);
        let api = Api {
            world: Arc::clone(&self.world),
            sessions: Arc::clone(&self.sessions),
            address: self.address,
        };
        let api = Arc::new(api);
        let answers = request.into_inner().then(move |request| {
            let api = Arc::clone(&api);
            async move {
                let PlayRequest { sequence, r#move } = request?;
                let begun = api.begin_move(&mut api.world.lock().unwrap(), player, r#move.unwrap_or_default());
                let outcome = match begun {
                    Ok(answered) => Outcome::Moved(answered.await.map_err(|_| Status::cancelled("replaced"))?),
                    Err(status) => Outcome::Refused(Refusal {
                        code: status.code() as i32,
                        error: status
                            .metadata()
                            .get(meridian_rpc::ERROR)
                            .unwrap()
                            .to_str()
                            .unwrap()
                            .to_owned(),
                        message: status.message().to_owned(),
                    }),
                };
                Ok(PlayResponse {
                    sequence,
                    outcome: Some(outcome),
                })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type WatchPositionsStream = Answers<WatchPositionsResponse>;

    async fn watch_positions(
        &self,
        request: Request<WatchPositionsRequest>,
    ) -> Result<Response<Self::WatchPositionsStream>, Status> {
        let (_, _, world) = self.enter("WatchPositions", request.metadata())?;
        if world.fault == Fault::EndsStreams {
            return Ok(Response::new(Box::pin(futures_util::stream::empty())));
        }
        let filter = request.into_inner().filter;
        let answers = BroadcastStream::new(world.positions.subscribe()).map(move |told| {
            Ok(match told {
                Ok(positions) => WatchPositionsResponse {
                    positions: positions
                        .into_iter()
                        .filter(|position| is_watched(&filter, position))
                        .collect(),
                    missed: 0,
                    age_us: 1_500,
                    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
                },
                Err(BroadcastStreamRecvError::Lagged(missed)) => WatchPositionsResponse {
                    missed,
                    ..Default::default()
                },
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_zones(&self, _: Request<ListZonesRequest>) -> Result<Response<ListZonesResponse>, Status> {
        let zone = |zone_id, name: &str, min_x, max_x, server| Zone {
            zone_id,
            name: name.to_owned(),
            area: Some(Area {
                min_x,
                min_z: -64.0,
                max_x,
                max_z: 64.0,
            }),
            server,
        };
        let server = ZoneServer {
            instance: "test".to_owned(),
            address: self.address.to_string(),
            is_this: true,
            entities: 3,
            players: self.world.lock().unwrap().players.len() as u32,
            tick_p50_us: 250,
            tick_p99_us: 1_250,
            lag_ticks: 0,
        };
        Ok(Response::new(ListZonesResponse {
            world: "test\u{1b}[2J".to_owned(),
            tick_rate_hz: TICK_RATE_HZ,
            zones: vec![
                zone(0, "west", -64.0, 0.0, Some(server)),
                zone(1, "east", 0.0, 64.0, None),
            ],
        }))
    }
}

fn is_watched(filter: &Option<Filter>, position: &Position) -> bool {
    let point = position.position.unwrap_or_default();
    match filter {
        None => true,
        Some(Filter::Area(area)) => {
            (area.min_x..=area.max_x).contains(&point.x) && (area.min_z..=area.max_z).contains(&point.z)
        }
        Some(Filter::Entities(entities)) => entities.entity_ids.contains(&position.entity_id),
    }
}
