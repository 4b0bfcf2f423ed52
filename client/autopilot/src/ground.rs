//! Where bots can walk: tried with the movement step itself, so it cannot be wrong about what stops a walker.

use bevy::math::{Vec2, Vec3, Vec3Swizzles};
use meridian_game::movement::{MovementState, WALK_SPEED_M_PER_S, step};
use meridian_game::quantise::VERTICAL_MAX_M;
use meridian_game::scenery::{Scenery, SpatialQueries, Surroundings};
use meridian_game::{Move, WorldDefinition};

const STEP_SECONDS: f32 = 1.0 / 60.0;
/// How far a trial walk may rise or fall, in metres: no lane leads over an edge.
const LEVEL_M: f32 = 0.3;
/// How far it may be pushed off its line, in metres.
const OFF_LINE_M: f32 = 0.2;
/// A trial walk has arrived within this distance, in metres.
const ARRIVED_M: f32 = 0.2;
/// Ticks beyond those of an unhindered walk: to start, and to come to rest on the ground.
const EXTRA_TICKS: f32 = 30.0;
/// How far from its line's middle a strip's edges are walked, in metres: two walkers of that radius cover all between them.
const EDGE_M: f32 = 0.4;

/// What never moves, and where crates stand at first.
pub(crate) struct Ground {
    scenery: Scenery,
    height_m: f32,
    crates: Vec<(Vec2, f32)>,
}

impl Ground {
    /// The ground of `world`, at the height of its spawn.
    pub(crate) fn new(world: &WorldDefinition) -> Self {
        let crates = world.crates.iter().flat_map(|group| {
            let [x, _, z] = group.size;
            group
                .centres()
                .map(move |centre| (centre.xz(), Vec2::new(x, z).length() / 2.0))
        });
        Self {
            scenery: Scenery::new(world),
            height_m: world.spawn.centre[1],
            crates: crates.collect(),
        }
    }

    /// Whether a strip of 1.6 m around the line can be walked there and back.
    pub(crate) fn is_free(&self, from: Vec2, to: Vec2) -> bool {
        let edge = (to - from).normalize_or_zero().perp() * EDGE_M;
        [edge, -edge]
            .iter()
            .all(|edge| self.is_walkable(from + *edge, to + *edge))
    }

    /// Whether no crate stands within `margin_m` of the line, at first.
    pub(crate) fn is_clear_of_crates(&self, from: Vec2, to: Vec2, margin_m: f32) -> bool {
        self.crates
            .iter()
            .all(|(centre, radius_m)| distance_to_line(*centre, from, to) > radius_m + margin_m)
    }

    fn is_walkable(&self, from: Vec2, to: Vec2) -> bool {
        let start = MovementState::standing_at(Vec3::new(from.x, self.height_m, from.y));
        if !self.is_under_the_sky(start.position) {
            return false;
        }
        let there = self.trial(start, to);
        there.and_then(|there| self.trial(there, from)).is_some()
    }

    /// Whether who falls there from above comes to stand at that place. Within a box nothing would stop a walker.
    fn is_under_the_sky(&self, standing: Vec3) -> bool {
        let fall = Vec3::Y * (2.0 * VERTICAL_MAX_M);
        let hit = self.surroundings().cast_player(standing + fall, -fall);
        hit.is_none_or(|hit| fall.y * (1.0 - hit.fraction) < LEVEL_M)
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            scenery: &self.scenery,
            players: &[],
            crates: &[],
        }
    }

    /// Walks straight to `to`; none where the walk ends on the way.
    fn trial(&self, start: MovementState, to: Vec2) -> Option<MovementState> {
        let surroundings = self.surroundings();
        let from = start.position.xz();
        let ticks = from.distance(to) / (WALK_SPEED_M_PER_S * STEP_SECONDS) + EXTRA_TICKS;
        let mut state = start;
        for _ in 0..ticks as u32 {
            let way = to - state.position.xz();
            if way.length() < ARRIVED_M {
                return Some(state);
            }
            let (input, _) = Move::new(way.normalize_or_zero(), 0.0, false);
            state = step(state, input, &surroundings, STEP_SECONDS);
            let is_level = (state.position.y - start.position.y).abs() < LEVEL_M;
            // Who turns at the end runs on a little beyond it, which is still on the line.
            let off_line = (state.position.xz() - from).perp_dot((to - from).normalize_or_zero());
            if !is_level || off_line.abs() > OFF_LINE_M {
                return None;
            }
        }
        None
    }
}

fn distance_to_line(point: Vec2, from: Vec2, to: Vec2) -> f32 {
    let (along, length) = (to - from).normalize_and_length();
    let nearest = from + along * (point - from).dot(along).clamp(0.0, length);
    nearest.distance(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::demo_world;

    fn is_free(from: (f32, f32), to: (f32, f32)) -> bool {
        Ground::new(&demo_world()).is_free(from.into(), to.into())
    }

    #[test]
    fn the_plaza_is_free_and_what_stands_on_it_is_not() {
        assert!(is_free((-5.0, -8.0), (5.0, -8.0)));
        // Through the stage, over the ramp, past a pillar's edge, through a wall.
        assert!(!is_free((-12.0, -30.0), (12.0, -30.0)));
        assert!(!is_free((-5.0, -22.0), (5.0, -22.0)));
        assert!(!is_free((15.0, 18.7), (25.0, 18.7)));
        assert!(!is_free((0.0, 50.0), (0.0, 60.0)));
    }

    #[test]
    fn the_grounds_edge_and_what_lies_within_a_box_are_not_free() {
        assert!(!is_free((50.0, 0.0), (60.0, 0.0)));
        assert!(!is_free((60.0, 0.0), (62.0, 0.0)));
        assert!(!is_free((-2.0, -30.0), (2.0, -30.0)));
    }

    #[test]
    fn crates_are_in_the_way_where_they_stand_at_first() {
        let ground = Ground::new(&demo_world());
        let is_clear = |z: f32| ground.is_clear_of_crates(Vec2::new(0.0, z), Vec2::new(12.0, z), 0.5);
        assert!(!is_clear(8.0) && is_clear(4.0));
    }
}
