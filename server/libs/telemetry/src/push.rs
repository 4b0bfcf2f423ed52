//! Pushes the process's metrics to a collector: for programs that end before anybody scrapes them.

mod exposition;
mod translation;

use std::time::{Duration, Instant, SystemTime};

use metrics::Counter;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use crate::{
    Metrics,
    export::{FlushOrder, Transport},
    metric_definitions::METRIC_PUSHES,
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
    orders: mpsc::Receiver<FlushOrder>,
    began: SystemTime,
    is_failing: bool,
    done: Counter,
    failed: Counter,
}

impl PushWorker {
    pub(crate) fn new(
        settings: MetricSettings,
        resource: &Resource,
        metrics: Metrics,
        orders: mpsc::Receiver<FlushOrder>,
    ) -> Self {
        Self {
            settings,
            resource: resource.into(),
            metrics,
            orders,
            began: SystemTime::now(),
            is_failing: false,
            done: metrics::counter!(METRIC_PUSHES, "outcome" => "done"),
            failed: metrics::counter!(METRIC_PUSHES, "outcome" => "failed"),
        }
    }

    /// Pushes until nobody can order anything any more.
    pub(crate) async fn run(mut self) {
        let transport = match Transport::new(&self.settings.destination) {
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
            tokio::select! {
                _ = interval.tick() => {
                    self.push(&transport, self.settings.destination.timeout).await;
                }
                order = self.orders.recv() => {
                    let Some(order) = order else { return };
                    let is_done = self.push_until(&transport, order.deadline).await;
                    // Who asked may have gone.
                    let _ = order.done.try_send(is_done);
                }
            }
        }
    }

    async fn push_until(&mut self, transport: &Transport, deadline: Instant) -> bool {
        for _ in 0..ATTEMPTS_MAX {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return false;
            }
            if self
                .push(transport, self.settings.destination.timeout.min(remaining))
                .await
            {
                return true;
            }
            tokio::time::sleep(RETRY_PAUSE.min(remaining)).await;
        }
        false
    }

    /// Sends all metrics as they are now, and says when that begins to fail and when it works again.
    async fn push(&mut self, transport: &Transport, limit: Duration) -> bool {
        let translation = Translation {
            began: self.began,
            now: SystemTime::now(),
            resource: &self.resource,
        };
        let request = translation.to_request(&self.metrics.render());
        let endpoint = &self.settings.destination.endpoint;
        match transport.send_metrics(request, limit).await {
            Ok(_) => {
                self.done.increment(1);
                if self.is_failing {
                    tracing::info!(endpoint, "metrics are pushed again");
                }
                self.is_failing = false;
                true
            }
            Err(error) => {
                self.failed.increment(1);
                if !self.is_failing {
                    tracing::warn!(endpoint, %error, "metrics cannot be pushed");
                }
                self.is_failing = true;
                false
            }
        }
    }
}
