//! Who may cost a link: only who brings a token that auth has sealed. Whoever does not is counted and logged, and never answered: an answer would
//! be sent wherever the request says that it comes from.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chacha20poly1305::{AeadInPlace, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use meridian_session::{
    NETCODE_NONCE_BYTES as NONCE_BYTES, NETCODE_PRIVATE_BYTES as PRIVATE_BYTES, NETCODE_PROTOCOL_ID,
    NETCODE_TAG_BYTES as TAG_BYTES, NETCODE_VERSION as VERSION, netcode_additional_data,
};

/// How long a reason that was logged is only counted: strangers decide how many requests there are.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Why a connection request is not worth a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It is of another version of netcode or of the protocol, or of another game.
    OtherVersion,
    /// The time of its token is up.
    ExpiredToken,
    /// What it holds in place of a token was not sealed with this key, or was changed since.
    BadSeal,
}

/// How many variants [`Refusal`] has.
const REFUSALS: usize = 3;

impl Refusal {
    /// The `reason` by which it is counted.
    fn label(self) -> &'static str {
        match self {
            Self::OtherVersion => "other_version",
            Self::ExpiredToken => "expired_token",
            Self::BadSeal => "bad_seal",
        }
    }

    /// What to do if these are players.
    fn advice(self) -> &'static str {
        match self {
            Self::OtherVersion => "if these are players, update the older one of client and server",
            Self::ExpiredToken => {
                "if these are players, compare the clocks of auth and this gateway, and see auth.token_expiry_s"
            }
            Self::BadSeal => "if these are players, give auth and every gateway the same netcode.private_key",
        }
    }
}

/// What the log was told of one reason.
#[derive(Clone, Copy, Debug, Default)]
struct Logged {
    at: Option<Instant>,
    /// Refusals since then.
    since: u64,
}

impl Logged {
    /// Counts a refusal. If the log is to be told: how many there were since the last time.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        let is_due = self
            .at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOGGED_EVERY);
        is_due.then(|| {
            self.at = Some(now);
            std::mem::take(&mut self.since)
        })
    }
}

/// Decides which connection requests are worth a link.
pub(crate) struct Admission {
    key: [u8; 32],
    logged: Mutex<[Logged; REFUSALS]>,
}

impl Admission {
    /// Lets in whoever has a token that was sealed with `key`.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            logged: Mutex::default(),
        }
    }

    /// Whether a netcode connection request holds a token of this game that has not expired and was sealed with the key; if it does not, the `reason`
    /// by which it is counted. Each is logged once a minute.
    ///
    /// netcode checks that as well, but only once there is a link; a stranger's request is not to cost one.
    pub(crate) fn admit(&self, peer: SocketAddr, request: &[u8]) -> Result<(), &'static str> {
        open(request, &self.key, unix_now_s()).map_err(|refusal| {
            self.log(peer, refusal);
            refusal.label()
        })
    }

    fn log(&self, peer: SocketAddr, refusal: Refusal) {
        let due = {
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged[refusal as usize].count(Instant::now())
        };
        if let Some(refused) = due {
            let (reason, advice) = (refusal.label(), refusal.advice());
            tracing::warn!(%peer, reason, refused, advice, "connection requests are refused");
        }
    }
}

/// The parts of a connection request.
struct Request<'a> {
    version: &'a [u8; VERSION.len()],
    protocol: u64,
    expiry_s: u64,
    nonce: &'a [u8; NONCE_BYTES],
    private: &'a [u8; PRIVATE_BYTES],
}

impl<'a> Request<'a> {
    /// Prefix 1, version 13, protocol id 8, expiry 8, nonce 24, private part 1,024.
    fn parse(request: &'a [u8]) -> Option<Self> {
        let (_prefix, rest) = request.split_at_checked(1)?;
        let (version, rest) = rest.split_first_chunk()?;
        let (protocol, rest) = rest.split_first_chunk()?;
        let (expiry, rest) = rest.split_first_chunk()?;
        let (nonce, private) = rest.split_first_chunk()?;
        Some(Self {
            version,
            protocol: u64::from_be_bytes(*protocol),
            expiry_s: u64::from_be_bytes(*expiry),
            nonce,
            private: private.try_into().ok()?,
        })
    }
}

fn open(request: &[u8], key: &[u8; 32], now_s: u64) -> Result<(), Refusal> {
    let request = Request::parse(request).ok_or(Refusal::BadSeal)?;
    // What costs nothing comes first.
    if request.version != VERSION || request.protocol != NETCODE_PROTOCOL_ID {
        return Err(Refusal::OtherVersion);
    }
    if request.expiry_s <= now_s {
        return Err(Refusal::ExpiredToken);
    }
    let (sealed, tag) = request.private.split_at(PRIVATE_BYTES - TAG_BYTES);
    let opened = XChaCha20Poly1305::new(key.into()).decrypt_in_place_detached(
        XNonce::from_slice(request.nonce),
        &netcode_additional_data(request.protocol, request.expiry_s),
        &mut sealed.to_vec(),
        Tag::from_slice(tag),
    );
    opened.map_err(|_| Refusal::BadSeal)
}

fn unix_now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use lightyear::netcode::ConnectToken;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    /// The request that a client makes of its token: the parts of the token that the server needs.
    fn request(protocol: u64, expires_in_s: i32) -> Vec<u8> {
        let server = SocketAddr::from(([127, 0, 0, 1], 7_700));
        let token = ConnectToken::build(server, protocol, 9, KEY)
            .expire_seconds(expires_in_s)
            .generate()
            .unwrap();
        let token = token.try_into_bytes().unwrap();
        // Version 13, protocol 8, creation 8, expiry 8, nonce 24, private part 1,024.
        [&[0], &token[..21], &token[29..37], &token[37..61], &token[61..1_085]].concat()
    }

    #[test]
    fn only_a_token_that_auth_sealed_opens_the_door() {
        let opened = |request: &[u8], key: &[u8; 32]| open(request, key, unix_now_s());
        let good = request(NETCODE_PROTOCOL_ID, 30);
        assert_eq!(opened(&good, &KEY), Ok(()));
        assert_eq!(opened(&good, &[8; 32]), Err(Refusal::BadSeal), "another key");
        let another_game = request(NETCODE_PROTOCOL_ID + 1, 30);
        assert_eq!(opened(&another_game, &KEY), Err(Refusal::OtherVersion));
        let expired = request(NETCODE_PROTOCOL_ID, 0);
        assert_eq!(opened(&expired, &KEY), Err(Refusal::ExpiredToken));
        for (index, refused) in [
            // The prefix is not part of the seal; the link plugin looks at it.
            (0, Ok(())),
            (5, Err(Refusal::OtherVersion)),
            (20, Err(Refusal::OtherVersion)),
            (25, Err(Refusal::BadSeal)),
            (40, Err(Refusal::BadSeal)),
            (100, Err(Refusal::BadSeal)),
            (1_077, Err(Refusal::BadSeal)),
        ] {
            let mut forged = good.clone();
            forged[index] ^= 1;
            assert_eq!(opened(&forged, &KEY), refused, "byte {index}");
        }
        for length in [0, 1, 21, 54, 1_077] {
            assert_eq!(opened(&good[..length], &KEY), Err(Refusal::BadSeal), "{length} bytes");
        }
    }

    #[test]
    fn a_reason_is_logged_once_a_minute_with_how_often_it_was_met() {
        let (mut logged, now) = (Logged::default(), Instant::now());
        assert_eq!(logged.count(now), Some(1));
        assert!((0..99).all(|_| logged.count(now + LOGGED_EVERY / 2).is_none()));
        assert_eq!(logged.count(now + LOGGED_EVERY), Some(100));
        assert_eq!(logged.count(now + LOGGED_EVERY), None);
    }

    #[test]
    fn each_refusal_is_counted_by_a_reason_and_logged_on_its_own() {
        let (admission, peer) = (Admission::new(KEY), SocketAddr::from(([192, 0, 2, 1], 7)));
        let requests = [
            (request(NETCODE_PROTOCOL_ID + 1, 30), Err("other_version")),
            (request(NETCODE_PROTOCOL_ID, 0), Err("expired_token")),
            (vec![0; 1_078], Err("other_version")),
            (request(NETCODE_PROTOCOL_ID, 30), Ok(())),
        ];
        for (request, refused) in requests {
            assert_eq!(admission.admit(peer, &request), refused);
        }
        let logged = admission.logged.lock().unwrap();
        let since = [Refusal::OtherVersion, Refusal::ExpiredToken, Refusal::BadSeal].map(|of| logged[of as usize]);
        assert_eq!(
            since.map(|logged| (logged.at.is_some(), logged.since)),
            [(true, 1), (true, 0), (false, 0)]
        );
    }
}
