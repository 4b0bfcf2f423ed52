//! What is told of where entities are, to who follows the zone: what has moved, each tick, and all of them once a second.

use std::collections::HashMap;

use meridian_events::EntityPosition;
use meridian_ids::{Tick, TickRate, WorldEntityId};

/// What one tick tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moved {
    /// Whether all entities of the zone are among them.
    pub(crate) is_whole: bool,
    pub(crate) entities: Vec<EntityPosition>,
    /// The entities whose ordered walks are shown for the first time, and where each one's trace goes on.
    pub(crate) traced: Vec<(WorldEntityId, String)>,
}

/// What was told last.
#[derive(Default)]
pub(crate) struct Told {
    /// Whether somebody was told, and follows since.
    is_followed: bool,
    positions: HashMap<WorldEntityId, [f32; 3]>,
}

impl Told {
    /// Nobody follows: who comes next is told all at once.
    pub(crate) fn forget(&mut self) {
        self.is_followed = false;
    }

    /// What is to be told of `entities`, which is all that the zone has; nothing if nothing has moved. A traced walk is shown also where it
    /// leads nowhere.
    pub(crate) fn moved(
        &mut self,
        (tick, rate): (Tick, TickRate),
        entities: impl Iterator<Item = EntityPosition>,
        traced: Vec<(WorldEntityId, String)>,
    ) -> Option<Moved> {
        let is_whole = !self.is_followed || tick.0.is_multiple_of(u64::from(rate.hz()));
        self.is_followed = true;
        if is_whole {
            self.positions.clear();
        }
        let news = entities.filter(|now| {
            let before = self.positions.insert(now.entity, now.position);
            before != Some(now.position) || traced.iter().any(|(entity, _)| *entity == now.entity)
        });
        let entities: Vec<EntityPosition> = news.collect();
        (is_whole || !entities.is_empty()).then_some(Moved {
            is_whole,
            entities,
            traced,
        })
    }
}

#[cfg(test)]
mod tests {
    use meridian_ids::EntityEpoch;

    use super::*;

    fn at(entity: u64, x: f32) -> EntityPosition {
        EntityPosition {
            entity: WorldEntityId(entity),
            epoch: EntityEpoch(1),
            position: [x, 0.0, 0.0],
        }
    }

    #[test]
    fn what_moved_is_told_each_tick_and_everything_at_first_and_once_a_second() {
        let (mut told, rate) = (Told::default(), TickRate::default());
        let mut tell = |tick, of: [EntityPosition; 2]| {
            let moved = told.moved((Tick(tick), rate), of.into_iter(), Vec::new());
            moved.map(|moved| (moved.is_whole, moved.entities.len()))
        };
        assert_eq!(tell(61, [at(1, 0.0), at(2, 0.0)]), Some((true, 2)));
        assert_eq!(tell(62, [at(1, 0.0), at(2, 0.0)]), None);
        assert_eq!(tell(63, [at(1, 0.5), at(2, 0.0)]), Some((false, 1)));
        assert_eq!(tell(120, [at(1, 0.5), at(2, 0.0)]), Some((true, 2)));
    }

    #[test]
    fn an_empty_zone_is_told_once_a_second_and_to_who_comes_anew() {
        let (mut told, rate) = (Told::default(), TickRate::default());
        assert!(
            told.moved((Tick(1), rate), std::iter::empty(), Vec::new())
                .is_some_and(|moved| moved.is_whole)
        );
        assert_eq!(told.moved((Tick(2), rate), std::iter::empty(), Vec::new()), None);
        told.forget();
        assert!(
            told.moved((Tick(3), rate), std::iter::empty(), Vec::new())
                .is_some_and(|moved| moved.is_whole)
        );
    }

    #[test]
    fn a_traced_walk_is_shown_also_where_it_leads_nowhere() {
        let (mut told, rate) = (Told::default(), TickRate::default());
        let traced = vec![(WorldEntityId(1), "00-1".to_owned())];
        let both = || [at(1, 0.0), at(2, 0.0)].into_iter();
        told.moved((Tick(1), rate), both(), Vec::new());
        let moved = told.moved((Tick(2), rate), both(), traced.clone()).unwrap();
        assert_eq!((moved.traced, moved.entities), (traced, vec![at(1, 0.0)]));
    }
}
