//! The first screen: which server, under which name.

use bevy::input_focus::{AutoFocus, FocusCause, InputFocus};
use bevy::prelude::*;
use bevy::text::EditableText;
use meridian_client_net::Connector;

use super::theme;
use super::widgets::{self, ButtonLook, Clicked};
use crate::network::{Joined, address};
use crate::screen::{Overlay, Refusal, Screen};
use crate::settings::Settings;
use crate::window::Leave;

/// Characters of an address that is believed to be one.
const SERVER_CHARACTERS_MAX: usize = 200;
/// Characters that a name may have, as the server has it.
const NAME_CHARACTERS_MAX: usize = 24;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(OnEnter(Screen::Connect), spawn);
    app.add_systems(Update, (tell_refusal, join_by_enter).run_if(in_state(Screen::Connect)));
    app.add_systems(Update, make_room.run_if(in_state(Screen::Connect)));
    app.add_systems(OnEnter(Overlay::None), take_focus);
    app.add_observer(on_click);
}

#[derive(Component)]
struct ConnectScreen;

#[derive(Component)]
struct ServerField;

#[derive(Component)]
struct NameField;

#[derive(Component)]
struct RefusalText;

#[derive(Component, Clone, Copy)]
enum Button {
    Join,
    Settings,
    Keys,
    Quit,
}

fn spawn(settings: Res<Settings>, joined: Res<Joined>, mut commands: Commands) {
    let server = joined.server.as_ref().unwrap_or(&settings.server);
    let name = joined.name.as_ref().unwrap_or(&settings.name);
    let mut screen = commands.spawn((
        ConnectScreen,
        Name::new("connect screen"),
        DespawnOnExit(Screen::Connect),
        widgets::centre(),
    ));
    screen.with_children(|screen| {
        screen
            .spawn(widgets::panel(widgets::column(460.0)))
            .with_children(|panel| {
                panel.spawn(widgets::label("Meridian", 38.0, theme::ACCENT));
                panel.spawn(widgets::label("Server", 14.0, theme::MUTED));
                panel.spawn((ServerField, widgets::text_field(server, SERVER_CHARACTERS_MAX)));
                panel.spawn(widgets::label("Your name", 14.0, theme::MUTED));
                panel.spawn((NameField, AutoFocus, widgets::text_field(name, NAME_CHARACTERS_MAX)));
                panel.spawn((RefusalText, widgets::label("", 15.0, theme::BAD)));
                let join = ButtonLook {
                    chosen: true,
                    font_size: 18.0,
                    ..default()
                };
                panel.spawn((Button::Join, widgets::button("Join", join)));
                panel.spawn(widgets::row()).with_children(|row| {
                    row.spawn((Button::Settings, widgets::button("Settings", ButtonLook::default())));
                    row.spawn((Button::Keys, widgets::button("Keys", ButtonLook::default())));
                    row.spawn((Button::Quit, widgets::button("Quit", ButtonLook::default())));
                });
            });
    });
}

fn tell_refusal(refusal: Res<Refusal>, mut text: Query<&mut Text, With<RefusalText>>) {
    if let Ok(mut text) = text.single_mut() {
        let told = refusal.0.as_deref().map(sentence).unwrap_or_default();
        if text.0 != told {
            text.0 = told;
        }
    }
}

/// Errors begin small and have no full stop; people read sentences.
pub(super) fn sentence(error: &str) -> String {
    let mut letters = error.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let end = if error.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), letters.as_str())
}

fn join_by_enter(
    overlay: Res<State<Overlay>>,
    keys: Res<ButtonInput<KeyCode>>,
    focus: Res<InputFocus>,
    fields: Query<(), With<EditableText>>,
    mut commands: Commands,
) {
    let in_field = focus.get().is_some_and(|focused| fields.contains(focused));
    if keys.just_pressed(KeyCode::Enter) && in_field && *overlay.get() == Overlay::None {
        commands.run_system_cached(join);
    }
}

fn on_click(
    clicked: On<Clicked>,
    buttons: Query<&Button>,
    mut overlay: ResMut<NextState<Overlay>>,
    mut leave: MessageWriter<Leave>,
    mut commands: Commands,
) {
    match buttons.get(clicked.entity) {
        Ok(Button::Join) => commands.run_system_cached(join),
        Ok(Button::Settings) => overlay.set(Overlay::Settings),
        Ok(Button::Keys) => overlay.set(Overlay::Keys),
        Ok(Button::Quit) => drop(leave.write(Leave::Game)),
        Err(_) => {}
    }
}

fn join(
    server: Query<&EditableText, With<ServerField>>,
    name: Query<&EditableText, With<NameField>>,
    mut joined: ResMut<Joined>,
    mut refusal: ResMut<Refusal>,
    mut connector: ResMut<Connector>,
) {
    let (Ok(server), Ok(name)) = (server.single(), name.single()) else {
        return;
    };
    let server = server.value().to_string();
    let name = name.value().to_string().trim().to_owned();
    *joined = Joined::new(Some(server.clone()), Some(name.clone()));
    match (address(&server), name.is_empty()) {
        (Err(told), _) => refusal.0 = Some(told),
        (Ok(_), true) => refusal.0 = Some("please choose a name; others see it".to_owned()),
        (Ok(server), false) => {
            refusal.0 = None;
            connector.join(&server, &name);
        }
    }
}

/// The keyboard comes back to the screen when nothing lies over it any more.
fn take_focus(fields: Query<Entity, With<NameField>>, mut focus: ResMut<InputFocus>) {
    if let Ok(field) = fields.single() {
        focus.set(field, FocusCause::Navigated);
    }
}

/// What lies over the screen has the place, and the keyboard, to itself.
fn make_room(overlay: Res<State<Overlay>>, mut screens: Query<&mut Node, With<ConnectScreen>>) {
    for mut screen in &mut screens {
        let display = if *overlay.get() == Overlay::None {
            Display::Flex
        } else {
            Display::None
        };
        if screen.display != display {
            screen.display = display;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences() {
        assert_eq!(
            sentence("cannot reach it; is it there?"),
            "Cannot reach it; is it there?"
        );
        assert_eq!(sentence("it was refused"), "It was refused.");
        assert_eq!(sentence(""), "");
    }
}
