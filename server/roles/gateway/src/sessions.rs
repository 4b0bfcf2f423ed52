//! Who is connected: a player joins its zone when its token is good, and leaves it when its link ends.

use bevy::app::App;
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::{Add, Remove};
use bevy::ecs::observer::On;
use bevy::ecs::query::{Has, With};
use bevy::ecs::resource::Resource;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy::ecs::world::World;
use bevy::platform::collections::HashMap;
use lightyear::connection::client::Disconnecting;
use lightyear::netcode::server_plugin::TokenUserData as NetcodeUserData;
use lightyear::prelude::server::ClientOf;
use lightyear::prelude::{Connected, ReplicationSender};
use meridian_fabric::GatewayMessage;
use meridian_game::{Frozen, Identity};
use meridian_ids::{PlayerId, Tick, WorldEntityId};
use meridian_session::TokenUserData;

use crate::gateway::Zones;
use crate::metric_definitions::{GATEWAY_CLIENTS, SESSIONS_REFUSED};
use crate::mirror::{self, OwnedBy};
use crate::stillness;

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

/// Leaves that are repeated to a zone that is there before it is taken for said: after more seconds than a zone keeps a player whom
/// nobody plays, whoever still has it has it from another gateway.
const LEAVES_MAX: u32 = 45;
/// Players whose leaves are repeated at once. Of more, the one leave that was told must do.
const LEFT_MAX: usize = 8_192;

/// The link of each player.
#[derive(Resource, Default)]
pub(crate) struct Sessions {
    pub(crate) links: HashMap<PlayerId, Entity>,
    /// Players that were this gateway's own and left it, and how often a zone has been told of it since. Others' players are no business of
    /// this gateway's.
    left: HashMap<PlayerId, u32>,
    /// The gateway stops: who is sent away did not leave, and waits in the world to be played through another one.
    pub(crate) is_stopping: bool,
}

fn join(
    connected: On<Add, Connected>,
    links: Query<&NetcodeUserData, With<ClientOf>>,
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
    sessions.left.remove(&player);
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
    let name = session.name().to_owned();
    commands.queue(move |world: &mut World| enter(world, player, &name, 0));
    metrics::gauge!(GATEWAY_CLIENTS).set(sessions.links.len() as f64);
}

/// Brings a player into the world, or back to the entity that it has there: its owner is told that it is played from here now, and its
/// client is welcomed at once.
fn enter(world: &mut World, player: PlayerId, name: &str, attempt: u64) {
    let known = mirror::entity_of(world, player).filter(|entity| !stillness::is_unlisted(world, *entity));
    let owned = known.and_then(|entity| Some((entity, *world.get::<OwnedBy>(entity)?)));
    let zones = world.resource::<Zones>();
    let Some((entity, owned)) = owned else {
        zones.join(player, name, attempt);
        return;
    };
    let name = name.to_owned();
    zones.send_to(owned.zone, GatewayMessage::Join { player, name });
    mirror::give_to_owner(world, entity);
}

fn leave(removed: On<Remove, SessionOf>, links: Query<&SessionOf>, zones: Res<Zones>, mut sessions: ResMut<Sessions>) {
    let Ok(SessionOf(player)) = links.get(removed.entity) else {
        return;
    };
    if sessions.links.get(player) != Some(&removed.entity) {
        return;
    }
    sessions.links.remove(player);
    if sessions.is_stopping {
        return;
    }
    if sessions.left.len() < LEFT_MAX {
        sessions.left.insert(*player, 0);
    }
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
        if attempts > ATTEMPTS_MAX {
            refuse(world, player, "no zone takes the player in");
        } else {
            enter(world, player, &name, attempts);
        }
    }
    repeat_leaves(world);
}

fn repeat_leaves(world: &mut World) {
    let mut left = std::mem::take(&mut world.resource_mut::<Sessions>().left);
    if left.is_empty() {
        return;
    }
    let mut mirrored = world.query::<(&Identity, &OwnedBy, Has<Frozen>)>();
    let players = mirrored.iter(world).filter_map(|(identity, owned, is_frozen)| {
        let entity = (identity.entity, *owned, is_frozen);
        Some((identity.player?, entity))
    });
    let players: HashMap<PlayerId, (WorldEntityId, OwnedBy, bool)> = players.collect();
    let zones = world.resource::<Zones>();
    left.retain(|player, told| {
        let known = players.get(player).copied();
        if let Some((entity, owned, _)) = known {
            let (player, entity) = (*player, Some((entity, owned.epoch)));
            zones.send_to(owned.zone, GatewayMessage::Leave { player, entity });
        }
        // A zone that is away hears nothing. Of a player without an entity, one may come: it left while it was let in.
        let is_away = known.is_some_and(|(_, _, is_frozen)| is_frozen);
        *told += u32::from(!is_away);
        *told < LEAVES_MAX
    });
    world.resource_mut::<Sessions>().left = left;
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
    // An answer that comes late: it was let in elsewhere meanwhile.
    if world.get::<Presence>(link).is_some_and(|presence| presence.is_in) {
        return;
    }
    tracing::warn!(%player, reason, "zone refused the player");
    metrics::counter!(SESSIONS_REFUSED, "reason" => "zone").increment(1);
    if let Ok(mut link) = world.get_entity_mut(link) {
        link.insert(Disconnecting);
    }
}
