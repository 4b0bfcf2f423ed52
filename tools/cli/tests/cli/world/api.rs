//! The API of the small world, and every refusal that a contract knows.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use meridian_rpc::v1::game_server_server::GameServer;
use meridian_rpc::v1::play_response::Outcome;
use meridian_rpc::v1::watch_positions_request::Filter;
use meridian_rpc::v1::*;
use tokio::sync::oneshot;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Fault, Player, TICK_RATE_HZ, WALK_SPEED_MPS, World, position};
use crate::auth::Sessions;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers as one server of the world.
pub(super) struct Api {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) sessions: Arc<Mutex<Sessions>>,
    pub(super) address: SocketAddr,
}

fn refuse(code: Code, word: &'static str, message: &str) -> Status {
    let mut status = Status::new(code, message);
    status
        .metadata_mut()
        .insert(meridian_rpc::ERROR, MetadataValue::from_static(word));
    status
}

fn traceparent(metadata: &MetadataMap) -> String {
    let value = metadata.get(meridian_rpc::TRACEPARENT);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
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
        let known = token.and_then(|token| self.sessions.lock().unwrap().caller(token));
        let (player, name) = known.ok_or_else(|| refuse(Code::Unauthenticated, "token", "the token is not good"))?;
        let mut world = self.world.lock().unwrap();
        world.traces.push((method, traceparent(metadata)));
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
        traceparent: String,
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
        player.waiting = Some((request, traceparent, Instant::now(), answer));
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
                _ => {
                    let traceparent = traceparent(request.metadata());
                    Some(self.begin_move(&mut world, player, request.into_inner(), traceparent)?)
                }
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
        let (api, traceparent) = (Arc::new(api), traceparent(request.metadata()));
        let answers = request.into_inner().then(move |request| {
            let (api, traceparent) = (Arc::clone(&api), traceparent.clone());
            async move {
                let PlayRequest { sequence, r#move } = request?;
                let request = r#move.unwrap_or_default();
                let begun = api.begin_move(&mut api.world.lock().unwrap(), player, request, traceparent);
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
        let answers = BroadcastStream::new(world.told.subscribe()).map(move |told| {
            Ok(match told {
                Ok(told) => WatchPositionsResponse {
                    positions: told
                        .positions
                        .into_iter()
                        .filter(|position| is_watched(&filter, position))
                        .collect(),
                    missed: 0,
                    age_us: 1_500,
                    traced: told.traced,
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
