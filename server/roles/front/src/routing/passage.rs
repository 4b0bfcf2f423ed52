//! A player's `Play` stream to the server that has it: moves are passed on as they come, so that it may have one in each tick there too.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use futures_util::stream::unfold;
use meridian_rpc::ErrorWord;
use meridian_rpc::v1::game_server_client::GameServerClient;
use meridian_rpc::v1::play_response::Outcome;
use meridian_rpc::v1::{PlayRequest, PlayResponse};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::Channel;

use super::Errand;
use super::remote::{asked_move, in_the_name_of};
use crate::identity::Caller;
use crate::limits::REQUEST_BYTES_MAX;
use crate::play::UNDER_WAY_MAX;

/// The stream, until it is dropped. It may have ended before, and then takes nothing.
pub(crate) struct Passage {
    pub(super) address: SocketAddr,
    sequence: u64,
    moves: mpsc::Sender<(PlayRequest, Tell)>,
    _open: DropGuard,
}

/// What came of a move that was passed on.
pub(super) enum Passed {
    Answered(Outcome),
    /// It was never sent: nothing has come of it.
    Unsent,
}

/// Tells a move's caller what came of it. What was sent and is never answered is told by being dropped.
struct Tell {
    told: Option<oneshot::Sender<Passed>>,
    is_sent: bool,
}

impl Tell {
    fn answered(mut self, outcome: Outcome) {
        self.say(Passed::Answered(outcome));
    }

    fn say(&mut self, passed: Passed) {
        if let Some(told) = self.told.take() {
            // Who does not wait any more need not be told.
            let _ = told.send(passed);
        }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        if !self.is_sent {
            self.say(Passed::Unsent);
        }
    }
}

/// Moves that were sent, in their order: answers come in the same.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<VecDeque<(u64, Tell)>>>);

impl Sent {
    fn queue(&self) -> MutexGuard<'_, VecDeque<(u64, Tell)>> {
        // Each access leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, sequence: u64, mut tell: Tell) {
        tell.is_sent = true;
        self.queue().push_back((sequence, tell));
    }

    /// As if nothing was sent.
    fn take_back(&self) {
        for (_, mut tell) in self.queue().drain(..) {
            tell.say(Passed::Unsent);
        }
    }
}

impl Passage {
    /// Opens nothing before the first move. From a tokio task alone.
    pub(super) fn open(channel: Channel, address: SocketAddr, caller: Caller) -> Self {
        let (moves, waiting) = mpsc::channel(UNDER_WAY_MAX);
        let closed = CancellationToken::new();
        tokio::spawn(carry(channel, caller, waiting, closed.clone()));
        Self {
            address,
            sequence: 0,
            moves,
            _open: closed.drop_guard(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.moves.is_closed()
    }

    /// Passes a move on. Nothing if the stream has ended, or too many wait.
    pub(super) fn pass(&mut self, errand: &Errand) -> Option<oneshot::Receiver<Passed>> {
        let (tell, told) = oneshot::channel();
        let request = PlayRequest {
            sequence: self.sequence,
            r#move: Some(asked_move(errand.wish)),
        };
        let tell = Tell {
            told: Some(tell),
            is_sent: false,
        };
        self.moves.try_send((request, tell)).ok()?;
        self.sequence += 1;
        Some(told)
    }
}

/// Carries moves there and answers back, until either side ends.
async fn carry(
    channel: Channel,
    caller: Caller,
    waiting: mpsc::Receiver<(PlayRequest, Tell)>,
    closed: CancellationToken,
) {
    let sent = Sent::default();
    let requests = requests(waiting, sent.clone());
    let carried = async {
        let mut client = GameServerClient::new(channel).max_decoding_message_size(REQUEST_BYTES_MAX);
        let answers = client.play(in_the_name_of(&caller, requests)).await;
        let answers = answers.inspect_err(|status| {
            // Who refuses the stream has done nothing of what it was sent.
            if ErrorWord::of(status).is_some() {
                sent.take_back();
            }
        });
        let mut answers = answers?.into_inner();
        while let Some(answer) = answers.message().await? {
            if !take(&sent, answer) {
                return Err(Status::internal("an answer to no move of this stream"));
            }
        }
        Ok(())
    };
    tokio::select! {
        () = closed.cancelled() => {}
        ended = carried => if let Err(status) = ended {
            tracing::debug!(code = ?status.code(), message = status.message(), "moves are not passed on any more");
        },
    }
    // Who waits is told, though the other end may hold on to what it was sent.
    sent.queue().clear();
}

/// Each one counts as sent when the connection asks for it.
fn requests(waiting: mpsc::Receiver<(PlayRequest, Tell)>, sent: Sent) -> impl Stream<Item = PlayRequest> + Send {
    unfold((waiting, sent), |(mut waiting, sent)| async move {
        let (request, tell) = waiting.recv().await?;
        sent.push(request.sequence, tell);
        Some((request, (waiting, sent)))
    })
}

/// Tells an answer to whom it is for; false if it is for nobody.
fn take(sent: &Sent, answer: PlayResponse) -> bool {
    let Some((sequence, tell)) = sent.queue().pop_front() else {
        return false;
    };
    match answer.outcome {
        Some(outcome) if sequence == answer.sequence => {
            tell.answered(outcome);
            true
        }
        _ => false,
    }
}
