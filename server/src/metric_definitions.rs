//! The names of this crate's metrics.

use metrics::describe_gauge;

/// 1 while a role serves, else 0, by `role`.
pub(crate) const ROLE_READY: &str = "meridian_role_ready";

/// Describes the metrics.
pub(crate) fn describe() {
    describe_gauge!(ROLE_READY, "1 while the role serves, else 0");
}
