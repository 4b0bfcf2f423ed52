//! Connect tokens of netcode 1.02 (`STANDARD.md` of the netcode project, "Connect Token").
//!
//! They are sealed by `renetcode`. Its private part, additional data and cipher are byte for byte what the gateway's netcode server
//! opens. Its public part differs in two ways: it begins with the client id, which the standard does not have, and it is not padded
//! to 2048 bytes. [`ConnectTokenIssuer::issue`] undoes both.

use std::{net::SocketAddr, time::Duration};

use meridian_runtime::SecretKey;
use meridian_session::{CONNECT_TOKEN_BYTES, NETCODE_PROTOCOL_ID, TokenUserData};
use renetcode::{ConnectToken, TokenGenerationError};

/// The client id that `renetcode` writes before the standard's token.
const CLIENT_ID_BYTES: usize = size_of::<u64>();

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
    /// The token could not be sealed or written.
    pub(crate) fn issue(
        &self,
        now: Duration,
        client_id: u64,
        gateway: SocketAddr,
        user_data: &TokenUserData,
    ) -> Result<IssuedToken, TokenError> {
        let token = ConnectToken::generate(
            now,
            NETCODE_PROTOCOL_ID,
            u64::from(self.expiry_s),
            client_id,
            i32::try_from(self.connection_timeout_s).unwrap_or(i32::MAX),
            vec![gateway],
            Some(&user_data.encode()),
            self.netcode_key.expose(),
        )?;
        let mut written = Vec::with_capacity(CLIENT_ID_BYTES + CONNECT_TOKEN_BYTES);
        token.write(&mut written).map_err(TokenGenerationError::IoError)?;
        let standard = written.get(CLIENT_ID_BYTES..).unwrap_or_default();
        let mut bytes = [0; CONNECT_TOKEN_BYTES];
        bytes
            .get_mut(..standard.len())
            .ok_or(TokenError::TooLong)?
            .copy_from_slice(standard);
        Ok(IssuedToken {
            bytes,
            expires_at_unix_s: token.expire_timestamp,
        })
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("sealing failed: {0}")]
    Generation(#[from] TokenGenerationError),
    #[error("the token is longer than {CONNECT_TOKEN_BYTES} bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::{AeadInPlace, KeyInit, Tag, XChaCha20Poly1305, XNonce};

    use super::*;

    /// Reads the token by the offsets of the standard, knowing nothing of `renetcode`.
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
        assert_eq!(reader.take(4), 5_i32.to_le_bytes());
        assert_eq!(reader.take(4 + 1 + 4 + 2), [1, 0, 0, 0, 1, 127, 0, 0, 1, 0x14, 0x1e]);
        let session_keys = reader.take(64).to_vec();
        assert_eq!(reader.0.len(), 2048 - 13 - 24 - 24 - 1024 - 4 - 11 - 64);
        assert!(reader.0.iter().all(|byte| *byte == 0));

        let mut additional_data = b"NETCODE 1.02\0".to_vec();
        additional_data.extend(NETCODE_PROTOCOL_ID.to_le_bytes());
        additional_data.extend(1_800_000_030_u64.to_le_bytes());
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
        assert_eq!((reader.u64(), reader.take(4)), (99, &5_i32.to_le_bytes()[..]));
        assert_eq!(reader.take(11), [1, 0, 0, 0, 1, 127, 0, 0, 1, 0x14, 0x1e]);
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
            u64::from_le_bytes(self.take(8).try_into().unwrap())
        }
    }
}
