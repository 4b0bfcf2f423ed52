//! The ledger of everything that runs for as long as the process does.
//!
//! Each entry has a name and its own [`Shutdown`]. An entry that ends before it was told to (by returning, failing or panicking)
//! ends the process: [`TaskLedger::run_until`] returns, and [`TaskLedger::shutdown`] stops the rest, the last started first, so
//! that nothing loses what it was started upon. What does not stop in time is reported by name.

use std::{
    any::Any,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::shutdown::Shutdown;

/// Names, starts and stops long-lived tasks and threads. Clones share the ledger.
#[derive(Clone, Debug, Default)]
pub struct TaskLedger {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    first_ended: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// Set by `shutdown`: from then on nothing starts, and an end is expected.
    closing: bool,
    entries: Vec<Entry>,
    first_end: Option<TaskEnd>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    stop: Shutdown,
    ended: CancellationToken,
}

impl TaskLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts an async task. `make` gets the signal that tells it to stop.
    ///
    /// # Errors
    /// The ledger is shutting down.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn<F>(&self, name: impl Into<String>, make: impl FnOnce(Shutdown) -> F) -> Result<(), SpawnError>
    where
        F: Future<Output: TaskResult> + Send + 'static,
    {
        let stop = Shutdown::new();
        let entry = self.open(name.into(), stop.clone())?;
        let task = tokio::spawn(make(stop));
        let ledger = self.clone();
        // The watcher is what turns a panic into an outcome; it ends with its task.
        tokio::spawn(async move {
            let outcome = match task.await {
                Ok(result) => result.outcome(),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => TaskOutcome::Panicked(panic_text(panic.as_ref())),
                    Err(error) => TaskOutcome::Failed(error.to_string()),
                },
            };
            ledger.close_entry(&entry, outcome);
        });
        Ok(())
    }

    /// Starts an OS thread under the entry's name. `body` gets the signal that tells it to stop.
    ///
    /// # Errors
    /// The ledger is shutting down, or the system has no thread to give.
    pub fn spawn_thread<R>(
        &self,
        name: impl Into<String>,
        body: impl FnOnce(Shutdown) -> R + Send + 'static,
    ) -> Result<(), SpawnError>
    where
        R: TaskResult,
    {
        let name = name.into();
        let stop = Shutdown::new();
        let thread_stop = stop.clone();
        if self.state().closing {
            return Err(SpawnError::Closing { name });
        }
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || body(thread_stop))
            .map_err(|source| SpawnError::Thread {
                name: name.clone(),
                source,
            })?;
        self.register_thread(name, thread, stop)
    }

    /// Takes over an OS thread that a role started itself. Giving `stop` must make the thread end: it polls the signal, or
    /// [`Shutdown::on_cancel`] wakes it.
    ///
    /// # Errors
    /// The ledger is shutting down (the thread is then told to stop at once), or there is no thread to watch it with.
    pub fn register_thread<R>(
        &self,
        name: impl Into<String>,
        thread: JoinHandle<R>,
        stop: Shutdown,
    ) -> Result<(), SpawnError>
    where
        R: TaskResult,
    {
        let name = name.into();
        let entry = match self.open(name.clone(), stop.clone()) {
            Ok(entry) => entry,
            Err(error) => {
                stop.cancel();
                return Err(error);
            }
        };
        let ledger = self.clone();
        // A thread that only joins: the one way to learn of a thread's end without asking again and again.
        std::thread::Builder::new()
            .name(format!("watch {name}"))
            .spawn(move || {
                let outcome = match thread.join() {
                    Ok(result) => result.outcome(),
                    Err(panic) => TaskOutcome::Panicked(panic_text(panic.as_ref())),
                };
                ledger.close_entry(&entry, outcome);
            })
            .map_err(|source| {
                stop.cancel();
                SpawnError::Thread { name, source }
            })?;
        Ok(())
    }

    /// Waits for the first of: an entry ends, or `request` (a signal, say) completes with its reason.
    pub async fn run_until(&self, request: impl Future<Output = String>) -> StopCause {
        tokio::select! {
            biased;
            () = self.inner.first_ended.cancelled() => {}
            reason = request => return StopCause::Requested(reason),
        }
        match self.state().first_end.clone() {
            Some(end) => StopCause::TaskEnded(end),
            None => StopCause::Requested("the ledger was closed".to_owned()),
        }
    }

    /// Stops everything, the last started first, each after the one before has ended or used up its share of what is left of the
    /// deadline. Returns once all have ended or the deadline has passed.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let began_at = Instant::now();
        let ends_at = began_at + deadline;
        let entries = self.close();
        for (index, entry) in entries.iter().enumerate() {
            tracing::debug!(task = entry.name, "stopping");
            entry.stop.cancel();
            let waiting_count = u32::try_from(entries.len() - index).unwrap_or(u32::MAX);
            let share = ends_at.saturating_duration_since(Instant::now()) / waiting_count;
            if timeout(share, entry.ended.cancelled()).await.is_err() {
                tracing::warn!(
                    task = entry.name,
                    share_ms = share.as_millis(),
                    "still running after its share"
                );
            }
        }
        let mut report = ShutdownReport {
            took: Duration::ZERO,
            still_running: Vec::new(),
        };
        for entry in entries {
            if timeout_at(ends_at, entry.ended.cancelled()).await.is_err() {
                report.still_running.push(entry.name);
            }
        }
        report.took = began_at.elapsed();
        report
    }

    /// The names of what runs now, in the order of their start.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let state = self.state();
        state
            .entries
            .iter()
            .filter(|entry| !entry.ended.is_cancelled())
            .map(|entry| entry.name.clone())
            .collect()
    }

    fn open(&self, name: String, stop: Shutdown) -> Result<Entry, SpawnError> {
        let mut state = self.state();
        if state.closing {
            return Err(SpawnError::Closing { name });
        }
        let entry = Entry {
            name,
            stop,
            ended: CancellationToken::new(),
        };
        state.entries.push(entry.clone());
        tracing::debug!(task = entry.name, "started");
        Ok(entry)
    }

    fn close_entry(&self, entry: &Entry, outcome: TaskOutcome) {
        {
            let mut state = self.state();
            let end = TaskEnd {
                name: entry.name.clone(),
                outcome,
            };
            // Told to stop and did: no news. Everything else is somebody's fault.
            match (&end.outcome, state.closing) {
                (TaskOutcome::Finished, true) => tracing::debug!(task = end.name, "stopped"),
                _ => tracing::error!(task = end.name, outcome = %end.outcome, "ended"),
            }
            if !state.closing && state.first_end.is_none() {
                state.first_end = Some(end);
                self.inner.first_ended.cancel();
            }
        }
        entry.ended.cancel();
    }

    /// Lets nothing start any more; returns the entries, the last started first.
    fn close(&self) -> Vec<Entry> {
        let mut state = self.state();
        state.closing = true;
        state.entries.iter().rev().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a task or thread may return: nothing, or a result whose error can be shown.
pub trait TaskResult: Send + 'static {
    /// How it ended.
    fn outcome(self) -> TaskOutcome;
}

impl TaskResult for () {
    fn outcome(self) -> TaskOutcome {
        TaskOutcome::Finished
    }
}

impl<E: fmt::Display + Send + 'static> TaskResult for Result<(), E> {
    fn outcome(self) -> TaskOutcome {
        match self {
            Ok(()) => TaskOutcome::Finished,
            // The alternate form is the whole chain for the errors that have one.
            Err(error) => TaskOutcome::Failed(format!("{error:#}")),
        }
    }
}

/// How a task or thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskOutcome {
    /// It returned.
    Finished,
    /// It returned an error.
    Failed(String),
    /// It panicked.
    Panicked(String),
}

impl fmt::Display for TaskOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => formatter.write_str("ended without being told to"),
            Self::Failed(error) => write!(formatter, "failed: {error}"),
            Self::Panicked(message) => write!(formatter, "panicked: {message}"),
        }
    }
}

/// The end of a named task or thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// Its name in the ledger.
    pub name: String,
    /// How it ended.
    pub outcome: TaskOutcome,
}

impl fmt::Display for TaskEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name, self.outcome)
    }
}

/// Why the process stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody asked for it; by what.
    Requested(String),
    /// A task or thread ended on its own.
    TaskEnded(TaskEnd),
}

/// What a shutdown came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// How long it took.
    pub took: Duration,
    /// What had not ended by the deadline, the last started first.
    pub still_running: Vec<String>,
}

/// Why something could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The ledger is shutting down.
    #[error("{name} was not started: shutting down")]
    Closing {
        /// What was to be started.
        name: String,
    },
    /// The system gave no thread.
    #[error("no thread for {name}: {source}")]
    Thread {
        /// What was to be started.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What a panic said, or that it said nothing.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::mpsc};

    use super::*;

    /// Long enough for any machine: a test that reaches it has failed.
    const AMPLE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn everything_stops_the_last_started_first() {
        let ledger = TaskLedger::new();
        let (order, stopped) = mpsc::channel();
        for name in ["admin", "zone"] {
            let order = order.clone();
            ledger.spawn(name, |stop| notes_its_stop(stop, order, name)).unwrap();
        }
        let (thread_order, name) = (order.clone(), "gateway");
        ledger
            .spawn_thread(name, move |stop| {
                let (wake, woken) = mpsc::channel();
                stop.on_cancel(move || wake.send(()).unwrap());
                woken.recv().unwrap();
                thread_order.send(name).unwrap();
            })
            .unwrap();
        assert_eq!(ledger.running(), ["admin", "zone", "gateway"]);
        let report = ledger.shutdown(AMPLE).await;
        assert!(report.still_running.is_empty() && report.took < AMPLE);
        assert_eq!(stopped.try_iter().collect::<Vec<_>>(), ["gateway", "zone", "admin"]);
        assert!(ledger.running().is_empty());
    }

    #[tokio::test]
    async fn each_way_to_end_is_told_with_the_name() {
        let (failed, finished) = (TaskLedger::new(), TaskLedger::new());
        failed.spawn("auth", |_| async { Err::<(), _>("no store") }).unwrap();
        finished.spawn("auth", |_| async {}).unwrap();
        assert_eq!(first_end(&failed).await, "auth failed: no store");
        assert_eq!(first_end(&finished).await, "auth ended without being told to");

        let (panicked, thread, thread_failed) = (TaskLedger::new(), TaskLedger::new(), TaskLedger::new());
        panicked
            .spawn("auth", |_| async { assert!(ahead(), "{}", "gone") })
            .unwrap();
        thread.spawn_thread("zone", |_| assert!(ahead(), "gone")).unwrap();
        thread_failed.spawn_thread("zone", |_| Err::<(), _>("overrun")).unwrap();
        assert_eq!(first_end(&panicked).await, "auth panicked: gone");
        assert_eq!(first_end(&thread).await, "zone panicked: gone");
        assert_eq!(first_end(&thread_failed).await, "zone failed: overrun");
    }

    #[tokio::test]
    async fn an_end_stops_the_rest() {
        let ledger = TaskLedger::new();
        let (order, stopped) = mpsc::channel();
        ledger
            .spawn("gateway", |stop| notes_its_stop(stop, order, "gateway"))
            .unwrap();
        ledger.spawn("zone", |_| async { Err::<(), _>("overrun") }).unwrap();
        let cause = ledger.run_until(pending()).await;
        assert!(matches!(cause, StopCause::TaskEnded(end) if end.name == "zone"));
        assert!(ledger.shutdown(AMPLE).await.still_running.is_empty());
        assert_eq!(stopped.recv(), Ok("gateway"));
    }

    #[tokio::test]
    async fn what_hangs_is_named_and_does_not_keep_the_rest_from_stopping() {
        let ledger = TaskLedger::new();
        let (order, stopped) = mpsc::channel();
        ledger
            .spawn("admin", |stop| notes_its_stop(stop, order, "admin"))
            .unwrap();
        ledger.spawn("stuck", |_| pending::<()>()).unwrap();
        let report = ledger.shutdown(Duration::from_millis(50)).await;
        assert_eq!(report.still_running, ["stuck"]);
        assert_eq!(stopped.try_recv(), Ok("admin"));
        assert!(report.took >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn a_request_is_told_from_an_end_and_nothing_starts_afterwards() {
        let ledger = TaskLedger::new();
        let cause = ledger.run_until(async { "SIGTERM".to_owned() }).await;
        assert_eq!(cause, StopCause::Requested("SIGTERM".to_owned()));
        ledger.shutdown(AMPLE).await;
        let error = ledger.spawn("late", |_| async {}).unwrap_err();
        assert_eq!(error.to_string(), "late was not started: shutting down");

        let stop = Shutdown::new();
        let thread = std::thread::spawn(|| ());
        assert!(ledger.register_thread("late", thread, stop.clone()).is_err());
        assert!(stop.is_cancelled());
    }

    /// False, where the compiler cannot see it.
    fn ahead() -> bool {
        std::hint::black_box(false)
    }

    async fn first_end(ledger: &TaskLedger) -> String {
        match ledger.run_until(pending()).await {
            StopCause::TaskEnded(end) => end.to_string(),
            StopCause::Requested(reason) => reason,
        }
    }

    async fn notes_its_stop(stop: Shutdown, order: mpsc::Sender<&'static str>, name: &'static str) {
        stop.cancelled().await;
        order.send(name).unwrap();
    }
}
