//! The names of this crate's metrics.

use metrics::{counter, describe_counter};

/// Sessions given out.
pub(crate) const SESSIONS_ISSUED: &str = "meridian_auth_sessions_issued_total";

/// Sessions given out to players that had one before; these count in [`SESSIONS_ISSUED`] too.
pub(crate) const SESSIONS_RESUMED: &str = "meridian_auth_sessions_resumed_total";

/// Session requests refused, by `reason`: the error code of the answer.
pub(crate) const SESSIONS_REJECTED: &str = "meridian_auth_sessions_rejected_total";

/// Session requests refused for their number alone; these count in [`SESSIONS_REJECTED`] too.
pub(crate) const RATE_LIMITED: &str = "meridian_auth_rate_limited_total";

/// Describes the metrics and shows the ones without labels at zero.
pub(crate) fn describe() {
    describe_counter!(SESSIONS_ISSUED, "sessions given out");
    describe_counter!(SESSIONS_RESUMED, "sessions given out to players that had one before");
    describe_counter!(SESSIONS_REJECTED, "session requests refused, by reason");
    describe_counter!(
        RATE_LIMITED,
        "session requests refused because their address sent too many"
    );
    counter!(SESSIONS_ISSUED).absolute(0);
    counter!(SESSIONS_RESUMED).absolute(0);
    counter!(RATE_LIMITED).absolute(0);
}
