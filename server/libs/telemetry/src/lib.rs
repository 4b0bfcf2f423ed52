//! How a server process tells what it does: logs on standard error, metrics as Prometheus text.
//!
//! Code logs through `tracing` and counts through the `metrics` facade; this crate only installs what collects them. It never
//! opens a port: the composition root serves [`Metrics::render`].

mod logs;
mod metric_definitions;
mod recorder;

pub use logs::{LogFormat, install_logs};
pub use metric_definitions::{BYTES_BUCKETS, COUNT_BUCKETS, MILLISECONDS_BUCKETS, SECONDS_BUCKETS, TICKS_BUCKETS};
pub use recorder::Metrics;
