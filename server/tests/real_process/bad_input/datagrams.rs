//! Datagrams at the gateway that no client sends.

use std::net::{SocketAddr, UdpSocket};

use meridian_link::{DATAGRAM_BYTES_MAX, plugin::is_connection_request};

use crate::{
    bot::{Bot, assert_they_play_on, drive, drive_until, drive_until_all_play, guest_session},
    noise::{CONNECTION_REQUEST_BYTES, Noise},
    support::{Server, get, wait_until},
};

/// Random datagrams that one test sends.
const DATAGRAMS: usize = 20_000;
/// Datagrams sent in a row: few enough for the smallest kernel buffer to hold.
const BURST: usize = 50;
/// Sockets that they come from; every second one sends what looks like a request to connect, and so gets a link.
const STRANGERS: usize = 8;
/// Larger than what is taken, and nearly what UDP can carry.
const HUGE_BYTES: usize = 65_000;

#[test]
fn noise_at_the_gateway_disturbs_nobody() {
    let server = Server::start_every_role("");
    let gateway = gateway(&server);
    let mut bots = vec![Bot::join(&server, "player")];
    drive_until_all_play(&mut bots);

    let strangers: Vec<UdpSocket> = (0..STRANGERS).map(|_| socket()).collect();
    let mut noise = Noise::new(1);
    for index in 0..DATAGRAMS {
        let mut datagram = noise.datagram();
        if index.is_multiple_of(2) && is_connection_request(&datagram) {
            datagram[0] = 1;
        }
        strangers[index % STRANGERS].send_to(&datagram, gateway).unwrap();
        if index.is_multiple_of(BURST) {
            drive(&mut bots);
        }
        if index.is_multiple_of(10 * BURST) {
            strangers[0].send_to(&[0x5a; HUGE_BYTES], gateway).unwrap();
        }
    }
    // A tenth of what was sent: the kernel may lose the rest on a slow machine.
    for (reason, at_least) in [("stranger", 1_000.0), ("oversized", 4.0)] {
        drive_until(&mut bots, "the noise to be counted", |_| {
            server.metric("meridian_link_dropped_total", &[("reason", reason)]) >= at_least
        });
    }
    assert_they_play_on(&server, &mut bots);
    bots.push(Bot::join(&server, "newcomer"));
    drive_until_all_play(&mut bots);
    assert_eq!(get(&server.url("admin", "/ready")).status, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Whoever has a token is known to the gateway, and its datagrams are read further than a stranger's.
#[test]
fn noise_of_a_guest_with_a_token_disturbs_nobody() {
    let mut server = Server::start_every_role("");
    let mut bots = vec![Bot::join(&server, "player")];
    drive_until_all_play(&mut bots);

    let guest = known_guest(&server);
    let mut noise = Noise::new(2);
    for first in 0..=u8::MAX {
        for length in [1, 2, 16, 17, 25, 26, 64, CONNECTION_REQUEST_BYTES, DATAGRAM_BYTES_MAX] {
            let mut datagram = noise.bytes(length);
            datagram[0] = first;
            guest.send(&datagram).unwrap();
        }
        drive(&mut bots);
    }
    assert_they_play_on(&server, &mut bots);
    assert_eq!(server.stop_with("TERM").code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Strangers decide how many there are, so none may cost a line each.
#[test]
fn requests_with_a_bad_token_do_not_fill_the_log() {
    let server = Server::start_every_role("");
    let (gateway, stranger, mut noise) = (gateway(&server), socket(), Noise::new(3));
    wait_until("two thousand requests to be received", || {
        for _ in 0..BURST {
            stranger.send_to(&noise.connection_request(), gateway).unwrap();
        }
        server.metric("meridian_link_packets_total", &[("direction", "in")]) >= 2_000.0
    });
    let mut bots = [Bot::join(&server, "after them")];
    drive_until_all_play(&mut bots);
    let log = server.log();
    let lines = log.lines().count();
    assert!(lines < 200, "{lines} lines");
    let warnings = log.matches("connection requests are refused").count();
    assert!((1..=3).contains(&warnings), "{warnings} warnings: one a minute");
}

fn gateway(server: &Server) -> SocketAddr {
    server.address("gateway").parse().unwrap()
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// The socket of a guest that showed its token and was asked to prove it: the gateway has keys for it from now on.
fn known_guest(server: &Server) -> UdpSocket {
    let session = guest_session(server, "raw");
    let token = &session.token;
    // Of the token: version and protocol id; not when it was made; expiry, nonce and the sealed part.
    let request = [&[0][..], &token[..21], &token[29..1_085]].concat();
    assert!(is_connection_request(&request));
    let socket = socket();
    socket.connect(session.gateway).unwrap();
    socket.set_nonblocking(true).unwrap();
    wait_until("a challenge", || {
        socket.send(&request).unwrap();
        socket.recv(&mut [0; DATAGRAM_BYTES_MAX]).is_ok()
    });
    socket
}
