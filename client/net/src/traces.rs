//! Tells of traced actions: of the own ones from the input to its echo, of others' that they are seen.
//!
//! Nothing is told while the process exports no spans, and then no action is marked as traced.

use std::time::Instant;

use meridian_ids::{WorldEntityId, probe_sequence};
use meridian_telemetry::{ProbeSpan, ProbeTrace, is_tracing};

/// Of the others who see an action about so many tell of it at most: a trace needs some eyes, and a crowd's would be most of all that is told.
const ONLOOKERS_TELLING: u64 = 8;

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

/// What came of the own action arrived in a packet and was seen.
pub(crate) fn saw_own(probe: ProbeTrace, by: Onlooker, when: (Instant, Instant)) {
    if is_wanted(&probe) {
        tell_sight(probe, by, when);
    }
}

/// What came of another's action arrived in a packet and was seen, by this one of about as many as there are players in sight.
pub(crate) fn saw(probe: ProbeTrace, by: Onlooker, when: (Instant, Instant), players_in_sight: impl FnOnce() -> usize) {
    if is_wanted(&probe) && is_one_of_few(&probe, by, players_in_sight()) {
        tell_sight(probe, by, when);
    }
}

fn tell_sight(probe: ProbeTrace, by: Onlooker, when: (Instant, Instant)) {
    let leg = probe.leg(ProbeSpan::from(by), when);
    meridian_telemetry::record(leg.with_gateway(by.gateway));
}

impl From<Onlooker> for ProbeSpan {
    fn from(Onlooker { entity, gateway }: Onlooker) -> Self {
        Self::ClientApply {
            client: entity.0,
            gateway,
        }
    }
}

/// Whether this onlooker is of those who tell: other ones for each action, and everybody where there are few.
fn is_one_of_few(probe: &ProbeTrace, by: Onlooker, onlookers: usize) -> bool {
    // Spans' numbers are as good as random.
    let lot = probe.context(ProbeSpan::from(by)).span;
    lot % (onlookers as u64).max(1) < ONLOOKERS_TELLING
}

fn is_wanted(probe: &ProbeTrace) -> bool {
    is_tracing() && probe_sequence::is_traced(probe.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a crowd tell of an action.
    fn telling(sequence: u32, crowd: u64) -> usize {
        let probe = ProbeTrace {
            entity: WorldEntityId(7),
            sequence,
        };
        let onlooker = |entity| Onlooker {
            entity: WorldEntityId(entity),
            gateway: 1,
        };
        let telling = (0..crowd).filter(|entity| is_one_of_few(&probe, onlooker(*entity), crowd as usize));
        telling.count()
    }

    #[test]
    fn of_few_everybody_tells_and_of_a_crowd_some() {
        assert!((1..100).all(|sequence| telling(sequence, ONLOOKERS_TELLING) == ONLOOKERS_TELLING as usize));
        assert!((1..1_000).all(|sequence| (1..=24).contains(&telling(sequence, 500))));
        let all: usize = (1..=1_000).map(|sequence| telling(sequence, 500)).sum();
        assert!((7_500..8_500).contains(&all), "{all} of 1,000 actions");
    }
}
