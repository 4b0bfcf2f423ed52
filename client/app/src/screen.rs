//! Which screen is shown: the connect screen, the joining one or the world, and what lies over it.

use bevy::prelude::*;
use meridian_client_net::{ConnectionState, Connector};

use crate::bindings::Action;
use crate::cli::Panel;
use crate::controls::Pressed;
use crate::settings::Settings;

pub(super) fn plugin(app: &mut App) {
    app.init_state::<Screen>();
    app.init_state::<Overlay>();
    app.init_resource::<Panels>();
    app.init_resource::<Refusal>();
    app.add_systems(PreUpdate, follow_connection);
    app.add_systems(
        Update,
        (
            (toggle_panels, toggle_borders.run_if(borders_key)).run_if(in_state(Screen::World)),
            toggle_overlay,
        )
            .run_if(nobody_types),
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

/// A text field that has the keys wants them as letters.
pub fn nobody_types(
    focus: Option<Res<bevy::input_focus::InputFocus>>,
    fields: Query<(), With<bevy::text::EditableText>>,
) -> bool {
    let focused = focus.and_then(|focus| focus.get());
    focused.is_none_or(|focused| !fields.contains(focused))
}

/// The connection decides between connecting, joining and the world. A world that was seen stays, while the connection comes back.
fn follow_connection(
    mut connector: ResMut<Connector>,
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
