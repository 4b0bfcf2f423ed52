//! Histogram buckets by the unit at the end of a metric's name, and the names of this crate's own metrics. All other names stand in
//! their crate's `metric_definitions.rs`.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// For `..._ms`: dense around the tick lengths of 128, 60 and 20 Hz (7.8, 16.7 and 50 ms), so that a tick that overran shows.
pub const MILLISECONDS_BUCKETS: &[f64] = &[
    0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 7.8, 10.0, 12.5, 16.7, 20.0, 25.0, 33.4, 50.0, 75.0, 100.0,
    200.0, 500.0, 1000.0,
];

/// For `..._seconds`: ticks, from 50 us and dense up to a tick at 60 Hz, and requests up to the longest a caller waits.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.0125,
    0.0167, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// For `..._ticks`: early (negative) and late by how many ticks.
pub const TICKS_BUCKETS: &[f64] = &[
    -4.0, -2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0,
];

/// For `..._bytes`: up to a datagram, then by powers.
pub const BYTES_BUCKETS: &[f64] = &[
    16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 1200.0, 4096.0, 16_384.0, 65_536.0,
];

/// For `..._count`: entities, clients or messages handled at once.
pub const COUNT_BUCKETS: &[f64] = &[
    0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0,
];

/// CPU time of the process, user and system, in seconds.
pub const PROCESS_CPU_SECONDS: &str = "process_cpu_seconds_total";

/// Spans that a collector has taken.
pub const SPANS_EXPORTED: &str = "meridian_telemetry_spans_exported_total";
/// Spans that no collector will get, by `reason` ([`REASON_QUEUE_FULL`], [`REASON_EXPORT_FAILED`] or
/// [`REASON_PROCESS_ENDED`]).
pub const SPANS_DROPPED: &str = "meridian_telemetry_spans_dropped_total";
/// The queue was full, since spans came faster than the collector took them.
pub const REASON_QUEUE_FULL: &str = "queue_full";
/// The collector did not take their batch, however often it was tried.
pub const REASON_EXPORT_FAILED: &str = "export_failed";
/// They were still queued when the process ended, and there was no time for them.
pub const REASON_PROCESS_ENDED: &str = "process_ended";
/// How long an attempt to export a batch took, in seconds, whether it succeeded or not.
pub const EXPORT_SECONDS: &str = "meridian_telemetry_export_seconds";
/// Attempts to export a batch that failed.
pub const EXPORT_FAILURES: &str = "meridian_telemetry_export_failures_total";
/// Spans that wait for their export.
pub const QUEUE_LENGTH: &str = "meridian_telemetry_queue_length";
/// Pushes of all metrics, by `outcome` (`done`, `failed`).
pub const METRIC_PUSHES: &str = "meridian_telemetry_metric_pushes_total";
/// Points that a collector refused of pushes that it took.
pub const METRIC_POINTS_REFUSED: &str = "meridian_telemetry_metric_points_refused_total";

/// Lines of the log that were dropped: who reads standard error did not keep up.
pub const LOG_LINES_DROPPED: &str = "meridian_telemetry_log_lines_dropped_total";

/// Describes what is counted of the log.
pub(crate) fn describe_logs() {
    describe_counter!(
        LOG_LINES_DROPPED,
        "lines of the log that were dropped, for who reads it did not keep up"
    );
}

/// Describes the metrics of what is exported.
pub(crate) fn describe() {
    describe_counter!(SPANS_EXPORTED, "spans that a collector has taken");
    describe_counter!(SPANS_DROPPED, "spans that no collector will get, by reason");
    describe_histogram!(EXPORT_SECONDS, "how long an attempt to export a batch of spans took");
    describe_counter!(EXPORT_FAILURES, "attempts to export a batch of spans that failed");
    describe_gauge!(QUEUE_LENGTH, "spans that wait for their export");
    describe_counter!(METRIC_PUSHES, "pushes of all metrics, by outcome");
    describe_counter!(
        METRIC_POINTS_REFUSED,
        "points that a collector refused of pushes that it took"
    );
}
