//! Walks that push a crate across a border and back. A bot does not see where its crate is: it knows where the crate stood at
//! first, and where it left it.

use bevy::math::{Vec2, Vec3Swizzles};
use meridian_game::WorldDefinition;
use meridian_game::movement::CAPSULE_RADIUS_M;

use crate::borders::Border;
use crate::ground::Ground;
use crate::route::RoutePlan;

/// Crates farther from a border than this are left alone, in metres.
const NEAR_M: f32 = 12.0;
/// How far behind a crate its pusher begins, in metres.
const RUN_UP_M: f32 = 1.5;
/// How far beyond the border the pusher goes, in metres: the crate goes farther, well beyond the hysteresis.
const BEYOND_M: f32 = 3.0;
/// Room beside a crate for walking around it, in metres.
const ASIDE_M: f32 = 0.5;
/// How far off the ends of a border a crate is pushed, in metres.
const END_M: f32 = 1.5;
/// How far apart two pushers' ways are, in metres.
const APART_M: f32 = 1.2;
/// A place on the way is reached within this distance, in metres.
const ARRIVED_M: f32 = 0.4;
/// Ticks without progress after which the next place is walked to: a heavy crate is slow.
const PATIENCE_TICKS: u32 = 45;

/// A way on which a crate is pushed over a border.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Push {
    points: Vec<Vec2>,
}

impl Push {
    /// Up to `wanted` ways, those whose crates are nearest to a border first; none through a place for which `is_taken` holds.
    pub(crate) fn near(
        world: &WorldDefinition,
        borders: &[Border],
        ground: &Ground,
        wanted: usize,
        is_taken: impl Fn(Vec2) -> bool,
    ) -> Vec<Self> {
        let crates = world.crates.iter().flat_map(|group| {
            let [x, _, z] = group.size;
            group.centres().map(move |centre| (centre.xz(), x.max(z) / 2.0))
        });
        let mut candidates: Vec<(f32, Self)> = crates
            .filter_map(|(centre, half_m)| Self::of_crate(centre, half_m, borders))
            .collect();
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut pushes: Vec<Self> = Vec::new();
        for (_, push) in candidates {
            if pushes.len() >= wanted {
                break;
            }
            let meets = |point: Vec2| is_taken(point) || pushes.iter().any(|other| other.distance_m(point) < APART_M);
            if !push.samples().any(meets) && push.is_free(ground) {
                pushes.push(push);
            }
        }
        pushes
    }

    /// The way for a crate, with the distance of the crate from the nearest border.
    fn of_crate(centre: Vec2, half_m: f32, borders: &[Border]) -> Option<(f32, Self)> {
        let reaches = |border: &&Border| {
            let along_m = border.along_m(centre);
            (END_M..=border.length_m - END_M).contains(&along_m) && border.beside_m(centre).abs() <= NEAR_M
        };
        let border = borders
            .iter()
            .filter(reaches)
            .min_by(|a, b| a.beside_m(centre).abs().total_cmp(&b.beside_m(centre).abs()))?;
        let beside_m = border.beside_m(centre);
        let way = if beside_m > 0.0 {
            -border.across()
        } else {
            border.across()
        };
        let contact_m = half_m + CAPSULE_RADIUS_M;
        // A crate that has turned is wider by its diagonal.
        let aside = border.along * (half_m * std::f32::consts::SQRT_2 + CAPSULE_RADIUS_M + ASIDE_M);
        let behind = centre - way * (contact_m + RUN_UP_M);
        let far = centre + way * (beside_m.abs() + BEYOND_M);
        // There the crate is before the pusher; and once it was pushed back, where it stood at first.
        let beyond = far + way * (2.0 * contact_m + RUN_UP_M);
        let back = centre + way * contact_m;
        let step_back = way * ASIDE_M;
        let points = vec![
            behind,
            far,
            far - step_back + aside,
            beyond + aside,
            beyond,
            back,
            back + step_back + aside,
            behind + aside,
        ];
        Some((beside_m.abs(), Self { points }))
    }

    fn is_free(&self, ground: &Ground) -> bool {
        let [behind, _, _, beyond_aside, beyond, _, _, behind_aside] = self.points[..] else {
            return false;
        };
        ground.is_free(behind, beyond) && ground.is_free(behind_aside, beyond_aside)
    }

    /// Points on the way, half a metre apart at most.
    fn samples(&self) -> impl Iterator<Item = Vec2> {
        let legs = self.points.iter().zip(self.points.iter().cycle().skip(1));
        legs.flat_map(|(from, to)| {
            let count = (from.distance(*to) / 0.5).ceil().max(1.0) as usize;
            (0..count).map(move |step| from.lerp(*to, step as f32 / count as f32))
        })
    }

    /// How far a point is from the way, in metres, to half a metre.
    pub(crate) fn distance_m(&self, point: Vec2) -> f32 {
        self.samples()
            .map(|sample| sample.distance(point))
            .fold(f32::INFINITY, f32::min)
    }

    /// Whether any point of the way is one for which `is_near` holds.
    pub(crate) fn passes(&self, is_near: impl Fn(Vec2) -> bool) -> bool {
        self.samples().any(is_near)
    }

    /// There and back, round and round.
    pub(crate) fn route(&self) -> RoutePlan {
        RoutePlan {
            points: self.points.clone(),
            first: 0,
            arrived_m: ARRIVED_M,
            patience_ticks: PATIENCE_TICKS,
        }
    }
}
