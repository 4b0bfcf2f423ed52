//! Installs what collects the process's logs and spans, and sends what the environment asks for.

use std::time::Duration;

use anyhow::Context;
use tracing_subscriber::Registry;

use crate::{
    LogFormat, Metrics,
    export::Exporter,
    logs::{self, LogGuard},
    settings::ExportSettings,
    trace,
};

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

/// Sends what is queued and writes what was logged when it is dropped, for two and a half seconds at most: to be held until the process ends.
#[must_use = "dropping it ends the export, and what is logged later may be lost"]
pub struct TelemetryGuard {
    exporter: Option<Exporter>,
    /// After the exporter, which logs what it could not send.
    _logs: LogGuard,
}

/// Installs the process's log collector alone. `filter` is in the syntax of `RUST_LOG`, for example `info,meridian_zone=debug`.
///
/// # Errors
/// The filter does not parse, a collector is installed already, or the system gives no thread.
pub fn install_logs(format: LogFormat, filter: &str) -> anyhow::Result<TelemetryGuard> {
    Ok(TelemetryGuard {
        exporter: None,
        _logs: logs::install(format, filter, None)?,
    })
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
    let logs = logs::install(options.log_format, &options.log_filter, span_layer)?;
    if let Some(queue) = exporter.as_ref().and_then(Exporter::queue) {
        // Only one log collector is ever installed, and so only one queue.
        trace::install_queue(queue.clone())
            .then_some(())
            .context("traces are exported already")?;
        trace::set_tracing(true);
    }
    Ok(TelemetryGuard { exporter, _logs: logs })
}

/// As [`install`], for a program that serves no metrics: they are collected only where the environment has them pushed, for without anybody to
/// push them to they would pile up. `describe` is called then, to tell what they mean and to count from zero.
///
/// # Errors
/// As those of [`install`], or metrics are collected already.
pub fn install_pushing(options: TelemetryOptions, describe: impl FnOnce()) -> anyhow::Result<TelemetryGuard> {
    let settings = ExportSettings::from_environment(options.service, &options.instance, options.push_metrics)?;
    let metrics = settings.has_metrics().then(Metrics::install).transpose()?;
    if metrics.is_some() {
        describe();
    }
    install(options, metrics.as_ref())
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
