//! Everything that is asked and told over the picture: screens, menus, and what they are made of.

mod connect;
mod joining;
mod keys;
mod menu;
mod options;
mod reconnecting;
pub mod theme;
pub mod widgets;

pub use keys::{KeysSystems, nobody_binds};

use bevy::input_focus::tab_navigation::TabNavigationPlugin;
use bevy::prelude::*;

use crate::settings::Settings;

pub(super) fn plugin(app: &mut App) {
    app.add_plugins(TabNavigationPlugin);
    app.add_plugins((theme::plugin, widgets::plugin));
    app.add_plugins((
        connect::plugin,
        joining::plugin,
        menu::plugin,
        options::plugin,
        keys::plugin,
        reconnecting::plugin,
    ));
    app.add_systems(Update, scale.run_if(resource_changed::<Settings>));
}

/// Everything that is written grows with the setting.
fn scale(settings: Res<Settings>, mut scale: ResMut<UiScale>) {
    if scale.0 != settings.ui_scale {
        scale.0 = settings.ui_scale;
    }
}
