//! A `Play` stream: moves in order, each answered in its turn.
//!
//! Moves for a zone of this process are handed in as they come, so that a player may have one in each tick; those that go elsewhere, or whose player has
//! gone elsewhere, are brought there one after the other. The stream is polled by its reader: who does not read is not played for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures_util::Stream;
use futures_util::stream::unfold;
use meridian_rpc::v1::play_response::Outcome as Answered;
use meridian_rpc::v1::{MoveResponse, PlayRequest, PlayResponse, Refusal};
use meridian_rpc::{ErrorWord, owner_address, refusal};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;
use tonic::{Status, Streaming};
use tracing::Instrument;

use crate::arguments;
use crate::call::{Call, Method, OpenStream, timed};
use crate::identity::Caller;
use crate::limits::DEADLINE_DEFAULT;
use crate::players::Playing;
use crate::routing::{Errand, InDesk, Step, Walk, Wish, hand_in, too_late};
use crate::service::{Front, moved, stopping};

/// Moves of a stream that wait for their answers at most: a quarter of a second at 60 Hz. Those beyond wait at the caller.
const UNDER_WAY_MAX: usize = 16;

/// What a stream holds on to until it ends.
pub(crate) struct Held {
    pub(crate) call: Call,
    pub(crate) _seat: OwnedSemaphorePermit,
    pub(crate) _playing: Playing,
    /// When the caller does not wait any more, if it said so.
    pub(crate) ends_at: Option<Instant>,
}

/// Plays a player, move by move.
pub(crate) fn play(
    front: Arc<Front>,
    caller: Caller,
    requests: Streaming<PlayRequest>,
    held: Held,
) -> impl Stream<Item = Result<PlayResponse, Status>> + Send {
    let stream = Play {
        front,
        caller,
        requests,
        has_more: true,
        has_ended: false,
        under_way: VecDeque::with_capacity(UNDER_WAY_MAX),
        held,
        _open: OpenStream::new("play"),
    };
    unfold(stream, |mut stream| async move {
        let span = stream.held.call.span().clone();
        let next = stream.next().instrument(span).await?;
        Some((next, stream))
    })
}

struct Play {
    front: Arc<Front>,
    caller: Caller,
    requests: Streaming<PlayRequest>,
    has_more: bool,
    has_ended: bool,
    under_way: VecDeque<UnderWay>,
    held: Held,
    _open: OpenStream,
}

/// A move that is not answered yet.
struct UnderWay {
    sequence: u64,
    arrived: Instant,
    ticks: u32,
    state: State,
}

enum State {
    /// Refused before anybody was asked.
    Refused(Option<Status>),
    /// In the desk of a zone of this process.
    InDesk(InDesk, Errand),
    /// To be brought to wherever its player is.
    Routed(Errand),
}

impl Play {
    async fn next(&mut self) -> Option<Result<PlayResponse, Status>> {
        if self.has_ended {
            return None;
        }
        let answered = self.answer_or_end().await;
        if !matches!(answered, Some(Ok(_))) {
            self.has_ended = true;
            let ended = answered
                .as_ref()
                .map_or(Ok(()), |answered| answered.as_ref().map(|_| ()));
            self.held.call.ended(ended);
        }
        answered
    }

    async fn answer_or_end(&mut self) -> Option<Result<PlayResponse, Status>> {
        let stop = self.front.stop.clone();
        loop {
            let can_take = self.has_more && self.can_take();
            if !can_take && self.under_way.is_empty() {
                return None;
            }
            let ends_at = self.held.ends_at.map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Some(Err(stopping())),
                () = until(ends_at) => return Some(Err(too_late())),
                answer = first(&self.front, &mut self.under_way), if !self.under_way.is_empty() => {
                    return Some(Ok(answer));
                }
                request = self.requests.message(), if can_take => match request {
                    Ok(Some(request)) => self.take(request),
                    Ok(None) => self.has_more = false,
                    Err(status) => return Some(Err(status)),
                },
            }
        }
    }

    /// While one is brought somewhere, the next ones wait for it: moves stay in their order. Nothing is dropped half-way then, for nothing comes between.
    fn can_take(&self) -> bool {
        let is_routed = |under_way: &UnderWay| matches!(under_way.state, State::Routed(_));
        self.under_way.len() < UNDER_WAY_MAX && !self.under_way.iter().any(is_routed)
    }

    fn take(&mut self, request: PlayRequest) {
        let arrived = Instant::now();
        let asked = request.r#move.unwrap_or_default();
        let checked = self.front.calls.check(&self.caller.player);
        let checked = checked.and_then(|()| match request.r#move {
            Some(asked) => arguments::walk(&asked),
            None => Err(refusal(ErrorWord::Argument, "move is missing")),
        });
        let state = match checked {
            Err(status) => State::Refused(Some(status)),
            Ok(walk) => self.begin(walk, arrived),
        };
        self.under_way.push_back(UnderWay {
            sequence: request.sequence,
            arrived,
            ticks: asked.ticks,
            state,
        });
    }

    fn begin(&self, walk: Walk, arrived: Instant) -> State {
        let deadline = arrived + DEADLINE_DEFAULT;
        let wish = Wish::Walk(walk);
        let local = self.front.router.desk_of(self.caller.player);
        let caller = Caller {
            arrived,
            deadline,
            ..self.caller.clone()
        };
        let errand = Errand { caller, wish };
        match local.and_then(|local| hand_in(local, wish, &errand)) {
            Some(order) => State::InDesk(order, errand),
            None => State::Routed(errand),
        }
    }
}

/// The answer of the first move that is under way, which is then no more. If it is given up before that, nothing has changed.
async fn first(front: &Front, under_way: &mut VecDeque<UnderWay>) -> PlayResponse {
    loop {
        let Some(first) = under_way.front_mut() else {
            // It is asked for while there is one.
            return std::future::pending().await;
        };
        let outcome = match &mut first.state {
            State::Refused(status) => Err(status.take().unwrap_or_else(too_late)),
            State::InDesk(order, errand) => {
                let deadline = tokio::time::Instant::from_std(errand.caller.deadline);
                match timeout_at(deadline, order.answered()).await {
                    Err(_) => Err(too_late()),
                    Ok(Step::Done(outcome)) => {
                        front.router.remember(&errand.caller, &outcome);
                        moved(outcome, first.ticks)
                    }
                    Ok(Step::Refused(status)) => Err(status),
                    Ok(Step::NotHere | Step::Away | Step::At(_)) => {
                        first.state = State::Routed(errand.clone());
                        continue;
                    }
                }
            }
            State::Routed(errand) => {
                // The token that the stream began with may have expired meanwhile.
                let caller = errand.caller.again(&front.identity);
                let errand = Errand { caller, ..*errand };
                match front.router.route(&errand).await {
                    Ok(outcome) => moved(outcome, first.ticks),
                    Err(status) => Err(status),
                }
            }
        };
        let (sequence, arrived) = (first.sequence, first.arrived);
        under_way.pop_front();
        timed(Method::Play, arrived);
        return response(sequence, outcome);
    }
}

fn response(sequence: u64, outcome: Result<MoveResponse, Status>) -> PlayResponse {
    let outcome = match outcome {
        Ok(moved) => Answered::Moved(moved),
        Err(status) => Answered::Refused(Refusal {
            code: status.code().into(),
            error: ErrorWord::of(&status).map_or_else(String::new, |word| word.to_string()),
            message: match owner_address(&status) {
                Some(owner) => format!("{} (its server is at {owner})", status.message()),
                None => status.message().to_owned(),
            },
        }),
    };
    PlayResponse {
        sequence,
        outcome: Some(outcome),
    }
}

/// Until a moment, or for ever.
pub(crate) async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
