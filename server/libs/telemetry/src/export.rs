//! Sends spans and metrics to a collector, from one thread of its own.
//!
//! Who records spans never waits for it: between them is one bounded queue, and what does not fit is dropped and counted. Nothing
//! outside of [`install`](crate::install) is global: a test may have an exporter of its own.

mod conversion;
mod send_error;
mod spans;
mod transport;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

pub(crate) use conversion::scope;
pub(crate) use send_error::SendError;
pub(crate) use transport::{Answer, Transport};

use crate::{
    Metrics, metric_definitions,
    push::PushWorker,
    settings::{ExportSettings, Sampling},
    span_layer,
    trace::{QueuedSpan, SpanQueue, SpanRecord},
};
use spans::SpanWorker;

/// How long the end of a process may be held up for what is still queued.
const END_LIMIT: Duration = Duration::from_secs(2);

/// How much of it there is for sending: in the rest what was not taken is counted and logged.
const END_SENDING_LIMIT: Duration = Duration::from_millis(1800);

/// Orders that wait. Flushes are rare, and one that finds no room says that it failed.
const ORDERS_MAX: usize = 8;

/// Requests over HTTP that are under way at once, with those whose caller has given up.
const BLOCKING_THREADS_MAX: usize = 4;

/// How far the exporter's thread stands back behind what the process is there for, as a nice value.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Whatever the process does is more urgent than telling of it. Elsewhere than on Linux a nice value is the whole process's.
fn stand_back() {
    #[cfg(target_os = "linux")]
    {
        // Nobody is refused less than there is.
        let _ = rustix::process::nice(NICE);
    }
}

/// The exporter's thread, and the queue before it. Dropping it exports what is queued, for two seconds at most.
pub struct Exporter {
    traces: Option<(SpanQueue, Sampling)>,
    workers: Vec<mpsc::Sender<FlushOrder>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread is through.
    finished: Receiver<()>,
}

/// Asks a worker to send everything now.
pub(crate) struct FlushOrder {
    pub(crate) hurry: Hurry,
    /// Whether everything was taken.
    pub(crate) done: SyncSender<bool>,
}

/// How much of a hurry somebody who waits is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hurry {
    /// After this nobody waits for the answer.
    pub(crate) deadline: Instant,
    /// Whether the process ends: a collector that is not there is not waited for.
    pub(crate) is_end: bool,
}

impl Hurry {
    /// Nobody waits any more.
    pub(crate) fn over() -> Self {
        Self {
            deadline: Instant::now(),
            is_end: true,
        }
    }
}

impl Exporter {
    /// Starts the thread, or nothing if the settings ask for nothing. Metrics are pushed of `metrics`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: ExportSettings, metrics: Option<&Metrics>) -> anyhow::Result<Option<Self>> {
        let push = settings.metrics.clone().zip(metrics.cloned());
        if settings.traces.is_none() && push.is_none() {
            return Ok(None);
        }
        metric_definitions::describe();
        let mut workers = Vec::new();
        let mut order_channel = || {
            let (sender, receiver) = mpsc::channel(ORDERS_MAX);
            workers.push(sender);
            receiver
        };
        let mut traces = None;
        let mut span_worker = None;
        if let Some(settings_of_traces) = settings.traces {
            let (queue, receiver) = SpanQueue::new(settings_of_traces.queue_length);
            traces = Some((queue, settings_of_traces.sampling));
            span_worker = Some(SpanWorker::new(
                settings_of_traces,
                &settings.resource,
                receiver,
                order_channel(),
            ));
        }
        let push_worker = push.map(|(settings_of_push, metrics)| {
            let worker = PushWorker::new(settings_of_push, &settings.resource, metrics);
            (worker, order_channel())
        });
        let (is_finished, finished) = sync_channel(0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("telemetry-http")
            .build()
            .context("cannot start the runtime of the telemetry exporter")?;
        let thread = std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || {
                let is_finished: SyncSender<()> = is_finished;
                stand_back();
                runtime.block_on(async {
                    let spans = async {
                        if let Some(worker) = span_worker {
                            worker.run().await;
                        }
                    };
                    let push = async {
                        if let Some((worker, orders)) = push_worker {
                            worker.run(orders).await;
                        }
                    };
                    tokio::join!(spans, push);
                });
                runtime.shutdown_background();
                drop(is_finished);
            })
            .context("cannot start the thread of the telemetry exporter")?;
        Ok(Some(Self {
            traces,
            workers,
            thread: Some(thread),
            finished,
        }))
    }

    /// Hands a finished span over, as [`trace::record`](crate::trace::record) does for the process's exporter.
    pub fn record(&self, span: SpanRecord) {
        if span.is_wanted()
            && let Some((queue, _)) = &self.traces
        {
            queue.push(QueuedSpan::Record(span));
        }
    }

    /// Spans that wait.
    #[must_use]
    pub fn queue_length(&self) -> usize {
        self.traces.as_ref().map_or(0, |(queue, _)| queue.len())
    }

    /// Hands spans of the `tracing` crate over, those of this project from `INFO` up; none if traces are not exported.
    #[must_use]
    pub fn span_layer<S>(&self) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let (queue, sampling) = self.traces.as_ref()?;
        Some(span_layer::new(queue.clone(), *sampling))
    }

    pub(crate) fn queue(&self) -> Option<&SpanQueue> {
        self.traces.as_ref().map(|(queue, _)| queue)
    }

    /// Sends everything that is queued and pushes the metrics. True if the collector has taken it all within the limit.
    pub fn flush(&self, limit: Duration) -> bool {
        self.order(Hurry {
            deadline: Instant::now() + limit,
            is_end: false,
        })
    }

    fn order(&self, hurry: Hurry) -> bool {
        let answers: Vec<Option<Receiver<bool>>> = self
            .workers
            .iter()
            .map(|worker| {
                // One place: the worker never waits for who asked.
                let (done, answer) = sync_channel(1);
                worker.try_send(FlushOrder { hurry, done }).ok().map(|()| answer)
            })
            .collect();
        answers.into_iter().fold(true, |is_done, answer| {
            let remaining = hurry.deadline.saturating_duration_since(Instant::now());
            let is_this_done = answer.and_then(|answer| answer.recv_timeout(remaining).ok());
            is_done && is_this_done.unwrap_or(false)
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let began = Instant::now();
        self.order(Hurry {
            deadline: began + END_SENDING_LIMIT,
            is_end: true,
        });
        // Workers end when there is nobody left to order anything.
        self.workers.clear();
        let remaining = END_LIMIT.saturating_sub(began.elapsed());
        let is_finished = self.finished.recv_timeout(remaining) == Err(RecvTimeoutError::Disconnected);
        // A thread that is not through yet is left behind: it ends with the process.
        if is_finished && let Some(thread) = self.thread.take() {
            // It can only have panicked, which the panic hook has said.
            let _ = thread.join();
        }
    }
}
