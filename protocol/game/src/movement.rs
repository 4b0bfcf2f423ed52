//! The movement step that zone and client share: a kinematic move-and-slide, pure in state, input and spatial queries.
//!
//! It ends by snapping to the wire's grid, so the zone continues from exactly what the client was told. It never reads
//! a clock, an entity or a random number.

use bevy::ecs::component::Component;
use bevy::math::{Vec2, Vec3};

use crate::components::Pose;
use crate::input::Move;
use crate::quantise::{snap_position, snap_velocity};
use crate::scenery::{SKIN_M, SpatialQueries};

/// Radius of a player's capsule, in metres.
pub const CAPSULE_RADIUS_M: f32 = 0.4;
/// Half of the capsule's straight part, in metres: the player is 1.8 m tall.
pub const CAPSULE_HALF_SEGMENT_M: f32 = 0.5;
/// Distance from the feet to the centre, in metres.
pub const CAPSULE_HALF_HEIGHT_M: f32 = CAPSULE_RADIUS_M + CAPSULE_HALF_SEGMENT_M;
/// Fastest walk, in metres per second.
pub const WALK_SPEED_M_PER_S: f32 = 6.0;
/// Fastest that one player is pushed out of another, in metres per second.
pub const SEPARATION_SPEED_M_PER_S: f32 = 2.0;
/// Speed at take-off, in metres per second: 1.1 m high.
pub const JUMP_SPEED_M_PER_S: f32 = 6.6;
/// Gravity of a jump, in metres per second squared; twice the Earth's, as is the habit of games.
pub const GRAVITY_M_PER_S2: f32 = 20.0;
/// Fastest fall, in metres per second.
pub const FALL_SPEED_M_PER_S: f32 = 50.0;

const GROUND_ACCELERATION_M_PER_S2: f32 = 60.0;
const AIR_ACCELERATION_M_PER_S2: f32 = 15.0;
/// Share of the walking speed that is left while pushing a crate.
const PUSHING_SPEED: f32 = 0.6;
/// Surfaces less steep than this carry a player: cosine of 46 degrees.
const GROUND_NORMAL_Y: f32 = 0.69;
/// Planes that one step slides along at most; a corner needs three.
const SLIDES_MAX: usize = 4;
/// How far below the feet ground is felt, in metres. Keeps a walker on a ramp that leads down.
const GROUND_PROBE_M: f32 = 0.06;

/// Everything the movement step carries from one tick to the next.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct MovementState {
    /// Centre of the capsule, in metres.
    pub position: Vec3,
    /// Metres per second.
    pub velocity: Vec3,
    /// Heading in radians.
    pub yaw: f32,
    /// Whether the player stands on something.
    pub grounded: bool,
}

impl MovementState {
    /// A player that stands still with its feet at `feet`.
    pub fn standing_at(feet: Vec3) -> Self {
        Self {
            position: snap_position(feet + Vec3::Y * (CAPSULE_HALF_HEIGHT_M + SKIN_M)),
            ..Self::default()
        }
    }

    /// Where it stands and looks.
    pub fn pose(&self) -> Pose {
        Pose {
            position: self.position,
            yaw: self.yaw,
        }
    }
}

/// The state after one tick of `delta_seconds` under `input`, on the wire's grid.
pub fn step(state: MovementState, input: Move, queries: &impl SpatialQueries, delta_seconds: f32) -> MovementState {
    let exact = step_exactly(state, input, queries, delta_seconds);
    MovementState {
        position: snap_position(exact.position),
        velocity: snap_velocity(exact.velocity),
        ..exact
    }
}

/// The same without the grid: where a player is between two ticks. Only for showing; what is simulated goes by [`step`].
pub fn step_exactly(
    state: MovementState,
    input: Move,
    queries: &impl SpatialQueries,
    delta_seconds: f32,
) -> MovementState {
    let pushing = queries.touches_crate(state.position);
    let mut velocity = accelerate(&state, input, pushing, delta_seconds);
    let slide = slide(queries, state.position, &mut velocity, delta_seconds);
    let mut position = slide.position;
    let mut grounded = slide.grounded;
    if !grounded && velocity.y <= 0.0 && state.grounded {
        // Walking off a slope's crest: stay on the ground while it is within reach.
        if let Some(hit) = queries.cast_player(position, Vec3::NEG_Y * GROUND_PROBE_M)
            && hit.normal.y >= GROUND_NORMAL_Y
        {
            position.y -= GROUND_PROBE_M * hit.fraction;
            grounded = true;
            velocity.y = 0.0;
        }
    }
    position += separate(queries, position, delta_seconds);
    MovementState {
        position,
        velocity,
        yaw: input.facing(),
        grounded,
    }
}

/// The velocity that the input and gravity ask for.
fn accelerate(state: &MovementState, input: Move, pushing: bool, delta_seconds: f32) -> Vec3 {
    let speed = if pushing {
        WALK_SPEED_M_PER_S * PUSHING_SPEED
    } else {
        WALK_SPEED_M_PER_S
    };
    let wish = input.direction().clamp_length_max(1.0) * speed;
    let current = Vec2::new(state.velocity.x, state.velocity.z).clamp_length_max(WALK_SPEED_M_PER_S);
    let acceleration = if state.grounded {
        GROUND_ACCELERATION_M_PER_S2
    } else {
        AIR_ACCELERATION_M_PER_S2
    };
    let horizontal = current.move_towards(wish, acceleration * delta_seconds);
    let jump = state.grounded && input.jump();
    let vertical = if jump {
        JUMP_SPEED_M_PER_S
    } else {
        (state.velocity.y - GRAVITY_M_PER_S2 * delta_seconds).max(-FALL_SPEED_M_PER_S)
    };
    Vec3::new(horizontal.x, vertical, horizontal.y)
}

struct Slid {
    position: Vec3,
    grounded: bool,
}

/// Moves by `velocity` and slides along what is met; takes from `velocity` what led into it.
fn slide(queries: &impl SpatialQueries, from: Vec3, velocity: &mut Vec3, delta_seconds: f32) -> Slid {
    let mut slid = Slid {
        position: from,
        grounded: false,
    };
    let mut remaining = *velocity * delta_seconds;
    let mut previous_normal: Option<Vec3> = None;
    for _ in 0..SLIDES_MAX {
        if remaining.length_squared() < 1e-10 {
            break;
        }
        let Some(hit) = queries.cast_player(slid.position, remaining) else {
            slid.position += remaining;
            break;
        };
        slid.position += remaining * hit.fraction;
        remaining *= 1.0 - hit.fraction;
        let mut normal = hit.normal;
        if normal.y >= GROUND_NORMAL_Y {
            slid.grounded = true;
            // Ground carries: the walk goes on along the slope, gravity ends here.
            velocity.y = velocity.y.max(0.0);
            remaining.y = remaining.y.max(0.0);
        } else if normal.y > -GROUND_NORMAL_Y {
            // A wall is vertical to a walker: it never lifts nor presses down.
            let upright = normal.with_y(0.0).normalize_or(normal);
            // Unless that would leave the way into it open, as for who falls onto a steep edge.
            if remaining.dot(upright) < 0.0 {
                normal = upright;
            }
        }
        *velocity -= normal * velocity.dot(normal).min(0.0);
        remaining -= normal * remaining.dot(normal).min(0.0);
        if let Some(previous) = previous_normal
            && remaining.dot(previous) < 0.0
        {
            // Between two planes only their common edge is left.
            let edge = normal.cross(previous).normalize_or_zero();
            remaining = edge * remaining.dot(edge);
            *velocity = edge * velocity.dot(edge);
        }
        previous_normal = Some(normal);
    }
    bound_horizontal(velocity);
    slid
}

/// Sliding along a slope may turn speed from one axis to another, but never adds to the walk.
fn bound_horizontal(velocity: &mut Vec3) {
    let horizontal = Vec2::new(velocity.x, velocity.z).clamp_length_max(WALK_SPEED_M_PER_S);
    *velocity = Vec3::new(
        horizontal.x,
        velocity.y.clamp(-FALL_SPEED_M_PER_S, JUMP_SPEED_M_PER_S),
        horizontal.y,
    );
}

/// How far other players push this one away in the tick, in x-z. Both are moved by half of the overlap.
fn separate(queries: &impl SpatialQueries, position: Vec3, delta_seconds: f32) -> Vec3 {
    let mut push = Vec3::ZERO;
    queries.visit_players(position, 2.0 * CAPSULE_RADIUS_M, &mut |other| {
        let apart = position - other;
        if apart.y.abs() >= 2.0 * CAPSULE_HALF_HEIGHT_M {
            return;
        }
        let distance = apart.with_y(0.0).length();
        // Two players in the very same place have no direction to part in; the first walk of either gives one.
        push += apart.with_y(0.0).normalize_or_zero() * (2.0 * CAPSULE_RADIUS_M - distance) * 0.5;
    });
    if push == Vec3::ZERO {
        return push;
    }
    let push = push.clamp_length_max(SEPARATION_SPEED_M_PER_S * delta_seconds);
    match queries.cast_player(position, push) {
        Some(hit) => push * hit.fraction,
        None => push,
    }
}

#[cfg(test)]
mod tests;
