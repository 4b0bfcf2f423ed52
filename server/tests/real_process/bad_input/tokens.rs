//! Connect tokens that must not open the door.

use std::ops::Range;

use lightyear::netcode::ConnectToken;
use meridian_client_net::{ConnectionState, Session};
use meridian_runtime::SecretKey;
use meridian_session::{NETCODE_PROTOCOL_ID, PROTOCOL_VERSION, TokenUserData, netcode_protocol_id};

use crate::{
    bot::{Bot, drive_until, guest_session},
    support::{NETCODE_KEY, Server},
};

/// Where a token says, in the clear, when it was made (netcode 1.02: after version 13 and protocol id 8).
const CREATED_AT: Range<usize> = 21..29;
/// A byte of the sealed part, which begins at 61.
const SEALED_BYTE: usize = 161;

#[test]
fn only_a_good_token_opens_the_door() {
    let server = server();
    let bad = bad_sessions(&server);
    let mut bots: Vec<Bot> = bad.iter().map(|bad| Bot::with_session(&bad.session)).collect();
    drive_until(&mut bots, "every bad token to be sent", |bots| {
        bots.iter().all(|bot| bot.stats().link.packets_out > 0)
    });

    // Made in this file as the bad ones are, but with nothing wrong: so it is their one fault that keeps those out.
    bots.push(Bot::with_session(&Seal::default().session(&server, "made here")));
    bots.push(Bot::join(&server, "guest"));
    drive_until(&mut bots, "the good ones to have played for a second", |bots| {
        let good = &bots[bad.len()..];
        good.iter().all(|bot| bot.is_playing() && bot.stats().inputs_sent > 60)
    });
    for (BadSession { what, .. }, bot) in bad.iter().zip(&bots) {
        assert!(!bot.is_playing(), "{what} got in");
        assert_eq!(bot.stats().link.packets_in, 0, "{what} was answered");
    }
    assert_eq!(server.metric("meridian_gateway_clients", &[]), 2.0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn what_is_wrong_with_a_token_is_counted_and_logged_and_its_bearer_hears_what_it_may_be() {
    let server = server();
    let mut bots = Vec::new();
    for BadSession { what, reason, session } in bad_sessions(&server) {
        let dropped = || server.metric("meridian_link_dropped_total", &[("reason", reason)]);
        let before = dropped();
        bots = vec![Bot::with_session(&session)];
        drive_until(&mut bots, &format!("{what} to be counted as {reason}"), |_| {
            dropped() > before
        });
    }
    let log = server.log();
    for (reason, advice) in [
        ("bad_seal", "netcode.private_key"),
        ("other_version", "update the older one"),
        ("expired_token", "compare the clocks"),
    ] {
        let told: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("connection requests are refused") && line.contains(reason))
            .collect();
        assert!(told.len() == 1 && told[0].contains(advice), "{reason}: {log}");
    }

    let mut heard = String::new();
    drive_until(&mut bots, "the last one to give up", |bots| {
        if let ConnectionState::Reconnecting { reason, .. } = bots[0].state() {
            heard.clone_from(reason);
        }
        !heard.is_empty()
    });
    assert!(heard.contains("token") && heard.contains("version"), "{heard}");
}

fn server() -> Server {
    Server::start_every_role(&format!("[netcode]\nprivate_key = \"{NETCODE_KEY}\"\n"))
}

/// A session whose token has one fault.
struct BadSession {
    what: &'static str,
    /// The `reason` by which its requests count.
    reason: &'static str,
    session: Session,
}

/// A session for each fault. Two that count by one reason do not follow each other.
fn bad_sessions(server: &Server) -> [BadSession; 4] {
    let another_key = Seal {
        key: [1; 32],
        ..Seal::default()
    };
    let another_version = Seal {
        protocol_id: netcode_protocol_id(PROTOCOL_VERSION + 1),
        ..Seal::default()
    };
    let at_once = Seal {
        expire_s: 0,
        ..Seal::default()
    };
    let mut expired = at_once.session(server, "expired");
    // Taken for long-lived by the client, which would not even send it otherwise. The expiry itself is sealed.
    expired.token[CREATED_AT].fill(0);
    let mut corrupted = guest_session(server, "corrupted");
    corrupted.token[SEALED_BYTE] ^= 1;
    [
        BadSession {
            what: "a token of another key",
            reason: "bad_seal",
            session: another_key.session(server, "another key"),
        },
        BadSession {
            what: "a token of another version",
            reason: "other_version",
            session: another_version.session(server, "another version"),
        },
        BadSession {
            what: "an expired token",
            reason: "expired_token",
            session: expired,
        },
        BadSession {
            what: "a corrupted token",
            reason: "bad_seal",
            session: corrupted,
        },
    ]
}

/// How a token is sealed; by default as `auth` does it.
struct Seal {
    key: [u8; 32],
    protocol_id: u64,
    expire_s: i32,
}

impl Default for Seal {
    fn default() -> Self {
        let key: SecretKey = NETCODE_KEY.parse().unwrap();
        Self {
            key: *key.expose(),
            protocol_id: NETCODE_PROTOCOL_ID,
            expire_s: 30,
        }
    }
}

impl Seal {
    /// A guest's session with a token of this seal in place of the one that `auth` gave out.
    fn session(&self, server: &Server, name: &str) -> Session {
        let session = guest_session(server, name);
        let user_data = TokenUserData::new(session.player.0, name).unwrap().encode();
        // A player's id is as good a client id as any: no other token has it.
        let token = ConnectToken::build(session.gateway, self.protocol_id, session.player.0, self.key)
            .user_data(user_data)
            .expire_seconds(self.expire_s)
            .timeout_seconds(5)
            .generate()
            .unwrap();
        Session {
            token: token.try_into_bytes().unwrap().to_vec(),
            ..session
        }
    }
}
