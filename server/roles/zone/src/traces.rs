//! Tells of traced actions: their way through the zone, and over the bus to the next one.
//!
//! Nothing is told, and nothing is kept, while the process exports no spans.

use std::collections::HashMap;
use std::time::Instant;

use meridian_fabric::ProbeTiming;
use meridian_game::Move;
use meridian_handoff::script::Record;
use meridian_ids::{EntityEpoch, Tick, WorldEntityId, probe_sequence};
use meridian_telemetry::span_definitions::{
    ATTRIBUTE_ENTITY, ATTRIBUTE_SEQUENCE, ATTRIBUTE_TICK, ATTRIBUTE_ZONE, BUS_ACCEPT, BUS_TRANSFER, ZONE_INPUT,
    ZONE_TICK,
};
use meridian_telemetry::{AttributeValue, ProbeSpan, ProbeTrace, SpanKind, SpanRecord, is_tracing};

/// Entities on their way of which it is remembered since when: as many as may be told of; of more nothing is told.
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
        if !sequences.is_empty() && self.departing.len() < TRAVELLING_MAX {
            let since = Instant::now();
            self.departing.insert(record.entity, Travelling { since, sequences });
        }
    }

    /// It is known what came of that: the entity has another owner, under `epoch`, or it is still this zone's.
    pub(crate) fn departed(&mut self, entity: WorldEntityId, epoch: Option<EntityEpoch>, zone: &str) {
        let Some(Travelling { since, sequences }) = self.departing.remove(&entity) else {
            return;
        };
        let ended = Instant::now();
        for sequence in sequences {
            let (probe, at) = (ProbeTrace { entity, sequence }, epoch.unwrap_or_default().0);
            meridian_telemetry::record(SpanRecord {
                context: probe.context(ProbeSpan::BusTransfer { epoch: at }),
                parent: Some(probe.context(ProbeSpan::GatewayReceive).span),
                name: BUS_TRANSFER,
                kind: SpanKind::Producer,
                began: since,
                ended,
                attributes: attributes(&probe, zone),
                error: epoch.is_none().then(|| "the neighbour did not take it".into()),
            });
        }
    }

    /// An entity was found in the inbox.
    pub(crate) fn found(&mut self, record: &Record) {
        if is_tracing() && self.arriving.len() < TRAVELLING_MAX && !waiting(record).is_empty() {
            self.arriving.entry(record.entity).or_insert_with(Instant::now);
        }
    }

    /// It is the zone's now.
    pub(crate) fn arrived(&mut self, record: &Record, zone: &str) {
        let Some(began) = self.arriving.remove(&record.entity) else {
            return;
        };
        let ended = Instant::now();
        for sequence in waiting(record) {
            let (probe, epoch) = (
                ProbeTrace {
                    entity: record.entity,
                    sequence,
                },
                record.epoch.0,
            );
            meridian_telemetry::record(SpanRecord {
                context: probe.context(ProbeSpan::BusAccept { epoch }),
                parent: Some(probe.context(ProbeSpan::BusTransfer { epoch }).span),
                name: BUS_ACCEPT,
                kind: SpanKind::Consumer,
                began,
                ended,
                attributes: attributes(&probe, zone),
                error: None,
            });
        }
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
    let (waited, ticked) = (probe.context(ProbeSpan::ZoneInput), probe.context(ProbeSpan::ZoneTick));
    meridian_telemetry::record(SpanRecord {
        context: waited,
        parent: Some(probe.context(ProbeSpan::GatewayReceive).span),
        name: ZONE_INPUT,
        kind: SpanKind::Internal,
        began: timing.forwarded,
        ended: timing.applied,
        attributes: attributes(&probe, zone),
        error: None,
    });
    let mut at_tick = attributes(&probe, zone);
    at_tick.push((ATTRIBUTE_TICK, tick.0.into()));
    meridian_telemetry::record(SpanRecord {
        context: ticked,
        parent: Some(waited.span),
        name: ZONE_TICK,
        kind: SpanKind::Internal,
        began: timing.applied,
        ended: finished,
        attributes: at_tick,
        error: None,
    });
}

fn attributes(probe: &ProbeTrace, zone: &str) -> Vec<(&'static str, AttributeValue)> {
    vec![
        (ATTRIBUTE_ENTITY, probe.entity.to_string().into()),
        (ATTRIBUTE_SEQUENCE, probe.sequence.into()),
        (ATTRIBUTE_ZONE, zone.to_owned().into()),
    ]
}
