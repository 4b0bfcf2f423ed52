//! The notice over a world whose connection is lost: what happened, and when it is tried again.

use bevy::prelude::*;
use meridian_client_net::{ConnectionState, Connector};

use super::joining::describe;
use super::theme;
use super::widgets;
use crate::screen::Screen;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Update, (tell, show).chain().run_if(in_state(Screen::World)));
}

#[derive(Component)]
struct Notice;

#[derive(Component)]
struct NoticeText;

fn tell(connector: Res<Connector>, mut text: Query<&mut Text, With<NoticeText>>) {
    if let Ok(mut text) = text.single_mut() {
        let told = describe(&connector);
        if text.0 != told {
            text.0 = told;
        }
    }
}

fn show(connector: Res<Connector>, shown: Query<Entity, With<Notice>>, mut commands: Commands) {
    let away = connector.state != ConnectionState::Playing;
    match (away, shown.iter().next()) {
        (true, None) => {
            let mut notice = commands.spawn((
                Notice,
                Name::new("reconnect notice"),
                DespawnOnExit(Screen::World),
                Node {
                    position_type: PositionType::Absolute,
                    top: px(18),
                    width: percent(100),
                    justify_content: JustifyContent::Center,
                    ..default()
                },
                GlobalZIndex(5),
                Pickable::IGNORE,
            ));
            notice.with_children(|notice| {
                notice
                    .spawn(widgets::panel(widgets::column(520.0)))
                    .with_children(|panel| {
                        panel.spawn(widgets::label("The connection is lost", 20.0, theme::POOR));
                        panel.spawn((NoticeText, widgets::label(describe(&connector), 15.0, theme::TEXT)));
                    });
            });
        }
        (false, Some(notice)) => commands.entity(notice).despawn(),
        _ => {}
    }
}
