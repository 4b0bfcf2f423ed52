//! The calls of `meridian.v1.GameServer`.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use futures_util::stream::unfold;
use meridian_ids::PlayerId;
use meridian_rpc::v1::game_server_server::GameServer;
use meridian_rpc::v1::{
    JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, ListZonesRequest, ListZonesResponse, MoveRequest,
    MoveResponse, PlayRequest, PlayResponse, WatchPositionsRequest, WatchPositionsResponse,
};
use meridian_rpc::{ErrorWord, refusal};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::call::{Call, Method, OpenStream};
use crate::connection::Peer;
use crate::context::{FrontContext, WorldSummary};
use crate::gate::Arrived;
use crate::identity::{Caller, Identity};
use crate::limits::{CallLimiter, PeerKey, PlayerSeats, peer_key, timeout_of};
use crate::play::{Held, play, until};
use crate::players::Players;
use crate::routing::{Errand, Outcome, Router, Wish, not_joined, too_late};
use crate::watch::{Watcher, Watching};
use crate::{arguments, zones};

/// What the calls share.
pub(crate) struct Front {
    pub(crate) identity: Identity,
    pub(crate) router: Router,
    pub(crate) players: Arc<Players>,
    pub(crate) calls: CallLimiter<PlayerId>,
    pub(crate) stop: CancellationToken,
    pub(crate) world: WorldSummary,
    pub(crate) instance: String,
    /// Where clients and other servers reach this one.
    pub(crate) public_address: Option<SocketAddr>,
    watching: Watching,
    /// For calls that need no token.
    peers: CallLimiter<PeerKey>,
    plays: PlayerSeats,
    watchers: PlayerSeats,
}

impl Front {
    /// Streams end, and nothing begins any more, with `stop`.
    pub(crate) fn new(context: &FrontContext, stop: CancellationToken) -> Self {
        let config = &context.config;
        let players = Arc::new(Players::new(Duration::from_secs(config.idle_s.into())));
        let watching = Watching::new(
            Arc::clone(&context.positions),
            context.clock,
            context.world.zones.clone(),
            Duration::from_secs(config.watcher_patience_s.into()),
            stop.clone(),
        );
        Self {
            identity: Identity::new(context.key.clone()),
            router: Router::new(context, Arc::clone(&players)),
            players,
            calls: CallLimiter::new(config.calls_per_second_per_player),
            peers: CallLimiter::new(config.calls_per_second_per_player),
            plays: PlayerSeats::new(config.streams_max, "streams"),
            watchers: PlayerSeats::new(config.watchers_max, "watchers"),
            stop,
            world: context.world.clone(),
            instance: context.instance.clone(),
            public_address: config.public_address,
            watching,
        }
    }

    /// Who calls, if that may call now. Its trace goes on from the call's.
    fn caller<T>(&self, request: &Request<T>, traceparent: Option<String>) -> Result<Caller, Status> {
        if self.stop.is_cancelled() {
            return Err(stopping());
        }
        let arrived = arrived(request);
        let caller = self.identity.caller(request.metadata(), arrived, traceparent)?;
        self.calls.check(&caller.player)?;
        Ok(caller)
    }

    /// Does what a call wishes for its player.
    async fn done(&self, caller: Result<Caller, Status>, wish: Wish) -> Result<(Caller, Outcome), Status> {
        let caller = caller?;
        let wish = match wish {
            Wish::Walk(_) if caller.only_stays => Wish::Stay,
            wish => wish,
        };
        let errand = Errand { caller, wish };
        let outcome = self.router.route(&errand).await?;
        Ok((errand.caller, outcome))
    }

    async fn join(&self, caller: Result<Caller, Status>) -> Result<Response<JoinResponse>, Status> {
        let (caller, outcome) = self.done(caller, Wish::Join).await?;
        Ok(Response::new(JoinResponse {
            player_id: caller.player.0,
            name: caller.name,
            position: outcome.position,
            tick_rate_hz: self.world.tick_rate_hz,
            walk_speed_mps: self.world.walk_speed_mps,
        }))
    }

    async fn r#move(
        &self,
        caller: Result<Caller, Status>,
        asked: &MoveRequest,
    ) -> Result<Response<MoveResponse>, Status> {
        // Who may not call at all is told that first.
        let caller = caller?;
        let walk = arguments::walk(asked)?;
        let (_, outcome) = self.done(Ok(caller), Wish::Walk(walk)).await?;
        Ok(Response::new(moved(outcome, walk.ticks)?))
    }
}

/// When a request came; all come through the gate.
fn arrived<T>(request: &Request<T>) -> Instant {
    let arrived = request.extensions().get::<Arrived>();
    arrived.map_or_else(Instant::now, |arrived| arrived.0)
}

/// The service.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Front>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl GameServer for Service {
    type PlayStream = Answers<PlayResponse>;
    type WatchPositionsStream = Answers<WatchPositionsResponse>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let call = Call::begin(Method::Join, request.metadata());
        let caller = self.0.caller(&request, call.traceparent());
        call.answer(self.0.join(caller)).await
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let call = Call::begin(Method::Leave, request.metadata());
        let caller = self.0.caller(&request, call.traceparent());
        let left = async {
            self.0.done(caller, Wish::Leave).await?;
            Ok(Response::new(LeaveResponse {}))
        };
        call.answer(left).await
    }

    async fn r#move(&self, request: Request<MoveRequest>) -> Result<Response<MoveResponse>, Status> {
        let call = Call::begin(Method::Move, request.metadata());
        let caller = self.0.caller(&request, call.traceparent());
        call.answer(self.0.r#move(caller, request.get_ref())).await
    }

    async fn play(&self, request: Request<Streaming<PlayRequest>>) -> Result<Response<Self::PlayStream>, Status> {
        let (front, arrived) = (&self.0, arrived(&request));
        let mut call = Call::begin(Method::Play, request.metadata());
        let begun = front.caller(&request, call.traceparent()).and_then(|caller| {
            let seat = front.plays.take(caller.player)?;
            Ok((caller, seat))
        });
        let (caller, seat) = begun.inspect_err(|status| call.ended(Err(status)))?;
        let held = Held {
            call,
            _seat: seat,
            _playing: front.players.plays(caller.player),
            ends_at: timeout_of(request.metadata().as_ref()).map(|timeout| arrived + timeout),
        };
        Ok(Response::new(Box::pin(play(
            Arc::clone(front),
            caller,
            request.into_inner(),
            held,
        ))))
    }

    async fn watch_positions(
        &self,
        request: Request<WatchPositionsRequest>,
    ) -> Result<Response<Self::WatchPositionsStream>, Status> {
        let (front, arrived) = (&self.0, arrived(&request));
        let mut call = Call::begin(Method::WatchPositions, request.metadata());
        let ends_at = timeout_of(request.metadata().as_ref());
        let ends_at = ends_at.map(|timeout| tokio::time::Instant::from_std(arrived + timeout));
        // Every call comes over a connection of this listener.
        let connection = request.extensions().get::<Peer>().map(|peer| peer.cut.clone());
        let caller = front.caller(&request, None);
        let begun = caller.and_then(|caller| {
            let filter = arguments::filter(request.into_inner())?;
            Ok((filter, front.watchers.take(caller.player)?))
        });
        let (filter, seat) = begun.inspect_err(|status| call.ended(Err(status)))?;
        let watch = Watch {
            watcher: Some(front.watching.watch(filter, seat, connection.unwrap_or_default())),
            stop: front.stop.clone(),
            ends_at,
            call,
            _open: OpenStream::new("watch"),
        };
        let told = unfold(watch, |mut watch| async move {
            let span = watch.call.span().clone();
            let next = watch.next().instrument(span).await?;
            Some((next, watch))
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn list_zones(&self, request: Request<ListZonesRequest>) -> Result<Response<ListZonesResponse>, Status> {
        let front = &self.0;
        let listed = async {
            let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
            let peer = peer.map(|address| peer_key(address.ip()));
            front.peers.check(&peer.unwrap_or_default())?;
            Ok(Response::new(zones::listed(front)))
        };
        Call::begin(Method::ListZones, request.metadata()).answer(listed).await
    }
}

/// A `WatchPositions` stream.
struct Watch {
    /// None when it has ended.
    watcher: Option<Watcher>,
    stop: CancellationToken,
    ends_at: Option<tokio::time::Instant>,
    call: Call,
    _open: OpenStream,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchPositionsResponse, Status>> {
        let watcher = self.watcher.as_ref()?;
        let told = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(stopping()),
            () = until(self.ends_at) => Err(too_late()),
            told = watcher.next() => told,
        };
        if let Err(status) = &told {
            self.call.ended(Err(status));
            self.watcher = None;
        }
        Some(told)
    }
}

/// What a move's caller is told.
pub(crate) fn moved(outcome: Outcome, ticks: u32) -> Result<MoveResponse, Status> {
    // Who asked to walk and left in the same tick has no place.
    let position = outcome.position.ok_or_else(not_joined)?;
    Ok(MoveResponse {
        position: Some(position),
        last_tick: position.tick.saturating_add(u64::from(ticks.saturating_sub(1))),
        timing: Some(outcome.timing),
    })
}

/// What is told at the end of the process.
pub(crate) fn stopping() -> Status {
    refusal(ErrorWord::ZoneAway, "this server stops: try again, or another one")
}
