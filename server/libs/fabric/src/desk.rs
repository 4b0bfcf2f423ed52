//! Orders to a zone of the same process, each answered once: what request-response callers ask, where a gateway streams.
//!
//! A desk is a bounded queue. The zone takes orders at the beginning of a tick and answers after it; it never waits for who asked. An order that is dropped
//! unanswered, for the zone's instance has ended, answers [`Answer::Away`].

use std::sync::Arc;
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

/// A request of one player, and who waits for the answer.
pub struct Order {
    player: PlayerId,
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
        if let Some(tell) = self.answer.take() {
            tell(answer);
        }
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        if let Some(tell) = self.answer.take() {
            tell(Answer::Away);
        }
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
    /// Hands in an order, to be done in the next tick. `answer` is called exactly once, unless this fails: then never.
    ///
    /// # Errors
    ///
    /// [`FabricError::Full`] while the zone does not keep up, [`FabricError::Closed`] when it has ended for good.
    pub fn hand_in(&self, player: PlayerId, request: Request, answer: AnswerFn) -> Result<(), FabricError> {
        let order = Order {
            player,
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
        self.orders.try_recv().ok()
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
        desk.hand_in(PlayerId(1), Request::Leave, answer).unwrap();
        let order = end.take().unwrap();
        assert_eq!((order.player(), order.request()), (PlayerId(1), &Request::Leave));
        order.answer(Answer::Left);
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Answer::Left]);

        let (answer, answers) = counted();
        desk.hand_in(PlayerId(1), Request::Stay, answer).unwrap();
        drop(end.take());
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [Answer::Away]);
    }

    #[test]
    fn a_desk_that_is_full_or_closed_says_so_and_answers_nothing() {
        let (desk, end) = desk();
        for _ in 0..ORDERS_MAX {
            desk.hand_in(PlayerId(1), Request::Stay, Box::new(|_| ())).unwrap();
        }
        let (answer, answers) = counted();
        assert_eq!(desk.hand_in(PlayerId(1), Request::Stay, answer), Err(FabricError::Full));
        drop(end);
        let (answer, later) = counted();
        assert_eq!(
            desk.hand_in(PlayerId(1), Request::Stay, answer),
            Err(FabricError::Closed)
        );
        assert_eq!((answers.try_iter().count(), later.try_iter().count()), (0, 0));
    }
}
