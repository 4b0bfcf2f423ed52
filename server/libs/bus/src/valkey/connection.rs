//! A zone's connection: one task that sends what was handed in, in that order, and brings the answers.
//!
//! One batch is under way at a time. What was handed in meanwhile makes up the next: so many commands cost one round trip, and none overtakes
//! another. Nothing is ever sent twice. When an answer does not come in time, or the connection ends, it is
//! said that nobody knows; a command may still be done later, which is what `Settle` is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_events::Positions;
use meridian_events::envelope::{self, EnvelopeError};
use meridian_handoff::script::{Command, Done, Refusal, Ticket};
use meridian_ids::ZoneId;
use metrics::{counter, gauge, histogram};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, ServerErrorKind, Value};
use tokio::sync::watch;

use super::answer::{Answer, Parts};
use super::command::{LeftOut, Moment, Question, kind, tells};
use super::dead::Reason;
use super::generation::{Generations, is_on_disk};
use super::inbox::Reading;
use super::outbox::{Batch, Outbox, Waiting};
use super::record::HEAD;
use super::scripts::{ScriptName, call};
use super::store::{Backoff, Store, ends_connection};
use super::{EVENTS_KEPT, EVENTS_KEPT_HOWEVER_OLD, EVENTS_KEPT_UNREAD, ValkeyError};
use crate::metric_definitions::{
    BUS_COMMAND_SECONDS, BUS_COMMANDS, BUS_EVENTS_LENGTH, BUS_EVENTS_LOST, BUS_INBOX_LENGTH, BUS_RECONNECTS,
    BUS_UNREADABLE_RECORDS, BUS_UNWRITABLE_RECORDS,
};
use crate::streams::POSITIONS_MAX;
use crate::{Bus, Heard, WakeFn};

/// Commands of one batch at most: their answers come together, and the first should not wait for many.
const COMMANDS_PER_BATCH_MAX: usize = 64;
/// How often is asked who follows the zone's positions, and how much waits for it, and events are taken away that nobody needs.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// How exactly time limits are kept.
const LIMITS_EVERY: Duration = Duration::from_millis(20);
/// A server that has said nothing for so long while something was asked of it is given up: longer than a server that thinks pauses.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A zone's end of its connection.
pub(super) struct Connection {
    outbox: Arc<Outbox>,
}

impl Connection {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox }
    }
}

impl Bus for Connection {
    fn submit(&mut self, ticket: Ticket, command: Command) {
        self.outbox.submit(ticket, command);
    }

    fn wake_with(&mut self, wake: WakeFn) {
        self.outbox.wake_with(wake);
    }

    fn try_receive(&mut self) -> Option<Heard> {
        self.outbox.try_receive()
    }

    fn is_followed(&self) -> bool {
        self.outbox.is_followed()
    }

    fn publish_positions(&mut self, positions: Positions) {
        self.outbox.publish_positions(positions);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// Why a connection is of no use any more.
enum End {
    /// The zone does not need it.
    Closed,
    /// It broke, or the server is not the one that writes.
    Broken,
}

/// One of the things that a batch asks.
enum Asked {
    Command(Option<Waiting>),
    Positions,
    Look,
    Trim,
}

/// The task behind a zone's connection.
pub(super) struct Courier {
    store: Store,
    zone: ZoneId,
    outbox: Arc<Outbox>,
    generations: Arc<Generations>,
    /// What the inbox's reader has to know: which instance the zone is.
    reading: watch::Sender<Reading>,
    /// Whether events were told since those were last taken away that nobody needs.
    has_told: bool,
    looked: Option<Instant>,
    /// When the store answered last.
    answered: Instant,
    backoff: Backoff,
}

impl Courier {
    pub(super) fn new(
        store: Store,
        zone: ZoneId,
        outbox: Arc<Outbox>,
        generations: Arc<Generations>,
        reading: watch::Sender<Reading>,
    ) -> Self {
        Self {
            store,
            zone,
            outbox,
            generations,
            reading,
            has_told: false,
            looked: None,
            answered: Instant::now(),
            backoff: Backoff::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let Some(mut connection) = self.open().await else {
                return;
            };
            match self.serve(&mut connection).await {
                End::Closed => return,
                End::Broken => {
                    counter!(BUS_RECONNECTS, "what" => "commands").increment(1);
                    tracing::warn!(zone = %self.zone, "the connection to the store broke and is opened again");
                }
            }
            let pause = self.backoff.next();
            self.wait(pause).await;
        }
    }

    /// A connection, once there is one; none if the zone is gone before.
    async fn open(&mut self) -> Option<MultiplexedConnection> {
        loop {
            if self.outbox.is_closed() {
                return None;
            }
            let store = self.store.clone();
            match self.keep_limits(store.open()).await {
                Ok(connection) => return Some(connection),
                Err(error) => tracing::warn!(zone = %self.zone, %error, "no connection to the store"),
            }
            let pause = self.backoff.next();
            self.wait(pause).await;
        }
    }

    async fn wait(&self, duration: Duration) {
        self.keep_limits(tokio::time::sleep(duration)).await;
    }

    /// Meanwhile, commands that wait too long are given up.
    async fn keep_limits<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(LIMITS_EVERY, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.outbox.give_up(self.answered, self.store.response_timeout),
            }
        }
    }

    async fn serve(&mut self, connection: &mut MultiplexedConnection) -> End {
        loop {
            self.outbox.give_up(self.answered, self.store.response_timeout);
            let batch = self.outbox.next_batch(COMMANDS_PER_BATCH_MAX);
            let (questions, mut asked) = self.questions(batch);
            if questions.is_empty() {
                if self.outbox.is_closed() {
                    return End::Closed;
                }
                // Woken by what is handed in, or when it is time to look.
                let _ = tokio::time::timeout(LOOKS_EVERY, self.outbox.changed.notified()).await;
                continue;
            }
            let Some(answers) = self.exchange(connection, &questions, &mut asked).await else {
                self.unanswered(&mut asked);
                return End::Broken;
            };
            let is_broken = answers.iter().any(ends_connection);
            let is_forgotten = answers.iter().any(is_no_script);
            self.take(connection, asked, answers).await;
            self.answered = Instant::now();
            if is_broken {
                return End::Broken;
            }
            if is_forgotten && self.teach(connection).await.is_err() {
                return End::Broken;
            }
            self.backoff.reset();
        }
    }

    async fn teach(&self, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
        tracing::warn!(zone = %self.zone, "the store had forgotten the scripts");
        self.store.teach(connection).await
    }

    /// What a batch asks, in order.
    fn questions(&mut self, batch: Batch) -> (Pipeline, Vec<Asked>) {
        let (mut questions, mut asked) = (redis::pipe(), Vec::new());
        for waiting in batch.commands {
            match self.store.terms.command(&Moment::default(), &waiting.command) {
                Ok(Question { call, left_out }) => {
                    self.note_left_out(&left_out);
                    self.has_told |= tells(&waiting.command);
                    questions.add_command(call);
                    asked.push(Asked::Command(Some(waiting)));
                }
                Err(error) => self.not_sendable(&waiting, error),
            }
        }
        for positions in &batch.positions {
            if let Ok(envelope) = envelope::encode(None, positions) {
                let mut question = redis::cmd("XADD");
                question
                    .arg(self.store.keys().position(self.zone))
                    .arg("MAXLEN")
                    .arg("~")
                    .arg(POSITIONS_MAX);
                question.arg("*").arg(HEAD).arg(envelope);
                questions.add_command(question);
                asked.push(Asked::Positions);
            }
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOKS_EVERY) && !self.outbox.is_closed() {
            self.looked = Some(Instant::now());
            let keys = [
                self.store.keys().followers(self.zone),
                self.store.keys().inbox(self.zone),
                self.store.keys().events(),
            ];
            questions.add_command(call(ScriptName::Followed, &keys));
            asked.push(Asked::Look);
            if self.has_told {
                let mut question = call(ScriptName::Trim, &[self.store.keys().events()]);
                let kept = [EVENTS_KEPT, EVENTS_KEPT_UNREAD].map(|kept| kept.as_millis() as u64);
                question.arg(&kept[..]).arg(EVENTS_KEPT_HOWEVER_OLD);
                questions.add_command(question);
                asked.push(Asked::Trim);
            }
        }
        (questions, asked)
    }

    fn note_left_out(&self, left_out: &LeftOut) {
        for (entity, error) in left_out {
            let reason = Reason::Envelope(*error).name();
            counter!(BUS_UNWRITABLE_RECORDS, "reason" => reason).increment(1);
            tracing::error!(zone = %self.zone, %entity, reason, "a record would not be read again and is not written; the store keeps what it had");
        }
    }

    /// What would not be read again is not sent. Of a transfer that is known: it has not happened and will not, for nobody has sent it.
    fn not_sendable(&self, waiting: &Waiting, error: EnvelopeError) {
        tracing::error!(zone = %self.zone, %error, kind = kind(&waiting.command), "a command cannot be sent");
        let is_transfer = matches!(waiting.command, Command::Transfer(_));
        give_back(&self.outbox, waiting, "unsent", is_transfer.then_some(Ok(Done::Kept)));
    }

    /// Asks, and waits for the answers for as long as it makes sense: those who asked are told in time that nobody knows, but what the server has
    /// not done yet it may still do, and nothing is sent behind it meanwhile.
    async fn exchange(
        &self,
        connection: &mut MultiplexedConnection,
        questions: &Pipeline,
        asked: &mut [Asked],
    ) -> Option<Vec<Value>> {
        let began = Instant::now();
        let answers = connection.send_packed_commands(questions, 0, questions.len());
        tokio::pin!(answers);
        while began.elapsed() < SILENCE_MAX {
            match tokio::time::timeout(LIMITS_EVERY, &mut answers).await {
                Ok(answers) => return answers.ok(),
                Err(_) => {
                    self.outbox.give_up(self.answered, self.store.response_timeout);
                    self.late(asked);
                }
            }
        }
        None
    }

    fn late(&self, asked: &mut [Asked]) {
        // Many that wait for each other are not late as long as they are answered.
        if self.answered.elapsed() < self.store.response_timeout {
            return;
        }
        for asked in asked {
            if let Asked::Command(waiting) = asked
                && let Some(waiting) =
                    waiting.take_if(|waiting| waiting.submitted.elapsed() >= self.store.response_timeout)
            {
                unknown(&self.outbox, &waiting, "unknown");
            }
        }
    }

    fn unanswered(&self, asked: &mut [Asked]) {
        for asked in asked {
            if let Asked::Command(waiting) = asked
                && let Some(waiting) = waiting.take()
            {
                unknown(&self.outbox, &waiting, "unknown");
            }
        }
    }

    /// Tells what was answered.
    async fn take(&mut self, connection: &mut MultiplexedConnection, asked: Vec<Asked>, answers: Vec<Value>) {
        for (asked, answer) in asked.into_iter().zip(answers) {
            match asked {
                Asked::Command(Some(waiting)) => self.answered(connection, &waiting, answer).await,
                // It was told before that nobody knows.
                Asked::Command(None) | Asked::Positions => {}
                Asked::Look => self.looked_around(answer),
                Asked::Trim => self.noted_trim(answer),
            }
        }
    }

    fn noted_trim(&mut self, answer: Value) {
        let numbers = Parts::new(answer).and_then(|mut parts| Ok((parts.number()?, parts.number()?)));
        match numbers {
            Ok((_, lost)) => {
                self.has_told = false;
                if lost > 0 {
                    counter!(BUS_EVENTS_LOST).increment(lost);
                    tracing::error!(zone = %self.zone, lost, "events were taken away that a group has not read: is one there that nobody reads for?");
                }
            }
            Err(error) => tracing::warn!(zone = %self.zone, %error, "events that were read are still kept"),
        }
    }

    fn looked_around(&self, answer: Value) {
        let Ok(mut parts) = Parts::new(answer) else {
            return;
        };
        if let (Ok(followers), Ok(waiting), Ok(events)) = (parts.number(), parts.number(), parts.number()) {
            self.outbox.set_followed(followers > 0);
            gauge!(BUS_EVENTS_LENGTH).set(events as f64);
            gauge!(BUS_INBOX_LENGTH, "zone" => self.zone.0.to_string()).set(waiting as f64);
        }
    }

    async fn answered(&self, connection: &mut MultiplexedConnection, waiting: &Waiting, answer: Value) {
        let answer = match Answer::read(&waiting.command, answer) {
            Ok(answer) => answer,
            Err(error) => {
                // Whether a script that failed had begun to write is not known.
                tracing::warn!(zone = %self.zone, %error, kind = kind(&waiting.command), "a command was not answered");
                return unknown(&self.outbox, waiting, "unknown");
            }
        };
        for (entity, error) in &answer.unreadable {
            let reason = Reason::Envelope(*error).name();
            counter!(BUS_UNREADABLE_RECORDS, "reason" => reason).increment(1);
            tracing::error!(zone = %self.zone, %entity, reason, "a record cannot be read and stays where it is");
        }
        self.generations
            .witness(&self.store, connection, answer.generation)
            .await;
        if let (Command::ClaimZone { held: None, .. }, Ok(_)) = (&waiting.command, &answer.outcome)
            && !self.is_claim_safe(connection).await
        {
            return unknown(&self.outbox, waiting, "unknown");
        }
        self.note_lease(&answer.outcome);
        counter!(BUS_COMMANDS, "kind" => kind(&waiting.command), "outcome" => called(&answer.outcome)).increment(1);
        histogram!(BUS_COMMAND_SECONDS, "kind" => kind(&waiting.command))
            .record(waiting.submitted.elapsed().as_secs_f64());
        self.outbox.answer(waiting.ticket, Some(answer.outcome));
    }

    /// Whether the store cannot lose the claim of a new instance any more, as far as it can be had. One that came back without it would take an older
    /// instance for the newest.
    async fn is_claim_safe(&self, connection: &mut MultiplexedConnection) -> bool {
        match is_on_disk(&self.store, connection, self.store.replicas).await {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!(zone = %self.zone, "the store takes long to have the zone's lease on its disk (is its `appendfsync` set to no, or are there fewer replicas than `bus.replicas`?); it is claimed again");
                false
            }
            // A store that keeps no file promises nothing; that is said when its generation is heard of.
            Err(ValkeyError::Refused(_)) if self.store.replicas == 0 => true,
            Err(error) => {
                tracing::warn!(zone = %self.zone, %error, "it is not known whether the zone's lease is on the store's disk; it is claimed again");
                false
            }
        }
    }

    /// Which instance reads the inbox.
    fn note_lease(&self, outcome: &Result<Done, Refusal>) {
        match outcome {
            Ok(Done::Claimed { lease, .. } | Done::Asserted { lease, .. }) => {
                self.reading.send_modify(|reading| reading.renewed(*lease));
            }
            Err(Refusal::Fenced) => self.reading.send_modify(Reading::end),
            _ => {}
        }
    }
}

fn unknown(outbox: &Outbox, waiting: &Waiting, outcome: &'static str) {
    give_back(outbox, waiting, outcome, None);
}

/// Answers without the store.
fn give_back(outbox: &Outbox, waiting: &Waiting, outcome: &'static str, answer: Option<Result<Done, Refusal>>) {
    counter!(BUS_COMMANDS, "kind" => kind(&waiting.command), "outcome" => outcome).increment(1);
    outbox.answer(waiting.ticket, answer);
}

fn is_no_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// What an answer is called in metrics.
fn called(outcome: &Result<Done, Refusal>) -> &'static str {
    match outcome {
        Ok(_) => "done",
        Err(Refusal::InboxFull) => "inbox_full",
        Err(_) => "refused",
    }
}
