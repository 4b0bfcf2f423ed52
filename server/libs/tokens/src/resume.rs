//! What a client shows to go on as the player that it was: player, name and expiry, sealed so that only auth can have written it.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | layout version |
//! | 1 | 24 | nonce |
//! | 25 | 8 | sealed: when it expires, seconds since the Unix epoch, little endian |
//! | 33 | 256 | sealed: the player and its name, as in a connect token ([`TokenUserData`]) |
//! | 289 | 16 | tag |
//!
//! As text it is base64url without padding (RFC 4648, section 5), and opaque to the client. Sealed with XChaCha20-Poly1305 under the key that
//! seals connect tokens; what is authenticated with it is another text than theirs, so that neither can be taken for the other. Nothing is
//! kept of it: who has one may use it until it expires.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::{AeadInPlace, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use meridian_runtime::SecretKey;
use meridian_session::{
    NETCODE_NONCE_BYTES as NONCE_BYTES, NETCODE_TAG_BYTES as TAG_BYTES, RESUME_BYTES_MAX, TokenUserData,
    USER_DATA_BYTES,
};
use rand::Rng;

const LAYOUT_VERSION: u8 = 1;
const EXPIRY_BYTES: usize = 8;
const SEALED_BYTES: usize = EXPIRY_BYTES + USER_DATA_BYTES;
const RESUME_BYTES: usize = 1 + NONCE_BYTES + SEALED_BYTES + TAG_BYTES;
/// Authenticated with what is sealed; a netcode token has its version text in this place.
const ADDITIONAL_DATA: [u8; 17] = *b"MERIDIAN RESUME\0\x01";
const _: () = assert!(RESUME_BYTES.div_ceil(3) * 4 <= RESUME_BYTES_MAX);

/// Seals and opens resumes with one key.
pub struct ResumeSeal<'a> {
    /// The key that connect tokens are sealed with.
    pub key: &'a SecretKey,
    /// How long a resume may be used, in seconds.
    pub expiry_s: u32,
}

impl ResumeSeal<'_> {
    /// A resume for a player, as text. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// It could not be sealed: a broken invariant, for its parts have fixed lengths.
    pub fn seal(&self, now: Duration, player: &TokenUserData) -> Result<String, ResumeError> {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let expires_at_unix_s = now.as_secs() + u64::from(self.expiry_s);
        let mut sealed = Vec::with_capacity(SEALED_BYTES + TAG_BYTES);
        sealed.extend(expires_at_unix_s.to_le_bytes());
        sealed.extend(player.encode());
        let tag = XChaCha20Poly1305::new(self.key.expose().into())
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &ADDITIONAL_DATA, &mut sealed)
            .map_err(|_| ResumeError)?;
        sealed.extend(tag);
        let mut bytes = Vec::with_capacity(RESUME_BYTES);
        bytes.push(LAYOUT_VERSION);
        bytes.extend(nonce);
        bytes.extend(sealed);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The player that a resume was given to. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// It is none of this key's, or has expired; which of it is nobody's business.
    pub fn open(&self, now: Duration, text: &str) -> Result<TokenUserData, ResumeError> {
        // Before it is decoded: what is longer is none.
        if text.len() > RESUME_BYTES_MAX {
            return Err(ResumeError);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| ResumeError)?;
        let bytes: [u8; RESUME_BYTES] = bytes.try_into().map_err(|_| ResumeError)?;
        let [LAYOUT_VERSION, rest @ ..] = &bytes else {
            return Err(ResumeError);
        };
        let (nonce, rest) = rest.split_at(NONCE_BYTES);
        let (sealed, tag) = rest.split_at(SEALED_BYTES);
        let mut opened = sealed.to_vec();
        XChaCha20Poly1305::new(self.key.expose().into())
            .decrypt_in_place_detached(
                XNonce::from_slice(nonce),
                &ADDITIONAL_DATA,
                &mut opened,
                Tag::from_slice(tag),
            )
            .map_err(|_| ResumeError)?;
        let (expiry, player) = opened.split_first_chunk::<EXPIRY_BYTES>().ok_or(ResumeError)?;
        let player: &[u8; USER_DATA_BYTES] = player.try_into().map_err(|_| ResumeError)?;
        if u64::from_le_bytes(*expiry) <= now.as_secs() {
            return Err(ResumeError);
        }
        TokenUserData::decode(player).map_err(|_| ResumeError)
    }
}

/// A resume that is none, not any more, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the resume is not valid, or not any more: ask without it")]
pub struct ResumeError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn key(byte: u8) -> SecretKey {
        SecretKey::from([byte; 32])
    }

    fn ada() -> TokenUserData {
        TokenUserData::new(42, "Ada").unwrap()
    }

    #[test]
    fn a_resume_opens_until_it_expires_and_with_its_own_key_alone() {
        let (own, other) = (key(7), key(8));
        let seal = |key| ResumeSeal { key, expiry_s: 3_600 };
        let resume = seal(&own).seal(NOW, &ada()).unwrap();
        assert_eq!(seal(&own).open(NOW, &resume), Ok(ada()));
        let last = NOW + Duration::from_secs(3_599);
        assert_eq!(seal(&own).open(last, &resume), Ok(ada()));
        assert_eq!(
            seal(&own).open(NOW + Duration::from_secs(3_600), &resume),
            Err(ResumeError)
        );
        assert_eq!(seal(&other).open(NOW, &resume), Err(ResumeError));
        assert_ne!(
            seal(&own).seal(NOW, &ada()).unwrap(),
            resume,
            "each has a nonce of its own"
        );
        assert!(resume.len() <= RESUME_BYTES_MAX && !resume.contains(['=', '+', '/']));
    }

    #[test]
    fn no_byte_of_a_resume_can_be_changed() {
        let key = key(7);
        let seal = ResumeSeal {
            key: &key,
            expiry_s: 60,
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(seal.seal(NOW, &ada()).unwrap()).unwrap();
        assert_eq!(bytes.len(), RESUME_BYTES);
        for index in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[index] ^= 1;
            assert_eq!(
                seal.open(NOW, &BASE64_URL_SAFE_NO_PAD.encode(forged)),
                Err(ResumeError),
                "byte {index}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(seal.open(NOW, &BASE64_URL_SAFE_NO_PAD.encode(longer)).is_err());
    }

    #[test]
    fn what_seals_a_connect_token_seals_no_resume() {
        // Under the same key, with netcode's additional data in place of the resume's.
        let key = key(7);
        let nonce = [3; NONCE_BYTES];
        let mut sealed = [&(u64::MAX).to_le_bytes()[..], &ada().encode()].concat();
        let data = meridian_session::netcode_additional_data(1, u64::MAX);
        let tag = XChaCha20Poly1305::new(key.expose().into())
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &data, &mut sealed)
            .unwrap();
        let text = BASE64_URL_SAFE_NO_PAD.encode([&[LAYOUT_VERSION][..], &nonce, &sealed, &tag].concat());
        let seal = ResumeSeal {
            key: &key,
            expiry_s: 60,
        };
        assert_eq!(seal.open(NOW, &text), Err(ResumeError));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,600}") {
            let key = key(7);
            prop_assert_eq!(ResumeSeal { key: &key, expiry_s: 60 }.open(NOW, &text), Err(ResumeError));
        }

        /// Bytes of the right length and version reach the seal; those that are sealed reach the layout within.
        #[test]
        fn no_bytes_break_the_parser(
            bytes in proptest::collection::vec(any::<u8>(), RESUME_BYTES - 3..RESUME_BYTES + 3),
            inner in proptest::collection::vec(any::<u8>(), SEALED_BYTES),
            nonce: [u8; NONCE_BYTES],
        ) {
            let key = key(7);
            let seal = ResumeSeal { key: &key, expiry_s: 60 };
            let mut bytes = bytes;
            bytes[0] = LAYOUT_VERSION;
            prop_assert_eq!(seal.open(NOW, &BASE64_URL_SAFE_NO_PAD.encode(bytes)), Err(ResumeError));
            let mut sealed = inner.clone();
            let tag = XChaCha20Poly1305::new(key.expose().into())
                .encrypt_in_place_detached(XNonce::from_slice(&nonce), &ADDITIONAL_DATA, &mut sealed)
                .unwrap();
            let text = BASE64_URL_SAFE_NO_PAD.encode([&[LAYOUT_VERSION][..], &nonce, &sealed, &tag].concat());
            if let Ok(player) = seal.open(NOW, &text) {
                prop_assert_eq!(&player.encode()[..], &inner[EXPIRY_BYTES..]);
            }
        }

        #[test]
        fn whoever_is_sealed_is_opened(player: u64, name in "[a-zA-Z]{1,24}", at_s in 0u64..1 << 40) {
            let key = key(7);
            let seal = ResumeSeal { key: &key, expiry_s: 1 };
            let player = TokenUserData::new(player, &name).unwrap();
            let now = Duration::from_secs(at_s);
            prop_assert_eq!(seal.open(now, &seal.seal(now, &player).unwrap()), Ok(player));
        }
    }
}
