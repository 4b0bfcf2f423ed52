//! Names of the metrics that a swarm and an auditor push while they run, where the environment names a collector.

use metrics::{Unit, describe_counter, describe_histogram};

/// From a stamped action to its echo in the acting client's world, in seconds.
pub const CLIENT_ACTION_SECONDS: &str = "meridian_client_action_seconds";
/// From a stamped action until another client sees it, in seconds.
pub const CLIENT_OBSERVER_SECONDS: &str = "meridian_client_observer_seconds";
/// Where the time of an action went, by `term`, in seconds: uplink, forward, tick_wait, simulate, gateway, downlink, apply.
pub const CLIENT_TERM_SECONDS: &str = "meridian_client_term_seconds";
/// Entities that two zones simulated in one tick.
pub const AUDIT_DUPLICATED: &str = "meridian_audit_duplicated_total";
/// Entities that nobody simulated for two seconds.
pub const AUDIT_LOST: &str = "meridian_audit_lost_total";

/// Tells what they mean.
pub fn describe() {
    describe_histogram!(CLIENT_ACTION_SECONDS, Unit::Seconds, "from an action to its echo");
    describe_histogram!(
        CLIENT_OBSERVER_SECONDS,
        Unit::Seconds,
        "from an action until another client sees it"
    );
    describe_histogram!(
        CLIENT_TERM_SECONDS,
        Unit::Seconds,
        "where the time of an action went, by term"
    );
    describe_counter!(AUDIT_DUPLICATED, "entities that two zones simulated in one tick");
    describe_counter!(AUDIT_LOST, "entities that nobody simulated for two seconds");
}
