//! Where everything is, for many watchers: each zone's positions are read once, and each watcher is told what it asked for.
//!
//! A zone is followed as long as somebody watches it. A watcher that does not keep up misses the oldest, is told how many, and is let go when it has read
//! nothing for long. Reading is never held up by a watcher.

mod feed;
mod filter;
mod queue;

pub(crate) use feed::{Watcher, Watching};
pub(crate) use filter::{Batch, Filter};
