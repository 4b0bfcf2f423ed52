//! Names of the metrics of one client's connection, collected where somebody has them pushed.

use metrics::{Unit, describe_counter, describe_histogram};

/// From a stamped action to its echo in the acting client's world, in seconds.
pub const CLIENT_ACTION_SECONDS: &str = "meridian_client_action_seconds";
/// Where the time of an action went, by `term`, in seconds: uplink, forward, tick_wait, simulate, gateway, downlink, apply.
pub const CLIENT_TERM_SECONDS: &str = "meridian_client_term_seconds";
/// How often the own player was predicted otherwise than the zone had it.
pub const CLIENT_CORRECTIONS: &str = "meridian_client_corrections_total";

/// Tells what they mean.
pub fn describe() {
    describe_histogram!(CLIENT_ACTION_SECONDS, Unit::Seconds, "from an action to its echo");
    describe_histogram!(
        CLIENT_TERM_SECONDS,
        Unit::Seconds,
        "where the time of an action went, by term"
    );
    describe_counter!(CLIENT_CORRECTIONS, "predictions of the own player that were corrected");
}
