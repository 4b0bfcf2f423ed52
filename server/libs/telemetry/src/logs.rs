//! Logs: `tracing` events on standard error, for people or for programs.

use std::io::IsTerminal;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, prelude::*, registry, registry::LookupSpan};

/// A layer for spans.
pub(crate) type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people, in colour on a terminal.
    #[default]
    Pretty,
    /// One JSON object a line, the fields flattened.
    Json,
}

/// Installs the process's log collector. `filter` is in the syntax of `RUST_LOG`, for example `info,meridian_zone=debug`.
///
/// # Errors
/// The filter does not parse, or a collector is installed already.
pub fn install_logs(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    install_logs_with(format, filter, None)
}

/// As [`install_logs`], with a layer beside the logs that `filter` does not hold for: what is traced does not depend on what is
/// logged.
pub(crate) fn install_logs_with(format: LogFormat, filter: &str, span_layer: Option<SpanLayer>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter `{filter}`"))?;
    let is_terminal = std::io::stderr().is_terminal();
    // Alone, the filter stands before everything, and what it refuses costs nothing.
    match (span_layer, format) {
        (None, LogFormat::Pretty) => registry().with(filter).with(pretty(is_terminal)).try_init(),
        (None, LogFormat::Json) => registry().with(filter).with(json()).try_init(),
        (Some(spans), LogFormat::Pretty) => registry()
            .with(spans)
            .with(pretty(is_terminal).with_filter(filter))
            .try_init(),
        (Some(spans), LogFormat::Json) => registry().with(spans).with(json().with_filter(filter)).try_init(),
    }
    .context("cannot install the log collector")
}

fn pretty<S>(is_terminal: bool) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal)
}

fn json<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fmt::layer().with_writer(std::io::stderr).json().flatten_event(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_filter_is_quoted() {
        let error = install_logs(LogFormat::Pretty, "meridian=loud").unwrap_err();
        assert_eq!(error.to_string(), "log filter `meridian=loud`");
    }
}
