//! What is to be known of a message to carry it: its class, what it takes, and whether it may be sent at all.

use std::time::Instant;

use meridian_ids::ZoneId;

use super::arrivals::Order;
use super::clock::{Clock, OtherClock};
use super::wire::{
    ACTION_PAYLOAD_BYTES_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_ENTITIES_MAX,
    SNAPSHOT_PROBES_MAX, WireError,
};
use crate::in_process::{PEER_QUEUE_MAX, RELIABLE_QUEUE_MAX};
use crate::{EntitySnapshot, FabricError, GatewayMessage, INPUTS_PER_BATCH_MAX, PeerMessage, ProbeTiming, ZoneMessage};

/// How a message is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// On the link's ordered stream.
    Reliable,
    /// A datagram; the next one says it again.
    Loose,
    /// A stream of its own if it brings entities or is longer than a datagram, else a datagram; delivered in order, or it is told that
    /// one was lost.
    Snapshot,
    /// A datagram or a stream of its own; only the newest counts.
    Ghosts,
}

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Reliable, Self::Loose, Self::Snapshot, Self::Ghosts];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Reliable => "reliable",
            Self::Loose => "droppable",
            Self::Snapshot => "snapshot",
            Self::Ghosts => "ghosts",
        }
    }
}

/// What the receiver of a message knows beside its bytes.
pub(super) struct Reading<'a> {
    /// The zone at the accepting end of the link; a gateway has snapshots of it.
    pub(super) zone: ZoneId,
    /// The sender's clock.
    pub(super) clock: &'a OtherClock,
    /// When the bytes came.
    pub(super) now: Instant,
}

/// A message that a link carries one way.
pub(super) trait Carried: Sized + Send + Sync + 'static {
    /// Between whom it goes, for metrics.
    const DIRECTION: &'static str;
    /// What the messages of its sequence are to each other.
    const ORDER: Order;
    /// Reliable messages that may wait.
    const RELIABLE_MAX: usize;

    /// How it is carried.
    fn class(&self) -> Class;
    /// Bytes that it keeps beside itself.
    fn footprint(&self) -> usize;
    /// Whether it must not be delivered before the last message of the sequence that was sent before it.
    fn follows_sequence(&self) -> bool {
        false
    }
    /// Whether it goes by stream however small it is, because what it tells is told once.
    fn must_arrive(&self) -> bool {
        false
    }
    /// Whether it needs none of the messages before it in the sequence.
    fn makes_good(&self) -> bool {
        false
    }
    /// What the receiver is told when messages of the sequence were lost.
    fn lost() -> Option<Self> {
        None
    }
    /// Fails if it has more in it than the other side would take.
    fn check(&self) -> Result<(), FabricError>;
    /// Appends its bytes.
    fn encode(&self, clock: &Clock, into: &mut Vec<u8>) -> Result<(), WireError>;
    /// The message of these bytes, all of them.
    fn decode(bytes: &[u8], reading: &Reading<'_>) -> Result<Self, WireError>;
}

fn within(size: usize, max: usize) -> Result<(), FabricError> {
    if size > max { Err(FabricError::TooLarge) } else { Ok(()) }
}

fn check_snapshot(entities: usize, bytes: usize, probes: usize) -> Result<(), FabricError> {
    within(entities, SNAPSHOT_ENTITIES_MAX)?;
    within(bytes, SNAPSHOT_BYTES_MAX)?;
    within(probes, SNAPSHOT_PROBES_MAX)
}

fn snapshot_footprint(entities: usize, bytes: usize, probes: usize) -> usize {
    bytes + entities * size_of::<EntitySnapshot>() + probes * size_of::<ProbeTiming>()
}

impl Carried for GatewayMessage {
    const DIRECTION: &'static str = "gateway_to_zone";
    const ORDER: Order = Order::Each;
    const RELIABLE_MAX: usize = RELIABLE_QUEUE_MAX;

    fn class(&self) -> Class {
        match self {
            Self::Inputs(_) => Class::Loose,
            Self::Resync | Self::Join { .. } | Self::Leave { .. } | Self::Action { .. } => Class::Reliable,
        }
    }

    fn footprint(&self) -> usize {
        match self {
            Self::Resync | Self::Leave { .. } => 0,
            Self::Join { name, .. } => name.len(),
            Self::Inputs(batch) => size_of_val(batch.inputs.as_slice()),
            Self::Action { payload, .. } => payload.len(),
        }
    }

    fn check(&self) -> Result<(), FabricError> {
        match self {
            Self::Resync | Self::Leave { .. } => Ok(()),
            Self::Join { name, .. } => within(name.len(), NAME_BYTES_MAX),
            Self::Inputs(batch) => within(batch.inputs.len(), INPUTS_PER_BATCH_MAX),
            Self::Action { payload, .. } => within(payload.len(), ACTION_PAYLOAD_BYTES_MAX),
        }
    }

    fn encode(&self, clock: &Clock, into: &mut Vec<u8>) -> Result<(), WireError> {
        self.append_to(clock, into)
    }

    fn decode(bytes: &[u8], reading: &Reading<'_>) -> Result<Self, WireError> {
        Self::from_bytes(bytes, reading)
    }
}

impl Carried for ZoneMessage {
    const DIRECTION: &'static str = "zone_to_gateway";
    const ORDER: Order = Order::Each;
    const RELIABLE_MAX: usize = RELIABLE_QUEUE_MAX;

    fn class(&self) -> Class {
        match self {
            Self::Snapshot(_) | Self::Gap => Class::Snapshot,
            Self::Left { .. } | Self::JoinRefused { .. } => Class::Reliable,
        }
    }

    fn footprint(&self) -> usize {
        match self {
            Self::Snapshot(snapshot) => {
                snapshot_footprint(snapshot.entities.len(), snapshot.bytes.len(), snapshot.probes.len())
            }
            Self::JoinRefused { reason, .. } => reason.len(),
            Self::Gap | Self::Left { .. } => 0,
        }
    }

    fn follows_sequence(&self) -> bool {
        matches!(self, Self::Left { .. })
    }

    fn must_arrive(&self) -> bool {
        matches!(self, Self::Snapshot(snapshot) if snapshot.entities.iter().any(|entity| entity.whole))
    }

    fn makes_good(&self) -> bool {
        matches!(self, Self::Snapshot(snapshot) if snapshot.whole)
    }

    fn lost() -> Option<Self> {
        Some(Self::Gap)
    }

    fn check(&self) -> Result<(), FabricError> {
        match self {
            Self::Snapshot(snapshot) => {
                check_snapshot(snapshot.entities.len(), snapshot.bytes.len(), snapshot.probes.len())
            }
            Self::JoinRefused { reason, .. } => within(reason.len(), REASON_BYTES_MAX),
            Self::Gap | Self::Left { .. } => Ok(()),
        }
    }

    fn encode(&self, clock: &Clock, into: &mut Vec<u8>) -> Result<(), WireError> {
        self.append_to(clock, into)
    }

    fn decode(bytes: &[u8], reading: &Reading<'_>) -> Result<Self, WireError> {
        Self::from_bytes(bytes, reading)
    }
}

impl Carried for PeerMessage {
    const DIRECTION: &'static str = "zone_to_zone";
    const ORDER: Order = Order::Newest;
    const RELIABLE_MAX: usize = PEER_QUEUE_MAX;

    fn class(&self) -> Class {
        match self {
            Self::Ghosts(_) => Class::Ghosts,
            Self::Push { .. } => Class::Loose,
            Self::Action(_) => Class::Reliable,
        }
    }

    fn footprint(&self) -> usize {
        match self {
            Self::Ghosts(ghosts) => snapshot_footprint(ghosts.entities.len(), ghosts.bytes.len(), 0),
            Self::Push { .. } => 0,
            Self::Action(action) => action.payload.len(),
        }
    }

    fn check(&self) -> Result<(), FabricError> {
        match self {
            Self::Ghosts(ghosts) => check_snapshot(ghosts.entities.len(), ghosts.bytes.len(), 0),
            Self::Push { .. } => Ok(()),
            Self::Action(action) => within(action.payload.len(), ACTION_PAYLOAD_BYTES_MAX),
        }
    }

    fn encode(&self, clock: &Clock, into: &mut Vec<u8>) -> Result<(), WireError> {
        self.append_to(clock, into)
    }

    fn decode(bytes: &[u8], reading: &Reading<'_>) -> Result<Self, WireError> {
        Self::from_bytes(bytes, reading)
    }
}
