//! `GET /v1/audit` on the admin listener: what the zones of this process simulate, a line of JSON per zone and tick.
//!
//! Zones write into a bounded ring and never wait; a listener that falls behind loses lines and is told everything anew.

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use meridian_events::AuditLine;
use meridian_ids::ZoneId;
use tokio::sync::broadcast::{self, Receiver, error::RecvError, error::TryRecvError};

/// Lines that a listener may be behind: 17 s of four zones at 60 Hz.
const LINES_MAX: usize = 4_096;
/// Listeners at once; each is sent everything.
const LISTENERS_MAX: usize = 16;
/// Lines that go out in one piece.
const LINES_PER_CHUNK_MAX: usize = 256;
/// One JSON object per line.
const NDJSON: &str = "application/x-ndjson";

/// Passes the lines of this process's zones on to listeners.
#[derive(Debug)]
pub struct AuditHub {
    lines: broadcast::Sender<Arc<AuditLine>>,
    /// Raised for each listener that must be told everything.
    generation: AtomicU64,
}

impl Default for AuditHub {
    fn default() -> Self {
        Self {
            lines: broadcast::Sender::new(LINES_MAX),
            generation: AtomicU64::new(0),
        }
    }
}

impl AuditHub {
    /// What changes with each listener that must be told everything; `None` while there is none.
    pub fn generation(&self) -> Option<u64> {
        (self.lines.receiver_count() > 0).then(|| self.generation.load(Ordering::Acquire))
    }

    /// Passes a line on.
    pub fn pass(&self, line: AuditLine) {
        // Without a listener it is nobody's loss.
        let _ = self.lines.send(Arc::new(line));
    }

    fn ask_for_everything(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(feature = "zone")]
impl meridian_zone::AuditSink for AuditHub {
    fn listeners(&self) -> Option<u64> {
        self.generation()
    }

    fn publish(&self, line: AuditLine) {
        self.pass(line);
    }
}

/// The route.
pub fn router(hub: Arc<AuditHub>) -> Router {
    Router::new().route("/v1/audit", get(listen)).with_state(hub)
}

async fn listen(State(hub): State<Arc<AuditHub>>) -> Response {
    if hub.lines.receiver_count() >= LISTENERS_MAX {
        let why = format!("{LISTENERS_MAX} listeners are there already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    let listener = Listener {
        lines: hub.lines.subscribe(),
        hub,
        whole: HashSet::new(),
        waiting: VecDeque::new(),
    };
    listener.hub.ask_for_everything();
    let chunks = stream::unfold(listener, async |mut listener| {
        let chunk = listener.next_chunk().await?;
        Some((Ok::<_, Infallible>(chunk), listener))
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(chunks)).into_response()
}

struct Listener {
    hub: Arc<AuditHub>,
    lines: Receiver<Arc<AuditLine>>,
    /// The zones of which it was told everything.
    whole: HashSet<ZoneId>,
    waiting: VecDeque<Arc<AuditLine>>,
}

impl Listener {
    /// The lines that have come, or the next one; `None` when there will be none.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        while self.waiting.is_empty() {
            match self.lines.recv().await {
                Ok(line) => self.take(line),
                Err(RecvError::Lagged(_)) => self.start_anew(),
                Err(RecvError::Closed) => return None,
            }
        }
        while self.waiting.len() < LINES_PER_CHUNK_MAX {
            match self.lines.try_recv() {
                Ok(line) => self.take(line),
                Err(TryRecvError::Lagged(_)) => self.start_anew(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let mut chunk = Vec::new();
        for line in self.waiting.drain(..) {
            // A line of numbers and lists can always be written.
            if serde_json::to_writer(&mut chunk, line.as_ref()).is_ok() {
                chunk.push(b'\n');
            }
        }
        Some(chunk.into())
    }

    fn take(&mut self, line: Arc<AuditLine>) {
        if line.whole {
            self.whole.insert(line.zone);
        }
        if self.whole.contains(&line.zone) {
            self.waiting.push_back(line);
        }
    }

    fn start_anew(&mut self) {
        self.whole.clear();
        self.hub.ask_for_everything();
    }
}

#[cfg(test)]
mod tests {
    use meridian_ids::{LeaseEpoch, Tick};

    use super::*;

    fn line(zone: u16, tick: u64, whole: bool) -> AuditLine {
        AuditLine {
            zone: ZoneId(zone),
            lease: LeaseEpoch(1),
            tick: Tick(tick),
            whole,
            began: vec![],
            ended: vec![],
            spawned: vec![],
            retired: vec![],
        }
    }

    fn listener(hub: &Arc<AuditHub>) -> Listener {
        Listener {
            hub: Arc::clone(hub),
            lines: hub.lines.subscribe(),
            whole: HashSet::new(),
            waiting: VecDeque::new(),
        }
    }

    #[tokio::test]
    async fn a_listener_hears_of_a_zone_from_its_first_whole_line_on() {
        let hub = Arc::new(AuditHub::default());
        assert_eq!(hub.generation(), None);
        let mut listener = listener(&hub);
        for said in [line(0, 1, false), line(1, 1, true), line(0, 2, true), line(1, 2, false)] {
            hub.pass(said);
        }
        let chunk = listener.next_chunk().await.unwrap();
        let heard: Vec<(u16, u64)> = chunk
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice::<AuditLine>(line).unwrap())
            .map(|line| (line.zone.0, line.tick.0))
            .collect();
        assert_eq!(heard, [(1, 1), (0, 2), (1, 2)]);
    }

    #[tokio::test]
    async fn one_that_falls_behind_asks_for_everything_again() {
        let hub = Arc::new(AuditHub::default());
        let mut listener = listener(&hub);
        let generation = hub.generation();
        hub.pass(line(0, 1, true));
        (0..LINES_MAX as u64 + 10).for_each(|tick| hub.pass(line(0, 2 + tick, false)));
        hub.pass(line(1, 9, true));
        let chunk = listener.next_chunk().await.unwrap();
        assert_ne!(hub.generation(), generation);
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("\"zone\":1"), "{text}");
    }
}
