//! Tells of traced actions: their way through the zone, and over the bus to the next one.
//!
//! Nothing is told, and nothing is kept, while the process exports no spans.

use std::collections::HashMap;
use std::time::Instant;

use meridian_fabric::ProbeTiming;
use meridian_game::Move;
use meridian_handoff::script::Record;
use meridian_ids::{EntityEpoch, Tick, WorldEntityId, probe_sequence};
use meridian_telemetry::span_definitions::{ATTRIBUTE_TICK, ATTRIBUTE_ZONE};
use meridian_telemetry::{ProbeSpan, ProbeTrace, is_tracing};

/// Entities on their way of which it is remembered since when. With more than that all are forgotten: what was given up on the way, and of
/// which nobody says so, does not fill the room for ever.
const TRAVELLING_MAX: usize = 4_096;

/// A traced action that waits to be applied while its entity changes hands.
struct Travelling {
    since: Instant,
    sequences: Vec<u32>,
}

/// Traced actions whose entities are on their way.
#[derive(Default)]
pub(crate) struct Traces {
    departing: HashMap<WorldEntityId, Travelling>,
    arriving: HashMap<WorldEntityId, Instant>,
}

impl Traces {
    /// A record is handed in to be sent away.
    pub(crate) fn departs(&mut self, record: &Record) {
        let sequences = waiting(record);
        if !sequences.is_empty() {
            make_room(&mut self.departing);
            let since = Instant::now();
            self.departing.insert(record.entity, Travelling { since, sequences });
        }
    }

    /// It is known what came of that: the entity has another owner, under `epoch`, or it is still this zone's.
    pub(crate) fn departed(&mut self, entity: WorldEntityId, epoch: Option<EntityEpoch>, zone: &str) {
        let Some(Travelling { since, sequences }) = self.departing.remove(&entity) else {
            return;
        };
        let when = (since, Instant::now());
        for sequence in sequences {
            let probe = ProbeTrace { entity, sequence };
            let transfer = ProbeSpan::BusTransfer {
                epoch: epoch.unwrap_or_default().0,
            };
            let leg = probe.leg(transfer, when).with(ATTRIBUTE_ZONE, zone.to_owned());
            meridian_telemetry::record(match epoch {
                Some(_) => leg,
                None => leg.failed("the neighbour did not take it"),
            });
        }
    }

    /// An entity was found in the inbox.
    pub(crate) fn found(&mut self, record: &Record) {
        if is_tracing() && !waiting(record).is_empty() {
            make_room(&mut self.arriving);
            self.arriving.entry(record.entity).or_insert_with(Instant::now);
        }
    }

    /// It is the zone's now.
    pub(crate) fn arrived(&mut self, record: &Record, zone: &str) {
        let Some(began) = self.arriving.remove(&record.entity) else {
            return;
        };
        let when = (began, Instant::now());
        let (entity, epoch) = (record.entity, record.epoch.0);
        for sequence in waiting(record) {
            let probe = ProbeTrace { entity, sequence };
            let leg = probe.leg(ProbeSpan::BusAccept { epoch }, when);
            meridian_telemetry::record(leg.with(ATTRIBUTE_ZONE, zone.to_owned()));
        }
    }
}

/// A map that is full is emptied.
fn make_room<T>(travelling: &mut HashMap<WorldEntityId, T>) {
    if travelling.len() >= TRAVELLING_MAX {
        travelling.clear();
    }
}

/// The traced actions that a record brings along and that were not applied yet.
fn waiting(record: &Record) -> Vec<u32> {
    let mut sequences = Vec::new();
    if !is_tracing() {
        return sequences;
    }
    let mut before = None;
    for (_, packed) in &record.inputs {
        let sequence = Move::unpack(*packed).sequence;
        if before.is_some_and(|before| before != sequence) && probe_sequence::is_traced(sequence) {
            sequences.push(sequence);
        }
        before = Some(sequence);
    }
    sequences
}

/// A tick has applied an action: tells how long it waited, and how long the tick took.
pub(crate) fn applied(timing: &ProbeTiming, tick: Tick, finished: Instant, zone: &str) {
    if !is_tracing() || !probe_sequence::is_traced(timing.sequence) {
        return;
    }
    let probe = ProbeTrace {
        entity: timing.entity,
        sequence: timing.sequence,
    };
    let waited = probe.leg(ProbeSpan::ZoneInput, (timing.forwarded, timing.applied));
    let ticked = probe.leg(ProbeSpan::ZoneTick, (timing.applied, finished));
    meridian_telemetry::record(waited.with(ATTRIBUTE_ZONE, zone.to_owned()));
    meridian_telemetry::record(
        ticked
            .with(ATTRIBUTE_ZONE, zone.to_owned())
            .with(ATTRIBUTE_TICK, tick.0),
    );
}
