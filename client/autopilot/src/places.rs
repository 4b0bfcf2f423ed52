//! Places where bots walk in circles: where zones meet, and the middles of zones.

use std::collections::BTreeSet;
use std::f32::consts::TAU;

use bevy::math::Vec2;
use meridian_ids::{ZoneId, ZoneMap};

use crate::borders::Border;
use crate::ground::Ground;
use crate::route::RoutePlan;

/// Radii of the circles where zones meet, in metres; bots take them in turn.
const MEETING_RADII_M: [f32; 3] = [3.0, 3.5, 4.0];
const MEETING_POINTS: usize = 16;
const MEETING_ARRIVED_M: f32 = 0.9;
/// Meeting places whose ground is tried.
const MEETINGS_TRIED_MAX: usize = 64;
/// How far off a meeting place others walk, in metres.
pub(crate) const MEETING_KEEP_OFF_M: f32 = 6.0;

/// Radius of the circles in the middle of zones, in metres.
const CAMP_RADIUS_M: f32 = 1.5;
const CAMP_POINTS: usize = 8;
const CAMP_ARRIVED_M: f32 = 0.5;
/// Distance from camp to camp, in metres.
const CAMP_SPACING_M: f32 = 4.0;
/// Camps to each side of a zone's middle that are tried.
const CAMPS_ASIDE: i32 = 10;
/// How far camps stay off borders, in metres: the first of these for which there is room.
const CAMP_KEEP_OFF_M: [f32; 4] = [12.0, 9.0, 6.0, 3.0];
/// How far beyond its circle a camp must be free, in metres.
const ROOM_M: f32 = 0.5;
/// Ticks without progress after which the next place of a circle is walked to.
const PATIENCE_TICKS: u32 = 12;

/// The point with free ground at which the most zones meet, and of several the one nearest to `spawn`.
pub(crate) fn meeting_point(zones: &ZoneMap, borders: &[Border], ground: &Ground, spawn: Vec2) -> Option<Vec2> {
    // Where no corner is free, the middle of a border has two zones at least.
    let ends = borders
        .iter()
        .flat_map(|border| [border.from, border.at(border.length_m)]);
    let middles = borders.iter().map(|border| border.at(border.length_m / 2.0));
    let mut candidates: Vec<(usize, Vec2)> = ends
        .chain(middles)
        .map(|place| (meeting(zones, place), place))
        .collect();
    candidates.retain(|(count, _)| *count > 1);
    candidates.sort_by(|a, b| {
        let distance = a.1.distance(spawn).total_cmp(&b.1.distance(spawn));
        b.0.cmp(&a.0).then(distance)
    });
    candidates.dedup();
    let free = candidates
        .into_iter()
        .take(MEETINGS_TRIED_MAX)
        .find(|(_, place)| is_free_circle(ground, *place));
    free.map(|(_, place)| place)
}

/// The zones that a circle around `place` passes.
fn meeting(zones: &ZoneMap, place: Vec2) -> usize {
    let [_, radius_m, _] = MEETING_RADII_M;
    let passed: BTreeSet<ZoneId> = circle(place, radius_m, MEETING_POINTS)
        .map(|point| zones.zone_at(point.to_array()))
        .collect();
    passed.len()
}

fn is_free_circle(ground: &Ground, place: Vec2) -> bool {
    let [inner_m, _, outer_m] = MEETING_RADII_M;
    [inner_m, outer_m].iter().all(|radius_m| {
        let points: Vec<Vec2> = circle(place, *radius_m, MEETING_POINTS).collect();
        let mut legs = points.iter().zip(points.iter().cycle().skip(1));
        legs.all(|(from, to)| ground.is_clear_of_crates(*from, *to, ROOM_M) && ground.is_free(*from, *to))
    })
}

fn circle(centre: Vec2, radius_m: f32, points: usize) -> impl Iterator<Item = Vec2> {
    (0..points).map(move |point| centre + Vec2::from_angle(TAU * point as f32 / points as f32) * radius_m)
}

/// The circle of the bot with that number around a meeting point. All go the same way round.
pub(crate) fn meeting_route(centre: Vec2, number: usize) -> RoutePlan {
    RoutePlan {
        points: circle(centre, MEETING_RADII_M[number % MEETING_RADII_M.len()], MEETING_POINTS).collect(),
        // Spread over the circle however many there are.
        first: (number as f32 * 0.618 * MEETING_POINTS as f32) as usize % MEETING_POINTS,
        arrived_m: MEETING_ARRIVED_M,
        patience_ticks: PATIENCE_TICKS,
    }
}

/// Up to `wanted` places within a zone and far from its borders, those nearest to its middle first.
pub(crate) fn camps(zones: &ZoneMap, zone: ZoneId, ground: &Ground, wanted: usize) -> Vec<Vec2> {
    let Some(area) = zones.area(zone) else {
        return Vec::new();
    };
    let middle = (Vec2::from_array(area.min) + Vec2::from_array(area.max)) / 2.0;
    let aside = -CAMPS_ASIDE..=CAMPS_ASIDE;
    let mut places: Vec<Vec2> = aside
        .clone()
        .flat_map(|x| aside.clone().map(move |z| Vec2::new(x as f32, z as f32)))
        .map(|step| middle + step * CAMP_SPACING_M)
        .filter(|place| area.contains(place.to_array()))
        .collect();
    places.sort_by(|a, b| a.distance(middle).total_cmp(&b.distance(middle)));
    let room_m = CAMP_RADIUS_M + ROOM_M;
    let at = |keep_off_m: f32| -> Vec<Vec2> {
        let is_inside = |place: &&Vec2| zones.near(zone, place.to_array(), keep_off_m + room_m).next().is_none();
        let is_free = |place: &&Vec2| {
            [Vec2::X, Vec2::Y].iter().all(|axis| {
                let (from, to) = (**place - axis * room_m, **place + axis * room_m);
                ground.is_clear_of_crates(from, to, room_m) && ground.is_free(from, to)
            })
        };
        places
            .iter()
            .filter(is_inside)
            .filter(is_free)
            .take(wanted)
            .copied()
            .collect()
    };
    CAMP_KEEP_OFF_M
        .iter()
        .map(|keep_off_m| at(*keep_off_m))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// The circle around a camp.
pub(crate) fn camp_route(centre: Vec2) -> RoutePlan {
    RoutePlan {
        points: circle(centre, CAMP_RADIUS_M, CAMP_POINTS).collect(),
        first: 0,
        arrived_m: CAMP_ARRIVED_M,
        patience_ticks: PATIENCE_TICKS,
    }
}
