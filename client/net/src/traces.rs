//! Tells of traced actions: of the own ones from the input to its echo, of others' that they are seen.
//!
//! Nothing is told while the process exports no spans, and then no action is marked as traced.

use std::time::Instant;

use meridian_ids::{WorldEntityId, probe_sequence};
use meridian_telemetry::span_definitions::{
    ATTRIBUTE_ENTITY, ATTRIBUTE_GATEWAY, ATTRIBUTE_SEQUENCE, CLIENT_APPLY, CLIENT_INPUT,
};
use meridian_telemetry::{AttributeValue, ProbeSpan, ProbeTrace, SpanKind, SpanRecord, is_tracing};

/// Who sees: the own player, and the gateway that shows it the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Onlooker {
    pub(crate) entity: WorldEntityId,
    pub(crate) gateway: u64,
}

/// An own action has ended: its echo was seen at `ended`, or it was given up then.
pub(crate) fn acted(probe: ProbeTrace, (began, ended): (Instant, Instant), is_answered: bool) {
    if !is_wanted(&probe) {
        return;
    }
    meridian_telemetry::record(SpanRecord {
        context: probe.context(ProbeSpan::Client),
        parent: None,
        name: CLIENT_INPUT,
        kind: SpanKind::Client,
        began,
        ended,
        attributes: attributes(&probe),
        error: (!is_answered).then(|| "no echo came".into()),
    });
}

/// What came of an action, the own player's or another's, arrived in a packet and was seen.
pub(crate) fn saw(probe: ProbeTrace, by: Onlooker, (arrived, seen): (Instant, Instant)) {
    if !is_wanted(&probe) {
        return;
    }
    let (gateway, client) = (by.gateway, by.entity.0);
    let mut attributes = attributes(&probe);
    attributes.push((ATTRIBUTE_GATEWAY, format!("{gateway:016x}").into()));
    meridian_telemetry::record(SpanRecord {
        context: probe.context(ProbeSpan::ClientApply { client }),
        parent: Some(probe.context(ProbeSpan::GatewaySend { gateway }).span),
        name: CLIENT_APPLY,
        kind: SpanKind::Internal,
        began: arrived,
        ended: seen,
        attributes,
        error: None,
    });
}

fn is_wanted(probe: &ProbeTrace) -> bool {
    is_tracing() && probe_sequence::is_traced(probe.sequence)
}

fn attributes(probe: &ProbeTrace) -> Vec<(&'static str, AttributeValue)> {
    vec![
        (ATTRIBUTE_ENTITY, probe.entity.to_string().into()),
        (ATTRIBUTE_SEQUENCE, probe.sequence.into()),
    ]
}
