//! The hot path between zones and gateways: joins, inputs and actions one way, snapshots the other.
//!
//! One pair of traits, [`ZoneEnd`] and [`GatewayEnd`], whatever carries the messages, and [`PeerEnd`] between neighbouring zones.
//! In one process that is a pair of bounded queues ([`in_process`], [`in_process_peers`]), between processes QUIC with mutual TLS
//! ([`FabricEndpoint`]). Nothing here blocks: a full queue has a named policy per message class.

pub mod certificates;
pub mod desk;
mod in_process;
mod message;
mod metric_definitions;
mod quic;

pub use in_process::{DROPPABLE_QUEUE_MAX, PEER_QUEUE_MAX, RELIABLE_QUEUE_MAX, in_process, in_process_peers};
pub use message::{
    EntitySnapshot, GatewayMessage, Ghosts, INPUTS_PER_BATCH_MAX, InputBatch, PassedAction, PeerMessage, ProbeTiming,
    Snapshot, TimedInput, ZoneMessage,
};
pub use quic::{
    ACTION_PAYLOAD_BYTES_MAX, AcceptedLink, AddressFn, FABRIC_VERSION, FabricBindError, FabricEndpoint, FabricOptions,
    FabricRole, FabricTls, FabricTlsError, LeaseFn, LinkSource, NAME_BYTES_MAX, REASON_BYTES_MAX, SNAPSHOT_BYTES_MAX,
    SNAPSHOT_ENTITIES_MAX, SNAPSHOT_PROBES_MAX, WorldStamp,
};

use std::sync::Arc;

/// Called after a message was queued for the other end; must be cheap and must not block.
pub type WakeFn = Arc<dyn Fn() + Send + Sync>;

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FabricError {
    /// The other end does not keep up; the message was dropped.
    #[error("the other end's queue is full")]
    Full,
    /// The other end is gone.
    #[error("the other end is gone")]
    Closed,
    /// The message has more in it than one may have, and will never be carried.
    #[error("the message is larger than a link carries; split it or keep less in it")]
    TooLarge,
}

/// A zone's end of its connection to one gateway.
pub trait ZoneEnd: Send + Sync {
    /// Queues a message for the gateway.
    fn send(&self, message: ZoneMessage) -> Result<(), FabricError>;
    /// The next message from the gateway, if there is one.
    fn try_receive(&self) -> Option<GatewayMessage>;
    /// Whether the link is over and all that came over it was received: the zone may drop it. A gateway that comes back has a new one.
    fn is_closed(&self) -> bool;
}

/// A gateway's end of its connection to one zone.
pub trait GatewayEnd: Send + Sync {
    /// Queues a message for the zone.
    fn send(&self, message: GatewayMessage) -> Result<(), FabricError>;
    /// The next message from the zone, if there is one.
    fn try_receive(&self) -> Option<ZoneMessage>;
    /// Whether there is a zone at the other end right now. While there is none, [`FabricError::Closed`] answers every message.
    fn is_connected(&self) -> bool;
}

/// A zone's end of its connection to a neighbouring zone. Everything on it can be lost: the next tick says it anew.
pub trait PeerEnd: Send + Sync {
    /// Queues a message for the neighbour.
    fn send(&self, message: PeerMessage) -> Result<(), FabricError>;
    /// The next message from the neighbour, if there is one.
    fn try_receive(&self) -> Option<PeerMessage>;
    /// Whether the link is over for good, and all that came over it was received. An end that connects by itself is never closed.
    fn is_closed(&self) -> bool;
    /// Whether there is a neighbour at the other end right now.
    fn is_connected(&self) -> bool;
}
