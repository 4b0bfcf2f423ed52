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
use meridian_game::Identity;
use meridian_ids::{PlayerId, Tick};
use meridian_session::TokenUserData;

use crate::gateway::Zones;
use crate::metric_definitions::{GATEWAY_CLIENTS, SESSIONS_REFUSED};
use crate::mirror::{self, OwnedBy};

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Sessions>();
    app.add_observer(join);
    app.add_observer(leave);
}

/// The player that a link belongs to.
#[derive(Component, Clone, Copy, Debug)]
pub(crate) struct SessionOf(pub(crate) PlayerId);

/// Whether a connected player is in the world; while it is not, zones are asked to let it in, again and again.
#[derive(Component, Clone, Debug)]
pub(crate) struct Presence {
    pub(crate) is_in: bool,
    name: String,
    attempts: u64,
}

impl Presence {
    /// The player's entity left the world, and it is to get another.
    pub(crate) fn lost(&mut self) {
        (self.is_in, self.attempts) = (false, 0);
    }
}

/// Times that zones are asked, in turn, before a player is told that there is no room.
const ATTEMPTS_MAX: u64 = 30;

/// Joins and leaves that had no effect are repeated about once a second: a zone that is away, or an entity that was on its way
/// between two, may not have heard of them.
const REPEAT_EVERY_TICKS: u64 = 60;

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
    let presence = Presence {
        is_in: false,
        name: session.name().to_owned(),
        attempts: 0,
    };
    commands
        .entity(link)
        .insert((SessionOf(player), ReplicationSender, presence));
    zones.join(player, session.name(), 0);
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
    let entity = None;
    zones.send_to_all(&GatewayMessage::Leave {
        player: *player,
        entity,
    });
    metrics::gauge!(GATEWAY_CLIENTS).set(sessions.links.len() as f64);
}

/// Repeats the joins of players who are not in the world, and the leaves of those who still are.
pub(crate) fn repeat(world: &mut World, tick: Tick) {
    if !tick.0.is_multiple_of(REPEAT_EVERY_TICKS) {
        return;
    }
    for (player, name, attempts) in waiting(world) {
        if let Some(entity) = mirror::entity_of(world, player) {
            // It is in the world already: it came back to an entity that stayed.
            mirror::give_to_owner(world, entity);
        } else if attempts > ATTEMPTS_MAX {
            refuse(world, player, "no zone takes the player in");
        } else {
            world.resource::<Zones>().join(player, &name, attempts);
        }
    }
    let mut mirrored = world.query::<(&Identity, &OwnedBy)>();
    let (zones, sessions) = (world.resource::<Zones>(), world.resource::<Sessions>());
    for (identity, owned) in mirrored.iter(world) {
        if let Some(player) = identity.player.filter(|player| !sessions.links.contains_key(player)) {
            let entity = Some((identity.entity, owned.epoch));
            zones.send_to(owned.zone, GatewayMessage::Leave { player, entity });
        }
    }
}

/// Connected players who are not in the world, after a whole interval.
fn waiting(world: &mut World) -> Vec<(PlayerId, String, u64)> {
    let mut sessions = world.query::<(&SessionOf, &mut Presence)>();
    let mut waiting = Vec::new();
    for (session, mut presence) in sessions.iter_mut(world).filter(|(_, presence)| !presence.is_in) {
        presence.attempts += 1;
        if presence.attempts > 1 {
            waiting.push((session.0, presence.name.clone(), presence.attempts));
        }
    }
    waiting
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
