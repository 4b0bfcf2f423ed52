//! The keys (F1): what each does, and binding them anew.

use bevy::input_focus::InputFocus;
use bevy::picking::hover::Hovered;
use bevy::prelude::*;

use super::theme;
use super::widgets::{self, ButtonLook, Clicked};
use crate::bindings::{Action, Binding, Bindings};
use crate::screen::{Overlay, Screen};
use crate::settings::Settings;

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Listening>();
    app.add_systems(OnEnter(Overlay::Keys), spawn);
    app.add_systems(OnExit(Overlay::Keys), |mut listening: ResMut<Listening>| {
        listening.0 = None;
    });
    app.add_systems(
        Update,
        (
            listen.in_set(KeysSystems),
            refresh.run_if(resource_changed::<Settings>.or_eager(resource_changed::<Listening>)),
        )
            .chain()
            .run_if(in_state(Overlay::Keys)),
    );
    app.add_observer(on_click);
}

/// In `Update`: the key that is pressed becomes a binding.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeysSystems;

/// Whether no action waits for its new key.
pub fn nobody_binds(listening: Res<Listening>) -> bool {
    listening.0.is_none()
}

/// The action that waits for its new key, and whether it has waited for a frame: the click that began it is no answer.
#[derive(Resource, Default)]
pub struct Listening(Option<(Action, bool)>);

#[derive(Component)]
struct KeysScreen;

#[derive(Component, Clone, Copy, PartialEq)]
enum Button {
    Bind(Action),
    Usual,
    Close,
}

fn spawn(settings: Res<Settings>, listening: Res<Listening>, mut commands: Commands) {
    spawn_screen(&settings, &listening, Button::Close, &mut commands);
}

/// Anew, with the keyboard where it was.
fn refresh(
    settings: Res<Settings>,
    listening: Res<Listening>,
    focus: Res<InputFocus>,
    buttons: Query<&Button>,
    shown: Query<Entity, With<KeysScreen>>,
    mut commands: Commands,
) {
    let focused = focus.get().and_then(|focused| buttons.get(focused).ok().copied());
    shown.iter().for_each(|screen| commands.entity(screen).despawn());
    spawn_screen(&settings, &listening, focused.unwrap_or(Button::Close), &mut commands);
}

fn spawn_screen(settings: &Settings, listening: &Listening, focused: Button, commands: &mut Commands) {
    let add = |parent: &mut ChildSpawnerCommands, button: Button, text: &str, look: ButtonLook| {
        widgets::focus_if(button == focused, parent.spawn((button, widgets::button(text, look))));
    };
    let mut screen = commands.spawn((
        KeysScreen,
        Name::new("keys"),
        DespawnOnExit(Overlay::Keys),
        widgets::centre(),
    ));
    screen.with_children(|screen| {
        screen.spawn(widgets::panel(widgets::column(660.0))).with_children(|panel| {
            panel.spawn(widgets::label("Keys", 22.0, theme::TEXT));
            panel
                .spawn(Node {
                    display: Display::Grid,
                    grid_template_columns: RepeatedGridTrack::flex(2, 1.0),
                    column_gap: px(20),
                    row_gap: px(4),
                    ..default()
                })
                .with_children(|grid| {
                    for action in Action::ALL {
                        let waits = listening.0.is_some_and(|(waiting, _)| waiting == action);
                        grid.spawn(key_line()).with_children(|row| {
                            row.spawn(widgets::label(action.label(), 14.0, theme::MUTED));
                            let text = if waits {
                                "press a key".to_owned()
                            } else {
                                settings.keys.of(action).to_string()
                            };
                            let look = ButtonLook {
                                chosen: waits,
                                font_size: 13.0,
                                width: Some(112.0),
                            };
                            add(row, Button::Bind(action), &text, look);
                        });
                    }
                });
            panel.spawn(widgets::label(
                "Drag with the mouse to look around, turn its wheel to zoom, Escape for the menu. Gamepad: left stick walks, right stick looks, lower button jumps, cross zooms, Start opens the menu.",
                13.0,
                theme::MUTED,
            ));
            panel.spawn(widgets::row()).with_children(|row| {
                add(row, Button::Usual, "The usual keys", ButtonLook::default());
                add(row, Button::Close, "Done", ButtonLook::default());
            });
        });
    });
}

fn key_line() -> Node {
    Node {
        justify_content: JustifyContent::SpaceBetween,
        align_items: AlignItems::Center,
        ..default()
    }
}

/// The next key or button is the new binding; Escape leaves the old one, and a click on a button is for that.
fn listen(
    keys: Res<ButtonInput<KeyCode>>,
    mouse: Res<ButtonInput<MouseButton>>,
    buttons: Query<&Hovered, With<ButtonLook>>,
    mut listening: ResMut<Listening>,
    mut settings: ResMut<Settings>,
) {
    let Some((action, waited)) = listening.bypass_change_detection().0 else {
        return;
    };
    if !waited {
        listening.bypass_change_detection().0 = Some((action, true));
        return;
    }
    if keys.just_pressed(KeyCode::Escape) {
        listening.0 = None;
        return;
    }
    let over_button = buttons.iter().any(Hovered::get);
    let key = keys.get_just_pressed().find_map(|key| Binding::of_key(*key));
    let button = || mouse.get_just_pressed().find_map(|button| Binding::of_button(*button));
    if let Some(binding) = key.or_else(|| button().filter(|_| !over_button)) {
        settings.keys.bind(action, binding);
        listening.0 = None;
    }
}

fn on_click(
    clicked: On<Clicked>,
    buttons: Query<&Button>,
    screen: Res<State<Screen>>,
    mut listening: ResMut<Listening>,
    mut settings: ResMut<Settings>,
    mut overlay: ResMut<NextState<Overlay>>,
) {
    match buttons.get(clicked.entity) {
        Ok(Button::Bind(action)) => listening.0 = Some((*action, false)),
        Ok(Button::Usual) => settings.keys = Bindings::default(),
        Ok(Button::Close) => overlay.set(match screen.get() {
            Screen::World => Overlay::Menu,
            Screen::Connect | Screen::Joining => Overlay::None,
        }),
        Err(_) => {}
    }
}
