//! Which zone a place belongs to: the world's rectangle, cut into smaller ones.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ZoneId;

/// A rectangle in x-z, in metres. Its lower edges belong to it, its upper edges to its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectangle {
    /// Smallest x and z.
    pub min: [f32; 2],
    /// Largest x and z.
    pub max: [f32; 2],
}

impl Rectangle {
    /// Whether it has a size, and finite edges.
    pub fn is_valid(&self) -> bool {
        let finite = self.min.iter().chain(&self.max).all(|edge| edge.is_finite());
        finite && self.min[0] < self.max[0] && self.min[1] < self.max[1]
    }

    /// Whether the point lies in it.
    pub fn contains(&self, [x, z]: [f32; 2]) -> bool {
        (self.min[0]..self.max[0]).contains(&x) && (self.min[1]..self.max[1]).contains(&z)
    }

    /// How far outside of it a point lies, along the axis on which it is further; 0 inside.
    pub fn distance(&self, point: [f32; 2]) -> f32 {
        let outside = |axis: usize| (self.min[axis] - point[axis]).max(point[axis] - self.max[axis]);
        outside(0).max(outside(1)).max(0.0)
    }

    /// How far another rectangle lies from it, along the axis on which it is further; 0 where they touch.
    pub fn distance_to(&self, other: &Self) -> f32 {
        let apart = |axis: usize| (other.min[axis] - self.max[axis]).max(self.min[axis] - other.max[axis]);
        apart(0).max(apart(1)).max(0.0)
    }

    /// The point of it that is nearest to a point.
    pub fn nearest(&self, point: [f32; 2]) -> [f32; 2] {
        [0, 1].map(|axis: usize| point[axis].max(self.min[axis]).min(self.max[axis]))
    }

    /// The rectangle that reaches further by so many metres on every side.
    pub fn grown(&self, by_m: f32) -> Self {
        Self {
            min: self.min.map(|edge| edge - by_m),
            max: self.max.map(|edge| edge + by_m),
        }
    }

    /// The square metres that it shares with another.
    fn shared_area(&self, other: &Self) -> f64 {
        let along = |axis: usize| {
            f64::from(self.max[axis].min(other.max[axis])) - f64::from(self.min[axis].max(other.min[axis]))
        };
        along(0).max(0.0) * along(1).max(0.0)
    }

    fn area(&self) -> f64 {
        (f64::from(self.max[0]) - f64::from(self.min[0])) * (f64::from(self.max[1]) - f64::from(self.min[1]))
    }
}

/// The zones of a world. They cover it without holes and without overlaps.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneMap {
    world: Rectangle,
    zones: Vec<Rectangle>,
}

/// Why rectangles are no map.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ZoneMapError {
    /// There are no zones, or more than ids.
    #[error("a world has 1 to {ZONES_MAX} zones, not {0}")]
    Count(usize),
    /// A zone has no size, or edges that are no numbers.
    #[error("zone {0} has no size; min must be below max on both axes")]
    NoSize(ZoneId),
    /// A zone is partly outside of the world.
    #[error("zone {0} reaches beyond the world's bounds")]
    OutOfBounds(ZoneId),
    /// Two zones claim the same place.
    #[error("zones {0} and {1} overlap")]
    Overlap(ZoneId, ZoneId),
    /// Some place belongs to no zone.
    #[error("the zones leave {0:.2} square metres of the world without a zone")]
    Hole(f64),
}

/// Zones that a world may have.
pub const ZONES_MAX: usize = 1_024;
/// What rounding may make of an area that is covered exactly, as a share of the world's.
const AREA_ERROR_MAX: f64 = 1e-9;

impl ZoneMap {
    /// A map of `zones`, whose ids are their places in the list.
    ///
    /// # Errors
    ///
    /// [`ZoneMapError`] names the zones that overlap, reach out of the world or leave a part of it out.
    pub fn new(world: Rectangle, zones: Vec<Rectangle>) -> Result<Self, ZoneMapError> {
        if !(1..=ZONES_MAX).contains(&zones.len()) {
            return Err(ZoneMapError::Count(zones.len()));
        }
        let id = |index: usize| ZoneId(index as u16);
        for (index, zone) in zones.iter().enumerate() {
            if !zone.is_valid() {
                return Err(ZoneMapError::NoSize(id(index)));
            }
            if zone.shared_area(&world) < zone.area() {
                return Err(ZoneMapError::OutOfBounds(id(index)));
            }
            if let Some(other) = zones[..index].iter().position(|other| other.shared_area(zone) > 0.0) {
                return Err(ZoneMapError::Overlap(id(other), id(index)));
            }
        }
        // Zones inside the world that do not overlap cover it if their areas add up.
        let missing = world.area() - zones.iter().map(Rectangle::area).sum::<f64>();
        if missing > world.area() * AREA_ERROR_MAX {
            return Err(ZoneMapError::Hole(missing));
        }
        Ok(Self { world, zones })
    }

    /// A map with one zone.
    ///
    /// # Errors
    ///
    /// [`ZoneMapError::NoSize`] for a world without a size.
    pub fn single(world: Rectangle) -> Result<Self, ZoneMapError> {
        Self::new(world, vec![world])
    }

    /// The ids of the zones, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = ZoneId> + use<> {
        (0..self.zones.len() as u16).map(ZoneId)
    }

    /// The place of a zone.
    pub fn area(&self, zone: ZoneId) -> Option<&Rectangle> {
        self.zones.get(usize::from(zone.0))
    }

    /// The zone of a point in x-z. A point outside of the world belongs to the zone at the nearest edge; one that is no number,
    /// to the first zone: every entity has an owner, wherever a fault has put it.
    pub fn zone_at(&self, point: [f32; 2]) -> ZoneId {
        let inside = |axis: usize| {
            let (min, max) = (self.world.min[axis], self.world.max[axis]);
            let at = if point[axis].is_nan() { min } else { point[axis] };
            // The world's upper edge belongs to nobody: what stands on it counts as just inside.
            at.clamp(min, max.next_down())
        };
        let point = [inside(0), inside(1)];
        let found = self.zones.iter().position(|zone| zone.contains(point));
        ZoneId(found.unwrap_or(0) as u16)
    }

    /// The zone that an entity of `owner` at `point` should move to: none while it is not more than `hysteresis_m` outside of
    /// its owner's place.
    pub fn destination(&self, owner: ZoneId, point: [f32; 2], hysteresis_m: f32) -> Option<ZoneId> {
        let area = self.area(owner)?;
        let zone = self.zone_at(point);
        (zone != owner && area.distance(point) > hysteresis_m).then_some(zone)
    }

    /// The zones other than `owner` within `reach_m` of a point: those that must see what stands there.
    pub fn near(&self, owner: ZoneId, point: [f32; 2], reach_m: f32) -> impl Iterator<Item = ZoneId> {
        self.ids()
            .zip(&self.zones)
            .filter(move |(id, zone)| *id != owner && zone.distance(point) <= reach_m)
            .map(|(id, _)| id)
    }
}

impl fmt::Display for Rectangle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([x0, z0], [x1, z1]) = (self.min, self.max);
        write!(f, "x {x0} to {x1}, z {z0} to {z1}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rectangle(x0: f32, z0: f32, x1: f32, z1: f32) -> Rectangle {
        Rectangle {
            min: [x0, z0],
            max: [x1, z1],
        }
    }

    const WORLD: Rectangle = Rectangle {
        min: [-64.0, -64.0],
        max: [64.0, 64.0],
    };

    fn quarters() -> Vec<Rectangle> {
        vec![
            rectangle(-64.0, -64.0, 0.0, 0.0),
            rectangle(0.0, -64.0, 64.0, 0.0),
            rectangle(-64.0, 0.0, 0.0, 64.0),
            rectangle(0.0, 0.0, 64.0, 64.0),
        ]
    }

    fn map() -> ZoneMap {
        ZoneMap::new(WORLD, quarters()).unwrap()
    }

    #[test]
    fn a_border_belongs_to_the_zone_that_begins_there() {
        let map = map();
        assert_eq!(map.zone_at([-0.001, -0.001]), ZoneId(0));
        assert_eq!(map.zone_at([0.0, -0.001]), ZoneId(1));
        assert_eq!(map.zone_at([-0.001, 0.0]), ZoneId(2));
        assert_eq!(map.zone_at([0.0, 0.0]), ZoneId(3));
        assert_eq!(map.zone_at([64.0, 64.0]), ZoneId(3));
    }

    #[test]
    fn an_entity_moves_only_beyond_the_hysteresis() {
        let map = map();
        assert_eq!(map.destination(ZoneId(0), [0.4, -10.0], 0.5), None);
        assert_eq!(map.destination(ZoneId(0), [0.6, -10.0], 0.5), Some(ZoneId(1)));
        assert_eq!(map.destination(ZoneId(0), [0.6, 0.1], 0.5), Some(ZoneId(3)));
        // Out of the world, but nowhere nearer to another zone.
        assert_eq!(map.destination(ZoneId(0), [-200.0, -10.0], 0.5), None);
        assert_eq!(map.destination(ZoneId(0), [f32::NAN, -10.0], 0.5), None);
    }

    #[test]
    fn near_a_corner_three_zones_see() {
        let near: Vec<_> = map().near(ZoneId(3), [1.0, 2.0], 5.0).collect();
        assert_eq!(near, [ZoneId(0), ZoneId(1), ZoneId(2)]);
        assert_eq!(map().near(ZoneId(3), [30.0, 2.0], 5.0).collect::<Vec<_>>(), [ZoneId(1)]);
        assert_eq!(map().near(ZoneId(3), [30.0, 30.0], 5.0).count(), 0);
    }

    #[test]
    fn what_is_no_map_is_told() {
        let with = |index: usize, zone: Rectangle| {
            let mut zones = quarters();
            zones[index] = zone;
            ZoneMap::new(WORLD, zones).unwrap_err()
        };
        assert_eq!(
            with(1, rectangle(-1.0, -64.0, 64.0, 0.0)),
            ZoneMapError::Overlap(ZoneId(0), ZoneId(1))
        );
        assert_eq!(with(3, rectangle(0.0, 0.0, 64.0, 63.0)), ZoneMapError::Hole(64.0));
        assert_eq!(
            with(2, rectangle(-65.0, 0.0, 0.0, 64.0)),
            ZoneMapError::OutOfBounds(ZoneId(2))
        );
        assert_eq!(
            with(0, rectangle(0.0, 0.0, -64.0, -64.0)),
            ZoneMapError::NoSize(ZoneId(0))
        );
        assert_eq!(
            with(0, rectangle(f32::NAN, 0.0, 1.0, 1.0)),
            ZoneMapError::NoSize(ZoneId(0))
        );
        assert_eq!(ZoneMap::new(WORLD, vec![]).unwrap_err(), ZoneMapError::Count(0));
        let inverted = Rectangle {
            min: WORLD.max,
            max: WORLD.min,
        };
        assert!(ZoneMap::single(inverted).is_err());
    }

    proptest! {
        #[test]
        fn every_place_has_one_zone_and_it_holds_the_place(x: f32, z: f32) {
            let map = map();
            let zone = map.zone_at([x, z]);
            let clamped = [x.clamp(-64.0, 63.9), z.clamp(-64.0, 63.9)];
            if !x.is_nan() && !z.is_nan() {
                prop_assert!(map.area(zone).unwrap().contains(clamped) || clamped.contains(&63.9));
            }
            // Whoever owns it, it is told to go nowhere or to the zone of the place.
            for owner in map.ids() {
                prop_assert!(map.destination(owner, [x, z], 0.5).is_none_or(|to| to == zone && to != owner));
            }
        }
    }
}
