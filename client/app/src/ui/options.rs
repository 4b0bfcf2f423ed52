//! The settings screen. Each change is in force, and kept, at once.

use bevy::input_focus::InputFocus;
use bevy::prelude::*;

use super::theme;
use super::widgets::{self, ButtonLook, Clicked};
use crate::quality::Quality;
use crate::screen::{Overlay, Screen};
use crate::settings::Settings;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(OnEnter(Overlay::Settings), spawn);
    app.add_systems(
        Update,
        refresh.run_if(in_state(Overlay::Settings).and_then(resource_changed::<Settings>)),
    );
    app.add_observer(on_click);
}

#[derive(Component)]
struct OptionsScreen;

#[derive(Component, Clone, Copy, PartialEq)]
enum Button {
    Quality(Quality),
    Switch(Switch),
    Step(Dial, f32),
    Close,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Switch {
    Vsync,
    Borders,
    NameTags,
    InvertY,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dial {
    FieldOfView,
    Sensitivity,
    UiScale,
}

impl Switch {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Vsync, "Wait for the screen (vsync)"),
        (Self::Borders, "Borders of zones"),
        (Self::NameTags, "Names of the others"),
        (Self::InvertY, "Mouse up looks down"),
    ];

    fn of(self, settings: &mut Settings) -> &mut bool {
        match self {
            Self::Vsync => &mut settings.vsync,
            Self::Borders => &mut settings.borders,
            Self::NameTags => &mut settings.name_tags,
            Self::InvertY => &mut settings.invert_y,
        }
    }
}

impl Dial {
    const ALL: [(Self, &'static str); 3] = [
        (Self::FieldOfView, "Field of view"),
        (Self::Sensitivity, "Mouse"),
        (Self::UiScale, "Size of letters"),
    ];

    fn of(self, settings: &mut Settings) -> &mut f32 {
        match self {
            Self::FieldOfView => &mut settings.field_of_view_degrees,
            Self::Sensitivity => &mut settings.mouse_sensitivity,
            Self::UiScale => &mut settings.ui_scale,
        }
    }

    /// Least, most and one step.
    fn range(self) -> (f32, f32, f32) {
        match self {
            Self::FieldOfView => (40.0, 90.0, 5.0),
            Self::Sensitivity => (0.2, 3.0, 0.2),
            Self::UiScale => (0.6, 1.5, 0.1),
        }
    }

    fn show(self, value: f32) -> String {
        match self {
            Self::FieldOfView => format!("{value:.0}°"),
            Self::Sensitivity | Self::UiScale => format!("{:.0} %", value * 100.0),
        }
    }

    fn step(self, settings: &mut Settings, direction: f32) {
        let (least, most, step) = self.range();
        let value = self.of(settings);
        *value = ((*value / step).round() * step + direction * step).clamp(least, most);
    }
}

fn spawn(settings: Res<Settings>, mut commands: Commands) {
    spawn_screen(&mut settings.clone(), Button::Close, &mut commands);
}

/// Anew, with the keyboard where it was.
fn refresh(
    settings: Res<Settings>,
    focus: Res<InputFocus>,
    buttons: Query<&Button>,
    shown: Query<Entity, With<OptionsScreen>>,
    mut commands: Commands,
) {
    let focused = focus.get().and_then(|focused| buttons.get(focused).ok().copied());
    shown.iter().for_each(|screen| commands.entity(screen).despawn());
    spawn_screen(&mut settings.clone(), focused.unwrap_or(Button::Close), &mut commands);
}

fn spawn_screen(settings: &mut Settings, focused: Button, commands: &mut Commands) {
    let small = |chosen: bool, width: f32| ButtonLook {
        chosen,
        font_size: 15.0,
        width: Some(width),
    };
    let add = |parent: &mut ChildSpawnerCommands, button: Button, text: &str, look: ButtonLook| {
        widgets::focus_if(button == focused, parent.spawn((button, widgets::button(text, look))));
    };
    let mut screen = commands.spawn((
        OptionsScreen,
        Name::new("settings"),
        DespawnOnExit(Overlay::Settings),
        widgets::centre(),
    ));
    screen.with_children(|screen| {
        screen
            .spawn(widgets::panel(widgets::column(480.0)))
            .with_children(|panel| {
                panel.spawn(widgets::label("Settings", 22.0, theme::TEXT));
                panel.spawn(line()).with_children(|row| {
                    row.spawn(widgets::label("Quality", 15.0, theme::MUTED));
                    row.spawn(widgets::row()).with_children(|row| {
                        for quality in Quality::ALL {
                            let look = small(settings.quality == quality, 84.0);
                            add(row, Button::Quality(quality), quality.name(), look);
                        }
                    });
                });
                for (dial, name) in Dial::ALL {
                    let value = dial.show(*dial.of(settings));
                    panel.spawn(line()).with_children(|row| {
                        row.spawn(widgets::label(name, 15.0, theme::MUTED));
                        row.spawn(widgets::row()).with_children(|row| {
                            add(row, Button::Step(dial, -1.0), "-", small(false, 40.0));
                            row.spawn(widgets::label(value, 15.0, theme::TEXT));
                            add(row, Button::Step(dial, 1.0), "+", small(false, 40.0));
                        });
                    });
                }
                for (switch, name) in Switch::ALL {
                    let on = *switch.of(settings);
                    panel.spawn(line()).with_children(|row| {
                        row.spawn(widgets::label(name, 15.0, theme::MUTED));
                        let text = if on { "on" } else { "off" };
                        add(row, Button::Switch(switch), text, small(on, 84.0));
                    });
                }
                add(panel, Button::Close, "Done", ButtonLook::default());
            });
    });
}

/// A name on the left, what it is on the right.
fn line() -> Node {
    Node {
        justify_content: JustifyContent::SpaceBetween,
        align_items: AlignItems::Center,
        ..default()
    }
}

fn on_click(
    clicked: On<Clicked>,
    buttons: Query<&Button>,
    screen: Res<State<Screen>>,
    mut settings: ResMut<Settings>,
    mut overlay: ResMut<NextState<Overlay>>,
) {
    match buttons.get(clicked.entity) {
        Ok(Button::Quality(quality)) => settings.quality = *quality,
        Ok(Button::Switch(switch)) => {
            let on = switch.of(&mut settings);
            *on = !*on;
        }
        Ok(Button::Step(dial, direction)) => dial.step(&mut settings, *direction),
        Ok(Button::Close) => overlay.set(match screen.get() {
            Screen::World => Overlay::Menu,
            Screen::Connect | Screen::Joining => Overlay::None,
        }),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_stays_in_its_range_and_on_its_steps() {
        let mut settings = Settings::default();
        (0..100).for_each(|_| Dial::FieldOfView.step(&mut settings, 1.0));
        assert_eq!(settings.field_of_view_degrees, 90.0);
        Dial::FieldOfView.step(&mut settings, -1.0);
        assert_eq!(settings.field_of_view_degrees, 85.0);
        settings.mouse_sensitivity = 1.07;
        Dial::Sensitivity.step(&mut settings, 1.0);
        assert!((settings.mouse_sensitivity - 1.2).abs() < 1e-5);
    }
}
