//! The demo game: walk, jump, push crates, fall off the world. A plugin over the registrations, like any other game's.

mod crates;
mod players;

pub use crates::{CrateBody, PUSH_IMPULSE_MAX_KG_M_PER_S};

use bevy::app::{App, Plugin};

use crate::component::{AppWorldExt, Audience, ComponentSpec};
use crate::components::{Body, DisplayName, Identity, Orientation, OwnerState, Pose, ProbeEcho};
use crate::protocol::ProtocolSide;
use crate::simulation::{CurrentTick, WorldEvent};

/// The demo game, for any side.
pub struct DemoPlugin;

impl Plugin for DemoPlugin {
    fn build(&self, app: &mut App) {
        app.world_component::<Identity>(ComponentSpec::new("identity"));
        app.world_component::<Body>(ComponentSpec::new("body"));
        app.world_component::<DisplayName>(ComponentSpec::new("display_name"));
        app.world_component::<Pose>(ComponentSpec::new("pose").audience(Audience::Others));
        app.world_component::<Orientation>(ComponentSpec::new("orientation"));
        app.world_component::<OwnerState>(ComponentSpec::new("owner_state").audience(Audience::Owner));
        app.world_component::<ProbeEcho>(ComponentSpec::new("probe_echo").transient());
        if app.world().get_resource::<ProtocolSide>() == Some(&ProtocolSide::Zone) {
            app.add_message::<WorldEvent>();
            app.init_resource::<CurrentTick>();
            app.add_plugins((players::plugin, crates::plugin));
        }
    }
}
