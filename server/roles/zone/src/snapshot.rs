//! Builds a tick's snapshot: what changed for gateways that follow, everything for those that start anew.

use std::sync::Arc;
use std::time::Instant;

use bevy::ecs::change_detection::Tick as ChangeTick;
use bevy::ecs::query::{QueryState, With};
use bevy::ecs::world::{EntityRef, World};
use meridian_fabric::{EntitySnapshot, ProbeTiming, Snapshot};
use meridian_game::component::Selection;
use meridian_game::{Identity, WorldComponents};
use meridian_ids::{LeaseEpoch, Tick, WorldEntityId, ZoneId};

use crate::audit::Simulated;

pub(crate) struct SnapshotBuilder {
    entities: QueryState<(EntityRef<'static>, &'static Simulated), With<Identity>>,
    last: ChangeTick,
    count: usize,
}

/// The snapshots of a tick before the time of their completion is known.
pub(crate) struct Built {
    changes: Snapshot,
    whole: Option<Snapshot>,
}

impl Built {
    /// The entities that have changed.
    pub(crate) fn changed(&self) -> impl Iterator<Item = WorldEntityId> + '_ {
        self.changes.entities.iter().map(|entry| entry.entity)
    }

    pub(crate) fn finish(mut self, finished: Instant) -> (Arc<Snapshot>, Option<Arc<Snapshot>>) {
        self.changes.finished = finished;
        let whole = self.whole.map(|whole| Arc::new(Snapshot { finished, ..whole }));
        (Arc::new(self.changes), whole)
    }
}

impl SnapshotBuilder {
    pub(crate) fn new(world: &mut World) -> Self {
        Self {
            entities: world.query_filtered(),
            last: world.change_tick(),
            count: 0,
        }
    }

    /// The snapshot of a tick in which nothing has happened.
    pub(crate) fn nothing(header: (ZoneId, LeaseEpoch, Tick, Instant)) -> Built {
        let changes = empty(header, false, Vec::new());
        Built { changes, whole: None }
    }

    /// Entities in the last snapshot's world.
    pub(crate) fn entities(&self) -> usize {
        self.count
    }

    pub(crate) fn build(
        &mut self,
        world: &mut World,
        header: (ZoneId, LeaseEpoch, Tick, Instant),
        probes: Vec<ProbeTiming>,
        wants_whole: bool,
    ) -> Built {
        self.entities.update_archetypes(world);
        let this = world.change_tick();
        let mut whole = wants_whole.then(|| empty(header, true, probes.clone()));
        let mut changes = empty(header, false, probes);
        let components = world.resource::<WorldComponents>();
        self.count = 0;
        for (entity, simulated) in self.entities.iter_manual(world) {
            self.count += 1;
            let ticks = entity.get_change_ticks::<Identity>();
            let is_new = ticks.is_some_and(|ticks| ticks.is_added(self.last, this));
            let selection = if is_new {
                Selection::All
            } else {
                Selection::ChangedSince(self.last, this)
            };
            append(&mut changes, components, entity, simulated, is_new, selection);
            if let Some(whole) = &mut whole {
                append(whole, components, entity, simulated, true, Selection::All);
            }
        }
        self.last = this;
        world.increment_change_tick();
        Built { changes, whole }
    }
}

fn empty(
    (zone, lease, tick, began): (ZoneId, LeaseEpoch, Tick, Instant),
    whole: bool,
    probes: Vec<ProbeTiming>,
) -> Snapshot {
    Snapshot {
        zone,
        lease,
        tick,
        whole,
        entities: Vec::new(),
        bytes: Vec::new(),
        probes,
        began,
        finished: began,
    }
}

fn append(
    snapshot: &mut Snapshot,
    components: &WorldComponents,
    entity: EntityRef<'_>,
    simulated: &Simulated,
    whole: bool,
    selection: Selection,
) {
    let start = snapshot.bytes.len() as u32;
    if components.encode(entity, selection, &mut snapshot.bytes) || whole {
        let range = start..snapshot.bytes.len() as u32;
        snapshot.entities.push(EntitySnapshot {
            entity: simulated.entity,
            epoch: simulated.epoch,
            whole,
            range,
        });
    }
}
