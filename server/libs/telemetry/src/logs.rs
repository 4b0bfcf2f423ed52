//! Logs: `tracing` events on standard error, for people or for programs.
//!
//! Who logs never waits for who reads standard error: a thread of its own writes what a bounded queue holds, at once and in order. What panics say
//! goes the same way.

mod line_queue;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
    panic::PanicHookInfo,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, prelude::*, registry, registry::LookupSpan};

use crate::metric_definitions;
use line_queue::LineQueue;

/// How long the end of a process may be held up by somebody who does not read its log.
const END_LIMIT: Duration = Duration::from_millis(500);

/// How long a thread that panics waits until that is written, for the process may end with it.
const PANIC_LIMIT: Duration = Duration::from_millis(100);

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

/// Writes what was logged when it is dropped, for half a second at most.
#[must_use = "dropping it ends the log"]
pub(crate) struct LogGuard {
    queue: LineQueue,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // What nobody has read by then ends with the process.
        let _ = self.queue.wait_until_written(END_LIMIT);
    }
}

/// Installs the process's log collector. `filter` does not hold for the layer beside the logs: what is traced does not depend on what
/// is logged.
///
/// # Errors
/// The filter does not parse, a collector is installed already, or the system gives no thread.
pub(crate) fn install(format: LogFormat, filter: &str, span_layer: Option<SpanLayer>) -> anyhow::Result<LogGuard> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter `{filter}`"))?;
    let is_terminal = std::io::stderr().is_terminal();
    metric_definitions::describe_logs();
    let guard = LogGuard {
        queue: LineQueue::start(std::io::stderr()).context("cannot start the thread that writes the log")?,
    };
    let queue = guard.queue.clone();
    // Alone, the filter stands before everything, and what it refuses costs nothing.
    match (span_layer, format) {
        (None, LogFormat::Pretty) => registry().with(filter).with(pretty(queue, is_terminal)).try_init(),
        (None, LogFormat::Json) => registry().with(filter).with(json(queue)).try_init(),
        (Some(spans), LogFormat::Pretty) => registry()
            .with(spans)
            .with(pretty(queue, is_terminal).with_filter(filter))
            .try_init(),
        (Some(spans), LogFormat::Json) => registry().with(spans).with(json(queue).with_filter(filter)).try_init(),
    }
    .context("cannot install the log collector")?;
    let queue = guard.queue.clone();
    std::panic::set_hook(Box::new(move |panic| tell_panic(&queue, panic)));
    Ok(guard)
}

fn pretty<S>(queue: LineQueue, is_terminal: bool) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fmt::layer().with_writer(queue).with_ansi(is_terminal)
}

fn json<S>(queue: LineQueue) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fmt::layer().with_writer(queue).json().flatten_event(true)
}

/// Says of a panic what the standard library would, behind what was logged before it, and without waiting for who does not read.
fn tell_panic(queue: &LineQueue, panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    let text = match backtrace.status() {
        BacktraceStatus::Captured => format!("\nthread '{name}' {panic}\nstack backtrace:\n{backtrace}\n"),
        _ => format!("\nthread '{name}' {panic}\n"),
    };
    queue.push(text.as_bytes());
    let _ = queue.wait_until_written(PANIC_LIMIT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_filter_is_quoted() {
        let error = install(LogFormat::Pretty, "meridian=loud", None).err().unwrap();
        assert_eq!(error.to_string(), "log filter `meridian=loud`");
    }
}
