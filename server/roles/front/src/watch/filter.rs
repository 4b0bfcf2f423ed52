//! What a watcher asked for, and what a zone told, in the form in which watchers are told.

use std::collections::HashSet;
use std::time::Instant;

use meridian_events::envelope::is_traceparent;
use meridian_events::{Positions, TRACED_MAX};
use meridian_ids::Rectangle;
use meridian_rpc::v1::{Position, TracedMove, Vector3};

/// How far from its zone's place an entity may be, in metres: scenery is shared as far as a player is simulated beyond a border, with room.
const BEYOND_BORDER_M: f32 = 8.0;

/// What a watcher asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    Everything,
    /// A rectangle in x and z with its edges.
    Area {
        min: [f32; 2],
        max: [f32; 2],
    },
    Entities(HashSet<u64>),
}

/// Where entities of one zone were after one tick.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    positions: Vec<Position>,
    /// The traced moves that are shown for the first time.
    traced: Vec<TracedMove>,
    /// When the tick was due.
    due: Instant,
}

/// What a watcher is told of a batch.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) positions: Vec<Position>,
    pub(crate) traced: Vec<TracedMove>,
}

impl Filter {
    /// Whether entities of a zone with this place may be wanted.
    pub(crate) fn reaches(&self, area: &Rectangle) -> bool {
        match self {
            Self::Everything | Self::Entities(_) => true,
            Self::Area { min, max } => {
                let wanted = Rectangle { min: *min, max: *max };
                area.distance_to(&wanted) <= BEYOND_BORDER_M
            }
        }
    }

    fn wants(&self, position: &Position) -> bool {
        match self {
            Self::Everything => true,
            Self::Area { min, max } => position
                .position
                .is_some_and(|Vector3 { x, z, .. }| (min[0]..=max[0]).contains(&x) && (min[1]..=max[1]).contains(&z)),
            Self::Entities(wanted) => wanted.contains(&position.entity_id),
        }
    }
}

impl Batch {
    /// `due` is when the tick was.
    pub(crate) fn new(told: &Positions, due: Instant) -> Self {
        let positions = told.entities.iter().map(|entity| {
            let [x, y, z] = entity.position;
            Position {
                entity_id: entity.entity.0,
                zone_id: told.zone.0.into(),
                epoch: entity.epoch.0,
                tick: told.tick.0,
                position: Some(Vector3 { x, y, z }),
            }
        });
        // They come from the store, where others may have written them.
        let traced = told.traced.iter().take(TRACED_MAX);
        let traced = traced.filter(|(_, traceparent)| is_traceparent(traceparent));
        Self {
            positions: positions.collect(),
            traced: traced
                .map(|(entity, traceparent)| TracedMove {
                    entity_id: entity.0,
                    traceparent: traceparent.clone(),
                })
                .collect(),
            due,
        }
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Whether there is anything in it for a watcher.
    pub(crate) fn is_wanted(&self, filter: &Filter) -> bool {
        self.positions.iter().any(|position| filter.wants(position))
    }

    /// What a watcher is told of it.
    pub(crate) fn told(&self, filter: &Filter) -> Told {
        let wanted = self.positions.iter().filter(|position| filter.wants(position));
        let positions: Vec<Position> = wanted.copied().collect();
        let shown = |entity| positions.iter().any(|position| position.entity_id == entity);
        let traced = self.traced.iter().filter(|traced| shown(traced.entity_id));
        Told {
            traced: traced.cloned().collect(),
            positions,
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_events::EntityPosition;
    use meridian_ids::{EntityEpoch, LeaseEpoch, Tick, WorldEntityId, ZoneId};

    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Entities 1, 2 and 3 at x = 1, 2 and 3.
    fn batch(traced: &[(u64, &str)]) -> Batch {
        let entities = (1..=3u64).map(|entity| EntityPosition {
            entity: WorldEntityId(entity),
            epoch: EntityEpoch(7),
            position: [entity as f32, 0.9, 0.0],
        });
        let told = Positions {
            zone: ZoneId(4),
            lease: LeaseEpoch(1),
            tick: Tick(9),
            is_whole: true,
            traced: traced
                .iter()
                .map(|(entity, traceparent)| (WorldEntityId(*entity), (*traceparent).to_owned()))
                .collect(),
            entities: entities.collect(),
        };
        Batch::new(&told, Instant::now())
    }

    fn entities(filter: &Filter) -> Vec<u64> {
        let told = batch(&[]).told(filter);
        assert_eq!(batch(&[]).is_wanted(filter), !told.positions.is_empty());
        told.positions.iter().map(|position| position.entity_id).collect()
    }

    #[test]
    fn a_watcher_is_told_what_it_asked_for() {
        let area = |min_x: f32, max_x: f32| Filter::Area {
            min: [min_x, 0.0],
            max: [max_x, 0.0],
        };
        assert_eq!(entities(&Filter::Everything), [1, 2, 3]);
        assert_eq!(entities(&area(1.0, 2.0)), [1, 2], "edges belong to an area");
        assert_eq!(entities(&area(1.5, 2.5)), [2]);
        assert!(entities(&area(4.0, 9.0)).is_empty());
        assert_eq!(entities(&Filter::Entities([3, 9].into())), [3]);
        let position = batch(&[]).told(&area(1.0, 1.0)).positions[0];
        assert_eq!((position.zone_id, position.epoch, position.tick), (4, 7, 9));
        let (x, y, z) = (1.0, 0.9, 0.0);
        assert_eq!(position.position, Some(Vector3 { x, y, z }));
    }

    #[test]
    fn a_trace_is_told_to_who_is_told_of_its_entity_and_only_if_it_is_one() {
        let only = |entity: u64| Filter::Entities([entity].into());
        let traced = batch(&[(2, TRACEPARENT), (3, TRACEPARENT), (1, "00-\r\n"), (9, TRACEPARENT)]);
        let told = |filter: &Filter| {
            let told = traced.told(filter).traced;
            assert!(told.iter().all(|traced| traced.traceparent == TRACEPARENT));
            told.iter().map(|traced| traced.entity_id).collect::<Vec<_>>()
        };
        assert_eq!(told(&only(2)), [2]);
        assert_eq!(told(&Filter::Everything), [2, 3]);
        assert!(told(&only(1)).is_empty());
    }

    #[test]
    fn zones_that_an_area_cannot_be_told_of_by_are_not_followed() {
        let zone = Rectangle {
            min: [0.0, 0.0],
            max: [100.0, 100.0],
        };
        let area = |min: [f32; 2]| Filter::Area {
            min,
            max: [min[0] + 5.0, min[1] + 5.0],
        };
        assert!(area([50.0, 50.0]).reaches(&zone) && area([107.0, 50.0]).reaches(&zone));
        assert!(!area([109.0, 50.0]).reaches(&zone) && !area([50.0, -20.0]).reaches(&zone));
        assert!(Filter::Everything.reaches(&zone) && Filter::Entities([1].into()).reaches(&zone));
    }
}
