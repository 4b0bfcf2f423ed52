//! What zones and gateways tell each other.

use std::sync::Arc;
use std::time::Instant;

use meridian_ids::{EntityEpoch, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};

/// Ticks of input that one batch may carry: what a client repeats, and what a switch of zones may bring along.
pub const INPUTS_PER_BATCH_MAX: usize = 64;

/// A player's input for one tick, packed by the game (see `Move::pack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedInput {
    /// The tick it is for.
    pub tick: Tick,
    /// The input.
    pub packed: u64,
}

/// Inputs of one player's entity, forwarded the moment they came in.
#[derive(Clone, Debug, PartialEq)]
pub struct InputBatch {
    /// The entity they are for.
    pub entity: WorldEntityId,
    /// At most [`INPUTS_PER_BATCH_MAX`] inputs, oldest first.
    pub inputs: Vec<TimedInput>,
    /// When the packet came in at the gateway's socket.
    pub received: Instant,
    /// When the gateway queued it for the zone.
    pub forwarded: Instant,
}

/// From a gateway to a zone.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewayMessage {
    /// Send a whole snapshot next, then changes: the gateway is new, or lost one.
    Resync,
    /// Make an entity for a player, unless it has one.
    Join {
        /// The player.
        player: PlayerId,
        /// What others call it.
        name: String,
    },
    /// The player is gone; take its entity out of the world.
    Leave {
        /// The player.
        player: PlayerId,
        /// What the gateway still mirrors of it, and under which epoch.
        entity: Option<(WorldEntityId, EntityEpoch)>,
    },
    /// Inputs. Lost ones are repeated by the next batch.
    Inputs(InputBatch),
    /// An action beyond moving.
    Action {
        /// The acting entity.
        entity: WorldEntityId,
        /// Which action.
        kind: u16,
        /// Its bytes.
        payload: Vec<u8>,
    },
}

/// One entity in a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct EntitySnapshot {
    /// The entity.
    pub entity: WorldEntityId,
    /// How many owners it has had; a gateway ignores what is older than it knows.
    pub epoch: EntityEpoch,
    /// Whether the bytes hold every component, so that the entity may be made from them.
    pub whole: bool,
    /// Its components in [`Snapshot::bytes`].
    pub range: std::ops::Range<u32>,
}

/// Where the time of a probed action went in the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTiming {
    /// The acting entity.
    pub entity: WorldEntityId,
    /// The stamp.
    pub sequence: u32,
    /// When the gateway's socket had the input.
    pub received: Instant,
    /// When the gateway queued it.
    pub forwarded: Instant,
    /// When the tick that applied it began.
    pub applied: Instant,
}

/// What changed in a zone in one tick.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The zone.
    pub zone: ZoneId,
    /// Which instance of it.
    pub lease: LeaseEpoch,
    /// The tick that it is the state after.
    pub tick: Tick,
    /// Whether every entity of the zone is in it, whole.
    pub whole: bool,
    /// The entities that changed.
    pub entities: Vec<EntitySnapshot>,
    /// Their components, as the game's registry encodes them.
    pub bytes: Vec<u8>,
    /// Probed actions that the tick applied.
    pub probes: Vec<ProbeTiming>,
    /// When the tick began.
    pub began: Instant,
    /// When the snapshot was complete.
    pub finished: Instant,
}

impl Snapshot {
    /// The component bytes of one of its entities.
    pub fn bytes_of(&self, entity: &EntitySnapshot) -> &[u8] {
        bytes_in(&self.bytes, &entity.range)
    }
}

/// What a zone owns near the border to a neighbour, after a tick: all of it, whole.
#[derive(Clone, Debug)]
pub struct Ghosts {
    /// Which instance of the zone.
    pub lease: LeaseEpoch,
    /// The tick that it is the state after.
    pub tick: Tick,
    /// The entities; what is no longer among them is out of reach.
    pub entities: Vec<EntitySnapshot>,
    /// Their components, as the game's registry encodes them.
    pub bytes: Vec<u8>,
}

/// From a zone to its neighbour.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    /// What stands near the border.
    Ghosts(Arc<Ghosts>),
    /// An entity of the receiver is pushed where the sender has its ghost. Saying it twice asks for no more than saying it once.
    Push {
        /// The entity.
        entity: WorldEntityId,
        /// The velocity that who pushes would give it, in metres per second.
        velocity: [f32; 3],
    },
    /// An action of a player who was handed over in the meantime.
    Action(PassedAction),
}

/// An action on its way after its player.
#[derive(Clone, Debug, PartialEq)]
pub struct PassedAction {
    /// The acting entity.
    pub entity: WorldEntityId,
    /// Which action.
    pub kind: u16,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Zones that it has passed.
    pub hops: u8,
}

impl Ghosts {
    /// The component bytes of one of its entities.
    pub fn bytes_of(&self, entity: &EntitySnapshot) -> &[u8] {
        bytes_in(&self.bytes, &entity.range)
    }
}

/// A range that does not lie in the bytes is empty: it came over a wire.
fn bytes_in<'a>(bytes: &'a [u8], range: &std::ops::Range<u32>) -> &'a [u8] {
    bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// From a zone to a gateway.
#[derive(Clone, Debug)]
pub enum ZoneMessage {
    /// A tick's changes. A lost one is followed by a whole one.
    Snapshot(Arc<Snapshot>),
    /// Changes were lost on the way: what comes next may tell of entities that were never seen whole. The gateway asks for a
    /// [`GatewayMessage::Resync`]. The carrier says it, never the zone, and not before a whole snapshot, which makes it good.
    Gap,
    /// An entity left the world. Never undoes a higher epoch.
    Left {
        /// The entity.
        entity: WorldEntityId,
        /// The epoch under which it left.
        epoch: EntityEpoch,
    },
    /// A player cannot be let in.
    JoinRefused {
        /// The player.
        player: PlayerId,
        /// Why, for people.
        reason: String,
    },
}

impl ZoneMessage {
    /// Whether losing it is made good by a later message.
    pub fn is_droppable(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::Gap)
    }
}

impl GatewayMessage {
    /// Whether losing it is made good by a later message.
    pub fn is_droppable(&self) -> bool {
        matches!(self, Self::Inputs(_))
    }
}
