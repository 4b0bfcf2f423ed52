//! Names of the metrics this crate records.

/// Datagrams that were not passed on, by `reason`.
pub const LINK_DROPPED: &str = "meridian_link_dropped_total";
/// Datagram payload bytes, by `direction`.
pub const LINK_BYTES: &str = "meridian_link_bytes_total";
/// Datagrams, by `direction`.
pub const LINK_PACKETS: &str = "meridian_link_packets_total";
