//! A `Play` stream: moves in order, each answered in its turn.
//!
//! Moves are handed in as they come where the player is, in a zone of this process or at another server, so that it may have one in each tick. Those that
//! find it gone are brought to where it is, one after the other. The stream is polled by its reader: who does not read is not played for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use futures_util::{FutureExt, Stream};
use meridian_rpc::v1::play_response::Outcome as Answered;
use meridian_rpc::v1::{MoveResponse, PlayRequest, PlayResponse, Refusal};
use meridian_rpc::{ErrorWord, owner_address, refusal};
use tonic::{Status, Streaming};
use tracing::Instrument;

use crate::arguments;
use crate::call::{Call, Method, OpenStream, timed};
use crate::gate::tabled;
use crate::identity::Caller;
use crate::limits::{DEADLINE_MAX, PlayerSeat};
use crate::players::Playing;
use crate::routing::{Begun, Errand, Target, Walk, Ways, Wish, too_late};
use crate::service::{Front, moved, stopping};

/// Moves of a stream that wait for their answers at most: a quarter of a second at 60 Hz. Those beyond wait at the caller.
pub(crate) const UNDER_WAY_MAX: usize = 16;

/// What a stream holds on to until it ends.
pub(crate) struct Held {
    pub(crate) call: Call,
    pub(crate) _seat: PlayerSeat,
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
        answering: None,
        under_way: VecDeque::with_capacity(UNDER_WAY_MAX),
        is_astray: Arc::default(),
        ways: Ways::default(),
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
    /// The answer that is told next. It is never given up half-way: what was asked for elsewhere would be asked for again.
    answering: Option<Answering>,
    /// Moves behind it, in their order.
    under_way: VecDeque<UnderWay>,
    /// A move was not done where it was begun: until all are answered, the next ones wait for it to be done elsewhere.
    is_astray: Arc<AtomicBool>,
    ways: Ways,
    held: Held,
    _open: OpenStream,
}

struct Answering {
    target: Option<Target>,
    answer: BoxFuture<'static, PlayResponse>,
}

/// A move that is not answered yet.
struct UnderWay {
    sequence: u64,
    arrived: Instant,
    ticks: u32,
    /// Where the player was taken to be.
    target: Option<Target>,
    begun: Result<Begun, Status>,
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
            self.answer_next();
            let can_take = self.has_more && self.can_take();
            if !can_take && self.answering.is_none() {
                return None;
            }
            let ends_at = self.held.ends_at.map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Some(Err(stopping())),
                () = until(ends_at) => return Some(Err(too_late())),
                answer = answered(&mut self.answering) => {
                    self.answering = None;
                    return Some(Ok(answer));
                }
                request = self.requests.message(), if can_take => match request {
                    Ok(Some(request)) => self.take(request),
                    Ok(None) => self.has_more = false,
                    Err(status) => return Some(Err(tabled(status))),
                },
            }
        }
    }

    fn answer_next(&mut self) {
        if self.answering.is_some() {
            return;
        }
        match self.under_way.pop_front() {
            Some(first) => {
                self.answering = Some(Answering {
                    target: first.target,
                    answer: answer(Arc::clone(&self.front), first, Arc::clone(&self.is_astray)).boxed(),
                });
            }
            None => {
                if self.is_astray.swap(false, Ordering::Relaxed) {
                    self.ways.begin_anew();
                }
                self.ways.drop_ended();
            }
        }
    }

    fn can_take(&self) -> bool {
        self.answering.is_none() || self.under_way.len() + 1 < UNDER_WAY_MAX && self.next_target().is_some()
    }

    /// Where the next move may be begun at once. Moves stay in their order: while some are under way to one place, none is begun in another.
    fn next_target(&self) -> Option<Target> {
        let target = self.front.router.target_of(self.caller.player);
        let under_way = self.under_way.iter().map(|under_way| under_way.target);
        let answering = self.answering.iter().map(|answering| answering.target);
        let is_straight =
            !self.is_astray.load(Ordering::Relaxed) && under_way.chain(answering).all(|other| other == target);
        target.filter(|_| is_straight)
    }

    fn take(&mut self, request: PlayRequest) {
        let arrived = Instant::now();
        let asked = request.r#move.unwrap_or_default();
        let checked = self.front.calls.check(&self.caller.player);
        let checked = checked.and_then(|()| match request.r#move {
            Some(asked) => arguments::walk(&asked),
            None => Err(refusal(ErrorWord::Argument, "move is missing")),
        });
        // Not what it was when this one was asked for: others may have gone astray since.
        let target = self.next_target();
        let begun = checked.map(|walk| self.begin(walk, target, arrived));
        let is_begun = begun.as_ref().map_or(true, Begun::is_at_its_target);
        let target = target.filter(|_| is_begun);
        self.under_way.push_back(UnderWay {
            sequence: request.sequence,
            arrived,
            ticks: asked.ticks,
            target,
            begun,
        });
    }

    fn begin(&mut self, walk: Walk, target: Option<Target>, arrived: Instant) -> Begun {
        let caller = Caller {
            arrived,
            deadline: arrived + DEADLINE_MAX,
            ..self.caller.clone()
        };
        let errand = Errand {
            caller,
            wish: Wish::Walk(walk),
        };
        self.front
            .router
            .begin(errand, target, &mut self.ways, &self.front.identity)
    }
}

async fn answered(answering: &mut Option<Answering>) -> PlayResponse {
    match answering {
        Some(answering) => (&mut answering.answer).await,
        None => std::future::pending().await,
    }
}

async fn answer(front: Arc<Front>, under_way: UnderWay, is_astray: Arc<AtomicBool>) -> PlayResponse {
    let UnderWay {
        sequence,
        arrived,
        ticks,
        begun,
        ..
    } = under_way;
    let outcome = match begun {
        Ok(begun) => front.router.finish(begun, &front.identity, &is_astray).await,
        Err(status) => Err(status),
    };
    timed(Method::Play, arrived);
    response(sequence, outcome.and_then(|outcome| moved(outcome, ticks)))
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
