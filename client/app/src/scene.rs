//! What is drawn of the world: its scenery, its borders, and everything that moves in it.

mod bodies;
mod borders;
mod scenery;
pub mod sky;
mod textures;

pub use bodies::{Drawn, colour_of};

use bevy::prelude::*;

pub(super) fn plugin(app: &mut App) {
    app.add_plugins((
        textures::plugin,
        sky::plugin,
        scenery::plugin,
        borders::plugin,
        bodies::plugin,
    ));
}
