//! Names of the metrics this crate records.
//!
//! Those of links between processes have the labels `local` (the own end: a zone, or a gateway's name) and `peer` (the other).

/// Messages that a full queue refused or dropped, or that were sent while there was no connection, by `direction` and `class`.
pub const FABRIC_DROPPED: &str = "meridian_fabric_dropped_total";
/// Messages, by `local`, `peer`, `class` and `direction` (sent or received).
pub const FABRIC_MESSAGES: &str = "meridian_fabric_messages_total";
/// Bytes of messages, by `local`, `peer`, `class` and `direction` (sent or received).
pub const FABRIC_BYTES: &str = "meridian_fabric_bytes_total";
/// Messages of a sequence that were sent by stream, because they bring entities or no datagram is as large, by `local` and `peer`.
pub const FABRIC_BY_STREAM: &str = "meridian_fabric_by_stream_total";
/// Times that the receiver was told of lost changes, by `local` and `peer`.
pub const FABRIC_GAPS: &str = "meridian_fabric_gaps_total";
/// Links that came about, by `local` and `peer`: the first, and each that followed a lost one.
pub const FABRIC_CONNECTIONS: &str = "meridian_fabric_connections_total";
/// Hellos that were refused, by `reason`, and by `side`: accepting or dialling.
pub const FABRIC_REFUSED: &str = "meridian_fabric_refused_total";
/// Links that were closed because the other side sent what is no message, by `local` and `peer`.
pub const FABRIC_MALFORMED: &str = "meridian_fabric_malformed_total";
/// Whether there is a connection, by `local` and `peer`.
pub const FABRIC_CONNECTED: &str = "meridian_fabric_connected";
/// Round trip that QUIC measures, in seconds, with what the other side waited before it acknowledged.
pub const FABRIC_ROUND_TRIP_SECONDS: &str = "meridian_fabric_round_trip_seconds";
/// Bytes that may be under way before an acknowledgement.
pub const FABRIC_CONGESTION_WINDOW_BYTES: &str = "meridian_fabric_congestion_window_bytes";
/// Bytes that one UDP packet may have.
pub const FABRIC_PACKET_BYTES_MAX: &str = "meridian_fabric_packet_bytes_max";
/// Packets that were lost.
pub const FABRIC_LOST_PACKETS: &str = "meridian_fabric_lost_packets_total";
/// How far the other process's clock is ahead of this one's, in seconds; both count from when their endpoint was bound.
pub const FABRIC_CLOCK_OFFSET_SECONDS: &str = "meridian_fabric_clock_offset_seconds";
/// Round trip of the question that the offset comes from, in seconds: the offset errs by half of it at most.
pub const FABRIC_CLOCK_ROUND_TRIP_SECONDS: &str = "meridian_fabric_clock_round_trip_seconds";
/// Messages that wait, by `queue`: reliable and droppable ones to be sent, snapshots under way, and received ones.
pub const FABRIC_QUEUED: &str = "meridian_fabric_queued";
