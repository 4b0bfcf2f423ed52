//! Warnings in the corner, only while something is poor.

use std::time::Duration;

use bevy::prelude::*;
use meridian_client_net::NetworkHealth;

use super::timing::FrameTimes;
use crate::app::AppSystems;
use crate::screen::Screen;
use crate::ui::theme;

/// More lost than this is poor, as a share.
const LOSS_POOR: f64 = 0.02;
/// Actions that take longer are felt.
const ACTION_POOR: Duration = Duration::from_millis(150);
/// Corrections that are longer can be seen, in metres.
const CORRECTION_POOR_M: f32 = 0.25;
/// Jitter that makes everything late.
const JITTER_POOR: Duration = Duration::from_millis(25);
/// The server says something several times a second.
const SILENCE_POOR: Duration = Duration::from_secs(1);
/// Frames that take longer are seen one by one.
const FRAME_POOR: Duration = Duration::from_millis(50);

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Warnings>();
    app.add_systems(Startup, spawn);
    app.add_systems(Update, (judge, show).chain().in_set(AppSystems::Overlay));
}

/// What is poor now.
#[derive(Resource, Debug, Default, PartialEq, Eq)]
pub struct Warnings(pub Vec<String>);

#[derive(Component)]
struct WarningText;

fn spawn(mut commands: Commands) {
    commands.spawn((
        WarningText,
        Name::new("warnings"),
        Text::default(),
        theme::font(14.0),
        TextColor(theme::POOR),
        theme::SHADOW,
        TextLayout::justify(Justify::Right),
        Node {
            position_type: PositionType::Absolute,
            right: px(18),
            top: px(16),
            ..default()
        },
        Pickable::IGNORE,
    ));
}

fn poor(health: &NetworkHealth, frame: Duration) -> Vec<String> {
    let ms = |duration: Duration| duration.as_millis();
    let loss = health.lost.filter(|lost| *lost > LOSS_POOR);
    let action = health.action.filter(|action| *action > ACTION_POOR);
    let jitter = health.jitter.filter(|jitter| *jitter > JITTER_POOR);
    let corrected = Some(health.correction_m).filter(|distance| *distance > CORRECTION_POOR_M);
    let silent = health.silent_for.filter(|silent| *silent > SILENCE_POOR);
    [
        silent.map(|silent| format!("nothing heard of the server for {} s", silent.as_secs())),
        loss.map(|lost| format!("{:.0} % of packets are lost", lost * 100.0)),
        jitter.map(|jitter| format!("the network's delay wavers by {} ms", ms(jitter))),
        action.map(|action| format!("actions take {} ms", ms(action))),
        corrected.map(|distance| format!("corrected by {distance:.1} m")),
        (frame > FRAME_POOR).then(|| format!("frames take {} ms; try a lower quality", ms(frame))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn judge(
    screen: Res<State<Screen>>,
    health: Res<NetworkHealth>,
    times: Res<FrameTimes>,
    mut warnings: ResMut<Warnings>,
) {
    let told = if *screen.get() == Screen::World {
        poor(&health, times.frame.summary().median)
    } else {
        Vec::new()
    };
    if warnings.0 != told {
        warnings.0 = told;
    }
}

fn show(warnings: Res<Warnings>, mut text: Single<&mut Text, With<WarningText>>) {
    if warnings.is_changed() {
        text.0 = warnings.0.join("\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_what_is_good() {
        let good = NetworkHealth {
            round_trip: Some(Duration::from_millis(20)),
            jitter: Some(Duration::from_millis(2)),
            lost: Some(0.001),
            action: Some(Duration::from_millis(40)),
            correction_m: 0.01,
            ..NetworkHealth::default()
        };
        assert!(poor(&good, Duration::from_millis(16)).is_empty());
        assert!(poor(&NetworkHealth::default(), Duration::ZERO).is_empty());
    }

    #[test]
    fn each_thing_that_is_poor_is_said() {
        let bad = NetworkHealth {
            jitter: Some(Duration::from_millis(60)),
            lost: Some(0.08),
            action: Some(Duration::from_millis(400)),
            correction_m: 1.5,
            silent_for: Some(Duration::from_millis(3_400)),
            ..NetworkHealth::default()
        };
        let told = poor(&bad, Duration::from_millis(200));
        assert_eq!(told.len(), 6, "{told:?}");
        assert_eq!(told[0], "nothing heard of the server for 3 s");
        assert_eq!(told[1], "8 % of packets are lost");
    }
}
