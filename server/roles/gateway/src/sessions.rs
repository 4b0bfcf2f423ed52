//! Who is connected: a player joins its zone when its token is good, and leaves it when its link ends.

use bevy::app::App;
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::{Add, Remove};
use bevy::ecs::observer::On;
use bevy::ecs::resource::Resource;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy::ecs::world::World;
use bevy::platform::collections::HashMap;
use lightyear::connection::client::Disconnecting;
use lightyear::netcode::server_plugin::TokenUserData as NetcodeUserData;
use lightyear::prelude::server::ClientOf;
use lightyear::prelude::{Connected, ReplicationSender};
use meridian_fabric::GatewayMessage;
use meridian_ids::PlayerId;
use meridian_session::TokenUserData;

use crate::gateway::Zones;
use crate::metric_definitions::{GATEWAY_CLIENTS, SESSIONS_REFUSED};

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Sessions>();
    app.add_observer(join);
    app.add_observer(leave);
}

/// The player that a link belongs to.
#[derive(Component, Clone, Copy, Debug)]
pub(crate) struct SessionOf(pub(crate) PlayerId);

/// The link of each player.
#[derive(Resource, Default)]
pub(crate) struct Sessions {
    pub(crate) links: HashMap<PlayerId, Entity>,
}

fn join(
    connected: On<Add, Connected>,
    links: Query<&NetcodeUserData, bevy::ecs::query::With<ClientOf>>,
    zones: Res<Zones>,
    mut sessions: ResMut<Sessions>,
    mut commands: Commands,
) {
    let link = connected.entity;
    let Ok(user_data) = links.get(link) else { return };
    let session = match TokenUserData::decode(&user_data.0) {
        Ok(session) => session,
        Err(error) => {
            tracing::warn!(?link, %error, "token is sealed but holds no session; is auth of another version?");
            metrics::counter!(SESSIONS_REFUSED, "reason" => "user_data").increment(1);
            commands.entity(link).insert(Disconnecting);
            return;
        }
    };
    let player = PlayerId(session.player_id());
    if let Some(older) = sessions.links.insert(player, link).filter(|older| *older != link) {
        // The same token twice, or a player that came back before its old link timed out: the newer link wins.
        commands.entity(older).remove::<SessionOf>().insert(Disconnecting);
    }
    tracing::info!(%player, name = session.name(), "player connected");
    commands.entity(link).insert((SessionOf(player), ReplicationSender));
    zones.send(GatewayMessage::Join {
        player,
        name: session.name().to_owned(),
    });
    metrics::gauge!(GATEWAY_CLIENTS).set(sessions.links.len() as f64);
}

fn leave(removed: On<Remove, SessionOf>, links: Query<&SessionOf>, zones: Res<Zones>, mut sessions: ResMut<Sessions>) {
    let Ok(SessionOf(player)) = links.get(removed.entity) else {
        return;
    };
    if sessions.links.get(player) != Some(&removed.entity) {
        return;
    }
    sessions.links.remove(player);
    tracing::info!(%player, "player disconnected");
    zones.send(GatewayMessage::Leave { player: *player });
    metrics::gauge!(GATEWAY_CLIENTS).set(sessions.links.len() as f64);
}

/// Ends the session of a player whom its zone does not let in.
pub(crate) fn refuse(world: &mut World, player: PlayerId, reason: &str) {
    let Some(link) = world.resource::<Sessions>().links.get(&player).copied() else {
        return;
    };
    tracing::warn!(%player, reason, "zone refused the player");
    metrics::counter!(SESSIONS_REFUSED, "reason" => "zone").increment(1);
    if let Ok(mut link) = world.get_entity_mut(link) {
        link.insert(Disconnecting);
    }
}
