//! The hot path between zones and gateways: joins, inputs and actions one way, snapshots the other.
//!
//! One pair of traits, [`ZoneEnd`] and [`GatewayEnd`], whatever carries the messages, and [`PeerEnd`] between neighbouring zones.
//! In one process that is a pair of bounded queues ([`in_process`], [`in_process_peers`]). Nothing here blocks: a full queue has a named policy per message class.

mod in_process;
mod message;
mod metric_definitions;

pub use in_process::{DROPPABLE_QUEUE_MAX, PEER_QUEUE_MAX, RELIABLE_QUEUE_MAX, in_process, in_process_peers};
pub use message::{
    EntitySnapshot, GatewayMessage, Ghosts, INPUTS_PER_BATCH_MAX, InputBatch, PassedAction, PeerMessage, ProbeTiming,
    Snapshot, TimedInput, ZoneMessage,
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
}

/// A zone's end of its connection to one gateway.
pub trait ZoneEnd: Send + Sync {
    /// Queues a message for the gateway.
    fn send(&self, message: ZoneMessage) -> Result<(), FabricError>;
    /// The next message from the gateway, if there is one.
    fn try_receive(&self) -> Option<GatewayMessage>;
}

/// A gateway's end of its connection to one zone.
pub trait GatewayEnd: Send + Sync {
    /// Queues a message for the zone.
    fn send(&self, message: GatewayMessage) -> Result<(), FabricError>;
    /// The next message from the zone, if there is one.
    fn try_receive(&self) -> Option<ZoneMessage>;
}

/// A zone's end of its connection to a neighbouring zone. Everything on it can be lost: the next tick says it anew.
pub trait PeerEnd: Send + Sync {
    /// Queues a message for the neighbour.
    fn send(&self, message: PeerMessage) -> Result<(), FabricError>;
    /// The next message from the neighbour, if there is one.
    fn try_receive(&self) -> Option<PeerMessage>;
}
