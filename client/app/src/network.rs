//! The network side: `client/net`'s plugin and the demo game. Nothing else of the app knows of packets.

use std::sync::Arc;
use std::time::Duration;

use bevy::prelude::*;
use meridian_client_net::{ClientNetPlugin, Connector, LinkConditionsHandle, NetworkHealthPlugin, OpenLink};
use meridian_game::demo::DemoPlugin;
use meridian_ids::TickRate;

use crate::cli::Cli;
use crate::screen::Refusal;
use crate::settings::Settings;
use crate::window::{Leave, Leaving};

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
        app.insert_resource(Joined::new(self.cli.server.clone(), self.cli.name.clone()));
        if self.cli.server.is_some() {
            app.add_systems(Startup, join_at_once);
        }
        if self.cli.headless {
            app.add_systems(Update, end_refused);
        }
    }
}

/// The server and the name that were asked for last, where they are not the ones that are kept.
#[derive(Resource, Clone, Debug, Default)]
pub struct Joined {
    /// The server.
    pub server: Option<String>,
    /// The name.
    pub name: Option<String>,
    is_guest: bool,
}

impl Joined {
    /// What the command line or the player asks for.
    pub fn new(server: Option<String>, name: Option<String>) -> Self {
        Self {
            server,
            name,
            is_guest: false,
        }
    }

    /// Keeps what was good enough to play with; a guest's name is of one run.
    pub fn keep(&self, connector: &Connector, settings: &mut ResMut<Settings>) {
        if let Some(server) = connector.server_url()
            && settings.server != server
        {
            settings.server = server.to_owned();
        }
        if !self.is_guest && settings.name != connector.name() {
            settings.name = connector.name().to_owned();
        }
    }
}

/// Joins the server of the command line.
fn join_at_once(
    settings: Res<Settings>,
    mut joined: ResMut<Joined>,
    mut refusal: ResMut<Refusal>,
    mut connector: ResMut<Connector>,
) {
    let known = joined.name.clone().or_else(|| Some(settings.name.clone()));
    let name = known.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    joined.is_guest = name.is_none();
    // Several windows are told apart by it.
    let name = name.unwrap_or_else(|| format!("guest-{}", std::process::id()));
    match address(joined.server.as_deref().unwrap_or_default()) {
        Ok(server) => connector.join(&server, &name),
        Err(told) => refusal.0 = Some(told),
    }
}

/// Without a window nobody can try something else.
fn end_refused(refusal: Res<Refusal>, mut leaving: ResMut<Leaving>, mut leave: MessageWriter<Leave>) {
    if let Some(reason) = refusal.0.as_ref().filter(|_| !leaving.has_begun()) {
        tracing::error!("{reason}");
        leaving.fail();
        leave.write(Leave::Game);
    }
}

/// What was typed, as an address; people leave out the scheme.
pub fn address(typed: &str) -> Result<String, String> {
    let (scheme, host) = typed.trim().split_once("://").unwrap_or(("http", typed.trim()));
    let host = host.trim_end_matches('/');
    let known = ["http", "https"].contains(&scheme) && !host.is_empty() && !host.contains(char::is_whitespace);
    if known {
        Ok(format!("{scheme}://{host}"))
    } else {
        Err("the server's address is for example http://127.0.0.1:7600".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_its_scheme() {
        assert_eq!(
            address(" play.example:7600/ "),
            Ok("http://play.example:7600".to_owned())
        );
        assert_eq!(address("https://play.example"), Ok("https://play.example".to_owned()));
        for nonsense in ["", "  ", "ftp://play.example", "http://", "two words"] {
            assert!(address(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
