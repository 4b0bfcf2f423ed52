//! A walk from one given place to the next, round and round.

use bevy::math::Vec2;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::progress::Progress;

/// Ticks without progress on the way to the route after which something is walked around: a fifth of a second at 60 Hz.
const BLOCKED_TICKS: u32 = 12;
/// How far aside the first try to get around something leads, in metres; each further one leads so much farther.
const DETOUR_M: f32 = 3.0;
/// Tries before it begins anew on the other side.
const DETOURS_MAX: u32 = 4;
/// Share of a detour's width that it leads back.
const DETOUR_BACK_SHARE: f32 = 0.3;
/// A detour's place is reached within this distance, in metres, or given up after this many ticks per metre.
const DETOUR_ARRIVED_M: f32 = 0.8;
const DETOUR_TICKS_PER_M: f32 = 20.0;
/// Who is farther from the next place than the longest leg by this, in metres, is not on the route: he died and respawned.
const OFF_ROUTE_M: f32 = 6.0;

/// What a route is.
#[derive(Clone, Debug)]
pub(crate) struct RoutePlan {
    /// The places, in order; after the last one comes the first.
    pub(crate) points: Vec<Vec2>,
    /// The one that is walked to first.
    pub(crate) first: usize,
    /// A place is reached within this distance, in metres.
    pub(crate) arrived_m: f32,
    /// Ticks without progress after which the next place is walked to instead.
    pub(crate) patience_ticks: u32,
}

/// A walker on a route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    plan: RoutePlan,
    next: usize,
    longest_leg_m: f32,
    is_on_route: bool,
    detour: Option<Detour>,
    /// Detours on this way to the route.
    detours: u32,
    side: f32,
    progress: Progress,
    random: SmallRng,
    direction: Vec2,
}

#[derive(Clone, Copy, Debug)]
struct Detour {
    place: Vec2,
    ticks_left: u32,
}

impl Route {
    /// Somebody who walks to the route and then along it. Without any place he walks on for ever.
    pub(crate) fn new(plan: RoutePlan, mut random: SmallRng) -> Self {
        let points = plan.points.iter().zip(plan.points.iter().cycle().skip(1));
        let longest_leg_m = points.map(|(from, to)| from.distance(*to)).fold(0.0, f32::max);
        let direction = Vec2::from_angle(random.random_range(0.0..std::f32::consts::TAU));
        Self {
            next: plan.first % plan.points.len().max(1),
            plan,
            longest_leg_m,
            is_on_route: false,
            detour: None,
            detours: 0,
            side: if random.random_bool(0.5) { 1.0 } else { -1.0 },
            progress: Progress::default(),
            random,
            direction,
        }
    }

    /// The direction of the next tick, a unit vector; without a position it stays the same.
    pub(crate) fn next(&mut self, here: Option<Vec2>) -> Vec2 {
        if let Some(here) = here {
            self.steer(here);
        }
        self.direction
    }

    fn steer(&mut self, here: Vec2) {
        self.progress.note(here);
        let Some(mut goal) = self.goal() else { return };
        if here.distance(goal) < self.plan.arrived_m {
            (self.is_on_route, self.detour, self.detours) = (true, None, 0);
            goal = self.advance().unwrap_or(goal);
        } else if here.distance(goal) > self.longest_leg_m + OFF_ROUTE_M {
            self.is_on_route = false;
        }
        if self.is_on_route && self.progress.is_stuck_for(self.plan.patience_ticks) {
            // Whoever stands there will have gone when this one comes back.
            goal = self.advance().unwrap_or(goal);
        } else if !self.is_on_route {
            goal = self.around(here, goal);
        }
        self.direction = (goal - here).try_normalize().unwrap_or(self.direction);
    }

    fn goal(&self) -> Option<Vec2> {
        self.plan.points.get(self.next).copied()
    }

    fn advance(&mut self) -> Option<Vec2> {
        self.next = (self.next + 1) % self.plan.points.len().max(1);
        self.goal()
    }

    /// Where to walk for `goal`: aside, where the straight way was blocked.
    fn around(&mut self, here: Vec2, goal: Vec2) -> Vec2 {
        if self.progress.is_stuck_for(BLOCKED_TICKS) {
            if self.detours == DETOURS_MAX {
                (self.detours, self.side) = (0, -self.side);
            }
            self.detours += 1;
            // Not twice the same way, lest two bots block each other for ever.
            let width = DETOUR_M * self.detours as f32 * self.random.random_range(0.8..1.2);
            let way = (goal - here).normalize_or(self.direction);
            self.detour = Some(Detour {
                place: here + (way.perp() * self.side - way * DETOUR_BACK_SHARE) * width,
                ticks_left: (width * DETOUR_TICKS_PER_M) as u32,
            });
        }
        let Some(detour) = &mut self.detour else { return goal };
        detour.ticks_left = detour.ticks_left.saturating_sub(1);
        let place = detour.place;
        if detour.ticks_left == 0 || here.distance(place) < DETOUR_ARRIVED_M {
            self.detour = None;
            return goal;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeded;

    fn square() -> RoutePlan {
        RoutePlan {
            points: vec![Vec2::ZERO, Vec2::X * 4.0, Vec2::splat(4.0), Vec2::Y * 4.0],
            first: 2,
            arrived_m: 0.3,
            patience_ticks: 12,
        }
    }

    /// Walks at 0.1 m a tick to where `may_stand` allows it, and gives the places.
    fn walk(route: &mut Route, from: Vec2, ticks: usize, may_stand: impl Fn(Vec2) -> bool) -> Vec<Vec2> {
        let mut here = from;
        (0..ticks)
            .map(|_| {
                let next = here + route.next(Some(here)) * 0.1;
                here = if may_stand(next) { next } else { here };
                here
            })
            .collect()
    }

    #[test]
    fn the_places_are_visited_in_turn_beginning_with_the_first() {
        let mut route = Route::new(square(), seeded(1, 1));
        let places = walk(&mut route, Vec2::splat(9.0), 400, |_| true);
        let when = |point: Vec2| places.iter().position(|place| place.distance(point) < 0.31).unwrap();
        let visits = [2, 3, 0, 1].map(|index| when(square().points[index]));
        assert!(visits.is_sorted(), "{visits:?}");
        assert!(route.is_on_route);
    }

    #[test]
    fn what_stands_in_the_way_to_the_route_is_walked_around() {
        for index in 0..8 {
            let mut route = Route::new(square(), seeded(1, index));
            // A pillar of two metres exactly on the straight way.
            let pillar = |place: Vec2| (place - Vec2::splat(9.0)).abs().max_element() > 1.4;
            walk(&mut route, Vec2::splat(20.0), 900, pillar);
            assert!(route.is_on_route, "bot {index} did not get around");
        }
    }

    #[test]
    fn who_is_stopped_on_the_route_goes_on_to_the_next_place() {
        let mut route = Route::new(square(), seeded(1, 1));
        let places = walk(&mut route, Vec2::splat(4.0), 600, |place| place.y > 1.0);
        let longest = places.chunk_by(|a, b| a == b).map(<[Vec2]>::len).max();
        assert!(longest.unwrap() <= 30, "stood for {longest:?} ticks");
    }

    #[test]
    fn a_respawned_walker_comes_back_and_one_without_a_position_walks_on() {
        let mut route = Route::new(square(), seeded(1, 1));
        walk(&mut route, Vec2::splat(4.0), 60, |_| true);
        let direction = route.next(Some(Vec2::splat(40.0)));
        assert!(!route.is_on_route && direction.dot(Vec2::NEG_ONE) > 1.3);
        assert_eq!(route.next(None), direction);
    }
}
