//! The movement step on the demo world's scenery.

use bevy::math::Vec2;
use proptest::prelude::*;

use super::*;
use crate::quantise::GRID_PER_METRE;
use crate::scenery::{Scenery, SurroundingCrate, Surroundings};
use crate::world::WorldDefinition;

const TICK_SECONDS: f32 = 1.0 / 60.0;
/// What the wire's grid makes of two values, in metres or metres per second.
const ROUNDING: f32 = 2.0 / GRID_PER_METRE;

fn scenery() -> Scenery {
    let text = include_str!("../../../../assets/data/world.toml");
    Scenery::new(&WorldDefinition::parse(text, "world.toml").unwrap())
}

fn walk(x: f32, z: f32, jump: bool) -> Move {
    Move::new(Vec2::new(x, z), 0.0, jump).0
}

fn steps(scenery: &Scenery, mut state: MovementState, ticks: u32, mut input: impl FnMut(u32) -> Move) -> MovementState {
    let surroundings = Surroundings {
        scenery,
        players: &[],
        crates: &[],
    };
    for tick in 0..ticks {
        state = step(state, input(tick), &surroundings, TICK_SECONDS);
    }
    state
}

fn crate_at(position: Vec3) -> SurroundingCrate {
    SurroundingCrate {
        position,
        rotation: bevy::math::Quat::IDENTITY,
        half_extents: Vec3::splat(0.5),
    }
}

#[test]
fn a_player_stands_where_it_stands() {
    let scenery = scenery();
    let start = MovementState::standing_at(Vec3::new(3.0, 0.0, 5.0));
    let landed = steps(&scenery, start, 10, |_| Move::default());
    let later = steps(&scenery, landed, 600, |_| Move::default());
    assert_eq!(landed, later);
    assert!(later.grounded);
    assert!((later.position.y - start.position.y).abs() < 0.02, "{later:?}");
}

#[test]
fn a_walk_is_as_fast_as_it_is_said_to_be() {
    let scenery = scenery();
    let start = steps(
        &scenery,
        MovementState::standing_at(Vec3::new(-5.0, 0.0, 10.0)),
        10,
        |_| Move::default(),
    );
    let end = steps(&scenery, start, 120, |_| walk(1.0, 0.0, false));
    let travelled = end.position.x - start.position.x;
    assert!((11.0..12.1).contains(&travelled), "{travelled} m in 2 s");
    assert_eq!(end.position.z, start.position.z);
}

#[test]
fn a_jump_is_a_metre_high_and_lands() {
    let scenery = scenery();
    let start = steps(&scenery, MovementState::standing_at(Vec3::ZERO), 10, |_| {
        Move::default()
    });
    let mut highest = start.position.y;
    let mut state = start;
    for tick in 0..120 {
        state = steps(&scenery, state, 1, |_| walk(0.0, 0.0, tick == 0));
        highest = highest.max(state.position.y);
    }
    assert!(
        (0.9..1.2).contains(&(highest - start.position.y)),
        "{}",
        highest - start.position.y
    );
    assert_eq!(state, start);
}

#[test]
fn a_wall_stops_and_lets_slide() {
    let scenery = scenery();
    let start = steps(
        &scenery,
        MovementState::standing_at(Vec3::new(30.0, 0.0, -50.0)),
        10,
        |_| Move::default(),
    );
    let end = steps(&scenery, start, 120, |_| walk(0.7, -0.7, false));
    assert!(
        end.position.z > -54.5 + CAPSULE_RADIUS_M - 0.02,
        "through the wall at {}",
        end.position
    );
    assert!(end.position.x > start.position.x + 5.0, "slides along it");
}

#[test]
fn a_ramp_is_climbed_and_descended_on_foot() {
    let scenery = scenery();
    let start = steps(
        &scenery,
        MovementState::standing_at(Vec3::new(0.0, 0.0, -15.0)),
        10,
        |_| Move::default(),
    );
    let top = steps(&scenery, start, 180, |_| walk(0.0, -1.0, false));
    assert!(
        top.position.y > 1.5 + CAPSULE_HALF_HEIGHT_M - 0.1,
        "on the stage: {}",
        top.position
    );
    let bottom = steps(&scenery, top, 180, |_| walk(0.0, 1.0, false));
    assert!(bottom.position.y < 1.0 && bottom.grounded, "{bottom:?}");
}

#[test]
fn players_part_and_crates_slow_but_do_not_block() {
    let scenery = scenery();
    let start = steps(&scenery, MovementState::standing_at(Vec3::ZERO), 10, |_| {
        Move::default()
    });
    let other = start.position + Vec3::X * 0.5;
    let surroundings = Surroundings {
        scenery: &scenery,
        players: &[other],
        crates: &[],
    };
    let mut state = start;
    for _ in 0..60 {
        state = step(state, Move::default(), &surroundings, TICK_SECONDS);
    }
    assert!(
        state.position.distance(other) >= 2.0 * CAPSULE_RADIUS_M - 0.02,
        "parted"
    );
    let item = crate_at(start.position + Vec3::X * 0.9);
    let surroundings = Surroundings {
        scenery: &scenery,
        players: &[],
        crates: &[item],
    };
    let mut pushing = start;
    for _ in 0..30 {
        pushing = step(pushing, walk(1.0, 0.0, false), &surroundings, TICK_SECONDS);
    }
    let free = steps(&scenery, start, 30, |_| walk(1.0, 0.0, false));
    assert!(pushing.position.x > start.position.x + 1.0 && pushing.position.x < free.position.x - 0.5);
}

/// The speed after a tick is no higher than walk, take-off and fall, and no tick leads further down than the fall.
fn is_bounded(before: &MovementState, after: &MovementState) -> Result<(), TestCaseError> {
    let velocity = after.velocity;
    prop_assert!(velocity.with_y(0.0).length() <= WALK_SPEED_M_PER_S + ROUNDING);
    prop_assert!(velocity.y <= JUMP_SPEED_M_PER_S + ROUNDING, "{} m/s up", velocity.y);
    prop_assert!(velocity.y >= -FALL_SPEED_M_PER_S - ROUNDING, "{} m/s down", -velocity.y);
    let down = before.position.y - after.position.y;
    let allowed = FALL_SPEED_M_PER_S * TICK_SECONDS + GROUND_PROBE_M + ROUNDING;
    prop_assert!(down <= allowed, "{down} m down in a tick, allowed {allowed}");
    Ok(())
}

proptest! {
    /// Whatever the input, and whoever and whatever stands around, no tick moves a player farther than the walk, the separation, the take-off
    /// and the fall allow, and the result lies on the wire's grid.
    #[test]
    fn no_input_moves_a_player_faster_than_allowed(
        x in -60.0f32..60.0,
        y in 0.0f32..4.0,
        z in -60.0f32..60.0,
        inputs in proptest::collection::vec((any::<u64>(), 1u32..20), 1..12),
        others in proptest::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 0..4),
        crates in proptest::collection::vec((-1.5f32..1.5, -1.0f32..1.0, -1.5f32..1.5), 0..3),
    ) {
        let scenery = scenery();
        let mut state = MovementState::standing_at(Vec3::new(x, y, z));
        for (packed, ticks) in inputs {
            let (input, _) = Move::unpack(packed).sanitise();
            for _ in 0..ticks {
                let players: Vec<Vec3> =
                    others.iter().map(|(x, z)| state.position + Vec3::new(*x, 0.0, *z)).collect();
                let near: Vec<SurroundingCrate> =
                    crates.iter().map(|(x, y, z)| crate_at(state.position + Vec3::new(*x, *y, *z))).collect();
                let surroundings = Surroundings { scenery: &scenery, players: &players, crates: &near };
                let next = step(state, input, &surroundings, TICK_SECONDS);
                is_bounded(&state, &next)?;
                let moved = next.position - state.position;
                let across = moved.with_y(0.0).length();
                let allowed = (WALK_SPEED_M_PER_S + SEPARATION_SPEED_M_PER_S) * TICK_SECONDS + ROUNDING;
                prop_assert!(across <= allowed, "{across} m in a tick, allowed {allowed}");
                // Who slides along a slope goes up for a part of the way, which gets no longer.
                let allowed = Vec2::new(WALK_SPEED_M_PER_S, JUMP_SPEED_M_PER_S).length() * TICK_SECONDS + ROUNDING;
                prop_assert!(moved.y <= allowed, "{} m up in a tick, allowed {allowed}", moved.y);
                prop_assert_eq!(next.position, snap_position(next.position));
                prop_assert_eq!(next.velocity, snap_velocity(next.velocity));
                state = next;
            }
        }
    }

    /// However high a fall begins, and on whatever it ends, it is bounded.
    #[test]
    fn no_fall_is_faster_than_allowed(
        x in -60.0f32..60.0,
        y in 0.0f32..120.0,
        z in -60.0f32..60.0,
        speed in -JUMP_SPEED_M_PER_S..FALL_SPEED_M_PER_S,
    ) {
        let scenery = scenery();
        let surroundings = Surroundings { scenery: &scenery, players: &[], crates: &[] };
        let mut state = MovementState {
            velocity: snap_velocity(Vec3::NEG_Y * speed),
            ..MovementState::standing_at(Vec3::new(x, y, z))
        };
        for _ in 0..180 {
            let next = step(state, Move::default(), &surroundings, TICK_SECONDS);
            is_bounded(&state, &next)?;
            state = next;
        }
    }
}
