//! The borders between the zones of a world, as lines.

use bevy::math::Vec2;
use meridian_ids::{Rectangle, ZoneMap};

/// Edges that are this close are one, in metres: more than rounding makes of a shared edge.
const SAME_M: f32 = 1e-3;
/// Borders that bots walk at: those nearest to the spawn. A world of more has room for every bot at these.
const BORDERS_MAX: usize = 256;

/// The line that two zones share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Border {
    /// One end.
    pub(crate) from: Vec2,
    /// Unit vector to the other end.
    pub(crate) along: Vec2,
    /// Metres from one end to the other.
    pub(crate) length_m: f32,
}

impl Border {
    /// The borders of `zones`, those nearest to `spawn` first.
    pub(crate) fn near(zones: &ZoneMap, spawn: Vec2) -> Vec<Self> {
        let areas: Vec<&Rectangle> = zones.ids().filter_map(|zone| zones.area(zone)).collect();
        let pairs = areas
            .iter()
            .enumerate()
            .flat_map(|(index, one)| areas[index + 1..].iter().map(move |other| (*one, *other)));
        let mut borders: Vec<Self> = pairs.filter_map(|(one, other)| Self::between(one, other)).collect();
        borders.sort_by(|a, b| a.distance_m(spawn).total_cmp(&b.distance_m(spawn)));
        borders.truncate(BORDERS_MAX);
        borders
    }

    fn between(one: &Rectangle, other: &Rectangle) -> Option<Self> {
        let same = |a: f32, b: f32| (a - b).abs() < SAME_M;
        [0, 1].into_iter().find_map(|axis: usize| {
            let at = if same(one.max[axis], other.min[axis]) {
                one.max[axis]
            } else if same(other.max[axis], one.min[axis]) {
                other.max[axis]
            } else {
                return None;
            };
            let across = 1 - axis;
            let from = one.min[across].max(other.min[across]);
            let length_m = one.max[across].min(other.max[across]) - from;
            let (start, along) = if axis == 0 {
                (Vec2::new(at, from), Vec2::Y)
            } else {
                (Vec2::new(from, at), Vec2::X)
            };
            (length_m > SAME_M).then_some(Self {
                from: start,
                along,
                length_m,
            })
        })
    }

    fn distance_m(&self, point: Vec2) -> f32 {
        let nearest = self.at(self.along_m(point).clamp(0.0, self.length_m));
        nearest.distance(point)
    }

    /// Unit vector from one zone to the other.
    pub(crate) fn across(&self) -> Vec2 {
        self.along.perp()
    }

    /// The point so many metres from its beginning.
    pub(crate) fn at(&self, along_m: f32) -> Vec2 {
        self.from + self.along * along_m
    }

    /// How far along a point is, in metres; negative before the beginning.
    pub(crate) fn along_m(&self, point: Vec2) -> f32 {
        (point - self.from).dot(self.along)
    }

    /// How far beside the line a point is, in metres; positive on the side of [`Self::across`].
    pub(crate) fn beside_m(&self, point: Vec2) -> f32 {
        (point - self.from).dot(self.across())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::demo_world;

    #[test]
    fn four_zones_in_a_square_share_four_borders() {
        let borders = Border::near(&demo_world().zone_map(), Vec2::ZERO);
        assert_eq!(borders.len(), 4);
        for border in &borders {
            assert_eq!(border.length_m, 64.0);
            let ends = [border.from, border.at(64.0)];
            assert!(ends.contains(&Vec2::ZERO), "{border:?}");
            assert_eq!(border.along.dot(border.across()), 0.0);
        }
    }

    #[test]
    fn zones_that_touch_at_a_corner_or_not_at_all_share_no_border() {
        let area = |x: f32, z: f32| Rectangle {
            min: [x, z],
            max: [x + 30.0, z + 30.0],
        };
        assert_eq!(Border::between(&area(0.0, 0.0), &area(30.0, 30.0)), None);
        assert_eq!(Border::between(&area(0.0, 0.0), &area(31.0, 0.0)), None);
        let shifted = Border::between(&area(0.0, 0.0), &area(10.0, 30.0)).unwrap();
        assert_eq!(
            (shifted.from, shifted.along, shifted.length_m),
            (Vec2::new(10.0, 30.0), Vec2::X, 20.0)
        );
    }

    #[test]
    fn a_point_has_a_place_along_and_beside_a_border() {
        let area = |x: f32| Rectangle {
            min: [x, 0.0],
            max: [x + 30.0, 30.0],
        };
        let border = Border::between(&area(0.0), &area(30.0)).unwrap();
        assert_eq!(border.along_m(Vec2::new(33.0, 7.0)), 7.0);
        assert_eq!(border.beside_m(Vec2::new(33.0, 7.0)).abs(), 3.0);
        assert_eq!(border.at(7.0), Vec2::new(30.0, 7.0));
    }
}
