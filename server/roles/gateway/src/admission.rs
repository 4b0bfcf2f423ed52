//! Who may cost a link: only who brings a token that auth has sealed.

use std::time::{SystemTime, UNIX_EPOCH};

use chacha20poly1305::{AeadInPlace, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use meridian_session::{
    NETCODE_NONCE_BYTES as NONCE_BYTES, NETCODE_PRIVATE_BYTES as PRIVATE_BYTES, NETCODE_PROTOCOL_ID,
    NETCODE_TAG_BYTES as TAG_BYTES, NETCODE_VERSION as VERSION, netcode_additional_data,
};

/// Whether a netcode connection request holds a token of this game that has not expired and was sealed with `key`.
///
/// netcode checks that as well, but only once there is a link; a stranger's request is not to cost one.
pub(crate) fn is_sealed(request: &[u8], key: &[u8; 32]) -> bool {
    opens(request, key, unix_now_s()).is_some()
}

fn opens(request: &[u8], key: &[u8; 32], now_s: u64) -> Option<()> {
    // Prefix 1, version 13, protocol id 8, expiry 8, nonce 24, private part 1,024.
    let (_prefix, rest) = request.split_at_checked(1)?;
    let (version, rest) = rest.split_first_chunk()?;
    let (protocol, rest) = rest.split_first_chunk()?;
    let (expiry, rest) = rest.split_first_chunk()?;
    let (nonce, private) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (protocol, expiry) = (u64::from_be_bytes(*protocol), u64::from_be_bytes(*expiry));
    // What costs nothing comes first.
    let may_be_good = version == VERSION && protocol == NETCODE_PROTOCOL_ID && expiry > now_s;
    if !may_be_good || private.len() != PRIVATE_BYTES {
        return None;
    }
    let (sealed, tag) = private.split_at(PRIVATE_BYTES - TAG_BYTES);
    let opened = XChaCha20Poly1305::new(key.into()).decrypt_in_place_detached(
        XNonce::from_slice(nonce),
        &netcode_additional_data(protocol, expiry),
        &mut sealed.to_vec(),
        Tag::from_slice(tag),
    );
    opened.ok()
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
        let good = request(NETCODE_PROTOCOL_ID, 30);
        assert!(is_sealed(&good, &KEY));
        assert!(!is_sealed(&good, &[8; 32]), "another key");
        assert!(!is_sealed(&request(NETCODE_PROTOCOL_ID + 1, 30), &KEY), "another game");
        assert!(!is_sealed(&request(NETCODE_PROTOCOL_ID, 0), &KEY), "expired");
        for index in [0, 5, 20, 25, 40, 100, 1_077] {
            let mut forged = good.clone();
            forged[index] ^= 1;
            // The prefix is not part of the seal; the link plugin looks at it.
            assert_eq!(is_sealed(&forged, &KEY), index == 0, "byte {index}");
        }
        for length in [0, 1, 21, 54, 1_077] {
            assert!(!is_sealed(&good[..length], &KEY));
        }
    }
}
