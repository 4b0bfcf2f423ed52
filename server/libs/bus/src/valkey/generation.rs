//! The store's generations, as this process hears of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meridian_ids::Generation;
use metrics::gauge;
use redis::aio::MultiplexedConnection;

use super::store::{Store, ask_all};
use crate::metric_definitions::BUS_GENERATION;

/// How long the store may take to have a generation on its disk, in milliseconds.
const ON_DISK_MS_MAX: u64 = 1_000;

/// The highest generation that was heard of.
#[derive(Debug, Default)]
pub(super) struct Generations {
    highest: AtomicU32,
}

impl Generations {
    /// Before anybody acts on a generation that is news, it is on the store's disk, if the store writes one: a store that forgot it again might give its
    /// number to another life.
    pub(super) async fn witness(&self, store: &Store, connection: &mut MultiplexedConnection, generation: Generation) {
        if generation.0 <= self.highest.load(Ordering::Acquire) {
            return;
        }
        // A wait is only for what this connection has written: so it writes.
        let mut questions = redis::pipe();
        questions
            .cmd("HINCRBY")
            .arg(store.keys().meta())
            .arg("witnessed")
            .arg(1);
        questions.cmd("WAITAOF").arg(1).arg(0).arg(ON_DISK_MS_MAX);
        let timeout = store.response_timeout + Duration::from_millis(ON_DISK_MS_MAX);
        // One that keeps no such file says so by an error.
        if let Err(error) = ask_all(connection, &questions, timeout).await {
            tracing::warn!(%generation, %error, "it is not known whether the store's generation is on its disk");
        }
        if self.highest.fetch_max(generation.0, Ordering::AcqRel) < generation.0 {
            gauge!(BUS_GENERATION).set(f64::from(generation.0));
            tracing::info!(%generation, "the store is in this generation");
        }
    }
}
