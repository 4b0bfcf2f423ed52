//! The task that reads the stream of events for a group's readers in this process.
//!
//! What it has read belongs to it as long as it says so every [`RENEWED_EVERY`]; what a process that died has left is another's after [`IDLE_MAX`],
//! and its consumer, which nobody will read as again, is removed once nothing is left with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_events::{Event, envelope};
use metrics::counter;
use redis::aio::MultiplexedConnection;

use super::answer::Parts;
use super::dead::{Reason, Source, bury, envelope_of};
use super::group::Group;
use super::inbox::read_streams;
use super::record::Field;
use super::scripts::{ScriptName, call};
use super::store::{Backoff, Store, ask, nonce};
use super::{ValkeyError, words};
use crate::metric_definitions::BUS_RECONNECTS;

/// How long a read waits for the next entry, and so what was acknowledged for being told to the store.
const READ_MAX: Duration = Duration::from_millis(100);
/// How often is said that what was read is still worked on.
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// Of what is idle for longer, the reader is dead.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How often is looked for what dead readers have left.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Entries of dead readers that are taken at once. Ten times as many are looked at, and the next look goes on behind them.
const LEFT_MAX: usize = 64;
/// Where a stream begins, and what is answered when all of it has been looked at.
const BEGINNING: &str = "0-0";
/// Entries that are renewed or acknowledged with one question.
const NAMED_MAX: usize = 1_000;

/// The task behind a group's readers.
pub(super) struct EventsTask {
    store: Store,
    name: String,
    group: Arc<Group>,
    consumer: String,
    renewed: Instant,
    looked: Option<Instant>,
    /// From where on is looked next for what dead readers have left.
    left_from: String,
}

impl EventsTask {
    pub(super) fn new(store: Store, name: String, group: Arc<Group>) -> Self {
        Self {
            store,
            name,
            group,
            consumer: words::long(nonce()),
            renewed: Instant::now(),
            looked: None,
            left_from: BEGINNING.to_owned(),
        }
    }

    /// Ends when the last reader does.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.read(&mut backoff).await {
                Ok(()) => return,
                Err(error) => {
                    counter!(BUS_RECONNECTS, "what" => "events").increment(1);
                    tracing::warn!(group = self.name, %error, "events are not read and the connection opened again");
                }
            }
            if self.group.is_closed() {
                // What it had read is another's when it was idle for long enough.
                return;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn read(&mut self, backoff: &mut Backoff) -> Result<(), ValkeyError> {
        let mut connection = self.store.open().await?;
        self.begin_group(&mut connection).await?;
        // What was on its way when a connection broke.
        self.read_entries(&mut connection, "0").await?;
        loop {
            self.acknowledge(&mut connection).await?;
            if self.group.is_closed() {
                return self.give_back(&mut connection).await;
            }
            if self.renewed.elapsed() >= RENEWED_EVERY {
                self.renew(&mut connection).await?;
                self.renewed = Instant::now();
            }
            if self.looked.is_none_or(|looked| looked.elapsed() >= LOOKS_EVERY) {
                self.take_what_was_left(&mut connection).await?;
                self.looked = Some(Instant::now());
            }
            if self.group.room() > 0 {
                self.read_entries(&mut connection, ">").await?;
            } else {
                let _ = tokio::time::timeout(READ_MAX, self.group.changed.notified()).await;
            }
            backoff.reset();
        }
    }

    fn key(&self) -> String {
        self.store.keys().events()
    }

    async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        question: &redis::Cmd,
    ) -> Result<redis::Value, ValkeyError> {
        ask(connection, question, READ_MAX + self.store.response_timeout).await
    }

    /// A new group begins with what is kept.
    async fn begin_group(&self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        let mut question = redis::cmd("XGROUP");
        question
            .arg("CREATE")
            .arg(self.key())
            .arg(&self.name)
            .arg(0)
            .arg("MKSTREAM");
        match self.ask(connection, &question).await {
            Err(error) if error.is_group_there() => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Reads what comes after an entry of its own, or new ones.
    async fn read_entries(&self, connection: &mut MultiplexedConnection, after: &str) -> Result<(), ValkeyError> {
        let mut question = redis::cmd("XREADGROUP");
        question.arg("GROUP").arg(&self.name).arg(&self.consumer);
        question
            .arg("COUNT")
            .arg(self.group.room().max(1))
            .arg("BLOCK")
            .arg(READ_MAX.as_millis() as u64);
        question.arg("STREAMS").arg(self.key()).arg(after);
        let entries = read_streams(self.ask(connection, &question).await?)?;
        self.add(connection, entries).await
    }

    async fn take_what_was_left(&mut self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        if self.group.room() == 0 {
            return Ok(());
        }
        let mut question = redis::cmd("XAUTOCLAIM");
        question.arg(self.key()).arg(&self.name).arg(&self.consumer);
        question
            .arg(IDLE_MAX.as_millis() as u64)
            .arg(&self.left_from)
            .arg("COUNT")
            .arg(LEFT_MAX);
        let mut answer = Parts::new(self.ask(connection, &question).await?)?;
        self.left_from = answer.text()?;
        let entries = answer.entries()?;
        self.add(connection, entries).await?;
        if self.left_from == BEGINNING {
            self.forget_silent(connection).await?;
        }
        Ok(())
    }

    /// One that lives and was silent for too long, because its connection broke, comes again when it reads: nothing is with it.
    async fn forget_silent(&self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        let mut question = call(ScriptName::Tidy, &[self.key()]);
        question.arg(&self.name).arg(IDLE_MAX.as_millis() as u64);
        self.ask(connection, &question).await.map(drop)
    }

    async fn add(
        &self,
        connection: &mut MultiplexedConnection,
        entries: Vec<(String, Vec<Field>)>,
    ) -> Result<(), ValkeyError> {
        for (entry, fields) in entries {
            // One that was deleted has no fields, and says nothing.
            if fields.is_empty() || self.group.knows(&entry) {
                continue;
            }
            match envelope_of(&fields).and_then(envelope::decode::<Event>) {
                Ok(envelope) => self.group.add(entry, envelope.body),
                Err(error) => {
                    let source = Source {
                        name: "events",
                        key: self.key(),
                        group: self.name.clone(),
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
        }
        Ok(())
    }

    async fn acknowledge(&self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        for acknowledged in self.group.acknowledged().chunks(NAMED_MAX) {
            let mut question = redis::cmd("XACK");
            question.arg(self.key()).arg(&self.name).arg(acknowledged);
            self.ask(connection, &question).await?;
            self.group.forget_acknowledged(acknowledged.len());
        }
        Ok(())
    }

    async fn renew(&self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        for open in self.group.open().chunks(NAMED_MAX) {
            let mut question = call(ScriptName::Renew, &[self.key()]);
            question.arg(&self.name).arg(&self.consumer).arg(open);
            let mut lost = Parts::new(self.ask(connection, &question).await?)?;
            let mut names = Vec::new();
            while !lost.is_empty() {
                names.push(lost.text()?);
            }
            self.group.lose(&names);
        }
        Ok(())
    }

    async fn give_back(&self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        let mut question = call(ScriptName::GiveBack, &[self.key()]);
        // At once idle for longer than any reader waits.
        question
            .arg(&self.name)
            .arg(&self.consumer)
            .arg(2 * IDLE_MAX.as_millis() as u64);
        self.ask(connection, &question).await.map(drop)
    }
}
