//! What a server answered, checked before anything is done with it: nothing that a server says is believed to make sense.

use meridian_ids::{WorldEntityId, ZoneId};
use meridian_rpc::v1::{Area, JoinResponse, Position};
use serde::Serialize;

use crate::cli::WatchedArea;
use crate::session::Joined;

/// Where an entity was after a tick.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The entity, as logs name it.
    pub entity: String,
    /// The same as a number.
    #[serde(skip)]
    pub entity_id: u64,
    /// The index of the zone that simulated it.
    pub zone: u32,
    /// How many owners it has had, with the store's generation in the high half.
    pub epoch: u64,
    /// The tick after which it was there.
    pub tick: u64,
    /// Metres eastward.
    pub x: f32,
    /// Metres upward.
    pub y: f32,
    /// Metres southward.
    pub z: f32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} at ({:.2}, {:.2}, {:.2})",
            self.entity, self.x, self.y, self.z
        )?;
        write!(formatter, " in zone {} after tick {}", self.zone, self.tick)
    }
}

/// The place that a position tells.
///
/// # Errors
/// What is wrong with it.
pub fn check_place(position: Option<Position>) -> Result<Place, String> {
    let position = position.ok_or("an answer without a position")?;
    let point = position.position.ok_or("a position without a point")?;
    let zone = u16::try_from(position.zone_id).map_err(|_| format!("a zone {}", position.zone_id))?;
    if ![point.x, point.y, point.z].iter().all(|metres| metres.is_finite()) {
        return Err("a point that is nowhere".to_owned());
    }
    Ok(Place {
        entity: WorldEntityId(position.entity_id).to_string(),
        entity_id: position.entity_id,
        zone: ZoneId(zone).0.into(),
        epoch: position.epoch,
        tick: position.tick,
        x: point.x,
        y: point.y,
        z: point.z,
    })
}

/// What a join tells later commands.
///
/// # Errors
/// What is wrong with it.
pub fn check_join(answer: &JoinResponse) -> Result<(Place, Joined), String> {
    let place = check_place(answer.position)?;
    let joined = Joined {
        entity_id: place.entity_id,
        tick_rate_hz: answer.tick_rate_hz,
        walk_speed_mps: answer.walk_speed_mps,
    };
    if !joined.is_sound() {
        let (rate, speed) = (joined.tick_rate_hz, joined.walk_speed_mps);
        return Err(format!(
            "a world of {rate} ticks in a second in which players walk {speed} m/s"
        ));
    }
    Ok((place, joined))
}

/// The rectangle that an area tells.
///
/// # Errors
/// What is wrong with it.
pub fn check_area(area: Option<Area>) -> Result<WatchedArea, String> {
    let area = area.ok_or("a zone without an area")?;
    let edges = [area.min_x, area.min_z, area.max_x, area.max_z];
    if !edges.iter().all(|edge| edge.is_finite()) || area.min_x > area.max_x || area.min_z > area.max_z {
        return Err("a zone whose area is none".to_owned());
    }
    Ok(WatchedArea {
        min_x: area.min_x,
        min_z: area.min_z,
        max_x: area.max_x,
        max_z: area.max_z,
    })
}

#[cfg(test)]
mod tests {
    use meridian_rpc::v1::Vector3;
    use proptest::prelude::*;

    use super::*;

    fn position() -> Position {
        Position {
            entity_id: 0x1_0001_0000_0001,
            zone_id: 1,
            epoch: 3,
            tick: 9,
            position: Some(Vector3 {
                x: 1.0,
                y: 0.9,
                z: -2.5,
            }),
        }
    }

    #[test]
    fn a_place_is_shown_as_logs_name_it() {
        let place = check_place(Some(position())).unwrap();
        assert_eq!(
            place.to_string(),
            "e1000100000001 at (1.00, 0.90, -2.50) in zone 1 after tick 9"
        );
    }

    #[test]
    fn what_makes_no_sense_is_no_place() {
        let nowhere = Position {
            position: Some(Vector3 {
                x: f32::NAN,
                y: 0.0,
                z: 0.0,
            }),
            ..position()
        };
        for wrong in [
            None,
            Some(Position {
                position: None,
                ..position()
            }),
            Some(Position {
                zone_id: 1 << 16,
                ..position()
            }),
            Some(nowhere),
        ] {
            assert!(check_place(wrong).is_err(), "{wrong:?}");
        }
        let join = JoinResponse {
            player_id: 1,
            name: String::new(),
            position: Some(position()),
            tick_rate_hz: 60,
            walk_speed_mps: 5.0,
        };
        assert!(check_join(&join).is_ok());
        assert!(
            check_join(&JoinResponse {
                tick_rate_hz: 0,
                ..join.clone()
            })
            .is_err()
        );
        assert!(
            check_join(&JoinResponse {
                walk_speed_mps: f32::NAN,
                ..join
            })
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn no_numbers_break_the_checks(entity_id: u64, zone_id: u32, x: f32, rate: u32, speed: f32) {
            let position = Position { entity_id, zone_id, position: Some(Vector3 { x, y: 0.0, z: x }), ..position() };
            if let Ok(place) = check_place(Some(position)) {
                prop_assert!(place.x.is_finite());
            }
            let join = JoinResponse { player_id: 0, name: String::new(), position: Some(position), tick_rate_hz: rate, walk_speed_mps: speed };
            if let Ok((_, joined)) = check_join(&join) {
                prop_assert!(joined.tick_rate_hz > 0 && joined.walk_speed_mps > 0.0);
            }
        }
    }
}
