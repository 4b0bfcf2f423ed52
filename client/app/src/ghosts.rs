//! F5: where the server has everybody, as wire frames beside what is shown. The own one trails by the way there and back, the
//! others' lead by what they are shown in the past.

use bevy::prelude::*;
use meridian_client_net::{OwnPlayer, ShownPose};
use meridian_game::movement::{CAPSULE_HALF_SEGMENT_M, CAPSULE_RADIUS_M};
use meridian_game::{Body, BodyKind, Orientation, OwnerState, Pose};

use crate::app::AppSystems;
use crate::screen::{Panels, Screen};

const OWN: Color = Color::srgb(1.0, 0.35, 0.30);
const OTHERS: Color = Color::srgb(0.35, 0.95, 0.75);

pub(super) fn plugin(app: &mut App) {
    app.add_systems(
        Update,
        draw.in_set(AppSystems::Overlay)
            .run_if(in_state(Screen::World).and_then(|panels: Res<Panels>| panels.ghosts)),
    );
}

fn draw(
    own: Query<&OwnerState, With<OwnPlayer>>,
    others: Query<(&Pose, &Body, Option<&Orientation>), Without<OwnPlayer>>,
    mut gizmos: Gizmos,
) {
    let player = Capsule3d::new(CAPSULE_RADIUS_M, 2.0 * CAPSULE_HALF_SEGMENT_M);
    if let Ok(state) = own.single() {
        gizmos.primitive_3d(&player, Isometry3d::from_translation(state.position), OWN);
    }
    for (pose, body, orientation) in &others {
        let stands = ShownPose::of(pose, orientation);
        let place = Isometry3d::new(stands.position, stands.rotation);
        match body.kind {
            BodyKind::Player => drop(gizmos.primitive_3d(&player, place, OTHERS)),
            BodyKind::Crate { half_extents } => {
                gizmos.primitive_3d(&Cuboid::from_size(half_extents * 2.0), place, OTHERS);
            }
        }
    }
}
