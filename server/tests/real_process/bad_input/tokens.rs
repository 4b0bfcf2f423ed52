//! Connect tokens that must not open the door.

use std::ops::Range;

use lightyear::netcode::ConnectToken;
use meridian_client_net::Session;
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
    let server = Server::start_every_role(&format!("[netcode]\nprivate_key = \"{NETCODE_KEY}\"\n"));
    let bad = bad_sessions(&server);
    let mut bots: Vec<Bot> = bad.iter().map(|(_, session)| Bot::with_session(session)).collect();
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
    for ((what, _), bot) in bad.iter().zip(&bots) {
        assert!(!bot.is_playing(), "{what} got in");
        assert_eq!(bot.stats().link.packets_in, 0, "{what} was answered");
    }
    assert_eq!(server.metric("meridian_gateway_clients", &[]), 2.0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Sessions whose tokens have one fault each, and which.
fn bad_sessions(server: &Server) -> [(&'static str, Session); 4] {
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
        ("a token of another key", another_key.session(server, "another key")),
        (
            "a token of another version",
            another_version.session(server, "another version"),
        ),
        ("an expired token", expired),
        ("a corrupted token", corrupted),
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
