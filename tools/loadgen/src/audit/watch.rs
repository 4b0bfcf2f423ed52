//! Streams that feed an audit, and what is known of each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meridian_ids::{TickRate, ZoneId};

use super::stream::{StreamEvent, Streams};
use super::{AuditSummary, Auditor, Finding};

/// Events that are taken in before the caller gets its turn again.
const EVENTS_AT_ONCE: usize = 1_000;

/// An audit of all zones of some servers, as it happens.
#[derive(Debug)]
pub struct Watch {
    streams: Streams,
    auditor: Auditor,
    sources: Vec<Source>,
    /// By whose stream a zone told last.
    zones: BTreeMap<ZoneId, usize>,
}

#[derive(Debug)]
struct Source {
    url: String,
    heard: bool,
    refused: bool,
    /// Why it broke last, until it is heard again. The same reason is told once.
    broken: Option<String>,
}

impl Watch {
    /// Begins to watch the servers whose admin listeners are at `urls`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn begin(urls: &[String], rate: TickRate) -> anyhow::Result<Self> {
        let source = |url: &String| Source {
            url: url.clone(),
            heard: false,
            refused: false,
            broken: None,
        };
        let mut watch = Self {
            streams: Streams::open(urls)?,
            auditor: Auditor::new(rate),
            sources: urls.iter().map(source).collect(),
            zones: BTreeMap::new(),
        };
        watch.look_around();
        Ok(watch)
    }

    /// Takes in what the streams tell until `deadline`, or a good portion of it, and gives what was found.
    pub fn take_in(&mut self, deadline: Instant) -> Vec<Finding> {
        for _ in 0..EVENTS_AT_ONCE {
            let timeout = deadline.saturating_duration_since(Instant::now());
            let Some((source, event)) = self.streams.next(timeout) else {
                // When all streams have ended, nobody is there to wait for.
                if self.streams.all_ended() {
                    std::thread::sleep(timeout.min(Duration::from_millis(10)));
                }
                break;
            };
            self.hear(source, event);
            // Told at once, not when the portion is full.
            if !self.auditor.findings().is_empty() {
                break;
            }
        }
        self.auditor.drain_findings()
    }

    /// The handoffs before this are not counted.
    pub fn begin_window(&mut self) {
        self.auditor.begin_window();
    }

    /// The counts so far.
    pub fn summary(&self) -> AuditSummary {
        self.auditor.summary()
    }

    /// Whether any stream has told anything.
    pub fn has_heard(&self) -> bool {
        self.sources.iter().any(|source| source.heard)
    }

    /// Whether no stream will ever tell anything.
    pub fn is_hopeless(&self) -> bool {
        self.sources.iter().all(|source| source.refused)
    }

    /// The admin listeners that told nothing, each with the reason.
    pub fn unheard(&self) -> Vec<String> {
        let unheard = self.sources.iter().filter(|source| !source.heard);
        unheard
            .map(|source| {
                let nothing = || format!("{} told nothing", source.url);
                source.broken.clone().unwrap_or_else(nothing)
            })
            .collect()
    }

    fn hear(&mut self, index: usize, event: StreamEvent) {
        let Some(source) = self.sources.get_mut(index) else {
            return;
        };
        match event {
            StreamEvent::Line(line) => {
                if let Some(reason) = source.broken.take().filter(|_| source.heard) {
                    tracing::info!(url = source.url, "audited again; it had broken off: {reason}");
                }
                let is_first = !source.heard;
                source.heard = true;
                let counts = self.auditor.feed(&line);
                if counts {
                    self.zones.insert(line.zone, index);
                }
                if is_first {
                    self.look_around();
                }
            }
            StreamEvent::Broken(reason) => self.lost_sight(index, reason),
            StreamEvent::Refused(reason) => {
                source.refused = true;
                self.lost_sight(index, reason);
                self.look_around();
            }
        }
    }

    fn lost_sight(&mut self, index: usize, reason: String) {
        let source = &mut self.sources[index];
        if source.broken.as_ref() != Some(&reason) {
            tracing::warn!("{reason}");
        }
        source.broken = Some(reason);
        let zones = self.zones.iter().filter(|(_, teller)| **teller == index);
        zones.for_each(|(zone, _)| self.auditor.zone_unreachable(*zone));
    }

    /// What is with a zone that was never heard of seems lost: as long as a server has not told of its zones, nobody is.
    fn look_around(&mut self) {
        let blind = self.sources.iter().any(|source| !source.heard && !source.refused);
        self.auditor.set_blind(blind);
    }
}
