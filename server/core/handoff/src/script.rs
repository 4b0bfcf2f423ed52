//! What the durable side does, each atomically: the commands, their answers, and what they carry.
//!
//! Every command names the zone instance that gives it; a command of an instance that is not the zone's newest is refused.
//! Repeating a command that succeeded succeeds again and changes nothing.
//!
//! A store that was restarted may have lost its newest writes. It begins another [`Generation`]: each living instance first says once more what it
//! owns and what it gave away ([`Command::Assert`]); until all had the time to ([`Refusal::Settling`]), no new instance gets a zone.

use std::fmt;

use meridian_ids::{EntityEpoch, Generation, LeaseEpoch, PlayerId, Tick, WorldEntityId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::Allowance;

/// One instance of a zone: only the newest may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The zone.
    pub zone: ZoneId,
    /// Which of its instances.
    pub lease: LeaseEpoch,
}

/// An entity's durable record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The entity.
    pub entity: WorldEntityId,
    /// How many owners it has had.
    pub epoch: EntityEpoch,
    /// The player whose entity it is.
    pub player: Option<PlayerId>,
    /// The tick that the state is the one after.
    pub after: Tick,
    /// The handoffs it may still make.
    pub allowance: Allowance,
    /// Its components, as the game's registry encodes them.
    pub state: Vec<u8>,
    /// Inputs for later ticks that its owner had already, packed by the game.
    pub inputs: Vec<(Tick, u64)>,
}

/// A player died and started again; its record says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Its entity.
    pub entity: WorldEntityId,
    /// The player.
    pub player: PlayerId,
    /// The tick in which it died.
    pub tick: Tick,
}

/// Tells the answers of one asker apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a transfer among all that were ever begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransferId {
    /// Who sends.
    pub from: Instance,
    /// Counts the sender's transfers.
    pub number: u64,
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.from.zone, self.from.lease.0, self.number)
    }
}

/// Entities on their way from one zone to another: one, or all that are joined together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its name.
    pub id: TransferId,
    /// The zone that they go to.
    pub to: ZoneId,
    /// Their records, under the epochs that they have at the receiver.
    pub records: Vec<Record>,
}

impl Transfer {
    /// What it carries, under the epochs at the receiver.
    pub fn entities(&self) -> Vec<(WorldEntityId, EntityEpoch)> {
        self.records
            .iter()
            .map(|record| (record.entity, record.epoch))
            .collect()
    }
}

/// What a zone asks the durable side to do. Who came, left, died or changed zones is told to services by the command that makes it so, in the same
/// atomic step, so that neither is known without the other; and once, however often the command is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Take the lease as a new instance, or renew it as the one that has it.
    ///
    /// A new instance is told of its lease only when the store cannot lose it any more: a store that came back without it would take
    /// an older instance, which was replaced and lives, for the newest, and entity ids would be minted twice.
    ClaimZone {
        /// The zone.
        zone: ZoneId,
        /// Who asks. While a lease lasts only an instance of the same name may take the zone over: it is the same machine, started again.
        name: String,
        /// The lease to renew; none for a new instance, which then gets the next epoch.
        held: Option<LeaseEpoch>,
    },
    /// Say in a new generation what the instance owned, gave away and took out of the world in the one before: the highest epoch wins.
    Assert {
        /// Who asks, under the lease that it had.
        by: Instance,
        /// Its name.
        name: String,
        /// What it owns, under the epochs that it knows, also what is about to leave.
        owned: Vec<Record>,
        /// What it handed over of late.
        departed: Vec<Transfer>,
        /// What it took out of the world of late, or has asked to.
        retired: Vec<(WorldEntityId, EntityEpoch)>,
    },
    /// Tell what the zone owns: after an assertion it may be more than its instance knew of.
    Recall {
        /// Who asks.
        by: Instance,
    },
    /// Write down a new entity; comes before anybody sees it. Ids of one zone must be spawned in the order of their minting.
    Spawn {
        /// Who asks.
        by: Instance,
        /// The record. For a player that has an entity already, the answer says which, and this one will not be spawned any more. While the
        /// store settles no player is let in: one may have an entity that nobody has asserted yet.
        record: Record,
    },
    /// Take entities out of the world; comes before anybody sees them gone.
    Retire {
        /// Who asks.
        by: Instance,
        /// Which, under which epochs.
        entities: Vec<(WorldEntityId, EntityEpoch)>,
        /// The last tick in which they were simulated.
        after: Tick,
    },
    /// Write down states. Those of entities that the zone no longer owns are left out.
    Checkpoint {
        /// Who asks.
        by: Instance,
        /// The records.
        records: Vec<Record>,
        /// Who died, each entity's in the order of ticks. Of one that has left the world it is not told any more.
        died: Vec<Death>,
    },
    /// Hand entities over: out of the sender's records, into the receiver's inbox.
    Transfer(Transfer),
    /// Close a transfer whose outcome is unknown: either it has happened, or it never will.
    Settle {
        /// The transfer.
        id: TransferId,
        /// What it was to carry, under the epochs at the receiver.
        entities: Vec<(WorldEntityId, EntityEpoch)>,
    },
    /// Take a transfer out of the own inbox into the own records.
    Accept {
        /// Who asks.
        by: Instance,
        /// The transfer.
        id: TransferId,
        /// What it carries, under the epochs at the receiver.
        entities: Vec<(WorldEntityId, EntityEpoch)>,
    },
}

/// What the durable side answers to a command that it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Done {
    /// The lease is the asker's.
    Claimed {
        /// Its epoch.
        lease: LeaseEpoch,
        /// What the zone owns; only told to a new instance.
        records: Vec<Record>,
        /// What was on its way to the zone; only told to a new instance.
        inbox: Vec<Transfer>,
    },
    /// What was asserted is written down, as far as nobody has it under a higher epoch.
    Asserted {
        /// The instance's lease in this generation.
        lease: LeaseEpoch,
        /// What it owns of what it named, under the epochs of this generation.
        owned: Vec<(WorldEntityId, EntityEpoch)>,
    },
    /// What the zone owns.
    Recalled {
        /// The records.
        records: Vec<Record>,
    },
    /// The entity is written down.
    Spawned {
        /// Its epoch.
        epoch: EntityEpoch,
    },
    /// The player has an entity already, and this is where.
    Exists {
        /// Its entity.
        entity: WorldEntityId,
        /// Who owns it, or will.
        zone: ZoneId,
    },
    /// The entities are out of the world.
    Retired,
    /// The states are written down.
    Checkpointed,
    /// The entities are in the receiver's inbox, or further.
    Transferred,
    /// The transfer has not happened and will not: the sender still owns the entities.
    Kept,
    /// Entities of the transfer are the asker's.
    Accepted {
        /// Which, under which epochs: others have gone elsewhere since.
        owned: Vec<(WorldEntityId, EntityEpoch)>,
    },
}

/// Why a command was not done. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// A newer instance has the zone.
    #[error("a newer instance has the zone")]
    Fenced,
    /// An instance of another name has the zone's lease.
    #[error("another instance has the zone's lease")]
    Taken,
    /// The store has begun another generation, and the asker has asserted nothing in it.
    #[error("the store was restarted and is in generation {0}")]
    NewGeneration(Generation),
    /// Living instances have not had the time to assert what is theirs.
    #[error("the store was restarted, and waits for what lives")]
    Settling,
    /// The asker does not own an entity under the epoch that it named.
    #[error("{0} is not the zone's, or not under this epoch")]
    NotOwner(WorldEntityId),
    /// The receiving zone has no live instance.
    #[error("the receiving zone has no live instance")]
    NoReceiver,
    /// The receiving zone does not keep up.
    #[error("the receiving zone's inbox is full")]
    InboxFull,
    /// There is no such transfer in the inbox, and there was none.
    #[error("no such transfer")]
    NoTransfer,
}
