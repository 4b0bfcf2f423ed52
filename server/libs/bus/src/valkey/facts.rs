//! What a world's processes agree on: that the store will do, the tick rate, the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use metrics::counter;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{Cmd, Value};
use tokio::sync::Mutex;

use super::answer::Parts;
use super::command::Moment;
use super::scripts::{ScriptName, call};
use super::store::{Store, ask};
use super::{LAYOUT, ValkeyError};
use crate::metric_definitions::BUS_RECONNECTS;

/// The oldest version that knows all that is asked of it: `WAITAOF`, and reads that tell of deleted entries.
const VERSION_NEEDED: (u64, u64) = (7, 2);
const VERSION_NEEDED_NAME: &str = "7.2";
/// Round trips of which the quickest says what time it is.
const TIME_ROUND_TRIPS: usize = 9;

/// What holds for a world for as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldFacts {
    /// The hash of the world's document, as sessions carry it.
    pub document_hash: String,
    /// Ticks per second.
    pub tick_rate_hz: u16,
}

/// What a world's processes have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// When tick 0 was due, since the Unix epoch.
    pub epoch: Duration,
    /// The hash of the document that counts, where it is another: that of the processes before this one.
    pub other_document: Option<String>,
}

/// What time it is at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTime {
    /// The time there, since the Unix epoch,
    pub since_epoch: Duration,
    /// at this moment here,
    pub at: Instant,
    /// give or take this much: half of the round trip that told it.
    pub uncertainty: Duration,
}

/// What is asked now and then, and may be asked again: one thing at a time, over a connection that opens itself again.
pub(super) struct Control {
    store: Store,
    manager: Mutex<ConnectionManager>,
}

impl Control {
    /// Connects, and makes sure that a world can live there.
    pub(super) async fn connect(store: Store) -> Result<Self, ValkeyError> {
        let mut connection = store.open().await.map_err(|error| match error {
            ValkeyError::TimedOut => ValkeyError::Unreachable("it does not answer".to_owned()),
            error => error,
        })?;
        check_server(&store, &mut connection).await?;
        check_permissions(&store, &mut connection).await?;
        check_layout(&store, &mut connection).await?;
        let mut manager = store.manage()?;
        // From here on time counts: what is settling settles while the process starts.
        let begin = store.terms.begin(ScriptName::Begin, &Moment::default());
        ask(&mut manager, &begin, store.response_timeout).await?;
        let manager = Mutex::new(manager);
        Ok(Self { store, manager })
    }

    /// Asks. A connection that broke is opened again by its manager.
    pub(super) async fn ask(&self, question: &Cmd) -> Result<Value, ValkeyError> {
        let mut manager = self.manager.lock().await;
        let answer = self.ask_or_teach(&mut manager, question).await;
        if let Err(error) = &answer {
            counter!(BUS_RECONNECTS, "what" => "control").increment(1);
            // A manager goes on with a connection that has fallen silent, or that leads to a server that does not write, and for ever with one that
            // it was refused.
            if !matches!(error, ValkeyError::Unreachable(_)) {
                *manager = self.store.manage()?;
            }
        }
        answer
    }

    async fn ask_or_teach(&self, manager: &mut ConnectionManager, question: &Cmd) -> Result<Value, ValkeyError> {
        let answer = ask(manager, question, self.store.response_timeout).await;
        if !answer.as_ref().is_err_and(ValkeyError::is_without_script) {
            return answer;
        }
        // The server was started again. It has done nothing of this, so it may be asked once more.
        self.store.teach(manager).await?;
        ask(manager, question, self.store.response_timeout).await
    }

    /// `is_new`: the document counts from now on, whatever it was before.
    pub(super) async fn agree(&self, facts: &WorldFacts, is_new: bool) -> Result<Agreed, ValkeyError> {
        let mut question = call(ScriptName::Agree, &[self.store.keys().meta()]);
        question
            .arg(facts.tick_rate_hz)
            .arg(&facts.document_hash)
            .arg(u8::from(is_new));
        let mut agreed = Parts::new(self.ask(&question).await?)?;
        let (rate, epoch_us, document) = (agreed.number()?, agreed.number()?, agreed.text()?);
        let stored = rate
            .try_into()
            .map_err(|_| ValkeyError::Unreadable("a tick rate that is none"))?;
        if stored != facts.tick_rate_hz {
            let asked = facts.tick_rate_hz;
            return Err(ValkeyError::OtherTickRate { stored, asked });
        }
        let is_other = !document.is_empty() && document != facts.document_hash;
        Ok(Agreed {
            epoch: Duration::from_micros(epoch_us),
            other_document: is_other.then_some(document),
        })
    }

    pub(super) async fn server_time(&self) -> Result<ServerTime, ValkeyError> {
        let mut best: Option<ServerTime> = None;
        for _ in 0..TIME_ROUND_TRIPS {
            let asked = Instant::now();
            let mut answer = Parts::new(self.ask(&redis::cmd("TIME")).await?)?;
            let uncertainty = asked.elapsed() / 2;
            let since_epoch = Duration::from_secs(answer.number()?) + Duration::from_micros(answer.number()?);
            let at = asked + uncertainty;
            if best.is_none_or(|best| uncertainty < best.uncertainty) {
                best = Some(ServerTime {
                    since_epoch,
                    at,
                    uncertainty,
                });
            }
        }
        best.ok_or(ValkeyError::TimedOut)
    }
}

async fn check_server(store: &Store, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
    let mut information = async |section: &str| {
        let question = redis::cmd("INFO").arg(section).take();
        match ask(connection, &question, store.response_timeout).await? {
            Value::BulkString(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Value::VerbatimString { text, .. } => Ok(text),
            _ => Err(ValkeyError::Unreadable("no information about the server")),
        }
    };
    let server = information("server").await?;
    let found = fact(&server, "valkey_version")
        .or_else(|| fact(&server, "redis_version"))
        .unwrap_or("unknown");
    if version(found).is_none_or(|version| version < VERSION_NEEDED) {
        return Err(ValkeyError::TooOld {
            found: found.to_owned(),
            needed: VERSION_NEEDED_NAME,
        });
    }
    let replication = information("replication").await?;
    if fact(&replication, "role") != Some("master") {
        return Err(ValkeyError::ReadOnlyReplica);
    }
    let persistence = information("persistence").await?;
    if fact(&persistence, "aof_enabled") == Some("1") {
        check_sync(store, connection).await?;
    }
    Ok(())
}

/// Whether a file that is written gets to the disk, as far as this user may know.
async fn check_sync(store: &Store, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
    let question = redis::cmd("CONFIG").arg("GET").arg("appendfsync").take();
    match ask(connection, &question, store.response_timeout).await {
        Ok(answer) => {
            let facts = redis::from_redis_value::<HashMap<String, String>>(answer);
            let facts = facts.map_err(|_| ValkeyError::Unreadable("no word on its file"))?;
            match facts.get("appendfsync").map(String::as_str) {
                Some("no") => Err(ValkeyError::NeverSynced),
                _ => Ok(()),
            }
        }
        // Not everybody may ask, and not every store tells: then the first claim shows.
        Err(ValkeyError::NoPermission(_) | ValkeyError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn check_permissions(store: &Store, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
    let keys = ["hash", "set", "stream"].map(|kind| store.keys().scratch(kind));
    let answer = ask(connection, &call(ScriptName::Check, &keys), store.response_timeout).await?;
    match answer {
        Value::BulkString(said) if said.is_empty() => Ok(()),
        Value::BulkString(said) => Err(ValkeyError::NoPermission(String::from_utf8_lossy(&said).into_owned())),
        _ => Err(ValkeyError::Unreadable("no word on permissions")),
    }
}

async fn check_layout(store: &Store, connection: &mut MultiplexedConnection) -> Result<(), ValkeyError> {
    let meta = store.keys().meta();
    let claim = redis::cmd("HSETNX").arg(&meta).arg("layout").arg(LAYOUT).take();
    ask(connection, &claim, store.response_timeout).await?;
    let question = redis::cmd("HGET").arg(&meta).arg("layout").take();
    match ask(connection, &question, store.response_timeout).await? {
        Value::BulkString(found) if found == LAYOUT.as_bytes() => Ok(()),
        Value::BulkString(found) => Err(ValkeyError::OtherLayout {
            found: String::from_utf8_lossy(&found).into_owned(),
            expected: LAYOUT,
        }),
        _ => Err(ValkeyError::Unreadable("no layout")),
    }
}

/// A line `name:value` of what a server tells about itself.
fn fact<'a>(information: &'a str, name: &str) -> Option<&'a str> {
    information
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_first_two_numbers() {
        let information = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\n";
        assert_eq!(fact(information, "valkey_version").and_then(version), Some((8, 0)));
        assert!(fact(information, "redis_version").and_then(version) >= Some(VERSION_NEEDED));
        assert!(version("7.0.15") < Some(VERSION_NEEDED) && version("10.1.2") > Some(VERSION_NEEDED));
        assert_eq!((version("unknown"), fact(information, "redis")), (None, None));
    }
}
