//! Spans of traces as hot paths see them: ids, records, and a queue that takes them.
//!
//! Nothing here opens a socket, waits or allocates for a span that nobody wants: [`is_tracing`] is one relaxed load, and
//! [`record`] drops what does not fit.

mod context;
mod probe;
mod queue;
mod span;

pub use context::TraceContext;
pub use probe::{ProbeSpan, ProbeTrace};
pub use span::{AttributeValue, SpanKind, SpanRecord};

pub(crate) use queue::{QueuedSpan, SpanQueue, install_queue};

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether this process has an exporter. It turns true once at most, at the start, and false at the end.
static IS_TRACING: AtomicBool = AtomicBool::new(false);

/// Whether spans go anywhere: what costs something to know for a span need not be found out before this is true.
#[inline]
#[must_use]
pub fn is_tracing() -> bool {
    IS_TRACING.load(Ordering::Relaxed)
}

/// Hands a finished span over for export, if it is sampled or ended with an error.
///
/// Never blocks and never waits: a span that finds the queue full is dropped and counted. Without an exporter nothing happens.
pub fn record(span: SpanRecord) {
    if is_tracing()
        && span.is_wanted()
        && let Some(queue) = queue::installed()
    {
        queue.push(QueuedSpan::Record(span));
    }
}

pub(crate) fn set_tracing(is_tracing: bool) {
    IS_TRACING.store(is_tracing, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn nothing_is_taken_before_an_exporter_is_installed() {
        assert!(!is_tracing());
        let now = Instant::now();
        record(SpanRecord {
            context: TraceContext::new_root(true),
            parent: None,
            name: "test",
            kind: SpanKind::Internal,
            began: now,
            ended: now,
            attributes: Vec::new(),
            error: None,
        });
        assert!(queue::installed().is_none());
    }
}
