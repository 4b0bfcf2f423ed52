//! Crates that the own player pushes, shown ahead of what the zone has said of them.
//!
//! The own player is where it will be, the crates are where they were a round trip ago: without this a pusher would walk into
//! its crate before the crate moves. What is shown is moved out of the player's way and blends back to where the zone has it.

use bevy::app::{App, Update};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::query::{With, Without};
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res};
use bevy::math::Vec3;
use bevy::time::{Real, Time};
use meridian_game::movement::MovementState;
use meridian_game::{Body, BodyKind, Orientation, SurroundingCrate};

use crate::connection::playing;
use crate::frozen_copies::FrozenCopy;
use crate::plugin::OwnPlayer;
use crate::shown::{ShownPose, ShownSystems, show_own};

/// How long it takes until two thirds of what a crate is ahead are given up, in seconds.
const BLEND_BACK_S: f32 = 0.25;
/// The most that a crate is shown ahead, in metres: a push of half a second.
const AHEAD_MAX_M: f32 = 2.0;
/// Slower than this, in metres per second, a player pushes nothing.
const PUSH_SPEED_MIN_M_PER_S: f32 = 0.5;

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(
        Update,
        push.after(show_own).in_set(ShownSystems::Predict).run_if(playing),
    );
}

/// How far a crate is shown from where it is interpolated to be, in metres.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq)]
pub struct PushedAhead(pub Vec3);

impl PushedAhead {
    /// What becomes of it in `delta_seconds`, for a crate that is interpolated to be at `crate_` beside `player`.
    fn advance(&mut self, crate_: SurroundingCrate, player: Option<&MovementState>, delta_seconds: f32) {
        self.0 *= (-delta_seconds / BLEND_BACK_S).exp();
        let Some(player) = player else { return };
        let shown = SurroundingCrate {
            position: crate_.position + self.0,
            ..crate_
        };
        if let Some(way_out) = shown.way_out(player.position)
            && player.velocity.dot(way_out.normalize_or_zero()) > PUSH_SPEED_MIN_M_PER_S
        {
            self.0 = (self.0 + way_out).clamp_length_max(AHEAD_MAX_M);
        }
    }
}

fn push(
    time: Res<Time<Real>>,
    own: Query<(&MovementState, &ShownPose), With<OwnPlayer>>,
    mut crates: Query<
        (Entity, &Body, &Orientation, &mut ShownPose, Option<&mut PushedAhead>),
        (Without<OwnPlayer>, Without<FrozenCopy>),
    >,
    mut commands: Commands,
) {
    // Where it is shown: that is what nothing may be seen to stand in.
    let player = own.single().ok().map(|(movement, shown)| MovementState {
        position: shown.position,
        ..*movement
    });
    for (entity, body, orientation, mut pose, ahead) in &mut crates {
        let BodyKind::Crate { half_extents } = body.kind else {
            continue;
        };
        let Some(mut ahead) = ahead else {
            commands.entity(entity).insert(PushedAhead::default());
            continue;
        };
        let interpolated = SurroundingCrate {
            position: pose.position,
            rotation: orientation.0,
            half_extents,
        };
        ahead.advance(interpolated, player.as_ref(), time.delta_secs());
        if ahead.0 != Vec3::ZERO {
            pose.position += ahead.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use bevy::math::Quat;

    use super::*;

    fn crate_at(x: f32) -> SurroundingCrate {
        SurroundingCrate {
            position: Vec3::new(x, 0.5, 0.0),
            rotation: Quat::IDENTITY,
            half_extents: Vec3::splat(0.5),
        }
    }

    fn walker(x: f32, speed: f32) -> MovementState {
        MovementState {
            position: Vec3::new(x, 0.9, 0.0),
            velocity: Vec3::X * speed,
            ..MovementState::default()
        }
    }

    #[test]
    fn a_crate_is_shown_out_of_its_pushers_way_and_comes_back() {
        let mut ahead = PushedAhead::default();
        // The zone has not moved the crate yet; the player walks on, half a metre into it.
        for step in 0..10 {
            ahead.advance(crate_at(1.0), Some(&walker(0.15 + 0.05 * step as f32, 3.0)), 1.0 / 60.0);
        }
        // Its face would be at 0.5, the player's front is at 1.0.
        assert!((0.4..=0.6).contains(&ahead.0.x), "{:?}", ahead.0);
        assert_eq!((ahead.0.y, ahead.0.z), (0.0, 0.0));
        (0..120).for_each(|_| ahead.advance(crate_at(1.0), Some(&walker(-3.0, 0.0)), 1.0 / 60.0));
        assert!(ahead.0.length() < 1e-3, "{:?}", ahead.0);
    }

    #[test]
    fn who_stands_or_walks_away_pushes_nothing() {
        let mut ahead = PushedAhead::default();
        ahead.advance(crate_at(1.0), Some(&walker(0.4, 0.0)), 1.0 / 60.0);
        ahead.advance(crate_at(1.0), Some(&walker(0.4, -3.0)), 1.0 / 60.0);
        ahead.advance(crate_at(1.0), None, 1.0 / 60.0);
        assert_eq!(ahead.0, Vec3::ZERO);
    }
}
