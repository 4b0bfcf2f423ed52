//! The worker that takes spans from the queue and sends them in batches.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use metrics::{Counter, Gauge, Histogram};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest, transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::Resource;
use tokio::{sync::mpsc, time::sleep_until};

use super::{
    Answer, FlushOrder, Hurry, SendError, Transport,
    conversion::{Anchor, to_resource_spans},
};
use crate::{
    metric_definitions::{
        EXPORT_FAILURES, EXPORT_SECONDS, QUEUE_LENGTH, REASON_EXPORT_FAILED, REASON_PROCESS_ENDED, SPANS_DROPPED,
        SPANS_EXPORTED,
    },
    settings::TraceSettings,
    trace::QueuedSpan,
};

/// How often the queue is looked at. Who records a span wakes nobody, which would cost a system call; with the default length of
/// the queue this is room for 160,000 spans a second.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often the queue's length is told, also while a batch is under way. Whoever reads metrics does so less often.
const MEASURE_INTERVAL: Duration = Duration::from_millis(100);

/// How often one batch is tried: with the pauses between over three seconds for a collector that refuses at once. By then others wait.
const ATTEMPTS_MAX: u32 = 5;

/// The first pause; each is twice the one before.
const BACKOFF: Duration = Duration::from_millis(200);

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Taken,
    TakenInPart,
    Dropped,
}

pub(super) struct SpanWorker {
    settings: TraceSettings,
    resource: ResourceAttributesWithSchema,
    queue: Receiver<QueuedSpan>,
    orders: mpsc::Receiver<FlushOrder>,
    /// An order that came while a batch was under way.
    pending: Option<FlushOrder>,
    /// Somebody waits: what the order under way, or the pending one, asks for.
    hurry: Option<Hurry>,
    /// The collector asked to be left alone until then.
    not_before: Option<Instant>,
    is_failing: bool,
    is_refused_in_part: bool,
    /// Spans of batches that were given up because the process ends.
    dropped_at_end: u64,
    meters: SpanMeters,
}

/// Looked up where the exporter is started, so that a test's own recorder has them.
struct SpanMeters {
    exported: Counter,
    dropped: Counter,
    left: Counter,
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
            hurry: None,
            not_before: None,
            is_failing: false,
            is_refused_in_part: false,
            dropped_at_end: 0,
            meters: SpanMeters {
                exported: metrics::counter!(SPANS_EXPORTED),
                dropped: metrics::counter!(SPANS_DROPPED, "reason" => REASON_EXPORT_FAILED),
                left: metrics::counter!(SPANS_DROPPED, "reason" => REASON_PROCESS_ENDED),
                failures: metrics::counter!(EXPORT_FAILURES),
                seconds: metrics::histogram!(EXPORT_SECONDS),
                queue_length: metrics::gauge!(QUEUE_LENGTH),
            },
        }
    }

    /// Exports until nobody can order anything any more.
    pub(super) async fn run(self) {
        // Beside the export, which stands still while a collector does.
        let measuring = measure(self.queue.clone(), self.meters.queue_length.clone());
        tokio::select! {
            () = self.export() => {}
            () = measuring => {}
        }
    }

    async fn export(mut self) {
        let mut transport = match Transport::new(&self.settings.destination) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::error!(%error, "spans cannot be exported");
                return;
            }
        };
        let mut waiting_since = None;
        loop {
            let pause = if self.is_due(&mut waiting_since) {
                self.export_batch(&mut transport).await;
                waiting_since = None;
                Duration::ZERO
            } else {
                POLL_INTERVAL.min(self.settings.delay)
            };
            let order = match self.pending.take() {
                Some(order) => Some(order),
                None => match tokio::time::timeout(pause, self.orders.recv()).await {
                    Ok(Some(order)) => Some(order),
                    Ok(None) => break,
                    Err(_) => None,
                },
            };
            if let Some(order) = order {
                self.flush(&mut transport, order).await;
                waiting_since = None;
            }
        }
        self.end();
    }

    /// Whether a batch is full, or its first span has waited for long enough, and the collector does not want to be left alone.
    fn is_due(&self, waiting_since: &mut Option<Instant>) -> bool {
        if self.queue.is_empty() {
            *waiting_since = None;
            return false;
        }
        let now = Instant::now();
        let since = *waiting_since.get_or_insert(now);
        let is_long_enough = now.saturating_duration_since(since) >= self.settings.delay;
        self.is_welcome() && (is_long_enough || self.queue.len() >= self.settings.batch_length)
    }

    /// Exports what is queued now: what comes meanwhile waits for its turn, or a busy process would never be through.
    async fn flush(&mut self, transport: &mut Transport, order: FlushOrder) {
        self.hurry = Some(order.hurry);
        let mut remaining = self.queue.len();
        let mut is_done = true;
        while remaining > 0 {
            let is_in_time = self.pause(Duration::ZERO, order.hurry.deadline).await;
            let outcome = if is_in_time {
                self.export_batch(transport).await
            } else {
                Outcome::Dropped
            };
            is_done = is_done && outcome == Outcome::Taken;
            if outcome == Outcome::Dropped {
                break;
            }
            remaining = remaining.saturating_sub(self.settings.batch_length);
        }
        self.hurry = None;
        self.meters.queue_length.set(self.queue.len() as f64);
        // Who asked may have gone.
        let _ = order.done.try_send(is_done);
    }

    /// Sends one batch, if there is anything to send.
    async fn export_batch(&mut self, transport: &mut Transport) -> Outcome {
        let batch: Vec<QueuedSpan> = self.queue.try_iter().take(self.settings.batch_length).collect();
        if batch.is_empty() {
            return Outcome::Taken;
        }
        let count = batch.len() as u64;
        let request = ExportTraceServiceRequest {
            resource_spans: to_resource_spans(batch, &self.resource, Anchor::now()),
        };
        let mut deadline = Instant::now() + self.settings.batch_timeout;
        for attempt in 1..=ATTEMPTS_MAX {
            match self.attempt(transport, request.clone(), deadline).await {
                Ok(answer) => return self.count_taken(count, &answer),
                // Nobody will have come by the time that the process has ended.
                Err(error) if !error.is_retryable || (error.is_unreachable && self.is_ending()) => break,
                Err(error) => {
                    if let Some(asked) = error.retry_after {
                        self.not_before = Some(Instant::now() + asked);
                        // The time that the collector takes for itself is not the batch's.
                        deadline += asked;
                    }
                }
            }
            if attempt == ATTEMPTS_MAX || !self.pause(BACKOFF * 2_u32.pow(attempt - 1), deadline).await {
                break;
            }
        }
        self.meters.dropped.increment(count);
        if self.is_ending() {
            self.dropped_at_end += count;
        }
        Outcome::Dropped
    }

    /// Counts what a collector took of a batch, and says when it begins to refuse a part.
    fn count_taken(&mut self, count: u64, answer: &Answer) -> Outcome {
        let rejected = answer.rejected.min(count);
        self.meters.dropped.increment(rejected);
        self.meters.exported.increment(count - rejected);
        let is_refused_in_part = rejected > 0;
        if is_refused_in_part && !self.is_refused_in_part {
            tracing::warn!(
                endpoint = self.settings.destination.endpoint,
                rejected,
                message = answer.message,
                "the collector refuses a part of the spans; they are dropped"
            );
        }
        self.is_refused_in_part = is_refused_in_part;
        if is_refused_in_part {
            Outcome::TakenInPart
        } else {
            Outcome::Taken
        }
    }

    /// Tries once, and says when it begins to fail and when it works again.
    async fn attempt(
        &mut self,
        transport: &mut Transport,
        request: ExportTraceServiceRequest,
        deadline: Instant,
    ) -> Result<Answer, SendError> {
        let began = Instant::now();
        let result = self.send(transport, request, deadline).await;
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
                        attempts_max = ATTEMPTS_MAX,
                        "spans cannot be exported; a batch that is refused or was tried in vain is dropped"
                    );
                }
            }
        }
        result
    }

    /// The collector's answer, if it comes in time. The process's end makes the time shorter.
    async fn send(
        &mut self,
        transport: &mut Transport,
        request: ExportTraceServiceRequest,
        deadline: Instant,
    ) -> Result<Answer, SendError> {
        let began = Instant::now();
        let own_limit = deadline.min(began + self.settings.destination.timeout);
        {
            let sending = transport.send_spans(request);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut sending => return answer,
                    () = sleep_until(self.or_hurry(own_limit).into()) => {
                        if !self.give_up_order() {
                            break;
                        }
                    }
                    order = self.orders.recv(), if self.hurry.is_none() => self.hear(order),
                }
            }
        }
        transport.renew();
        Err(SendError::late(began.elapsed()))
    }

    /// Waits before the next attempt; false if there is no time for one. An order ends the wait, unless the collector asked for it.
    async fn pause(&mut self, backoff: Duration, deadline: Instant) -> bool {
        let own_end = Instant::now() + backoff;
        let mut end = self.not_before.map_or(own_end, |asked| asked.max(own_end));
        loop {
            tokio::select! {
                biased;
                () = sleep_until(self.or_hurry(end.min(deadline)).into()) => {
                    if !self.give_up_order() {
                        break;
                    }
                }
                order = self.orders.recv(), if self.hurry.is_none() => {
                    self.hear(order);
                    match self.not_before {
                        Some(asked) if !self.is_welcome() => end = asked,
                        _ => break,
                    }
                }
            }
        }
        let now = Instant::now();
        self.is_welcome() && now < deadline && self.hurry.is_none_or(|hurry| now < hurry.deadline)
    }

    /// Notes an order that comes while a batch is under way, or that there will be none any more.
    fn hear(&mut self, order: Option<FlushOrder>) {
        self.hurry = Some(order.as_ref().map_or_else(Hurry::over, |order| order.hurry));
        self.pending = order;
    }

    /// The earlier of a limit and of the end of the patience of whoever waits.
    fn or_hurry(&self, limit: Instant) -> Instant {
        self.hurry.map_or(limit, |hurry| limit.min(hurry.deadline))
    }

    /// Tells somebody whose patience is over that not everything was taken; the batch under way keeps its time, unless the process ends.
    fn give_up_order(&mut self) -> bool {
        let is_over = |hurry: &Hurry| !hurry.is_end && Instant::now() >= hurry.deadline;
        if self.hurry.take_if(|hurry| is_over(hurry)).is_none() {
            return false;
        }
        if let Some(order) = self.pending.take() {
            // Who asked may have gone.
            let _ = order.done.try_send(false);
        }
        true
    }

    /// Whether the time is over that the collector asked for.
    fn is_welcome(&self) -> bool {
        self.not_before.is_none_or(|asked| Instant::now() >= asked)
    }

    fn is_ending(&self) -> bool {
        self.hurry.is_some_and(|hurry| hurry.is_end)
    }

    /// Counts what is left, and says what the process's end has cost.
    fn end(self) {
        let left = self.queue.try_iter().count() as u64;
        self.meters.left.increment(left);
        self.meters.queue_length.set(0.0);
        let lost = left + self.dropped_at_end;
        if lost > 0 {
            tracing::warn!(
                endpoint = self.settings.destination.endpoint,
                lost,
                "the process ends before its last spans are exported"
            );
        }
    }
}

/// Tells the queue's length for ever.
async fn measure(queue: Receiver<QueuedSpan>, gauge: Gauge) {
    loop {
        gauge.set(queue.len() as f64);
        tokio::time::sleep(MEASURE_INTERVAL).await;
    }
}
