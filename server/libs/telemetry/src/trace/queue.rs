//! The one queue between whoever has a span and the thread that exports it: bounded, and never waited for.

use std::sync::OnceLock;

use crossbeam_channel::{Receiver, Sender, bounded};
use metrics::Counter;
use opentelemetry_sdk::trace::SpanData;

use crate::{
    metric_definitions::{REASON_QUEUE_FULL, SPANS_DROPPED},
    trace::SpanRecord,
};

static INSTALLED: OnceLock<SpanQueue> = OnceLock::new();

/// A span that waits for its export.
#[derive(Debug)]
pub(crate) enum QueuedSpan {
    /// From [`record`](crate::trace::record).
    Record(SpanRecord),
    /// From a span of the `tracing` crate.
    Finished(Box<SpanData>),
}

/// Places beyond those that are filled, more than there are threads that record at once. In a channel that is full a sender would spin until the
/// receiver is through with the place that it is reading, and the receiver may be a thread that the sender keeps from running.
const SPARE: usize = 64;

/// The sending side of the queue. Clones are the same.
#[derive(Clone)]
pub(crate) struct SpanQueue {
    sender: Sender<QueuedSpan>,
    length: usize,
    dropped: Counter,
}

impl SpanQueue {
    /// A queue of at most `length` spans, and its other side.
    pub(crate) fn new(length: usize) -> (Self, Receiver<QueuedSpan>) {
        let (sender, receiver) = bounded(length + SPARE);
        let dropped = metrics::counter!(SPANS_DROPPED, "reason" => REASON_QUEUE_FULL);
        let queue = Self {
            sender,
            length,
            dropped,
        };
        (queue, receiver)
    }

    /// Hands a span over; one that does not fit is dropped and counted. Nobody is woken: the exporter looks for itself.
    pub(crate) fn push(&self, span: QueuedSpan) {
        if self.len() >= self.length || self.sender.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }

    /// Spans that wait.
    pub(crate) fn len(&self) -> usize {
        self.sender.len()
    }
}

impl std::fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanQueue").field("length", &self.len()).finish()
    }
}

/// Makes a queue the process's, once; false if there is one.
pub(crate) fn install_queue(queue: SpanQueue) -> bool {
    INSTALLED.set(queue).is_ok()
}

pub(super) fn installed() -> Option<&'static SpanQueue> {
    INSTALLED.get()
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::trace::{SpanKind, TraceContext};

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (queue, receiver) = metrics::with_local_recorder(&recorder, || SpanQueue::new(3));
        let now = std::time::Instant::now();
        for _ in 0..10 {
            queue.push(QueuedSpan::Record(SpanRecord {
                context: TraceContext::new_root(true),
                parent: None,
                name: "test",
                kind: SpanKind::Internal,
                began: now,
                ended: now,
                attributes: Vec::new(),
                error: None,
            }));
        }
        assert_eq!((queue.len(), receiver.len()), (3, 3));
        let text = recorder.handle().render();
        assert!(
            text.contains("meridian_telemetry_spans_dropped_total{reason=\"queue_full\"} 7"),
            "{text}"
        );
    }
}
