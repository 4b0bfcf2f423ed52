//! Snapshots and ghosts in bytes.

use std::ops::Range;

use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId};
use serde::{Deserialize, Serialize};

use super::{
    Bounded, SNAPSHOT_BYTES_MAX, SNAPSHOT_ENTITIES_MAX, SNAPSHOT_PROBES_MAX, WireError, as_bytes, check_length,
};
use crate::quic::carried::Reading;
use crate::quic::clock::Clock;
use crate::{EntitySnapshot, Ghosts, ProbeTiming, Snapshot};

/// A snapshot. Its zone is not in it: the link says whose it is, whatever the sender may claim.
#[derive(Serialize, Deserialize)]
pub(super) struct WireSnapshot<'a> {
    lease: LeaseEpoch,
    tick: Tick,
    whole: bool,
    /// In nanoseconds of the sender's clock.
    began: i64,
    /// In nanoseconds after `began`.
    finished: i64,
    #[serde(borrow)]
    content: WireEntities<'a>,
    probes: Bounded<WireProbe, SNAPSHOT_PROBES_MAX>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireGhosts<'a> {
    lease: LeaseEpoch,
    tick: Tick,
    #[serde(borrow)]
    content: WireEntities<'a>,
}

#[derive(Serialize, Deserialize)]
struct WireEntities<'a> {
    entities: Bounded<WireEntity, SNAPSHOT_ENTITIES_MAX>,
    #[serde(serialize_with = "as_bytes")]
    bytes: &'a [u8],
}

/// All differences wrap around, so that whatever was there comes back.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WireEntity {
    /// Its id minus that of the one before it.
    after: i64,
    epoch: EntityEpoch,
    whole: bool,
    /// Where its bytes begin, after the end of the one before it.
    skipped: u32,
    length: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WireProbe {
    entity: WorldEntityId,
    sequence: u32,
    /// These three in nanoseconds after the snapshot began.
    received: i64,
    forwarded: i64,
    applied: i64,
}

impl<'a> WireEntities<'a> {
    fn new(entities: &[EntitySnapshot], bytes: &'a [u8]) -> Self {
        let (mut id, mut end) = (0_u64, 0_u32);
        let entity = |entry: &EntitySnapshot| {
            let wire = WireEntity {
                after: entry.entity.0.wrapping_sub(id).cast_signed(),
                epoch: entry.epoch,
                whole: entry.whole,
                skipped: entry.range.start.wrapping_sub(end),
                length: entry.range.end.wrapping_sub(entry.range.start),
            };
            (id, end) = (entry.entity.0, entry.range.end);
            wire
        };
        Self {
            entities: Bounded(entities.iter().map(entity).collect()),
            bytes,
        }
    }

    fn into_parts(self) -> Result<(Vec<EntitySnapshot>, Vec<u8>), WireError> {
        check_length("a snapshot's components", self.bytes.len(), SNAPSHOT_BYTES_MAX)?;
        let (mut id, mut end) = (0_u64, 0_u32);
        let entity = |wire: WireEntity| {
            id = id.wrapping_add(wire.after.cast_unsigned());
            let start = end.wrapping_add(wire.skipped);
            end = start.wrapping_add(wire.length);
            EntitySnapshot {
                entity: WorldEntityId(id),
                epoch: wire.epoch,
                whole: wire.whole,
                range: Range { start, end },
            }
        };
        let entities = self.entities.0.into_iter().map(entity).collect();
        Ok((entities, self.bytes.to_vec()))
    }
}

impl<'a> WireSnapshot<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, clock: &Clock) -> Self {
        let began = clock.nanoseconds(snapshot.began);
        let after = |instant| clock.nanoseconds(instant).wrapping_sub(began);
        let probe = |probe: &ProbeTiming| WireProbe {
            entity: probe.entity,
            sequence: probe.sequence,
            received: after(probe.received),
            forwarded: after(probe.forwarded),
            applied: after(probe.applied),
        };
        Self {
            lease: snapshot.lease,
            tick: snapshot.tick,
            whole: snapshot.whole,
            began,
            finished: after(snapshot.finished),
            content: WireEntities::new(&snapshot.entities, &snapshot.bytes),
            probes: Bounded(snapshot.probes.iter().map(probe).collect()),
        }
    }

    pub(super) fn into_snapshot(self, reading: &Reading<'_>) -> Result<Snapshot, WireError> {
        let began = self.began;
        let local = |after: i64| reading.clock.local(began.wrapping_add(after), reading.now);
        let probe = |probe: WireProbe| ProbeTiming {
            entity: probe.entity,
            sequence: probe.sequence,
            received: local(probe.received),
            forwarded: local(probe.forwarded),
            applied: local(probe.applied),
        };
        let probes = self.probes.0.into_iter().map(probe).collect();
        let (entities, bytes) = self.content.into_parts()?;
        Ok(Snapshot {
            zone: reading.zone,
            lease: self.lease,
            tick: self.tick,
            whole: self.whole,
            entities,
            bytes,
            probes,
            began: local(0),
            finished: local(self.finished),
        })
    }
}

impl<'a> WireGhosts<'a> {
    pub(super) fn new(ghosts: &'a Ghosts) -> Self {
        Self {
            lease: ghosts.lease,
            tick: ghosts.tick,
            content: WireEntities::new(&ghosts.entities, &ghosts.bytes),
        }
    }

    pub(super) fn into_ghosts(self) -> Result<Ghosts, WireError> {
        let (entities, bytes) = self.content.into_parts()?;
        Ok(Ghosts {
            lease: self.lease,
            tick: self.tick,
            entities,
            bytes,
        })
    }
}
