//! Names of the metrics this crate records.

/// Datagrams that were not passed on, by `reason`: connection requests that open no link (`other_version`, `expired_token`, `bad_seal`, `token_in_use`,
/// `too_many_pending`), whatever else comes from peers that are not known (`stranger`), what no well-made peer sends (`malformed`, `oversized`), what
/// finds a full queue (`queue`), and what the socket loses (`socket`, `send`).
pub const LINK_DROPPED: &str = "meridian_link_dropped_total";
/// Datagram payload bytes, by `direction`.
pub const LINK_BYTES: &str = "meridian_link_bytes_total";
/// Datagrams, by `direction`.
pub const LINK_PACKETS: &str = "meridian_link_packets_total";

/// lightyear's own count of packets that were not acknowledged in time.
const PACKETS_LOST: &str = "packets/lost";
/// Why datagrams are not passed on.
const DROPPED_REASONS: [&str; 11] = [
    "other_version",
    "expired_token",
    "bad_seal",
    "token_in_use",
    "too_many_pending",
    "stranger",
    "malformed",
    "oversized",
    "queue",
    "socket",
    "send",
];

/// What a server should hardly ever count is counted from 0 on: an increase from nothing at all is none to who watches.
pub(crate) fn count_from_zero() {
    metrics::counter!(PACKETS_LOST).increment(0);
    for reason in DROPPED_REASONS {
        metrics::counter!(LINK_DROPPED, "reason" => reason).increment(0);
    }
}
