//! Connect tokens of netcode 1.02 (`STANDARD.md` of the netcode project, "Connect Token"), as lightyear reads them: field by field
//! the standard's, but with integers in network byte order where the standard has them little-endian.

use std::net::SocketAddr;
use std::time::Duration;

use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305, XNonce};
use meridian_runtime::SecretKey;
use meridian_session::{
    CONNECT_TOKEN_BYTES, NETCODE_NONCE_BYTES as NONCE_BYTES, NETCODE_PRIVATE_BYTES as PRIVATE_BYTES,
    NETCODE_PROTOCOL_ID, NETCODE_TAG_BYTES as TAG_BYTES, NETCODE_VERSION as VERSION, TokenUserData,
    netcode_additional_data,
};
use rand::Rng;

const SESSION_KEY_BYTES: usize = 32;

/// Makes connect tokens with one key.
pub(crate) struct ConnectTokenIssuer<'a> {
    pub(crate) netcode_key: &'a SecretKey,
    pub(crate) expiry_s: u32,
    pub(crate) connection_timeout_s: u32,
}

/// A token and what it says in the clear.
pub(crate) struct IssuedToken {
    pub(crate) bytes: [u8; CONNECT_TOKEN_BYTES],
    pub(crate) expires_at_unix_s: u64,
}

impl ConnectTokenIssuer<'_> {
    /// Makes a token for one client and one gateway. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// The token could not be sealed.
    pub(crate) fn issue(
        &self,
        now: Duration,
        client_id: u64,
        gateway: SocketAddr,
        user_data: &TokenUserData,
    ) -> Result<IssuedToken, TokenError> {
        let expires_at_unix_s = now.as_secs() + u64::from(self.expiry_s);
        let timeout_s = i32::try_from(self.connection_timeout_s)
            .unwrap_or(i32::MAX)
            .to_be_bytes();
        let mut random = rand::rng();
        let mut nonce = [0; NONCE_BYTES];
        random.fill_bytes(&mut nonce);
        let mut session_keys = [0; 2 * SESSION_KEY_BYTES];
        random.fill_bytes(&mut session_keys);
        let addresses = address_list(gateway);

        let mut private = Vec::with_capacity(PRIVATE_BYTES);
        private.extend(client_id.to_be_bytes());
        private.extend(timeout_s);
        private.extend(&addresses);
        private.extend(session_keys);
        private.extend(user_data.encode());
        private.resize(PRIVATE_BYTES - TAG_BYTES, 0);
        self.seal(&mut private, &nonce, expires_at_unix_s)?;

        let mut token = Vec::with_capacity(CONNECT_TOKEN_BYTES);
        token.extend(VERSION);
        token.extend(NETCODE_PROTOCOL_ID.to_be_bytes());
        token.extend(now.as_secs().to_be_bytes());
        token.extend(expires_at_unix_s.to_be_bytes());
        token.extend(nonce);
        token.extend(private);
        token.extend(timeout_s);
        token.extend(&addresses);
        token.extend(session_keys);
        token.resize(CONNECT_TOKEN_BYTES, 0);
        let bytes = token.try_into().map_err(|_| TokenError)?;
        Ok(IssuedToken {
            bytes,
            expires_at_unix_s,
        })
    }

    /// Encrypts the private part in place and appends its tag; version, protocol and expiry are authenticated with it.
    fn seal(&self, private: &mut Vec<u8>, nonce: &[u8; NONCE_BYTES], expires_at_unix_s: u64) -> Result<(), TokenError> {
        let additional_data = netcode_additional_data(NETCODE_PROTOCOL_ID, expires_at_unix_s);
        let tag = XChaCha20Poly1305::new(self.netcode_key.expose().into())
            .encrypt_in_place_detached(XNonce::from_slice(nonce), &additional_data, private)
            .map_err(|_| TokenError)?;
        private.extend(tag);
        Ok(())
    }
}

/// A list of one address: its length, then its kind (1 for IPv4, 2 for IPv6), octets and port.
fn address_list(gateway: SocketAddr) -> Vec<u8> {
    let mut list = 1_u32.to_be_bytes().to_vec();
    match gateway {
        SocketAddr::V4(address) => {
            list.push(1);
            list.extend(address.ip().octets());
        }
        SocketAddr::V6(address) => {
            list.push(2);
            list.extend(address.ip().octets());
        }
    }
    list.extend(gateway.port().to_be_bytes());
    list
}

/// A token could not be sealed: a broken invariant, for its parts have fixed lengths.
#[derive(Debug, thiserror::Error)]
#[error("the connect token could not be sealed")]
pub(crate) struct TokenError;

#[cfg(test)]
mod tests {
    use chacha20poly1305::Tag;

    use super::*;

    /// Reads the token by the offsets of the standard, knowing nothing of how it was made.
    #[test]
    fn a_token_is_what_the_standard_says() {
        let key = SecretKey::from([7; 32]);
        let issuer = ConnectTokenIssuer {
            netcode_key: &key,
            expiry_s: 30,
            connection_timeout_s: 5,
        };
        let user_data = TokenUserData::new(42, "Ada").unwrap();
        let now = Duration::from_secs(1_800_000_000);
        let token = issuer
            .issue(now, 99, "127.0.0.1:7700".parse().unwrap(), &user_data)
            .unwrap();

        let mut reader = Reader(&token.bytes);
        assert_eq!(reader.take(13), b"NETCODE 1.02\0");
        assert_eq!(reader.u64(), NETCODE_PROTOCOL_ID);
        assert_eq!((reader.u64(), reader.u64()), (1_800_000_000, 1_800_000_030));
        assert_eq!(token.expires_at_unix_s, 1_800_000_030);
        let nonce = reader.take(24);
        let mut private = reader.take(1024).to_vec();
        assert_eq!(reader.take(4), 5_i32.to_be_bytes());
        assert_eq!(reader.take(4 + 1 + 4 + 2), [0, 0, 0, 1, 1, 127, 0, 0, 1, 0x1e, 0x14]);
        let session_keys = reader.take(64).to_vec();
        assert_eq!(reader.0.len(), 2048 - 13 - 24 - 24 - 1024 - 4 - 11 - 64);
        assert!(reader.0.iter().all(|byte| *byte == 0));

        let mut additional_data = b"NETCODE 1.02\0".to_vec();
        additional_data.extend(NETCODE_PROTOCOL_ID.to_be_bytes());
        additional_data.extend(1_800_000_030_u64.to_be_bytes());
        let (sealed, tag) = private.split_at_mut(1024 - 16);
        XChaCha20Poly1305::new(key.expose().into())
            .decrypt_in_place_detached(
                XNonce::from_slice(nonce),
                &additional_data,
                sealed,
                Tag::from_slice(tag),
            )
            .unwrap();
        let mut reader = Reader(sealed);
        assert_eq!((reader.u64(), reader.take(4)), (99, &5_i32.to_be_bytes()[..]));
        assert_eq!(reader.take(11), [0, 0, 0, 1, 1, 127, 0, 0, 1, 0x1e, 0x14]);
        assert_eq!(reader.take(64), session_keys);
        let opened = TokenUserData::decode(reader.take(256).try_into().unwrap()).unwrap();
        assert_eq!(opened, user_data);
    }

    #[test]
    fn an_ipv6_gateway_fits() {
        let key = SecretKey::from([7; 32]);
        let issuer = ConnectTokenIssuer {
            netcode_key: &key,
            expiry_s: 30,
            connection_timeout_s: 5,
        };
        let user_data = TokenUserData::new(u64::MAX, &"é".repeat(24)).unwrap();
        assert!(
            issuer
                .issue(Duration::ZERO, 1, "[::1]:7700".parse().unwrap(), &user_data)
                .is_ok()
        );
    }

    struct Reader<'a>(&'a [u8]);

    impl<'a> Reader<'a> {
        fn take(&mut self, count: usize) -> &'a [u8] {
            let (taken, rest) = self.0.split_at(count);
            self.0 = rest;
            taken
        }

        fn u64(&mut self) -> u64 {
            u64::from_be_bytes(self.take(8).try_into().unwrap())
        }
    }
}
