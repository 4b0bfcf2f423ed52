//! The reader of a zone's inbox: tells the zone what comes in, as long as the zone is the newest instance.
//!
//! It reads with the consumer group `zone`, under its lease's name. A new instance's claim begins the group anew, so it is told everything that waits.
//! What was told and is still there after [`TOLD_AGAIN_AFTER`] is told again, also what another reader has read and not accepted: an instance that
//! does not know yet that it has been replaced.
//!
//! What cannot be read here and was sent by a zone is told to nobody and stays: the next instance's claim, or its assertion after a restart of the
//! store, has it read again, by a program that knows its version. What no zone has sent is put aside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_handoff::script::Transfer;
use meridian_ids::{LeaseEpoch, ZoneId};
use metrics::counter;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;

use super::ValkeyError;
use super::answer::Parts;
use super::dead::{Reason, Source, bury};
use super::outbox::Outbox;
use super::record::{Field, decode_entry};
use super::store::{Backoff, Store, ask, checked};
use super::words;
use crate::metric_definitions::BUS_RECONNECTS;
use crate::model::INBOX_MAX;

/// The group that reads inboxes.
const GROUP: &str = "zone";
/// Entries that are read at once.
const ENTRIES_MAX: usize = 128;
/// How long a read waits for the next entry; then it is looked for what was told and not accepted.
const READ_MAX: Duration = Duration::from_millis(250);
/// What was told and is not accepted by then is told again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Which instance the zone is, as the store has answered it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    lease: Option<LeaseEpoch>,
    /// How often that was confirmed.
    renewals: u64,
}

impl Reading {
    pub(super) fn renewed(&mut self, lease: LeaseEpoch) {
        self.lease = Some(lease);
        self.renewals += 1;
    }

    pub(super) fn end(&mut self) {
        self.lease = None;
    }
}

/// The task behind a zone's inbox.
pub(super) struct InboxReader {
    store: Store,
    zone: ZoneId,
    outbox: Arc<Outbox>,
    reading: watch::Receiver<Reading>,
}

impl InboxReader {
    pub(super) fn new(store: Store, zone: ZoneId, outbox: Arc<Outbox>, reading: watch::Receiver<Reading>) -> Self {
        Self {
            store,
            zone,
            outbox,
            reading,
        }
    }

    /// Ends when the zone's connection does.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while let Some(lease) = self.lease().await {
            match self.read_as(lease, &mut backoff).await {
                Ok(()) => {}
                Err(error) if error.is_without_group() => {
                    // The next instance has begun to read: another one, or this one under another lease. What is answered to the next renewal tells.
                    if self.reading.borrow().lease == Some(lease) {
                        self.reading.mark_unchanged();
                        if self.reading.changed().await.is_err() {
                            return;
                        }
                    }
                    self.begin_group().await;
                }
                Err(error) => {
                    counter!(BUS_RECONNECTS, "what" => "inbox").increment(1);
                    tracing::warn!(zone = %self.zone, %error, "the inbox is not read and its connection opened again");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Under which lease to read, once there is one; none when the zone's connection is gone.
    async fn lease(&mut self) -> Option<LeaseEpoch> {
        let lease = self
            .reading
            .wait_for(|reading| reading.lease.is_some())
            .await
            .ok()?
            .lease;
        // What it was told last is still there when who told it is not: an inbox that nobody listens to must not be read.
        self.reading.has_changed().is_ok().then_some(lease).flatten()
    }

    /// If it is there already, somebody has been quicker.
    async fn begin_group(&self) {
        if self.reading.borrow().lease.is_none() {
            return;
        }
        let mut question = redis::cmd("XGROUP");
        question
            .arg("CREATE")
            .arg(self.store.keys().inbox(self.zone))
            .arg(GROUP)
            .arg(0)
            .arg("MKSTREAM");
        if let Ok(mut connection) = self.store.open().await {
            let _ = ask(&mut connection, &question, self.store.response_timeout).await;
        }
    }

    /// Reads until the zone is another instance, or none, or gone.
    async fn read_as(&self, lease: LeaseEpoch, backoff: &mut Backoff) -> Result<(), ValkeyError> {
        let mut connection = self.store.open().await?;
        let consumer = words::long(lease.0);
        // What was on its way to a reader whose connection broke.
        self.tell_again(&mut connection, &consumer, Duration::ZERO).await?;
        let began = Instant::now();
        let mut looked = began;
        while self.reading.has_changed().is_ok() && self.reading.borrow().lease == Some(lease) {
            self.tell_new(&mut connection, &consumer).await?;
            backoff.reset();
            if looked.elapsed() >= READ_MAX {
                // The reader of the instance before may still be reading; what it gets first is told at once.
                let is_new = began.elapsed() < TOLD_AGAIN_AFTER;
                let idle = if is_new { Duration::ZERO } else { TOLD_AGAIN_AFTER };
                self.tell_again(&mut connection, &consumer, idle).await?;
                looked = Instant::now();
            }
        }
        Ok(())
    }

    async fn tell_new(&self, connection: &mut MultiplexedConnection, consumer: &str) -> Result<(), ValkeyError> {
        let mut question = redis::cmd("XREADGROUP");
        question
            .arg("GROUP")
            .arg(GROUP)
            .arg(consumer)
            .arg("COUNT")
            .arg(ENTRIES_MAX);
        question.arg("BLOCK").arg(READ_MAX.as_millis() as u64);
        question.arg("STREAMS").arg(self.store.keys().inbox(self.zone)).arg(">");
        let answer = ask(connection, &question, READ_MAX + self.store.response_timeout).await?;
        for (entry, fields) in read_streams(answer)? {
            self.tell(connection, &entry, &fields).await?;
        }
        Ok(())
    }

    /// Tells what has been with a reader for so long, whoever that is.
    async fn tell_again(
        &self,
        connection: &mut MultiplexedConnection,
        consumer: &str,
        idle: Duration,
    ) -> Result<(), ValkeyError> {
        let mut question = redis::cmd("XAUTOCLAIM");
        question
            .arg(self.store.keys().inbox(self.zone))
            .arg(GROUP)
            .arg(consumer);
        question.arg(idle.as_millis() as u64).arg(0).arg("COUNT").arg(INBOX_MAX);
        let mut answer = Parts::new(ask(connection, &question, self.store.response_timeout).await?)?;
        answer.value()?;
        for (entry, fields) in answer.entries()? {
            if let Some(transfer) = self.tell(connection, &entry, &fields).await? {
                self.check(connection, &transfer, (&entry, &fields)).await?;
            }
        }
        Ok(())
    }

    async fn tell(
        &self,
        connection: &mut MultiplexedConnection,
        entry: &str,
        fields: &[Field],
    ) -> Result<Option<Transfer>, ValkeyError> {
        match decode_entry(self.zone, fields) {
            Ok(transfer) => {
                self.outbox.tell(transfer.clone());
                Ok(Some(transfer))
            }
            Err(error) => {
                let reason = Reason::Envelope(error);
                bury(&self.store, connection, &self.source(), (entry, fields), reason).await?;
                Ok(None)
            }
        }
    }

    /// A transfer that no zone has sent is never accepted: it must not be told for ever.
    async fn check(
        &self,
        connection: &mut MultiplexedConnection,
        transfer: &Transfer,
        (entry, fields): (&str, &[Field]),
    ) -> Result<(), ValkeyError> {
        let mut question = redis::cmd("HGET");
        question
            .arg(self.store.keys().waiting(self.zone))
            .arg(words::transfer(transfer.id));
        let waits_in = ask(connection, &question, self.store.response_timeout).await?;
        if waits_in == Value::BulkString(entry.into()) {
            return Ok(());
        }
        bury(
            &self.store,
            connection,
            &self.source(),
            (entry, fields),
            Reason::NoSuchTransfer,
        )
        .await
    }

    fn source(&self) -> Source {
        Source {
            name: "inbox",
            key: self.store.keys().inbox(self.zone),
            group: GROUP.to_owned(),
            waiting: Some(self.store.keys().waiting(self.zone)),
        }
    }
}

/// What a read of one stream brought, if anything.
pub(super) fn read_streams(answer: Value) -> Result<Vec<(String, Vec<Field>)>, ValkeyError> {
    match checked(answer)? {
        Value::Nil => Ok(Vec::new()),
        answer => {
            let mut stream = Parts::new(answer)?.list()?;
            stream.value()?;
            stream.entries()
        }
    }
}
