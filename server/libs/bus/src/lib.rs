//! Ownership and facts: the durable side of zones, whatever carries it.
//!
//! A [`Bus`] takes the commands of `meridian_handoff::script` and answers them later; a tick hands them in and goes on. In one
//! process that is [`in_process`], a [`Model`] behind a lock with the same semantics as the real store, held to them by the
//! same tests.

mod in_process;
mod model;

pub use in_process::{InProcess, NowFn, in_process};
pub use model::{INBOX_MAX, Model};

use meridian_handoff::script::{Command, Done, Refusal, Transfer};

/// Tells the answers of one asker apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a zone hears from the bus.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The answer to a command; `None` when it is not known whether the command was done.
    Answer(Ticket, Option<Result<Done, Refusal>>),
    /// Entities are in the zone's inbox. May be told more than once until they are accepted.
    Inbox(Transfer),
}

/// One zone's connection to the durable side. Never blocks.
pub trait Bus: Send {
    /// Hands in a command. Commands are done in the order in which they were handed in; the answer comes with
    /// [`Self::try_receive`].
    fn submit(&mut self, command: Command) -> Ticket;
    /// What has come for the zone.
    fn try_receive(&mut self) -> Option<Heard>;
}
