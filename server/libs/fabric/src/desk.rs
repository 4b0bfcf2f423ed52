//! Orders to a zone of the same process, each answered once: what request-response callers ask, where a gateway streams.
//!
//! A desk is a bounded queue. The zone takes orders at the beginning of a tick and answers after it; it never waits for who asked. An order that is dropped
//! unanswered, for the zone's instance has ended, answers [`Answer::Away`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use meridian_ids::{EntityEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

use crate::FabricError;

/// Orders that may wait for a zone: four for each player that it lets in.
pub const ORDERS_MAX: usize = 4_096;

/// What is asked of a zone.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Puts the player into the world, or finds it. Answered when it is there; while its entity is being written down, ticks later.
    Join {
        /// What others call it.
        name: String,
    },
    /// Walks.
    Walk {
        /// Along x and z; 1 is full speed.
        direction: [f32; 2],
        /// Whether to jump in the first tick.
        jump: bool,
        /// For how many ticks, at most as many as a zone takes inputs ahead; they replace what was ordered before.
        ticks: u32,
        /// The W3C `traceparent` of who asks, if that is traced.
        traceparent: Option<String>,
    },
    /// The player is still there, and does nothing.
    Stay,
    /// Takes the player out of the world.
    Leave,
}

/// Where a player's entity is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// The entity.
    pub entity: WorldEntityId,
    /// The zone.
    pub zone: ZoneId,
    /// How many owners it has had.
    pub epoch: EntityEpoch,
    /// The tick after which it was there.
    pub tick: Tick,
    /// The centre of its body, in metres.
    pub position: [f32; 3],
    /// When that tick began.
    pub began: Instant,
    /// When it was simulated.
    pub finished: Instant,
}

/// What a zone answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It was done; the player's entity was there after the tick that did it. For [`Request::Walk`] that is the first tick of the walk.
    Done(Placed),
    /// The player has left.
    Left,
    /// The player has no entity here; it went to another zone, if one is named.
    Elsewhere(Option<ZoneId>),
    /// It cannot be done, for people.
    Refused(&'static str),
    /// No more players fit into the zone.
    Full,
    /// The zone does not simulate now: it has no lease, or starts again.
    Away,
}

/// Called with the answer, on the zone's thread: must be cheap and must not block.
pub type AnswerFn = Box<dyn FnOnce(Answer) + Send>;

/// Orders that are done in their order or not at all: behind one that finds its player gone, or its zone away, each is answered [`Answer::Away`].
/// Who hands them in learns of the first one later than the zone, which may have the player, or its time, again by then. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    is_broken: Arc<AtomicBool>,
}

/// A request of one player, and who waits for the answer.
pub struct Order {
    player: PlayerId,
    chain: Option<Chain>,
    request: Request,
    asked: Instant,
    answer: Option<AnswerFn>,
}

impl Order {
    /// Whose.
    pub fn player(&self) -> PlayerId {
        self.player
    }

    /// What.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// When it was handed in.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// Answers it.
    pub fn answer(mut self, answer: Answer) {
        self.tell(answer);
    }

    fn is_behind_a_break(&self) -> bool {
        let chain = self.chain.as_ref();
        chain.is_some_and(|chain| chain.is_broken.load(Ordering::Acquire))
    }

    fn tell(&mut self, answer: Answer) {
        let Some(tell) = self.answer.take() else { return };
        if let Some(chain) = &self.chain
            && matches!(answer, Answer::Away | Answer::Elsewhere(_))
        {
            chain.is_broken.store(true, Ordering::Release);
        }
        tell(answer);
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        self.tell(Answer::Away);
    }
}

/// Where orders are handed in. Clones share the queue.
#[derive(Clone)]
pub struct Desk {
    orders: Sender<Order>,
}

/// Where a zone takes orders: one instance of it after the other.
#[derive(Clone)]
pub struct DeskEnd {
    orders: Arc<Receiver<Order>>,
}

/// A zone's desk.
pub fn desk() -> (Desk, DeskEnd) {
    let (orders, taken) = bounded(ORDERS_MAX);
    let orders_end = Arc::new(taken);
    (Desk { orders }, DeskEnd { orders: orders_end })
}

impl Desk {
    /// Hands in an order, to be done in the next tick, if it is of no chain or its chain holds. `answer` is called exactly once, unless this
    /// fails: then never.
    ///
    /// # Errors
    ///
    /// [`FabricError::Full`] while the zone does not keep up, [`FabricError::Closed`] when it has ended for good.
    pub fn hand_in(
        &self,
        player: PlayerId,
        request: Request,
        chain: Option<&Chain>,
        answer: AnswerFn,
    ) -> Result<(), FabricError> {
        let order = Order {
            player,
            chain: chain.cloned(),
            request,
            asked: Instant::now(),
            answer: Some(answer),
        };
        self.orders.try_send(order).map_err(|error| {
            let (error, mut order) = match error {
                TrySendError::Full(order) => (FabricError::Full, order),
                TrySendError::Disconnected(order) => (FabricError::Closed, order),
            };
            order.answer = None;
            error
        })
    }
}

impl DeskEnd {
    /// The next order, if there is one.
    pub fn take(&self) -> Option<Order> {
        loop {
            let order = self.orders.try_recv().ok()?;
            if !order.is_behind_a_break() {
                return Some(order);
            }
            order.answer(Answer::Away);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> (AnswerFn, Receiver<Answer>) {
        let (told, answers) = bounded(2);
        (Box::new(move |answer| told.send(answer).unwrap()), answers)
    }

    #[test]
    fn an_order_is_answered_once_also_when_it_is_dropped() {
        let (desk, end) = desk();
        let (answer, answers) = counted();
        desk.hand_in(PlayerId(1), Request::Leave, None, answer).unwrap();
        let order = end.take().unwrap();
        assert_eq!((order.player(), order.request()), (PlayerId(1), &Request::Leave));
        order.answer(Answer::Left);
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Answer::Left]);

        let (answer, answers) = counted();
        desk.hand_in(PlayerId(1), Request::Stay, None, answer).unwrap();
        drop(end.take());
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Answer::Away]);
    }

    #[test]
    fn behind_an_order_that_was_not_done_those_of_its_chain_are_not_done_either() {
        for broken_by in [Some(Answer::Away), Some(Answer::Elsewhere(None)), None] {
            let ((desk, end), chain) = (desk(), Chain::default());
            let hand_in = |chain: Option<&Chain>| {
                let (answer, answers) = counted();
                desk.hand_in(PlayerId(1), Request::Stay, chain, answer).unwrap();
                answers
            };
            // Two are taken in one tick; a third one comes before the zone says what became of them.
            let answers = [hand_in(Some(&chain)), hand_in(Some(&chain))];
            let taken = [end.take().unwrap(), end.take().unwrap()];
            let third = hand_in(Some(&chain));
            let another = hand_in(None);
            let [first, second] = taken;
            match broken_by {
                Some(answer) => first.answer(answer),
                None => drop(first),
            }
            second.answer(Answer::Full);
            assert!(answers.iter().all(|answers| answers.try_iter().count() == 1));
            // The next tick: one of nobody's chain is taken, the third is not.
            end.take().unwrap().answer(Answer::Left);
            assert!(end.take().is_none());
            assert_eq!(third.try_iter().collect::<Vec<_>>(), [Answer::Away]);
            assert_eq!(another.try_iter().collect::<Vec<_>>(), [Answer::Left]);
            // A chain that begins anew holds, and a refusal breaks none.
            let anew = Chain::default();
            let _answers = [hand_in(Some(&anew)), hand_in(Some(&anew))];
            end.take().unwrap().answer(Answer::Refused("no"));
            assert!(end.take().is_some());
        }
    }

    #[test]
    fn a_desk_that_is_full_or_closed_says_so_and_answers_nothing() {
        let (desk, end) = desk();
        for _ in 0..ORDERS_MAX {
            desk.hand_in(PlayerId(1), Request::Stay, None, Box::new(|_| ()))
                .unwrap();
        }
        let (answer, answers) = counted();
        assert_eq!(
            desk.hand_in(PlayerId(1), Request::Stay, None, answer),
            Err(FabricError::Full)
        );
        drop(end);
        let (answer, later) = counted();
        assert_eq!(
            desk.hand_in(PlayerId(1), Request::Stay, None, answer),
            Err(FabricError::Closed)
        );
        assert_eq!((answers.try_iter().count(), later.try_iter().count()), (0, 0));
    }
}
