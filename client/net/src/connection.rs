//! The life of a connection: session, link, welcome, and all of it again when it breaks.
//!
//! An app has a [`Connector`]. It begins with a session at hand, or idle until it is told whom to join ([`Connector::join`]). A gateway that
//! falls silent is listened to while another one is sought: whichever speaks first is played through. Nothing here reads a packet or
//! knows what is replicated.

mod opening;
mod renewal;
mod stash;
mod supervision;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy::app::{App, Last};
use bevy::ecs::entity::Entity;
use bevy::ecs::query::With;
use bevy::ecs::resource::Resource;
use bevy::ecs::system::Res;
use crossbeam_channel::Receiver;
use lightyear_replication::receive::ReplicationReceiver;
use meridian_game::{OwnerZone, Welcome, WorldDefinition};
use meridian_ids::WorldEntityId;

use crate::session::{Resume, Session, SessionError, SessionProvider, SessionQuery};
use renewal::Renewal;

pub use opening::OpenLink;
pub(crate) use opening::connect;

/// How long after a connection broke the next one is tried; doubled with each failure, up to the second. A connection that had held is tried
/// again at once, and then so.
pub const RECONNECT_AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// How long the gateway may be silent while playing before another one is sought. It says something in each tick in which anything changes,
/// its player's state at least each sixth, and without any zone ten keep-alives in a second.
pub const SILENCE_MAX: Duration = Duration::from_millis(500);
/// How long the gateway may take to answer and to welcome the player.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was in the world for so long had held: that it broke says nothing of the next one.
const HELD_MIN: Duration = Duration::from_secs(2);

/// How long a link that was left stays open: its goodbye is sent in the next frame.
pub const GOODBYE: Duration = Duration::from_millis(350);

/// What the connection is doing, for people and programs.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionState {
    /// There is none, and none is wanted.
    Idle,
    /// The gateway has not welcomed the player yet.
    Connecting,
    /// In the world. Its gateway may be silent at the moment; see [`Connector::silent_since`].
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

/// A link to another gateway, beside the one that fell silent.
struct Candidate {
    link: Entity,
    session: Session,
    deadline: Instant,
    /// It ended before it was of any use.
    failed: bool,
    welcome: Option<Welcome>,
    owner_zone: Option<OwnerZone>,
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
    /// Connections that broke, or were given up for another gateway's.
    pub disconnects: u64,
    /// Of these, those that another gateway took over before they had ended.
    pub takeovers: u64,
    /// How often the own player's entity was another than before, within a connection.
    pub respawns: u64,
    server_url: Option<String>,
    name: String,
    /// What the next session is asked for with.
    resume: Option<Resume>,
    renewal: Renewal,
    known_world: Option<(String, Arc<WorldDefinition>)>,
    link: Option<Entity>,
    /// The gateway at the other end of the link.
    gateway: Option<SocketAddr>,
    /// The gateway that the last connection was lost to, until another one has welcomed the player.
    lost_gateway: Option<SocketAddr>,
    candidate: Option<Candidate>,
    silent_since: Option<Instant>,
    welcomed_at: Option<Instant>,
    /// Links that are left, until their goodbyes are sent.
    leaving: Vec<(Entity, Instant)>,
    /// Links that are to be left.
    left: Vec<Entity>,
    /// Whether what was shown of the world is to stay in sight when a link ends.
    shows_world: bool,
    /// The last entity that was the own player of this connection.
    own: Option<Entity>,
    deadline: Instant,
    retry_at: Option<Instant>,
    /// Whether a session is to be asked for at once.
    asks: bool,
    attempt: u32,
    /// Tries that were put off since the last one that was not.
    delays: u32,
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
            takeovers: 0,
            respawns: 0,
            server_url,
            name,
            resume: None,
            renewal: Renewal::default(),
            known_world: None,
            link: None,
            gateway: None,
            lost_gateway: None,
            candidate: None,
            silent_since: None,
            welcomed_at: None,
            leaving: Vec::new(),
            left: Vec::new(),
            shows_world: false,
            own: None,
            deadline: now + CONNECT_TIMEOUT,
            retry_at: None,
            asks: false,
            attempt: 0,
            delays: 0,
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
        (self.attempt, self.delays) = (0, 0);
        self.asks = true;
    }

    /// Ends the connection and wants no other. The gateway is told, and the next session is another player's.
    pub fn leave(&mut self) {
        self.left.extend(self.link.take());
        self.left.extend(self.candidate.take().map(|candidate| candidate.link));
        self.requested = None;
        self.retry_at = None;
        self.asks = false;
        (self.resume, self.gateway, self.lost_gateway) = (None, None, None);
        self.renewal = Renewal::default();
        self.shows_world = false;
        self.forget_world();
        self.state = ConnectionState::Idle;
    }

    /// When a broken connection is tried again.
    pub fn retries_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Tries a broken connection again now.
    pub fn retry_now(&mut self) {
        self.asks |= self.retry_at.is_some();
    }

    /// Since when nothing was heard of the gateway, while playing, if that is long enough for another one to be sought.
    pub fn silent_since(&self) -> Option<Instant> {
        self.silent_since
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

    /// The gateway that the player is played through.
    pub fn gateway(&self) -> Option<SocketAddr> {
        self.gateway.filter(|_| self.link.is_some())
    }

    /// When a gateway welcomed the player last.
    pub(crate) fn welcomed_at(&self) -> Option<Instant> {
        self.welcomed_at
    }

    /// Whether what was shown is to stay in sight for a while when a link ends: the player wants to be back in that world.
    pub(crate) fn shows_world(&self) -> bool {
        self.shows_world
    }

    fn is_over(&self) -> bool {
        matches!(self.state, ConnectionState::Idle | ConnectionState::Refused { .. })
    }

    fn forget_world(&mut self) {
        self.welcome = None;
        self.owner_zone = None;
        self.silent_since = None;
    }

    fn refuse(&mut self, reason: String) {
        self.shows_world = false;
        self.state = ConnectionState::Refused { reason };
    }

    /// What the next session gives is of use for the one after it.
    fn note_session(&mut self, session: &Session) {
        self.resume.clone_from(&session.resume);
        self.renewal = Renewal::default();
        self.known_world = Some((session.world_hash.clone(), Arc::clone(&session.world)));
    }

    pub(crate) fn owned_by(&mut self, zone: OwnerZone) {
        self.owner_changes += u64::from(self.owner_zone.is_some_and(|before| before != zone));
        self.owner_zone = Some(zone);
    }

    /// Whether a link is the one that is wanted: what the last words on others say is of no account.
    pub(crate) fn listens_to(&self, link: Entity) -> bool {
        self.link == Some(link)
    }

    /// What the gateway at the end of another link says, if it is the one that is sought while this one is silent.
    pub(crate) fn candidate_says(&mut self, link: Entity, welcome: Option<Welcome>, zone: Option<OwnerZone>) {
        if let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.link == link) {
            candidate.welcome = welcome.or(candidate.welcome);
            candidate.owner_zone = zone.or(candidate.owner_zone);
        }
    }

    pub(crate) fn welcomed(&mut self, welcome: Welcome, now: Instant) {
        tracing::debug!(name = self.name, ?welcome, "welcome");
        self.welcome = Some(welcome);
        self.state = ConnectionState::Playing;
        self.attempt = 0;
        self.retry_at = None;
        self.requested = None;
        self.lost_gateway = None;
        self.silent_since = None;
        self.shows_world = true;
        self.welcomed_at = Some(now);
    }

    /// Notes which entity of the client's world the own player is. Others' may look like it for the moments in which they leave.
    pub(crate) fn see_own(&mut self, entity: Entity, identity: WorldEntityId) {
        if self.welcome.is_some_and(|welcome| welcome.entity == identity) {
            let before = self.own.replace(entity);
            self.respawns += u64::from(before.is_some_and(|before| before != entity));
        }
    }

    fn broke(&mut self, reason: String, now: Instant) {
        let mut had_held = false;
        if matches!(self.state, ConnectionState::Playing) {
            self.disconnects += 1;
            self.attempt = 0;
            let played = self.welcomed_at.map(|at| now.saturating_duration_since(at));
            had_held = played.is_some_and(|played| played >= HELD_MIN);
            self.delays = if had_held { 0 } else { self.delays };
        }
        tracing::warn!(name = self.name, reason, "connection lost");
        self.lost_gateway = self.gateway.or(self.lost_gateway);
        self.forget_world();
        self.attempt += 1;
        self.state = ConnectionState::Reconnecting {
            attempt: self.attempt,
            reason,
        };
        let delay = if had_held { Duration::ZERO } else { self.next_delay() };
        self.retry_at = Some(now + delay);
    }

    /// How long to wait before the next try; longer each time.
    fn next_delay(&mut self) -> Duration {
        let (first, longest) = RECONNECT_AFTER;
        let delay = first.saturating_mul(1 << self.delays.min(8)).min(longest);
        self.delays += 1;
        delay
    }

    /// What the next session is asked for with, if there is a server to ask.
    fn query(&self) -> Option<SessionQuery> {
        Some(SessionQuery {
            server_url: self.server_url.clone()?,
            name: self.name.clone(),
            resume: self.resume.as_ref().map(|resume| resume.secret.clone()),
            // While playing it is the one that fell silent.
            lost_gateway: self.lost_gateway.or(self.gateway),
            known_world: self.known_world.clone(),
        })
    }
}

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<SessionProvider>();
    app.add_observer(supervision::note_disconnect);
    app.add_systems(Last, supervision::supervise);
    stash::plugin(app);
}

/// Whether the app is in the world.
pub(crate) fn playing(connector: Option<Res<Connector>>) -> bool {
    connector.is_some_and(|connector| connector.state == ConnectionState::Playing)
}

/// Filter for the link's entity.
pub(crate) type IsLink = With<ReplicationReceiver>;

#[cfg(test)]
mod tests {
    use bevy::ecs::world::World;
    use meridian_ids::{PlayerId, Tick, TickRate};

    use super::*;

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
        let welcome = Welcome {
            player: PlayerId(1),
            entity: own,
            base_tick: Tick(1_000),
            tick_rate: TickRate::default(),
            gateway: 1,
        };
        connector.welcomed(welcome, Instant::now());
        connector.see_own(first, own);
        connector.see_own(first, own);
        connector.see_own(second, other);
        assert_eq!(connector.respawns, 0);
        connector.see_own(second, own);
        assert_eq!(connector.respawns, 1);
    }

    #[test]
    fn what_had_held_is_tried_again_at_once_and_then_less_and_less_often() {
        let start = Instant::now();
        let mut connector = Connector::new(Some("memory".to_owned()), "bot-1".to_owned(), start);
        connector.state = ConnectionState::Playing;
        connector.welcomed_at = Some(start);
        let now = start + HELD_MIN;
        let mut waits = Vec::new();
        for _ in 0..7 {
            connector.broke("the server does not answer any more".to_owned(), now);
            waits.push(connector.retries_at().unwrap() - now);
        }
        let seconds: Vec<f64> = waits.iter().map(Duration::as_secs_f64).collect();
        assert_eq!(seconds, [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]);
        // One that ends as soon as it is there does not come back at once, over and over.
        connector.state = ConnectionState::Playing;
        connector.welcomed_at = Some(now);
        connector.broke("the server ended the connection".to_owned(), now);
        assert_eq!(connector.retries_at(), Some(now + RECONNECT_AFTER.1));
    }
}
