//! Bots of a test: headless clients over UDP on loopback, driven by the test's own thread.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use meridian_client_net::{
    ClientStats, ConnectionState, HeadlessClient, HeadlessOptions, Session, SessionQuery, request_session,
};
use meridian_link::{PolledUdp, bind_udp};
use meridian_loadgen::swarm::demo_game;

use crate::support::{PATIENCE, Server};

/// Between two looks at the bots' sockets: far less than a tick.
const DRIVE_INTERVAL: Duration = Duration::from_millis(1);

/// A player without a window. It asks for no second session: a connection that breaks stays broken, and is seen.
pub struct Bot {
    client: HeadlessClient,
}

impl Bot {
    /// A guest with a session of its own that begins to connect.
    pub fn join(server: &Server, name: &str) -> Self {
        Self::with_session(&guest_session(server, name))
    }

    /// A bot that begins to connect with this session, whatever its token is worth.
    pub fn with_session(session: &Session) -> Self {
        let socket = bind_udp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let io = PolledUdp::new(socket).unwrap();
        let options = HeadlessOptions {
            predict: false,
            interpolate: false,
            server_url: None,
            watch_borders: None,
            game: demo_game(),
        };
        Self {
            client: HeadlessClient::new(options, session, Box::new(io), Instant::now()),
        }
    }

    pub fn is_playing(&self) -> bool {
        *self.state() == ConnectionState::Playing
    }

    pub fn state(&self) -> &ConnectionState {
        self.client.state()
    }

    pub fn stats(&self) -> ClientStats {
        self.client.stats()
    }
}

/// What `POST /v1/session` gives a guest.
pub fn guest_session(server: &Server, name: &str) -> Session {
    request_session(&SessionQuery::guest(&server.url("http", ""), name)).unwrap()
}

/// Lets every bot do what is due, once.
pub fn drive(bots: &mut [Bot]) {
    for bot in bots.iter_mut() {
        bot.client.update(Instant::now());
    }
    std::thread::sleep(DRIVE_INTERVAL);
}

/// Drives the bots until a condition holds.
pub fn drive_until(bots: &mut [Bot], what: &str, mut holds: impl FnMut(&[Bot]) -> bool) {
    let began_at = Instant::now();
    while !holds(&*bots) {
        assert!(
            began_at.elapsed() < PATIENCE,
            "waited in vain for {what}; the bots: {:?}",
            bots.iter().map(Bot::state).collect::<Vec<_>>()
        );
        drive(bots);
    }
}

/// Drives the bots until all of them are in the world.
pub fn drive_until_all_play(bots: &mut [Bot]) {
    drive_until(bots, "all bots to be in the world", |bots| {
        bots.iter().all(Bot::is_playing)
    });
}

/// Drives the bots until the server has applied half a second's worth of inputs more, and no connection of theirs broke.
pub fn assert_they_play_on(server: &Server, bots: &mut [Bot]) {
    let applied = || server.metric("meridian_inputs_total", &[("outcome", "applied")]);
    let before = applied();
    drive_until(bots, "further inputs to be applied", |_| applied() >= before + 30.0);
    for bot in bots.iter() {
        assert!(bot.is_playing() && bot.stats().disconnects == 0, "{:?}", bot.state());
    }
}
