//! Every message comes back as it was, and no bytes do harm.

use std::time::{Duration, Instant};

use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::quic::carried::{Carried, Reading};
use crate::quic::clock::{Clock, OtherClock};
use crate::{
    EntitySnapshot, GatewayMessage, Ghosts, INPUTS_PER_BATCH_MAX, InputBatch, PassedAction, PeerMessage, ProbeTiming,
    Snapshot, TimedInput, ZoneMessage,
};

/// Milliseconds between the clocks' origin and now.
const AGE_MS: u64 = 30_000;

/// A moment in the last seconds, for a clock that began before it or after it.
fn instants() -> (Clock, Instant, OtherClock) {
    let now = Instant::now() + Duration::from_millis(AGE_MS);
    let clock = Clock::new(now - Duration::from_millis(AGE_MS / 2));
    // Both ends have the same clock here: times must come back exactly.
    let other = OtherClock::from_hello(clock, clock.nanoseconds(now), Duration::ZERO, now);
    (clock, now, other)
}

fn round_trip<T: Carried>(message: &T, (clock, now, other): &(Clock, Instant, OtherClock)) -> T {
    let mut bytes = Vec::new();
    message.encode(clock, &mut bytes).unwrap();
    let reading = Reading {
        zone: ZoneId(3),
        clock: other,
        now: *now,
    };
    T::decode(&bytes, &reading).unwrap()
}

fn entities() -> impl Strategy<Value = Vec<EntitySnapshot>> {
    let entity = (any::<u64>(), any::<u64>(), any::<bool>(), any::<u32>(), any::<u32>());
    let entity = entity.prop_map(|(entity, epoch, whole, start, end)| EntitySnapshot {
        entity: WorldEntityId(entity),
        epoch: EntityEpoch(epoch),
        whole,
        range: start..end,
    });
    vec(entity, 0..40)
}

fn snapshot() -> impl Strategy<Value = (Snapshot, (Clock, Instant, OtherClock))> {
    let header = (any::<u64>(), any::<u64>(), any::<bool>());
    let times = vec(0..AGE_MS * 1_000_000, 5);
    let probes = vec((any::<u64>(), any::<u32>()), 0..5);
    (header, entities(), vec(any::<u8>(), 0..4_000), probes, times).prop_map(
        |((lease, tick, whole), entities, bytes, probes, times)| {
            let clocks = instants();
            let at = |index: usize| clocks.1 - Duration::from_nanos(times[index]);
            let probe = |(entity, sequence)| ProbeTiming {
                entity: WorldEntityId(entity),
                sequence,
                received: at(0),
                forwarded: at(1),
                applied: at(2),
            };
            let snapshot = Snapshot {
                zone: ZoneId(3),
                lease: LeaseEpoch(lease),
                tick: Tick(tick),
                whole,
                entities,
                bytes,
                probes: probes.into_iter().map(probe).collect(),
                began: at(3),
                finished: at(4),
            };
            (snapshot, clocks)
        },
    )
}

fn reading_of(clocks: &(Clock, Instant, OtherClock)) -> Reading<'_> {
    Reading {
        zone: ZoneId(0),
        clock: &clocks.2,
        now: clocks.1,
    }
}

/// Decodes as every kind of message that a peer may send.
fn decode_all(bytes: &[u8]) {
    let clocks = instants();
    let reading = reading_of(&clocks);
    let _ = GatewayMessage::decode(bytes, &reading);
    let _ = PeerMessage::decode(bytes, &reading);
    if let Ok(ZoneMessage::Snapshot(snapshot)) = ZoneMessage::decode(bytes, &reading) {
        // A range may say anything; what it stands for does not.
        for entity in &snapshot.entities {
            let _ = snapshot.bytes_of(entity);
        }
    }
    let _ = take::<DatagramHeader>(bytes);
}

proptest! {
    #[test]
    fn a_snapshot_comes_back_as_it_was((snapshot, clocks) in snapshot()) {
        let ZoneMessage::Snapshot(back) = round_trip(&ZoneMessage::Snapshot(snapshot.clone().into()), &clocks) else {
            return Err(TestCaseError::fail("another message"));
        };
        prop_assert_eq!(format!("{back:?}"), format!("{snapshot:?}"));
    }

    #[test]
    fn ghosts_come_back_as_they_were(lease: u64, tick: u64, entities in entities(), bytes in vec(any::<u8>(), 0..4_000)) {
        let ghosts = Ghosts { lease: LeaseEpoch(lease), tick: Tick(tick), entities, bytes };
        let PeerMessage::Ghosts(back) = round_trip(&PeerMessage::Ghosts(ghosts.clone().into()), &instants()) else {
            return Err(TestCaseError::fail("another message"));
        };
        prop_assert_eq!(format!("{back:?}"), format!("{ghosts:?}"));
    }

    #[test]
    fn inputs_come_back_as_they_were(
        entity: u64,
        inputs in vec((any::<u64>(), any::<u64>()), 0..=INPUTS_PER_BATCH_MAX),
        ages in vec(0..AGE_MS * 1_000_000, 2),
    ) {
        let clocks = instants();
        let timed = |(tick, packed)| TimedInput { tick: Tick(tick), packed };
        let message = GatewayMessage::Inputs(InputBatch {
            entity: WorldEntityId(entity),
            inputs: inputs.into_iter().map(timed).collect(),
            received: clocks.1 - Duration::from_nanos(ages[0]),
            forwarded: clocks.1 - Duration::from_nanos(ages[1]),
        });
        prop_assert_eq!(&round_trip(&message, &clocks), &message);
    }

    #[test]
    fn what_is_reliable_comes_back_as_it_was(
        id: u64,
        epoch: u64,
        kind: u16,
        hops: u8,
        has_entity: bool,
        text in "\\PC{0,30}",
        payload in vec(any::<u8>(), 0..ACTION_PAYLOAD_BYTES_MAX),
        velocity: [f32; 3],
    ) {
        let (entity, player, epoch) = (WorldEntityId(id), PlayerId(id), EntityEpoch(epoch));
        let clocks = instants();
        for message in [
            GatewayMessage::Resync,
            GatewayMessage::Join { player, name: text.clone() },
            GatewayMessage::Leave { player, entity: has_entity.then_some((entity, epoch)) },
            GatewayMessage::Action { entity, kind, payload: payload.clone() },
        ] {
            prop_assert_eq!(&round_trip(&message, &clocks), &message);
        }
        for message in [ZoneMessage::Left { entity, epoch }, ZoneMessage::JoinRefused { player, reason: text.clone() }] {
            prop_assert_eq!(format!("{:?}", round_trip(&message, &clocks)), format!("{message:?}"));
        }
        let action = PassedAction { entity, kind, payload, hops };
        for message in [PeerMessage::Push { entity, velocity }, PeerMessage::Action(action)] {
            prop_assert_eq!(format!("{:?}", round_trip(&message, &clocks)), format!("{message:?}"));
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
    }

    #[test]
    fn no_damage_to_a_message_makes_the_decoder_panic(
        (snapshot, clocks) in snapshot(),
        place: prop::sample::Index,
        value: u8,
        cut: prop::sample::Index,
    ) {
        let mut bytes = Vec::new();
        ZoneMessage::Snapshot(snapshot.into()).encode(&clocks.0, &mut bytes).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = value;
        decode_all(&bytes);
        decode_all(&bytes[..cut.index(bytes.len())]);
    }
}

fn error_of<T: Carried + fmt::Debug>(bytes: &[u8]) -> String {
    let clocks = instants();
    T::decode(bytes, &reading_of(&clocks)).unwrap_err().to_string()
}

#[test]
fn a_count_is_not_believed_before_it_is_checked() {
    // Ghosts of lease 1 and tick 1, which claim to hold u32::MAX entities (253 says that eight bytes follow).
    let mut bytes = vec![0, 1, 1, 253];
    bytes.extend_from_slice(&u64::from(u32::MAX).to_le_bytes());
    let error = error_of::<PeerMessage>(&bytes);
    assert!(error.contains("at most 16384 are allowed"), "{error}");
}

#[test]
fn what_is_longer_than_it_may_be_is_refused() {
    let clock = instants().0;
    let encode = |message: &GatewayMessage| {
        let mut bytes = Vec::new();
        message.encode(&clock, &mut bytes).unwrap();
        bytes
    };
    let action = |bytes| GatewayMessage::Action {
        entity: WorldEntityId(1),
        kind: 1,
        payload: vec![0; bytes],
    };
    let join = |bytes| GatewayMessage::Join {
        player: PlayerId(1),
        name: "n".repeat(bytes),
    };
    for (allowed, too_long) in [
        (action(ACTION_PAYLOAD_BYTES_MAX), action(ACTION_PAYLOAD_BYTES_MAX + 1)),
        (join(NAME_BYTES_MAX), join(NAME_BYTES_MAX + 1)),
    ] {
        let clocks = instants();
        assert_eq!(
            GatewayMessage::decode(&encode(&allowed), &reading_of(&clocks)).unwrap(),
            allowed
        );
        assert!(allowed.check().is_ok() && too_long.check().is_err());
        let error = error_of::<GatewayMessage>(&encode(&too_long));
        assert!(error.contains("are allowed"), "{error}");
    }
}

#[test]
fn nothing_may_be_left_over() {
    assert_eq!(error_of::<GatewayMessage>(&[0, 0]), "1 bytes too many");
}

/// Ids that follow one another, and components one behind the other, as a zone writes them.
#[test]
fn an_entity_of_a_zone_takes_five_bytes_beside_its_components() {
    let entity = |index: u32| EntitySnapshot {
        entity: WorldEntityId((3 << 48) | u64::from(index)),
        epoch: EntityEpoch(2),
        whole: false,
        range: index * 20..(index + 1) * 20,
    };
    let size = |count: u32| {
        let ghosts = Ghosts {
            lease: LeaseEpoch(1),
            tick: Tick(100_000_000_000),
            entities: (0..count).map(entity).collect(),
            bytes: vec![0; count as usize * 20],
        };
        let mut bytes = Vec::new();
        PeerMessage::Ghosts(ghosts.into())
            .encode(&instants().0, &mut bytes)
            .unwrap();
        bytes.len()
    };
    assert_eq!(size(9) - size(8), 20 + 5);
}
