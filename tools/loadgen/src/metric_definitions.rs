//! Names of the metrics that a swarm and an auditor push while they run, where the environment names a collector.

use metrics::{Unit, describe_counter, describe_histogram};

/// From a stamped action until another client sees it, in seconds.
pub const CLIENT_OBSERVER_SECONDS: &str = "meridian_client_observer_seconds";
/// Entities that two zones simulated in one tick.
pub const AUDIT_DUPLICATED: &str = "meridian_audit_duplicated_total";
/// Entities that nobody simulated for two seconds.
pub const AUDIT_LOST: &str = "meridian_audit_lost_total";

/// Tells what they mean.
pub fn describe() {
    meridian_client_net::metric_definitions::describe();
    describe_histogram!(
        CLIENT_OBSERVER_SECONDS,
        Unit::Seconds,
        "from an action until another client sees it"
    );
    describe_counter!(AUDIT_DUPLICATED, "entities that two zones simulated in one tick");
    describe_counter!(AUDIT_LOST, "entities that nobody simulated for two seconds");
}
