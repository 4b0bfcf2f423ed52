//! Short lines at the bottom of the window that tell what happened, and go away.

use std::time::Duration;

use bevy::prelude::*;

use crate::ui::theme;

/// How long a notice stays.
const STAYS: Duration = Duration::from_secs(6);
/// Notices at once; older ones go first.
const NOTICES_MAX: usize = 4;

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Notices>();
    app.add_systems(Startup, spawn);
    app.add_systems(Update, show);
}

/// What is told now.
#[derive(Resource, Debug, Default)]
pub struct Notices {
    lines: Vec<(String, Duration)>,
}

impl Notices {
    /// Tells the player something.
    pub fn tell(&mut self, line: impl Into<String>) {
        let line = line.into();
        tracing::info!(notice = line);
        if self.lines.len() >= NOTICES_MAX {
            self.lines.remove(0);
        }
        self.lines.push((line, STAYS));
    }

    /// The lines that are shown.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|(line, _)| line.as_str())
    }
}

#[derive(Component)]
struct NoticeText;

fn spawn(mut commands: Commands) {
    commands.spawn((
        Name::new("notices"),
        Node {
            position_type: PositionType::Absolute,
            bottom: px(24),
            width: percent(100),
            justify_content: JustifyContent::Center,
            ..default()
        },
        GlobalZIndex(30),
        Pickable::IGNORE,
        children![(
            NoticeText,
            Text::default(),
            theme::font(16.0),
            TextColor(theme::TEXT),
            theme::SHADOW,
            TextLayout::justify(Justify::Center),
            Pickable::IGNORE,
        )],
    ));
}

fn show(time: Res<Time<Real>>, mut notices: ResMut<Notices>, mut text: Single<&mut Text, With<NoticeText>>) {
    if notices.lines.is_empty() && text.0.is_empty() {
        return;
    }
    let passed = time.delta();
    notices.lines.retain_mut(|(_, left)| {
        *left = left.saturating_sub(passed);
        !left.is_zero()
    });
    let lines = notices.lines().collect::<Vec<_>>().join("\n");
    if text.0 != lines {
        text.0 = lines;
    }
}
