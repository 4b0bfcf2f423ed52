//! F4: makes the link worse than it is, by named profiles, while one plays.

use std::time::Duration;

use bevy::prelude::*;
use clap::ValueEnum;
use meridian_client_net::LinkConditions;

use crate::network::SimulatedLink;
use crate::screen::{Overlay, Panels, Screen};
use crate::ui::theme;
use crate::ui::widgets::{self, Clicked};

/// What the link is like.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NetworkProfile {
    /// As it is.
    #[default]
    Perfect,
    /// 8 ms more, a little jitter.
    GoodWifi,
    /// 50 ms more, some loss.
    #[value(name = "mobile-4g")]
    Mobile4g,
    /// 120 ms more, much jitter, 3 % lost.
    BadHotel,
    /// 600 ms more.
    Satellite,
}

impl NetworkProfile {
    /// All of them, best first.
    pub const ALL: [Self; 5] = [
        Self::Perfect,
        Self::GoodWifi,
        Self::Mobile4g,
        Self::BadHotel,
        Self::Satellite,
    ];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Perfect => "Perfect",
            Self::GoodWifi => "Good Wi-Fi",
            Self::Mobile4g => "Mobile 4G",
            Self::BadHotel => "Bad hotel",
            Self::Satellite => "Satellite",
        }
    }

    /// What it does to each packet, each way.
    pub fn conditions(self) -> LinkConditions {
        let (delay_ms, jitter_ms, loss) = match self {
            Self::Perfect => (0, 0, 0.0),
            Self::GoodWifi => (4, 2, 0.001),
            Self::Mobile4g => (25, 8, 0.005),
            Self::BadHotel => (60, 30, 0.03),
            Self::Satellite => (300, 20, 0.01),
        };
        LinkConditions {
            delay: Duration::from_millis(delay_ms),
            jitter: Duration::from_millis(jitter_ms),
            loss,
        }
    }

    fn describe(self) -> String {
        let conditions = self.conditions();
        if conditions.is_perfect() {
            return "as the network is".to_owned();
        }
        format!(
            "+{} ms round trip, ±{} ms jitter, {} % lost",
            2 * conditions.delay.as_millis(),
            conditions.jitter.as_millis(),
            conditions.loss * 100.0
        )
    }
}

pub(super) fn plugin(app: &mut App) {
    app.add_systems(OnExit(Screen::World), despawn);
    app.add_systems(
        Update,
        (
            choose_by_digit.run_if(in_state(Screen::World).and_then(in_state(Overlay::None))),
            apply.run_if(resource_changed::<NetworkProfile>),
            show.run_if(
                resource_changed::<Panels>
                    .or_eager(resource_changed::<NetworkProfile>)
                    .or_eager(state_changed::<Screen>),
            ),
        )
            .chain(),
    );
    app.add_observer(choose);
}

/// The profile of the command line.
pub(super) fn start(app: &mut App, profile: Option<NetworkProfile>) {
    app.insert_resource(profile.unwrap_or_default());
}

#[derive(Component)]
struct Panel;

#[derive(Component, Clone, Copy)]
struct Choice(NetworkProfile);

fn apply(profile: Res<NetworkProfile>, link: Res<SimulatedLink>) {
    link.0.set(profile.conditions());
}

/// While the panel is open, its digits choose.
fn choose_by_digit(panels: Res<Panels>, keys: Res<ButtonInput<KeyCode>>, mut profile: ResMut<NetworkProfile>) {
    const DIGITS: [KeyCode; 5] = [
        KeyCode::Digit1,
        KeyCode::Digit2,
        KeyCode::Digit3,
        KeyCode::Digit4,
        KeyCode::Digit5,
    ];
    if !panels.simulator {
        return;
    }
    for (digit, chosen) in DIGITS.into_iter().zip(NetworkProfile::ALL) {
        if keys.just_pressed(digit) {
            profile.set_if_neq(chosen);
        }
    }
}

fn choose(clicked: On<Clicked>, choices: Query<&Choice>, mut profile: ResMut<NetworkProfile>) {
    if let Ok(Choice(chosen)) = choices.get(clicked.entity) {
        profile.set_if_neq(*chosen);
    }
}

fn despawn(open: Query<Entity, With<Panel>>, mut commands: Commands) {
    open.iter().for_each(|panel| commands.entity(panel).despawn());
}

fn show(
    screen: Res<State<Screen>>,
    panels: Res<Panels>,
    profile: Res<NetworkProfile>,
    open: Query<Entity, With<Panel>>,
    mut commands: Commands,
) {
    open.iter().for_each(|panel| commands.entity(panel).despawn());
    if !panels.simulator || *screen.get() != Screen::World {
        return;
    }
    let mut panel = commands.spawn((
        Panel,
        Name::new("network simulator"),
        widgets::panel(Node {
            position_type: PositionType::Absolute,
            right: px(16),
            bottom: px(16),
            width: px(380),
            row_gap: px(6),
            padding: px(14).all(),
            flex_direction: FlexDirection::Column,
            ..default()
        }),
    ));
    panel.with_children(|panel| {
        panel.spawn(widgets::label("Network simulator", 17.0, theme::TEXT));
        for (index, choice) in NetworkProfile::ALL.into_iter().enumerate() {
            let chosen = choice == *profile;
            panel.spawn((
                Choice(choice),
                widgets::button(
                    format!("{}  {}: {}", index + 1, choice.name(), choice.describe()),
                    widgets::ButtonLook {
                        chosen,
                        font_size: 13.5,
                        ..default()
                    },
                ),
            ));
        }
    });
}
