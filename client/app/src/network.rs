//! The network side: `client/net`'s plugin and the demo game. Nothing else of the app knows of packets.

use std::sync::Arc;
use std::time::Duration;

use bevy::prelude::*;
use meridian_client_net::{ClientNetPlugin, Connector, NetworkHealthPlugin, OpenLink};
use meridian_game::demo::DemoPlugin;
use meridian_ids::TickRate;
use meridian_link::LinkConditionsHandle;

use crate::cli::Cli;
use crate::settings::Settings;

/// Connects the app, at once if the command line names a server.
pub(super) struct NetworkPlugin {
    pub(super) cli: Cli,
}

/// What the link is made to do to each packet.
#[derive(Resource, Clone, Default)]
pub struct SimulatedLink(pub LinkConditionsHandle);

impl Plugin for NetworkPlugin {
    fn build(&self, app: &mut App) {
        let link = SimulatedLink::default();
        app.insert_resource(OpenLink::udp(link.0.clone()));
        app.insert_resource(link);
        app.insert_resource(Connector::idle());
        app.add_plugins(ClientNetPlugin {
            // The usual one; a session of a world with another rate changes it.
            tick_rate: TickRate::default(),
            predict: true,
            interpolate: true,
            game: Arc::new(|app| {
                app.add_plugins(DemoPlugin);
            }),
        });
        app.add_plugins(NetworkHealthPlugin);
        // A machine that draws slowly still plays every tick, in fewer frames.
        app.world_mut()
            .resource_mut::<Time<Virtual>>()
            .set_max_delta(Duration::from_secs(1));
        if self.cli.server.is_some() {
            app.add_systems(Startup, join);
        }
    }
}

/// Joins the server of the settings.
pub fn join(mut settings: ResMut<Settings>, mut connector: ResMut<Connector>) {
    if settings.name.trim().is_empty() {
        // Several windows of one player are told apart by it.
        settings.name = format!("guest-{}", std::process::id());
    }
    connector.join(&settings.server, settings.name.trim());
}
