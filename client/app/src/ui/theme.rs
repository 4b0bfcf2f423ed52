//! Colours and fonts, in one place.

use bevy::asset::AssetId;
use bevy::prelude::*;
use bevy::text::{DEFAULT_FONT_DATA, FontSize};

/// What is written.
pub const TEXT: Color = Color::srgb(0.93, 0.95, 0.97);
/// What is less important.
pub const MUTED: Color = Color::srgb(0.66, 0.71, 0.77);
/// What went wrong.
pub const BAD: Color = Color::srgb(1.0, 0.52, 0.42);
/// What to look out for.
pub const POOR: Color = Color::srgb(1.0, 0.82, 0.36);
/// The colour of Meridian.
pub const ACCENT: Color = Color::srgb(0.98, 0.80, 0.36);
/// Behind panels.
pub const PANEL: Color = Color::srgba(0.05, 0.08, 0.13, 0.93);
/// Around panels and fields.
pub const EDGE: Color = Color::srgba(0.55, 0.65, 0.78, 0.28);
/// Buttons.
pub const BUTTON: Color = Color::srgba(0.17, 0.24, 0.34, 0.92);
/// Buttons under the mouse.
pub const BUTTON_HOVERED: Color = Color::srgba(0.24, 0.34, 0.48, 0.96);
/// Buttons that are pressed.
pub const BUTTON_PRESSED: Color = Color::srgba(0.13, 0.19, 0.27, 0.98);
/// Text fields.
pub const FIELD: Color = Color::srgba(0.02, 0.03, 0.05, 0.75);

/// A proportional font with Latin, Greek and Cyrillic letters (OFL 1.1).
const FONT: &[u8] = include_bytes!("../../../../assets/fonts/NotoSans-Regular.ttf");

pub(super) fn plugin(app: &mut App) {
    let mut fonts = app.world_mut().resource_mut::<Assets<Font>>();
    let columns = fonts.add(Font::from_bytes(DEFAULT_FONT_DATA.to_vec()));
    if let Err(error) = fonts.insert(AssetId::default(), Font::from_bytes(FONT.to_vec())) {
        tracing::error!(%error, "the font cannot be used");
    }
    app.insert_resource(Columns(columns));
}

/// A font whose letters are all equally wide, for figures in columns.
#[derive(Resource, Clone)]
pub struct Columns(pub Handle<Font>);

/// The shadow of letters over the world.
pub const SHADOW: TextShadow = TextShadow {
    offset: Vec2::splat(1.0),
    color: Color::srgba(0.0, 0.0, 0.0, 0.75),
};

/// The usual font in a size.
pub fn font(size: f32) -> TextFont {
    TextFont {
        font_size: FontSize::Px(size),
        ..default()
    }
}
