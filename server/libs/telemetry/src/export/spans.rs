//! The worker that takes spans from the queue and sends them in batches.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use metrics::{Counter, Gauge, Histogram};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest, transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::Resource;
use tokio::sync::mpsc;

use super::{
    FlushOrder, SendError, Transport,
    conversion::{Anchor, to_resource_spans},
};
use crate::{
    metric_definitions::{
        EXPORT_FAILURES, EXPORT_SECONDS, QUEUE_LENGTH, REASON_EXPORT_FAILED, SPANS_DROPPED, SPANS_EXPORTED,
    },
    settings::TraceSettings,
    trace::QueuedSpan,
};

/// How often the queue is looked at. Who records a span wakes nobody, which would cost a system call; with the default length of
/// the queue this is room for 160,000 spans a second.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often one batch is tried: over three seconds with the pauses between. By then others wait.
const ATTEMPTS_MAX: u32 = 5;

/// The first pause; each is twice the one before.
const BACKOFF: Duration = Duration::from_millis(200);

pub(super) struct SpanWorker {
    settings: TraceSettings,
    resource: ResourceAttributesWithSchema,
    queue: Receiver<QueuedSpan>,
    orders: mpsc::Receiver<FlushOrder>,
    /// An order that came while a batch was under way.
    pending: Option<FlushOrder>,
    is_failing: bool,
    meters: SpanMeters,
}

/// Looked up where the exporter is started, so that a test's own recorder has them.
struct SpanMeters {
    exported: Counter,
    dropped: Counter,
    failures: Counter,
    seconds: Histogram,
    queue_length: Gauge,
}

impl SpanWorker {
    pub(super) fn new(
        settings: TraceSettings,
        resource: &Resource,
        queue: Receiver<QueuedSpan>,
        orders: mpsc::Receiver<FlushOrder>,
    ) -> Self {
        Self {
            settings,
            resource: resource.into(),
            queue,
            orders,
            pending: None,
            is_failing: false,
            meters: SpanMeters {
                exported: metrics::counter!(SPANS_EXPORTED),
                dropped: metrics::counter!(SPANS_DROPPED, "reason" => REASON_EXPORT_FAILED),
                failures: metrics::counter!(EXPORT_FAILURES),
                seconds: metrics::histogram!(EXPORT_SECONDS),
                queue_length: metrics::gauge!(QUEUE_LENGTH),
            },
        }
    }

    /// Exports until nobody can order anything any more.
    pub(super) async fn run(mut self) {
        let transport = match Transport::new(&self.settings.destination) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::error!(%error, "spans cannot be exported");
                return;
            }
        };
        let mut waiting_since = None;
        loop {
            self.meters.queue_length.set(self.queue.len() as f64);
            let pause = if self.is_due(&mut waiting_since) {
                self.export_batch(&transport, None).await;
                waiting_since = None;
                Duration::ZERO
            } else {
                POLL_INTERVAL.min(self.settings.delay)
            };
            let order = match self.pending.take() {
                Some(order) => Some(order),
                None => match tokio::time::timeout(pause, self.orders.recv()).await {
                    Ok(Some(order)) => Some(order),
                    Ok(None) => return,
                    Err(_) => None,
                },
            };
            if let Some(order) = order {
                self.flush(&transport, order).await;
                waiting_since = None;
            }
        }
    }

    /// Whether a batch is full, or its first span has waited for long enough.
    fn is_due(&self, waiting_since: &mut Option<Instant>) -> bool {
        if self.queue.is_empty() {
            *waiting_since = None;
            return false;
        }
        let now = Instant::now();
        let since = *waiting_since.get_or_insert(now);
        self.queue.len() >= self.settings.batch_length || now.saturating_duration_since(since) >= self.settings.delay
    }

    /// Exports what is queued now: what comes meanwhile waits for its turn, or a busy process would never be through.
    async fn flush(&mut self, transport: &Transport, order: FlushOrder) {
        let mut remaining = self.queue.len();
        let mut is_done = true;
        while remaining > 0 && is_done {
            let is_in_time = Instant::now() < order.deadline;
            is_done = is_in_time && self.export_batch(transport, Some(order.deadline)).await;
            remaining = remaining.saturating_sub(self.settings.batch_length);
        }
        self.meters.queue_length.set(self.queue.len() as f64);
        // Who asked may have gone.
        let _ = order.done.try_send(is_done);
    }

    /// Sends one batch; false if it was dropped. After the deadline it is not tried again.
    async fn export_batch(&mut self, transport: &Transport, mut deadline: Option<Instant>) -> bool {
        let batch: Vec<QueuedSpan> = self.queue.try_iter().take(self.settings.batch_length).collect();
        if batch.is_empty() {
            return true;
        }
        let count = batch.len() as u64;
        let request = ExportTraceServiceRequest {
            resource_spans: to_resource_spans(batch, &self.resource, Anchor::now()),
        };
        for attempt in 0..ATTEMPTS_MAX {
            match self.attempt(transport, request.clone(), deadline).await {
                Ok(rejected) => {
                    self.meters.dropped.increment(rejected.min(count));
                    self.meters.exported.increment(count.saturating_sub(rejected));
                    return true;
                }
                Err(error) if !error.is_retryable => break,
                Err(_) => {}
            }
            self.meters.queue_length.set(self.queue.len() as f64);
            let is_last = attempt + 1 == ATTEMPTS_MAX;
            if is_last || !self.pause(BACKOFF * 2_u32.pow(attempt), &mut deadline).await {
                break;
            }
        }
        self.meters.dropped.increment(count);
        false
    }

    /// Tries once, and says when it begins to fail and when it works again.
    async fn attempt(
        &mut self,
        transport: &Transport,
        request: ExportTraceServiceRequest,
        deadline: Option<Instant>,
    ) -> Result<u64, SendError> {
        let began = Instant::now();
        let remaining = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(began));
        let limit = self.settings.destination.timeout.min(remaining);
        let result = transport.send_spans(request, limit).await;
        self.meters.seconds.record(began.elapsed().as_secs_f64());
        match &result {
            Ok(_) if self.is_failing => {
                self.is_failing = false;
                tracing::info!(
                    endpoint = self.settings.destination.endpoint,
                    "spans are exported again"
                );
            }
            Ok(_) => {}
            Err(error) => {
                self.meters.failures.increment(1);
                if !self.is_failing {
                    self.is_failing = true;
                    tracing::warn!(
                        endpoint = self.settings.destination.endpoint,
                        %error,
                        "spans cannot be exported; they are dropped when the queue is full"
                    );
                }
            }
        }
        result
    }

    /// Waits before the next attempt; false if there is no time for one. An order ends the wait: who gave it is in a hurry.
    async fn pause(&mut self, backoff: Duration, deadline: &mut Option<Instant>) -> bool {
        let now = Instant::now();
        if let Some(deadline) = *deadline {
            tokio::time::sleep(backoff.min(deadline.saturating_duration_since(now))).await;
            return Instant::now() < deadline;
        }
        match tokio::time::timeout(backoff, self.orders.recv()).await {
            Err(_) => true,
            Ok(Some(order)) => {
                *deadline = Some(order.deadline);
                self.pending = Some(order);
                true
            }
            Ok(None) => false,
        }
    }
}
