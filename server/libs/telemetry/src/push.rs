//! Pushes the process's metrics to a collector: for programs that end before anybody scrapes them.

mod exposition;
mod translation;

use std::time::{Duration, Instant, SystemTime};

use metrics::Counter;
use opentelemetry_proto::{
    tonic::{collector::metrics::v1::ExportMetricsServiceRequest, metrics::v1::metric::Data},
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::Resource;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::{
    Metrics,
    export::{Answer, FlushOrder, Hurry, SendError, Transport},
    metric_definitions::{METRIC_POINTS_REFUSED, METRIC_PUSHES},
    settings::MetricSettings,
};
use translation::Translation;

/// The pause before a push is tried again because somebody waits for it. Others are not tried again: the next says as much.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How often a push that somebody waits for is tried.
const ATTEMPTS_MAX: u32 = 5;

/// Renders and sends all metrics, at an interval and when it is told to.
pub(crate) struct PushWorker {
    settings: MetricSettings,
    resource: ResourceAttributesWithSchema,
    metrics: Metrics,
    began: SystemTime,
    /// The collector asked to be left alone until then.
    not_before: Option<Instant>,
    is_failing: bool,
    is_refused_in_part: bool,
    done: Counter,
    failed: Counter,
    refused: Counter,
}

impl PushWorker {
    pub(crate) fn new(settings: MetricSettings, resource: &Resource, metrics: Metrics) -> Self {
        Self {
            settings,
            resource: resource.into(),
            metrics,
            began: SystemTime::now(),
            not_before: None,
            is_failing: false,
            is_refused_in_part: false,
            done: metrics::counter!(METRIC_PUSHES, "outcome" => "done"),
            failed: metrics::counter!(METRIC_PUSHES, "outcome" => "failed"),
            refused: metrics::counter!(METRIC_POINTS_REFUSED),
        }
    }

    /// Pushes until nobody can order anything any more.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<FlushOrder>) {
        let mut transport = match Transport::new(&self.settings.destination) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::error!(%error, "metrics cannot be pushed");
                return;
            }
        };
        let mut interval = tokio::time::interval(self.settings.interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval.reset();
        loop {
            let order = tokio::select! {
                _ = interval.tick() => {
                    if !self.is_welcome() {
                        continue;
                    }
                    let timeout = self.settings.destination.timeout;
                    tokio::select! {
                        _ = self.push(&mut transport, timeout) => continue,
                        // Its own push says as much, and somebody waits for that.
                        order = orders.recv() => order,
                    }
                }
                order = orders.recv() => order,
            };
            let Some(order) = order else { return };
            let is_done = self.push_until(&mut transport, order.hurry).await;
            // Who asked may have gone.
            let _ = order.done.try_send(is_done);
        }
    }

    /// Whether the time is over that the collector asked for.
    fn is_welcome(&self) -> bool {
        self.not_before.is_none_or(|asked| Instant::now() >= asked)
    }

    /// Pushes until it is taken or nobody waits any more; true if all was taken.
    async fn push_until(&mut self, transport: &mut Transport, hurry: Hurry) -> bool {
        let mut not_before = Instant::now();
        for _ in 0..ATTEMPTS_MAX {
            let start = self.not_before.map_or(not_before, |asked| asked.max(not_before));
            if start >= hurry.deadline {
                return false;
            }
            tokio::time::sleep_until(start.into()).await;
            let remaining = hurry.deadline.saturating_duration_since(Instant::now());
            let limit = self.settings.destination.timeout.min(remaining);
            match self.push(transport, limit).await {
                Ok(answer) => return answer.rejected == 0,
                // Nobody will have come by the time that the process has ended.
                Err(error) if !error.is_retryable || (error.is_unreachable && hurry.is_end) => return false,
                Err(_) => not_before = Instant::now() + RETRY_PAUSE,
            }
        }
        false
    }

    /// Sends all metrics as they are now, and says when that begins to fail and when it works again.
    async fn push(&mut self, transport: &mut Transport, limit: Duration) -> Result<Answer, SendError> {
        let translation = Translation {
            began: self.began,
            now: SystemTime::now(),
            resource: &self.resource,
        };
        let request = translation.to_request(&self.metrics.render());
        let count = count_points(&request);
        let result = match tokio::time::timeout(limit, transport.send_metrics(request)).await {
            Ok(result) => result,
            Err(_) => {
                transport.renew();
                Err(SendError::late(limit))
            }
        };
        let endpoint = &self.settings.destination.endpoint;
        match &result {
            Ok(answer) => {
                self.done.increment(1);
                if self.is_failing {
                    tracing::info!(endpoint, "metrics are pushed again");
                }
                self.is_failing = false;
                self.count_refused(count, answer);
            }
            Err(error) => {
                self.failed.increment(1);
                self.not_before = error.retry_after.map(|asked| Instant::now() + asked);
                if !self.is_failing {
                    tracing::warn!(endpoint, %error, "metrics cannot be pushed");
                }
                self.is_failing = true;
            }
        }
        result
    }

    /// Counts the points that a collector refused of a push that it took, and says when that begins.
    fn count_refused(&mut self, count: u64, answer: &Answer) {
        let rejected = answer.rejected.min(count);
        self.refused.increment(rejected);
        if rejected > 0 && !self.is_refused_in_part {
            tracing::warn!(
                endpoint = self.settings.destination.endpoint,
                rejected,
                count,
                message = answer.message,
                "the collector refuses a part of the metrics"
            );
        }
        self.is_refused_in_part = rejected > 0;
    }
}

/// Points that a request has.
fn count_points(request: &ExportMetricsServiceRequest) -> u64 {
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    let data = scopes
        .flat_map(|scope| &scope.metrics)
        .filter_map(|metric| metric.data.as_ref());
    let counts = data.map(|data| match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    });
    counts.sum::<usize>() as u64
}
