//! The menu of the world (Escape). The world goes on behind it.

use bevy::prelude::*;
use meridian_client_net::Connector;

use super::theme;
use super::widgets::{self, ButtonLook, Clicked};
use crate::screen::Overlay;
use crate::window::Leave;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(OnEnter(Overlay::Menu), spawn);
    app.add_observer(on_click);
}

#[derive(Component, Clone, Copy)]
enum Button {
    Resume,
    Settings,
    Keys,
    LeaveWorld,
    Quit,
}

fn spawn(mut commands: Commands) {
    let mut screen = commands.spawn((Name::new("menu"), DespawnOnExit(Overlay::Menu), widgets::centre()));
    screen.with_children(|screen| {
        screen
            .spawn(widgets::panel(widgets::column(300.0)))
            .with_children(|panel| {
                panel.spawn(widgets::label("Menu", 22.0, theme::TEXT));
                for (button, text) in [
                    (Button::Resume, "Back to the world"),
                    (Button::Settings, "Settings"),
                    (Button::Keys, "Keys"),
                    (Button::LeaveWorld, "Leave the world"),
                    (Button::Quit, "Quit"),
                ] {
                    let entry = panel.spawn((button, widgets::button(text, ButtonLook::default())));
                    widgets::focus_if(matches!(button, Button::Resume), entry);
                }
            });
    });
}

fn on_click(
    clicked: On<Clicked>,
    buttons: Query<&Button>,
    mut overlay: ResMut<NextState<Overlay>>,
    mut connector: ResMut<Connector>,
    mut leave: MessageWriter<Leave>,
) {
    match buttons.get(clicked.entity) {
        Ok(Button::Resume) => overlay.set(Overlay::None),
        Ok(Button::Settings) => overlay.set(Overlay::Settings),
        Ok(Button::Keys) => overlay.set(Overlay::Keys),
        Ok(Button::LeaveWorld) => connector.leave(),
        Ok(Button::Quit) => drop(leave.write(Leave::Game)),
        Err(_) => {}
    }
}
