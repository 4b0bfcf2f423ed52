//! Lanes across borders: each one bot's, next to one another, on free ground.

use bevy::math::Vec2;

use crate::borders::Border;
use crate::ground::Ground;
use crate::route::RoutePlan;

/// How far a lane leads to each side of the border, in metres.
const REACH_M: f32 = 5.0;
/// Distance from lane to lane, in metres.
const SPACING_M: f32 = 2.0;
/// How far lanes stay off the ends of a border, where other borders meet it, in metres.
const END_M: f32 = 7.0;
/// Half the distance between the ways there and back, in metres: who turns in an arc does not have to stop.
const HALF_WIDTH_M: f32 = 0.25;
/// A lane's end is reached within this distance, in metres.
const ARRIVED_M: f32 = 0.4;
/// How far beyond its ends a lane must be free, in metres: what a turn takes at full speed.
const TURN_M: f32 = 0.5;
/// How far crates must be off a lane's middle, in metres.
const CRATE_MARGIN_M: f32 = 1.0;
/// Places that are tried for lanes.
const TRIED_MAX: usize = 4_096;
/// Ticks without progress after which a bot turns back: a fifth of a second at 60 Hz.
const PATIENCE_TICKS: u32 = 12;

/// A line across a border.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lane {
    /// Where it crosses the border.
    pub(crate) middle: Vec2,
    /// Unit vector over the border.
    pub(crate) across: Vec2,
}

impl Lane {
    /// Up to `wanted` lanes, those nearest to `spawn` first; none for which `is_taken` holds.
    pub(crate) fn near(
        spawn: Vec2,
        borders: &[Border],
        ground: &Ground,
        wanted: usize,
        is_taken: impl Fn(&Self) -> bool,
    ) -> Vec<Self> {
        let mut places: Vec<Self> = borders.iter().flat_map(Self::along).collect();
        places.sort_by(|a, b| a.middle.distance(spawn).total_cmp(&b.middle.distance(spawn)));
        let tried = places.into_iter().take(TRIED_MAX);
        tried
            .filter(|lane| !is_taken(lane) && lane.is_free(ground))
            .take(wanted)
            .collect()
    }

    fn along(border: &Border) -> impl Iterator<Item = Self> {
        let room_m = border.length_m - 2.0 * END_M;
        // Less than no room is no lane, not one.
        let count = if room_m < 0.0 {
            0
        } else {
            (room_m / SPACING_M) as usize + 1
        };
        let (border, across) = (*border, border.across());
        (0..count).map(move |number| Self {
            middle: border.at(END_M + SPACING_M * number as f32),
            across,
        })
    }

    fn is_free(&self, ground: &Ground) -> bool {
        let [from, to] = self.ends(REACH_M + TURN_M);
        ground.is_clear_of_crates(from, to, CRATE_MARGIN_M) && ground.is_free(from, to)
    }

    fn ends(&self, reach_m: f32) -> [Vec2; 2] {
        [self.middle - self.across * reach_m, self.middle + self.across * reach_m]
    }

    /// How far a point is from the lane, in metres.
    pub(crate) fn distance_m(&self, point: Vec2) -> f32 {
        let beyond = (point - self.middle).dot(self.across);
        let nearest = self.middle + self.across * beyond.clamp(-REACH_M, REACH_M);
        nearest.distance(point)
    }

    /// There and back; every second bot begins on the other side.
    pub(crate) fn route(&self, number: usize) -> RoutePlan {
        let side = self.across.perp() * HALF_WIDTH_M;
        let [from, to] = self.ends(REACH_M);
        RoutePlan {
            points: vec![from - side, to - side, to + side, from + side],
            first: (number % 2) * 2,
            arrived_m: ARRIVED_M,
            patience_ticks: PATIENCE_TICKS,
        }
    }
}
