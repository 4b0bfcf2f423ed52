//! How a server process tells what it does: logs on standard error, metrics as Prometheus text, traces to a collector.
//!
//! Code logs through `tracing`, counts through the `metrics` facade and records spans through [`trace`] or `tracing`; this crate
//! only installs what collects them. It never opens a port: the composition root serves [`Metrics::render`].

mod export;
mod install;
mod logs;
mod metric_definitions;
mod push;
mod recorder;
mod settings;
pub mod span_definitions;
mod span_layer;
pub mod trace;

pub use export::Exporter;
pub use install::{TelemetryGuard, TelemetryOptions, install, install_logs, install_pushing};
pub use logs::LogFormat;
pub use metric_definitions::{BYTES_BUCKETS, COUNT_BUCKETS, MILLISECONDS_BUCKETS, SECONDS_BUCKETS, TICKS_BUCKETS};
pub use recorder::Metrics;
pub use settings::{ExportSettings, SettingsError};
pub use span_layer::{context_of, continue_from};
pub use trace::{AttributeValue, ProbeSpan, ProbeTrace, SpanKind, SpanRecord, TraceContext, is_tracing, record};
