//! The one queue between whoever logs and the thread that writes: bounded, and never waited for.
//!
//! A line that finds it full is dropped and counted. Nothing here takes a lock: who ticks must not wait for a thread that the system lets wait.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use metrics::Counter;
use tracing_subscriber::fmt::MakeWriter;

use crate::metric_definitions::LOG_LINES_DROPPED;

/// Bytes of lines that wait at most: some thousand lines, and little beside what a server has anyway.
const BYTES_MAX: usize = 1 << 20;

/// Lines that wait at most: as many as have room if they have 128 bytes, as most have.
const LINES_MAX: usize = 8_192;

/// Places beyond those that are filled, more than there are threads that log at once: in a channel that is full a sender would spin, as in the
/// queue of spans.
const SPARE: usize = 64;

/// How often who waits for the writer looks how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The side that logs. Clones are the same.
#[derive(Clone)]
pub(super) struct LineQueue {
    lines: Sender<Vec<u8>>,
    /// Of lines that are not written yet.
    waiting_bytes: Arc<AtomicUsize>,
    writer: Thread,
    dropped: Counter,
}

impl LineQueue {
    /// A queue, and the thread that writes its lines to `out`, each at once. The thread ends with the process.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, lines) = bounded(LINES_MAX + SPARE);
        let waiting_bytes = Arc::<AtomicUsize>::default();
        let of_writer = Arc::clone(&waiting_bytes);
        let writer = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&lines, &of_writer, out))?;
        Ok(Self {
            lines: sender,
            waiting_bytes,
            writer: writer.thread().clone(),
            dropped: metrics::counter!(LOG_LINES_DROPPED),
        })
    }

    /// Hands a line over; one that does not fit is dropped and counted.
    pub(super) fn push(&self, line: &[u8]) {
        // Counted before it is there: the writer takes it off.
        let before = self.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let has_room = before.saturating_add(line.len()) <= BYTES_MAX && self.lines.len() < LINES_MAX;
        if has_room && self.lines.try_send(line.to_vec()).is_ok() {
            self.writer.unpark();
        } else {
            self.waiting_bytes.fetch_sub(line.len(), Ordering::Release);
            self.dropped.increment(1);
        }
    }

    /// Waits until nothing waits any more; false if that takes longer than `limit`.
    pub(super) fn wait_until_written(&self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.waiting_bytes.load(Ordering::Acquire) > 0 {
            if began.elapsed() >= limit {
                return false;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        true
    }
}

/// Takes what is written as one line, and always all of it.
impl Write for &LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

fn write_lines(lines: &Receiver<Vec<u8>>, waiting_bytes: &AtomicUsize, mut out: impl Write) {
    loop {
        match lines.try_recv() {
            Ok(line) => {
                // If nobody reads any more, there is nobody else to tell.
                let _ = out.write_all(&line).and_then(|()| out.flush());
                waiting_bytes.fetch_sub(line.len(), Ordering::Release);
            }
            // Not waited for in the channel: who sends would then take its lock to wake this thread.
            Err(TryRecvError::Empty) => thread::park(),
            Err(TryRecvError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        sync::Mutex,
    };

    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

    use super::*;

    /// What does not happen for so long does not happen.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn start(out: impl Write + Send + 'static) -> (LineQueue, PrometheusHandle) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let queue = metrics::with_local_recorder(&recorder, || LineQueue::start(out).unwrap());
        (queue, recorder.handle())
    }

    fn dropped(counts: &PrometheusHandle) -> u64 {
        let text = counts.render();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(LOG_LINES_DROPPED));
        values.next().unwrap().trim().parse().unwrap()
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_does_not_read_holds_nobody_up_and_what_does_not_fit_is_dropped_and_counted() {
        const LINES: u64 = 20_000;
        let (reader, writer) = io::pipe().unwrap();
        let (queue, counts) = start(writer);
        for number in 0..LINES {
            queue.push(format!("{number:0200}\n").as_bytes());
        }
        assert!(!queue.wait_until_written(Duration::from_millis(10)));
        assert!(queue.waiting_bytes.load(Ordering::Relaxed) <= BYTES_MAX);
        let dropped_before = dropped(&counts);
        assert!((1..LINES).contains(&dropped_before), "{dropped_before}");

        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let kept = (LINES - dropped_before) as usize;
        let read: Vec<u64> = lines.by_ref().take(kept).map(|line| line.parse().unwrap()).collect();
        assert!(read.is_sorted_by(|one, next| one < next), "in their order");
        assert!(queue.wait_until_written(PATIENCE));
        queue.push(b"after\n");
        assert_eq!(lines.next().unwrap(), "after");
        assert_eq!(dropped(&counts), dropped_before);
    }

    #[test]
    fn lines_of_many_threads_are_all_written_and_those_of_each_in_its_order() {
        const LINES: usize = 1_000;
        let kept = Kept::default();
        let (queue, counts) = start(kept.clone());
        thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let queue = queue.clone();
                scope.spawn(move || {
                    for number in 0..LINES {
                        queue.push(format!("{name} {number}\n").as_bytes());
                    }
                });
            }
        });
        assert!(queue.wait_until_written(PATIENCE));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        for name in ["a ", "b ", "c ", "d "] {
            let own = text.lines().filter_map(|line| line.strip_prefix(name));
            let numbers: Vec<usize> = own.map(|number| number.parse().unwrap()).collect();
            assert_eq!(numbers, (0..LINES).collect::<Vec<_>>(), "{name}");
        }
        assert_eq!(dropped(&counts), 0);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_reason_to_wait() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (queue, counts) = start(writer);
        for _ in 0..10 {
            queue.push(b"to nobody\n");
        }
        assert!(queue.wait_until_written(PATIENCE));
        assert_eq!(dropped(&counts), 0);
    }

    #[test]
    fn a_line_that_is_longer_than_the_queue_is_dropped() {
        let kept = Kept::default();
        let (queue, counts) = start(kept.clone());
        queue.push(&vec![b'x'; BYTES_MAX + 1]);
        queue.push(b"short\n");
        assert!(queue.wait_until_written(PATIENCE));
        assert_eq!(
            (dropped(&counts), kept.0.lock().unwrap().as_slice()),
            (1, &b"short\n"[..])
        );
    }
}
