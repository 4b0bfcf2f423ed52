//! Calls to other servers, over connections that are kept.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use meridian_rpc::v1::game_server_client::GameServerClient;
use meridian_rpc::v1::{JoinRequest, LeaveRequest, MoveRequest, MoveTiming, Position, play_response};
use meridian_rpc::{AUTHORIZATION, ErrorWord, HOPS, STAY, TRACEPARENT, owner_address, owner_elsewhere, refusal};
use metrics::counter;
use tokio::sync::oneshot::error::RecvError;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::desk::micros;
use super::passage::Passed;
use super::{Errand, Outcome, Step, Target, Wish, too_late};
use crate::identity::Caller;
use crate::limits::REQUEST_BYTES_MAX;
use crate::metric_definitions::RPC_FORWARDED;

/// Connections that are kept: a server for each, and more servers than that share no world.
const CHANNELS_MAX: usize = 64;
/// How long a server may take to accept a connection: it is in the same network.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How often a connection that is used is asked whether it is still there, and how long it may take to say so.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(2);

/// Connections to other servers.
#[derive(Default)]
pub(super) struct Remotes {
    channels: Mutex<HashMap<SocketAddr, Kept>>,
}

struct Kept {
    channel: Channel,
    used: Instant,
}

/// What a server answers to any of the calls.
struct Answered {
    position: Option<Position>,
    timing: MoveTiming,
}

impl Remotes {
    /// Passes a wish on, and says what the other server says.
    pub(super) async fn ask(&self, errand: &Errand, address: SocketAddr) -> Step {
        let asked = Instant::now();
        let mut answered = call(self.channel(address), errand).await;
        // A connection that broke is opened again by the next call; the server may be there.
        if answered.as_ref().is_err_and(is_broken) {
            answered = call(self.channel(address), errand).await;
        }
        let (outcome, step) = match answered {
            Ok(answered) => ("done", Step::Done(with_the_way(answered, errand, asked))),
            Err(status) => match ErrorWord::of(&status) {
                Some(word) => ("refused", refused(word, status)),
                None => ("unreachable", unreachable(address, &status)),
            },
        };
        forwarded(outcome);
        step
    }

    pub(super) fn channel(&self, address: SocketAddr) -> Channel {
        // Each access leaves it whole.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let used = Instant::now();
        if let Some(kept) = channels.get_mut(&address) {
            kept.used = used;
            return kept.channel.clone();
        }
        if channels.len() >= CHANNELS_MAX {
            let oldest = channels.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                channels.remove(&oldest);
            }
        }
        let channel = connect(address);
        let kept = Kept {
            channel: channel.clone(),
            used,
        };
        channels.insert(address, kept);
        channel
    }
}

/// Opens nothing before the first call.
fn connect(address: SocketAddr) -> Channel {
    let uri = format!("http://{address}");
    // An address is the authority of a URI: the other branch cannot be.
    let endpoint = Endpoint::from_shared(uri).unwrap_or_else(|_| Endpoint::from_static("http://127.0.0.1:0"));
    endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_MAX)
        .connect_lazy()
}

/// A request in the caller's name, for the time that it has left.
fn request<T>(errand: &Errand, message: T) -> Request<T> {
    let mut request = in_the_name_of(&errand.caller, message);
    request.set_timeout(errand.caller.left());
    if errand.wish == Wish::Stay {
        request.metadata_mut().insert(STAY, MetadataValue::from_static("1"));
    }
    request
}

/// A request or a stream of them that is passed on for a caller.
pub(super) fn in_the_name_of<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(HOPS, MetadataValue::from_static("1"));
    // Both were metadata, or were made of it.
    if let Ok(mut token) = MetadataValue::try_from(format!("Bearer {}", caller.token)) {
        token.set_sensitive(true);
        metadata.insert(AUTHORIZATION, token);
    }
    if let Some(Ok(traceparent)) = caller.traceparent.as_deref().map(MetadataValue::try_from) {
        metadata.insert(TRACEPARENT, traceparent);
    }
    request
}

async fn call(channel: Channel, errand: &Errand) -> Result<Answered, Status> {
    let mut client = GameServerClient::new(channel).max_decoding_message_size(REQUEST_BYTES_MAX);
    match errand.wish {
        Wish::Join => {
            let joined = client.join(request(errand, JoinRequest {})).await?.into_inner();
            Ok(Answered {
                position: joined.position,
                timing: MoveTiming::default(),
            })
        }
        Wish::Leave => {
            client.leave(request(errand, LeaveRequest {})).await?;
            Ok(Answered {
                position: None,
                timing: MoveTiming::default(),
            })
        }
        Wish::Walk(_) | Wish::Stay => {
            let moved = client
                .r#move(request(errand, asked_move(errand.wish)))
                .await?
                .into_inner();
            Ok(Answered {
                position: moved.position,
                timing: moved.timing.unwrap_or_default(),
            })
        }
    }
}

pub(super) fn asked_move(wish: Wish) -> MoveRequest {
    match wish {
        Wish::Walk(walk) => MoveRequest {
            dx: walk.direction[0],
            dz: walk.direction[1],
            ticks: walk.ticks,
            jump: walk.jump,
        },
        _ => MoveRequest {
            ticks: 1,
            ..MoveRequest::default()
        },
    }
}

/// Adds the way there to what the other server says of its own: what was done here before, and half of what the call took beyond what the other
/// tells of.
fn with_the_way(answered: Answered, errand: &Errand, asked: Instant) -> Outcome {
    let before = micros(asked.saturating_duration_since(errand.caller.arrived));
    let mut timing = answered.timing;
    let told = timing
        .route_us
        .saturating_add(timing.tick_wait_us)
        .saturating_add(timing.simulate_us);
    let way = micros(asked.elapsed()).saturating_sub(told) / 2;
    timing.route_us = timing.route_us.saturating_add(before).saturating_add(way);
    Outcome {
        position: answered.position,
        timing,
    }
}

/// What another server says of a move of a stream.
pub(super) fn step_of(passed: Result<Passed, RecvError>, errand: &Errand, asked: Instant) -> Step {
    let (outcome, step) = match passed {
        Ok(Passed::Answered(play_response::Outcome::Moved(moved))) => {
            let answered = Answered {
                position: moved.position,
                timing: moved.timing.unwrap_or_default(),
            };
            ("done", Step::Done(with_the_way(answered, errand, asked)))
        }
        Ok(Passed::Answered(play_response::Outcome::Refused(why))) => match ErrorWord::parse(&why.error) {
            // It is brought there anew, with what its answer says of where the player is.
            Some(ErrorWord::NotJoined | ErrorWord::ZoneAway | ErrorWord::OwnerElsewhere) => ("refused", Step::NotHere),
            Some(word) => ("refused", Step::Refused(refusal(word, why.message))),
            None => (
                "refused",
                Step::Refused(Status::new(Code::from_i32(why.code), why.message)),
            ),
        },
        Ok(Passed::Unsent) => ("unreachable", Step::Away),
        Err(_) => {
            let message = "the server of the player's zone went away; what was asked may have been done: try again";
            ("unreachable", Step::Refused(refusal(ErrorWord::ZoneAway, message)))
        }
    };
    forwarded(outcome);
    step
}

fn forwarded(outcome: &'static str) {
    counter!(RPC_FORWARDED, "outcome" => outcome).increment(1);
}

fn refused(word: ErrorWord, status: Status) -> Step {
    match word {
        ErrorWord::NotJoined => Step::NotHere,
        ErrorWord::ZoneAway => Step::Away,
        ErrorWord::OwnerElsewhere => match owner_address(&status) {
            Some(address) => Step::At(Target::Server(address)),
            None => Step::Away,
        },
        _ => Step::Refused(status),
    }
}

/// Whether the connection is at fault, not who is at its end.
fn is_broken(status: &Status) -> bool {
    ErrorWord::of(status).is_none() && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal)
}

fn unreachable(address: SocketAddr, status: &Status) -> Step {
    if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) {
        return Step::Refused(too_late());
    }
    tracing::debug!(%address, code = ?status.code(), message = status.message(), "another server is not reached");
    let message =
        "another server has the player's entity, and it cannot be reached from here: ask it yourself, or try again";
    Step::Refused(owner_elsewhere(address, message))
}
