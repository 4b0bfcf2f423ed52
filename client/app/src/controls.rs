//! What the player wants: keyboard, mouse and gamepad, made into the input of the next tick.

use bevy::input::InputSystems;
use bevy::prelude::*;
use meridian_client_net::LocalInput;
use meridian_game::Move;

use crate::app::AppSystems;
use crate::autopilot::Autopilot;
use crate::bindings::{Action, Binding};
use crate::camera::OrbitCamera;
use crate::screen::{Overlay, Screen};
use crate::settings::Settings;

/// Sticks that are pushed less than this are at rest.
const STICK_DEAD: f32 = 0.15;

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Wanted>();
    app.configure_sets(PreUpdate, AppSystems::Controls.after(InputSystems));
    app.add_systems(PreUpdate, (read, tell).chain().in_set(AppSystems::Controls));
    app.add_systems(FixedLast, forget_pressed);
}

/// What the player wants in this frame. What is pressed for less than a tick is kept until a tick has taken it.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Where to walk as seen from the camera: x to the right, y forward; at most 1 long.
    pub walk: Vec2,
    /// Whether to jump.
    pub jump: bool,
    /// Keys of walks that went down since the last tick: where they lead to.
    tapped: Vec2,
    /// How far to turn the camera: x to the right, y up, from -1 to 1.
    pub turn: Vec2,
    /// How fast to zoom out, from -1 to 1.
    pub zoom: f32,
}

/// Whether bound keys are held.
#[derive(bevy::ecs::system::SystemParam)]
pub struct Pressed<'w> {
    settings: Res<'w, Settings>,
    keys: Res<'w, ButtonInput<KeyCode>>,
    buttons: Res<'w, ButtonInput<MouseButton>>,
}

impl Pressed<'_> {
    /// Whether an action's key is held.
    pub fn held(&self, action: Action) -> bool {
        match self.settings.keys.of(action) {
            Binding::Key(key) => self.keys.pressed(key),
            Binding::Mouse(button) => self.buttons.pressed(button),
        }
    }

    /// Whether an action's key went down in this frame.
    pub fn just(&self, action: Action) -> bool {
        match self.settings.keys.of(action) {
            Binding::Key(key) => self.keys.just_pressed(key),
            Binding::Mouse(button) => self.buttons.just_pressed(button),
        }
    }

    fn axis(&self, negative: Action, positive: Action) -> f32 {
        f32::from(u8::from(self.held(positive))) - f32::from(u8::from(self.held(negative)))
    }

    fn just_axis(&self, negative: Action, positive: Action) -> f32 {
        f32::from(u8::from(self.just(positive))) - f32::from(u8::from(self.just(negative)))
    }
}

/// Nobody walks while a menu is open or before the world is there.
fn read(
    screen: Res<State<Screen>>,
    overlay: Res<State<Overlay>>,
    pressed: Pressed,
    gamepads: Query<&Gamepad>,
    mut wanted: ResMut<Wanted>,
) {
    if *screen.get() != Screen::World || *overlay.get() != Overlay::None {
        *wanted = Wanted::default();
        return;
    }
    let held = Vec2::new(
        pressed.axis(Action::Left, Action::Right),
        pressed.axis(Action::Back, Action::Forward),
    );
    let tapped = Vec2::new(
        pressed.just_axis(Action::Left, Action::Right),
        pressed.just_axis(Action::Back, Action::Forward),
    );
    let tapped = (wanted.tapped + tapped).clamp(Vec2::NEG_ONE, Vec2::ONE);
    let mut walk = if held == Vec2::ZERO { tapped } else { held };
    let mut turn = Vec2::new(pressed.axis(Action::TurnLeft, Action::TurnRight), 0.0);
    let mut zoom = pressed.axis(Action::ZoomIn, Action::ZoomOut);
    let mut jump = pressed.just(Action::Jump) || pressed.held(Action::Jump);
    for gamepad in &gamepads {
        walk += at_rest(gamepad.left_stick());
        turn += at_rest(gamepad.right_stick());
        zoom -= gamepad.dpad().y;
        jump |= gamepad.pressed(GamepadButton::South);
    }
    *wanted = Wanted {
        walk: walk.clamp_length_max(1.0),
        jump: jump || wanted.jump,
        tapped,
        turn: turn.clamp(Vec2::NEG_ONE, Vec2::ONE),
        zoom: zoom.clamp(-1.0, 1.0),
    };
}

fn at_rest(stick: Vec2) -> Vec2 {
    if stick.length() < STICK_DEAD { Vec2::ZERO } else { stick }
}

/// The walk in the world: directions are told in x-z, headings from x towards z.
fn tell(
    wanted: Res<Wanted>,
    autopilot: Option<Res<Autopilot>>,
    camera: Query<&OrbitCamera>,
    mut local: ResMut<LocalInput>,
    mut heading: Local<f32>,
) {
    if autopilot.is_some() {
        return;
    }
    let forward = camera.single().map_or(Vec2::NEG_Y, OrbitCamera::forward);
    let direction = in_world(wanted.walk, forward);
    if direction != Vec2::ZERO {
        *heading = direction.to_angle().rem_euclid(std::f32::consts::TAU);
    }
    let (input, _) = Move::new(direction, *heading, wanted.jump);
    local.input = input;
}

fn in_world(walk: Vec2, forward: Vec2) -> Vec2 {
    let right = Vec2::new(-forward.y, forward.x);
    (right * walk.x + forward * walk.y).clamp_length_max(1.0)
}

/// A tick has taken what was pressed; a key that is still held asks again in the next frame.
fn forget_pressed(mut wanted: ResMut<Wanted>) {
    wanted.jump = false;
    wanted.tapped = Vec2::ZERO;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_is_away_from_the_camera_and_right_is_to_its_right() {
        // A camera that looks along -z has x on its right.
        let forward = Vec2::NEG_Y;
        assert_eq!(in_world(Vec2::Y, forward), Vec2::NEG_Y);
        assert_eq!(in_world(Vec2::X, forward), Vec2::X);
        // One that looks along x has z on its right.
        assert_eq!(in_world(Vec2::X, Vec2::X), Vec2::Y);
    }

    #[test]
    fn a_stick_at_rest_is_at_rest() {
        assert_eq!(at_rest(Vec2::splat(0.05)), Vec2::ZERO);
        assert_eq!(at_rest(Vec2::X), Vec2::X);
    }
}
