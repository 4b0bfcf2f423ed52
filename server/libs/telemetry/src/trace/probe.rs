//! The trace of a probe: an action of a player whose latency is measured.
//!
//! Every process derives the same ids from what the action carries anyway, its entity and its sequence number, so that a probe is
//! one trace and not a byte more is on the wire. The derivation is part of the protocol between versions: it does not change.

use std::time::Instant;

use meridian_ids::WorldEntityId;

use crate::{
    span_definitions as names,
    trace::{SpanKind, SpanRecord, TraceContext},
};

/// Increments of `SplitMix64` and three other odd numbers with as many ones as zeros, one for each round of the trace's id.
const ROUND_KEYS: [u64; 4] = [
    0x9e37_79b9_7f4a_7c15,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0xd6e8_feb8_6659_fd93,
];

/// An action of a player whose latency is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeTrace {
    /// The player's entity.
    pub entity: WorldEntityId,
    /// The action's number at its client.
    pub sequence: u32,
}

/// A leg of a probe's way, and what tells it from others of its kind in the same trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeSpan {
    /// From the player's action until the player sees what came of it: the root.
    Client,
    /// The gateway reads the input and passes it on.
    GatewayReceive,
    /// The input waits for its tick.
    ZoneInput,
    /// The tick that uses the input.
    ZoneTick,
    /// The way of the entity to another zone over the bus.
    BusTransfer {
        /// The entity's epoch at the receiver.
        epoch: u64,
    },
    /// The receiving zone takes the entity over.
    BusAccept {
        /// The entity's epoch at the receiver.
        epoch: u64,
    },
    /// A gateway mirrors the tick and sends it.
    GatewaySend {
        /// Which gateway.
        gateway: u64,
    },
    /// A client applies what it received.
    ClientApply {
        /// Which client.
        client: u64,
        /// The gateway that it received it from. Told, and no part of the span's id.
        gateway: u64,
    },
}

impl ProbeTrace {
    /// The trace's id, not zero.
    ///
    /// A Feistel network of four rounds, whose function is a 64-bit finaliser: different probes have different ids, for every round
    /// can be undone, and ids look random, as samplers and stores want them.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        let [first, second, third, fourth] = ROUND_KEYS;
        let (mut left, mut right) = (self.entity.0, u64::from(self.sequence));
        right ^= mix_splitmix(left.wrapping_add(first));
        left ^= mix_murmur(right.wrapping_add(second));
        right ^= mix_splitmix(left.wrapping_add(third));
        left ^= mix_murmur(right.wrapping_add(fourth));
        let id = u128::from(left) << 64 | u128::from(right);
        if id == 0 { 1 } else { id }
    }

    /// The place of one leg in the trace. Probes are always sampled: clients choose how many there are.
    ///
    /// Within one trace, different discriminators of one kind have different span ids.
    #[must_use]
    pub fn context(&self, span: ProbeSpan) -> TraceContext {
        let trace = self.trace_id();
        let (kind, discriminator) = span.kind_and_discriminator();
        let of_trace = mix_murmur((trace >> 64) as u64 ^ (trace as u64).rotate_left(32));
        let of_kind = mix_splitmix(of_trace.wrapping_add(kind.wrapping_mul(ROUND_KEYS[0])));
        let id = mix_splitmix(of_kind ^ mix_murmur(discriminator.wrapping_add(ROUND_KEYS[1])));
        TraceContext {
            trace,
            span: if id == 0 { 1 } else { id },
            is_sampled: true,
        }
    }

    /// One leg as a finished span, below the leg before it, with the entity and the number of the action.
    #[must_use]
    pub fn leg(&self, span: ProbeSpan, (began, ended): (Instant, Instant)) -> SpanRecord {
        SpanRecord {
            context: self.context(span),
            parent: span.parent().map(|parent| self.context(parent).span),
            name: span.name(),
            kind: span.kind(),
            began,
            ended,
            attributes: vec![
                (names::ATTRIBUTE_ENTITY, self.entity.to_string().into()),
                (names::ATTRIBUTE_SEQUENCE, self.sequence.into()),
            ],
            error: None,
        }
    }
}

impl ProbeSpan {
    /// The leg before it.
    const fn parent(self) -> Option<Self> {
        match self {
            Self::Client => None,
            Self::GatewayReceive => Some(Self::Client),
            Self::ZoneInput | Self::BusTransfer { .. } => Some(Self::GatewayReceive),
            Self::ZoneTick => Some(Self::ZoneInput),
            Self::BusAccept { epoch } => Some(Self::BusTransfer { epoch }),
            Self::GatewaySend { .. } => Some(Self::ZoneTick),
            Self::ClientApply { gateway, .. } => Some(Self::GatewaySend { gateway }),
        }
    }

    const fn kind(self) -> SpanKind {
        match self {
            Self::Client => SpanKind::Client,
            Self::GatewayReceive => SpanKind::Server,
            Self::BusTransfer { .. } => SpanKind::Producer,
            Self::BusAccept { .. } => SpanKind::Consumer,
            Self::ZoneInput | Self::ZoneTick | Self::GatewaySend { .. } | Self::ClientApply { .. } => {
                SpanKind::Internal
            }
        }
    }

    /// The span's name, one of [`span_definitions`](crate::span_definitions).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => names::CLIENT_INPUT,
            Self::GatewayReceive => names::GATEWAY_RECEIVE,
            Self::ZoneInput => names::ZONE_INPUT,
            Self::ZoneTick => names::ZONE_TICK,
            Self::BusTransfer { .. } => names::BUS_TRANSFER,
            Self::BusAccept { .. } => names::BUS_ACCEPT,
            Self::GatewaySend { .. } => names::GATEWAY_SEND,
            Self::ClientApply { .. } => names::CLIENT_APPLY,
        }
    }

    const fn kind_and_discriminator(self) -> (u64, u64) {
        match self {
            Self::Client => (1, 0),
            Self::GatewayReceive => (2, 0),
            Self::ZoneInput => (3, 0),
            Self::ZoneTick => (4, 0),
            Self::BusTransfer { epoch } => (5, epoch),
            Self::BusAccept { epoch } => (6, epoch),
            Self::GatewaySend { gateway } => (7, gateway),
            Self::ClientApply { client, .. } => (8, client),
        }
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
const fn mix_splitmix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The finaliser of MurmurHash3 for 64 bits (Appleby, 2011).
const fn mix_murmur(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: ProbeTrace = ProbeTrace {
        entity: WorldEntityId(0x0001_0002_0000_0003),
        sequence: 42,
    };

    fn all_spans(discriminator: u64) -> [ProbeSpan; 8] {
        [
            ProbeSpan::Client,
            ProbeSpan::GatewayReceive,
            ProbeSpan::ZoneInput,
            ProbeSpan::ZoneTick,
            ProbeSpan::BusTransfer { epoch: discriminator },
            ProbeSpan::BusAccept { epoch: discriminator },
            ProbeSpan::GatewaySend { gateway: discriminator },
            ProbeSpan::ClientApply {
                client: discriminator,
                gateway: discriminator,
            },
        ]
    }

    #[test]
    fn versions_agree_on_the_ids() {
        let legs = all_spans(7).map(|span| EXAMPLE.context(span).to_traceparent());
        assert_eq!(
            legs,
            [
                "00-2bacea3d46a3198ab356adcb2d6f5407-907a30dc9b042eef-01",
                "00-2bacea3d46a3198ab356adcb2d6f5407-64a6767c96601dcd-01",
                "00-2bacea3d46a3198ab356adcb2d6f5407-efcfe72469f64ee5-01",
                "00-2bacea3d46a3198ab356adcb2d6f5407-b1288d22a638f609-01",
                "00-2bacea3d46a3198ab356adcb2d6f5407-c2aca3046ddf300b-01",
                "00-2bacea3d46a3198ab356adcb2d6f5407-8e1b6a3ed34dfc19-01",
                "00-2bacea3d46a3198ab356adcb2d6f5407-e57409b06804c090-01",
                "00-2bacea3d46a3198ab356adcb2d6f5407-7a1803b824a0b0c5-01",
            ]
        );
    }

    #[test]
    fn neighbouring_probes_share_no_id_and_differ_in_half_the_bits() {
        let mut traces = HashSet::new();
        let mut spans = HashSet::new();
        let (mut count, mut flipped) = (0_u32, 0_u32);
        let mut before = EXAMPLE.trace_id();
        for entity in 0..100 {
            for sequence in 0..500 {
                let probe = ProbeTrace {
                    entity: WorldEntityId(1 << 48 | entity),
                    sequence,
                };
                let trace = probe.trace_id();
                assert!(traces.insert(trace));
                assert!(spans.insert(probe.context(ProbeSpan::Client).span));
                flipped += (trace ^ before).count_ones();
                count += 1;
                before = trace;
            }
        }
        let mean = f64::from(flipped) / f64::from(count);
        assert!((63.5..64.5).contains(&mean), "{mean} of 128 bits differ");
    }

    proptest! {
        #[test]
        fn different_probes_have_different_traces(one: (u64, u32), other: (u64, u32)) {
            let [one, other] = [one, other].map(|(entity, sequence)| ProbeTrace { entity: WorldEntityId(entity), sequence });
            prop_assert_eq!(one == other, one.trace_id() == other.trace_id());
            prop_assert_ne!(one.trace_id(), 0);
        }

        #[test]
        fn legs_of_one_trace_have_ids_of_their_own(entity: u64, sequence: u32, one: u64, other: u64) {
            prop_assume!(one != other);
            let probe = ProbeTrace { entity: WorldEntityId(entity), sequence };
            let legs: HashSet<ProbeSpan> = all_spans(one).into_iter().chain(all_spans(other)).collect();
            let ids: HashSet<u64> = legs.iter().map(|leg| probe.context(*leg).span).collect();
            prop_assert_eq!(legs.len(), 12);
            prop_assert_eq!(ids.len(), 12);
            prop_assert!(!ids.contains(&0));
        }
    }
}
