//! The messages that gateways and zones exchange, in bytes. Snapshots have their own file.

use meridian_ids::{EntityEpoch, PlayerId, Tick, WorldEntityId};
use serde::{Deserialize, Serialize};

use super::snapshots::{WireGhosts, WireSnapshot};
use super::{
    ACTION_PAYLOAD_BYTES_MAX, Bounded, NAME_BYTES_MAX, REASON_BYTES_MAX, WireError, append, as_bytes, check_length,
    decode,
};
use crate::quic::carried::Reading;
use crate::quic::clock::Clock;
use crate::{GatewayMessage, INPUTS_PER_BATCH_MAX, InputBatch, PassedAction, PeerMessage, TimedInput, ZoneMessage};

#[derive(Serialize, Deserialize)]
enum WireGatewayMessage<'a> {
    Resync,
    Join {
        player: PlayerId,
        name: &'a str,
    },
    Leave {
        player: PlayerId,
        entity: Option<(WorldEntityId, EntityEpoch)>,
    },
    Inputs(WireInputs),
    #[serde(borrow)]
    Action(WireAction<'a>),
}

#[derive(Serialize, Deserialize)]
struct WireAction<'a> {
    entity: WorldEntityId,
    kind: u16,
    #[serde(serialize_with = "as_bytes")]
    payload: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct WireInputs {
    entity: WorldEntityId,
    /// In nanoseconds of the sender's clock.
    received: i64,
    /// In nanoseconds after `received`.
    forwarded: i64,
    inputs: Bounded<WireInput, INPUTS_PER_BATCH_MAX>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WireInput {
    /// Ticks after the input before it; of the first, its tick.
    after: u64,
    packed: u64,
}

#[derive(Serialize, Deserialize)]
enum WireZoneMessage<'a> {
    #[serde(borrow)]
    Snapshot(WireSnapshot<'a>),
    Left {
        entity: WorldEntityId,
        epoch: EntityEpoch,
    },
    JoinRefused {
        player: PlayerId,
        reason: &'a str,
    },
}

#[derive(Serialize, Deserialize)]
enum WirePeerMessage<'a> {
    #[serde(borrow)]
    Ghosts(WireGhosts<'a>),
    Push {
        entity: WorldEntityId,
        velocity: [f32; 3],
    },
    Action {
        hops: u8,
        #[serde(borrow)]
        action: WireAction<'a>,
    },
}

impl WireInputs {
    fn new(batch: &InputBatch, clock: &Clock) -> Self {
        let received = clock.nanoseconds(batch.received);
        let mut before = 0;
        let input = |input: &TimedInput| {
            let after = input.tick.0.wrapping_sub(before);
            before = input.tick.0;
            WireInput {
                after,
                packed: input.packed,
            }
        };
        Self {
            entity: batch.entity,
            received,
            forwarded: clock.nanoseconds(batch.forwarded).wrapping_sub(received),
            inputs: Bounded(batch.inputs.iter().map(input).collect()),
        }
    }

    fn into_batch(self, reading: &Reading<'_>) -> InputBatch {
        let mut tick = 0_u64;
        let input = |input: WireInput| {
            tick = tick.wrapping_add(input.after);
            TimedInput {
                tick: Tick(tick),
                packed: input.packed,
            }
        };
        InputBatch {
            entity: self.entity,
            inputs: self.inputs.0.into_iter().map(input).collect(),
            received: reading.clock.local(self.received, reading.now),
            forwarded: reading
                .clock
                .local(self.received.wrapping_add(self.forwarded), reading.now),
        }
    }
}

impl WireAction<'_> {
    fn check(&self) -> Result<(), WireError> {
        check_length("an action", self.payload.len(), ACTION_PAYLOAD_BYTES_MAX)
    }
}

impl GatewayMessage {
    pub(in crate::quic) fn append_to(&self, clock: &Clock, into: &mut Vec<u8>) -> Result<(), WireError> {
        let message = match self {
            Self::Resync => WireGatewayMessage::Resync,
            Self::Join { player, name } => WireGatewayMessage::Join { player: *player, name },
            Self::Leave { player, entity } => WireGatewayMessage::Leave {
                player: *player,
                entity: *entity,
            },
            Self::Inputs(batch) => WireGatewayMessage::Inputs(WireInputs::new(batch, clock)),
            Self::Action { entity, kind, payload } => WireGatewayMessage::Action(WireAction {
                entity: *entity,
                kind: *kind,
                payload,
            }),
        };
        append(&message, into)
    }

    pub(in crate::quic) fn from_bytes(bytes: &[u8], reading: &Reading<'_>) -> Result<Self, WireError> {
        Ok(match decode(bytes)? {
            WireGatewayMessage::Resync => Self::Resync,
            WireGatewayMessage::Join { player, name } => {
                check_length("a name", name.len(), NAME_BYTES_MAX)?;
                let name = name.to_owned();
                Self::Join { player, name }
            }
            WireGatewayMessage::Leave { player, entity } => Self::Leave { player, entity },
            WireGatewayMessage::Inputs(inputs) => Self::Inputs(inputs.into_batch(reading)),
            WireGatewayMessage::Action(action) => {
                action.check()?;
                Self::Action {
                    entity: action.entity,
                    kind: action.kind,
                    payload: action.payload.to_vec(),
                }
            }
        })
    }
}

impl ZoneMessage {
    pub(in crate::quic) fn append_to(&self, clock: &Clock, into: &mut Vec<u8>) -> Result<(), WireError> {
        let message = match self {
            Self::Snapshot(snapshot) => WireZoneMessage::Snapshot(WireSnapshot::new(snapshot, clock)),
            // The carrier says it by what it does not deliver.
            Self::Gap => return Err(WireError::NeverSent),
            Self::Left { entity, epoch } => WireZoneMessage::Left {
                entity: *entity,
                epoch: *epoch,
            },
            Self::JoinRefused { player, reason } => WireZoneMessage::JoinRefused {
                player: *player,
                reason,
            },
        };
        append(&message, into)
    }

    pub(in crate::quic) fn from_bytes(bytes: &[u8], reading: &Reading<'_>) -> Result<Self, WireError> {
        Ok(match decode(bytes)? {
            WireZoneMessage::Snapshot(snapshot) => Self::Snapshot(snapshot.into_snapshot(reading)?.into()),
            WireZoneMessage::Left { entity, epoch } => Self::Left { entity, epoch },
            WireZoneMessage::JoinRefused { player, reason } => {
                check_length("a reason", reason.len(), REASON_BYTES_MAX)?;
                let reason = reason.to_owned();
                Self::JoinRefused { player, reason }
            }
        })
    }
}

impl PeerMessage {
    pub(in crate::quic) fn append_to(&self, _clock: &Clock, into: &mut Vec<u8>) -> Result<(), WireError> {
        let message = match self {
            Self::Ghosts(ghosts) => WirePeerMessage::Ghosts(WireGhosts::new(ghosts)),
            Self::Push { entity, velocity } => WirePeerMessage::Push {
                entity: *entity,
                velocity: *velocity,
            },
            Self::Action(action) => WirePeerMessage::Action {
                hops: action.hops,
                action: WireAction {
                    entity: action.entity,
                    kind: action.kind,
                    payload: &action.payload,
                },
            },
        };
        append(&message, into)
    }

    pub(in crate::quic) fn from_bytes(bytes: &[u8], _reading: &Reading<'_>) -> Result<Self, WireError> {
        Ok(match decode(bytes)? {
            WirePeerMessage::Ghosts(ghosts) => Self::Ghosts(ghosts.into_ghosts()?.into()),
            WirePeerMessage::Push { entity, velocity } => Self::Push { entity, velocity },
            WirePeerMessage::Action { hops, action } => {
                action.check()?;
                Self::Action(PassedAction {
                    entity: action.entity,
                    kind: action.kind,
                    payload: action.payload.to_vec(),
                    hops,
                })
            }
        })
    }
}
