//! On the way into the world: what is going on, what went wrong, and a way back.

use std::time::Instant;

use bevy::input_focus::AutoFocus;
use bevy::prelude::*;
use meridian_client_net::{ConnectionState, Connector};

use super::connect::sentence;
use super::theme;
use super::widgets::{self, ButtonLook, Clicked};
use crate::screen::Screen;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(OnEnter(Screen::Joining), spawn);
    app.add_systems(Update, tell.run_if(in_state(Screen::Joining)));
    app.add_observer(on_click);
}

#[derive(Component)]
struct StateText;

#[derive(Component, Clone, Copy)]
enum Button {
    Retry,
    Back,
}

fn spawn(connector: Res<Connector>, mut commands: Commands) {
    let server = connector.server_url().unwrap_or_default().to_owned();
    let mut screen = commands.spawn((
        Name::new("joining screen"),
        DespawnOnExit(Screen::Joining),
        widgets::centre(),
    ));
    screen.with_children(|screen| {
        screen
            .spawn(widgets::panel(widgets::column(460.0)))
            .with_children(|panel| {
                panel.spawn(widgets::label(format!("Joining {server}"), 20.0, theme::TEXT));
                panel.spawn((StateText, widgets::label("", 15.0, theme::MUTED)));
                panel.spawn(widgets::row()).with_children(|row| {
                    row.spawn((Button::Retry, widgets::button("Try now", ButtonLook::default())));
                    row.spawn((Button::Back, AutoFocus, widgets::button("Back", ButtonLook::default())));
                });
            });
    });
}

/// What the connection is doing, in plain words.
pub(super) fn describe(connector: &Connector) -> String {
    match &connector.state {
        ConnectionState::Idle => String::new(),
        ConnectionState::Connecting => "Asking for a place in the world…".to_owned(),
        ConnectionState::Playing => "In the world.".to_owned(),
        ConnectionState::Reconnecting { attempt, reason } => {
            let left = connector
                .retries_at()
                .map_or(0.0, |at| at.saturating_duration_since(Instant::now()).as_secs_f32());
            let next = if left > 0.0 {
                format!("Trying again in {} s", left.ceil())
            } else {
                "Trying again now".to_owned()
            };
            let times = if *attempt == 1 {
                "once".to_owned()
            } else {
                format!("{attempt} times")
            };
            format!("{} {next} (failed {times}).", sentence(reason))
        }
        ConnectionState::Refused { reason } => sentence(reason),
    }
}

fn tell(connector: Res<Connector>, mut text: Query<(&mut Text, &mut TextColor), With<StateText>>) {
    if let Ok((mut text, mut colour)) = text.single_mut() {
        let told = describe(&connector);
        if text.0 != told {
            text.0 = told;
        }
        let failed = matches!(connector.state, ConnectionState::Reconnecting { .. });
        colour.set_if_neq(TextColor(if failed { theme::BAD } else { theme::MUTED }));
    }
}

fn on_click(clicked: On<Clicked>, buttons: Query<&Button>, mut connector: ResMut<Connector>) {
    match buttons.get(clicked.entity) {
        Ok(Button::Retry) => connector.retry_now(),
        Ok(Button::Back) => connector.leave(),
        Err(_) => {}
    }
}
