//! The zone's account of what it simulates, taken from the entities themselves, for whoever audits the world.

use bevy::app::App;
use bevy::ecs::component::Component;
use bevy::ecs::lifecycle::{Add, Remove};
use bevy::ecs::observer::On;
use bevy::ecs::resource::Resource;
use bevy::ecs::system::{Query, ResMut};
use bevy::ecs::world::World;
use meridian_events::{AuditLine, Began, Ended};
use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId, ZoneId};

/// Takes the lines of zones; must be cheap and must not block.
pub trait AuditSink: Send + Sync {
    /// Changes whenever somebody starts to listen, who needs a whole line first; `None` while nobody does.
    fn listeners(&self) -> Option<u64>;
    /// Passes a line on.
    fn publish(&self, line: AuditLine);
}

/// An entity that the zone simulates. What has it is simulated; what has it not is not the zone's.
#[derive(Component, Clone, Copy, Debug)]
pub(crate) struct Simulated {
    pub(crate) entity: WorldEntityId,
    pub(crate) epoch: EntityEpoch,
    /// The first tick that this zone simulated it in.
    pub(crate) from: Tick,
}

/// What has changed since the last line.
#[derive(Resource, Default)]
pub(crate) struct AuditLog {
    /// The last tick that was simulated.
    through: Tick,
    began: Vec<Began>,
    ended: Vec<Ended>,
    pub(crate) spawned: Vec<WorldEntityId>,
    pub(crate) retired: Vec<WorldEntityId>,
    /// The listeners who were told everything.
    told: Option<u64>,
}

impl AuditLog {
    /// The next line tells everything once more.
    pub(crate) fn tell_all(&mut self) {
        self.told = None;
    }
}

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<AuditLog>();
    app.add_observer(begin);
    app.add_observer(end);
}

fn begin(added: On<Add, Simulated>, simulated: Query<&Simulated>, mut log: ResMut<AuditLog>) {
    if let Ok(simulated) = simulated.get(added.entity) {
        log.began.push(Began {
            entity: simulated.entity,
            epoch: simulated.epoch,
            from: simulated.from,
        });
    }
}

fn end(removed: On<Remove, Simulated>, simulated: Query<&Simulated>, mut log: ResMut<AuditLog>) {
    if let Ok(simulated) = simulated.get(removed.entity) {
        let through = log.through;
        log.ended.push(Ended {
            entity: simulated.entity,
            through,
        });
    }
}

/// The tick is simulated: what ends from now on was part of it.
pub(crate) fn simulated(world: &mut World, tick: Tick) {
    world.resource_mut::<AuditLog>().through = tick;
}

/// Says what happened up to the end of `tick`.
pub(crate) fn publish(
    world: &mut World,
    sink: Option<&dyn AuditSink>,
    (zone, lease, tick): (ZoneId, LeaseEpoch, Tick),
) {
    let listeners = sink.and_then(AuditSink::listeners);
    let mut log = std::mem::take(&mut *world.resource_mut::<AuditLog>());
    if let Some(sink) = sink.filter(|_| listeners.is_some()) {
        let whole = listeners != log.told;
        if whole {
            let mut all = world.query::<&Simulated>();
            log.began = all
                .iter(world)
                .map(|simulated| Began {
                    entity: simulated.entity,
                    epoch: simulated.epoch,
                    from: simulated.from,
                })
                .collect();
        }
        sink.publish(AuditLine {
            zone,
            lease,
            tick,
            whole,
            began: log.began,
            ended: log.ended,
            spawned: log.spawned,
            retired: log.retired,
        });
    }
    *world.resource_mut::<AuditLog>() = AuditLog {
        through: log.through,
        told: listeners,
        ..AuditLog::default()
    };
}
