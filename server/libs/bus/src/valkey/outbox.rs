//! What lies between a zone's tick and the task that speaks with the store: the tick puts in and takes out, and never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use meridian_events::Positions;
use meridian_handoff::script::{Command, Done, Refusal, Ticket, Transfer};
use metrics::counter;
use tokio::sync::Notify;

use super::command::kind;
use crate::metric_definitions::{BUS_COMMANDS, BUS_UNPUBLISHED};
use crate::model::INBOX_MAX;
use crate::{Heard, WakeFn};

/// Commands of a zone without an answer, at most: twice as many as a zone has entities when it writes them all down one by one.
pub const UNDER_WAY_MAX: usize = 16_384;
/// Positions that wait to be sent, at most: older ones are of no use to anybody.
const POSITIONS_WAITING_MAX: usize = 16;

/// A command that was not sent yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) command: Command,
    pub(super) submitted: Instant,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Commands whose answer the zone has not taken.
    under_way: usize,
    positions: VecDeque<Positions>,
    heard: VecDeque<Heard>,
    /// Transfers among what was heard.
    told: usize,
    is_followed: bool,
    is_closed: bool,
}

/// Shared between a zone's connection and its tasks.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Called when the zone has something to hear.
    wake: OnceLock<WakeFn>,
    /// There is something to send, or nobody there any more.
    pub(super) changed: Notify,
}

/// What is to be sent next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Waiting>,
    pub(super) positions: Vec<Positions>,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the zone; the first one counts.
    pub(super) fn wake_with(&self, wake: WakeFn) {
        // A zone asks for it once, when it begins to run.
        let _ = self.wake.set(wake);
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// For the zone.
    pub(super) fn submit(&self, ticket: Ticket, command: Command) {
        let mut state = self.state();
        state.under_way += 1;
        if state.under_way > UNDER_WAY_MAX {
            counter!(BUS_COMMANDS, "kind" => kind(&command), "outcome" => "unsent").increment(1);
            state.heard.push_back(Heard::Answer(ticket, None));
            return;
        }
        let submitted = Instant::now();
        state.waiting.push_back(Waiting {
            ticket,
            command,
            submitted,
        });
        drop(state);
        self.changed.notify_one();
    }

    /// For the zone.
    pub(super) fn try_receive(&self) -> Option<Heard> {
        let mut state = self.state();
        let heard = state.heard.pop_front()?;
        match heard {
            Heard::Answer(..) => state.under_way = state.under_way.saturating_sub(1),
            Heard::Inbox(_) => state.told = state.told.saturating_sub(1),
        }
        Some(heard)
    }

    /// For the zone.
    pub(super) fn publish_positions(&self, positions: Positions) {
        let mut state = self.state();
        if state.positions.len() >= POSITIONS_WAITING_MAX {
            counter!(BUS_UNPUBLISHED, "stream" => "position").increment(1);
            state.positions.pop_front();
        }
        state.positions.push_back(positions);
        drop(state);
        self.changed.notify_one();
    }

    /// For the zone.
    pub(super) fn is_followed(&self) -> bool {
        self.state().is_followed
    }

    /// The zone's end is gone: what was handed in may still be sent, and nobody hears of it.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    pub(super) fn set_followed(&self, is_followed: bool) {
        self.state().is_followed = is_followed;
    }

    /// Takes what is to be sent next, in the order in which it was handed in: so many commands at most.
    pub(super) fn next_batch(&self, commands_max: usize) -> Batch {
        let mut state = self.state();
        let commands = state.waiting.len().min(commands_max);
        Batch {
            commands: state.waiting.drain(..commands).collect(),
            positions: state.positions.drain(..).collect(),
        }
    }

    /// Tells the zone an answer, in the order of the questions.
    pub(super) fn answer(&self, ticket: Ticket, answer: Option<Result<Done, Refusal>>) {
        self.state().heard.push_back(Heard::Answer(ticket, answer));
        self.wake();
    }

    /// Tells the zone what came in; what is too much is told again later.
    pub(super) fn tell(&self, transfer: Transfer) {
        let mut state = self.state();
        if state.told < INBOX_MAX {
            state.told += 1;
            state.heard.push_back(Heard::Inbox(transfer));
        }
        drop(state);
        self.wake();
    }

    /// When the store has not answered for `timeout`, commands that wait for as long will not be sent: it is said that nothing is known of them.
    pub(super) fn give_up(&self, answered: Instant, timeout: Duration) {
        if answered.elapsed() < timeout {
            return;
        }
        let mut state = self.state();
        while state
            .waiting
            .front()
            .is_some_and(|waiting| waiting.submitted.elapsed() >= timeout)
        {
            if let Some(Waiting { ticket, command, .. }) = state.waiting.pop_front() {
                counter!(BUS_COMMANDS, "kind" => kind(&command), "outcome" => "unsent").increment(1);
                state.heard.push_back(Heard::Answer(ticket, None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_handoff::script::Instance;
    use meridian_ids::{LeaseEpoch, Tick, ZoneId};

    use super::*;

    fn recall() -> Command {
        let by = Instance {
            zone: ZoneId(0),
            lease: LeaseEpoch(1),
        };
        Command::Recall { by }
    }

    #[test]
    fn what_is_too_much_is_answered_at_once_by_nobody_knows_until_answers_are_taken() {
        let outbox = Outbox::default();
        let most = UNDER_WAY_MAX as u64;
        (0..=most).for_each(|ticket| outbox.submit(Ticket(ticket), recall()));
        assert_eq!(outbox.try_receive(), Some(Heard::Answer(Ticket(most), None)));
        assert_eq!(outbox.next_batch(usize::MAX).commands.len(), UNDER_WAY_MAX);
        outbox.submit(Ticket(most + 1), recall());
        assert_eq!(
            outbox.try_receive(),
            Some(Heard::Answer(Ticket(most + 1), None)),
            "sent is not answered"
        );
        outbox.answer(Ticket(0), Some(Err(Refusal::Fenced)));
        assert!(outbox.try_receive().is_some());
        outbox.submit(Ticket(most + 2), recall());
        assert_eq!(outbox.next_batch(usize::MAX).commands.len(), 1);
    }

    #[test]
    fn who_waits_too_long_is_told_that_nobody_knows_and_is_not_sent() {
        let outbox = Outbox::default();
        outbox.submit(Ticket(1), recall());
        outbox.give_up(Instant::now(), Duration::from_secs(3_600));
        assert_eq!(outbox.try_receive(), None);
        outbox.give_up(Instant::now(), Duration::ZERO);
        assert_eq!(outbox.try_receive(), Some(Heard::Answer(Ticket(1), None)));
        assert!(outbox.next_batch(9).commands.is_empty());
    }

    #[test]
    fn of_positions_the_oldest_fall_out() {
        let outbox = Outbox::default();
        for tick in 0..20 {
            outbox.publish_positions(Positions {
                zone: ZoneId(0),
                lease: LeaseEpoch(1),
                tick: Tick(tick),
                is_whole: true,
                traced: Vec::new(),
                entities: Vec::new(),
            });
        }
        let batch = outbox.next_batch(0);
        let ticks: Vec<u64> = batch.positions.iter().map(|positions| positions.tick.0).collect();
        assert_eq!(ticks, (4..20).collect::<Vec<_>>());
    }
}
