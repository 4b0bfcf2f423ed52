//! Names of the metrics this crate records.

/// Datagrams that were not passed on, by `reason`: connection requests that open no link (`other_version`, `expired_token`, `bad_seal`, `token_in_use`,
/// `too_many_pending`), whatever else comes from peers that are not known (`stranger`), what no well-made peer sends (`malformed`, `oversized`), what
/// finds a full queue (`queue`), and what the socket loses (`socket`, `send`).
pub const LINK_DROPPED: &str = "meridian_link_dropped_total";
/// Datagram payload bytes, by `direction`.
pub const LINK_BYTES: &str = "meridian_link_bytes_total";
/// Datagrams, by `direction`.
pub const LINK_PACKETS: &str = "meridian_link_packets_total";
