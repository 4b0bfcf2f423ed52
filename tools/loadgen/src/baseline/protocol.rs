//! What the stock server and its clients tell each other: lightyear's registrations, as its book shows them.

use avian3d::prelude::{LinearVelocity, Position, Rotation};
use bevy::app::{App, Plugin};
use bevy::ecs::component::Component;
use lightyear::prelude::AppComponentExt;
use lightyear::prelude::input::native::InputPlugin;
use meridian_game::Move;
use serde::{Deserialize, Serialize};

/// netcode's key and protocol of a run on this machine alone; a stock example's defaults.
pub(super) const PROTOCOL_ID: u64 = 0;
pub(super) const PRIVATE_KEY: [u8; 32] = [0; 32];

/// Whose player an entity is: the client's netcode id. Sent once.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlayerTag(pub(super) u64);

/// Sequence number of the last stamped input that the server applied.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Echo(pub(super) u32);

/// Added on both sides after lightyear's plugins.
pub(super) struct BaselineProtocol;

impl Plugin for BaselineProtocol {
    fn build(&self, app: &mut App) {
        app.component::<Position>().replicate();
        app.component::<Rotation>().replicate();
        app.component::<LinearVelocity>().replicate();
        app.component::<PlayerTag>().replicate();
        app.component::<Echo>().replicate();
        app.add_plugins(InputPlugin::<Move>::default());
    }
}
