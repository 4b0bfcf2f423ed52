//! Walks between random places, seeded: everybody on his own, or all in a crowd.

use std::f32::consts::TAU;

use bevy::math::{Vec2, Vec3};
use meridian_game::{Move, WorldDefinition};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::progress::Progress;
use crate::{ScenarioKind, seeded};

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
/// Ticks without progress after which a bot turns back: a fifth of a second at 60 Hz.
const STUCK_TICKS: u32 = 12;
/// Ticks after which a waypoint is given up in any case.
const LEG_TICKS_MAX: u32 = 600;
/// A roaming bot jumps once in so many ticks, on average.
const JUMP_EVERY_TICKS: u32 = 150;
/// Ticks the jump button is held: one suffices on the ground.
const JUMP_HELD_TICKS: u32 = 2;

/// Where the walks take place.
#[derive(Clone, Debug)]
pub(crate) struct WanderStage {
    is_crowd: bool,
    centre: Vec2,
    radius_m: f32,
    crates: Vec<Vec2>,
}

impl WanderStage {
    /// The part of `world` that a crowd uses, or that somebody roams.
    pub(crate) fn new(kind: ScenarioKind, world: &WorldDefinition) -> Self {
        let is_crowd = kind == ScenarioKind::Crowd;
        let [x, _, z] = world.spawn.centre;
        let centre = Vec2::new(x, z);
        let bounds = world.bounds;
        let (min, max) = (Vec2::from_array(bounds.min), Vec2::from_array(bounds.max));
        let inner = (centre - min).min(max - centre).min_element().max(0.0) * (1.0 - EDGE_SHARE);
        let wanted = if is_crowd { CROWD_RADIUS_M } else { ROAM_RADIUS_M };
        let places = world
            .crates
            .iter()
            .flat_map(|group| group.centres())
            .map(|place| Vec2::new(place.x, place.z));
        let crates = places.filter(|place| place.distance(centre) <= CRATE_REACH_M).collect();
        Self {
            is_crowd,
            centre,
            radius_m: wanted.min(inner).max(1.0),
            crates,
        }
    }
}

/// One bot's walk.
#[derive(Clone, Debug)]
pub(crate) struct Wander {
    stage: WanderStage,
    random: SmallRng,
    pushes: bool,
    waypoints: [Vec2; 2],
    leg_ticks: u32,
    progress: Progress,
    jump_ticks: u32,
    heading: f32,
}

impl Wander {
    /// The walk of bot number `index`; the same seed, stage and positions give the same inputs.
    pub(crate) fn new(stage: WanderStage, seed: u64, index: usize) -> Self {
        let mut random = seeded(seed, index);
        let heading = random.random_range(0.0..TAU);
        let pushes = stage.is_crowd && index.is_multiple_of(PUSHER_EVERY) && !stage.crates.is_empty();
        let mut wander = Self {
            random,
            pushes,
            waypoints: [stage.centre; 2],
            leg_ticks: 0,
            progress: Progress::default(),
            jump_ticks: 0,
            heading,
            stage,
        };
        wander.turn(wander.stage.centre, None);
        wander
    }

    /// The input of the next tick, given where the bot stands; without a position it walks on.
    pub(crate) fn next(&mut self, position: Option<Vec3>) -> Move {
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
        self.progress.note(here);
        self.leg_ticks += 1;
        let [waypoint, beyond] = self.waypoints;
        if here.distance(waypoint) < ARRIVED_M && waypoint != beyond {
            self.waypoints = [beyond; 2];
        } else if here.distance(waypoint) < ARRIVED_M || self.leg_ticks > LEG_TICKS_MAX {
            self.turn(here, None);
        } else if self.progress.is_stuck_for(STUCK_TICKS) {
            self.turn(here, Some(Vec2::from_angle(self.heading)));
        }
        let towards = self.waypoints[0] - here;
        if towards.length_squared() > 1e-4 {
            self.heading = towards.to_angle();
        }
    }

    /// Chooses where to walk from `here`; not on in the `blocked` direction.
    fn turn(&mut self, here: Vec2, blocked: Option<Vec2>) {
        self.leg_ticks = 0;
        let pushed = if self.pushes {
            self.random.random_range(0..self.stage.crates.len() * 2)
        } else {
            usize::MAX
        };
        if let Some(place) = self.stage.crates.get(pushed).filter(|_| blocked.is_none()) {
            let beyond = *place + (*place - here).normalize_or(Vec2::X) * PUSH_BEYOND_M;
            self.waypoints = [*place, beyond];
            return;
        }
        let mut best = self.random_place();
        // A few tries for a place that is not next door nor behind what blocks; any will do after that.
        for _ in 0..16 {
            let way = best - here;
            if way.length() >= LEG_M.min(self.stage.radius_m) && blocked.is_none_or(|blocked| way.dot(blocked) < 0.0) {
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
        if !self.stage.is_crowd && self.random.random_range(0..JUMP_EVERY_TICKS) == 0 {
            self.jump_ticks = JUMP_HELD_TICKS;
        }
        let held = self.jump_ticks > 0;
        self.jump_ticks = self.jump_ticks.saturating_sub(1);
        held
    }
}

#[cfg(test)]
mod tests {
    use meridian_game::movement::MovementState;

    use crate::testing::{HZ, demo_world, on_a_plain, over};
    use crate::{Behaviour, Stage};

    use super::*;

    /// How a bot gets from one tick to the next.
    type Walker = dyn Fn(MovementState, Move) -> MovementState;

    /// Walks a bot and gives its positions and inputs.
    fn walk(kind: ScenarioKind, seed: u64, index: usize, seconds: usize, walker: &Walker) -> (Vec<Vec3>, Vec<Move>) {
        let world = demo_world();
        let mut behaviour = Behaviour::new(&Stage::new(kind, &world, 1).unwrap(), seed, index);
        let mut state = MovementState::standing_at(Vec3::from_array(world.spawn.centre));
        let (mut positions, mut inputs) = (vec![], vec![]);
        for _ in 0..seconds * HZ {
            let input = behaviour.next(Some(state.position));
            state = walker(state, input);
            positions.push(state.position);
            inputs.push(input);
        }
        (positions, inputs)
    }

    fn furthest(positions: &[Vec3]) -> f32 {
        positions
            .iter()
            .map(|place| place.with_y(0.0).length())
            .fold(0.0, f32::max)
    }

    #[test]
    fn the_same_seed_walks_the_same_way_and_another_does_not() {
        let roam = |seed, index| walk(ScenarioKind::Roam, seed, index, 10, &on_a_plain);
        assert_eq!(roam(1, 3), roam(1, 3));
        assert_ne!(roam(1, 3).0, roam(2, 3).0);
        assert_ne!(roam(1, 3).0, roam(1, 4).0);
    }

    #[test]
    fn a_crowd_stays_together_and_nobody_idles() {
        for index in 0..12 {
            let (positions, inputs) = walk(ScenarioKind::Crowd, 7, index, 60, &on_a_plain);
            assert!(inputs.iter().all(|input| input.direction().length() > 0.95));
            let limit = if index.is_multiple_of(PUSHER_EVERY) {
                CRATE_REACH_M + PUSH_BEYOND_M
            } else {
                CROWD_RADIUS_M
            };
            assert!(
                furthest(&positions) <= limit + 1.0,
                "bot {index} got {} m away",
                furthest(&positions)
            );
        }
    }

    #[test]
    fn a_roaming_bot_sees_the_world_and_jumps() {
        for index in 0..12 {
            let (positions, inputs) = walk(ScenarioKind::Roam, 7, index, 120, &on_a_plain);
            assert!(inputs.iter().any(|input| input.jump()) && !inputs.iter().all(|input| input.jump()));
            assert!((CROWD_RADIUS_M..=ROAM_RADIUS_M + 1.0).contains(&furthest(&positions)));
        }
    }

    #[test]
    fn a_roaming_bot_never_falls_off_the_demo_world() {
        let walker = over(&demo_world());
        for index in 0..4 {
            let (positions, _) = walk(ScenarioKind::Roam, 7, index, 60, &walker);
            assert!(positions.iter().all(|place| place.y > 0.0), "bot {index} fell");
        }
    }

    #[test]
    fn a_bot_that_is_stuck_turns_back() {
        // A wall that lets nobody past x = 3.
        let walker = |state: MovementState, input: Move| {
            let next = on_a_plain(state, input);
            if next.position.x > 3.0 { state } else { next }
        };
        for index in 1..4 {
            let (positions, _) = walk(ScenarioKind::Crowd, 7, index, 60, &walker);
            let longest = positions.chunk_by(|a, b| a == b).map(<[Vec3]>::len).max();
            assert!(
                longest.unwrap() <= 4 * STUCK_TICKS as usize,
                "bot {index} stood {longest:?} ticks"
            );
        }
    }

    #[test]
    fn a_bot_without_a_position_walks_all_the_same() {
        let mut behaviour = Behaviour::new(&Stage::new(ScenarioKind::Roam, &demo_world(), 1).unwrap(), 1, 1);
        assert!(behaviour.next(None).direction().length() > 0.95);
    }

    #[test]
    fn every_fourth_bot_of_a_crowd_goes_to_the_crates() {
        let stage = WanderStage::new(ScenarioKind::Crowd, &demo_world());
        let (positions, _) = walk(ScenarioKind::Crowd, 3, 0, 60, &on_a_plain);
        let near = |place: &Vec3| {
            stage
                .crates
                .iter()
                .any(|item| item.distance(Vec2::new(place.x, place.z)) < 1.5)
        };
        assert!(positions.iter().any(near));
    }
}
