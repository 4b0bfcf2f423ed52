//! The task that reads a zone's positions for all who follow it in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_events::{Positions, envelope};
use meridian_ids::ZoneId;
use metrics::counter;
use redis::aio::MultiplexedConnection;

use super::answer::Parts;
use super::dead::{Reason, Source, bury, envelope_of};
use super::inbox::read_streams;
use super::scripts::{ScriptName, call};
use super::store::{Backoff, Store, ask, nonce};
use super::{ValkeyError, words};
use crate::metric_definitions::BUS_RECONNECTS;
use crate::streams::{POSITIONS_MAX, ReaderId, Streams};
use crate::{PositionReader, WakeFn};

/// How long a read waits for the next entry, and so a zone for hearing that nobody follows it any more.
const READ_MAX: Duration = Duration::from_millis(250);
/// How often is said that somebody follows the zone.
const RENEWED_EVERY: Duration = Duration::from_secs(1);
/// A follower that does not say so for as long follows no more.
const FOLLOWS_FOR: Duration = Duration::from_secs(3);

#[derive(Default)]
struct State {
    streams: Streams,
    is_closed: bool,
}

/// A zone's newest positions, shared between its followers and the task that speaks with the store.
pub(super) struct Feed {
    zone: ZoneId,
    state: Mutex<State>,
}

impl Feed {
    pub(super) fn new(zone: ZoneId) -> Self {
        let state = Mutex::default();
        Self { zone, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each access leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new follower; none if the last one has just left and the feed ends.
    pub(super) fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut state = self.state();
        if state.is_closed {
            return None;
        }
        let (reader, next) = state.streams.follow(self.zone);
        let feed = Arc::clone(self);
        Some(Follower { feed, reader, next })
    }

    fn publish(&self, positions: Positions) {
        let waked = self.state().streams.publish_positions(positions);
        waked.iter().for_each(|wake| wake());
    }

    fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

/// One follower of a zone.
pub(super) struct Follower {
    feed: Arc<Feed>,
    reader: ReaderId,
    next: u64,
}

impl PositionReader for Follower {
    fn wake_with(&mut self, wake: WakeFn) {
        self.feed.state().streams.wake_with(self.feed.zone, self.reader, wake);
    }

    fn try_next(&mut self) -> Option<Arc<Positions>> {
        let (next, positions) = self.feed.state().streams.positions_from(self.feed.zone, self.next)?;
        self.next = next;
        Some(positions)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.feed.state();
        state.streams.unfollow(self.feed.zone, self.reader);
        state.is_closed = !state.streams.is_followed(self.feed.zone);
    }
}

/// The task behind a feed.
pub(super) struct PositionsTask {
    store: Store,
    feed: Arc<Feed>,
    name: String,
}

impl PositionsTask {
    pub(super) fn new(store: Store, feed: Arc<Feed>) -> Self {
        let name = words::long(nonce());
        Self { store, feed, name }
    }

    /// Ends when the last follower does.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        while !self.feed.is_closed() {
            if let Err(error) = self.read(&mut backoff).await {
                counter!(BUS_RECONNECTS, "what" => "positions").increment(1);
                tracing::warn!(zone = %self.feed.zone, %error, "positions are not read and the connection opened again");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    async fn read(&self, backoff: &mut Backoff) -> Result<(), ValkeyError> {
        let mut connection = self.store.open().await?;
        // First it is known where the stream ends, then the zone hears that somebody follows: nothing lies between.
        let mut last = self.end(&mut connection).await?;
        self.renew(&mut connection).await?;
        let mut renewed = Instant::now();
        while !self.feed.is_closed() {
            last = self.read_after(&mut connection, last).await?;
            if renewed.elapsed() >= RENEWED_EVERY {
                self.renew(&mut connection).await?;
                renewed = Instant::now();
            }
            backoff.reset();
        }
        let mut question = redis::cmd("ZREM");
        question
            .arg(self.store.keys().followers(self.feed.zone))
            .arg(&self.name);
        self.ask(&mut connection, &question).await.map(drop)
    }

    async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        question: &redis::Cmd,
    ) -> Result<redis::Value, ValkeyError> {
        ask(connection, question, READ_MAX + self.store.response_timeout).await
    }

    fn key(&self) -> String {
        self.store.keys().position(self.feed.zone)
    }

    /// The stream's last entry.
    async fn end(&self, connection: &mut MultiplexedConnection) -> Result<String, ValkeyError> {
        let mut question = redis::cmd("XREVRANGE");
        question.arg(self.key()).arg("+").arg("-").arg("COUNT").arg(1);
        let answer = redis::Value::Array(vec![self.ask(connection, &question).await?]);
        let last = Parts::new(answer)?.entries()?.pop();
        Ok(last.map_or_else(|| "0-0".to_owned(), |(entry, _)| entry))
    }

    async fn renew(&self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        let mut question = call(ScriptName::Follow, &[self.store.keys().followers(self.feed.zone)]);
        question.arg(&self.name).arg(FOLLOWS_FOR.as_micros() as u64);
        self.ask(connection, &question).await.map(drop)
    }

    /// Reads what comes after an entry; says which was the last.
    async fn read_after(&self, connection: &mut MultiplexedConnection, last: String) -> Result<String, ValkeyError> {
        let mut question = redis::cmd("XREAD");
        question
            .arg("COUNT")
            .arg(POSITIONS_MAX)
            .arg("BLOCK")
            .arg(READ_MAX.as_millis() as u64);
        question.arg("STREAMS").arg(self.key()).arg(&last);
        let mut last = last;
        for (entry, fields) in read_streams(self.ask(connection, &question).await?)? {
            let decoded = envelope_of(&fields).and_then(envelope::decode::<Positions>);
            match decoded.map(|envelope| envelope.body) {
                Ok(positions) if positions.zone == self.feed.zone => {
                    self.feed.publish(positions);
                }
                other => {
                    let error = other.err().unwrap_or(envelope::EnvelopeError::Garbage);
                    let source = Source {
                        name: "position",
                        key: self.key(),
                        group: String::new(),
                        waiting: None,
                    };
                    bury(
                        &self.store,
                        connection,
                        &source,
                        (&entry, &fields),
                        Reason::Envelope(error),
                    )
                    .await?;
                }
            }
            last = entry;
        }
        Ok(last)
    }
}
