//! Moves packets between a [`PacketIo`] and lightyear's links, and keeps strangers from costing an entity each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bevy::app::{App, Plugin, PostUpdate, PreUpdate};
use bevy::ecs::component::Component;
use bevy::ecs::entity::Entity;
use bevy::ecs::lifecycle::Add;
use bevy::ecs::observer::On;
use bevy::ecs::query::With;
use bevy::ecs::resource::Resource;
use bevy::ecs::schedule::IntoScheduleConfigs;
use bevy::ecs::system::{Commands, Query, Res, ResMut};
use bevy::platform::collections::{HashMap, HashSet};
use bevy::time::{Real, Time};
use lightyear::connection::client::Connected;
use lightyear::link::LinkStats;
use lightyear::prelude::{Link, LinkOf, LinkSystems, Linked, PacketNackSettings, PeerAddr, Transport};
use lightyear::transport::plugin::{PacketAcked, PacketLost};

use crate::metric_definitions::count_from_zero;
use crate::{LinkCounters, PacketIo};

/// Links of peers that have not authenticated yet; requests beyond them are dropped, and their clients ask again. Bounds what
/// can be made of stolen tokens.
pub const PENDING_LINKS_MAX: usize = 256;
/// How long a peer may take to authenticate before its link is dropped.
const PENDING_TIMEOUT: Duration = Duration::from_secs(5);
/// Datagrams taken in one pass; the rest is taken in the next, so a flood cannot hold up a tick.
const PACKETS_PER_PASS_MAX: usize = 4_096;

/// Bytes of a netcode connection request: prefix 1, version 13, protocol id 8, expiry 8, nonce 24, token 1,024.
/// (netcode standard 1.02, section "Connection Request Packet".)
const CONNECTION_REQUEST_BYTES: usize = 1_078;
const CONNECTION_REQUEST_PREFIX: &[u8] = b"\0NETCODE 1.02\0";

/// Whether a datagram from an unknown peer is a netcode connection request, by length and first bytes.
pub fn is_connection_request(payload: &[u8]) -> bool {
    payload.len() == CONNECTION_REQUEST_BYTES && payload.starts_with(CONNECTION_REQUEST_PREFIX)
}

/// Whether a datagram of a known peer can be one of a netcode client's, by its first byte and length.
///
/// lightyear_netcode trusts both: it panics over a sequence number of more than eight bytes, and takes an encrypted packet
/// whose kind is that of a request for one without opening it. Kinds: 3 response, 4 keep-alive, 5 payload, 6 disconnect.
pub fn is_from_client(payload: &[u8]) -> bool {
    const KINDS_OF_CLIENTS: std::ops::RangeInclusive<u8> = 3..=6;
    match payload.first() {
        None => false,
        Some(0) => is_connection_request(payload),
        Some(prefix) => is_encrypted(*prefix, payload.len()) && KINDS_OF_CLIENTS.contains(&(prefix & 0xf)),
    }
}

/// Whether a datagram of the gateway can be one of a netcode server's. Kinds: 1 denied, 2 challenge, 4 keep-alive, 5 payload,
/// 6 disconnect.
pub fn is_from_server(payload: &[u8]) -> bool {
    const KINDS_OF_SERVERS: [u8; 5] = [1, 2, 4, 5, 6];
    let prefix = payload.first().copied().unwrap_or(0);
    is_encrypted(prefix, payload.len()) && KINDS_OF_SERVERS.contains(&(prefix & 0xf))
}

/// Whether a sequence number of the length that the prefix says, and the tag, fit into the datagram.
fn is_encrypted(prefix: u8, length: usize) -> bool {
    const SEQUENCE_BYTES: std::ops::RangeInclusive<usize> = 1..=8;
    const TAG_BYTES: usize = 16;
    let sequence_bytes = usize::from(prefix >> 4);
    SEQUENCE_BYTES.contains(&sequence_bytes) && length >= 1 + sequence_bytes + TAG_BYTES
}

/// When the newest packet of a link came in.
#[derive(Component, Clone, Copy, Debug)]
pub struct Arrival(pub Instant);

#[derive(Component, Clone, Copy, Debug)]
struct Pending {
    since: Instant,
    token: TokenTag,
}

/// The `reason` by which datagrams of peers that are not known count, unless they ask for a connection.
const STRANGER: &str = "stranger";

/// The seal of a connect token: no two tokens share it.
type TokenTag = [u8; 16];

/// Whether a connection request is worth a link; if it is not, the `reason` by which it is counted. Called for each request of a peer that is
/// not known.
pub type AdmitFn = Box<dyn Fn(SocketAddr, &[u8]) -> Result<(), &'static str> + Send + Sync>;

/// Who may have a link, at an endpoint that takes them from peers that ask.
struct Door {
    server: Entity,
    admits: AdmitFn,
    /// Tokens of the pending links: one token opens one link at a time, wherever it is sent from.
    pending: HashSet<TokenTag>,
}

impl Door {
    /// The server and the token's seal, if a request of an unknown peer is worth a link; else the `reason` by which it is counted.
    fn admit(&mut self, peer: SocketAddr, payload: &[u8]) -> Result<(Entity, TokenTag), &'static str> {
        let token = payload.last_chunk().filter(|_| is_connection_request(payload));
        let token: TokenTag = *token.ok_or(STRANGER)?;
        if self.pending.len() >= PENDING_LINKS_MAX {
            return Err("too_many_pending");
        }
        if self.pending.contains(&token) {
            return Err("token_in_use");
        }
        (self.admits)(peer, payload)?;
        self.pending.insert(token);
        Ok((self.server, token))
    }
}

/// The packets of this app.
#[derive(Resource)]
pub struct LinkEndpoint {
    io: Box<dyn PacketIo>,
    links: HashMap<SocketAddr, Entity>,
    door: Option<Door>,
    swept: Option<Instant>,
}

impl LinkEndpoint {
    /// An endpoint whose known peers are those in `links`; a client's.
    pub fn client(io: Box<dyn PacketIo>, server: SocketAddr, link: Entity) -> Self {
        Self {
            io,
            links: HashMap::from_iter([(server, link)]),
            door: None,
            swept: None,
        }
    }

    /// An endpoint that gives each peer whose connection request `admits` finds good a link of `server`.
    pub fn server(io: Box<dyn PacketIo>, server: Entity, admits: AdmitFn) -> Self {
        Self {
            io,
            links: HashMap::default(),
            door: Some(Door {
                server,
                admits,
                pending: HashSet::default(),
            }),
            swept: None,
        }
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.io.local_addr()
    }

    /// What has gone through.
    pub fn counters(&self) -> LinkCounters {
        self.io.counters().clone()
    }

    /// Whether packets wait to be taken in.
    pub fn has_received(&self) -> bool {
        self.io.has_received()
    }

    /// When the endpoint must be looked at although nothing announces a packet; see [`PacketIo::next_due`].
    pub fn next_due(&self) -> Option<Instant> {
        self.io.next_due()
    }

    /// Lets `link` be a client's link to `server`, beside those that it has.
    pub fn add_link(&mut self, server: SocketAddr, link: Entity) {
        self.links.insert(server, link);
    }

    /// Makes `link` a client's only link, to `server`: packets of any other peer are a stranger's from now on.
    pub fn reconnect(&mut self, server: SocketAddr, link: Entity) {
        self.links = HashMap::from_iter([(server, link)]);
    }
}

/// Receives in `LinkSystems::Receive` and sends in `LinkSystems::Send`. Idle until a [`LinkEndpoint`] is inserted.
pub struct LinkPlugin {
    /// Whether the endpoint takes links from peers that ask, as a server does.
    pub accepts: bool,
}

impl Plugin for LinkPlugin {
    fn build(&self, app: &mut App) {
        app.add_observer(assume_rtt);
        app.add_observer(be_patient);
        app.add_observer(estimate_rtt);
        app.add_observer(doubt_rtt);
        app.add_systems(PreUpdate, receive.in_set(LinkSystems::Receive));
        if self.accepts {
            count_from_zero();
            app.add_systems(PreUpdate, sweep_pending.before(receive).in_set(LinkSystems::Receive));
        }
        app.add_systems(PostUpdate, send.in_set(LinkSystems::Send));
    }
}

/// Round trip that a new link is taken to have: without one, lightyear never sends a lost reliable message again.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Longest round trip that is believed; packets are given up after three seconds at the latest ([`PRESUMED_LOST`]).
const RTT_MAX: Duration = Duration::from_secs(2);
/// Share of each sample in the estimate, as in TCP (RFC 6298).
const RTT_SHARE: u32 = 8;
/// Share of each sample's difference from it in the estimate of how far samples lie apart, as in TCP (RFC 6298).
const JITTER_SHARE: u32 = 4;
/// When a packet counts as lost: after a round trip and four times its variation, as in TCP. Whoever acknowledges does so with the next packet of its own, so
/// what is sent may be acknowledged at once or a tick later, and no sooner than this is it known to be late.
const PRESUMED_LOST: PacketNackSettings = PacketNackSettings {
    rtt_multiplier: 1.0,
    jitter_multiplier: 4.0,
    minimum_timeout: Duration::from_millis(100),
    maximum_timeout: Duration::from_secs(3),
};

fn assume_rtt(added: On<Add, Link>, mut links: Query<&mut Link>) {
    if let Ok(mut link) = links.get_mut(added.entity) {
        link.stats.rtt = FIRST_RTT;
    }
}

fn be_patient(added: On<Add, Transport>, mut transports: Query<&mut Transport>) {
    if let Ok(mut transport) = transports.get_mut(added.entity) {
        transport.set_packet_nack_settings(PRESUMED_LOST);
    }
}

/// lightyear's own estimate comes from its clock synchronisation, which is not used; acknowledgements tell as well.
fn estimate_rtt(acked: On<PacketAcked>, mut links: Query<&mut Link>) {
    if let Ok(mut link) = links.get_mut(acked.entity) {
        let LinkStats { rtt, jitter } = &mut link.stats;
        *jitter = (*jitter * (JITTER_SHARE - 1) + rtt.abs_diff(acked.rtt_sample)) / JITTER_SHARE;
        *rtt = (*rtt * (RTT_SHARE - 1) + acked.rtt_sample) / RTT_SHARE;
    }
}

/// A packet counts as lost some time after a round trip ([`PRESUMED_LOST`]), and what is acknowledged later is no sample: an estimate that is far too
/// small would never learn. So each loss makes it longer, as a retransmission does in TCP; where it is right, the samples outweigh that.
fn doubt_rtt(lost: On<PacketLost>, mut links: Query<&mut Link>) {
    if let Ok(mut link) = links.get_mut(lost.entity) {
        link.stats.rtt = (link.stats.rtt + link.stats.rtt / RTT_SHARE).min(RTT_MAX);
    }
}

fn now(time: &Time<Real>) -> Instant {
    time.last_update().unwrap_or_else(Instant::now)
}

fn receive(
    endpoint: Option<ResMut<LinkEndpoint>>,
    time: Res<Time<Real>>,
    mut links: Query<(&mut Link, &mut Arrival)>,
    mut commands: Commands,
) {
    let Some(mut endpoint) = endpoint else { return };
    let endpoint = &mut *endpoint;
    let now = now(&time);
    for _ in 0..PACKETS_PER_PASS_MAX {
        let Some(packet) = endpoint.io.try_receive(now) else {
            return;
        };
        if let Some(entity) = endpoint.links.get(&packet.peer)
            && let Ok((mut link, mut arrival)) = links.get_mut(*entity)
        {
            let expected = if endpoint.door.is_some() {
                is_from_client
            } else {
                is_from_server
            };
            if !expected(&packet.payload) {
                endpoint.io.counters().dropped("malformed");
                continue;
            }
            arrival.0 = packet.arrived;
            link.recv.push_raw(packet.payload);
            continue;
        }
        let admitted = match &mut endpoint.door {
            Some(door) => door.admit(packet.peer, &packet.payload),
            None => Err(STRANGER),
        };
        let (server, token) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                endpoint.io.counters().dropped(reason);
                continue;
            }
        };
        let mut link = Link::default();
        link.recv.push_raw(packet.payload);
        let arrival = Arrival(packet.arrived);
        let bundle = (
            LinkOf { server },
            link,
            Linked,
            PeerAddr(packet.peer),
            arrival,
            Pending { since: now, token },
        );
        let entity = commands.spawn(bundle).id();
        endpoint.links.insert(packet.peer, entity);
    }
}

/// Ends links that never authenticated, and forgets peers whose link is gone. Once a second.
fn sweep_pending(
    endpoint: Option<ResMut<LinkEndpoint>>,
    time: Res<Time<Real>>,
    links: Query<(Entity, Option<&Pending>, bevy::ecs::query::Has<Connected>), With<Link>>,
    mut commands: Commands,
) {
    let Some(mut endpoint) = endpoint.filter(|endpoint| endpoint.door.is_some()) else {
        return;
    };
    let now = now(&time);
    if endpoint
        .swept
        .is_some_and(|swept| now.saturating_duration_since(swept) < Duration::from_secs(1))
    {
        return;
    }
    endpoint.swept = Some(now);
    let mut still = HashSet::default();
    for (entity, pending, connected) in &links {
        let Some(pending) = pending else { continue };
        if connected {
            commands.entity(entity).remove::<Pending>();
        } else if now.saturating_duration_since(pending.since) > PENDING_TIMEOUT {
            commands.entity(entity).despawn();
        } else {
            still.insert(pending.token);
        }
    }
    if let Some(door) = &mut endpoint.door {
        door.pending = still;
    }
    endpoint.links.retain(|_, entity| links.contains(*entity));
}

fn send(endpoint: Option<ResMut<LinkEndpoint>>, time: Res<Time<Real>>, mut links: Query<(&mut Link, &PeerAddr)>) {
    let Some(mut endpoint) = endpoint else { return };
    let now = now(&time);
    for (mut link, peer) in &mut links {
        if link.send.len() == 0 {
            continue;
        }
        for payload in link.send.drain() {
            endpoint.io.send(peer.0, &payload, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_netcode_would_panic_over_is_no_packet_of_a_client() {
        // A sequence number of nine bytes and more; kinds that only servers send; nothing at all; a cut request.
        for prefix in [0x95, 0xf3, 0x11, 0x12, 0x10, 0x05, 0x17, 0x00] {
            let mut payload = vec![0; 40];
            payload[0] = prefix;
            assert!(!is_from_client(&payload), "{prefix:#x}");
        }
        assert!(!is_from_client(&[]) && !is_from_server(&[]));
        let payload =
            |prefix: u8, length: usize| std::iter::once(prefix).chain(vec![7; length - 1]).collect::<Vec<u8>>();
        assert!(is_from_client(&payload(0x15, 18)) && is_from_server(&payload(0x15, 18)));
        assert!(!is_from_client(&payload(0x15, 17)) && !is_from_server(&payload(0x15, 17)));
        assert!(is_from_client(&payload(0x83, 300)) && !is_from_server(&payload(0x83, 300)));
        assert!(is_from_server(&payload(0x12, 300)) && !is_from_client(&payload(0x12, 300)));
    }

    #[test]
    fn a_token_opens_one_link_at_a_time_and_strangers_take_no_place() {
        let mut door = Door {
            server: Entity::PLACEHOLDER,
            admits: Box::new(|_, request| if request[100] == 1 { Ok(()) } else { Err("bad_seal") }),
            pending: HashSet::default(),
        };
        let request = |sealed: u8, token: u16| {
            let mut request = vec![0; CONNECTION_REQUEST_BYTES];
            request[..14].copy_from_slice(CONNECTION_REQUEST_PREFIX);
            request[100] = sealed;
            request[CONNECTION_REQUEST_BYTES - 2..].copy_from_slice(&token.to_le_bytes());
            request
        };
        let peer = SocketAddr::from(([192, 0, 2, 1], 7));
        let mut admit = |request: &[u8]| door.admit(peer, request).map(drop);
        let tokens = 0..2 * PENDING_LINKS_MAX as u16;
        assert!(tokens.clone().all(|token| admit(&request(0, token)) == Err("bad_seal")));
        assert_eq!(admit(&request(1, 7)), Ok(()));
        assert_eq!(
            admit(&request(1, 7)),
            Err("token_in_use"),
            "the same token from elsewhere"
        );
        let admitted = tokens
            .clone()
            .filter(|token| admit(&request(1, *token)).is_ok())
            .count();
        assert_eq!(admitted, PENDING_LINKS_MAX - 1);
        assert_eq!(admit(&request(1, tokens.end)), Err("too_many_pending"));
        assert_eq!(admit(&[]), Err(STRANGER));
    }

    #[test]
    fn only_a_connection_request_opens_a_link() {
        let mut request = vec![0; CONNECTION_REQUEST_BYTES];
        request[..14].copy_from_slice(CONNECTION_REQUEST_PREFIX);
        assert!(is_connection_request(&request));
        assert!(!is_connection_request(&request[..1_077]));
        request[0] = 1;
        assert!(!is_connection_request(&request));
        assert!(!is_connection_request(&[]));
    }
}
