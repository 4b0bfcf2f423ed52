//! Ownership and facts: the durable side of zones, whatever carries it.
//!
//! A [`Bus`] takes the commands of `meridian_handoff::script` and answers them later; a tick hands them in and goes on. What
//! happens in the world by these commands, and where everything is, goes into its streams, which services read ([`EventReader`],
//! [`PositionReader`]). In one process that is [`in_process`], a [`Model`] behind a lock; on several machines [`valkey`], whose scripts
//! do what the model does, held to it by the same tests. [`directory`] says which services are there.

pub mod directory;
mod in_process;
pub mod metric_definitions;
mod model;
mod streams;
mod told;
pub mod valkey;

pub use in_process::{InProcess, NowFn, in_process};
pub use model::{INBOX_MAX, Model, TOMBSTONE_KEPT};
pub use streams::{EVENTS_MAX, POSITIONS_MAX};

use std::sync::Arc;

use meridian_events::{Event, Positions};
use meridian_handoff::script::{Command, Done, Refusal, Ticket, Transfer};

/// Called after something has come; must be cheap and must not block.
pub type WakeFn = Arc<dyn Fn() + Send + Sync>;

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
    /// [`Self::try_receive`], under the same ticket.
    fn submit(&mut self, ticket: Ticket, command: Command);
    /// Has `wake` called whenever something has come for the zone; it must be cheap. A carrier that answers at once has nothing to
    /// wake for.
    fn wake_with(&mut self, _wake: WakeFn) {}
    /// What has come for the zone.
    fn try_receive(&mut self) -> Option<Heard>;
    /// Whether anybody follows the zone's positions: what nobody reads need not be gathered.
    fn is_followed(&self) -> bool;
    /// Tells who follows the zone where its entities are; who does not keep up misses the oldest.
    fn publish_positions(&mut self, positions: Positions);
}

/// Names an entry of the stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// One reader of a group of services that share the events among them. Each event goes to one reader of each group; what a reader
/// did not acknowledge when it is dropped goes to another.
pub trait EventReader: Send {
    /// The next event for this reader, if there is one. Never blocks.
    fn try_next(&mut self) -> Option<(EntryId, Event)>;
    /// The reader has done what the event asked of it.
    fn acknowledge(&mut self, entry: EntryId);
}

/// Follows the positions of one zone from its making on.
pub trait PositionReader: Send {
    /// Has `wake` called whenever an entry has come from now on, on the thread that brought it; it must be cheap. Of what came before nothing is said:
    /// who asks to be woken reads once after it.
    fn wake_with(&mut self, wake: WakeFn);
    /// The next entry that is kept, if there is one. Never blocks.
    fn try_next(&mut self) -> Option<Arc<Positions>>;
}
