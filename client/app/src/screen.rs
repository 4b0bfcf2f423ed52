//! Which screen is shown: the connect screen, the joining one or the world, and what lies over it.

use bevy::input_focus::InputFocus;
use bevy::prelude::*;
use bevy::text::EditableText;
use meridian_client_net::{ConnectionState, Connector};

use crate::bindings::Action;
use crate::cli::Panel;
use crate::controls::Pressed;
use crate::network::Joined;
use crate::settings::Settings;
use crate::ui::{KeysSystems, nobody_binds};
use crate::window::goes_on;

pub(super) fn plugin(app: &mut App) {
    app.init_state::<Screen>();
    app.init_state::<Overlay>();
    app.init_resource::<Panels>();
    app.init_resource::<Refusal>();
    app.add_systems(PreUpdate, follow_connection.run_if(goes_on));
    app.add_systems(
        Update,
        (
            (toggle_panels, toggle_borders.run_if(borders_key))
                .run_if(in_state(Screen::World))
                .run_if(in_state(Overlay::None)),
            // Before the key that is bound is taken: that one does nothing else.
            toggle_overlay.run_if(nobody_binds).before(KeysSystems),
        )
            .run_if(free_keys),
    );
}

/// What is shown from the start.
pub(super) fn start(app: &mut App, show: &[Panel]) {
    let mut panels = app.world_mut().resource_mut::<Panels>();
    panels.hud = show.contains(&Panel::Hud);
    panels.simulator = show.contains(&Panel::Simulator);
    panels.ghosts = show.contains(&Panel::Ghosts);
}

/// The screen.
#[derive(States, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Screen {
    /// Asks for a server and a name.
    #[default]
    Connect,
    /// On the way into the world.
    Joining,
    /// In the world, or coming back to it.
    World,
}

/// What lies over the screen, and takes the keys.
#[derive(States, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overlay {
    /// Nothing.
    #[default]
    None,
    /// The menu of the world.
    Menu,
    /// The settings.
    Settings,
    /// The keys, and their change.
    Keys,
}

/// Panels that lie over the world and take no keys.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Panels {
    /// The figures of the network.
    pub hud: bool,
    /// The network simulator.
    pub simulator: bool,
    /// Where the server has everybody.
    pub ghosts: bool,
}

/// Why the last try to join ended, for the connect screen.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal(pub Option<String>);

/// Whether keys are for the program: a text field that has them wants them as letters, but for those that are none.
pub fn free_keys(
    focus: Option<Res<InputFocus>>,
    fields: Query<(), With<EditableText>>,
    keys: Res<ButtonInput<KeyCode>>,
) -> bool {
    let focused = focus.and_then(|focus| focus.get());
    let typing = focused.is_some_and(|focused| fields.contains(focused));
    !typing || keys.get_just_pressed().all(|key| is_function_key(*key))
}

fn is_function_key(key: KeyCode) -> bool {
    use KeyCode::{F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12};
    [F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12].contains(&key)
}

/// The connection decides between connecting, joining and the world. A world that was seen stays, while the connection comes back.
fn follow_connection(
    mut connector: ResMut<Connector>,
    joined: Res<Joined>,
    mut settings: ResMut<Settings>,
    screen: Res<State<Screen>>,
    mut next: ResMut<NextState<Screen>>,
    mut overlay: ResMut<NextState<Overlay>>,
    mut refusal: ResMut<Refusal>,
) {
    let wanted = match &connector.state {
        ConnectionState::Idle => Screen::Connect,
        ConnectionState::Playing => Screen::World,
        ConnectionState::Connecting | ConnectionState::Reconnecting { .. } => match screen.get() {
            Screen::World => Screen::World,
            Screen::Connect | Screen::Joining => Screen::Joining,
        },
        ConnectionState::Refused { reason } => {
            refusal.0 = Some(reason.clone());
            connector.leave();
            Screen::Connect
        }
    };
    if wanted != *screen.get() {
        if wanted == Screen::World {
            joined.keep(&connector, &mut settings);
        }
        next.set(wanted);
        overlay.set(Overlay::None);
    }
}

fn toggle_panels(pressed: Pressed, mut panels: ResMut<Panels>) {
    if pressed.just(Action::Hud) {
        panels.hud = !panels.hud;
    }
    if pressed.just(Action::Simulator) {
        panels.simulator = !panels.simulator;
    }
    if pressed.just(Action::Ghosts) {
        panels.ghosts = !panels.ghosts;
    }
}

fn borders_key(pressed: Pressed) -> bool {
    pressed.just(Action::Borders)
}

fn toggle_borders(mut settings: ResMut<Settings>) {
    settings.borders = !settings.borders;
}

fn toggle_overlay(
    keys: Res<ButtonInput<KeyCode>>,
    gamepads: Query<&Gamepad>,
    pressed: Pressed,
    screen: Res<State<Screen>>,
    overlay: Res<State<Overlay>>,
    mut next: ResMut<NextState<Overlay>>,
    mut connector: ResMut<Connector>,
) {
    let start = gamepads
        .iter()
        .any(|gamepad| gamepad.just_pressed(GamepadButton::Start));
    if pressed.just(Action::Help) {
        next.set(match overlay.get() {
            Overlay::Keys => Overlay::None,
            _ => Overlay::Keys,
        });
    } else if keys.just_pressed(KeyCode::Escape) || start {
        match (screen.get(), overlay.get()) {
            (Screen::World, Overlay::None) => next.set(Overlay::Menu),
            (Screen::World, Overlay::Settings | Overlay::Keys) => next.set(Overlay::Menu),
            (Screen::Joining, Overlay::None) => connector.leave(),
            (Screen::Connect, Overlay::None) => {}
            _ => next.set(Overlay::None),
        }
    }
}
