//! Panels, labels, buttons and text fields in the theme's clothes. What they do is Bevy's widgets' business.

use bevy::input_focus::tab_navigation::TabIndex;
use bevy::input_focus::{AutoFocus, InputFocus, InputFocusVisible};
use bevy::picking::hover::Hovered;
use bevy::prelude::*;
use bevy::text::{EditableText, TextCursorStyle};
use bevy::ui::{InteractionDisabled, Pressed};
use bevy::ui_widgets::Button;

use super::theme;

/// A button was clicked, or chosen by the keyboard.
pub use bevy::ui_widgets::Activate as Clicked;

pub(super) fn plugin(app: &mut App) {
    app.add_systems(Update, (dress_buttons, dress_fields));
}

/// How a button looks at rest.
#[derive(Component, Clone, Copy, Debug)]
pub struct ButtonLook {
    /// It is the one of its group that is chosen.
    pub chosen: bool,
    /// Its letters, in logical pixels.
    pub font_size: f32,
    /// Its width; as wide as there is room, unless given.
    pub width: Option<f32>,
}

impl Default for ButtonLook {
    fn default() -> Self {
        Self {
            chosen: false,
            font_size: 16.0,
            width: None,
        }
    }
}

/// The middle of the window, over everything.
pub fn centre() -> impl Bundle {
    (
        Node {
            position_type: PositionType::Absolute,
            width: percent(100),
            height: percent(100),
            align_items: AlignItems::Center,
            justify_content: JustifyContent::Center,
            ..default()
        },
        GlobalZIndex(10),
        bevy::input_focus::tab_navigation::TabGroup::modal(),
    )
}

/// A box that things lie in.
pub fn panel(node: Node) -> impl Bundle {
    (
        Node {
            border: px(1).all(),
            border_radius: BorderRadius::all(px(8)),
            ..node
        },
        BackgroundColor(theme::PANEL),
        BorderColor::all(theme::EDGE),
    )
}

/// A column of a width, with room around.
pub fn column(width: f32) -> Node {
    Node {
        width: px(width),
        max_width: percent(96),
        max_height: percent(96),
        padding: px(24).all(),
        row_gap: px(10),
        flex_direction: FlexDirection::Column,
        ..default()
    }
}

/// Things side by side.
pub fn row() -> Node {
    Node {
        column_gap: px(8),
        align_items: AlignItems::Center,
        ..default()
    }
}

/// Text.
pub fn label(text: impl Into<String>, size: f32, colour: Color) -> impl Bundle {
    (Text::new(text), theme::font(size), TextColor(colour), Pickable::IGNORE)
}

/// A button; observe [`Clicked`] to know when it is pressed.
pub fn button(text: impl Into<String>, look: ButtonLook) -> impl Bundle {
    (
        Button,
        look,
        Hovered::default(),
        TabIndex(0),
        Node {
            width: look.width.map_or(Val::Auto, Val::Px),
            flex_grow: if look.width.is_some() { 0.0 } else { 1.0 },
            min_height: px(look.font_size * 2.1),
            padding: UiRect::axes(px(12), px(4)),
            border: px(1).all(),
            border_radius: BorderRadius::all(px(5)),
            align_items: AlignItems::Center,
            justify_content: JustifyContent::Center,
            ..default()
        },
        BackgroundColor(theme::BUTTON),
        BorderColor::all(theme::EDGE),
        children![(label(text, look.font_size, theme::TEXT), TextLayout::no_wrap())],
    )
}

/// A field for a line of text.
pub fn text_field(text: &str, characters_max: usize) -> impl Bundle {
    (
        EditableText {
            max_characters: Some(characters_max),
            ..EditableText::new(text)
        },
        Node {
            width: percent(100),
            padding: UiRect::axes(px(10), px(7)),
            border: px(1).all(),
            border_radius: BorderRadius::all(px(5)),
            ..default()
        },
        TabIndex(0),
        TextLayout::no_wrap(),
        theme::font(16.0),
        TextColor(theme::TEXT),
        TextCursorStyle {
            color: theme::ACCENT,
            ..default()
        },
        BackgroundColor(theme::FIELD),
        BorderColor::all(theme::EDGE),
    )
}

/// Gives a new widget the keyboard, if it is to have it.
pub fn focus_if(wanted: bool, mut widget: EntityCommands) {
    if wanted {
        widget.insert(AutoFocus);
    }
}

fn dress_buttons(
    focus: Res<InputFocus>,
    focus_visible: Res<InputFocusVisible>,
    mut buttons: Query<(
        Entity,
        &ButtonLook,
        &Hovered,
        Has<Pressed>,
        Has<InteractionDisabled>,
        &mut BackgroundColor,
        &mut BorderColor,
    )>,
) {
    for (button, look, hovered, pressed, disabled, mut background, mut border) in &mut buttons {
        let colour = match (disabled, pressed, hovered.get()) {
            (true, ..) => theme::BUTTON.with_alpha(0.3),
            (_, true, _) => theme::BUTTON_PRESSED,
            (_, _, true) => theme::BUTTON_HOVERED,
            _ => theme::BUTTON,
        };
        background.set_if_neq(BackgroundColor(colour));
        let focused = focus_visible.0 && focus.get() == Some(button);
        let edge = if look.chosen || focused {
            theme::ACCENT
        } else {
            theme::EDGE
        };
        border.set_if_neq(BorderColor::all(edge));
    }
}

fn dress_fields(focus: Res<InputFocus>, mut fields: Query<(Entity, &mut BorderColor), With<EditableText>>) {
    for (field, mut border) in &mut fields {
        let edge = if focus.get() == Some(field) {
            theme::ACCENT
        } else {
            theme::EDGE
        };
        border.set_if_neq(BorderColor::all(edge));
    }
}
