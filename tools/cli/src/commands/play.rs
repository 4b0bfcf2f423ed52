//! `play`: moves from standard input over one stream, each sent when its line is read.

mod input;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use futures_util::Stream;
use meridian_rpc::MOVE_TICKS_MAX;
use meridian_rpc::v1::game_server_client::GameServerClient;
use meridian_rpc::v1::play_response::Outcome;
use meridian_rpc::v1::{MoveRequest, PlayRequest, PlayResponse};
use meridian_telemetry::TraceContext;
use serde::Serialize;
use tokio::sync::mpsc::{self, Sender};
use tonic::{Code, Streaming};

use super::walk::{Moved, Walk};
use super::{Context, Ended};
use crate::client::{Answer, CallKind, Client, Latency};
use crate::error::{CliError, FailedAction, printable};
use crate::session::StoredSession;
use crate::trace::{Action, trace_id};

use input::{Input, Line};

/// Moves that wait for their answers at most; standard input is read no further then. A second of answers at the rate of ticks.
const UNANSWERED_MAX: usize = 64;

#[derive(Serialize)]
struct PlayResult<'a> {
    command: &'static str,
    line: u64,
    sequence: u64,
    dx: f32,
    dz: f32,
    ticks: u32,
    jump: bool,
    #[serde(flatten)]
    moved: &'a Moved,
    #[serde(flatten)]
    latency: Latency,
}

impl fmt::Display for PlayResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "line {}: {}, until tick {}",
            self.line, self.moved.place, self.moved.last_tick
        )?;
        write!(
            formatter,
            "\n  {} ({})  trace {}",
            self.latency,
            self.moved.terms(),
            self.latency.trace_id
        )
    }
}

/// A move that was sent.
struct Sent {
    sequence: u64,
    line: u64,
    message: MoveRequest,
    at: Instant,
}

/// A stream of moves, from its opening on.
struct Play {
    client: Client,
    session: StoredSession,
    trace: TraceContext,
    /// None after the end of standard input.
    moves: Option<Sender<PlayRequest>>,
    unanswered: VecDeque<Sent>,
    next_sequence: u64,
    /// Exit code of the first line that failed.
    failed: Option<u8>,
}

/// Plays as the player that acts, until standard input ends and everything is answered.
pub async fn run(context: &mut Context) -> Result<(), Ended> {
    if context.is_prompt {
        let message = "play reads standard input, which the prompt has: run `cli play` outside of it";
        return Err(CliError::Usage(message.to_owned()).into());
    }
    let trace = context.begin(Action::PLAY);
    let session = context.session().await?;
    let mut play = Play {
        client: context.client().await?,
        session,
        trace,
        moves: None,
        unanswered: VecDeque::new(),
        next_sequence: 1,
        failed: None,
    };
    let mut input = Input::read_standard_input()?;
    let mut answers = play.open(context, &mut input).await?;
    loop {
        let is_full = play.unanswered.len() >= UNANSWERED_MAX;
        tokio::select! {
            line = input.next(), if play.moves.is_some() && !is_full => play.take(context, line)?,
            answer = answers.message() => match answer.map_err(|status| play.client.in_plain_words(status))? {
                Some(answer) => play.tell(context, answer)?,
                None if play.moves.is_none() && play.unanswered.is_empty() => break,
                None => return Err(CliError::StreamEnded { server: play.client.server().to_owned() }.into()),
            },
            () = play.overdue() => return Err(play.client.timed_out().into()),
        }
        if play.moves.is_none() && play.unanswered.is_empty() {
            break;
        }
    }
    context.keep(play.client);
    play.failed.map_or(Ok(()), |code| Err(Ended::Told(code)))
}

impl Play {
    /// Opens the stream, once more at the owner if the server says that another has the entity. Lines are read and sent meanwhile, for a server may
    /// answer only when it has the first.
    async fn open(&mut self, context: &mut Context, input: &mut Input) -> Result<Streaming<PlayResponse>, CliError> {
        let mut may_follow = true;
        loop {
            let call = self.call()?;
            let client = self.client.clone();
            let mut opened = std::pin::pin!(client.answer(call));
            let opened: Result<Answer<_>, _> = loop {
                let is_full = self.unanswered.len() >= UNANSWERED_MAX;
                tokio::select! {
                    opened = &mut opened => break opened,
                    line = input.next(), if self.moves.is_some() && !is_full => self.take(context, line)?,
                }
            };
            match opened {
                Err(CliError::Refused(status)) if may_follow && self.client.follow(&status).await? => {
                    may_follow = false;
                }
                opened => return Ok(opened?.value),
            }
        }
    }

    /// A call with all moves that are not answered yet, and room for as many as there can be.
    fn call(
        &mut self,
    ) -> Result<impl Future<Output = Result<tonic::Response<Streaming<PlayResponse>>, tonic::Status>> + use<>, CliError>
    {
        let (sender, receiver) = mpsc::channel(UNANSWERED_MAX);
        for sent in &self.unanswered {
            let _ = sender.try_send(PlayRequest {
                sequence: sent.sequence,
                r#move: Some(sent.message),
            });
        }
        // At the end of input there is nothing to come: without a sender the stream ends.
        let has_ended = self.moves.is_none() && self.next_sequence > 1;
        self.moves = (!has_ended).then_some(sender);
        let request = self.client.request(
            requests(receiver),
            Some(&self.session.resume),
            self.trace,
            CallKind::Stream,
        )?;
        let mut server = GameServerClient::new(self.client.channel());
        Ok(async move { server.play(request).await })
    }

    /// Sends the move of a line, or tells what is wrong with it.
    fn take(&mut self, context: &mut Context, line: Result<Option<Line>, CliError>) -> Result<(), CliError> {
        let Some(line) = line? else {
            self.moves = None;
            return Ok(());
        };
        match self.read(&line) {
            Ok(message) => {
                let sequence = self.next_sequence;
                self.next_sequence += 1;
                self.unanswered.push_back(Sent {
                    sequence,
                    line: line.number,
                    message,
                    at: Instant::now(),
                });
                if let Some(moves) = &self.moves {
                    // There is room for all that are unanswered; if the stream is over, its end says why.
                    let _ = moves.try_send(PlayRequest {
                        sequence,
                        r#move: Some(message),
                    });
                }
                Ok(())
            }
            Err(message) => self.fail(
                context,
                &CliError::Line {
                    line: line.number,
                    message,
                },
                None,
            ),
        }
    }

    fn read(&self, line: &Line) -> Result<MoveRequest, String> {
        let arguments = line.arguments()?;
        let walk = Walk::plan(&arguments, self.session.joined).map_err(|error| error.to_string())?;
        match u32::try_from(walk.ticks) {
            Ok(ticks) if ticks <= MOVE_TICKS_MAX => Ok(walk.request(ticks, true)),
            _ => Err(format!(
                "a move of {} ticks: here at most {MOVE_TICKS_MAX} go at once, `cli move` walks farther",
                walk.ticks
            )),
        }
    }

    /// Prints an answer.
    fn tell(&mut self, context: &mut Context, answer: PlayResponse) -> Result<(), CliError> {
        let place = self.unanswered.iter().position(|sent| sent.sequence == answer.sequence);
        let Some(sent) = place.and_then(|place| self.unanswered.remove(place)) else {
            return Err(self
                .client
                .malformed(format!("an answer to move {}, which was not asked", answer.sequence)));
        };
        let latency = sent.at.elapsed();
        match answer.outcome {
            Some(Outcome::Moved(moved)) => {
                let moved = Moved::read(moved, latency).map_err(|reason| self.client.malformed(reason))?;
                let latency = context.answered(latency, self.trace);
                context.output.result(&PlayResult {
                    command: "play",
                    line: sent.line,
                    sequence: sent.sequence,
                    dx: sent.message.dx,
                    dz: sent.message.dz,
                    ticks: sent.message.ticks,
                    jump: sent.message.jump,
                    moved: &moved,
                    latency,
                })
            }
            Some(Outcome::Refused(refusal)) => {
                let code = Code::from(refusal.code);
                let error = CliError::MoveRefused {
                    line: sent.line,
                    code,
                    word: refusal.error,
                    message: printable(&refusal.message),
                };
                context.refused(latency, code);
                self.fail(context, &error, Some(latency))
            }
            None => Err(self.client.malformed("an answer without an outcome")),
        }
    }

    /// Tells what went wrong with one line, and after how long if it was sent. The others go on.
    fn fail(&mut self, context: &mut Context, error: &CliError, latency: Option<Duration>) -> Result<(), CliError> {
        let trace_id = trace_id(&self.trace);
        context.output.error(error, Some(FailedAction { trace_id, latency }));
        self.failed.get_or_insert(error.exit_code());
        Ok(())
    }

    /// Ends when the oldest move should have been answered.
    async fn overdue(&self) {
        match self.unanswered.front() {
            Some(oldest) => tokio::time::sleep_until((oldest.at + self.client.timeout()).into()).await,
            None => std::future::pending().await,
        }
    }
}

fn requests(receiver: mpsc::Receiver<PlayRequest>) -> impl Stream<Item = PlayRequest> + Send + 'static {
    futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
}
