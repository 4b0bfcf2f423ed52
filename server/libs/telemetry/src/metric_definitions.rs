//! Histogram buckets by the unit at the end of a metric's name. The names themselves stand in each crate's own
//! `metric_definitions.rs`.

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
