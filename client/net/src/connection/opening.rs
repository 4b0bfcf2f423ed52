//! Opens links: a socket, a token, and an entity that both hang on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bevy::ecs::entity::Entity;
use bevy::ecs::resource::Resource;
use bevy::ecs::world::World;
use lightyear::core::timeline::SetTickDuration;
use lightyear::netcode::ConnectToken;
use lightyear::prelude::client::{Connect, NetcodeClient, NetcodeConfig};
use lightyear::prelude::{Authentication, Linked};
use lightyear_replication::receive::ReplicationReceiver;
use meridian_game::{Scenery, WorldDefinition};
use meridian_link::{
    Arrival, ConditionedIo, LinkConditionsHandle, LinkEndpoint, PacketIo, ThreadedUdp, any_address_for, bind_udp,
};

use super::stash::Stash;
use super::{CONNECT_TIMEOUT, Candidate, Connector};
use crate::interpolation::InterpolationDelay;
use crate::plugin::{Clock, RemoteTick};
use crate::prediction::PredictionRing;
use crate::probe::Probes;
use crate::session::Session;

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

/// Lets the app play the world of a session, where it is another than before.
fn enter_world(world: &mut World, session: &Session) {
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

/// How often a client asks a gateway in place of one that it has lost, in seconds; a client that just comes asks ten times a second, as
/// netcode does on its own. Each step of the handshake waits for the next time to ask.
const ASKS_AGAIN_EVERY_S: f64 = 0.05;

/// Whether the socket that there is leads to a gateway.
fn reaches(endpoint: &LinkEndpoint, gateway: SocketAddr) -> bool {
    endpoint.local_addr().is_ipv4() == gateway.is_ipv4()
}

/// The socket of a client's connections.
fn open_link(world: &mut World, gateway: SocketAddr) -> Result<(), String> {
    let endpoint = world.get_resource::<LinkEndpoint>();
    let reaches = endpoint.is_some_and(|endpoint| reaches(endpoint, gateway));
    let io = match world.get_resource::<OpenLink>().cloned() {
        _ if reaches => return Ok(()),
        Some(OpenLink(open)) => open(gateway)?,
        None => return Err(format!("this client has no socket for {gateway}")),
    };
    world.insert_resource(LinkEndpoint::client(io, gateway, Entity::PLACEHOLDER));
    Ok(())
}

/// Another gateway may count its ticks from another start, has another clock, and knows nothing of what was asked before.
pub(super) fn begin_anew(world: &mut World, session: &Session) {
    world.resource_mut::<Probes>().reset();
    world.resource_mut::<RemoteTick>().0 = None;
    if let Some(mut delay) = world.get_resource_mut::<InterpolationDelay>() {
        *delay = InterpolationDelay::default();
    }
    if let Some(mut ring) = world.get_resource_mut::<PredictionRing>() {
        *ring = PredictionRing::default();
    }
    enter_world(world, session);
}

/// Opens a link for a session, in place of the one before.
pub(crate) fn connect(world: &mut World, session: &Session, now: Instant) {
    if let Some(old) = world.resource_mut::<Connector>().link.take() {
        despawn(world, old);
    }
    begin_anew(world, session);
    let config = match world.resource::<Connector>().lost_gateway {
        Some(_) => asks_often(),
        None => NetcodeConfig::default(),
    };
    let link = open_link(world, session.gateway).and_then(|()| spawn_link(world, session, config, now));
    let link = match link {
        Ok(link) => link,
        Err(reason) => {
            world.resource_mut::<Connector>().refuse(reason);
            return;
        }
    };
    world.entity_mut(link).insert(ReplicationReceiver);
    world.resource_mut::<LinkEndpoint>().reconnect(session.gateway, link);
    let mut connector = world.resource_mut::<Connector>();
    connector.note_session(session);
    connector.link = Some(link);
    connector.gateway = Some(session.gateway);
    connector.own = None;
    connector.deadline = now + CONNECT_TIMEOUT;
    connector.retry_at = None;
    world.trigger(Connect { entity: link });
}

/// Opens a link for a session beside the one that there is. Says whether there is one now: another socket, as a gateway of another family of
/// addresses would take, is not opened for it.
pub(super) fn open_candidate(world: &mut World, session: &Session, deadline: Instant, now: Instant) -> bool {
    let endpoint = world.get_resource::<LinkEndpoint>();
    if !endpoint.is_some_and(|endpoint| reaches(endpoint, session.gateway)) {
        return false;
    }
    let Ok(link) = spawn_link(world, session, asks_often(), now) else {
        return false;
    };
    world.entity_mut(link).insert(Stash::default());
    world.resource_mut::<LinkEndpoint>().add_link(session.gateway, link);
    let mut connector = world.resource_mut::<Connector>();
    connector.note_session(session);
    connector.candidate = Some(Candidate {
        link,
        session: session.clone(),
        deadline,
        failed: false,
        welcome: None,
        owner_zone: None,
    });
    world.trigger(Connect { entity: link });
    true
}

fn asks_often() -> NetcodeConfig {
    NetcodeConfig {
        keepalive_packet_send_rate: ASKS_AGAIN_EVERY_S,
        ..NetcodeConfig::default()
    }
}

fn spawn_link(world: &mut World, session: &Session, config: NetcodeConfig, now: Instant) -> Result<Entity, String> {
    let token = ConnectToken::try_from_bytes(&session.token).map_err(|error| error.to_string())?;
    let client = NetcodeClient::new(Authentication::Token(token), config);
    let client = client.map_err(|error| error.to_string())?;
    Ok(world.spawn((client, Linked, Arrival(now))).id())
}

pub(super) fn despawn(world: &mut World, link: Entity) {
    if let Ok(link) = world.get_entity_mut(link) {
        link.despawn();
    }
}
