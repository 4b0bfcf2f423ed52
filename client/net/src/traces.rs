//! Tells of traced actions: of the own ones from the input to its echo, of others' that they are seen.
//!
//! Nothing is told while the process exports no spans, and then no action is marked as traced.

use std::time::Instant;

use meridian_ids::{WorldEntityId, probe_sequence};
use meridian_telemetry::{ProbeSpan, ProbeTrace, is_tracing};

/// Who sees: the own player, and the gateway that shows it the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Onlooker {
    pub(crate) entity: WorldEntityId,
    pub(crate) gateway: u64,
}

/// An own action has begun and ended: its echo was seen, or it was given up.
pub(crate) fn acted(probe: ProbeTrace, when: (Instant, Instant), is_answered: bool) {
    if !is_wanted(&probe) {
        return;
    }
    let leg = probe.leg(ProbeSpan::Client, when);
    meridian_telemetry::record(if is_answered { leg } else { leg.failed("no echo came") });
}

/// What came of an action, the own player's or another's, arrived in a packet and was seen.
pub(crate) fn saw(probe: ProbeTrace, by: Onlooker, when: (Instant, Instant)) {
    if !is_wanted(&probe) {
        return;
    }
    let Onlooker { entity, gateway } = by;
    let leg = ProbeSpan::ClientApply {
        client: entity.0,
        gateway,
    };
    meridian_telemetry::record(probe.leg(leg, when).with_gateway(gateway));
}

fn is_wanted(probe: &ProbeTrace) -> bool {
    is_tracing() && probe_sequence::is_traced(probe.sequence)
}
