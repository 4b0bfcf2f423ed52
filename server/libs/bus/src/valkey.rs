//! A world's durable side, its streams and its directory in Valkey (or Redis) 7.2 or later.
//!
//! What a zone asks is one script each, which do what [`crate::Model`] does. All keys of a world share a hash tag, so that in a cluster a world is in one slot: a
//! cluster spreads worlds, not zones.
//!
//! | key | what |
//! | --- | --- |
//! | `{w}:meta` | layout, run and generation of the store, tick rate, epoch, the document's hash |
//! | `{w}:owner` | hash: entity to zone, epoch, in transit or not, closed transfers |
//! | `{w}:players` | hash: player to entity, and back |
//! | `{w}:died` | hash: the tick of the last death that was told of each entity |
//! | `{w}:retired`, `{w}:retired:epoch` | what left the world of late: when, and under which epoch |
//! | `{w}:zone:N:lease` | hash: newest instance (never forgotten), until when it has the zone, its name |
//! | `{w}:zone:N:entities` | hash: records |
//! | `{w}:zone:N:spawned` | hash: the last id of each minter |
//! | `{w}:zone:N:inbox`, `:waiting` | stream, group `zone`: transfers; hash: which entry each is in |
//! | `{w}:zone:N:position`, `:followers` | stream: positions; who follows them |
//! | `{w}:events` | stream: events; a group per service |
//! | `{w}:services` | hash: the directory |
//! | `{w}:dead` | stream: entries that could not be read, for [`DEAD_LETTERS_KEPT`], about [`DEAD_LETTERS_MAX`] of them: stream, entry, reason, the first 4 KiB, whether it stays there (a transfer) |
//!
//! **Generations.** Each script first compares the server's `run_id` with the one that the world knows. Another one means that the server was
//! restarted or that another took over, perhaps without its newest writes: the generation rises, and zones say once more what they own. A world that
//! is begun, also one in a store that has lost everything, settles as well: for [`ValkeyOptions::settling`] no new instance gets a zone.
//!
//! **Events** are kept until every group is done with them: each second in which a zone has told any, it has those taken away that all groups have
//! acknowledged. While there is no group, those of the last [`EVENTS_KEPT`] stay. A group that nobody reads for any more keeps what it has not read; it is
//! removed by hand (`XGROUP DESTROY`). Of more than [`EVENTS_KEPT_HOWEVER_OLD`] those that some group has
//! not read for [`EVENTS_KEPT_UNREAD`] go, are counted (`meridian_bus_events_lost_total`) and told in the log. Only of positions the oldest go for their number
//! alone (`MAXLEN`): of them the newest count.
//!
//! **What the store must be set to.** `maxmemory-policy noeviction`: a record that is evicted is an entity that is lost. `appendonly yes`: with
//! `appendfsync everysec` a crash of the machine costs about the last second of writes, which living zones say again; with `always` nothing. Without a
//! file a restart costs everything that is not in a living zone. A replica that takes over is behind by what was on its way, usually milliseconds.
//!
//! **The user.** A user who may use one world and nothing else:
//!
//! ```text
//! ACL SETUSER meridian on >PASSWORD resetkeys ~{WORLD}:* resetchannels -@all
//!   +evalsha +script|load +info +time +waitaof +client|setinfo +ping
//!   +del +hset +hsetnx +hincrby +hget +hmget +hgetall +hdel
//!   +zadd +zscore +zcount +zrangebyscore +zrem +zremrangebyscore
//!   +xadd +xgroup +xread +xreadgroup +xpending +xclaim +xautoclaim +xack +xrange +xrevrange +xlen +xdel
//!   +xtrim +xinfo|groups +xinfo|consumers
//! ```
//!
//! It never blocks a tick, never sends a command twice, and never guesses what came of one.

mod answer;
mod command;
mod comparison;
mod connection;
mod dead;
mod error;
mod events;
mod facts;
mod generation;
mod group;
mod inbox;
mod keys;
mod look;
mod outbox;
mod positions;
mod record;
mod scripts;
mod services;
mod store;
mod words;

pub use comparison::{Dump, Remembered, Scripts};
pub use error::ValkeyError;
pub use facts::{Agreed, ServerTime, WorldFacts};
pub use outbox::UNDER_WAY_MAX;
pub use record::{RECORD_BYTES_MAX, TRANSFER_RECORDS_MAX};
pub use services::ValkeyDirectory;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use meridian_handoff::{LEASE_TTL, SETTLING};
use meridian_ids::ZoneId;
use metrics::counter;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::directory::Listed;
use crate::metric_definitions::{
    BUS_DEAD_LETTERS, BUS_EVENTS_LOST, BUS_RECONNECTS, BUS_UNREADABLE_RECORDS, BUS_UNREADABLE_SERVICES,
    BUS_UNREADABLE_TRANSFERS, BUS_UNWRITABLE_RECORDS,
};
use crate::{Bus, EventReader, PositionReader};
use connection::{Connection, Courier};
use events::EventsTask;
use facts::Control;
use generation::Generations;
use group::Group;
use inbox::{InboxReader, Reading};
use outbox::Outbox;
use positions::{Feed, PositionsTask};
use store::Store;

/// The form in which a world is stored: another one is not read.
const LAYOUT: &str = "1";
/// For how long events are kept for groups to come, while there are none.
pub const EVENTS_KEPT: Duration = Duration::from_secs(15 * 60);
/// For how long events are kept at least for groups that are not done with them. A store's memory must hold that: at 70 a second, a busy world, some 300 MB.
pub const EVENTS_KEPT_UNREAD: Duration = Duration::from_secs(24 * 60 * 60);
/// So many events, some 50 MB, are kept for such groups however old they are: after a standstill of days as well.
pub const EVENTS_KEPT_HOWEVER_OLD: usize = 1 << 20;
/// For how long dead letters are kept.
pub const DEAD_LETTERS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// So many dead letters are kept, some 50 MB at most, and twice as many where transfers that stay are among them. Then the oldest make way if they are older
/// than [`DEAD_LETTERS_MAKE_WAY`], and where none is no more are written down, only counted and logged: of a flood the beginning tells most.
pub const DEAD_LETTERS_MAX: usize = 10_000;
/// How old dead letters are that make way for others.
pub const DEAD_LETTERS_MAKE_WAY: Duration = Duration::from_secs(60 * 60);
/// How long an answer may take before it counts as unknown, unless it is said otherwise.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a world is kept, and on which terms.
#[derive(Clone)]
pub struct ValkeyOptions {
    /// `redis://` or `valkey://`, `rediss://` or `valkeys://` for TLS; user and password in it. Never told to anybody.
    pub url: String,
    /// The world's name.
    pub world: String,
    /// How long a lease lasts that is not renewed. Zones count on [`LEASE_TTL`].
    pub lease_ttl: Duration,
    /// How long a store that was restarted waits for what lives; not less than a lease lasts.
    pub settling: Duration,
    /// How long an answer may take before it counts as unknown.
    pub response_timeout: Duration,
    /// How many replicas must have a new instance's lease on their disks before it counts, beside the store itself.
    pub replicas: u8,
    /// Certificates to trust the store by, as PEM; the system's if none.
    pub trusted_certificates: Option<Vec<u8>>,
}

impl ValkeyOptions {
    /// The usual terms.
    pub fn new(url: impl Into<String>, world: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            world: world.into(),
            lease_ttl: LEASE_TTL,
            settling: SETTLING,
            response_timeout: RESPONSE_TIMEOUT,
            replicas: 0,
            trusted_certificates: None,
        }
    }
}

impl fmt::Debug for ValkeyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkeyOptions")
            .field("world", &self.world)
            .field("lease_ttl", &self.lease_ttl)
            .field("settling", &self.settling)
            .field("response_timeout", &self.response_timeout)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

/// A world in a store. Its connections work on the runtime that it was given, and end with what they are for.
#[derive(Clone)]
pub struct ValkeyWorld {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    runtime: Handle,
    control: Arc<Control>,
    generations: Arc<Generations>,
    groups: Mutex<HashMap<String, Weak<Group>>>,
    feeds: Mutex<HashMap<ZoneId, Weak<Feed>>>,
    directory: ValkeyDirectory,
}

/// What should never happen is counted from 0 on: an increase from nothing at all is none to who watches.
fn count_from_zero() {
    for what in ["commands", "control", "events", "inbox", "positions"] {
        counter!(BUS_RECONNECTS, "what" => what).increment(0);
    }
    for reason in dead::Reason::NAMES {
        for stream in ["events", "inbox", "position"] {
            counter!(BUS_DEAD_LETTERS, "stream" => stream, "reason" => reason).increment(0);
        }
        for name in [BUS_UNREADABLE_RECORDS, BUS_UNREADABLE_TRANSFERS, BUS_UNWRITABLE_RECORDS] {
            counter!(name, "reason" => reason).increment(0);
        }
    }
    counter!(BUS_UNREADABLE_SERVICES).increment(0);
    counter!(BUS_EVENTS_LOST).increment(0);
}

impl ValkeyWorld {
    /// Connects to the store and makes sure that the world can live there. Everything that the world does from now on is done on `runtime`.
    ///
    /// # Errors
    ///
    /// If the store is not to be had, or will not do; the error says what to do.
    pub async fn connect(options: &ValkeyOptions, runtime: &Handle) -> Result<Self, ValkeyError> {
        let store = Store::new(options)?;
        let connecting = runtime.spawn(Control::connect(store.clone()));
        let control = connecting
            .await
            .map_err(|_| ValkeyError::Unreachable("the runtime ends".to_owned()))?;
        let control = Arc::new(control?);
        let keys = store.keys().clone();
        let directory = ValkeyDirectory::new(Arc::clone(&control), keys, store.response_timeout, runtime);
        let shared = Shared {
            store,
            runtime: runtime.clone(),
            control,
            generations: Arc::default(),
            groups: Mutex::default(),
            feeds: Mutex::default(),
            directory,
        };
        let shared = Arc::new(shared);
        count_from_zero();
        Ok(Self { shared })
    }

    /// Which services of a world are there, for who only wants to know. Writes nothing, also for a world that is not there, and works for a user who may
    /// do no more than `+ping +hget +hgetall +time` on `%R~{WORLD}:*`, also at a replica. The connection works on `runtime` and is closed at the end.
    ///
    /// # Errors
    ///
    /// If there is no such world ([`ValkeyError::NoWorld`]), or the store is not to be had; the error says what to do.
    pub async fn look(options: &ValkeyOptions, runtime: &Handle) -> Result<Vec<Listed>, ValkeyError> {
        let store = Store::new(options)?;
        let looking = runtime.spawn(async move { look::look(&store).await });
        looking
            .await
            .map_err(|_| ValkeyError::Unreachable("the runtime ends".to_owned()))?
            .map_err(|error| match error {
                ValkeyError::TimedOut => ValkeyError::Unreachable("it does not answer".to_owned()),
                error => error,
            })
    }

    /// A zone's connection: one for its commands, and one that waits for its inbox.
    pub fn connect_zone(&self, zone: ZoneId) -> Box<dyn Bus> {
        let Shared {
            store,
            runtime,
            generations,
            ..
        } = self.shared.as_ref();
        let outbox = Arc::new(Outbox::default());
        let (reading, is_read) = watch::channel(Reading::default());
        let courier = Courier::new(
            store.clone(),
            zone,
            Arc::clone(&outbox),
            Arc::clone(generations),
            reading,
        );
        runtime.spawn(courier.run());
        runtime.spawn(InboxReader::new(store.clone(), zone, Arc::clone(&outbox), is_read).run());
        Box::new(Connection::new(outbox))
    }

    /// A reader of a group of services. The readers of a group in one process share a connection.
    pub fn events(&self, group: &str) -> Box<dyn EventReader> {
        let mut groups = self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, known| known.strong_count() > 0);
        loop {
            let known = groups.get(group).and_then(Weak::upgrade);
            if let Some(reader) = known.and_then(|known| known.join()) {
                return Box::new(reader);
            }
            let new = Arc::new(Group::default());
            groups.insert(group.to_owned(), Arc::downgrade(&new));
            let reader = new.join();
            let task = EventsTask::new(self.shared.store.clone(), group.to_owned(), new);
            self.shared.runtime.spawn(task.run());
            if let Some(reader) = reader {
                return Box::new(reader);
            }
        }
    }

    /// Follows a zone's positions. The followers of a zone in one process share a connection.
    pub fn positions(&self, zone: ZoneId) -> Box<dyn PositionReader> {
        let mut feeds = self.shared.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|_, known| known.strong_count() > 0);
        loop {
            let known = feeds.get(&zone).and_then(Weak::upgrade);
            if let Some(follower) = known.and_then(|known| known.follow()) {
                return Box::new(follower);
            }
            let new = Arc::new(Feed::new(zone));
            feeds.insert(zone, Arc::downgrade(&new));
            let follower = new.follow();
            let task = PositionsTask::new(self.shared.store.clone(), new);
            self.shared.runtime.spawn(task.run());
            if let Some(follower) = follower {
                return Box::new(follower);
            }
        }
    }

    /// Which services of the world are there.
    pub fn directory(&self) -> ValkeyDirectory {
        self.shared.directory.clone()
    }

    /// Agrees with the world's other processes on what holds as long as it lasts: what the first of them said.
    ///
    /// # Errors
    ///
    /// If the world ticks at another rate, or the store does not answer.
    pub async fn agree(&self, facts: &WorldFacts) -> Result<Agreed, ValkeyError> {
        self.shared.control.agree(facts, false).await
    }

    /// From now on this document counts: nobody may be running by another one.
    ///
    /// # Errors
    ///
    /// As [`Self::agree`].
    pub async fn adopt(&self, facts: &WorldFacts) -> Result<Agreed, ValkeyError> {
        self.shared.control.agree(facts, true).await
    }

    /// What time it is at the store: the world's time. The quickest of several round trips tells.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn server_time(&self) -> Result<ServerTime, ValkeyError> {
        self.shared.control.server_time().await
    }
}
