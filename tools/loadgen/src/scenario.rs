//! What bots do: seeded walks that never stand still, a pure function of the seed and the bot's own position.

use std::f32::consts::TAU;

use bevy::math::{Vec2, Vec3};
use clap::ValueEnum;
use meridian_game::{Move, WorldDefinition};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// Which walk the bots take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ScenarioKind {
    /// Everybody walks from one random place to the next, and jumps at times.
    #[default]
    Roam,
    /// Everybody stays within ten metres of the centre, always moving; every fourth bot pushes crates.
    Crowd,
}

/// How far from the spawn's centre bots roam, in metres.
const ROAM_RADIUS_M: f32 = 40.0;
/// How far from the centre a crowd stands, in metres.
const CROWD_RADIUS_M: f32 = 10.0;
/// Crates further from the centre than this are left alone by a crowd, in metres.
const CRATE_REACH_M: f32 = 16.0;
/// Share of the world's half width that bots keep off its edges: the ground may end before the bounds do.
const EDGE_SHARE: f32 = 0.3;
/// A waypoint is reached within this distance, in metres.
const ARRIVED_M: f32 = 1.0;
/// A new waypoint lies at least this far off, in metres, so that a walk lasts.
const LEG_M: f32 = 4.0;
/// A pusher walks on for this long behind a crate's place, in metres.
const PUSH_BEYOND_M: f32 = 4.0;
/// Every how many bots of a crowd pushes crates.
const PUSHER_EVERY: usize = 4;
/// Ticks without progress after which a bot turns elsewhere: a third of a second at 60 Hz.
const STUCK_TICKS: u32 = 20;
/// Progress that counts, in metres per tick: a tenth of the walking speed at 60 Hz.
const PROGRESS_M: f32 = 0.01;
/// Ticks after which a waypoint is given up in any case.
const LEG_TICKS_MAX: u32 = 600;
/// A roaming bot jumps once in so many ticks, on average.
const JUMP_EVERY_TICKS: u32 = 150;
/// Ticks the jump button is held: one suffices on the ground.
const JUMP_HELD_TICKS: u32 = 2;

/// Where a scenario takes place.
#[derive(Clone, Debug)]
pub struct Stage {
    kind: ScenarioKind,
    centre: Vec2,
    radius_m: f32,
    crates: Vec<Vec2>,
}

impl Stage {
    /// The part of `world` that a scenario uses.
    pub fn new(kind: ScenarioKind, world: &WorldDefinition) -> Self {
        let [x, _, z] = world.spawn.centre;
        let centre = Vec2::new(x, z);
        let bounds = world.bounds;
        let (min, max) = (Vec2::from_array(bounds.min), Vec2::from_array(bounds.max));
        let inner = (centre - min).min(max - centre).min_element().max(0.0) * (1.0 - EDGE_SHARE);
        let wanted = match kind {
            ScenarioKind::Roam => ROAM_RADIUS_M,
            ScenarioKind::Crowd => CROWD_RADIUS_M,
        };
        let places = world
            .crates
            .iter()
            .flat_map(|group| group.centres())
            .map(|place| Vec2::new(place.x, place.z));
        let crates = places.filter(|place| place.distance(centre) <= CRATE_REACH_M).collect();
        Self {
            kind,
            centre,
            radius_m: wanted.min(inner).max(1.0),
            crates,
        }
    }
}

/// One bot's walk.
#[derive(Clone, Debug)]
pub struct Behaviour {
    stage: Stage,
    random: SmallRng,
    pushes: bool,
    waypoints: [Vec2; 2],
    leg_ticks: u32,
    stuck_ticks: u32,
    jump_ticks: u32,
    last: Option<Vec2>,
    heading: f32,
}

impl Behaviour {
    /// The walk of bot number `index`; the same seed, stage and positions give the same inputs.
    pub fn new(stage: Stage, seed: u64, index: usize) -> Self {
        // The golden ratio's bits spread neighbouring indices over the seeds.
        let mut random = SmallRng::seed_from_u64(seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let heading = random.random_range(0.0..TAU);
        let pushes =
            stage.kind == ScenarioKind::Crowd && index.is_multiple_of(PUSHER_EVERY) && !stage.crates.is_empty();
        let mut behaviour = Self {
            random,
            pushes,
            waypoints: [stage.centre; 2],
            leg_ticks: 0,
            stuck_ticks: 0,
            jump_ticks: 0,
            last: None,
            heading,
            stage,
        };
        behaviour.turn(behaviour.stage.centre);
        behaviour
    }

    /// The input of the next tick, given where the bot stands; without a position it walks on.
    pub fn next(&mut self, position: Option<Vec3>) -> Move {
        if let Some(position) = position {
            self.steer(Vec2::new(position.x, position.z));
        }
        let direction = Vec2::from_angle(self.heading);
        let jump = self.jumps();
        // A unit vector and a finite heading: nothing is corrected.
        let (input, _) = Move::new(direction, self.heading.rem_euclid(TAU), jump);
        input
    }

    fn steer(&mut self, here: Vec2) {
        let moved = self
            .last
            .replace(here)
            .map_or(f32::INFINITY, |last| last.distance(here));
        self.stuck_ticks = if moved < PROGRESS_M { self.stuck_ticks + 1 } else { 0 };
        self.leg_ticks += 1;
        let [waypoint, beyond] = self.waypoints;
        if here.distance(waypoint) < ARRIVED_M && waypoint != beyond {
            self.waypoints = [beyond; 2];
        } else if here.distance(waypoint) < ARRIVED_M || self.leg_ticks > LEG_TICKS_MAX {
            self.turn(here);
        } else if self.stuck_ticks >= STUCK_TICKS {
            self.stuck_ticks = 0;
            // A jump may clear what stands in the way; another way round helps otherwise.
            self.jump_ticks = JUMP_HELD_TICKS;
            self.turn(here);
        }
        let towards = self.waypoints[0] - here;
        if towards.length_squared() > 1e-4 {
            self.heading = towards.to_angle();
        }
    }

    /// Chooses where to walk from `here`.
    fn turn(&mut self, here: Vec2) {
        self.leg_ticks = 0;
        let pushed = if self.pushes {
            self.random.random_range(0..self.stage.crates.len() * 2)
        } else {
            usize::MAX
        };
        if let Some(place) = self.stage.crates.get(pushed) {
            let beyond = *place + (*place - here).normalize_or(Vec2::X) * PUSH_BEYOND_M;
            self.waypoints = [*place, beyond];
            return;
        }
        let mut best = self.random_place();
        // A few tries for a place that is not next door; any will do after that.
        for _ in 0..8 {
            if best.distance(here) >= LEG_M.min(self.stage.radius_m) {
                break;
            }
            best = self.random_place();
        }
        self.waypoints = [best; 2];
    }

    fn random_place(&mut self) -> Vec2 {
        let radius = self.stage.radius_m * self.random.random_range(0.0f32..1.0).sqrt();
        self.stage.centre + Vec2::from_angle(self.random.random_range(0.0..TAU)) * radius
    }

    fn jumps(&mut self) -> bool {
        if self.stage.kind == ScenarioKind::Roam && self.random.random_range(0..JUMP_EVERY_TICKS) == 0 {
            self.jump_ticks = JUMP_HELD_TICKS;
        }
        let held = self.jump_ticks > 0;
        self.jump_ticks = self.jump_ticks.saturating_sub(1);
        held
    }
}

#[cfg(test)]
mod tests {
    use meridian_game::movement::{MovementState, WALK_SPEED_M_PER_S, step};
    use meridian_game::scenery::{Scenery, Surroundings};

    use super::*;

    const HZ: usize = 60;

    fn world() -> WorldDefinition {
        WorldDefinition::parse(include_str!("../../../assets/data/world.toml"), "world.toml").unwrap()
    }

    /// Walks a bot alone through the demo world's scenery and gives its positions.
    fn walk(kind: ScenarioKind, seed: u64, index: usize, seconds: usize) -> (Vec<Vec3>, Vec<Move>) {
        let world = world();
        let scenery = Scenery::new(&world);
        let surroundings = Surroundings {
            scenery: &scenery,
            players: &[],
            crates: &[],
        };
        let mut behaviour = Behaviour::new(Stage::new(kind, &world), seed, index);
        let mut state = MovementState::standing_at(Vec3::from_array(world.spawn.centre));
        let (mut positions, mut inputs) = (vec![], vec![]);
        for _ in 0..seconds * HZ {
            let input = behaviour.next(Some(state.position));
            state = step(state, input, &surroundings, 1.0 / HZ as f32);
            positions.push(state.position);
            inputs.push(input);
        }
        (positions, inputs)
    }

    #[test]
    fn the_same_seed_walks_the_same_way_and_another_does_not() {
        assert_eq!(walk(ScenarioKind::Roam, 1, 3, 10), walk(ScenarioKind::Roam, 1, 3, 10));
        assert_ne!(
            walk(ScenarioKind::Roam, 1, 3, 10).0,
            walk(ScenarioKind::Roam, 2, 3, 10).0
        );
        assert_ne!(
            walk(ScenarioKind::Roam, 1, 3, 10).0,
            walk(ScenarioKind::Roam, 1, 4, 10).0
        );
    }

    #[test]
    fn a_crowd_stays_together_and_nobody_idles() {
        for index in 0..12 {
            let (positions, inputs) = walk(ScenarioKind::Crowd, 7, index, 60);
            assert!(inputs.iter().all(|input| input.direction().length() > 0.95));
            let furthest = positions
                .iter()
                .map(|place| place.with_y(0.0).length())
                .fold(0.0, f32::max);
            let limit = if index.is_multiple_of(PUSHER_EVERY) {
                CRATE_REACH_M + PUSH_BEYOND_M
            } else {
                CROWD_RADIUS_M
            };
            assert!(furthest <= limit + 1.0, "bot {index} got {furthest} m away");
            let moving = positions
                .windows(2)
                .filter(|pair| pair[0].distance(pair[1]) > PROGRESS_M)
                .count();
            assert!(
                moving as f32 > positions.len() as f32 * 0.97,
                "bot {index} moved in {moving} ticks"
            );
        }
    }

    #[test]
    fn a_roaming_bot_sees_the_world_jumps_and_never_falls_off() {
        for index in 0..12 {
            let (positions, inputs) = walk(ScenarioKind::Roam, 7, index, 120);
            assert!(positions.iter().all(|place| place.y > 0.0), "bot {index} fell");
            assert!(inputs.iter().any(|input| input.jump()));
            let walked: f32 = positions.windows(2).map(|pair| pair[0].distance(pair[1])).sum();
            assert!(
                walked > 0.85 * WALK_SPEED_M_PER_S * 120.0,
                "bot {index} walked {walked} m"
            );
            let furthest = positions
                .iter()
                .map(|place| place.with_y(0.0).length())
                .fold(0.0, f32::max);
            assert!(
                furthest > CROWD_RADIUS_M && furthest <= ROAM_RADIUS_M + 2.0,
                "{furthest}"
            );
        }
    }

    #[test]
    fn a_bot_without_a_position_walks_all_the_same() {
        let mut behaviour = Behaviour::new(Stage::new(ScenarioKind::Roam, &world()), 1, 1);
        assert!(behaviour.next(None).direction().length() > 0.95);
    }

    #[test]
    fn every_fourth_bot_of_a_crowd_goes_to_the_crates() {
        let world = world();
        let stage = Stage::new(ScenarioKind::Crowd, &world);
        let (positions, _) = walk(ScenarioKind::Crowd, 3, 0, 60);
        let near = |place: &Vec3| {
            stage
                .crates
                .iter()
                .any(|item| item.distance(Vec2::new(place.x, place.z)) < 1.5)
        };
        assert!(positions.iter().any(near));
    }
}
