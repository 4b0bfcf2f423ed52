//! The store's generations, as this process hears of them, and what has to be on its disk.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meridian_ids::Generation;
use metrics::gauge;
use redis::Value;
use redis::aio::MultiplexedConnection;

use super::ValkeyError;
use super::store::{Store, ask, ask_all};
use crate::metric_definitions::BUS_GENERATION;

/// How long the store may take to have something on its disk, in milliseconds: one that writes its file down every second takes a second, and
/// what the disk takes. Less than a lease lasts, for a claim that is answered later is of no use.
const ON_DISK_MS_MAX: u64 = 1_750;

/// Whether all that this connection has written is on the store's disk, and on those of so many replicas.
///
/// # Errors
///
/// One that keeps no file of what is written says so by an error.
pub(super) async fn is_on_disk(
    store: &Store,
    connection: &mut MultiplexedConnection,
    replicas: u8,
) -> Result<bool, ValkeyError> {
    let wait = redis::cmd("WAITAOF").arg(1).arg(replicas).arg(ON_DISK_MS_MAX).take();
    let timeout = store.response_timeout + Duration::from_millis(ON_DISK_MS_MAX);
    match ask(connection, &wait, timeout).await? {
        Value::Array(counts) => match counts.as_slice() {
            [Value::Int(here), Value::Int(there)] => Ok(*here >= 1 && *there >= i64::from(replicas)),
            _ => Err(ValkeyError::Unreadable("no word on the disks")),
        },
        _ => Err(ValkeyError::Unreadable("no word on the disk")),
    }
}

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
        let mut write = redis::pipe();
        write.cmd("HINCRBY").arg(store.keys().meta()).arg("witnessed").arg(1);
        let is_on_disk = match ask_all(connection, &write, store.response_timeout).await {
            // One that has just taken over has no replicas yet, and zones wait to hear of it.
            Ok(_) => is_on_disk(store, connection, 0).await,
            Err(error) => Err(error),
        };
        match is_on_disk {
            Ok(true) => {}
            Ok(false) => tracing::warn!(%generation, "the store takes long to have its generation on its disk"),
            // One that keeps no such file says so by an error.
            Err(error) => {
                tracing::warn!(%generation, %error, "it is not known whether the store's generation is on its disk");
            }
        }
        if self.highest.fetch_max(generation.0, Ordering::AcqRel) < generation.0 {
            gauge!(BUS_GENERATION).set(f64::from(generation.0));
            tracing::info!(%generation, "the store is in this generation");
        }
    }
}
