//! Installs what collects the process's logs and spans, and sends what the environment asks for.

use std::time::Duration;

use anyhow::Context;
use tracing_subscriber::Registry;

use crate::{LogFormat, Metrics, export::Exporter, logs::install_logs_with, settings::ExportSettings, trace};

/// How a process wants to be told of.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// What the program is, as `service.name`: for example `meridian-server`. `OTEL_SERVICE_NAME` overrides it.
    pub service: &'static str,
    /// Which of its processes it is, as `service.instance.id`.
    pub instance: String,
    /// How a log line looks.
    pub log_format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// Whether metrics are pushed as soon as there is an endpoint: for programs that end before anybody scrapes them.
    /// `OTEL_METRICS_EXPORTER` overrides it.
    pub push_metrics: bool,
}

/// Sends what is queued when it is dropped, for two seconds at most: to be held until the process ends.
#[must_use = "dropping it ends the export"]
pub struct TelemetryGuard {
    exporter: Option<Exporter>,
}

/// Installs the process's log collector and, if the environment names an endpoint, the export of traces and the push of `metrics`.
/// To be called once, before there is anything to tell, and after [`Metrics::install`]: it counts what it exports.
///
/// # Errors
/// A variable of the environment or the log filter is wrong, or a log collector is installed already.
pub fn install(options: TelemetryOptions, metrics: Option<&Metrics>) -> anyhow::Result<TelemetryGuard> {
    let settings = ExportSettings::from_environment(options.service, &options.instance, options.push_metrics)?;
    let exporter = Exporter::start(settings, metrics)?;
    let span_layer = exporter.as_ref().and_then(Exporter::span_layer::<Registry>);
    install_logs_with(options.log_format, &options.log_filter, span_layer)?;
    if let Some(queue) = exporter.as_ref().and_then(Exporter::queue) {
        // Only one log collector is ever installed, and so only one queue.
        trace::install_queue(queue.clone())
            .then_some(())
            .context("traces are exported already")?;
        trace::set_tracing(true);
    }
    Ok(TelemetryGuard { exporter })
}

impl TelemetryGuard {
    /// Sends everything that is queued and pushes the metrics. True if the collector has taken it all within the limit, or nothing is
    /// exported.
    pub fn flush(&self, limit: Duration) -> bool {
        self.exporter.as_ref().is_none_or(|exporter| exporter.flush(limit))
    }

    /// Whether anything is exported.
    #[must_use]
    pub fn is_exporting(&self) -> bool {
        self.exporter.is_some()
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        trace::set_tracing(false);
    }
}
