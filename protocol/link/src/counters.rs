//! Counts of what goes through a link, readable from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metric_definitions::{LINK_BYTES, LINK_DROPPED, LINK_PACKETS};

#[derive(Debug, Default)]
struct Counts {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    packets_in: AtomicU64,
    packets_out: AtomicU64,
    dropped: AtomicU64,
}

/// A shared handle on a link's counts.
#[derive(Clone, Debug, Default)]
pub struct LinkCounters {
    counts: Arc<Counts>,
}

/// A link's counts at one moment. Bytes are datagram payloads, without UDP and IP headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTotals {
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Datagrams dropped on either way.
    pub dropped: u64,
}

impl LinkTotals {
    /// What went through since an earlier look.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            packets_in: self.packets_in.saturating_sub(earlier.packets_in),
            packets_out: self.packets_out.saturating_sub(earlier.packets_out),
            dropped: self.dropped.saturating_sub(earlier.dropped),
        }
    }
}

impl LinkCounters {
    pub(crate) fn received(&self, bytes: usize) {
        self.counts.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.counts.packets_in.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(LINK_BYTES, "direction" => "in").increment(bytes as u64);
        metrics::counter!(LINK_PACKETS, "direction" => "in").increment(1);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.counts.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        self.counts.packets_out.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(LINK_BYTES, "direction" => "out").increment(bytes as u64);
        metrics::counter!(LINK_PACKETS, "direction" => "out").increment(1);
    }

    pub(crate) fn dropped(&self, reason: &'static str) {
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(LINK_DROPPED, "reason" => reason).increment(1);
    }

    /// The counts now.
    pub fn totals(&self) -> LinkTotals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LinkTotals {
            bytes_in: read(&self.counts.bytes_in),
            bytes_out: read(&self.counts.bytes_out),
            packets_in: read(&self.counts.packets_in),
            packets_out: read(&self.counts.packets_out),
            dropped: read(&self.counts.dropped),
        }
    }
}
