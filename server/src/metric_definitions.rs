//! The names of this crate's metrics.

use metrics::describe_gauge;

/// 1 while a role serves, else 0, by `role`.
pub(crate) const ROLE_READY: &str = "meridian_role_ready";

/// Starts of a zone after a panic, by `zone`.
#[cfg(all(feature = "zone", feature = "gateway"))]
pub(crate) const ZONE_RESTARTS: &str = "meridian_zone_restarts_total";

/// By how much this process's clock is behind the time that its cluster shares, in seconds.
pub(crate) const WORLD_CLOCK_OFFSET_SECONDS: &str = "meridian_world_clock_offset_seconds";

/// Describes the metrics.
pub(crate) fn describe() {
    describe_gauge!(ROLE_READY, "1 while the role serves, else 0");
    describe_gauge!(
        WORLD_CLOCK_OFFSET_SECONDS,
        "by how much this process's clock is behind the time that its cluster shares"
    );
}
