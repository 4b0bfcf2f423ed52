//! Reads `GET /v1/audit` of admin listeners: a thread each, which connects again whenever a stream breaks.
//!
//! The lines of all go into one bounded channel. Who does not take them makes the servers drop lines, which they make good
//! by a whole one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use meridian_events::AuditLine;
use meridian_ids::Tick;

use super::lines::{LINE_BYTES_MAX, Lines, Next};

/// Lines that wait to be taken: those of four zones for a second, and that of many streams at their start.
const EVENTS_MAX: usize = 256;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a read waits before it looks whether to stop.
const READ_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a stream may say nothing at all. Zones tell every tick; a machine that is gone tells nothing for ever.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How soon a stream that broke is asked for again; twice as late each time in vain.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(250);
/// How late at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);
/// No world is this old: its rate times millions of years.
const TICK_MAX: Tick = Tick(1 << 53);
/// How much of a line that is none is shown.
const EXCERPT_CHARS: usize = 80;

/// What a stream has to say.
#[derive(Debug)]
pub enum StreamEvent {
    /// A zone's line.
    Line(AuditLine),
    /// The stream broke or did not come about, for this reason; it is asked for again.
    Broken(String),
    /// There is no such stream, for this reason; it is not asked for again.
    Refused(String),
}

/// The streams of several admin listeners. They end with it.
#[derive(Debug)]
pub struct Streams {
    events: Option<Receiver<(usize, StreamEvent)>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Streams {
    /// Begins to read the streams of the admin listeners at `urls`.
    ///
    /// # Errors
    /// A thread cannot be started. Whatever is wrong with a stream is told as an event.
    pub fn open(urls: &[String]) -> anyhow::Result<Self> {
        let (sender, events) = sync_channel(EVENTS_MAX);
        let mut streams = Self {
            events: Some(events),
            stop: Arc::default(),
            threads: Vec::with_capacity(urls.len()),
        };
        for (source, url) in urls.iter().enumerate() {
            let reader = StreamReader {
                source,
                url: format!("{}/v1/audit", url.trim_end_matches('/')),
                stop: streams.stop.clone(),
                sender: sender.clone(),
            };
            let builder = std::thread::Builder::new().name(format!("audit-{source}"));
            let thread = builder.spawn(move || reader.run()).context("cannot start a thread")?;
            streams.threads.push(thread);
        }
        Ok(streams)
    }

    /// The next event and which stream's it is, or none within `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<(usize, StreamEvent)> {
        self.events.as_ref()?.recv_timeout(timeout).ok()
    }

    /// Whether every stream has been given up.
    pub fn all_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Who waits for room in the channel waits no longer.
        self.events = None;
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// Why a stream ended.
enum Ended {
    Stopped,
    Broken(String),
    Refused(String),
}

struct StreamReader {
    source: usize,
    url: String,
    stop: Arc<AtomicBool>,
    sender: SyncSender<(usize, StreamEvent)>,
}

impl StreamReader {
    fn run(self) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(READ_TIMEOUT))
            .build()
            .into();
        let (mut retry_after, mut was_there) = (RETRY_AFTER_MIN, false);
        while !self.is_stopped() {
            let mut lines = 0;
            let told = match self.read(&agent, &mut lines) {
                Ended::Stopped => return,
                Ended::Broken(reason) => self.tell(StreamEvent::Broken(reason)),
                // What was there comes back.
                Ended::Refused(reason) if was_there => self.tell(StreamEvent::Broken(reason)),
                Ended::Refused(reason) => {
                    self.tell(StreamEvent::Refused(reason));
                    return;
                }
            };
            if !told {
                return;
            }
            if lines > 0 {
                was_there = true;
                retry_after = RETRY_AFTER_MIN;
            }
            std::thread::park_timeout(retry_after);
            retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
        }
    }

    /// Reads one stream to its end.
    fn read(&self, agent: &ureq::Agent, lines: &mut u64) -> Ended {
        let url = &self.url;
        let response = match agent.get(url).call() {
            Ok(response) => response,
            Err(ureq::Error::StatusCode(404)) => {
                return Ended::Refused(format!(
                    "{url} does not exist: the server is older than its audit, or runs no zone"
                ));
            }
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
                return Ended::Refused(format!("{url} is no URL: {error}"));
            }
            Err(error) => return Ended::Broken(format!("cannot fetch {url}: {error}")),
        };
        let mut reader = Lines::new(response.into_body().into_reader());
        let mut heard = Instant::now();
        while !self.is_stopped() {
            let line = match reader.next() {
                Ok(Next::Line(line)) => line,
                Ok(Next::Ended { unfinished: 0 }) => return Ended::Broken(format!("{url} has ended")),
                Ok(Next::Ended { unfinished }) => {
                    return Ended::Broken(format!("{url} has ended within a line, after {unfinished} bytes of it"));
                }
                Ok(Next::TooLong) => {
                    return Ended::Broken(format!("{url} sent a line of more than {LINE_BYTES_MAX} bytes"));
                }
                Err(error) if is_timeout(&error) && heard.elapsed() < SILENCE_MAX => continue,
                Err(error) if is_timeout(&error) => {
                    return Ended::Broken(format!("{url} has said nothing for {} s", SILENCE_MAX.as_secs()));
                }
                Err(error) => return Ended::Broken(format!("cannot read {url}: {error}")),
            };
            heard = Instant::now();
            if line.is_empty() {
                continue;
            }
            let line = match parse(&line) {
                Ok(line) => line,
                Err(reason) => return Ended::Broken(format!("{url} sent {reason}")),
            };
            *lines += 1;
            if !self.tell(StreamEvent::Line(line)) {
                return Ended::Stopped;
            }
        }
        Ended::Stopped
    }

    /// Waits for room in the channel; false if nobody listens any more.
    fn tell(&self, event: StreamEvent) -> bool {
        self.sender.send((self.source, event)).is_ok()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_))) || error.kind() == io::ErrorKind::TimedOut
}

/// Reads a line, or says what it is instead.
fn parse(line: &[u8]) -> Result<AuditLine, String> {
    let excerpt = || {
        let text: String = String::from_utf8_lossy(line).chars().take(EXCERPT_CHARS).collect();
        format!("{text:?}")
    };
    let parsed: AuditLine = serde_json::from_slice(line)
        .map_err(|error| format!("a line that tells no tick of a zone ({error}): {}", excerpt()))?;
    if parsed.tick > TICK_MAX {
        return Err(format!("a line of a tick that no world reaches: {}", excerpt()));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_is_shown_in_part() {
        assert_eq!(parse(br#"{"zone":1,"lease":2,"tick":3}"#).unwrap().tick, Tick(3));
        let garbage = "<html>".repeat(100);
        let reason = parse(garbage.as_bytes()).unwrap_err();
        assert!(
            reason.contains("tells no tick of a zone") && reason.contains("<html>"),
            "{reason}"
        );
        assert!(reason.len() < 300, "{reason}");
        assert!(parse(b"\xff\xfe").is_err() && parse(b"{}").is_err() && parse(b"[1]").is_err());
        let far = format!(r#"{{"zone":1,"lease":2,"tick":{}}}"#, u64::MAX);
        assert!(parse(far.as_bytes()).unwrap_err().contains("no world reaches"));
    }

    #[test]
    fn streams_that_do_not_come_about_are_told_and_end_at_once_when_they_are_dropped() {
        let streams = Streams::open(&["http://127.0.0.1:1".to_owned(), "no url".to_owned()]).unwrap();
        let (mut broken, mut refused) = (0, 0);
        while broken == 0 || refused == 0 {
            match streams.next(Duration::from_secs(10)).expect("an event") {
                (0, StreamEvent::Broken(reason)) => {
                    assert!(reason.contains("http://127.0.0.1:1/v1/audit"), "{reason}");
                    broken += 1;
                }
                (1, StreamEvent::Refused(_)) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(!streams.all_ended());
        let begun = Instant::now();
        drop(streams);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
