//! The third-person camera: turns around the own player, zooms, and stays out of walls.

use bevy::camera::Exposure;
use bevy::core_pipeline::tonemapping::Tonemapping;
use bevy::input::mouse::{AccumulatedMouseMotion, AccumulatedMouseScroll, MouseScrollUnit};
use bevy::prelude::*;
use meridian_client_net::{OwnPlayer, ShownPose};
use meridian_game::WorldDefinition;

use crate::app::AppSystems;
use crate::controls::Wanted;
use crate::quality::Quality;
use crate::screen::{Overlay, Screen};
use crate::settings::Settings;

/// Height of what the camera looks at above the player's centre, in metres: the shoulders.
const PIVOT_M: f32 = 0.6;
/// Nearest and farthest, in metres.
const DISTANCE_M: (f32, f32) = (1.5, 30.0);
/// Radians per pixel that the mouse is dragged.
const DRAG_RADIANS: f32 = 0.005;
/// Radians per second by keys and sticks.
const TURN_RADIANS_PER_S: f32 = 2.5;
/// Lowest and highest look, in radians above the horizon.
const PITCH_RADIANS: (f32, f32) = (-0.35, 1.45);
/// The look while there is no player to look at.
const WAITING_PITCH_RADIANS: f32 = -0.1;
/// What is kept between the camera and a wall, in metres: more than what it sees nearest is to its sides.
const WALL_M: f32 = 0.25;
/// How fast the camera goes back to its distance when a wall no longer is in its way: to a third in this time, in seconds.
const BACK_OUT_S: f32 = 0.15;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Startup, spawn);
    app.add_systems(OnEnter(Screen::World), look_at_player);
    app.add_systems(Update, (turn, follow).chain().in_set(AppSystems::Camera));
}

/// Where the camera is, around what it looks at.
#[derive(Component, Clone, Copy, Debug)]
pub struct OrbitCamera {
    /// Radians about the vertical; 0 looks along -z.
    pub yaw: f32,
    /// Radians above the horizon.
    pub pitch: f32,
    /// The distance that the player chose, in metres.
    pub distance_m: f32,
    /// The distance now, which a wall may have shortened.
    shown_m: f32,
    /// What it looks at.
    pivot: Vec3,
}

impl Default for OrbitCamera {
    fn default() -> Self {
        Self {
            yaw: 0.0,
            pitch: 0.35,
            distance_m: 7.0,
            shown_m: 7.0,
            pivot: Vec3::new(0.0, 1.5, 0.0),
        }
    }
}

impl OrbitCamera {
    /// Where it looks, in x-z.
    pub fn forward(&self) -> Vec2 {
        Vec2::new(-self.yaw.sin(), -self.yaw.cos())
    }

    /// From what it looks at to the camera.
    fn backward(&self) -> Vec3 {
        Quat::from_euler(EulerRot::YXZ, self.yaw, -self.pitch, 0.0) * Vec3::Z
    }

    fn turn(&mut self, by: Vec2) {
        self.yaw = (self.yaw - by.x).rem_euclid(std::f32::consts::TAU);
        self.pitch = (self.pitch - by.y).clamp(PITCH_RADIANS.0, PITCH_RADIANS.1);
    }

    fn zoom(&mut self, factor: f32) {
        self.distance_m = (self.distance_m * factor).clamp(DISTANCE_M.0, DISTANCE_M.1);
    }
}

fn spawn(settings: Res<Settings>, mut commands: Commands) {
    let quality = settings.quality;
    let mut camera = commands.spawn((
        Name::new("camera"),
        Camera3d::default(),
        OrbitCamera::default(),
        Transform::default(),
        Projection::Perspective(PerspectiveProjection {
            far: 600.0,
            ..default()
        }),
        // Needs no table of colours, and keeps the players' apart.
        Tonemapping::SomewhatBoringDisplayTransform,
        Exposure::BLENDER,
        quality.msaa(),
        IsDefaultUiCamera,
    ));
    if let Some(fog) = quality.fog() {
        camera.insert(fog);
    }
    // Before the first settings are applied the quality decides already: pipelines are built once.
    let _: Quality = quality;
}

fn look_at_player(mut cameras: Query<&mut OrbitCamera>) {
    if let Ok(mut camera) = cameras.single_mut() {
        camera.pitch = OrbitCamera::default().pitch;
    }
}

fn turn(
    screen: Res<State<Screen>>,
    overlay: Res<State<Overlay>>,
    time: Res<Time<Real>>,
    settings: Res<Settings>,
    wanted: Res<Wanted>,
    buttons: Res<ButtonInput<MouseButton>>,
    motion: Res<AccumulatedMouseMotion>,
    scroll: Res<AccumulatedMouseScroll>,
    mut cameras: Query<(&mut OrbitCamera, &mut Projection)>,
) {
    let Ok((mut camera, mut projection)) = cameras.single_mut() else {
        return;
    };
    if let Projection::Perspective(projection) = projection.bypass_change_detection() {
        let wide = settings.field_of_view_degrees.to_radians();
        if projection.fov != wide {
            projection.fov = wide;
        }
    }
    if *screen.get() != Screen::World {
        // Behind the first screens is the sky.
        camera.pitch = WAITING_PITCH_RADIANS;
        camera.turn(Vec2::new(time.delta_secs() * 0.05, 0.0));
        return;
    }
    if *overlay.get() != Overlay::None {
        return;
    }
    let upside_down = if settings.invert_y { -1.0 } else { 1.0 };
    if buttons.any_pressed([MouseButton::Left, MouseButton::Right]) {
        let drag = motion.delta * DRAG_RADIANS * settings.mouse_sensitivity;
        camera.turn(Vec2::new(drag.x, -drag.y * upside_down));
    }
    let turn = wanted.turn * TURN_RADIANS_PER_S * time.delta_secs();
    camera.turn(Vec2::new(turn.x, turn.y * upside_down));
    let notches = match scroll.unit {
        MouseScrollUnit::Line => scroll.delta.y,
        MouseScrollUnit::Pixel => scroll.delta.y / 100.0,
    };
    camera.zoom(0.9_f32.powf(notches) * 3.0_f32.powf(wanted.zoom * time.delta_secs()));
}

fn follow(
    time: Res<Time<Real>>,
    world: Option<Res<WorldDefinition>>,
    own: Query<&ShownPose, With<OwnPlayer>>,
    mut cameras: Query<(&mut OrbitCamera, &mut Transform)>,
) {
    let Ok((mut camera, mut transform)) = cameras.single_mut() else {
        return;
    };
    if let Ok(own) = own.single() {
        camera.pivot = own.position + Vec3::Y * PIVOT_M;
    }
    let backward = camera.backward();
    let free_m = world.map_or(f32::INFINITY, |world| free_way(&world, camera.pivot, backward));
    let wanted_m = camera.distance_m;
    let back_out = 1.0 - (-time.delta_secs() / BACK_OUT_S).exp();
    // In at once, for a wall hides the player; out gently.
    camera.shown_m = (camera.shown_m + (wanted_m - camera.shown_m) * back_out).min(wanted_m.max(camera.shown_m));
    camera.shown_m = camera.shown_m.min(free_m.max(0.3));
    let position = camera.pivot + backward * camera.shown_m;
    *transform = Transform::from_translation(position).looking_at(camera.pivot, Vec3::Y);
}

/// How far one comes from `from` along a unit vector until a box of the scenery is too near, in metres.
fn free_way(world: &WorldDefinition, from: Vec3, direction: Vec3) -> f32 {
    let boxes = world.scenery.iter().map(|scenery| {
        let turned = scenery.rotation().inverse();
        let half = Vec3::from_array(scenery.size) * 0.5 + WALL_M;
        entry(
            turned * (from - Vec3::from_array(scenery.centre)),
            turned * direction,
            half,
        )
    });
    boxes.flatten().fold(f32::INFINITY, f32::min)
}

/// Where a ray enters a box around the origin; nowhere if it starts inside (the slab method).
fn entry(from: Vec3, direction: Vec3, half: Vec3) -> Option<f32> {
    let (mut near, mut far) = (0.0_f32, f32::INFINITY);
    for axis in 0..3 {
        if direction[axis].abs() < 1e-9 {
            if from[axis].abs() > half[axis] {
                return None;
            }
            continue;
        }
        let one = (-half[axis] - from[axis]) / direction[axis];
        let other = (half[axis] - from[axis]) / direction[axis];
        near = near.max(one.min(other));
        far = far.min(one.max(other));
    }
    (near > 0.0 && near <= far).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_camera_stops_at_a_wall_and_not_at_one_behind_the_player() {
        let half = Vec3::new(1.0, 2.0, 0.5);
        assert_eq!(entry(Vec3::Z * 3.0, Vec3::NEG_Z, half), Some(2.5));
        assert_eq!(entry(Vec3::Z * 3.0, Vec3::Z, half), None, "behind");
        assert_eq!(entry(Vec3::new(5.0, 0.0, 3.0), Vec3::NEG_Z, half), None, "beside");
        assert_eq!(entry(Vec3::ZERO, Vec3::Z, half), None, "inside");
    }

    #[test]
    fn the_look_is_bounded_and_forward_is_where_it_looks() {
        let mut camera = OrbitCamera::default();
        camera.turn(Vec2::new(100.0, 100.0));
        assert_eq!(camera.pitch, PITCH_RADIANS.0);
        (0..100).for_each(|_| camera.zoom(2.0));
        assert_eq!(camera.distance_m, DISTANCE_M.1);
        let camera = OrbitCamera {
            yaw: std::f32::consts::FRAC_PI_2,
            ..OrbitCamera::default()
        };
        let looks = -camera.backward();
        assert!(Vec2::new(looks.x, looks.z).normalize().distance(camera.forward()) < 1e-5);
    }
}
