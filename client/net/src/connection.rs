//! The life of a connection: session, link, welcome, and all of it again when it breaks.
//!
//! An app has a [`Connector`]. It begins with a session at hand, or idle until it is told whom to join ([`Connector::join`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy::app::{App, Last};
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Add;
use bevy::ecs::observer::On;
use bevy::ecs::query::With;
use bevy::ecs::resource::Resource;
use bevy::ecs::system::{Query, Res, ResMut};
use bevy::ecs::world::World;
use bevy::time::{Real, Time};
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use lightyear::core::timeline::SetTickDuration;
use lightyear::netcode::ConnectToken;
use lightyear::prelude::client::{Connect, Disconnect, NetcodeClient, NetcodeConfig};
use lightyear::prelude::{Authentication, Disconnected, DisconnectedReason, Linked};
use lightyear_replication::receive::ReplicationReceiver;
use meridian_game::{OwnerZone, Scenery, Welcome, WorldDefinition};
use meridian_ids::WorldEntityId;
use meridian_link::{
    Arrival, ConditionedIo, LinkConditionsHandle, LinkEndpoint, PacketIo, ThreadedUdp, any_address_for, bind_udp,
};

use crate::interpolation::InterpolationDelay;
use crate::plugin::Clock;
use crate::prediction::PredictionRing;
use crate::probe::Probes;
use crate::session::{Session, SessionError, request_session};

/// How long after a connection broke the next one is tried; doubled with each failure, up to the second.
pub const RECONNECT_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// How long the gateway may be silent while playing.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the gateway may take to answer and to welcome the player.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a link that was left stays open: its goodbye is sent in the next frame.
pub const GOODBYE: Duration = Duration::from_millis(350);

/// What the connection is doing, for people and programs.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionState {
    /// There is none, and none is wanted.
    Idle,
    /// The gateway has not welcomed the player yet.
    Connecting,
    /// In the world.
    Playing,
    /// Broken; trying again.
    Reconnecting {
        /// Tries since it broke.
        attempt: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// Refused in a way that trying again does not change.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Where sessions come from, and how the connection fares.
#[derive(Resource)]
pub struct Connector {
    /// What the connection is doing.
    pub state: ConnectionState,
    /// What the gateway said last, while playing.
    pub welcome: Option<Welcome>,
    /// The zone that simulates the own player, as the gateway said last; while playing.
    pub owner_zone: Option<OwnerZone>,
    /// How often another zone, or another instance of it, took the own player over.
    pub owner_changes: u64,
    /// Connections that broke.
    pub disconnects: u64,
    /// How often the own player's entity was another than before, within a connection.
    pub respawns: u64,
    server_url: Option<String>,
    name: String,
    link: Option<Entity>,
    /// The link that is left, until its goodbye is sent.
    leaving: Option<(Entity, Instant)>,
    left: bool,
    /// The last entity that was the own player of this connection.
    own: Option<Entity>,
    deadline: Instant,
    retry_at: Option<Instant>,
    attempt: u32,
    requested: Option<Receiver<Result<Session, SessionError>>>,
}

impl Connector {
    /// A connector that has a session, and asks `server_url` for another one when a connection breaks; never, without one.
    pub fn new(server_url: Option<String>, name: String, now: Instant) -> Self {
        Self {
            state: ConnectionState::Connecting,
            welcome: None,
            owner_zone: None,
            owner_changes: 0,
            disconnects: 0,
            respawns: 0,
            server_url,
            name,
            link: None,
            leaving: None,
            left: false,
            own: None,
            deadline: now + CONNECT_TIMEOUT,
            retry_at: None,
            attempt: 0,
            requested: None,
        }
    }

    /// A connector without a session. It opens links by [`OpenLink`].
    pub fn idle() -> Self {
        Self {
            state: ConnectionState::Idle,
            ..Self::new(None, String::new(), Instant::now())
        }
    }

    /// Asks `server_url` for a session of a guest called `name` and connects to the gateway that it names, in place of what was
    /// before. The state tells how it goes.
    pub fn join(&mut self, server_url: &str, name: &str) {
        self.leave();
        self.server_url = Some(server_url.to_owned());
        name.clone_into(&mut self.name);
        self.state = ConnectionState::Connecting;
        self.attempt = 0;
        request(self);
    }

    /// Ends the connection and wants no other. The gateway is told.
    pub fn leave(&mut self) {
        self.left |= self.link.is_some();
        self.requested = None;
        self.retry_at = None;
        self.forget_world();
        self.state = ConnectionState::Idle;
    }

    /// When a broken connection is tried again.
    pub fn retries_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Tries a broken connection again now.
    pub fn retry_now(&mut self) {
        if let Some(retry_at) = &mut self.retry_at {
            *retry_at = Instant::now().min(*retry_at);
        }
    }

    /// What others call the player.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that sessions come from.
    pub fn server_url(&self) -> Option<&str> {
        self.server_url.as_deref()
    }

    /// The entity of the current link.
    pub fn link(&self) -> Option<Entity> {
        self.link
    }

    fn forget_world(&mut self) {
        self.welcome = None;
        self.owner_zone = None;
    }

    pub(crate) fn owned_by(&mut self, zone: OwnerZone) {
        self.owner_changes += u64::from(self.owner_zone.is_some_and(|before| before != zone));
        self.owner_zone = Some(zone);
    }

    /// Whether a link is the one that is wanted: what the last words on others say is of no account.
    pub(crate) fn listens_to(&self, link: Entity) -> bool {
        self.link == Some(link) && !self.left
    }

    pub(crate) fn welcomed(&mut self, welcome: Welcome) {
        tracing::debug!(name = self.name, ?welcome, "welcome");
        self.welcome = Some(welcome);
        self.state = ConnectionState::Playing;
        self.attempt = 0;
        self.retry_at = None;
        self.requested = None;
    }

    /// Notes which entity of the client's world the own player is. Others' may look like it for the moments in which they leave.
    pub(crate) fn see_own(&mut self, entity: Entity, identity: WorldEntityId) {
        if self.welcome.is_some_and(|welcome| welcome.entity == identity) {
            let before = self.own.replace(entity);
            self.respawns += u64::from(before.is_some_and(|before| before != entity));
        }
    }

    fn broke(&mut self, reason: String, now: Instant) {
        if matches!(self.state, ConnectionState::Playing) {
            self.disconnects += 1;
            self.attempt = 0;
        }
        tracing::warn!(name = self.name, reason, "connection lost");
        self.forget_world();
        self.attempt += 1;
        self.state = ConnectionState::Reconnecting {
            attempt: self.attempt,
            reason,
        };
        let (first, longest) = RECONNECT_AFTER;
        let delay = first.saturating_mul(1 << (self.attempt - 1).min(8)).min(longest);
        self.retry_at = Some(now + delay);
    }
}

/// How an app without a [`LinkEndpoint`] opens its socket, for a gateway's address.
#[derive(Resource, Clone)]
pub struct OpenLink(Arc<dyn Fn(SocketAddr) -> Result<Box<dyn PacketIo>, String> + Send + Sync>);

impl OpenLink {
    /// Opens links by `open`; its error tells people what is wrong.
    pub fn new(open: impl Fn(SocketAddr) -> Result<Box<dyn PacketIo>, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// A UDP socket with an I/O thread, on a link whose conditions can be changed while it is in use.
    pub fn udp(conditions: LinkConditionsHandle) -> Self {
        Self::new(move |gateway| {
            let socket = bind_udp(any_address_for(gateway)).map_err(|error| error.to_string())?;
            let seed = u64::from(socket.local_addr().map_or(0, |address| address.port()));
            // Who draws looks at the socket each frame: nobody is to be woken.
            let io = ThreadedUdp::start(socket, || {}).map_err(|error| format!("no thread for the socket: {error}"))?;
            Ok(Box::new(ConditionedIo::controlled_by(io, conditions.clone(), seed)))
        })
    }
}

pub(crate) fn plugin(app: &mut App) {
    app.add_observer(note_disconnect);
    app.add_systems(Last, supervise);
}

/// Lets the app play the world of a session, where it is another than before.
pub(crate) fn enter_world(world: &mut World, session: &Session) {
    let rate = session.world.tick_rate_hz;
    if world.resource::<Clock>().rate() != rate {
        world.insert_resource(Clock::new(rate));
        world.insert_resource(lightyear::core::tick::TickDuration(rate.tick_duration()));
        world.trigger(SetTickDuration(rate.tick_duration()));
    }
    if world.get_resource() == Some(session.world.as_ref()) {
        return;
    }
    world.insert_resource::<WorldDefinition>(session.world.as_ref().clone());
    if world.contains_resource::<PredictionRing>() {
        world.insert_resource(Scenery::new(&session.world));
    }
}

/// The socket of a client's connections.
fn open_link(world: &mut World, gateway: SocketAddr) -> Result<(), String> {
    let endpoint = world.get_resource::<LinkEndpoint>();
    let reaches = endpoint.is_some_and(|endpoint| endpoint.local_addr().is_ipv4() == gateway.is_ipv4());
    let io = match world.get_resource::<OpenLink>().cloned() {
        _ if reaches => return Ok(()),
        Some(OpenLink(open)) => open(gateway)?,
        None => return Err(format!("this client has no socket for {gateway}")),
    };
    world.insert_resource(LinkEndpoint::client(io, gateway, Entity::PLACEHOLDER));
    Ok(())
}

/// Opens a link for a session, in place of the one before.
pub(crate) fn connect(world: &mut World, session: &Session, now: Instant) {
    if let Some(old) = world.resource_mut::<Connector>().link.take() {
        despawn(world, old);
    }
    world.resource_mut::<Probes>().reset();
    // Another gateway counts its ticks from another start.
    if let Some(mut delay) = world.get_resource_mut::<InterpolationDelay>() {
        *delay = InterpolationDelay::default();
    }
    enter_world(world, session);
    if let Err(reason) = open_link(world, session.gateway) {
        world.resource_mut::<Connector>().state = ConnectionState::Refused { reason };
        return;
    }
    let client = ConnectToken::try_from_bytes(&session.token)
        .map_err(|error| error.to_string())
        .and_then(|token| {
            NetcodeClient::new(Authentication::Token(token), NetcodeConfig::default())
                .map_err(|error| error.to_string())
        });
    let client = match client {
        Ok(client) => client,
        Err(reason) => {
            world.resource_mut::<Connector>().state = ConnectionState::Refused { reason };
            return;
        }
    };
    let link = world.spawn((client, Linked, ReplicationReceiver, Arrival(now))).id();
    world.resource_mut::<LinkEndpoint>().reconnect(session.gateway, link);
    let mut connector = world.resource_mut::<Connector>();
    connector.link = Some(link);
    connector.own = None;
    connector.deadline = now + CONNECT_TIMEOUT;
    connector.retry_at = None;
    world.trigger(Connect { entity: link });
}

fn note_disconnect(
    added: On<Add, Disconnected>,
    reasons: Query<&Disconnected>,
    time: Res<Time<Real>>,
    mut connector: ResMut<Connector>,
) {
    // Every client entity starts as disconnected; that is not a break.
    let was_trying = connector.listens_to(added.entity) && connector.retry_at.is_none();
    let is_over = matches!(connector.state, ConnectionState::Idle | ConnectionState::Refused { .. });
    if !was_trying || is_over {
        return;
    }
    let reason = reasons
        .get(added.entity)
        .map(|reason| in_plain_words(&reason.reason))
        .unwrap_or_default();
    connector.broke(reason, time.last_update().unwrap_or_else(Instant::now));
}

fn despawn(world: &mut World, link: Entity) {
    if let Ok(link) = world.get_entity_mut(link) {
        link.despawn();
    }
}

/// Says goodbye on a link that was left, and closes it when that is sent.
fn part(world: &mut World, now: Instant) {
    let mut connector = world.resource_mut::<Connector>();
    if std::mem::take(&mut connector.left)
        && let Some(link) = connector.link.take()
    {
        let before = connector.leaving.replace((link, now + GOODBYE));
        if let Some((before, _)) = before {
            despawn(world, before);
        }
        world.trigger(Disconnect { entity: link });
    }
    let mut connector = world.resource_mut::<Connector>();
    if let Some((link, until)) = connector.leaving
        && (now >= until || connector.link.is_some())
    {
        connector.leaving = None;
        despawn(world, link);
    }
}

fn in_plain_words(reason: &DisconnectedReason) -> String {
    match reason {
        DisconnectedReason::ByPeer(None) => "the server ended the connection".to_owned(),
        DisconnectedReason::ByPeer(Some(reason)) => format!("the server ended the connection: {reason}"),
        // Names of netcode's states.
        DisconnectedReason::TransportError(state) if state.contains("TimedOut") => {
            "the server does not answer any more".to_owned()
        }
        DisconnectedReason::TransportError(state) if state.contains("Denied") => {
            "the gateway refuses more players for now".to_owned()
        }
        DisconnectedReason::TransportError(state) if state.contains("TokenExpired") => {
            "the connection took longer than its session was valid".to_owned()
        }
        DisconnectedReason::Unknown => "the connection broke".to_owned(),
        reason => reason.to_string(),
    }
}

/// Notices what takes too long, and brings a broken connection back.
fn supervise(world: &mut World) {
    let now = world
        .resource::<Time<Real>>()
        .last_update()
        .unwrap_or_else(Instant::now);
    part(world, now);
    let link = world.resource::<Connector>().link;
    let arrived = link
        .and_then(|link| world.get::<Arrival>(link))
        .map_or(now, |arrival| arrival.0);
    let mut connector = world.resource_mut::<Connector>();
    match &connector.state {
        ConnectionState::Playing => {
            if now.saturating_duration_since(arrived) > SILENCE_TIMEOUT {
                connector.broke("the gateway fell silent".to_owned(), now);
            }
            return;
        }
        ConnectionState::Idle | ConnectionState::Refused { .. } => return,
        ConnectionState::Connecting | ConnectionState::Reconnecting { .. } => {}
    }
    if let Some(requested) = &connector.requested {
        let session = match requested.try_recv() {
            Ok(session) => session,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => {
                connector.requested = None;
                connector.broke("the session request ended without an answer".to_owned(), now);
                return;
            }
        };
        connector.requested = None;
        match session {
            Ok(session) => connect(world, &session, now),
            Err(error) if error.is_temporary() => connector.broke(error.to_string(), now),
            Err(error) => {
                connector.state = ConnectionState::Refused {
                    reason: error.to_string(),
                }
            }
        }
        return;
    }
    match connector.retry_at {
        Some(retry_at) if now >= retry_at => request(&mut connector),
        Some(_) => {}
        None if now >= connector.deadline => {
            connector.broke("the gateway does not answer; is its UDP port open?".to_owned(), now);
        }
        None => {}
    }
}

/// Asks for another session on a thread of its own, for the answer may take long.
fn request(connector: &mut Connector) {
    let Some(server_url) = connector.server_url.clone() else {
        connector.state = ConnectionState::Refused {
            reason: "the connection broke and no server is known".to_owned(),
        };
        return;
    };
    let (sender, receiver) = bounded(1);
    let name = connector.name.clone();
    let spawned = std::thread::Builder::new()
        .name("session-request".to_owned())
        .spawn(move || {
            // The receiver is gone when the client is: then nobody waits for the answer.
            let _ = sender.send(request_session(&server_url, &name));
        });
    match spawned {
        Ok(_) => connector.requested = Some(receiver),
        Err(error) => {
            connector.state = ConnectionState::Refused {
                reason: format!("no thread: {error}"),
            }
        }
    }
}

/// Whether the app is in the world.
pub(crate) fn playing(connector: Option<Res<Connector>>) -> bool {
    connector.is_some_and(|connector| connector.state == ConnectionState::Playing)
}

/// Filter for the link's entity.
pub(crate) type IsLink = With<ReplicationReceiver>;

#[cfg(test)]
mod tests {
    use meridian_ids::{PlayerId, Tick, TickRate};

    use super::*;

    #[test]
    fn people_are_not_told_the_names_of_states() {
        // As lightyear_netcode 0.30 writes its client's states.
        for state in [
            "ConnectionTimedOut",
            "ChallengeResponseTimedOut",
            "ConnectionRequestTimedOut",
            "ConnectionDenied",
            "ConnectTokenExpired",
        ] {
            let told = in_plain_words(&DisconnectedReason::TransportError(state.to_owned()));
            assert!(told.starts_with("the "), "{told}");
        }
    }

    #[test]
    fn who_has_left_hears_nothing_more_of_the_old_link() {
        let mut world = World::new();
        let link = world.spawn_empty().id();
        let mut connector = Connector::idle();
        connector.link = Some(link);
        connector.state = ConnectionState::Playing;
        assert!(connector.listens_to(link));
        connector.leave();
        assert!(!connector.listens_to(link));
        assert_eq!(connector.state, ConnectionState::Idle);
    }

    #[test]
    fn another_entity_in_the_own_players_place_is_a_respawn_and_the_same_one_again_is_none() {
        let mut world = World::new();
        let (first, second) = (world.spawn_empty().id(), world.spawn_empty().id());
        let (own, other) = (WorldEntityId(7), WorldEntityId(8));
        let mut connector = Connector::new(None, "bot-1".to_owned(), Instant::now());
        connector.see_own(first, own);
        assert_eq!(connector.own, None, "not welcomed yet");
        connector.welcomed(Welcome {
            player: PlayerId(1),
            entity: own,
            base_tick: Tick(1_000),
            tick_rate: TickRate::default(),
        });
        connector.see_own(first, own);
        connector.see_own(first, own);
        connector.see_own(second, other);
        assert_eq!(connector.respawns, 0);
        connector.see_own(second, own);
        assert_eq!(connector.respawns, 1);
    }
}
