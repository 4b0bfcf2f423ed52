//! Streams of moves at a server's gRPC API: as many as are asked for at once, a move a second on each, and how many of them hold.
//!
//! A stream holds if it answers each of its moves as done, from the first, which is sent when all are open, to the last. All of them share one
//! connection.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::Stream;
use meridian_client_net::{Session, SessionError, SessionQuery, request_session};
use meridian_rpc::AUTHORIZATION;
use meridian_rpc::v1::game_server_client::GameServerClient;
use meridian_rpc::v1::play_response::Outcome;
use meridian_rpc::v1::{JoinRequest, LeaveRequest, MoveRequest, PlayRequest, PlayResponse};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::histogram::{DurationHistogram, Summary};

/// Streams of one player: as many as a server lets it have.
const STREAMS_PER_PLAYER: usize = 16;
/// Between two moves of a stream: a player's sixteen stay far below the calls that a server takes of it.
const MOVE_EVERY: Duration = Duration::from_secs(1);
/// How fast each move walks, as a share of full speed. Those of one player go to and fro.
const PACE: f32 = 0.1;
/// How long any answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long until auth is asked again, where asking again may help: it gives one address so many sessions in a second.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How often it is asked for one session.
const TRIES_MAX: usize = 8;

type Client = GameServerClient<Channel>;

/// What is opened, and for how long.
#[derive(Clone, Debug)]
pub struct StreamsOptions {
    /// Where sessions are asked for.
    pub server: String,
    /// The gRPC API.
    pub rpc: String,
    /// How many streams.
    pub streams: usize,
    /// For how long they are played once all are open.
    pub play: Duration,
}

/// What became of the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamsReport {
    /// Streams that were asked for.
    pub requested: u64,
    /// Those that opened.
    pub opened: u64,
    /// Those that answered each of their moves as done, and were open to the end.
    pub held: u64,
    /// Moves that were sent.
    pub moves: u64,
    /// Those that were refused, or not answered within ten seconds: each is the end of its stream.
    pub unanswered: u64,
    /// How long the answers of the others took, in milliseconds.
    pub move_ms: Summary,
}

/// Opens the streams, plays them and leaves.
///
/// # Errors
/// Auth gives no session, the server cannot be reached, or none of the streams opens.
pub fn run(options: &StreamsOptions) -> anyhow::Result<StreamsReport> {
    let tokens = tokens(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime of the streams")?;
    runtime.block_on(hold(options, &tokens))
}

/// How many streams each player has.
fn shares(streams: usize) -> Vec<usize> {
    let first_of_each = (0..streams).step_by(STREAMS_PER_PLAYER);
    first_of_each
        .map(|first| (streams - first).min(STREAMS_PER_PLAYER))
        .collect()
}

/// The token of each player.
fn tokens(options: &StreamsOptions) -> anyhow::Result<Vec<String>> {
    let (mut tokens, mut known_world) = (Vec::new(), None);
    for player in 0..shares(options.streams).len() {
        let session = session(&SessionQuery {
            known_world: known_world.take(),
            ..SessionQuery::guest(&options.server, &format!("stream-{}", player + 1))
        })?;
        let resume = session.resume.context("auth gives no token for the gRPC API")?;
        tokens.push(resume.secret);
        known_world = Some((session.world_hash, session.world));
    }
    Ok(tokens)
}

fn session(query: &SessionQuery) -> anyhow::Result<Session> {
    let mut tries = 1;
    loop {
        match request_session(query) {
            Err(error) if may_help(&error) && tries < TRIES_MAX => std::thread::sleep(RETRY_AFTER),
            result => return result.with_context(|| format!("no session for {}", query.name)),
        }
        tries += 1;
    }
}

/// Whether auth is there, and may give a session soon.
fn may_help(error: &SessionError) -> bool {
    matches!(error, SessionError::Refused { .. }) && error.is_temporary()
}

async fn hold(options: &StreamsOptions, tokens: &[String]) -> anyhow::Result<StreamsReport> {
    let endpoint = Endpoint::from_shared(options.rpc.clone());
    let endpoint = endpoint.with_context(|| format!("{} is no address", options.rpc))?;
    let channel = endpoint.connect_timeout(PATIENCE).connect().await;
    let client = Client::new(channel.with_context(|| format!("cannot reach {}", options.rpc))?);
    let mut streams = open_all(&client, tokens, options.streams).await;
    ensure!(
        !streams.is_empty(),
        "none of {} streams opens at {}",
        options.streams,
        options.rpc
    );
    let mut report = StreamsReport {
        requested: options.streams as u64,
        opened: streams.len() as u64,
        ..StreamsReport::default()
    };
    let mut took = DurationHistogram::default();
    let mut rounds = tokio::time::interval(MOVE_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ends = Instant::now() + options.play;
    let mut round = 0;
    loop {
        rounds.tick().await;
        round += 1;
        streams = play_a_round(streams, round, &mut report, &mut took).await;
        if streams.is_empty() || Instant::now() + MOVE_EVERY > ends {
            break;
        }
    }
    report.held = streams.len() as u64;
    report.move_ms = took.summary_ms();
    drop(streams);
    leave(client, tokens).await;
    Ok(report)
}

/// The streams of all players. What does not open is logged.
async fn open_all(client: &Client, tokens: &[String], streams: usize) -> Vec<PlayStream> {
    let mut opening = JoinSet::new();
    for (token, share) in tokens.iter().zip(shares(streams)) {
        opening.spawn(open_of_player(client.clone(), token.clone(), share));
    }
    opening.join_all().await.into_iter().flatten().collect()
}

async fn open_of_player(mut client: Client, token: String, share: usize) -> Vec<PlayStream> {
    let mut streams = Vec::with_capacity(share);
    if let Err(error) = join(&mut client, &token).await {
        tracing::warn!(streams = share, "a player does not come into the world: {error:#}");
        return streams;
    }
    for _ in 0..share {
        match open(&mut client, &token).await {
            Ok(stream) => streams.push(stream),
            Err(error) => tracing::warn!("a stream does not open: {error:#}"),
        }
    }
    streams
}

/// One move on each stream, all at once; returns the streams that answered it as done.
async fn play_a_round(
    streams: Vec<PlayStream>,
    round: u64,
    report: &mut StreamsReport,
    took: &mut DurationHistogram,
) -> Vec<PlayStream> {
    report.moves += streams.len() as u64;
    let mut playing = JoinSet::new();
    for mut stream in streams {
        playing.spawn(async move {
            let played = tokio::time::timeout(PATIENCE, stream.play(round)).await;
            (stream, played.context("no answer came in time").flatten())
        });
    }
    let mut held = Vec::with_capacity(playing.len());
    for (stream, played) in playing.join_all().await {
        match played {
            Ok(latency) => {
                took.record(latency);
                held.push(stream);
            }
            Err(error) => {
                report.unanswered += 1;
                tracing::warn!(round, "a stream does not hold: {error:#}");
            }
        }
    }
    held
}

/// Takes the players out of the world. Who does not leave so leaves after a minute.
async fn leave(mut client: Client, tokens: &[String]) {
    for token in tokens {
        let Ok(request) = asks(token, LeaveRequest {}) else {
            continue;
        };
        if let Err(error) = in_time(client.leave(request)).await {
            tracing::warn!("a player does not leave: {error:#}");
        }
    }
}

async fn join(client: &mut Client, token: &str) -> anyhow::Result<()> {
    in_time(client.join(asks(token, JoinRequest {})?)).await.map(drop)
}

async fn open(client: &mut Client, token: &str) -> anyhow::Result<PlayStream> {
    let (moves, receiver) = mpsc::channel(1);
    let answers = in_time(client.play(asks(token, requests(receiver))?)).await?;
    Ok(PlayStream { moves, answers })
}

fn requests(receiver: mpsc::Receiver<PlayRequest>) -> impl Stream<Item = PlayRequest> + Send + 'static {
    futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
}

fn asks<T>(token: &str, message: T) -> anyhow::Result<Request<T>> {
    let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse().context("auth gave no token")?;
    let mut request = Request::new(message);
    request.metadata_mut().insert(AUTHORIZATION, bearer);
    Ok(request)
}

/// What a call answers, if it does in time.
async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> anyhow::Result<T> {
    let answered = tokio::time::timeout(PATIENCE, call).await;
    Ok(answered.context("no answer came in time")??.into_inner())
}

/// A `Play` stream that is open.
struct PlayStream {
    moves: mpsc::Sender<PlayRequest>,
    answers: Streaming<PlayResponse>,
}

impl PlayStream {
    /// One move, and how long it took until it was done.
    async fn play(&mut self, sequence: u64) -> anyhow::Result<Duration> {
        let asked = MoveRequest {
            dx: if sequence.is_multiple_of(2) { -PACE } else { PACE },
            ticks: 1,
            ..MoveRequest::default()
        };
        let request = PlayRequest {
            sequence,
            r#move: Some(asked),
        };
        let began = Instant::now();
        self.moves.send(request).await.context("the stream is closed")?;
        let answer = self.answers.message().await?.context("the stream has ended")?;
        ensure!(
            answer.sequence == sequence,
            "move {} is answered for {sequence}",
            answer.sequence
        );
        match answer.outcome {
            Some(Outcome::Moved(_)) => Ok(began.elapsed()),
            Some(Outcome::Refused(refusal)) => bail!("{}: {}", refusal.error, refusal.message),
            None => bail!("an answer without an outcome"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_have_as_many_streams_as_they_may_and_the_last_one_has_the_rest() {
        assert_eq!(shares(1), [1]);
        assert_eq!(shares(32), [16, 16]);
        let shares = shares(1_000);
        assert_eq!(
            (shares.len(), shares.last(), shares.iter().sum::<usize>()),
            (63, Some(&8), 1_000)
        );
    }
}
