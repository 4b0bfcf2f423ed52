//! Logs: `tracing` events on standard error, for people or for programs.

use std::io::IsTerminal;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

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
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter `{filter}`"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Pretty => registry
            .with(layer.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .context("cannot install the log collector")
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
