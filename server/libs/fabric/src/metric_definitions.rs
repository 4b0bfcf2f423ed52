//! Names of the metrics this crate records.

/// Messages that a full queue refused, by `direction` and `class`.
pub const FABRIC_DROPPED: &str = "meridian_fabric_dropped_total";
