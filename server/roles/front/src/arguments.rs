//! What the fields of a request may be.

use std::collections::HashSet;

use meridian_rpc::v1::watch_positions_request::Filter as Asked;
use meridian_rpc::v1::{MoveRequest, WatchPositionsRequest};
use meridian_rpc::{ErrorWord, MOVE_TICKS_MAX, WATCHED_ENTITIES_MAX, refusal};
use tonic::Status;

use crate::routing::Walk;
use crate::watch::Filter;

/// What a direction may be longer than 1 by: what normalising it in 32 bits errs by, and more.
const LENGTH_ERROR_MAX: f32 = 1e-4;

fn refused(message: String) -> Status {
    refusal(ErrorWord::Argument, message)
}

/// A walk.
///
/// # Errors
/// A field has a value that it cannot have.
pub(crate) fn walk(asked: &MoveRequest) -> Result<Walk, Status> {
    let direction = [asked.dx, asked.dz];
    if !direction.iter().all(|along| along.is_finite()) {
        return Err(refused(format!(
            "dx and dz are {} and {}, but must be finite",
            asked.dx, asked.dz
        )));
    }
    let length = asked.dx.hypot(asked.dz);
    if length > 1.0 + LENGTH_ERROR_MAX {
        return Err(refused(format!(
            "dx and dz are a vector of length {length}, but it must be at most 1"
        )));
    }
    if !(1..=MOVE_TICKS_MAX).contains(&asked.ticks) {
        return Err(refused(format!(
            "ticks is {}, but must be 1 to {MOVE_TICKS_MAX}",
            asked.ticks
        )));
    }
    Ok(Walk {
        // A length that rounding made is none that anybody walks faster by.
        direction: direction.map(|along| along / length.max(1.0)),
        jump: asked.jump,
        ticks: asked.ticks,
    })
}

/// What to watch.
///
/// # Errors
/// A field has a value that it cannot have.
pub(crate) fn filter(asked: WatchPositionsRequest) -> Result<Filter, Status> {
    match asked.filter {
        None => Ok(Filter::Everything),
        Some(Asked::Area(area)) => {
            let (min, max) = ([area.min_x, area.min_z], [area.max_x, area.max_z]);
            if !min.iter().chain(&max).all(|edge| edge.is_finite()) {
                return Err(refused("the edges of area must be finite".to_owned()));
            }
            if min[0] > max[0] || min[1] > max[1] {
                return Err(refused(
                    "area's min_x and min_z must be at most its max_x and max_z".to_owned(),
                ));
            }
            Ok(Filter::Area { min, max })
        }
        Some(Asked::Entities(entities)) => {
            let count = entities.entity_ids.len();
            if !(1..=WATCHED_ENTITIES_MAX).contains(&count) {
                return Err(refused(format!(
                    "entity_ids has {count} entities, but must have 1 to {WATCHED_ENTITIES_MAX}"
                )));
            }
            Ok(Filter::Entities(
                entities.entity_ids.into_iter().collect::<HashSet<u64>>(),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_rpc::v1::{Area, Entities};
    use proptest::prelude::*;

    use super::*;

    fn asked(dx: f32, dz: f32, ticks: u32) -> MoveRequest {
        let jump = false;
        MoveRequest { dx, dz, ticks, jump }
    }

    fn why(refused: Result<impl Sized, Status>) -> String {
        let status = refused.err().unwrap();
        assert_eq!(ErrorWord::of(&status), Some(ErrorWord::Argument));
        status.message().to_owned()
    }

    #[test]
    fn a_walk_is_finite_at_most_1_long_and_lasts_1_to_60_ticks() {
        assert_eq!(walk(&asked(0.0, -1.0, 60)).unwrap().direction, [0.0, -1.0]);
        assert_eq!(walk(&asked(1.0 + 5e-5, 0.0, 1)).unwrap().direction, [1.0, 0.0]);
        assert_eq!(walk(&asked(0.0, 0.0, 1)).unwrap().direction, [0.0, 0.0]);
        assert_eq!(
            why(walk(&asked(f32::NAN, 0.0, 1))),
            "dx and dz are NaN and 0, but must be finite"
        );
        assert!(why(walk(&asked(0.0, f32::INFINITY, 1))).contains("finite"));
        assert!(why(walk(&asked(1.0, 1.0, 1))).contains("1.414"));
        assert!(why(walk(&asked(f32::MAX, f32::MAX, 1))).contains("at most 1"));
        assert_eq!(why(walk(&asked(1.0, 0.0, 0))), "ticks is 0, but must be 1 to 60");
        assert!(why(walk(&asked(1.0, 0.0, u32::MAX))).contains("1 to 60"));
    }

    #[test]
    fn an_area_has_its_edges_in_order_and_entities_are_not_too_many() {
        let area = |min_x, min_z, max_x, max_z| WatchPositionsRequest {
            filter: Some(Asked::Area(Area {
                min_x,
                min_z,
                max_x,
                max_z,
            })),
        };
        assert!(filter(area(0.0, 0.0, 0.0, 0.0)).is_ok());
        assert!(why(filter(area(0.0, 1.0, 1.0, 0.0))).contains("min_z"));
        assert!(why(filter(area(0.0, f32::NAN, 1.0, 0.0))).contains("finite"));
        let entities = |count: u64| WatchPositionsRequest {
            filter: Some(Asked::Entities(Entities {
                entity_ids: (0..count).collect(),
            })),
        };
        assert!(filter(entities(1_024)).is_ok());
        assert!(why(filter(entities(1_025))).contains("1025 entities"));
        assert!(why(filter(entities(0))).contains("1 to 1024"));
        assert!(matches!(
            filter(WatchPositionsRequest::default()),
            Ok(Filter::Everything)
        ));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_never_faster_than_walking(dx in any::<f32>(), dz in any::<f32>(), ticks in any::<u32>()) {
            if let Ok(walk) = walk(&asked(dx, dz, ticks)) {
                prop_assert!(walk.direction[0].hypot(walk.direction[1]) <= 1.000_001);
                prop_assert!((1..=60).contains(&walk.ticks));
            }
        }
    }
}
